//! Services: a global chore that one runner of the cluster does, in its time slot, fenced; and leaders.
//!
//! - [`Onceward::service`](crate::Onceward::service) describes one ([`ServiceBuilder`]); `run` and `start` run it
//!   alone,
//!   [`Onceward::runner`](crate::Onceward::runner) several in one process ([`RunnerBuilder`]);
//! - the work gets its [`Term`]: token, guard, and what tells it to stop.
//!
//! `keep` looks and decides by the rules of `onceward_core::service`; `run` runs one term; `presence` keeps the session
//! by which others know this process. Slots only say who tries when: what keeps two terms apart is a lease, and what
//! keeps a cycle from being run twice is its row.

mod builder;
mod ending;
mod keep;
mod presence;
mod run;
mod runner;
mod served;
mod term;
pub(crate) mod upkeep;

pub(crate) use builder::change;
pub use builder::{Service, ServiceBuilder};
pub use ending::TermResult;
pub use onceward_core::service::{Mode, OnMissed, Outcome, Pause, Runner, Setting, Spec, Term as TermRecord};
pub use onceward_store::{ListedServices, ServiceRecord, ServiceView};
pub use runner::{RunnerBuilder, RunnerHandle};
pub(crate) use served::{Served, about, check};
pub use term::{Stopped, Term};
