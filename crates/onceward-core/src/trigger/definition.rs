//! What a trigger listens to, and what it does then.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Happened, Heard, Outcome};
use crate::endpoint::{self, Pattern};
use crate::schedule::Target;
use crate::{Code, Error, JobId, Kind, Namespace, Queue, Result, Tag, job, limits, service};

/// One thing that is listened to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// What has become of a job.
    pub outcome: Outcome,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// In this queue.
    pub queue: Option<Queue>,
    /// With this tag.
    pub tag: Option<Tag>,
    /// That is an event of this type.
    pub event: Option<Pattern>,
}

impl Condition {
    /// Any job that ends like this.
    pub fn on(outcome: Outcome) -> Self {
        Self { outcome, kind: None, queue: None, tag: None, event: None }
    }

    /// An event of this type, once it was told to those who want it.
    pub fn on_event(pattern: Pattern) -> Self {
        let kind = Some(Kind::from_row(endpoint::KIND));
        Self { kind, event: Some(pattern), ..Self::on(Outcome::Succeeded) }
    }

    /// Whether that is what is listened to.
    pub fn matches(&self, heard: &Heard) -> bool {
        self.outcome == heard.outcome
            && self.kind.as_ref().is_none_or(|kind| *kind == heard.kind)
            && self.queue.as_ref().is_none_or(|queue| *queue == heard.queue)
            && self.tag.as_ref().is_none_or(|tag| heard.spec.tags.contains(tag))
            && self
                .event
                .as_ref()
                .is_none_or(|pattern| heard.event().is_some_and(|event| pattern.matches(&event.event)))
    }
}

/// As a person writes it: `dead kind=import queue=mail tag=gpu`, or `event order.*`.
impl FromStr for Condition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: String| Error::new(Code::TriggerInvalid, why);
        let mut words = text.split_whitespace();
        let first = words.next().unwrap_or_default();
        if first == "event" {
            return match (words.next(), words.next()) {
                (Some(pattern), None) => Ok(Self::on_event(pattern.parse()?)),
                _ => Err(invalid("after `event` there is one type or pattern, such as order.*".to_owned())),
            };
        }
        let Some(outcome) = Outcome::from_word(first) else {
            let known: Vec<&str> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
            return Err(invalid(format!("{first:?} is none of event, {}", known.join(", "))));
        };
        let mut condition = Self::on(outcome);
        for word in words {
            match word.split_once('=') {
                Some(("kind", kind)) => condition.kind = Some(Kind::new(kind)?),
                Some(("queue", queue)) => condition.queue = Some(Queue::new(queue)?),
                Some(("tag", tag)) => condition.tag = Some(Tag::new(tag)?),
                _ => return Err(invalid(format!("{word:?} is none of kind=…, queue=…, tag=…"))),
            }
        }
        Ok(condition)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pattern) = &self.event {
            return write!(f, "event {pattern}");
        }
        f.write_str(self.outcome.as_str())?;
        let parts = [
            ("kind", self.kind.as_ref().map(Kind::as_str)),
            ("queue", self.queue.as_ref().map(Queue::as_str)),
            ("tag", self.tag.as_ref().map(Tag::as_str)),
        ];
        parts
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

/// By what outcomes belong together, where several of them are needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// All of them do.
    Anything,
    /// The same value in this field of their metadata, or of the body of an event.
    Metadata(String),
    /// The same tag that begins like this.
    Tag(String),
}

/// As a person writes it: `anything`, `metadata:order`, `tag:order:`.
impl FromStr for By {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "anything" => Ok(Self::Anything),
            Some(("metadata", field)) => Ok(Self::Metadata(field.to_owned())),
            Some(("tag", prefix)) => Ok(Self::Tag(prefix.to_owned())),
            _ => {
                let why = format!("{text:?} is none of anything, metadata:FIELD, tag:PREFIX");
                Err(Error::new(Code::TriggerInvalid, why))
            }
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anything => f.write_str("anything"),
            Self::Metadata(field) => write!(f, "metadata:{field}"),
            Self::Tag(prefix) => write!(f, "tag:{prefix}"),
        }
    }
}

