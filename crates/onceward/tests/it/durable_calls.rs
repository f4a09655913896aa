//! Calling durable functions: methods, runs that nobody waits for, the first of several, and what a run shows.

use std::collections::HashMap;
use std::time::Duration;

use onceward::durable::{
    AnyError, Failure, count, durable, progress, report, run_id, select, signal, sleep, step,
};
use onceward::worker::State;
use onceward::{Code, JobId};

use crate::durable_kit::{Ledger, Place, each};

struct Billing {
    ledger: Ledger,
    fee: u64,
}

#[durable]
impl Billing {
    /// Fails the first time.
    #[durable(max_attempts = 2, retry = "fixed 5ms")]
    async fn charge(&self, order: String, cents: u64) -> Result<u64, AnyError> {
        match self.ledger.note(&format!("charge {order}")) {
            1 => Err(AnyError::new("not yet")),
            _ => Ok(cents + self.fee),
        }
    }

    #[durable(name = "billing.checkout")]
    async fn checkout(&self, order: String, ledger: State<Ledger>) -> Result<u64, AnyError> {
        let charged = Self::charge(order.clone(), 100).await?;
        let id = clean_up(order).spawn().await?;
        ledger.note(&format!("spawned {}", id != run_id()?));
        Ok(self.doubled(charged))
    }

    fn doubled(&self, cents: u64) -> u64 {
        cents * 2
    }
}

