//! Limits of a queue over all workers: how many of its jobs run at the same time, and how many start in a time.
//!
//! A worker holds a [permit](super::permit) of a limited queue, in a row of its session, and runs no more of the
//! queue's jobs than it says. Starts are tokens that a worker takes in chunks out of a bucket; what it does not use
//! within the chunk's time is lost. Queues without limits know nothing of this, and no claim waits for another.

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

    /// How many start in this time, and at least one.
    fn within(self, time: Duration) -> u32 {
        let per = micros(self.per).max(1);
        let starts = (micros(time) * i128::from(self.count) + per - 1) / per;
        u32::try_from(starts).unwrap_or(u32::MAX).max(1)
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
            Error::new(
                Code::LimitInvalid,
                format!("\"{shown}\" is not a rate: write it like 100/s or 100/1m"),
            )
        };
        let (count, per) = text.split_once('/').ok_or_else(bad)?;
        let count = count.trim().parse().map_err(|_| bad())?;
        // "100/s" is "100/1s".
        let one = if per.starts_with(|first: char| first.is_ascii_digit()) { "" } else { "1" };
        Self::new(count, duration::parse(&format!("{one}{per}")).map_err(|_| bad())?)
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
    /// How many more may start at once after a while in which fewer did; [`Limits::burst`] says what is meant by none.
    pub burst: Option<u32>,
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
        match (self.rate, self.burst) {
            (None, Some(_)) => Err(Error::new(Code::LimitInvalid, "only a queue with a rate has a burst")),
            (_, Some(burst)) if !(1..=RATE_COUNT_MAX).contains(&burst) => {
                let why = format!("a burst lies between 1 and {RATE_COUNT_MAX}, this one is {burst}");
                Err(Error::new(Code::LimitInvalid, why))
            }
            (rate, _) => rate.map_or(Ok(()), |rate| Rate::new(rate.count, rate.per).map(drop)),
        }
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.concurrency.is_some() || self.rate.is_some()
    }

    /// How many may start at once: what was said, or what the rate gives in a second.
    pub fn burst(&self) -> u32 {
        let of = |rate: Rate| rate.within(Duration::from_secs(1)).min(rate.count);
        self.burst.or(self.rate.map(of)).unwrap_or(0)
    }

    /// How long it takes until half of a chunk has come: asking again before brings little.
    pub fn pace(&self) -> Duration {
        let half = (self.chunk() / 2).max(1);
        self.rate.map_or(Duration::ZERO, |rate| rate.per.saturating_mul(half) / rate.count.max(1))
    }

    /// How many starts a worker takes at once, at most: what the rate gives in half a second.
    pub fn chunk(&self) -> u32 {
        self.rate.map_or(0, |rate| rate.within(Duration::from_millis(500)).min(self.burst()))
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.concurrency.map(|most| format!("{most} at once")),
            self.rate.map(|rate| rate.to_string()),
            self.rate.map(|_| format!("burst {}", self.burst())),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// The starts that are left of a rate.
///
/// What is in it and what workers hold of it never is more than the burst together, so that in no window of the rate's
/// time more start than the rate and the burst allow (J11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// In thousandths of a start.
    pub tokens: i64,
    /// Up to when time has been turned into tokens.
    pub at: Timestamp,
    /// How many starts workers held when something was last taken. They hold fewer since, but were they counted less
    /// before the next look, what came while they held them would be too much.
    pub lent: u32,
}

impl Bucket {
    /// A bucket that nothing was taken from yet. It is empty: what a new limit allows comes with time.
    pub fn new(now: Timestamp) -> Self {
        Self { tokens: 0, at: now, lent: 0 }
    }

    /// What is in it at `now`. A clock that went back gives nothing, and takes nothing.
    #[must_use]
    pub fn filled(self, rate: Rate, burst: u32, now: Timestamp) -> Self {
        if now < self.at {
            return Self { at: now, ..self };
        }
        let room = (i64::from(burst) - i64::from(self.lent)).max(0) * 1000;
        let (per, count) = (micros(rate.per).max(1), i128::from(rate.count) * 1000);
        let came = micros(now.since(self.at)).saturating_mul(count) / per;
        let tokens = i64::try_from(came).unwrap_or(i64::MAX).saturating_add(self.tokens);
        if tokens >= room {
            return Self { tokens: room, at: now, ..self };
        }
        // What is too little for a thousandth is counted the next time.
        let used = u64::try_from((came * per + count - 1) / count).unwrap_or(u64::MAX);
        Self { tokens, at: self.at.after(Duration::from_micros(used)).min(now), ..self }
    }

