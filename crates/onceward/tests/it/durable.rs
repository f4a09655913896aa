//! Durable functions on every store: what is done once stays done, whatever happens in between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::durable_kit::{Ledger, Place, each};
use onceward::durable::{
    AnyError, Either, Failure, Saga, Standing, durable, join, join_all, map, now, patched, race, random,
    signal, sleep, step, try_join_all, uuid,
};
use onceward::store::Store;
use onceward::store::faulty::{Fault, Faulty, Verb};
use onceward::store::memory::MemoryStore;
use onceward::worker::State;
use onceward::{Code, Onceward};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum ChargeError {
    Declined { cents: u64 },
    Unreachable,
}

impl std::fmt::Display for ChargeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for ChargeError {}

fn is_transient(error: &ChargeError) -> bool {
    matches!(error, ChargeError::Unreachable)
}

/// Fails for good above 100, twice below 10.
#[durable(max_attempts = 3, retry = "fixed 10ms", retry_if = is_transient)]
async fn charge(ledger: State<Ledger>, order: String, cents: u64) -> Result<String, ChargeError> {
    let calls = ledger.note(&format!("charge {order}"));
    match cents {
        101.. => Err(ChargeError::Declined { cents }),
        0..10 if calls < 3 => Err(ChargeError::Unreachable),
        _ => Ok(format!("ch_{order}")),
    }
}

#[durable]
async fn checkout(ledger: State<Ledger>, order: String) -> Result<String, AnyError> {
    let reserved =
        step("reserve", || async { Ok::<u32, AnyError>(ledger.note(&format!("reserve {order}"))) }).await?;
    let charge = charge(order.clone(), 5).await?;
    sleep(Duration::from_millis(30)).await?;
    let parcels = join_all((0..3).map(|number| pack(order.clone(), number))).await;
    let parcels = parcels.into_iter().collect::<Result<Vec<_>, _>>()?;
    step("mail", || async { Ok::<u32, AnyError>(ledger.note(&format!("mail {order}"))) }).await?;
    Ok(format!("{reserved} {charge} {parcels:?}"))
}

#[durable]
async fn pack(ledger: State<Ledger>, order: String, number: u32) -> Result<u32, AnyError> {
    ledger.note(&format!("pack {order} {number}"));
    Ok(number * 10)
}

fn worker(place: &Place) -> onceward::worker::WorkerBuilder {
    let base = place.ow.worker().state(place.ledger.clone()).queues(["default"]);
    base.durable(checkout).durable(charge).durable(pack)
}

/// D3, D7: everything is done once, and the result is there.
#[tokio::test(flavor = "multi_thread")]
async fn d3_a_run_does_everything_once() {
    each(async |place| {
        let worker = worker(&place).start().await.unwrap();
        let run = place.ow.start(checkout("o1".to_owned())).await.unwrap();
        assert_eq!(run.result().await.unwrap(), "1 ch_o1 [0, 10, 20]");
        assert_eq!(run.standing().await.unwrap(), Standing::Succeeded);
        for what in ["reserve o1", "pack o1 0", "pack o1 1", "pack o1 2", "mail o1"] {
            assert_eq!(place.ledger.count(what), 1, "{what}");
        }
        assert_eq!(place.ledger.count("charge o1"), 3, "it failed twice, and was tried again by itself");
        worker.shutdown().await;
    })
    .await;
}

/// D2, D3: a run that is parked at each of its waits is replayed at each of them, and does nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn d2_d3_a_run_that_is_parked_at_every_wait_comes_to_the_same() {
    each(async |place| {
        let worker = worker(&place).park_after(Duration::ZERO).start().await.unwrap();
        let runs: Vec<_> = (0..4).map(|number| format!("p{number}")).collect();
        for order in &runs {
            place.ow.start(checkout(order.clone())).id(order).await.unwrap();
        }
        for order in &runs {
            // The same id is the same run.
            let run = place.ow.start(checkout(order.clone())).id(order).await.unwrap();
            assert!(!run.is_created());
            assert_eq!(run.result().await.unwrap(), format!("1 ch_{order} [0, 10, 20]"));
            for what in ["reserve", "mail"] {
                assert_eq!(place.ledger.count(&format!("{what} {order}")), 1);
            }
        }
        worker.shutdown().await;
    })
    .await;
}

