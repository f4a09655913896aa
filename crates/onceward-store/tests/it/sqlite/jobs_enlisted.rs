//! Jobs in a caller's transaction, by our statements and by the ones that the guide prints.

use core::time::Duration;

use onceward_core::job::{Dedupe, DedupeScope, Ending, IdempotencyKey, Move, New, OnConflict, State};
use onceward_core::once::Fingerprint;
use onceward_core::{JobId, Owner, SessionId, Tag};
use onceward_store::clock::ManualClock;
use onceward_store::enlist::{enqueue_in, settle_job_in};
use onceward_store::sqlite::SqliteStore;
use onceward_store::{Enqueued, JobStore, MoveJob, SettleJob, SettledJob, Store, Wake};
use rusqlite::{Connection, Transaction};

use super::asks::key;
use super::file::File;
use super::jobs::*;

const GUIDE: &str = include_str!("../../../../../docs/guides/outbox-sqlite.md");

async fn enqueue(store: &SqliteStore, tx: &mut Transaction<'_>, new: &New) -> Enqueued {
    let (sql, clock) = (store.enlist().unwrap(), store.clock().as_ref());
    enqueue_in(sql, clock, tx, new).await.unwrap().enqueued
}

async fn settle(
    store: &SqliteStore,
    tx: &mut Transaction<'_>,
    session: SessionId,
    ask: &SettleJob,
) -> SettledJob {
    let (sql, clock) = (store.enlist().unwrap(), store.clock().as_ref());
    settle_job_in(sql, clock, tx, session, ask).await.unwrap()
}

async fn state(store: &SqliteStore, id: JobId) -> Option<State> {
    let row = store.job_lookup(&[name(id)]).await.unwrap().rows.remove(0);
    row.map(|row| row.state_now())
}

async fn claim(store: &SqliteStore, session: SessionId) -> Vec<JobId> {
    let claimed = store.job_claim(&claim_of(session, "work", 10)).await.unwrap().jobs;
    claimed.into_iter().map(|claimed| claimed.job.id).collect()
}

/// J1: a job is there exactly if the caller has committed.
#[tokio::test(flavor = "multi_thread")]
async fn j1_a_job_exists_exactly_if_the_transaction_commits() {
    let (file, clock) = (File::new(), ManualClock::default());
    let store = file.open(&clock).await;
    let session = open_session(&store).await;
    let mut user = Connection::open(file.path()).unwrap();
    let (kept, gone) = (new("work"), new("work"));
    let mut wakes = store.subscribe();
    let mut tx = user.transaction().unwrap();
    assert_eq!(enqueue(&store, &mut tx, &gone).await, Enqueued::Created(gone.id));
    tx.rollback().unwrap();
    let mut tx = user.transaction().unwrap();
    assert_eq!(enqueue(&store, &mut tx, &kept).await, Enqueued::Created(kept.id));
    assert_eq!(enqueue(&store, &mut tx, &kept).await, Enqueued::Created(kept.id), "the same send again");
    assert_eq!(state(&store, kept.id).await, None);
    tx.commit().unwrap();
    while !matches!(wakes.recv().await.unwrap(), Wake::Anything) {}
    assert_eq!((state(&store, kept.id).await, state(&store, gone.id).await), (Some(State::Ready), None));
    assert_eq!(claim(&store, session).await, [kept.id]);
}

