//! Fencing tokens: a hybrid clock that only ever grows.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Code, Error, Result, Timestamp, limits};

/// A fencing token: one per grant, and of two grants of the same key the later one has the larger token.
///
/// Put it into every write that the grant protects (`UPDATE … WHERE fencing_token <= $token`), so that a holder who
/// was paused and has been replaced can do no harm.
///
/// A token is a hybrid logical clock (invariant L1): the larger of *last token + 1* and the store's wall clock in
/// microseconds. It grows over release, expiry, deletion of the row, restore from a dump, and failover with lost
/// commits, as long as the store's clock is not behind the moment of the last grant. It stays below 2^53 until the
/// year 2255; in JSON it is nevertheless a string.
///
/// ```
/// use onceward_core::{Timestamp, Token};
///
/// let now = Timestamp::from_micros(1_800_000_000_000_000);
/// let first = Token::next(None, now);
/// let second = Token::next(Some(first), now);
/// assert!(second > first);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(i64);

impl Token {
    /// The token that follows `last` when the store's clock says `now`.
    pub fn next(last: Option<Self>, now: Timestamp) -> Self {
        let clock = now.as_micros().max(1);
        Self(last.map_or(clock, |last| clock.max(last.0.saturating_add(1))))
    }

    /// The smallest token from this one on that belongs to a place of a counted lease: tokens of different places leave
    /// different remainders, so that two places given out at the same time never have the same token. It lies at most
    /// 16 ms ahead.
    #[must_use]
    pub fn of_place(self, slot: u32) -> Self {
        Self(self.0.saturating_add((i64::from(slot) + 1 - self.0).rem_euclid(limits::PLACE_TOKENS)))
    }

    /// The token as a number, for use in SQL.
    pub fn get(self) -> i64 {
        self.0
    }

    /// Reads a token from a number.
    ///
    /// # Errors
    /// [`Code::TokenInvalid`] for zero and below, and above [`limits::TOKEN_MAX`].
    pub fn from_i64(number: i64) -> Result<Self> {
        if (1..=limits::TOKEN_MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(Error::new(Code::TokenInvalid, format!("{number} is not a fencing token")))
        }
    }

    /// Wraps a number a store has read back from a row it wrote itself.
    pub fn from_row(number: i64) -> Self {
        Self(number)
    }

    /// The instant at or before which the grant was made, if the token came from the clock.
    pub fn as_timestamp(self) -> Timestamp {
        Timestamp::from_micros(self.0)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = !text.is_empty() && text.len() <= 16 && text.bytes().all(|b| b.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { None };
        number.map_or_else(
            || Err(Error::new(Code::TokenInvalid, "a fencing token is a positive whole number")),
            Self::from_i64,
        )
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// L1: a token grows even when the clock stands still, steps back, or is far behind.
    #[test]
    fn tokens_grow_whatever_the_clock_does() {
        let mut last = None;
        for clock in [100, 100, 50, 1, -7, 200, 199] {
            let next = Token::next(last, Timestamp::from_micros(clock));
            assert!(last.is_none_or(|last| next > last), "{next} after {last:?} at {clock}");
            last = Some(next);
        }
    }

    #[test]
    fn text_is_read_strictly() {
        assert_eq!("17".parse::<Token>().unwrap().get(), 17);
        for bad in ["", "0", "-1", "+1", " 1", "1.0", "9007199254740992", "99999999999999999999"] {
            assert!(bad.parse::<Token>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn l1_tokens_of_different_places_never_meet() {
        let drawn = Token::from_row(1_800_000_000_000_000);
        let tokens: std::collections::BTreeSet<i64> =
            (0..limits::CAPACITY_MAX).map(|slot| drawn.of_place(slot).get()).collect();
        assert_eq!(tokens.len(), limits::CAPACITY_MAX as usize);
        for slot in [0, 1, 9_999] {
            let token = drawn.of_place(slot);
            assert!(token >= drawn && token.get() - drawn.get() < limits::PLACE_TOKENS);
            assert_eq!(token.of_place(slot), token);
        }
    }
}
