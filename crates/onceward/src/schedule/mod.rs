//! Schedules: jobs that are enqueued by the clock, each tick once.
//!
//! - [`Onceward::schedule`](crate::Onceward::schedule) declares one ([`ScheduleBuilder`]);
//! - a [runner](crate::service::RunnerBuilder::scheduler) or worker that was told so enqueues what is due: one of
//!   them at
//!   a time, as a leader. Who it is decides nothing: a tick and its job are written together, if nobody was quicker.

mod builder;
mod change;
mod fire;
mod patrol;

pub use builder::ScheduleBuilder;
pub use change::Backfill;
pub use onceward_core::schedule::{Definition, Last, OnMissed, Overlap, Schedule, When};

pub(crate) use change::{backfill, change, lookup, remove};
#[cfg(feature = "testing")]
pub(crate) use fire::fire_due;
pub(crate) use fire::service;

/// What the service is called that enqueues what is due.
pub(crate) const NAME: &str = "onceward.scheduler";
