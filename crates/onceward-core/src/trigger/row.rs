//! What is kept of a trigger, as one text that only these rules read, and what follows from what it hears.

use std::collections::{BTreeMap, BTreeSet};

use core::time::Duration;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{By, Cause, Condition, Definition, Happened, Heard, Outcome, Rule, job_of};
use crate::job::{self, Payload, Spec};
use crate::schedule::{Pause, Target};
use crate::{Code, JobId, Kind, Namespace, Owner, Queue, Tag, Timestamp, Token, TriggerName, limits};

/// What was enqueued last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Last {
    /// When.
    pub at: Timestamp,
    /// Which job.
    pub job: JobId,
}

/// Outcomes that nothing follows from, because too much has followed already: see [`Code::TriggerLoop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// How many.
    pub count: u64,
    /// When the last one.
    pub at: Timestamp,
    /// Of which job.
    pub job: JobId,
}

/// What is known of outcomes that belong together, by the place of the condition.
type Parts = BTreeMap<usize, Part>;

/// One of the outcomes that are needed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Part {
    token: i64,
    depth: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    happened: Happened,
}

impl Part {
    fn of(heard: &Heard) -> Self {
        let (depth, trace) = (heard.depth(), heard.spec.trace.clone());
        // What was said of it is told as far as it is short: the row has to hold many of these.
        let mut happened = Happened::of(heard);
        happened.error = happened.error.map(|error| crate::once::cut(&error, TOLD_BYTES));
        let short = |value: &Value| value.to_string().len() <= TOLD_BYTES;
        happened.metadata = happened.metadata.filter(short);
        Self { token: heard.token.get(), depth, trace, happened }
    }

    fn name(&self) -> (JobId, Token, Timestamp) {
        let at = Timestamp::from_micros(self.happened.at_us);
        (JobId::from_uuid(self.happened.job), Token::from_row(self.token), at)
    }
}

/// How much is told of an error, and how much metadata.
const TOLD_BYTES: usize = 1024;

/// The row of a trigger.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// The namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: TriggerName,
    /// Grows with each change.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// What was declared.
    pub definition: Definition,
    /// Why it hears nothing.
    pub pause: Option<Pause>,
    /// How many jobs it has enqueued.
    pub fired: u64,
    /// The last one.
    pub last: Option<Last>,
    /// What nothing followed from.
    pub stopped: Option<Stopped>,
    /// How many outcomes have waited in vain for others that they belong to.
    pub forgotten: u64,
    open: BTreeMap<String, Parts>,
}

/// What follows from what was heard.
#[derive(Clone, Debug)]
pub struct Fired {
    /// The trigger from then on.
    pub row: Trigger,
    /// What it enqueues.
    pub jobs: Vec<job::New>,
    /// How many outcomes were stopped: too much has followed already.
    pub stopped: u64,
}

impl Trigger {
    /// A trigger that is declared for the first time.
    pub fn new(namespace: Namespace, name: TriggerName, definition: Definition, now: Timestamp) -> Self {
        Self {
            namespace,
            name,
            version: 0,
            created_at: now,
            definition,
            pause: None,
            fired: 0,
            last: None,
            stopped: None,
            forgotten: 0,
            open: BTreeMap::new(),
        }
    }

    /// The trigger after another declaration. What waits for others begins anew where the conditions have changed.
    #[must_use]
    pub fn declared(&self, definition: &Definition) -> Self {
        let same = (&self.definition.conditions, &self.definition.rule)
            == (&definition.conditions, &definition.rule);
        let open = if same { self.open.clone() } else { BTreeMap::new() };
        Self { definition: definition.clone(), open, ..self.clone() }
    }

    /// The trigger after a pause; nothing where it is paused.
    pub fn paused(&self, by: &Owner, reason: Option<String>, now: Timestamp) -> Option<Self> {
        let pause = Some(Pause { at: now, by: by.clone(), reason });
        self.pause.is_none().then(|| Self { pause, ..self.clone() })
    }

    /// The trigger after the end of a pause; nothing where it is not paused.
    pub fn resumed(&self) -> Option<Self> {
        self.pause.is_some().then(|| Self { pause: None, ..self.clone() })
    }

    /// What the statements that end jobs look for: nothing while it is paused.
    pub fn watches(&self) -> Vec<super::Watch> {
        if self.pause.is_some() { Vec::new() } else { self.definition.watches() }
    }

    /// How many outcomes wait for others that they belong to.
    pub fn waiting(&self) -> usize {
        self.open.values().map(BTreeMap::len).sum()
    }