/// Lasts longer than the run that has started it.
#[durable]
async fn clean_up(ledger: State<Ledger>, order: String) -> Result<(), AnyError> {
    let go = signal::<bool>("go").await?;
    ledger.note(&format!("cleaned {order} {go}"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn d7_methods_are_durable_functions_and_a_spawned_run_goes_on_by_itself() {
    each(async |Place { ow, ledger }| {
        let billing = Billing { ledger: ledger.clone(), fee: 5 };
        assert_eq!(billing.charge_plain("plain".to_owned(), 1).await.unwrap_err().to_string(), "not yet");
        let worker = ow.worker().durable(Billing::charge).durable(Billing::checkout).durable(clean_up);
        let worker =
            worker.state(billing).state(ledger.clone()).park_after(Duration::ZERO).start().await.unwrap();
        let run = ow.start(Billing::checkout("a".to_owned())).id("a").await.unwrap();
        assert_eq!(run.result().await.unwrap(), 210);
        assert_eq!(ledger.count("charge a"), 2);
        assert_eq!(ledger.count("spawned true"), 1);
        let page = ow.admin().runs(&onceward::JobFilter::default(), None, 10).await.unwrap();
        let kinds: Vec<_> = page.rows.iter().map(|row| row.kind.as_str().to_owned()).collect();
        assert!(kinds.contains(&"Billing.charge".to_owned()), "{kinds:?}");
        assert!(kinds.contains(&"billing.checkout".to_owned()), "{kinds:?}");
        let spawned = page.rows.iter().find(|row| row.kind.as_str() == "clean_up").unwrap().id;
        ow.run::<clean_up>(spawned).signal("go", &true).await.unwrap();
        ow.run::<clean_up>(spawned).result().await.unwrap();
        assert_eq!(ledger.count("cleaned a true"), 1);
        worker.shutdown().await;
    })
    .await;
}

/// Which of three has come first; it is asked again by whoever takes the run up.
#[durable]
async fn first(ledger: State<Ledger>, number: u32) -> Result<String, Failure> {
    let won = select! {
        word = signal::<String>("word") => format!("word {}", word?),
        number = signal::<u32>("number") => format!("number {}", number?),
        _ = sleep(Duration::from_millis(if number == 1 { 60_000 } else { 40 })) => format!("nothing for {number}"),
    };
    ledger.note(&format!("{number}: {won}"));
    sleep(Duration::from_millis(1)).await?;
    Ok(won)
}

#[tokio::test(flavor = "multi_thread")]
async fn d3_the_first_of_several_is_the_same_each_time() {
    each(async |Place { ow, ledger }| {
        let worker = ow.worker().durable(first).state(ledger.clone()).park_after(Duration::ZERO);
        let worker = worker.start().await.unwrap();
        let runs = [ow.start(first(1)).await.unwrap(), ow.start(first(2)).await.unwrap()];
        runs[0].signal("number", &7_u32).await.unwrap();
        assert_eq!(runs[0].result().await.unwrap(), "number 7");
        assert_eq!(runs[1].result().await.unwrap(), "nothing for 2");
        let other =
            |what: &String| what.contains("word") || (what.starts_with("1:") && !what.contains("number 7"));
        assert!(!ledger.all().iter().any(other), "{:?}", ledger.all());
        worker.shutdown().await;
    })
    .await;
}

#[durable]
async fn import(files: u64) -> Result<i64, AnyError> {
    let mut lines = 0;
    for number in 0..files {
        report("file", &format!("{number}.csv"))?;
        lines = count("lines", step("read", || async { Ok::<i64, AnyError>(10) }).await?)?;
        progress(number + 1, files)?;
    }
    let too_long = report("all", &"x".repeat(5_000)).unwrap_err();
    assert_eq!(too_long.code(), Code::ProgressInvalid);
    signal::<()>("go on").await?;
    Ok(lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_shows_how_far_it_is_while_it_is_parked() {
    assert_eq!(report("outside", &1).unwrap_err().code(), Code::RunAbsent);
    each(async |place| {
        let ow = &place.ow;
        let worker = ow.worker().durable(import).park_after(Duration::ZERO).start().await.unwrap();
        let run = ow.start(import(3)).await.unwrap();
        let shown = serde_json::json!({ "file": "2.csv", "lines": 30, "progress": { "done": 3, "of": 3 } });
        place.until(async || run.report().await.unwrap() == shown).await;
        run.signal("go on", &()).await.unwrap();
        assert_eq!(run.result().await.unwrap(), 30);
        worker.shutdown().await;
        assert_eq!(
            ow.run::<import>(JobId::from_uuid(uuid::Uuid::nil())).report().await.unwrap_err().code(),
            Code::RunUnknown
        );
    })
    .await;
}

/// Maps come in another order each time.
fn prices() -> HashMap<String, u32> {
    (0..10).map(|number| (format!("item {number}"), number)).collect()
}

#[durable]
async fn total(prices: HashMap<String, u32>) -> Result<u32, Failure> {
    sleep(Duration::from_millis(5)).await?;
    Ok(prices.values().sum())
}

#[durable]
async fn twice() -> Result<u32, AnyError> {
    Ok(total(prices()).await? + total(prices()).await?)
}

/// D2, D12: arguments are the same in whatever order their maps are: of a child when its run comes by again, and of
/// runs that are started under one id, by the function or by its name.
#[tokio::test(flavor = "multi_thread")]
async fn d2_d12_the_order_of_a_map_makes_no_difference() {
    each(async |Place { ow, .. }| {
        let base = || ow.worker().durable(total).durable(twice).park_after(Duration::ZERO);
        let worker = base().start().await.unwrap();
        let run = ow.start(twice()).await.unwrap();
        assert_eq!(run.result().await.unwrap(), 90, "on {}", ow.store().url());
        let first = ow.start(total(prices())).id("prices").await.unwrap();
        for _ in 0..3 {
            let again = ow.start(total(prices())).id("prices").await.unwrap();
            assert_eq!((again.id(), again.is_created()), (first.id(), false));
        }
        let args = serde_json::json!({ "prices": prices() });
        let named = ow.start_named("total", &args).id("prices").await.unwrap();
        assert_eq!((named.id, named.created), (first.id(), false));
        let mut other = prices();
        other.insert("item 3".to_owned(), 4);
        let refused = ow.start(total(other)).id("prices").await.unwrap_err();
        assert_eq!(refused.code(), Code::JobKeyMismatch, "{refused}");
        worker.shutdown().await;
    })
    .await;
}
