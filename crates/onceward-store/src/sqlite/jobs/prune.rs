//! Forgetting jobs that are over.

use rusqlite::{Result, ToSql, params};

use super::super::statements::SQL;
use super::super::trust::{self, WallClock};
use super::{Jobs, settle};
use crate::store::KEY_KEPT_FOR;
use crate::{PruneJobs, PrunedJobs};

impl Jobs<'_> {
    /// Forgets what may be forgotten; wants the write lock.
    pub(super) fn prune(&self, ask: &PruneJobs) -> Result<PrunedJobs> {
        if trust::wall_clock(self.at, self.now)? != WallClock::Trusted {
            tracing::warn!(
                "the wall clock jumped against the boot clock: no job is forgotten until it is believed"
            );
            return Ok(PrunedJobs::default());
        }
        let limit = i64::try_from(ask.limit).unwrap_or(i64::MAX);
        let run = |statement, params: &[&dyn ToSql]| -> Result<u64> {
            Ok(self.at.prepare_cached(statement)?.execute(params)? as u64)
        };
        let wall = self.now.wall;
        let kept = settle::slots(wall).end;
        let old = wall.before(ask.dead_older_than).as_micros();
        let tomorrow = wall.after(KEY_KEPT_FOR).as_micros();
        // So many that none of the keys below belongs to a job that goes on.
        while run(SQL.prune_kept, params![wall.as_micros(), limit, tomorrow])? > 0 {}
        Ok(PrunedJobs {
            done: run(SQL.prune_done, params![kept, limit])?,
            dead: run(SQL.prune_dead, params![old, limit])?,
            keys: run(SQL.prune_keys, params![wall.as_micros(), limit])?,
        })
    }
}
