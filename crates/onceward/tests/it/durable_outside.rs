//! What one does with runs from outside: they are paused and go on, and lose nothing by it.

use std::time::Duration;

use crate::durable_kit::{Ledger, Place, each};
use onceward::durable::{
    AnyError, Durable, Failure, RunHandle, Saga, Standing, Verdict, durable, signal, sleep, step,
};
use onceward::worker::State;
use onceward::{Code, Onceward, RunAction, RunFilter};

/// Two steps, the first of which takes until it may end.
#[durable]
async fn two_steps(ledger: State<Ledger>, name: String) -> Result<u32, AnyError> {
    let first = || async {
        ledger.note(&format!("first {name}"));
        while ledger.count(&format!("go {name}")) == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok::<u32, AnyError>(1)
    };
    let first = step("first", first).await?;
    let second = step("second", || async { Ok::<u32, AnyError>(ledger.note(&format!("second {name}"))) });
    Ok(first + second.await?)
}

#[durable]
async fn waiting(ledger: State<Ledger>, name: String) -> Result<u32, Failure> {
    let said = signal::<u32>("go").await;
    ledger.note(&format!("{name}: {said:?}"));
    said
}

impl Place {
    async fn stands<D: Durable>(&self, run: &RunHandle<D>, standing: Standing) {
        self.until(async || run.standing().await.unwrap() == standing).await;
    }
}

/// A moment in which something would happen if it were to.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(60)).await;
}

/// A run that is paused ends the step that it is in, and begins none.
#[tokio::test(flavor = "multi_thread")]
async fn d3_a_run_that_is_paused_in_a_step_ends_it_and_begins_no_other() {
    each(async |place| {
        let base = place.ow.worker().state(place.ledger.clone()).durable(two_steps);
        let worker = base.session_ttl(Duration::from_secs(1)).start().await.unwrap();
        // A client that does not know this worker: it is told at the next renewal.
        let elsewhere = Onceward::options().build(place.ow.store().clone()).unwrap();
        for (name, client) in [("here", &place.ow), ("elsewhere", &elsewhere)] {
            let run = place.ow.start(two_steps(name.to_owned())).await.unwrap();
            place.until(async || place.ledger.count(&format!("first {name}")) == 1).await;
            client.admin().pause_run(run.id(), Some("the bank is away")).await.unwrap();
            assert_eq!(run.standing().await.unwrap(), Standing::Running);
            if name == "elsewhere" {
                tokio::time::sleep(Duration::from_millis(600)).await;
            }
            place.ledger.note(&format!("go {name}"));
            place.stands(&run, Standing::Paused).await;
            a_moment().await;
            assert_eq!(place.ledger.count(&format!("second {name}")), 0, "on {}", place.ow.store().url());
            let row = place.ow.admin().job(run.id()).await.unwrap();
            assert_eq!((row.attempt, row.lost), (0, 0));
            assert_eq!(row.paused.unwrap().reason.as_deref(), Some("the bank is away"));
            client.admin().resume_run(run.id(), None).await.unwrap();
            assert_eq!(run.result().await, Ok(2));
            assert_eq!(place.ledger.count(&format!("first {name}")), 1);
            assert_eq!(run.pause("late").await.unwrap_err().code(), Code::RunEnded);
        }
        worker.shutdown().await;
    })
    .await;
}

