//! What the cases about jobs share: everyday jobs, and the verbs of a [`Hand`] that are about them.

use core::time::Duration;

use onceward_core::job::{self, Claimed, Ended, Ending, Move, Moved, New, Payload, Policy, State};
use onceward_core::once::Body;
use onceward_core::{ClaimId, JobId, Kind, Namespace, Queue, SessionId, Tag, Timestamp, session};

use super::kit::*;
use crate::{
    BeginJob, ClaimJobs, ClaimedJobs, Enqueued, HandOver, HandedOver, JobProgress, JobRef, ListJobs, MoveJob,
    Outstanding, PauseQueue, Promoted, PruneJobs, QueueRecord, Rescued, SessionRef, SessionRenewed,
    SettleJob, SettleJobs, SettledJob, Snapshot, Want,
};

/// More than any case has jobs.
pub(super) const ALL: usize = 1_000;

pub(super) fn kind(text: &str) -> Kind {
    Kind::new(text).unwrap()
}

pub(super) fn queue(text: &str) -> Queue {
    Queue::new(text).unwrap()
}

pub(super) fn tag(text: &str) -> Tag {
    Tag::new(text).unwrap()
}

pub(super) fn claim_id() -> ClaimId {
    ClaimId::from_uuid(uuid::Uuid::new_v4())
}

/// A new job's id: larger than those drawn before.
pub(super) fn job_id() -> JobId {
    JobId::from_uuid(uuid::Uuid::now_v7())
}

/// A job of this kind, due at once.
pub(super) fn work(text: &str) -> New {
    let payload = Payload { bytes: text.as_bytes().to_vec(), content_type: "text/plain".to_owned() };
    New::of_kind(Namespace::default(), job_id(), kind(text), payload)
}

/// The same, run at most once.
pub(super) fn at_most_once(text: &str) -> New {
    New { policy: Policy { at_most_once: true, ..Policy::default() }, ..work(text) }
}

/// As many jobs of one kind.
pub(super) fn works(text: &str, count: usize) -> Vec<New> {
    (0..count).map(|_| work(text)).collect()
}

pub(super) fn job_ref(id: JobId) -> JobRef {
    JobRef { namespace: Namespace::default(), id }
}

pub(super) fn succeeded() -> Ending {
    Ending::Done(Some(Body::new(b"ok".to_vec(), "text/plain")))
}

/// A failed attempt; the next one is due after `pause`.
pub(super) fn broken(pause: Duration) -> Ending {
    Ending::Failed { error: "it did not work".to_owned(), after: Some(pause) }
}

/// The untagged lane of a kind in the default queue.
pub(super) fn lane(text: &str) -> Want {
    Want { queue: Queue::default(), kind: kind(text), route: String::new(), limit: ALL }
}

pub(super) fn ids(jobs: &[Claimed]) -> Vec<JobId> {
    jobs.iter().map(|claimed| claimed.job.id).collect()
}

/// A session and the store it lives in: one worker.
#[derive(Clone)]
pub(super) struct Worker {
    pub(super) hand: Hand,
    pub(super) session: session::Record,
}

impl Worker {
    pub(super) async fn of(hand: &Hand) -> Self {
        Self { hand: hand.clone(), session: hand.open(&opening(TTL)).await }
    }

    pub(super) fn me(&self) -> SessionRef {
        SessionRef { id: self.session.id, token: self.session.token }
    }

    /// What a claim of these lanes says.
    pub(super) fn wish(&self, wants: &[Want], limit: usize) -> ClaimJobs {
        ClaimJobs {
            namespace: Namespace::default(),
            session: self.session.id,
            claim: claim_id(),
            wants: wants.to_vec(),
            alone: false,
            limit,
            permitted: false,
        }
    }

    /// Claims up to `limit` jobs of a kind from the default queue.
    pub(super) async fn take(&self, text: &str, limit: usize) -> Vec<Claimed> {
        self.hand.claim_jobs(&self.wish(&[lane(text)], limit)).await.jobs
    }

