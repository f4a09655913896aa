//! What a queue is tuned by: how fast waiting jobs gain on others, and how long those are kept that are over.

use core::time::Duration;

use serde::Serialize;

use crate::{Code, Error, Result, Timestamp, duration, limits};

/// The shortest wait that may count as one priority.
pub const AGEING_MIN: Duration = Duration::from_secs(1);
/// The longest wait that may count as one priority.
pub const AGEING_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// What a queue is tuned by. The default says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tuning {
    /// A job counts as one priority higher per so much waiting, up to the highest there is; without it priorities are
    /// strict.
    #[serde(rename = "ageing_ms", serialize_with = "maybe_millis")]
    pub ageing: Option<Duration>,
    /// How long jobs are kept that have succeeded or were cancelled and do not say anything else than is usual.
    #[serde(rename = "retain_ms", serialize_with = "maybe_millis")]
    pub retain: Option<Duration>,
    /// How long dead jobs are kept.
    #[serde(rename = "retain_dead_ms", serialize_with = "maybe_millis")]
    pub retain_dead: Option<Duration>,
}

fn maybe_millis<S: serde::Serializer>(
    span: &Option<Duration>,
    to: S,
) -> core::result::Result<S::Ok, S::Error> {
    match span {
        Some(span) => to.serialize_u64(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        None => to.serialize_none(),
    }
}

impl Tuning {
    /// Refuses what no queue can be tuned to.
    ///
    /// # Errors
    /// [`Code::LimitInvalid`], [`Code::RetainInvalid`].
    pub fn check(&self) -> Result<()> {
        if let Some(ageing) = self.ageing.filter(|ageing| !(AGEING_MIN..=AGEING_MAX).contains(ageing)) {
            let [min, max, is] = [AGEING_MIN, AGEING_MAX, ageing].map(duration::format);
            let why = format!("what counts as one priority lies between {min} and {max}, this is {is}");
            return Err(Error::new(Code::LimitInvalid, why));
        }
        for span in [self.retain, self.retain_dead].into_iter().flatten() {
            if span > limits::RETAIN_MAX {
                let [max, is] = [limits::RETAIN_MAX, span].map(duration::format);
                return Err(Error::new(
                    Code::RetainInvalid,
                    format!("jobs are kept for at most {max}, not {is}"),
                ));
            }
        }
        Ok(())
    }

    /// Whether it says anything.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }

    /// Where a job stands in its queue, the smaller the earlier: before those of a lower priority, as far as they
    /// have not waited for so much longer. `rank` is its priority, turned round.
    pub fn rank(&self, rank: i64, run_at: Timestamp, now: Timestamp) -> i64 {
        let Some(ageing) = self.ageing else { return rank };
        let step = i64::try_from(ageing.as_micros()).unwrap_or(i64::MAX).max(1);
        let waited = now.as_micros().saturating_sub(run_at.as_micros()).max(0);
        rank.saturating_sub(waited / step).max(-i64::from(limits::PRIORITY_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn j15_waiting_counts_as_priority_up_to_the_highest() {
        let tuning = Tuning { ageing: Some(secs(10)), ..Tuning::default() };
        let due = Timestamp::from_micros(1_000_000_000);
        let rank = |priority: i64, waited| tuning.rank(-priority, due, due.after(secs(waited)));
        assert_eq!((rank(0, 0), rank(0, 9), rank(0, 10), rank(-5, 39)), (0, 0, -1, 2));
        assert_eq!((rank(999, 10), rank(999, 1_000), rank(-1_000, 100_000)), (-1_000, -1_000, -1_000));
        assert_eq!(tuning.rank(3, due, due.before(secs(100))), 3, "what is not due yet has not waited");
        assert_eq!(Tuning::default().rank(3, due, due.after(secs(100))), 3);
        assert!(rank(0, 30) < rank(2, 0) && rank(0, 10) > rank(2, 0));
    }

    #[test]
    fn only_some_spans_can_be_set() {
        let ageing = |span| Tuning { ageing: Some(span), ..Tuning::default() }.check();
        assert!([AGEING_MIN, secs(600), AGEING_MAX].map(ageing).iter().all(Result::is_ok));
        for span in [Duration::ZERO, Duration::from_millis(999), AGEING_MAX + secs(1)] {
            assert_eq!(ageing(span).unwrap_err().code(), Code::LimitInvalid);
        }
        let kept = |span| Tuning { retain: Some(span), ..Tuning::default() };
        assert!(kept(Duration::ZERO).check().is_ok() && kept(Duration::ZERO).any());
        let dead = Tuning { retain_dead: Some(Duration::MAX), ..Tuning::default() };
        for tuning in [kept(Duration::MAX), dead] {
            assert_eq!(tuning.check().unwrap_err().code(), Code::RetainInvalid);
        }
        assert!(!Tuning::default().any());
    }
}
