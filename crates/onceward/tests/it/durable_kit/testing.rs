//! The testing kit: time that is skipped, crashes at every step, journals held against code.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use onceward::durable::{
    AnyError, Failure, RecordedRun, Standing, Verdict, durable, join_all, now, patched, race, signal, sleep,
    step,
};
use onceward::testing::{CrashTest, TestBed, replay};
use onceward::worker::State;
use onceward::{Code, Onceward};

const DAY: Duration = Duration::from_secs(86_400);

#[durable]
async fn pick(number: u32) -> Result<u32, AnyError> {
    sleep(Duration::from_secs(60 * u64::from(number))).await?;
    Ok(number * 10)
}

#[durable]
async fn order(number: u64) -> Result<String, AnyError> {
    let began = now()?;
    step("reserve", || async { Ok::<_, AnyError>(()) }).await?;
    let picked = join_all((0..3).map(pick)).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    sleep(30 * DAY).await?;
    let approved = match signal::<bool>("approved").timeout(DAY).await {
        Err(Failure::TimedOut) => false,
        answer => answer?,
    };
    let days = now()?.since(began).as_secs() / 86_400;
    Ok(format!("{number}: {picked:?}, approved: {approved}, after {days} days"))
}

fn knows(worker: onceward::worker::WorkerBuilder) -> onceward::worker::WorkerBuilder {
    worker.durable(order).durable(pick)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_takes_milliseconds_and_nobody_is_taken_for_lost() {
    let (bed, began) = (TestBed::new(), Instant::now());
    let worker = knows(bed.worker()).start().await.unwrap();
    let lease = bed.client().lease("held").acquire().await.unwrap().unwrap();
    let run = bed.client().start(order(1)).await.unwrap();
    let result = bed.result(&run).await.unwrap();
    assert_eq!(result, "1: [0, 10, 20], approved: false, after 31 days");
    assert!(lease.is_valid(), "whoever holds something goes on holding it");
    assert!(bed.client().lease("held").acquire().await.unwrap().is_none());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_that_is_skipped_stops_at_what_is_due_on_the_way() {
    let bed = TestBed::new();
    let worker = knows(bed.worker()).start().await.unwrap();
    let run = bed.client().start(order(2)).await.unwrap();
    bed.settle().await.unwrap();
    assert_eq!(run.standing().await.unwrap(), Standing::Parked);
    bed.skip(30 * DAY + DAY / 2).await.unwrap();
    run.signal("approved", &true).await.unwrap();
    let result = bed.result(&run).await.unwrap();
    assert_eq!(result, "2: [0, 10, 20], approved: true, after 30 days");
    worker.shutdown().await;
}

/// A run that nothing brings on is no reason to wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_for_somebody_is_told_apart_from_one_that_waits_for_its_time() {
    #[durable]
    async fn asks(at: u32) -> Result<u32, AnyError> {
        Ok(signal::<u32>("answer").await? + at)
    }
    let bed = TestBed::new();
    let worker = bed.worker().durable(asks).start().await.unwrap();
    let run = bed.client().start(asks(1)).await.unwrap();
    let waits = bed.result(&run).await.unwrap_err().to_string();
    assert!(waits.contains(Code::RunNotIdle.as_str()), "{waits}");
    run.signal("answer", &41).await.unwrap();
    assert_eq!(bed.result(&run).await.unwrap(), 42);
    worker.shutdown().await;
}

/// D3, D5: a function that is written as it should be comes to the same whenever its worker dies.
#[tokio::test(flavor = "multi_thread")]
async fn d3_d5_a_crash_test_is_survived() {
    let survived = CrashTest::new(|| order(3)).worker(knows).signal("approved", &true).run().await.unwrap();
    assert_eq!(survived.result.unwrap(), "3: [0, 10, 20], approved: true, after 30 days");
    assert!(survived.crashes >= 20, "{}", survived.crashes);
    assert!(survived.again >= 1, "no step was interrupted");
}

/// What a function reads beside its steps is found.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_test_finds_what_is_not_written_down() {
    #[durable]
    async fn counts(calls: State<Arc<AtomicU32>>) -> Result<u32, AnyError> {
        step("one", || async { Ok::<_, AnyError>(()) }).await?;
        let seen = calls.fetch_add(1, Ordering::SeqCst);
        step("two", || async { Ok::<_, AnyError>(()) }).await?;
        Ok(seen.min(1))
    }
    let calls = Arc::new(AtomicU32::new(0));
    let test = CrashTest::new(counts).worker(move |worker| worker.durable(counts).state(Arc::clone(&calls)));
    let error = test.run().await.unwrap_err();
    assert_eq!(error.code(), Code::RunNotSurvived);
    assert!(
        error.to_string().contains("it came to {\"Ok\":1}, and without a crash to {\"Ok\":0}"),
        "{error}"
    );
}

