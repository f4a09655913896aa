//! Where jobs wait: for a worker, for their time, or for the end of the one before.

use std::collections::BTreeSet;

use onceward_core::job::keys::{KEY_CONCURRENCY_MAX, may_pass};
use onceward_core::job::{self, Record};
use onceward_core::{JobId, Key, Kind, Namespace, Queue, Timestamp};
use rusqlite::{OptionalExtension, Result, params};

use super::super::statements::SQL;
use super::Jobs;
use super::rows::{self, job as job_id, rank};
use crate::{Chores, Promoted, Want};

/// A job that is to wait somewhere, whatever was read of it.
pub(super) struct Waiting<'a> {
    pub(super) namespace: &'a Namespace,
    pub(super) queue: &'a Queue,
    pub(super) kind: &'a str,
    pub(super) id: JobId,
    pub(super) route: &'a str,
    pub(super) priority: i16,
    pub(super) run_at: Timestamp,
    pub(super) is_later: bool,
    pub(super) ordering_key: Option<&'a Key>,
    pub(super) place: i64,
}

/// A place in the line of an ordering key: rank, when it is due, which one.
type InLine = (i32, i64, JobId);

/// The place of a row that was read from `onceward_job`.
pub(super) fn place_of(row: &Record) -> i64 {
    row.place.0.and_then(|place| i64::try_from(place).ok()).unwrap_or_default()
}

