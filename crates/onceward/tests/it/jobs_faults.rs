//! Jobs where things go wrong: answers get lost, stores are away, sessions run out, processes die.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::jobs_kit::{AtMostOnce, NOW, Number, before, faulty, job, until, until_that};
use onceward::Onceward;
use onceward::jobs::State as JobState;
use onceward::store::Store;
use onceward::store::faulty::{Fault, Verb};
use onceward::store::memory::MemoryStore;
use onceward::worker::{JobContext, State, Stop};

type Ledger = Arc<Mutex<HashMap<u32, u32>>>;

async fn note(job: Number, ledger: State<Ledger>) {
    *ledger.lock().unwrap().entry(job.0).or_default() += 1;
}

/// J2, J3, N22: whatever gets lost on the way, each job runs once and its end is recorded once.
#[tokio::test(flavor = "multi_thread")]
async fn j2_lost_answers_lose_and_repeat_nothing() {
    let (ow, store) = faulty();
    let ledger = Ledger::default();
    let worker = ow.worker().job(note).state(Arc::clone(&ledger)).start().await.unwrap();
    store.random(7, 3, [Fault::ReplyLost, Fault::RequestLost, Fault::Away, Fault::Busy]);
    let mut jobs = Vec::new();
    for n in 0..300 {
        jobs.push(ow.enqueue(Number(n)).await.unwrap().id);
    }
    let many = ow.enqueue_many((300..3_000).map(Number)).await.unwrap();
    jobs.extend(many.iter().map(|enqueued| enqueued.id));
    let began = Instant::now();
    while ledger.lock().unwrap().len() < 3_000 || worker.held() > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "{} of 3000", ledger.lock().unwrap().len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store.heal();
    worker.shutdown().await;
    assert!(ledger.lock().unwrap().values().all(|count| *count == 1));
    for id in jobs {
        let row = job(&ow, id).await;
        assert_eq!((row.state, row.attempt), (JobState::Succeeded, 1));
    }
}

/// The same for work that runs at most once: the start is written down through lost answers.
#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_holds_through_lost_answers() {
    let (ow, store) = faulty();
    let starts = Arc::new(Mutex::new(HashMap::<u32, u32>::new()));
    let handler = async |job: AtMostOnce, starts: State<Ledger>| {
        *starts.lock().unwrap().entry(job.0).or_default() += 1;
    };
    let jobs = ow.enqueue_many((0..200).map(AtMostOnce)).await.unwrap();
    store.random(11, 3, [Fault::ReplyLost, Fault::RequestLost, Fault::Away]);
    let worker = ow.worker().job(handler).state(Arc::clone(&starts)).concurrency(10).start();
    let worker = worker.await.unwrap();
    for enqueued in &jobs {
        until_that_healed(&ow, &store, enqueued.id).await;
    }
    store.heal();
    worker.shutdown().await;
    assert_eq!(starts.lock().unwrap().len(), 200);
    assert!(starts.lock().unwrap().values().all(|count| *count == 1));
}

