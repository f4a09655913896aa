//! What was proved wrong with the durable functions before ours, each as a test that ours passes, on every store. The
//! numbers are those of the field notes. What is not here stands elsewhere: W36 (writes of a stale worker) with D4 in
//! the conformance suite, W39 (equal calls) in `durable_remembered.rs`, W41 (limits) with J11 in the conformance suite
//! and in `jobs_limits.rs`, W42 (what a claim reads) with the plans of the PostgreSQL store, W43 (clocks of clients)
//! with J15 in the conformance suite and the clocks of both stores, W49 (heartbeats) in `faults.rs`, W50 (growth) with
//! pruning in the conformance suite, W51 (what `show` can't show) in the tests of the shell.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};

use crate::durable_kit::{Ledger, Place, each};
use onceward::durable::{
    AnyError, Failure, Standing, durable, join_all, patched, race, report, signal, sleep, step,
};
use onceward::store::Store;
use onceward::store::faulty::{Faulty, Verb};
use onceward::store::memory::MemoryStore;
use onceward::worker::{State, WorkerBuilder};
use onceward::{Code, JobFilter, JobId, Onceward};

fn worker(place: &Place) -> WorkerBuilder {
    place.ow.worker().state(place.ledger.clone()).park_after(Duration::ZERO)
}

#[durable]
async fn charge(ledger: State<Ledger>) -> Result<u32, AnyError> {
    Ok(ledger.note("charge"))
}

/// Fails twice after it has charged.
#[durable(max_attempts = 3, retry = "fixed 10ms")]
async fn checkout(ledger: State<Ledger>) -> Result<u32, AnyError> {
    let charged = charge().await?;
    let packed = step("pack", || std::future::ready(Ok::<u32, AnyError>(ledger.note("pack")))).await?;
    match ledger.note("attempt") {
        1 | 2 => Err(AnyError::new("the printer is on fire")),
        _ => Ok(charged + packed),
    }
}

/// W32: what has succeeded is not done again because what comes after it fails, by a child or in the function itself.
#[tokio::test(flavor = "multi_thread")]
async fn w32_a_failure_after_the_charge_charges_nobody_again() {
    each(async |place| {
        let worker = worker(&place).durable(checkout).durable(charge).start().await.unwrap();
        let run = place.ow.start(checkout()).await.unwrap();
        let ended = run.result().await;
        assert_eq!((place.ledger.count("charge"), place.ledger.count("pack")), (1, 1), "{ended:?}");
        worker.shutdown().await;
    })
    .await;
}

/// W33: the pause before another attempt is as long as the policy says, for functions and for steps.
#[tokio::test(flavor = "multi_thread")]
async fn w33_what_is_tried_again_waits_as_long_as_it_was_told() {
    const PAUSE: Duration = Duration::from_millis(150);
    #[durable(max_attempts = 2, retry = "fixed 150ms")]
    async fn flaky(ledger: State<Ledger>) -> Result<u32, AnyError> {
        let calls = ledger.note("call");
        if calls == 1 { Err(AnyError::new("once more")) } else { Ok(calls) }
    }
    #[durable]
    async fn patient(ledger: State<Ledger>) -> Result<u32, AnyError> {
        let tried = step("try", || {
            let calls = ledger.note("try");
            std::future::ready(if calls == 1 { Err(AnyError::new("once more")) } else { Ok(calls) })
        });
        Ok(tried.max_attempts(2).retry("fixed 150ms".parse().unwrap()).await?)
    }
    each(async |place| {
        let worker = worker(&place).durable(flaky).durable(patient).start().await.unwrap();
        let began = Instant::now();
        let run = place.ow.start(flaky()).await.unwrap();
        assert_eq!(run.result().await, Ok(2));
        assert!(began.elapsed() >= PAUSE, "{:?}", began.elapsed());
        let began = Instant::now();
        let run = place.ow.start(patient()).await.unwrap();
        assert_eq!(run.result().await, Ok(2));
        assert!(began.elapsed() >= PAUSE, "{:?}", began.elapsed());
        worker.shutdown().await;
    })
    .await;
}

