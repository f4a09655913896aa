//! Jobs on a file: what other processes, other writers and a kill do to them.

use core::time::Duration;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use onceward_core::job::{self, Claimed, Ended, Ending, New, Payload, State};
use onceward_core::{
    ClaimId, Code, JobId, Kind, Namespace, Owner, Place, Queue, SessionId, Timestamp, session,
};
use onceward_store::clock::SystemClock;
use onceward_store::sqlite::SqliteStore;
use onceward_store::{
    ClaimJobs, JobRef, JobStore, OpenOptions, SessionRef, SettleJob, SettleJobs, SettledJob, Store, Want,
};
use rusqlite::Connection;

use super::file::File;

/// Tells a child which file to work on; without it the child's test does nothing.
const CHILD: &str = "ONCEWARD_TEST_JOBS_FILE";
const JOBS: usize = 300;
const TTL: Duration = Duration::from_secs(1);

pub(crate) fn new(kind: &str) -> New {
    let payload = Payload { bytes: b"{}".to_vec(), content_type: "application/json".to_owned() };
    New::of_kind(
        Namespace::default(),
        JobId::from_uuid(uuid::Uuid::now_v7()),
        Kind::new(kind).unwrap(),
        payload,
    )
}

pub(crate) fn name(id: JobId) -> JobRef {
    JobRef { namespace: Namespace::default(), id }
}

pub(crate) async fn open_session(store: &SqliteStore) -> SessionId {
    let id = SessionId::from_uuid(uuid::Uuid::new_v4());
    let owner = Owner::new("host:1").unwrap();
    let ask = session::Open { id, owner, ttl: TTL, about: session::About::default() };
    store.session_open(&ask).await.unwrap();
    id
}

pub(crate) fn claim_of(session: SessionId, kind: &str, limit: usize) -> ClaimJobs {
    let kind = Kind::new(kind).unwrap();
    let want = Want { queue: Queue::default(), kind, route: String::new(), limit };
    let claim = ClaimId::from_uuid(uuid::Uuid::new_v4());
    ClaimJobs {
        namespace: Namespace::default(),
        session,
        claim,
        wants: vec![want],
        alone: false,
        limit,
        permitted: false,
    }
}

pub(crate) fn ending(claimed: &Claimed, ending: Ending, now: Timestamp) -> SettleJob {
    let worker = Owner::new("host:1").unwrap();
    let ended = Ended { token: claimed.token, started_at: now, worker: worker.clone(), http: None };
    SettleJob {
        job: name(claimed.job.id),
        place: claimed.job.place,
        fence: claimed.token,
        token: claimed.token,
        started_at: now,
        worker,
        next: job::end(claimed.job.facts(), &ended, ending, now, false, 7),
        retain: claimed.job.policy.retain,
        parent: claimed.job.parent,
    }
}

/// Claims and ends jobs until there are none, and tells of each that it has ended.
async fn drain(store: &SqliteStore, session: SessionId, alone: bool, mut tell: impl FnMut(JobId)) {
    loop {
        let ask = ClaimJobs { alone, ..claim_of(session, "work", 7) };
        let claimed = store.job_claim(&ask).await.unwrap();
        if claimed.jobs.is_empty() {
            return;
        }
        let done = |job: &Claimed| ending(job, Ending::Done(None), claimed.now);
        let jobs = claimed.jobs.iter().map(done).collect();
        let ended = store.job_settle(&SettleJobs { jobs, finished: vec![ask.claim] }).await.unwrap();
        for (job, ended) in claimed.jobs.iter().zip(ended) {
            assert_eq!(ended, SettledJob::Applied(State::Succeeded));
            tell(job.job.id);
        }
    }
}

/// The child: enqueues jobs of its own, and works on everybody's.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_works_on_jobs() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let at = onceward_store::url::SqliteAt { path: Some(path.into()) };
    let store = Arc::new(SqliteStore::open(&at, OpenOptions::default()).await.unwrap());
    let session = open_session(&store).await;
    let enqueuer = Arc::clone(&store);
    tokio::spawn(async move {
        loop {
            let job = new("work");
            enqueuer.job_enqueue(core::slice::from_ref(&job)).await.unwrap();
            println!("enqueued {}", job.id);
        }
    });
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        drain(&store, session, false, |id| println!("ended {id}")).await;
    }
}

struct Working(Child);

