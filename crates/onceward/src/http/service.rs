//! The way of a request: key, body, claim, handler, record.

use core::fmt;
use core::task::{Context, Poll};
use std::sync::Arc;

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::Body;
use tokio::sync::watch;
use tower_service::Service;
use tracing::Instrument;

use super::body::{self, BoxError, ResponseBody, Unread};
use super::layer::Settings;
use super::problem::Problem;
use super::{answer, key, record};
use crate::once::{Attempt, NotDone, OnceBuilder};

/// A service under an [`IdempotencyLayer`](super::IdempotencyLayer).
///
/// The service takes requests whose bodies can be made of [`Bytes`] (axum's, `Full<Bytes>`), because what was
/// read to be hashed has to be handed on; a hyper server maps its `Incoming` first. Bodies of its responses
/// may be anything.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use onceward::http::{Idempotency, IdempotencyLayer};
/// use tower::{Layer, Service, service_fn};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), onceward::Error> {
/// let layer = IdempotencyLayer::new(onceward::Onceward::connect("memory:").await?);
/// let charge = service_fn(|_: Request<Full<Bytes>>| async {
///     Ok::<_, std::io::Error>(Response::new(Full::<Bytes>::from("charged")))
/// });
/// let once: Idempotency<_> = layer.layer(charge);
/// fn is_a_service(_: impl Service<Request<Full<Bytes>>>) {}
/// is_a_service(once);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Idempotency<S> {
    pub(super) inner: S,
    pub(super) settings: Arc<Settings>,
}

impl<S, B, R> Service<Request<B>> for Idempotency<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: fmt::Display + Send,
    B: Body + From<Bytes> + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that was polled ready is the one to call; the clone takes its place.
        let clone = self.inner.clone();
        let inner = core::mem::replace(&mut self.inner, clone);
        Box::pin(serve(Arc::clone(&self.settings), inner, request))
    }
}

async fn serve<S, B, R>(
    settings: Arc<Settings>,
    mut inner: S,
    request: Request<B>,
) -> Result<Response<ResponseBody>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>> + Send + 'static,
    S::Future: Send,
    S::Error: fmt::Display + Send,
    B: Body + From<Bytes> + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    // Where two layers meet on one route, the outer one has the key in hand already.
    let taken = request.extensions().get::<Attempt>().is_some();
    let looked_at = !taken && settings.methods.contains(request.method());
    let key = match key::of(request.headers(), settings.strict) {
        Ok(Some(key)) if looked_at => key,
        Err(why) if looked_at => return Ok(Problem::key_invalid(&why).into_response()),
        Ok(None) if looked_at && settings.required => return Ok(Problem::key_missing().into_response()),
        _ => return inner.call(request).await.map(|response| response.map(body::untouched)),
    };
    let (mut head, body) = request.into_parts();
    let body = match body::read_request(body, settings.body_bytes_max).await {
        Ok(body) => body,
        Err(unread) => return Ok(refused(&unread, settings.body_bytes_max)),
    };
    let once = settings.once(&head, &key, &body);
    head.extensions.insert(key);
    let request = Request::from_parts(head, B::from(body));
    if !settings.detach {
        return run(&settings, once, inner, request).await;
    }
    let place = Place::taken(&settings.running);
    let run = async move {
        let _place = place;
        run(&settings, once, inner, request).await
    };
    match tokio::spawn(run.in_current_span()).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, "the task of a request with an Idempotency-Key broke off");
            Ok(Problem::cut_off().into_response())
        }
    }
}

fn refused(unread: &Unread, bytes_max: usize) -> Response<ResponseBody> {
    match unread {
        Unread::TooLarge => Problem::too_large(bytes_max).into_response(),
        Unread::BrokenOff => {
            // Whoever broke off is no longer there to read more than this.
            let mut response = Response::new(body::full(Bytes::new()));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        }
    }
}

/// Claims the key, and runs the handler if it is ours. What the handler has answered goes to its caller,
/// whatever becomes of the record; everybody else gets what was recorded.
async fn run<S, B, R>(
    settings: &Settings,
    once: OnceBuilder,
    mut inner: S,
    mut request: Request<B>,
) -> Result<Response<ResponseBody>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: fmt::Display,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let (mut started, mut answered) = (false, None);
    let outcome = once
        .run_bytes(async |attempt| {
            started = true;
            request.extensions_mut().insert(attempt);
            match inner.call(request).await {
                Ok(response) => {
                    let (response, ending) = record::record(response, &settings.left_out).await;
                    answered = Some(Ok(response));
                    ending
                }
                Err(error) => {
                    let ending = NotDone::unknown(format!("the service returned an error: {error}"));
                    answered = Some(Err(error));
                    Err(ending)
                }
            }
        })
        .await;
    match answered {
        Some(answer) => answer,
        None if started => Ok(Problem::cut_off().into_response()),
        None => Ok(answer::of(outcome)),
    }
}

/// One of the requests that [`finish`](super::IdempotencyLayer::finish) waits for.
struct Place(Arc<watch::Sender<usize>>);

impl Place {
    fn taken(running: &Arc<watch::Sender<usize>>) -> Self {
        running.send_modify(|running| *running += 1);
        Self(Arc::clone(running))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}
