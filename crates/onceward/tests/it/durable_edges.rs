//! The edges of durable functions: what is too much, too late, unreadable, or somewhere else.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::durable_kit::{Ledger, each};
use onceward::durable::{AnyError, Failure, Standing, durable, join_all, map, signal, sleep, step};
use onceward::store::Store;
use onceward::store::faulty::{Fault, Faulty, Verb};
use onceward::store::memory::MemoryStore;
use onceward::testing::TestBed;
use onceward::worker::State;
use onceward::{Code, Onceward, Queue};
use std::future::IntoFuture;
use std::sync::Arc;

#[durable]
async fn many_steps(steps: u32) -> Result<u32, AnyError> {
    let left = waits_for_ever();
    let work = async {
        for number in 0..steps {
            step("step", || async move { Ok::<u32, AnyError>(number) }).await?;
        }
        Ok::<u32, AnyError>(steps)
    };
    let (left, done) = onceward::durable::join!(left, work);
    drop(left);
    done
}

#[durable]
async fn waits_for_ever() -> Result<u32, Failure> {
    signal::<u32>("never").await
}

/// D11: a run whose journal would have more entries than it may fails cleanly, and what it has started is called off.
#[tokio::test(flavor = "multi_thread")]
async fn d11_a_full_journal_is_a_failure_with_a_code() {
    let bed = TestBed::new().journal_entries(40);
    let worker = bed.worker().durable(many_steps).durable(waits_for_ever).start().await.unwrap();
    let run = bed.client().start(many_steps(100)).await.unwrap();
    let failure = run.result().await.unwrap_err();
    assert!(failure.to_string().contains(Code::JournalFull.as_str()), "{failure}");
    assert_eq!(run.standing().await.unwrap(), Standing::Failed);
    let entries = bed.client().admin().journal(run.id(), 0, 1_000).await.unwrap();
    assert!(entries.len() <= 41, "{}", entries.len());
    bed.settle().await.unwrap();
    let runs = bed.client().admin().runs(onceward::RunFilter::default(), None, 10).await.unwrap().rows;
    let child = runs.iter().find(|row| row.kind.as_str() == "waits_for_ever").unwrap();
    assert_eq!(Standing::of(child), Standing::Cancelled);
    worker.shutdown().await;
}

/// It asks for more children than its journal has room for, one after the other or all at once.
#[durable]
async fn many_children(children: u32, at_once: bool) -> Result<u32, AnyError> {
    if at_once {
        let done = join_all((0..children).map(|_| small())).await;
        return Ok(done.into_iter().sum::<Result<u32, _>>()?);
    }
    let mut sum = 0;
    for _ in 0..children {
        sum += small().await?;
    }
    Ok(sum)
}

#[durable]
async fn small() -> Result<u32, AnyError> {
    Ok(1)
}

/// D11: the same where what does not fit is a child, on every store: those that never began keep nobody waiting.
#[tokio::test(flavor = "multi_thread")]
async fn d11_a_journal_that_children_have_filled_is_a_failure_with_a_code() {
    each(async |place| {
        let store = place.ow.store().clone();
        let ow = Onceward::options().short_ttls_for_tests().build(store).unwrap();
        onceward::testing::short_journals(&ow, 40);
        for park_after in [Duration::ZERO, Duration::from_secs(10)] {
            let base = ow.worker().durable(many_children).durable(small);
            let worker = base.park_after(park_after).start().await.unwrap();
            for at_once in [false, true] {
                let run = ow.start(many_children(60, at_once)).await.unwrap();
                let failure = run.result().await.unwrap_err();
                assert!(failure.to_string().contains(Code::JournalFull.as_str()), "{failure}");
                assert_eq!(run.standing().await.unwrap(), Standing::Failed);
            }
            worker.shutdown().await;
        }
    })
    .await;
}

/// How many are held at once.
#[derive(Default)]
struct Meter {
    held: AtomicU32,
    most: AtomicU32,
}

#[durable]
async fn wide(meter: State<Arc<Meter>>, items: u32) -> Result<u64, AnyError> {
    let work = |item: u32| {
        let meter = Arc::clone(&meter);
        let held = meter.held.fetch_add(1, Ordering::SeqCst) + 1;
        meter.most.fetch_max(held, Ordering::SeqCst);
        async move {
            let done = step("item", || async move { Ok::<u32, AnyError>(item) }).await;
            meter.held.fetch_sub(1, Ordering::SeqCst);
            done
        }
    };
    let done = map(0..items, 500, work).await;
    Ok(done.into_iter().map(|item| item.map(u64::from)).sum::<Result<u64, _>>()?)
}

