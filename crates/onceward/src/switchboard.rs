//! Wakes those who wait for a key, and only them: the store's hints, sorted by key.

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use onceward_core::{Key, Namespace};
use onceward_store::{Store, Wake};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex as FairMutex, Notify};

type Name = (Namespace, Key);

/// One key somebody in this process waits for.
#[derive(Default)]
pub(crate) struct Line {
    /// Rung when something happened to the key.
    pub(crate) bell: Notify,
    /// Held by the one waiter that deals with the store; the others stand behind it in order (N12).
    pub(crate) head: FairMutex<()>,
    /// How often it was rung by name, and how often because of something that nobody could name.
    named: AtomicU64,
    rumours: AtomicU64,
}

impl Line {
    /// How often it was rung by name.
    pub(crate) fn named(&self) -> u64 {
        self.named.load(Ordering::SeqCst)
    }

    /// How often it was rung because something has happened, and nobody knows to whom.
    pub(crate) fn rumours(&self) -> u64 {
        self.rumours.load(Ordering::SeqCst)
    }
}

pub(crate) struct Switchboard {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    by_key: HashMap<Name, Weak<Line>>,
    /// Which listener is at work, if one is.
    listening: Option<u64>,
    listeners: u64,
}

impl Switchboard {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { shared: Arc::new(Shared { store, lines: Mutex::default() }) }
    }

    /// The line of a key. As long as somebody holds one, the store's hints are listened to.
    pub(crate) fn line(&self, namespace: &Namespace, key: &Key) -> Arc<Line> {
        let mut lines = self.shared.lock();
        let name = (namespace.clone(), key.clone());
        let line = lines.by_key.get(&name).and_then(Weak::upgrade).unwrap_or_else(|| {
            let line = Arc::new(Line::default());
            lines.by_key.insert(name, Arc::downgrade(&line));
            line
        });
        if lines.listening.is_none() {
            lines.listeners += 1;
            let number = lines.listeners;
            lines.listening = Some(number);
            tokio::spawn(listen(Arc::downgrade(&self.shared), Listening(Arc::clone(&self.shared), number)));
        }
        line
    }

    /// Rings a key's bell from within this process.
    pub(crate) fn ring(&self, namespace: &Namespace, key: &Key) {
        self.shared.ring(namespace, key);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        // A map stays a map whatever panicked.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self, namespace: &Namespace, key: &Key) {
        let lines = self.lock();
        if lines.by_key.is_empty() {
            return;
        }
        if let Some(line) = lines.by_key.get(&(namespace.clone(), key.clone())).and_then(Weak::upgrade) {
            line.named.fetch_add(1, Ordering::SeqCst);
            line.bell.notify_waiters();
        }
    }

    fn ring_all(&self) {
        for line in self.lock().by_key.values().filter_map(Weak::upgrade) {
            line.rumours.fetch_add(1, Ordering::SeqCst);
            line.bell.notify_waiters();
        }
    }

    /// Forgets keys nobody waits for; `false` when none is left, and listening may end.
    fn tidy(&self) -> bool {
        let mut lines = self.lock();
        lines.by_key.retain(|_, line| line.strong_count() > 0);
        // Under the same lock: whoever comes after this starts a listener of its own.
        if lines.by_key.is_empty() {
            lines.listening = None;
        }
        !lines.by_key.is_empty()
    }
}

/// Says that nobody listens any more, also when the runtime goes away under the listener.
struct Listening(Arc<Shared>, u64);

impl Drop for Listening {
    fn drop(&mut self) {
        let mut lines = self.0.lock();
        // Another one may have taken over already.
        if lines.listening == Some(self.1) {
            lines.listening = None;
        }
    }
}

/// Passes the store's hints on until nobody waits any more.
async fn listen(shared: Weak<Shared>, listening: Listening) {
    let mut wakes = listening.0.store.subscribe();
    let pause = core::time::Duration::from_secs(1);
    let mut tidied = tokio::time::Instant::now();
    loop {
        let wake = tokio::time::timeout(pause, wakes.recv()).await;
        let Some(shared) = shared.upgrade() else { return };
        match wake {
            Ok(Ok(Wake::Lease(namespace, key))) => shared.ring(&namespace, &key),
            Ok(Ok(Wake::Jobs(..))) => {}
            Ok(Ok(Wake::Anything) | Err(RecvError::Lagged(_))) => shared.ring_all(),
            Ok(Err(RecvError::Closed)) => return,
            Err(_) => {}
        }
        if tidied.elapsed() >= pause {
            if !shared.tidy() {
                return;
            }
            tidied = tokio::time::Instant::now();
        }
    }
}
