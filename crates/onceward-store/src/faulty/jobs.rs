//! The verbs of jobs, past what the script says. Rows of jobs are nobody's to lock: only leases and once keys are.

use async_trait::async_trait;
use onceward_core::job::tuning::Tuning;
use onceward_core::job::{self, Moved};
use onceward_core::{Namespace, Queue, Result, SessionId, session};

use super::{Faulty, Verb};
use crate::store::{
    AskPermits, BeginJob, Chores, ClaimJobs, ClaimedJobs, CommitOutcome, Enqueued, HandOver, HandedOver,
    JobProgress, JobRef, JobStore, LimitKeys, LimitQueue, ListJobs, MoveJob, Outstanding, PauseQueue,
    Permits, Promoted, PruneJobs, PrunedJobs, QueueRecord, Rescued, SessionRef, SessionRenewed, SettleJobs,
    SettledJob, Snapshot, TuneQueue, Want,
};

#[async_trait]
impl JobStore for Faulty {
    async fn session_open(&self, ask: &session::Open) -> Result<session::Record> {
        read!(self, SessionOpen, session_open, ask)
    }

    async fn session_renew(&self, ask: &SessionRef) -> Result<SessionRenewed> {
        read!(self, SessionRenew, session_renew, ask)
    }

    async fn session_close(&self, ask: &SessionRef) -> Result<bool> {
        read!(self, SessionClose, session_close, ask)
    }

    async fn session_list(&self) -> Result<Snapshot<session::Record>> {
        let store = self.inner.clone();
        self.call(Verb::SessionList, None, async move { store.session_list().await }).await
    }

    async fn session_drain(&self, id: SessionId, draining: bool) -> Result<bool> {
        let store = self.inner.clone();
        self.call(Verb::SessionDrain, None, async move { store.session_drain(id, draining).await }).await
    }

    async fn job_enqueue(&self, batch: &[job::New]) -> Result<Vec<Enqueued>> {
        read!(self, JobEnqueue, job_enqueue, batch)
    }

    async fn job_hand_over(&self, ask: &HandOver) -> Result<HandedOver> {
        read!(self, JobHandOver, job_hand_over, ask)
    }

    async fn job_claim(&self, ask: &ClaimJobs) -> Result<ClaimedJobs> {
        read!(self, JobClaim, job_claim, ask)
    }

    async fn job_begin(&self, batch: &[BeginJob]) -> Result<Vec<bool>> {
        read!(self, JobBegin, job_begin, batch)
    }

    async fn job_progress(&self, batch: &[JobProgress]) -> Result<Vec<bool>> {
        read!(self, JobProgress, job_progress, batch)
    }

    async fn job_settle(&self, ask: &SettleJobs) -> Result<Vec<SettledJob>> {
        read!(self, JobSettle, job_settle, ask)
    }

    async fn job_chores(&self) -> Result<Chores> {
        let store = self.inner.clone();
        self.call(Verb::JobChores, None, async move { store.job_chores().await }).await
    }

    async fn job_promote(&self, limit: usize) -> Result<Promoted> {
        let store = self.inner.clone();
        self.call(Verb::JobPromote, None, async move { store.job_promote(limit).await }).await
    }

    async fn job_rescue(&self, limit: usize) -> Result<Rescued> {
        let store = self.inner.clone();
        self.call(Verb::JobRescue, None, async move { store.job_rescue(limit).await }).await
    }

    async fn job_overdue(&self, namespace: &Namespace, limit: usize) -> Result<Vec<JobRef>> {
        let (store, namespace) = (self.inner.clone(), namespace.clone());
        let call = async move { store.job_overdue(&namespace, limit).await };
        self.call(Verb::JobOverdue, None, call).await
    }

    async fn job_lanes(&self, namespace: &Namespace, queues: &[Queue]) -> Result<Vec<Want>> {
        let (store, namespace, queues) = (self.inner.clone(), namespace.clone(), queues.to_owned());
        let call = async move { store.job_lanes(&namespace, &queues).await };
        self.call(Verb::JobLanes, None, call).await
    }

    async fn job_outstanding(&self, ask: &Outstanding) -> Result<bool> {
        read!(self, JobOutstanding, job_outstanding, ask)
    }

    async fn job_announce(&self, queues: &[(Namespace, Queue)]) -> Result<()> {
        read!(self, JobAnnounce, job_announce, queues)
    }

    async fn transactions(&self, ids: &[u64]) -> Result<Vec<Option<CommitOutcome>>> {
        read!(self, Transactions, transactions, ids)
    }

    async fn job_move(&self, ask: &MoveJob) -> Result<Moved> {
        read!(self, JobMove, job_move, ask)
    }

    async fn job_lookup(&self, jobs: &[JobRef]) -> Result<Snapshot<Option<job::Record>>> {
        read!(self, JobLookup, job_lookup, jobs)
    }

    async fn job_list(&self, ask: &ListJobs) -> Result<Snapshot<job::Record>> {
        read!(self, JobList, job_list, ask)
    }

    async fn queue_pause(&self, ask: &PauseQueue) -> Result<()> {
        read!(self, QueuePause, queue_pause, ask)
    }

    async fn queue_limit(&self, ask: &LimitQueue) -> Result<()> {
        read!(self, QueueLimit, queue_limit, ask)
    }

    async fn queue_limit_keys(&self, ask: &LimitKeys) -> Result<()> {
        read!(self, QueueLimitKeys, queue_limit_keys, ask)
    }

    async fn queue_tune(&self, ask: &TuneQueue) -> Result<()> {
        read!(self, QueueTune, queue_tune, ask)
    }

    async fn queue_tunings(&self, namespace: &Namespace) -> Result<Vec<(Queue, Tuning)>> {
        read!(self, QueueTunings, queue_tunings, namespace)
    }

    async fn queue_permits(&self, batch: &[AskPermits]) -> Result<Vec<Permits>> {
        read!(self, QueuePermits, queue_permits, batch)
    }

    async fn queue_list(&self, namespace: &Namespace) -> Result<Vec<QueueRecord>> {
        read!(self, QueueList, queue_list, namespace)
    }

    async fn job_prune(&self, ask: &PruneJobs) -> Result<PrunedJobs> {
        read!(self, JobPrune, job_prune, ask)
    }
}
