//! What an event is about: the payload of its job, written as JSON so that SQL and people can write and read it.
//!
//! ```json
//! {"type": "order.paid", "json": {"order": 17}}
//! ```

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Endpoint, EventType, delivery_id};
use crate::http::{self, Body, Parts, Request, check_header, even_null};
use crate::job::{self, Payload, Policy, Record};
use crate::{Code, Error, Kind, Result, limits};

/// Something has happened, and whoever wants to know is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub event: EventType,
    /// What the receivers get.
    pub body: Option<Body>,
    /// What the body is, if that is not clear.
    pub content_type: Option<String>,
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept<'a> {
    #[serde(rename = "type")]
    event: EventType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(borrow, default, deserialize_with = "even_null", skip_serializing_if = "Option::is_none")]
    json: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl Event {
    /// An event without a body.
    pub fn new(event: EventType) -> Self {
        Self { event, body: None, content_type: None }
    }

    /// Refuses what no receiver shall see.
    ///
    /// # Errors
    /// [`RequestBodyInvalid`](Code::RequestBodyInvalid), [`HeaderInvalid`](Code::HeaderInvalid).
    pub fn check(&self) -> Result<()> {
        let refuse = |why: &str| Err(Error::new(Code::RequestBodyInvalid, why));
        match (&self.body, &self.content_type) {
            (_, None) => Ok(()),
            (None, Some(_)) => refuse("a content type is said of a body, and there is none"),
            (_, Some(text)) if text.is_empty() || text.len() > limits::CONTENT_TYPE_BYTES_MAX => {
                refuse("the content type is empty or too long")
            }
            (_, Some(text)) => check_header("x-content-type", text),
        }
    }

    /// The payload of its job.
    ///
    /// # Errors
    /// [`PayloadTooLarge`](Code::PayloadTooLarge) where its deliveries would have no room for what they name beside
    /// it; [`PayloadUnwritable`](Code::PayloadUnwritable), which does not happen.
    pub fn to_payload(&self) -> Result<Vec<u8>> {
        let Parts { json, text, base64 } = Parts::of(self.body.as_ref());
        let (event, content_type) = (self.event.clone(), self.content_type.clone());
        let payload = serde_json::to_vec(&Kept { event, content_type, json, text, base64 });
        let payload = payload.map_err(|error| {
            Error::new(Code::PayloadUnwritable, "the event is no JSON").with_source(error)
        })?;
        let (max, has) = (limits::EVENT_BYTES_MAX, payload.len());
        if has > max {
            let why =
                format!("an event has at most {max} bytes, so that its deliveries have room; not {has}");
            return Err(Error::new(Code::PayloadTooLarge, why));
        }
        Ok(payload)
    }

    /// Reads what [`to_payload`](Self::to_payload) has written, or somebody's SQL.
    ///
    /// # Errors
    /// [`EventUnreadable`](Code::EventUnreadable), and as [`check`](Self::check) and [`to_payload`](Self::to_payload).
    pub fn from_payload(payload: &[u8]) -> Result<Self> {
        let unreadable = |why: String| Error::new(Code::EventUnreadable, why);
        let kept: Kept<'_> = serde_json::from_slice(payload)
            .map_err(|error| unreadable(format!("the payload is no event: {error}")))?;
        let body =
            Parts { json: kept.json, text: kept.text, base64: kept.base64 }.body().map_err(unreadable)?;
        let event = Self { event: kept.event, body, content_type: kept.content_type };
        event.check()?;
        // Somebody's SQL may have written more than we would; spaces between its parts are no harm.
        if payload.len() > limits::EVENT_BYTES_MAX {
            event.to_payload()?;
        }
        Ok(event)
    }
}

/// The deliveries of an event: one for each endpoint that wants it, disabled or not. What is enqueued for a disabled
/// one waits. Each of them holds the body, and is made when it is asked for: all of them together may be more than
/// there is memory. One that can't be made or enqueued comes as an error that names its endpoint.
pub fn deliveries<'a>(
    event: &'a Event,
    job: &'a Record,
    endpoints: impl IntoIterator<Item = &'a Endpoint>,
) -> impl Iterator<Item = Result<job::New>> {
    let wants = |endpoint: &&Endpoint| endpoint.wants(&event.event);
    endpoints.into_iter().filter(wants).map(|endpoint| {
        let made = delivery(event, job, endpoint).and_then(|new| new.check().map(|()| new));
        made.map_err(|error| {
            let (name, why) = (endpoint.name.as_str(), error.message().to_owned());
            Error::new(error.code(), format!("the delivery to the endpoint {name:?}: {why}"))
                .with_source(error)
        })
    })
}

fn delivery(event: &Event, job: &Record, endpoint: &Endpoint) -> Result<job::New> {
    let request = Request {
        body: event.body.clone(),
        content_type: event.content_type.clone(),
        event: Some(event.event.clone()),
        ..Request::to_endpoint(endpoint.name.clone())
    };
    let payload = Payload { bytes: request.to_payload()?, content_type: "application/json".to_owned() };
    let id_of = |event| delivery_id(event, &endpoint.namespace, &endpoint.name);
    let setting = &endpoint.setting;
    let policy = Policy {
        max_attempts: setting.max_attempts,
        timeout: setting.timeout,
        retry: setting.retry,
        retain: job.policy.retain,
        // What was said of the event holds for whoever is told of it.
        at_most_once: job.policy.at_most_once,
        deadline: job.policy.deadline,
        ..Policy::default()
    };
    // What it is the delivery of, for whoever looks at it.
    let metadata = serde_json::json!({ "event": job.id, "type": event.event, "endpoint": endpoint.name });
    let kind = Kind::from_row(http::KIND);
    Ok(job::New {
        queue: setting.queue.clone(),
        priority: job.priority,
        policy,
        metadata: Some(metadata.to_string()),
        trace: job.trace.clone(),
        replay_of: job.replay_of.map(id_of),
        root: id_of(job.root),
        depth: job.depth,
        ..job::New::of_kind(endpoint.namespace.clone(), id_of(job.id), kind, payload)
    })
}