impl Working {
    fn start(file: &File) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite::jobs::child_that_works_on_jobs", "--nocapture"])
            .env(CHILD, file.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    /// What it has said when it is killed, in the middle of something, after it has ended that many jobs.
    fn kill_after(&mut self, ends: usize) -> (BTreeSet<JobId>, Vec<JobId>) {
        let (mut enqueued, mut ended) = (BTreeSet::new(), Vec::new());
        for line in BufReader::new(self.0.stdout.take().unwrap()).lines().map_while(Result::ok) {
            let id = |text: &str| text.trim().parse::<JobId>().unwrap();
            enqueued.extend(line.split_once("enqueued ").map(|(_, text)| id(text)));
            ended.extend(line.split_once("ended ").map(|(_, text)| id(text)));
            if ended.len() >= ends {
                self.0.kill().unwrap();
            }
        }
        self.0.wait().unwrap();
        (enqueued, ended)
    }
}

/// J2, N1: two processes work on the same jobs, and one is killed. Each job that was enqueued ends once, none is
/// lost, and what the dead one held is taken from it.
#[tokio::test(flavor = "multi_thread")]
async fn j2_no_job_is_lost_or_ended_twice_by_a_process_that_is_killed() {
    let file = File::new();
    let store = file.open(&SystemClock).await;
    let own: Vec<New> = (0..JOBS).map(|_| new("work")).collect();
    store.job_enqueue(&own).await.unwrap();
    let mut child = Working::start(&file);
    let watcher = tokio::task::spawn_blocking(move || child.kill_after(JOBS / 2));
    let (mut ended, session) = (Vec::new(), open_session(&store).await);
    while !watcher.is_finished() {
        drain(&store, session, false, |id| ended.push(id)).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (enqueued, by_the_child) = watcher.await.unwrap();
    file.assert_sound();
    let began = Instant::now();
    while store.job_rescue(1_000).await.unwrap().sessions == 0 && began.elapsed() < 5 * TTL {
        tokio::time::sleep(TTL / 10).await;
    }
    for alone in [true, false] {
        drain(&store, session, alone, |id| ended.push(id)).await;
    }
    let all = own.iter().map(|job| job.id).chain(enqueued);
    let all: Vec<JobRef> = all.map(name).collect();
    for row in store.job_lookup(&all).await.unwrap().rows {
        assert_eq!(row.map(|row| row.state), Some(State::Succeeded));
    }
    let told = ended.len() + by_the_child.len();
    let distinct: BTreeSet<JobId> = ended.into_iter().chain(by_the_child).collect();
    assert_eq!(distinct.len(), told, "each ended once");
}

/// Decision 20, N47: whoever else writes to the file stops us; every call ends by its deadline, as busy, and nothing
/// of it is done later.
#[tokio::test(flavor = "multi_thread")]
async fn n47_a_foreign_writer_makes_jobs_busy_within_the_deadline_and_loses_none() {
    const SHORT: Duration = Duration::from_millis(300);
    let file = File::new();
    let store = file.open_with(OpenOptions { deadline: SHORT, ..OpenOptions::default() }).await;
    let (first, second) = (new("work"), new("work"));
    store.job_enqueue(core::slice::from_ref(&first)).await.unwrap();
    let session = open_session(&store).await;
    let token = store.session_list().await.unwrap().rows[0].token;
    let held = Connection::open(file.path()).unwrap();
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = Instant::now();
    let ask = claim_of(session, "work", 10);
    let (batch, renewal) = ([second.clone()], SessionRef { id: session, token });
    let (enqueued, claimed, renewed) =
        tokio::join!(store.job_enqueue(&batch), store.job_claim(&ask), store.session_renew(&renewal));
    for error in [enqueued.unwrap_err(), claimed.unwrap_err(), renewed.unwrap_err()] {
        assert_eq!(error.code(), Code::StoreBusy);
        assert!(error.is_retryable() && !error.is_uncertain());
    }
    assert!(began.elapsed() < SHORT + Duration::from_secs(5));
    // What wants nothing written is answered all the same.
    assert!(store.job_claim(&claim_of(session, "other", 10)).await.unwrap().jobs.is_empty());
    assert_eq!(store.job_promote(10).await.unwrap().moved, 0);
    drop(held);
    let rows = store.job_lookup(&[name(first.id), name(second.id)]).await.unwrap().rows;
    assert_eq!(
        rows.iter().map(|row| row.as_ref().map(|row| row.state)).collect::<Vec<_>>(),
        [Some(State::Ready), None]
    );
    let claimed = store.job_claim(&claim_of(session, "work", 10)).await.unwrap().jobs;
    assert_eq!(claimed.iter().map(|claimed| claimed.job.id).collect::<Vec<_>>(), [first.id]);
}

/// A place is a hint: an ending that names a wrong one, or none, is recorded all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_ending_finds_a_job_that_is_not_at_its_place() {
    let file = File::new();
    let store = file.open(&SystemClock).await;
    store.job_enqueue(&[new("work"), new("work"), new("work")]).await.unwrap();
    let session = open_session(&store).await;
    let claimed = store.job_claim(&claim_of(session, "work", 10)).await.unwrap();
    let wrong = [claimed.jobs[1].job.place, Place(Some(99)), Place::default()];
    let jobs = claimed.jobs.iter().zip(wrong);
    let jobs = jobs.map(|(job, place)| SettleJob { place, ..ending(job, Ending::Done(None), claimed.now) });
    let ask = SettleJobs { jobs: jobs.collect(), finished: Vec::new() };
    assert_eq!(store.job_settle(&ask).await.unwrap(), [SettledJob::Applied(State::Succeeded); 3]);
    assert_eq!(store.job_settle(&ask).await.unwrap(), [SettledJob::Already(State::Succeeded); 3]);
}

/// A claim that is called finished while one of its jobs still runs stays, so that the job can be rescued (J2).
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_which_something_runs_is_not_finished() {
    let file = File::new();
    let store = file.open(&SystemClock).await;
    store.job_enqueue(&[new("work"), new("work")]).await.unwrap();
    let session = open_session(&store).await;
    let ask = claim_of(session, "work", 10);
    let claimed = store.job_claim(&ask).await.unwrap();
    let settle = |at: usize| SettleJobs {
        jobs: vec![ending(&claimed.jobs[at], Ending::Done(None), claimed.now)],
        finished: vec![ask.claim],
    };
    store.job_settle(&settle(0)).await.unwrap();
    let row = store.job_lookup(&[name(claimed.jobs[1].job.id)]).await.unwrap().rows.remove(0).unwrap();
    assert_eq!(row.state_now(), State::Running);
    assert_eq!(store.job_claim(&ask).await.unwrap().jobs.len(), 1, "the same claim finds it");
    store.job_settle(&settle(1)).await.unwrap();
    let user = Connection::open(file.path()).unwrap();
    let claims: i64 =
        user.query_row("SELECT count(*) FROM onceward_job_claim", [], |row| row.get(0)).unwrap();
    assert_eq!(claims, 0);
    store.close().await;
}
