//! Durations as people write them: `250ms`, `1h 30m`, `30 days`.

use core::time::Duration;

use jiff::{SpanRelativeTo, Unit};

use crate::{Code, Error, Result};

/// Reads a friendly (`1h 30m`, `250ms`, `2 days`) or ISO 8601 (`PT90S`) duration. A day is 24 hours.
///
/// ```
/// use core::time::Duration;
/// use onceward_core::duration;
///
/// assert_eq!(duration::parse("1h 30m")?, Duration::from_secs(5400));
/// assert!(duration::parse("90").is_err(), "a number alone has no unit");
/// # Ok::<(), onceward_core::Error>(())
/// ```
///
/// # Errors
/// [`Code::DurationInvalid`] for anything else: a bare number, a negative span, months and years (which have no fixed
/// length), and spans longer than jiff can hold.
pub fn parse(text: &str) -> Result<Duration> {
    let refuse = |why: &str| {
        let shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
        Error::new(Code::DurationInvalid, format!("\"{shown}\" is not a duration: {why}"))
    };
    let span: jiff::Span =
        text.trim().parse().map_err(|_| refuse("write it like 250ms, 30s, 1h 30m or 7 days"))?;
    if span.get_months() != 0 || span.get_years() != 0 {
        return Err(refuse("months and years have no fixed length"));
    }
    let duration =
        span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| refuse("it is too long"))?;
    Duration::try_from(duration).map_err(|_| refuse("it can't be negative"))
}

/// Writes a duration as [`parse`] reads it, in the units a person would pick: `1h 30m`, `250ms`, `0s`.
pub fn format(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    let rounding = jiff::SpanRound::new().largest(Unit::Day).days_are_24_hours();
    jiff::Span::new()
        .try_microseconds(micros)
        .and_then(|span| span.round(rounding))
        .map_or_else(|_| format!("{}s", duration.as_secs()), |span| format!("{span:#}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn friendly_durations_are_read() {
        for (text, millis) in [
            ("250ms", 250),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("2 days", 172_800_000),
            ("1w", 604_800_000),
            ("0s", 0),
            ("PT90S", 90_000),
            (" 5s ", 5_000),
        ] {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn garbage_is_refused() {
        for bad in
            ["", "5", "-1s", "1s ago", "1 month", "1y", "s", "1.2.3s", "ten seconds", "1h -30m", "∞", "1e9s"]
        {
            assert_eq!(parse(bad).unwrap_err().code(), Code::DurationInvalid, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(micros in 0_u64..4_000_000_000_000_000) {
            let duration = Duration::from_micros(micros);
            prop_assert_eq!(parse(&format(duration)).unwrap(), duration);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