/// What is sent to a paused run waits for it, in memory and parked.
#[tokio::test(flavor = "multi_thread")]
async fn d6_what_is_sent_to_a_paused_run_waits_for_it() {
    each(async |place| {
        for park_after in [Duration::ZERO, Duration::from_secs(10)] {
            let base = place.ow.worker().state(place.ledger.clone()).durable(waiting);
            let worker = base.park_after(park_after).start().await.unwrap();
            let name = format!("{park_after:?}");
            let run = place.ow.start(waiting(name.clone())).await.unwrap();
            let rests = if park_after.is_zero() { Standing::Parked } else { Standing::Running };
            place.stands(&run, rests).await;
            run.pause("not yet").await.unwrap();
            place.stands(&run, Standing::Paused).await;
            run.signal("go", &7).await.unwrap();
            a_moment().await;
            assert_eq!(run.standing().await.unwrap(), Standing::Paused);
            assert!(place.ledger.all().iter().all(|line| !line.starts_with(&name)));
            run.resume().await.unwrap();
            assert_eq!(run.result().await, Ok(7));
            worker.shutdown().await;
        }
        let nobody = onceward::JobId::from_uuid(uuid::Uuid::now_v7());
        let unknown = place.ow.admin().pause_run(nobody, Some("why")).await.unwrap_err();
        assert_eq!(unknown.code(), Code::RunUnknown);
        let reason = place.ow.admin().pause_run(nobody, Some(" ")).await.unwrap_err();
        assert_eq!(reason.code(), Code::ReasonMissing);
    })
    .await;
}

/// A time that comes while a run is paused has come when it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_has_come_meanwhile_counts_once_it_goes_on() {
    #[durable]
    async fn nap(ledger: State<Ledger>, millis: u64) -> Result<u32, AnyError> {
        sleep(Duration::from_millis(millis)).await?;
        let rise = || async { Ok::<u32, AnyError>(ledger.note(&format!("rise {millis}"))) };
        step("rise", rise).await.map_err(AnyError::from)
    }
    each(async |place| {
        let worker = place.ow.worker().state(place.ledger.clone()).durable(nap).start().await.unwrap();
        // On a busy machine a short sleep may be over before its pause is written; then a longer one is tried.
        let mut paused = None;
        for millis in [40, 400, 4_000] {
            let run = place.ow.start(nap(millis)).await.unwrap();
            // Refused where the run has ended already.
            let _ = run.pause("at night").await;
            place
                .until(async || {
                    [Standing::Paused, Standing::Succeeded].contains(&run.standing().await.unwrap())
                })
                .await;
            if run.standing().await.unwrap() == Standing::Paused {
                paused = Some((run, millis));
                break;
            }
        }
        let (run, millis) = paused.unwrap();
        tokio::time::sleep(Duration::from_millis(millis + 20)).await;
        let risen = place.ledger.count(&format!("rise {millis}"));
        assert_eq!((run.standing().await.unwrap(), risen), (Standing::Paused, 0));
        run.resume().await.unwrap();
        assert_eq!(run.result().await, Ok(1));
        worker.shutdown().await;
    })
    .await;
}

/// D9: a run that is paused and called off goes on, to undo what it has done.
#[tokio::test(flavor = "multi_thread")]
async fn d9_a_paused_run_that_is_cancelled_undoes_what_it_has_done() {
    #[durable]
    async fn trip(ledger: State<Ledger>) -> Result<u32, AnyError> {
        let mut saga = Saga::<AnyError>::new();
        step("book", || async { Ok::<u32, AnyError>(ledger.note("book")) }).await?;
        saga.undo("undo", move || {
            ledger.note("unbook");
            std::future::ready(Ok(()))
        });
        match signal::<u32>("go").await {
            Ok(said) => Ok(said),
            Err(failure) => {
                saga.compensate().await?;
                Err(failure.into())
            }
        }
    }
    each(async |place| {
        let base = place.ow.worker().state(place.ledger.clone()).durable(trip).durable(waiting);
        let worker = base.park_after(Duration::ZERO).start().await.unwrap();
        let run = place.ow.start(trip()).await.unwrap();
        place.stands(&run, Standing::Parked).await;
        run.pause("wait").await.unwrap();
        run.cancel("never mind").await.unwrap();
        assert!(run.result().await.is_err());
        assert_eq!((place.ledger.count("book"), place.ledger.count("unbook")), (1, 1));
        // One that has not begun never does.
        worker.shutdown().await;
        let run = place.ow.start(waiting("never".to_owned())).await.unwrap();
        run.pause("wait").await.unwrap();
        assert_eq!(run.standing().await.unwrap(), Standing::Paused);
        run.cancel("never mind").await.unwrap();
        assert_eq!(run.standing().await.unwrap(), Standing::Cancelled);
    })
    .await;
}

