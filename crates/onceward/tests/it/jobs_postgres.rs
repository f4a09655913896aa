//! Jobs on PostgreSQL: in a caller's own transaction, woken after its commit, and through whole lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::jobs_kit::{AtMostOnce, NOW, Number, job, until, until_that};
use onceward::jobs::State as JobState;
use onceward::worker::{JobContext, Outcome, State};
use onceward::{Code, Onceward};
use tokio::sync::Mutex;
use tokio_postgres::Client;

/// After so long without a job, a worker looks every five seconds: after the look in the sixth second none comes before
/// the tenth.
const IDLE: Duration = Duration::from_secs(7);

struct Shop {
    ow: Onceward,
    schema: crate::pg::Schema,
}

async fn shop() -> Shop {
    let schema = crate::pg::Schema::migrated().await;
    let ow = connect(schema.url()).await;
    Shop { ow, schema }
}

async fn connect(url: &str) -> Onceward {
    Onceward::options().short_ttls_for_tests().connect(url).await.unwrap()
}

/// Decisions 22: a worker of this process, and one of another, are told after the caller's own commit, however rarely
/// they look by themselves. What was rolled back wakes nobody and is never run.
#[tokio::test(flavor = "multi_thread")]
async fn j1_a_commit_of_the_caller_wakes_idle_workers() {
    let Shop { ow, schema } = shop().await;
    let other = connect(schema.url()).await;
    let numbers = Arc::new(Mutex::new(Vec::<u32>::new()));
    let note = async |job: Number, numbers: State<Arc<Mutex<Vec<u32>>>>| numbers.lock().await.push(job.0);
    let here = ow.worker().job(note).state(Arc::clone(&numbers)).queues(["here"]).start().await.unwrap();
    let there = other.worker().job(note).state(Arc::clone(&numbers)).queues(["there"]).start().await.unwrap();
    tokio::time::sleep(IDLE).await;
    let mut client = schema.client().await;
    let mut tx = client.transaction().await.unwrap();
    ow.enqueue(Number(1)).queue("here").key("k").enqueue_in(&mut tx).await.unwrap();
    tx.rollback().await.unwrap();
    let mut tx = client.transaction().await.unwrap();
    let first = ow.enqueue(Number(2)).queue("here").key("k").enqueue_in(&mut tx).await.unwrap();
    let second = ow.enqueue(Number(3)).queue("there").enqueue_in(&mut tx).await.unwrap();
    assert!(first.created && second.created);
    // For longer than the first looks of whoever watches the transaction.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(ow.admin().job(first.id).await.unwrap_err().code(), Code::JobAbsent);
    let began = Instant::now();
    tx.commit().await.unwrap();
    for id in [first.id, second.id] {
        until(&ow, id, JobState::Succeeded).await;
    }
    // By themselves they look again a second after that.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let mut numbers = numbers.lock().await.clone();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3]);
    for (worker, ow) in [(here, ow), (there, other)] {
        worker.shutdown().await;
        ow.shutdown().await;
    }
}

/// A job that is due later is known after the commit as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_the_caller_tells_when_something_will_be_due() {
    let Shop { ow, schema } = shop().await;
    let worker = ow.worker().job(async |_: Number| ()).start().await.unwrap();
    let mut client = schema.client().await;
    let mut tx = client.transaction().await.unwrap();
    let delay = Duration::from_millis(400);
    let enqueued = ow.enqueue(Number(1)).delay(delay).enqueue_in(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    let row = until(&ow, enqueued.id, JobState::Succeeded).await;
    assert!(row.finished_at.unwrap().since(row.enqueued_at) >= delay, "{row:?}");
    worker.shutdown().await;
    ow.shutdown().await;
}

/// The job's effects and its end commit together, or the attempt has failed.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_in_the_handlers_transaction_is_there_if_the_transaction_is() {
    type Database = Arc<Mutex<Client>>;
    let Shop { ow, schema } = shop().await;
    let client = schema.client().await;
    let make = format!("SET search_path = {}; CREATE TABLE booked (number bigint NOT NULL)", schema.name());
    client.batch_execute(&make).await.unwrap();
    let database: Database = Arc::new(Mutex::new(client));
    let handler = async |job: Number, database: State<Database>, context: JobContext| {
        let mut client = database.lock().await;
        let mut tx = client.transaction().await?;
        tx.execute("INSERT INTO booked VALUES ($1)", &[&i64::from(job.0)]).await?;
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
    ow.worker().job(handler).state(Arc::clone(&database)).run_until_empty(NOW).await.unwrap();
    for (enqueued, attempt) in jobs.iter().zip([1, 2]) {
        let row = job(&ow, enqueued.id).await;
        assert_eq!((row.state, row.attempt), (JobState::Succeeded, attempt));
        let result = row.result.unwrap().bytes.unwrap();
        assert_eq!(String::from_utf8(result).unwrap(), format!("\"attempt {attempt}\""));
    }
    let second = job(&ow, jobs[1].id).await;
    assert!(second.past[0].error.as_deref().unwrap().contains("was not committed"));
    let booked = "SELECT number FROM booked ORDER BY number";
    let booked = database.lock().await.query(booked, &[]).await.unwrap();
    let booked: Vec<i64> = booked.iter().map(|row| row.get(0)).collect();
    assert_eq!(booked, [1, 2], "each effect once");
    ow.shutdown().await;
}

