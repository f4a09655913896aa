//! Runs that are called off: what they undo, by children as well, and what becomes of those they had started.

use std::time::Duration;

use crate::durable_kit::{Ledger, Place, each};
use onceward::durable::{
    AnyError, Failure, Saga, Standing, durable, join_all, race, signal, sleep, step, try_join, uuid,
};
use onceward::worker::{State, WorkerBuilder};
use onceward::{BulkAction, Code, JobFilter, JobId};
use onceward_core::run::{Op, Phase, Start};

/// It pays back, in its own time.
#[durable]
async fn refund(ledger: State<Ledger>, name: String) -> Result<u32, AnyError> {
    sleep(Duration::from_millis(20)).await?;
    Ok(step("refund", || async { Ok::<u32, AnyError>(ledger.note(&format!("refund {name}"))) }).await?)
}

#[durable]
async fn waits(ledger: State<Ledger>, name: String) -> Result<u32, Failure> {
    ledger.note(&format!("waits {name}"));
    let said = signal::<u32>("go").await;
    ledger.note(&format!("{name}: {said:?}"));
    said
}

/// It pays, waits for a child, and pays back by another one where it is called off.
#[durable]
async fn order(ledger: State<Ledger>, name: String) -> Result<u32, AnyError> {
    step("charge", || async { Ok::<u32, AnyError>(ledger.note(&format!("charge {name}"))) }).await?;
    match waits(name.clone()).await {
        Ok(said) => Ok(said),
        Err(failure) => {
            refund(name).await?;
            Err(failure.into())
        }
    }
}

fn worker(place: &Place) -> WorkerBuilder {
    let base = place.ow.worker().state(place.ledger.clone());
    base.durable(order).durable(waits).durable(refund).session_ttl(Duration::from_secs(1))
}

/// D9: what was started before is called off, and what is started to undo it runs to its end: in memory and parked, by
/// those who know of runs and by those who know of jobs alone.
#[tokio::test(flavor = "multi_thread")]
async fn d9_a_cancelled_run_undoes_what_it_has_done_by_children() {
    each(async |place| {
        for park_after in [Duration::ZERO, Duration::from_secs(10)] {
            for way in ["run", "job", "many jobs"] {
                let name = format!("{park_after:?} {way}");
                let worker = worker(&place).park_after(park_after).start().await.unwrap();
                let run = place.ow.start(order(name.clone())).await.unwrap();
                place.until(async || place.ledger.count(&format!("waits {name}")) >= 1).await;
                let rests = if park_after.is_zero() { Standing::Parked } else { Standing::Running };
                place.until(async || run.standing().await.unwrap() == rests).await;
                let admin = place.ow.admin();
                match way {
                    "run" => run.cancel("no").await.unwrap(),
                    "job" => assert!(!admin.cancel_job(run.id(), None, Some("no")).await.unwrap()),
                    _ => {
                        let kind = admin.job(run.id()).await.unwrap().kind;
                        let orders = JobFilter { kind: Some(kind), ..JobFilter::default() };
                        let cancel = async |dry_run| {
                            admin
                                .each_job(&orders, &BulkAction::Cancel, Some("no"), 10, dry_run)
                                .await
                                .unwrap()
                        };
                        assert_eq!(cancel(true).await.changed, [run.id()], "the others are over");
                        assert_eq!(cancel(false).await.changed, [run.id()]);
                    }
                }
                assert!(run.result().await.is_err());
                let count = |what: &str| place.ledger.count(what);
                assert_eq!(run.standing().await.unwrap(), Standing::Cancelled);
                assert_eq!((count(&format!("charge {name}")), count(&format!("refund {name}"))), (1, 1));
                place.until(async || count(&format!("{name}: Err(Cancelled)")) >= 1).await;
                worker.shutdown().await;
            }
        }
    })
    .await;
}

/// The same where the process dies that undoes it: another one goes on with that, and nothing of it is called off.
#[tokio::test(flavor = "multi_thread")]
async fn d5_d9_undoing_by_children_survives_a_restart() {
    each(async |place| {
        let first = worker(&place).park_after(Duration::ZERO).start().await.unwrap();
        let run = place.ow.start(order("restart".to_owned())).await.unwrap();
        place.until(async || run.standing().await.unwrap() == Standing::Parked).await;
        run.cancel("no").await.unwrap();
        // Somewhere on its way.
        tokio::time::sleep(Duration::from_millis(15)).await;
        first.shutdown().await;
        let second = worker(&place).park_after(Duration::ZERO).start().await.unwrap();
        assert!(run.result().await.is_err());
        assert_eq!(place.ledger.count("refund restart"), 1);
        second.shutdown().await;
    })
    .await;
}

