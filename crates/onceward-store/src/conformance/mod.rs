//! The suite every store passes: one list of cases over a [`Harness`], run by [`suite!`](suite).
//!
//! A store that passes keeps the invariants L1-L12 and O1-O14 as far as a store can: the rest belongs to the client
//! (trust margins, waiting) and to the enlisted transactions. Cases never assume that the clock stands still, nor
//! that it runs.
//!
//! ```
//! use core::time::Duration;
//! use std::sync::Arc;
//! use onceward_store::clock::ManualClock;
//! use onceward_store::conformance::Harness;
//! use onceward_store::{Store, memory::MemoryStore};
//!
//! struct Memory { clock: ManualClock, store: Arc<dyn Store> }
//!
//! impl Memory {
//!     fn new() -> Self {
//!         let clock = ManualClock::default();
//!         Self { store: Arc::new(MemoryStore::new(Arc::new(clock.clone()))), clock }
//!     }
//! }
//!
//! #[async_trait::async_trait]
//! impl Harness for Memory {
//!     async fn store(&self) -> Arc<dyn Store> { self.store.clone() }
//!     async fn second(&self) -> Arc<dyn Store> { self.store.clone() }
//!     async fn advance(&self, by: Duration) { self.clock.advance(by) }
//! }
//!
//! onceward_store::conformance::suite!(Memory::new());
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // these are tests

mod kit;
pub mod lease_grant;
pub mod once_claim;

use core::time::Duration;
use std::sync::Arc;

use async_trait::async_trait;

use crate::Store;

/// A store under test, and the hand on its clock.
#[async_trait]
pub trait Harness: Send + Sync {
    /// The store: fresh and empty at first, the same one afterwards.
    async fn store(&self) -> Arc<dyn Store>;

    /// Another handle on the same data, as another process would open it.
    async fn second(&self) -> Arc<dyn Store>;

    /// Lets the store's clock pass, for deadlines and for retention.
    async fn advance(&self, by: Duration);

    /// Steps the store's wall clock back, as NTP or an operator does. `false` where the harness can't: the cases
    /// about clocks then prove nothing.
    async fn step_back(&self, _by: Duration) -> bool {
        false
    }
}

/// The longest a case may take before it counts as hung.
const CASE_DEADLINE: Duration = Duration::from_secs(120);

/// Runs one case, or fails when it hangs. [`suite!`](suite) calls it.
pub async fn run(case: impl Future<Output = ()>) {
    tokio::time::timeout(CASE_DEADLINE, case).await.expect("the case hangs");
}

pub use crate::conformance_suite as suite;

/// One test per case, each on a harness of its own: `suite!(expression)`. The expression may await.
#[macro_export]
macro_rules! conformance_suite {
    ($harness:expr) => {
        $crate::conformance_cases! { $harness;
            lease_grant {
                l1_a_takeover_has_a_larger_token;
                l2_a_live_lease_is_refused_and_shows_its_holder;
                l2_an_expired_lease_is_free_by_the_stores_clock;
            }
            once_claim {
                o1_a_first_claim_runs;
                o3_a_finished_key_is_replayed_byte_for_byte;
                o5_an_expired_claim_is_uncertain_and_not_run_again;
            }
        }
    };
}

/// Writes the tests of [`suite!`](suite).
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    ($harness:expr; ) => {};
    ($harness:expr; $area:ident { $($case:ident;)* } $($rest:tt)*) => {
        mod $area {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    let harness = $harness;
                    $crate::conformance::run($crate::conformance::$area::$case(&harness)).await;
                }
            )*
        }
        $crate::conformance_cases! { $harness; $($rest)* }
    };
}
