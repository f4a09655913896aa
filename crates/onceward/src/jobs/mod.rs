//! Work to be done later, by any process: what a job is, and how it is enqueued. The [`worker`](crate::worker) runs it.

mod builder;
mod in_transaction;
mod many;
mod options;
pub(crate) mod overdue;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use onceward_core::job::keys::{KEY_CONCURRENCY, KEY_CONCURRENCY_MAX, check_key_concurrency};
pub use onceward_core::job::limit::{Limits, Rate};
pub use onceward_core::job::tuning::Tuning;
pub use onceward_core::job::{Attempt, DedupeScope, Growth, Moved, OnConflict, Record, Retry, State};
pub use onceward_core::{JobId, Kind, Queue, Tag};

pub use builder::{Enqueue, Enqueued};
pub use many::IntoEnqueue;
pub use options::JobOptions;

pub(crate) use builder::{JSON, send};
pub(crate) use in_transaction::enqueue_in;
pub(crate) use many::{enqueue_each, enqueue_many};

/// A type whose values are payloads of jobs, kept as JSON.
///
/// Derive it, or write it by hand:
///
/// ```
/// use onceward::jobs::JobOptions;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, onceward::Job)]
/// #[job(kind = "mail.welcome", queue = "mail", max_attempts = 8)]
/// struct Welcome {
///     user: u64,
/// }
///
/// #[derive(Serialize, Deserialize)]
/// struct Goodbye(u64);
///
/// impl onceward::Job for Goodbye {
///     const KIND: &'static str = "mail.goodbye";
///     const OPTIONS: JobOptions = JobOptions::new().queue("mail").max_attempts(8);
/// }
/// ```
///
/// Jobs outlive the program that enqueued them: give fields that come later a `#[serde(default)]`, and never reuse a
/// kind for something else.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a job",
    label = "not a job",
    note = "put `#[derive(Serialize, Deserialize, onceward::Job)]` and `#[job(kind = \"…\")]` on the type"
)]
pub trait Job: Serialize + DeserializeOwned + Send + 'static {
    /// What the job is, and so which handler runs it. It stands in every row: choose it once and for all.
    const KIND: &'static str;
    /// How its jobs are run when nothing else is said.
    const OPTIONS: JobOptions = JobOptions::new();
}
