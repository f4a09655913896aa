//! Rings for the workers of this process when jobs were enqueued in it: they need not wait for the store's hint.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use onceward_core::{Namespace, Queue};
use tokio::sync::Notify;

/// The bells of the workers of one client.
#[derive(Default)]
pub(crate) struct Bells {
    workers: Mutex<Vec<Weak<Bell>>>,
}

/// What one worker listens to.
pub(crate) struct Bell {
    pub(crate) namespace: Namespace,
    pub(crate) queues: Vec<Queue>,
    /// Something may have become ready, or will be soon.
    pub(crate) rung: Notify,
}

impl Bells {
    /// Adds a bell; it is forgotten when its worker drops it.
    pub(crate) fn hang(&self, bell: &Arc<Bell>) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|bell| bell.strong_count() > 0);
        workers.push(Arc::downgrade(bell));
    }

    /// Jobs of this queue were enqueued.
    pub(crate) fn ring(&self, namespace: &Namespace, queue: &Queue) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        for bell in workers.iter().filter_map(Weak::upgrade).filter(|bell| bell.wants(namespace, queue)) {
            bell.rung.notify_one();
        }
    }
}

impl Bell {
    pub(crate) fn wants(&self, namespace: &Namespace, queue: &Queue) -> bool {
        self.namespace == *namespace && self.queues.contains(queue)
    }
}
