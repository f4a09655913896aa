//! Rings for the workers of this process when jobs were enqueued in it: they need not wait for the store's hint.

use core::ops::ControlFlow;
use core::sync::atomic::AtomicBool;
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use onceward_core::job::New;
use onceward_core::{Namespace, Queue, Result, Timestamp};
use onceward_store::Enqueued;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::client::Onceward;

/// The bells of the workers of one client.
#[derive(Default)]
pub(crate) struct Bells {
    workers: Mutex<Vec<Weak<Bell>>>,
}

/// What one worker listens to.
pub(crate) struct Bell {
    pub(crate) namespace: Namespace,
    pub(crate) queues: Vec<Queue>,
    taker: OnceLock<Weak<dyn Taker>>,
    /// Rung when something may have become ready.
    pub(crate) rung: Notify,
    /// When something will be due, as far as this process knows; rung when that is sooner than it was.
    due: Mutex<Option<Instant>>,
    pub(crate) sooner: Notify,
}

/// The answer to a job that a worker has taken: how its enqueue has ended.
pub(crate) struct Answer {
    pub(crate) answered: oneshot::Receiver<Result<Enqueued>>,
    /// Whether it may have been sent. It is not sent any more once the receiver has been dropped before.
    pub(crate) sent: Arc<AtomicBool>,
}

/// A worker that takes jobs of its own process at once.
pub(crate) trait Taker: Send + Sync {
    /// Takes a job, or gives it back where it can't start at once; `now` is the wall clock.
    fn offer(&self, new: New, now: Timestamp) -> ControlFlow<Answer, New>;
}

/// What workers are told when a job was enqueued.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct News {
    namespace: Namespace,
    queue: Queue,
    /// How long it is until the job is due.
    delay: Duration,
    /// Whether something has arrived for a run, which is woken first.
    wakes: bool,
}

impl News {
    /// What is told of a job; `now` is the wall clock.
    pub(crate) fn of(new: &New, now: Timestamp) -> Self {
        let (namespace, queue) = (new.namespace.clone(), new.queue.clone());
        Self { namespace, queue, delay: new.due(now).since(now), wakes: false }
    }

    /// Something has arrived for a run.
    pub(crate) fn arrival(namespace: Namespace, queue: Queue) -> Self {
        Self { namespace, queue, delay: Duration::ZERO, wakes: true }
    }

    /// Whether it is told of runs that have to be woken.
    pub(crate) fn wakes(&self) -> bool {
        self.wakes
    }

    /// The queue it is about.
    pub(crate) fn queue(&self) -> (Namespace, Queue) {
        (self.namespace.clone(), self.queue.clone())
    }
}

impl Onceward {
    /// Tells workers, of this process and of others, that jobs of these queues have become ready. They would find them
    /// by looking.
    pub(crate) async fn tell_workers(&self, queues: &[(Namespace, Queue)]) {
        if queues.is_empty() {
            return;
        }
        for (namespace, queue) in queues {
            self.inner.bells.ring(namespace, queue);
        }
        if let Err(error) = self.store().job_announce(queues).await {
            tracing::debug!(%error, "other workers could not be told of ready jobs; they find them by looking");
        }
    }
}

impl Bells {
    /// Adds a bell; it is forgotten when its worker drops it.
    pub(crate) fn hang(&self, bell: &Arc<Bell>) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|bell| bell.strong_count() > 0);
        workers.push(Arc::downgrade(bell));
    }

    /// Jobs of this queue are ready.
    pub(crate) fn ring(&self, namespace: &Namespace, queue: &Queue) {
        self.each(namespace, queue, |bell| bell.rung.notify_one());
    }

    /// A job was enqueued.
    pub(crate) fn tell(&self, news: &News) {
        if news.delay.is_zero() {
            return self.ring(&news.namespace, &news.queue);
        }
        self.each(&news.namespace, &news.queue, |bell| bell.due_in(news.delay));
    }

    /// Offers a job to the workers of its queue; gives it back where none takes it.
    pub(crate) fn offer(&self, mut new: New, now: Timestamp) -> ControlFlow<Answer, New> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        for bell in workers.iter().filter_map(Weak::upgrade) {
            let Some(taker) = bell.taker.get().filter(|_| bell.wants(&new.namespace, &new.queue)) else {
                continue;
            };
            let Some(taker) = taker.upgrade() else { continue };
            match taker.offer(new, now) {
                ControlFlow::Break(answer) => return ControlFlow::Break(answer),
                ControlFlow::Continue(back) => new = back,
            }
        }
        ControlFlow::Continue(new)
    }

    fn each(&self, namespace: &Namespace, queue: &Queue, tell: impl Fn(&Bell)) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        for bell in workers.iter().filter_map(Weak::upgrade).filter(|bell| bell.wants(namespace, queue)) {
            tell(&bell);
        }
    }
}

impl Bell {
    pub(crate) fn new(namespace: Namespace, queues: Vec<Queue>) -> Self {
        let (rung, sooner) = (Notify::new(), Notify::new());
        Self { namespace, queues, taker: OnceLock::new(), rung, due: Mutex::default(), sooner }
    }

    /// From now on its worker is offered jobs.
    pub(crate) fn set_taker(&self, taker: Weak<dyn Taker>) {
        // A worker starts once.
        let _ = self.taker.set(taker);
    }

    /// Something will be due after this time.
    pub(crate) fn due_in(&self, delay: Duration) {
        let Some(at) = Instant::now().checked_add(delay) else { return };
        let mut due = self.lock();
        if due.is_none_or(|due| at < due) {
            *due = Some(at);
            self.sooner.notify_one();
        }
    }

    /// When something will be due, as far as this process knows.
    pub(crate) fn due(&self) -> Option<Instant> {
        *self.lock()
    }

    /// From now on the store is asked what is due next.
    pub(crate) fn forget_due(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wants(&self, namespace: &Namespace, queue: &Queue) -> bool {
        self.namespace == *namespace && self.queues.contains(queue)
    }
}
