//! What a caller of `once` sees: a closed choice, in which nothing but `Done` carries a result.

use core::fmt;

use onceward_core::{Code, Error, Result, Timestamp};
use serde::de::DeserializeOwned;

/// What came of it.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// use onceward::Outcome;
///
/// for replayed in [false, true] {
///     let outcome = ow.once("order-17").run(async |_| Ok(7)).await?;
///     assert_eq!(outcome, Outcome::Done { value: 7, replayed });
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "only `Done` means that it was done"]
pub enum Outcome<T> {
    /// It was done, now or by an earlier caller; everybody gets the same value.
    Done {
        /// The result.
        value: T,
        /// Whether an earlier caller had run it.
        replayed: bool,
    },
    /// It was done, and its result was too large to keep.
    DoneWithoutBody {
        /// How many bytes the result had.
        size: u64,
    },
    /// It failed for good, now or under an earlier caller. It will not run again while the record is kept.
    Failed {
        /// The failure.
        error: Failure,
        /// Whether an earlier caller had run it.
        replayed: bool,
    },
    /// The function proved that it did nothing. Calling again is safe.
    NotStarted {
        /// Why it did not start.
        error: Failure,
    },
    /// Another caller is running it.
    Running {
        /// Since when, by the store's clock.
        since: Timestamp,
        /// When its claim runs out unless renewed.
        until: Timestamp,
    },
    /// It may or may not have been done: its caller died, was cut off, or ended in an unclassified way. It is never
    /// run again by itself; somebody who can find out settles it.
    Uncertain {
        /// What is known.
        reason: String,
        /// Since when.
        since: Timestamp,
        /// The value the function returned to this very caller, where only the recording of it failed.
        value: Option<T>,
    },
}

impl<T> Outcome<T> {
    /// The value, if it was done.
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done { value, .. } => Some(value),
            _ => None,
        }
    }

    /// Whether it was done (with or without its body kept).
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::DoneWithoutBody { .. })
    }

    /// Whether nobody knows.
    pub fn is_uncertain(&self) -> bool {
        matches!(self, Self::Uncertain { .. })
    }

    /// Whether this caller got what another one had recorded.
    pub fn is_replayed(&self) -> bool {
        matches!(self, Self::Done { replayed: true, .. } | Self::Failed { replayed: true, .. })
    }

    /// The value, or what stands in its way as an error: for callers that treat everything else alike.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// assert_eq!(ow.once("k").run(async |_| Ok(7)).await?.into_result()?, 7);
    /// let lost: onceward::Outcome<u32> = ow.once("l").run(async |_| Err(onceward::NotDone::unknown("?"))).await?;
    /// assert_eq!(lost.into_result().unwrap_err().code(), onceward::Code::OnceUncertain);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`OnceRunning`](Code::OnceRunning), [`OnceUncertain`](Code::OnceUncertain), or
    /// [`ResultUnreadable`](Code::ResultUnreadable) where the body was not kept; a recorded failure and "not started"
    /// come as [`OnceFailed`](Code::OnceFailed).
    pub fn into_result(self) -> Result<T> {
        match self {
            Self::Done { value, .. } => Ok(value),
            Self::DoneWithoutBody { size } => Err(Error::new(
                Code::ResultUnreadable,
                format!("the result had {size} bytes and was not kept"),
            )),
            Self::Failed { error, .. } | Self::NotStarted { error } => {
                Err(Error::new(Code::OnceFailed, error.to_string()))
            }
            Self::Running { until, .. } => Err(Error::new(
                Code::OnceRunning,
                format!("another caller is running it, until {until} at least"),
            )),
            Self::Uncertain { reason, since, .. } => {
                Err(Error::new(Code::OnceUncertain, format!("nobody knows since {since}: {reason}")))
            }
        }
    }

    pub(crate) fn try_map<U>(self, map: impl Fn(T) -> Result<U>) -> Result<Outcome<U>> {
        Ok(match self {
            Self::Done { value, replayed } => Outcome::Done { value: map(value)?, replayed },
            Self::DoneWithoutBody { size } => Outcome::DoneWithoutBody { size },
            Self::Failed { error, replayed } => Outcome::Failed { error, replayed },
            Self::NotStarted { error } => Outcome::NotStarted { error },
            Self::Running { since, until } => Outcome::Running { since, until },
            Self::Uncertain { reason, since, value } => {
                Outcome::Uncertain { reason, since, value: value.map(map).transpose()? }
            }
        })
    }
}

/// A recorded failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub(crate) reason: String,
    pub(crate) data: Option<Vec<u8>>,
}

impl Failure {
    /// The failure in words.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The failure as data, if [`NotDone::with_data`](super::NotDone::with_data) was used.
    ///
    /// # Errors
    /// [`ResultUnreadable`](Code::ResultUnreadable) when it is not an `E`.
    pub fn data<E: DeserializeOwned>(&self) -> Result<Option<E>> {
        let read = self.data.as_deref().map(serde_json::from_slice).transpose();
        read.map_err(|error| {
            Error::new(Code::ResultUnreadable, "the recorded failure is of another type").with_source(error)
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Failure {}
