//! Long proofs about durable functions: workers that are killed and paused. Ten-second versions by default; at full
//! length with `ONCEWARD_PROVE=long` (`cargo xtask prove`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::crash_loop::{Did, Fleet, Ledger, checkout, payment};
use onceward::durable::RunHandle;
use onceward::{Onceward, Verdict};
use onceward_core::run::{Entry, Op, Phase};
use tokio::time::sleep;

/// How a crash loop is run.
struct Plan {
    /// How many runs are under way at the same time.
    at_once: usize,
    length: Duration,
    ttl: Duration,
    pause_every: Duration,
}

impl Plan {
    fn of_this_run() -> Self {
        let seconds = Duration::from_secs;
        if crate::crash_loop::long() {
            Self { at_once: 200, length: seconds(120), ttl: seconds(3), pause_every: seconds(10) }
        } else {
            Self { at_once: 20, length: seconds(9), ttl: seconds(1), pause_every: seconds(4) }
        }
    }
}

/// D1, D2, D3, D5, D6, D7: workers die every second and one of them sleeps beyond its session's ttl again and again;
/// every run comes to its result, and no step runs again whose outcome was written down.
#[tokio::test(flavor = "multi_thread")]
async fn proof_d3_d5_a_crash_loop_on_postgres_runs_everything_to_its_end() {
    let (schema, folder) = (crate::pg::Schema::migrated().await, tempfile::tempdir().unwrap());
    crash_loop(schema.url(), folder.path()).await;
}

/// The same with all processes on one file.
#[tokio::test(flavor = "multi_thread")]
async fn proof_d3_d5_a_crash_loop_on_sqlite_runs_everything_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("runs.db").display());
    crash_loop(&url, folder.path()).await;
}

async fn crash_loop(url: &str, folder: &Path) {
    let (plan, ow, ledger) = (Plan::of_this_run(), crate::crash_loop::client(url).await, Ledger::at(folder));
    let at_once = plan.at_once;
    let fleet = Fleet::start(3, url, folder, plan.ttl);
    let over = Arc::new(AtomicBool::new(false));
    let trouble = tokio::spawn(make_trouble(fleet, plan, Ledger::at(folder), Arc::clone(&over)));
    let lines = (0..at_once).map(|line| {
        let (ow, over) = (ow.clone(), Arc::clone(&over));
        tokio::spawn(async move {
            let mut done = Vec::new();
            for round in 0.. {
                let order = u32::try_from(round * 1_000 + line).unwrap();
                let run = ow.start(checkout(order)).id(format!("order {order}")).await.unwrap();
                run.signal("courier", &order).await.unwrap();
                let result = tokio::time::timeout(Duration::from_secs(90), run.result()).await;
                let result = result.unwrap_or_else(|_| panic!("run {} does not end", run.id()));
                assert_eq!(result, Ok(order * 103 + 3), "run {}", run.id());
                done.push((order, run));
                if over.load(Ordering::SeqCst) {
                    break;
                }
            }
            done
        })
    });
    let mut done = Vec::new();
    let lines = tokio::select! {
        lines = futures_util::future::join_all(lines) => lines,
        () = reconcile(&ow, &ledger) => Vec::new(),
    };
    for line in lines {
        done.extend(line.unwrap());
    }
    let (kills, pauses) = trouble.await.unwrap();
    let (orders, done): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    let uncertain = balance(&ow, &orders, &ledger).await;
    let seen = audit(&ow, &done, &ledger).await;
    println!(
        "{} checkouts, {kills} workers killed, {pauses} paused: {seen}; {} refused; each charged once, {uncertain} \
         after a doubt",
        done.len(),
        ledger.stale()
    );
    assert!(pauses > 0 && ledger.stale() > 0, "nobody came too late: nothing was proved");
    ow.shutdown().await;
}

