//! How a function ends when it does not end well.

use core::fmt;

use onceward_core::once::{Body, Ending, cut};
use onceward_core::{Code, Error, Result, limits};
use serde::Serialize;

/// Why a function under [`once`](crate::Onceward::once) has no result.
///
/// Any error turns into one by `?`, and then means *nobody knows*: an error proves nothing about what happened before
/// it. The caller who does know says so: [`fail`](Classify::fail) for a final failure that is recorded and replayed,
/// [`not_started`](Classify::not_started) for one that came before anything was done, so that the key may run again.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// use onceward::{NotDone, Outcome};
///
/// let refused: Outcome<()> = ow.once("k").run(async |_| Err(NotDone::failed("the card has expired"))).await?;
/// let Outcome::Failed { error, .. } = refused else { panic!("{refused:?}") };
/// assert_eq!(error.reason(), "the card has expired");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct NotDone {
    kind: Kind,
    reason: String,
    data: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Failed,
    NotStarted,
    Unknown,
}

impl NotDone {
    /// A final failure: recorded, replayed, never run again.
    pub fn failed(reason: impl fmt::Display) -> Self {
        Self::new(Kind::Failed, reason)
    }

    /// Nothing was done: the key is free again.
    pub fn not_started(reason: impl fmt::Display) -> Self {
        Self::new(Kind::NotStarted, reason)
    }

    /// Nobody knows what was done.
    pub fn unknown(reason: impl fmt::Display) -> Self {
        Self::new(Kind::Unknown, reason)
    }

    fn new(kind: Kind, reason: impl fmt::Display) -> Self {
        Self { kind, reason: cut(&reason.to_string(), limits::REASON_BYTES_MAX), data: None }
    }

    /// Adds the failure as data, for those it is replayed to ([`Failure::data`](super::Failure::data)).
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// use onceward::{NotDone, Outcome};
    ///
    /// let declined = || NotDone::failed("declined").with_data(&402);
    /// let outcome: Outcome<()> = ow.once("k").run(async |_| Err(declined()?)).await?;
    /// let Outcome::Failed { error, .. } = outcome else { panic!("{outcome:?}") };
    /// assert_eq!(error.data::<u16>()?, Some(402));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ResultUnwritable`](Code::ResultUnwritable) when it can't be written as JSON.
    pub fn with_data(mut self, data: &impl Serialize) -> Result<Self> {
        let written = serde_json::to_vec(data);
        let unwritable =
            |error| Error::new(Code::ResultUnwritable, "the failure can't be written").with_source(error);
        self.data = Some(written.map_err(unwritable)?);
        Ok(self)
    }

    pub(crate) fn into_ending(self) -> Ending {
        let Self { kind, reason, data } = self;
        match kind {
            Kind::Failed => {
                Ending::Failed { body: data.map(|data| Body::new(data, super::run::JSON)), reason }
            }
            Kind::NotStarted => Ending::NotStarted { reason },
            Kind::Unknown => Ending::Unknown { reason },
        }
    }
}

/// Any error is an unknown ending.
impl<E: std::error::Error> From<E> for NotDone {
    fn from(error: E) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason.push_str(": ");
            reason.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::new(Kind::Unknown, reason)
    }
}

/// Says what an error proves.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// use onceward::{Classify, Outcome};
///
/// # async fn connect() -> Result<(), std::io::Error> { Err(std::io::Error::other("refused")) }
/// let outcome: Outcome<()> = ow.once("k").run(async |_| {
///     connect().await.not_started()?; // nothing was sent: the key may run again
///     Ok(())
/// }).await?;
/// assert!(matches!(outcome, Outcome::NotStarted { .. }));
/// # Ok(()) }
/// ```
pub trait Classify<T> {
    /// A final failure: recorded, replayed, never run again.
    ///
    /// # Errors
    /// The error as a [`NotDone`].
    fn fail(self) -> Result<T, NotDone>;

    /// Nothing was done: the key is free again.
    ///
    /// # Errors
    /// The error as a [`NotDone`].
    fn not_started(self) -> Result<T, NotDone>;
}

impl<T, E: fmt::Display> Classify<T> for Result<T, E> {
    fn fail(self) -> Result<T, NotDone> {
        self.map_err(NotDone::failed)
    }

    fn not_started(self) -> Result<T, NotDone> {
        self.map_err(NotDone::not_started)
    }
}
