//! A runner: the services of one process, and the session it is known by.

use core::time::Duration;

use onceward_core::session::About;
use onceward_core::{Code, Error, Result, SessionId, lease, limits};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::builder::Service;
use super::presence::Presence;
use super::served::{Served, about, check};
use crate::client::Onceward;

/// A runner being described: several services in one process, with one session for all of them.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// let runner = ow
///     .runner()
///     .service(ow.service("reconcile").every("5m").does(|_| async {})?)
///     .service(ow.service("leader").always_on().does(|term| async move { term.cancelled().await; })?)
///     .scheduler()
///     .upkeep()
///     .start()
///     .await?;
/// runner.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "nothing runs before `start` or `run_until`"]
pub struct RunnerBuilder {
    client: Onceward,
    services: Vec<Service>,
    session_ttl: Duration,
    version: String,
    error: Option<Error>,
}

/// A runner at work. Dropping it lets it leave in the background.
pub struct RunnerHandle(Option<Parts>);

struct Parts {
    served: Served,
    gone: watch::Sender<bool>,
    kept: JoinHandle<()>,
}

impl core::fmt::Debug for RunnerHandle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RunnerHandle").field("session", &self.session()).finish_non_exhaustive()
    }
}

impl RunnerBuilder {
    pub(crate) fn new(client: Onceward) -> Self {
        let (session_ttl, version) = (limits::SESSION_TTL_DEFAULT, String::new());
        Self { client, services: Vec::new(), session_ttl, version, error: None }
    }

    /// Adds a service.
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// Enqueues what schedules of this namespace are due for: one of the runners that have this does it, as a leader.
    pub fn scheduler(mut self) -> Self {
        match crate::schedule::service(&self.client) {
            Ok(service) => self.services.push(service),
            Err(error) => drop(self.error.get_or_insert(error)),
        }
        self
    }

    /// Forgets what may be forgotten, makes the partitions of the coming days and drops those of the past: once every
    /// ten minutes, by one of the runners that have this.
    pub fn upkeep(mut self) -> Self {
        match super::upkeep::service(&self.client) {
            Ok(service) => self.services.push(service),
            Err(error) => drop(self.error.get_or_insert(error)),
        }
        self
    }

    /// How soon others notice that this process has died and share its slots: 1 s to 24 h, 15 s by default.
    pub fn session_ttl(mut self, ttl: Duration) -> Self {
        self.session_ttl = ttl;
        self
    }

    /// The version of the program, for people who look at runners.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Starts it: declares its services, opens its session, and lets it work in the background.
    ///
    /// # Errors
    /// [`RunnerIdle`](Code::RunnerIdle) without a service, [`ServiceTwice`](Code::ServiceTwice),
    /// [`TtlInvalid`](Code::TtlInvalid). Those of an unreachable store, after its deadline.
    pub async fn start(self) -> Result<RunnerHandle> {
        self.check()?;
        self.client.check_open()?;
        let services = about(&self.client, &self.services);
        let about = About { services, version: self.version, ..About::default() };
        let current = watch::Sender::new(None);
        let session = current.subscribe();
        let presence = Presence { client: self.client.clone(), ttl: self.session_ttl, about, current };
        let first = presence.open(self.client.inner.lanes.deadline()).await?;
        let gone = watch::Sender::new(false);
        let mut is_gone = gone.subscribe();
        let leave = async move { drop(is_gone.wait_for(|gone| *gone).await) };
        let kept = tokio::spawn(presence.keep(first, leave));
        match Served::start(self.client, self.services, session).await {
            Ok(served) => Ok(RunnerHandle(Some(Parts { served, gone, kept }))),
            Err(error) => {
                gone.send_replace(true);
                Err(error)
            }
        }
    }

    /// Runs until `signal` comes, and then leaves in order: see [`shutdown`](RunnerHandle::shutdown).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn run_until(self, signal: impl Future<Output = ()>) -> Result<()> {
        let runner = self.start().await?;
        signal.await;
        runner.shutdown().await;
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        if self.services.is_empty() {
            return Err(Error::new(
                Code::RunnerIdle,
                "the runner has no service: give it one by `.service(…)`",
            ));
        }
        check(&self.services)?;
        lease::check_ttl(self.session_ttl, self.client.ttl_min())
    }
}

impl RunnerHandle {
    /// Its session, while it has one.
    pub fn session(&self) -> Option<SessionId> {
        self.0.as_ref().and_then(|parts| parts.served.session())
    }

    /// Whether all work that was told to stop has stopped. Work that blocks its thread can't be stopped: then the
    /// process should be replaced.
    pub fn is_healthy(&self) -> bool {
        self.0.as_ref().is_some_and(|parts| parts.served.is_healthy())
    }

    /// Leaves: tells running work to stop, waits for it at most as long as its grace, hands its cycle over, and closes
    /// the session. Others go on at once.
    ///
    /// Cancel safety: once it was polled, the runner leaves whether this is waited for or not.
    pub async fn shutdown(mut self) {
        let Some(parts) = self.0.take() else { return };
        if let Err(error) = tokio::spawn(leave(parts)).await {
            tracing::error!(%error, "the runner ended in an unforeseen way");
        }
    }
}

impl Drop for RunnerHandle {
    fn drop(&mut self) {
        let Some(parts) = self.0.take() else { return };
        // Without a runtime there are no parts any more either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(leave(parts));
        }
    }
}

async fn leave(Parts { served, gone, kept }: Parts) {
    served.leave().await;
    gone.send_replace(true);
    if let Err(error) = kept.await {
        tracing::error!(%error, "the session of a runner ended in an unforeseen way");
    }
}
