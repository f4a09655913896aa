//! How many runs of a function are worked on at the same time: `max_concurrent`.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use onceward::durable::{AnyError, RunHandle, Standing, durable, join_all, signal, step};
use onceward::{Code, Onceward, Queue};

use crate::durable_kit::{Ledger, Place, each};
use onceward::worker::{State, WorkerHandle};
use std::sync::Arc;

/// How many are under way, and how many there have ever been at the same time.
#[derive(Default)]
struct Meter {
    now: AtomicU32,
    most: AtomicU32,
    done: AtomicU32,
}

#[durable(max_concurrent = 2, version = "7")]
async fn transcode(meter: State<Arc<Meter>>, part: u32) -> Result<u32, AnyError> {
    let work = || async {
        let now = meter.now.fetch_add(1, Ordering::SeqCst) + 1;
        meter.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        meter.now.fetch_sub(1, Ordering::SeqCst);
        meter.done.fetch_add(1, Ordering::SeqCst);
        Ok::<u32, AnyError>(part * 2)
    };
    Ok(step("transcode", work).await?)
}

#[durable]
async fn film(parts: u32) -> Result<u32, AnyError> {
    let parts = join_all((0..parts).map(transcode)).await;
    Ok(parts.into_iter().sum::<Result<u32, _>>()?)
}

async fn worker(ow: &Onceward, meter: &Arc<Meter>) -> WorkerHandle {
    let base = ow.worker().state(Arc::clone(meter)).durable(transcode).durable(film);
    base.park_after(Duration::ZERO).start().await.unwrap()
}

async fn concurrency(place: &Place) -> Option<u32> {
    let queue = Queue::new("transcode").unwrap();
    place.ow.admin().queue_limits(&queue).await.unwrap().concurrency
}

/// Children and runs of their own, of several workers: never more of them than may be, and all of them in the end. What
/// is limited is in a queue of its own, which nobody has to name.
#[tokio::test(flavor = "multi_thread")]
async fn j11_no_more_runs_of_a_function_than_may_be_are_worked_on() {
    each(async |place| {
        let meter = Arc::new(Meter::default());
        let other = Onceward::options().build(place.ow.store().clone()).unwrap();
        let workers = [worker(&place.ow, &meter).await, worker(&other, &meter).await];
        assert_eq!(concurrency(&place).await, Some(2));
        let runs = [place.ow.start(film(6)).await.unwrap(), other.start(film(6)).await.unwrap()];
        let alone = place.ow.start(transcode(50)).await.unwrap();
        for run in &runs {
            assert_eq!(run.result().await, Ok(30), "on {}", place.ow.store().url());
        }
        assert_eq!(alone.result().await, Ok(100));
        let (most, done) = (meter.most.load(Ordering::SeqCst), meter.done.load(Ordering::SeqCst));
        assert!((1..=2).contains(&most), "{most} at once on {}", place.ow.store().url());
        assert_eq!(done, 13);
        for worker in workers {
            worker.shutdown().await;
        }
    })
    .await;
}

/// What else the queue was limited to stays as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_rate_that_somebody_has_set_stays() {
    each(async |place| {
        let (queue, admin) = (Queue::new("transcode").unwrap(), place.ow.admin());
        let rate = onceward::jobs::Rate::new(1000, Duration::from_secs(1)).unwrap();
        let set = onceward::jobs::Limits { concurrency: Some(9), rate: Some(rate), ..Default::default() };
        admin.limit_queue(&queue, set).await.unwrap();
        worker(&place.ow, &Arc::default()).await.shutdown().await;
        let limits = admin.queue_limits(&queue).await.unwrap();
        assert_eq!((limits.concurrency, limits.rate), (Some(2), Some(rate)));
    })
    .await;
}

#[durable]
async fn ship(ledger: State<Ledger>, name: String) -> Result<u32, AnyError> {
    step("pack", || async { Ok::<u32, AnyError>(ledger.note(&name)) }).await?;
    Ok(signal::<u32>("sent").await?)
}

#[durable(idempotent)]
async fn charge(order: u32) -> Result<u32, AnyError> {
    Ok(order)
}

#[durable(max_attempts = 1)]
async fn waits_for_itself(again: bool) -> Result<u32, AnyError> {
    if again { Ok(waits_for_itself(false).ordering_key("mine").await?) } else { Ok(0) }
}

/// Runs of one ordering key have their turn until they have ended, also while they are parked; as many at a time as the
/// queue says.
#[tokio::test(flavor = "multi_thread")]
async fn runs_of_one_ordering_key_wait_for_their_turn() {
    each(async |place| {
        let queue = Queue::new("default").unwrap();
        place.ow.admin().limit_keys(&queue, 2).await.unwrap();
        let base = place.ow.worker().state(place.ledger.clone()).durable(ship).durable(waits_for_itself);
        let worker = base.durable(charge).park_after(Duration::ZERO).start().await.unwrap();
        let mut runs = Vec::new();
        for name in ["a1", "a2", "a3"] {
            let started = place.ow.start(ship(name.to_owned())).ordering_key("a");
            runs.push(started.await.unwrap());
        }
        let args = serde_json::json!({ "name": "a4" });
        let named = place.ow.start_named("ship", &args).ordering_key("a").await.unwrap();
        let other = place.ow.start(ship("b1".to_owned())).ordering_key("b").await.unwrap();
        let stands = async |run: &RunHandle<ship>, standing| run.standing().await.unwrap() == standing;
        for run in [&runs[0], &runs[1], &other] {
            place.until(async || stands(run, Standing::Parked).await).await;
        }
        assert_eq!((place.ledger.count("a3"), place.ledger.count("a4")), (0, 0));
        assert!(stands(&runs[2], Standing::Pending).await);
        runs[0].signal("sent", &1_u32).await.unwrap();
        assert_eq!(runs[0].result().await, Ok(1));
        place.until(async || stands(&runs[2], Standing::Parked).await).await;
        assert_eq!(place.ledger.count("a4"), 0, "on {}", place.ow.store().url());
        runs[1].signal("sent", &2_u32).await.unwrap();
        place.until(async || place.ledger.count("a4") == 1).await;
        place.ow.signal_run(named.id, "sent", &4_u32).await.unwrap();
        // What has a line of its own, and who would wait for himself, is refused.
        let refused = place.ow.start(charge(1)).ordering_key("a").await.unwrap_err();
        assert_eq!(refused.code(), Code::RunCallRefused);
        let itself = place.ow.start(waits_for_itself(true)).ordering_key("mine").await.unwrap();
        let failure = itself.result().await.unwrap_err().to_string();
        assert!(failure.contains(Code::RunCallRefused.as_str()), "{failure}");
        worker.shutdown().await;
    })
    .await;
}
