//! Forgetting jobs that are over.

use onceward_core::job::State;
use onceward_core::{Kind, Namespace, Queue};
use rusqlite::{Result, ToSql, params};

use super::super::statements::SQL;
use super::super::trust::{self, WallClock};
use super::{Jobs, settle};
use crate::store::KEY_KEPT_FOR;
use crate::{PruneJobs, PruneOnly, PrunedJobs};

impl Jobs<'_> {
    /// Forgets what may be forgotten; wants the write lock.
    pub(super) fn prune(&self, ask: &PruneJobs) -> Result<PrunedJobs> {
        if trust::wall_clock(self.at, self.now)? != WallClock::Trusted {
            tracing::warn!(
                "the wall clock jumped against the boot clock: no job is forgotten until it is believed"
            );
            return Ok(PrunedJobs::default());
        }
        let over = Over::of(self, ask)?;
        let run = |statement, params: &[&dyn ToSql]| -> Result<u64> {
            Ok(self.at.prepare_cached(statement)?.execute(params)? as u64)
        };
        let (dead, done) = ask.only.of();
        let mut pruned = PrunedJobs::default();
        if ask.only.is_all() {
            let (wall, tomorrow) = (over.wall, self.now.wall.after(KEY_KEPT_FOR).as_micros());
            // So many that none of the keys below belongs to a job that goes on.
            while run(SQL.prune_kept, params![wall, over.limit, tomorrow])? > 0 {}
            pruned.keys = run(SQL.prune_keys, params![wall, over.limit])?;
        }
        if done {
            pruned.done = run(SQL.prune_done, &over.done())?;
        }
        if dead {
            pruned.dead = run(SQL.prune_dead, &over.dead())?;
        }
        Ok(pruned)
    }

    /// Counts what would be forgotten.
    pub(super) fn count_over(&self, ask: &PruneJobs) -> Result<PrunedJobs> {
        let over = Over::of(self, ask)?;
        let count = |statement, params: &[&dyn ToSql]| -> Result<u64> {
            let count = self.at.prepare_cached(statement)?.query_row(params, |row| row.get::<_, i64>(0))?;
            Ok(count.cast_unsigned())
        };
        let (dead, done) = ask.only.of();
        let mut pruned = PrunedJobs::default();
        if ask.only.is_all() {
            pruned.keys = count(SQL.count_keys, params![over.wall, over.limit])?;
        }
        if done {
            pruned.done = count(SQL.count_done, &over.done())?;
        }
        if dead {
            pruned.dead = count(SQL.count_dead, &over.dead())?;
        }
        Ok(pruned)
    }
}

/// What is asked for, as the statements want it.
struct Over<'a> {
    wall: i64,
    limit: i64,
    /// The first number of what is done and may not be forgotten yet.
    kept: i64,
    namespace: Option<&'a str>,
    queue: Option<&'a str>,
    kind: Option<&'a str>,
    state: Option<&'a str>,
    dead_kept: i64,
    /// Dead jobs that ended after this are kept by every queue.
    dead_before: i64,
}

impl<'a> Over<'a> {
    fn of(jobs: &Jobs<'_>, ask: &'a PruneJobs) -> Result<Self> {
        let PruneOnly { namespace, queue, kind, state } = &ask.only;
        let wall = jobs.now.wall.as_micros();
        let dead_kept = i64::try_from(ask.dead_older_than.as_micros()).unwrap_or(i64::MAX);
        let mut shortest = jobs.at.prepare_cached(SQL.dead_kept)?;
        let shortest = shortest.query_row([], |row| row.get::<_, Option<i64>>(0))?;
        Ok(Self {
            wall,
            limit: i64::try_from(ask.limit).unwrap_or(i64::MAX),
            kept: settle::slots(jobs.now.wall).end,
            namespace: namespace.as_ref().map(Namespace::as_str),
            queue: queue.as_ref().map(Queue::as_str),
            kind: kind.as_ref().map(Kind::as_str),
            state: state.map(State::as_str),
            dead_kept,
            dead_before: wall.saturating_sub(shortest.map_or(dead_kept, |shortest| shortest.min(dead_kept))),
        })
    }

    fn done(&self) -> [&dyn ToSql; 6] {
        [&self.kept, &self.limit, &self.namespace, &self.queue, &self.kind, &self.state]
    }

    fn dead(&self) -> [&dyn ToSql; 7] {
        let Self { wall, limit, namespace, queue, kind, dead_kept, dead_before, .. } = self;
        [wall, limit, namespace, queue, kind, dead_kept, dead_before]
    }
}