/// D4: a step that may not run twice does not; what it comes to then is allowed by name.
#[tokio::test(flavor = "multi_thread")]
async fn d4_a_step_that_may_not_run_twice_is_uncertain_after_a_crash() {
    #[durable]
    async fn ships(parcel: u32) -> Result<u32, AnyError> {
        match step("ship", || async { Ok::<_, AnyError>(parcel) }).at_most_once().await {
            Err(Failure::Uncertain(_)) => Ok(0),
            shipped => Ok(shipped?),
        }
    }
    let test = || CrashTest::new(|| ships(7)).worker(|worker| worker.durable(ships));
    assert_eq!(test().run().await.unwrap_err().code(), Code::RunNotSurvived);
    let survived = test().or_accept(|ended| matches!(ended, Ok(0))).run().await.unwrap();
    assert_eq!(survived.again, 0);
}

/// A journal that was taken out of one store is what the other one has then.
#[tokio::test(flavor = "multi_thread")]
async fn runs_move_between_stores_with_their_journals() {
    let bed = TestBed::new();
    let worker = knows(bed.worker()).start().await.unwrap();
    let run = bed.client().start(order(4)).await.unwrap();
    bed.skip(10 * DAY).await.unwrap();
    let lines = |runs: &[RecordedRun]| runs.iter().map(|run| run.to_lines().unwrap()).collect::<String>();
    let recorded = bed.client().admin().export_runs(run.id()).await.unwrap();
    worker.shutdown().await;
    assert_eq!(recorded.len(), 4, "the run and its children");
    let text = lines(&recorded);
    let read = RecordedRun::read(&text).unwrap();
    assert_eq!(read, recorded);

    for url in ["memory:", "sqlite::memory:"] {
        let ow = Onceward::connect(url).await.unwrap();
        for run in &read {
            assert!(ow.admin().import_run(run).await.unwrap());
            assert!(!ow.admin().import_run(run).await.unwrap(), "it is there already");
        }
        let copy = ow.admin().export_runs(run.id()).await.unwrap();
        assert_eq!(copy.len(), 4);
        for (copy, original) in copy.iter().zip(&recorded) {
            let phases = |run: &RecordedRun| {
                run.journal()
                    .iter()
                    .map(|entry| (entry.position.clone(), entry.phase.clone()))
                    .collect::<Vec<_>>()
            };
            assert_eq!(phases(copy), phases(original));
        }
        // It goes on where it was: its time has not come yet, for whoever takes it up here.
        let worker = knows(ow.worker()).start().await.unwrap();
        let standing = ow.run::<order>(run.id()).standing().await.unwrap();
        assert!(matches!(standing, Standing::Parked | Standing::Pending | Standing::Running), "{standing:?}");
        worker.shutdown().await;
        ow.shutdown().await;
    }
}

