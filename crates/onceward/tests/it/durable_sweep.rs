//! The process of a saga dies before and after every statement that its worker sends: another one comes to the same end
//! by the same journal, and what was written down is not done again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use onceward::durable::{AnyError, Failure, Saga, durable, signal, sleep, step};
use onceward::store::Store;
use onceward::store::faulty::{Fault, Faulty, Verb};
use onceward::worker::{State, WorkerHandle};
use onceward::{JobId, Onceward};
use onceward_core::run::{Outcome, Phase};

use crate::durable_kit::{Ledger, Place, each};

/// Of whoever dies, and of who goes on, and is not to be taken for dead.
const TTLS: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(10)];

/// Books a flight and a hotel, waits, finds no car, and gives back what it has booked.
#[durable]
async fn trip(ledger: State<Ledger>) -> Result<String, AnyError> {
    let mut saga = Saga::<AnyError>::new();
    for what in ["flight", "hotel"] {
        step(what, || async { Ok::<usize, AnyError>(note(&ledger, &format!("book {what}"))) }).await?;
        let (ledger, undone) = (ledger.clone(), format!("undo {what}"));
        saga.undo("undo", move || {
            note(&ledger, &undone);
            std::future::ready(Ok(()))
        });
    }
    let by = signal::<String>("approved").await?;
    sleep(Duration::from_millis(5)).await?;
    match car().await {
        Ok(car) => Ok(car),
        Err(failure) => {
            saga.compensate().await?;
            Ok(format!("{by}: {failure}"))
        }
    }
}

#[durable(max_attempts = 1)]
async fn car() -> Result<String, String> {
    Err("there is no car".to_owned())
}

fn note(ledger: &Ledger, what: &str) -> usize {
    ledger.note(what);
    what.len()
}

/// One death: at the call of that number of a verb, before or after its effect.
#[derive(Clone, Copy, Debug)]
struct Death {
    verb: Verb,
    call: usize,
    fault: Fault,
}

/// A journal without what differs from run to run.
type Journal = Vec<(String, String, String, Option<Vec<u8>>)>;

async fn journal(ow: &Onceward, run: JobId) -> Journal {
    let entries = ow.admin().journal(run, 0, 1_000).await.unwrap();
    let plain = |phase: &Phase| match phase {
        Phase::Ended(Outcome::Value(_) | Outcome::Failed(_)) => Some(phase.data()),
        _ => None,
    };
    let line = |entry: &onceward_core::run::Entry| {
        let what = format!("{} {}", entry.op, entry.phase.word());
        (entry.position.to_string(), entry.name.clone(), what, plain(&entry.phase))
    };
    entries.iter().map(line).collect()
}

async fn worker(ow: &Onceward, ledger: &Ledger, ttl: Duration) -> onceward::Result<WorkerHandle> {
    let worker = ow.worker().durable(trip).durable(car).state(ledger.clone()).session_ttl(ttl);
    worker.start().await
}

/// A run that was started and approved, in a namespace of its own.
async fn started(place: &Place, name: &str) -> (Onceward, JobId) {
    let ow = place.ow.in_namespace(name).unwrap();
    let run = ow.start(trip()).id("trip").await.unwrap();
    run.signal("approved", &"Ada".to_owned()).await.unwrap();
    (ow, run.id())
}

/// A process of its own in front of a store where things go wrong.
fn process(place: &Place, name: &str) -> (Onceward, Arc<Faulty>) {
    let faulty = Faulty::new(Arc::clone(place.ow.store()));
    let options = Onceward::options().namespace(name).short_ttls_for_tests();
    (options.build(Arc::clone(&faulty) as Arc<dyn Store>).unwrap(), faulty)
}

const EXPECTED: &str = "Ada: there is no car";

/// How often a worker sends each statement where nothing goes wrong, and the journal that it leaves.
async fn undisturbed(place: &Place) -> (BTreeMap<Verb, usize>, Journal) {
    let (ow, run) = started(place, "undisturbed").await;
    let (own, faulty) = process(place, "undisturbed");
    let worker = worker(&own, &Ledger::default(), TTLS[1]).await.unwrap();
    assert_eq!(ow.run::<trip>(run).result().await.unwrap(), EXPECTED);
    worker.shutdown().await;
    let calls = |verb: &Verb| (*verb, usize::try_from(faulty.calls(*verb)).unwrap());
    (Verb::ALL.iter().filter(|verb| verb.writes()).map(calls).collect(), journal(&ow, run).await)
}

async fn dies(place: &Place, number: usize, death: Death, expected: &Journal) {
    let name = format!("death-{number}");
    let (ow, run) = started(place, &name).await;
    let (own, faulty) = process(place, &name);
    let (of_doomed, of_heir) = (Ledger::default(), Ledger::default());
    faulty.pass(death.call, death.verb);
    faulty.next(death.verb, death.fault);
    // Whatever it does: nobody hears of it any more.
    let doomed = tokio::spawn({
        let (own, ledger) = (own.clone(), of_doomed.clone());
        async move {
            let _worker = worker(&own, &ledger, TTLS[0]).await.unwrap();
            std::future::pending::<()>().await;
        }
    });
    let handle = ow.run::<trip>(run);
    tokio::select! {
        () = faulty.died() => {}
        _ = handle.result() => {}
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let before = journal(&ow, run).await;
    let heir = worker(&ow, &of_heir, TTLS[1]).await.unwrap();
    let result: Result<String, Failure<AnyError>> = ow.run::<trip>(run).result().await;
    assert_eq!(result.unwrap(), EXPECTED, "{death:?}");
    assert_eq!(&journal(&ow, run).await, expected, "{death:?}");
    for what in ["book flight", "book hotel", "undo hotel", "undo flight"] {
        let place = match what.split_once(' ') {
            Some(("book", name)) => before.iter().find(|(_, of, ..)| of == name),
            // The hotel is given back first.
            Some((_, "hotel")) => before.iter().find(|(_, of, ..)| of == "undo"),
            _ => before.iter().filter(|(_, of, ..)| of == "undo").nth(1),
        };
        // Whoever was slow may have lost its session before it died, and have begun again.
        let (first, again) = (of_doomed.count(what), of_heir.count(what));
        let once = again <= usize::from(place.is_none());
        assert!(once && first + again >= 1, "{death:?}: {what} {first} times, then {again}: {before:?}");
    }
    heir.shutdown().await;
    doomed.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_d3_d5_a_saga_survives_a_death_at_every_statement() {
    each(async |place| {
        let (calls, expected) = undisturbed(&place).await;
        let deaths = calls.iter().flat_map(|(verb, calls)| {
            // A worker goes on sending what it sends regularly: the first ones are enough.
            let faults = [Fault::DiesBefore, Fault::DiesAfter];
            let death = |call| faults.map(|fault| Death { verb: *verb, call, fault });
            (0..(*calls).min(12)).flat_map(death).collect::<Vec<_>>()
        });
        let deaths: Vec<Death> = deaths.collect();
        assert!(deaths.iter().filter(|death| death.verb == Verb::RunAppend).count() >= 10, "{deaths:?}");
        let deaths = deaths.into_iter().enumerate();
        let all = stream::iter(deaths).map(|(number, death)| dies(&place, number, death, &expected));
        all.buffer_unordered(24).collect::<Vec<()>>().await;
    })
    .await;
}
