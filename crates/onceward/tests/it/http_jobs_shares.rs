//! What receivers that do not answer, and those that want to get little, leave to the others.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::http_jobs_kit::{Receiver, Reply, delivery, hook, open};
use crate::jobs_kit::{Number, client, faulty, until, until_that};
use onceward::http_jobs::HttpJob;
use onceward::jobs::{JobId, Record, State};
use onceward::store::faulty::Verb;
use onceward::worker::State as Injected;
use onceward::{JobFilter, Onceward, Timestamp};

/// One that answers each path under `/dark` once, and then never again; and everything else at once.
async fn goes_dark() -> Receiver {
    let seen = Mutex::new(HashSet::new());
    Receiver::new(move |received| {
        let path = received.path();
        let again = path.starts_with("/dark") && !seen.lock().unwrap().insert(path.to_owned());
        if again { Reply::Hang } else { Reply::Status(200, "") }
    })
    .await
}

/// H5: requests that have been without an answer for a second only wait. Others have their slots, although every
/// receiver had answered before.
#[tokio::test(flavor = "multi_thread")]
async fn h5_slots_of_requests_that_are_slow_are_lent() {
    let (ow, receiver) = (client().await, goes_dark().await);
    let worker = ow.worker().http(delivery()).concurrency(4).grace(Duration::ZERO).start().await.unwrap();
    let send = async |path: &str| ow.enqueue_http(hook(receiver.url(path))).await.unwrap().id;
    for path in ["/good", "/dark/0", "/dark/1", "/dark/2", "/dark/3"] {
        until(&ow, send(path).await, State::Succeeded).await;
    }
    // They were seen a while ago.
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    for number in 0..4 {
        let path = format!("/dark/{number}");
        let id = send(&path).await;
        until_that(&ow, id, "under way", |row| row.state_now() == State::Running).await;
    }
    // All slots are taken, for half a minute.
    let good = send("/good").await;
    until(&ow, good, State::Succeeded).await;
    worker.shutdown().await;
}

#[derive(Default)]
struct Counts {
    running: AtomicUsize,
    most: AtomicUsize,
    over: AtomicBool,
}

/// Once they have their slots again, no more jobs run at the same time than was said.
#[tokio::test(flavor = "multi_thread")]
async fn h5_a_worker_that_has_lent_slots_runs_no_more_than_it_may_afterwards() {
    let ow = client().await;
    let receiver = Receiver::new(|_| Reply::After(Duration::from_millis(1_500), 200)).await;
    let counts = Arc::<Counts>::default();
    let handler = async |_: Number, counts: Injected<Arc<Counts>>| {
        counts.most.fetch_max(counts.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        if !counts.over.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        counts.running.fetch_sub(1, Ordering::SeqCst);
    };
    let worker = ow.worker().http(delivery()).job(handler).state(Arc::clone(&counts)).concurrency(2);
    let worker = worker.start().await.unwrap();
    let slow = ow.enqueue_http(hook(receiver.url("/"))).await.unwrap().id;
    while receiver.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    ow.enqueue_many((0..1_000).map(Number)).await.unwrap();
    until(&ow, slow, State::Succeeded).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    counts.over.store(true, Ordering::SeqCst);
    assert_eq!(counts.most.load(Ordering::SeqCst), 2);
    worker.shutdown().await;
}

async fn all(ow: &Onceward) -> Vec<Record> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = ow.admin().jobs(&JobFilter::default(), after, 500).await.unwrap().rows;
        let Some(last) = page.last() else { return rows };
        after = Some(last.id);
        rows.extend(page);
    }
}

/// N56: of thousands that wait for an endpoint that gets one a second, and of thousands for a host that hangs, few come
/// back in the next time, and a receiver beside them notices nothing.
#[tokio::test(flavor = "multi_thread")]
async fn n56_thousands_that_are_sent_away_come_back_when_it_is_their_turn() {
    const JOBS: usize = 1_500;
    let (ow, receiver) = (
        client().await,
        Receiver::new(|received| match received.path() {
            path if path.starts_with("/hang") => Reply::Hang,
            _ => Reply::Status(200, ""),
        })
        .await,
    );
    let other = Receiver::good().await;
    let rated = ow.endpoint("rated").url(other.url("/rated")).rate(Some("1/s".parse().unwrap()));
    rated.policy(open()).await.unwrap();
    ow.enqueue_many((0..JOBS).map(|number| ow.enqueue_http(HttpJob::to_endpoint("rated").json(&number))))
        .await
        .unwrap();
    let hangs = |number| ow.enqueue_http(hook(receiver.url(&format!("/hang/{number}"))));
    ow.enqueue_many((0..JOBS).map(hangs)).await.unwrap();
    let worker = ow.worker().http(delivery()).concurrency(20).grace(Duration::ZERO).start().await.unwrap();
    let is_away = |row: &&Record| row.state_now() == State::Scheduled;
    let mut seen = Vec::new();
    while seen.len() < 60 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let good = ow.enqueue_http(hook(other.url("/good"))).await.unwrap().id;
        until(&ow, good, State::Succeeded).await;
        let soon = Timestamp::from(SystemTime::now() + Duration::from_secs(1));
        let rows = all(&ow).await;
        let away = rows.iter().filter(is_away).count();
        let soon = rows.iter().filter(is_away).filter(|row| row.run_at < soon).count();
        if away > 2 * JOBS - 300 && soon < 200 {
            worker.shutdown().await;
            return;
        }
        seen.push((away, soon));
    }
    panic!("so many wait, and so many of them are due within a second: {seen:?}");
}

