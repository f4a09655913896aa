//! How an endpoint is doing, and when it is left alone for good.

use core::time::Duration;

use serde::Serialize;

use crate::lease::as_millis;
use crate::{Code, Error, Result, Timestamp, duration, limits};

/// After how much continuous failure an endpoint is disabled: both of them have to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GiveUp {
    /// For how long every attempt has failed.
    #[serde(rename = "after_ms", serialize_with = "as_millis")]
    pub after: Duration,
    /// How many attempts that were.
    pub failures: u32,
}

impl Default for GiveUp {
    fn default() -> Self {
        Self { after: limits::GIVE_UP_AFTER_DEFAULT, failures: limits::GIVE_UP_FAILURES_DEFAULT }
    }
}

impl GiveUp {
    /// Refuses what can't be meant.
    ///
    /// # Errors
    /// [`Code::EndpointInvalid`].
    pub fn check(&self) -> Result<()> {
        if self.after <= limits::GIVE_UP_AFTER_MAX && self.failures >= 1 {
            return Ok(());
        }
        let max = duration::format(limits::GIVE_UP_AFTER_MAX);
        let why = format!("an endpoint is given up after one failure or more, and within {max}");
        Err(Error::new(Code::EndpointInvalid, why))
    }

    /// Whether it is time.
    pub fn is_reached(&self, health: &Health, now: Timestamp) -> bool {
        health.failures >= self.failures && now.since(health.failing_since) >= self.after
    }
}

/// The failures of an endpoint since it has last answered as it should. One that has none is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// When the first of them was.
    pub failing_since: Timestamp,
    /// How many there were, about: workers add theirs from time to time.
    pub failures: u32,
    /// What went wrong with the last one that was written down.
    pub error: String,
}

impl Health {
    /// With more failures, the first of which was at `since`.
    #[must_use]
    pub fn failed(before: Option<&Self>, count: u32, since: Timestamp, error: &str) -> Self {
        let (failures, failing_since) =
            before.map_or((0, since), |before| (before.failures, before.failing_since.min(since)));
        Self { failing_since, failures: failures.saturating_add(count), error: error.to_owned() }
    }
}