async fn until_that_healed(
    ow: &Onceward,
    store: &onceward::store::faulty::Faulty,
    id: onceward::jobs::JobId,
) {
    let name = onceward::store::JobRef { namespace: ow.namespace().clone(), id };
    for _ in 0..3000 {
        let seen = store.inner().job_lookup(core::slice::from_ref(&name)).await.unwrap();
        if seen.rows[0].as_ref().is_some_and(|row| row.state.is_final()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{id} is not over within thirty seconds");
}

/// The answer to an enqueue gets lost again and again, and in between a worker of another process has run the job and
/// forgotten it: what runs at most once is found nevertheless, and not made anew.
#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_is_not_run_again_when_its_enqueue_is_sent_again() {
    let (ow, store) = faulty();
    let other = Onceward::options().short_ttls_for_tests().build(Arc::clone(store.inner())).unwrap();
    let starts = Arc::new(AtomicU32::new(0));
    let handler = async |_: AtMostOnce, starts: State<Arc<AtomicU32>>| {
        starts.fetch_add(1, Ordering::SeqCst);
    };
    let worker = other.worker().job(handler).state(Arc::clone(&starts)).start().await.unwrap();
    store.times(6, Verb::JobEnqueue, Fault::ReplyLost);
    let enqueued = ow.enqueue(AtMostOnce(1)).retain(Duration::ZERO).await.unwrap();
    assert_eq!(store.calls(Verb::JobEnqueue), 7, "it was sent again and again");
    until(&other, enqueued.id, JobState::Succeeded).await;
    worker.shutdown().await;
    other.worker().job(handler).state(Arc::clone(&starts)).run_until_empty(NOW).await.unwrap();
    assert_eq!(starts.load(Ordering::SeqCst), 1);
}

/// Ten thousand jobs, three workers with a client each: every job runs once, by one of them.
#[tokio::test(flavor = "multi_thread")]
async fn j3_several_workers_share_ten_thousand_jobs() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let ledger = Ledger::default();
    let by_worker = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
    let mut workers = Vec::new();
    for n in 0..3 {
        let ow = Onceward::options().owner(format!("w{n}")).build(Arc::clone(&store)).unwrap();
        let by_worker = Arc::clone(&by_worker);
        let handler = move |job: Number, ledger: State<Ledger>, context: JobContext| {
            let by_worker = Arc::clone(&by_worker);
            async move {
                *by_worker.lock().unwrap().entry(context.client().owner().to_string()).or_default() += 1;
                note(job, ledger).await;
            }
        };
        workers.push(ow.worker().job(handler).state(Arc::clone(&ledger)).start().await.unwrap());
    }
    let ow = Onceward::options().build(store).unwrap();
    let began = Instant::now();
    ow.enqueue_many((0..10_000).map(Number)).await.unwrap();
    while ledger.lock().unwrap().len() < 10_000 {
        assert!(began.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for worker in workers {
        worker.shutdown().await;
    }
    assert!(ledger.lock().unwrap().values().all(|count| *count == 1));
    assert_eq!(by_worker.lock().unwrap().len(), 3, "{:?}", by_worker.lock().unwrap());
}

/// J5, J7: a worker that could not renew stops what it runs and records nothing of it; the job runs again, elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn j5_a_lost_session_stops_its_jobs_and_settles_nothing() {
    lost_sessions_stop_their_jobs(&crate::jobs_kit::client().await).await;
}

pub(crate) async fn lost_sessions_stop_their_jobs(ow: &Onceward) {
    let (ow, store) = before(ow);
    let enqueued = ow.enqueue(Number(1)).await.unwrap();
    let stops = Arc::new(Mutex::new(Vec::<Stop>::new()));
    let runs = Arc::new(AtomicU32::new(0));
    let handler = async |_: Number,
                         stops: State<Arc<Mutex<Vec<Stop>>>>,
                         runs: State<Arc<AtomicU32>>,
                         context: JobContext| {
        runs.fetch_add(1, Ordering::SeqCst);
        if context.attempt() == 1 {
            let stop = context.cancelled().await;
            stops.lock().unwrap().push(stop);
            return Err("stopped");
        }
        Ok(())
    };
    let worker = ow.worker().job(handler).state(Arc::clone(&stops)).state(Arc::clone(&runs));
    let worker = worker.session_ttl(Duration::from_millis(1_200)).start().await.unwrap();
    let first = worker.session().unwrap();
    while runs.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // It is cut off for as long as its session lasts.
    store.times(10_000, Verb::SessionRenew, Fault::Away);
    while stops.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.heal();
    let row = until(&ow, enqueued.id, JobState::Succeeded).await;
    assert_eq!(*stops.lock().unwrap(), [Stop::SessionLost]);
    assert_eq!((row.attempt, row.lost), (2, 1));
    assert_eq!(row.past[0].outcome, "lost");
    assert_ne!(worker.session(), Some(first));
    worker.shutdown().await;
}

/// J5: endings of attempts whose jobs others have taken over are refused, change nothing, and are counted.
#[tokio::test(flavor = "multi_thread")]
async fn j5_endings_that_come_too_late_are_refused_and_counted() {
    late_endings_are_refused(&crate::jobs_kit::client().await).await;
}

pub(crate) async fn late_endings_are_refused(ow: &Onceward) {
    let (other, _) = before(ow);
    let store = ow.store();
    let (starts, go) = (Arc::new(AtomicU32::new(0)), Arc::new(tokio::sync::Notify::new()));
    let handler = async |_: Number,
                         starts: State<Arc<AtomicU32>>,
                         go: State<Arc<tokio::sync::Notify>>,
                         context: JobContext| {
        if context.attempt() == 1 {
            starts.fetch_add(1, Ordering::SeqCst);
            go.notified().await;
        }
        Ok::<_, String>(context.attempt())
    };
    let worker = |ow: &Onceward| {
        ow.worker()
            .job(handler)
            .state(Arc::clone(&starts))
            .state(Arc::clone(&go))
            .session_ttl(Duration::from_secs(60))
    };
    let late = worker(ow).start().await.unwrap();
    let kept = ow.enqueue(Number(1)).await.unwrap().id;
    let deleted = ow.enqueue(Number(2)).retain(Duration::ZERO).await.unwrap().id;
    while starts.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Ended behind the worker's back: it does not know before it renews.
    let session = store.session_list().await.unwrap().rows.remove(0);
    let ended = onceward::store::SessionRef { id: session.id, token: session.token };
    assert!(store.session_close(&ended).await.unwrap());
    worker(&other).run_until_empty(NOW).await.unwrap();
    assert_eq!(late.stale_endings(), 0);
    go.notify_waiters();
    let began = Instant::now();
    while late.stale_endings() < 2 {
        assert!(began.elapsed() < Duration::from_secs(10), "{} were refused", late.stale_endings());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let row = job(ow, kept).await;
    assert_eq!(
        (row.state, row.attempt, row.result.unwrap().bytes.unwrap()),
        (JobState::Succeeded, 2, b"2".to_vec())
    );
    assert!(ow.admin().job(deleted).await.is_err(), "nothing came back");
    late.shutdown().await;
}

/// N55: one job kills its process, again and again. The others are charged one attempt at most, and all get done.
#[tokio::test(flavor = "multi_thread")]
async fn n55_a_job_that_kills_its_process_harms_no_other() {
    a_killer_harms_no_other(&crate::jobs_kit::client().await).await;
}

pub(crate) async fn a_killer_harms_no_other(ow: &Onceward) {
    let jobs = ow.enqueue_many((0..20).map(Number)).await.unwrap();
    let is_over = async || {
        let rows = ow.admin().jobs(&onceward::JobFilter::default(), None, 100).await.unwrap().rows;
        rows.iter().all(|row| row.state.is_final())
    };
    let began = Instant::now();
    let mut died = Vec::new();
    while !is_over().await {
        assert!(began.elapsed() < Duration::from_secs(60));
        // A process: nothing that it does reaches the store any more once it has died.
        let (process, store) = before(ow);
        let kill = Arc::new(tokio::sync::Notify::new());
        let killed = Arc::clone(&kill);
        let handler = move |job: Number| {
            let (kill, store) = (Arc::clone(&kill), Arc::clone(&store));
            async move {
                if job.0 == 7 {
                    for verb in [Verb::SessionRenew, Verb::JobSettle, Verb::JobClaim, Verb::JobChores] {
                        store.next(verb, Fault::DiesBefore);
                    }
                    kill.notify_one();
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let worker = process.worker().job(handler).session_ttl(Duration::from_millis(400)).concurrency(4);
        let worker = worker.start().await.unwrap();
        let over = async {
            while !is_over().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = killed.notified() => died.push(worker),
            () = over => worker.shutdown().await,
        }
    }
    for (n, enqueued) in jobs.iter().enumerate() {
        let row = job(ow, enqueued.id).await;
        if n == 7 {
            assert_eq!((row.state, row.lost), (JobState::Dead, 5));
        } else {
            assert_eq!(row.state, JobState::Succeeded);
            assert!(row.lost <= 1 && row.attempt <= 2, "job {n} was charged {} times", row.lost);
        }
    }
}

/// A store that is away for a while delays what it has to, and nothing else happens.
#[tokio::test(flavor = "multi_thread")]
async fn endings_are_recorded_once_the_store_is_back() {
    let (ow, store) = faulty();
    let runs = Arc::new(AtomicU32::new(0));
    let handler = async |_: Number, runs: State<Arc<AtomicU32>>| {
        runs.fetch_add(1, Ordering::SeqCst);
    };
    store.times(20, Verb::JobSettle, Fault::Away);
    let enqueued = ow.enqueue(Number(1)).await.unwrap();
    let worker = ow.worker().job(handler).state(Arc::clone(&runs)).start().await.unwrap();
    while runs.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(job(&ow, enqueued.id).await.state_now(), JobState::Running);
    store.heal();
    until(&ow, enqueued.id, JobState::Succeeded).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    worker.shutdown().await;
}

/// A failed job is tried again when it is due, whoever is there then.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_made_by_whoever_is_there() {
    let ow = crate::jobs_kit::client().await;
    let enqueued = ow.enqueue(Number(1)).await.unwrap();
    let fails = async |_: Number, context: JobContext| match context.attempt() {
        1 => Err("not yet"),
        _ => Ok(()),
    };
    let worker = ow.worker().job(fails).start().await.unwrap();
    until_that(&ow, enqueued.id, "failed once", |row| row.attempt > 0).await;
    worker.shutdown().await;
    ow.worker().job(fails).run_until_empty(NOW).await.unwrap();
    assert_eq!(job(&ow, enqueued.id).await.state, JobState::Succeeded);
}

/// An idle worker costs less than a statement a second, renewals aside.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_is_quiet() {
    let (ow, store) = faulty();
    let worker = ow.worker().job(async |_: Number| ()).start().await.unwrap();
    // After the first seconds, in which it looks often.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let verbs = [
        Verb::JobClaim,
        Verb::JobChores,
        Verb::JobPromote,
        Verb::JobRescue,
        Verb::JobLanes,
        Verb::JobSettle,
        Verb::QueueTunings,
    ];
    let calls = || verbs.iter().map(|verb| store.calls(*verb)).sum::<u64>();
    let before = calls();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(calls() - before < 10, "{} statements in ten seconds", calls() - before);
    worker.shutdown().await;
}