/// It starts one child that is due much later, and one that nobody runs yet.
#[durable]
async fn hopeful(later: bool) -> Result<u32, AnyError> {
    let waits = waits("hopeful".to_owned());
    let waits = if later { waits.delay(Duration::from_secs(86_400)) } else { waits.queue("elsewhere") };
    Ok(waits.await?)
}

/// D7: a child that has not begun when its run is called off never does.
#[tokio::test(flavor = "multi_thread")]
async fn d7_children_that_have_not_begun_never_begin() {
    each(async |place| {
        let base = place.ow.worker().state(place.ledger.clone()).durable(hopeful).durable(waits);
        let worker = base.start().await.unwrap();
        for later in [true, false] {
            let run = place.ow.start(hopeful(later)).await.unwrap();
            let child = async || {
                let journal = place.ow.admin().journal(run.id(), 0, 10).await.unwrap();
                journal.iter().find_map(|entry| match &entry.phase {
                    Phase::Started(Start::Child { id, .. }) => Some(*id),
                    _ => None,
                })
            };
            place.until(async || child().await.is_some()).await;
            let child: JobId = child().await.unwrap();
            run.cancel("never mind").await.unwrap();
            let failure = run.result().await.unwrap_err();
            assert_eq!(run.standing().await.unwrap(), Standing::Cancelled, "{failure}");
            let row = place.ow.admin().job(child).await.unwrap();
            assert_eq!(row.state, onceward::jobs::State::Cancelled, "on {}", place.ow.store().url());
        }
        assert_eq!(place.ledger.count("waits hopeful"), 0);
        worker.shutdown().await;
    })
    .await;
}

/// It gives a key to others, which is the same one whoever goes on with it.
#[durable]
async fn keyed(ledger: State<Ledger>) -> Result<String, AnyError> {
    let (key, began) = (uuid()?, onceward::durable::now()?);
    let number = onceward::durable::random()?;
    let said = child_of(format!("{key} {began} {number}")).await?;
    let failed = step("ship", || async {
        if ledger.note("ship") == 1 { Err(AnyError::new("no ship")) } else { Ok(()) }
    });
    failed.await?;
    Ok(said)
}

#[durable]
async fn child_of(ledger: State<Ledger>, key: String) -> Result<String, AnyError> {
    ledger.note("child");
    Ok(key)
}

/// D2, D8: time and chance come out the same in a run that goes on with what another one has done, here and elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn d8_a_fork_has_the_same_time_and_chance() {
    each(async |place| {
        let base = place.ow.worker().state(place.ledger.clone()).durable(keyed).durable(child_of);
        let worker = base.start().await.unwrap();
        let run = place.ow.start(keyed()).await.unwrap();
        assert!(run.result().await.is_err());
        let file = place.ow.admin().export_run(run.id()).await.unwrap().to_lines().unwrap();
        let again = run.retry().await.unwrap();
        let said = again.result().await.unwrap();
        assert_eq!(place.ledger.count("child"), 1, "what has succeeded is not done again");
        let fork = again.fork("ship").await.unwrap();
        assert_eq!(fork.result().await.unwrap(), said);
        worker.shutdown().await;
        // In another store, under another name.
        let other = onceward::Onceward::options().namespace("elsewhere").connect("memory:").await.unwrap();
        let recorded = onceward::durable::RecordedRun::read(&file).unwrap().remove(0);
        assert!(other.admin().import_run(&recorded).await.unwrap());
        let base = other.worker().state(place.ledger.clone()).durable(keyed).durable(child_of);
        let worker = base.start().await.unwrap();
        let there = other.run::<keyed>(run.id()).retry().await.unwrap();
        assert_eq!(there.result().await.unwrap(), said);
        worker.shutdown().await;
        other.shutdown().await;
    })
    .await;
}

