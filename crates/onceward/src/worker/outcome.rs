//! How a handler ends, and what it may return for it.

use core::fmt;
use core::time::Duration;

use onceward_core::job::Ending;
use onceward_core::once::{self, Body};
use onceward_core::{Code, limits};
use serde::Serialize;

use crate::jobs::JSON;
use crate::once::NotDone;

/// How an attempt ended, in the words of its handler.
///
/// Handlers may return it as it is, or one of the types of [`IntoOutcome`]: `Result<T, E>` in most cases.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is done; the result is kept with the job.
    Done(Option<Body>),
    /// It failed, and is tried again as its retry policy says, if it has attempts left. A job that runs at most once is
    /// dead.
    Retry {
        /// What went wrong.
        error: String,
    },
    /// As [`Retry`](Self::Retry), after this pause.
    RetryAfter {
        /// What went wrong.
        error: String,
        /// How long to wait; at most ten years.
        after: Duration,
    },
    /// It wants to run again after this pause; no attempt is charged.
    Snooze(Duration),
    /// It is not wanted any more.
    Cancel {
        /// Why.
        reason: String,
    },
    /// It failed, and more attempts are no use.
    Dead {
        /// What went wrong.
        error: String,
    },
    /// It failed before anything had happened: also a job that runs at most once is tried again.
    NotStarted {
        /// What went wrong.
        error: String,
    },
    /// Nobody knows whether it had its effect: it waits for somebody who finds out.
    Uncertain {
        /// Why.
        error: String,
    },
}

impl Outcome {
    /// It is done, and this is its result, kept as JSON. What can't be written as JSON leaves the job dead: it was
    /// done, and doing it again would not help.
    pub fn done(result: &impl Serialize) -> Self {
        match serde_json::to_vec(result) {
            // A handler without a result has none.
            Ok(bytes) if bytes == b"null" => Self::Done(None),
            Ok(bytes) => Self::Done(Some(Body::new(bytes, JSON))),
            Err(error) => {
                let code = Code::ResultUnwritable;
                Self::Dead {
                    error: format!("{code}: it was done, but its result can't be written as JSON: {error}"),
                }
            }
        }
    }

    /// It failed, and is tried again.
    pub fn retry(error: impl fmt::Display) -> Self {
        Self::Retry { error: format!("{error:#}") }
    }

    /// It failed, and more attempts are no use.
    pub fn dead(error: impl fmt::Display) -> Self {
        Self::Dead { error: format!("{error:#}") }
    }

    /// It failed before anything had happened.
    pub fn not_started(error: impl fmt::Display) -> Self {
        Self::NotStarted { error: format!("{error:#}") }
    }

    /// Nobody knows whether it had its effect.
    pub fn uncertain(error: impl fmt::Display) -> Self {
        Self::Uncertain { error: format!("{error:#}") }
    }

    pub(super) fn into_ending(self) -> Ending {
        match self {
            Self::Done(result) => Ending::Done(result),
            Self::Retry { error } => Ending::Failed { error, after: None },
            Self::RetryAfter { error, after } => Ending::Failed { error, after: Some(after) },
            Self::Snooze(pause) => Ending::Snoozed(pause.min(limits::DELAY_MAX)),
            Self::Cancel { reason } => Ending::Cancelled(reason),
            Self::Dead { error } => Ending::Dead(error),
            Self::NotStarted { error } => Ending::NotStarted { error },
            Self::Uncertain { error } => Ending::Uncertain(error),
        }
    }
}

/// What a handler may return.
///
/// - `()`: it is done;
/// - an [`Outcome`], or a `Result<T, Outcome>`, `Result<Outcome, E>`;
/// - a `Result<T, E>`: `Ok` is its result, kept as JSON; `Err` is a failed attempt, tried again;
/// - a `Result<T, NotDone>`: `?` on any error is a failed attempt, `.fail()` leaves the job dead, `.not_started()` says
///   that nothing has happened yet.
#[diagnostic::on_unimplemented(
    message = "a handler can't return `{Self}`",
    note = "return `Result<T, E>` with a `T` that can be written as JSON and an `E` that can be shown, or an `Outcome`"
)]
pub trait IntoOutcome {
    /// How it ended.
    fn into_outcome(self) -> Outcome;
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Outcome::Done(None)
    }
}

impl<T: Serialize, E: fmt::Display> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Outcome {
        match self {
            Ok(result) => Outcome::done(&result),
            Err(error) => Outcome::retry(error),
        }
    }
}

impl<E: fmt::Display> IntoOutcome for Result<Outcome, E> {
    fn into_outcome(self) -> Outcome {
        self.unwrap_or_else(Outcome::retry)
    }
}

impl<T: Serialize> IntoOutcome for Result<T, Outcome> {
    fn into_outcome(self) -> Outcome {
        self.map_or_else(|outcome| outcome, |result| Outcome::done(&result))
    }
}

impl<T: Serialize> IntoOutcome for Result<T, NotDone> {
    fn into_outcome(self) -> Outcome {
        let not_done = match self {
            Ok(result) => return Outcome::done(&result),
            Err(not_done) => not_done,
        };
        match not_done.into_ending() {
            once::Ending::Failed { reason, .. } => Outcome::Dead { error: reason },
            once::Ending::NotStarted { reason } => Outcome::NotStarted { error: reason },
            ending => Outcome::Retry { error: ending.reason().unwrap_or_default().to_owned() },
        }
    }
}
