//! How what a durable function waits for can fail.

use core::fmt;

use serde::{Deserialize, Serialize};

/// An error that can't happen: what is waited for has no error of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Never {}

impl fmt::Display for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl core::error::Error for Never {}

/// Why a step, a child or a wait has no value. It is written into the journal, and is the same value each time the code
/// comes by again.
///
/// `?` lifts it into an error of one's own that is `From<Failure<E>>` ([`thiserror`'s `#[from]`][from] writes that), or
/// into an [`AnyError`].
///
/// Shown, an error of the function itself is that error's words. It is not the [`source`](core::error::Error::source)
/// of this one, so that nothing is said twice: [`app`](Self::app) gives it.
///
/// [from]: https://docs.rs/thiserror
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Failure<E = Never> {
    /// The function, or the step, has returned this error.
    App(E),
    /// It took too long.
    TimedOut,
    /// It was called off, or the run that waits for it was.
    Cancelled,
    /// It is out of attempts, and the last one has left these words.
    Dead(String),
    /// It was to run at most once, and nobody knows whether it did.
    Uncertain(String),
    /// It could not be asked for: the words begin with a code.
    Engine(String),
}

impl<E> Failure<E> {
    /// The error that the function itself has returned.
    pub fn app(&self) -> Option<&E> {
        match self {
            Self::App(error) => Some(error),
            _ => None,
        }
    }

    /// The same failure, with the function's own error changed.
    pub fn map<F>(self, change: impl FnOnce(E) -> F) -> Failure<F> {
        match self {
            Self::App(error) => Failure::App(change(error)),
            Self::TimedOut => Failure::TimedOut,
            Self::Cancelled => Failure::Cancelled,
            Self::Dead(words) => Failure::Dead(words),
            Self::Uncertain(words) => Failure::Uncertain(words),
            Self::Engine(words) => Failure::Engine(words),
        }
    }
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App(error) => error.fmt(f),
            Self::TimedOut => f.write_str("it took too long"),
            Self::Cancelled => f.write_str("it was cancelled"),
            Self::Dead(words) => write!(f, "it is out of attempts: {words}"),
            Self::Uncertain(words) => write!(f, "nobody knows whether it happened: {words}"),
            Self::Engine(words) => f.write_str(words),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for Failure<E> {}

/// Any error, as its words: for functions whose callers only want to show it. `?` makes one of every error.
///
/// ```
/// use onceward::durable::AnyError;
///
/// fn parse(text: &str) -> Result<u32, AnyError> {
///     Ok(text.parse::<u32>()?)
/// }
/// assert_eq!(parse("x").unwrap_err().to_string(), "invalid digit found in string");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnyError(String);

impl AnyError {
    /// An error of these words.
    pub fn new(words: impl fmt::Display) -> Self {
        Self(words.to_string())
    }
}

impl fmt::Display for AnyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: core::error::Error> From<E> for AnyError {
    fn from(error: E) -> Self {
        // What caused it says more than the error itself in most cases.
        let (mut words, mut source) = (error.to_string(), error.source());
        while let Some(cause) = source {
            let more = cause.to_string();
            if !words.contains(&more) {
                words = format!("{words}: {more}");
            }
            source = cause.source();
        }
        Self(words)
    }
}
