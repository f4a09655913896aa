//! Jobs through the public API, on the memory model: what handlers may say, and what becomes of it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::jobs_kit::{AtMostOnce, NOW, Number, client, job, until, until_that};
use onceward::jobs::{DedupeScope, OnConflict, State as JobState, Tuning};
use onceward::worker::{JobContext, Outcome, State, Stop};
use onceward::{BulkAction, Classify, Code, JobFilter, NotDone, Onceward, Queue, Replay};

#[tokio::test(flavor = "multi_thread")]
async fn a_typed_handler_gets_what_was_enqueued() {
    let ow = client().await;
    let enqueued = ow.enqueue(Number(42)).key("n:42").await.unwrap();
    assert!(enqueued.created);
    let handler = async |job: Number, factor: State<u32>, context: JobContext| {
        Ok::<_, std::io::Error>(job.0 * *factor + context.attempt())
    };
    ow.worker().job(handler).state(2_u32).run_until_empty(NOW).await.unwrap();
    let row = job(&ow, enqueued.id).await;
    assert_eq!((row.state, row.attempt), (JobState::Succeeded, 1));
    assert_eq!(row.result.unwrap().bytes.unwrap(), b"85");
    let again = ow.enqueue(Number(42)).key("n:42").await.unwrap();
    assert_eq!((again.id, again.created), (enqueued.id, false));
    let mismatch = ow.enqueue(Number(43)).key("n:42").await.unwrap_err();
    assert_eq!(mismatch.code(), Code::JobKeyMismatch);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_outcome_is_what_it_says() {
    outcomes_are_what_they_say(&client().await).await;
}

pub(crate) async fn outcomes_are_what_they_say(ow: &Onceward) {
    let handler = async |job: Number, context: JobContext| match (job.0, context.attempt()) {
        (0, 1) => Err(Outcome::retry("not yet")),
        (0, _) => Ok("at last"),
        (1, _) => Err(Outcome::dead("never")),
        (2, _) => Err(Outcome::Cancel { reason: "not wanted".to_owned() }),
        (3, _) => Err(Outcome::uncertain("who knows")),
        (4, 1) if context.job().token.get() == 0 => Err(Outcome::Snooze(Duration::from_millis(20))),
        (4, attempt) => Err(Outcome::dead(format!("attempt {attempt}"))),
        (5, 1) => Err(Outcome::RetryAfter { error: "later".to_owned(), after: Duration::from_millis(1) }),
        (6, 1 | 2) => panic!("boom"),
        _ => Ok("done"),
    };
    let jobs = ow.enqueue_many((0..7).map(Number)).await.unwrap();
    ow.worker().job(handler).run_until_empty(Duration::from_secs(5)).await.unwrap();
    let mut seen = Vec::new();
    for enqueued in &jobs {
        let row = job(ow, enqueued.id).await;
        seen.push((row.state, row.attempt, row.error.unwrap_or_default()));
    }
    let text = str::to_owned;
    assert_eq!(
        seen,
        [
            (JobState::Succeeded, 2, text("")),
            (JobState::Dead, 1, text("never")),
            (JobState::Cancelled, 1, text("not wanted")),
            (JobState::Uncertain, 1, text("who knows")),
            (JobState::Dead, 1, text("attempt 1")),
            (JobState::Succeeded, 2, text("")),
            (JobState::Succeeded, 3, text("")),
        ]
    );
    let attempts = job(ow, jobs[6].id).await.attempts();
    assert_eq!(attempts.len(), 3);
    assert_eq!(attempts[0].error.as_deref(), Some("the handler panicked: boom"));
}

/// The next attempt goes on where the last one was; what is too long is refused, and not written.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_finds_the_progress_of_the_one_before() {
    let ow = client().await;
    let enqueued = ow.enqueue(Number(3)).await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::<u32>::new()));
    let handler = async |job: Number, seen: State<Arc<Mutex<Vec<u32>>>>, context: JobContext| {
        let from = context.last_progress::<u32>().unwrap().unwrap_or(0);
        seen.lock().unwrap().push(from);
        context.progress(&(from + 1)).await.unwrap();
        let too_long = context.progress(&"x".repeat(4096)).await.unwrap_err();
        assert_eq!(too_long.code(), Code::ProgressInvalid);
        assert_eq!(context.last_progress::<bool>().map_err(|error| error.code()).is_err(), from > 0);
        if from < job.0 { Err("not yet") } else { Ok(()) }
    };
    let worker = ow.worker().job(handler).state(Arc::clone(&seen));
    worker.run_until_empty(NOW).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [0, 1, 2, 3]);
    let row = job(&ow, enqueued.id).await;
    assert_eq!((row.state, row.progress), (JobState::Succeeded, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_out_of_attempts_is_dead() {
    let ow = client().await;
    let enqueued = ow.enqueue(Number(1)).max_attempts(3).await.unwrap();
    let handler = async |_: Number| Err::<(), _>("no");
    ow.worker().job(handler).run_until_empty(NOW).await.unwrap();
    let row = job(&ow, enqueued.id).await;
    assert_eq!((row.state, row.attempt, row.error.as_deref()), (JobState::Dead, 3, Some("no")));
}

/// At most once is never tried again, unless it is proved that nothing had happened.
#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_is_not_tried_again() {
    at_most_once_is_tried_once(&client().await).await;
}

pub(crate) async fn at_most_once_is_tried_once(ow: &Onceward) {
    let starts = Arc::new(AtomicU32::new(0));
    let handler = async |job: AtMostOnce, starts: State<Arc<AtomicU32>>, context: JobContext| {
        starts.fetch_add(1, Ordering::SeqCst);
        match (job.0, context.attempt()) {
            (0, _) => std::fs::read_to_string("/no/such/file").map(drop).map_err(NotDone::from),
            (1, 1) => Err("no route").not_started(),
            (2, _) => std::future::pending().await,
            (3, _) => panic!("boom"),
            _ => Ok(()),
        }
    };
    let jobs: Vec<_> = (0..5).map(|n| ow.enqueue(AtMostOnce(n)).timeout(Duration::from_millis(50))).collect();
    let jobs = ow.enqueue_many(jobs).await.unwrap();
    ow.worker().job(handler).state(Arc::clone(&starts)).run_until_empty(NOW).await.unwrap();
    let mut states = Vec::new();
    for enqueued in &jobs {
        states.push(job(ow, enqueued.id).await.state);
    }
    use JobState::{Dead, Succeeded, Uncertain};
    assert_eq!(states, [Dead, Succeeded, Uncertain, Uncertain, Succeeded]);
    assert_eq!(starts.load(Ordering::SeqCst), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_takes_too_long_has_failed() {
    attempts_have_their_time(&client().await).await;
}

pub(crate) async fn attempts_have_their_time(ow: &Onceward) {
    let enqueued = ow.enqueue(Number(1)).timeout(Duration::from_millis(30)).await.unwrap();
    let handler = async |_: Number, context: JobContext| {
        if context.attempt() == 1 {
            std::future::pending::<()>().await;
        }
    };
    ow.worker().job(handler).run_until_empty(NOW).await.unwrap();
    let row = job(ow, enqueued.id).await;
    assert_eq!((row.state, row.attempt), (JobState::Succeeded, 2));
    assert_eq!(row.past[0].error.as_deref(), Some("it took longer than 30ms"));
}

/// A payload nobody can read is dead, with the reason; the worker goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_cant_be_read_is_dead_with_the_reason() {
    let ow = client().await;
    let bad = ow.enqueue_raw("test.number", "{\"n\":\"\\u0000\"}", "application/json").await.unwrap();
    let good = ow.enqueue(Number(1)).await.unwrap();
    ow.worker().job(async |_: Number| ()).run_until_empty(NOW).await.unwrap();
    let row = job(&ow, bad.id).await;
    assert_eq!((row.state, row.attempt), (JobState::Dead, 1));
    assert!(row.error.as_deref().unwrap().starts_with("OW0706: "), "{:?}", row.error);
    assert_eq!(job(&ow, good.id).await.state, JobState::Succeeded);
}

/// A kind nobody knows waits.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_kind_is_left_alone() {
    let ow = client().await;
    let unknown = ow.enqueue_raw("test.unknown", [0, 159, 146, 150], "image/x-odd").await.unwrap();
    ow.worker().job(async |_: Number| ()).run_until_empty(NOW).await.unwrap();
    let row = job(&ow, unknown.id).await;
    assert_eq!((row.state, row.attempt, row.token.get()), (JobState::Ready, 0, 0));
    let read = async |context: JobContext| Ok::<_, String>(context.payload().bytes.len());
    ow.worker().raw("test.unknown", read).run_until_empty(NOW).await.unwrap();
    assert_eq!(job(&ow, unknown.id).await.result.unwrap().bytes.unwrap(), b"4");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_past_its_deadline_is_not_started() {
    deadlines_hold(&client().await).await;
}

pub(crate) async fn deadlines_hold(ow: &Onceward) {
    let past = std::time::SystemTime::now() - Duration::from_secs(1);
    // By its key it might have been enqueued before.
    let enqueued = ow.enqueue(Number(1)).key("k").deadline(past).await.unwrap();
    ow.worker().job(async |_: Number| -> () { panic!("never") }).run_until_empty(NOW).await.unwrap();
    let row = job(ow, enqueued.id).await;
    assert_eq!(row.state, JobState::Dead);
    assert!(row.error.unwrap().contains("deadline"));
}

/// J8: a running job is told at the next renewal, and ends as cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn j8_a_running_job_is_told_that_it_was_called_off() {
    running_jobs_are_told(&client().await).await;
}

pub(crate) async fn running_jobs_are_told(ow: &Onceward) {
    let [listens, ignores] = [1, 2].map(|n| ow.enqueue(Number(n)));
    let (listens, ignores) = (listens.await.unwrap().id, ignores.await.unwrap().id);
    let handler = async |job: Number, context: JobContext| {
        if job.0 == 1 {
            assert_eq!(context.cancelled().await, Stop::CalledOff);
            return Err("told to stop");
        }
        std::future::pending::<()>().await;
        Ok(())
    };
    let worker = ow.worker().job(handler).session_ttl(Duration::from_millis(300));
    let worker = worker.grace(Duration::from_millis(50)).start().await.unwrap();
    for id in [listens, ignores] {
        until(ow, id, JobState::Running).await;
        assert!(!ow.admin().cancel_job(id, None, Some("test")).await.unwrap());
        until(ow, id, JobState::Cancelled).await;
    }
    worker.shutdown().await;
}

/// What was not started is handed back uncharged, what runs has its time, what does not end is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_hands_back_and_waits() {
    a_shutdown_hands_back(&client().await).await;
}

