//! Forgetting jobs that are over.

use onceward_core::job::State;
use onceward_core::{Code, Kind, Namespace, Queue, Result, Timestamp};
use tokio::time::Instant;

use super::super::Inner;
use super::super::lease::only;
use super::super::link::Call;
use super::super::live::Param;
use super::super::row::{Columns, micros};
use super::super::statements::Statement;
use super::settle::number;
use crate::store::{PruneJobs, PruneOnly, PrunedJobs};

const VERB: &str = "upkeep.prune_jobs";

impl Inner {
    pub(super) async fn job_prune(&self, ask: &PruneJobs) -> Result<PrunedJobs> {
        let call = Call { verb: VERB, statement: &self.sql.prune_now, params: &[], rows: 1 };
        let now = Columns::of(&only(self.admin.read(&call).await?)?).get()?;
        if !self.may_forget(Timestamp::from_micros(now)) {
            return Ok(PrunedJobs::default());
        }
        let pruned = if ask.dry_run { self.count_over(ask).await? } else { self.forget_over(ask).await? };
        if ask.dry_run || !ask.only.is_all() {
            return Ok(pruned);
        }
        let rotate = Call { verb: VERB, statement: &self.sql.rotate_jobs, params: &[], rows: 1 };
        match self.admin.write(&rotate).await {
            Err(error) if error.code() == Code::RightsMissing => {
                tracing::warn!(%error, "no partitions are made or dropped: rows are forgotten one by one");
            }
            rotated => drop(rotated?),
        }
        Ok(pruned)
    }

    async fn forget_over(&self, ask: &PruneJobs) -> Result<PrunedJobs> {
        let (limit, kept) = (super::super::limit(ask.limit), micros(ask.dead_older_than));
        let (namespace, queue, kind, state) = words(&ask.only);
        let (dead, done) = ask.only.of();
        let mut pruned = PrunedJobs::default();
        if ask.only.is_all() {
            pruned.done = self.forget_jobs(&self.sql.prune_done, &[&limit]).await?;
        } else if done {
            let params: &[Param<'_>] = &[&limit, &namespace, &queue, &kind, &state];
            pruned.done = self.forget_jobs(&self.sql.prune_some_done, params).await?;
        }
        if dead {
            let params: &[Param<'_>] = &[&limit, &kept, &namespace, &queue, &kind];
            pruned.dead = self.forget_jobs(&self.sql.prune_dead, params).await?;
        }
        if ask.only.is_all() {
            pruned.keys = self.forget_jobs(&self.sql.prune_keys, &[&limit]).await?;
        }
        Ok(pruned)
    }

    async fn count_over(&self, ask: &PruneJobs) -> Result<PrunedJobs> {
        let (limit, kept) = (super::super::limit(ask.limit), micros(ask.dead_older_than));
        let (namespace, queue, kind, state) = words(&ask.only);
        let (dead, done) = ask.only.of();
        let mut pruned = PrunedJobs::default();
        if done {
            let params: &[Param<'_>] = &[&limit, &namespace, &queue, &kind, &state];
            pruned.done = self.count_jobs(&self.sql.count_done, params).await?;
        }
        if dead {
            let params: &[Param<'_>] = &[&limit, &kept, &namespace, &queue, &kind];
            pruned.dead = self.count_jobs(&self.sql.count_dead, params).await?;
        }
        if ask.only.is_all() {
            pruned.keys = self.count_jobs(&self.sql.count_keys, &[&limit]).await?;
        }
        Ok(pruned)
    }

    async fn count_jobs(&self, statement: &Statement, params: &[Param<'_>]) -> Result<u64> {
        number(&self.admin.read(&Call { verb: VERB, statement, params, rows: 1 }).await?)
    }

    async fn forget_jobs(&self, statement: &Statement, params: &[Param<'_>]) -> Result<u64> {
        let until = Instant::now() + self.dial.deadline;
        loop {
            match self.admin.write(&Call { verb: VERB, statement, params, rows: 1 }).await {
                // Whoever makes partitions at the moment holds the tables, for longer than we wait for a lock.
                Err(error) if error.code() == Code::KeyLocked && Instant::now() < until => {}
                done => return number(&done?),
            }
        }
    }
}

fn words(only: &PruneOnly) -> (Option<&str>, Option<&str>, Option<&str>, Option<&str>) {
    (
        only.namespace.as_ref().map(Namespace::as_str),
        only.queue.as_ref().map(Queue::as_str),
        only.kind.as_ref().map(Kind::as_str),
        only.state.map(State::as_str),
    )
}
