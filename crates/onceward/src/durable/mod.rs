//! Durable functions: plain `async fn`s that survive crashes.
//!
//! ```
//! use onceward::Onceward;
//! use onceward::durable::{AnyError, durable, join_all, sleep, step};
//! use std::time::Duration;
//!
//! #[durable(max_attempts = 5)]
//! async fn charge(order: u64, cents: u64) -> Result<String, AnyError> {
//!     Ok(format!("ch_{order}_{cents}"))
//! }
//!
//! #[durable]
//! async fn checkout(order: u64) -> Result<String, AnyError> {
//!     let charge = charge(order, 1_999).await?;                     // a child: any worker may run it
//!     sleep(Duration::from_millis(20)).await?;                      // survives restarts
//!     step("mail", || async { Ok::<(), AnyError>(()) }).await?;     // run here, its outcome written down
//!     Ok(charge)
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
//! let ow = Onceward::connect("memory:").await?;
//! let worker = ow.worker().durable(checkout).durable(charge).start().await?;
//! let run = ow.start(checkout(789)).id("order-789").await?;
//! assert_eq!(run.result().await?, "ch_789_1999");
//! worker.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok(()) }
//! ```
//!
//! # What is written down
//!
//! A run executes its code from the beginning each time it is taken up: at first, after its process has died, and when
//! it was parked because it waited for long. What the code *asks for* is written into the run's journal: calls of other
//! durable functions, [`step`]s, [`sleep`]s, [`signal`]s. What has ended before is not done again; it is given to the
//! code in the order in which it had ended.
//!
//! So the code between those must come out the same each time: no clocks, no random numbers, no maps without an order,
//! no reading of files. [`now`], [`random`] and [`uuid()`] come out the same; everything else belongs into a step.
//! Where the code has changed since, see [`patched`].
//!
//! # When a function fails
//!
//! An `Err` of a function that has written nothing into its journal is a failed attempt, and it is called again as
//! `max_attempts` and `retry` say (3 attempts unless something is said): such functions are what others call to have
//! things tried again. An `Err` of one that has a journal is its end: what it has done would come out the same. Have
//! its steps and children tried again, not it. A panic, or a time-out, is a failed attempt of either.
//!
//! A process that dies costs a run nothing: another one goes on where the journal ends.
//!
//! # Without an end
//!
//! A run reads its whole journal each time it is taken up. A function that goes on for ever goes on
//! [as new](Call::continue_as_new) now and then: the same run with other arguments, whose journal begins anew.

mod ambient;
mod awaits;
mod branches;
mod call;
mod continuing;
mod doubt;
mod drive;
mod dry;
mod failure;
mod function;
mod handle;
mod hot;
mod named;
mod onlooker;
mod recorded;
mod remembered;
mod report;
mod rest;
mod run;
mod saga;
mod step;
mod step_in;
mod wait;

use onceward_core::job::Record;
use onceward_core::{Code, Error, JobId, Namespace, Result, Timestamp, Token};
use sha2::{Digest, Sha256};
use uuid::Uuid;

pub use futures_util::future::Either;
pub use onceward_core::run::Standing;
pub use onceward_macros::durable;

pub use crate::durable_join as join;
pub use crate::durable_select as select;
pub use crate::durable_try_join as try_join;
pub use ambient::{Branch, Fork};
pub use branches::{join_all, join_two, map, race, try_join_all, try_join_two, try_map};
pub use call::{Call, Child, Spawn};
pub use continuing::{Continue, generation};
pub use doubt::{Doubt, Probe};
pub use dry::{Checked, Verdict};
pub use failure::{AnyError, Failure, Never};
pub use function::{Durable, DurableFn, DurableResult};
pub use handle::{RunHandle, StartRun};
pub use named::{StartNamed, StartedRun};
pub use recorded::RecordedRun;
pub use remembered::IDEMPOTENT;
pub use report::{count, progress, report};
pub use saga::Saga;
pub use step::{Step, step};
pub use step_in::{Pen, StepIn, Written, step_in};
pub use wait::{Signal, Sleep, signal, sleep, sleep_until};

pub(crate) use drive::{EXPIRED, run, timed_out};
pub(crate) use dry::dry_run;
pub(crate) use function::queue_of;
pub(crate) use handle::written_signal;
pub(crate) use hot::{End, Hot};
pub(crate) use named::named_args;
pub(crate) use onlooker::Onlooker;
pub(crate) use run::load;

/// What `#[durable]` writes refers to these.
#[doc(hidden)]
pub mod private {
    pub use futures_util::future::BoxFuture;
    pub use serde;
}

