//! Jobs on PostgreSQL: what only this store must get right.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails says so by panicking"
)]
#![allow(unreachable_pub, reason = "the test servers are shared by several crates of tests")]
#![cfg(all(feature = "postgres", feature = "conformance"))]

mod support;

use core::time::Duration;
use std::sync::Arc;

use onceward_core::job::{self, Claimed, Ended, Ending, Move, Moved, New, Payload, Policy, State};
use onceward_core::once::{Body, Fingerprint};
use onceward_core::{ClaimId, JobId, Key, Kind, Namespace, Owner, Queue, SessionId, Tag, session};
use onceward_store::enlist::{enqueue_in, settle_job_in};
use onceward_store::{
    ClaimJobs, CommitOutcome, Enqueued, JobProgress, JobRef, ListJobs, MoveJob, SessionRef, SettleJob,
    SettleJobs, SettledJob, Store, Want,
};
use support::Fresh;

const ALL: usize = 1_000;

fn work(kind: &str) -> New {
    let payload = Payload { bytes: b"{}".to_vec(), content_type: "application/json".to_owned() };
    let id = JobId::from_uuid(uuid::Uuid::now_v7());
    New::of_kind(Namespace::default(), id, Kind::new(kind).unwrap(), payload)
}

fn want(kind: &str) -> Want {
    Want { queue: Queue::default(), kind: Kind::new(kind).unwrap(), route: String::new(), limit: ALL }
}

fn job_ref(id: JobId) -> JobRef {
    JobRef { namespace: Namespace::default(), id }
}

/// A session and the store it lives in.
struct Worker {
    store: Arc<dyn Store>,
    session: session::Record,
}

impl Worker {
    async fn on(store: &Arc<dyn Store>) -> Self {
        let open = session::Open {
            id: SessionId::from_uuid(uuid::Uuid::new_v4()),
            owner: Owner::new("web-1:7").unwrap(),
            ttl: Duration::from_secs(15),
            about: session::About::default(),
        };
        Self { store: store.clone(), session: store.session_open(&open).await.unwrap() }
    }

    fn ask(&self, wants: &[Want], limit: usize) -> ClaimJobs {
        ClaimJobs {
            namespace: Namespace::default(),
            session: self.session.id,
            claim: ClaimId::from_uuid(uuid::Uuid::new_v4()),
            wants: wants.to_vec(),
            alone: false,
            limit,
            permitted: false,
        }
    }

    async fn take(&self, kind: &str, limit: usize) -> Vec<Claimed> {
        self.store.job_claim(&self.ask(&[want(kind)], limit)).await.unwrap().jobs
    }

    fn verdict(&self, claimed: &Claimed, ending: Ending) -> SettleJob {
        let started_at = claimed.token.as_timestamp();
        let worker = self.session.owner.clone();
        let ended = Ended { token: claimed.token, started_at, worker: worker.clone(), http: None };
        SettleJob {
            job: job_ref(claimed.job.id),
            place: claimed.job.place,
            fence: claimed.token,
            token: claimed.token,
            started_at,
            worker,
            next: job::end(claimed.job.facts(), &ended, ending, started_at, false, 7),
            retain: claimed.job.policy.retain,
        }
    }

    async fn end(&self, claimed: &[Claimed], ending: &Ending) -> Vec<SettledJob> {
        let jobs = claimed.iter().map(|claimed| self.verdict(claimed, ending.clone())).collect();
        self.store.job_settle(&SettleJobs { jobs, finished: Vec::new() }).await.unwrap()
    }
}