pub(crate) async fn a_shutdown_hands_back(ow: &Onceward) {
    let jobs = ow.enqueue_many((0..20).map(Number)).await.unwrap();
    let started = Arc::new(Mutex::new(Vec::new()));
    let handler = async |job: Number, started: State<Arc<Mutex<Vec<u32>>>>| {
        started.lock().unwrap().push(job.0);
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let worker = ow.worker().job(handler).state(Arc::clone(&started)).concurrency(3).start().await.unwrap();
    while started.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(worker.is_ready() && worker.running() > 0);
    worker.shutdown().await;
    let started = started.lock().unwrap().clone();
    for (n, enqueued) in jobs.iter().enumerate() {
        let row = job(ow, enqueued.id).await;
        let ran = started.contains(&u32::try_from(n).unwrap());
        let expected = if ran { (JobState::Succeeded, 1) } else { (JobState::Ready, 0) };
        assert_eq!((row.state_now(), row.attempt), expected, "job {n}");
    }
    assert!(ow.admin().workers().await.unwrap().rows.iter().all(|row| row.running == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_worker_takes_no_more() {
    drained_workers_take_no_more(&client().await).await;
}

pub(crate) async fn drained_workers_take_no_more(ow: &Onceward) {
    let worker = ow.worker().job(async |_: Number| ()).start().await.unwrap();
    let first = ow.enqueue(Number(1)).await.unwrap();
    until(ow, first.id, JobState::Succeeded).await;
    worker.drained().await;
    assert!(!worker.is_ready());
    let second = ow.enqueue(Number(2)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(job(ow, second.id).await.state_now(), JobState::Ready);
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_asked_to_drain_takes_no_more_until_it_is_asked_again() {
    workers_are_asked_to_drain(&client().await).await;
}

pub(crate) async fn workers_are_asked_to_drain(ow: &Onceward) {
    let worker = ow.worker().job(async |_: Number| ()).session_ttl(Duration::from_millis(150)).start().await;
    let worker = worker.unwrap();
    ow.admin().drain_worker(worker.session().unwrap(), true).await.unwrap();
    while worker.is_ready() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let enqueued = ow.enqueue(Number(2)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(job(ow, enqueued.id).await.state_now(), JobState::Ready);
    ow.admin().drain_worker(worker.session().unwrap(), false).await.unwrap();
    until(ow, enqueued.id, JobState::Succeeded).await;
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn until_empty_waits_for_what_is_due_within_the_horizon() {
    until_empty_waits(&client().await).await;
}

pub(crate) async fn until_empty_waits(ow: &Onceward) {
    let soon = ow.enqueue(Number(1)).delay(Duration::from_millis(150)).await.unwrap();
    let late = ow.enqueue(Number(2)).delay(Duration::from_secs(7200)).await.unwrap();
    let elsewhere = ow.enqueue(Number(3)).queue("other").await.unwrap();
    ow.worker().job(async |_: Number| ()).run_until_empty(Duration::from_secs(3600)).await.unwrap();
    assert_eq!(job(ow, soon.id).await.state, JobState::Succeeded);
    assert_eq!(job(ow, late.id).await.state, JobState::Scheduled);
    assert_eq!(job(ow, elsewhere.id).await.state, JobState::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_route_jobs_to_workers_that_offer_one() {
    tags_route_jobs(&client().await).await;
}

pub(crate) async fn tags_route_jobs(ow: &Onceward) {
    let plain = ow.enqueue(Number(1)).await.unwrap();
    let gpu = ow.enqueue(Number(2)).tag("gpu").tag("eu").await.unwrap();
    ow.worker().job(async |_: Number| ()).tags(["us"]).run_until_empty(NOW).await.unwrap();
    assert_eq!(job(ow, plain.id).await.state, JobState::Succeeded);
    assert_eq!(job(ow, gpu.id).await.state, JobState::Ready);
    ow.worker().job(async |_: Number| ()).tags(["gpu"]).run_until_empty(NOW).await.unwrap();
    assert_eq!(job(ow, gpu.id).await.state, JobState::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_share_by_their_weights() {
    queues_share(&client().await).await;
}

pub(crate) async fn queues_share(ow: &Onceward) {
    let of = |queue: &'static str| (0..2_000).map(move |n| (queue, n));
    let jobs = of("a").chain(of("b")).map(|(queue, n)| ow.enqueue(Number(n)).queue(queue));
    ow.enqueue_many(jobs.collect::<Vec<_>>()).await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let handler = async |_: Number, seen: State<Arc<Mutex<Vec<bool>>>>, context: JobContext| {
        seen.lock().unwrap().push(context.job().queue.as_str() == "a");
    };
    let worker = ow.worker().job(handler).state(Arc::clone(&seen)).queue("a", 9).queue("b", 1);
    worker.run_until_empty(NOW).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 4_000);
    let of_a = seen.iter().take(1_000).filter(|a| **a).count();
    assert!(of_a > 700 && of_a < 990, "{of_a} of the first 1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_higher_priority_goes_first() {
    priorities_hold(&client().await).await;
}

pub(crate) async fn priorities_hold(ow: &Onceward) {
    for n in [1, 2, 3] {
        ow.enqueue(Number(n)).priority(i16::try_from(n).unwrap()).await.unwrap();
    }
    let seen = Arc::new(Mutex::new(Vec::<u32>::new()));
    let handler = async |job: Number, seen: State<Arc<Mutex<Vec<u32>>>>| seen.lock().unwrap().push(job.0);
    ow.worker().job(handler).state(Arc::clone(&seen)).concurrency(1).run_until_empty(NOW).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [3, 2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dedupe_key_keeps_others_away() {
    let ow = client().await;
    let first = ow.enqueue(Number(1)).dedupe("k", DedupeScope::UntilDone).await.unwrap();
    let second = ow.enqueue(Number(2)).dedupe("k", DedupeScope::UntilDone).await.unwrap();
    assert_eq!((second.id, second.created), (first.id, false));
    let replaced = ow.enqueue(Number(3)).dedupe("k", DedupeScope::UntilDone).on_conflict(OnConflict::Replace);
    assert_eq!(replaced.await.unwrap().id, first.id);
    let show = async |job: Number| Ok::<_, String>(job.0);
    ow.worker().job(show).run_until_empty(NOW).await.unwrap();
    assert_eq!(job(&ow, first.id).await.result.unwrap().bytes.unwrap(), b"3");
    assert!(ow.enqueue(Number(4)).dedupe("k", DedupeScope::UntilDone).await.unwrap().created);
    let misuse = ow.enqueue(Number(4)).on_conflict(OnConflict::Replace).await.unwrap_err();
    assert_eq!(misuse.code(), Code::KeyInvalid);
}

/// A dedupe key until the start is free while its job runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_dedupe_key_until_started_is_free_in_the_handler() {
    a_start_frees_the_dedupe_key(&client().await).await;
}

pub(crate) async fn a_start_frees_the_dedupe_key(ow: &Onceward) {
    let enqueue = |n| ow.enqueue(Number(n)).dedupe("k", DedupeScope::UntilStarted);
    let first = enqueue(0).await.unwrap();
    assert!(!enqueue(9).await.unwrap().created);
    let handler = async |job: Number, context: JobContext| {
        if job.0 == 0 {
            let next = context.client().enqueue(Number(1)).dedupe("k", DedupeScope::UntilStarted).await?;
            assert!(next.created);
        }
        Ok::<_, onceward::Error>(())
    };
    ow.worker().job(handler).run_until_empty(NOW).await.unwrap();
    assert_eq!(job(ow, first.id).await.state, JobState::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_says_what_is_wrong_before_it_starts() {
    let ow = client().await;
    let code = async |worker: onceward::worker::WorkerBuilder| worker.start().await.unwrap_err().code();
    assert_eq!(code(ow.worker()).await, Code::WorkerIdle);
    let one = async |_: Number| ();
    assert_eq!(code(ow.worker().job(one).job(one)).await, Code::HandlerTwice);
    let needs = async |_: Number, _: State<String>| ();
    let error = ow.worker().job(needs).start().await.unwrap_err();
    assert_eq!(error.code(), Code::StateMissing);
    assert!(error.message().contains("alloc::string::String"), "{error}");
    assert_eq!(code(ow.worker().job(one).queues([""])).await, Code::QueueInvalid);
    for jobs in [0, 100_001, usize::MAX] {
        assert_eq!(code(ow.worker().job(one).concurrency(jobs)).await, Code::LimitInvalid, "{jobs}");
    }
    assert_eq!(code(ow.worker().job(one).queue("mail", 0)).await, Code::LimitInvalid);
    assert_eq!(code(ow.worker().job(one).session_ttl(NOW)).await, Code::TtlInvalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_store_shall_see_is_refused_at_the_edge() {
    let ow = client().await;
    let code = async |enqueue: onceward::jobs::Enqueue| enqueue.await.unwrap_err().code();
    assert_eq!(code(ow.enqueue(Number(1)).priority(2_000)).await, Code::PriorityInvalid);
    assert_eq!(code(ow.enqueue(Number(1)).max_attempts(0)).await, Code::AttemptsInvalid);
    assert_eq!(code(ow.enqueue(Number(1)).timeout(NOW)).await, Code::TimeoutInvalid);
    assert_eq!(code(ow.enqueue(Number(1)).queue("a\nb")).await, Code::QueueInvalid);
    assert_eq!(code(ow.enqueue(Number(1)).tag("")).await, Code::TagsInvalid);
    assert_eq!(code(ow.enqueue(Number(1)).delay(Duration::MAX)).await, Code::DelayInvalid);
    assert_eq!(code(ow.enqueue(Number(1)).key_ttl(NOW)).await, Code::KeyInvalid);
    let from_now = |seconds| std::time::SystemTime::now() + Duration::from_secs(seconds);
    let (past, soon) = (std::time::SystemTime::now() - Duration::from_secs(1), from_now(60));
    assert_eq!(code(ow.enqueue(Number(1)).deadline(past)).await, Code::DelayInvalid);
    let hour = Duration::from_secs(3_600);
    assert_eq!(code(ow.enqueue(Number(1)).delay(hour).deadline(soon)).await, Code::DelayInvalid);
    assert!(ow.enqueue(Number(1)).delay(hour).deadline(from_now(3_700)).await.is_ok());
    assert_eq!(code(ow.enqueue_raw("", "x", "y")).await, Code::KindInvalid);
    assert_eq!(code(ow.enqueue_raw("k", vec![0; 2 << 20], "y")).await, Code::PayloadTooLarge);
}

/// An enqueue in this process wakes the worker at once, and a due time is met without polling.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_is_woken() {
    let ow = client().await;
    let worker = ow.worker().job(async |_: Number| ()).start().await.unwrap();
    // By now it polls every second or so.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let began = std::time::Instant::now();
    let enqueued = ow.enqueue(Number(1)).await.unwrap();
    until(&ow, enqueued.id, JobState::Succeeded).await;
    assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
    let began = std::time::Instant::now();
    let enqueued = ow.enqueue(Number(1)).delay(Duration::from_millis(400)).await.unwrap();
    until(&ow, enqueued.id, JobState::Succeeded).await;
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    worker.shutdown().await;
}

/// J13: receivers recognise a job and its replays by the same key, and a request is replayed once.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_recognised_by_its_root() {
    replays_are_recognised(&client().await).await;
}

pub(crate) async fn replays_are_recognised(ow: &Onceward) {
    let key = async |_: Number, context: JobContext| Ok::<_, String>(context.idempotency_key());
    let first = ow.enqueue(Number(1)).await.unwrap();
    ow.worker().job(key).run_until_empty(NOW).await.unwrap();
    let how = Replay { force: true, request: Some("r-1".to_owned()) };
    let copy = ow.admin().replay_job(first.id, &how).await.unwrap();
    assert_eq!(ow.admin().replay_job(first.id, &how).await.unwrap().id, copy.id);
    ow.worker().job(key).run_until_empty(NOW).await.unwrap();
    let (first, copy) =
        (job(ow, first.id).await, until_that(ow, copy.id, "run", |row| row.attempt == 1).await);
    assert_eq!((copy.replay_of, copy.root), (Some(first.id), first.id));
    assert_eq!(copy.result, first.result);
    let again = ow.admin().replay_job(first.id, &how).await.unwrap();
    assert_eq!((again.id, job(ow, copy.id).await.attempt), (copy.id, 1), "one request makes one job (J13)");
}

/// J13: also where neither the job nor its replay is to be kept, a request that is sent again finds what it has made.
#[tokio::test(flavor = "multi_thread")]
async fn j13_a_request_finds_its_replay_although_that_was_not_to_be_kept() {
    requests_find_their_replays(&client().await).await;
}

pub(crate) async fn requests_find_their_replays(ow: &Onceward) {
    let dead = ow.enqueue(Number(1)).retain(Duration::ZERO).await.unwrap().id;
    ow.worker().job(async |_: Number| Outcome::dead("no")).run_until_empty(NOW).await.unwrap();
    let how = Replay { force: false, request: Some("r-1".to_owned()) };
    let runs = Arc::new(AtomicU32::new(0));
    let mut made = Vec::new();
    for _ in 0..2 {
        made.push(ow.admin().replay_job(dead, &how).await.unwrap().id);
        let handler = async |_: Number, runs: State<Arc<AtomicU32>>| {
            runs.fetch_add(1, Ordering::SeqCst);
        };
        ow.worker().job(handler).state(Arc::clone(&runs)).run_until_empty(NOW).await.unwrap();
    }
    assert_eq!((made[0], runs.load(Ordering::SeqCst)), (made[1], 1));
    assert_eq!(job(ow, made[0]).await.state, JobState::Succeeded);
}

/// J13: a bulk replay that is repeated under its request's name makes no second copies, nor copies of what it has made.
#[tokio::test(flavor = "multi_thread")]
async fn j13_a_bulk_replay_asked_for_twice_makes_one_copy_of_each() {
    bulk_replays_make_one_copy(&client().await).await;
}

pub(crate) async fn bulk_replays_make_one_copy(ow: &Onceward) {
    let dies = async |_: Number| Outcome::dead("no");
    ow.enqueue_many((0..5).map(Number)).await.unwrap();
    ow.worker().job(dies).run_until_empty(NOW).await.unwrap();
    let dead = JobFilter { state: Some(JobState::Dead), ..JobFilter::default() };
    let again = BulkAction::Replay(Replay { force: false, request: Some("tuesday".to_owned()) });
    let first = ow.admin().each_job(&dead, &again, None, 100, false).await.unwrap();
    assert_eq!((first.changed.len(), first.replayed.len(), first.left.len()), (5, 5, 0));
    ow.worker().job(dies).run_until_empty(NOW).await.unwrap();
    let second = ow.admin().each_job(&dead, &again, None, 100, false).await.unwrap();
    assert_eq!((&second.changed, &second.replayed), (&first.changed, &first.replayed));
    assert_eq!(second.left.len(), 5, "what it has made itself");
    assert_eq!(ow.admin().jobs(&JobFilter::default(), None, 100).await.unwrap().rows.len(), 10);
}

/// W60: who finds a job under his key hears in which state it is; and of many jobs, which one was refused.
#[tokio::test(flavor = "multi_thread")]
async fn w60_who_finds_a_job_hears_its_state() {
    let ow = client().await;
    let keyed = |n: u32| ow.enqueue(Number(n)).key(format!("n:{n}"));
    let first = ow.enqueue_many((0..4).map(keyed)).await.unwrap();
    assert!(first.iter().all(|job| job.created && job.existing_state.is_none()));
    let handler = async |job: Number| match job.0 {
        0 => Outcome::dead("no"),
        1 => Outcome::Cancel { reason: "no".to_owned() },
        2 => Outcome::uncertain("who knows"),
        _ => Outcome::Done(None),
    };
    ow.worker().job(handler).run_until_empty(NOW).await.unwrap();
    use JobState::{Cancelled, Dead, Succeeded, Uncertain};
    let states = [Dead, Cancelled, Uncertain, Succeeded].map(Some);
    for (n, state) in states.into_iter().enumerate() {
        let found = keyed(u32::try_from(n).unwrap()).await.unwrap();
        assert_eq!((found.id, found.created, found.existing_state), (first[n].id, false, state));
    }
    let found = ow.enqueue_many((0..4).map(keyed)).await.unwrap();
    assert_eq!(found.iter().map(|job| job.existing_state).collect::<Vec<_>>(), states);
    let json = serde_json::to_value(found[0]).unwrap();
    assert_eq!(json["existing_state"], "dead");
    assert!(serde_json::to_value(first[0]).unwrap().get("existing_state").is_none());
}

/// One job that is refused keeps no other away, and each answer is about its own job.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_jobs_each_has_its_own_answer() {
    let ow = client().await;
    ow.enqueue(Number(1)).key("taken").await.unwrap();
    let jobs = || {
        (0..2_500).map(|n| ow.enqueue(Number(n)).key(if n == 1_200 { "taken".into() } else { n.to_string() }))
    };
    let answers = ow.enqueue_each(jobs()).await.unwrap();
    for (n, answer) in answers.iter().enumerate() {
        match answer {
            Ok(job) => assert!(job.created && n != 1_200, "{n}"),
            Err(error) => assert_eq!((error.code(), n), (Code::JobKeyMismatch, 1_200)),
        }
    }
    let error = ow.enqueue_many(jobs()).await.unwrap_err();
    assert_eq!(error.code(), Code::JobKeyMismatch);
    let nothing = ow.enqueue_each([ow.enqueue(Number(1)), ow.enqueue(Number(2)).priority(2_000)]).await;
    assert_eq!(
        nothing.unwrap_err().code(),
        Code::PriorityInvalid,
        "bad input is refused before anything is sent"
    );
}

/// A queue says how long jobs are kept that say nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_says_how_long_its_jobs_are_kept() {
    queues_say_how_long_jobs_are_kept(&client().await).await;
}

pub(crate) async fn queues_say_how_long_jobs_are_kept(ow: &Onceward) {
    let day = Duration::from_secs(86_400);
    let brief_queue = Queue::new("brief").unwrap();
    let tuning = Tuning { retain: Some(Duration::ZERO), ..Tuning::default() };
    ow.admin().tune_queue(&brief_queue, tuning).await.unwrap();
    let brief = |n| ow.enqueue(Number(n)).queue("brief");
    let [gone, own, other] = [brief(1), brief(2).retain(day), ow.enqueue(Number(3))];
    let [gone, own, other] = [gone.await.unwrap().id, own.await.unwrap().id, other.await.unwrap().id];
    let at_most_once = ow.enqueue(AtMostOnce(4)).queue("brief").await.unwrap().id;
    let worker =
        ow.worker().job(async |_: Number| ()).job(async |_: AtMostOnce| ()).queues(["default", "brief"]);
    worker.run_until_empty(NOW).await.unwrap();
    assert_eq!(ow.admin().job(gone).await.unwrap_err().code(), Code::JobAbsent);
    for id in [own, other, at_most_once] {
        assert_eq!(job(ow, id).await.state, JobState::Succeeded);
    }
    let seen = ow.admin().queue_tuning(&brief_queue).await.unwrap();
    assert_eq!(seen, tuning);
    let refused = Tuning { ageing: Some(Duration::from_millis(1)), ..tuning };
    let refused = ow.admin().tune_queue(&brief_queue, refused).await.unwrap_err();
    assert_eq!(refused.code(), Code::LimitInvalid);
}

/// What a layer sees, and what it may say.
#[cfg(feature = "tower")]
#[tokio::test(flavor = "multi_thread")]
async fn layers_stand_around_handlers() {
    use onceward::worker::JobRequest;
    use tower::ServiceExt;

    let ow = client().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let jobs = ow.enqueue_many((0..3).map(Number)).await.unwrap();
    let log = Arc::clone(&seen);
    let watch = tower::layer::layer_fn(move |inner: onceward::worker::JobService| {
        let log = Arc::clone(&log);
        tower::service_fn(move |request: JobRequest| {
            let (inner, log, context) = (inner.clone(), Arc::clone(&log), request.context.clone());
            async move {
                if context.payload().bytes == b"1" {
                    return Err("the layer says no");
                }
                let outcome = inner.oneshot(request).await.unwrap();
                log.lock().unwrap().push((context.id(), matches!(outcome, Outcome::Done(_))));
                Ok(outcome)
            }
        })
    });
    let handler = async |job: Number| if job.0 == 2 { Err("handler") } else { Ok(()) };
    let worker = ow.worker().job(handler).layer(watch).concurrency(1);
    let jobs: Vec<_> = jobs.iter().map(|enqueued| enqueued.id).collect();
    let worker = worker.start().await.unwrap();
    until(&ow, jobs[0], JobState::Succeeded).await;
    let refused = until_that(&ow, jobs[1], "refused", |row| row.attempt > 0).await;
    assert_eq!(refused.past[0].error.as_deref(), Some("the layer says no"));
    until_that(&ow, jobs[2], "failed", |row| row.attempt > 0).await;
    worker.shutdown().await;
    let seen = seen.lock().unwrap();
    assert!(seen.contains(&(jobs[0], true)) && seen.contains(&(jobs[2], false)));
    assert!(seen.iter().all(|(id, _)| *id != jobs[1]));
}

/// J9: a dead job whose dedupe key another one has is not run again; a replay is a job of its own.
#[tokio::test(flavor = "multi_thread")]
async fn j9_a_retry_gives_way_to_the_job_that_has_the_key() {
    let ow = client().await;
    let fails = async |_: Number| Outcome::dead("no such address");
    let sync = |number| ow.enqueue(Number(number)).dedupe("sync", DedupeScope::UntilDone);
    let first = sync(1).await.unwrap().id;
    ow.worker().job(fails).run_until_empty(NOW).await.unwrap();
    let second = sync(2).delay(Duration::from_secs(3_600)).await.unwrap();
    assert!(second.created, "the first one has let go of it");
    let admin = ow.admin();
    let refused = admin.retry_job(first, None, None).await.unwrap_err();
    assert_eq!(refused.code(), Code::JobKeyTaken);
    assert!(refused.message().contains(&second.id.to_string()), "{refused}");
    let dead = JobFilter { state: Some(JobState::Dead), ..JobFilter::default() };
    for dry_run in [true, false] {
        let bulk = admin.each_job(&dead, &BulkAction::Retry, None, 10, dry_run).await.unwrap();
        assert_eq!((bulk.changed.as_slice(), bulk.left.as_slice()), (&[][..], &[first][..]));
    }
    let replay = admin.replay_job(first, &Replay::default()).await.unwrap();
    assert_eq!((replay.replay_of, job(&ow, replay.id).await.dedupe_key), (first, None));
    admin.cancel_job(second.id, None, None).await.unwrap();
    admin.retry_job(first, None, None).await.unwrap();
    assert_eq!(sync(3).await.unwrap().id, first, "alive again, it has its key again");
    assert_eq!(job(&ow, first).await.dedupe_key.unwrap().as_str(), "sync");
    ow.worker().job(async |_: Number| ()).run_until_empty(NOW).await.unwrap();
    assert!(sync(4).await.unwrap().created);
}
