//! Jobs on PostgreSQL: what only this store must get right.

use core::time::Duration;
use std::sync::Arc;

use crate::support::Fresh;
use onceward_core::job::{self, Claimed, Ended, Ending, Move, Moved, New, Payload, Policy, State};
use onceward_core::once::{Body, Fingerprint};
use onceward_core::{ClaimId, JobId, Key, Kind, Namespace, Owner, Queue, SessionId, Tag, session};
use onceward_store::enlist::{enqueue_in, settle_job_in};
use onceward_store::{
    ClaimJobs, CommitOutcome, Enqueued, JobProgress, JobRef, ListJobs, MoveJob, SessionRef, SettleJob,
    SettleJobs, SettledJob, Store, Wake, Want,
};

pub(super) const ALL: usize = 1_000;

pub(super) fn work(kind: &str) -> New {
    let payload = Payload { bytes: b"{}".to_vec(), content_type: "application/json".to_owned() };
    let id = JobId::from_uuid(uuid::Uuid::now_v7());
    New::of_kind(Namespace::default(), id, Kind::new(kind).unwrap(), payload)
}

pub(super) fn want(kind: &str) -> Want {
    Want { queue: Queue::default(), kind: Kind::new(kind).unwrap(), route: String::new(), limit: ALL }
}

fn job_ref(id: JobId) -> JobRef {
    JobRef { namespace: Namespace::default(), id }
}

/// A session and the store it lives in.
pub(super) struct Worker {
    store: Arc<dyn Store>,
    session: session::Record,
}

impl Worker {
    pub(super) async fn on(store: &Arc<dyn Store>) -> Self {
        let open = session::Open {
            id: SessionId::from_uuid(uuid::Uuid::new_v4()),
            owner: Owner::new("web-1:7").unwrap(),
            ttl: Duration::from_secs(15),
            about: session::About::default(),
        };
        Self { store: store.clone(), session: store.session_open(&open).await.unwrap() }
    }

