//! Renews every claim of the process: one thread, one connection, one statement per interval whatever it holds.
//!
//! The thread has a runtime of its own, so that user code that blocks all of its threads can't starve a renewal (G9,
//! N7). It sleeps until the next renewal is due; watching a claim costs a lock and a tree insert, and wakes the thread
//! only if the new claim is due before everything else.

mod agenda;
#[cfg(test)]
mod tests;
mod thread;

use core::time::Duration;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onceward_core::{Result, Timestamp, lease, limits};
use onceward_store::{
    ClaimRef, LeaveLease, ReleaseLease, Renew, SessionRef, SessionRenewed, SettleOnce, Store,
};
use tokio::sync::{Notify, oneshot};

use self::agenda::{State, Watched};
use crate::hold::Hold;

/// What is renewed.
#[derive(Clone)]
pub(crate) enum Subject {
    /// A lease.
    Lease(ClaimRef),
    /// A once.
    Once(ClaimRef),
    /// The session of a worker, and who hears what its renewals say.
    Session(SessionRef, Arc<dyn SessionNews>),
}

/// Who hears what the renewals of a session say. Called on the renewer's thread: it must not wait for anything.
pub(crate) trait SessionNews: Send + Sync {
    fn renewed(&self, answer: &SessionRenewed);
}

/// A claim under the renewer's care; dropping it ends the care, nothing else.
pub(crate) struct Watch {
    id: u64,
    shared: Arc<Shared>,
}

/// Something to be sent for somebody who can't wait for it.
pub(crate) enum Farewell {
    Leave(LeaveLease),
    Release(ReleaseLease),
    Settle(SettleOnce),
}

pub(crate) struct Renewer {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    bell: Notify,
    /// How many farewells are on their way or wait for it.
    farewells: AtomicUsize,
    /// Starts the thread: a test may have none.
    spawn: fn(Arc<Self>) -> io::Result<()>,
    state: Mutex<State>,
}

impl Renewer {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self::on(store, |shared| {
            let thread = std::thread::Builder::new().name("onceward-renew".to_owned());
            thread.spawn(move || thread::run(&shared)).map(drop)
        })
    }

    fn on(store: Arc<dyn Store>, spawn: fn(Arc<Shared>) -> io::Result<()>) -> Self {
        let (bell, farewells, state) = (Notify::new(), AtomicUsize::new(0), Mutex::default());
        Self { shared: Arc::new(Shared { store, bell, farewells, spawn, state }) }
    }

    /// Takes a claim into care: renews it if `auto`, and says when it is lost.
    pub(crate) fn watch(&self, subject: Subject, ttl: Duration, auto: bool, hold: Arc<Hold>) -> Watch {
        let mut state = self.shared.lock();
        let id = state.next_id;
        state.next_id += 1;
        let renew_at = self.shared.store.clock().boottime().after(lease::renew_interval(ttl));
        let mut watched =
            Watched { subject, ttl, auto, hold, renew_at, due: 0, in_flight: false, asked: vec![] };
        watched.due = watched.next_look();
        let due = watched.due;
        state.agenda.insert((due, id));
        state.watched.insert(id, watched);
        let wake = !state.running || due < state.sleeping_until;
        self.shared.start(&mut state);
        drop(state);
        if wake {
            self.shared.bell.notify_one();
        }
        Watch { id, shared: Arc::clone(&self.shared) }
    }

    /// Sends something in the background, trying for a while.
    pub(crate) fn send(&self, farewell: Farewell) {
        if self.shared.farewells.fetch_add(1, Ordering::SeqCst) >= limits::LANE_WAITING_MAX {
            self.shared.farewells.fetch_sub(1, Ordering::SeqCst);
            return tracing::warn!(
                "too many farewells wait for the store already; the claim runs out by itself"
            );
        }
        let mut state = self.shared.lock();
        state.farewells.push(farewell);
        self.shared.start(&mut state);
        drop(state);
        self.shared.bell.notify_one();
    }

    /// Sends what is left and ends the thread.
    pub(crate) async fn finish(&self) {
        let done = {
            let mut state = self.shared.lock();
            if !state.running {
                return;
            }
            let (tell, done) = oneshot::channel();
            state.finishing.get_or_insert_default().push(tell);
            done
        };
        self.shared.bell.notify_one();
        // The thread drops the sender when it ends, with or without a word.
        let _ = done.await;
    }
}

impl Drop for Renewer {
    fn drop(&mut self) {
        self.shared.lock().finishing.get_or_insert_default();
        self.shared.bell.notify_one();
    }
}

impl Watch {
    /// Renews now, and waits for the answer.
    pub(crate) async fn renew_now(&self) -> Result<Renew> {
        let (tell, answer) = oneshot::channel();
        {
            let mut state = self.shared.lock();
            let Some(watched) = state.watched.get_mut(&self.id) else { return Ok(Renew::Lost) };
            watched.asked.push(tell);
            watched.renew_at = Timestamp::from_micros(0);
            state.reschedule(self.id);
        }
        self.shared.bell.notify_one();
        answer.await.unwrap_or(Ok(Renew::Lost))
    }
}

impl Watch {
    /// Renews no more.
    pub(crate) fn stop(&self) {
        let mut state = self.shared.lock();
        if let Some(watched) = state.watched.remove(&self.id) {
            state.agenda.remove(&(watched.due, self.id));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; the agenda is consistent between any two calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread if it does not run: the first claim of a process, or one after `finish`.
    fn start(self: &Arc<Self>, state: &mut State) {
        if state.running {
            return;
        }
        match (self.spawn)(Arc::clone(self)) {
            Ok(()) => state.running = true,
            Err(error) => {
                tracing::error!(%error, "the renewing thread can't be started");
                state.abandon();
            }
        }
    }
}
