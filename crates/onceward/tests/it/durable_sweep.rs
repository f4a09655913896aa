//! The process of a saga dies before and after every statement that its worker sends: another one comes to the same end
//! by the same journal, and what was written down is not done again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use onceward::durable::{AnyError, Saga, durable, run_id, signal, sleep, step};
use onceward::store::Store;
use onceward::store::faulty::{Fault, Faulty, Verb};
use onceward::worker::{State, WorkerHandle};
use onceward::{JobId, Onceward};
use onceward_core::run::{Entry, Op, Outcome, Phase};

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

#[expect(dead_code, reason = "an example has a `main` of its own")]
#[path = "../../examples/saga_trip_booking.rs"]
mod example;

/// Books a flight and is called off in the middle of its next step, which is written down before that ends.
#[durable]
async fn called_off(ledger: State<Ledger>, client: State<Onceward>) -> Result<String, AnyError> {
    let mut saga = Saga::<AnyError>::new();
    step("flight", || async { Ok::<usize, AnyError>(note(&ledger, "book flight")) }).await?;
    let given_back = ledger.clone();
    saga.undo("undo", move || {
        note(&given_back, "undo flight");
        std::future::ready(Ok(()))
    });
    let run = run_id()?;
    let hears = || async {
        client.cancel_run(run, "no longer wanted").await?;
        let is_written = |entries: &[Entry]| entries.iter().any(|entry| entry.op == Op::Cancel);
        while !is_written(&client.admin().journal(run, 0, 100).await?) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok::<(), AnyError>(())
    };
    step("hears", hears).await?;
    match sleep(Duration::from_secs(3_600)).await {
        Ok(()) => Ok("nobody has called".to_owned()),
        Err(failure) => {
            saga.compensate().await?;
            Err(failure.into())
        }
    }
}

/// What dies.
#[derive(Clone, Copy, Debug)]
enum Plan {
    Trip,
    CalledOff,
    /// The saga that people read.
    Example,
}

impl Plan {
    async fn start(self, ow: &Onceward) -> JobId {
        match self {
            Self::Trip => {
                let run = ow.start(trip()).id("trip").await.unwrap();
                run.signal("approved", &"Ada".to_owned()).await.unwrap();
                run.id()
            }
            Self::CalledOff => ow.start(called_off()).id("trip").await.unwrap().id(),
            Self::Example => ow.start(example::trip("Grace".to_owned(), 0)).id("trip").await.unwrap().id(),
        }
    }

    /// What it comes to, and whether it should.
    async fn result(self, ow: &Onceward, run: JobId) -> String {
        match self {
            Self::Trip => ow.run::<trip>(run).result().await.unwrap(),
            Self::CalledOff => ow.run::<called_off>(run).result().await.unwrap_err().to_string(),
            Self::Example => ow.run::<example::trip>(run).result().await.unwrap_err().to_string(),
        }
    }

    fn expects(self) -> &'static str {
        match self {
            Self::Trip => "Ada: there is no car",
            Self::CalledOff => "it was cancelled",
            Self::Example => "there is no car left",
        }
    }

    /// What is done once, as the ledger and the journal have it.
    fn effects(self) -> &'static [&'static str] {
        match self {
            Self::Trip => &["book flight", "book hotel", "undo hotel", "undo flight"],
            Self::CalledOff => &["book flight", "undo flight"],
            // It tells the ledger nothing.
            Self::Example => &[],
        }
    }
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
    let line = |entry: &Entry| {
        let what = format!("{} {}", entry.op, entry.phase.word());
        (entry.position.to_string(), entry.name.clone(), what, plain(&entry.phase))
    };
    entries.iter().map(line).collect()
}

async fn worker(plan: Plan, ow: &Onceward, ledger: &Ledger, ttl: Duration) -> onceward::Result<WorkerHandle> {
    let worker = ow.worker().state(ow.clone()).state(ledger.clone()).session_ttl(ttl);
    match plan {
        Plan::Trip => worker.durable(trip).durable(car).start().await,
        Plan::CalledOff => worker.durable(called_off).start().await,
        Plan::Example => worker.durable(example::trip).start().await,
    }
}

/// A run that was started, in a namespace of its own.
async fn started(place: &Place, plan: Plan, name: &str) -> (Onceward, JobId) {
    let ow = place.ow.in_namespace(name).unwrap();
    let run = plan.start(&ow).await;
    (ow, run)
}

/// A process of its own in front of a store where things go wrong.
fn process(place: &Place, name: &str) -> (Onceward, Arc<Faulty>) {
    let faulty = Faulty::new(Arc::clone(place.ow.store()));
    let options = Onceward::options().namespace(name).short_ttls_for_tests();
    (options.build(Arc::clone(&faulty) as Arc<dyn Store>).unwrap(), faulty)
}