/// Whatever can be said about a job: a transaction leaves the same row and the same order as the store.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_enqueued_in_a_transaction_is_the_same_as_one_of_the_store() {
    let (file, clock) = (File::new(), ManualClock::default());
    let store = file.open(&clock).await;
    let mut user = Connection::open(file.path()).unwrap();
    let variants: [&dyn Fn(&mut New); 5] = [
        &|_| {},
        &|job| job.delay = Some(Duration::from_secs(9)),
        &|job| job.tags = vec![Tag::new("gpu").unwrap()],
        &|job| job.ordering_key = Some(key("customer")),
        &|job| (job.priority, job.policy.max_attempts, job.metadata) = (7, 3, Some("{}".to_owned())),
    ];
    for change in variants {
        let (mut own, mut joined) = (new("work"), new("work"));
        change(&mut own);
        change(&mut joined);
        own.ordering_key = own.ordering_key.map(|_| key("other"));
        store.job_enqueue(&[own.clone()]).await.unwrap();
        let mut tx = user.transaction().unwrap();
        enqueue(&store, &mut tx, &joined).await;
        tx.commit().unwrap();
        let rows = store.job_lookup(&[name(own.id), name(joined.id)]).await.unwrap().rows;
        let [Some(own), Some(mut joined)] = <[_; 2]>::try_from(rows).unwrap() else {
            panic!("both are there")
        };
        (joined.id, joined.root) = (own.id, own.root);
        joined.ordering_key.clone_from(&own.ordering_key);
        assert_eq!(joined, own);
    }
    let count = |table: &str| -> i64 {
        user.query_row(&format!("SELECT count(*) FROM onceward_job_{table}"), [], |row| row.get(0)).unwrap()
    };
    assert_eq!(["ready", "later", "held", "first"].map(count), [8, 2, 0, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_hold_within_and_beside_a_transaction() {
    let (file, clock) = (File::new(), ManualClock::default());
    let store = file.open(&clock).await;
    let mut user = Connection::open(file.path()).unwrap();
    let keyed = |print: u8| {
        let ttl = Duration::from_secs(60);
        New {
            key: Some(IdempotencyKey { key: key("k"), fingerprint: Fingerprint([print; 32]), ttl }),
            ..new("work")
        }
    };
    let unique = |on_conflict, payload: &str| {
        let dedupe = Dedupe { key: key("d"), scope: DedupeScope::UntilDone, on_conflict };
        let mut job = New { dedupe: Some(dedupe), ..new("work") };
        job.payload.bytes = payload.as_bytes().to_vec();
        job
    };
    let first = keyed(1);
    let alive = unique(OnConflict::Existing, "old");
    let mut tx = user.transaction().unwrap();
    assert_eq!(enqueue(&store, &mut tx, &first).await, Enqueued::Created(first.id));
    assert_eq!(enqueue(&store, &mut tx, &keyed(1)).await, Enqueued::Existing(first.id));
    assert_eq!(enqueue(&store, &mut tx, &keyed(2)).await, Enqueued::Mismatch(first.id));
    assert_eq!(enqueue(&store, &mut tx, &alive).await, Enqueued::Created(alive.id));
    assert_eq!(
        enqueue(&store, &mut tx, &unique(OnConflict::Replace, "new")).await,
        Enqueued::Existing(alive.id)
    );
    let later = New { delay: Some(Duration::from_secs(5)), ..unique(OnConflict::PushOut, "newest") };
    assert_eq!(enqueue(&store, &mut tx, &later).await, Enqueued::Existing(alive.id));
    tx.commit().unwrap();
    assert_eq!(store.job_enqueue(&[keyed(1)]).await.unwrap(), [Enqueued::Existing(first.id)]);
    let row = store.job_lookup(&[name(alive.id)]).await.unwrap().rows.remove(0).unwrap();
    assert_eq!((row.payload.bytes.as_slice(), row.state), (&b"new"[..], State::Scheduled));
    // A second send is one, also when the key has run out since and belongs to another job.
    let (actor, to) = (Owner::new("test").unwrap(), Move::Cancel);
    let cancel = MoveJob { job: name(first.id), token: None, to, actor, reason: None, dry_run: false };
    store.job_move(&cancel).await.unwrap();
    clock.advance(Duration::from_secs(60));
    let next = keyed(2);
    let mut tx = user.transaction().unwrap();
    assert_eq!(enqueue(&store, &mut tx, &next).await, Enqueued::Created(next.id));
    assert_eq!(enqueue(&store, &mut tx, &first).await, Enqueued::Created(first.id));
    tx.commit().unwrap();
    assert_eq!(
        store.job_enqueue(core::slice::from_ref(&first)).await.unwrap(),
        [Enqueued::Created(first.id)]
    );
}

/// J5, J7: the end commits with the caller's effects or not at all, no rescue comes between, and who comes late
/// changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn j5_an_end_commits_with_the_transaction() {
    let (file, clock) = (File::new(), ManualClock::default());
    let store = file.open(&clock).await;
    let session = open_session(&store).await;
    let mut user = Connection::open(file.path()).unwrap();
    let line = |_| New { ordering_key: Some(key("line")), ..new("work") };
    let jobs: Vec<New> = (0..3).map(line).collect();
    store.job_enqueue(&jobs).await.unwrap();
    let claimed = store.job_claim(&claim_of(session, "work", 10)).await.unwrap();
    let done = ending(&claimed.jobs[0], Ending::Done(None), claimed.now);
    let mut tx = user.transaction().unwrap();
    assert_eq!(settle(&store, &mut tx, session, &done).await, SettledJob::Applied(State::Succeeded));
    tx.rollback().unwrap();
    assert_eq!(state(&store, jobs[0].id).await, Some(State::Running));
    clock.advance(Duration::from_secs(60));
    let mut tx = user.transaction().unwrap();
    assert_eq!(settle(&store, &mut tx, session, &done).await, SettledJob::Applied(State::Succeeded));
    let rescue = tokio::time::timeout(Duration::from_millis(200), store.job_rescue(10)).await;
    assert!(rescue.is_err(), "it waits: {rescue:?}");
    tx.commit().unwrap();
    assert!(store.job_rescue(10).await.unwrap().jobs.is_empty(), "nothing is left to rescue");
    let mut tx = user.transaction().unwrap();
    assert_eq!(settle(&store, &mut tx, session, &done).await, SettledJob::Already(State::Succeeded));
    tx.commit().unwrap();

    // The next of the ordering key was let in by the transaction; a failure puts it where it waits for its time.
    let session = open_session(&store).await;
    let claimed = store.job_claim(&claim_of(session, "work", 10)).await.unwrap();
    assert_eq!(claimed.jobs[0].job.id, jobs[1].id);
    let failed = Ending::Failed { error: "no".to_owned(), after: Some(Duration::from_secs(5)) };
    let failed = ending(&claimed.jobs[0], failed, claimed.now);
    let mut tx = user.transaction().unwrap();
    assert_eq!(settle(&store, &mut tx, session, &failed).await, SettledJob::Applied(State::Retrying));
    tx.commit().unwrap();
    assert!(claim(&store, session).await.is_empty(), "it is waited for");
    clock.advance(Duration::from_secs(6));
    assert_eq!(store.job_promote(10).await.unwrap().moved, 1);
    assert_eq!(claim(&store, session).await, [jobs[1].id]);
    let mut tx = user.transaction().unwrap();
    let stale = SettleJob {
        fence: onceward_core::Token::from_row(1),
        token: onceward_core::Token::from_row(1),
        ..done
    };
    let stale = SettleJob { job: name(jobs[1].id), ..stale };
    assert_eq!(settle(&store, &mut tx, session, &stale).await, SettledJob::Stale);
    tx.rollback().unwrap();
}

/// The statements of the guide, in the order in which it prints them.
fn blocks() -> Vec<String> {
    let parts = GUIDE.split("```sql\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

/// Runs a block with the parameters it names; how many rows its last statement has changed.
fn run(tx: &Transaction<'_>, block: &str, params: &[(&str, &dyn rusqlite::ToSql)]) -> usize {
    let mut changed = 0;
    for text in block.split(';').filter(|text| !text.trim().is_empty()) {
        let mut statement = tx.prepare(text).unwrap();
        for (name, value) in params {
            if let Some(at) = statement.parameter_index(name).unwrap() {
                statement.raw_bind_parameter(at, value).unwrap();
            }
        }
        changed = statement.raw_execute().unwrap();
    }
    changed
}

/// What the guide prints for other languages does what it says.
#[tokio::test(flavor = "multi_thread")]
async fn the_guide_to_plain_sql_is_right() {
    let (file, clock) = (File::new(), ManualClock::default());
    let store = file.open(&clock).await;
    let session = open_session(&store).await;
    let mut user = Connection::open(file.path()).unwrap();
    let [ready, later, once, look] = <[String; 4]>::try_from(blocks()).unwrap();
    let now = store.session_list().await.unwrap().now.as_micros();
    let due = now + 5_000_000;
    let ids = [0; 4].map(|_| uuid::Uuid::now_v7());
    let spec = |at: usize| match at {
        1 => None,
        _ => Some(r#"{"ordering_key":"c","max_attempts":3}"#),
    };
    for (at, id) in ids.iter().enumerate() {
        let (id, payload, spec) = (id.as_bytes().as_slice(), b"{}".as_slice(), spec(at));
        let due = if at == 1 { due } else { now };
        let params: [(&str, &dyn rusqlite::ToSql); 6] = [
            (":id", &id),
            (":now", &now),
            (":payload", &payload),
            (":due", &due),
            (":spec", &spec),
            (":key", &"k"),
        ];
        let tx = user.transaction().unwrap();
        let taken = run(&tx, &once, &params);
        assert_eq!(taken, usize::from(at == 0), "one key, one job");
        run(&tx, if at == 0 { &ready } else { &later }, &params);
        tx.commit().unwrap();
    }
    let ids = ids.map(JobId::from_uuid);
    let ask = |limit| {
        let mut ask = claim_of(session, "order.placed", limit);
        ask.limit = limit;
        ask
    };
    let claimed = store.job_claim(&ask(10)).await.unwrap();
    assert_eq!(claimed.jobs.iter().map(|claimed| claimed.job.id).collect::<Vec<_>>(), ids[..1]);
    assert_eq!(store.job_promote(10).await.unwrap().moved, 2, "due at once, through job_later");
    let second = store.job_claim(&ask(10)).await.unwrap();
    assert_eq!(
        second.jobs.iter().map(|claimed| claimed.job.id).collect::<Vec<_>>(),
        [ids[2]],
        "one of the key"
    );
    assert_eq!(second.jobs[0].job.policy.max_attempts, 3);
    clock.advance(Duration::from_secs(5));
    assert_eq!(store.job_promote(10).await.unwrap().moved, 1);
    let jobs = claimed.jobs.iter().map(|job| ending(job, Ending::Done(None), claimed.now)).collect();
    store.job_settle(&onceward_store::SettleJobs { jobs, finished: Vec::new() }).await.unwrap();
    let seen: String =
        user.query_row(&look, [ids[0].as_uuid().as_bytes().as_slice()], |row| row.get(0)).unwrap();
    assert_eq!(seen, "succeeded");
    // The library finds the key, and has nothing to compare the request with.
    let print =
        IdempotencyKey { key: key("k"), fingerprint: Fingerprint([1; 32]), ttl: Duration::from_secs(9) };
    let same = New { key: Some(print), ..new("order.placed") };
    assert_eq!(store.job_enqueue(&[same]).await.unwrap(), [Enqueued::Existing(ids[0])]);
}