/// How much memory this process has had at most since that was asked for last, in bytes; nothing where nobody says so.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let peak = line.split_whitespace().next()?.parse::<u64>().ok()? * 1024;
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    Some(peak)
}

/// Many items go through a few hands, and none of them is held longer than it takes. The long version has 300,000, on
/// each store, and says how much memory an item of a map takes: a run keeps what it knows of each of its places.
#[tokio::test(flavor = "multi_thread")]
async fn proof_many_items_are_not_held_at_once() {
    const ITEM_BYTES_MAX: u64 = 2_048;
    let long = std::env::var("ONCEWARD_PROVE").is_ok_and(|how| how == "long");
    let items: u32 = if long { 300_000 } else { 6_000 };
    let (folder, schema) = (tempfile::tempdir().unwrap(), crate::pg::Schema::migrated().await);
    let file = format!("sqlite://{}", folder.path().join("runs.db").display());
    let urls = ["memory:", file.as_str(), schema.url()];
    for url in urls.into_iter().take(if long { 3 } else { 1 }) {
        let ow = Onceward::connect(url).await.unwrap();
        let meter = Arc::new(Meter::default());
        let worker = ow.worker().state(Arc::clone(&meter)).durable(wide).start().await.unwrap();
        peak();
        let before = peak();
        let run = ow.start(wide(items)).await.unwrap();
        let sum = u64::from(items) * u64::from(items - 1) / 2;
        assert_eq!(run.result().await, Ok(sum));
        let most = meter.most.load(Ordering::SeqCst);
        assert!(most <= 501, "{most}");
        if let (true, Some(before), Some(after)) = (long, before, peak()) {
            let each = after.saturating_sub(before) / u64::from(items);
            println!("{items} items on {url}: {after} bytes at most, {each} more for each");
            assert!(url == "memory:" || each < ITEM_BYTES_MAX, "{each} bytes an item on {url}");
        }
        worker.shutdown().await;
        ow.shutdown().await;
    }
}

/// Nothing to do is done at once.
#[tokio::test(flavor = "multi_thread")]
async fn no_items_are_no_work() {
    let bed = TestBed::new();
    let meter = Arc::new(Meter::default());
    let worker = bed.worker().state(Arc::clone(&meter)).durable(wide).start().await.unwrap();
    let run = bed.client().start(wide(0)).await.unwrap();
    assert_eq!(bed.result(&run).await, Ok(0));
    worker.shutdown().await;
}

#[durable(tags = ["gpu"], priority = 5)]
async fn render(ledger: State<Ledger>, name: String) -> Result<u32, AnyError> {
    ledger.note(&name);
    Ok(1)
}

/// Runs go where they are told to: by queue, by tag, and the more urgent one first.
#[tokio::test(flavor = "multi_thread")]
async fn runs_go_where_they_belong() {
    each(async |place| {
        let base = || place.ow.worker().state(place.ledger.clone()).durable(render).concurrency(1);
        let named = |name: &str| place.ow.start(render(name.to_owned()));
        // Nobody here offers the tag.
        let plain = base().start().await.unwrap();
        let first = named("first").priority(-3).await.unwrap();
        let second = named("second").await.unwrap();
        let elsewhere = named("elsewhere").queue("farm").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(place.ledger.all(), Vec::<String>::new());
        plain.shutdown().await;
        let tagged = base().tags(["gpu", "eu"]).start().await.unwrap();
        assert_eq!((first.result().await, second.result().await), (Ok(1), Ok(1)));
        assert_eq!(place.ledger.all(), ["second", "first"], "on {}", place.ow.store().url());
        tagged.shutdown().await;
        let farm = base().tags(["gpu"]).queues(["farm"]).start().await.unwrap();
        assert_eq!(elsewhere.result().await, Ok(1));
        let row = place.ow.admin().job(elsewhere.id()).await.unwrap();
        assert_eq!((row.queue, row.priority), (Queue::new("farm").unwrap(), 5));
        farm.shutdown().await;
    })
    .await;
}

/// A run that may take no time takes none.
#[tokio::test(flavor = "multi_thread")]
async fn w47_a_run_whose_time_is_over_does_not_begin() {
    each(async |place| {
        let run = place.ow.start(render("late".to_owned())).expiry(Duration::ZERO).await.unwrap();
        let base = place.ow.worker().state(place.ledger.clone()).durable(render).tags(["gpu"]);
        let worker = base.start().await.unwrap();
        assert_eq!(run.result().await, Err(Failure::TimedOut));
        assert_eq!(run.standing().await.unwrap(), Standing::Expired);
        assert_eq!(place.ledger.all(), Vec::<String>::new());
        worker.shutdown().await;
    })
    .await;
}

