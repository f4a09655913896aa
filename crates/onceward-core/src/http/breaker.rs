//! When a receiver that does not answer is left alone (N56).
//!
//! ```text
//! closed ──ten failures in a row──▶ open ──its pause is over──▶ half open: one probe ──it worked──▶ closed
//!                                     ▲                                  └──failed──▶ open, twice as long
//! ```
//!
//! Apart from that, a receiver may ask for a pause.

use core::time::Duration;

use crate::{Timestamp, backoff};

/// How many failures in a row open it.
const FAILURES: u32 = 10;
/// The first pause, and the longest.
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(120);
/// How long a probe may take before another one is let through: whoever had it may be gone.
const PROBE: Duration = Duration::from_secs(60);

/// What a breaker says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may go.
    Go,
    /// It may go, and the others wait for what becomes of it.
    Probe,
    /// Not before this time has passed: the receiver has asked for it.
    Wait(Duration),
    /// Others have just failed, and it would too.
    Open(Duration),
}

/// Whether requests to one receiver are let through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    /// In a row.
    failures: u32,
    /// How often it has opened without a success.
    opened: u32,
    /// Until when it is open.
    until: Option<Timestamp>,
    /// Since when a probe is under way.
    probe: Option<Timestamp>,
    /// Until when the receiver wants to be left alone.
    held: Option<Timestamp>,
}

impl Breaker {
    /// Whether a request may go now.
    pub fn ask(&mut self, now: Timestamp) -> Gate {
        if let Some(held) = self.held.filter(|held| *held > now) {
            return Gate::Wait(held.since(now));
        }
        self.held = None;
        let Some(until) = self.until else { return Gate::Go };
        if until > now {
            return Gate::Open(until.since(now));
        }
        if let Some(left) = self.probe.map(|since| since.after(PROBE)).filter(|until| *until > now) {
            return Gate::Open(left.since(now).min(FIRST));
        }
        self.probe = Some(now);
        Gate::Probe
    }

    /// The receiver has answered as it should.
    pub fn succeeded(&mut self) {
        *self = Self { held: self.held, ..Self::default() };
    }

    /// It has not. `seed` is any random number.
    pub fn failed(&mut self, now: Timestamp, seed: u64) {
        self.failures = self.failures.saturating_add(1);
        self.probe = None;
        if self.failures >= FAILURES && self.until.is_none_or(|until| until <= now) {
            self.until = Some(now.after(backoff::delay(self.opened, FIRST, LONGEST, seed)));
            self.opened = self.opened.saturating_add(1);
        }
    }

    /// The receiver wants to be left alone for a while.
    pub fn hold(&mut self, now: Timestamp, pause: Duration) {
        self.held = self.held.max(Some(now.after(pause)));
    }

    /// Whether it is as in the beginning.
    pub fn is_idle(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(0).after(Duration::from_secs(seconds))
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        (0..FAILURES).for_each(|_| breaker.failed(at(0), 7));
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_probe_through() {
        let mut breaker = Breaker::default();
        for _ in 1..FAILURES {
            breaker.failed(at(0), 7);
            assert_eq!(breaker.ask(at(0)), Gate::Go);
        }
        breaker.succeeded();
        assert!(breaker.is_idle());
        let mut breaker = opened();
        assert!(matches!(breaker.ask(at(0)), Gate::Open(_)));
        assert_eq!(breaker.ask(at(2)), Gate::Probe);
        assert!(matches!(breaker.ask(at(2)), Gate::Open(_)), "one probe at a time");
        breaker.succeeded();
        assert_eq!(breaker.ask(at(2)), Gate::Go);
    }

    #[test]
    fn a_failed_probe_opens_it_for_longer_up_to_a_bound() {
        let mut breaker = opened();
        let mut now = at(0);
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            let Gate::Open(pause) = breaker.ask(now) else { panic!("it is open") };
            assert!(pause <= LONGEST);
            assert!(pause >= last.min(LONGEST) / 2, "{pause:?} after {last:?}");
            last = pause;
            now = now.after(pause);
            assert_eq!(breaker.ask(now), Gate::Probe);
            breaker.failed(now, 7);
        }
        assert!(last >= LONGEST / 2);
    }

    #[test]
    fn a_probe_that_nobody_hears_of_again_does_not_close_it_for_ever() {
        let mut breaker = opened();
        assert_eq!(breaker.ask(at(2)), Gate::Probe);
        assert_eq!(breaker.ask(at(2).after(PROBE)), Gate::Probe);
    }

    #[test]
    fn a_receiver_that_asks_for_a_pause_gets_it() {
        let mut breaker = Breaker::default();
        breaker.failed(at(0), 7);
        breaker.hold(at(0), Duration::from_secs(30));
        assert_eq!(breaker.ask(at(10)), Gate::Wait(Duration::from_secs(20)));
        assert_eq!(breaker.ask(at(30)), Gate::Go);
    }

    proptest! {
        /// N56: however many fail, what is let through while it is open is one probe per pause.
        #[test]
        fn n56_a_storm_gets_through_one_at_a_time(
            asks in proptest::collection::vec(0_u64..200, 1..200),
            seed in any::<u64>(),
        ) {
            let (mut breaker, mut now, mut let_through) = (opened(), at(0), 0_u32);
            for millis in asks {
                now = now.after(Duration::from_millis(millis));
                if breaker.ask(now) == Gate::Probe {
                    let_through += 1;
                    breaker.failed(now, seed);
                }
            }
            let whole_pauses = now.since(at(0)).as_secs() + 1;
            prop_assert!(u64::from(let_through) <= whole_pauses);
        }
    }
}
