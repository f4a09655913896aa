//! The writing thread: group commit, deadlines, calls that fail or are abandoned, wake-ups.

use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use onceward_core::once::{Settle, State};
use onceward_core::{Code, Namespace};
use onceward_store::clock::SystemClock;
use onceward_store::sqlite::SqliteStore;
use onceward_store::{Acquired, ClaimRef, Claimed, OpenOptions, Renew, Store, Wake};
use rusqlite::Connection;
use tokio::time::{sleep, timeout};

use super::asks::*;
use super::file::File;

const SHORT: Duration = Duration::from_millis(300);

/// A connection of somebody else's that holds the write lock until it is dropped.
fn lock(file: &File) -> Connection {
    let other = Connection::open(file.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

/// Waits until so many calls have reached the queues.
async fn settle_in() {
    sleep(Duration::from_millis(50)).await;
}

fn in_background<F: Future<Output: Send> + Send + 'static>(work: F) -> tokio::task::JoinHandle<F::Output> {
    tokio::spawn(work)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_waits_is_one_commit() {
    let file = File::new();
    let store = file.open(&SystemClock).await;
    let (held, seen) = (lock(&file), store.counters().rows);
    let calls: Vec<_> = (0..200)
        .map(|at| {
            let store = Arc::clone(&store);
            in_background(async move { claim(store.as_ref(), &format!("order-{at}")).await.unwrap() })
        })
        .collect();
    while store.counters().rows < seen + 200 {
        sleep(Duration::from_millis(1)).await; // the readers have not looked at all of them yet
    }
    sleep(SHORT).await;
    let before = store.commits();
    drop(held);
    for call in calls {
        assert!(matches!(call.await.unwrap(), Claimed::Granted(_)));
    }
    let commits = store.commits() - before;
    assert!((1..=2).contains(&commits), "{commits} commits for 200 claims");
}

/// Decision 20: whoever else writes to the file stops us. Every call then ends by its deadline, as busy, and
/// nothing of it is done later.
#[tokio::test(flavor = "multi_thread")]
async fn n47_a_foreign_writer_makes_us_busy_within_the_deadline_and_nothing_is_lost() {
    let file = File::new();
    let store = file.open_with(OpenOptions { deadline: SHORT, ..OpenOptions::default() }).await;
    let (row, running) = (grant(store.as_ref(), "held").await, begin(store.as_ref(), "running").await);
    finish(store.as_ref(), "finished").await;
    let held = lock(&file);
    let began = Instant::now();
    let (lease, once) = tokio::join!(acquire(store.as_ref(), lease("new")), claim(store.as_ref(), "new"));
    for error in [lease.unwrap_err(), once.unwrap_err()] {
        assert_eq!(error.code(), Code::StoreBusy);
        assert!(error.is_retryable() && !error.is_uncertain() && error.verb().is_some(), "{error:?}");
    }
    let took = began.elapsed();
    assert!(took >= SHORT && took < SHORT + Duration::from_secs(5), "{took:?}");
    // What wants nothing written is answered all the same.
    assert!(matches!(
        acquire(store.as_ref(), super::asks::lease("held")).await.unwrap(),
        Acquired::Held { .. }
    ));
    assert_eq!(existing(store.as_ref(), "finished").await.state, State::Done);
    assert_eq!(existing(store.as_ref(), "running").await.token, running.token);
    drop(held);
    assert!(
        matches!(claim(store.as_ref(), "new").await.unwrap(), Claimed::Granted(_)),
        "it was not done late"
    );
    assert!(release(store.as_ref(), &row).await);
    assert_eq!(store.once_settle(&[done(&running)]).await.unwrap(), [Settle::Applied { late: false }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_released_in_time_costs_only_time() {
    let file = File::new();
    let store = file.open(&SystemClock).await;
    let held = lock(&file);
    let call = in_background({
        let store = Arc::clone(&store);
        async move { grant(store.as_ref(), "k").await }
    });
    sleep(SHORT).await;
    drop(held);
    call.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_nobody_waits_for_any_more_is_not_made() {
    let file = File::new();
    let store = file.open(&SystemClock).await;
    let held = lock(&file);
    let abandoned = timeout(Duration::from_millis(50), claim(store.as_ref(), "pay")).await;
    assert!(abandoned.is_err(), "it waits");
    drop(held);
    grant(store.as_ref(), "another").await; // behind it in the queue
    let rows = store.once_lookup(&[name("pay")]).await.unwrap().rows;
    assert!(rows[0].is_none(), "{rows:?}");
}

/// A call that fails takes nothing with it, although it shares its transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_is_undone_alone() {
    let file = File::new();
    let store = file.open(&SystemClock).await;
    let (first, odd) = (begin(store.as_ref(), "first").await, begin(store.as_ref(), "odd").await);
    let other = Connection::open(file.path()).unwrap();
    other.execute("UPDATE onceward_once SET state = 'odd' WHERE key = 'odd'", []).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let failing = in_background({
        let store = Arc::clone(&store);
        // The first is written before the second is found to be unreadable.
        let asks = [done(&first), done(&odd)];
        async move { store.once_settle(&asks).await }
    });
    let fine = in_background({
        let store = Arc::clone(&store);
        async move { begin(store.as_ref(), "fine").await }
    });
    settle_in().await;
    drop(other);
    assert_eq!(code(failing.await.unwrap()), Code::RowUnreadable);
    let fine = fine.await.unwrap();
    assert_eq!(existing(store.as_ref(), "first").await.state, State::Running, "undone");
    for row in [fine, first] {
        assert_eq!(store.once_settle(&[done(&row)]).await.unwrap(), [Settle::Applied { late: false }]);
    }
}

/// Renewals stand before everything that waits.
#[tokio::test(flavor = "multi_thread")]
async fn renewals_go_first() {
    let file = File::new();
    let store = file.open(&SystemClock).await;
    let row = grant(store.as_ref(), "held").await;
    let held = lock(&file);
    let last = in_background({
        let store = Arc::clone(&store);
        async move { claim(store.as_ref(), "patient").await.unwrap() }
    });
    settle_in().await;
    let claim = ClaimRef {
        namespace: row.namespace.clone(),
        key: row.key.clone(),
        slot: row.slot,
        token: row.token,
        session: row.session,
    };
    let first = in_background({
        let store = Arc::clone(&store);
        async move { store.lease_renew(&[claim]).await.unwrap() }
    });
    settle_in().await;
    drop(held);
    let Renew::Until(until) = first.await.unwrap()[0] else { panic!("lost") };
    let Claimed::Granted(patient) = last.await.unwrap() else { panic!("not granted") };
    assert!(until.before(TTL) <= patient.claimed_at, "the renewal was done first");
}

/// Two writers of one file, as two processes have: neither starves, nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn two_writers_share_a_file() {
    const CALLS: usize = 200;
    let file = File::new();
    let stores = [file.open(&SystemClock).await, file.open(&SystemClock).await];
    let mut calls = Vec::new();
    for (at, store) in stores.iter().enumerate() {
        for call in 0..8 {
            let store: Arc<SqliteStore> = Arc::clone(store);
            calls.push(in_background(async move {
                for round in 0..CALLS / 8 {
                    finish(store.as_ref(), &format!("{at}-{call}-{round}")).await;
                    // Contended by both: some win, nobody fails.
                    acquire(store.as_ref(), lease(&format!("shared-{round}"))).await.unwrap();
                }
            }));
        }
    }
    for call in calls {
        timeout(Duration::from_secs(60), call).await.expect("nobody starves").unwrap();
    }
    let all = onceward_store::ListOnce { limit: 10 * CALLS, ..Default::default() };
    let rows = stores[0].once_list(&all).await.unwrap().rows;
    assert_eq!(rows.len(), 2 * CALLS);
    assert!(rows.iter().all(|row| row.state == State::Done));
    for store in &stores {
        store.close().await;
    }
    file.assert_sound();
}

/// What is refused or replayed leaves nothing in the log.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_replays_write_nothing() {
    let file = File::new();
    let store = file.open(&SystemClock).await;
    let (held, row) = (grant(store.as_ref(), "held").await, finish(store.as_ref(), "done").await);
    begin(store.as_ref(), "running").await;
    let log = || std::fs::metadata(file.beside("store.db-wal")).unwrap().len();
    let (before, commits) = (log(), store.commits());
    acquire(store.as_ref(), lease("held")).await.unwrap();
    existing(store.as_ref(), "done").await;
    existing(store.as_ref(), "running").await;
    assert_eq!(store.once_settle(&[done(&row)]).await.unwrap(), [Settle::Already]);
    let stale = onceward_core::Token::from_row(1);
    let other = onceward_core::lease::Record { token: stale, ..*held };
    assert!(!release(store.as_ref(), &other).await);
    assert_eq!((log(), store.commits()), (before, commits));
}

/// Who waits in one process hears of what another does to the file, and of nothing while nobody does
/// anything.
#[tokio::test(flavor = "multi_thread")]
async fn commits_of_others_wake_those_who_wait() {
    let file = File::new();
    let (store, other) = (file.open(&SystemClock).await, file.open(&SystemClock).await);
    let row = grant(other.as_ref(), "k").await;
    let mut wakes = store.subscribe();
    let first = timeout(Duration::from_secs(5), wakes.recv()).await.unwrap().unwrap();
    assert!(matches!(first, Wake::Anything), "something may have happened before the first look");
    grant(store.as_ref(), "own").await;
    let quiet = timeout(Duration::from_millis(100), wakes.recv()).await;
    assert!(quiet.is_err(), "one's own commit is no news: {quiet:?}");
    assert!(release(other.as_ref(), &row).await);
    let woken = timeout(Duration::from_secs(5), wakes.recv()).await.unwrap().unwrap();
    assert!(matches!(woken, Wake::Anything));
    let mine = grant(store.as_ref(), "k").await;
    assert!(release(store.as_ref(), &mine).await);
    let woken = timeout(Duration::from_secs(5), wakes.recv()).await.unwrap().unwrap();
    assert!(matches!(woken, Wake::Lease(namespace, k) if namespace == Namespace::default() && k == mine.key));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_finishes_and_says_so() {
    let file = File::new();
    let store = file.open(&SystemClock).await;
    let held = lock(&file);
    let waiting = in_background({
        let store = Arc::clone(&store);
        async move { grant(store.as_ref(), "k").await }
    });
    settle_in().await;
    let closing = in_background({
        let store = Arc::clone(&store);
        async move { store.close().await }
    });
    settle_in().await;
    drop(held);
    waiting.await.unwrap();
    closing.await.unwrap();
    assert_eq!(code(claim(store.as_ref(), "x").await), Code::StoreClosed);
    assert_eq!(code(store.lease_lookup(&name("k")).await), Code::StoreClosed);
    assert!(!file.beside("store.db-wal").exists(), "the last connection folds the log into the file");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_store_lets_go_of_the_file() {
    let file = File::new();
    let store = file.open(&SystemClock).await;
    grant(store.as_ref(), "k").await;
    drop(store);
    let gone = async {
        while file.beside("store.db-wal").exists() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(5), gone).await.expect("the threads end");
}
