//! How many runs of a function are worked on at the same time: `max_concurrent`.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use onceward::durable::{AnyError, durable, join_all, step};
use onceward::{Onceward, Queue};

use crate::durable_kit::{Place, each};
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
