//! One instant on two clocks: claims are measured on the boot clock, people are shown the wall clock.
//!
//! A row keeps when its claim runs out on the boot clock and of which start of the host that was. Records
//! show it as a wall-clock instant that compares with [`Now::wall`] exactly as the boot clocks do: a step of
//! the wall clock neither ends a claim nor prolongs it (G1, N51).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use onceward_core::Timestamp;

use crate::Clock;

/// How far the two clocks may drift apart before the difference counts: reading them one after the other
/// costs microseconds, and a row read twice should show the same.
const JITTER_MICROS: i64 = 5_000;

/// Both clocks of this process.
pub(crate) struct Clocks {
    clock: Arc<dyn Clock>,
    boot_id: Arc<str>,
    offset: AtomicI64,
}

/// An instant on both clocks.
pub(crate) struct Now {
    /// The wall clock.
    pub(crate) wall: Timestamp,
    /// The boot clock, in microseconds.
    pub(crate) boot: i64,
    /// Which start of the host the boot clock counts from.
    pub(crate) boot_id: Arc<str>,
}

/// When a claim runs out, as a row keeps it.
pub(crate) struct Expiry<'a> {
    /// When the claim began, on the wall clock.
    pub(crate) began: i64,
    /// The wall clock's view when the row was written.
    pub(crate) wall: i64,
    /// The boot clock's, which decides.
    pub(crate) boot: i64,
    /// Which start of the host that was.
    pub(crate) boot_id: &'a str,
}

impl Clocks {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let boot_id = clock.boot_id().into();
        let offset = AtomicI64::new(clock.wall().as_micros() - clock.boottime().as_micros());
        Self { clock, boot_id, offset }
    }

    /// The process's clock.
    pub(crate) fn source(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Reads both clocks.
    pub(crate) fn now(&self) -> Now {
        let boot = self.clock.boottime().as_micros();
        let mut offset = self.clock.wall().as_micros() - boot;
        let known = self.offset.load(Ordering::Relaxed);
        if (offset - known).abs() <= JITTER_MICROS {
            offset = known;
        } else {
            self.offset.store(offset, Ordering::Relaxed);
        }
        Now { wall: Timestamp::from_micros(boot + offset), boot, boot_id: Arc::clone(&self.boot_id) }
    }
}

impl Now {
    /// A wall-clock instant of this moment's reckoning, on the boot clock.
    pub(crate) fn on_boot_clock(&self, wall: Timestamp) -> i64 {
        self.boot.saturating_add(wall.as_micros().saturating_sub(self.wall.as_micros()))
    }

    /// How a row's expiry is shown. A claim of an earlier start of the host ended with it at the latest.
    pub(crate) fn shown(&self, expiry: &Expiry<'_>) -> Timestamp {
        let wall = self.wall.as_micros();
        let shown = if *expiry.boot_id == *self.boot_id {
            wall.saturating_add(expiry.boot.saturating_sub(self.boot))
        } else {
            let host_started = wall.saturating_sub(self.boot);
            expiry.wall.min(host_started.max(expiry.began)).min(wall)
        };
        Timestamp::from_micros(shown)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn an_expiry_is_shown_by_the_boot_clock_whatever_the_wall_clock_does() {
        let clock = ManualClock::default();
        let clocks = Clocks::new(Arc::new(clock.clone()));
        let before = clocks.now();
        let until = before.wall.after(Duration::from_secs(10));
        let (boot, boot_id) = (before.on_boot_clock(until), before.boot_id.clone());
        let expiry =
            Expiry { began: before.wall.as_micros(), wall: until.as_micros(), boot, boot_id: &boot_id };
        assert_eq!(before.shown(&expiry), until);
        for step in [3_600 * SECOND, -7_200 * SECOND] {
            clock.step_wall(step);
            let now = clocks.now();
            assert_eq!(now.shown(&expiry), now.wall.after(Duration::from_secs(10)), "still ten seconds");
        }
        clock.advance(Duration::from_secs(10));
        let now = clocks.now();
        assert_eq!(now.shown(&expiry), now.wall, "over to the microsecond");
    }

    /// N51: whatever was held before the host started is over, and was when it started.
    #[test]
    fn a_claim_of_an_earlier_start_of_the_host_is_over() {
        let now = Clocks::new(Arc::new(ManualClock::default())).now();
        let started = now.wall.as_micros() - now.boot;
        let expiry = |began, wall| Expiry { began, wall, boot: i64::MAX, boot_id: "another" };
        let shown = |began, wall| now.shown(&expiry(began, wall)).as_micros();
        assert_eq!(shown(started - 9 * SECOND, started - SECOND), started - SECOND);
        assert_eq!(shown(started - 9 * SECOND, started + 60 * SECOND), started);
        let poisoned = now.wall.as_micros() + 3_600 * SECOND;
        assert_eq!(shown(poisoned, poisoned + SECOND), now.wall.as_micros(), "never in the future");
    }

    #[test]
    fn jitter_between_the_clocks_is_not_shown() {
        let clock = ManualClock::default();
        let clocks = Clocks::new(Arc::new(clock.clone()));
        let before = clocks.now().wall;
        clock.step_wall(JITTER_MICROS);
        assert_eq!(clocks.now().wall, before);
        clock.step_wall(1);
        assert_eq!(clocks.now().wall.since(before).as_micros(), 5_001);
    }
}