fn is_busy(error: &AnyError) -> bool {
    error.to_string().contains("busy")
}

/// W34: which errors are tried again is what the function says, also after it has been read back from the store.
#[tokio::test(flavor = "multi_thread")]
async fn w34_only_what_may_be_tried_again_is() {
    #[durable(max_attempts = 4, retry = "fixed 5ms", retry_if = is_busy)]
    async fn picky(ledger: State<Ledger>, says: String) -> Result<u32, AnyError> {
        match ledger.note(&says) {
            3 => Ok(3),
            _ => Err(AnyError::new(says)),
        }
    }
    each(async |place| {
        let worker = worker(&place).durable(picky).start().await.unwrap();
        let busy = place.ow.start(picky("busy".to_owned())).await.unwrap();
        let wrong = place.ow.start(picky("wrong".to_owned())).await.unwrap();
        assert_eq!(busy.result().await, Ok(3));
        assert!(matches!(wrong.result().await, Err(Failure::App(_))));
        assert_eq!((place.ledger.count("busy"), place.ledger.count("wrong")), (3, 1));
        worker.shutdown().await;
    })
    .await;
}

/// W35: a function that takes longer than a lease lasts is renewed, and started once, however many workers look.
#[tokio::test(flavor = "multi_thread")]
async fn w35_what_takes_longer_than_a_lease_starts_once() {
    #[durable]
    async fn long(ledger: State<Ledger>) -> Result<u32, AnyError> {
        let took = step("work", || async {
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            Ok::<u32, AnyError>(ledger.note("work"))
        });
        Ok(took.await?)
    }
    each(async |place| {
        let at = || worker(&place).durable(long).session_ttl(Duration::from_secs(1)).start();
        let (one, other) = (at().await.unwrap(), at().await.unwrap());
        let run = place.ow.start(long()).await.unwrap();
        assert_eq!(run.result().await, Ok(1));
        assert_eq!(place.ledger.count("work"), 1);
        one.shutdown().await;
        other.shutdown().await;
    })
    .await;
}

/// W37: an error of the user's that speaks of time is an error like others, and no deadline of the run.
#[tokio::test(flavor = "multi_thread")]
async fn w37_a_timeout_of_the_users_own_is_an_ordinary_error() {
    #[durable(max_attempts = 2, retry = "fixed 5ms", timeout = "10s")]
    async fn impatient(ledger: State<Ledger>) -> Result<u32, AnyError> {
        let calls = ledger.note("call");
        let asked = step("ask", || async {
            let answer = tokio::time::timeout(Duration::from_millis(5), std::future::pending::<u32>());
            if calls == 1 { answer.await.map_err(AnyError::new) } else { Ok(7) }
        });
        match asked.await {
            Ok(answer) => Ok(answer),
            Err(failure) => Err(AnyError::new(failure)),
        }
    }
    each(async |place| {
        let worker = worker(&place).durable(impatient).start().await.unwrap();
        let run = place.ow.start(impatient()).expiry(Duration::from_secs(60)).await.unwrap();
        let ended = run.result().await;
        assert!(!matches!(ended, Err(Failure::TimedOut)), "{ended:?}");
        assert!(matches!(run.standing().await.unwrap(), Standing::Succeeded | Standing::Failed));
        worker.shutdown().await;
    })
    .await;
}

#[durable]
async fn two_words(ledger: State<Ledger>) -> Result<Vec<u32>, Failure> {
    let first = signal::<u32>("word").await?;
    ledger.note("first");
    Ok(vec![first, signal::<u32>("word").await?])
}