#[test]
fn damaged_recordings_are_refused_with_their_line() {
    let head =
        r#"{"onceward":"run","format":1,"id":"01980000-0000-7000-8000-000000000000","kind":"f","queue":"q","#;
    let rest = r#""state":"ready","content_type":"application/json","args":{"value":{}},"enqueued_at":"#;
    let head = format!(r#"{head}{rest}"2026-01-01T00:00:00Z"}}"#);
    assert_eq!(RecordedRun::read(&head).unwrap()[0].function(), "f");
    let newer = head.replace("\"format\":1", "\"format\":3");
    let entry = |seq: u32, op: &str| {
        let rest = r#""position":"0","phase":"value","at":"2026-01-01T00:00:00Z","token":1}"#;
        format!("{head}\n{{\"seq\":{seq},\"op\":\"{op}\",{rest}")
    };
    let (gap, odd) = (entry(1, "step"), entry(0, "leap"));
    for (text, line) in [
        ("", "line 1"),
        ("{", "line 1"),
        ("{\"seq\":0}", "line 1"),
        (&newer, "format 3"),
        (&gap, "line 2"),
        (&odd, "line 2"),
    ] {
        let error = RecordedRun::read(text).unwrap_err();
        assert_eq!(error.code(), Code::RecordingUnreadable, "{text}");
        assert!(error.to_string().contains(line), "{error}");
    }
}

/// D2: before a deploy it is known which runs would not go on, and nothing was done to find out.
#[tokio::test(flavor = "multi_thread")]
async fn d2_a_dry_replay_tells_what_would_be_stuck() {
    mod yesterday {
        use super::*;

        #[durable(name = "trip")]
        pub async fn trip(days: u64) -> Result<u64, AnyError> {
            step("book", || async { Ok::<_, AnyError>(()) }).await?;
            sleep(days as u32 * DAY).await?;
            Ok(days)
        }
    }
    #[durable(name = "trip")]
    async fn renamed(bodies: State<Arc<AtomicU32>>, days: u64) -> Result<u64, AnyError> {
        step("reserve", || async { Ok::<_, AnyError>(bodies.fetch_add(1, Ordering::SeqCst)) }).await?;
        Ok(days)
    }
    #[durable(name = "trip")]
    async fn changed(bodies: State<Arc<AtomicU32>>, days: u64) -> Result<u64, AnyError> {
        if patched("insure")? {
            step("insure", || async { Ok::<_, AnyError>(bodies.fetch_add(1, Ordering::SeqCst)) }).await?;
        }
        step("book", || async { Ok::<_, AnyError>(bodies.fetch_add(1, Ordering::SeqCst)) }).await?;
        race(sleep(days as u32 * DAY), sleep(DAY)).await;
        Ok(days)
    }
    let bed = TestBed::new();
    let worker = bed.worker().durable(yesterday::trip).start().await.unwrap();
    let run = bed.client().start(yesterday::trip(9)).await.unwrap();
    bed.settle().await.unwrap();
    worker.shutdown().await;

    let same = bed.worker().durable(yesterday::trip).check().await.unwrap();
    assert_eq!((same.len(), same[0].run, &same[0].verdict), (1, run.id(), &Verdict::Replays), "{}", same[0]);
    let others = bed.worker().durable(pick).check().await.unwrap();
    assert_eq!(others[0].verdict, Verdict::Unknown);
    let bodies = Arc::new(AtomicU32::new(0));
    let worker = bed.worker().durable(renamed).state(Arc::clone(&bodies));
    let shown = worker.check().await.unwrap()[0].to_string();
    let expected = "the journal has step `book`, and the code asks for step `reserve`\n  \
                    -      0  step `book` value\n  +   code  step `reserve`\n         1  sleep `` timer";
    assert!(shown.ends_with(expected), "{shown}");
    // A race takes a place of its own, which is not where the journal has the sleep.
    let recorded = bed.client().admin().export_run(run.id()).await.unwrap().to_lines().unwrap();
    let worker = bed.worker().durable(changed).state(Arc::clone(&bodies));
    let error = replay(worker, &recorded).await.unwrap_err();
    assert_eq!(error.code(), Code::RunsDiffer);
    assert!(error.to_string().contains("at 1 the journal has sleep"), "{error}");
    assert_eq!(bodies.load(Ordering::SeqCst), 0, "no step ran");
    assert_eq!(run.standing().await.unwrap(), Standing::Parked, "nothing was changed");
}
