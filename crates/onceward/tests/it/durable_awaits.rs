//! Code that awaits what is not written down is found where it runs, in debug builds; everything that may wait is not.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use onceward::durable::{
    AnyError, Either, durable, join, join_all, map, race, signal, sleep, step, try_join,
};
use onceward::testing::TestBed;
use onceward::worker::State;
use tokio::sync::Notify;

use crate::durable_kit::{Ledger, Place, each};
use std::sync::Arc;

async fn a_while(millis: u64) -> Result<u64, AnyError> {
    tokio::time::sleep(Duration::from_millis(millis)).await;
    tokio::task::yield_now().await;
    Ok(millis)
}

#[durable]
async fn child(number: u64) -> Result<u64, AnyError> {
    sleep(Duration::from_millis(2)).await?;
    Ok(step("work", || a_while(number)).await?)
}

/// It is done as a whole: there is nothing in it that could come out otherwise.
#[durable]
async fn leaf(number: u64) -> Result<u64, AnyError> {
    a_while(2).await?;
    Ok(number)
}

/// Everything that there is to wait with.
#[durable]
async fn orderly(ledger: State<Ledger>) -> Result<u64, AnyError> {
    let tries =
        || async { if ledger.note("try") < 3 { Err(AnyError::new("again")) } else { a_while(1).await } };
    let b = step("b", tries).max_attempts(5).await;
    let (a, _) = join!(step("a", || a_while(3)), step("beside", || a_while(4)));
    let hung = step("hung", || a_while(5_000)).timeout(Duration::from_millis(5)).await;
    assert!(hung.is_err());
    let once = step("once", || a_while(1)).at_most_once().await?;
    let children = join_all((0..40).map(child)).await;
    let mapped = map(0..5, 2, child).await;
    let mut unordered: FuturesUnordered<_> = (0..40).map(|_| step("foreign", || a_while(2))).collect();
    let mut foreign = 0;
    while let Some(ended) = unordered.next().await {
        foreign += ended?;
    }
    let raced = race(signal::<u64>("never"), sleep(Duration::from_millis(3))).await;
    assert!(matches!(raced, Either::Right(_)));
    let said: u64 = signal("go").await?;
    try_join!(step("c", || a_while(1)), child(1), leaf(1))?;
    Ok(a? + b? + once + said + foreign + u64::try_from(children.len() + mapped.len()).unwrap_or(0))
}

/// It waits for a channel of its process.
#[durable]
async fn hasty(bell: State<Arc<Notify>>) -> Result<u64, AnyError> {
    let first = step("first", || a_while(1)).await?;
    let said = signal::<u64>("go");
    let rings = Box::pin(bell.notified());
    match futures_util::future::select(Box::pin(said), rings).await {
        Either::Left((said, _)) => Ok(said?),
        Either::Right(_) => Ok(first),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_wait_is_not_taken_for_strange() {
    let (bed, ledger) = (TestBed::new(), Ledger::default());
    let worker = bed.worker().park_after(Duration::from_secs(5)).state(ledger.clone());
    let worker = worker.durable(orderly).durable(child).durable(leaf).start().await.unwrap();
    let run = bed.client().start(orderly()).await.unwrap();
    run.signal("go", &5).await.unwrap();
    let ended = bed.result(&run).await.unwrap();
    assert_eq!(ended, 3 + 1 + 1 + 5 + 80 + 45);
    assert_eq!(bed.not_durable(), [""; 0]);
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_written_down_is_named_once() {
    if !cfg!(debug_assertions) {
        return;
    }
    let (bed, bell) = (TestBed::new(), Arc::new(Notify::new()));
    let worker = bed.worker().park_after(Duration::from_secs(5)).state(Arc::clone(&bell));
    let worker = worker.durable(hasty).start().await.unwrap();
    let run = bed.client().start(hasty()).await.unwrap();
    while bed.client().admin().journal(run.id(), 0, 10).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Until it waits.
    tokio::time::sleep(Duration::from_millis(300)).await;
    bell.notify_one();
    assert_eq!(run.result().await.unwrap(), 1);
    assert_eq!(bed.not_durable(), ["hasty, which waited for 1 signal go"]);
    worker.shutdown().await;
}

/// The same on every store, by what `tracing` is told: nothing.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_changes_by_being_watched() {
    each(async |place: Place| {
        let worker =
            place.ow.worker().state(place.ledger.clone()).durable(orderly).durable(child).durable(leaf);
        let worker = worker.start().await.unwrap();
        let run = place.ow.start(orderly()).await.unwrap();
        run.signal("go", &5).await.unwrap();
        assert_eq!(run.result().await, Ok(135), "on {}", place.ow.store().url());
        worker.shutdown().await;
    })
    .await;
}
