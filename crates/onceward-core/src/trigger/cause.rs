//! What a trigger has heard, and how it is told to what follows.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Outcome;
use crate::endpoint::{Event, EventType};
use crate::http::Body;
use crate::job::Spec;
use crate::{JobId, Kind, Queue, Timestamp, Token, TriggerName};

/// The end of a job that a trigger listens to, as it was written down with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Where it stands.
    pub number: i64,
    /// Who listens.
    pub trigger: TriggerName,
    /// Which job.
    pub job: JobId,
    /// The token of that end: a job that is run again has another one.
    pub token: Token,
    /// When.
    pub at: Timestamp,
    /// What has become of it.
    pub outcome: Outcome,
    /// What it is.
    pub kind: Kind,
    /// Where it waited.
    pub queue: Queue,
    /// What else was said about it.
    pub spec: Spec,
    /// What went wrong.
    pub error: Option<String>,
    /// Its payload, where it is an event.
    pub body: Option<Vec<u8>>,
}

impl Heard {
    /// The event, if it is one.
    pub fn event(&self) -> Option<Event> {
        Event::from_payload(self.body.as_deref()?).ok()
    }

    /// The number of jobs that triggers have enqueued one after the other to come here.
    pub fn depth(&self) -> u32 {
        self.spec.depth
    }
}

/// Why a trigger has enqueued a job: the payload of one that was given none of its own.
///
/// ```
/// use onceward_core::trigger::Cause;
///
/// let cause: Cause = serde_json::from_str(r#"{"trigger":"mourn","outcomes":[
///     {"job":"0193b3f4-0000-7000-8000-000000000000","kind":"import","queue":"default","outcome":"dead",
///      "at_us":1764000000000000,"error":"the disk is full"}]}"#)?;
/// assert_eq!(cause.outcomes[0].error.as_deref(), Some("the disk is full"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// The trigger.
    pub trigger: String,
    /// What has happened: one thing, or one for each condition where all of them are needed.
    pub outcomes: Vec<Happened>,
}

/// One thing that has happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Happened {
    /// The job, run or event.
    pub job: uuid::Uuid,
    /// What it is.
    pub kind: String,
    /// Where it waited.
    pub queue: String,
    /// What has become of it.
    pub outcome: Outcome,
    /// When, in microseconds since 1970.
    pub at_us: i64,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What else was said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// Of an event, what has happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventType>,
    /// Of an event, its body, if that is JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

impl Happened {
    pub(super) fn of(heard: &Heard) -> Self {
        let event = heard.event();
        let body = event.as_ref().and_then(|event| match &event.body {
            Some(Body::Json(raw)) => serde_json::from_str(raw.get()).ok(),
            _ => None,
        });
        Self {
            job: heard.job.as_uuid(),
            kind: heard.kind.as_str().to_owned(),
            queue: heard.queue.as_str().to_owned(),
            outcome: heard.outcome,
            at_us: heard.at.as_micros(),
            error: heard.error.clone(),
            tags: heard.spec.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
            metadata: heard.spec.metadata.as_deref().and_then(|text| serde_json::from_str(text).ok()),
            event: event.map(|event| event.event),
            body,
        }
    }

    /// A field of its metadata, or of the body of an event, as text.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        let of = |value: &Option<Value>| value.as_ref().and_then(|value| value.get(name)).cloned();
        match of(&self.metadata).or_else(|| of(&self.body))? {
            Value::String(text) => Some(text),
            Value::Null => None,
            other => Some(other.to_string()),
        }
    }
}
