//! One error type for the whole system: a stable code, who is at fault, what to do.

mod codes;

use core::fmt;
use std::error::Error as StdError;
use std::sync::Arc;

pub use codes::Code;

/// A result with [`Error`] as its error.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Who has to act so that an error goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The calling code or command: the input or the order of calls is wrong.
    Caller,
    /// Nobody: another worker was first, time ran out, a row has moved on. Part of normal life.
    Race,
    /// Whoever runs the database, the disk, the network or the deployment.
    Operator,
    /// Us. Please report it.
    Onceward,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller => "caller",
            Self::Race => "race",
            Self::Operator => "operator",
            Self::Onceward => "onceward",
        })
    }
}

/// What went wrong: a stable [`Code`] with a page of its own (`onceward explain OW0101`), and the particulars.
///
/// `Display` is one lowercase fragment that fits after "failed to …:" and never repeats its source. Whether a write
/// took effect is asked of [`is_uncertain`](Self::is_uncertain), never guessed from the text.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

struct Inner {
    code: Code,
    message: String,
    verb: Option<&'static str>,
    uncertain: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A new error with a code and the particulars of this case.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let inner = Inner { code, message: message.into(), verb: None, uncertain: false, source: None };
        Self { inner: Arc::new(inner) }
    }

    /// The same error, caused by `source`.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source = Some(source.into());
        self.rebuild(|inner| Inner { source, ..inner })
    }

    /// The same error, met while doing `verb` (`"lease.acquire"`).
    #[must_use]
    pub fn at(self, verb: &'static str) -> Self {
        self.rebuild(|inner| Inner { verb: Some(verb), ..inner })
    }

    /// The same error, with the note that a write was sent and nobody knows whether it took effect (rule G5).
    #[must_use]
    pub fn uncertain(self) -> Self {
        self.rebuild(|inner| Inner { uncertain: true, ..inner })
    }

    fn rebuild(self, change: impl FnOnce(Inner) -> Inner) -> Self {
        let inner = match Arc::try_unwrap(self.inner) {
            Ok(inner) => inner,
            // The source can't be cloned: a shared error becomes the source of its changed copy.
            Err(shared) => Inner {
                code: shared.code,
                message: shared.message.clone(),
                verb: shared.verb,
                uncertain: shared.uncertain,
                source: Some(Box::new(Self { inner: shared })),
            },
        };
        Self { inner: Arc::new(change(inner)) }
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.inner.code
    }

    /// The particulars, without the code.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// The verb that failed, for example `"once.claim"`.
    pub fn verb(&self) -> Option<&'static str> {
        self.inner.verb
    }

    /// Who has to act.
    pub fn fault(&self) -> Fault {
        self.inner.code.fault()
    }

    /// Whether a write was sent whose effect is unknown. Read the row by its token before doing it again.
    pub fn is_uncertain(&self) -> bool {
        self.inner.uncertain
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.code(),
            Code::StoreUnavailable | Code::StoreBusy | Code::CommitUnknown | Code::KeyLocked
        )
    }

    /// Whether the row had moved on: the token is no longer the row's token.
    pub fn is_stale(&self) -> bool {
        matches!(self.code(), Code::LeaseLost | Code::SettleStale | Code::TokenStale)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.inner.code, self.inner.message)?;
        if self.inner.uncertain && self.inner.code != Code::CommitUnknown {
            f.write_str(" (it is not known whether the write took effect)")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.inner.code.as_str())
            .field("message", &self.inner.message)
            .field("verb", &self.inner.verb)
            .field("uncertain", &self.inner.uncertain)
            .field("source", &self.inner.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_its_code_and_never_its_source() {
        let error =
            Error::new(Code::StoreUnavailable, "no answer from the store").with_source("refused").at("x");
        assert_eq!(error.to_string(), "OW0001: no answer from the store");
        assert_eq!(StdError::source(&error).unwrap().to_string(), "refused");
        let shared = error.clone();
        let changed = error.uncertain();
        assert!(changed.is_uncertain() && !shared.is_uncertain());
    }

    #[test]
    fn every_code_has_a_page_with_its_four_parts() {
        for code in Code::ALL {
            let page = code.page();
            assert!(page.starts_with(&format!("# {code}: {}", code.title())), "{code} starts with its title");
            for part in ["## What happened", "## Whose fault", "## What to do", "## Example"] {
                assert!(page.contains(part), "{code} lacks {part}");
            }
            assert_eq!(code.as_str().parse::<Code>().unwrap(), *code);
        }
    }
}