    /// Takes up to `wanted` whole starts.
    #[must_use]
    pub fn take(self, wanted: u32) -> (u32, Self) {
        let whole = u32::try_from(self.tokens.max(0) / 1000).unwrap_or(u32::MAX);
        let taken = whole.min(wanted);
        (taken, Self { tokens: self.tokens - i64::from(taken) * 1000, ..self })
    }

    /// Puts starts back that were not used.
    #[must_use]
    pub fn put_back(self, unused: u32) -> Self {
        Self { tokens: self.tokens + i64::from(unused) * 1000, ..self }
    }

    /// How long it takes until a whole start is in it.
    pub fn next_in(&self, rate: Rate) -> Duration {
        let missing = u64::try_from((1000 - self.tokens).max(0)).unwrap_or(0);
        let micros = u64::try_from(micros(rate.per)).unwrap_or(u64::MAX).saturating_mul(missing);
        Duration::from_micros(micros / (u64::from(rate.count) * 1000).max(1))
    }
}

fn micros(time: Duration) -> i128 {
    i128::try_from(time.as_micros()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        let rate: Rate = "100/1m".parse().unwrap();
        assert_eq!((rate.count, rate.per), (100, Duration::from_secs(60)));
        assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate);
        assert_eq!("100/m".parse::<Rate>().unwrap(), rate);
        for bad in ["", "100", "100/", "0/1m", "1/0s", "x/1m", "1/1ms", "1/2d", "-1/1m", "1/1m/1m"] {
            assert_eq!(bad.parse::<Rate>().unwrap_err().code(), Code::LimitInvalid, "{bad:?}");
        }
        assert!(Limits { concurrency: Some(0), ..Limits::default() }.check().is_err());
        assert!(Limits { concurrency: Some(CONCURRENCY_MAX + 1), ..Limits::default() }.check().is_err());
        assert!(Limits::default().check().is_ok() && !Limits::default().any());
    }

    #[test]
    fn a_burst_is_what_comes_in_a_second_unless_said() {
        let limits =
            |text: &str, burst| Limits { rate: Some(text.parse().unwrap()), burst, concurrency: None };
        assert_eq!((limits("100/1s", None).burst(), limits("100/1s", None).chunk()), (100, 50));
        assert_eq!((limits("100/1m", None).burst(), limits("100/1m", None).chunk()), (2, 1));
        assert_eq!((limits("1/1h", None).burst(), limits("1/1h", Some(9)).burst()), (1, 9));
        assert!(limits("1/1h", Some(0)).check().is_err());
        let both = Limits { concurrency: Some(5), ..limits("100/m", None) };
        assert_eq!(both.to_string(), "5 at once, 100/1m, burst 2");
        assert!(Limits { burst: Some(1), ..Limits::default() }.check().is_err(), "of no rate");
    }

    #[test]
    fn looking_often_loses_nothing() {
        let rate = Rate::new(1, Duration::from_secs(3600)).unwrap();
        let mut bucket = Bucket::new(Timestamp::from_micros(0));
        for millis in (0..3_600_100).step_by(10) {
            bucket = bucket.filled(rate, 1, Timestamp::from_micros(millis * 1000));
        }
        assert_eq!(bucket.take(5).0, 1);
        let empty = Bucket::new(Timestamp::from_micros(0));
        assert_eq!(empty.next_in(rate), Duration::from_secs(3600));
    }

    #[test]
    fn a_clock_that_goes_back_gives_no_starts() {
        let rate = Rate::new(10, Duration::from_secs(1)).unwrap();
        let bucket =
            Bucket::new(Timestamp::from_micros(5_000_000)).filled(rate, 10, Timestamp::from_micros(1));
        assert_eq!((bucket.tokens, bucket.at.as_micros()), (0, 1));
    }

    #[test]
    fn what_workers_hold_leaves_less_room() {
        let rate = Rate::new(10, Duration::from_secs(1)).unwrap();
        let bucket = Bucket { lent: 7, ..Bucket::new(Timestamp::from_micros(0)) };
        assert_eq!(bucket.filled(rate, 10, Timestamp::from_micros(9_000_000)).tokens, 3_000);
        assert_eq!(bucket.put_back(2).tokens, 2_000);
    }
}