impl Jobs<'_> {
    /// Puts a job where it waits: for its time, or in its lane, where it comes at once unless it has an ordering key
    /// and was not let in under it yet.
    pub(super) fn place(&mut self, job: &Waiting<'_>, alone: bool) -> Result<()> {
        if job.is_later && job.run_at > self.now.wall {
            let mut later = self.at.prepare_cached(SQL.job_later)?;
            let (namespace, queue) = (job.namespace.as_str(), job.queue.as_str());
            later.execute(params![job.run_at.as_micros(), job_id(job.id), namespace, queue, job.place])?;
            return Ok(());
        }
        let Some(key) = job.ordering_key else { return self.place_in_lane(job, alone) };
        if self.is_seated(job.namespace, key, job.id)? {
            return self.place_in_lane(job, alone);
        }
        let mut held = self.at.prepare_cached(SQL.job_held)?;
        held.execute(params![
            job.namespace.as_str(),
            key.as_str(),
            rank(job.priority),
            job.run_at.as_micros(),
            job_id(job.id),
            alone,
            job.place,
        ])?;
        self.stirred.insert((job.namespace.clone(), key.clone()));
        Ok(())
    }

    fn place_in_lane(&mut self, job: &Waiting<'_>, alone: bool) -> Result<()> {
        self.at.prepare_cached(SQL.job_ready)?.execute(params![
            job.namespace.as_str(),
            job.queue.as_str(),
            job.kind,
            job.route,
            alone,
            rank(job.priority),
            job.run_at.as_micros(),
            job_id(job.id),
            job.place,
        ])?;
        let is_news =
            |(namespace, queue): &(Namespace, Queue)| namespace != job.namespace || queue != job.queue;
        if self.woken.last().is_none_or(is_news) {
            self.woken.insert((job.namespace.clone(), job.queue.clone()));
        }
        Ok(())
    }

    /// Whether a job was let in under an ordering key.
    fn is_seated(&self, namespace: &Namespace, key: &Key, id: JobId) -> Result<bool> {
        let mut seated = self.at.prepare_cached(SQL.job_seated)?;
        seated.query_row(params![namespace.as_str(), key.as_str(), job_id(id)], |row| row.get(0))
    }

    /// Puts a job where it waits, which is nowhere if it is paused.
    pub(super) fn place_row(&mut self, row: &Record, alone: bool) -> Result<()> {
        if row.paused.is_some() {
            return Ok(());
        }
        self.place(&waiting(row, &job::route(&row.tags)), alone)
    }

    /// Takes a job from where it waits. Whether it was to be claimed alone; nothing if it waits nowhere: somebody
    /// runs it, or it has ended.
    pub(super) fn unplace(&mut self, row: &Record) -> Result<Option<bool>> {
        let (namespace, id, run_at) = (row.namespace.as_str(), job_id(row.id), row.run_at.as_micros());
        let (rank, route) = (rank(row.priority), job::route(&row.tags));
        let lane = params![namespace, row.queue.as_str(), row.kind.as_str(), route, rank, run_at, id];
        let alone = self.at.prepare_cached(SQL.move_ready)?.query_row(lane, |row| row.get(0)).optional()?;
        if alone.is_some() {
            return Ok(alone);
        }
        let mut later = self.at.prepare_cached(SQL.move_later)?;
        let later = later.query_row(params![run_at, id, namespace], |row| row.get(0)).optional()?;
        let (None, Some(key)) = (later, &row.ordering_key) else { return Ok(later) };
        let held = self.unhold((namespace, key), (rank, run_at, row.id))?;
        if held.is_some() {
            // Whoever stood behind it may be first now.
            self.stirred.insert((row.namespace.clone(), key.clone()));
        }
        Ok(held)
    }

    /// Takes a job out of its line. Whether it was to be claimed alone.
    fn unhold(&self, (namespace, key): (&str, &Key), (rank, run_at, id): InLine) -> Result<Option<bool>> {
        let mut held = self.at.prepare_cached(SQL.move_held)?;
        let place = params![namespace, key.as_str(), rank, run_at, job_id(id)];
        held.query_row(place, |row| row.get(0)).optional()
    }

    /// A job of an ordering key has ended: if it was let in, the next one may be.
    pub(super) fn leave_line(&mut self, namespace: &Namespace, key: &Key, id: JobId) -> Result<()> {
        let mut leave = self.at.prepare_cached(SQL.job_leave)?;
        let left =
            leave.query_row(params![namespace.as_str(), key.as_str(), job_id(id)], |_| Ok(())).optional()?;
        if left.is_some() {
            self.stirred.insert((namespace.clone(), key.clone()));
        }
        Ok(())
    }

    /// Lets the first jobs in of every ordering key that has changed, as many as its queues allow (J10). At the end of
    /// each verb: of the jobs of one batch the first is not the one that happens to stand first in it.
    pub(super) fn let_in(&mut self) -> Result<()> {
        for (namespace, key) in core::mem::take(&mut self.stirred) {
            let mut seats = self.seats(&namespace, &key)?;
            // A seat that allows no other needs no look at who waits.
            while may_pass(seats.iter().copied(), KEY_CONCURRENCY_MAX) {
                let Some((place, most)) = self.next_in_line(&namespace, &key)? else { break };
                if !may_pass(seats.iter().copied(), most) {
                    break;
                }
                let alone = self.unhold((namespace.as_str(), &key), place)?.unwrap_or(false);
                // One that somebody else's SQL has removed is passed over.
                if let Some(row) = self.find_bare(&namespace, place.2)? {
                    let mut let_in = self.at.prepare_cached(SQL.job_let_in)?;
                    let_in.execute(params![namespace.as_str(), key.as_str(), job_id(row.id)])?;
                    self.place_in_lane(&waiting(&row, &job::route(&row.tags)), alone)?;
                    seats.push(most);
                }
            }
        }
        Ok(())
    }

    /// Of each job that was let in under an ordering key, how many its queue lets in.
    fn seats(&self, namespace: &Namespace, key: &Key) -> Result<Vec<u32>> {
        let mut seats = self.at.prepare_cached(SQL.job_seats)?;
        seats.query_map([namespace.as_str(), key.as_str()], |row| row.get(0))?.collect()
    }

    /// Where the first one stands that waits under an ordering key, and how many its queue lets in.
    fn next_in_line(&self, namespace: &Namespace, key: &Key) -> Result<Option<(InLine, u32)>> {
        let mut next = self.at.prepare_cached(SQL.job_next)?;
        let line = [namespace.as_str(), key.as_str()];
        let place =
            |row: &rusqlite::Row<'_>| Ok(((row.get(0)?, row.get(1)?, rows::job_id(row, 2)?), row.get(3)?));
        next.query_row(line, place).optional()
    }

    /// The answer where nothing is due, which wants nothing written.
    pub(super) fn promote_nothing(&self) -> Result<Option<Promoted>> {
        let (next_due, now) = (self.next_due()?, self.now.wall);
        let none = Promoted { next_due, now, ..Promoted::default() };
        Ok(Some(none).filter(|none| none.next_due.is_none_or(|due| due > now)))
    }

    /// Whether there is anything to promote or to rescue. Whoever leaves a line lets the next one in at once.
    pub(super) fn chores(&self) -> Result<Chores> {
        let (next_due, lost) = (self.next_due()?, self.is_anything_lost()?);
        Ok(Chores { next_due, arrived: false, lost, now: self.now.wall })
    }

    fn next_due(&self) -> Result<Option<Timestamp>> {
        let mut next = self.at.prepare_cached(SQL.promote_next)?;
        Ok(next.query_row([], |row| row.get(0)).optional()?.map(Timestamp::from_micros))
    }

    /// Puts into their lanes what is due; wants the write lock.
    pub(super) fn promote(&mut self, limit: usize) -> Result<Promoted> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut due = self.at.prepare_cached(SQL.promote_due)?;
        let due = due.query_map(params![self.now.wall.as_micros(), limit], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                rows::job_id(row, 1)?,
                row.get::<_, String>(2)?,
                row.get::<_, i64>(3)?,
            ))
        })?;
        let due: Vec<_> = due.collect::<Result<_>>()?;
        let mut promoted = Promoted { now: self.now.wall, ..Promoted::default() };
        let mut queues = BTreeSet::new();
        let mut take = self.at.prepare_cached(SQL.promote_take)?;
        let mut read = self.at.prepare_cached(SQL.promote_read)?;
        for (run_at, id, namespace, place) in due {
            take.execute(params![run_at, job_id(id), namespace])?;
            let row = read.query_row([place], rows::record).optional()?;
            let is_it = |row: &Record| row.id == id && row.namespace.as_str() == namespace;
            if let Some(row) = row.filter(is_it) {
                self.place_row(&row, false)?;
                queues.insert((row.namespace, row.queue));
                promoted.moved += 1;
            }
        }
        promoted.queues = queues.into_iter().collect();
        promoted.next_due = self.next_due()?;
        Ok(promoted)
    }

    /// The lanes of these queues in which something waits.
    pub(super) fn lanes(&self, namespace: &Namespace, queues: &[Queue]) -> Result<Vec<Want>> {
        let mut lanes = Vec::new();
        for queue in queues {
            if self.is_closed(namespace, queue)?.0 {
                continue;
            }
            self.each_lane(namespace, queue, |kind, route, alone| {
                if !alone {
                    lanes.push(Want { queue: queue.clone(), kind, route: route.to_owned(), limit: 0 });
                }
                true
            })?;
        }
        Ok(lanes)
    }

    /// Names the lanes of a queue in which something waits, and whether all of that is claimed alone, as long as
    /// `more` are wanted.
    pub(super) fn each_lane(
        &self,
        namespace: &Namespace,
        queue: &Queue,
        mut more: impl FnMut(Kind, &str, bool) -> bool,
    ) -> Result<()> {
        let mut next = self.at.prepare_cached(SQL.lanes_next)?;
        let (mut kind, mut route) = (String::new(), String::new());
        let lane = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get::<_, bool>(2)?));
        while let Some((of, with, alone)) =
            next.query_row([namespace.as_str(), queue.as_str(), &kind, &route], lane).optional()?
        {
            (kind, route) = (of, with);
            if !more(Kind::from_row(kind.as_str()), &route, alone) {
                break;
            }
        }
        Ok(())
    }

    /// Whether a queue is paused, and whether it is limited.
    pub(super) fn is_closed(&self, namespace: &Namespace, queue: &Queue) -> Result<(bool, bool)> {
        let mut closed = self.at.prepare_cached(SQL.claim_closed)?;
        let closed = closed
            .query_row([namespace.as_str(), queue.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(closed.unwrap_or_default())
    }
}

fn waiting<'a>(row: &'a Record, route: &'a str) -> Waiting<'a> {
    Waiting {
        namespace: &row.namespace,
        queue: &row.queue,
        kind: row.kind.as_str(),
        id: row.id,
        route,
        priority: row.priority,
        run_at: row.run_at,
        is_later: row.state.is_later(),
        ordering_key: row.ordering_key.as_ref(),
        place: place_of(row),
    }
}