    /// What follows from what was heard, in its order. What was heard before a pause is still acted on.
    pub fn hear(&self, heard: &[Heard], now: Timestamp) -> Fired {
        let mut fired = Fired { row: self.clone(), jobs: Vec::new(), stopped: 0 };
        let mut seen = BTreeSet::new();
        for one in heard {
            // One of another life of the name, or the same one twice, because two conditions look for it.
            // One that was made in a time that has not come was made by a clock that was ahead: that says nothing.
            let is_earlier = one.at < self.created_at && self.created_at <= now;
            if is_earlier || !seen.insert((one.job, one.token)) {
                continue;
            }
            let conditions = self.definition.conditions.iter().enumerate();
            let matching: Vec<usize> =
                conditions.filter(|(_, condition)| condition.matches(one)).map(|(at, _)| at).collect();
            match &self.definition.rule {
                _ if matching.is_empty() => {}
                Rule::Any => fired.fire(&[Part::of(one)], now),
                Rule::All { by, .. } => fired.gather(by, &matching, one, now),
            }
        }
        if let Rule::All { within_us, .. } = self.definition.rule {
            fired.row.slim();
            fired.row.forget(now.before(Duration::from_micros(within_us)));
        }
        fired
    }

    /// Keeps no long bodies of what waits.
    fn slim(&mut self) {
        for part in self.open.values_mut().flat_map(BTreeMap::values_mut) {
            part.happened.body =
                part.happened.body.take().filter(|body| body.to_string().len() <= TOLD_BYTES);
        }
    }

    /// Forgets what has waited for too long, and what there is too much of, the oldest first.
    fn forget(&mut self, earliest: Timestamp) {
        let newest = |parts: &Parts| parts.values().map(|part| part.happened.at_us).max().unwrap_or(0);
        let before = self.waiting();
        self.open.retain(|_, parts| {
            parts.retain(|_, part| part.happened.at_us >= earliest.as_micros());
            !parts.is_empty()
        });
        while self.open.len() > limits::TRIGGER_OPEN_MAX {
            let oldest = self.open.iter().min_by_key(|(_, parts)| newest(parts)).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            self.open.remove(&oldest);
        }
        self.forgotten += (before - self.waiting()) as u64;
    }

    /// The text that a row keeps.
    pub fn to_text(&self) -> String {
        let Definition { conditions, rule, target, tells } = &self.definition;
        let kept = Kept {
            conditions: conditions.iter().map(KeptCondition::of).collect(),
            rule: rule.clone(),
            tells: *tells,
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
            fired: self.fired,
            last: self.last.map(|last| (last.at.as_micros(), last.job.as_uuid())),
            stopped: self
                .stopped
                .map(|stopped| (stopped.count, stopped.at.as_micros(), stopped.job.as_uuid())),
            forgotten: self.forgotten,
            open: self.open.clone(),
        };
        serde_json::to_string(&kept).unwrap_or_default()
    }

    /// Reads a row; `None` where its text says nothing.
    pub fn from_row(
        namespace: Namespace,
        name: TriggerName,
        version: i64,
        text: &str,
        payload: Vec<u8>,
    ) -> Option<Self> {
        let kept: Kept = serde_json::from_str(text).ok()?;
        let at = Timestamp::from_micros;
        let target = Target {
            kind: Kind::from_row(kept.kind),
            queue: Queue::from_row(kept.queue),
            priority: kept.priority,
            payload: Payload { bytes: payload, content_type: kept.content_type },
            spec: Spec::from_text(kept.spec.as_deref()),
        };
        let conditions = kept.conditions.into_iter().map(KeptCondition::read).collect();
        let definition = Definition { conditions, rule: kept.rule, target, tells: kept.tells };
        let pause = kept.pause.map(|pause| Pause {
            at: at(pause.at_us),
            by: Owner::from_row(pause.by),
            reason: pause.reason,
        });
        let last = kept.last.map(|(us, job)| Last { at: at(us), job: JobId::from_uuid(job) });
        let stopped =
            kept.stopped.map(|(count, us, job)| Stopped { count, at: at(us), job: JobId::from_uuid(job) });
        let (created_at, fired, forgotten) = (at(kept.created_us), kept.fired, kept.forgotten);
        let open = kept.open;
        Some(Self {
            namespace,
            name,
            version,
            created_at,
            definition,
            pause,
            fired,
            last,
            stopped,
            forgotten,
            open,
        })
    }
}

