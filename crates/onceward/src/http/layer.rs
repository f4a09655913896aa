//! The layer and its settings.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use ::http::{HeaderName, Method, request};
use onceward_core::limits;
use tokio::sync::watch;
use tower_layer::Layer;

use super::fingerprint;
use super::key::{self, IdempotencyKey};
use super::message::LeftOut;
use super::service::Idempotency;
use crate::client::Onceward;
use crate::once::OnceBuilder;

type OfRequest<T> = Arc<dyn Fn(&request::Parts) -> T + Send + Sync>;

/// Gives a service the `Idempotency-Key` header: a request is handled once per key, and whoever sends it
/// again gets the recorded response.
///
/// **Name the principal with [`scope`](Self::scope)**, unless the service has only one client: without it,
/// two clients that choose the same key are taken for one, and one gets to see the other's response.
///
/// ```
/// use axum::{Extension, Router, body::Body, http::Request, routing::post};
/// use onceward::http::IdempotencyLayer;
/// use onceward::{Attempt, Onceward};
/// use tower::ServiceExt;
///
/// #[derive(Clone)]
/// struct Customer { id: String } // put into the request by whatever authenticates it
///
/// async fn pay(Extension(attempt): Extension<Attempt>) -> String {
///     format!("paid, try {}, under the fencing token {}", attempt.number(), attempt.token())
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let once = IdempotencyLayer::new(Onceward::connect("memory:").await?)
///     .scope(|request| request.extensions.get::<Customer>().map(|it| it.id.clone()))
///     .required(true);
/// let app = Router::new().route("/payments", post(pay)).route_layer(once);
///
/// let request = Request::post("/payments").extension(Customer { id: "alice".into() });
/// let response = app.oneshot(request.body(Body::empty())?).await?;
/// assert_eq!(response.status(), 400, "the key is missing");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct IdempotencyLayer {
    settings: Arc<Settings>,
}

#[derive(Clone)]
pub(super) struct Settings {
    client: Onceward,
    scope: Option<OfRequest<Option<String>>>,
    route: Option<OfRequest<String>>,
    pub(super) methods: Vec<Method>,
    pub(super) required: bool,
    pub(super) strict: bool,
    pub(super) detach: bool,
    pub(super) body_bytes_max: usize,
    pub(super) left_out: LeftOut,
    ttl: Option<Duration>,
    hard_ttl: Option<Duration>,
    retain: Duration,
    wait: Option<Duration>,
    /// How many requests run detached now. Every copy of the settings counts into the same number.
    pub(super) running: Arc<watch::Sender<usize>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("client", &self.client)
            .field("scoped", &self.scope.is_some())
            .field("methods", &self.methods)
            .field("required", &self.required)
            .field("strict", &self.strict)
            .field("detach", &self.detach)
            .field("body_bytes_max", &self.body_bytes_max)
            .finish_non_exhaustive()
    }
}

impl IdempotencyLayer {
    /// A layer for POST and PATCH that asks for no key, knows no principals, and keeps what it records for 30
    /// days.
    pub fn new(client: Onceward) -> Self {
        let settings = Settings {
            client,
            scope: None,
            route: None,
            methods: vec![Method::POST, Method::PATCH],
            required: false,
            strict: false,
            detach: true,
            body_bytes_max: 1024 * 1024,
            left_out: LeftOut::default(),
            ttl: None,
            hard_ttl: None,
            retain: limits::RETAIN_DEFAULT,
            wait: None,
            running: Arc::new(watch::Sender::new(0)),
        };
        Self { settings: Arc::new(settings) }
    }

    fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }

    /// Whose key it is (O12): the id of the account, as authentication has found it out. Never something the
    /// client may choose, and no secret: it becomes part of keys that lists and logs show.
    ///
    /// `None` is a scope of its own, shared by all whose principal is not known.
    #[must_use]
    pub fn scope<F>(self, principal: F) -> Self
    where
        F: Fn(&request::Parts) -> Option<String> + Send + Sync + 'static,
    {
        self.set(|it| it.scope = Some(Arc::new(principal)))
    }

    /// What the key is for, beside the method; the path of the URL if nothing is said. The same key on
    /// another route is another key. Say something where the path does not tell routes apart: an axum router
    /// that is nested in another one sees only the end of the path, and all virtual hosts of a server have
    /// the same paths.
    #[must_use]
    pub fn route<F>(self, route: F) -> Self
    where
        F: Fn(&request::Parts) -> String + Send + Sync + 'static,
    {
        self.set(|it| it.route = Some(Arc::new(route)))
    }

    /// The methods that are looked at: POST and PATCH if nothing is said. The others pass, with or without a
    /// key.
    #[must_use]
    pub fn methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.set(|it| it.methods = methods.into_iter().collect())
    }

    /// Whether a request without a key is refused with status 400. Off by default: it is handled as if the
    /// layer were not there.
    #[must_use]
    pub fn required(self, required: bool) -> Self {
        self.set(|it| it.required = required)
    }

    /// Whether a key has to stand between quotes, as the IETF draft has it. Off by default:
    /// [both forms](IdempotencyKey::parse) are read.
    #[must_use]
    pub fn strict(self, strict: bool) -> Self {
        self.set(|it| it.strict = strict)
    }

    /// How many bytes the body of a request with a key may have; 1 MiB by default. Each is held in memory
    /// until the handler takes it, because its hash is part of the request's fingerprint. A larger one is
    /// refused with 413.
    #[must_use]
    pub fn body_bytes_max(self, bytes: usize) -> Self {
        self.set(|it| it.body_bytes_max = bytes)
    }

    /// Whether the handler goes on when its client hangs up; on by default, so that the outcome is known and
    /// recorded when the client asks again. The handler then runs in a task of its own: it sees the tracing
    /// span of its request, but no task-locals. Off, the handler is cancelled with the connection, and the
    /// key is uncertain.
    #[must_use]
    pub fn detach(self, detach: bool) -> Self {
        self.set(|it| it.detach = detach)
    }

    /// Lets a request whose twin is being handled wait for the outcome, at most this long, before it gets
    /// 409. None by default: the answer is 409 at once.
    #[must_use]
    pub fn wait(self, at_most: Duration) -> Self {
        self.set(|it| it.wait = Some(at_most))
    }

    /// How soon others notice that this process has died; see [`OnceBuilder::ttl`].
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        self.set(|it| it.ttl = Some(ttl))
    }

    /// How long a handler may run at most, 5 minutes if nothing is said. It is cancelled then, its client
    /// gets 500, and the key is uncertain. See [`OnceBuilder::hard_ttl`].
    #[must_use]
    pub fn hard_ttl(self, hard_ttl: Duration) -> Self {
        self.set(|it| it.hard_ttl = Some(hard_ttl))
    }

    /// How long a response is kept and replayed; 30 days by default. **After that the same key runs again.**
    /// Tell your clients how long they may repeat a request.
    #[must_use]
    pub fn retain_for(self, retain: Duration) -> Self {
        self.set(|it| it.retain = retain)
    }

    /// Leaves a header out of the record: it is sent with the first response and not with replays. `Date`,
    /// `Set-Cookie`, and the headers that are about a connection are left out anyway.
    #[must_use]
    pub fn leave_out(self, header: HeaderName) -> Self {
        self.set(|it| it.left_out.add(header))
    }

    /// Records a header that is left out by default: `Date`, or `Set-Cookie` where its replay to whoever has
    /// the key (in its [scope](Self::scope)) is meant. Those that are about a connection are never recorded.
    #[must_use]
    pub fn keep(self, header: &HeaderName) -> Self {
        self.set(|it| it.left_out.remove(header))
    }

    /// Waits until the handlers have ended that go on although their clients may have [hung
    /// up](Self::detach). For the end of a program: after its server has stopped, before
    /// [`Onceward::shutdown`].
    pub async fn finish(&self) {
        // The sender lives in `self`: there is no other way for the wait to end.
        let _ = self.settings.running.subscribe().wait_for(|running| *running == 0).await;
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = Idempotency<S>;

    fn layer(&self, inner: S) -> Idempotency<S> {
        Idempotency { inner, settings: Arc::clone(&self.settings) }
    }
}

impl Settings {
    /// This request, to be done once.
    pub(super) fn once(&self, head: &request::Parts, key: &IdempotencyKey, body: &[u8]) -> OnceBuilder {
        let scope = self.scope.as_ref().and_then(|scope| scope(head));
        let route = self.route.as_ref().map(|route| route(head));
        let route = route.as_deref().unwrap_or(head.uri.path());
        let key = key::fold(scope.as_deref(), head.method.as_str(), route, key);
        let once =
            self.client.once(key).fingerprint_bytes(fingerprint::of(head, body)).retain_for(self.retain);
        // A ttl that nobody has set does not stand in the way of a shorter hard ttl.
        let ttl = self.ttl.or_else(|| Some(limits::TTL_DEFAULT.min(self.hard_ttl?)));
        let once = ttl.into_iter().fold(once, OnceBuilder::ttl);
        let once = self.hard_ttl.into_iter().fold(once, OnceBuilder::hard_ttl);
        self.wait.into_iter().fold(once, OnceBuilder::wait)
    }
}