    /// The job that must be there.
    /// Enqueues jobs that this worker has at once.
    pub(super) fn handing(&self, jobs: &[New]) -> HandOver {
        HandOver {
            namespace: Namespace::default(),
            session: self.session.id,
            claim: claim_id(),
            jobs: jobs.to_vec(),
        }
    }

    pub(super) async fn take_one(&self, text: &str) -> Claimed {
        only(self.take(text, 1).await)
    }

    /// The same of the jobs that have lost a process.
    pub(super) async fn take_alone(&self, text: &str) -> Vec<Claimed> {
        let wish = ClaimJobs { alone: true, ..self.wish(&[lane(text)], ALL) };
        self.hand.claim_jobs(&wish).await.jobs
    }

    /// What this worker says of the end of an attempt.
    pub(super) fn verdict(&self, claimed: &Claimed, ending: Ending) -> SettleJob {
        let started_at = claimed.token.as_timestamp();
        let worker = self.session.owner.clone();
        let ended = Ended { token: claimed.token, started_at, worker: worker.clone(), http: None };
        let job = &claimed.job;
        SettleJob {
            job: JobRef { namespace: job.namespace.clone(), id: job.id },
            place: job.place,
            fence: claimed.token,
            token: claimed.token,
            started_at,
            worker,
            next: job::end(job.facts(), &ended, ending, started_at, false, 7),
            retain: job.policy.kept_for(),
            parent: claimed.job.parent,
        }
    }

    /// Ends an attempt.
    pub(super) async fn end(&self, claimed: &Claimed, ending: Ending) -> SettledJob {
        only(self.hand.settle_jobs(&[self.verdict(claimed, ending)]).await)
    }

    /// Ends attempts that must be the current ones, all in the same way.
    pub(super) async fn end_all(&self, claimed: &[Claimed], ending: &Ending) {
        let batch: Vec<_> = claimed.iter().map(|claimed| self.verdict(claimed, ending.clone())).collect();
        for answer in self.hand.settle_jobs(&batch).await {
            assert!(matches!(answer, SettledJob::Applied(_)), "{answer:?}");
        }
    }

    pub(super) fn start_of(&self, claimed: &Claimed) -> BeginJob {
        let job = JobRef { namespace: claimed.job.namespace.clone(), id: claimed.job.id };
        BeginJob { job, token: claimed.token, session: self.session.id }
    }

    /// Writes down that the handler starts.
    pub(super) async fn start(&self, claimed: &Claimed) -> bool {
        only(self.hand.begin_jobs(&[self.start_of(claimed)]).await)
    }

    /// Says how far a job is; whether that was written down.
    pub(super) async fn report(&self, claimed: &Claimed, far: &str) -> bool {
        let progress = Body::new(far.as_bytes().to_vec(), "application/json");
        let batch = [JobProgress { job: job_ref(claimed.job.id), token: claimed.token, progress }];
        only(self.hand.ask(|| self.hand.store.job_progress(&batch)).await)
    }

    pub(super) async fn renew(&self) -> SessionRenewed {
        let me = self.me();
        self.hand.ask(|| self.hand.store.session_renew(&me)).await
    }

    pub(super) async fn close(&self) -> bool {
        let me = self.me();
        self.hand.ask(|| self.hand.store.session_close(&me)).await
    }
}

/// A session as a worker opens it.
pub(super) fn opening(ttl: Duration) -> session::Open {
    let about = session::About {
        queues: vec!["default".to_owned()],
        kinds: vec!["mail".to_owned()],
        tags: vec!["gpu".to_owned()],
        concurrency: 8,
        version: "1.2.3".to_owned(),
        services: Vec::new(),
    };
    session::Open { id: session(), owner: owner("web-1:7"), ttl, about }
}

