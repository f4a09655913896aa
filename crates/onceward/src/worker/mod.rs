//! Running jobs: a worker claims what its handlers can run, runs it, and records how it ended.
//!
//! The way of a job through this folder: `claim` takes many at once, as `plan` says; `pool` holds them until a
//! slot is free; `run` runs one attempt through the `service` and its layers to the `handler`; `settle` records
//! endings in batches; `parking` is about runs of durable functions that only wait, `journal` about what they
//! write down. `session` is what all of it hangs
//! on; `upkeep` makes due jobs ready and rescues lost ones.
//! Nothing here decides what becomes of a job: `onceward_core::job` does.

mod attempt;
mod batch;
mod builder;
mod claim;
mod context;
mod dry;
mod empty;
mod hand_over;
mod handle;
mod handler;
mod journal;
mod lineage;
mod outcome;
mod parking;
mod permits;
mod plan;
mod pool;
mod run;
mod service;
mod session;
mod settle;
mod shared;
mod upkeep;

pub use attempt::Stop;
pub use builder::WorkerBuilder;
pub use context::JobContext;
pub use handle::WorkerHandle;
pub use handler::{FromContext, JobHandler, RawHandler, State};
pub(crate) use lineage::inherit;
pub use outcome::{IntoOutcome, Outcome};
pub(crate) use parking::Lent;
pub use service::{JobRequest, JobService};
pub(crate) use settle::EndedChild;
