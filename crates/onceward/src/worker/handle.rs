//! A worker that runs: looking at it, and ending it.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use onceward_core::{Result, SessionId};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::attempt::Stop;
use super::shared::{Mode, Shared};
use super::{empty, hand_over, session};
use crate::service::Served;

/// A worker that runs. Dropping it ends it as [`shutdown`](Self::shutdown) does, in the background.
pub struct WorkerHandle {
    shared: Arc<Shared>,
    served: Option<Served>,
    parts: Option<JoinSet<()>>,
}

impl fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerHandle")
            .field("session", &self.session())
            .field("ready", &self.is_ready())
            .field("running", &self.running())
            .finish_non_exhaustive()
    }
}

impl WorkerHandle {
    pub(super) fn new(shared: Arc<Shared>, parts: JoinSet<()>, served: Option<Served>) -> Self {
        Self { shared, served, parts: Some(parts) }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether it takes jobs: it has a session that lasts, and nobody has asked it to stop.
    pub fn is_ready(&self) -> bool {
        self.shared.status.borrow().claims_for().is_some()
    }

    /// How many jobs it runs now.
    pub fn running(&self) -> usize {
        self.shared.pool.running()
    }

    /// How many jobs it has in its hands: waiting for a slot, running, or ended and not recorded yet.
    pub fn held(&self) -> usize {
        self.shared.pool.held()
    }

    /// How many attempts of this worker ended when the job was no longer theirs: the worker was paused or cut off for
    /// so long that others had taken its jobs over. What they had to record was refused and has changed nothing; what
    /// else they did, the job's next attempt may have done as well.
    pub fn stale_endings(&self) -> u64 {
        self.shared.around.stale()
    }

    /// Its session, while it has one.
    pub fn session(&self) -> Option<SessionId> {
        self.shared.status.borrow().session.as_ref().map(|session| session.id)
    }

    /// Whether all work of its services that was told to stop has stopped; see
    /// [`RunnerHandle::is_healthy`](crate::service::RunnerHandle::is_healthy).
    pub fn is_healthy(&self) -> bool {
        self.served.as_ref().is_none_or(Served::is_healthy)
    }

    /// Takes no more jobs from now on, and gives back those it has not started. What runs goes on; the worker stays
    /// until [`shutdown`](Self::shutdown).
    pub fn drain(&self) {
        set_mode(&self.shared, Mode::Draining);
    }

    /// Takes no more jobs, and waits until those it has started have ended and are recorded.
    ///
    /// Cancel safe.
    pub async fn drained(&self) {
        self.drain();
        self.shared.until_claimed().await;
        self.shared.pool.until_idle().await;
    }

    /// Ends the worker: it takes no more jobs, gives back unchanged what it has not started, waits for what runs,
    /// at most as long as its [`grace`](super::WorkerBuilder::grace), then tells it to stop, and drops what does
    /// not within two seconds, or as long as [`leave`](super::WorkerBuilder::leave) says. What was dropped is rescued
    /// by another worker, and counts as a lost attempt.
    ///
    /// Cancel safety: once it was polled, the worker ends whether this is waited for or not.
    pub async fn shutdown(mut self) {
        let Some(parts) = self.parts.take() else { return };
        if let Err(error) = tokio::spawn(end(Arc::clone(&self.shared), parts, self.served.take())).await {
            tracing::error!(%error, "the worker ended in an unforeseen way");
        }
    }

    /// Waits until its queues hold no job of a kind it can run that is ready, retrying, due within `horizon`, or
    /// claimed by anybody.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn empty(&self, horizon: Duration) -> Result<()> {
        empty::wait(self, horizon).await
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else { return };
        // Without a runtime there are no parts any more either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(end(Arc::clone(&self.shared), parts, self.served.take()));
        }
    }
}

fn set_mode(shared: &Shared, mode: Mode) {
    shared.status.send_if_modified(|status| {
        let later = mode > status.mode;
        if later {
            status.mode = mode;
        }
        later
    });
}

async fn end(shared: Arc<Shared>, mut parts: JoinSet<()>, served: Option<Served>) {
    set_mode(&shared, Mode::Leaving);
    // While jobs come to their end, the services go to others.
    let served = tokio::spawn(async move {
        if let Some(served) = served {
            served.leave().await;
        }
    });
    hand_over::close(&shared).await;
    shared.until_claimed().await;
    shared.hand_back(shared.pool.take_ready());
    if timeout(shared.grace, shared.pool.until_idle()).await.is_err() {
        shared.pool.stop(Stop::Leaving, |_| true);
        let last = shared.leave.saturating_add(Duration::from_secs(5));
        if timeout(last, shared.pool.until_idle()).await.is_err() {
            tracing::warn!(jobs = shared.pool.held(), "the worker leaves jobs behind; they will be rescued");
        }
    }
    let stale_endings = shared.around.stale();
    if stale_endings > 0 {
        tracing::warn!(stale_endings, "the worker leaves; so many of its attempts had ended too late");
    }
    if let Err(error) = served.await {
        tracing::error!(%error, "the services of a worker ended in an unforeseen way");
    }
    set_mode(&shared, Mode::Gone);
    session::close(&shared).await;
    parts.shutdown().await;
}
