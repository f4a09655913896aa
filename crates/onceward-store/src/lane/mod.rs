//! Natural batching: the only way the hot verbs reach a store.
//!
//! A call is sent at once. While its statement is in flight, the calls that arrive are collected, and go out together
//! as the next statement. There are no timers: nothing waits when the store is idle, and batches grow by themselves
//! under load. The laws, each a test in `tests.rs`:
//!
//! 1. A batch never waits for one of its rows: where an open transaction holds one, the store gives up within 50 ms,
//!    and the rows go out one by one, the locked key apart from the others for a while.
//! 2. A batch never fails for one of its rows.
//! 3. A batch holds one row per key, and a key is in one batch at a time. (A job has up to three of them: its id, its
//!    idempotency key, its dedupe key.)
//! 4. An answer nobody waits for any more is undone: the lease is given back, the claim is marked not started.
//! 5. An ambiguous answer is resolved by asking again with the same session or token, never by guessing (G5).
//! 6. Queues are bounded, and every call ends by its deadline.
//!
//! Renewals don't come this way; they have a thread and a connection of their own.

mod bulk;
mod queue;
#[cfg(all(test, feature = "conformance"))]
mod tests;
mod verbs;
mod work;

use core::time::Duration;
use std::sync::Arc;

use onceward_core::once::Settle;
use onceward_core::run::Entry;
use onceward_core::{Result, job, lease, once};

use self::queue::Lane;
use self::verbs::{
    AcquireLease, BeginJobs, ClaimOnce, EnqueueJobs, LoadRuns, ProgressJobs, ReleaseLeases, SettleOnces,
};
use self::work::Work;
use crate::{Acquired, BeginJob, Claimed, Enqueued, JobProgress, LoadRun, ReleaseLease, SettleOnce, Store};

/// The hot verbs of one store, one row a call, batched underneath. Clones share the lanes.
#[derive(Clone)]
pub struct Lanes {
    store: Arc<dyn Store>,
    deadline: Duration,
    work: Work,
    acquire: Lane<AcquireLease>,
    release: Lane<ReleaseLeases>,
    claim: Lane<ClaimOnce>,
    settle: Lane<SettleOnces>,
    enqueue: Lane<EnqueueJobs>,
    begin: Lane<BeginJobs>,
    progress: Lane<ProgressJobs>,
    load: Lane<LoadRuns>,
}

impl Lanes {
    /// Lanes to `store` that give up a call after `deadline`.
    pub fn new(store: Arc<dyn Store>, deadline: Duration) -> Self {
        let work = Work::default();
        Self {
            deadline,
            acquire: Lane::new(&store, &work),
            release: Lane::new(&store, &work),
            claim: Lane::new(&store, &work),
            settle: Lane::new(&store, &work),
            enqueue: Lane::new(&store, &work),
            begin: Lane::new(&store, &work),
            progress: Lane::new(&store, &work),
            load: Lane::new(&store, &work),
            work,
            store,
        }
    }

    /// The store behind the lanes, for the verbs that need no batching.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// How long a call tries.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Waits, at most until `deadline`, for what is under way: statements that were sent, and what is given back
    /// because nobody took it. Nothing is refused by it: what is called meanwhile is waited for as well.
    pub async fn finish(&self, deadline: tokio::time::Instant) {
        if tokio::time::timeout_at(deadline, self.work.over()).await.is_err() {
            tracing::debug!("the store is closed before all was given back: the rest runs out by itself");
        }
    }

    /// Takes a lease. Dropping the future gives back what may have been granted.
    ///
    /// # Errors
    /// [`StoreUnavailable`](onceward_core::Code::StoreUnavailable) and the like when the deadline passes.
    pub async fn acquire(&self, ask: lease::Ask) -> Result<Acquired> {
        self.acquire.call(ask, self.deadline).await
    }

    /// Gives a lease back; `false` where the token was no longer the row's. Where an answer got lost, `true` as well if
    /// the row says that it was given back under this token.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub async fn release(&self, ask: ReleaseLease) -> Result<bool> {
        self.release.call(ask, self.deadline).await
    }

    /// Claims a once key. Dropping the future marks what may have been granted as not started.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and [`KeyLocked`](onceward_core::Code::KeyLocked) where an open transaction
    /// holds the key.
    pub async fn claim(&self, ask: once::Ask) -> Result<Claimed> {
        self.claim.call(ask, self.deadline).await
    }

    /// Records an outcome, trying for `within`.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub async fn settle(&self, ask: SettleOnce, within: Duration) -> Result<Settle> {
        self.settle.call(ask, within).await
    }

    /// Enqueues a job. An answer that got lost is asked for again under the same id.
    ///
    /// Dropping the future leaves it open whether the job is there.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and [`KeyLocked`](onceward_core::Code::KeyLocked) where an open transaction
    /// holds the job's key until the deadline.
    pub async fn enqueue(&self, new: job::New) -> Result<Enqueued> {
        self.enqueue.call(new, self.deadline).await
    }

    /// Enqueues many jobs, in the order given, in large statements that wait for nothing else. Answers in that order.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue). What was enqueued before the error stays.
    pub async fn enqueue_many(&self, jobs: Vec<job::New>) -> Result<Vec<Enqueued>> {
        bulk::enqueue(self, jobs).await.into_iter().collect()
    }

    /// The same with an answer for each job, whatever becomes of the others.
    pub async fn enqueue_each(&self, jobs: Vec<job::New>) -> Vec<Result<Enqueued>> {
        bulk::enqueue(self, jobs).await
    }

    /// Writes down that a handler starts, trying for `within`; `false`: it must not.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub async fn begin(&self, ask: BeginJob, within: Duration) -> Result<bool> {
        self.begin.call(ask, within).await
    }

    /// Writes down how far a job is, trying for `within`; `false` where the attempt is no longer the current one.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub async fn progress(&self, ask: JobProgress, within: Duration) -> Result<bool> {
        self.progress.call(ask, within).await
    }

    /// Reads a part of a journal, in order.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub async fn load(&self, ask: LoadRun) -> Result<Vec<Entry>> {
        self.load.call(ask, self.deadline).await
    }
}
