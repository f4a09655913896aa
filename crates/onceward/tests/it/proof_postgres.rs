//! Long proofs on PostgreSQL: servers that die under load, rows that stay locked. Ten-second versions by default; at
//! full length with `ONCEWARD_PROVE=long` (`cargo xtask prove`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use onceward::jobs::{JobId, State as JobState};
use onceward::{Code, Onceward, Outcome, Verdict};
use tokio_postgres::IsolationLevel;

fn long() -> bool {
    std::env::var("ONCEWARD_PROVE").is_ok_and(|value| value == "long")
}

/// What really happened, outside of any database: how often each key's function ran, and what each caller was told.
#[derive(Default)]
struct Ledger {
    runs: Mutex<HashMap<String, u32>>,
    told: Mutex<HashMap<String, u64>>,
    done: AtomicUsize,
}

impl Ledger {
    fn ran(&self, key: &str) {
        *self.runs.lock().unwrap().entry(key.to_owned()).or_default() += 1;
    }

    /// Every caller who is told a value is told the same one, for ever (O3).
    fn was_told(&self, key: &str, value: u64) {
        let before = self.told.lock().unwrap().insert(key.to_owned(), value);
        assert!(before.is_none_or(|before| before == value), "{key}: {before:?} and {value}");
        self.done.fetch_add(1, Ordering::SeqCst);
    }
}

async fn call(ow: &Onceward, key: &str, value: u64, ledger: &Ledger) {
    let outcome = ow
        .once(key)
        .ttl(Duration::from_secs(2))
        .run(async |_| {
            ledger.ran(key);
            tokio::time::sleep(Duration::from_millis(value % 4)).await;
            Ok(value)
        })
        .await;
    match outcome {
        Ok(Outcome::Done { value, .. }) => ledger.was_told(key, value),
        Ok(_) => {}
        Err(error) => assert!(error.is_retryable(), "{error:?}"),
    }
}

/// N21, O1, O2, O3: PostgreSQL dies again and again; no function runs twice, no outcome that was told is lost, and the
/// clients find their way back by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn proof_a_dying_server_runs_nothing_twice_and_loses_nothing() {
    let kills = if long() { 20 } else { 3 };
    let mut server = tokio::task::block_in_place(crate::pg::support::Server::start);
    let schema = crate::pg::Schema::on(&server.url()).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Onceward::options().cache_bytes(0).connect(schema.url()).await.unwrap());
    }
    let (ledger, over) = (Arc::new(Ledger::default()), Arc::new(AtomicBool::new(false)));
    let next = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..24)
        .map(|n| {
            let (ow, ledger) = (clients[n % clients.len()].clone(), Arc::clone(&ledger));
            let (over, next) = (Arc::clone(&over), Arc::clone(&next));
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    // Several callers, of several clients, meet at every key.
                    let number = next.fetch_add(1, Ordering::SeqCst) / 3;
                    call(&ow, &format!("k{number}"), number as u64, &ledger).await;
                }
            })
        })
        .collect();
    for kill in 0..kills {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let before = ledger.done.load(Ordering::SeqCst);
        tokio::task::block_in_place(|| server.kill());
        tokio::time::sleep(Duration::from_millis(100)).await;
        tokio::task::block_in_place(|| server.start_again());
        let came_back = Instant::now();
        while ledger.done.load(Ordering::SeqCst) <= before + 50 {
            assert!(came_back.elapsed() < Duration::from_secs(20), "no progress after kill {kill}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    over.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    audit(&clients[0], &ledger).await;
}

/// N21, J2: a worker drains its queue although its server is stopped in the middle, and all connections are cut again
/// and again. What ran twice was charged for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exclusive_a_worker_drains_its_queue_through_restarts_and_cut_connections() {
    const JOBS: u32 = 2_000;
    let mut server = tokio::task::block_in_place(crate::pg::support::Server::start);
    let schema = crate::pg::Schema::on(&server.url()).await;
    let ow = Onceward::options().connect(schema.url()).await.unwrap();
    let jobs = ow.enqueue_many((0..JOBS).map(crate::jobs_kit::Number)).await.unwrap();
    let runs = Arc::new(Mutex::new(HashMap::<u32, u32>::new()));
    let ledger = Arc::clone(&runs);
    let handler = move |job: crate::jobs_kit::Number| {
        *ledger.lock().unwrap().entry(job.0).or_default() += 1;
        tokio::time::sleep(Duration::from_millis(30))
    };
    let worker = ow.worker().job(handler).concurrency(20).start().await.unwrap();
    for cut in 0..10 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        if cut == 5 {
            tokio::task::block_in_place(|| server.stop());
            tokio::time::sleep(Duration::from_millis(200)).await;
            tokio::task::block_in_place(|| server.start_again());
        }
        let client = crate::pg::support::connect(&server.url()).await;
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
        client.query(cut, &[]).await.unwrap();
    }
    let began = Instant::now();
    while runs.lock().unwrap().len() < JOBS as usize || worker.held() > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "{} are left", worker.held());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    worker.shutdown().await;
    let runs = runs.lock().unwrap().clone();
    for (n, enqueued) in (0..).zip(&jobs) {
        let row = crate::jobs_kit::job(&ow, enqueued.id).await;
        assert_eq!((row.state, runs[&n] <= row.attempt), (JobState::Succeeded, true), "{n}: {row:?}");
    }
    ow.shutdown().await;
}