#[durable]
async fn long_winded(length: usize) -> Result<String, AnyError> {
    sleep(Duration::from_millis(1)).await?;
    step("say", || async move { Ok::<String, AnyError>("x".repeat(length)) }).await.map_err(AnyError::from)
}

/// What is too long is a failure with a code, and what is long comes back to the byte.
#[tokio::test(flavor = "multi_thread")]
async fn long_values_come_back_or_are_refused() {
    each(async |place| {
        let base = place.ow.worker().durable(long_winded).park_after(Duration::ZERO);
        let worker = base.start().await.unwrap();
        let run = place.ow.start(long_winded(300_000)).await.unwrap();
        assert_eq!(run.result().await, Ok("x".repeat(300_000)), "on {}", place.ow.store().url());
        let run = place.ow.start(long_winded(1_100_000)).await.unwrap();
        let failure = run.result().await.unwrap_err();
        assert!(failure.to_string().contains(Code::StepUnwritable.as_str()), "{failure}");
        worker.shutdown().await;
    })
    .await;
}

/// Runs that are taken up together are read together: as many statements as were in flight meanwhile, not one for each;
/// and a journal that is longer than the first look goes on where that has ended.
#[tokio::test(flavor = "multi_thread")]
async fn runs_that_are_taken_up_together_are_read_together() {
    #[durable]
    async fn told(steps: u32) -> Result<u32, AnyError> {
        let mut sum = 0;
        for number in 0..steps {
            sum += step("add", || std::future::ready(Ok::<u32, AnyError>(number))).await?;
        }
        Ok(sum + signal::<u32>("go").await?)
    }
    let store = Faulty::new(Arc::new(MemoryStore::default()));
    let ow = Onceward::options().build(Arc::clone(&store) as Arc<dyn Store>).unwrap();
    let at = || ow.worker().durable(told).concurrency(100).park_after(Duration::ZERO).start();
    let worker = at().await.unwrap();
    let starts = (0..100).map(|number| ow.start(told(number * 3)).into_future());
    let runs = futures_util::future::try_join_all(starts).await.unwrap();
    for run in &runs {
        while run.standing().await.unwrap() != Standing::Parked {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    worker.shutdown().await;
    for run in &runs {
        run.signal("go", &1).await.unwrap();
    }
    let before = store.calls(Verb::RunLoad);
    store.times(1_000, Verb::RunLoad, Fault::Slow(Duration::from_millis(50)));
    let worker = at().await.unwrap();
    for (number, run) in (0_u32..).zip(&runs) {
        assert_eq!(run.result().await.unwrap(), (0..number * 3).sum::<u32>() + 1);
    }
    // Two thirds of them are longer than the first look, and what follows is read of four at a time.
    let reads = store.calls(Verb::RunLoad) - before;
    assert!((2..60).contains(&reads), "{reads}");
    worker.shutdown().await;
}

/// A statement that waits for something holds up no other run, although few of them wait for the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_waits_holds_up_no_other_run() {
    #[durable]
    async fn two_steps() -> Result<u32, AnyError> {
        let one = step("one", || std::future::ready(Ok::<u32, AnyError>(1))).await?;
        Ok(one + step("two", || std::future::ready(Ok::<u32, AnyError>(2))).await?)
    }
    let store = Faulty::new(Arc::new(MemoryStore::default()));
    store.enqueue_beside(16);
    let ow = Onceward::options().build(Arc::clone(&store) as Arc<dyn Store>).unwrap();
    let worker = ow.worker().durable(two_steps).start().await.unwrap();
    assert_eq!(ow.start(two_steps()).await.unwrap().result().await.unwrap(), 3);
    let before = store.calls(Verb::RunAppend);
    store.next(Verb::RunAppend, Fault::Slow(Duration::from_secs(5)));
    let slow = ow.start(two_steps()).await.unwrap();
    while store.calls(Verb::RunAppend) == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let starts = (0..5).map(|_| ow.start(two_steps()).into_future());
    for run in futures_util::future::try_join_all(starts).await.unwrap() {
        assert_eq!(run.result().await.unwrap(), 3);
    }
    assert_eq!(slow.standing().await.unwrap(), Standing::Running, "the others have waited for it");
    assert_eq!(slow.result().await.unwrap(), 3);
    worker.shutdown().await;
}
