//! Runs that go on as new: loops without an end, whose journals have one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use onceward::durable::{
    AnyError, Failure, Standing, durable, generation, join, select, signal, sleep, step, uuid,
};
use onceward::store::Store;
use onceward::store::faulty::{Fault, Faulty, Verb};
use onceward::testing::CrashTest;
use onceward::worker::{State, WorkerBuilder};
use onceward::{JobId, Onceward, RunFork};
use onceward_core::job::State as JobState;
use onceward_core::run::{Entry, Op, Phase, Start};

use crate::durable_kit::{Ledger, Place, each};

async fn done(ledger: &Ledger, what: String) -> Result<u32, AnyError> {
    Ok(ledger.note(&what))
}

/// Adds up to four numbers, one in each generation; two of them fail at first.
#[durable(max_attempts = 2, retry = "fixed 1ms")]
async fn total(ledger: State<Ledger>, number: u32, sum: u32) -> Result<u32, AnyError> {
    if generation()? != number {
        return Err(AnyError::new(format!("{number} in generation {}", generation()?)));
    }
    if (1..3).contains(&number) && ledger.note(&format!("try {number}")) == 1 {
        return Err(AnyError::new("at first it fails"));
    }
    ledger.note(&format!("uuid {number} {}", uuid()?));
    step("add", || done(&ledger, format!("add {number}"))).await?;
    sleep(Duration::from_millis(2)).await?;
    if number < 3 {
        return Ok(total(number + 1, sum + number).continue_as_new().await?);
    }
    Ok(sum + number)
}

#[durable]
async fn outer() -> Result<u32, AnyError> {
    Ok(total(0, 0).await? + 100)
}

fn worker(ow: &Onceward, ledger: &Ledger) -> WorkerBuilder {
    ow.worker().state(ledger.clone()).durable(total).durable(outer).park_after(Duration::ZERO)
}

/// The numbers of generation and key that the code has seen.
fn uuids(ledger: &Ledger) -> BTreeSet<String> {
    ledger.all().into_iter().filter(|what| what.starts_with("uuid")).collect()
}

fn child(journal: &[Entry]) -> JobId {
    let mut ids = journal.iter().filter_map(|entry| match &entry.phase {
        Phase::Started(Start::Child { id, .. }) => Some(*id),
        _ => None,
    });
    ids.next_back().unwrap()
}

/// D3, D8, D11: each generation does its part once, by keys of its own, with all its attempts; and whoever waits for
/// the run has what the last one came to.
#[tokio::test(flavor = "multi_thread")]
async fn d3_d8_d11_a_run_goes_on_as_new_and_its_parent_waits_on() {
    each(async |place| {
        let worker = worker(&place.ow, &place.ledger).start().await.unwrap();
        let run = place.ow.start(outer()).id("outer").await.unwrap();
        assert_eq!(run.result().await, Ok(106));
        let counts: Vec<usize> = (0..4).map(|n| place.ledger.count(&format!("add {n}"))).collect();
        assert_eq!(counts, [1, 1, 1, 1], "on {}", place.ow.store().url());
        assert_eq!(uuids(&place.ledger).len(), 4, "{:?}", place.ledger.all());
        let admin = place.ow.admin();
        let child = child(&admin.journal(run.id(), 0, 100).await.unwrap());
        let journal = admin.journal(child, 0, 100).await.unwrap();
        assert_eq!(journal.iter().map(|entry| entry.op).collect::<Vec<_>>()[..2], [Op::Continue, Op::Step]);
        assert_eq!(journal.len(), 4, "{journal:?}");
        let row = admin.job(child).await.unwrap();
        let args: serde_json::Value = serde_json::from_slice(&row.payload.bytes).unwrap();
        assert_eq!((args, row.attempt), (serde_json::json!({ "number": 3, "sum": 3 }), 1));
        // By its id, with what it was started with.
        let first = place.ow.start(total(0, 0)).id("total").await.unwrap();
        assert_eq!(first.result().await, Ok(6));
        let again = place.ow.start(total(0, 0)).id("total").await.unwrap();
        assert_eq!((again.id(), again.is_created()), (first.id(), false));
        // From a step of its last generation, with the arguments of that.
        let fork = admin.fork_run(first.id(), "add", &RunFork::default()).await.unwrap();
        assert_eq!((fork.kept, place.ow.run::<total>(fork.id).result().await), (1, Ok(6)));
        assert_eq!(place.ledger.count("add 3"), 3);
        worker.shutdown().await;
    })
    .await;
}

