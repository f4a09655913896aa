//! Triggers: what has ended enqueues something else.
//!
//! - [`Onceward::trigger`](crate::Onceward::trigger) declares one ([`TriggerBuilder`]);
//! - what it listens to is written down by the statement that ends a job, on every store and by whoever ends it;
//! - whoever has the [scheduler](crate::service::RunnerBuilder::scheduler) acts on it: what was heard goes and what
//!   follows comes in one statement, so that it is done once, whoever dies.

mod builder;
mod change;
mod fire;

pub use builder::TriggerBuilder;
pub use onceward_core::trigger::{
    By, Cause, Condition, Definition, Happened, Last, Outcome, Rule, Stopped, Trigger,
};

pub(crate) use change::{change, lookup, remove};
#[cfg(feature = "testing")]
pub(crate) use fire::fire_heard;
pub(crate) use fire::lead;
