//! How long to wait before the next attempt, kept with each job as a short text.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use serde::{Serialize, Serializer};

use crate::backoff::mix;
use crate::{Code, Error, Result, duration, limits};

/// How the pause grows from attempt to attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// Always the same.
    Fixed,
    /// By the first pause each time.
    Linear,
    /// Twice as long each time.
    Exponential,
}

/// When a failed job is tried again: `exponential 2s max 15m jitter 0.2`.
///
/// The pause before the attempt after the n-th failure is `first`, `n · first` or `2ⁿ⁻¹ · first`, at most `max`; the
/// part `jitter` of it is random.
///
/// ```
/// use core::time::Duration;
/// use onceward_core::job::Retry;
///
/// let retry: Retry = "linear 10s max 1m".parse()?;
/// assert_eq!(retry.delay(2, 0), Duration::from_secs(20));
/// assert_eq!(retry.delay(9, 0), Duration::from_secs(60));
/// # Ok::<(), onceward_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    growth: Growth,
    first: Duration,
    max: Duration,
    /// In thousandths.
    jitter: u16,
}

impl Default for Retry {
    /// `exponential 2s max 15m jitter 0.2`.
    fn default() -> Self {
        let (first, max) = (Duration::from_secs(2), Duration::from_secs(15 * 60));
        Self { growth: Growth::Exponential, first, max, jitter: 200 }
    }
}

impl Retry {
    /// A policy without jitter that grows like this from `first` on, up to `max`.
    ///
    /// # Errors
    /// [`Code::RetryPolicyInvalid`] where `first` is above `max`, or `max` above ten years.
    pub fn new(growth: Growth, first: Duration, max: Duration) -> Result<Self> {
        if first > max || max > limits::DELAY_MAX {
            let (first, max) = (duration::format(first), duration::format(max));
            return Err(refuse(format!("a pause of {first} that grows to {max} is not a retry policy")));
        }
        // Whole milliseconds, as the text can say them.
        let whole =
            |pause: Duration| Duration::from_millis(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        Ok(Self { growth, first: whole(first), max: whole(max), jitter: 0 })
    }

    /// Always the same pause.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn fixed(pause: Duration) -> Result<Self> {
        Self::new(Growth::Fixed, pause, pause)
    }

    /// The same policy with this part of each pause being random, from 0 to 1.
    ///
    /// # Errors
    /// [`Code::RetryPolicyInvalid`] outside of that.
    pub fn jitter(self, part: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&part) {
            return Err(refuse(format!("the jitter is a part between 0 and 1, not {part}")));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just above")]
        let jitter = (part * 1000.0).round() as u16;
        Ok(Self { jitter, ..self })
    }

    /// The pause after `failures` failed attempts (from 1). `seed` is any random number; the same seed gives the same
    /// pause. It is never longer than the cap, nor shorter than the part of it that is not random.
    pub fn delay(self, failures: u32, seed: u64) -> Duration {
        let failures = failures.max(1);
        let full = match self.growth {
            Growth::Fixed => self.first,
            Growth::Linear => self.first.saturating_mul(failures),
            Growth::Exponential => self.first.saturating_mul(2_u32.saturating_pow((failures - 1).min(31))),
        }
        .min(self.max);
        let random = full.mul_f64(f64::from(self.jitter) / 1000.0);
        let parts = u32::try_from(mix(seed) >> 44).unwrap_or(0); // 20 bits
        full.saturating_sub(random) + random.mul_f64(f64::from(parts) / f64::from(1_u32 << 20))
    }
}

fn refuse(why: String) -> Error {
    Error::new(Code::RetryPolicyInvalid, why)
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let growth = match self.growth {
            Growth::Fixed => "fixed",
            Growth::Linear => "linear",
            Growth::Exponential => "exponential",
        };
        write!(f, "{growth} {}ms", self.first.as_millis())?;
        if self.growth != Growth::Fixed {
            write!(f, " max {}ms", self.max.as_millis())?;
        }
        if self.jitter > 0 {
            write!(f, " jitter {}.{:03}", self.jitter / 1000, self.jitter % 1000)?;
        }
        Ok(())
    }
}

impl FromStr for Retry {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
        let bad = |why: &str| refuse(format!("\"{shown}\" is not a retry policy: {why}"));
        let mut words = text.split_whitespace();
        let growth = match words.next() {
            Some("fixed") => Growth::Fixed,
            Some("linear") => Growth::Linear,
            Some("exponential") => Growth::Exponential,
            _ => return Err(bad("it starts with fixed, linear or exponential")),
        };
        let pause = |word: Option<&str>| {
            word.and_then(|word| duration::parse(word).ok()).ok_or_else(|| bad("a pause is written like 2s"))
        };
        let first = pause(words.next())?;
        let mut max = if growth == Growth::Fixed { first } else { Self::default().max.max(first) };
        let mut jitter = 0.0;
        while let Some(word) = words.next() {
            match word {
                "max" if growth != Growth::Fixed => max = pause(words.next())?,
                "jitter" => {
                    let part = words.next().and_then(|word| word.parse().ok());
                    jitter = part.ok_or_else(|| bad("jitter is followed by a number from 0 to 1"))?;
                }
                _ => return Err(bad("after the pause come only max and jitter")),
            }
        }
        Self::new(growth, first, max)?.jitter(jitter)
    }
}

impl Serialize for Retry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn policies_are_read_as_people_write_them() {
        for (text, canonical) in [
            ("fixed 5s", "fixed 5000ms"),
            ("linear 10s max 5m", "linear 10000ms max 300000ms"),
            ("exponential 2s", "exponential 2000ms max 900000ms"),
            ("exponential 250ms max 1h jitter 0.25", "exponential 250ms max 3600000ms jitter 0.250"),
        ] {
            assert_eq!(text.parse::<Retry>().unwrap().to_string(), canonical);
        }
        for bad in [
            "",
            "often",
            "fixed",
            "fixed 5",
            "fixed 5s max 6s",
            "linear 2m max 1m",
            "fixed 1s jitter 2",
            "fixed 1s jitter",
            "exponential 2s twice",
            "fixed 5s jitter NaN",
            "linear -1s",
        ] {
            assert_eq!(bad.parse::<Retry>().unwrap_err().code(), Code::RetryPolicyInvalid, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_policy_survives_its_text(
            growth in 0..3,
            first in 0_u64..10_000,
            more in 0_u64..1_000_000,
            jitter in 0_u32..=1000,
        ) {
            let growth = [Growth::Fixed, Growth::Linear, Growth::Exponential][usize::try_from(growth).unwrap()];
            let first = Duration::from_millis(first);
            let max = if growth == Growth::Fixed { first } else { first + Duration::from_millis(more) };
            let retry = Retry::new(growth, first, max).unwrap().jitter(f64::from(jitter) / 1000.0).unwrap();
            prop_assert_eq!(retry.to_string().parse::<Retry>().unwrap(), retry);
        }

        #[test]
        fn a_pause_is_within_its_bounds(failures in 0_u32..200, seed: u64, jitter in 0_u32..=1000) {
            let retry = Retry::default().jitter(f64::from(jitter) / 1000.0).unwrap();
            let full = Retry::default().jitter(0.0).unwrap().delay(failures, 0);
            let pause = retry.delay(failures, seed);
            prop_assert!(pause <= full && full <= Duration::from_secs(900));
            prop_assert!(pause + Duration::from_micros(1) >= full.mul_f64(1.0 - f64::from(jitter) / 1000.0));
        }
    }
}
