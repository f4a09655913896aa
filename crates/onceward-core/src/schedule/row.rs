//! What is kept of a schedule, as one text that only these rules read. The payload of its jobs lies beside it.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::{OnMissed, When, jitter_of, job_of};
use crate::job::{self, Payload, Spec};
use crate::lease::as_millis;
use crate::{
    Code, Error, JobId, Key, Kind, Namespace, Owner, Queue, Result, ScheduleName, Timestamp, duration,
    limits, service,
};

/// What happens at a tick when the job of the last one has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Another one is enqueued beside it.
    #[default]
    Allow,
    /// The tick is passed over.
    Skip,
    /// The job is enqueued and waits until the earlier ones have ended.
    Queue,
    /// The earlier one is cancelled.
    CancelPrevious,
}

impl Overlap {
    /// The policy as written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Skip => "skip",
            Self::Queue => "queue",
            Self::CancelPrevious => "cancel_previous",
        }
    }
}

/// What a tick enqueues: a job, but for its id and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What it is.
    pub kind: Kind,
    /// Where it waits.
    pub queue: Queue,
    /// The higher one goes first.
    pub priority: i16,
    /// What it is about.
    pub payload: Payload,
    /// What else was said about it.
    pub spec: Spec,
}

impl Target {
    /// What is left of a job that was described in full; keys are of no use here, a tick is its own.
    pub fn of(new: &job::New) -> Self {
        Self {
            kind: new.kind.clone(),
            queue: new.queue.clone(),
            priority: new.priority,
            payload: new.payload.clone(),
            spec: Spec { root: None, replay_of: None, until_started: false, dedupe_key: None, ..new.spec() },
        }
    }
}

/// A schedule as it was declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// When it is due.
    pub when: When,
    /// What becomes of missed ticks.
    pub on_missed: OnMissed,
    /// How far back a tick may lie that is still enqueued.
    pub window: Duration,
    /// What becomes of a tick while the last one's job has not ended.
    pub overlap: Overlap,
    /// By how much a tick is put off at most.
    pub jitter: Duration,
    /// What is enqueued.
    pub target: Target,
}

impl Definition {
    /// A schedule with the defaults.
    pub fn new(when: When, target: Target) -> Self {
        let on_missed = OnMissed::default();
        Self {
            when,
            on_missed,
            window: on_missed.window(),
            overlap: Overlap::Allow,
            jitter: Duration::ZERO,
            target,
        }
    }

    /// Refuses what no store shall see.
    ///
    /// # Errors
    /// [`Code::CatchUpInvalid`], [`Code::JitterInvalid`], and those of a job that can't be.
    pub fn check(&self, namespace: &Namespace) -> Result<()> {
        service::check_window(self.window)?;
        if self.jitter > limits::JITTER_MAX {
            let [max, is] = [limits::JITTER_MAX, self.jitter].map(duration::format);
            return Err(Error::new(
                Code::JitterInvalid,
                format!("a jitter has at most {max}, this one has {is}"),
            ));
        }
        let id = JobId::from_uuid(uuid::Uuid::nil());
        self.job(namespace, &ScheduleName::from_row(""), id, Timestamp::default()).check()
    }

    /// Refuses a single time that is over for so long that it would never be enqueued.
    ///
    /// # Errors
    /// [`Code::CronInvalid`].
    pub fn check_time(&self, now: Timestamp) -> Result<()> {
        match self.when {
            When::At(at) if at < now.before(self.window) => {
                let window = duration::format(self.window);
                let why =
                    format!("{at} is over, and lies further back than what is enqueued late ({window})");
                Err(Error::new(Code::CronInvalid, why))
            }
            _ => Ok(()),
        }
    }

    /// The job of a tick.
    fn job(&self, namespace: &Namespace, name: &ScheduleName, id: JobId, tick: Timestamp) -> job::New {
        let jitter = jitter_of(name, tick, u64::try_from(self.jitter.as_micros()).unwrap_or(u64::MAX));
        let Target { kind, queue, priority, payload, spec } = self.target.clone();
        // One that is to wait for those before it has their ordering key.
        let own = || Key::from_row(format!("schedule:{name}"));
        let ordering_key = match self.overlap {
            Overlap::Queue => spec.ordering_key.or_else(|| Some(own())),
            _ => spec.ordering_key,
        };
        job::New {
            queue,
            priority,
            policy: spec.policy,
            ordering_key,
            tags: spec.tags,
            metadata: spec.metadata,
            trace: spec.trace,
            run_at: Some(tick.after(Duration::from_micros(jitter))).filter(|_| jitter > 0),
            ..job::New::of_kind(namespace.clone(), id, kind, payload)
        }
    }
}