impl Fired {
    /// Enqueues what follows from these.
    fn fire(&mut self, parts: &[Part], now: Timestamp) {
        let depth = parts.iter().map(|part| part.depth).max().unwrap_or(0) + 1;
        let names: Vec<_> = parts.iter().map(Part::name).collect();
        let row = &mut self.row;
        if depth > limits::TRIGGER_DEPTH_MAX {
            let count = row.stopped.map_or(0, |stopped| stopped.count) + 1;
            let job = names.last().map_or_else(|| JobId::from_uuid(uuid::Uuid::nil()), |(job, ..)| *job);
            row.stopped = Some(Stopped { count, at: now, job });
            self.stopped += 1;
            return;
        }
        let id = job_of(&row.namespace, &row.name, row.created_at, &names);
        let mut new = job::New { depth, ..row.definition.job(&row.namespace, id) };
        if new.trace.is_none() {
            new.trace = parts.iter().rev().find_map(|part| part.trace.clone());
        }
        if row.definition.tells {
            let outcomes = parts.iter().map(|part| part.happened.clone()).collect();
            let cause = Cause { trigger: row.name.as_str().to_owned(), outcomes };
            let bytes = serde_json::to_vec(&cause).unwrap_or_default();
            new.payload = Payload { bytes, content_type: "application/json".to_owned() };
        } else if new.metadata.is_none() {
            let outcomes: Vec<_> = parts.iter().map(|part| part.happened.job).collect();
            new.metadata = Some(serde_json::json!({ "trigger": row.name, "outcomes": outcomes }).to_string());
        }
        (row.fired, row.last) = (row.fired + 1, Some(Last { at: now, job: id }));
        self.jobs.push(new);
    }

    /// Puts an outcome to those that it belongs to, and fires if they are complete.
    fn gather(&mut self, by: &By, matching: &[usize], heard: &Heard, now: Timestamp) {
        let Some(key) = by.key(heard) else {
            self.row.forgotten += 1;
            return;
        };
        let needed = self.row.definition.conditions.len();
        let parts = self.row.open.entry(key.clone()).or_default();
        // It stands for one condition: one that nothing stands for yet, if there is such a one. The newest counts.
        let free = matching.iter().find(|at| !parts.contains_key(at)).or(matching.first());
        if let Some(at) = free {
            parts.insert(*at, Part::of(heard));
        }
        if parts.len() < needed {
            return;
        }
        let parts: Vec<Part> = self.row.open.remove(&key).unwrap_or_default().into_values().collect();
        self.fire(&parts, now);
    }
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    conditions: Vec<KeptCondition>,
    rule: Rule,
    #[serde(default)]
    tells: bool,
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
    #[serde(default)]
    fired: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<(i64, uuid::Uuid)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stopped: Option<(u64, i64, uuid::Uuid)>,
    #[serde(default)]
    forgotten: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    open: BTreeMap<String, Parts>,
}

#[derive(Serialize, Deserialize)]
struct KeptPause {
    at_us: i64,
    by: String,
    reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct KeptCondition {
    outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<crate::endpoint::Pattern>,
}

impl KeptCondition {
    fn of(condition: &Condition) -> Self {
        Self {
            outcome: condition.outcome,
            kind: condition.kind.as_ref().map(|kind| kind.as_str().to_owned()),
            queue: condition.queue.as_ref().map(|queue| queue.as_str().to_owned()),
            tag: condition.tag.as_ref().map(|tag| tag.as_str().to_owned()),
            event: condition.event.clone(),
        }
    }

    fn read(self) -> Condition {
        Condition {
            outcome: self.outcome,
            kind: self.kind.map(Kind::from_row),
            queue: self.queue.map(Queue::from_row),
            tag: self.tag.map(Tag::from_row),
            event: self.event,
        }
    }
}

/// For people and for `--output json`.
impl Serialize for Trigger {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            namespace: &'a Namespace,
            name: &'a TriggerName,
            version: i64,
            conditions: &'a [Condition],
            rule: &'a Rule,
            kind: &'a Kind,
            queue: &'a Queue,
            priority: i16,
            tells: bool,
            created_at: Timestamp,
            paused: &'a Option<Pause>,
            fired: u64,
            last: Option<Last>,
            waiting: usize,
            forgotten: u64,
            stopped: Option<Stopped>,
            #[serde(skip_serializing_if = "Option::is_none")]
            code: Option<&'static str>,
        }
        let Definition { conditions, rule, target, tells } = &self.definition;
        let shown = Shown {
            namespace: &self.namespace,
            name: &self.name,
            version: self.version,
            conditions,
            rule,
            kind: &target.kind,
            queue: &target.queue,
            priority: target.priority,
            tells: *tells,
            created_at: self.created_at,
            paused: &self.pause,
            fired: self.fired,
            last: self.last,
            waiting: self.waiting(),
            forgotten: self.forgotten,
            stopped: self.stopped,
            code: self.stopped.map(|_| Code::TriggerLoop.as_str()),
        };
        shown.serialize(serializer)
    }
}
