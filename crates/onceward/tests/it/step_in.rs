//! Steps whose effects and whose value are one commit, and signals that are a part of somebody's commit.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use onceward::durable::{AnyError, Failure, Pen, Written, durable, signal, step_in};
use onceward::jobs::Retry;
use onceward::worker::State;
use onceward::{Code, JobId, Onceward};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::durable_kit::Ledger;
use crate::pg;

/// How the body of the step behaves, the first time; after that it commits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum First {
    Commits,
    FailsBefore,
    /// It has committed, and says that it has not.
    FailsAfter,
    Forgets,
    /// It has committed when its process dies.
    DiesAfter,
    /// Its process dies with the transaction open.
    DiesBefore,
    /// It says that it has failed, and then it commits.
    FailsAndCommits,
    WritesTwice,
}

/// A database with the store and a table of our own in it.
#[derive(Clone)]
struct Bank {
    url: String,
    at: At,
    ledger: Ledger,
    first: First,
    /// Told when the transaction of the first time is committed, or is left open.
    done: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

#[derive(Clone)]
enum At {
    Postgres { server: String, schema: String },
    Sqlite(std::path::PathBuf),
}

#[durable(max_attempts = 1)]
async fn transfer(bank: State<Bank>, id: i64) -> Result<i64, Failure<AnyError>> {
    let moved = step_in("move", |pen| {
        let bank = Bank::clone(&bank);
        async move { bank.work(pen, id).await }
    });
    moved.max_attempts(2).retry(Retry::fixed(Duration::from_millis(5)).unwrap()).await
}

impl Bank {
    async fn work(self, pen: Pen, id: i64) -> Result<Written<i64>, AnyError> {
        let calls = self.ledger.note("body");
        let how = if calls == 1 { self.first } else { First::Commits };
        let (written, told) = oneshot::channel();
        let transaction = tokio::spawn(self.clone().transact(pen, id, how, written));
        match how {
            First::FailsAndCommits => {
                told.await?;
                return Err(AnyError::new("it is over"));
            }
            First::DiesAfter | First::DiesBefore => {
                told.await?;
                if how == First::DiesAfter {
                    let _ = transaction.await??;
                    self.is_done();
                    return std::future::pending().await;
                }
                self.is_done();
            }
            _ => {}
        }
        let written = transaction.await??;
        if how == First::FailsAfter { Err(AnyError::new("its answer was lost")) } else { Ok(written) }
    }

    fn is_done(&self) {
        self.done.lock().unwrap().take().unwrap().send(()).unwrap();
    }

    async fn transact(
        self,
        pen: Pen,
        id: i64,
        how: First,
        written: oneshot::Sender<()>,
    ) -> Result<Written<i64>, AnyError> {
        match self.at.clone() {
            At::Sqlite(path) => {
                // A process that dies lets go of the file: here the thread can't be killed.
                let abandons = how == First::DiesBefore;
                tokio::task::spawn_blocking(move || on_sqlite(&path, &pen, id, how, written)).await?.inspect(
                    |_| {
                        assert!(!abandons);
                    },
                )
            }
            At::Postgres { server, schema } => on_postgres((&server, &schema), &pen, id, how, written).await,
        }
    }
}

async fn on_postgres(
    (server, schema): (&str, &str),
    pen: &Pen,
    id: i64,
    how: First,
    told: oneshot::Sender<()>,
) -> Result<Written<i64>, AnyError> {
    let mut client = pg::support::connect(server).await;
    let mut tx = client.transaction().await?;
    tx.execute(&format!("INSERT INTO {schema}.effect VALUES ($1)"), &[&id]).await?;
    if how == First::FailsBefore {
        return Err(AnyError::new("before it has written"));
    }
    let written = pen.write(&mut tx, id * 10).await?;
    if how == First::WritesTwice {
        drop(pen.write(&mut tx, id).await?);
    }
    let _ = told.send(());
    match how {
        First::Forgets => return Ok(written),
        First::DiesBefore => std::future::pending().await,
        First::FailsAndCommits => tokio::time::sleep(Duration::from_millis(150)).await,
        _ => {}
    }
    tx.commit().await?;
    Ok(written)
}

fn on_sqlite(
    path: &std::path::Path,
    pen: &Pen,
    id: i64,
    how: First,
    told: oneshot::Sender<()>,
) -> Result<Written<i64>, AnyError> {
    let mut client = rusqlite::Connection::open(path)?;
    client.busy_timeout(Duration::from_secs(5))?;
    let mut tx = client.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    tx.execute("INSERT INTO effect VALUES (?1)", [id])?;
    if how == First::FailsBefore {
        return Err(AnyError::new("before it has written"));
    }
    let written = pen.write_blocking(&mut tx, id * 10)?;
    if how == First::WritesTwice {
        drop(pen.write_blocking(&mut tx, id)?);
    }
    let _ = told.send(());
    match how {
        First::Forgets => return Ok(written),
        First::DiesBefore => return Err(AnyError::new("the transaction goes with its process")),
        First::FailsAndCommits => std::thread::sleep(Duration::from_millis(150)),
        _ => {}
    }
    tx.commit()?;
    Ok(written)
}

impl At {
    async fn execute(&self, sql: &str) {
        match self {
            Self::Postgres { server, schema } => {
                let sql = sql.replace("effect", &format!("{schema}.effect"));
                pg::support::connect(server).await.batch_execute(&sql).await.unwrap();
            }
            Self::Sqlite(path) => rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap(),
        }
    }

