//! The rules of Onceward, without I/O.
//!
//! Nothing in this crate reads a clock, draws a random number, or talks to a database: whatever a rule needs is an
//! argument. Every decision has the shape `(state, input, now) -> (state, answer)`, so it can be tested in
//! microseconds and the stores can be held against it.
//!
//! Start with [`lease`], [`once`] and [`job`]; all of them move a row through the same four verbs:
//! *enqueue* (the row exists), *claim* (an owner, a [`Token`], an expiry), *renew*, *settle*. A [`service`] is a
//! lease in its time slot, a [`schedule`] enqueues jobs.

pub mod backoff;
pub mod duration;
pub mod endpoint;
pub mod error;
pub mod history;
pub mod http;
pub mod job;
pub mod lease;
pub mod limits;
mod name;
pub mod once;
mod place;
pub mod run;
pub mod schedule;
pub mod service;
pub mod session;
mod time;
mod token;
pub mod trigger;

pub use error::{Code, Error, Fault, Result};
pub use name::{
    ClaimId, EndpointName, JobId, Key, Kind, Namespace, Owner, Queue, ScheduleName, ServiceName, SessionId,
    Tag, TriggerName,
};
pub use place::Place;
pub use time::Timestamp;
pub use token::Token;
