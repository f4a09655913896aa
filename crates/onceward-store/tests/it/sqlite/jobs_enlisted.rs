//! Jobs in a caller's transaction, by our statements and by the ones that the guide prints.

use core::time::Duration;

use onceward_core::job::{Dedupe, DedupeScope, Ending, IdempotencyKey, Move, Moved, New, OnConflict, State};
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

/// A connection that knows nothing of us but what the guide says.
struct Stranger<'a> {
    user: &'a mut Connection,
    now: i64,
}

impl Stranger<'_> {
    /// Runs blocks of the guide in one transaction; how many rows the last statement of the first one has changed.
    fn run(&mut self, blocks: &[&str], params: &[(&str, &dyn rusqlite::ToSql)]) -> usize {
        let now = self.now;
        let own: [(&str, &dyn rusqlite::ToSql); 2] = [(":now", &now), (":payload", &b"{}".as_slice())];
        let params = [&own[..], params].concat();
        let tx = self.user.transaction().unwrap();
        let changed: Vec<usize> = blocks.iter().map(|block| run(&tx, block, &params)).collect();
        tx.commit().unwrap();
        changed[0]
    }
}

/// What the guide prints for other languages does what it says.
#[tokio::test(flavor = "multi_thread")]
async fn the_guide_to_plain_sql_is_right() {
    let (file, clock) = (File::new(), ManualClock::default());
    let store = file.open(&clock).await;
    let session = open_session(&store).await;
    let mut user = Connection::open(file.path()).unwrap();
    let [ready, later, .., look] = <[String; 6]>::try_from(blocks()).unwrap();
    let now = store.session_list().await.unwrap().now.as_micros();
    let ids = [0; 3].map(|_| uuid::Uuid::now_v7());
    let spec = r#"{"ordering_key":"c","max_attempts":3,"deadline_us":9999999999999999,
                   "metadata":"{\"a\":1}","trace":"t"}"#;
    let mut stranger = Stranger { user: &mut user, now };
    stranger.run(&[&ready], &[(":id", &ids[0].as_bytes().as_slice())]);
    for (id, due, spec) in [(ids[1], now + 5_000_000, None), (ids[2], now, Some(spec))] {
        stranger.run(&[&later], &[(":id", &id.as_bytes().as_slice()), (":due", &due), (":spec", &spec)]);
    }
    let ids = ids.map(JobId::from_uuid);
    let ask = || claim_of(session, "order.placed", 10);
    let claimed = store.job_claim(&ask()).await.unwrap();
    assert_eq!(claimed.jobs.iter().map(|claimed| claimed.job.id).collect::<Vec<_>>(), ids[..1]);
    assert_eq!(store.job_promote(10).await.unwrap().moved, 1, "due at once, through job_later");
    let second = store.job_claim(&ask()).await.unwrap();
    let job = &second.jobs[0].job;
    assert_eq!((job.id, job.policy.max_attempts, job.policy.deadline.is_some()), (ids[2], 3, true));
    assert_eq!((job.metadata.as_deref(), job.trace.as_deref()), (Some(r#"{"a":1}"#), Some("t")));
    clock.advance(Duration::from_secs(5));
    assert_eq!(store.job_promote(10).await.unwrap().moved, 1);
    let jobs = claimed.jobs.iter().map(|job| ending(job, Ending::Done(None), claimed.now)).collect();
    store.job_settle(&onceward_store::SettleJobs { jobs, finished: Vec::new() }).await.unwrap();
    let seen: String =
        user.query_row(&look, [ids[0].as_uuid().as_bytes().as_slice()], |row| row.get(0)).unwrap();
    assert_eq!(seen, "succeeded");
}

/// J9: of the keys that the guide takes, the library knows, and the other way round.
#[tokio::test(flavor = "multi_thread")]
async fn j9_the_guide_to_plain_sql_takes_keys_as_the_library_does() {
    let (file, clock) = (File::new(), ManualClock::default());
    let store = file.open(&clock).await;
    let session = open_session(&store).await;
    let mut user = Connection::open(file.path()).unwrap();
    let [ready, later, once, whose, alive, _] = <[String; 6]>::try_from(blocks()).unwrap();
    let now = store.session_list().await.unwrap().now.as_micros();
    let fresh = uuid::Uuid::now_v7;
    let (first, print) = (fresh(), [7_u8; 32]);
    let mut stranger = Stranger { user: &mut user, now };
    let take = |stranger: &mut Stranger<'_>, id: uuid::Uuid, blocks: &[&str]| {
        stranger
            .run(blocks, &[(":id", &id.as_bytes().as_slice()), (":key", &"k"), (":print", &print.as_slice())])
    };
    assert_eq!(take(&mut stranger, first, &[&once, &ready]), 1);
    assert_eq!(take(&mut stranger, fresh(), &[&once]), 0, "one key, one job");
    // However long ago that was: a key lasts at least as long as its job.
    stranger.now += 31 * 86_400_000_000;
    assert_eq!(take(&mut stranger, fresh(), &[&once]), 0);
    stranger.now = now;
    for (other, same) in [(print, true), ([8; 32], false)] {
        let params = rusqlite::named_params! { ":key": "k", ":print": other.as_slice() };
        let seen =
            stranger.user.query_row(&whose, params, |row| Ok((row.get::<_, [u8; 16]>(0)?, row.get(1)?)));
        assert_eq!(seen.unwrap(), (*first.as_bytes(), same));
        let ttl = Duration::from_secs(9);
        let new = New {
            key: Some(IdempotencyKey { key: key("k"), fingerprint: Fingerprint(other), ttl }),
            ..new("x")
        };
        let found = if same { Enqueued::Existing } else { Enqueued::Mismatch };
        assert_eq!(store.job_enqueue(&[new]).await.unwrap(), [found(JobId::from_uuid(first))]);
    }
    let unique = |scope| New {
        dedupe: Some(Dedupe { key: key("k"), scope, on_conflict: OnConflict::Existing }),
        ..new("order.placed")
    };
    let hour = DedupeScope::Window(Duration::from_secs(3_600));
    for (at, scope) in [DedupeScope::UntilDone, DedupeScope::UntilStarted, hour].into_iter().enumerate() {
        let (id, due) = (fresh(), now);
        let spec = [r#"{"dedupe_key":"k"}"#, r#"{"dedupe_key":"k","until_started":true}"#, "{}"][at];
        let until = (at == 2).then_some(now + 3_600_000_000);
        let take = |stranger: &mut Stranger<'_>, id: uuid::Uuid, blocks: &[&str]| {
            let params: [(&str, &dyn rusqlite::ToSql); 6] = [
                (":id", &id.as_bytes().as_slice()),
                (":key", &"k"),
                (":until", &until),
                (":until_started", &(at == 1)),
                (":due", &due),
                (":spec", &spec),
            ];
            stranger.run(blocks, &params)
        };
        assert_eq!(take(&mut stranger, id, &[&alive, &later]), 1);
        assert_eq!(take(&mut stranger, fresh(), &[&alive]), 0, "it is alive");
        let held = [Enqueued::Existing(JobId::from_uuid(id))];
        assert_eq!(store.job_enqueue(&[unique(scope)]).await.unwrap(), held);
        store.job_promote(10).await.unwrap();
        let claimed = store.job_claim(&claim_of(session, "order.placed", 10)).await.unwrap();
        let job = claimed.jobs.iter().find(|claimed| claimed.job.id == JobId::from_uuid(id)).unwrap();
        assert_eq!(job.job.wants_begin(), at == 1, "its start is written down");
        let dead = Ending::Dead("no".to_owned());
        let jobs = claimed.jobs.iter().map(|job| ending(job, dead.clone(), claimed.now)).collect();
        store.job_settle(&onceward_store::SettleJobs { jobs, finished: Vec::new() }).await.unwrap();
        // Run again, it has the key again.
        let (actor, to) = (Owner::new("test").unwrap(), Move::RunNow);
        let again = MoveJob { job: name(job.job.id), token: None, to, actor, reason: None, dry_run: false };
        assert!(matches!(store.job_move(&again).await.unwrap(), Moved::Applied { .. }));
        assert_eq!(store.job_enqueue(&[unique(scope)]).await.unwrap(), held);
        let cancel = MoveJob { to: Move::Cancel, ..again };
        store.job_move(&cancel).await.unwrap();
    }
}
