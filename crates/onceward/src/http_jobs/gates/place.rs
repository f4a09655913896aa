//! What is known of one receiver, and the lines of those that were sent away.

use core::time::Duration;
use std::sync::Arc;

use onceward_core::http::Breaker;
use onceward_core::job::limit::Bucket;
use onceward_core::{Timestamp, backoff};
use tokio::sync::Notify;

use super::{Line, SLOW};

/// The pauses of jobs that are sent away until it is their turn.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(200);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(10 * 60);
/// The longest one of those to receivers that nobody knows: one of them may be there.
pub(super) const UNKNOWN_MAX: Duration = Duration::from_secs(30);
/// For how long at least a receiver counts as one that has just answered.
const JUST: Duration = Duration::from_millis(50);
/// How much a new time counts beside the earlier ones.
const WEIGHT: u32 = 8;

/// How long requests usually take, and since when none has ended.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) usual: Duration,
    since: Timestamp,
}

impl Default for Pace {
    fn default() -> Self {
        Self { usual: Duration::from_millis(100), since: Timestamp::from_micros(0) }
    }
}

impl Pace {
    /// The first of those that are under way has begun.
    pub(super) fn began(&mut self, now: Timestamp) {
        self.since = now;
    }

    /// One has ended.
    pub(super) fn ended(&mut self, now: Timestamp, took: Duration) {
        self.since = now;
        self.took(took);
    }

    pub(super) fn took(&mut self, took: Duration) {
        self.usual = (self.usual * (WEIGHT - 1) + took) / WEIGHT;
    }

    /// How long it takes until one of so many places is free, while there is something under way: as long as nothing
    /// ends, nobody knows better than that it takes as long as it has taken already.
    pub(super) fn each(&self, now: Timestamp, places: usize) -> Duration {
        let took = self.usual.max(now.since(self.since)).max(Duration::from_millis(2));
        took / u32::try_from(places).unwrap_or(u32::MAX).max(1)
    }
}

/// How many were sent away, less those whose turn it has been since.
#[derive(Clone, Copy)]
pub(super) struct Tail {
    ahead: f64,
    at: Timestamp,
}

impl Default for Tail {
    fn default() -> Self {
        Self { ahead: 0.0, at: Timestamp::from_micros(0) }
    }
}

impl Tail {
    /// Nobody's turn comes before this time.
    fn hold(&mut self, until: Timestamp) {
        self.at = self.at.max(until);
    }

    /// One more; when its turn comes, where it takes so long from one to the next. What is longer than `most` is cut
    /// to that, and a little more for some of them: they need not come back together.
    pub(super) fn join(&mut self, now: Timestamp, each: Duration, most: Duration, seed: u64) -> Duration {
        let step = each.as_secs_f64().max(1e-6);
        let gone = now.since(self.at).as_secs_f64() / step;
        self.at = self.at.max(now);
        let before = (self.ahead - gone).max(0.0);
        let longest = most.as_secs_f64() / step;
        self.ahead = (before + 1.0).min(longest);
        let held = self.at.since(now);
        if before >= longest {
            return held + spread(most, seed);
        }
        held + each.mul_f64(before)
    }
}

/// One receiver.
pub(super) struct Place {
    pub(super) breaker: Breaker,
    pub(super) in_flight: usize,
    /// How many of them are slow.
    pub(super) slow: usize,
    pub(super) waiting: usize,
    pub(super) limit: usize,
    /// Whether its last answer came in time; nothing is known before the first.
    pub(super) answers: Option<bool>,
    /// When that was.
    pub(super) answered: Option<Timestamp>,
    /// How long it takes, and since when nothing has come of what is under way.
    pub(super) pace: Pace,
    tail: Tail,
    /// What is left of its rate, if it has one.
    pub(super) bucket: Option<Bucket>,
    /// When somebody last asked for it.
    pub(super) asked: Timestamp,
    pub(super) freed: Arc<Notify>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            breaker: Breaker::default(),
            in_flight: 0,
            slow: 0,
            waiting: 0,
            limit: 0,
            answers: None,
            answered: None,
            pace: Pace::default(),
            tail: Tail::default(),
            bucket: None,
            asked: Timestamp::from_micros(0),
            freed: Arc::default(),
        }
    }
}

impl Place {
    /// Whether it answers: it has just done so. One that answered a while ago may be gone by now.
    pub(super) fn answers_now(&self, now: Timestamp) -> bool {
        let just = (self.pace.usual * 4).clamp(JUST, SLOW);
        self.answers == Some(true) && self.answered.is_some_and(|at| now.since(at) <= just)
    }

    /// One more is under way.
    pub(super) fn begins(&mut self, now: Timestamp) {
        if self.in_flight == 0 {
            self.pace.began(now);
        }
        self.in_flight += 1;
    }

    /// One has come to an end that says something about it.
    pub(super) fn ended(&mut self, now: Timestamp, took: Duration, is_answer: bool) {
        self.answers = Some(is_answer);
        if is_answer {
            self.answered = Some(now);
            self.pace.ended(now, took);
        } else {
            // Those that are under way have as little to show as before.
            self.pace.took(took);
        }
    }

    /// When one more that is sent away may come back: after those before it, and not before this pause is over.
    pub(super) fn step(&mut self, now: Timestamp, pause: Duration, seed: u64) -> Duration {
        let each = if self.in_flight > 0 {
            self.pace.each(now, self.limit)
        } else {
            self.pace.usual / u32::try_from(self.limit).unwrap_or(u32::MAX).max(1)
        };
        if !pause.is_zero() {
            self.tail.hold(now.after(pause));
        }
        self.tail.join(now, each, PAUSE_MAX, seed).max(PAUSE_MIN)
    }

    /// Takes a start out of the bucket; when the turn of one more comes, where it is empty. It begins full.
    pub(super) fn throttled(&mut self, line: &Line, now: Timestamp, seed: u64) -> Option<Duration> {
        let Some((rate, burst)) = line.limits() else {
            self.bucket = None;
            return None;
        };
        let full = Bucket { tokens: i64::from(burst) * 1000, ..Bucket::new(now) };
        let bucket = self.bucket.unwrap_or(full).filled(rate, burst, now);
        let (taken, left) = bucket.take(1);
        self.bucket = Some(left);
        if taken > 0 {
            return None;
        }
        let turn = self.tail.join(now, rate.per / rate.count.max(1), PAUSE_MAX, seed);
        Some((left.next_in(rate) + turn).clamp(PAUSE_MIN, spread(PAUSE_MAX, seed)))
    }

    /// It begins anew.
    pub(super) fn forgive(&mut self) {
        (self.breaker, self.tail) = (Breaker::default(), Tail::default());
    }

    /// Whether there is something to remember.
    pub(super) fn is_told(&self, now: Timestamp) -> bool {
        !self.breaker.is_idle() || (self.bucket.is_some() && now.since(self.asked) < PAUSE_MAX)
    }
}

/// Up to a quarter longer: those that were sent away together need not come back together.
pub(super) fn spread(pause: Duration, seed: u64) -> Duration {
    let parts = u32::try_from(backoff::mix(seed) >> 44).unwrap_or(0); // 20 bits
    pause + (pause / 4).mul_f64(f64::from(parts) / f64::from(1_u32 << 20))
}
