//! The `Idempotency-Key` layer: which requests are one request, and that it is handled once.

#![allow(clippy::unwrap_used, clippy::panic)] // these are tests

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use onceward::http::{IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED, IdempotencyKey, IdempotencyLayer};
use onceward::store::memory::MemoryStore;
use onceward::{Attempt, Onceward};
use tokio::sync::Semaphore;
use tower::Layer;

use crate::http_kit::{Body, counted, eventually, gated, is_problem, layer, post, send, text};

/// O3.
#[tokio::test(flavor = "multi_thread")]
async fn o3_the_first_response_is_replayed_to_the_byte() {
    let layer = layer().await;
    let all: Vec<u8> = (0..=255).collect();
    let body = Bytes::from(all);
    let sent = body.clone();
    let (service, runs) = counted(&layer, move |run, request| {
        let key = request.extensions().get::<IdempotencyKey>().unwrap();
        let attempt = request.extensions().get::<Attempt>().unwrap();
        assert_eq!((key.as_str(), attempt.number()), ("k 1", 1));
        let response = Response::builder().status(201).header("location", format!("/payments/{run}"));
        let response = response.header("link", "<a>").header("link", "<b>").header("date", "today");
        let odd = HeaderValue::from_bytes(b"\xff ").unwrap();
        let response =
            response.header("x-odd", odd).header("set-cookie", "id=1").header("connection", "close");
        let response = response.body(Full::from(sent.clone())).unwrap();
        async { response }
    });
    let first = send(&service, post("\"k 1\"", "b")).await;
    assert_eq!((first.status(), first.body()), (StatusCode::CREATED, &body));
    assert_eq!(first.headers()["set-cookie"], "id=1");
    assert!(!first.headers().contains_key(IDEMPOTENT_REPLAYED));
    for _ in 0..3 {
        let replay = send(&service, post("\"k 1\"", "b")).await;
        let (mut expected, mut seen) = (first.headers().clone(), replay.headers().clone());
        for left_out in ["date", "set-cookie", "connection"] {
            assert!(expected.remove(left_out).is_some());
        }
        assert_eq!(seen.remove(IDEMPOTENT_REPLAYED).unwrap(), "true");
        assert_eq!((replay.status(), seen, replay.body()), (first.status(), expected, first.body()));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

/// O3: from any process, and from the store alone.
#[tokio::test(flavor = "multi_thread")]
async fn another_process_replays_the_same() {
    let store: Arc<MemoryStore> = Arc::default();
    let mut bodies = Vec::new();
    for _ in 0..3 {
        let ow = Onceward::options().cache_bytes(0).build(store.clone()).unwrap();
        let (service, _) = counted(&IdempotencyLayer::new(ow), |_, _| async {
            text(format!("made at {:?}", std::time::Instant::now()))
        });
        bodies.push(send(&service, post("k", "b")).await.into_body());
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
}

/// O3: through a file, by a process that was started later.
#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn a_response_outlives_the_process_that_made_it() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("shop.db").display());
    let all: Vec<u8> = (0..=255).collect();
    let mut responses = Vec::new();
    for process in 1..=3 {
        let ow = Onceward::connect(&url).await.unwrap();
        let body = Full::from(all.clone());
        let (service, runs) = counted(&IdempotencyLayer::new(ow.clone()), move |_, _| {
            let response = Response::builder().status(201).header("x-process", process).body(body.clone());
            async { response.unwrap() }
        });
        responses.push(send(&service, post("k", "b")).await);
        assert_eq!(runs.load(Ordering::SeqCst), u32::from(process == 1));
        ow.shutdown().await;
    }
    for response in &responses {
        assert_eq!((response.status().as_u16(), response.body().as_ref()), (201, all.as_slice()));
        assert_eq!(response.headers()["x-process"], "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_of_the_headers_can_be_chosen() {
    let layer = layer().await.keep(&header::SET_COOKIE).leave_out(header::ETAG);
    let (service, _) = counted(&layer, |_, _| async {
        let response = Response::builder().header("set-cookie", "id=1").header("etag", "\"1\"");
        response.header("upgrade", "h2c").body(Body::default()).unwrap()
    });
    let first = send(&service, post("k", "")).await;
    assert!(["set-cookie", "etag", "upgrade"].iter().all(|name| first.headers().contains_key(*name)));
    let replay = send(&service, post("k", "")).await;
    let names: Vec<&HeaderName> = replay.headers().keys().collect();
    assert_eq!(names, [header::SET_COOKIE, IDEMPOTENT_REPLAYED]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_key_or_another_method_passes() {
    let layer = layer().await;
    let (service, runs) = counted(&layer, |run, request| async move {
        assert!(request.extensions().get::<Attempt>().is_none());
        text(run.to_string())
    });
    let keyless = || Request::post("/payments").body(Body::default()).unwrap();
    let get = || Request::get("/payments").header(IDEMPOTENCY_KEY, "\"bad").body(Body::default()).unwrap();
    for (run, request) in [keyless(), keyless(), get(), get()].into_iter().enumerate() {
        assert_eq!(send(&service, request).await.body(), &(run + 1).to_string());
    }
    assert_eq!(runs.load(Ordering::SeqCst), 4);
    let (service, runs) = counted(&layer.methods([Method::PUT]), |_, _| async { text("") });
    for method in ["PUT", "PUT", "POST", "POST"] {
        let request = Request::builder().method(method).uri("/").header(IDEMPOTENCY_KEY, "k");
        send(&service, request.body(Body::default()).unwrap()).await;
    }
    assert_eq!(runs.load(Ordering::SeqCst), 3);
}

/// O12.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_malformed_key_is_refused_and_nothing_runs() {
    let layer = layer().await.required(true);
    let (service, runs) = counted(&layer, |_, _| async { text("") });
    let missing = Request::post("/payments").body(Body::default()).unwrap();
    assert!(is_problem(&send(&service, missing).await, 400, "OW0501"));
    for bad in ["", "\"\"", "\"open", "\"a\\b\"", "a,b", "\"a\";v=1", &"x".repeat(256)] {
        assert!(is_problem(&send(&service, post(bad, "")).await, 400, "OW0502"), "{bad}");
    }
    let mut twice = post("a", "");
    twice.headers_mut().append(IDEMPOTENCY_KEY, HeaderValue::from_static("a"));
    assert!(is_problem(&send(&service, twice).await, 400, "OW0502"));
    let (strict, strict_runs) = counted(&layer.strict(true), |_, _| async { text("") });
    assert!(is_problem(&send(&strict, post("bare", "")).await, 400, "OW0502"));
    assert_eq!(send(&strict, post("\"quoted\"", "")).await.status(), 200);
    assert_eq!((runs.load(Ordering::SeqCst), strict_runs.load(Ordering::SeqCst)), (0, 1));
}

/// O4.
#[tokio::test(flavor = "multi_thread")]
async fn o4_another_request_under_the_key_is_422_and_learns_nothing() {
    let layer = layer().await;
    let (service, runs) = counted(&layer, |_, _| async { text("the secret of the first") });
    send(&service, post("k", "cents=100")).await;
    let other = send(&service, post("k", "cents=200")).await;
    assert!(is_problem(&other, 422, "OW0301"));
    assert!(!String::from_utf8_lossy(other.body()).contains("secret"));
    let mut typed = post("k", "cents=100");
    typed.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    assert!(is_problem(&send(&service, typed).await, 422, "OW0301"));
    let mut queried = post("k", "cents=100");
    *queried.uri_mut() = "/payments?dry=1".parse().unwrap();
    assert!(is_problem(&send(&service, queried).await, 422, "OW0301"));
    assert_eq!(send(&service, post("k", "cents=100")).await.body(), "the secret of the first");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_above_the_limit_is_413_and_leaves_the_key_alone() {
    let layer = layer().await.body_bytes_max(10);
    let (service, runs) = counted(&layer, |_, request| async {
        text(String::from_utf8(request.into_body().collect().await.unwrap().to_bytes().into()).unwrap())
    });
    assert!(is_problem(&send(&service, post("k", "12345678901")).await, 413, "OW0503"));
    assert_eq!(send(&service, post("k", "1234567890")).await.body(), "1234567890", "the body arrives whole");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

/// O1, O10: whoever waits gets the one outcome.
#[tokio::test(flavor = "multi_thread")]
async fn o1_50_callers_who_wait_share_one_run() {
    let layer = layer().await.wait(Duration::from_secs(20));
    let (service, runs) = counted(&layer, |run, _| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        text(run.to_string())
    });
    let calls = (0..50).map(|_| {
        let service = service.clone();
        tokio::spawn(async move { send(&service, post("k", "b")).await })
    });
    let mut first = 0;
    for call in calls.collect::<Vec<_>>() {
        let response = call.await.unwrap();
        assert_eq!((response.status(), response.body().as_ref()), (StatusCode::OK, b"1".as_slice()));
        first += u32::from(!response.headers().contains_key(IDEMPOTENT_REPLAYED));
    }
    assert_eq!((first, runs.load(Ordering::SeqCst)), (1, 1));
}

/// O1, O4.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_wait_is_told_409_until_it_is_done() {
    let gate = Arc::new(Semaphore::new(0));
    let (service, runs) = counted(&layer().await, gated(Arc::clone(&gate)));
    let first = tokio::spawn({
        let service = service.clone();
        async move { send(&service, post("k", "b")).await }
    });
    eventually(|| runs.load(Ordering::SeqCst) == 1).await;
    let second = send(&service, post("k", "b")).await;
    assert!(is_problem(&second, 409, "OW0302"));
    assert_eq!(second.headers()[header::RETRY_AFTER], "1");
    assert!(is_problem(&send(&service, post("k", "other")).await, 422, "OW0301"));
    gate.add_permits(1);
    assert_eq!(first.await.unwrap().body(), "1");
    assert_eq!(send(&service, post("k", "b")).await.body(), "1");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

/// O12: nobody sees another's response, and nobody takes another's key away.
#[tokio::test(flavor = "multi_thread")]
async fn o12_two_principals_with_one_key_do_not_meet() {
    let layer = layer().await.scope(|head| Some(head.headers.get("x-user")?.to_str().ok()?.to_owned()));
    let (service, runs) = counted(&layer, |run, _| async move { text(run.to_string()) });
    let by = |user: Option<&'static str>, body: &'static str| {
        let mut request = post("k", body);
        user.map(|user| request.headers_mut().insert("x-user", HeaderValue::from_static(user)));
        request
    };
    for round in 0..2 {
        for (user, run) in [(Some("alice"), "1"), (Some("bob"), "2"), (None, "3"), (Some("-"), "4")] {
            let response = send(&service, by(user, user.unwrap_or_default())).await;
            assert_eq!(response.body(), run, "{user:?} in round {round}");
        }
    }
    assert_eq!(runs.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_on_two_routes_is_two_keys() {
    let layer = layer().await;
    let (service, _) = counted(&layer, |run, _| async move { text(run.to_string()) });
    let to = |uri: &str| {
        let mut request = post("k", "b");
        *request.uri_mut() = uri.parse().unwrap();
        request
    };
    assert_eq!(send(&service, to("/a")).await.body(), "1");
    assert_eq!(send(&service, to("/b")).await.body(), "2");
    assert_eq!(send(&service, to("/a")).await.body(), "1");
    let (by_host, _) =
        counted(&layer.route(|head| head.uri.to_string()), |run, _| async move { text(run.to_string()) });
    assert_eq!(send(&by_host, to("http://one/a")).await.body(), "1");
    assert_eq!(send(&by_host, to("http://two/a")).await.body(), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_layer_on_the_way_changes_nothing() {
    let layer = layer().await;
    let (service, runs) = counted(&layer, |run, _| async move { text(run.to_string()) });
    let service = layer.layer(service);
    assert_eq!(send(&service, post("k", "b")).await.body(), "1");
    assert_eq!(send(&service, post("k", "b")).await.body(), "1");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_out_of_range_are_our_fault() {
    let (service, runs) = counted(&layer().await.ttl(Duration::ZERO), |_, _| async { text("") });
    assert!(is_problem(&send(&service, post("k", "b")).await, 500, "OW0103"));
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    let (service, _) = counted(&layer().await.hard_ttl(Duration::from_secs(2)), |_, _| async { text("") });
    assert_eq!(
        send(&service, post("k", "b")).await.status(),
        200,
        "shorter than the ttl that nobody has set"
    );
}

/// O8: the name of the setting says it.
#[tokio::test(flavor = "multi_thread")]
async fn o8_after_the_retention_the_key_runs_again() {
    let layer = layer().await.retain_for(Duration::from_millis(300));
    let (service, runs) = counted(&layer, |run, _| async move { text(run.to_string()) });
    assert_eq!(send(&service, post("k", "b")).await.body(), "1");
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(send(&service, post("k", "b")).await.body(), "2");
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}