/// A typed error is the same value wherever it arrives, and no second attempt is made where none would help.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_the_same_value_for_who_waits() {
    #[durable]
    async fn buy(order: String) -> Result<u64, AnyError> {
        match charge(order, 500).await {
            Err(Failure::App(ChargeError::Declined { cents })) => Ok(cents),
            other => Err(AnyError::new(format!("{other:?}"))),
        }
    }
    each(async |place| {
        let worker = worker(&place).durable(buy).start().await.unwrap();
        let run = place.ow.start(charge("e1".to_owned(), 101)).await.unwrap();
        assert_eq!(run.result().await, Err(Failure::App(ChargeError::Declined { cents: 101 })));
        assert_eq!((run.standing().await.unwrap(), place.ledger.count("charge e1")), (Standing::Failed, 1));
        let run = place.ow.start(buy("e2".to_owned())).await.unwrap();
        assert_eq!(run.result().await, Ok(500));
        worker.shutdown().await;
    })
    .await;
}

#[durable]
async fn conversation(ledger: State<Ledger>, name: String) -> Result<Vec<u32>, Failure> {
    let mut heard = Vec::new();
    loop {
        match signal::<u32>("word").timeout(Duration::from_millis(600)).await {
            Ok(0) => return Ok(heard),
            Ok(word) => heard.push(word),
            Err(Failure::TimedOut) => heard.push(999),
            Err(failure) => return Err(failure),
        }
        ledger.note(&name);
    }
}

/// D6: signals are taken once each, in the order in which they were sent, before and after the run waits for them.
#[tokio::test(flavor = "multi_thread")]
async fn d6_signals_are_taken_in_order_once() {
    each(async |place| {
        let run = place.ow.start(conversation("c".to_owned())).await.unwrap();
        for word in [1, 2] {
            run.signal("word", &word).await.unwrap();
        }
        run.signal("other", &7).await.unwrap();
        for park_after in [Duration::from_secs(10), Duration::ZERO] {
            let base = place.ow.worker().state(place.ledger.clone()).durable(conversation);
            let worker = base.park_after(park_after).start().await.unwrap();
            place.until(async || place.ledger.count("c") >= 2).await;
            run.signal("word", &3).await.unwrap();
            place.until(async || place.ledger.count("c") >= 3).await;
            worker.shutdown().await;
        }
        let base = place.ow.worker().state(place.ledger.clone()).durable(conversation);
        let worker = base.park_after(Duration::ZERO).start().await.unwrap();
        run.signal("word", &0).await.unwrap();
        let heard = run.result().await.unwrap();
        let words: Vec<u32> = heard.iter().copied().filter(|word| *word != 999).collect();
        assert_eq!(words, [1, 2, 3, 3], "{heard:?}");
        assert_eq!(run.signal("word", &9).await.unwrap_err().code(), Code::RunEnded);
        worker.shutdown().await;
    })
    .await;
}

/// D6: a wait ends when its time has come, and not before.
#[tokio::test(flavor = "multi_thread")]
async fn d6_a_wait_without_an_answer_times_out() {
    #[durable]
    async fn ask() -> Result<bool, AnyError> {
        let answer = signal::<u32>("answer").timeout(Duration::from_millis(80)).await;
        Ok(answer == Err(Failure::TimedOut))
    }
    each(async |place| {
        for park_after in [Duration::from_secs(5), Duration::ZERO] {
            let worker = place.ow.worker().durable(ask).park_after(park_after).start().await.unwrap();
            let began = Instant::now();
            let run = place.ow.start(ask()).await.unwrap();
            assert_eq!(run.result().await, Ok(true));
            assert!(began.elapsed() >= Duration::from_millis(80));
            worker.shutdown().await;
        }
    })
    .await;
}

#[durable]
async fn slow(ledger: State<Ledger>, name: String) -> Result<u32, Failure> {
    let slept = sleep(Duration::from_secs(600)).await;
    ledger.note(&format!("{name}: {slept:?}"));
    slept.map(|()| 1)
}

