//! Looking at jobs, and moving them from outside: one by one, or by filter.

use std::collections::HashSet;

use onceward_core::job::{Attempt, Move, Moved, Record, State};
use onceward_core::once::{Body, check_reason};
use onceward_core::{Code, Error, JobId, Kind, Queue, Result, Tag, Token, limits};
use onceward_store::{JobRef, ListJobs, MoveJob, PruneJobs, PrunedJobs, Snapshot};
use serde::Serialize;

use super::{Admin, Replay, check_page};
use crate::jobs::JSON;

/// Which jobs of a namespace are meant; by default all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only this state, as people mean it: a job that a worker has in hand is running.
    pub state: Option<State>,
    /// Only this queue.
    pub queue: Option<Queue>,
    /// Only this kind.
    pub kind: Option<Kind>,
    /// Only with this tag.
    pub tag: Option<Tag>,
}

/// What somebody has found out about an uncertain job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did happen; this is its result.
    Happened(Option<Body>),
    /// It did not happen: it runs again.
    DidNotHappen,
    /// It did not happen, and shall not: it is dead.
    GiveUp,
}

impl Verdict {
    /// It did happen, with this result.
    ///
    /// # Errors
    /// [`ResultUnwritable`](Code::ResultUnwritable).
    pub fn happened(result: &impl Serialize) -> Result<Self> {
        let unwritable =
            |error| Error::new(Code::ResultUnwritable, "the result can't be written as JSON").with_source(error);
        Ok(Self::Happened(Some(Body::new(serde_json::to_vec(result).map_err(unwritable)?, JSON))))
    }
}

/// What is done to many jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobAction {
    /// Run them now, with one more attempt each if they have none left.
    Retry,
    /// Enqueue each of them once more: see [`Admin::replay`].
    Replay(Replay),
    /// Call them off.
    Cancel,
    /// Put those that are dead away.
    Discard,
}

/// What a bulk action did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bulked {
    /// Jobs that were (or would be) changed. Of a replay: the jobs that were repeated.
    pub changed: Vec<JobId>,
    /// Jobs whose state does not allow it, or that had moved on by themselves in the meantime; they were left alone.
    pub passed_over: Vec<JobId>,
}

impl Admin {
    pub(super) fn job_ref(&self, id: JobId) -> JobRef {
        JobRef { namespace: self.client.namespace.clone(), id }
    }

