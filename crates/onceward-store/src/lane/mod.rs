//! Natural batching: the only way the hot verbs reach a store.
//!
//! A call is sent at once. While its statement is in flight, the calls that arrive are collected, and go out together
//! as the next statement. There are no timers: nothing waits when the store is idle, and batches grow by themselves
//! under load. The laws, each a test in `tests.rs`:
//!
//! 1. A batch never waits for one of its rows: where an open transaction holds one, the store gives up within 50 ms,
//!    and the rows go out one by one, the locked key apart from the others for a while.
//! 2. A batch never fails for one of its rows.
//! 3. A batch holds one row per key, and a key is in one batch at a time.
//! 4. An answer nobody waits for any more is undone: the lease is given back, the claim is marked not started.
//! 5. An ambiguous answer is resolved by asking again with the same session or token, never by guessing (G5).
//! 6. Queues are bounded, and every call ends by its deadline.
//!
//! Renewals don't come this way; they have a thread and a connection of their own.

mod queue;
#[cfg(all(test, feature = "conformance"))]
mod tests;
mod verbs;

use core::time::Duration;
use std::sync::Arc;

use onceward_core::once::Settle;
use onceward_core::{Result, lease, once};

use self::queue::Lane;
use self::verbs::{AcquireLease, ClaimOnce, ReleaseLeases, SettleOnces};
use crate::{Acquired, Claimed, ReleaseLease, SettleOnce, Store};

/// The hot verbs of one store, one row a call, batched underneath. Clones share the lanes.
#[derive(Clone)]
pub struct Lanes {
    store: Arc<dyn Store>,
    deadline: Duration,
    acquire: Lane<AcquireLease>,
    release: Lane<ReleaseLeases>,
    claim: Lane<ClaimOnce>,
    settle: Lane<SettleOnces>,
}

impl Lanes {
    /// Lanes to `store` that give up a call after `deadline`.
    pub fn new(store: Arc<dyn Store>, deadline: Duration) -> Self {
        Self {
            deadline,
            acquire: Lane::new(&store),
            release: Lane::new(&store),
            claim: Lane::new(&store),
            settle: Lane::new(&store),
            store,
        }
    }

    /// The store behind the lanes, for the verbs that need no batching.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// How long a call tries.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Takes a lease. Dropping the future gives back what may have been granted.
    ///
    /// # Errors
    /// [`StoreUnavailable`](onceward_core::Code::StoreUnavailable) and the like when the deadline passes.
    pub async fn acquire(&self, ask: lease::Ask) -> Result<Acquired> {
        self.acquire.call(ask, self.deadline).await
    }

    /// Gives a lease back; `false` where the token was no longer the row's.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub async fn release(&self, ask: ReleaseLease) -> Result<bool> {
        self.release.call(ask, self.deadline).await
    }

    /// Claims a once key. Dropping the future marks what may have been granted as not started.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and [`KeyLocked`](onceward_core::Code::KeyLocked) where an open transaction
    /// holds the key.
    pub async fn claim(&self, ask: once::Ask) -> Result<Claimed> {
        self.claim.call(ask, self.deadline).await
    }

    /// Records an outcome, trying for `within`.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub async fn settle(&self, ask: SettleOnce, within: Duration) -> Result<Settle> {
        self.settle.call(ask, within).await
    }
}