/// Takes six signals, some by waits that may lose, in several generations.
#[durable]
async fn collect(mut got: Vec<u32>) -> Result<Vec<u32>, AnyError> {
    let raced = select! {
        value = signal::<u32>("go") => Some(value?),
        quick = step("quick", || async { Ok::<_, AnyError>(()) }) => { quick?; None },
    };
    got.extend(raced);
    if got.len() < 6 {
        got.push(signal("go").await?);
    }
    if got.len() < 6 {
        return Ok(collect(got).continue_as_new().await?);
    }
    Ok(got)
}

/// D6: signals that no code has taken are there in the next generation, each once and in their order.
#[tokio::test(flavor = "multi_thread")]
async fn d6_signals_outlive_a_generation() {
    each(async |place| {
        let worker = place.ow.worker().durable(collect).park_after(Duration::ZERO).start().await.unwrap();
        let runs = async |number: u32| {
            let run = place.ow.start(collect(Vec::new())).await.unwrap();
            for value in 0..6 {
                run.signal("go", &value).await.unwrap();
                tokio::time::sleep(Duration::from_millis(u64::from(number))).await;
            }
            assert_eq!(run.result().await, Ok(vec![0, 1, 2, 3, 4, 5]), "on {}", place.ow.store().url());
        };
        futures_util::future::join_all((0..4).map(runs)).await;
        worker.shutdown().await;
    })
    .await;
}

/// Two waits beside the end of a generation: what they get meanwhile is of the next one.
#[durable]
async fn beside(round: u32) -> Result<Vec<u32>, AnyError> {
    if round == 0 {
        let first = async { signal::<u32>("ready").await };
        let (_, next) = join!(signal::<u32>("go"), async {
            first.await?;
            Ok::<_, AnyError>(beside(1).continue_as_new().await?)
        });
        return next;
    }
    Ok(vec![signal("go").await?, signal("go").await?])
}

#[tokio::test(flavor = "multi_thread")]
async fn d6_a_wait_beside_the_end_of_a_generation_takes_nothing() {
    each(async |place| {
        let run = place.ow.start(beside(0)).await.unwrap();
        run.signal("ready", &0).await.unwrap();
        let worker = place.ow.worker().durable(beside).start().await.unwrap();
        place
            .until(async || {
                place
                    .ow
                    .admin()
                    .journal(run.id(), 0, 1)
                    .await
                    .unwrap()
                    .first()
                    .is_some_and(|entry| entry.op == Op::Continue)
            })
            .await;
        for value in [1, 2] {
            run.signal("go", &value).await.unwrap();
        }
        assert_eq!(run.result().await, Ok(vec![1, 2]));
        worker.shutdown().await;
    })
    .await;
}

#[durable]
async fn asks() -> Result<u32, Failure> {
    signal::<u32>("answer").await
}

