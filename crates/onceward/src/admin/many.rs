//! Many runs at once, by what they have in common: looked at first, then each by the token that was seen.

use core::time::Duration;

use futures_util::stream::{self, StreamExt};
use onceward_core::job::{Move, Moved, Record, State};
use onceward_core::run::Standing;
use onceward_core::{Code, Error, JobId, Result, Timestamp, limits};
use onceward_store::{ListJobs, Snapshot};
use serde_json::Value;

use super::{Admin, BulkJobs, JobFilter};
use crate::durable::written_signal;

/// How many runs are moved at the same time.
const AT_ONCE: usize = 8;

/// What runs have in common. The default is every run of the namespace.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// How they stand.
    pub standing: Option<Standing>,
    /// What their jobs have in common: the kind is the function.
    pub jobs: JobFilter,
    /// They were started at least this long ago.
    pub older_than: Option<Duration>,
    /// They were started at most this long ago.
    pub newer_than: Option<Duration>,
}

impl From<&JobFilter> for RunFilter {
    fn from(jobs: &JobFilter) -> Self {
        Self { jobs: jobs.clone(), ..Self::default() }
    }
}

impl From<&Self> for RunFilter {
    fn from(filter: &Self) -> Self {
        filter.clone()
    }
}

/// What to do with each of them.
#[derive(Clone, Debug)]
pub enum RunAction {
    /// As [`Admin::pause_run`].
    Pause,
    /// As [`Admin::resume_run`].
    Resume,
    /// As [`Onceward::cancel_run`](crate::Onceward::cancel_run).
    Cancel,
    /// As [`Admin::retry_run`].
    Retry,
    /// As [`Onceward::signal_run`](crate::Onceward::signal_run).
    Signal {
        /// What the signal is called.
        name: String,
        /// What it says.
        value: Value,
    },
}

impl RunFilter {
    /// The listings that together hold all of them, and little else.
    fn asks(&self, ask: &ListJobs) -> Vec<ListJobs> {
        let state = |state| ListJobs { state: Some(state), ..ask.clone() };
        match self.standing {
            None => vec![ask.clone()],
            Some(_) if ask.state.is_some() => vec![ask.clone()],
            Some(Standing::Pending) => [State::Scheduled, State::Ready, State::Retrying].map(state).to_vec(),
            Some(Standing::Running) => vec![state(State::Running)],
            Some(Standing::Parked | Standing::Stuck) => vec![state(State::Scheduled)],
            Some(Standing::Paused) => vec![ListJobs { paused: true, ..ask.clone() }],
            Some(Standing::Succeeded) => vec![state(State::Succeeded)],
            Some(Standing::Failed | Standing::Expired) => vec![state(State::Dead)],
            Some(Standing::Cancelled) => vec![state(State::Cancelled)],
            Some(Standing::Uncertain) => vec![state(State::Uncertain)],
        }
    }

    fn fits(&self, row: &Record, now: Timestamp) -> bool {
        let age = now.since(row.enqueued_at);
        row.policy.durable
            && self.standing.is_none_or(|standing| standing == Standing::of(row))
            && self.older_than.is_none_or(|least| age >= least)
            && self.newer_than.is_none_or(|most| age <= most)
    }
}

impl Admin {
    /// A page of runs, the newest first, without arguments and results; `after` is the last one of the page before.
    /// They are found among all jobs: a filter of their kind makes that cheap.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn runs(
        &self,
        filter: impl Into<RunFilter>,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Snapshot<Record>> {
        let filter = filter.into();
        let JobFilter { state, queue, kind, tag } = filter.jobs.clone();
        let namespace = Some(self.client.namespace.clone());
        let ask = ListJobs { namespace, state, queue, kind, tag, after, ..ListJobs::default() };
        let mut page = Snapshot { now: Timestamp::default(), rows: Vec::new() };
        for ask in filter.asks(&ask) {
            let part = self.runs_of(ask, &filter, limit).await?;
            page.now = page.now.max(part.now);
            page.rows.extend(part.rows);
        }
        page.rows.sort_by_key(|row| core::cmp::Reverse(row.id));
        page.rows.truncate(limit);
        Ok(page)
    }

