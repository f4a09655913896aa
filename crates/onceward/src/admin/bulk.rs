//! Many jobs at once, by what they have in common: looked at first, then each by the token that was seen.

use onceward_core::job::{self, Move, State};
use onceward_core::{Code, Error, JobId, Kind, Queue, Result, Tag, limits};
use onceward_store::{ListJobs, Snapshot};
use serde::Serialize;

use super::jobs::{is_made_by, replay};
use super::{Admin, Replay, Replayed, check_page};

/// What jobs have in common. The default is every job of the namespace.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// Their state, as people mean it.
    pub state: Option<State>,
    /// Their queue.
    pub queue: Option<Queue>,
    /// Their kind.
    pub kind: Option<Kind>,
    /// One of their tags.
    pub tag: Option<Tag>,
}

/// What to do with each of them.
#[derive(Clone, Debug)]
pub enum BulkAction {
    /// As [`Admin::cancel_job`].
    Cancel,
    /// As [`Admin::retry_job`].
    Retry,
    /// As [`Admin::replay_job`].
    Replay(Replay),
}

/// What a bulk action did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BulkJobs {
    /// Jobs that were (or would be) changed or replayed.
    pub changed: Vec<JobId>,
    /// Jobs that had moved on in the meantime, or are in a state that does not allow it. They were left alone.
    pub left: Vec<JobId>,
    /// The new jobs, where the action was to replay; the same ones when it is repeated under its request's name.
    pub replayed: Vec<Replayed>,
}

impl Admin {
    /// A page of the jobs of this namespace, the newest first, without payloads and results. `after`: the last id
    /// of the page before.
    ///
    /// # Errors
    /// [`PageInvalid`](Code::PageInvalid), and those of an unreachable store.
    pub async fn jobs(
        &self,
        filter: &JobFilter,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Snapshot<job::Record>> {
        let JobFilter { state, queue, kind, tag } = filter.clone();
        let namespace = Some(self.client.namespace.clone());
        let limit = check_page(limit)?;
        let ask = ListJobs { namespace, state, queue, kind, tag, after, limit, ..ListJobs::default() };
        self.client.store().job_list(&ask).await
    }

    /// Does the same with every job that fits, up to `most` of them. With `dry_run` it only says which. It can be
    /// repeated: what was done before is not done again, except for replays without a request's name.
    ///
    /// # Errors
    /// [`ReasonMissing`](Code::ReasonMissing) for an empty one, and those of an unreachable store; what was done before
    /// stays so.
    pub async fn each_job(
        &self,
        filter: &JobFilter,
        action: &BulkAction,
        reason: Option<&str>,
        most: usize,
        dry_run: bool,
    ) -> Result<BulkJobs> {
        let (mut bulk, mut after) = (BulkJobs::default(), None);
        while bulk.changed.len() < most {
            let page = self.jobs(filter, after.take(), limits::PAGE_ROWS_MAX).await?;
            let Some(last) = page.rows.last() else { break };
            after = Some(last.id);
            for row in page.rows.iter().take(most - bulk.changed.len()) {
                if matches!(action, BulkAction::Replay(how) if is_made_by(row, how)) {
                    // What this request has made is none of what it is about.
                    bulk.left.push(row.id);
                    continue;
                }
                match self.one_of_many(row, action, reason, dry_run).await {
                    Ok(replayed) => {
                        bulk.changed.push(row.id);
                        bulk.replayed.extend(replayed);
                    }
                    Err(error) if was_left(&error) => bulk.left.push(row.id),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(bulk)
    }

    /// Says whether this could be done to a job now, and does nothing.
    ///
    /// # Errors
    /// Those that doing it would have.
    pub async fn try_job(&self, id: JobId, action: &BulkAction, reason: Option<&str>) -> Result<()> {
        let row = self.job(id).await?;
        self.one_of_many(&row, action, reason, true).await.map(drop)
    }

    async fn one_of_many(
        &self,
        row: &job::Record,
        action: &BulkAction,
        reason: Option<&str>,
        dry_run: bool,
    ) -> Result<Option<Replayed>> {
        let (id, seen) = (row.id, Some(row.token));
        match action {
            BulkAction::Cancel if dry_run => {
                self.move_job(id, seen, Move::Cancel, reason, dry_run).await.map(|_| None)
            }
            BulkAction::Cancel => self.cancel_job(id, seen, reason).await.map(|_| None),
            BulkAction::Retry => self.move_job(id, seen, Move::RunNow, reason, dry_run).await.map(|_| None),
            BulkAction::Replay(how) if dry_run => replay(row, how).map(|_| None),
            BulkAction::Replay(how) => self.replay_job(id, how).await.map(Some),
        }
    }
}

/// Whether an error is about this job alone.
fn was_left(error: &Error) -> bool {
    // A run may end between the look at it and what is said to it.
    let of_runs = matches!(error.code(), Code::RunEnded | Code::RunUnknown);
    of_runs
        || matches!(
            error.code(),
            Code::TokenStale | Code::JobStateWrong | Code::JobAbsent | Code::JobKeyTaken
        )
}