/// However many endpoints are in use, they are read together, and not again and again.
#[tokio::test(flavor = "multi_thread")]
async fn n56_endpoints_in_use_are_read_by_the_page() {
    const ENDPOINTS: usize = 1_200;
    let ((ow, store), receiver) = (faulty(), Receiver::good().await);
    for number in 0..ENDPOINTS {
        let endpoint = ow.endpoint(format!("e{number}")).url(receiver.url(&format!("/{}", number % 50)));
        endpoint.policy(open()).await.unwrap();
    }
    let worker = ow.worker().http(delivery()).concurrency(50).start().await.unwrap();
    let deliver = async || {
        let seen = receiver.seen().len();
        let send = |number| ow.enqueue_http(HttpJob::to_endpoint(format!("e{number}")).json(&number));
        ow.enqueue_many((0..ENDPOINTS).map(send)).await.unwrap();
        for _ in 0..3_000 {
            if receiver.seen().len() == seen + ENDPOINTS {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} of {ENDPOINTS} have arrived", receiver.seen().len() - seen);
    };
    deliver().await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let verb = Verb::EndpointList;
    let (before, began) = (store.calls(verb), std::time::Instant::now());
    deliver().await;
    let (calls, took) = (store.calls(verb) - before, began.elapsed().as_secs());
    assert!(calls <= 10 + 10 * took, "{calls} reads within {took} s");
    worker.shutdown().await;
}

/// An endpoint whose receiver has asked one delivery to wait for a minute, so that another one has to wait as well.
async fn asked_to_wait(ow: &Onceward, receiver: &Receiver) {
    ow.endpoint("shop").url(receiver.url("/old")).policy(open()).await.unwrap();
    let first = to_shop(ow).await;
    until_that(ow, first, "asked to wait", |row| row.state == State::Retrying).await;
    let waits = to_shop(ow).await;
    let row = until_that(ow, waits, "sent away", |row| row.state == State::Scheduled).await;
    assert_eq!((row.attempt, receiver.seen().len()), (0, 1), "it waits for its turn");
}

async fn to_shop(ow: &Onceward) -> JobId {
    ow.enqueue_http(HttpJob::to_endpoint("shop").json(&1)).await.unwrap().id
}

/// Sends one delivery after the other until this many requests have arrived.
async fn until_one_arrives(ow: &Onceward, receiver: &Receiver, count: usize) {
    for _ in 0..100 {
        to_shop(ow).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        if receiver.seen().len() >= count {
            return;
        }
    }
    panic!("none of a hundred deliveries has arrived: {:?}", receiver.seen());
}

/// What a receiver asked for holds for where it was: at another URL an endpoint begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn w69_a_pause_that_a_receiver_asks_for_holds_for_its_url() {
    let ow = client().await;
    let receiver = Receiver::new(move |received| match received.path() {
        "/old" => Reply::With(429, "retry-after: 60".to_owned()),
        _ => Reply::Status(200, ""),
    })
    .await;
    let worker = ow.worker().http(delivery()).start().await.unwrap();
    asked_to_wait(&ow, &receiver).await;
    ow.endpoint("shop").url(receiver.url("/new")).policy(open()).set().await.unwrap();
    until_one_arrives(&ow, &receiver, 2).await;
    worker.shutdown().await;
}

/// Whoever enables an endpoint wants to see whether it is there: it begins anew as well.
#[tokio::test(flavor = "multi_thread")]
async fn w69_an_endpoint_that_is_enabled_begins_anew() {
    let ow = client().await;
    let answered = AtomicBool::new(false);
    let receiver = Receiver::new(move |_| match answered.swap(true, Ordering::SeqCst) {
        false => Reply::With(429, "retry-after: 60".to_owned()),
        true => Reply::Status(200, ""),
    })
    .await;
    let worker = ow.worker().http(delivery()).start().await.unwrap();
    asked_to_wait(&ow, &receiver).await;
    let name = crate::http_jobs_stores::name("shop");
    ow.admin().disable_endpoint(&name, None).await.unwrap();
    // Until the worker has seen it.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let waits = to_shop(&ow).await;
    until_that(&ow, waits, "sent away", |row| row.state == State::Scheduled).await;
    ow.admin().enable_endpoint(&name, None).await.unwrap();
    until_one_arrives(&ow, &receiver, 2).await;
    worker.shutdown().await;
}