/// W53: a handler has recorded its end in a transaction that stays open. Nobody else's end waits for that.
#[tokio::test(flavor = "multi_thread")]
async fn w53_an_open_transaction_of_a_handler_holds_up_no_other_end() {
    let Shop { ow, schema } = shop().await;
    let (hand, mut handed) = tokio::sync::mpsc::unbounded_channel();
    let go = Arc::new(tokio::sync::Notify::new());
    let end = Arc::clone(&go);
    let handler = move |job: Number, context: JobContext| {
        let (hand, end) = (hand.clone(), Arc::clone(&end));
        async move {
            if job.0 == 0 {
                hand.send(context).unwrap();
                end.notified().await;
            }
        }
    };
    let worker = ow.worker().job(handler).session_ttl(Duration::from_secs(60)).start().await.unwrap();
    let held = ow.enqueue(Number(0)).await.unwrap().id;
    let context = handed.recv().await.unwrap();
    let mut client = schema.client().await;
    let mut tx = client.transaction().await.unwrap();
    context.settle_in(&mut tx, Outcome::Done(None)).await.unwrap();
    go.notify_one();
    let others = ow.enqueue_many((1..=100).map(Number)).await.unwrap();
    for other in &others {
        until(&ow, other.id, JobState::Succeeded).await;
    }
    // Their slots are free as well.
    let began = Instant::now();
    while worker.held() > 1 {
        assert!(began.elapsed() < Duration::from_secs(10), "{} are held", worker.held());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let fails = ow.enqueue_many((101..=110).map(Number)).await.unwrap();
    for other in &fails {
        until(&ow, other.id, JobState::Succeeded).await;
    }
    tx.commit().await.unwrap();
    until(&ow, held, JobState::Succeeded).await;
    while worker.held() > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "{} are held", worker.held());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((job(&ow, held).await.attempt, worker.stale_endings()), (1, 0));
    worker.shutdown().await;
    ow.shutdown().await;
}

/// A worker that has nothing to do asks less than once a second, with everything that it does: also one with tags.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_asks_less_than_once_a_second() {
    let schema = crate::pg::Schema::migrated().await;
    let mut workers = Vec::new();
    for tags in [&[][..], &["gpu", "eu"]] {
        let ow = Onceward::connect(schema.url()).await.unwrap();
        let worker = ow.worker().job(async |_: Number| ()).tags(tags).start().await.unwrap();
        workers.push((tags, ow, worker));
    }
    // After the first seconds, in which they look often.
    tokio::time::sleep(IDLE).await;
    let count = |ow: &Onceward| ow.store().counters().statements;
    let before: Vec<u64> = workers.iter().map(|(_, ow, _)| count(ow)).collect();
    tokio::time::sleep(Duration::from_secs(25)).await;
    for ((tags, ow, _), before) in workers.iter().zip(before) {
        let asked = count(ow) - before;
        println!("an idle worker with {} tags: {:.2} statements/s", tags.len(), asked as f64 / 25.0);
        assert!(asked < 25, "{asked} statements in 25 s, with {} tags", tags.len());
    }
    // One with a tag that was not seen before is found at once all the same, from another process.
    let (began, (_, plain, _)) = (Instant::now(), &workers[0]);
    let tagged = plain.enqueue(Number(1)).tag("eu").await.unwrap().id;
    until(plain, tagged, JobState::Succeeded).await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    for (_, ow, worker) in workers {
        worker.shutdown().await;
        ow.shutdown().await;
    }
}

/// The lives of many, with everything that was said about them; also through a pooler.
#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_end_as_they_should() {
    let Shop { ow, schema } = shop().await;
    let pooled =
        schema.url().replace(&crate::pg::support::shared().postgres, &crate::pg::support::shared().pgbouncer);
    let pooled = connect(&format!("{pooled}&pooler=transaction")).await;
    let runs = Arc::new(AtomicU32::new(0));
    let number = async |job: Number, runs: State<Arc<AtomicU32>>, context: JobContext| {
        runs.fetch_add(1, Ordering::SeqCst);
        match (job.0 % 3, context.attempt()) {
            (0, 1) => Err("once more"),
            _ => Ok(job.0),
        }
    };
    let once = async |job: AtMostOnce| if job.0.is_multiple_of(2) { Ok(()) } else { Err("no") };
    let mut workers = Vec::new();
    for ow in [&ow, &pooled] {
        workers.push(ow.worker().job(number).job(once).state(Arc::clone(&runs)).start().await.unwrap());
    }
    let numbers = ow.enqueue_many((0..3_000).map(Number)).await.unwrap();
    let onces = pooled.enqueue_many((0..100).map(AtMostOnce)).await.unwrap();
    for worker in &workers {
        worker.empty(Duration::from_secs(60)).await.unwrap();
    }
    for worker in workers {
        worker.shutdown().await;
    }
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
    pooled.shutdown().await;
    ow.shutdown().await;
}

/// Another process, or another client, enqueues: a notification says so.
#[tokio::test(flavor = "multi_thread")]
async fn an_enqueue_of_another_client_wakes_the_worker() {
    let Shop { ow, schema } = shop().await;
    let other = connect(schema.url()).await;
    let worker = other.worker().job(async |_: Number| ()).start().await.unwrap();
    tokio::time::sleep(IDLE).await;
    let began = Instant::now();
    let enqueued = ow.enqueue(Number(1)).await.unwrap();
    until_that(&ow, enqueued.id, "done", |row| row.state.is_final()).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    worker.shutdown().await;
    other.shutdown().await;
    ow.shutdown().await;
}