    async fn runs_of(&self, mut ask: ListJobs, filter: &RunFilter, limit: usize) -> Result<Snapshot<Record>> {
        ask.limit = limits::PAGE_ROWS_MAX;
        let mut runs = Vec::new();
        loop {
            let Snapshot { now, rows } = self.client.store().job_list(&ask).await?;
            let last = rows.len() < ask.limit;
            ask.after = rows.last().map(|row| row.id);
            runs.extend(rows.into_iter().filter(|row| filter.fits(row, now)));
            if last || runs.len() >= limit {
                runs.truncate(limit);
                return Ok(Snapshot { now, rows: runs });
            }
        }
    }

    /// Does the same with every run that fits, up to `most` of them, page by page. With `dry_run` it only says which.
    /// It can be repeated: what was done before is not done again, except that a signal is sent again.
    ///
    /// # Errors
    /// [`ReasonMissing`](Code::ReasonMissing) for one that is empty or too long; those of
    /// [`signal_run`](crate::Onceward::signal_run) for a name or a value that is refused; those of an unreachable
    /// store. What was done before stays so.
    pub async fn each_run(
        &self,
        filter: impl Into<RunFilter>,
        action: &RunAction,
        reason: Option<&str>,
        most: usize,
        dry_run: bool,
    ) -> Result<BulkJobs> {
        reason.map_or(Ok(()), onceward_core::once::check_reason)?;
        if let RunAction::Signal { name, value } = action {
            written_signal(name, value)?;
        }
        let (filter, mut bulk, mut after) = (filter.into(), BulkJobs::default(), None);
        while bulk.changed.len() < most {
            let page = self.runs(&filter, after.take(), limits::PAGE_ROWS_MAX).await?;
            let Some(last) = page.rows.last() else { break };
            after = Some(last.id);
            for rows in page.rows.chunks(AT_ONCE) {
                let rows = rows.get(..rows.len().min(most - bulk.changed.len())).unwrap_or_default();
                let done = stream::iter(rows).map(|row| self.do_to_run(row, action, reason, dry_run));
                let done: Vec<Result<bool>> = done.buffered(AT_ONCE).collect().await;
                for (row, done) in rows.iter().zip(done) {
                    let list = if done? { &mut bulk.changed } else { &mut bulk.left };
                    list.push(row.id);
                }
            }
        }
        Ok(bulk)
    }

    /// Whether it was done: one that has moved on meanwhile, or stands otherwise, is left alone.
    async fn do_to_run(
        &self,
        row: &Record,
        action: &RunAction,
        reason: Option<&str>,
        dry_run: bool,
    ) -> Result<bool> {
        let done = match action {
            RunAction::Pause => self.pause_or_resume(row, Move::Pause, reason, dry_run).await,
            RunAction::Resume => self.pause_or_resume(row, Move::Resume, reason, dry_run).await,
            RunAction::Retry if dry_run => self.retry_row(row, reason, true).await.map(|_| true),
            RunAction::Retry => self.retry_run(row.id, reason).await.map(|_| true),
            RunAction::Cancel | RunAction::Signal { .. } if dry_run => Ok(!row.state.is_final()),
            RunAction::Cancel => {
                let reason = reason.unwrap_or("cancelled by an operator");
                self.client.cancel_run(row.id, reason).await.map(|()| true)
            }
            RunAction::Signal { name, value } => {
                self.client.signal_run(row.id, name, value).await.map(|()| true)
            }
        };
        match done {
            Err(error) if was_left(&error) => Ok(false),
            done => done,
        }
    }

    async fn pause_or_resume(
        &self,
        row: &Record,
        to: Move,
        reason: Option<&str>,
        dry_run: bool,
    ) -> Result<bool> {
        let pauses = to == Move::Pause;
        let moved = self.move_run(row.id, Some(row.token), to, reason, dry_run).await?;
        if moved == Moved::Noted && pauses && !dry_run {
            self.client.inner.hot.pause([row.id]);
        }
        Ok(moved != Moved::Unchanged)
    }
}

/// Whether an error is about this run alone.
fn was_left(error: &Error) -> bool {
    let codes = [
        Code::TokenStale,
        Code::JobStateWrong,
        Code::JobKeyTaken,
        Code::RunUnknown,
        Code::RunEnded,
        Code::RunForkRefused,
    ];
    codes.contains(&error.code())
}
