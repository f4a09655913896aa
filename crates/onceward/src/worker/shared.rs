//! What the parts of a worker share.

use core::future::Future;
use core::time::Duration;
use std::sync::Arc;

use onceward_core::job::Ending;
use onceward_core::{Kind, Owner, Tag, backoff};
use onceward_store::{SettleJob, Store};
use tokio::sync::{Mutex as FairMutex, Notify, RwLock, watch};

use super::attempt::Attempt;
use super::context::Surroundings;
use super::hand_over::Hand;
use super::journal::Journals;
use super::plan::Plan;
use super::pool::Pool;
use super::service::JobService;
use super::session::Session;
use super::settle::Settler;
use crate::bells::Bell;

/// How far a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    /// It takes jobs.
    Working,
    /// It takes no more jobs.
    Draining,
    /// It leaves.
    Leaving,
    /// It has left.
    Gone,
}

/// What decides whether jobs are claimed.
#[derive(Clone)]
pub(super) struct Status {
    pub(super) mode: Mode,
    /// Whether somebody has asked the session to take no more jobs.
    pub(super) asked_to_drain: bool,
    pub(super) session: Option<Arc<Session>>,
}

impl Status {
    /// The session to claim for, if jobs are to be claimed.
    pub(super) fn claims_for(&self) -> Option<&Arc<Session>> {
        let session = self.session.as_ref().filter(|session| session.hold.is_valid());
        session.filter(|_| self.mode == Mode::Working && !self.asked_to_drain)
    }
}

pub(super) struct Shared {
    pub(super) around: Arc<Surroundings>,
    pub(super) service: JobService,
    pub(super) tags: Vec<Tag>,
    pub(super) kinds: Vec<Kind>,
    pub(super) session_ttl: Duration,
    pub(super) about: onceward_core::session::About,
    pub(super) grace: Duration,
    /// How long a handler has once it was told that the worker leaves.
    pub(super) leave: Duration,
    /// How long it has once it was told that its job was called off.
    pub(super) calling_off: Duration,
    pub(super) pool: Arc<Pool>,
    pub(super) settler: Settler,
    pub(super) bell: Arc<Bell>,
    pub(super) hand: Hand,
    pub(super) journals: Journals,
    pub(super) status: watch::Sender<Status>,
    /// Where jobs are taken from, to begin with.
    pub(super) plan: Plan,
    /// Held while a claim is under way.
    pub(super) claiming: FairMutex<()>,
    /// Held while a hand-over is under way.
    pub(super) handing: FairMutex<()>,
    /// Held to be read while journals are being written, with which children may be claimed.
    pub(super) journaling: RwLock<()>,
    /// Rung when a job that was claimed by itself has ended, or may have become ready.
    pub(super) alone: Notify,
    /// Rung when sessions have run out that may hold jobs.
    pub(super) lost: Notify,
    /// Rung when runs may have to be woken.
    pub(super) runs: Notify,
    /// Whether it runs durable functions.
    pub(super) durable: bool,
    /// How long those stay in memory while they only wait.
    pub(super) park_after: Duration,
    /// About how many bytes they may take meanwhile.
    pub(super) waiting_memory: usize,
}

impl Shared {
    pub(super) fn store(&self) -> &Arc<dyn Store> {
        self.around.client.store()
    }

    pub(super) fn owner(&self) -> &Owner {
        &self.around.client.owner
    }

    pub(super) fn mode(&self) -> Mode {
        self.status.borrow().mode
    }

    /// Waits until nothing is being claimed that was begun before.
    pub(super) async fn until_claimed(&self) {
        drop(self.claiming.lock().await);
        drop(self.handing.lock().await);
        drop(self.journaling.write().await);
    }

    /// Puts jobs in line, and starts as many runners as there is room for.
    pub(super) fn start(self: &Arc<Self>, attempts: Vec<Arc<Attempt>>) {
        for _ in 0..self.pool.queue(attempts) {
            tokio::spawn(super::run::runner(Arc::clone(self)));
        }
    }

    /// Gives jobs back that were not started.
    pub(super) fn hand_back(&self, attempts: impl IntoIterator<Item = Arc<Attempt>>) {
        for attempt in attempts {
            self.settle(&attempt, Ending::HandedBack);
        }
    }

    /// Has the ending of an attempt recorded.
    pub(super) fn settle(&self, attempt: &Arc<Attempt>, ending: Ending) {
        self.settler.push(attempt, self.settlement(attempt, ending));
    }

    /// What is recorded of an attempt that ended like this.
    pub(super) fn settlement(&self, attempt: &Attempt, ending: Ending) -> SettleJob {
        let now = attempt.store_now(self.store().clock().boottime());
        super::settle::row(attempt, ending, now, self.owner(), self.around.kept_for(&attempt.job))
    }

    /// Jobs may have become ready.
    pub(super) fn ring(&self) {
        self.bell.rung.notify_one();
    }
}

/// Keeps a part of a worker going: one that panics is started again, and said so.
pub(super) async fn keep_going<F>(name: &'static str, shared: Arc<Shared>, part: impl Fn(Arc<Shared>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    for attempt in 0_u32.. {
        let mut task = tokio::task::JoinSet::new();
        task.spawn(part(Arc::clone(&shared)));
        match task.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                tracing::error!(%error, part = name, "a part of the worker panicked and is started again");
            }
            _ => return,
        }
        let pause =
            backoff::delay(attempt, Duration::from_millis(50), Duration::from_secs(5), attempt.into());
        tokio::time::sleep(pause).await;
    }
}