/// D4: a run that is paused and resumed all the time comes to the same, and what may run once runs once.
#[tokio::test(flavor = "multi_thread")]
async fn d4_pausing_again_and_again_does_nothing_twice() {
    #[durable]
    async fn careful(ledger: State<Ledger>) -> Result<u32, AnyError> {
        let mut sum = 0;
        for number in 0..12_u32 {
            let what = format!("careful {number}");
            let once = step("careful", || async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok::<u32, AnyError>(ledger.note(&what))
            });
            sum += once.at_most_once().await?;
        }
        Ok(sum)
    }
    each(async |place| {
        let worker = place.ow.worker().state(place.ledger.clone()).durable(careful).start().await.unwrap();
        let run = place.ow.start(careful()).await.unwrap();
        while run.pause("a moment").await.is_ok() {
            place.until(async || !matches!(run.standing().await.unwrap(), Standing::Running)).await;
            if run.resume().await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        assert_eq!(run.result().await, Ok(12), "{:?}", place.ledger.all());
        worker.shutdown().await;
    })
    .await;
}

/// Many at once, by what they have in common: counted first, then each of them once.
#[tokio::test(flavor = "multi_thread")]
async fn many_runs_are_paused_told_and_resumed_at_once() {
    each(async |place| {
        let base = place.ow.worker().state(place.ledger.clone()).durable(waiting);
        let worker = base.park_after(Duration::ZERO).start().await.unwrap();
        let mut runs = Vec::new();
        for number in 0..12 {
            runs.push(place.ow.start(waiting(format!("{number}"))).await.unwrap());
        }
        for run in &runs {
            place.stands(run, Standing::Parked).await;
        }
        let admin = place.ow.admin();
        let standing = |standing| RunFilter { standing: Some(standing), ..RunFilter::default() };
        let (parked, paused) = (standing(Standing::Parked), standing(Standing::Paused));
        let counts = async |filter: &RunFilter, action: RunAction, most, dry_run| {
            let bulk = admin.each_run(filter, &action, Some("by the dozen"), most, dry_run).await.unwrap();
            (bulk.changed.len(), bulk.left.len())
        };
        let count = async |filter: &RunFilter| admin.runs(filter, None, 100).await.unwrap().rows.len();
        assert_eq!(counts(&parked, RunAction::Pause, 100, true).await, (12, 0));
        assert_eq!(count(&paused).await, 0);
        assert_eq!(counts(&parked, RunAction::Pause, 5, false).await, (5, 0));
        assert_eq!((count(&paused).await, count(&parked).await), (5, 7));
        assert_eq!(counts(&RunFilter::default(), RunAction::Pause, 100, false).await, (7, 5));
        let go = RunAction::Signal { name: "go".to_owned(), value: serde_json::json!(3) };
        assert_eq!(counts(&paused, go, 100, false).await, (12, 0));
        let page = admin.runs(&paused, None, 5).await.unwrap().rows;
        let next = admin.runs(&paused, page.last().map(|row| row.id), 100).await.unwrap().rows;
        assert_eq!((page.len(), next.len()), (5, 7));
        let hour = Some(Duration::from_secs(3_600));
        assert_eq!(count(&RunFilter { older_than: hour, ..RunFilter::default() }).await, 0);
        assert_eq!(count(&RunFilter { newer_than: hour, ..paused.clone() }).await, 12);
        assert_eq!(counts(&paused, RunAction::Resume, 100, false).await, (12, 0));
        for run in &runs {
            assert_eq!(run.result().await, Ok(3));
        }
        for action in [RunAction::Cancel, RunAction::Retry, RunAction::Resume] {
            assert_eq!(counts(&RunFilter::default(), action, 100, false).await, (0, 12));
        }
        let refused = RunAction::Signal { name: String::new(), value: serde_json::Value::Null };
        let refused = admin.each_run(&parked, &refused, None, 1, true).await.unwrap_err();
        assert_eq!(refused.code(), Code::StepNameInvalid);
        worker.shutdown().await;
    })
    .await;
}

