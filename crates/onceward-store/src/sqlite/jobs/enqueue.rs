//! Enqueueing, and the keys under which a second enqueue finds the first one's job.

use onceward_core::job::{self, Dedupe, DedupeScope, Move, New, OnConflict, Record, State};
use onceward_core::once::{self, Fingerprint};
use onceward_core::{ClaimId, JobId, Key, Namespace, Place, SessionId, Timestamp};
use rusqlite::{OptionalExtension, Result, params};

use super::super::rows::instant;
use super::super::statements::SQL;
use super::Jobs;
use super::lanes::{Waiting, place_of};
use super::rows::{self, job as job_id};
use crate::{Child, ClaimedJobs, Enqueued, HandOver, HandedOver};

/// What a key is for: the same text may be used for both.
const IDEMPOTENCY: &str = "idempotency";
const DEDUPE: &str = "dedupe";

/// What came of writing a job.
enum Made {
    /// It has a row, at this place, and waits nowhere yet.
    Now(i64),
    /// The answer was settled before.
    Before(Enqueued),
}

impl Jobs<'_> {
    /// Enqueues a job; wants the write lock.
    pub(super) fn enqueue(&mut self, new: &New) -> Result<Enqueued> {
        let place = match self.make(new)? {
            Made::Before(answer) => return Ok(answer),
            Made::Now(place) => place,
        };
        self.place_new(new, place)?;
        Ok(Enqueued::Created(new.id))
    }

    /// Enqueues jobs, and claims those of them that may run at once; wants the write lock.
    pub(super) fn hand_over(&mut self, ask: &HandOver) -> Result<HandedOver> {
        if let Some(before) = self.claim_of(ask.claim)? {
            let enqueued = ask.jobs.iter().map(|new| self.enqueue(new)).collect::<Result<_>>()?;
            return Ok(HandedOver { enqueued, claimed: self.claimed_before(&before)? });
        }
        let (mut enqueued, mut rows) = (Vec::with_capacity(ask.jobs.len()), Vec::new());
        for new in &ask.jobs {
            enqueued.push(match self.make(new)? {
                Made::Before(answer) => answer,
                Made::Now(place) => {
                    rows.extend(self.open_new(new, place)?);
                    Enqueued::Created(new.id)
                }
            });
        }
        let claimed = self.claim_new((&ask.namespace, ask.claim, ask.session), rows)?;
        Ok(HandedOver { enqueued, claimed })
    }

    /// Enqueues the child of a run; returns it if it is to be claimed at once and may be. Wants the write lock.
    pub(super) fn enqueue_child(&mut self, child: &Child) -> Result<Option<Record>> {
        let place = match self.make(&child.job)? {
            Made::Before(_) => return Ok(None),
            Made::Now(place) => place,
        };
        if child.at_once {
            return self.open_new(&child.job, place);
        }
        self.place_new(&child.job, place).map(|()| None)
    }

    /// Writes the row of a job without keys, which waits nowhere yet; its place, unless it is there already.
    pub(super) fn make_alone(&mut self, new: &New) -> Result<Option<i64>> {
        Ok(match self.make(new)? {
            Made::Before(_) => None,
            Made::Now(place) => Some(place),
        })
    }

    /// A new job that may be claimed at once; any other is put where it waits.
    fn open_new(&mut self, new: &New, place: i64) -> Result<Option<Record>> {
        let row = Record::of_new(new, self.now.wall);
        if row.state == State::Ready && self.is_closed(&new.namespace, &new.queue)? == (false, false) {
            return Ok(Some(Record { place: Place(u64::try_from(place).ok()), ..row }));
        }
        self.place_new(new, place).map(|()| None)
    }

    /// Claims new jobs.
    pub(super) fn claim_new(
        &self,
        (namespace, claim, session): (&Namespace, ClaimId, SessionId),
        mut rows: Vec<Record>,
    ) -> Result<ClaimedJobs> {
        rows.sort_by_key(|row| (rows::rank(row.priority), row.run_at, row.id));
        self.write_claim(namespace, claim, session, rows)
    }

    /// Writes the row of a job, and takes its keys, unless that was done before or its keys are taken.
    fn make(&mut self, new: &New) -> Result<Made> {
        let created = Enqueued::Created(new.id);
        let name = params![new.namespace.as_str(), job_id(new.id)];
        if self.at.prepare_cached(SQL.job_over)?.query_row(name, |row| row.get(0))? {
            return Ok(Made::Before(created));
        }
        // Its keys may have run out since the first send, and belong to another job by now.
        let has_keys = new.key.is_some() || new.dedupe.is_some();
        if has_keys && self.at.prepare_cached(SQL.job_known)?.query_row(name, |row| row.get(0))? {
            return Ok(Made::Before(created));
        }
        if let Some(answer) = self.same_request(new)? {
            return Ok(Made::Before(answer));
        }
        if let Some(answer) = self.duplicate(new)? {
            return Ok(Made::Before(answer));
        }
        let run_at = new.due(self.now.wall);
        let state = if run_at > self.now.wall { State::Scheduled } else { State::Ready };
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
            // The first one under an id stays as it is, whatever the second one says (N70).
            return Ok(Made::Before(created));
        }
        let place = self.at.last_insert_rowid();
        self.take_keys(new)?;
        Ok(Made::Now(place))
    }

    /// Puts a job that was just made where it waits.
    pub(super) fn place_new(&mut self, new: &New, place: i64) -> Result<()> {
        let run_at = new.due(self.now.wall);
        let waiting = Waiting {
            namespace: &new.namespace,
            queue: &new.queue,
            kind: new.kind.as_str(),
            id: new.id,
            route: &job::route(&new.tags),
            priority: new.priority,
            run_at,
            is_later: run_at > self.now.wall,
            ordering_key: new.ordering_key.as_ref(),
            place,
        };
        self.place(&waiting, false)
    }

    /// The answer of an idempotency key that is taken.
    fn same_request(&self, new: &New) -> Result<Option<Enqueued>> {
        let Some(key) = &new.key else { return Ok(None) };
        let holder = self.holder(&new.namespace, IDEMPOTENCY, &key.key)?;
        Ok(holder.map(|(id, fingerprint)| match id {
            id if id == new.id => Enqueued::Created(id),
            // Who enqueues by plain SQL leaves no fingerprint.
            id if once::mismatched(fingerprint, Some(key.fingerprint)) => Enqueued::Mismatch(id),
            id => Enqueued::Existing(id),
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

    /// The other job that has the dedupe key which a job would take again.
    pub(super) fn other_holder(&self, row: &Record, to: &Move) -> Result<Option<JobId>> {
        let Some(key) = job::key_again(row, to) else { return Ok(None) };
        let holder = self.holder(&row.namespace, DEDUPE, key)?;
        Ok(holder.map(|(id, _)| id).filter(|id| *id != row.id))
    }

    /// Takes the dedupe key again that a job gave up when it ended.
    pub(super) fn take_again(&self, row: &Record, to: &Move) -> Result<()> {
        let Some(key) = job::key_again(row, to) else { return Ok(()) };
        self.at.prepare_cached(SQL.job_key)?.execute(params![
            row.namespace.as_str(),
            DEDUPE,
            key.as_str(),
            job_id(row.id),
            None::<&[u8]>,
            None::<i64>,
            row.until_started,
        ])?;
        Ok(())
    }

    /// The job that waits becomes what the newcomer is, as the rule says.
    fn replace(&self, row: &Record, new: &New) -> Result<Record> {
        let row = new.onto(row);
        let (payload, spec) = (&row.payload, row.spec().to_text());
        let mut replace = self.at.prepare_cached(SQL.job_replace)?;
        replace.execute(params![place_of(&row), payload.bytes, payload.content_type, spec])?;
        Ok(row)
    }

    fn push_out(&self, row: Record, due: Timestamp) -> Result<Record> {
        let state = job::pushed_out(row.state, due, self.now.wall);
        let row = Record { state, run_at: due, ..row };
        let mut push_out = self.at.prepare_cached(SQL.job_push_out)?;
        push_out.execute(params![place_of(&row), state.as_str(), due.as_micros()])?;
        Ok(row)
    }
}