/// Why a schedule enqueues nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pause {
    /// Since when.
    pub at: Timestamp,
    /// Who did it.
    pub by: Owner,
    /// Why.
    pub reason: Option<String>,
}

/// What was enqueued last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Last {
    /// The tick.
    pub tick: Timestamp,
    /// Its job.
    pub job: JobId,
}

/// The jobs of earlier ticks that are still to be cancelled: written with the tick that wants them gone, so that
/// they are not forgotten where the scheduler dies in between. Until it is settled the schedule is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// The jobs.
    pub jobs: Vec<JobId>,
    /// The tick that comes after that.
    pub next_at: Option<Timestamp>,
}

/// How many ticks by hand are remembered until the next tick by the clock.
const BY_HAND_MAX: usize = 16;

/// The row of a schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: ScheduleName,
    /// Grows with each change.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// The next tick; none while it is paused, and where no other one comes.
    pub next_at: Option<Timestamp>,
    /// What was declared.
    pub definition: Definition,
    /// Why it enqueues nothing.
    pub pause: Option<Pause>,
    /// The last tick that was enqueued.
    pub last: Option<Last>,
    /// What somebody has asked for since then, the newest last: the next tick finds these before it as well.
    pub by_hand: Vec<Last>,
    /// What is to be cancelled before the next tick.
    pub owed: Option<Owed>,
    /// How often somebody has asked for a tick of its own.
    pub triggered: u32,
}

impl Schedule {
    /// A schedule that is declared for the first time: its first tick comes after now, and a time that is over is
    /// due at once.
    pub fn new(namespace: Namespace, name: ScheduleName, definition: Definition, now: Timestamp) -> Self {
        let next_at = first_tick(&definition.when, now);
        Self {
            namespace,
            name,
            version: 0,
            created_at: now,
            next_at,
            definition,
            pause: None,
            last: None,
            by_hand: Vec::new(),
            owed: None,
            triggered: 0,
        }
    }

    /// The schedule after another declaration. When it is due begins anew only where that has changed.
    #[must_use]
    pub fn declared(&self, definition: &Definition, now: Timestamp) -> Self {
        let same = self.definition.when == definition.when;
        if same || self.pause.is_some() {
            return Self { definition: definition.clone(), ..self.clone() };
        }
        let next_at = first_tick(&definition.when, now);
        Self { definition: definition.clone(), ..self.next_due(next_at) }
    }

    /// The schedule whose next tick is this one. As long as something is owed it is due for that.
    fn next_due(&self, next_at: Option<Timestamp>) -> Self {
        let owed = self.owed.clone().map(|owed| Owed { next_at, ..owed });
        let due = if owed.is_some() { self.next_at } else { next_at };
        Self { next_at: due, owed, ..self.clone() }
    }

    /// The schedule after a pause; nothing where it is paused.
    pub fn paused(&self, by: &Owner, reason: Option<String>, now: Timestamp) -> Option<Self> {
        let pause = Some(Pause { at: now, by: by.clone(), reason });
        // What is owed is not of the pause.
        self.pause.is_none().then(|| Self { pause, ..self.next_due(None) })
    }

    /// The schedule after the end of a pause, whose ticks are not made up for; nothing where it is not paused.
    pub fn resumed(&self, now: Timestamp) -> Option<Self> {
        let next_at = self.definition.when.next_after(now);
        self.pause.is_some().then(|| Self { pause: None, ..self.next_due(next_at) })
    }

    /// The schedule whose next tick lies further ahead than one tick from now: the clock was ahead when it was fired
    /// last, and is not any more (N17). Its next tick is the next one by the clock of now; ticks that were enqueued
    /// meanwhile have their jobs, and get no other ones. Nothing where it stands as it should.
    pub fn recalled(&self, now: Timestamp) -> Option<Self> {
        let when = &self.definition.when;
        let next_at = when.next_after(now)?;
        let furthest = when.next_after(next_at)?;
        let is_far = |at: Option<Timestamp>| at.is_some_and(|at| at > furthest);
        let owed = self.owed.as_ref();
        if self.pause.is_some() || !(is_far(self.next_at) || is_far(owed.and_then(|owed| owed.next_at))) {
            return None;
        }
        // What is owed is due at once, as it was.
        let due = Self { next_at: Some(now), ..self.clone() };
        Some(due.next_due(Some(next_at)))
    }

