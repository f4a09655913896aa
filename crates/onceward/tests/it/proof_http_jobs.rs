//! Many webhooks to receivers of every kind: each comes to its end, and those who answer notice nothing.

use std::time::{Duration, Instant};

use crate::http_jobs_kit::{DRIP, Received, Receiver, Reply, delivery, hook, open, statuses};
use crate::jobs_kit::{client, until};
use onceward::Onceward;
use onceward::http_jobs::HttpJob;
use onceward::jobs::{JobId, State};
use tokio::task::JoinSet;

/// What each kind of receiver does, and what becomes of its jobs: the state, and how many attempts.
const KINDS: [(&str, State, u32); 10] = [
    ("ok", State::Succeeded, 1),
    ("error", State::Dead, 2),
    ("throttle", State::Succeeded, 2),
    ("moved", State::Dead, 1),
    ("gone", State::Dead, 1),
    ("hang", State::Dead, 2),
    ("middle", State::Dead, 2),
    ("drip", State::Dead, 2),
    ("endless", State::Dead, 1),
    ("close", State::Dead, 2),
];

fn is_long() -> bool {
    std::env::var("ONCEWARD_PROVE").is_ok_and(|how| how == "long")
}

async fn receiver() -> Receiver {
    let drip = if is_long() { Reply::Slow(200, Duration::from_secs(10)) } else { DRIP };
    Receiver::new(move |received| match received.path().split('/').nth(1).unwrap() {
        "error" => Reply::Status(500, "broken"),
        "throttle" if received.header("onceward-attempt") == "1" => {
            Reply::With(429, "retry-after: 1".to_owned())
        }
        "moved" => Reply::With(301, "location: /ok/0".to_owned()),
        "gone" => Reply::Status(410, ""),
        "hang" => Reply::Hang,
        "middle" => Reply::Last("HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\nhalf"),
        "drip" => drip.clone(),
        "endless" => Reply::Endless,
        "close" => Reply::Close,
        _ => Reply::Status(200, "ok"),
    })
    .await
}

/// Sends to receivers that answer at a fixed rate, whatever has become of those before, and returns how long each was
/// under way until it had arrived.
async fn steady(ow: &Onceward, receiver: &Receiver, round: &str, count: usize) -> Vec<Duration> {
    let mut every = tokio::time::interval(Duration::from_millis(10));
    let (mut sending, mut sent) = (JoinSet::new(), Vec::new());
    for number in 0..count {
        every.tick().await;
        let url = receiver.url(&format!("/steady/{}?{round}", number % 20));
        let enqueue = ow.enqueue_http(hook(url).header("x-number", number.to_string()));
        sent.push(Instant::now());
        sending.spawn(enqueue.into_future());
    }
    while let Some(enqueued) = sending.join_next().await {
        enqueued.unwrap().unwrap();
    }
    let is_ours = |received: &Received| received.path().ends_with(&format!("?{round}"));
    for _ in 0..1_200 {
        let arrived: Vec<Received> = receiver.seen().into_iter().filter(is_ours).collect();
        if arrived.len() == count {
            let took = |received: &Received| {
                let number: usize = received.header("x-number").parse().unwrap();
                received.at.saturating_duration_since(sent[number])
            };
            let mut took: Vec<Duration> = arrived.iter().map(took).collect();
            took.sort_unstable();
            return took;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not all of {count} have arrived within a minute");
}

fn p99(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() * 99 / 100 - 1]
}

/// Every receiver is an endpoint, but those that are disabled by their first answer.
const UNNAMED: &str = "gone";

async fn name(ow: &Onceward, receiver: &Receiver) {
    for (kind, number) in KINDS.iter().flat_map(|(kind, ..)| (0..10).map(move |number| (kind, number))) {
        let endpoint =
            ow.endpoint(format!("{kind}-{number}")).url(receiver.url(&format!("/{kind}/{number}")));
        endpoint.give_up(None).policy(open()).await.unwrap();
    }
}

fn to(receiver: &Receiver, kind: &str, number: usize) -> HttpJob {
    match kind {
        UNNAMED => hook(receiver.url(&format!("/{kind}/{number}"))),
        _ => HttpJob::to_endpoint(format!("{kind}-{number}")).json(&1),
    }
}

/// H1, H4, H5, N57.
async fn every_receiver_gets_what_is_due_to_it(ow: &Onceward) {
    let (jobs, steadily) = if is_long() { (1_000, 1_000) } else { (200, 100) };
    let receiver = receiver().await;
    let worker = ow.worker().http(delivery()).concurrency(100).start().await.unwrap();
    let alone = steady(ow, &receiver, "alone", steadily).await;
    name(ow, &receiver).await;
    let mut sent: Vec<(JobId, usize)> = Vec::new();
    let retry = "fixed 50ms".parse().unwrap();
    for number in 0..jobs {
        let kind = number % KINDS.len();
        let job = ow.enqueue_http(to(&receiver, KINDS[kind].0, number / KINDS.len() % 10));
        let job = job.retry(retry).max_attempts(2);
        sent.push((job.timeout(Duration::from_secs(1)).await.unwrap().id, kind));
    }
    let beside = steady(ow, &receiver, "beside", steadily).await;
    for (id, kind) in sent {
        let (name, state, attempts) = KINDS[kind];
        let row = until_patiently(ow, id, state).await;
        assert_eq!(row, attempts, "{name}");
    }
    println!("p99 alone {:?}, beside them {:?}", p99(&alone), p99(&beside));
    // What is looked for is a wait for a receiver that does not answer, a second here. In the short version other tests
    // run at the same time.
    let noise = Duration::from_millis(if is_long() { 20 } else { 800 });
    let bound = 2 * p99(&alone) + noise;
    assert!(p99(&beside) < bound, "p99 alone {:?}, beside them {:?}", p99(&alone), p99(&beside));
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn proof_every_receiver_gets_what_is_due_to_it() {
    every_receiver_gets_what_is_due_to_it(&client().await).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn proof_every_receiver_gets_what_is_due_to_it_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("store.db").display());
    let ow = Onceward::options().connect(&url).await.unwrap();
    every_receiver_gets_what_is_due_to_it(&ow).await;
    ow.shutdown().await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn proof_every_receiver_gets_what_is_due_to_it_on_postgres() {
    let schema = crate::pg::Schema::migrated().await;
    let ow = Onceward::options().connect(schema.url()).await.unwrap();
    every_receiver_gets_what_is_due_to_it(&ow).await;
    ow.shutdown().await;
}

/// The attempts of a job that has reached this state.
async fn until_patiently(ow: &Onceward, id: JobId, state: State) -> u32 {
    for _ in 0..3_000 {
        let row = crate::jobs_kit::job(ow, id).await;
        if row.state_now().is_final() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let row = until(ow, id, state).await;
    assert_eq!(statuses(&row).len() as u32, row.attempt, "{row:?}");
    row.attempt
}
