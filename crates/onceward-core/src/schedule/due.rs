//! Which ticks are to be enqueued now.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::When;
use crate::Timestamp;

/// What becomes of ticks whose time has passed while nobody was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMissed {
    /// They are passed over, except one that is late by no more than the window.
    Skip,
    /// The last one is enqueued.
    #[default]
    One,
    /// All are enqueued, the oldest first.
    All,
}

impl OnMissed {
    /// The policy as written: `skip`, `one`, `all`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::One => "one",
            Self::All => "all",
        }
    }

    /// How far back a tick may lie that is still enqueued, if nobody says: a minute, or a day.
    pub const fn window(self) -> Duration {
        match self {
            Self::Skip => Duration::from_secs(60),
            Self::One | Self::All => Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The ticks to enqueue, the oldest first.
    pub ticks: Vec<Timestamp>,
    /// Whether ticks were passed over.
    pub passed_over: bool,
    /// The first tick after those; none if there is no other one.
    pub next: Option<Timestamp>,
}

/// Decides what is due of a schedule whose next tick is `next`: no tick before it, and none after `now`. At most
/// `limit` ticks are named at once; where more are due, the next one is.
pub fn due(
    when: &When,
    next: Timestamp,
    now: Timestamp,
    policy: OnMissed,
    window: Duration,
    limit: usize,
) -> Due {
    if next > now {
        return Due { ticks: Vec::new(), passed_over: false, next: Some(next) };
    }
    let earliest = next.max(now.before(window));
    let ticks = match policy {
        OnMissed::All => first(when, earliest, now, limit.max(1)),
        OnMissed::Skip | OnMissed::One => last(when, earliest, now).into_iter().collect(),
    };
    let after = match (policy, ticks.last()) {
        (OnMissed::All, Some(last)) => *last,
        _ => now,
    };
    let passed_over = match ticks.first() {
        Some(first) => *first > next,
        None => true,
    };
    Due { passed_over, next: when.next_after(after), ticks }
}

const MICRO: Duration = Duration::from_micros(1);

/// The first ticks from a time on.
fn first(when: &When, from: Timestamp, until: Timestamp, limit: usize) -> Vec<Timestamp> {
    let first = when.next_after(from.before(MICRO));
    core::iter::successors(first, |tick| when.next_after(*tick))
        .take_while(|tick| *tick <= until)
        .take(limit)
        .collect()
}

/// The last tick between two times. It is looked for from the end, in spans that double: of a pattern that is due every
/// second for a year, a minute is looked at.
fn last(when: &When, from: Timestamp, until: Timestamp) -> Option<Timestamp> {
    let mut span = Duration::from_secs(60);
    loop {
        let start = from.max(until.before(span));
        let first = when.next_after(start.before(MICRO)).filter(|tick| *tick <= until);
        if first.is_some() {
            let ticks = core::iter::successors(first, |tick| when.next_after(*tick));
            return ticks.take_while(|tick| *tick <= until).last();
        }
        if start <= from {
            return None;
        }
        span = span.saturating_mul(2);
    }
}