    async fn count(&self) -> i64 {
        match self {
            Self::Postgres { server, schema } => {
                let sql = format!("SELECT count(*) FROM {schema}.effect");
                pg::support::connect(server).await.query_one(&sql, &[]).await.unwrap().get(0)
            }
            Self::Sqlite(path) => {
                let client = rusqlite::Connection::open(path).unwrap();
                client.query_row("SELECT count(*) FROM effect", [], |row| row.get(0)).unwrap()
            }
        }
    }
}

/// Runs a test on a SQLite file and on PostgreSQL.
async fn each(first: First, test: impl AsyncFn(Onceward, Bank, oneshot::Receiver<()>)) {
    let folder = tempfile::tempdir().unwrap();
    let schema = pg::Schema::migrated().await;
    let path = folder.path().join("bank.db");
    let postgres =
        At::Postgres { server: pg::support::shared().postgres.clone(), schema: schema.name().to_owned() };
    for (url, at) in
        [(format!("sqlite://{}", path.display()), At::Sqlite(path)), (schema.url().to_owned(), postgres)]
    {
        let ow = Onceward::options().short_ttls_for_tests().connect(&url).await.unwrap();
        at.execute("CREATE TABLE effect (id BIGINT NOT NULL)").await;
        let (done, is_done) = oneshot::channel();
        let bank = Bank {
            url: url.clone(),
            at,
            ledger: Ledger::default(),
            first,
            done: Arc::new(Mutex::new(Some(done))),
        };
        let test = test(ow.clone(), bank, is_done);
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .unwrap_or_else(|_| panic!("it hangs on {url}"));
        ow.shutdown().await;
    }
}

/// The result of one transfer by one worker.
async fn transferred(ow: &Onceward, bank: &Bank) -> Result<i64, Failure<Failure<AnyError>>> {
    let worker = ow.worker().durable(transfer).state(bank.clone()).start().await.unwrap();
    let result = ow.start(transfer(7)).await.unwrap().result().await;
    worker.shutdown().await;
    result
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_the_effects_of_a_step_and_its_value_are_one_commit() {
    each(First::Commits, async |ow, bank, _| {
        assert_eq!(transferred(&ow, &bank).await.unwrap(), 70);
        assert_eq!((bank.at.count().await, bank.ledger.count("body")), (1, 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_a_step_that_has_not_committed_is_tried_again() {
    each(First::FailsBefore, async |ow, bank, _| {
        assert_eq!(transferred(&ow, &bank).await.unwrap(), 70);
        assert_eq!((bank.at.count().await, bank.ledger.count("body")), (1, 2));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_a_step_that_has_committed_is_over_whatever_it_says() {
    for first in [First::FailsAfter, First::FailsAndCommits] {
        each(first, async |ow, bank, _| {
            assert_eq!(transferred(&ow, &bank).await.unwrap(), 70);
            assert_eq!((bank.at.count().await, bank.ledger.count("body")), (1, 1), "{first:?}");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_forgets_to_commit_fails_and_says_so() {
    each(First::Forgets, async |ow, bank, _| {
        let failure = transferred(&ow, &bank).await.unwrap_err().to_string();
        assert!(failure.contains("OW0910"), "{failure}");
        assert_eq!(bank.at.count().await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_writes_its_value_once_in_an_attempt() {
    each(First::WritesTwice, async |ow, bank, _| {
        // The first attempt is refused, and rolled back with all that it has done.
        assert_eq!(transferred(&ow, &bank).await.unwrap(), 70);
        assert_eq!((bank.at.count().await, bank.ledger.count("body")), (1, 2));
    })
    .await;
}

/// Its process dies right after the commit, or with the transaction open: another one goes on.
#[test]
fn d4_d5_a_step_survives_its_process_by_all_or_nothing() {
    for (first, bodies) in [(First::DiesAfter, 1), (First::DiesBefore, 2)] {
        Runtime::new().unwrap().block_on(each(first, async |ow, bank, is_done| {
            let (url, doomed) = (bank.url.clone(), bank.clone());
            let process = tokio::task::spawn_blocking(|| Runtime::new().unwrap()).await.unwrap();
            let id = ow.start(transfer(7)).await.unwrap().id();
            process.spawn(async move {
                let ow = Onceward::options().short_ttls_for_tests().connect(&url).await.unwrap();
                let worker =
                    ow.worker().durable(transfer).state(doomed).session_ttl(Duration::from_millis(300));
                let worker = worker.start().await.unwrap();
                std::future::pending::<()>().await;
                drop(worker);
            });
            is_done.await.unwrap();
            process.shutdown_background();
            // How often it looks after the dead depends on how long it may be away itself.
            let worker =
                ow.worker().durable(transfer).state(bank.clone()).session_ttl(Duration::from_secs(1));
            let worker = worker.start().await.unwrap();
            let run = ow.run::<transfer>(id);
            assert_eq!(run.result().await.unwrap(), 70, "{first:?}");
            assert_eq!((bank.at.count().await, bank.ledger.count("body")), (1, bodies), "{first:?}");
            worker.shutdown().await;
        }));
    }
}

#[durable]
async fn approval(order: u64) -> Result<u64, Failure> {
    Ok(signal::<u64>("approved").await? + order)
}

#[tokio::test(flavor = "multi_thread")]
async fn d6_a_signal_in_a_transaction_arrives_if_that_commits() {
    each(First::Commits, async |ow, bank, _| {
        let worker = ow.worker().durable(approval).park_after(Duration::ZERO).start().await.unwrap();
        let run = ow.start(approval(1)).await.unwrap();
        for (value, commits) in [(10_u64, false), (20, true)] {
            tell(&ow, &bank.at, run.id(), value, commits).await.unwrap();
        }
        assert_eq!(run.result().await.unwrap(), 21);
        // It has ended.
        let refused = tell(&ow, &bank.at, run.id(), 30, true).await.unwrap_err();
        assert_eq!(refused.code(), Code::RunUnknown);
        worker.shutdown().await;
    })
    .await;
}

/// J1: a run that is started in a transaction begins if that commits, and never was if not.
#[tokio::test(flavor = "multi_thread")]
async fn j1_a_run_starts_with_the_transaction_that_starts_it() {
    each(First::Commits, async |ow, bank, _| {
        let worker = ow.worker().durable(approval).start().await.unwrap();
        let never = start(&ow, &bank.at, false).await;
        assert_eq!(never.standing().await.unwrap_err().code(), Code::RunUnknown);
        let run = start(&ow, &bank.at, true).await;
        run.signal("approved", &1_u64).await.unwrap();
        assert_eq!(run.result().await.unwrap(), 3);
        worker.shutdown().await;
    })
    .await;
}

async fn start(ow: &Onceward, at: &At, commits: bool) -> onceward::durable::RunHandle<approval> {
    match at {
        At::Postgres { server, .. } => {
            let mut client = pg::support::connect(server).await;
            let mut tx = client.transaction().await.unwrap();
            let run = ow.start(approval(2)).start_in(&mut tx).await.unwrap();
            if commits {
                tx.commit().await.unwrap()
            } else {
                tx.rollback().await.unwrap()
            }
            run
        }
        At::Sqlite(path) => {
            let mut client = rusqlite::Connection::open(path).unwrap();
            client.busy_timeout(Duration::from_secs(5)).unwrap();
            let mut tx = client.transaction().unwrap();
            let run = ow.start(approval(2)).start_in(&mut tx).await.unwrap();
            if commits {
                tx.commit().unwrap()
            } else {
                tx.rollback().unwrap()
            }
            run
        }
    }
}

async fn tell(ow: &Onceward, at: &At, run: JobId, value: u64, commits: bool) -> onceward::Result<()> {
    match at {
        At::Postgres { server, .. } => {
            let mut client = pg::support::connect(server).await;
            let mut tx = client.transaction().await.unwrap();
            ow.signal_run_in(&mut tx, run, "approved", &value).await?;
            if commits { tx.commit().await.unwrap() } else { tx.rollback().await.unwrap() }
        }
        At::Sqlite(path) => {
            let mut client = rusqlite::Connection::open(path).unwrap();
            client.busy_timeout(Duration::from_secs(5)).unwrap();
            let mut tx = client.transaction().unwrap();
            ow.signal_run_in(&mut tx, run, "approved", &value).await?;
            if commits { tx.commit().unwrap() } else { tx.rollback().unwrap() }
        }
    }
    Ok(())
}
