//! The rules of services: a global chore that one runner of the cluster does per cycle, in its time slot, fenced.
//!
//! ```text
//! a cycle:  nothing ──begin──▶ running ──end──▶ done | failed
//!              │                 ├────end──▶ handed over ──begin──▶ running   its runner left; somebody goes on
//!              │                 └────look─▶ lost                              its lease ran out, or was broken
//!              └──────look────▶ missed                                         nobody began it, and why
//! ```
//!
//! A cycle is a number: the time of the database divided by the interval. It has one row, whoever begins it first,
//! so it is run at most once; the lease of the service keeps the terms of all cycles apart, whatever clocks, pauses
//! and views of the membership do. Slots only say who tries when. Deviations from pynenc's `atomic_service`, whose
//! arithmetic this is: the interval is a period (there: each runner once per interval, which is [`Mode::PerRunner`]
//! here), the slots rotate, in the last slot anyone may begin, and a runner that is not in the order begins nothing.

mod order;
pub mod plan;
mod row;
pub mod slot;

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod tests;

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Code, Error, Key, Result, ServiceName, Timestamp, duration, limits};

pub use order::{Runner, order, position};
pub use plan::{Begin, Held, Miss, Next, Plan, View, plan, plan_after};
pub use row::{Asked, Outcome, Pause, Setting, Term};

/// Who runs how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// One runner per cycle.
    #[default]
    Cycle,
    /// Each runner once per cycle, one after the other: what pynenc calls an atomic service.
    PerRunner,
    /// One runner all the time: a leader. It has no cycles.
    Leader,
}

/// What becomes of cycles that nobody began, where that was not because of a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMissed {
    /// They are recorded as missed.
    #[default]
    Skip,
    /// The last of them is run as soon as somebody can, the others are recorded.
    One,
    /// All of them are run, one after the other, the oldest first, as far as the window reaches back.
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
}

/// What a service is: the same for all of its runners. The last declaration counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Who runs how often.
    pub mode: Mode,
    /// How long a cycle is; of no meaning for a leader.
    pub every: Duration,
    /// How much of each slot is left at its end, so that slots do not touch.
    pub spread_margin: Duration,
    /// What becomes of missed cycles.
    pub on_missed: OnMissed,
    /// How far back missed cycles are run.
    pub catch_up: Duration,
    /// Whether the runner of the last term goes first, as long as it is there.
    pub sticky: bool,
}

/// How far back missed cycles are run, if nobody says.
const CATCH_UP: Duration = Duration::from_secs(24 * 60 * 60);

impl Spec {
    /// A service with the defaults.
    pub fn every(every: Duration) -> Self {
        Self {
            mode: Mode::Cycle,
            every,
            spread_margin: Duration::ZERO,
            on_missed: OnMissed::Skip,
            catch_up: CATCH_UP,
            sticky: false,
        }
    }

    /// Refuses what no runner shall see; `shortest` is the shortest interval allowed.
    ///
    /// # Errors
    /// [`Code::IntervalInvalid`], [`Code::MarginInvalid`], [`Code::CatchUpInvalid`], [`Code::ServiceInvalid`].
    pub fn check(&self, shortest: Duration) -> Result<()> {
        check_window(self.catch_up)?;
        self.check_mode()?;
        if self.mode == Mode::Leader {
            return Ok(());
        }
        check_interval(self.every, shortest)?;
        if self.spread_margin >= self.every {
            let [margin, every] = [self.spread_margin, self.every].map(duration::format);
            let why = format!("the spread margin ({margin}) has to be shorter than the interval ({every})");
            return Err(Error::new(Code::MarginInvalid, why));
        }
        Ok(())
    }

    /// Refuses what has no meaning in the mode of the service.
    fn check_mode(&self) -> Result<()> {
        let said = [
            (Mode::Leader, "interval", !self.every.is_zero()),
            (Mode::Leader, "spread margin", !self.spread_margin.is_zero()),
            (Mode::PerRunner, "policy for missed cycles", self.on_missed != OnMissed::Skip),
            (Mode::PerRunner, "window for catching up", self.catch_up != CATCH_UP),
            (Mode::PerRunner, "runner to stick to", self.sticky),
        ];
        let (is_leader, what) = match self.mode {
            Mode::Cycle => return Ok(()),
            Mode::PerRunner => (false, "a service that each runner runs"),
            Mode::Leader => (true, "a service that runs all the time"),
        };
        match said.into_iter().find(|(of, _, is_said)| *is_said && (is_leader || *of == Mode::PerRunner)) {
            Some((_, which, _)) => Err(Error::new(Code::ServiceInvalid, format!("{what} has no {which}"))),
            None => Ok(()),
        }
    }

    /// How long a term lasts without renewal if nobody says: as long as a cycle, between 1 s and 15 s.
    pub fn ttl(&self) -> Duration {
        match self.mode {
            Mode::Leader => limits::TERM_TTL_MAX,
            Mode::Cycle | Mode::PerRunner => self.every.clamp(limits::TERM_TTL_MIN, limits::TERM_TTL_MAX),
        }
    }
}

/// Refuses an interval out of range.
///
/// # Errors
/// [`Code::IntervalInvalid`].
pub fn check_interval(every: Duration, shortest: Duration) -> Result<()> {
    if (shortest..=limits::INTERVAL_MAX).contains(&every) {
        return Ok(());
    }
    let [min, max, is] = [shortest, limits::INTERVAL_MAX, every].map(duration::format);
    Err(Error::new(
        Code::IntervalInvalid,
        format!("an interval lies between {min} and {max}, this one is {is}"),
    ))
}

/// Refuses a window for catching up that is out of range.
///
/// # Errors
/// [`Code::CatchUpInvalid`].
pub fn check_window(window: Duration) -> Result<()> {
    let shortest = Duration::from_secs(1);
    if (shortest..=limits::INTERVAL_MAX).contains(&window) {
        return Ok(());
    }
    let [min, max, is] = [shortest, limits::INTERVAL_MAX, window].map(duration::format);
    let why = format!("the window for catching up lies between {min} and {max}, this one is {is}");
    Err(Error::new(Code::CatchUpInvalid, why))
}

/// The key of the lease under which the terms of a service run.
pub fn lease_key(service: &ServiceName) -> Key {
    Key::from_row(format!("service:{service}"))
}

/// The key under which runners are told that somebody wants something of a service.
pub fn bell_key(service: &ServiceName) -> Key {
    Key::from_row(format!("service-asked:{service}"))
}

/// The cycle that a time belongs to.
pub fn cycle_of(at: Timestamp, every: Duration) -> i64 {
    at.as_micros().div_euclid(micros(every))
}

/// When a cycle begins.
pub fn start_of(cycle: i64, every: Duration) -> Timestamp {
    Timestamp::from_micros(cycle.saturating_mul(micros(every)))
}

fn micros(every: Duration) -> i64 {
    i64::try_from(every.as_micros()).unwrap_or(i64::MAX).max(1)
}