/// W38: signals are kept when they come early, taken once each and in order, and refused where nobody can take them.
#[tokio::test(flavor = "multi_thread")]
async fn w38_no_signal_is_lost_taken_twice_or_sent_to_nobody() {
    each(async |place| {
        let early = place.ow.start(two_words()).await.unwrap();
        for word in [1, 2] {
            early.signal("word", &word).await.unwrap();
        }
        let worker = worker(&place).durable(two_words).start().await.unwrap();
        assert_eq!(early.result().await, Ok(vec![1, 2]));
        // At about the moment in which it begins to wait, many times over.
        for round in 0..20_u64 {
            let run = place.ow.start(two_words()).await.unwrap();
            tokio::time::sleep(Duration::from_micros(round * 300)).await;
            run.signal("word", &1).await.unwrap();
            run.signal("word", &2).await.unwrap();
            assert_eq!(run.result().await, Ok(vec![1, 2]));
        }
        let nobody = JobId::from_uuid(uuid::Uuid::new_v4());
        assert_eq!(place.ow.signal_run(nobody, "word", &1).await.unwrap_err().code(), Code::RunUnknown);
        assert_eq!(early.signal("word", &3).await.unwrap_err().code(), Code::RunEnded);
        worker.shutdown().await;
    })
    .await;
}

/// W38, D6: the same at any moment, while the run begins to wait, is parked, and is taken up again. The long version
/// has 10,000 moments in memory, and 200 in each database.
#[tokio::test(flavor = "multi_thread")]
async fn proof_w38_d6_signals_are_taken_once_at_whatever_moment_they_come() {
    let long = std::env::var("ONCEWARD_PROVE").is_ok_and(|how| how == "long");
    each(async |place| {
        let moments: u64 = match (place.ow.store().url().starts_with("memory"), long) {
            (true, true) => 10_000,
            (true, false) => 200,
            (false, true) => 200,
            (false, false) => 20,
        };
        let worker = worker(&place).durable(two_words).start().await.unwrap();
        let moment = async |round: u64| {
            let pause = |of: u64| tokio::time::sleep(Duration::from_micros(round * of % 4_999));
            let run = place.ow.start(two_words()).await.unwrap();
            pause(37).await;
            run.signal("word", &1).await.unwrap();
            pause(101).await;
            run.signal("word", &2).await.unwrap();
            assert_eq!(run.result().await, Ok(vec![1, 2]), "moment {round} on {}", place.ow.store().url());
        };
        stream::iter(0..moments).map(moment).buffer_unordered(16).collect::<Vec<()>>().await;
        worker.shutdown().await;
    })
    .await;
}

/// W40: whoever begins to wait after the end is told at once.
#[tokio::test(flavor = "multi_thread")]
async fn w40_a_result_that_is_there_before_anybody_waits_is_found() {
    each(async |place| {
        let worker = worker(&place).durable(charge).start().await.unwrap();
        let run = place.ow.start(charge()).await.unwrap();
        place.until(async || run.standing().await.unwrap() == Standing::Succeeded).await;
        let late = place.ow.run::<charge>(run.id());
        let told = tokio::time::timeout(Duration::from_secs(2), late.result()).await;
        assert_eq!(told.unwrap(), Ok(1));
        worker.shutdown().await;
    })
    .await;
}