/// D9: a cancelled run hears of it at its next wait, its children as well, and it may undo what it has done.
#[tokio::test(flavor = "multi_thread")]
async fn d9_a_cancelled_run_undoes_what_it_has_done() {
    #[durable]
    async fn trip(ledger: State<Ledger>, name: String) -> Result<u32, AnyError> {
        let mut saga = Saga::<AnyError>::new();
        for what in ["flight", "hotel"] {
            let (book, undo) = (format!("book {what} {name}"), format!("undo {what} {name}"));
            step("book", || async { Ok::<u32, AnyError>(ledger.note(&book)) }).await?;
            let ledger = ledger.clone();
            saga.undo("undo", move || {
                ledger.note(&undo);
                std::future::ready(Ok(()))
            });
        }
        ledger.note(&format!("waits {name}"));
        let child = slow(name).await;
        saga.compensate().await?;
        Ok(child?)
    }
    each(async |place| {
        for (name, park_after) in [("hot", Duration::from_secs(5)), ("parked", Duration::ZERO)] {
            let base = place.ow.worker().state(place.ledger.clone()).durable(trip).durable(slow);
            let worker = base.park_after(park_after).start().await.unwrap();
            let run = place.ow.start(trip(name.to_owned())).await.unwrap();
            place.until(async || place.ledger.count(&format!("waits {name}")) > 0).await;
            run.cancel("no longer wanted").await.unwrap();
            assert_eq!(run.result().await, Err(Failure::Cancelled));
            assert_eq!(run.standing().await.unwrap(), Standing::Cancelled);
            let order: Vec<_> = place.ledger.all().into_iter().filter(|what| what.contains("undo")).collect();
            let expected = [format!("undo hotel {name}"), format!("undo flight {name}")];
            assert!(order.ends_with(&expected), "{order:?}");
            place.until(async || place.ledger.count(&format!("{name}: Err(Cancelled)")) == 1).await;
            worker.shutdown().await;
        }
    })
    .await;
}

/// The first one wins, each time the code comes by; a child that has lost is called off.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_one_wins_and_a_child_that_lost_is_called_off() {
    #[durable]
    async fn pay(ledger: State<Ledger>) -> Result<String, AnyError> {
        let first = race(slow("loser".to_owned()), sleep(Duration::from_millis(50))).await;
        let first = match first {
            Either::Left(_) => "child",
            Either::Right(_) => "time",
        };
        sleep(Duration::from_millis(10)).await?;
        ledger.note(first);
        Ok(first.to_owned())
    }
    each(async |place| {
        let base = place.ow.worker().state(place.ledger.clone()).durable(pay).durable(slow);
        let worker = base.park_after(Duration::ZERO).start().await.unwrap();
        let run = place.ow.start(pay()).await.unwrap();
        assert_eq!(run.result().await.unwrap(), "time");
        place.until(async || place.ledger.count("loser: Err(Cancelled)") == 1).await;
        worker.shutdown().await;
    })
    .await;
}

/// A run that waits for its child lends it its slot.
#[tokio::test(flavor = "multi_thread")]
async fn one_slot_is_enough_for_a_run_and_its_children() {
    each(async |place| {
        let worker = worker(&place).concurrency(1).start().await.unwrap();
        let runs = ["s1", "s2", "s3"].map(str::to_owned);
        for order in &runs {
            place.ow.start(checkout(order.clone())).id(order).await.unwrap();
        }
        for order in runs {
            let run = place.ow.start(checkout(order.clone())).id(&order).await.unwrap();
            assert_eq!(run.result().await.unwrap(), format!("1 ch_{order} [0, 10, 20]"));
        }
        worker.shutdown().await;
    })
    .await;
}

mod before {
    use super::*;

    #[durable(name = "changing")]
    pub async fn changing(ledger: State<Ledger>) -> Result<u32, AnyError> {
        step("first", || async { Ok::<u32, AnyError>(ledger.note("first")) }).await?;
        signal::<u32>("go").await?;
        let done = step("last", || async { Ok::<u32, AnyError>(ledger.note("last")) }).await?;
        Ok(done)
    }

    #[durable(name = "patched")]
    pub async fn patching(ledger: State<Ledger>) -> Result<bool, AnyError> {
        step("first", || async { Ok::<u32, AnyError>(ledger.note("patch first")) }).await?;
        signal::<u32>("go").await?;
        Ok(false)
    }
}

mod after {
    use super::*;

    #[durable(name = "changing")]
    pub async fn changing(ledger: State<Ledger>) -> Result<u32, AnyError> {
        step("zeroth", || async { Ok::<u32, AnyError>(ledger.note("zeroth")) }).await?;
        Ok(0)
    }

