//! Long proofs about jobs: workers that are killed and paused. Ten-second versions by default; at full length with
//! `ONCEWARD_PROVE=long` (`cargo xtask prove`).

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::crash_loop::{ATTEMPTS, Again, AtMostOnce, Fleet, Ledger};
use onceward::Onceward;
use onceward::jobs::{JobId, Record, State};
use onceward::store::JobRef;
use onceward_core::limits;
use tokio::time::sleep;

/// How a crash loop is run.
struct Plan {
    jobs: u32,
    length: Duration,
    ttl: Duration,
    pause_every: Duration,
}

impl Plan {
    fn of_this_run() -> Self {
        let seconds = Duration::from_secs;
        if crate::crash_loop::long() {
            Self { jobs: 20_000, length: seconds(120), ttl: seconds(3), pause_every: seconds(10) }
        } else {
            Self { jobs: 1_000, length: seconds(9), ttl: seconds(1), pause_every: seconds(4) }
        }
    }
}

/// J2, J3, J4, J5, J7: workers die every second and one of them sleeps beyond its session's ttl again and again; every
/// job that was enqueued comes to an end.
#[tokio::test(flavor = "multi_thread")]
async fn proof_j2_j5_a_crash_loop_on_postgres_loses_no_job() {
    let (schema, folder) = (crate::pg::Schema::migrated().await, tempfile::tempdir().unwrap());
    crash_loop(schema.url(), folder.path()).await;
}

/// The same with all processes on one file.
#[tokio::test(flavor = "multi_thread")]
async fn proof_j2_j5_a_crash_loop_on_sqlite_loses_no_job() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("jobs.db").display());
    crash_loop(&url, folder.path()).await;
}

async fn crash_loop(url: &str, folder: &Path) {
    let (plan, ow, ledger) = (Plan::of_this_run(), crate::crash_loop::client(url).await, Ledger::at(folder));
    let over = Arc::new(AtomicBool::new(false));
    let enqueued = tokio::spawn(enqueue(ow.clone(), plan.jobs, plan.length, Arc::clone(&over)));
    let mut fleet = Fleet::start(3, url, folder, plan.ttl);
    // Goes on until an ending has come too late, so that the proof has something to show.
    let goes_on = |since| since < plan.length || (ledger.stale() == 0 && since < plan.length * 5);
    let (kills, pauses) = fleet.make_trouble(plan.pause_every, goes_on).await;
    over.store(true, Ordering::SeqCst);
    let enqueued = enqueued.await.unwrap();
    // Everything that is left comes to its end in peace, with a worker of this process among the others.
    crate::crash_loop::worker(&ow, folder, plan.ttl).run_until_empty(Duration::from_secs(60)).await.unwrap();
    fleet.end();
    let stale = ledger.stale();
    let seen = audit(&ow, &enqueued, &ledger).await;
    println!(
        "{} jobs, {kills} workers killed, {pauses} paused: {seen}; {stale} stale endings",
        enqueued.len()
    );
    assert!(stale > 0, "no ending came too late: nothing was proved");
    assert!(enqueued.len() >= plan.jobs as usize);
    ow.shutdown().await;
}

/// Enqueues at an even pace, alone and in bulk, with keys and without, until it is over; what is told here is durable.
async fn enqueue(ow: Onceward, jobs: u32, length: Duration, over: Arc<AtomicBool>) -> Vec<JobId> {
    const BULK: u32 = 20;
    let (began, mut enqueued, mut number) = (Instant::now(), Vec::new(), 0);
    while number < jobs || !over.load(Ordering::SeqCst) {
        let due = length.mul_f64(f64::from(number) / f64::from(jobs));
        sleep(due.saturating_sub(began.elapsed())).await;
        let numbers = number..number + BULK;
        number += BULK;
        let once = ow.enqueue_many(numbers.clone().filter(|n| n % 8 == 0).map(AtMostOnce)).await.unwrap();
        let again = numbers.clone().filter(|n| n % 8 > 1);
        let again = ow.enqueue_many(again.map(Again)).await.unwrap();
        enqueued.extend(once.into_iter().chain(again).map(|job| job.id));
        for n in numbers.filter(|n| n % 8 == 1) {
            let keyed = || ow.enqueue(Again(n)).key(format!("number {n}"));
            let (first, second) = (keyed().await.unwrap(), keyed().await.unwrap());
            assert_eq!((first.created, second.created, first.id), (true, false, second.id));
            enqueued.push(first.id);
        }
    }
    enqueued
}

/// Holds what is in the store against what really happened.
async fn audit(ow: &Onceward, enqueued: &[JobId], ledger: &Ledger) -> String {
    let mut runs = ledger.runs();
    let (mut states, mut lost) = (BTreeMap::<&str, u32>::new(), 0);
    for ids in enqueued.chunks(500) {
        let jobs: Vec<_> =
            ids.iter().map(|id| JobRef { namespace: ow.namespace().clone(), id: *id }).collect();
        for (id, row) in ids.iter().zip(ow.store().job_lookup(&jobs).await.unwrap().rows) {
            let row = row.unwrap_or_else(|| panic!("{id} is lost"));
            check(&row, &runs.remove(id).unwrap_or_default());
            *states.entry(row.state.as_str()).or_default() += 1;
            lost += row.lost;
        }
    }
    assert!(runs.is_empty(), "{} jobs were run that nobody has enqueued", runs.len());
    assert!(lost > 0, "no worker died with a job in its hands: nothing was proved");
    let states: Vec<_> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    format!("{}, {lost} attempts lost", states.join(", "))
}

fn check(row: &Record, runs: &[crate::crash_loop::Run]) {
    let (id, state, attempts) = (row.id, row.state, row.attempt as usize);
    assert!(matches!(state, State::Succeeded | State::Dead | State::Uncertain), "{id} is {state:?}");
    assert!(runs.len() <= attempts, "{id} ran {} times in {attempts} attempts", runs.len());
    assert!(row.attempt <= row.policy.max_attempts, "{id} had {attempts} attempts");
    assert!(row.lost <= limits::LOST_MAX, "{id} has lost {} attempts", row.lost);
    let tokens: HashSet<i64> = runs.iter().map(|run| run.token).collect();
    assert_eq!(tokens.len(), runs.len(), "{id}: each run has a token of its own");
    let mut by_token: Vec<_> = runs.iter().map(|run| (run.token, run.attempt)).collect();
    by_token.sort_unstable();
    assert!(by_token.is_sorted_by(|a, b| a.1 < b.1), "{id}: attempts and tokens grow together: {by_token:?}");
    if row.policy.at_most_once {
        assert!(runs.len() <= 1, "{id} must not run twice");
        assert_ne!(state, State::Dead, "{id}");
    } else {
        assert_ne!(state, State::Uncertain, "{id}");
        assert_eq!(row.policy.max_attempts, ATTEMPTS);
    }
    if state == State::Succeeded {
        assert_eq!(
            by_token.last().map(|run| run.0),
            Some(row.token.get()),
            "{id}: its last run is what counts"
        );
    }
}
