//! `Retry-After`: in seconds, or as a date.

use core::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;

use crate::{Timestamp, limits};

/// How long a receiver wants to be left alone, between one second and an hour. What can't be read says nothing.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let asked = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // So many digits that they are no number are very long.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let date = DateTimeParser::new().parse_timestamp(value).ok()?;
        Timestamp::from_micros(date.as_microsecond()).since(now)
    };
    Some(asked.clamp(limits::RETRY_AFTER_MIN, limits::RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_honoured_within_bounds() {
        let now: Timestamp = "2026-11-20T09:30:00Z".parse().unwrap();
        let after = |value: &str| retry_after(value, now).map(|pause| pause.as_secs());
        assert_eq!(after("7"), Some(7));
        assert_eq!(after(" 120 "), Some(120));
        assert_eq!(after("0"), Some(1));
        assert_eq!(after("86400"), Some(3600));
        assert_eq!(after("99999999999999999999999999"), Some(3600));
        assert_eq!(after("Fri, 20 Nov 2026 09:30:42 GMT"), Some(42));
        assert_eq!(after("Fri, 20 Nov 2020 09:30:42 GMT"), Some(1));
        for nothing in ["", "soon", "-1", "1.5", "Fri, 99 Nov 2026 09:30:42 GMT"] {
            assert_eq!(after(nothing), None, "{nothing:?}");
        }
    }
}
