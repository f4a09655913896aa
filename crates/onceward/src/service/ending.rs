//! What the work of a service may answer.

use core::fmt;

/// How the work of a term ended: nothing at all, or a `Result` whose error is kept with the term.
pub trait TermResult {
    /// The error, if it is one.
    fn into_failure(self) -> Option<String>;
}

impl TermResult for () {
    fn into_failure(self) -> Option<String> {
        None
    }
}

impl<T, E: fmt::Display> TermResult for Result<T, E> {
    fn into_failure(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}
