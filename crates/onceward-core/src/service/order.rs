//! The order of runners: by creation, ties by id. Who is not in it begins nothing.

use core::time::Duration;

use serde::Serialize;

use crate::{Owner, SessionId, Timestamp, limits};

/// A process that runs services, as its session says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Runner {
    /// Its session.
    pub session: SessionId,
    /// Who it is, for people.
    pub owner: Owner,
    /// When it came.
    pub started_at: Timestamp,
    /// When its session was renewed last.
    pub seen_at: Timestamp,
    /// When that runs out.
    pub expires_at: Timestamp,
    /// Whether it was asked to begin nothing more.
    pub draining: bool,
}

impl Runner {
    fn is_settled(&self) -> bool {
        // Earlier as well: one that came while the clock was ahead is seen before it came, once the clock is right.
        self.seen_at != self.started_at
    }
}

/// Those that have a slot, in their order.
///
/// One that has run out has left. One that has not renewed its session yet has come a moment ago: it waits outside as
/// long as there are others, so that processes which crash as soon as they start take no slots away (W79). One that was
/// seen last in a time that has not come was seen by a clock that was wrong: it is outside until it is seen again, so
/// that it does not keep its slot for ever if it never is.
pub fn order(mut runners: Vec<Runner>, now: Timestamp) -> Vec<Runner> {
    let ahead = now.after(limits::TERMS_AHEAD_MAX);
    runners.retain(|runner| runner.expires_at > now && runner.seen_at <= ahead && !runner.draining);
    if runners.iter().any(Runner::is_settled) {
        runners.retain(Runner::is_settled);
    }
    runners.sort_by_key(|runner| (runner.started_at, runner.session));
    runners
}

/// The place of a runner in the order.
pub fn position(session: SessionId, order: &[Runner]) -> Option<usize> {
    order.iter().position(|runner| runner.session == session)
}

/// The longest of some times, of those that are known.
pub(super) fn longest(times: impl IntoIterator<Item = Duration>) -> Option<Duration> {
    times.into_iter().max()
}
