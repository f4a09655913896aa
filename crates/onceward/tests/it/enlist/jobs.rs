//! The contract of enqueueing and ending jobs in a caller's transaction, the same for every driver.

use onceward::jobs::{JobId, Record, State as JobState};
use onceward::store::{SessionRef, StoreKind};
use onceward::worker::{JobContext, Outcome, WorkerHandle};
use onceward::{Code, Job, Onceward};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, sleep};

use super::Driver;

#[derive(Serialize, Deserialize, Job)]
#[job(kind = "enlist.number", retry = "fixed 10ms")]
struct Number(u32);

/// A statement that no database takes.
const MISTAKE: &str = "INSERT INTO no_such_table VALUES (1)";

/// The state of a job that is there.
async fn state(ow: &Onceward, id: JobId) -> Option<JobState> {
    match ow.admin().job(id).await {
        Ok(row) => Some(row.state),
        Err(error) if error.code() == Code::JobAbsent => None,
        Err(error) => panic!("{error:?}"),
    }
}

async fn run_all(ow: &Onceward) {
    let worker = ow.worker().job(async |job: Number| Ok::<_, String>(job.0));
    worker.run_until_empty(Duration::ZERO).await.unwrap();
}

/// J1: the job is there exactly if the caller commits, beside what the caller wrote; before, nobody sees it.
pub(crate) async fn j1_a_job_is_there_if_its_transaction_is<D: Driver>(ow: &Onceward, mut mine: D) {
    let mut tx = mine.begin().await;
    let gone = ow.enqueue(Number(1)).key("k").enqueue_in(&mut tx).await.unwrap();
    let gone_too = ow.enqueue(Number(2)).enqueue_in(&mut tx).await.unwrap();
    D::insert(&mut tx, 1).await;
    D::rollback(tx).await;
    assert_eq!((state(ow, gone.id).await, state(ow, gone_too.id).await), (None, None));
    assert_eq!(mine.count().await, 0, "nothing of ours has committed what was not ours");

    let mut tx = mine.begin().await;
    D::insert(&mut tx, 1).await;
    let kept = ow.enqueue(Number(1)).key("k").enqueue_in(&mut tx).await.unwrap();
    assert!(gone.created && kept.created, "the key went with the rollback");
    assert_eq!(state(ow, kept.id).await, None, "not before the commit");
    D::insert(&mut tx, 2).await;
    D::commit(tx).await.unwrap();
    assert_eq!((mine.count().await, state(ow, kept.id).await), (2, Some(JobState::Ready)));
    run_all(ow).await;
    assert_eq!(state(ow, kept.id).await, Some(JobState::Succeeded));
}

/// J9, W57: a key finds the job of this transaction and of those before; another request under it, or one that no store
/// could keep, is refused, and the transaction goes on.
pub(crate) async fn j9_a_key_is_one_job_and_a_mismatch_ends_no_transaction<D: Driver>(
    ow: &Onceward,
    mut mine: D,
) {
    let before = ow.enqueue(Number(1)).key("before").await.unwrap();
    let mut tx = mine.begin().await;
    let found = ow.enqueue(Number(1)).key("before").enqueue_in(&mut tx).await.unwrap();
    assert_eq!((found.id, found.created, found.existing_state), (before.id, false, Some(JobState::Ready)));
    let here = ow.enqueue(Number(2)).key("here").enqueue_in(&mut tx).await.unwrap();
    let again = ow.enqueue(Number(2)).key("here").enqueue_in(&mut tx).await.unwrap();
    assert_eq!((here.created, again.id, again.created), (true, here.id, false));
    assert_eq!((here.existing_state, again.existing_state), (None, Some(JobState::Ready)));
    for key in ["before", "here"] {
        let other = ow.enqueue(Number(9)).key(key).enqueue_in(&mut tx).await.unwrap_err();
        assert_eq!(other.code(), Code::JobKeyMismatch, "{key}");
    }
    let nul = ow.enqueue(Number(3)).trace("a\0b").enqueue_in(&mut tx).await.unwrap_err();
    assert_eq!(nul.code(), Code::MetadataInvalid);
    D::insert(&mut tx, 1).await;
    D::commit(tx).await.unwrap();
    assert_eq!((mine.count().await, state(ow, here.id).await), (1, Some(JobState::Ready)));
    assert!(!ow.enqueue(Number(2)).key("here").await.unwrap().created);
    run_all(ow).await;
    let mut tx = mine.begin().await;
    let over = ow.enqueue(Number(2)).key("here").enqueue_in(&mut tx).await.unwrap();
    assert_eq!((over.id, over.existing_state), (here.id, Some(JobState::Succeeded)), "W60");
    D::rollback(tx).await;
}

