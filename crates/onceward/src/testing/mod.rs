//! For tests: time that is skipped, crashes at every step, journals that are replayed, and the scheduler's step without
//! the scheduler. All of it in memory, with nothing to set up. The feature `testing` turns it on.
//!
//! - [`TestBed`]: a store in memory whose time is skipped, so that a month takes milliseconds.
//! - [`CrashTest`]: runs a durable function again and again, and kills its worker at each of its steps.
//! - [`replay`]: holds journals that were recorded against the code of today.
//!
//! A durable function is an ordinary one as well: `checkout::plain(…)` calls its body, for tests of what it does
//! between its steps.

mod bed;
mod crash;

use onceward_core::{Code, Error, Result};

pub use bed::{TestBed, short_journals};
pub use crash::{CrashTest, Survived};

use crate::client::Onceward;
use crate::durable::RecordedRun;
use crate::worker::WorkerBuilder;

/// Enqueues what is due of the schedules of this namespace, once, as a scheduler that leads would do it; whether
/// anything was due.
///
/// # Errors
/// Those of an unreachable store.
pub async fn fire_due(client: &Onceward) -> Result<bool> {
    crate::schedule::fire_due(client).await
}

/// Acts on what triggers of this namespace have heard, once; whether anything was heard.
///
/// # Errors
/// Those of an unreachable store.
pub async fn fire_heard(client: &Onceward) -> Result<bool> {
    crate::trigger::fire_heard(client).await
}

/// Holds recorded runs (`onceward runs export`, [`Admin::export_runs`](crate::Admin::export_runs)) against the
/// functions of a worker: the test that says whether a change breaks what is under way. No step runs.
///
/// ```
/// use onceward::durable::{AnyError, durable, step};
/// use onceward::testing::{TestBed, replay};
///
/// #[durable]
/// async fn greet(name: String) -> Result<String, AnyError> {
///     let greeting = step("greet", || async { Ok::<_, AnyError>(format!("hello {name}")) }).await?;
///     Ok(greeting)
/// }
///
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Once: record what the code of today does.
/// let bed = TestBed::new();
/// let worker = bed.worker().durable(greet).start().await?;
/// let run = bed.client().start(greet("Ada".to_owned())).await?;
/// bed.result(&run).await?;
/// let recorded = bed.client().admin().export_run(run.id()).await?.to_lines()?;
/// worker.shutdown().await;
///
/// // From then on: `include_str!("greet.jsonl")`.
/// replay(bed.worker().durable(greet), &recorded).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`RunsDiffer`](Code::RunsDiffer): the message shows the journal around the place, and what the code asks for
/// instead. [`RecordingUnreadable`](Code::RecordingUnreadable).
pub async fn replay(worker: WorkerBuilder, recorded: &str) -> Result<()> {
    let checked = worker.check_recorded(RecordedRun::read(recorded)?).await?;
    let differ: Vec<String> = checked.iter().filter(|run| !run.replays()).map(ToString::to_string).collect();
    if differ.is_empty() { Ok(()) } else { Err(Error::new(Code::RunsDiffer, differ.join("\n"))) }
}
