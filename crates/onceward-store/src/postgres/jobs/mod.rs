//! Jobs and sessions on PostgreSQL: the verbs, each in the file that is called after what it does.
//!
//! The hot ones are `enqueue`, `claim` and `settle`; each takes a step for what nearly always happens, and another one
//! for whatever may have happened.

mod append;
mod attempt;
mod claim;
mod edges;
mod endpoints;
mod enqueue;
mod fork;
mod hand_over;
mod intervene;
mod look;
mod permits;
mod promote;
mod prune;
mod queues;
mod rescue;
mod rows;
mod runs;
mod sent;
mod services;
mod sessions;
mod settle;
mod triggers;

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use onceward_core::job::tuning::Tuning;
use onceward_core::job::{self, Moved};
use onceward_core::{Namespace, Queue, Result, SessionId, Timestamp, session};

use self::edges::Edges;
use self::sent::Sent;
use super::{Inner, PostgresStore};
use crate::store::{
    AskPermits, BeginJob, Chores, ClaimJobs, ClaimedJobs, CommitOutcome, Enqueued, HandOver, HandedOver,
    JobProgress, JobRef, JobStore, LimitKeys, LimitQueue, ListJobs, MoveJob, Outstanding, PauseQueue,
    Permits, Promoted, PruneJobs, PrunedJobs, QueueRecord, Rescued, SessionRef, SessionRenewed, SettleJobs,
    SettledJob, Snapshot, TuneQueue, Want,
};

/// What a store remembers of jobs: hints, all of them.
pub(super) struct Known {
    sent: Mutex<Sent>,
    edges: Mutex<Edges>,
    /// The queues in which waiting counts as priority.
    aged: Mutex<BTreeSet<(Namespace, Queue)>>,
}

impl Known {
    /// For a store that is opened now, whose clock may be a test's.
    pub(super) fn since(now: Timestamp, test_clock: bool) -> Self {
        let edges = if test_clock { Edges::never() } else { Edges::default() };
        Self { sent: Mutex::new(Sent::since(now)), edges: Mutex::new(edges), aged: Mutex::default() }
    }

    fn aged(&self) -> MutexGuard<'_, BTreeSet<(Namespace, Queue)>> {
        self.aged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn edges(&self) -> MutexGuard<'_, Edges> {
        self.edges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Tells workers, here and elsewhere, that something has become ready.
    fn tell_queues(&self, queues: impl IntoIterator<Item = (Namespace, Queue)>) {
        let queues: BTreeSet<(Namespace, Queue)> = queues.into_iter().collect();
        for (namespace, queue) in &queues {
            self.wakes.tell_jobs(namespace, queue);
        }
    }
}

#[async_trait]
impl JobStore for PostgresStore {
    async fn session_open(&self, ask: &session::Open) -> Result<session::Record> {
        self.inner.session_open(ask).await
    }

    async fn session_renew(&self, ask: &SessionRef) -> Result<SessionRenewed> {
        self.inner.session_renew(ask).await
    }

    async fn session_close(&self, ask: &SessionRef) -> Result<bool> {
        self.inner.session_close(ask).await
    }

    async fn session_list(&self) -> Result<Snapshot<session::Record>> {
        self.inner.session_list().await
    }

    async fn session_drain(&self, id: SessionId, draining: bool) -> Result<bool> {
        self.inner.session_drain(id, draining).await
    }

    async fn job_enqueue(&self, batch: &[job::New]) -> Result<Vec<Enqueued>> {
        self.inner.job_enqueue(batch).await
    }

    async fn job_hand_over(&self, ask: &HandOver) -> Result<HandedOver> {
        self.inner.job_hand_over(ask).await
    }

    async fn job_claim(&self, ask: &ClaimJobs) -> Result<ClaimedJobs> {
        self.inner.job_claim(ask).await
    }

    async fn job_begin(&self, batch: &[BeginJob]) -> Result<Vec<bool>> {
        self.inner.job_begin(batch).await
    }

    async fn job_progress(&self, batch: &[JobProgress]) -> Result<Vec<bool>> {
        self.inner.job_progress(batch).await
    }

    async fn job_settle(&self, ask: &SettleJobs) -> Result<Vec<SettledJob>> {
        self.inner.job_settle(ask).await
    }

    async fn job_chores(&self) -> Result<Chores> {
        self.inner.job_chores().await
    }

    async fn job_promote(&self, limit: usize) -> Result<Promoted> {
        self.inner.job_promote(limit).await
    }

    async fn job_rescue(&self, limit: usize) -> Result<Rescued> {
        self.inner.job_rescue(limit).await
    }

    async fn job_overdue(&self, namespace: &Namespace, limit: usize) -> Result<Vec<JobRef>> {
        self.inner.job_overdue(namespace, limit).await
    }

    async fn job_lanes(&self, namespace: &Namespace, queues: &[Queue]) -> Result<Vec<Want>> {
        self.inner.job_lanes(namespace, queues).await
    }

    async fn job_outstanding(&self, ask: &Outstanding) -> Result<bool> {
        self.inner.job_outstanding(ask).await
    }

    async fn job_announce(&self, queues: &[(Namespace, Queue)]) -> Result<()> {
        self.inner.tell_queues(queues.iter().cloned());
        Ok(())
    }

    async fn transactions(&self, ids: &[u64]) -> Result<Vec<Option<CommitOutcome>>> {
        self.inner.transactions(ids).await
    }

    async fn job_move(&self, ask: &MoveJob) -> Result<Moved> {
        self.inner.job_move(ask).await
    }

    async fn job_lookup(&self, jobs: &[JobRef]) -> Result<Snapshot<Option<job::Record>>> {
        self.inner.job_lookup(jobs).await
    }

    async fn job_list(&self, ask: &ListJobs) -> Result<Snapshot<job::Record>> {
        self.inner.job_list(ask).await
    }

    async fn queue_pause(&self, ask: &PauseQueue) -> Result<()> {
        self.inner.queue_pause(ask).await
    }

    async fn queue_limit(&self, ask: &LimitQueue) -> Result<()> {
        self.inner.queue_limit(ask).await
    }

    async fn queue_limit_keys(&self, ask: &LimitKeys) -> Result<()> {
        self.inner.queue_limit_keys(ask).await
    }

    async fn queue_tune(&self, ask: &TuneQueue) -> Result<()> {
        self.inner.queue_tune(ask).await
    }

    async fn queue_tunings(&self, namespace: &Namespace) -> Result<Vec<(Queue, Tuning)>> {
        self.inner.queue_tunings(namespace).await
    }

    async fn queue_permits(&self, batch: &[AskPermits]) -> Result<Vec<Permits>> {
        self.inner.queue_permits(batch).await
    }

    async fn queue_list(&self, namespace: &Namespace) -> Result<Vec<QueueRecord>> {
        self.inner.queue_list(namespace).await
    }

    async fn job_prune(&self, ask: &PruneJobs) -> Result<PrunedJobs> {
        self.inner.job_prune(ask).await
    }
}
