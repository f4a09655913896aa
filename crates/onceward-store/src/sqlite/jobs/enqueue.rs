//! Enqueueing, and the keys under which a second enqueue finds the first one's job.

use onceward_core::job::{self, Dedupe, DedupeScope, New, OnConflict, Record, State};
use onceward_core::once::Fingerprint;
use onceward_core::{JobId, Key, Namespace, Timestamp};
use rusqlite::{OptionalExtension, Result, params};

use super::super::rows::instant;
use super::super::statements::SQL;
use super::Jobs;
use super::lanes::{Waiting, place_of};
use super::rows::{self, job as job_id};
use crate::Enqueued;

/// What a key is for: the same text may be used for both.
const IDEMPOTENCY: &str = "idempotency";
const DEDUPE: &str = "dedupe";

impl Jobs<'_> {
    /// Enqueues a job; wants the write lock.
    pub(super) fn enqueue(&mut self, new: &New) -> Result<Enqueued> {
        let created = Enqueued::Created(new.id);
        let name = params![new.namespace.as_str(), job_id(new.id)];
        if self.at.prepare_cached(SQL.job_over)?.query_row(name, |row| row.get(0))? {
            return Ok(created);
        }
        if let Some(answer) = self.same_request(new)? {
            return Ok(answer);
        }
        if let Some(answer) = self.duplicate(new)? {
            return Ok(answer);
        }
        let run_at = new.due(self.now.wall);
        let is_later = run_at > self.now.wall;
        let state = if is_later { State::Scheduled } else { State::Ready };
        let inserted = self.at.prepare_cached(SQL.job_insert)?.execute(params![
            new.namespace.as_str(),
            job_id(new.id),
            new.kind.as_str(),
            new.queue.as_str(),
            new.priority,
            state.as_str(),
            self.now.wall.as_micros(),
            run_at.as_micros(),
            new.payload.bytes,
            new.payload.content_type,
            new.spec().to_text(),
        ])?;
        if inserted == 0 {
            return Ok(created); // the first one under an id stays as it is, whatever the second one says (N70)
        }
        let place = self.at.last_insert_rowid();
        self.take_keys(new)?;
        let waiting = Waiting {
            namespace: &new.namespace,
            queue: &new.queue,
            kind: new.kind.as_str(),
            id: new.id,
            route: &job::route(&new.tags),
            priority: new.priority,
            run_at,
            is_later,
            ordering_key: new.ordering_key.as_ref(),
            place,
        };
        self.place(&waiting, false)?;
        Ok(created)
    }

    /// The answer of an idempotency key that is taken.
    fn same_request(&self, new: &New) -> Result<Option<Enqueued>> {
        let Some(key) = &new.key else { return Ok(None) };
        let holder = self.holder(&new.namespace, IDEMPOTENCY, &key.key)?;
        Ok(holder.map(|(id, fingerprint)| match id {
            id if id == new.id => Enqueued::Created(id),
            id if fingerprint.as_ref() == Some(&key.fingerprint) => Enqueued::Existing(id),
            id => Enqueued::Mismatch(id),
        }))
    }

    /// The answer of a dedupe key that is taken, after what the newcomer wants of the job that has it.
    fn duplicate(&mut self, new: &New) -> Result<Option<Enqueued>> {
        let Some(Dedupe { key, on_conflict, .. }) = &new.dedupe else { return Ok(None) };
        let Some((id, _)) = self.holder(&new.namespace, DEDUPE, key)? else { return Ok(None) };
        if id == new.id {
            return Ok(Some(Enqueued::Created(id)));
        }
        if *on_conflict != OnConflict::Existing
            && let Some(row) = self.find_bare(&new.namespace, id)?
            && let Some(alone) = self.unplace(&row)?
        {
            let row = match on_conflict {
                OnConflict::Replace => self.replace(&row, new)?,
                OnConflict::PushOut | OnConflict::Existing => self.push_out(row, new.due(self.now.wall))?,
            };
            self.place_row(&row, alone)?;
        }
        Ok(Some(Enqueued::Existing(id)))
    }

    fn holder(
        &self,
        namespace: &Namespace,
        purpose: &str,
        key: &Key,
    ) -> Result<Option<(JobId, Option<Fingerprint>)>> {
        let mut holder = self.at.prepare_cached(SQL.job_holder)?;
        let key = params![namespace.as_str(), purpose, key.as_str(), self.now.wall.as_micros()];
        let row = |row: &rusqlite::Row<'_>| {
            Ok((rows::job_id(row, 0)?, row.get::<_, Option<[u8; 32]>>(1)?.map(Fingerprint)))
        };
        holder.query_row(key, row).optional()
    }

    fn take_keys(&self, new: &New) -> Result<()> {
        let take =
            |purpose, key: &Key, fingerprint: Option<&Fingerprint>, expires_at, until_started: bool| {
                let fingerprint = fingerprint.map(|it| it.0.as_slice());
                self.at.prepare_cached(SQL.job_key)?.execute(params![
                    new.namespace.as_str(),
                    purpose,
                    key.as_str(),
                    job_id(new.id),
                    fingerprint,
                    instant(expires_at),
                    until_started,
                ])
            };
        if let Some(key) = &new.key {
            take(IDEMPOTENCY, &key.key, Some(&key.fingerprint), Some(self.now.wall.after(key.ttl)), false)?;
        }
        if let Some(Dedupe { key, scope, .. }) = &new.dedupe {
            let expires_at = match scope {
                DedupeScope::Window(window) => Some(self.now.wall.after(*window)),
                DedupeScope::UntilStarted | DedupeScope::UntilDone => None,
            };
            take(DEDUPE, key, None, expires_at, new.is_until_started())?;
        }
        Ok(())
    }

    /// The job that waits becomes what the newcomer is, as the rule says.
    fn replace(&self, row: &Record, new: &New) -> Result<Record> {
        let row = new.onto(row);
        let (payload, spec) = (&new.payload, row.spec().to_text());
        let mut replace = self.at.prepare_cached(SQL.job_replace)?;
        replace.execute(params![place_of(&row), payload.bytes, payload.content_type, spec])?;
        Ok(row)
    }

    fn push_out(&self, row: Record, due: Timestamp) -> Result<Record> {
        let state = match row.state {
            State::Retrying => State::Retrying,
            _ if due > self.now.wall => State::Scheduled,
            _ => State::Ready,
        };
        let row = Record { state, run_at: due, ..row };
        let mut push_out = self.at.prepare_cached(SQL.job_push_out)?;
        push_out.execute(params![place_of(&row), state.as_str(), due.as_micros()])?;
        Ok(row)
    }
}