    #[durable(name = "patched")]
    pub async fn patching(ledger: State<Ledger>) -> Result<bool, AnyError> {
        let new = patched("zero")?;
        if new {
            step("zeroth", || async { Ok::<u32, AnyError>(ledger.note("patch zeroth")) }).await?;
        }
        step("first", || async { Ok::<u32, AnyError>(ledger.note("patch first")) }).await?;
        signal::<u32>("go").await?;
        Ok(new)
    }
}

/// D2: code that is not the code of the journal runs no step and says where it differs; the right code goes on.
#[tokio::test(flavor = "multi_thread")]
async fn d2_other_code_is_stuck_and_the_right_code_goes_on() {
    each(async |place| {
        let at = |place: &Place| place.ow.worker().state(place.ledger.clone()).park_after(Duration::ZERO);
        let run = place.ow.start(before::changing()).await.unwrap();
        let worker = at(&place).durable(before::changing).start().await.unwrap();
        place.until(async || run.standing().await.unwrap() == Standing::Parked).await;
        worker.shutdown().await;
        let worker = at(&place).durable(after::changing).start().await.unwrap();
        run.signal("go", &1).await.unwrap();
        place.until(async || run.standing().await.unwrap() == Standing::Stuck).await;
        let words = place.ow.admin().job(run.id()).await.unwrap().error.unwrap();
        assert!(
            words.contains("OW0903: at 0 the journal has step `first`, and the code asks for step `zeroth`"),
            "{words}"
        );
        assert_eq!((place.ledger.count("zeroth"), place.ledger.count("last")), (0, 0));
        worker.shutdown().await;
        place.ow.admin().retry_job(run.id(), None, None).await.unwrap();
        let worker = at(&place).durable(before::changing).start().await.unwrap();
        assert_eq!(run.result().await, Ok(1));
        assert_eq!(place.ledger.count("first"), 1);
        worker.shutdown().await;
    })
    .await;
}

/// Runs of before the patch go the old way, new ones the new way, on the same code.
#[tokio::test(flavor = "multi_thread")]
async fn a_patch_is_for_new_runs() {
    each(async |place| {
        let at = |place: &Place| place.ow.worker().state(place.ledger.clone()).park_after(Duration::ZERO);
        let old = place.ow.start(before::patching()).await.unwrap();
        let worker = at(&place).durable(before::patching).start().await.unwrap();
        place.until(async || old.standing().await.unwrap() == Standing::Parked).await;
        worker.shutdown().await;
        let worker = at(&place).durable(after::patching).start().await.unwrap();
        let new = place.ow.start(after::patching()).await.unwrap();
        for run in [old.id(), new.id()] {
            place.ow.signal_run(run, "go", &1).await.unwrap();
        }
        assert_eq!((old.result().await, new.result().await), (Ok(false), Ok(true)));
        assert_eq!((place.ledger.count("patch zeroth"), place.ledger.count("patch first")), (1, 2));
        worker.shutdown().await;
    })
    .await;
}

/// D8: time, random numbers and ids are the same each time the code comes by.
#[tokio::test(flavor = "multi_thread")]
async fn d8_time_and_chance_come_out_the_same() {
    #[durable]
    async fn chance(ledger: State<Ledger>) -> Result<u32, AnyError> {
        let before = (now()?, random()?, uuid()?, random()?);
        ledger.note(&format!("{before:?}"));
        let (a, b) = join!(async { (sleep(Duration::from_millis(150)).await, uuid().unwrap()) }, async {
            (sleep(Duration::from_millis(300)).await, uuid().unwrap())
        });
        ledger.note(&format!("{:?} {:?} {:?}", a.1, b.1, now()?));
        sleep(Duration::from_millis(10)).await?;
        Ok(0)
    }
    each(async |place| {
        let base = place.ow.worker().state(place.ledger.clone()).durable(chance);
        let worker = base.park_after(Duration::ZERO).start().await.unwrap();
        let run = place.ow.start(chance()).await.unwrap();
        assert_eq!(run.result().await, Ok(0));
        let mut seen = place.ledger.all();
        assert!(seen.len() > 2, "it was parked in between: {seen:?}");
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 2, "{seen:?}");
        worker.shutdown().await;
    })
    .await;
}

