//! Keys that somebody's open transaction holds: their statements go over a connection of their own, where they may wait
//! out the lock timeout without anybody behind them.
//!
//! A batch that met a locked row does not know which of its rows it was. All of them are suspects for a while: the
//! batcher sends them one by one, and a single row of a suspected key goes apart.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use onceward_core::{Code, Error, Key, Namespace};
use tokio::time::Instant;

use super::batch::{Named, Place};

/// How long a key is suspected after it was met locked.
const SUSPICION: Duration = Duration::from_secs(3);
/// How many keys are suspected at once. More than that, and all connections are as good as any.
const SUSPECTS_MAX: usize = 4096;

#[derive(Default)]
pub(super) struct Suspects {
    until: Mutex<HashMap<(Namespace, Key), Instant>>,
}

impl Suspects {
    fn lock(&self) -> MutexGuard<'_, HashMap<(Namespace, Key), Instant>> {
        // A map stays a map whatever panicked.
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether these rows are one row of a suspected key.
    pub(super) fn holds<T: Named>(&self, places: &[Place<'_, T>]) -> bool {
        let [only] = places else { return false };
        let until = self.lock();
        if until.is_empty() {
            return false;
        }
        let (namespace, key) = only.ask.name();
        until.get(&(namespace.clone(), key.clone())).is_some_and(|until| *until > Instant::now())
    }

    /// Suspects the rows of a batch that met a locked row.
    pub(super) fn note<T: Named>(&self, places: &[Place<'_, T>], error: &Error) {
        if error.code() != Code::KeyLocked {
            return;
        }
        let (mut until, now) = (self.lock(), Instant::now());
        until.retain(|_, until| *until > now);
        for place in places.iter().take(SUSPECTS_MAX.saturating_sub(until.len())) {
            let (namespace, key) = place.ask.name();
            until.insert((namespace.clone(), key.clone()), now + SUSPICION);
        }
    }
}
