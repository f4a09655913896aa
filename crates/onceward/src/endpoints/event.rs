//! An event being sent.

use core::future::IntoFuture;
use core::time::Duration;

use futures_util::future::BoxFuture;
use onceward_core::endpoint::{Event, EventType};
use onceward_core::http::Body;
use onceward_core::{Code, Error, Result, Timestamp};
use onceward_store::enlist::Enlist;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::client::Onceward;
use crate::jobs::{Enqueue, Enqueued, IntoEnqueue};

/// An event being sent: every endpoint that wants it gets a delivery of its own. [`send`](Self::send) or `.await` does
/// it, [`send_in`](Self::send_in) in a transaction of yours.
///
/// What is written is one job, whose id is that of the event, however many endpoints there are. Who gets it is decided
/// when a worker takes it up, a moment later. For everything else that may be said about a job there is
/// [`into_enqueue`](IntoEnqueue::into_enqueue).
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// # use serde_json::json;
/// let paid = || ow.event("order.paid").json(&json!({ "order": 17 })).key("order-17-paid");
/// let sent = paid().send().await?;
/// assert_eq!(paid().await?.id, sent.id, "the same key is the same event");
/// # Ok(()) }
/// ```
///
/// # Errors
/// As of every job, and [`EventTypeInvalid`](Code::EventTypeInvalid),
/// [`RequestBodyInvalid`](Code::RequestBodyInvalid).
#[derive(Clone, Debug)]
#[must_use = "it is sent by `.send()` or `.await`"]
pub struct EventBuilder {
    event: Result<Event>,
    enqueue: Enqueue,
}

impl EventBuilder {
    pub(crate) fn new(client: Onceward, event: &str) -> Self {
        Self { event: EventType::new(event).map(Event::new), enqueue: Enqueue::event(client) }
    }

    fn with(mut self, change: impl FnOnce(&mut Event)) -> Self {
        self.event = self.event.map(|mut event| {
            change(&mut event);
            event
        });
        self
    }

    fn body(mut self, raw: Result<Box<RawValue>>) -> Self {
        self.event =
            self.event.and_then(|event| raw.map(|raw| Event { body: Some(Body::Json(raw)), ..event }));
        self
    }

    /// A body of JSON.
    pub fn json(self, value: &impl Serialize) -> Self {
        self.body(serde_json::value::to_raw_value(value).map_err(|error| {
            Error::new(Code::PayloadUnwritable, "the body can't be written as JSON").with_source(error)
        }))
    }

    /// A body of JSON that is written already: sent as it stands, byte for byte.
    pub fn json_text(self, text: impl Into<String>) -> Self {
        self.body(
            RawValue::from_string(text.into()).map_err(|error| {
                Error::new(Code::PayloadUnwritable, format!("the body is not JSON: {error}"))
            }),
        )
    }

    /// A body of text.
    pub fn text(self, text: impl Into<String>) -> Self {
        self.with(|event| event.body = Some(Body::Text(text.into())))
    }

    /// A body of bytes.
    pub fn bytes(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.with(|event| event.body = Some(Body::Bytes(bytes.into())))
    }

    /// What the body is, where that is not clear from how it was given.
    pub fn content_type(self, content_type: impl Into<String>) -> Self {
        self.with(|event| event.content_type = Some(content_type.into()))
    }

    fn said(mut self, change: impl FnOnce(Enqueue) -> Enqueue) -> Self {
        self.enqueue = change(self.enqueue);
        self
    }

    /// Sending it again under this key finds this event instead of making another one: see [`Enqueue::key`].
    pub fn key(self, key: impl AsRef<str>) -> Self {
        self.said(|enqueue| enqueue.key(key))
    }

    /// How long the key refers to it: see [`Enqueue::key_ttl`].
    pub fn key_ttl(self, ttl: Duration) -> Self {
        self.said(|enqueue| enqueue.key_ttl(ttl))
    }

    /// Where it waits for a worker; its deliveries wait where their endpoints are set to.
    pub fn queue(self, queue: impl AsRef<str>) -> Self {
        self.said(|enqueue| enqueue.queue(queue))
    }

    /// From -1000 to 1000, the higher one goes first; its deliveries as well.
    pub fn priority(self, priority: i16) -> Self {
        self.said(|enqueue| enqueue.priority(priority))
    }

    /// Sends it this long from now, to those who want it then.
    pub fn delay(self, delay: Duration) -> Self {
        self.said(|enqueue| enqueue.delay(delay))
    }

    /// Sends it at this time.
    pub fn run_at(self, at: impl Into<Timestamp>) -> Self {
        self.said(|enqueue| enqueue.run_at(at))
    }

    /// The trace it belongs to, and its deliveries: a `traceparent`.
    pub fn trace(self, context: impl Into<String>) -> Self {
        self.said(|enqueue| enqueue.trace(context))
    }

    fn enqueue(self) -> Enqueue {
        self.enqueue.of_event(self.event)
    }

    /// Sends it.
    ///
    /// # Errors
    /// Those of the type.
    pub async fn send(self) -> Result<Enqueued> {
        self.enqueue().await
    }

    /// Sends it in a transaction of yours in the same database: if you commit, every endpoint that wants it gets it,
    /// and otherwise it was never there. See [`Enqueue::enqueue_in`].
    ///
    /// # Errors
    /// As [`Enqueue::enqueue_in`], and those of the type.
    pub async fn send_in<X: Enlist>(self, tx: &mut X) -> Result<Enqueued> {
        self.enqueue().enqueue_in(tx).await
    }
}

impl IntoEnqueue for EventBuilder {
    fn into_enqueue(self, _client: &Onceward) -> Enqueue {
        self.enqueue()
    }
}

impl IntoFuture for EventBuilder {
    type Output = Result<Enqueued>;
    type IntoFuture = BoxFuture<'static, Result<Enqueued>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