/// Many children at the same time, a few of them at once in memory; the first failure ends the waiting.
#[tokio::test(flavor = "multi_thread")]
async fn many_children_come_back_in_order() {
    #[durable]
    async fn fan(count: u32) -> Result<u32, AnyError> {
        let all = map(0..count, 20, |number| pack("fan".to_owned(), number)).await;
        let all = all.into_iter().collect::<Result<Vec<_>, _>>()?;
        assert!(all.iter().zip(0..).all(|(packed, number)| *packed == number * 10));
        let mixed = (0..10).map(|number| charge(format!("mix{number}"), if number == 3 { 500 } else { 50 }));
        let failed = try_join_all(mixed).await;
        Ok(u32::try_from(all.len()).unwrap() + u32::from(failed.is_err()))
    }
    each(async |place| {
        let worker = worker(&place).durable(fan).start().await.unwrap();
        let run = place.ow.start(fan(150)).await.unwrap();
        assert_eq!(run.result().await, Ok(151));
        worker.shutdown().await;
    })
    .await;
}

/// D12: the same id with other arguments is refused.
#[tokio::test(flavor = "multi_thread")]
async fn d12_an_id_belongs_to_its_arguments() {
    each(async |place| {
        let first = place.ow.start(pack("x".to_owned(), 1)).id("same").await.unwrap();
        let again = place.ow.start(pack("x".to_owned(), 1)).id("same").await.unwrap();
        assert_eq!((first.id(), first.is_created(), again.is_created()), (again.id(), true, false));
        let other = place.ow.start(pack("x".to_owned(), 2)).id("same").await.unwrap_err();
        assert_eq!(other.code(), Code::JobKeyMismatch);
    })
    .await;
}

/// What can't be written down is not done, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_durable_call_in_the_wrong_place_is_refused() {
    let outside = pack("x".to_owned(), 1).await.unwrap_err().to_string();
    assert!(outside.contains("OW0901"), "{outside}");
    assert!(sleep(Duration::ZERO).await.unwrap_err().to_string().contains("OW0901"));
    let plain = Ledger::default();
    let state = State(Arc::new(plain.clone()));
    assert_eq!(pack::plain(state, "x".to_owned(), 4).await.unwrap(), 40, "the body stays reachable");

    #[durable]
    async fn nested() -> Result<String, AnyError> {
        let inner = step("outer", || async {
            let refused = pack("x".to_owned(), 1).await.unwrap_err();
            Ok::<String, AnyError>(refused.to_string())
        });
        let spawned = tokio::spawn(async { pack("x".to_owned(), 1).await.unwrap_err().to_string() });
        let spawned = step("spawned", || async { Ok::<(), AnyError>(()) }).await.map(|()| spawned)?;
        Ok(format!("{} {}", inner.await?, spawned.await?))
    }
    each(async |place| {
        let worker = place.ow.worker().durable(nested).start().await.unwrap();
        let run = place.ow.start(nested()).await.unwrap();
        let words = run.result().await.unwrap();
        assert!(words.contains("OW0902") && words.contains("OW0901"), "{words}");
        worker.shutdown().await;
    })
    .await;
}

/// D5: a panic at any place between two things that are written down changes nothing of what comes out.
#[tokio::test(flavor = "multi_thread")]
async fn d5_a_panic_anywhere_comes_to_the_same() {
    #[durable(max_attempts = 20, retry = "fixed 1ms")]
    async fn fragile(ledger: State<Ledger>, at: u32) -> Result<Vec<u32>, AnyError> {
        let mut seen = Vec::new();
        for place in 0..4_u32 {
            ledger.trip(at, place * 3);
            let value = step("count", || {
                ledger.trip(at, place * 3 + 1);
                let ledger = ledger.clone();
                async move {
                    ledger.note(&format!("{at}: {place}"));
                    Ok::<u32, AnyError>(place)
                }
            })
            .await?;
            ledger.trip(at, place * 3 + 2);
            let packed = pack(format!("fragile{at}"), place).await?;
            seen.push(value + packed);
        }
        Ok(seen)
    }
    each(async |place| {
        let base = place.ow.worker().state(place.ledger.clone()).durable(fragile).durable(pack);
        let worker = base.start().await.unwrap();
        let mut runs = Vec::new();
        for at in 0..12 {
            runs.push(place.ow.start(fragile(at)).await.unwrap());
        }
        for (at, run) in runs.into_iter().enumerate() {
            assert_eq!(run.result().await.unwrap(), [0, 11, 22, 33], "{at}");
            assert_eq!(place.ledger.count(&format!("trip {at}")), 1);
            for step in 0..4 {
                assert_eq!(place.ledger.count(&format!("{at}: {step}")), 1, "D3: {at}, {step}");
                assert_eq!(place.ledger.count(&format!("pack fragile{at} {step}")), 1, "D3: {at}, {step}");
            }
        }
        worker.shutdown().await;
    })
    .await;
}

