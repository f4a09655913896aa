//! A trigger being declared.

use core::future::IntoFuture;
use core::time::Duration;

use futures_util::future::BoxFuture;
use onceward_core::job::{self, Payload};
use onceward_core::schedule::Target;
use onceward_core::trigger::{By, Condition, Definition, Outcome, Rule, Trigger};
use onceward_core::{Code, Error, Kind, Queue, Result, Tag, TriggerName, limits};

use super::change::{change, lookup};
use crate::client::Onceward;
use crate::jobs::{Enqueue, IntoEnqueue};

/// A trigger being declared; `.await` does it.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// use onceward::trigger::{By, Cause, Outcome};
/// use onceward::{Job, Onceward};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Job)]
/// #[job(kind = "report")]
/// struct Report { of: String }
///
/// #[derive(Serialize, Deserialize, Job)]
/// #[job(kind = "mourn")]
/// struct Mourn(Cause);
///
/// let ow = Onceward::connect("memory:").await?;
/// // Whenever an import has succeeded, a report.
/// let report = Report { of: "imports".to_owned() };
/// ow.trigger("report-imports").on(Outcome::Succeeded).kind("import").enqueue(report).await?;
/// // Whatever dies in this queue: a job that is told what it was.
/// ow.trigger("mourn").on(Outcome::Dead).queue("mail").tell::<Mourn>().await?;
/// // When an order is paid and picked.
/// let both = ow.trigger("ship").on_event("order.paid").on(Outcome::Succeeded).kind("pick");
/// let trigger = both.all(By::Metadata("order".to_owned())).tell::<Mourn>().await?;
/// assert_eq!(trigger.definition.conditions.len(), 2);
/// # Ok(()) }
/// ```
///
/// Each outcome is acted on once, by whoever has the [scheduler](crate::service::RunnerBuilder::scheduler),
/// about half a second after it. What ends before the trigger is declared, or while it is paused, is not heard.
/// Declared again under the same name, it is changed.
///
/// What is enqueued may be heard again. After sixteen jobs of which each has followed from the one before nothing
/// follows any more: the trigger counts it, under [`TriggerLoop`](Code::TriggerLoop).
///
/// # Errors
/// Awaiting it: the codes of bad input, before anything is written ([`TriggerNameInvalid`](Code::TriggerNameInvalid),
/// [`TriggerInvalid`](Code::TriggerInvalid), [`CatchUpInvalid`](Code::CatchUpInvalid),
/// [`EventTypeInvalid`](Code::EventTypeInvalid), [`KeyInvalid`](Code::KeyInvalid) for a job with a key or a time of its
/// own, and those of the job); those of an unreachable store.
#[derive(Clone, Debug)]
#[must_use = "nothing is declared before `.await`"]
pub struct TriggerBuilder {
    client: Onceward,
    name: Result<TriggerName>,
    conditions: Vec<Condition>,
    by: Option<By>,
    within: Duration,
    job: Option<Enqueue>,
    tells: bool,
    error: Option<Error>,
}

impl TriggerBuilder {
    pub(crate) fn new(client: Onceward, name: &str) -> Self {
        Self {
            client,
            name: TriggerName::new(name),
            conditions: Vec::new(),
            by: None,
            within: limits::TRIGGER_WITHIN_DEFAULT,
            job: None,
            tells: false,
            error: None,
        }
    }

    /// Jobs and runs that end like this. What is said after it narrows that down; another `on` is another
    /// condition, and any of them will do unless [`all`](Self::all) is said.
    pub fn on(mut self, outcome: Outcome) -> Self {
        self.conditions.push(Condition::on(outcome));
        self
    }

    /// Events of this type, or that match this pattern (`order.*`), once a worker has told of them.
    pub fn on_event(mut self, pattern: impl AsRef<str>) -> Self {
        match pattern.as_ref().parse() {
            Ok(pattern) => self.conditions.push(Condition::on_event(pattern)),
            Err(error) => drop(self.error.get_or_insert(error)),
        }
        self
    }

