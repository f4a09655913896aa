//! Queues: what they are set to, and what waits in them.

use core::time::Duration;
use std::collections::BTreeMap;

use onceward_core::job::keys::KEY_CONCURRENCY;
use onceward_core::job::limit::Limits;
use onceward_core::job::tuning::Tuning;
use onceward_core::{Key, Kind, Namespace, Owner, Queue, Timestamp};
use rusqlite::{OptionalExtension, Result, Row, params};

use super::super::statements::SQL;
use super::Jobs;
use super::rows::{self, job as job_id};
use crate::{LimitKeys, PauseQueue, QUEUE_COUNT_MAX, QueueRecord, TuneQueue};

impl Jobs<'_> {
    /// Pauses or resumes a queue.
    pub(super) fn pause(&mut self, ask: &PauseQueue) -> Result<()> {
        let at = ask.paused.then(|| self.now.wall.as_micros());
        let by = Some(ask.actor.as_str()).filter(|_| ask.paused);
        let reason = ask.reason.as_deref().filter(|_| ask.paused);
        let set = params![ask.namespace.as_str(), ask.queue.as_str(), at, by, reason];
        self.at.prepare_cached(SQL.queue_pause)?.execute(set)?;
        if !ask.paused {
            self.woken.insert((ask.namespace.clone(), ask.queue.clone()));
        }
        Ok(())
    }

    /// Sets how many jobs of one ordering key a queue lets in; wants the write lock.
    pub(super) fn limit_keys(&mut self, ask: &LimitKeys) -> Result<()> {
        let namespace = ask.namespace.as_str();
        let (now, actor) = (self.now.wall.as_micros(), ask.actor.as_str());
        let set = params![namespace, ask.queue.as_str(), ask.most, now, actor];
        self.at.prepare_cached(SQL.queue_limit_keys)?.execute(set)?;
        // Those who may go now: whose line it is, the queue does not know.
        let mut line = self.at.prepare_cached(SQL.queue_line)?;
        let mut last = String::new();
        while let Some(key) = line.query_row([namespace, &last], |row| row.get::<_, String>(0)).optional()? {
            self.stirred.insert((ask.namespace.clone(), Key::from_row(key.as_str())));
            last = key;
        }
        Ok(())
    }

    /// Says what a queue is tuned by.
    pub(super) fn tune(&mut self, ask: &TuneQueue) -> Result<()> {
        let micros =
            |span: Option<Duration>| span.map(|span| i64::try_from(span.as_micros()).unwrap_or(i64::MAX));
        let Tuning { ageing, retain, retain_dead } = ask.tuning;
        self.at.prepare_cached(SQL.queue_tune)?.execute(params![
            ask.namespace.as_str(),
            ask.queue.as_str(),
            micros(ageing),
            micros(retain),
            micros(retain_dead),
            self.now.wall.as_micros(),
            ask.actor.as_str(),
        ])?;
        Ok(())
    }

    /// What the queues of a namespace are tuned by.
    pub(super) fn tunings(&self, namespace: &Namespace) -> Result<Vec<(Queue, Tuning)>> {
        let mut tunings = self.at.prepare_cached(SQL.queue_tunings)?;
        let rows = tunings.query_map([namespace.as_str()], |row| {
            Ok((Queue::from_row(rows::text(row, 0)?), tuning(row, 1)?))
        })?;
        rows.collect()
    }

    /// How much waiting counts as one priority in a queue.
    pub(super) fn tuning(&self, namespace: &Namespace, queue: &Queue) -> Result<Tuning> {
        let mut ageing = self.at.prepare_cached(SQL.claim_ageing)?;
        let ageing = ageing.query_row([namespace.as_str(), queue.as_str()], |row| span(row, 0)).optional()?;
        Ok(Tuning { ageing: ageing.flatten(), ..Tuning::default() })
    }

    /// The queues of a namespace that hold something or are set to something.
    pub(super) fn queues(&self, namespace: &Namespace) -> Result<Vec<QueueRecord>> {
        let mut queues = self.queues_set(namespace)?;
        for statement in [SQL.queue_ready, SQL.queue_later] {
            self.each_queue(statement, namespace, &mut queues)?;
        }
        let mut count = self.at.prepare_cached(SQL.queue_count)?;
        let mut due = self.at.prepare_cached(SQL.queue_due)?;
        for record in queues.values_mut() {
            let upto = params![namespace.as_str(), record.queue.as_str(), QUEUE_COUNT_MAX.cast_signed()];
            record.ready = count.query_row(upto, |row| row.get::<_, i64>(0))?.cast_unsigned();
            record.later = due.query_row(upto, |row| row.get::<_, i64>(0))?.cast_unsigned();
            self.waiting(namespace, record)?;
        }
        self.running_in(namespace, &mut queues)?;
        Ok(queues.into_values().collect())
    }

    fn queues_set(&self, namespace: &Namespace) -> Result<BTreeMap<Queue, QueueRecord>> {
        let mut set = self.at.prepare_cached(SQL.queue_set)?;
        let rows = set.query_map([namespace.as_str()], |row| {
            let queue = Queue::from_row(rows::text(row, 0)?);
            let mut record = empty(namespace, &queue);
            record.paused_at = row.get::<_, Option<i64>>(1)?.map(Timestamp::from_micros);
            record.paused_by = row.get::<_, Option<String>>(2)?.map(Owner::from_row);
            record.pause_reason = row.get(3)?;
            record.limits = super::permits::limits(row, 4)?;
            record.limits_at = row.get::<_, Option<i64>>(8)?.map(Timestamp::from_micros);
            record.limits_by = row.get::<_, Option<String>>(9)?.map(Owner::from_row);
            record.key_concurrency = row.get(10)?;
            record.keys_at = row.get::<_, Option<i64>>(11)?.map(Timestamp::from_micros);
            record.keys_by = row.get::<_, Option<String>>(12)?.map(Owner::from_row);
            record.held = row.get::<_, i64>(13)?.cast_unsigned();
            record.tuning = tuning(row, 14)?;
            record.tuned_at = row.get::<_, Option<i64>>(17)?.map(Timestamp::from_micros);
            record.tuned_by = row.get::<_, Option<String>>(18)?.map(Owner::from_row);
            Ok((queue, record))
        })?;
        rows.collect()
    }

    /// Adds the queues that a statement finds one after the other.
    fn each_queue(
        &self,
        statement: &str,
        namespace: &Namespace,
        queues: &mut BTreeMap<Queue, QueueRecord>,
    ) -> Result<()> {
        let mut next = self.at.prepare_cached(statement)?;
        let mut last = String::new();
        while let Some(name) =
            next.query_row([namespace.as_str(), &last], |row| row.get::<_, String>(0)).optional()?
        {
            let queue = Queue::from_row(name.as_str());
            queues.entry(queue.clone()).or_insert_with(|| empty(namespace, &queue));
            last = name;
        }
        Ok(())
    }

    /// Which kinds wait, and since when the oldest does.
    fn waiting(&self, namespace: &Namespace, record: &mut QueueRecord) -> Result<()> {
        let mut next = self.at.prepare_cached(SQL.queue_oldest)?;
        let mut part = (String::new(), String::new(), -1_i64, 0_i64);
        loop {
            let (kind, route, alone, rank) = &part;
            let after = params![namespace.as_str(), record.queue.as_str(), kind, route, alone, rank];
            let found = next.query_row(after, |row| {
                let part = (row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
                Ok((part, Timestamp::from_micros(row.get(4)?)))
            });
            let Some((found, run_at)) = found.optional()? else { return Ok(()) };
            record.oldest = record.oldest.into_iter().chain([run_at]).min();
            if record.kinds.last().is_none_or(|kind| kind.as_str() != found.0) {
                record.kinds.push(Kind::from_row(found.0.as_str()));
            }
            part = found;
        }
    }

    fn running_in(&self, namespace: &Namespace, queues: &mut BTreeMap<Queue, QueueRecord>) -> Result<()> {
        let mut runs = self.at.prepare_cached(SQL.queue_runs)?;
        for claim in self.claims()?.into_iter().filter(|claim| claim.namespace == *namespace) {
            for id in claim.jobs {
                let name = params![namespace.as_str(), job_id(id), claim.token.get()];
                let queue = runs.query_row(name, |row| rows::text(row, 0).map(Queue::from_row)).optional()?;
                if let Some(queue) = queue {
                    queues.entry(queue.clone()).or_insert_with(|| empty(namespace, &queue)).running += 1;
                }
            }
        }
        Ok(())
    }
}

/// What a queue is tuned by, from this column on.
fn tuning(row: &Row<'_>, first: usize) -> Result<Tuning> {
    let (ageing, retain) = (span(row, first)?, span(row, first + 1)?);
    Ok(Tuning { ageing, retain, retain_dead: span(row, first + 2)? })
}

fn span(row: &Row<'_>, at: usize) -> Result<Option<Duration>> {
    Ok(row.get::<_, Option<i64>>(at)?.map(|span| Duration::from_micros(span.unsigned_abs())))
}

/// A queue that holds nothing and is set to nothing.
fn empty(namespace: &Namespace, queue: &Queue) -> QueueRecord {
    QueueRecord {
        namespace: namespace.clone(),
        queue: queue.clone(),
        paused_at: None,
        paused_by: None,
        pause_reason: None,
        limits: Limits::default(),
        limits_at: None,
        limits_by: None,
        key_concurrency: KEY_CONCURRENCY,
        keys_at: None,
        keys_by: None,
        tuning: Tuning::default(),
        tuned_at: None,
        tuned_by: None,
        held: 0,
        ready: 0,
        later: 0,
        running: 0,
        oldest: None,
        kinds: Vec::new(),
    }
}
