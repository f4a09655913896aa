//! Results that are kept for later calls with the same arguments: `idempotent` and `cached`.

use std::collections::HashMap;
use std::time::Duration;

use onceward::Code;
use onceward::durable::{AnyError, Standing, durable, join_all, sleep, step};
use onceward::testing::{CrashTest, TestBed};
use onceward::worker::{State, WorkerBuilder};
use serde_json::json;

use crate::durable_kit::{Ledger, Place, each};

#[durable(idempotent, max_attempts = 1)]
async fn charge(ledger: State<Ledger>, order: u64, cents: u64) -> Result<Option<u32>, AnyError> {
    let calls =
        step("charge", || async { Ok::<_, AnyError>(ledger.note(&format!("charge {order} {cents}"))) })
            .await?;
    sleep(Duration::from_millis(5)).await?;
    match cents {
        // Nothing is a result as well.
        0 => Ok(None),
        13 if calls == 1 => Err(AnyError::new("declined")),
        _ => Ok(Some(calls)),
    }
}

#[durable]
async fn shop(order: u64) -> Result<Vec<Option<u32>>, AnyError> {
    let charged = join_all((0..3).map(|_| charge(order, 5))).await;
    Ok(charged.into_iter().collect::<Result<_, _>>()?)
}

#[durable(idempotent)]
async fn by_name(ledger: State<Ledger>, prices: HashMap<String, u32>) -> Result<u32, AnyError> {
    ledger.note("by name");
    Ok(prices.values().sum())
}

/// Of an order, whatever else is said about it.
#[durable(cached = "1h", key = |args| args.order)]
async fn invoice(ledger: State<Ledger>, order: u64, note: String) -> Result<String, AnyError> {
    ledger.note(&format!("invoice {order}"));
    Ok(note)
}

fn worker(place: &Place) -> WorkerBuilder {
    let base = place.ow.worker().state(place.ledger.clone()).park_after(Duration::ZERO);
    base.durable(charge).durable(shop).durable(by_name).durable(invoice)
}

/// W39: whoever asks, and however many at the same time, it is done once for its arguments.
#[tokio::test(flavor = "multi_thread")]
async fn w39_calls_with_the_same_arguments_are_one() {
    each(async |place| {
        let worker = worker(&place).start().await.unwrap();
        let runs = [place.ow.start(shop(1)).await.unwrap(), place.ow.start(shop(1)).await.unwrap()];
        let root = place.ow.start(charge(1, 5)).await.unwrap();
        for run in &runs {
            assert_eq!(run.result().await, Ok(vec![Some(1); 3]));
        }
        assert_eq!(root.result().await, Ok(Some(1)));
        // By their names, in any order.
        let named = place.ow.start_named("charge", &json!({ "cents": 5, "order": 1 })).await.unwrap();
        assert_eq!(place.ow.run::<charge>(named.id).result().await, Ok(Some(1)));
        assert_eq!(place.ledger.count("charge 1 5"), 1, "on {}", place.ow.store().url());
        assert_eq!(
            place.ow.start(charge(2, 5)).await.unwrap().result().await,
            Ok(Some(1)),
            "others are others"
        );
        for _ in 0..2 {
            assert_eq!(place.ow.start(charge(3, 0)).await.unwrap().result().await, Ok(None));
        }
        assert_eq!(place.ledger.count("charge 3 0"), 1);
        for order in [["a", "b", "c"], ["c", "a", "b"]] {
            let prices = order.iter().map(|name| ((*name).to_owned(), 7)).collect();
            assert_eq!(place.ow.start(by_name(prices)).await.unwrap().result().await, Ok(21));
        }
        assert_eq!(place.ledger.count("by name"), 1);
        worker.shutdown().await;
    })
    .await;
}

/// Calls that have their key in common are one, and no others.
#[tokio::test(flavor = "multi_thread")]
async fn w39_calls_with_the_same_key_are_one() {
    each(async |place| {
        let worker = worker(&place).start().await.unwrap();
        let ask = async |order: u64, note: &str| {
            let run = place.ow.start(invoice(order, note.to_owned())).await.unwrap();
            run.result().await.unwrap()
        };
        assert_eq!(ask(1, "first").await, "first");
        assert_eq!(ask(1, "second").await, "first", "on {}", place.ow.store().url());
        assert_eq!(ask(2, "second").await, "second");
        let named = json!({ "order": 1, "note": "third" });
        let named = place.ow.start_named("invoice", &named).await.unwrap();
        assert_eq!(place.ow.run::<invoice>(named.id).result().await, Ok("first".to_owned()));
        assert_eq!((place.ledger.count("invoice 1"), place.ledger.count("invoice 2")), (1, 1));
        worker.shutdown().await;
    })
    .await;
}

