//! What must not grow with the number of jobs: small by default, at full size with `ONCEWARD_PROVE=long`
//! (`cargo xtask prove`).

use core::time::Duration;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use super::jobs::{ALL, Worker, want, work};
use crate::support::Fresh;
use onceward_core::job::New;
use onceward_core::{JobId, Key, Namespace};
use onceward_store::{Enqueued, QUEUE_COUNT_MAX, Store};

/// The number at full size, or that for every day.
fn many(long: usize, short: usize) -> usize {
    if std::env::var("ONCEWARD_PROVE").is_ok_and(|value| value == "long") { long } else { short }
}

async fn enqueue(store: &Arc<dyn Store>, jobs: usize, like: impl Fn() -> New) {
    let mut left = jobs;
    while left > 0 {
        let batch: Vec<New> = (0..left.min(ALL)).map(|_| like()).collect();
        let answers = store.job_enqueue(&batch).await.unwrap();
        assert!(answers.iter().all(|answer| matches!(answer, Enqueued::Created(_))));
        left -= batch.len();
    }
}

/// How long the middle one of fifty enqueues takes with its claim.
async fn cycle(store: &Arc<dyn Store>, worker: &Worker) -> Duration {
    let mut took = Vec::new();
    for _ in 0..50 {
        let (new, began) = (work("mail"), Instant::now());
        store.job_enqueue(core::slice::from_ref(&new)).await.unwrap();
        let claimed = worker.take("mail", ALL).await;
        took.push(began.elapsed());
        assert_eq!(claimed.iter().map(|claimed| claimed.job.id).collect::<Vec<_>>(), [new.id]);
    }
    took.sort_unstable();
    took[25]
}

/// As good as before: twice as long, and what this machine does beside it.
fn assert_no_slower(after: Duration, before: Duration) {
    assert!(after < before * 2 + Duration::from_millis(20), "{before:?} grew to {after:?}");
}

/// J14: of many who claim at the same time, none gets what another one has.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn proof_j14_many_claimers_take_disjoint_jobs() {
    let (jobs, claimers) = (many(100_000, 4_000), many(32, 8));
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    enqueue(&store, jobs, || work("mail")).await;
    let claims: Vec<_> = (0..claimers)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let (worker, mut mine, mut empty) = (Worker::on(&store).await, Vec::<JobId>::new(), 0);
                // One look may find only what others are just taking.
                while empty < 5 {
                    let taken = worker.take("mail", 100).await;
                    empty = if taken.is_empty() { empty + 1 } else { 0 };
                    mine.extend(taken.iter().map(|claimed| claimed.job.id));
                }
                mine
            })
        })
        .collect();
    let (mut all, mut sum) = (HashSet::new(), 0);
    for claimer in claims {
        let mine = claimer.await.unwrap();
        sum += mine.len();
        all.extend(mine);
    }
    assert_eq!((sum, all.len()), (jobs, jobs), "each job was taken, by one of them");
}

/// J15: however much is due later, what is ready is taken as fast; and a listing counts no further than it says.
#[tokio::test(flavor = "multi_thread")]
async fn proof_j15_jobs_of_the_future_slow_no_claim_and_no_listing() {
    let jobs = many(1_000_000, 15_000);
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    let worker = Worker::on(&store).await;
    let before = cycle(&store, &worker).await;
    let tomorrow = || New { delay: Some(Duration::from_secs(86_400)), ..work("mail") };
    enqueue(&store, jobs, tomorrow).await;
    assert_no_slower(cycle(&store, &worker).await, before);
    assert_eq!(store.job_promote(ALL).await.unwrap().moved, 0);
    enqueue(&store, 11_000, || work("post")).await;
    let began = Instant::now();
    let queues = store.queue_list(&Namespace::default()).await.unwrap();
    assert_eq!((queues[0].ready, queues[0].later), (QUEUE_COUNT_MAX, QUEUE_COUNT_MAX));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(worker.take("post", ALL).await.len(), ALL);
}

/// J10, W53: however many jobs wait behind one of their ordering key, others are taken as fast.
#[tokio::test(flavor = "multi_thread")]
async fn proof_j10_jobs_behind_a_stuck_one_of_their_key_slow_nobody_else() {
    let jobs = many(1_000_000, 10_000);
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    let worker = Worker::on(&store).await;
    let before = cycle(&store, &worker).await;
    let line = || New { ordering_key: Some(Key::new("customer-1").unwrap()), ..work("order") };
    enqueue(&store, 1, line).await;
    store.job_promote(ALL).await.unwrap();
    let first = worker.take("order", ALL).await;
    assert_eq!(first.len(), 1);
    enqueue(&store, jobs, line).await;
    let began = Instant::now();
    while store.job_promote(ALL).await.unwrap().moved > 0 {}
    assert_no_slower(cycle(&store, &worker).await, before);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(worker.take("order", ALL).await.is_empty(), "the first one still runs");
    let lanes = store.job_lanes(&Namespace::default(), &[want("mail").queue]).await.unwrap();
    assert!(lanes.is_empty(), "{lanes:?}");
}
