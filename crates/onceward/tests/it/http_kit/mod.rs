//! What the tests of the `Idempotency-Key` layer share: a handler that counts its runs, and reading answers.
#![allow(dead_code)] // each test file uses its own part

use std::convert::Infallible;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use onceward::Onceward;
use onceward::http::{IDEMPOTENCY_KEY, Idempotency, IdempotencyLayer, Mark, Problem, ResponseBody};
use tokio::sync::Semaphore;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt, service_fn};

pub(crate) type Body = Full<Bytes>;
pub(crate) type Runs = Arc<AtomicU32>;
/// A handler under the layer.
pub(crate) type Counted = Idempotency<BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>>;

pub(crate) async fn client() -> Onceward {
    Onceward::options().short_ttls_for_tests().connect("memory:").await.unwrap()
}

pub(crate) async fn layer() -> IdempotencyLayer {
    IdempotencyLayer::new(client().await)
}

/// A handler that counts its runs, under `layer`.
pub(crate) fn counted<F, A>(layer: &IdempotencyLayer, handler: F) -> (Counted, Runs)
where
    F: Fn(u32, Request<Body>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let runs = Runs::default();
    let counter = runs.clone();
    let service = service_fn(move |request| {
        let answer = handler(counter.fetch_add(1, Ordering::SeqCst) + 1, request);
        async { Ok(answer.await) }
    });
    (layer.layer(BoxCloneSyncService::new(service)), runs)
}

pub(crate) fn text(text: impl Into<String>) -> Response<Body> {
    Response::new(Full::from(text.into()))
}

pub(crate) fn marked(status: u16, mark: Option<Mark>) -> Response<Body> {
    let mut response = text(format!("status {status}"));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if let Some(mark) = mark {
        response.extensions_mut().insert(mark);
    }
    response
}

pub(crate) fn post(key: &str, body: impl Into<Bytes>) -> Request<Body> {
    Request::post("/payments").header(IDEMPOTENCY_KEY, key).body(Full::from(body.into())).unwrap()
}

/// Sends a request and reads the whole answer.
pub(crate) async fn send<S, E>(service: &S, request: Request<Body>) -> Response<Bytes>
where
    S: Service<Request<Body>, Response = Response<ResponseBody>, Error = E> + Clone,
    E: Display,
{
    let response = service.clone().oneshot(request).await.unwrap_or_else(|error| panic!("{error}"));
    let (head, body) = response.into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

/// The status and the code of a problem; the document has to be one.
pub(crate) fn problem(response: &Response<Bytes>) -> (u16, String) {
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json", "{response:?}");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let document: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    let code = document["code"].as_str().unwrap();
    assert_eq!(document["status"], response.status().as_u16());
    assert_eq!(document["type"], format!("urn:onceward:problem:{code}"));
    assert!(document["title"].is_string() && document["detail"].is_string());
    assert_eq!(document["retryable"], response.headers().contains_key(header::RETRY_AFTER));
    let said = response.extensions().get::<Problem>().unwrap();
    assert_eq!((said.code.as_str(), said.status), (code, response.status()));
    (response.status().as_u16(), code.to_owned())
}

pub(crate) fn is_problem(response: &Response<Bytes>, status: u16, code: &str) -> bool {
    problem(response) == (status, code.to_owned())
}

/// A handler that ends when it is let through the gate.
pub(crate) fn gated(
    gate: Arc<Semaphore>,
) -> impl Fn(u32, Request<Body>) -> BoxFuture<'static, Response<Body>> + Clone + Send + Sync {
    move |run, _| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            text(run.to_string())
        })
    }
}

pub(crate) async fn eventually(mut seen: impl FnMut() -> bool) {
    for _ in 0..500 {
        if seen() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to be");
}
