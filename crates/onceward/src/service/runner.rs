//! A runner: the services of one process, and the session it is known by.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use onceward_core::session::About;
use onceward_core::{Code, Error, Result, SessionId, lease, limits};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::builder::{Service, declare};
use super::keep;
use super::presence::Presence;
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

/// What the parts of a runner share.
pub(super) struct Shared {
    pub(super) client: Onceward,
    pub(super) session: watch::Receiver<Option<SessionId>>,
    pub(super) leaving: watch::Receiver<bool>,
    pub(super) healthy: AtomicBool,
}

/// A runner at work. Dropping it lets it leave in the background.
pub struct RunnerHandle {
    shared: Arc<Shared>,
    leaving: watch::Sender<bool>,
    gone: watch::Sender<bool>,
    parts: Option<(JoinSet<()>, tokio::task::JoinHandle<()>)>,
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
        let namespace = self.client.namespace.as_str().to_owned();
        let names = self.services.iter().map(|service| service.name.as_str().to_owned());
        let services = names.map(|name| (namespace.clone(), name)).collect();
        for service in &self.services {
            declare(&self.client, &service.name, &service.spec).await?;
        }
        let about = About { services, version: self.version, ..About::default() };
        let current = watch::Sender::new(None);
        let session = current.subscribe();
        let presence = Presence { client: self.client.clone(), ttl: self.session_ttl, about, current };
        let first = presence.open(self.client.inner.lanes.deadline()).await?;
        let (leaving, gone) = (watch::Sender::new(false), watch::Sender::new(false));
        let shared = Arc::new(Shared {
            client: self.client,
            session,
            leaving: leaving.subscribe(),
            healthy: AtomicBool::new(true),
        });
        let mut is_gone = gone.subscribe();
        let leave = async move { drop(is_gone.wait_for(|gone| *gone).await) };
        let kept = tokio::spawn(presence.keep(first, leave));
        let mut parts = JoinSet::new();
        for service in self.services {
            parts.spawn(keep::keep(Arc::clone(&shared), Arc::new(service)));
        }
        Ok(RunnerHandle { shared, leaving, gone, parts: Some((parts, kept)) })
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
        let mut names = BTreeSet::new();
        if let Some(twice) = self.services.iter().find(|service| !names.insert(&service.name)) {
            let why = format!("there are two services {:?}", twice.name.as_str());
            return Err(Error::new(Code::ServiceTwice, why));
        }
        lease::check_ttl(self.session_ttl, self.client.ttl_min())
    }
}

impl RunnerHandle {
    /// Its session, while it has one.
    pub fn session(&self) -> Option<SessionId> {
        *self.shared.session.borrow()
    }

    /// Whether all work that was told to stop has stopped. Work that blocks its thread can't be stopped: then the
    /// process should be replaced.
    pub fn is_healthy(&self) -> bool {
        self.shared.healthy.load(Ordering::SeqCst)
    }

    /// Leaves: tells running work to stop, waits for it at most as long as its grace, hands its cycle over, and closes
    /// the session. Others go on at once.
    ///
    /// Cancel safety: once it was polled, the runner leaves whether this is waited for or not.
    pub async fn shutdown(mut self) {
        let Some(parts) = self.parts.take() else { return };
        let (leaving, gone) = (self.leaving.clone(), self.gone.clone());
        if let Err(error) = tokio::spawn(leave(leaving, gone, parts)).await {
            tracing::error!(%error, "the runner ended in an unforeseen way");
        }
    }
}

impl Drop for RunnerHandle {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else { return };
        // Without a runtime there are no parts any more either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(leave(self.leaving.clone(), self.gone.clone(), parts));
        }
    }
}

async fn leave(
    leaving: watch::Sender<bool>,
    gone: watch::Sender<bool>,
    (mut parts, kept): (JoinSet<()>, tokio::task::JoinHandle<()>),
) {
    leaving.send_replace(true);
    while let Some(ended) = parts.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a service ended in an unforeseen way");
        }
    }
    gone.send_replace(true);
    if let Err(error) = kept.await {
        tracing::error!(%error, "the session of a runner ended in an unforeseen way");
    }
}