/// A journal that says what only a newer program knows is no reason to give up: the run is stuck until somebody can
/// read it, and `check` says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_newer_program_can_read_waits_for_it() {
    let (folder, schema) = (tempfile::tempdir().unwrap(), crate::pg::Schema::migrated().await);
    let file = format!("sqlite://{}", folder.path().join("runs.db").display());
    let postgres = schema.client().await;
    for url in [file.as_str(), schema.url()] {
        let ow = Onceward::options().short_ttls_for_tests().connect(url).await.unwrap();
        let place = Place { ow: ow.clone(), ledger: Ledger::default() };
        let base = || ow.worker().state(place.ledger.clone()).durable(waiting).park_after(Duration::ZERO);
        let worker = base().start().await.unwrap();
        let run = ow.start(waiting("newer".to_owned())).await.unwrap();
        place.stands(&run, Standing::Parked).await;
        let say = async |phase: &str| {
            if url == file {
                let database = sqlx::SqlitePool::connect(&file).await.unwrap();
                let change = format!("UPDATE onceward_run_journal SET phase = '{phase}'");
                sqlx::query(sqlx::AssertSqlSafe(change)).execute(&database).await.unwrap();
                database.close().await;
            } else {
                let change = format!("UPDATE {}.run_journal SET phase = '{phase}'", schema.name());
                assert_eq!(postgres.execute(&change, &[]).await.unwrap(), 1);
            }
        };
        say("later").await;
        run.signal("go", &5_u32).await.unwrap();
        place.stands(&run, Standing::Stuck).await;
        let row = ow.admin().job(run.id()).await.unwrap();
        let error = row.error.clone().unwrap_or_default();
        assert!(error.starts_with(Code::JournalUnreadable.as_str()), "{error}");
        assert!(row.attempt < row.policy.max_attempts && row.lost == 0, "{row:?}");
        let checked = base().check().await.unwrap();
        assert!(matches!(&checked[..], [one] if matches!(one.verdict, Verdict::Fails(_))), "{checked:?}");
        say("intent").await;
        ow.admin().retry_run(run.id(), None).await.unwrap();
        assert_eq!(run.result().await, Ok(5), "on {url}");
        worker.shutdown().await;
        ow.shutdown().await;
    }
}

#[durable(name = "shop", version = "1")]
async fn shop_before() -> Result<u32, Failure> {
    signal::<u32>("go").await
}

#[durable(name = "shop", version = "2")]
async fn shop() -> Result<u32, Failure> {
    signal::<u32>("go").await.map(|said| said * 2)
}

/// D10: a run of a version that no worker has waits for one that has it, and is seen to wait.
#[tokio::test(flavor = "multi_thread")]
async fn d10_a_run_waits_for_a_worker_that_has_its_version() {
    each(async |place| {
        let base = || place.ow.worker().park_after(Duration::ZERO);
        let before = base().durable(shop_before).start().await.unwrap();
        let run = place.ow.start(shop_before()).await.unwrap();
        place.stands(&run, Standing::Parked).await;
        before.shutdown().await;
        let newer = base().durable(shop).start().await.unwrap();
        run.signal("go", &4_u32).await.unwrap();
        let waits = async || {
            let queues = place.ow.admin().queues().await.unwrap();
            queues.iter().any(|view| view.unknown.iter().any(|kind| kind.as_str() == "shop@1"))
        };
        place.until(waits).await;
        // Those of its own version go on meanwhile.
        let other = place.ow.start(shop()).await.unwrap();
        other.signal("go", &4_u32).await.unwrap();
        assert_eq!(other.result().await, Ok(8));
        assert_eq!(run.standing().await.unwrap(), Standing::Pending, "on {}", place.ow.store().url());
        assert!(waits().await);
        let both = base().durable(shop_before).start().await.unwrap();
        assert_eq!(run.result().await, Ok(4));
        newer.shutdown().await;
        both.shutdown().await;
    })
    .await;
}