/// What is under way in the end is finished by those that are left.
async fn make_trouble(mut fleet: Fleet, plan: Plan, ledger: Ledger, over: Arc<AtomicBool>) -> (u32, u32) {
    // Goes on until a write of a stale worker was refused, so that the proof has something to show.
    let goes_on = |since| since < plan.length || (ledger.stale() == 0 && since < plan.length * 5);
    let troubles = fleet.make_trouble(plan.pause_every, goes_on).await;
    over.store(true, Ordering::SeqCst);
    sleep(plan.ttl * 3 + Duration::from_secs(3)).await;
    fleet.end();
    troubles
}

/// Asks the ledger about every payment that nobody is sure of, again and again.
async fn reconcile(ow: &Onceward, ledger: &Ledger) {
    loop {
        let probe = async |row: &onceward_core::once::Record| {
            let order: u32 = row.key.as_str().trim_start_matches("payment ").parse().unwrap();
            match ledger.charges().get(&order) {
                Some(charges) => Verdict::Happened(charges[0]),
                None => Verdict::DidNotHappen,
            }
        };
        if let Err(error) = ow.admin().reconcile(Some("payment "), "asked the ledger", probe).await {
            assert!(error.is_retryable() || error.is_uncertain(), "{error}");
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Every order was charged once, and what was charged is what the store says was; how many were uncertain on the way.
async fn balance(ow: &Onceward, orders: &[u32], ledger: &Ledger) -> usize {
    let (charges, mut uncertain) = (ledger.charges(), 0);
    for order in orders {
        let charged = charges.get(order).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(charged, [order * 100], "order {order} is to be charged once");
        let (row, _) = ow.admin().once(&payment(*order)).await.unwrap().unwrap();
        let recorded = row.body.and_then(|body| body.bytes).unwrap();
        assert_eq!(serde_json::from_slice::<u32>(&recorded).unwrap(), order * 100);
        uncertain += usize::from(row.attempts > 1 || row.uncertain_at.is_some());
    }
    assert_eq!(charges.len(), orders.len(), "somebody was charged who has bought nothing");
    uncertain
}

/// Holds the journals against what really happened.
async fn audit(ow: &Onceward, runs: &[RunHandle<checkout>], ledger: &Ledger) -> String {
    let mut effects: HashMap<_, Vec<Did>> = HashMap::new();
    for did in ledger.effects() {
        effects.entry(did.run).or_default().push(did);
    }
    let (mut taken_up, mut again, mut entries) = (0, 0, 0);
    for run in runs {
        let journal = ow.admin().journal(run.id(), 0, 10_000).await.unwrap();
        let effects = effects.remove(&run.id()).unwrap_or_default();
        check(&journal, &effects);
        entries += journal.len();
        let attempts: HashSet<i64> = effects.iter().map(|did| did.token).collect();
        taken_up += attempts.len() - 1;
        again += effects.iter().filter(|did| did.position != "begun").count().saturating_sub(3);
    }
    assert!(taken_up > 0, "no run was ever taken up again: nothing was proved");
    format!("{entries} entries, {taken_up} times taken up again, {again} steps interrupted and run again")
}

fn check(journal: &[Entry], effects: &[Did]) {
    assert!(journal.iter().zip(0..).all(|(entry, seq)| entry.seq == seq), "D1: a gap in {journal:?}");
    assert!(journal.is_sorted_by_key(|entry| entry.token), "D1: two owners at the same time: {journal:?}");
    let mut ended = BTreeMap::new();
    for entry in journal.iter().filter(|entry| matches!(entry.phase, Phase::Ended(_))) {
        let before = ended.insert(entry.position.as_str(), entry);
        assert!(before.is_none(), "D3: {} has ended twice", entry.position);
    }
    for (position, entry) in ended.iter().filter(|(_, entry)| entry.op == Op::Step) {
        let of_step = || effects.iter().filter(|did| did.position == *position);
        let late = of_step().find(|did| did.token > entry.token.get());
        assert!(late.is_none(), "D3: {} ran again after its outcome was written down", entry.name);
        if entry.name == "ship" {
            assert!(of_step().count() <= 1, "a step that must not run twice did");
        } else {
            assert!(of_step().count() >= 1, "{} was written down and did not happen", entry.name);
        }
    }
}