#[durable]
async fn stray(what: String) -> Result<String, AnyError> {
    let again = || stray("again".to_owned());
    let refused = match what.as_str() {
        "again" => return Ok(format!("went on {}", generation()?)),
        "function" => total(0, 0).continue_as_new().await.unwrap_err().to_string(),
        "said" => again().priority(3).continue_as_new().await.unwrap_err().to_string(),
        "child" => {
            let (answer, refused) = join!(asks(), async {
                sleep(Duration::from_millis(1)).await?;
                again().continue_as_new().await.map_err(AnyError::new)
            });
            format!("{} {}", answer?, refused.unwrap_err())
        }
        "body" => {
            let slow = || async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok::<u32, AnyError>(7)
            };
            let (slow, refused) = join!(step("slow", slow), again().continue_as_new());
            format!("{} {}", slow?, refused.unwrap_err())
        }
        // It is called off, and not waited for.
        _ => select! {
            answer = asks() => answer?.to_string(),
            () = async { sleep(Duration::from_millis(5)).await.unwrap_or_default() } => {
                again().continue_as_new().await?
            }
        },
    };
    Ok(refused)
}

/// D7: what is under way is not left behind, and what was given up is called off.
#[tokio::test(flavor = "multi_thread")]
async fn d7_a_run_with_something_under_way_does_not_go_on_as_new() {
    let outside = total(0, 0).continue_as_new().await.unwrap_err();
    assert!(outside.to_string().starts_with("OW0901"), "{outside}");
    each(async |place| {
        let base = worker(&place.ow, &place.ledger).durable(stray).durable(asks);
        let worker = base.start().await.unwrap();
        let result = async |what: &str| {
            let run = place.ow.start(stray(what.to_owned())).await.unwrap();
            if what == "child" {
                let children = async || {
                    let journal = place.ow.admin().journal(run.id(), 0, 100).await.unwrap();
                    journal.iter().any(|entry| entry.op == Op::Continue).then(|| child(&journal))
                };
                place.until(async || children().await.is_some()).await;
                place.ow.signal_run(children().await.unwrap(), "answer", &9).await.unwrap();
            }
            run.result().await.unwrap()
        };
        for (what, said) in [
            ("function", "OW0911: a run goes on as new by a call of its own function"),
            ("said", "OW0911: a run goes on as it was started"),
            ("child", "9 OW0911: children of the run have not ended"),
            ("body", "7 OW0911: the body of a step is running beside"),
            ("given up", "went on 1"),
        ] {
            let refused = result(what).await;
            assert!(refused.starts_with(said), "{what} on {}: {refused}", place.ow.store().url());
        }
        let cancelled = async || {
            let list = place.ow.admin().runs(&onceward::RunFilter::default(), None, 100).await.unwrap();
            list.rows
                .iter()
                .filter(|row| row.kind.as_str() == "asks" && row.state == JobState::Cancelled)
                .count()
        };
        place.until(async || cancelled().await == 1).await;
        worker.shutdown().await;
    })
    .await;
}

#[durable]
async fn for_ever(polite: bool, round: u32) -> Result<u32, AnyError> {
    let slept = sleep(Duration::from_millis(1)).await;
    if polite {
        slept?;
    }
    Ok(for_ever(polite, round + 1).continue_as_new().await?)
}

/// D9: a loop without an end ends when it is called off, whether it minds that or not.
#[tokio::test(flavor = "multi_thread")]
async fn d9_a_loop_without_an_end_can_be_called_off() {
    each(async |place| {
        let worker = place.ow.worker().durable(for_ever).start().await.unwrap();
        for polite in [true, false] {
            let run = place.ow.start(for_ever(polite, 0)).await.unwrap();
            let round = async || {
                let journal = place.ow.admin().journal(run.id(), 0, 1).await.unwrap();
                onceward_core::run::generation::generation(&journal)
            };
            place.until(async || round().await >= 3).await;
            run.cancel("enough").await.unwrap();
            assert_eq!(run.result().await, Err(Failure::Cancelled));
            assert_eq!(run.standing().await.unwrap(), Standing::Cancelled);
        }
        worker.shutdown().await;
    })
    .await;
}

/// What goes wrong, and where: at the call of that number of a verb.
type Death = (Verb, Fault, usize);

