//! A schedule being declared.

use core::future::IntoFuture;
use core::time::Duration;

use futures_util::future::BoxFuture;
use onceward_core::schedule::{Definition, OnMissed, Overlap, Schedule, Target, When};
use onceward_core::{Code, Error, Result, ScheduleName};

use super::change::{change, lookup};
use crate::client::Onceward;
use crate::jobs::Enqueue;

/// A schedule being declared; `.await` does it.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// use onceward::{Job, Onceward};
/// use onceward::schedule::{OnMissed, Overlap};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Job)]
/// #[job(kind = "report")]
/// struct Report { kind: String }
///
/// let ow = Onceward::connect("memory:").await?;
/// let daily = Report { kind: "daily".to_owned() };
/// let schedule = ow.schedule("nightly", "0 2 * * * Europe/Berlin", daily).overlap(Overlap::Skip).await?;
/// assert!(schedule.next_at.is_some());
/// let often = ow.enqueue(Report { kind: "quick".to_owned() }).priority(5);
/// ow.schedule("often", "every 5m", often).on_missed(OnMissed::Skip).await?;
/// # Ok(()) }
/// ```
///
/// When it is due is said as `minute hour day month weekday`, with seconds before them if need be and a time zone
/// behind (UTC otherwise), or `every 5m`, or `at 2027-01-01T00:00:00Z`. Declared again under the same name, it is
/// changed; when it is due begins anew only where that was changed.
///
/// On the two days of a year on which clocks are changed each time of day of a pattern that names hours is due once:
/// after the gap where it is left out, and at the first of the two where it comes twice. Patterns that name no hour
/// follow the hours that pass. A single time that is over for longer than [`within`](Self::within) is refused.
///
/// # Errors
/// Awaiting it: the codes of bad input, before anything is written ([`CronInvalid`](Code::CronInvalid),
/// [`ZoneUnknown`](Code::ZoneUnknown), [`IntervalInvalid`](Code::IntervalInvalid),
/// [`ScheduleNameInvalid`](Code::ScheduleNameInvalid), [`CatchUpInvalid`](Code::CatchUpInvalid),
/// [`JitterInvalid`](Code::JitterInvalid), [`KeyInvalid`](Code::KeyInvalid) for a job with an idempotency or dedupe
/// key, and those of the job); those of an unreachable store.
#[derive(Clone, Debug)]
#[must_use = "nothing is declared before `.await`"]
pub struct ScheduleBuilder {
    name: Result<ScheduleName>,
    when: Result<When>,
    job: Enqueue,
    on_missed: OnMissed,
    window: Option<Duration>,
    overlap: Overlap,
    jitter: Duration,
}

impl ScheduleBuilder {
    pub(crate) fn new(client: &Onceward, name: &str, when: &str, job: Enqueue) -> Self {
        let name = ScheduleName::new(name);
        let when = when.parse().or_else(|error: Error| read_short(client, when).ok_or(error));
        let (on_missed, overlap) = (OnMissed::default(), Overlap::default());
        Self { name, when, job, on_missed, window: None, overlap, jitter: Duration::ZERO }
    }

    /// What becomes of ticks whose time passes while no scheduler is there: the last one is enqueued
    /// ([`One`](OnMissed::One), the default), all are, or none.
    pub fn on_missed(mut self, policy: OnMissed) -> Self {
        self.on_missed = policy;
        self
    }

    /// How far back a tick may lie that is still enqueued; a day by default, and a minute with
    /// [`Skip`](OnMissed::Skip).
    pub fn within(mut self, window: Duration) -> Self {
        self.window = Some(window);
        self
    }

    /// What happens at a tick while the job of the last one has not ended: it is enqueued beside it
    /// ([`Allow`](Overlap::Allow), the default), passed over, waits for it, or has it cancelled.
    pub fn overlap(mut self, policy: Overlap) -> Self {
        self.overlap = policy;
        self
    }

    /// Puts each job off by up to this long: by how much is drawn from the name and the tick, so that it is the same
    /// whoever enqueues it.
    pub fn jitter(mut self, at_most: Duration) -> Self {
        self.jitter = at_most;
        self
    }

    async fn declare(self) -> Result<Schedule> {
        let (name, when) = (self.name?, self.when?);
        let (client, new) = self.job.finish()?;
        if new.key.is_some() || new.dedupe.is_some() || new.delay.is_some() || new.run_at.is_some() {
            let why =
                "the job of a schedule has no key, no dedupe key and no time of its own: a tick has them";
            return Err(Error::new(Code::KeyInvalid, why));
        }
        let definition = Definition {
            when,
            on_missed: self.on_missed,
            window: self.window.unwrap_or_else(|| self.on_missed.window()),
            overlap: self.overlap,
            jitter: self.jitter,
            target: Target::of(&new),
        };
        definition.check(&client.namespace)?;
        let made = |now| Schedule::new(client.namespace.clone(), name.clone(), definition.clone(), now);
        let declared = |row: Option<&Schedule>, now| match row {
            None => definition.check_time(now).map(|()| Some((made(now), Vec::new()))),
            Some(row) if row.definition == definition => Ok(None),
            Some(row) if row.definition.when != definition.when => {
                definition.check_time(now)?;
                Ok(Some((row.declared(&definition, now), Vec::new())))
            }
            Some(row) => Ok(Some((row.declared(&definition, now), Vec::new()))),
        };
        change(&client, &name, declared).await?;
        lookup(&client, &name).await.map(|(row, _)| row)
    }
}

/// In tests, where claims may be shorter than a second, intervals may be as well.
fn read_short(client: &Onceward, when: &str) -> Option<When> {
    let every = onceward_core::duration::parse(when.trim().strip_prefix("every ")?).ok()?;
    When::every(every, client.ttl_min())
        .ok()
        .filter(|_| client.ttl_min() < onceward_core::limits::INTERVAL_MIN)
}

impl IntoFuture for ScheduleBuilder {
    type Output = Result<Schedule>;
    type IntoFuture = BoxFuture<'static, Result<Schedule>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.declare())
    }
}
