//! Jobs on SQLite: in a caller's own transaction, and through whole lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::jobs_kit::{AtMostOnce, NOW, Number, job, until, until_that};
use onceward::jobs::State as JobState;
use onceward::worker::{JobContext, Outcome, State};
use onceward::{Code, Onceward};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};

struct Shop {
    ow: Onceward,
    database: SqlitePool,
    _folder: tempfile::TempDir,
}

async fn shop() -> Shop {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let options = Onceward::options().short_ttls_for_tests();
    let ow = options.connect(&format!("sqlite://{}", file.display())).await.unwrap();
    let options = SqliteConnectOptions::new().filename(&file).journal_mode(SqliteJournalMode::Wal);
    let database = SqlitePool::connect_with(options.busy_timeout(Duration::from_secs(5))).await.unwrap();
    sqlx::query("CREATE TABLE booked (number INTEGER NOT NULL)").execute(&database).await.unwrap();
    Shop { ow, database, _folder: folder }
}

async fn booked(database: &SqlitePool) -> Vec<u32> {
    sqlx::query_scalar("SELECT number FROM booked ORDER BY number").fetch_all(database).await.unwrap()
}

/// J1: what was rolled back was never there; what was committed is run.
#[tokio::test(flavor = "multi_thread")]
async fn j1_a_job_is_there_if_its_transaction_is() {
    let Shop { ow, database, _folder } = shop().await;
    let worker = ow.worker().job(async |_: Number| ()).start().await.unwrap();
    let mut tx = database.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let gone = ow.enqueue(Number(1)).key("k").enqueue_in(&mut tx).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(ow.admin().job(gone.id).await.unwrap_err().code(), Code::JobAbsent);

    let mut tx = database.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let there = ow.enqueue(Number(1)).key("k").enqueue_in(&mut tx).await.unwrap();
    assert!(there.created);
    let again = ow.enqueue(Number(1)).key("k").enqueue_in(&mut tx).await.unwrap();
    assert_eq!((again.id, again.created), (there.id, false));
    tx.commit().await.unwrap();
    let began = Instant::now();
    until(&ow, there.id, JobState::Succeeded).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    worker.shutdown().await;
    ow.shutdown().await;
}

/// The job's effects and its end commit together, or the attempt has failed.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_in_the_handlers_transaction_is_there_if_the_transaction_is() {
    let Shop { ow, database, _folder } = shop().await;
    let handler = async |job: Number, database: State<SqlitePool>, context: JobContext| {
        let mut tx = database.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("INSERT INTO booked VALUES (?1)").bind(job.0).execute(&mut *tx).await?;
        let outcome = Outcome::done(&format!("attempt {}", context.attempt()));
        context.settle_in(&mut tx, outcome).await?;
        if job.0 == 2 && context.attempt() == 1 {
            tx.rollback().await?;
            return Ok(());
        }
        tx.commit().await?;
        // What is said after the commit is not looked at any more.
        Err::<(), Box<dyn std::error::Error + Send + Sync>>("too late".into())
    };
    let jobs = ow.enqueue_many([Number(1), Number(2)]).await.unwrap();
    ow.worker().job(handler).state(database.clone()).run_until_empty(NOW).await.unwrap();
    let rows = [job(&ow, jobs[0].id).await, job(&ow, jobs[1].id).await];
    let result = |at: usize| rows[at].result.clone().unwrap().bytes.unwrap();
    assert_eq!(
        (rows[0].state, rows[0].attempt, result(0)),
        (JobState::Succeeded, 1, b"\"attempt 1\"".to_vec())
    );
    assert_eq!(
        (rows[1].state, rows[1].attempt, result(1)),
        (JobState::Succeeded, 2, b"\"attempt 2\"".to_vec())
    );
    assert!(rows[1].past[0].error.as_deref().unwrap().contains("was not committed"));
    assert_eq!(booked(&database).await, [1, 2], "each effect once");
    ow.shutdown().await;
}

