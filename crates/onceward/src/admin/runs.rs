//! Looking at the runs of durable functions.

use onceward_core::job::Record;
use onceward_core::run::Entry;
use onceward_core::{JobId, Result, limits};
use onceward_store::{JobRef, ListJobs, LoadRun, Snapshot};

use super::{Admin, JobFilter};

impl Admin {
    /// A page of runs, the newest first, without arguments and results; `after` is the last one of the page before.
    /// They are found among all jobs: a filter of their kind makes that cheap.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn runs(
        &self,
        filter: &JobFilter,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Snapshot<Record>> {
        let mut ask = ListJobs {
            namespace: Some(self.client.namespace.clone()),
            state: filter.state,
            queue: filter.queue.clone(),
            kind: filter.kind.clone(),
            tag: filter.tag.clone(),
            after,
            limit: limits::PAGE_ROWS_MAX,
        };
        let mut runs = Vec::new();
        loop {
            let Snapshot { now, rows } = self.client.store().job_list(&ask).await?;
            let last = rows.len() < ask.limit;
            ask.after = rows.last().map(|row| row.id);
            runs.extend(rows.into_iter().filter(|row| row.policy.durable));
            if last || runs.len() >= limit {
                runs.truncate(limit);
                return Ok(Snapshot { now, rows: runs });
            }
        }
    }

    /// A part of the journal of a run, in order, from an entry on: what it has asked for, and what came of it.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn journal(&self, run: JobId, from: u32, limit: usize) -> Result<Vec<Entry>> {
        let run = JobRef { namespace: self.client.namespace.clone(), id: run };
        self.client.store().run_load(&LoadRun { run, from, limit }).await
    }

    /// Forgets the journals of runs that are forgotten themselves, all of them; how many.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn prune_runs(&self) -> Result<u64> {
        let (mut gone, mut after) = (0, None);
        loop {
            let (round, last) = self.client.store().run_prune(after.as_ref(), 1_000).await?;
            gone += round;
            if last.is_none() {
                return Ok(gone);
            }
            after = last;
        }
    }
}