/// The first failure is heard of at once, and what is left is given up.
#[tokio::test(flavor = "multi_thread")]
async fn what_fails_first_is_heard_of_first() {
    #[durable]
    async fn hasty(ledger: State<Ledger>) -> Result<u32, AnyError> {
        let left = async { waits("left".to_owned()).await.map_err(AnyError::from) };
        let declined = async {
            let charge = step("charge", || async { Err::<u32, _>(AnyError::new("declined")) });
            charge.await.map_err(AnyError::from)
        };
        let month = async { sleep(Duration::from_secs(86_400)).await.map_err(AnyError::from) };
        let both = try_join!(left, declined, month);
        ledger.note("heard");
        Ok(both?.0)
    }
    each(async |place| {
        let base = place.ow.worker().state(place.ledger.clone()).durable(hasty).durable(waits);
        let worker = base.start().await.unwrap();
        let run = place.ow.start(hasty()).await.unwrap();
        assert!(run.result().await.unwrap_err().to_string().contains("declined"));
        place.until(async || place.ledger.count("left: Err(Cancelled)") == 1).await;
        worker.shutdown().await;
    })
    .await;
}

/// What many children are given is more than one statement carries.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_may_ask_for_more_than_a_statement_carries() {
    #[durable]
    async fn long(text: String) -> Result<usize, AnyError> {
        Ok(text.len())
    }
    #[durable]
    async fn many(count: u32) -> Result<usize, AnyError> {
        let lengths = join_all((0..count).map(|_| long("x".repeat(200_000)))).await;
        Ok(lengths.into_iter().sum::<Result<usize, _>>()?)
    }
    each(async |place| {
        let worker = place.ow.worker().durable(many).durable(long).start().await.unwrap();
        let run = place.ow.start(many(90)).await.unwrap();
        assert_eq!(run.result().await, Ok(90 * 200_000), "on {}", place.ow.store().url());
        worker.shutdown().await;
    })
    .await;
}

/// Who is told to end and is not there, or has ended, is said so.
#[tokio::test(flavor = "multi_thread")]
async fn only_runs_that_live_can_be_called_off() {
    each(async |place| {
        let nobody = JobId::from_uuid(uuid::Uuid::now_v7());
        assert_eq!(place.ow.cancel_run(nobody, "why").await.unwrap_err().code(), Code::RunUnknown);
        let worker = place.ow.worker().state(place.ledger.clone()).durable(refund).start().await.unwrap();
        let run = place.ow.start(refund("ended".to_owned())).await.unwrap();
        assert_eq!(run.result().await, Ok(1));
        assert_eq!(run.cancel("late").await.unwrap_err().code(), Code::RunEnded);
        worker.shutdown().await;
    })
    .await;
}

/// It is in the middle of a step when it is called off, and has something to undo.
#[durable(max_attempts = 3, retry = "fixed 5ms")]
async fn busy(ledger: State<Ledger>, then: String, crash: bool) -> Result<u32, AnyError> {
    let mut saga = Saga::<AnyError>::new();
    step("book", || async { Ok::<u32, AnyError>(ledger.note(&format!("book {then}"))) }).await?;
    for what in ["one", "two"] {
        let (ledger, undone) = (ledger.clone(), format!("undo {what} {then}"));
        saga.undo(what, move || {
            ledger.note(&undone);
            std::future::ready(Ok(()))
        });
    }
    let work = || async {
        let times = ledger.note(&format!("work {then}"));
        while ledger.count(&format!("go {then}")) == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(!crash || times > 1, "as told");
        Ok::<u32, AnyError>(1)
    };
    step("work", work).await?;
    let month = Duration::from_secs(30 * 86_400);
    let heard: Result<u32, AnyError> = match then.as_str() {
        "sleep" => sleep(month).await.map(|()| 0).map_err(Into::into),
        "step" => {
            let more = step("more", || async { Ok::<u32, AnyError>(ledger.note("more")) });
            more.await.map_err(Into::into)
        }
        "child" => refund("never".to_owned()).await.map_err(Into::into),
        _ => {
            let sleeps = join_all((0..40).map(|_| async move { sleep(month).await })).await;
            assert!(sleeps.iter().all(|slept| *slept == Err(Failure::Cancelled)), "{sleeps:?}");
            Err(AnyError::new("all of them"))
        }
    };
    if heard.is_err() {
        saga.compensate().await?;
        // It has heard: what comes now is there to undo things, and may take its time.
        sleep(Duration::from_millis(1)).await?;
        refund(then).await?;
    }
    heard
}