impl Hand {
    pub(super) async fn open(&self, ask: &session::Open) -> session::Record {
        self.ask(|| self.store.session_open(ask)).await
    }

    pub(super) async fn sessions(&self) -> Vec<session::Record> {
        self.ask(|| self.store.session_list()).await.rows
    }

    /// The session as a listing shows it, if it does.
    pub(super) async fn session(&self, id: SessionId) -> Option<session::Record> {
        self.sessions().await.into_iter().find(|row| row.id == id)
    }

    pub(super) async fn drain(&self, id: SessionId, draining: bool) -> bool {
        self.ask(|| self.store.session_drain(id, draining)).await
    }

    pub(super) async fn enqueue_all(&self, batch: &[New]) -> Vec<Enqueued> {
        let answers = self.ask(|| self.store.job_enqueue(batch)).await;
        assert_eq!(answers.len(), batch.len(), "one answer per job");
        answers
    }

    pub(super) async fn enqueue(&self, new: &New) -> Enqueued {
        only(self.enqueue_all(core::slice::from_ref(new)).await)
    }

    /// Enqueues jobs that must be new.
    pub(super) async fn create_all(&self, batch: &[New]) -> Vec<JobId> {
        let ids: Vec<_> = batch.iter().map(|new| new.id).collect();
        let created: Vec<_> = ids.iter().map(|id| Enqueued::Created(*id)).collect();
        assert_eq!(self.enqueue_all(batch).await, created);
        ids
    }

    pub(super) async fn create(&self, new: &New) -> JobId {
        only(self.create_all(core::slice::from_ref(new)).await)
    }

    pub(super) async fn claim_jobs(&self, ask: &ClaimJobs) -> ClaimedJobs {
        let claimed = self.ask(|| self.store.job_claim(ask)).await;
        let token = claimed.jobs.first().map(|first| first.token);
        assert!(claimed.jobs.iter().all(|job| Some(job.token) == token), "one claim, one token");
        assert!(claimed.jobs.iter().all(|job| job.token > job.job.token), "J3: it is larger than the job's");
        assert!(claimed.jobs.len() <= ask.limit, "J14: never more than asked for");
        claimed
    }

    pub(super) async fn hand_over(&self, ask: &HandOver) -> HandedOver {
        let handed = self.ask(|| self.store.job_hand_over(ask)).await;
        assert_eq!(handed.enqueued.len(), ask.jobs.len(), "one answer per job");
        handed
    }

    pub(super) async fn begin_jobs(&self, batch: &[BeginJob]) -> Vec<bool> {
        let answers = self.ask(|| self.store.job_begin(batch)).await;
        assert_eq!(answers.len(), batch.len(), "one answer per job");
        answers
    }

    pub(super) async fn settle_jobs(&self, batch: &[SettleJob]) -> Vec<SettledJob> {
        let ask = SettleJobs { jobs: batch.to_vec(), finished: Vec::new() };
        let answers = self.ask(|| self.store.job_settle(&ask)).await;
        assert_eq!(answers.len(), batch.len(), "one answer per job");
        answers
    }

    /// Makes ready what is due.
    pub(super) async fn promote(&self) -> Promoted {
        self.ask(|| self.store.job_promote(ALL)).await
    }

    /// Takes what lost sessions hold, until there is no more.
    pub(super) async fn rescue(&self) -> Rescued {
        let mut all = Rescued::default();
        loop {
            let rescued = self.ask(|| self.store.job_rescue(ALL)).await;
            all.jobs.extend(rescued.jobs);
            all.sessions += rescued.sessions;
            if !rescued.more {
                return all;
            }
        }
    }

    pub(super) async fn lanes(&self, queues: &[Queue]) -> Vec<Want> {
        let namespace = Namespace::default();
        let mut lanes = self.ask(|| self.store.job_lanes(&namespace, queues)).await;
        assert!(lanes.iter().all(|lane| lane.limit == 0), "a lane is named, not counted");
        lanes.sort_by(|a, b| (&a.queue, &a.kind, &a.route).cmp(&(&b.queue, &b.kind, &b.route)));
        lanes
    }

