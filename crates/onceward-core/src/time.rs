//! Instants, in microseconds since 1970.

use core::fmt;
use core::time::Duration;

use serde::{Serialize, Serializer};

use crate::{Code, Error, Result};

/// An instant of a store's clock, in whole microseconds since 1970-01-01 UTC: the precision of both databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// An instant from microseconds since 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The instant `duration` later; the end of time if there is none.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    /// The instant `duration` earlier.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }

    /// How long it is from `earlier` until `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Self {
        match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => Self(micros(since)),
            Err(before) => Self(-micros(before.duration())),
        }
    }
}

/// RFC 3339 in UTC, for example `2026-11-20T09:30:00.250000Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(instant) => write!(f, "{instant:.6}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

/// Reads RFC 3339, for example `2026-11-20T09:30:00Z` or `2026-11-20T10:30:00+01:00`.
impl core::str::FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let instant: jiff::Timestamp = text.trim().parse().map_err(|_| {
            let shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
            let why = format!("\"{shown}\" is not a time: write it like 2026-11-20T09:30:00Z");
            Error::new(Code::DelayInvalid, why)
        })?;
        Ok(Self(instant.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_in_utc_with_microseconds() {
        assert_eq!(Timestamp::from_micros(250_000).to_string(), "1970-01-01T00:00:00.250000Z");
        assert_eq!(Timestamp::from_micros(i64::MAX).to_string(), format!("{}us", i64::MAX));
    }

    #[test]
    fn times_are_read_as_they_are_shown() {
        let at = Timestamp::from_micros(1_796_054_400_250_000);
        assert_eq!(at.to_string().parse::<Timestamp>().unwrap(), at);
        let (here, there) = ("2026-11-20T10:30:00+01:00", "2026-11-20T09:30:00Z");
        assert_eq!(here.parse::<Timestamp>().unwrap(), there.parse().unwrap());
        for bad in ["", "tomorrow", "2026-11-20", "2026-13-01T00:00:00Z", "17"] {
            assert_eq!(bad.parse::<Timestamp>().unwrap_err().code(), Code::DelayInvalid, "{bad:?}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::from_micros(5).since(Timestamp::from_micros(9)), Duration::ZERO);
        assert_eq!(Timestamp::from_micros(1).after(Duration::MAX).as_micros(), i64::MAX);
    }
}