async fn state(store: &Arc<dyn Store>, id: JobId) -> Option<State> {
    let seen = store.job_lookup(&[job_ref(id)]).await.unwrap();
    seen.rows.into_iter().next().flatten().map(|row| row.state_now())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_all_the_way() {
    for fresh in [Fresh::new().await, Fresh::pooled().await] {
        let store = fresh.store().await;
        let worker = Worker::on(&store).await;
        let batch: Vec<New> = (0..10).map(|_| work("mail")).collect();
        assert_eq!(store.job_enqueue(&batch).await.unwrap().len(), 10);
        let jobs = worker.take("mail", 4).await;
        assert_eq!(
            jobs.iter().map(|claimed| claimed.job.id).collect::<Vec<_>>(),
            batch.iter().take(4).map(|new| new.id).collect::<Vec<_>>()
        );
        assert_eq!(state(&store, batch[0].id).await, Some(State::Running));
        assert!(
            worker
                .end(&jobs, &Ending::Done(None))
                .await
                .iter()
                .all(|answer| *answer == SettledJob::Applied(State::Succeeded))
        );
        assert!(
            worker
                .end(&jobs, &Ending::Done(None))
                .await
                .iter()
                .all(|answer| *answer == SettledJob::Already(State::Succeeded))
        );
        assert_eq!(state(&store, batch[0].id).await, Some(State::Succeeded));
        let rest = worker.store.job_claim(&worker.ask(&[want("mail"), want("other")], 4)).await.unwrap().jobs;
        assert_eq!(rest.len(), 4);
        let failed = Ending::Failed { error: "no".to_owned(), after: Some(Duration::from_secs(60)) };
        assert!(
            worker
                .end(&rest, &failed)
                .await
                .iter()
                .all(|answer| *answer == SettledJob::Applied(State::Retrying))
        );
        assert_eq!(store.job_promote(ALL).await.unwrap().moved, 0);
        fresh.advance(Duration::from_secs(61)).await;
        let promoted = store.job_promote(ALL).await.unwrap();
        assert_eq!((promoted.moved, promoted.next_due, promoted.queues.len()), (4, None, 1));
        assert_eq!(worker.take("mail", ALL).await.len(), 6);
        let rescued = store.job_rescue(ALL).await.unwrap();
        assert_eq!((rescued.jobs.len(), rescued.sessions), (6, 1));
        assert_eq!(
            store.job_list(&ListJobs { limit: 100, ..ListJobs::default() }).await.unwrap().rows.len(),
            10
        );
        // The same ids once more do nothing, whatever became of them.
        store.job_enqueue(&batch).await.unwrap();
        assert_eq!(worker.take("mail", ALL).await.len(), 0);
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_find_the_first_job() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    let key = |name: &str, print: u8| job::IdempotencyKey {
        key: Key::new(name).unwrap(),
        fingerprint: Fingerprint([print; 32]),
        ttl: Duration::from_secs(60),
    };
    let first = New { key: Some(key("a", 1)), ..work("mail") };
    let second = New { key: Some(key("a", 1)), ..work("mail") };
    let third = New { key: Some(key("a", 2)), ..work("mail") };
    assert_eq!(
        store.job_enqueue(core::slice::from_ref(&first)).await.unwrap(),
        [Enqueued::Created(first.id)]
    );
    assert_eq!(store.job_enqueue(&[second]).await.unwrap(), [Enqueued::Existing(first.id)]);
    assert_eq!(
        store.job_enqueue(core::slice::from_ref(&third)).await.unwrap(),
        [Enqueued::Mismatch(first.id)]
    );
    fresh.advance(Duration::from_secs(61)).await;
    assert_eq!(
        store.job_enqueue(core::slice::from_ref(&third)).await.unwrap(),
        [Enqueued::Created(third.id)]
    );
    let worker = Worker::on(&store).await;
    assert_eq!(worker.take("mail", ALL).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_an_ordering_key_run_one_after_the_other() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    let worker = Worker::on(&store).await;
    let of = |key: &str| New { ordering_key: Some(Key::new(key).unwrap()), ..work("mail") };
    let batch = [of("a"), of("a"), of("a"), of("b")];
    store.job_enqueue(&batch).await.unwrap();
    let first = worker.take("mail", ALL).await;
    assert_eq!(first.iter().map(|claimed| claimed.job.id).collect::<Vec<_>>(), [batch[0].id, batch[3].id]);
    assert_eq!(worker.take("mail", ALL).await.len(), 0);
    let failed = Ending::Failed { error: "no".to_owned(), after: Some(Duration::from_secs(60)) };
    worker.end(&first, &failed).await;
    assert_eq!(worker.take("mail", ALL).await.len(), 0);
    fresh.advance(Duration::from_secs(61)).await;
    assert_eq!(store.job_promote(ALL).await.unwrap().moved, 2);
    let again = worker.take("mail", ALL).await;
    assert_eq!(again.len(), 2);
    worker.end(&again, &Ending::Done(None)).await;
    let next = worker.take("mail", ALL).await;
    assert_eq!(next.iter().map(|claimed| claimed.job.id).collect::<Vec<_>>(), [batch[1].id]);
    let moved = MoveJob {
        job: job_ref(batch[2].id),
        token: None,
        to: Move::Cancel,
        actor: Owner::new("ops").unwrap(),
        reason: None,
        dry_run: false,
    };
    assert_eq!(store.job_move(&moved).await.unwrap(), Moved::Applied { from: State::Ready });
    worker.end(&next, &Ending::Done(None)).await;
    assert_eq!(worker.take("mail", ALL).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_called_off_at_the_next_renewal() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    let worker = Worker::on(&store).await;
    let new = New {
        policy: Policy { at_most_once: true, ..Policy::default() },
        tags: vec![Tag::new("gpu").unwrap()],
        ..work("mail")
    };
    store.job_enqueue(core::slice::from_ref(&new)).await.unwrap();
    let lanes = store.job_lanes(&Namespace::default(), &[Queue::default()]).await.unwrap();
    assert_eq!(lanes.len(), 1);
    let want = Want { limit: 5, ..lanes[0].clone() };
    let jobs = store.job_claim(&worker.ask(&[want], 5)).await.unwrap().jobs;
    let begin =
        onceward_store::BeginJob { job: job_ref(new.id), token: jobs[0].token, session: worker.session.id };
    assert_eq!(store.job_begin(&[begin]).await.unwrap(), [true]);
    let cancel = MoveJob {
        job: job_ref(new.id),
        token: None,
        to: Move::Cancel,
        actor: Owner::new("ops").unwrap(),
        reason: Some("no".to_owned()),
        dry_run: false,
    };
    assert_eq!(store.job_move(&cancel).await.unwrap(), Moved::Noted);
    let me = SessionRef { id: worker.session.id, token: worker.session.token };
    let renewed = store.session_renew(&me).await.unwrap();
    assert_eq!(renewed.called_off, [job_ref(new.id)]);
    let answer = worker.end(&jobs, &Ending::HandedBack).await;
    assert_eq!(answer, [SettledJob::Applied(State::Cancelled)]);
    assert_eq!(store.session_renew(&me).await.unwrap().called_off, []);
    assert!(store.queue_list(&Namespace::default()).await.unwrap().is_empty());
    assert!(store.session_close(&me).await.unwrap());
    assert_eq!(store.session_list().await.unwrap().rows.len(), 1);
    store.job_prune(&onceward_store::PruneJobs { dead_older_than: Duration::ZERO, limit: 10 }).await.unwrap();
}

/// J1, J7: what a transaction of the caller's enqueues or ends is there when it commits, and no rescue comes between.
#[tokio::test(flavor = "multi_thread")]
async fn j1_jobs_join_the_transaction_of_the_caller() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    let worker = Worker::on(&store).await;
    let (sql, clock) = (store.enlist().unwrap(), store.clock());
    let mut client = fresh.client().await;
    let new = work("mail");
    let mut tx = client.transaction().await.unwrap();
    let enqueued = enqueue_in(sql, clock.as_ref(), &mut tx, &new).await.unwrap();
    assert_eq!(enqueued.enqueued, Enqueued::Created(new.id));
    let number = enqueued.transaction.unwrap();
    assert_eq!(store.transactions(&[number]).await.unwrap(), [None]);
    assert!(worker.take("mail", ALL).await.is_empty());
    tx.commit().await.unwrap();
    assert_eq!(store.transactions(&[number]).await.unwrap(), [Some(CommitOutcome::Committed)]);
    let jobs = worker.take("mail", ALL).await;
    let verdict = worker.verdict(&jobs[0], Ending::Done(None));
    let mut tx = client.transaction().await.unwrap();
    let settled = settle_job_in(sql, clock.as_ref(), &mut tx, worker.session.id, &verdict).await.unwrap();
    assert_eq!(settled, SettledJob::Applied(State::Succeeded));
    fresh.advance(Duration::from_secs(60)).await;
    assert!(store.job_rescue(ALL).await.unwrap().jobs.is_empty(), "its end is about to be committed");
    assert_eq!(state(&store, new.id).await, Some(State::Running));
    tx.commit().await.unwrap();
    assert_eq!(state(&store, new.id).await, Some(State::Succeeded));
    assert!(store.job_rescue(ALL).await.unwrap().jobs.is_empty());
}

/// What SQL enqueues is the same as what the client enqueues.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_enqueued_by_sql() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    let client = fresh.client().await;
    let call = |arguments: &str| format!("SELECT \"{}\".enqueue({arguments})", fresh.schema);
    let plain = call("'default', 'mail', '{}'::jsonb");
    client.batch_execute(&plain).await.unwrap();
    let options =
        r#"{"priority": 7, "max_attempts": 3, "timeout": "5s", "at_most_once": true, "retry": "fixed 3s"}"#;
    client.batch_execute(&call(&format!("'default', 'mail', '{{}}'::jsonb, '{options}'"))).await.unwrap();
    let jobs = Worker::on(&store).await.take("mail", ALL).await;
    let policy = &jobs[0].job.policy;
    assert_eq!((jobs.len(), jobs[0].job.priority, policy.max_attempts, policy.at_most_once), (2, 7, 3, true));
    assert_eq!(
        (policy.timeout, policy.retry.to_string()),
        (Duration::from_secs(5), "fixed 3000ms".to_owned())
    );
    assert_eq!((&jobs[1].job.policy, &jobs[1].job.payload), (&Policy::default(), &work("mail").payload));
    for (arguments, code) in [
        ("'default', '', '{}'::jsonb", "OW117"),
        ("'default', 'mail', '{}'::jsonb, '{\"delay\": \"soon\"}'", "OW122"),
        ("'default', 'mail', '{}'::jsonb, '{\"dely\": \"1s\"}'", "OW108"),
        ("'default', 'mail', '{}'::jsonb, '{\"priority\": 1001}'", "OW120"),
    ] {
        let error = client.batch_execute(&call(arguments)).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), code, "{arguments}");
    }
}

