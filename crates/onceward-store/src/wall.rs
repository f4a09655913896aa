//! Whether a wall clock can be believed before anything is forgotten by it (O14, N16).
//!
//! A wall clock may step; the boot clock of this host may not. When their difference changes by more than a minute,
//! nothing is forgotten until it has gone back or has stayed like that for an hour. A server's clock that is seen for
//! the first time is compared with this host's wall clock.

use std::sync::{Mutex, MutexGuard, PoisonError};

use onceward_core::Timestamp;

use crate::Clock;

const SECOND: i64 = 1_000_000;
/// How far the wall clock may step before it is doubted.
pub(crate) const SLACK: i64 = 60 * SECOND;
/// How long another offset must last to be believed.
const DOUBT: i64 = 3_600 * SECOND;

/// How the wall clock stands to what is believed about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WallClock {
    /// As it should.
    Trusted,
    /// It jumped ahead: what seems to be over may not be.
    Ahead,
    /// It jumped back: what is over may seem not to be.
    Behind,
}

/// A difference between the clocks, and the boottime since when it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offset {
    pub(crate) offset: i64,
    pub(crate) since: i64,
}

/// What is believed about the difference between a wall clock and the boot clock, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Believed {
    /// The difference.
    pub(crate) offset: i64,
    /// Another one that was seen since.
    pub(crate) doubted: Option<Offset>,
}

/// What follows from an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) clock: WallClock,
    /// What is to be believed from now on, if that has changed.
    pub(crate) changed: Option<Believed>,
}

/// Judges a wall clock that is read at a moment of the boot clock.
pub(crate) fn judge(known: Believed, wall: i64, boot: i64) -> Verdict {
    let offset = wall - boot;
    let near = |other: i64| (offset - other).abs() <= SLACK;
    let believed = Believed { offset, doubted: None };
    if near(known.offset) {
        // Small steps add up: what is believed follows them.
        let changed = known.doubted.is_some() || (offset - known.offset).abs() > SECOND;
        return Verdict { clock: WallClock::Trusted, changed: changed.then_some(believed) };
    }
    let clock = if offset > known.offset { WallClock::Ahead } else { WallClock::Behind };
    match known.doubted.filter(|doubted| near(doubted.offset)) {
        Some(doubted) if boot - doubted.since >= DOUBT => {
            Verdict { clock: WallClock::Trusted, changed: Some(believed) }
        }
        Some(_) => Verdict { clock, changed: None },
        None => {
            let doubted = Some(Offset { offset, since: boot });
            Verdict { clock, changed: Some(Believed { doubted, ..known }) }
        }
    }
}

/// The time up to which outcomes may be forgotten: what the wall clock says, or, while it has jumped ahead, what it
/// should say.
pub(crate) fn forget_until(known: Believed, wall: i64, boot: i64) -> i64 {
    match judge(known, wall, boot).clock {
        WallClock::Ahead => boot + known.offset,
        WallClock::Trusted | WallClock::Behind => wall,
    }
}

/// What this process believes about a server's clock: each answer tells the server's time, and this host's boot clock
/// tells how much time has passed since an earlier one.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    known: Mutex<Option<Known>>,
    /// Somebody has said that the server's clock is right.
    vouched: bool,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    believed: Believed,
    /// The boottime of the first observation.
    since: i64,
}

