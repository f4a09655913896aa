//! Jobs enqueued by the process that runs them: past the lanes where they can start at once, and never lost.

use std::collections::HashMap;
use std::future::IntoFuture;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::jobs_kit::{NOW, Number, faulty, job, until};
use onceward::jobs::{Limits, State as JobState};
use onceward::store::faulty::{Fault, Faulty, Verb};
use onceward::worker::{JobContext, State};
use onceward::{Job, Onceward, Queue};
use serde::{Deserialize, Serialize};

type Runs = Arc<Mutex<HashMap<u32, u32>>>;

async fn count(job: Number, runs: State<Runs>) {
    *runs.lock().unwrap().entry(job.0).or_default() += 1;
}

/// A worker that has looked into its lanes and found nothing.
async fn idle_worker(ow: &Onceward, store: &Faulty, runs: &Runs) -> onceward::worker::WorkerHandle {
    let worker = ow.worker().concurrency(100).job(count).state(Arc::clone(runs)).start().await.unwrap();
    let first = ow.enqueue(Number(u32::MAX)).await.unwrap();
    until(ow, first.id, JobState::Succeeded).await;
    while store.calls(Verb::JobClaim) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    worker
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_has_what_its_process_enqueues_without_a_claim() {
    let (ow, store) = faulty();
    let runs = Runs::default();
    let worker = idle_worker(&ow, &store, &runs).await;
    let before = (store.calls(Verb::JobEnqueue), store.calls(Verb::JobHandOver));
    let enqueued = futures_util::future::join_all((0..20).map(|n| ow.enqueue(Number(n)).into_future())).await;
    for enqueued in enqueued {
        let enqueued = enqueued.unwrap();
        assert!(enqueued.created);
        until(&ow, enqueued.id, JobState::Succeeded).await;
    }
    assert!(store.calls(Verb::JobHandOver) > before.1, "some were handed over");
    assert!((0..20).all(|n| runs.lock().unwrap().get(&n) == Some(&1)), "each ran once");
    worker.shutdown().await;
}

/// J11: what a worker's own process enqueues starts past the lanes only where no limit stands against it.
#[tokio::test(flavor = "multi_thread")]
async fn j11_a_limited_queue_hands_nothing_over_beyond_its_limit() {
    let (ow, store) = faulty();
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (running, highest) = (Arc::clone(&now), Arc::clone(&most));
    let handler = move |_: Number| {
        let (running, highest) = (Arc::clone(&running), Arc::clone(&highest));
        async move {
            highest.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            running.fetch_sub(1, Ordering::SeqCst);
        }
    };
    let limits = Limits { concurrency: Some(2), ..Limits::default() };
    ow.admin().limit_queue(&Queue::default(), limits).await.unwrap();
    let worker = ow.worker().concurrency(100).job(handler).start().await.unwrap();
    let first = ow.enqueue(Number(0)).await.unwrap();
    until(&ow, first.id, JobState::Succeeded).await;
    let before = store.calls(Verb::JobHandOver);
    let enqueued = futures_util::future::join_all((1..30).map(|n| ow.enqueue(Number(n)).into_future())).await;
    for enqueued in enqueued {
        until(&ow, enqueued.unwrap().id, JobState::Succeeded).await;
    }
    let handed = store.calls(Verb::JobHandOver) - before;
    assert_eq!(most.load(Ordering::SeqCst), 2, "{handed} hand-overs, and both permits were used");
    assert_eq!(now.load(Ordering::SeqCst), 0);
    worker.shutdown().await;
}

/// What is not for this worker, not due, or has keys, goes the usual way.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_at_once_is_enqueued() {
    #[derive(Serialize, Deserialize, Job)]
    #[job(kind = "test.stranger")]
    struct Stranger;

    let (ow, store) = faulty();
    let runs = Runs::default();
    let worker = idle_worker(&ow, &store, &runs).await;
    let before = store.calls(Verb::JobHandOver);
    ow.enqueue(Stranger).await.unwrap();
    ow.enqueue(Number(1)).queue("another").await.unwrap();
    let keyed = ow.enqueue(Number(2)).key("k").await.unwrap();
    let ordered = ow.enqueue(Number(3)).ordering_key("line").await.unwrap();
    let later = ow.enqueue(Number(4)).delay(Duration::from_secs(60)).await.unwrap();
    let tagged = ow.enqueue(Number(5)).tag("gpu").await.unwrap();
    for id in [keyed.id, ordered.id] {
        until(&ow, id, JobState::Succeeded).await;
    }
    assert_eq!(job(&ow, later.id).await.state_now(), JobState::Scheduled);
    assert_eq!(job(&ow, tagged.id).await.state_now(), JobState::Ready);
    assert_eq!(store.calls(Verb::JobHandOver), before);
    worker.shutdown().await;
}

/// Whatever becomes of the statement: each job is there, runs once, and its caller is told so.
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_whose_answer_is_lost_is_found_again() {
    for fault in [
        Fault::ReplyLost,
        Fault::RequestLost,
        Fault::Away,
        Fault::Busy,
        Fault::Late(Duration::from_millis(30)),
    ] {
        let (ow, store) = faulty();
        let runs = Runs::default();
        let worker = idle_worker(&ow, &store, &runs).await;
        store.next(Verb::JobHandOver, fault);
        let enqueued = ow.enqueue(Number(7)).await.unwrap();
        assert!(enqueued.created, "{fault:?}");
        until(&ow, enqueued.id, JobState::Succeeded).await;
        assert_eq!(runs.lock().unwrap().get(&7), Some(&1), "{fault:?}");
        worker.shutdown().await;
    }
}

/// A worker that leaves while its process goes on enqueueing loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_leaves_takes_nothing_with_it() {
    let (ow, store) = faulty();
    let runs = Runs::default();
    let worker = idle_worker(&ow, &store, &runs).await;
    let enqueue = async {
        for n in 0..200 {
            ow.enqueue(Number(n)).await.unwrap();
        }
    };
    let leave = async {
        tokio::time::sleep(Duration::from_millis(3)).await;
        worker.shutdown().await;
    };
    tokio::join!(enqueue, leave);
    let handler = async |job: Number, runs: State<Runs>, _: JobContext| count(job, runs).await;
    ow.worker().job(handler).state(Arc::clone(&runs)).run_until_empty(NOW).await.unwrap();
    let runs = runs.lock().unwrap();
    assert!((0..200).all(|n| runs.get(&n) == Some(&1)), "each ran once: {runs:?}");
}
