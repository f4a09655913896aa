//! Fencing on the receiving side: refuse whoever carries a smaller token than one already seen.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use onceward_core::{Code, Error, Result, Token};

/// The header a holder sends its token in.
pub const HEADER: &str = "X-Fence-Token";

/// Reads a token out of a header value.
///
/// # Errors
/// [`FenceHeaderInvalid`](Code::FenceHeaderInvalid) when it is missing or not a token.
pub fn token_of(value: Option<&str>) -> Result<Token> {
    let refuse = |why: &str| Error::new(Code::FenceHeaderInvalid, format!("the header {HEADER} {why}"));
    let text = value.ok_or_else(|| refuse("is missing"))?;
    text.parse().map_err(|_| refuse("does not hold a fencing token"))
}

/// Remembers the largest token of every key and refuses smaller ones.
///
/// It keeps them in memory: right for a receiver that is one process, and for what must not outlive it. A receiver with
/// a database keeps the token in the row it protects instead: `UPDATE … SET fencing_token = $1 WHERE id = $2 AND
/// fencing_token <= $1`.
///
/// ```
/// use onceward::lease::fence::{Checker, token_of};
///
/// let checker = Checker::default();
/// checker.check("order_123", token_of(Some("41"))?)?;
/// checker.check("order_123", token_of(Some("41"))?)?; // the same holder again
/// checker.check("order_123", token_of(Some("57"))?)?; // its successor
/// assert!(checker.check("order_123", token_of(Some("41"))?).is_err()); // a zombie
/// # Ok::<(), onceward::Error>(())
/// ```
#[derive(Debug)]
pub struct Checker {
    seen: Mutex<HashMap<String, (Token, Instant)>>,
    keys_max: usize,
    forget_after: Duration,
}

impl Default for Checker {
    /// A checker of a hundred thousand keys, each remembered for a day after its last token.
    fn default() -> Self {
        Self::new(100_000, Duration::from_secs(24 * 3600))
    }
}

impl Checker {
    /// A checker of at most `keys_max` keys that forgets a key `forget_after` its last token. A forgotten key accepts
    /// any token: choose a time no zombie outlives.
    pub fn new(keys_max: usize, forget_after: Duration) -> Self {
        Self { seen: Mutex::default(), keys_max, forget_after }
    }

    /// Accepts the token, and refuses smaller ones from now on.
    ///
    /// # Errors
    /// [`TokenStale`](Code::TokenStale) when a larger one was seen before; [`LaneFull`](Code::LaneFull) when no more
    /// keys can be remembered, because accepting what can't be checked would be no check.
    pub fn check(&self, key: &str, token: Token) -> Result<()> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((largest, at)) = seen.get_mut(key) {
            if token < *largest {
                let why =
                    format!("token {token} is older than {largest}, which has acted on this key already");
                return Err(Error::new(Code::TokenStale, why));
            }
            (*largest, *at) = (token, now);
            return Ok(());
        }
        if seen.len() >= self.keys_max {
            seen.retain(|_, (_, at)| now.duration_since(*at) < self.forget_after);
        }
        if seen.len() >= self.keys_max {
            return Err(Error::new(Code::LaneFull, format!("{} keys are remembered already", self.keys_max)));
        }
        seen.insert(key.to_owned(), (token, now));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_strictly() {
        assert_eq!(token_of(Some("7")).unwrap().get(), 7);
        for bad in [None, Some(""), Some("x"), Some("7, 8"), Some("-7")] {
            assert_eq!(token_of(bad).unwrap_err().code(), Code::FenceHeaderInvalid);
        }
    }

    #[test]
    fn a_full_checker_refuses_what_it_can_not_remember() {
        let checker = Checker::new(1, Duration::from_secs(60));
        let token = token_of(Some("1")).unwrap();
        checker.check("a", token).unwrap();
        assert_eq!(checker.check("b", token).unwrap_err().code(), Code::LaneFull);
        assert!(Checker::new(1, Duration::ZERO).check("b", token).is_ok());
    }
}