    /// The schedule after its ticks were enqueued, of which this is the last, and the next one comes then.
    #[must_use]
    pub fn fired(&self, last: Option<Last>, next_at: Option<Timestamp>) -> Self {
        let Some(last) = last else { return Self { next_at, ..self.clone() } };
        let jobs: Vec<JobId> = self.before().filter(|job| *job != last.job).collect();
        let fired = Self { next_at, last: Some(last), by_hand: Vec::new(), ..self.clone() };
        if self.definition.overlap != Overlap::CancelPrevious || jobs.is_empty() {
            return fired;
        }
        // Due at once: whoever looks next does what is owed, if this scheduler does not.
        Self { owed: Some(Owed { jobs, next_at }), next_at: self.next_at, ..fired }
    }

    /// The jobs that the next tick finds before it: that of the last one, and what was asked for since then.
    pub fn before(&self) -> impl Iterator<Item = JobId> {
        self.last.iter().chain(&self.by_hand).map(|last| last.job)
    }

    /// The schedule after what was owed is done.
    #[must_use]
    pub fn settled(&self) -> Self {
        let next_at = self.owed.as_ref().map_or(self.next_at, |owed| owed.next_at);
        Self { owed: None, next_at, ..self.clone() }
    }

    /// The job of a tick.
    pub fn job(&self, tick: Timestamp) -> job::New {
        let id = job_of(&self.namespace, &self.name, self.created_at, tick, 0);
        self.definition.job(&self.namespace, &self.name, id, tick)
    }

    /// The schedule after somebody has asked for a tick of its own, and the job of that. It is enqueued beside whatever
    /// runs; the ticks that follow find it before them, as they do the last tick.
    pub fn triggered(&self, now: Timestamp) -> (Self, job::New) {
        let triggered = self.triggered.wrapping_add(1);
        let id = job_of(&self.namespace, &self.name, self.created_at, now, triggered);
        let job = job::New { run_at: None, ..self.definition.job(&self.namespace, &self.name, id, now) };
        let mut by_hand = self.by_hand.clone();
        by_hand.push(Last { tick: now, job: id });
        by_hand.drain(..by_hand.len().saturating_sub(BY_HAND_MAX));
        (Self { triggered, by_hand, ..self.clone() }, job)
    }

    /// The text that a row keeps.
    pub fn to_text(&self) -> String {
        let Definition { when, on_missed, window, overlap, jitter, target } = &self.definition;
        let kept = Kept {
            when: when.to_string(),
            on_missed: *on_missed,
            window_us: micros(*window),
            overlap: *overlap,
            jitter_us: micros(*jitter),
            kind: target.kind.as_str().to_owned(),
            queue: target.queue.as_str().to_owned(),
            priority: target.priority,
            content_type: target.payload.content_type.clone(),
            spec: target.spec.to_text(),
            created_us: self.created_at.as_micros(),
            pause: self.pause.as_ref().map(|pause| KeptPause {
                at_us: pause.at.as_micros(),
                by: pause.by.as_str().to_owned(),
                reason: pause.reason.clone(),
            }),
            last: self.last.map(keep),
            by_hand: self.by_hand.iter().copied().map(keep).collect(),
            owed: self.owed.as_ref().map(|owed| KeptOwed {
                next_us: owed.next_at.map(Timestamp::as_micros),
                jobs: owed.jobs.iter().map(|job| job.as_uuid()).collect(),
            }),
            triggered: self.triggered,
        };
        serde_json::to_string(&kept).unwrap_or_default()
    }

