//! Branches: within branches, many of them, and more than two side by side.

use std::time::Duration;

use crate::durable_kit::{Ledger, each};
use onceward::durable::{
    AnyError, Failure, Standing, durable, join, map, race, signal, sleep, step, try_join, try_map,
};
use onceward::worker::State;

const OUTER: u32 = 6;
const INNER: u32 = 6;

/// Those of the last branch end first.
#[durable]
async fn leaf(outer: u32, inner: u32) -> Result<u32, Failure> {
    sleep(Duration::from_millis(u64::from(20 * (OUTER - outer)))).await?;
    Ok(outer * INNER + inner)
}

#[durable]
async fn nested() -> Result<u32, AnyError> {
    let branch = |outer| async move {
        let leaves = map(0..INNER, INNER as usize, |inner| leaf(outer, inner)).await;
        leaves.into_iter().sum::<Result<u32, _>>()
    };
    let sums = map(0..OUTER, OUTER as usize, branch).await;
    let sum = sums.into_iter().sum::<Result<u32, _>>()?;
    Ok(sum + signal::<u32>("more").await?)
}

/// D2: branches within branches take the same way again, whichever has ended first; also where nobody runs them.
#[tokio::test(flavor = "multi_thread")]
async fn d2_branches_within_branches_take_the_same_way_again() {
    each(async |place| {
        let base = || place.ow.worker().durable(nested).durable(leaf).park_after(Duration::ZERO);
        let worker = base().start().await.unwrap();
        let run = place.ow.start(nested()).await.unwrap();
        let ended = async || {
            let journal = place.ow.admin().journal(run.id(), 0, 500).await.unwrap();
            journal.iter().filter(|entry| entry.phase.word() == "value").count()
        };
        // Somewhere on its way it may be held against its code as well.
        place.until(async || ended().await >= 10).await;
        let checked = base().check().await.unwrap();
        assert!(checked.iter().all(|run| run.replays()), "on {}: {checked:?}", place.ow.store().url());
        place.until(async || ended().await == 36).await;
        place.until(async || run.standing().await.unwrap() == Standing::Parked).await;
        let checked = base().check().await.unwrap();
        assert_eq!(checked.len(), 1);
        assert!(checked[0].replays() && checked[0].entries >= 72, "{}", checked[0]);
        assert!(checked[0].journal.is_empty());
        run.signal("more", &1_000_u32).await.unwrap();
        assert_eq!(run.result().await.unwrap(), 1_000 + 630, "on {}", place.ow.store().url());
        worker.shutdown().await;
    })
    .await;
}

/// Many items, of which one fails: what is under way then is given up, and no more is begun.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_failure_ends_a_map() {
    #[durable]
    async fn item(ledger: State<Ledger>, number: u32) -> Result<u32, AnyError> {
        ledger.note(&format!("item {number}"));
        match number {
            2 => Err(AnyError::new("two is too many")),
            3 => Ok(signal::<u32>("never").await?),
            number => Ok(number),
        }
    }
    #[durable]
    async fn all(items: Vec<u32>) -> Result<Vec<u32>, AnyError> {
        Ok(try_map(items, 2, |number| item(number).max_attempts(1)).await?)
    }
    each(async |place| {
        let base = place.ow.worker().state(place.ledger.clone()).durable(all).durable(item);
        let worker = base.park_after(Duration::ZERO).start().await.unwrap();
        let well = place.ow.start(all(vec![5, 0, 9, 1, 4])).await.unwrap();
        assert_eq!(well.result().await, Ok(vec![5, 0, 9, 1, 4]), "in the order of the items");
        let failed = place.ow.start(all(vec![3, 2, 1, 1, 1, 1])).await.unwrap();
        assert!(failed.result().await.unwrap_err().to_string().contains("two is too many"));
        assert_eq!(place.ledger.count("item 1"), 1, "on {}", place.ow.store().url());
        worker.shutdown().await;
    })
    .await;
}

/// Up to eight things stand side by side, each in a branch of its own.
#[tokio::test(flavor = "multi_thread")]
async fn up_to_eight_things_are_waited_for_at_once() {
    async fn one(number: u32) -> Result<u32, AnyError> {
        sleep(Duration::from_millis(u64::from(9 - number))).await?;
        Ok(step("one", || async move { Ok::<u32, AnyError>(number) }).await?)
    }
    #[durable]
    async fn eight() -> Result<u32, AnyError> {
        let (a, b, c, d, e) = join!(one(1), one(2), one(3), one(4), one(5));
        let five = a? + 2 * b? + 3 * c? + 4 * d? + 5 * e?;
        let (a, b, c, d, e, f) = try_join!(one(1), one(1), one(1), one(1), one(1), one(1))?;
        let (g, ..) = join!(one(1), one(2), one(3), one(4), one(5), one(6), one(7));
        let all = try_join!(one(1), one(2), one(3), one(4), one(5), one(6), one(7), one(8))?;
        assert_eq!(all, (1, 2, 3, 4, 5, 6, 7, 8));
        Ok(five + a + b + c + d + e + f + g?)
    }
    each(async |place| {
        let worker = place.ow.worker().durable(eight).park_after(Duration::ZERO).start().await.unwrap();
        let run = place.ow.start(eight()).await.unwrap();
        assert_eq!(run.result().await, Ok(55 + 6 + 1), "on {}", place.ow.store().url());
        worker.shutdown().await;
    })
    .await;
}

/// Code that wakes itself for ever is not followed for ever: what has ended is given to it all the same.
#[tokio::test(flavor = "multi_thread")]
async fn code_that_never_rests_goes_on() {
    /// It wakes itself each time it is polled.
    async fn restless() -> u32 {
        std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            std::task::Poll::<u32>::Pending
        })
        .await
    }
    #[durable]
    async fn beside() -> Result<u32, AnyError> {
        let work = async { step("work", || async { Ok::<u32, AnyError>(7) }).await };
        match race(restless(), work).await {
            onceward::durable::Either::Left(never) => Ok(never),
            onceward::durable::Either::Right(done) => Ok(done?),
        }
    }
    let ow = onceward::Onceward::connect("memory:").await.unwrap();
    let worker = ow.worker().durable(beside).start().await.unwrap();
    let run = ow.start(beside()).await.unwrap();
    assert_eq!(run.result().await, Ok(7));
    worker.shutdown().await;
    ow.shutdown().await;
}
