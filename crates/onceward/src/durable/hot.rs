//! The runs that are in the memory of this process: what arrives for them need not take the way through the store.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use onceward_core::run::Arrival;
use onceward_core::{JobId, Token};
use onceward_store::JobRef;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Under which token each was taken up, and where what arrives for it goes.
type Runs = HashMap<JobId, (Token, UnboundedSender<Vec<Arrival>>)>;

/// What is in memory.
#[derive(Default)]
pub(crate) struct Hot {
    runs: Mutex<Runs>,
    /// Rung when a run of this process has ended.
    pub(crate) ended: Notify,
}

impl Hot {
    fn lock(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run has been taken up under this token: what arrives for it comes out of the receiver.
    pub(crate) fn enter(&self, id: JobId, token: Token) -> UnboundedReceiver<Vec<Arrival>> {
        let (sender, receiver) = unbounded_channel();
        self.lock().insert(id, (token, sender));
        receiver
    }

    /// It is not in memory any more.
    pub(crate) fn leave(&self, id: JobId, token: Token) {
        let mut runs = self.lock();
        if runs.get(&id).is_some_and(|(of, _)| *of == token) {
            runs.remove(&id);
        }
    }

    /// Tells a run what has arrived; `false` where it is not here.
    pub(crate) fn tell(&self, id: JobId, arrivals: Vec<Arrival>) -> bool {
        self.lock().get(&id).is_some_and(|(_, sender)| sender.send(arrivals).is_ok())
    }

    /// Those of these runs that are here, and under which token.
    pub(crate) fn those(&self, runs: Vec<JobRef>) -> Vec<(JobRef, Token)> {
        let here = self.lock();
        let token = |run: &JobRef| here.get(&run.id).map(|(token, _)| *token);
        runs.into_iter().filter_map(|run| token(&run).map(|token| (run, token))).collect()
    }

    /// Tells an attempt of a run what has arrived, if it still is the one that is here: another one may have taken it.
    pub(crate) fn tell_attempt(&self, id: JobId, token: Token, arrivals: Vec<Arrival>) {
        if let Some((_, sender)) = self.lock().get(&id).filter(|(of, _)| *of == token) {
            // One that has just ended hears nothing.
            let _ = sender.send(arrivals);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}