/// W44: how a run stands is one row, however long its journal has become.
#[tokio::test(flavor = "multi_thread")]
async fn w44_looking_at_a_run_reads_no_journal() {
    #[durable]
    async fn talkative() -> Result<u32, AnyError> {
        for number in 0..50_u32 {
            step("say", || std::future::ready(Ok::<u32, AnyError>(number))).await?;
        }
        report("said", &50)?;
        signal::<u32>("go").await?;
        Ok(50)
    }
    let store = Faulty::new(Arc::new(MemoryStore::default()));
    let ow = Onceward::options().build(Arc::clone(&store) as Arc<dyn Store>).unwrap();
    let worker = ow.worker().durable(talkative).park_after(Duration::ZERO).start().await.unwrap();
    let run = ow.start(talkative()).await.unwrap();
    while run.standing().await.unwrap() != Standing::Parked {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let before = store.calls(Verb::RunLoad);
    for _ in 0..100 {
        assert_eq!(run.standing().await.unwrap(), Standing::Parked);
        assert_eq!(run.report().await.unwrap()["said"], 50);
    }
    assert_eq!(store.calls(Verb::RunLoad), before);
    run.signal("go", &1).await.unwrap();
    assert_eq!(run.result().await, Ok(50));
    worker.shutdown().await;
}

/// W45: what waits side by side gives its slot back exactly once: afterwards there are as many as before.
#[tokio::test(flavor = "multi_thread")]
async fn w45_waiting_side_by_side_costs_no_slot() {
    #[durable]
    async fn many(ledger: State<Ledger>) -> Result<usize, AnyError> {
        let naps = join_all((0..30).map(|_| sleep(Duration::from_millis(20)))).await;
        let children = join_all((0..10).map(|_| charge())).await;
        ledger.note("waited");
        Ok(naps.into_iter().filter(Result::is_ok).count()
            + children.into_iter().filter(Result::is_ok).count())
    }
    each(async |place| {
        let base = place.ow.worker().state(place.ledger.clone()).durable(many).durable(charge);
        let worker = base.concurrency(2).start().await.unwrap();
        for _ in 0..3 {
            let (one, two) = (place.ow.start(many()).await.unwrap(), place.ow.start(many()).await.unwrap());
            assert_eq!((one.result().await, two.result().await), (Ok(40), Ok(40)));
        }
        worker.shutdown().await;
    })
    .await;
}

/// W46: two people who retry a dead run at the same time have it done once more, and not twice.
#[tokio::test(flavor = "multi_thread")]
async fn w46_two_retries_of_one_run_are_one() {
    #[durable(max_attempts = 1)]
    async fn fragile(ledger: State<Ledger>) -> Result<u32, AnyError> {
        match ledger.note("call") {
            1 => Err(AnyError::new("not today")),
            calls => Ok(calls),
        }
    }
    each(async |place| {
        let worker = worker(&place).durable(fragile).start().await.unwrap();
        let run = place.ow.start(fragile()).await.unwrap();
        assert!(run.result().await.is_err());
        let (one, two) = tokio::join!(run.retry(), run.retry());
        // Both saw the same end: whoever comes second is told that it is history, if it comes late enough.
        assert!(one.is_ok() || two.is_ok());
        let late = [Code::TokenStale, Code::JobStateWrong, Code::RunEnded];
        for retried in [one, two] {
            match retried {
                Ok(retried) => assert_eq!(retried.result().await, Ok(2)),
                // It was too late by then: the run is under way again, or over.
                Err(error) => assert!(late.contains(&error.code()), "{error}"),
            }
        }
        assert_eq!(place.ledger.count("call"), 2);
        worker.shutdown().await;
    })
    .await;
}

/// W47: a run that nobody has begun ends when its time is over, and so do the children of one that takes too long.
#[tokio::test(flavor = "multi_thread")]
async fn w47_time_is_over_for_those_who_wait_and_for_children() {
    #[durable]
    async fn endless(ledger: State<Ledger>) -> Result<u32, AnyError> {
        let slept = sleep(Duration::from_secs(600)).await;
        ledger.note(&format!("{slept:?}"));
        slept?;
        Ok(0)
    }
    #[durable]
    async fn parent() -> Result<u32, AnyError> {
        Ok(endless().await?)
    }
    each(async |place| {
        let soon = Duration::from_millis(200);
        // Nobody has code for it yet.
        let early = place.ow.start(parent()).expiry(soon).await.unwrap();
        let worker_of_others = worker(&place).durable(charge).start().await.unwrap();
        tokio::time::sleep(soon).await;
        worker_of_others.shutdown().await;
        let worker = worker(&place).durable(parent).durable(endless).start().await.unwrap();
        assert!(early.result().await.is_err());
        assert_eq!(place.ledger.all().len(), 0, "it did not begin");
        let late = place.ow.start(parent()).expiry(soon).await.unwrap();
        assert!(late.result().await.is_err());
        // Its child had no time of its own, and has none left either.
        let jobs = async || place.ow.admin().jobs(&JobFilter::default(), None, 10).await.unwrap().rows;
        place.until(async || jobs().await.iter().all(|job| job.state.is_final())).await;
        let children = jobs().await.into_iter().filter(|job| job.parent.is_some());
        assert_eq!(children.map(|job| job.state).collect::<Vec<_>>(), [onceward_core::job::State::Dead]);
        worker.shutdown().await;
    })
    .await;
}

/// W47: and so does one that no worker will ever take, which its parent and who waits for it hear of.
#[tokio::test(flavor = "multi_thread")]
async fn w47_time_is_over_without_a_worker_as_well() {
    #[durable]
    async fn nobody_knows() -> Result<u32, AnyError> {
        Ok(1)
    }
    #[durable]
    async fn asks() -> Result<u32, AnyError> {
        Ok(nobody_knows().expiry(Duration::from_millis(300)).await.unwrap_or(7))
    }
    each(async |place| {
        let scheduler = place.ow.runner().scheduler().start().await.unwrap();
        let alone = place.ow.start(nobody_knows()).expiry(Duration::from_millis(300)).await.unwrap();
        assert_eq!(alone.result().await, Err(Failure::TimedOut));
        let row = place.ow.admin().job(alone.id()).await.unwrap();
        assert_eq!((row.state, row.attempted_at), (onceward_core::job::State::Dead, None));
        let worker = worker(&place).durable(asks).start().await.unwrap();
        let asking = place.ow.start(asks()).await.unwrap();
        assert_eq!(asking.result().await, Ok(7));
        worker.shutdown().await;
        scheduler.shutdown().await;
    })
    .await;
}

/// W48: a worker that shuts down leaves its runs to others at once, not when its lease has run out.
#[tokio::test(flavor = "multi_thread")]
async fn w48_a_worker_that_ends_hands_its_runs_on() {
    each(async |place| {
        let at = || {
            let base = place.ow.worker().state(place.ledger.clone()).durable(two_words);
            base.session_ttl(Duration::from_secs(60)).start()
        };
        let first = at().await.unwrap();
        let run = place.ow.start(two_words()).await.unwrap();
        run.signal("word", &1).await.unwrap();
        place.until(async || place.ledger.count("first") == 1).await;
        first.shutdown().await;
        let second = at().await.unwrap();
        let began = Instant::now();
        run.signal("word", &2).await.unwrap();
        assert_eq!(run.result().await, Ok(vec![1, 2]));
        assert!(began.elapsed() < Duration::from_secs(15), "not after a lease: {:?}", began.elapsed());
        second.shutdown().await;
    })
    .await;
}

/// W52: what was not there at all: cancelling, time-outs of one step, handles of children, new code for old runs.
#[tokio::test(flavor = "multi_thread")]
async fn w52_what_was_missing_is_there() {
    #[durable]
    async fn modern(ledger: State<Ledger>) -> Result<String, AnyError> {
        let new = patched("second edition")?;
        let hung = step("hung", std::future::pending::<Result<u32, AnyError>>);
        let hung = hung.timeout(Duration::from_millis(20)).await;
        let sent = step("sent", std::future::pending::<Result<u32, AnyError>>);
        let sent = sent.timeout(Duration::from_millis(20)).at_most_once().await;
        ledger.note("hung");
        let child = race(two_words(), sleep(Duration::from_millis(20))).await;
        let lost = matches!(child, onceward::durable::Either::Right(_));
        Ok(format!(
            "{new} {} {} {lost}",
            hung == Err(Failure::TimedOut),
            matches!(sent, Err(Failure::Uncertain(_)))
        ))
    }
    each(async |place| {
        let worker = worker(&place).durable(modern).durable(two_words).start().await.unwrap();
        let run = place.ow.start(modern()).await.unwrap();
        assert_eq!(run.result().await.unwrap(), "true true true true");
        let waits = place.ow.start(two_words()).await.unwrap();
        waits.cancel("no longer wanted").await.unwrap();
        assert_eq!(waits.result().await, Err(Failure::Cancelled));
        worker.shutdown().await;
    })
    .await;
}