    /// Whether a worker of the default queue that runs `kind` and offers `tags` still waits for something.
    pub(super) async fn outstanding(&self, text: &str, tags: &[&str], horizon: Duration) -> bool {
        let ask = Outstanding {
            namespace: Namespace::default(),
            queues: vec![Queue::default()],
            kinds: vec![kind(text)],
            tags: tags.iter().map(|text| tag(text)).collect(),
            horizon,
        };
        self.ask(|| self.store.job_outstanding(&ask)).await
    }

    pub(super) async fn jobs(&self, ids: &[JobId]) -> Snapshot<Option<job::Record>> {
        let asked: Vec<_> = ids.iter().map(|id| job_ref(*id)).collect();
        let found = self.ask(|| self.store.job_lookup(&asked)).await;
        assert_eq!(found.rows.len(), ids.len(), "one answer per job");
        found
    }

    /// The row of a job, if there is one.
    pub(super) async fn find_job(&self, id: JobId) -> Option<job::Record> {
        only(self.jobs(&[id]).await.rows)
    }

    /// The row of a job that must be there.
    pub(super) async fn job(&self, id: JobId) -> job::Record {
        self.find_job(id).await.unwrap()
    }

    /// The states people mean, of jobs that must be there.
    pub(super) async fn states(&self, ids: &[JobId]) -> Vec<State> {
        self.jobs(ids).await.rows.into_iter().map(|row| row.unwrap().state_now()).collect()
    }

    pub(super) async fn state(&self, id: JobId) -> State {
        only(self.states(&[id]).await)
    }

    pub(super) async fn list_jobs(&self, ask: &ListJobs) -> Vec<job::Record> {
        let rows = self.ask(|| self.store.job_list(ask)).await.rows;
        assert!(rows.len() <= ask.limit, "a page holds no more than asked for");
        rows
    }

    /// Moves a job as the operator `ops`, whatever its token is.
    pub(super) async fn intervene(&self, id: JobId, to: Move) -> Moved {
        self.job_move(&moving(id, to)).await
    }

    pub(super) async fn job_move(&self, ask: &MoveJob) -> Moved {
        self.ask(|| self.store.job_move(ask)).await
    }

    /// Moves a job that must allow it.
    pub(super) async fn moved(&self, id: JobId, to: Move) -> State {
        match self.intervene(id, to).await {
            Moved::Applied { from } => from,
            answer => panic!("not moved: {answer:?}"),
        }
    }

    pub(super) async fn pause(&self, text: &str, paused: bool) {
        let ask = PauseQueue {
            namespace: Namespace::default(),
            queue: queue(text),
            paused,
            actor: owner("ops"),
            reason: Some("the printer is out of paper".to_owned()),
        };
        self.ask(|| self.store.queue_pause(&ask)).await;
    }

    pub(super) async fn queues(&self) -> Vec<QueueRecord> {
        let namespace = Namespace::default();
        self.ask(|| self.store.queue_list(&namespace)).await
    }

    /// Forgets what may be forgotten, dead jobs after `age`.
    pub(super) async fn prune_jobs(&self, age: Duration) -> crate::PrunedJobs {
        let ask = PruneJobs::all(age, ALL);
        self.ask(|| self.store.job_prune(&ask)).await
    }
}

/// What the operator `ops` wants of a job.
pub(super) fn moving(id: JobId, to: Move) -> MoveJob {
    MoveJob {
        job: job_ref(id),
        token: None,
        to,
        actor: owner("ops"),
        reason: Some("looked at the log".to_owned()),
        dry_run: false,
    }
}

/// The store's clock, as it is about now.
pub(super) async fn now(hand: &Hand) -> Timestamp {
    hand.jobs(&[job_id()]).await.now
}
