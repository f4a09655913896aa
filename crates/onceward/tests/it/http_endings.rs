//! The `Idempotency-Key` layer: how a handler ends, and what the next caller gets.

#![allow(clippy::unwrap_used, clippy::panic)] // these are tests

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use onceward::Verdict;
use onceward::http::{IDEMPOTENT_REPLAYED, IdempotencyLayer, Mark};
use tokio::sync::Semaphore;
use tower::{Layer, ServiceExt, service_fn};

use crate::http_kit::{
    Body, Counted, Runs, client, counted, eventually, gated, is_problem, layer, marked, post, problem, send,
    text,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_response_means_is_its_status_unless_it_is_marked() {
    // status, mark, whether the same key runs again, and what the second caller gets
    let replayed = |status: u16| (status, "");
    for (status, mark, runs_twice, second) in [
        (200, None, false, replayed(200)),
        (402, None, false, replayed(402)),
        (499, None, false, replayed(499)),
        (500, None, false, (409, "OW0303")),
        (503, None, false, (409, "OW0303")),
        (500, Some(Mark::Done), false, replayed(500)),
        (402, Some(Mark::Failed), false, replayed(402)),
        (503, Some(Mark::Failed), false, replayed(503)),
        (429, Some(Mark::NotStarted), true, (429, "")),
        (503, Some(Mark::NotStarted), true, (503, "")),
        (200, Some(Mark::Unknown), false, (409, "OW0303")),
    ] {
        let (service, runs) = counted(&layer().await, move |_, _| async move { marked(status, mark) });
        let first = send(&service, post("k", "b")).await;
        let case = format!("{status} {mark:?}");
        assert_eq!(first.status(), status, "{case}");
        assert_eq!(first.body(), &format!("status {status}"), "{case}");
        assert!(first.extensions().get::<Mark>().is_none());
        let again = send(&service, post("k", "b")).await;
        assert_eq!(runs.load(Ordering::SeqCst), 1 + u32::from(runs_twice), "{case}");
        match second {
            (status, "") => {
                assert_eq!((again.status().as_u16(), again.body()), (status, first.body()), "{case}");
                assert_eq!(again.headers().contains_key(IDEMPOTENT_REPLAYED), !runs_twice, "{case}");
            }
            (status, code) => assert!(is_problem(&again, status, code), "{case}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_or_the_hard_limit_is_500_for_its_caller_and_uncertain_for_others() {
    let (service, runs) = counted(&layer().await, |_, _| async { panic!("the secret of the insides") });
    let first = send(&service, post("k", "b")).await;
    assert!(is_problem(&first, 500, "OW0303"));
    let second = send(&service, post("k", "b")).await;
    assert!(is_problem(&second, 409, "OW0303") && !second.headers().contains_key(header::RETRY_AFTER));
    for response in [first, second] {
        assert!(!String::from_utf8_lossy(response.body()).contains("secret"));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);

    let short = Duration::from_secs(1);
    let layer = layer().await.ttl(short).hard_ttl(short);
    let (service, runs) = counted(&layer, |_, _| async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        text("")
    });
    assert!(is_problem(&send(&service, post("k", "b")).await, 500, "OW0303"));
    assert!(is_problem(&send(&service, post("k", "b")).await, 409, "OW0303"));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

/// A handler much slower than the ttl is renewed and runs once: 60 s in the long version.
#[tokio::test(flavor = "multi_thread")]
async fn proof_a_slow_handler_runs_once() {
    let long = std::env::var("ONCEWARD_PROVE").is_ok_and(|it| it == "long");
    let (ttl, takes) = if long { (10_000, 60_000) } else { (600, 2_400) };
    let layer = layer().await.ttl(Duration::from_millis(ttl)).wait(Duration::from_millis(takes));
    let (service, runs) = counted(&layer, move |run, _| async move {
        tokio::time::sleep(Duration::from_millis(takes)).await;
        text(run.to_string())
    });
    let calls = (0..5_u32).map(|nth| {
        let service = service.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(takes / 6) * nth).await;
            send(&service, post("k", "b")).await
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().body(), "1");
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

/// Bodies of responses that are not what `Full` is: broken, too large.
type Streamed = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

fn streamed(chunks: usize, breaks: bool) -> Streamed {
    let data = |_| Ok(http_body::Frame::data(Bytes::from(vec![b'x'; 64 * 1024])));
    let broken = breaks.then(|| Err(std::io::Error::other("cable cut")));
    let frames = (0..chunks).map(data).chain(broken);
    Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_leaves_the_key_uncertain() {
    for (mark, later) in [(None, "OW0303"), (Some(Mark::Done), "OW0306"), (Some(Mark::Failed), "OW0310")] {
        let service = layer().await.layer(service_fn(move |_: Request<Body>| async move {
            let mut response = streamed(1, true);
            mark.map(|mark| response.extensions_mut().insert(mark));
            Ok::<_, Infallible>(response)
        }));
        let first = service.clone().oneshot(post("k", "b")).await.unwrap();
        assert_eq!(first.status(), 200);
        let error = first.into_body().collect().await.unwrap_err();
        assert!(
            error.to_string().contains("cable cut"),
            "the first caller sees what it would see without us"
        );
        assert!(is_problem(&send(&service, post("k", "b")).await, 409, later), "{mark:?}");
    }
}

/// O13.
#[tokio::test(flavor = "multi_thread")]
async fn o13_a_large_response_passes_whole_and_is_not_replayed() {
    let runs = Runs::default();
    let counter = runs.clone();
    let service = layer().await.layer(service_fn(move |_: Request<Body>| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Ok::<_, Infallible>(streamed(40, false)) }
    }));
    let first = send(&service, post("k", "b")).await;
    assert!(first.body().len() == 40 * 64 * 1024 && first.body().iter().all(|byte| *byte == b'x'));
    let second = send(&service, post("k", "b")).await;
    assert!(is_problem(&second, 409, "OW0306") && !second.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_service_is_passed_on_and_leaves_the_key_uncertain() {
    let service = layer().await.layer(service_fn(|_: Request<Body>| async {
        Err::<Response<Body>, _>(std::io::Error::other("no upstream"))
    }));
    let error = service.clone().oneshot(post("k", "b")).await.unwrap_err();
    assert_eq!(error.to_string(), "no upstream");
    assert!(is_problem(&send(&service, post("k", "b")).await, 409, "OW0303"));
}

/// N9: the handler outlives its client, unless it shall not.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_whose_client_hangs_up_ends_and_is_recorded() {
    let layer = layer().await;
    let gate = Arc::new(Semaphore::new(0));
    let (service, runs) = counted(&layer, gated(Arc::clone(&gate)));
    hang_up(&service, &runs).await;
    gate.add_permits(1);
    layer.finish().await;
    let again = send(&service, post("k", "b")).await;
    assert!(again.body() == "1" && again.headers()[IDEMPOTENT_REPLAYED] == "true");

    let layer = layer.scope(|_| Some("not detached".to_owned())).detach(false);
    let (service, runs) = counted(&layer, gated(Arc::clone(&gate)));
    hang_up(&service, &runs).await;
    let mut again = problem(&send(&service, post("k", "b")).await);
    while again == (409, "OW0302".to_owned()) {
        tokio::time::sleep(Duration::from_millis(10)).await; // its last words are on their way
        again = problem(&send(&service, post("k", "b")).await);
    }
    assert_eq!(again, (409, "OW0303".to_owned()));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

/// Sends a request, and leaves when its handler has begun.
async fn hang_up(service: &Counted, runs: &Runs) {
    let service = service.clone();
    let call = tokio::spawn(async move { send(&service, post("k", "b")).await });
    eventually(|| runs.load(Ordering::SeqCst) == 1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
}

/// O6: what an operator decides is what callers get.
#[tokio::test(flavor = "multi_thread")]
async fn o6_a_settled_key_answers_as_it_was_settled() {
    let ow = client().await;
    let (service, runs) = counted(&IdempotencyLayer::new(ow.clone()), |run, _| async move {
        if run <= 3 { marked(500, None) } else { text(run.to_string()) }
    });
    for (key, verdict) in [
        ("done", Verdict::Happened(serde_json::json!({ "charge": "ch_1" }))),
        ("failed", Verdict::Failed("the card was stolen".to_owned())),
        ("released", Verdict::DidNotHappen),
    ] {
        assert_eq!(send(&service, post(key, "b")).await.status(), 500);
        let folded = format!("http:-:4:POST:9:/payments:{}:{key}", key.len());
        let _ = ow.once(folded).probe(async |_| verdict).await.unwrap().map(|it| it.is_done());
    }
    let done = send(&service, post("done", "b")).await;
    assert_eq!((done.status().as_u16(), done.body().as_ref()), (200, br#"{"charge":"ch_1"}"#.as_slice()));
    assert_eq!(done.headers()[header::CONTENT_TYPE], "application/json");
    assert_eq!(done.headers()[IDEMPOTENT_REPLAYED], "true");
    let failed = send(&service, post("failed", "b")).await;
    assert!(is_problem(&failed, 409, "OW0310") && !failed.headers().contains_key(header::RETRY_AFTER));
    assert!(!String::from_utf8_lossy(failed.body()).contains("stolen"));
    assert_eq!(send(&service, post("released", "b")).await.body(), "4");
    assert_eq!(runs.load(Ordering::SeqCst), 4);
}
