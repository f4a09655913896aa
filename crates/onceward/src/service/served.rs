//! The services of a process at work, whoever's session it is known by: a runner's or a worker's.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use onceward_core::{Code, Error, Result, SessionId, backoff};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::builder::{Service, declare};
use super::keep;
use crate::client::Onceward;

/// What the services of a process share.
pub(super) struct Shared {
    pub(super) client: Onceward,
    pub(super) session: watch::Receiver<Option<SessionId>>,
    pub(super) leaving: watch::Receiver<bool>,
    /// How many pieces of work go on although they were dropped.
    pub(super) stuck: AtomicUsize,
    /// How many services there are.
    pub(super) count: u32,
}

/// Services at work. Dropped, they end where they stand.
pub(crate) struct Served {
    shared: Arc<Shared>,
    leaving: watch::Sender<bool>,
    parts: JoinSet<()>,
}

/// Refuses two services of one name.
pub(crate) fn check(services: &[Service]) -> Result<()> {
    let mut names = BTreeSet::new();
    match services.iter().find(|service| !names.insert(&service.name)) {
        None => Ok(()),
        Some(twice) => {
            let why = format!("there are two services {:?}", twice.name.as_str());
            Err(Error::new(Code::ServiceTwice, why))
        }
    }
}

/// What a session says of them.
pub(crate) fn about(client: &Onceward, services: &[Service]) -> Vec<(String, String)> {
    let namespace = client.namespace.as_str();
    services.iter().map(|service| (namespace.to_owned(), service.name.as_str().to_owned())).collect()
}

impl Served {
    /// Declares services, and runs them for the session that the watch shows.
    pub(crate) async fn start(
        client: Onceward,
        services: Vec<Service>,
        session: watch::Receiver<Option<SessionId>>,
    ) -> Result<Self> {
        for service in &services {
            declare(&client, &service.name, &service.spec).await?;
        }
        let leaving = watch::Sender::new(false);
        let told = leaving.subscribe();
        let count = u32::try_from(services.len()).unwrap_or(u32::MAX).max(1);
        let shared = Arc::new(Shared { client, session, leaving: told, stuck: AtomicUsize::new(0), count });
        let mut parts = JoinSet::new();
        for service in services {
            parts.spawn(keep_on(Arc::clone(&shared), Arc::new(service)));
        }
        Ok(Self { shared, leaving, parts })
    }

    pub(crate) fn session(&self) -> Option<SessionId> {
        *self.shared.session.borrow()
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.shared.stuck.load(Ordering::SeqCst) == 0
    }

    /// Tells running work to stop, hands its cycles over, and waits for that.
    pub(crate) async fn leave(mut self) {
        self.leaving.send_replace(true);
        while let Some(ended) = self.parts.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a service ended in an unforeseen way");
            }
        }
    }
}

/// Keeps a service going: where a mistake of ours ends its loop, it is begun again, and said so.
async fn keep_on(shared: Arc<Shared>, service: Arc<Service>) {
    let mut attempt = 0_u32;
    loop {
        let mut task = JoinSet::new();
        task.spawn(keep::keep(Arc::clone(&shared), Arc::clone(&service)));
        match task.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                tracing::error!(%error, service = %service.name, "a service is begun again after a panic");
            }
            _ => return,
        }
        let (first, cap) = (Duration::from_millis(50), Duration::from_secs(5));
        tokio::time::sleep(backoff::delay(attempt, first, cap, attempt.into())).await;
        attempt = attempt.saturating_add(1);
    }
}