/// What is rolled back to a savepoint was never there, its key is free; what was before and comes after stays.
pub(crate) async fn a_savepoint_takes_back_what_came_after_it<D: Driver>(ow: &Onceward, mut mine: D) {
    let mut tx = mine.begin().await;
    let first = ow.enqueue(Number(1)).key("first").enqueue_in(&mut tx).await.unwrap();
    D::execute(&mut tx, "SAVEPOINT mine").await.unwrap();
    let taken_back = ow.enqueue(Number(2)).key("second").enqueue_in(&mut tx).await.unwrap();
    D::insert(&mut tx, 1).await;
    D::execute(&mut tx, "ROLLBACK TO SAVEPOINT mine").await.unwrap();
    let third = ow.enqueue(Number(3)).key("second").enqueue_in(&mut tx).await.unwrap();
    assert!(third.created, "the key went with the savepoint");
    D::execute(&mut tx, "RELEASE SAVEPOINT mine").await.unwrap();
    D::commit(tx).await.unwrap();
    assert_eq!((mine.count().await, state(ow, taken_back.id).await), (0, None));
    run_all(ow).await;
    for id in [first.id, third.id] {
        assert_eq!(state(ow, id).await, Some(JobState::Succeeded));
    }
}

/// E1, N25: after an error that the caller has swallowed, PostgreSQL answers every statement with an error, and a
/// commit with a rollback. We claim no job that is not there, no rolled-back one is run, and no function is said to
/// be done.
pub(crate) async fn e1_a_swallowed_error_is_not_hidden<D: Driver>(ow: &Onceward, mut mine: D) {
    let survives = ow.store().capabilities().kind == StoreKind::Sqlite;
    let mut tx = mine.begin().await;
    let before = ow.enqueue(Number(1)).key("before").enqueue_in(&mut tx).await.unwrap();
    D::execute(&mut tx, MISTAKE).await.unwrap_err();
    let after = ow.enqueue(Number(2)).enqueue_in(&mut tx).await;
    assert_eq!(after.is_ok(), survives, "{after:?}");
    // Some drivers call that a success, some do not.
    let committed = D::commit(tx).await;
    assert!(committed.is_ok() || !survives, "{committed:?}");
    let there = survives.then_some(JobState::Ready);
    assert_eq!(state(ow, before.id).await, there);
    assert_eq!(ow.enqueue(Number(1)).key("before").await.unwrap().created, !survives);
    run_all(ow).await;
    assert_eq!(state(ow, before.id).await, survives.then_some(JobState::Succeeded));
    let mut tx = mine.begin().await;
    let swallows = async |tx: &mut D::Tx<'_>| {
        D::execute(tx, MISTAKE).await.unwrap_err();
        Ok(1)
    };
    let told = ow.once("swallowed").run_in(&mut tx, swallows).await;
    assert_eq!(told.is_ok_and(|outcome| outcome.is_done()), survives);
    D::rollback(tx).await;
}

/// An attempt in the hands of the test, while its handler waits.
struct Handed {
    context: JobContext,
    end: oneshot::Sender<Result<(), String>>,
}

/// A worker that hands its attempts over: transactions of some drivers can't go where handlers run.
async fn hands_over(ow: &Onceward) -> (WorkerHandle, mpsc::UnboundedReceiver<Handed>) {
    hands_over_for(ow, Duration::from_secs(60)).await
}

async fn hands_over_for(ow: &Onceward, ttl: Duration) -> (WorkerHandle, mpsc::UnboundedReceiver<Handed>) {
    let (hand, handed) = mpsc::unbounded_channel();
    let handler = move |_: Number, context: JobContext| {
        let hand = hand.clone();
        async move {
            let (end, ended) = oneshot::channel();
            hand.send(Handed { context, end }).map_err(|_| "nobody is there")?;
            ended.await.map_err(|_| "nobody has said how it ended".to_owned())?
        }
    };
    let worker = ow.worker().job(handler).session_ttl(ttl).start().await.unwrap();
    (worker, handed)
}