    /// This condition, said in one: what [`on`](Self::on) and [`on_event`](Self::on_event) put together.
    pub fn condition(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    fn narrow<T>(mut self, what: Result<T>, put: impl FnOnce(&mut Condition, T)) -> Self {
        let nothing = || Error::new(Code::TriggerInvalid, "a kind, queue or tag is said of an `on`");
        match (what, self.conditions.last_mut().filter(|last| last.event.is_none())) {
            (Ok(what), Some(last)) => put(last, what),
            (Ok(_), None) => drop(self.error.get_or_insert_with(nothing)),
            (Err(error), _) => drop(self.error.get_or_insert(error)),
        }
        self
    }

    /// Of those only jobs of this kind, or runs of the function of this name.
    pub fn kind(self, kind: impl AsRef<str>) -> Self {
        self.narrow(Kind::new(kind), |condition, kind| condition.kind = Some(kind))
    }

    /// Of those only what waited in this queue.
    pub fn queue(self, queue: impl AsRef<str>) -> Self {
        self.narrow(Queue::new(queue), |condition, queue| condition.queue = Some(queue))
    }

    /// Of those only what has this tag.
    pub fn tag(self, tag: impl AsRef<str>) -> Self {
        self.narrow(Tag::new(tag), |condition, tag| condition.tag = Some(tag))
    }

    /// All conditions have to come true, of outcomes that belong together: a job follows when the last of them does.
    pub fn all(mut self, by: By) -> Self {
        self.by = Some(by);
        self
    }

    /// For how long an outcome waits for others that it belongs to; a day by default. At most 256 groups wait; of more,
    /// the oldest are forgotten, and counted.
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// What is enqueued: the same job each time, but for its id. Its metadata names the trigger and the jobs it
    /// follows from, unless it has its own.
    pub fn enqueue<J: IntoEnqueue>(mut self, job: J) -> Self {
        self.job = Some(job.into_enqueue(&self.client));
        self.tells = false;
        self
    }

    /// Enqueues a job of this type, whose payload is what has happened: a [`Cause`](super::Cause), or a struct around
    /// one.
    pub fn tell<J: crate::Job>(self) -> Self {
        let payload = Payload { bytes: Vec::new(), content_type: crate::jobs::JSON.to_owned() };
        let job = Enqueue::typed_raw::<J>(self.client.clone(), payload);
        self.telling(job)
    }

    /// The same of a kind that has no type here.
    pub fn tell_kind(self, kind: impl AsRef<str>) -> Self {
        let payload = Payload { bytes: Vec::new(), content_type: crate::jobs::JSON.to_owned() };
        let job = Enqueue::raw(self.client.clone(), Kind::new(kind), payload);
        self.telling(job)
    }

    /// The same with something said about the job, whose payload is replaced.
    pub fn telling(mut self, job: Enqueue) -> Self {
        self.job = Some(job);
        self.tells = true;
        self
    }

    async fn declare(self) -> Result<Trigger> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let (name, client) = (self.name?, self.client);
        let Some(job) = self.job else {
            return Err(Error::new(Code::TriggerInvalid, "a trigger has something to enqueue"));
        };
        let (_, new) = job.finish()?;
        check_job(&new)?;
        let within_us = u64::try_from(self.within.as_micros()).unwrap_or(u64::MAX);
        let rule = self.by.map_or(Rule::Any, |by| Rule::All { by, within_us });
        let target = Target::of(&new);
        let definition = Definition { conditions: self.conditions, rule, target, tells: self.tells };
        definition.check(&client.namespace)?;
        let declared = |row: Option<&Trigger>, now| {
            Ok(match row {
                None => Some(Trigger::new(client.namespace.clone(), name.clone(), definition.clone(), now)),
                Some(row) if row.definition == definition => None,
                Some(row) => Some(row.declared(&definition)),
            })
        };
        change(&client, &name, declared).await?;
        lookup(&client, &name).await
    }
}

fn check_job(new: &job::New) -> Result<()> {
    if new.key.is_some() || new.dedupe.is_some() || new.delay.is_some() || new.run_at.is_some() {
        let why = "the job of a trigger has no key, no dedupe key and no time of its own: what was heard is its key";
        return Err(Error::new(Code::KeyInvalid, why));
    }
    Ok(())
}

impl IntoFuture for TriggerBuilder {
    type Output = Result<Trigger>;
    type IntoFuture = BoxFuture<'static, Result<Trigger>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.declare())
    }
}