/// D1: an attempt is not over before the store has answered what it had to write down. Else the next one might begin
/// without it, and do once more what was done.
#[tokio::test(flavor = "multi_thread")]
async fn d1_an_attempt_ends_after_what_it_wrote_down() {
    #[durable(max_attempts = 5, retry = "fixed 1ms", timeout = "150ms")]
    async fn hasty(ledger: State<Ledger>) -> Result<u32, AnyError> {
        let first = step("count", || async { Ok::<u32, AnyError>(ledger.note("step")) }).await?;
        ledger.note("after");
        Ok(first)
    }
    let store = Faulty::new(Arc::new(MemoryStore::default()));
    store.next(Verb::RunAppend, Fault::Slow(Duration::from_millis(600)));
    let options = Onceward::options().short_ttls_for_tests();
    let ow = options.build(Arc::clone(&store) as Arc<dyn Store>).unwrap();
    let ledger = Ledger::default();
    let worker = ow.worker().state(ledger.clone()).durable(hasty).start().await.unwrap();
    let run = ow.start(hasty()).await.unwrap();
    assert_eq!(run.result().await.unwrap(), 1);
    assert_eq!((ledger.count("step"), ledger.count("after")), (1, 1), "{:?}", ledger.all());
    worker.shutdown().await;
}

/// A step that pauses before it is tried again is not taken for one that waits for something from outside.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_tried_again_is_not_parked_in_between() {
    #[durable]
    async fn stubborn(ledger: State<Ledger>) -> Result<u32, AnyError> {
        let tried = step("try", || {
            let calls = ledger.note("try");
            std::future::ready(if calls < 4 { Err(AnyError::new("not yet")) } else { Ok(calls) })
        });
        Ok(tried.max_attempts(5).retry("fixed 60ms".parse().unwrap()).await?)
    }
    each(async |place| {
        let base = place.ow.worker().state(place.ledger.clone()).durable(stubborn);
        let worker = base.park_after(Duration::ZERO).start().await.unwrap();
        let run = place.ow.start(stubborn()).await.unwrap();
        assert_eq!(run.result().await, Ok(4));
        worker.shutdown().await;
    })
    .await;
}

/// D7: children end with the run that gives them up, also where that is the last thing it does.
#[tokio::test(flavor = "multi_thread")]
async fn d7_children_are_called_off_by_a_run_that_ends() {
    #[durable]
    async fn hasty() -> Result<u32, AnyError> {
        match race(slow("last".to_owned()), sleep(Duration::from_millis(30))).await {
            Either::Left(_) => Ok(0),
            Either::Right(_) => Ok(1),
        }
    }
    #[durable]
    async fn passing(name: String) -> Result<u32, AnyError> {
        Ok(slow(name).await?)
    }
    each(async |place| {
        let base = place.ow.worker().state(place.ledger.clone());
        let base = base.durable(hasty).durable(passing).durable(slow);
        let worker = base.session_ttl(Duration::from_secs(1)).start().await.unwrap();
        let run = place.ow.start(hasty()).await.unwrap();
        assert_eq!(run.result().await, Ok(1));
        place.until(async || place.ledger.count("last: Err(Cancelled)") == 1).await;
        let run = place.ow.start(passing("passed".to_owned())).await.unwrap();
        place.until(async || run.standing().await.unwrap() == Standing::Running).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Also by those who only know of jobs.
        place.ow.admin().cancel_job(run.id(), None, None).await.unwrap();
        assert!(run.result().await.is_err());
        place.until(async || place.ledger.count("passed: Err(Cancelled)") == 1).await;
        worker.shutdown().await;
    })
    .await;
}