/// How often a worker sends each statement where nothing goes wrong, and the journal that it leaves.
async fn undisturbed(place: &Place, plan: Plan) -> (BTreeMap<Verb, usize>, Journal) {
    let name = format!("{plan:?}-undisturbed");
    let (ow, run) = started(place, plan, &name).await;
    let (own, faulty) = process(place, &name);
    let worker = worker(plan, &own, &Ledger::default(), TTLS[1]).await.unwrap();
    assert_eq!(plan.result(&ow, run).await, plan.expects());
    worker.shutdown().await;
    let calls = |verb: &Verb| (*verb, usize::try_from(faulty.calls(*verb)).unwrap());
    (Verb::ALL.iter().filter(|verb| verb.writes()).map(calls).collect(), journal(&ow, run).await)
}

async fn dies(place: &Place, plan: Plan, number: usize, death: Death, expected: &Journal) {
    let name = format!("{plan:?}-{number}");
    let (ow, run) = started(place, plan, &name).await;
    let (own, faulty) = process(place, &name);
    let (of_doomed, of_heir) = (Ledger::default(), Ledger::default());
    faulty.pass(death.call, death.verb);
    faulty.next(death.verb, death.fault);
    // Whatever it does: nobody hears of it any more.
    let doomed = tokio::spawn({
        let (own, ledger) = (own.clone(), of_doomed.clone());
        async move {
            let _worker = worker(plan, &own, &ledger, TTLS[0]).await.unwrap();
            std::future::pending::<()>().await;
        }
    });
    tokio::select! {
        () = faulty.died() => {}
        _ = plan.result(&ow, run) => {}
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let before = journal(&ow, run).await;
    let heir = worker(plan, &ow, &of_heir, TTLS[1]).await.unwrap();
    assert_eq!(plan.result(&ow, run).await, plan.expects(), "{death:?}");
    assert_eq!(&journal(&ow, run).await, expected, "{death:?}");
    for what in plan.effects() {
        let place = match what.split_once(' ') {
            Some(("book", name)) => before.iter().find(|(_, of, ..)| of == name),
            // What was booked last is given back first.
            _ => {
                let first = plan.effects().iter().position(|effect| effect.starts_with("undo"));
                let number = plan.effects().iter().position(|effect| effect == what);
                before.iter().filter(|(_, of, ..)| of == "undo").nth(number.unwrap() - first.unwrap())
            }
        };
        // Whoever was slow may have lost its session before it died, and have begun again.
        let (first, again) = (of_doomed.count(what), of_heir.count(what));
        let once = again <= usize::from(place.is_none());
        assert!(once && first + again >= 1, "{death:?}: {what} {first} times, then {again}: {before:?}");
    }
    heir.shutdown().await;
    doomed.abort();
}

/// What a worker sends again and again by the clock, whatever its runs do: the first times are enough.
const BY_THE_CLOCK: [Verb; 6] =
    [Verb::SessionRenew, Verb::JobClaim, Verb::JobPromote, Verb::JobRescue, Verb::JobPrune, Verb::RunWake];

async fn sweep(plan: Plan, appends: usize) {
    each(async |place| {
        let (calls, expected) = undisturbed(&place, plan).await;
        let deaths = calls.iter().flat_map(|(verb, calls)| {
            let swept = if BY_THE_CLOCK.contains(verb) { (*calls).min(4) } else { *calls };
            assert!(swept <= 40, "{verb:?} was sent {swept} times");
            let faults = [Fault::DiesBefore, Fault::DiesAfter];
            let death = |call| faults.map(|fault| Death { verb: *verb, call, fault });
            (0..swept).flat_map(death).collect::<Vec<_>>()
        });
        let deaths: Vec<Death> = deaths.collect();
        let of_appends = deaths.iter().filter(|death| death.verb == Verb::RunAppend).count();
        assert!(of_appends >= appends, "{deaths:?}");
        let deaths = deaths.into_iter().enumerate();
        let all = stream::iter(deaths).map(|(number, death)| dies(&place, plan, number, death, &expected));
        all.buffer_unordered(24).collect::<Vec<()>>().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_d3_d5_a_saga_survives_a_death_at_every_statement() {
    sweep(Plan::Trip, 10).await;
}

/// D9: it is called off in the middle of a step, and undoes what it has done, whoever dies when.
#[tokio::test(flavor = "multi_thread")]
async fn d5_d9_a_saga_that_is_called_off_survives_a_death_at_every_statement() {
    sweep(Plan::CalledOff, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_the_saga_of_the_examples_survives_a_death_at_every_statement() {
    sweep(Plan::Example, 6).await;
}