impl Trust {
    /// `vouched`: what the server's clock says is right whatever else is seen.
    pub(crate) fn new(vouched: bool) -> Self {
        Self { known: Mutex::default(), vouched }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares the server's time with the boot clock's.
    pub(crate) fn observe(&self, server: Timestamp, boot: Timestamp) -> WallClock {
        let (wall, boot) = (server.as_micros(), boot.as_micros());
        let mut known = self.lock();
        let Some(Known { believed, since }) = *known else {
            let believed = Believed { offset: wall - boot, doubted: None };
            *known = Some(Known { believed, since: boot });
            return WallClock::Trusted;
        };
        let verdict = judge(believed, wall, boot);
        *known = Some(Known { believed: verdict.changed.unwrap_or(believed), since });
        verdict.clock
    }

    /// Whether the server's time may decide that something is to be forgotten. What is seen for the first time can't be
    /// compared with what was seen before: then it must agree with this host's wall clock, or last for an hour.
    pub(crate) fn may_forget(&self, server: Timestamp, clock: &dyn Clock) -> WallClock {
        let boot = clock.boottime();
        let observed = self.observe(server, boot);
        if self.vouched || observed != WallClock::Trusted {
            return if self.vouched { WallClock::Trusted } else { observed };
        }
        let ahead = server.as_micros() - clock.wall().as_micros();
        let has_lasted = self.lock().is_some_and(|known| boot.as_micros() - known.since >= DOUBT);
        match ahead {
            _ if has_lasted || ahead.abs() <= SLACK => WallClock::Trusted,
            0.. => WallClock::Ahead,
            _ => WallClock::Behind,
        }
    }

    /// The latest that the server's clock may show now without being doubted; `None` before the first observation.
    pub(crate) fn latest(&self, boot: Timestamp) -> Option<i64> {
        self.lock().map(|known| boot.as_micros() + known.believed.offset + SLACK)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    /// N16: thirty days ahead for ten seconds, and back.
    #[test]
    fn n16_a_server_whose_clock_jumps_is_doubted_until_it_is_back() {
        const DAY: i64 = 86_400_000_000;
        let at = Timestamp::from_micros;
        let trust = Trust::default();
        assert_eq!(trust.latest(at(0)), None);
        assert_eq!(trust.observe(at(100 * DAY), at(0)), WallClock::Trusted);
        assert_eq!(trust.observe(at(101 * DAY), at(DAY)), WallClock::Trusted);
        assert_eq!(trust.observe(at(131 * DAY), at(DAY)), WallClock::Ahead);
        assert_eq!(trust.latest(at(DAY)), Some(101 * DAY + SLACK), "what it should show, not what it shows");
        assert_eq!(trust.observe(at(131 * DAY + 10_000_000), at(DAY + 10_000_000)), WallClock::Ahead);
        assert_eq!(trust.observe(at(101 * DAY + 20_000_000), at(DAY + 20_000_000)), WallClock::Trusted);
        assert_eq!(trust.observe(at(91 * DAY), at(DAY + 30_000_000)), WallClock::Behind);
    }

    /// N16: while a clock is ahead, forgetting goes on by the time that has really passed.
    #[test]
    fn n16_what_jumped_ahead_is_forgotten_by_the_time_that_passed() {
        let known = Believed { offset: 1_000 * SECOND, doubted: None };
        assert_eq!(forget_until(known, 1_010 * SECOND, 10 * SECOND), 1_010 * SECOND);
        assert_eq!(forget_until(known, 9_999 * SECOND, 10 * SECOND), 1_010 * SECOND);
        assert_eq!(forget_until(known, 500 * SECOND, 10 * SECOND), 500 * SECOND, "behind forgets less");
    }

    /// O14, N16: a process that has not seen the server's clock before does not take its word for what is to be
    /// forgotten, when this host's says another date.
    #[test]
    fn n16_a_server_seen_for_the_first_time_is_compared_with_this_host() {
        const DAY: i64 = 86_400 * SECOND;
        let clock = ManualClock::default();
        let server = |by: i64| Timestamp::from_micros(clock.wall().as_micros() + by);
        for (by, seen) in [(30 * SECOND, WallClock::Trusted), (-30 * SECOND, WallClock::Trusted)] {
            assert_eq!(Trust::default().may_forget(server(by), &clock), seen, "{by}");
        }
        assert_eq!(Trust::default().may_forget(server(-DAY), &clock), WallClock::Behind);
        assert_eq!(Trust::new(true).may_forget(server(DAY), &clock), WallClock::Trusted, "somebody vouches");
        let trust = Trust::default();
        assert_eq!(
            trust.observe(server(DAY), clock.boottime()),
            WallClock::Trusted,
            "nobody is kept from claiming"
        );
        assert_eq!(trust.may_forget(server(DAY), &clock), WallClock::Ahead);
        clock.advance(Duration::from_secs(3_599));
        assert_eq!(trust.may_forget(server(DAY), &clock), WallClock::Ahead);
        clock.advance(Duration::from_secs(1));
        assert_eq!(
            trust.may_forget(server(DAY), &clock),
            WallClock::Trusted,
            "it is this host that is wrong"
        );
    }
}
