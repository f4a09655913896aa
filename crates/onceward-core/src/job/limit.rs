//! Limits of a queue over all workers: how many of its jobs run at the same time, and how many start in a time.
//!
//! A worker holds **permits** of a limited queue, in a row of its session, and runs no more of the queue's jobs than it
//! holds; all rows of a queue together never hold more than its limit. Starts are **tokens** that a worker takes in
//! chunks out of a bucket; what it does not use within the chunk's time is lost. Queues without limits know nothing of
//! this, and no claim waits for another.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use serde::{Serialize, Serializer};

use crate::{Code, Error, Result, Timestamp, duration};

/// The most jobs of one queue that a limit may allow at the same time.
pub const CONCURRENCY_MAX: u32 = 10_000;
/// The most starts a rate may allow in its time.
pub const RATE_COUNT_MAX: u32 = 1_000_000;
/// The longest time of a rate.
pub const RATE_PER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a chunk of starts is good for.
pub const CHUNK_LIFE: Duration = Duration::from_secs(2);

/// So many starts in a time: `100/1m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how long.
    pub per: Duration,
}

impl Rate {
    /// A rate.
    ///
    /// # Errors
    /// [`Code::LimitInvalid`] for none, too many, or a time that is too short or too long.
    pub fn new(count: u32, per: Duration) -> Result<Self> {
        let fits = (1..=RATE_COUNT_MAX).contains(&count)
            && (Duration::from_millis(100)..=RATE_PER_MAX).contains(&per);
        if fits {
            return Ok(Self { count, per });
        }
        let why = format!(
            "a rate is 1 to {RATE_COUNT_MAX} starts in 100ms to 1d, not {count} in {}",
            duration::format(per)
        );
        Err(Error::new(Code::LimitInvalid, why))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, duration::format(self.per))
    }
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            let shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
            Error::new(Code::LimitInvalid, format!("\"{shown}\" is not a rate: write it like 100/1m"))
        };
        let (count, per) = text.split_once('/').ok_or_else(bad)?;
        let count = count.trim().parse().map_err(|_| bad())?;
        Self::new(count, duration::parse(per).map_err(|_| bad())?)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a queue is limited to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// How many of its jobs run at the same time.
    pub concurrency: Option<u32>,
    /// How many start in a time.
    pub rate: Option<Rate>,
}

impl Limits {
    /// Refuses what no queue can be set to.
    ///
    /// # Errors
    /// [`Code::LimitInvalid`].
    pub fn check(&self) -> Result<()> {
        if let Some(limit) = self.concurrency.filter(|limit| !(1..=CONCURRENCY_MAX).contains(limit)) {
            let why =
                format!("a concurrency limit lies between 1 and {CONCURRENCY_MAX}, this one is {limit}");
            return Err(Error::new(Code::LimitInvalid, why));
        }
        self.rate.map_or(Ok(()), |rate| Rate::new(rate.count, rate.per).map(drop))
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.concurrency.is_some() || self.rate.is_some()
    }
}

/// The starts that are left of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// In thousandths of a start.
    pub tokens: i64,
    /// When that was so.
    pub at: Timestamp,
}

impl Bucket {
    /// A bucket that nothing was taken from yet. It is empty: what a new limit allows comes with time.
    pub fn new(now: Timestamp) -> Self {
        Self { tokens: 0, at: now }
    }

    /// What is in it at `now`: never more than the rate allows in its time, and never less because a clock went back.
    #[must_use]
    pub fn filled(self, rate: Rate, now: Timestamp) -> Self {
        let full = i64::from(rate.count) * 1000;
        let passed = i128::try_from(now.since(self.at).as_micros()).unwrap_or(i128::MAX);
        let per = i128::try_from(rate.per.as_micros()).unwrap_or(i128::MAX).max(1);
        let came = passed.saturating_mul(i128::from(full)) / per;
        let came = i64::try_from(came).unwrap_or(full).min(full);
        Self { tokens: self.tokens.saturating_add(came).min(full), at: now.max(self.at) }
    }

    /// Takes up to `wanted` whole starts.
    #[must_use]
    pub fn take(self, wanted: u32) -> (u32, Self) {
        let whole = u32::try_from(self.tokens.max(0) / 1000).unwrap_or(u32::MAX);
        let taken = whole.min(wanted);
        (taken, Self { tokens: self.tokens - i64::from(taken) * 1000, ..self })
    }
}

/// How many permits a worker may hold: what it wants, as far as the others leave it (J11).
pub fn permits(limit: u32, others: u32, wanted: u32) -> u32 {
    wanted.min(limit.saturating_sub(others))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        let rate: Rate = "100/1m".parse().unwrap();
        assert_eq!((rate.count, rate.per), (100, Duration::from_secs(60)));
        assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate);
        for bad in ["", "100", "0/1m", "1/0s", "x/1m", "1/1ms", "1/2d", "-1/1m", "1/1m/1m"] {
            assert_eq!(bad.parse::<Rate>().unwrap_err().code(), Code::LimitInvalid, "{bad:?}");
        }
        assert!(Limits { concurrency: Some(0), rate: None }.check().is_err());
        assert!(Limits { concurrency: Some(CONCURRENCY_MAX + 1), rate: None }.check().is_err());
        assert!(Limits::default().check().is_ok() && !Limits::default().any());
    }

    proptest! {
        /// J11: whoever asks and when, in no window start more than the rate and one bucket allow.
        #[test]
        fn j11_starts_stay_within_the_rate(
            count in 1_u32..50,
            asks in prop::collection::vec((0_u64..400, 0_u32..30), 1..80),
        ) {
            let rate = Rate::new(count, Duration::from_secs(1)).unwrap();
            let mut bucket = Bucket::new(Timestamp::from_micros(0));
            let (mut now, mut starts) = (Timestamp::from_micros(0), Vec::new());
            for (pause, wanted) in asks {
                now = now.after(Duration::from_millis(pause));
                let (taken, left) = bucket.filled(rate, now).take(wanted);
                bucket = left;
                prop_assert!(bucket.tokens >= 0 && taken <= wanted);
                starts.push((now, taken));
            }
            for (from, _) in &starts {
                let end = from.after(Duration::from_secs(1));
                let window: u32 =
                    starts.iter().filter(|(at, _)| at >= from && *at < end).map(|(_, taken)| taken).sum();
                prop_assert!(window <= 2 * count, "{window} starts in a window of {count}");
            }
        }

        #[test]
        fn j11_permits_never_exceed_the_limit(limit in 1_u32..50, wants in prop::collection::vec(0_u32..40, 1..20)) {
            let mut held = vec![0_u32; wants.len()];
            for (worker, wanted) in wants.iter().enumerate() {
                let others = held.iter().sum::<u32>() - held[worker];
                held[worker] = permits(limit, others, *wanted);
                prop_assert!(held.iter().sum::<u32>() <= limit);
            }
        }
    }

    #[test]
    fn a_clock_that_goes_back_gives_no_starts() {
        let rate = Rate::new(10, Duration::from_secs(1)).unwrap();
        let bucket = Bucket::new(Timestamp::from_micros(5_000_000)).filled(rate, Timestamp::from_micros(1));
        assert_eq!((bucket.tokens, bucket.at.as_micros()), (0, 5_000_000));
    }
}