/// There is no such run.
pub(crate) fn absent(id: JobId) -> Error {
    Error::new(Code::RunUnknown, format!("there is no run {id}"))
}

/// What time it is: that of the last thing that has ended, the same each time the code comes by.
///
/// # Errors
/// [`RunAbsent`](onceward_core::Code::RunAbsent), [`RunNested`](onceward_core::Code::RunNested).
pub fn now() -> Result<Timestamp> {
    ambient::peek().map(|(run, _)| run.now())
}

/// A random number, the same each time the code comes by.
///
/// # Errors
/// As [`now`].
pub fn random() -> Result<u64> {
    let [.., a, b, c, d, e, f, g, h] = chance()?;
    Ok(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

/// A random UUID, the same each time the code comes by: a key to give to others.
///
/// # Errors
/// As [`now`].
pub fn uuid() -> Result<Uuid> {
    chance().map(uuid_of)
}

/// The id that a digest stands for.
pub(crate) fn uuid_of(digest: [u8; 32]) -> Uuid {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = digest;
    uuid::Builder::from_custom_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]).into_uuid()
}

/// Takes a place in the code; what chance has said there.
fn chance() -> Result<[u8; 32]> {
    let (run, position) = ambient::claim()?;
    let digest = Sha256::new().chain_update(run.seed.as_bytes()).chain_update(position.as_str());
    // The same place comes again in each generation of a run.
    let digest = match run.generation {
        0 => digest,
        generation => digest.chain_update([0]).chain_update(generation.to_be_bytes()),
    };
    Ok(digest.finalize().into())
}

/// What a run has its random numbers from: another one that goes on with its journal, in whatever store, has the same.
pub(crate) fn seed(row: &Record) -> Uuid {
    row.policy.origin.map_or_else(|| own_seed(&row.namespace, row.id), |origin| origin.seed)
}

/// What a run has them from that goes on with nobody's journal.
pub(crate) fn own_seed(namespace: &Namespace, id: JobId) -> Uuid {
    let own = Sha256::new()
        .chain_update(namespace.as_str())
        .chain_update([0])
        .chain_update(id.as_uuid().as_bytes());
    uuid_of(own.finalize().into())
}

/// When a run began, for its code: when it was enqueued, or after the delay that it was given then.
pub(crate) fn began(row: &Record) -> Timestamp {
    let began = || row.enqueued_at.after(row.policy.begins_after.unwrap_or_default());
    row.policy.origin.and_then(|origin| origin.began).unwrap_or_else(began)
}

/// Which run this is.
///
/// # Errors
/// As [`now`].
pub fn run_id() -> Result<JobId> {
    ambient::peek().map(|(run, _)| run.job.id)
}

/// The trace that the run belongs to, a `traceparent`, as it was said at its start; its children have the same. For
/// what a step calls or enqueues.
///
/// ```
/// use onceward::durable::{AnyError, durable, step, trace};
///
/// # async fn charge(_: u64, _: Option<&str>) -> Result<(), AnyError> { Ok(()) }
/// #[durable]
/// async fn checkout(order: u64) -> Result<(), AnyError> {
///     let trace = trace()?;
///     step("charge", || charge(order, trace.as_deref())).await?;
///     Ok(())
/// }
/// ```
///
/// # Errors
/// As [`now`].
pub fn trace() -> Result<Option<String>> {
    ambient::peek().map(|(run, _)| run.trace.clone())
}

/// The fencing token of this attempt of the run: larger than that of every earlier one. It is another one each time the
/// run is taken up: for writes that a worker which was paused for long must not repeat, and for nothing else.
///
/// # Errors
/// As [`now`].
pub fn token() -> Result<Token> {
    ambient::peek().map(|(run, _)| run.token)
}

/// Whether the code is to go its new way here: `true`, unless the run came by before there was one.
///
/// ```
/// use onceward::durable::{AnyError, durable, patched, step};
///
/// #[durable]
/// async fn checkout(order: u64) -> Result<(), AnyError> {
///     if patched("check-fraud")? {
///         step("check fraud", || async { Ok::<(), AnyError>(()) }).await?;
///     }
///     Ok(())
/// }
/// ```
///
/// # Errors
/// As [`now`]; [`StepNameInvalid`](onceward_core::Code::StepNameInvalid).
pub fn patched(id: &str) -> Result<bool> {
    step::check_name(id)?;
    let (run, position) = ambient::peek()?;
    let patched = run.is_patched(&position, id);
    if patched {
        let (run, position) = ambient::claim()?;
        run.mark(&position, id);
    }
    Ok(patched)
}