    pub(super) fn ask(&self, wants: &[Want], limit: usize) -> ClaimJobs {
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

    pub(super) async fn take(&self, kind: &str, limit: usize) -> Vec<Claimed> {
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
            parent: claimed.job.parent,
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
    // It lasts at least as long as its job.
    fresh.advance(Duration::from_secs(61)).await;
    assert_eq!(
        store.job_enqueue(core::slice::from_ref(&third)).await.unwrap(),
        [Enqueued::Mismatch(first.id)]
    );
    let worker = Worker::on(&store).await;
    let taken = worker.take("mail", ALL).await;
    worker.end(&taken, &Ending::Done(None)).await;
    assert_eq!(
        store.job_enqueue(core::slice::from_ref(&third)).await.unwrap(),
        [Enqueued::Created(third.id)]
    );
    assert_eq!(worker.take("mail", ALL).await.len(), 1);
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
    store.job_prune(&onceward_store::PruneJobs::all(Duration::ZERO, 10)).await.unwrap();
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

/// J9: what a newcomer wants of the job that has its dedupe key, it wants if it is committed.
#[tokio::test(flavor = "multi_thread")]
async fn j9_a_newcomer_in_a_transaction_replaces_what_waits_or_pushes_it_out() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    let mut client = fresh.client().await;
    let (sql, clock) = (store.enlist().unwrap(), store.clock());
    let of = |text: &str, on_conflict| {
        let dedupe =
            job::Dedupe { key: Key::new("k").unwrap(), scope: job::DedupeScope::UntilDone, on_conflict };
        let payload = Payload { bytes: text.as_bytes().to_vec(), content_type: "text/plain".to_owned() };
        New { payload, dedupe: Some(dedupe), ..work("mail") }
    };
    let read = async |id: JobId| store.job_lookup(&[job_ref(id)]).await.unwrap().rows.remove(0).unwrap();
    let first = of("first", job::OnConflict::Existing);
    store.job_enqueue(core::slice::from_ref(&first)).await.unwrap();
    for (text, on_conflict, commits, payload, waits) in [
        ("second", job::OnConflict::Replace, false, "first", State::Ready),
        ("third", job::OnConflict::Replace, true, "third", State::Ready),
        ("fourth", job::OnConflict::Existing, true, "third", State::Ready),
        ("fifth", job::OnConflict::PushOut, false, "third", State::Ready),
        ("sixth", job::OnConflict::PushOut, true, "third", State::Scheduled),
    ] {
        let mut tx = client.transaction().await.unwrap();
        let new = New { delay: Some(Duration::from_secs(3_600)), ..of(text, on_conflict) };
        let enqueued = enqueue_in(sql, clock.as_ref(), &mut tx, &new).await.unwrap();
        assert_eq!(enqueued.enqueued, Enqueued::Existing(first.id), "{text}");
        if commits {
            tx.commit().await.unwrap()
        } else {
            tx.rollback().await.unwrap()
        }
        let row = read(first.id).await;
        assert_eq!((row.payload.bytes.as_slice(), row.state), (payload.as_bytes(), waits), "{text}");
    }
    fresh.advance(Duration::from_secs(4_000)).await;
    store.job_promote(ALL).await.unwrap();
    assert_eq!(Worker::on(&store).await.take("mail", ALL).await.len(), 1);
    let mut tx = client.transaction().await.unwrap();
    let late = of("late", job::OnConflict::Replace);
    let enqueued = enqueue_in(sql, clock.as_ref(), &mut tx, &late).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(enqueued.enqueued, Enqueued::Existing(first.id));
    assert_eq!(read(first.id).await.payload.bytes, b"third", "it runs: nothing is changed");
}

/// An enqueue by SQL waits for another transaction with the same key for a moment, and no longer.
#[tokio::test(flavor = "multi_thread")]
async fn an_enqueue_by_sql_does_not_wait_for_an_open_transaction() {
    let fresh = Fresh::new().await;
    let (first, second) = (fresh.client().await, fresh.client().await);
    let call = |key: &str| {
        let options = format!("'{{\"idempotency_key\": \"{key}\"}}'");
        format!("SELECT \"{}\".enqueue('default', 'mail', '{{}}'::jsonb, {options})", fresh.schema)
    };
    first.batch_execute("BEGIN").await.unwrap();
    first.batch_execute(&call("k")).await.unwrap();
    second.batch_execute("SET lock_timeout = '7s'").await.unwrap();
    let began = std::time::Instant::now();
    let error = second.batch_execute(&call("k")).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "55P03");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    second.batch_execute(&call("other")).await.unwrap();
    let timeout: String = second.query_one("SHOW lock_timeout", &[]).await.unwrap().get(0);
    assert_eq!(timeout, "7s", "the caller's own setting stays");
    first.batch_execute("COMMIT").await.unwrap();
    second.batch_execute(&call("k")).await.unwrap();
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
        ("'default', 'mail', '{}'::jsonb, '{\"delay\": \"soon\"}'", "OW105"),
        ("'default', 'mail', '{}'::jsonb, '{\"dely\": \"1s\"}'", "OW128"),
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

/// The statement that lets jobs through, such that it waits for its turn instead of leaving it to others.
fn patient_admit(fresh: &Fresh, limit: i64) -> String {
    let statements = onceward_store::postgres::plans::planned(&fresh.schema);
    let admit = statements.iter().find(|statement| statement.name == "promote_admit").unwrap();
    let text = admit.text.replacen("FOR UPDATE OF t SKIP LOCKED", "FOR UPDATE OF t", 1);
    text.replace("$1::bigint", &limit.to_string())
}

/// Begins it on a connection of its own, which waits for the turn that somebody holds. How many changes it looks at.
async fn admit_that_waits(fresh: &Fresh) -> tokio::task::JoinHandle<i64> {
    let (client, watcher, text) = (fresh.client().await, fresh.client().await, patient_admit(fresh, 1_000));
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let waiting = tokio::spawn(async move { client.query(&text, &[]).await.unwrap()[0].get::<_, i64>(0) });
    let waits = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1";
    while watcher.query_one(waits, &[&pid]).await.unwrap().get::<_, Option<bool>>(0) != Some(true) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    waiting
}

/// The queues of the jobs that have been let through, as somebody new sees them.
async fn let_through(fresh: &Fresh) -> Vec<String> {
    let text = format!(
        "SELECT j.queue FROM \"{0}\".job_gate g JOIN \"{0}\".job j ON j.id = g.id ORDER BY 1",
        fresh.schema
    );
    fresh.client().await.query(&text, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn allow(store: &Arc<dyn Store>, most: u32) {
    let (queue, actor) = (Queue::default(), Owner::new("ops").unwrap());
    let ask = onceward_store::LimitKeys { namespace: Namespace::default(), queue, most, actor };
    store.queue_limit_keys(&ask).await.unwrap();
}

/// J10: whoever gets the turn late counts what has been let through since it began to look.
#[tokio::test(flavor = "multi_thread")]
async fn j10_whoever_has_the_turn_counts_what_is_there_now() {
    let fresh = Fresh::new().await;
    let (store, client) = (fresh.store().await, fresh.client().await);
    allow(&store, 2).await;
    let run = async |text: &str| {
        client.batch_execute(&text.replace("{schema}", &fresh.schema)).await.unwrap();
    };
    run("BEGIN; SELECT FROM {schema}.job_turn FOR UPDATE").await;
    let of = || New { ordering_key: Some(Key::new("k").unwrap()), ..work("mail") };
    store.job_enqueue(&[of(), of()]).await.unwrap();
    store.job_enqueue(&[New { queue: Queue::new("strict").unwrap(), ..of() }]).await.unwrap();
    let waiting = admit_that_waits(&fresh).await;
    run(&patient_admit(&fresh, 1)).await;
    // One of two has ended. Nothing of this is in the snapshot of the one that waits, nor is a seat taken that it
    // would take.
    run("DELETE FROM {schema}.job_gate WHERE seat = 1; COMMIT").await;
    assert_eq!(waiting.await.unwrap(), 1, "it has had the turn");
    assert_eq!(let_through(&fresh).await, ["default"], "J10");
    fresh
        .run("DELETE FROM {schema}.job_gate; INSERT INTO {schema}.job_arrived VALUES ('default', 'k')")
        .await;
    store.job_promote(ALL).await.unwrap();
    assert_eq!(let_through(&fresh).await, ["strict"]);
}

/// J10: nobody is let through by a setting that has been changed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn j10_whoever_has_seen_another_setting_leaves_the_turn_to_others() {
    let fresh = Fresh::new().await;
    let (store, client) = (fresh.store().await, fresh.client().await);
    allow(&store, 3).await;
    let run = async |text: &str| {
        client.batch_execute(&text.replace("{schema}", &fresh.schema)).await.unwrap();
    };
    run("BEGIN; UPDATE {schema}.job_turn SET taken_at = taken_at + interval '1 second'").await;
    let of = || New { ordering_key: Some(Key::new("k").unwrap()), ..work("mail") };
    store.job_enqueue(&[of(), of(), of()]).await.unwrap();
    let waiting = admit_that_waits(&fresh).await;
    run("UPDATE {schema}.job_queue SET key_concurrency = 1; COMMIT").await;
    assert_eq!(waiting.await.unwrap(), 0, "it looks at nothing");
    assert_eq!(let_through(&fresh).await, [""; 0]);
    store.job_promote(ALL).await.unwrap();
    assert_eq!(let_through(&fresh).await.len(), 1);
}

/// What a subscriber in another process hears, as long as it is about jobs.
async fn heard(wakes: &mut tokio::sync::broadcast::Receiver<Wake>) -> Queue {
    loop {
        match tokio::time::timeout(Duration::from_secs(20), wakes.recv()).await.unwrap().unwrap() {
            Wake::Jobs(_, queue) => return queue,
            Wake::Lease(..) | Wake::Anything => {}
        }
    }
}

/// A hint leaves together with what it is about, and not before: whoever hears it finds the job.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_hears_of_a_new_job_finds_it() {
    let fresh = Fresh::new().await;
    let (here, there) = (fresh.store().await, fresh.store().await);
    let (mut wakes, worker) = (there.subscribe(), Worker::on(&there).await);
    assert!(matches!(wakes.recv().await.unwrap(), Wake::Anything), "listening has begun");
    for round in 0..30_u64 {
        // In the first of them the connections are new, in others a hint has just left, or none for long.
        tokio::time::sleep(Duration::from_millis(round % 4 * 4)).await;
        let new = work("mail");
        here.job_enqueue(core::slice::from_ref(&new)).await.unwrap();
        assert_eq!(heard(&mut wakes).await, Queue::default());
        let found: Vec<JobId> = worker.take("mail", ALL).await.iter().map(|claimed| claimed.job.id).collect();
        assert_eq!(found, [new.id], "round {round}");
    }
}

/// Of jobs that come in floods every queue is told, however few hints it takes.
#[tokio::test(flavor = "multi_thread")]
async fn every_queue_is_told_when_jobs_come_in_floods() {
    let fresh = Fresh::new().await;
    let (here, there) = (fresh.store().await, fresh.store().await);
    let mut wakes = there.subscribe();
    assert!(matches!(wakes.recv().await.unwrap(), Wake::Anything), "listening has begun");
    let queue = |number: usize| Queue::new(format!("q{number}")).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..40 {
        let (here, new) = (here.clone(), New { queue: queue(number), ..work("mail") });
        tasks.spawn(async move { here.job_enqueue(&[new]).await.unwrap() });
    }
    tasks.join_all().await;
    let mut missing: std::collections::BTreeSet<Queue> = (0..40).map(queue).collect();
    while !missing.is_empty() {
        missing.remove(&heard(&mut wakes).await);
    }
}

/// Somebody's commit holds the lock of NOTIFY for as long as it waits for a standby: enqueues go on, and are heard of
/// when it is over.
#[tokio::test(flavor = "multi_thread")]
async fn exclusive_enqueues_go_on_while_nobody_can_notify() {
    let server = crate::support::Server::start();
    let admin = crate::support::connect(&server.url()).await;
    for text in [
        "CREATE TABLE mine (n int)",
        "ALTER ROLE postgres SET synchronous_commit = local",
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
        "SELECT pg_reload_conf()",
    ] {
        admin.batch_execute(text).await.unwrap();
    }
    let fresh = Fresh::on(&server.url()).await;
    let (here, there) = (fresh.store().await, fresh.store().await);
    let mut wakes = there.subscribe();
    assert!(matches!(wakes.recv().await.unwrap(), Wake::Anything), "listening has begun");
    here.job_enqueue(&[work("mail")]).await.unwrap();
    heard(&mut wakes).await;
    let waits = crate::support::connect(&server.url()).await;
    let hanging = tokio::spawn(async move {
        let text = "SET synchronous_commit = on; BEGIN; INSERT INTO mine VALUES (1); NOTIFY mine; COMMIT";
        waits.batch_execute(text).await
    });
    let hangs = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let pid: i32 = loop {
        match admin.query(hangs, &[]).await.unwrap().first() {
            Some(row) => break row.get(0),
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(6)).await;
        here.job_enqueue(&[work("mail")]).await.unwrap();
    }
    admin.query("SELECT pg_cancel_backend($1)", &[&pid]).await.unwrap();
    hanging.await.unwrap().unwrap();
    here.job_enqueue(&[New { queue: Queue::new("after").unwrap(), ..work("mail") }]).await.unwrap();
    while heard(&mut wakes).await.as_str() != "after" {}
    assert_eq!(Worker::on(&there).await.take("mail", ALL).await.len(), 21);
}