/// The lives of many, with everything that was said about them.
#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_end_as_they_should() {
    let Shop { ow, database: _, _folder } = shop().await;
    let runs = Arc::new(AtomicU32::new(0));
    let number = async |job: Number, runs: State<Arc<AtomicU32>>, context: JobContext| {
        runs.fetch_add(1, Ordering::SeqCst);
        match (job.0 % 3, context.attempt()) {
            (0, 1) => Err("once more"),
            _ => Ok(job.0),
        }
    };
    let once = async |job: AtMostOnce| if job.0.is_multiple_of(2) { Ok(()) } else { Err("no") };
    let worker = ow.worker().job(number).job(once).state(Arc::clone(&runs)).start().await.unwrap();
    let numbers = ow.enqueue_many((0..3_000).map(Number)).await.unwrap();
    let onces = ow.enqueue_many((0..100).map(AtMostOnce)).await.unwrap();
    worker.empty(Duration::from_secs(60)).await.unwrap();
    worker.shutdown().await;
    assert_eq!(runs.load(Ordering::SeqCst), 4_000);
    for (n, enqueued) in numbers.iter().enumerate().step_by(97) {
        let row = job(&ow, enqueued.id).await;
        let attempts = if n % 3 == 0 { 2 } else { 1 };
        assert_eq!((row.state, row.attempt), (JobState::Succeeded, attempts), "job {n}");
    }
    for (n, enqueued) in onces.iter().enumerate() {
        let expected = if n % 2 == 0 { JobState::Succeeded } else { JobState::Dead };
        assert_eq!(job(&ow, enqueued.id).await.state, expected);
    }
    ow.shutdown().await;
}

/// Another process, or another client, enqueues: the file says that something happened.
#[tokio::test(flavor = "multi_thread")]
async fn an_enqueue_of_another_client_wakes_the_worker() {
    let Shop { ow, database: _, _folder } = shop().await;
    let other = Onceward::options().connect(ow.store().url()).await.unwrap();
    let worker = other.worker().job(async |_: Number| ()).start().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let began = Instant::now();
    let enqueued = ow.enqueue(Number(1)).await.unwrap();
    until_that(&ow, enqueued.id, "done", |row| row.state.is_final()).await;
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    worker.shutdown().await;
    other.shutdown().await;
    ow.shutdown().await;
}

/// W53, W24: SQLite has one writer. An open transaction that has enqueued makes others wait; they are told by their
/// deadline that the store is busy, readers see everything that was committed, and nothing is lost or done twice.
#[tokio::test(flavor = "multi_thread")]
async fn w53_beside_an_open_transaction_writers_are_told_in_time_and_readers_read() {
    let Shop { ow, database, _folder } = shop().await;
    let hasty =
        Onceward::options().deadline(Duration::from_millis(500)).connect(ow.store().url()).await.unwrap();
    let before = ow.enqueue(Number(1)).key("before").await.unwrap();
    let mut tx = database.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let held = ow.enqueue(Number(2)).key("held").enqueue_in(&mut tx).await.unwrap();
    let refused = hasty.enqueue(Number(3)).key("refused").await.unwrap_err();
    assert_eq!((refused.code(), refused.is_uncertain()), (Code::StoreBusy, false), "{refused:?}");
    assert_eq!(job(&ow, before.id).await.state, JobState::Ready, "whoever only reads waits for nobody");
    assert_eq!(ow.admin().job(held.id).await.unwrap_err().code(), Code::JobAbsent);
    // Whoever has more patience waits, and goes on when it can.
    let patient = tokio::spawn(ow.enqueue(Number(4)).into_future());
    tx.commit().await.unwrap();
    let waited = patient.await.unwrap().unwrap();
    let again = hasty.enqueue(Number(3)).key("refused").await.unwrap();
    assert!(again.created, "what was refused was not done");
    ow.worker().job(async |_: Number| ()).run_until_empty(NOW).await.unwrap();
    for id in [before.id, held.id, waited.id, again.id] {
        let row = job(&ow, id).await;
        assert_eq!((row.state, row.attempt), (JobState::Succeeded, 1));
    }
    hasty.shutdown().await;
    ow.shutdown().await;
}
