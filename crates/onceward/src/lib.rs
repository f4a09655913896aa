//! Work that runs once and only moves forward.
//!
//! [`Onceward`] gives a backend these primitives on a database it has anyway (SQLite embedded, or PostgreSQL):
//!
//! - a [`lease`](Onceward::lease): ownership of a key for a while, with a fencing token that only ever grows;
//! - [`once`](Onceward::once): a function that starts at most once under a key, its outcome replayed to everybody else,
//!   and an honest [`Uncertain`](Outcome::Uncertain) where nobody can know;
//! - [`jobs`]: work that is [enqueued](Onceward::enqueue), in the caller's own transaction where that is wanted, and
//!   then run by [workers](Onceward::worker) until it is done, dead, or honestly uncertain;
//! - [`durable`](mod@durable) functions: plain `async fn`s that survive crashes.
//! - a [`service`](Onceward::service): a chore that one runner of the cluster does per cycle, in its time slot,
//!   fenced; and a
//!   [`schedule`](Onceward::schedule), which enqueues jobs by the clock, each tick once.
//!
//! ```
//! use onceward::{Onceward, Outcome};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
//! let ow = Onceward::connect("memory:").await?;
//! for call in 0..2 {
//!     let outcome = ow.once("payment-order-789").run(async |_| Ok("charge ch_1".to_owned())).await?;
//!     assert_eq!(outcome, Outcome::Done { value: "charge ch_1".to_owned(), replayed: call > 0 });
//! }
//! # Ok::<(), onceward::Error>(()) })?;
//! # Ok(()) }
//! ```
//!
//! What is promised, where the promise ends, and how it is proved stands in `docs/concepts/promises.md`.

mod admin;
mod bells;
mod client;
mod commits;
pub mod durable;
mod ears;
#[cfg(feature = "http-jobs")]
pub mod endpoints;
mod hold;
#[cfg(feature = "tower")]
pub mod http;
#[cfg(feature = "http-jobs")]
pub mod http_jobs;
pub mod jobs;
pub mod lease;
pub mod once;
mod renewer;
pub mod schedule;
pub mod service;
mod switchboard;
#[cfg(feature = "testing")]
pub mod testing;
pub mod trigger;
#[cfg(feature = "http-jobs")]
pub mod webhook;
pub mod worker;

/// The code in the guides is compiled, and where it says nothing else, run.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../../../docs/guides/durable-tutorial.md")]
    mod tutorial {}
    #[doc = include_str!("../../../docs/guides/durable-versioning.md")]
    mod versioning {}
}

/// Makes a type the payload of a job; see the trait of the same name.
pub use onceward_macros::Job;
/// Makes an `async fn` a durable function; see the module of the same name.
pub use onceward_macros::durable;

pub use onceward_core::{
    Code, EndpointName, Error, Fault, JobId, Key, Kind, Namespace, Owner, Queue, Result, ScheduleName,
    ServiceName, SessionId, Tag, Timestamp, Token, TriggerName,
};
pub use onceward_core::{duration, history, limits};
pub use onceward_store as store;

pub use admin::{
    Admin, Bulk, BulkAction, BulkJobs, ForkedRun, JobFilter, JobResolution, ListedRunner, QueueView, Replay,
    Replayed, RetriedRun, RunAction, RunFilter, RunFork,
};
pub use client::{ConnectOptions, Onceward};
pub use hold::Lost;
pub use jobs::Job;
pub use lease::Lease;
pub use once::{Attempt, Classify, NotDone, Outcome, Verdict};