impl By {
    /// What an outcome is known by; nothing where it has none: then it belongs to no others.
    pub(super) fn key(&self, heard: &Heard) -> Option<String> {
        match self {
            Self::Anything => Some(String::new()),
            Self::Metadata(field) => Happened::of(heard).field(field),
            Self::Tag(prefix) => {
                let mut tags = heard.spec.tags.iter().map(Tag::as_str);
                tags.find(|tag| tag.starts_with(prefix.as_str())).map(str::to_owned)
            }
        }
    }
}

/// How many of its conditions have to come true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Any of them: each outcome is one.
    Any,
    /// All of them.
    All {
        /// Of what belongs together.
        by: By,
        /// Within this time, in microseconds; what has waited for longer is forgotten.
        within_us: u64,
    },
}

/// A trigger as it was declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// What is listened to.
    pub conditions: Vec<Condition>,
    /// How much of that is needed.
    pub rule: Rule,
    /// What is enqueued.
    pub target: Target,
    /// Whether its payload is what has happened, instead of one of its own.
    pub tells: bool,
}

/// What the statements that end jobs look for: the parts of a condition that they know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watch {
    /// The state, as it is written.
    pub state: &'static str,
    /// The kind.
    pub kind: Option<Kind>,
    /// The queue.
    pub queue: Option<Queue>,
    /// Whether the payload is wanted.
    pub body: bool,
}

impl Definition {
    /// Refuses what no store shall see.
    ///
    /// # Errors
    /// [`Code::TriggerInvalid`], [`Code::CatchUpInvalid`], and those of a job that can't be.
    pub fn check(&self, namespace: &Namespace) -> Result<()> {
        let refuse = |why: String| Err(Error::new(Code::TriggerInvalid, why));
        let (count, max) = (self.conditions.len(), limits::TRIGGER_CONDITIONS_MAX);
        if !(1..=max).contains(&count) {
            return refuse(format!("a trigger has between 1 and {max} conditions, not {count}"));
        }
        if let Rule::All { by, within_us } = &self.rule {
            service::check_window(Duration::from_micros(*within_us))?;
            let named = match by {
                By::Anything => None,
                By::Metadata(name) | By::Tag(name) => Some(name),
            };
            if named.is_some_and(|name| name.is_empty() || name.len() > limits::TAG_BYTES_MAX) {
                let max = limits::TAG_BYTES_MAX;
                return refuse(format!("what outcomes belong together by has 1 to {max} bytes"));
            }
            let again = |(at, one)| self.conditions.iter().skip(at + 1).any(|other| other == one);
            if self.conditions.iter().enumerate().any(again) {
                return refuse("two conditions are the same: one outcome would be both".to_owned());
            }
        }
        let id = JobId::from_uuid(uuid::Uuid::nil());
        self.job(namespace, id).check()
    }

    /// What the statements that end jobs look for.
    pub fn watches(&self) -> Vec<Watch> {
        let watch = |one: &Condition| Watch {
            state: one.outcome.state().as_str(),
            kind: one.kind.clone(),
            queue: one.queue.clone(),
            body: one.event.is_some(),
        };
        let mut watches: Vec<Watch> = self.conditions.iter().map(watch).collect();
        watches.sort_unstable();
        watches.dedup();
        watches
    }

    /// The job that is enqueued, but for what it tells.
    pub(super) fn job(&self, namespace: &Namespace, id: JobId) -> job::New {
        let Target { kind, queue, priority, payload, spec } = self.target.clone();
        job::New {
            queue,
            priority,
            policy: spec.policy,
            ordering_key: spec.ordering_key,
            tags: spec.tags,
            metadata: spec.metadata,
            trace: spec.trace,
            ..job::New::of_kind(namespace.clone(), id, kind, payload)
        }
    }
}