/// D2: code that returns before it has come by everything in its journal is stuck, and ends nothing.
#[tokio::test(flavor = "multi_thread")]
async fn d2_code_that_ends_too_early_is_stuck() {
    mod short {
        use super::*;

        #[durable(name = "shortened")]
        pub async fn shortened(_ledger: State<Ledger>) -> Result<u32, AnyError> {
            Ok(7)
        }
    }
    #[durable(name = "shortened")]
    async fn shortened(ledger: State<Ledger>) -> Result<u32, AnyError> {
        let count = step("count", || async { Ok::<u32, AnyError>(ledger.note("count")) }).await?;
        signal::<u32>("go").await?;
        Ok(count)
    }
    each(async |place| {
        let at = |place: &Place| place.ow.worker().state(place.ledger.clone()).park_after(Duration::ZERO);
        let run = place.ow.start(shortened()).await.unwrap();
        let worker = at(&place).durable(shortened).start().await.unwrap();
        place.until(async || run.standing().await.unwrap() == Standing::Parked).await;
        worker.shutdown().await;
        run.signal("go", &1).await.unwrap();
        let worker = at(&place).durable(short::shortened).start().await.unwrap();
        place.until(async || run.standing().await.unwrap() == Standing::Stuck).await;
        worker.shutdown().await;
        place.ow.admin().retry_job(run.id(), None, None).await.unwrap();
        let worker = at(&place).durable(shortened).start().await.unwrap();
        assert_eq!(run.result().await, Ok(1));
        worker.shutdown().await;
    })
    .await;
}

/// A run ends when it has taken as long as it may in all, wherever it waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_too_long_ends() {
    each(async |place| {
        for park_after in [Duration::from_secs(10), Duration::ZERO] {
            let base = place.ow.worker().state(place.ledger.clone()).durable(slow);
            let worker = base.park_after(park_after).start().await.unwrap();
            let run =
                place.ow.start(slow("late".to_owned())).expiry(Duration::from_millis(300)).await.unwrap();
            let failure = run.result().await.unwrap_err();
            assert_eq!(run.standing().await.unwrap(), Standing::Expired);
            assert_eq!(failure, Failure::TimedOut, "on {}", place.ow.store().url());
            worker.shutdown().await;
        }
    })
    .await;
}

/// A run that is to begin later does not begin because it was told something, and hears of it when it begins.
#[tokio::test(flavor = "multi_thread")]
async fn d6_a_signal_does_not_begin_a_run_before_its_time() {
    #[durable]
    async fn later() -> Result<u32, Failure> {
        signal::<u32>("early").timeout(Duration::from_millis(50)).await
    }
    each(async |place| {
        let worker = place.ow.worker().durable(later).start().await.unwrap();
        let began = Instant::now();
        let run = place.ow.start(later()).delay(Duration::from_millis(400)).await.unwrap();
        run.signal("early", &5).await.unwrap();
        assert_eq!(run.result().await, Ok(5));
        assert!(began.elapsed() >= Duration::from_millis(400));
        let never = place.ow.start(later()).delay(Duration::from_secs(3_600)).await.unwrap();
        never.cancel("not wanted").await.unwrap();
        assert_eq!(never.standing().await.unwrap(), Standing::Cancelled);
        worker.shutdown().await;
    })
    .await;
}

/// Listens again and again, and gives up at about the moment in which something comes.
#[durable]
async fn impatient(ledger: State<Ledger>, count: u32) -> Result<Vec<u32>, Failure> {
    let mut got = Vec::new();
    while got.len() < count as usize {
        match race(signal::<u32>("number"), sleep(Duration::from_millis(1))).await {
            Either::Left(number) => got.push(number?),
            Either::Right(_) => drop(ledger.note("gave up")),
        }
    }
    Ok(got)
}

#[tokio::test(flavor = "multi_thread")]
async fn d6_a_signal_for_a_wait_that_was_given_up_is_the_next_one() {
    each(async |place| {
        let worker = place.ow.worker().durable(impatient).state(place.ledger.clone());
        let worker = worker.park_after(Duration::ZERO).start().await.unwrap();
        let run = place.ow.start(impatient(12)).await.unwrap();
        for number in 0..12_u32 {
            run.signal("number", &number).await.unwrap();
        }
        assert_eq!(run.result().await.unwrap(), (0..12).collect::<Vec<_>>());
        worker.shutdown().await;
    })
    .await;
}