/// J5, J6: a job that says how far it is while its end is recorded ends once, and whoever is told so can rely on it.
#[tokio::test(flavor = "multi_thread")]
async fn j5_j6_an_end_that_meets_progress_is_recorded_or_not_told() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    let worker = Worker::on(&store).await;
    let (sql, clock) = (store.enlist().unwrap(), store.clock());
    let mut client = fresh.client().await;
    for delay in [0_u64, 5, 10, 15, 20, 25] {
        let new = work("mail");
        store.job_enqueue(core::slice::from_ref(&new)).await.unwrap();
        let claimed = worker.take("mail", ALL).await.remove(0);
        let other = fresh.client().await;
        let touch = format!(
            "BEGIN; UPDATE {}.job SET result = 'x', result_type = 'y' WHERE id = '{}'",
            fresh.schema,
            new.id.as_uuid()
        );
        other.batch_execute(&touch).await.unwrap();
        let commit = async {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            other.batch_execute("COMMIT").await.unwrap();
        };
        let verdict = worker.verdict(&claimed, Ending::Done(None));
        let mut tx = client.transaction().await.unwrap();
        let settle = settle_job_in(sql, clock.as_ref(), &mut tx, worker.session.id, &verdict);
        let (settled, ()) = tokio::join!(settle, commit);
        // It waits for 40 ms at most.
        let Ok(settled) = settled else { continue };
        assert_eq!(settled, SettledJob::Applied(State::Succeeded), "after {delay} ms");
        tx.commit().await.unwrap();
        assert_eq!(state(&store, new.id).await, Some(State::Succeeded), "after {delay} ms");
    }
    for round in 0..100 {
        let new = work("fax");
        store.job_enqueue(core::slice::from_ref(&new)).await.unwrap();
        let claimed = worker.take("fax", ALL).await.remove(0);
        let progress = Body::new(b"1".to_vec(), "application/json");
        let progress = [JobProgress { job: job_ref(new.id), token: claimed.token, progress }];
        let ending = if round % 2 == 0 { Ending::Done(None) } else { Ending::Dead("no".to_owned()) };
        let claimed = [claimed];
        let report = async {
            store.job_progress(&progress).await.unwrap();
            store.job_progress(&progress).await.unwrap()
        };
        let (settled, _) = tokio::join!(worker.end(&claimed, &ending), report);
        let [SettledJob::Applied(told)] = settled[..] else { panic!("{settled:?}") };
        assert_eq!(state(&store, new.id).await, Some(told));
        assert_eq!(store.job_progress(&progress).await.unwrap(), [false]);
    }
}
