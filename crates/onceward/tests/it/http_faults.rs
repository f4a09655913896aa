//! The `Idempotency-Key` layer while its store is away, loses answers, or is locked.

#![allow(clippy::unwrap_used, clippy::panic)] // these are tests

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, header};
use onceward::http::{IDEMPOTENT_REPLAYED, IdempotencyLayer, Mark};
use onceward::store::KeyRef;
use onceward::store::faulty::{Fault, Faulty, Verb};
use onceward::store::memory::MemoryStore;
use onceward::{Key, Namespace, Onceward};
use tokio::sync::Semaphore;

use crate::http_kit::{Counted, Runs, counted, is_problem, marked, post, text};

/// A charge that counts, behind the layer, behind a store that fails when told to.
fn charging() -> (Counted, Arc<Faulty>, Runs) {
    let store = Faulty::new(Arc::new(MemoryStore::default()));
    let options = Onceward::options().short_ttls_for_tests().deadline(Duration::from_millis(500));
    let ow = options.cache_bytes(0).build(store.clone()).unwrap();
    let (service, runs) =
        counted(&IdempotencyLayer::new(ow), |run, _| async move { text(format!("charge {run}")) });
    (service, store, runs)
}

async fn send(service: &Counted) -> Response<Bytes> {
    crate::http_kit::send(service, post("k", "cents=100")).await
}

/// Sends the request until it is answered with 200: what was on its way to the store when it came back may be
/// in the way for a moment, and 409 says so.
async fn until_200(service: &Counted) -> Response<Bytes> {
    for _ in 0..500 {
        let response = send(service).await;
        match response.status().as_u16() {
            200 => return response,
            status => assert_eq!(status, 409, "{response:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it was never answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_nothing_runs_and_the_client_is_told_when_to_come_back() {
    let (service, store, runs) = charging();
    store.times(1000, Verb::OnceClaim, Fault::Away);
    let away = send(&service).await;
    assert!(is_problem(&away, 503, "OW0001"));
    assert_eq!(away.headers()[header::RETRY_AFTER], "5");
    assert!(!String::from_utf8_lossy(away.body()).contains("as the test wants it"), "no particulars");
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    store.heal();
    assert_eq!(until_200(&service).await.body(), "charge 1");
    assert_eq!(send(&service).await.headers()[IDEMPOTENT_REPLAYED], "true");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

/// O9, O1: an answer that was lost is asked for again, and nothing runs before it is known.
#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_of_claim_and_settle_cost_nobody_a_second_charge() {
    for verb in [Verb::OnceClaim, Verb::OnceSettle] {
        for fault in [Fault::ReplyLost, Fault::RequestLost, Fault::Busy] {
            let (service, store, runs) = charging();
            store.next(verb, fault);
            let first = send(&service).await;
            assert_eq!((first.status().as_u16(), first.body().as_ref()), (200, b"charge 1".as_slice()));
            let second = send(&service).await;
            assert_eq!(second.body(), "charge 1", "{verb:?} {fault:?}");
            assert_eq!(second.headers()[IDEMPOTENT_REPLAYED], "true");
            assert_eq!(runs.load(Ordering::SeqCst), 1);
        }
    }
}

/// O7: the caller gets its answer although nobody could write it down, and the record comes after.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_could_not_be_recorded_goes_to_its_caller_and_into_the_record_later() {
    let (service, store, runs) = charging();
    store.times(1000, Verb::OnceSettle, Fault::Away);
    let first = send(&service).await;
    assert_eq!((first.status().as_u16(), first.body().as_ref()), (200, b"charge 1".as_slice()));
    let meanwhile = send(&service).await;
    assert_eq!(meanwhile.status(), 409, "running or uncertain, but never run again");
    store.heal();
    let later = until_200(&service).await;
    assert_eq!(later.body(), "charge 1");
    assert_eq!(later.headers()[IDEMPOTENT_REPLAYED], "true");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_an_open_transaction_holds_is_409_and_may_be_asked_for_again() {
    let (service, store, runs) = charging();
    let key = Key::new("http:-:4:POST:9:/payments:1:k").unwrap();
    let key = KeyRef { namespace: Namespace::default(), key };
    store.lock(key.clone());
    let locked = send(&service).await;
    assert!(is_problem(&locked, 409, "OW0308"));
    assert!(locked.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    store.unlock(&key);
    assert_eq!(send(&service).await.body(), "charge 1");
}

/// O10: a waiter starts nothing, also when the one it waited for has done nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_whose_twin_did_nothing_is_asked_to_send_again() {
    let store = Faulty::new(Arc::new(MemoryStore::default()));
    let ow = Onceward::options().build(store.clone()).unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let wait = gate.clone();
    let (service, runs) = counted(&IdempotencyLayer::new(ow).wait(Duration::from_secs(60)), move |_, _| {
        let wait = wait.clone();
        async move {
            wait.acquire().await.unwrap().forget();
            marked(503, Some(Mark::NotStarted))
        }
    });
    let calls = [service.clone(), service].map(|service| tokio::spawn(async move { send(&service).await }));
    while store.calls(Verb::OnceLookup) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await; // until the second one waits
    }
    gate.add_permits(1);
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    answers.sort_by_key(|answer| answer.status());
    assert_eq!(answers[1].body(), "status 503");
    assert!(is_problem(&answers[0], 409, "OW0310"));
    assert_eq!(answers[0].headers()[header::RETRY_AFTER], "1");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn proof_under_random_faults_every_key_is_charged_at_most_once_and_answers_never_differ() {
    let long = std::env::var("ONCEWARD_PROVE").is_ok_and(|it| it == "long");
    let rounds = if long { 400 } else { 20 };
    for seed in 0..rounds {
        let (service, store, runs) = charging();
        store.random(seed, 4, [Fault::ReplyLost, Fault::RequestLost, Fault::Away, Fault::Busy]);
        let calls = (0..8).map(|_| {
            let service = service.clone();
            async move { send(&service).await }
        });
        for response in futures_util::future::join_all(calls).await {
            let status = response.status().as_u16();
            assert!(matches!(status, 200 | 409 | 503), "seed {seed}: {response:?}");
            assert!(status != 200 || response.body() == "charge 1", "seed {seed}: {response:?}");
        }
        assert!(runs.load(Ordering::SeqCst) <= 1, "seed {seed}");
    }
}
