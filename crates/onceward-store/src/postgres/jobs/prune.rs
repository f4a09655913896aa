//! Forgetting jobs that are over.

use onceward_core::{Code, Result, Timestamp};

use super::super::Inner;
use super::super::lease::only;
use super::super::link::Call;
use super::super::live::Param;
use super::super::row::{Columns, micros};
use super::super::statements::Statement;
use super::settle::number;
use crate::store::{PruneJobs, PrunedJobs};
use crate::wall::WallClock;

const VERB: &str = "upkeep.prune_jobs";

impl Inner {
    pub(super) async fn job_prune(&self, ask: &PruneJobs) -> Result<PrunedJobs> {
        let call = Call { verb: VERB, statement: &self.sql.prune_now, params: &[], rows: 1 };
        let now = Columns::of(&only(self.admin.read(&call).await?)?).get()?;
        if self.trust.observe(Timestamp::from_micros(now), self.clock.boottime()) != WallClock::Trusted {
            tracing::warn!("the server's clock jumped: nothing is forgotten until it is believed");
            return Ok(PrunedJobs::default());
        }
        let limit = super::super::limit(ask.limit);
        let pruned = PrunedJobs {
            done: self.forget_jobs(&self.sql.prune_done, &[&limit]).await?,
            dead: self.forget_jobs(&self.sql.prune_dead, &[&limit, &micros(ask.dead_older_than)]).await?,
            keys: self.forget_jobs(&self.sql.prune_keys, &[&limit]).await?,
        };
        let rotate = Call { verb: VERB, statement: &self.sql.rotate_jobs, params: &[], rows: 1 };
        match self.admin.write(&rotate).await {
            Err(error) if error.code() == Code::RightsMissing => {
                tracing::warn!(%error, "no partitions are made or dropped: rows are forgotten one by one");
            }
            rotated => drop(rotated?),
        }
        Ok(pruned)
    }

    async fn forget_jobs(&self, statement: &Statement, params: &[Param<'_>]) -> Result<u64> {
        number(&self.admin.write(&Call { verb: VERB, statement, params, rows: 1 }).await?)
    }
}