/// What has failed is no result: the next one runs, and so does one that waits for its turn.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_failed_is_not_kept() {
    each(async |place| {
        let worker = worker(&place).start().await.unwrap();
        let runs =
            [place.ow.start(charge(1, 13)).await.unwrap(), place.ow.start(charge(1, 13)).await.unwrap()];
        let mut results = Vec::new();
        for run in &runs {
            results.push(run.result().await.ok());
        }
        assert_eq!(results, [None, Some(Some(2))]);
        assert_eq!(place.ow.start(charge(1, 13)).await.unwrap().result().await, Ok(Some(2)));
        assert_eq!(place.ledger.count("charge 1 13"), 2);
        let fork = runs[1].fork("charge").await.unwrap();
        assert_eq!(fork.result().await, Ok(Some(3)), "a fork does it once more");
        worker.shutdown().await;
    })
    .await;
}

#[durable(cached = "1h")]
async fn rate(ledger: State<Ledger>, currency: String) -> Result<u32, AnyError> {
    Ok(ledger.note(&format!("rate {currency}")))
}

/// For as long as it says, from when it was known, and no longer.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_cached_is_kept_for_its_time() {
    let (bed, ledger) = (TestBed::new(), Ledger::default());
    let worker = bed.worker().state(ledger.clone()).durable(rate).start().await.unwrap();
    let ask = async || {
        let run = bed.client().start(rate("EUR".to_owned())).await.unwrap();
        bed.result(&run).await.unwrap()
    };
    assert_eq!((ask().await, ask().await), (1, 1));
    bed.skip(Duration::from_secs(59 * 60)).await.unwrap();
    assert_eq!(ask().await, 1);
    bed.skip(Duration::from_secs(2 * 60)).await.unwrap();
    assert_eq!((ask().await, ask().await), (2, 2));
    worker.shutdown().await;
}

#[durable(idempotent, max_attempts = 1)]
async fn circle(round: u32) -> Result<String, AnyError> {
    let next = circle(if round < 2 { round + 1 } else { 2 }).await;
    Ok(next.unwrap_or_else(|failure| failure.to_string()))
}

/// Two functions that call each other, by way of a third one.
#[durable(idempotent, max_attempts = 1)]
async fn to() -> Result<String, AnyError> {
    Ok(by_way_of().await?)
}

#[durable]
async fn by_way_of() -> Result<String, AnyError> {
    Ok(fro().await?)
}

#[durable(idempotent, max_attempts = 1)]
async fn fro() -> Result<String, AnyError> {
    Ok(to().await.unwrap_or_else(|failure| failure.to_string()))
}

/// Nobody waits for ever because others wait for him, on any store.
#[tokio::test(flavor = "multi_thread")]
async fn functions_that_would_wait_for_each_other_say_so() {
    each(async |place| {
        let base = place.ow.worker().durable(to).durable(by_way_of).durable(fro);
        let worker = base.park_after(Duration::ZERO).start().await.unwrap();
        let run = place.ow.start(to()).await.unwrap();
        let said = run.result().await.unwrap();
        assert!(said.starts_with("OW0912"), "{said} on {}", place.ow.store().url());
        worker.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_would_wait_for_itself_says_so() {
    let bed = TestBed::new();
    let worker = bed.worker().durable(circle).state(Ledger::default()).durable(charge).start().await.unwrap();
    let run = bed.client().start(circle(0)).await.unwrap();
    let said = bed.result(&run).await.unwrap();
    assert!(said.starts_with("OW0912: it would wait for a run that waits for it"), "{said}");
    assert_eq!(run.standing().await.unwrap(), Standing::Succeeded);
    let refused = bed.client().start(charge(1, 1).at_most_once()).await.unwrap_err();
    assert_eq!(refused.code(), Code::RunCallRefused);
    worker.shutdown().await;
}

#[durable(idempotent)]
async fn part(number: u32) -> Result<u32, AnyError> {
    step("part", || async { Ok::<_, AnyError>(()) }).await?;
    Ok(number)
}

#[durable]
async fn whole() -> Result<Vec<u32>, AnyError> {
    let parts = join_all([1, 2, 1].map(part)).await;
    Ok(parts.into_iter().collect::<Result<_, _>>()?)
}

/// D5: with its result kept and not yet ended, a run that dies ends as it would have.
#[tokio::test(flavor = "multi_thread")]
async fn d5_results_that_are_kept_survive_a_crash_at_every_step() {
    let survived =
        CrashTest::new(whole).worker(|worker| worker.durable(whole).durable(part)).run().await.unwrap();
    assert_eq!(survived.result, Ok(vec![1, 2, 1]));
    assert!(survived.crashes > 10, "{}", survived.crashes);
}