/// A process of its own in front of the store, where that goes wrong; another one goes on where it dies.
async fn goes_on_after(place: &Place, number: usize, (verb, fault, call): Death) {
    let (name, ledger) = (format!("death-{number}"), Ledger::default());
    let ow = place.ow.in_namespace(&name).unwrap();
    let run = ow.start(total(0, 0)).await.unwrap();
    let faulty = Faulty::new(Arc::clone(place.ow.store()));
    faulty.pass(call, verb);
    faulty.next(verb, fault);
    let options = Onceward::options().namespace(&name).short_ttls_for_tests();
    let own = options.build(Arc::clone(&faulty) as Arc<dyn Store>).unwrap();
    let doomed = tokio::spawn({
        let ledger = ledger.clone();
        async move {
            let _worker =
                worker(&own, &ledger).session_ttl(Duration::from_millis(250)).start().await.unwrap();
            std::future::pending::<()>().await;
        }
    });
    tokio::select! {
        () = faulty.died() => {}
        _ = run.result() => {}
    }
    let begun = ow.admin().journal(run.id(), 0, 1).await.unwrap();
    let over = onceward_core::run::generation::generation(&begun);
    let counts = |of: u32| (0..of).map(|n| ledger.count(&format!("add {n}"))).collect::<Vec<_>>();
    let before = counts(over);
    let heir = worker(&ow, &ledger).session_ttl(Duration::from_secs(10)).start().await.unwrap();
    let what = format!("{verb:?} {fault:?} {call} on {}", place.ow.store().url());
    assert_eq!(run.result().await, Ok(6), "{what}");
    assert!(counts(4).iter().all(|count| *count > 0), "{what}: {:?}", ledger.all());
    // What is over is over. Whoever was slow may have lost its session, and have begun its generation again.
    assert!(fault == Fault::ReplyLost || counts(over) == before, "{what}: {before:?}, {:?}", ledger.all());
    assert_eq!(uuids(&ledger).len(), 4, "{what}: {:?}", ledger.all());
    heir.shutdown().await;
    doomed.abort();
}

/// D5: whatever dies between the end of a generation and the beginning of the next one, each comes once.
#[tokio::test(flavor = "multi_thread")]
async fn d5_a_death_between_two_generations_costs_nothing_but_time() {
    each(async |place| {
        let faults = [Fault::DiesBefore, Fault::DiesAfter, Fault::ReplyLost];
        let deaths =
            [(Verb::RunContinue, 0), (Verb::RunContinue, 2), (Verb::JobSettle, 1), (Verb::RunAppend, 2)];
        let deaths: Vec<Death> =
            deaths.iter().flat_map(|(verb, call)| faults.map(|fault| (*verb, fault, *call))).collect();
        let all = stream::iter(deaths.into_iter().enumerate());
        let all = all.map(|(number, death)| goes_on_after(&place, number, death));
        all.buffer_unordered(12).collect::<Vec<()>>().await;
    })
    .await;
}

#[durable]
async fn count(number: u32) -> Result<u32, AnyError> {
    step("once", || async { Ok::<_, AnyError>(()) }).at_most_once().await?;
    let taken: u32 = signal("go").await?;
    if number < 2 {
        return Ok(count(number + taken).continue_as_new().await?);
    }
    Ok(number)
}

/// D5: the same of every place where its worker may die.
#[tokio::test(flavor = "multi_thread")]
async fn d5_a_run_that_goes_on_as_new_survives_a_crash_at_every_step() {
    let uncertain = |ended: &Result<u32, Failure<AnyError>>| match ended {
        Err(Failure::App(error)) => error.to_string().contains("nobody knows"),
        _ => false,
    };
    let test = CrashTest::new(|| count(0)).worker(|worker| worker.durable(count));
    let test = test.signal("go", &1).signal("go", &1).signal("go", &1).or_accept(uncertain);
    let survived = test.run().await.unwrap();
    assert_eq!(survived.result, Ok(2));
    assert!(survived.crashes > 20, "{}", survived.crashes);
}