    /// One job, with its payload and its result.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn job(&self, id: JobId) -> Result<Option<Record>> {
        let seen = self.client.store().job_lookup(&[self.job_ref(id)]).await?;
        Ok(seen.rows.into_iter().next().flatten())
    }

    /// Many jobs, in the order asked for, in one read.
    ///
    /// # Errors
    /// [`PageInvalid`](Code::PageInvalid) beyond a page, and those of an unreachable store.
    pub async fn jobs_of(&self, ids: impl IntoIterator<Item = JobId>) -> Result<Snapshot<Option<Record>>> {
        let jobs: Vec<JobRef> = ids.into_iter().map(|id| self.job_ref(id)).collect();
        check_page(jobs.len().max(1))?;
        self.client.store().job_lookup(&jobs).await
    }

    /// A page of jobs, the newest first, without payloads and results. The next page comes `after` the last one of this.
    ///
    /// # Errors
    /// [`PageInvalid`](Code::PageInvalid), and those of an unreachable store.
    pub async fn jobs(&self, filter: &JobFilter, after: Option<JobId>, limit: usize) -> Result<Snapshot<Record>> {
        let JobFilter { state, queue, kind, tag } = filter.clone();
        let namespace = Some(self.client.namespace.clone());
        let ask = ListJobs { namespace, state, queue, kind, tag, after, limit: check_page(limit)? };
        self.client.store().job_list(&ask).await
    }

    /// Every attempt of a job that was charged and has ended, in order; of very many, the first and the newest.
    ///
    /// # Errors
    /// [`JobAbsent`](Code::JobAbsent), and those of an unreachable store.
    pub async fn attempts(&self, id: JobId) -> Result<Vec<Attempt>> {
        Ok(self.job(id).await?.ok_or_else(|| absent(id))?.attempts())
    }

    /// Calls a job off. One that waits is cancelled at once; one that runs is told at the next renewal of its worker's
    /// session ([`Noted`](Moved::Noted)), and then ends as cancelled or as it truly ended, but does not run again.
    ///
    /// # Errors
    /// [`JobAbsent`](Code::JobAbsent), [`JobStateWrong`](Code::JobStateWrong) where it is over already.
    pub async fn cancel_job(&self, id: JobId, reason: Option<&str>) -> Result<Moved> {
        self.move_job(id, None, Move::Cancel, reason, false).await
    }

    /// Runs a job now: one that waits for its time, for its next attempt, or is dead (then with one more attempt).
    ///
    /// # Errors
    /// [`JobAbsent`](Code::JobAbsent), [`JobStateWrong`](Code::JobStateWrong) where it has succeeded, was cancelled, or
    /// runs. With a `token`, [`AttemptStale`](Code::AttemptStale) where it has moved on since it was looked at.
    pub async fn retry_job(&self, id: JobId, token: Option<Token>, reason: Option<&str>) -> Result<Moved> {
        self.move_job(id, token, Move::RunNow, reason, false).await
    }

    /// Settles an uncertain job.
    ///
    /// # Errors
    /// [`ReasonMissing`](Code::ReasonMissing), [`JobAbsent`](Code::JobAbsent), [`NotUncertain`](Code::NotUncertain),
    /// [`AttemptStale`](Code::AttemptStale).
    pub async fn resolve_job(
        &self,
        id: JobId,
        token: Option<Token>,
        verdict: Verdict,
        reason: &str,
    ) -> Result<Moved> {
        check_reason(reason)?;
        let row = self.job(id).await?.ok_or_else(|| absent(id))?;
        let state = row.state_now();
        if state != State::Uncertain {
            return Err(Error::new(Code::NotUncertain, format!("job {id} is {state}")));
        }
        let to = match verdict {
            Verdict::Happened(result) => Move::Done(result),
            Verdict::DidNotHappen => Move::RunNow,
            Verdict::GiveUp => Move::Dead,
        };
        // By the token that was seen: nothing but the uncertain row itself is settled by it.
        self.move_job(id, token.or(Some(row.token)), to, Some(reason), false).await
    }

    /// Puts a dead job away: it becomes a cancelled one, and is forgotten like those.
    ///
    /// # Errors
    /// [`JobAbsent`](Code::JobAbsent), [`JobStateWrong`](Code::JobStateWrong) where it is not dead.
    pub async fn discard_job(&self, id: JobId, reason: Option<&str>) -> Result<Moved> {
        let row = self.job(id).await?.ok_or_else(|| absent(id))?;
        self.discard(&row, reason, false).await
    }

    async fn discard(&self, row: &Record, reason: Option<&str>, dry_run: bool) -> Result<Moved> {
        match row.state_now() {
            State::Dead => self.move_job(row.id, Some(row.token), Move::Cancel, reason, dry_run).await,
            state => Err(wrong(row.id, state)),
        }
    }

    /// Does the same to every job that the filter means, each only if it still is as it was seen. With `dry_run`, says
    /// what would be done.
    ///
    /// # Errors
    /// Those of an unreachable store; what was done before stays done.
    pub async fn bulk_jobs(
        &self,
        filter: &JobFilter,
        action: &JobAction,
        reason: Option<&str>,
        dry_run: bool,
    ) -> Result<Bulked> {
        let (mut bulked, mut after, mut made) = (Bulked::default(), None, HashSet::new());
        loop {
            let page = self.jobs(filter, after, limits::PAGE_ROWS_MAX).await?;
            let Some(last) = page.rows.last() else { return Ok(bulked) };
            after = Some(last.id);
            for row in &page.rows {
                if made.contains(&row.id) {
                    continue;
                }
                let token = Some(row.token);
                let done = match action {
                    JobAction::Retry => self.move_job(row.id, token, Move::RunNow, reason, dry_run).await.map(drop),
                    JobAction::Cancel => self.move_job(row.id, token, Move::Cancel, reason, dry_run).await.map(drop),
                    JobAction::Discard => self.discard(row, reason, dry_run).await.map(drop),
                    JobAction::Replay(how) => {
                        let copy = self.replay_row(row.id, how, dry_run).await;
                        copy.map(|copy| made.extend(copy.map(|copy| copy.id)))
                    }
                };
                match done.map_err(|error| (error.code(), error)) {
                    Ok(()) => bulked.changed.push(row.id),
                    Err((Code::JobAbsent | Code::JobStateWrong | Code::AttemptStale, _)) => {
                        bulked.passed_over.push(row.id);
                    }
                    Err((_, error)) => return Err(error),
                }
            }
        }
    }

    /// Forgets jobs that are over: one round. Uncertain jobs stay, whatever their age.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn prune_jobs(&self, ask: &PruneJobs) -> Result<PrunedJobs> {
        self.client.store().job_prune(ask).await
    }

    pub(super) async fn move_job(
        &self,
        id: JobId,
        token: Option<Token>,
        to: Move,
        reason: Option<&str>,
        dry_run: bool,
    ) -> Result<Moved> {
        let (job, actor, reason) = (self.job_ref(id), self.actor.clone(), reason.map(str::to_owned));
        let runs_now = to == Move::RunNow && !dry_run;
        let ask = MoveJob { job, token, to, actor, reason, dry_run };
        let moved = self.client.store().job_move(&ask).await.map_err(|error| error.at("job.move"))?;
        match moved {
            Moved::Applied { .. } | Moved::Noted => {}
            Moved::Running => {
                let why = format!("job {id} runs: wait for its end, or cancel it");
                return Err(Error::new(Code::JobStateWrong, why));
            }
            Moved::Absent => return Err(absent(id)),
            Moved::Wrong(state) => return Err(wrong(id, state)),
            Moved::Stale(token) => {
                let why = format!("job {id} has moved on since it was looked at: its token is {token} now");
                return Err(Error::new(Code::AttemptStale, why));
            }
        }
        if runs_now {
            self.announce(id).await;
        }
        Ok(moved)
    }

    /// Tells workers that a job has become ready. They would find it anyway.
    async fn announce(&self, id: JobId) {
        let Ok(Some(row)) = self.job(id).await else { return };
        self.client.inner.bells.ring(&row.namespace, &row.queue);
        if let Err(error) = self.client.store().job_announce(&[(row.namespace, row.queue)]).await {
            tracing::debug!(%error, "workers could not be told of a job; they find it by looking");
        }
    }
}

pub(super) fn absent(id: JobId) -> Error {
    Error::new(Code::JobAbsent, format!("there is no job {id} in this namespace, or it was forgotten"))
}

pub(super) fn wrong(id: JobId, state: State) -> Error {
    Error::new(Code::JobStateWrong, format!("job {id} is {state}, which does not allow this"))
}