async fn until_succeeded(ow: &Onceward, id: JobId) -> Record {
    loop {
        let row = ow.admin().job(id).await.unwrap();
        if row.state == JobState::Succeeded {
            return row;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// The end of a job commits with what its handler wrote, or not at all: then the attempt has failed.
pub(crate) async fn an_end_commits_with_the_transaction<D: Driver>(ow: &Onceward, mut mine: D) {
    let (worker, mut handed) = hands_over(ow).await;
    let id = ow.enqueue(Number(1)).await.unwrap().id;
    let Handed { context, end } = handed.recv().await.unwrap();
    let mut tx = mine.begin().await;
    D::insert(&mut tx, 1).await;
    context.settle_in(&mut tx, Outcome::done(&1)).await.unwrap();
    D::rollback(tx).await;
    end.send(Ok(())).unwrap();

    let Handed { context, end } = handed.recv().await.unwrap();
    assert_eq!((context.attempt(), mine.count().await), (2, 0), "the first attempt has failed");
    let mut tx = mine.begin().await;
    context.settle_in(&mut tx, Outcome::done(&2)).await.unwrap();
    D::insert(&mut tx, 2).await;
    let next = ow.enqueue(Number(2)).enqueue_in(&mut tx).await.unwrap();
    D::commit(tx).await.unwrap();
    let row = until_succeeded(ow, id).await;
    end.send(Err("what is said after the commit is not looked at".to_owned())).unwrap();
    assert_eq!((row.attempt, row.result.unwrap().bytes.unwrap()), (2, b"2".to_vec()));
    assert!(row.past[0].error.as_deref().unwrap().contains("was not committed"), "{:?}", row.past);
    handed.recv().await.unwrap().end.send(Ok(())).unwrap();
    until_succeeded(ow, next.id).await;
    assert_eq!((mine.count().await, worker.stale_endings()), (1, 0));
    worker.shutdown().await;
}

/// What a handler has recorded in its own transaction is not late because others have gone on from there meanwhile.
pub(crate) async fn an_end_in_a_transaction_is_not_taken_for_a_late_one<D: Driver>(
    ow: &Onceward,
    mut mine: D,
) {
    let (worker, mut handed) = hands_over(ow).await;
    let id = ow.enqueue(Number(1)).await.unwrap().id;
    let first = handed.recv().await.unwrap();
    let mut tx = mine.begin().await;
    first.context.settle_in(&mut tx, Outcome::retry("once more")).await.unwrap();
    D::commit(tx).await.unwrap();
    let second = handed.recv().await.unwrap();
    assert_eq!((second.context.id(), second.context.attempt()), (id, 2));
    second.end.send(Ok(())).unwrap();
    until_succeeded(ow, id).await;
    first.end.send(Ok(())).unwrap();
    while worker.held() > 0 {
        sleep(Duration::from_millis(5)).await;
    }
    let row = ow.admin().job(id).await.unwrap();
    assert_eq!((row.state, row.attempt, worker.stale_endings()), (JobState::Succeeded, 2, 0));
    worker.shutdown().await;
}

/// J6: what a handler has committed as uncertain stays so, whatever the worker makes of the attempt: in the last one,
/// and where the job was called off meanwhile.
pub(crate) async fn j6_an_uncertain_end_in_a_transaction_stays<D: Driver>(ow: &Onceward, mut mine: D) {
    let (worker, mut handed) = hands_over_for(ow, Duration::from_secs(2)).await;
    for called_off in [false, true] {
        let id = ow.enqueue(Number(1)).max_attempts(if called_off { 5 } else { 1 }).await.unwrap().id;
        let Handed { context, end } = handed.recv().await.unwrap();
        if called_off {
            assert!(!ow.admin().cancel_job(id, None, None).await.unwrap());
            context.cancelled().await;
        }
        let mut tx = mine.begin().await;
        context.settle_in(&mut tx, Outcome::uncertain("no answer from the bank")).await.unwrap();
        D::commit(tx).await.unwrap();
        end.send(Ok(())).unwrap();
        while worker.held() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
        let row = ow.admin().job(id).await.unwrap();
        assert_eq!(row.state, JobState::Uncertain, "called off: {called_off}; {:?}", row.error);
        assert_eq!(row.error.as_deref(), Some("no answer from the bank"));
    }
    assert_eq!(worker.stale_endings(), 0);
    worker.shutdown().await;
}

/// E1: an end whose commit was a rollback is no end.
pub(crate) async fn e1_an_end_that_was_not_committed_is_none<D: Driver>(ow: &Onceward, mut mine: D) {
    let survives = ow.store().capabilities().kind == StoreKind::Sqlite;
    let (worker, mut handed) = hands_over(ow).await;
    let id = ow.enqueue(Number(1)).await.unwrap().id;
    let Handed { context, end } = handed.recv().await.unwrap();
    let mut tx = mine.begin().await;
    context.settle_in(&mut tx, Outcome::done(&1)).await.unwrap();
    D::execute(&mut tx, MISTAKE).await.unwrap_err();
    let committed = D::commit(tx).await;
    assert!(committed.is_ok() || !survives, "{committed:?}");
    // The handler believes that it is done.
    end.send(Ok(())).unwrap();
    if !survives {
        let Handed { context, end } = handed.recv().await.unwrap();
        assert_eq!(context.attempt(), 2);
        end.send(Ok(())).unwrap();
    }
    let row = until_succeeded(ow, id).await;
    assert_eq!(row.attempt, if survives { 1 } else { 2 });
    worker.shutdown().await;
}

/// J5: who is no longer the job's attempt is told so in the transaction, and has changed nothing.
pub(crate) async fn j5_a_stale_attempt_ends_nothing<D: Driver>(ow: &Onceward, mut mine: D) {
    let (worker, mut handed) = hands_over(ow).await;
    let id = ow.enqueue(Number(1)).await.unwrap().id;
    let Handed { context, end } = handed.recv().await.unwrap();
    // Behind the worker's back, until it renews.
    let session = ow.store().session_list().await.unwrap().rows.remove(0);
    let session = SessionRef { id: session.id, token: session.token };
    assert!(ow.store().session_close(&session).await.unwrap());
    // The worker itself may have looked for lost sessions in between.
    ow.store().job_rescue(10).await.unwrap();
    while ow.admin().job(id).await.unwrap().lost == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    let mut tx = mine.begin().await;
    D::insert(&mut tx, 1).await;
    let refused = context.settle_in(&mut tx, Outcome::done(&1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::AttemptStale);
    D::insert(&mut tx, 2).await;
    D::rollback(tx).await;
    assert_eq!((mine.count().await, worker.stale_endings()), (0, 1));
    end.send(Err("rolled back".to_owned())).unwrap();
    let row = ow.admin().job(id).await.unwrap();
    assert!(!row.state.is_final() && row.result.is_none(), "{row:?}");
    worker.shutdown().await;
    assert_eq!(ow.admin().job(id).await.unwrap().attempt, 1, "nothing was charged twice");
}

/// The way without the library, in a transaction of each driver: a function on PostgreSQL, two statements on SQLite.
pub(crate) async fn plain_sql_joins_as_well<D: Driver>(ow: &Onceward, mut mine: D) {
    let kind = ow.store().capabilities().kind;
    for (number, commits) in [(1, false), (2, true)] {
        let id = JobId::from_uuid(uuid::Uuid::now_v7());
        let mut tx = mine.begin().await;
        for statement in plain_sql(kind, id, number) {
            D::execute(&mut tx, &statement).await.unwrap();
        }
        if commits {
            D::commit(tx).await.unwrap();
        } else {
            D::rollback(tx).await;
        }
        run_all(ow).await;
        assert_eq!(state(ow, id).await, commits.then_some(JobState::Succeeded));
    }
}

fn plain_sql(kind: StoreKind, id: JobId, number: u32) -> Vec<String> {
    if kind == StoreKind::Postgres {
        let options = format!("{{\"id\": \"{id}\", \"idempotency_key\": \"number {number}\"}}");
        let call =
            format!("SELECT enqueue('default', 'enlist.number', '{number}'::jsonb, '{options}'::jsonb)");
        return vec![call];
    }
    // As the guide says, with the values written out.
    let guide = include_str!("../../../../../docs/guides/outbox-sqlite.md");
    let block = guide.split("```sql").nth(1).unwrap().split("```").next().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_micros();
    let block = block
        .replace(":id", &format!("x'{}'", id.as_uuid().simple()))
        .replace(":now", &now.to_string())
        .replace(":payload", &format!("CAST('{number}' AS BLOB)"))
        .replace("order.placed", "enlist.number");
    block.split(';').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
}