    /// Reads a row; `None` where its text says nothing.
    pub fn from_row(
        namespace: Namespace,
        name: ScheduleName,
        version: i64,
        next_at: Option<Timestamp>,
        text: &str,
        payload: Vec<u8>,
    ) -> Option<Self> {
        let kept: Kept = serde_json::from_str(text).ok()?;
        let target = Target {
            kind: Kind::from_row(kept.kind),
            queue: Queue::from_row(kept.queue),
            priority: kept.priority,
            payload: Payload { bytes: payload, content_type: kept.content_type },
            spec: Spec::from_text(kept.spec.as_deref()),
        };
        let definition = Definition {
            when: read(&kept.when)?,
            on_missed: kept.on_missed,
            window: Duration::from_micros(kept.window_us),
            overlap: kept.overlap,
            jitter: Duration::from_micros(kept.jitter_us),
            target,
        };
        let pause = kept.pause.map(|pause| Pause {
            at: Timestamp::from_micros(pause.at_us),
            by: Owner::from_row(pause.by),
            reason: pause.reason,
        });
        let last = kept.last.map(read_last);
        let by_hand = kept.by_hand.into_iter().map(read_last).collect();
        let owed = kept.owed.map(|owed| Owed {
            jobs: owed.jobs.into_iter().map(JobId::from_uuid).collect(),
            next_at: owed.next_us.map(Timestamp::from_micros),
        });
        let created_at = Timestamp::from_micros(kept.created_us);
        let triggered = kept.triggered;
        Some(Self {
            namespace,
            name,
            version,
            created_at,
            next_at,
            definition,
            pause,
            last,
            by_hand,
            owed,
            triggered,
        })
    }
}

/// What was written was allowed once, also where intervals are shorter for a test.
fn read(text: &str) -> Option<When> {
    match text.strip_prefix("every ") {
        Some(every) => duration::parse(every).ok().map(When::Every),
        None => text.parse().ok(),
    }
}

fn first_tick(when: &When, now: Timestamp) -> Option<Timestamp> {
    match when {
        When::At(at) => Some(*at),
        When::Every(_) | When::Cron { .. } => when.next_after(now),
    }
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    when: String,
    on_missed: OnMissed,
    window_us: u64,
    overlap: Overlap,
    #[serde(default)]
    jitter_us: u64,
    kind: String,
    queue: String,
    #[serde(default)]
    priority: i16,
    content_type: String,
    #[serde(default)]
    spec: Option<String>,
    created_us: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pause: Option<KeptPause>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<KeptLast>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    by_hand: Vec<KeptLast>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owed: Option<KeptOwed>,
    #[serde(default)]
    triggered: u32,
}

/// A tick and its job.
type KeptLast = (i64, uuid::Uuid);

fn keep(last: Last) -> KeptLast {
    (last.tick.as_micros(), last.job.as_uuid())
}

fn read_last((tick, job): KeptLast) -> Last {
    Last { tick: Timestamp::from_micros(tick), job: JobId::from_uuid(job) }
}

#[derive(Serialize, Deserialize)]
struct KeptOwed {
    next_us: Option<i64>,
    jobs: Vec<uuid::Uuid>,
}

#[derive(Serialize, Deserialize)]
struct KeptPause {
    at_us: i64,
    by: String,
    reason: Option<String>,
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// For people and for `--output json`.
impl Serialize for Schedule {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> core::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            namespace: &'a Namespace,
            name: &'a ScheduleName,
            version: i64,
            when: String,
            next_at: Option<Timestamp>,
            on_missed: OnMissed,
            #[serde(rename = "window_ms", serialize_with = "as_millis")]
            window: Duration,
            overlap: Overlap,
            #[serde(rename = "jitter_ms", serialize_with = "as_millis")]
            jitter: Duration,
            kind: &'a Kind,
            queue: &'a Queue,
            priority: i16,
            created_at: Timestamp,
            paused: &'a Option<Pause>,
            last: Option<Last>,
            by_hand: &'a [Last],
            triggered: u32,
        }
        let definition = &self.definition;
        let shown = Shown {
            namespace: &self.namespace,
            name: &self.name,
            version: self.version,
            when: definition.when.to_string(),
            next_at: self.next_at,
            on_missed: definition.on_missed,
            window: definition.window,
            overlap: definition.overlap,
            jitter: definition.jitter,
            kind: &definition.target.kind,
            queue: &definition.target.queue,
            priority: definition.target.priority,
            created_at: self.created_at,
            paused: &self.pause,
            last: self.last,
            by_hand: &self.by_hand,
            triggered: self.triggered,
        };
        shown.serialize(serializer)
    }
}