/// Holds what is in the store against what really happened.
async fn audit(ow: &Onceward, ledger: &Ledger) {
    tokio::time::sleep(Duration::from_millis(2200)).await; // every claim has run out or been settled
    let runs = ledger.runs.lock().unwrap().clone();
    let told = ledger.told.lock().unwrap().clone();
    let (mut uncertain, mut done) = (0, 0);
    for (key, count) in &runs {
        assert_eq!(*count, 1, "{key} ran {count} times");
        match ow.once(key).peek::<u64>().await.unwrap() {
            Some(Outcome::Done { value, .. }) => {
                assert!(told.get(key).is_none_or(|told| *told == value), "{key}");
                done += 1;
            }
            Some(Outcome::Uncertain { .. }) => {
                assert!(!told.contains_key(key), "{key} was told as done and is uncertain");
                uncertain += 1;
                let settled = ow.once(key).probe(async |_| Verdict::Happened(7_u64)).await.unwrap();
                assert!(settled.is_some_and(|outcome| outcome.is_done()));
            }
            other => panic!("{key} ran once and is {other:?}"),
        }
    }
    assert!(done > 100, "only {done} keys were done: nothing was proved");
    println!("{} keys ran once each: {done} done, {uncertain} uncertain and settled", runs.len());
}

/// Calls `once` on keys of its own by 64 callers, and returns the 99th percentile of the latency.
async fn p99(ow: &Onceward, calls: usize) -> Duration {
    let (next, run) = (Arc::new(AtomicUsize::new(0)), Arc::new(uuid()));
    let callers: Vec<_> = (0..64)
        .map(|_| {
            let (ow, next, run) = (ow.clone(), Arc::clone(&next), Arc::clone(&run));
            tokio::spawn(async move {
                let mut took = Vec::new();
                while next.fetch_add(1, Ordering::SeqCst) < calls {
                    let key = format!("{run}-{}-{}", took.len(), uuid());
                    let began = Instant::now();
                    assert!(ow.once(&key).run(async |_| Ok(1)).await.unwrap().is_done());
                    took.push(began.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for caller in callers {
        took.extend(caller.await.unwrap());
    }
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

fn uuid() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst))
}

/// A batch never waits for one of its rows: with open transactions that hold a guarded lease and a `run_in` key (at
/// full length for 30 s each time), others are as quick as without, and no renewal is late.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn proof_a_held_row_delays_nobody_else() {
    let (calls, rounds) = (10_000, 3);
    let open_for = if long() { Duration::from_secs(30) } else { Duration::ZERO };
    let schema = crate::pg::Schema::migrated().await;
    let ow = Onceward::options().cache_bytes(0).connect(schema.url()).await.unwrap();
    let mut leases = Vec::new();
    for n in 0..200 {
        leases.push(
            ow.lease(format!("renewed-{n}")).ttl(Duration::from_secs(1)).acquire().await.unwrap().unwrap(),
        );
    }
    let guarded = ow.lease("guarded").acquire().await.unwrap().unwrap();
    let (mut one, mut two) = (schema.client().await, schema.client().await);
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    p99(&ow, calls).await; // warm
    for round in 0..rounds {
        alone.push(p99(&ow, calls).await);
        let (mut guarding, mut claiming) =
            (one.transaction().await.unwrap(), two.transaction().await.unwrap());
        guarded.guard(&mut guarding).await.unwrap();
        let held = format!("held-{round}");
        assert!(ow.once(&held).run_in(&mut claiming, async |_| Ok(1)).await.unwrap().is_done());
        let over = Arc::new(AtomicBool::new(false));
        let pestering = tokio::spawn(pester(ow.clone(), held, Arc::clone(&over)));
        let (opened, mut while_open) = (Instant::now(), vec![p99(&ow, calls).await]);
        while opened.elapsed() < open_for {
            while_open.push(p99(&ow, calls).await);
        }
        while_open.sort_unstable();
        beside.push(while_open[while_open.len() / 2]);
        over.store(true, Ordering::SeqCst);
        assert!(pestering.await.unwrap() > 3, "nobody asked for the held rows: nothing was proved");
        guarding.rollback().await.unwrap();
        claiming.rollback().await.unwrap();
    }
    assert!(leases.iter().all(onceward::Lease::is_valid), "a renewal was late");
    alone.sort_unstable();
    beside.sort_unstable();
    let (alone, beside) = (alone[rounds / 2], beside[rounds / 2]);
    println!("p99 of the others: {alone:?} alone, {beside:?} beside held rows");
    // At full length this is the promise, with slack for the noise of the machine. The short version runs for a second
    // beside other work, where a ratio of latencies proves nothing: it asserts that nobody waits out their lock.
    let slack = Duration::from_millis(if long() { 2 } else { 60 });
    assert!(beside <= alone * 2 + slack, "{alone:?} alone, {beside:?} beside held rows");
}

/// Asks for the held rows again and again.
async fn pester(ow: Onceward, held: String, over: Arc<AtomicBool>) -> usize {
    let mut refused = 0;
    while !over.load(Ordering::SeqCst) {
        let (claim, lease) = tokio::join!(ow.once(&held).run(async |_| Ok(2)), ow.lease("guarded").acquire());
        assert!(lease.unwrap().is_none());
        assert_eq!(claim.unwrap_err().code(), Code::KeyLocked);
        refused += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    refused
}

/// W53, J1, J15: transactions that have enqueued stay open, with an idempotency key and without; every other enqueue
/// into the same queue returns, every other job is run, and who asks for the same key is told in time. While they are
/// open nothing else ends this test: whoever waited for them would wait for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn proof_w53_a_transaction_that_has_enqueued_and_stays_open_holds_up_nothing() {
    let open_for = Duration::from_secs(if long() { 60 } else { 4 });
    let schema = crate::pg::Schema::migrated().await;
    let ow = Onceward::connect(schema.url()).await.unwrap();
    let work = |ow: &Onceward, n: u32| ow.enqueue_raw("work", n.to_string(), "text/plain");
    let worker = ow.worker().raw("work", async |_| ()).start().await.unwrap();
    let (mut one, mut two, mut third) = (schema.client().await, schema.client().await, schema.client().await);
    let (mut plain, mut keyed) = (one.transaction().await.unwrap(), two.transaction().await.unwrap());
    let held = [
        work(&ow, 0).enqueue_in(&mut plain).await.unwrap().id,
        work(&ow, 0).key("held").enqueue_in(&mut keyed).await.unwrap().id,
    ];
    let over = Arc::new(AtomicBool::new(false));
    let pestering = tokio::spawn(ask_for_a_held_key(schema.url().to_owned(), Arc::clone(&over)));
    let (began, mut enqueued, mut slowest) = (Instant::now(), Vec::<JobId>::new(), Duration::ZERO);
    let others = async {
        for n in 1_u32.. {
            let asked = Instant::now();
            let (alone, with_key) =
                tokio::join!(work(&ow, n).into_future(), work(&ow, n).key(format!("k{n}")).into_future());
            let many = ow.enqueue_many((0..10).map(|_| work(&ow, n))).await.unwrap();
            let mut tx = third.transaction().await.unwrap();
            let joined = work(&ow, n).key(format!("joined {n}")).enqueue_in(&mut tx).await.unwrap();
            tx.commit().await.unwrap();
            slowest = slowest.max(asked.elapsed());
            enqueued.extend(many.iter().chain([&joined]).map(|job| job.id));
            enqueued.extend([alone.unwrap().id, with_key.unwrap().id]);
            if began.elapsed() > open_for && n > 20 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for id in &enqueued {
            until_succeeded(&ow, *id).await;
        }
    };
    tokio::time::timeout(open_for + Duration::from_secs(60), others).await.expect("somebody waits for them");
    over.store(true, Ordering::SeqCst);
    let refused = pestering.await.unwrap();
    assert!(refused > 0, "nobody asked for the held key: nothing was proved");
    for id in held {
        assert_eq!(ow.admin().job(id).await.unwrap_err().code(), Code::JobAbsent, "not before its commit");
    }
    plain.commit().await.unwrap();
    keyed.commit().await.unwrap();
    for id in held {
        until_succeeded(&ow, id).await;
    }
    let again = work(&ow, 0).key("held").await.unwrap();
    assert_eq!((again.id, again.created), (held[1], false));
    println!(
        "{} jobs beside two open transactions of {:?}; the slowest round of enqueues took {slowest:?}; the held key \
         was refused {refused} times",
        enqueued.len(),
        began.elapsed()
    );
    worker.shutdown().await;
}

/// Asks for the key of an open transaction, as another process would, until it is over; how often that was refused.
async fn ask_for_a_held_key(url: String, over: Arc<AtomicBool>) -> u32 {
    let other = Onceward::options().deadline(Duration::from_millis(500)).connect(&url).await.unwrap();
    let mut refused = 0;
    while !over.load(Ordering::SeqCst) {
        let error = other.enqueue_raw("work", "0", "text/plain").key("held").await.unwrap_err();
        assert_eq!(error.code(), Code::KeyLocked);
        refused += 1;
    }
    other.shutdown().await;
    refused
}

async fn until_succeeded(ow: &Onceward, id: JobId) {
    while ow.admin().job(id).await.unwrap().state != JobState::Succeeded {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How many jobs a round of churn takes.
const ROUND: u32 = 4_000;

/// Jobs that are enqueued and run while somebody's transaction keeps every dead row from being cleared away: ten
/// minutes of it in the long version, behind which a drain has at least half the rate it had before.
#[tokio::test(flavor = "multi_thread")]
async fn proof_a_drain_keeps_its_rate_behind_a_held_snapshot() {
    let seconds = Duration::from_secs;
    // In the short one others disturb it: there it has to come to its end, and is not to be slower by an order.
    let (free, held, part) =
        if long() { (seconds(20), seconds(600), 0.5) } else { (seconds(1), seconds(4), 0.1) };
    let schema = crate::pg::Schema::migrated().await;
    let ow = Onceward::connect(schema.url()).await.unwrap();
    let before = churn(&ow, free).await;
    let mut client = schema.client().await;
    client.batch_execute("SET idle_in_transaction_session_timeout = 0").await.unwrap();
    let snapshot = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().await;
    let snapshot = snapshot.unwrap();
    snapshot.execute("SELECT count(*) FROM pg_class", &[]).await.unwrap();
    let mut behind = churn(&ow, held).await;
    // What counts is how it ends.
    let rounds = before.len().min(behind.len());
    let last = behind.split_off(behind.len() - rounds);
    let (before, last) = (median(before), median(last));
    println!("jobs per second: {before:.0}, and {last:.0} at the end of {held:?} behind a snapshot");
    assert!(last >= before * part, "{last:.0} of {before:.0} jobs per second");
    snapshot.rollback().await.unwrap();
    ow.shutdown().await;
}

/// Fills a queue and runs it empty until the time is over; how many jobs a second were run in each round.
async fn churn(ow: &Onceward, time: Duration) -> Vec<f64> {
    let (began, mut rates) = (Instant::now(), Vec::new());
    while began.elapsed() < time || rates.len() < 3 {
        ow.enqueue_many((0..ROUND).map(crate::jobs_kit::Number)).await.unwrap();
        let at = Instant::now();
        let worker = ow.worker().concurrency(500).job(async |_: crate::jobs_kit::Number| ());
        worker.run_until_empty(Duration::ZERO).await.unwrap();
        rates.push(f64::from(ROUND) / at.elapsed().as_secs_f64());
        if long() {
            // Some 600,000 jobs in ten minutes: all of their rows stay.
            tokio::time::sleep(Duration::from_secs(4).saturating_sub(at.elapsed())).await;
        }
    }
    rates
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
