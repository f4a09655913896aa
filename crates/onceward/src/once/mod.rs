//! `once`: a function that starts at most once under a key, and whose outcome everybody else gets replayed.
//!
//! Read in this order: [`OnceBuilder`] (asking) → `run.rs` (claim, run, settle) → [`NotDone`] (how a function ends
//! other than well) → [`Outcome`] (what callers see) → `cache.rs`, `many.rs`, `run_in.rs` (the caller's transaction).

mod attempt;
mod builder;
mod cache;
mod many;
mod not_done;
mod outcome;
mod run;
mod run_in;

pub use onceward_core::once::{Body, Fingerprint, Record, Resolution, State};

pub use self::attempt::Attempt;
pub use self::builder::{OnceBuilder, Verdict};
pub(crate) use self::cache::Cache;
pub use self::many::OnceManyBuilder;
pub use self::not_done::{Classify, NotDone};
pub use self::outcome::{Failure, Outcome};
pub use self::run::SUPERSEDED;
pub(crate) use self::run::{resolution, words as panic_words};