/// D9: a run that is called off in the middle of a step hears of it at what it asks for next, and only there; also
/// where its process dies when that is written down.
#[tokio::test(flavor = "multi_thread")]
async fn d9_a_run_hears_after_its_step_that_it_is_called_off() {
    each(async |place| {
        let base = place.ow.worker().state(place.ledger.clone()).durable(busy).durable(refund);
        let worker = base.park_after(Duration::ZERO).start().await.unwrap();
        for (then, crash) in [("sleep", false), ("step", false), ("child", true), ("all", true)] {
            let run = place.ow.start(busy(then.to_owned(), crash)).await.unwrap();
            place.until(async || place.ledger.count(&format!("work {then}")) > 0).await;
            run.cancel("no longer wanted").await.unwrap();
            let is_written = async || {
                let journal = place.ow.admin().journal(run.id(), 0, 100).await.unwrap();
                journal.iter().any(|entry| entry.op == Op::Cancel)
            };
            place.until(is_written).await;
            place.ledger.note(&format!("go {then}"));
            let ended = run.result().await;
            let (url, count) = (place.ow.store().url().to_owned(), |what: &str| place.ledger.count(what));
            assert!(ended.is_err(), "{then} on {url}: {ended:?}");
            assert_eq!(run.standing().await.unwrap(), Standing::Cancelled, "{then} on {url}");
            let undone = ["one", "two"].map(|what| count(&format!("undo {what} {then}")));
            assert_eq!((count(&format!("book {then}")), undone), (1, [1, 1]), "{then} on {url}");
            assert_eq!(count(&format!("refund {then}")), 1, "{then} on {url}");
            assert_eq!(count(&format!("work {then}")), 1 + usize::from(crash));
        }
        assert_eq!((place.ledger.count("more"), place.ledger.count("refund never")), (0, 0));
        worker.shutdown().await;
    })
    .await;
}

/// What undoes things is not kept from it by a run's being called off meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn d9_undoing_is_not_called_off() {
    #[durable]
    async fn undoes(ledger: State<Ledger>) -> Result<u32, AnyError> {
        let mut saga = Saga::<AnyError>::new();
        for what in ["second", "first"] {
            let ledger = ledger.clone();
            saga.undo(what, move || {
                let ledger = ledger.clone();
                async move {
                    ledger.note(what);
                    while ledger.count("go") == 0 {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    Ok(())
                }
            });
        }
        saga.compensate().await?;
        Err(AnyError::new("it was undone"))
    }
    each(async |place| {
        let base = place.ow.worker().state(place.ledger.clone()).durable(undoes);
        let worker = base.start().await.unwrap();
        let run = place.ow.start(undoes()).await.unwrap();
        place.until(async || place.ledger.count("first") == 1).await;
        run.cancel("too late").await.unwrap();
        let is_written = async || !place.ow.admin().journal(run.id(), 0, 100).await.unwrap().is_empty();
        place.until(is_written).await;
        place.ledger.note("go");
        assert!(run.result().await.is_err());
        assert_eq!(place.ledger.count("second"), 1, "on {}", place.ow.store().url());
        worker.shutdown().await;
    })
    .await;
}

/// Waits that the code has given up are nobody who hears.
#[tokio::test(flavor = "multi_thread")]
async fn d9_nobody_hears_at_a_wait_that_was_given_up() {
    #[durable]
    async fn gave_up(ledger: State<Ledger>) -> Result<u32, AnyError> {
        let month = Duration::from_secs(30 * 86_400);
        let quick = step("quick", || async { Ok::<u32, AnyError>(1) });
        let _ = race(race(sleep(month), refund("given up".to_owned()).delay(month)), quick).await;
        let work = || async {
            ledger.note("work");
            while ledger.count("go") == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok::<u32, AnyError>(1)
        };
        step("work", work).await?;
        sleep(month).await?;
        Ok(1)
    }
    each(async |place| {
        let base = place.ow.worker().state(place.ledger.clone()).durable(gave_up).durable(refund);
        let worker = base.start().await.unwrap();
        let run = place.ow.start(gave_up()).await.unwrap();
        place.until(async || place.ledger.count("work") == 1).await;
        run.cancel("no longer wanted").await.unwrap();
        let is_written = async || {
            let journal = place.ow.admin().journal(run.id(), 0, 100).await.unwrap();
            journal.iter().any(|entry| entry.op == Op::Cancel)
        };
        place.until(is_written).await;
        place.ledger.note("go");
        assert!(run.result().await.is_err(), "on {}", place.ow.store().url());
        assert_eq!(run.standing().await.unwrap(), Standing::Cancelled);
        worker.shutdown().await;
    })
    .await;
}
