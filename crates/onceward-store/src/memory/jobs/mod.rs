//! Jobs and sessions in the memory model: what is kept, and the verbs, each of which calls the rule that decides.

mod attempt;
mod enqueue;
mod lanes;
#[cfg(feature = "conformance")]
mod leap;
mod look;
mod permits;
mod sessions;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use onceward_core::job::tuning::Tuning;
use onceward_core::job::{self, Moved, Running};
use onceward_core::{
    ClaimId, JobId, Key, Namespace, Owner, Queue, Result, SessionId, Timestamp, Token, session,
};

use self::enqueue::{HeldKey, KeyName};
pub(super) use self::lanes::Lane;
use self::lanes::{Due, Held, KeysOf, Paused, Tuned};
#[cfg(feature = "conformance")]
pub use self::leap::Outlook;
use self::permits::Limited;
use super::MemoryStore;
use super::runs::Runs;
use super::triggers::Ears;
use crate::store::{
    AskPermits, BeginJob, Chores, ClaimJobs, ClaimedJobs, CommitOutcome, Enqueued, HandOver, HandedOver,
    JobProgress, JobRef, JobStore, LimitKeys, LimitQueue, ListJobs, MoveJob, Outstanding, PauseQueue,
    Permits, Promoted, PruneJobs, PrunedJobs, QueueRecord, Rescued, SessionRef, SessionRenewed, SettleJobs,
    SettledJob, Snapshot, TuneQueue, Wake, Want,
};

/// Which job.
pub(super) type Name = (Namespace, JobId);

/// What is kept of jobs.
#[derive(Default)]
pub(super) struct Jobs {
    sessions: BTreeMap<SessionId, session::Record>,
    pub(super) rows: BTreeMap<Name, job::Record>,
    /// Until when the jobs are kept that have succeeded or were cancelled.
    forget_at: BTreeMap<Name, Timestamp>,
    claims: BTreeMap<ClaimId, Claim>,
    /// Running jobs that were called off, and in which words.
    called_off: BTreeMap<Name, String>,
    keys: BTreeMap<KeyName, HeldKey>,
    /// The dedupe key of a job that has one.
    dedupe: BTreeMap<Name, Key>,
    ready: BTreeSet<Lane>,
    pub(super) later: BTreeSet<Due>,
    /// Per ordering key the jobs that were let in, and those that are due and wait for the end of one.
    seated: BTreeMap<(Namespace, Key), BTreeSet<JobId>>,
    held: BTreeMap<(Namespace, Key), BTreeSet<Held>>,
    /// The ordering keys of which the next job may have to be let in.
    stirred: BTreeSet<(Namespace, Key)>,
    paused: BTreeMap<(Namespace, Queue), Paused>,
    /// Queues that are or were limited.
    limited: BTreeMap<(Namespace, Queue), Limited>,
    /// How many jobs of one ordering key run at the same time, where that was set.
    keyed: BTreeMap<(Namespace, Queue), KeysOf>,
    /// What queues are tuned by, where that was set.
    tuned: BTreeMap<(Namespace, Queue), Tuned>,
    /// The queues in which something has become ready since their workers were told.
    woken: BTreeSet<(Namespace, Queue)>,
    /// What runs have beside their jobs.
    pub(super) runs: Runs,
    /// What triggers listen to.
    pub(super) ears: Ears,
}

/// One claim, whatever it took.
struct Claim {
    namespace: Namespace,
    session: SessionId,
    token: Token,
    claimed_at: Timestamp,
    jobs: Vec<JobId>,
}

impl Claim {
    fn names(&self) -> impl Iterator<Item = Name> {
        self.jobs.iter().map(|id| (self.namespace.clone(), *id))
    }
}

pub(super) fn name(job: &JobRef) -> Name {
    (job.namespace.clone(), job.id)
}

impl Jobs {
    /// Whether a job still runs under a claim.
    pub(super) fn runs(&self, name: &Name, claim: Token) -> bool {
        self.rows.get(name).is_some_and(|row| !row.state.is_final() && job::is_running(row.token, claim))
    }

    /// Enqueues jobs in the same stroke as something else; the queues in which something has become ready.
    pub(super) fn enqueue_all(&mut self, jobs: &[job::New], now: Timestamp) -> BTreeSet<(Namespace, Queue)> {
        for new in jobs {
            self.enqueue(new, now);
        }
        self.let_in();
        core::mem::take(&mut self.woken)
    }

    /// Who runs what.
    pub(super) fn running(&self) -> BTreeMap<Name, Running> {
        let mut running = BTreeMap::new();
        for (id, claim) in &self.claims {
            let owner = self.sessions.get(&claim.session).map(|session| session.owner.clone());
            let run = Running {
                claim: *id,
                session: claim.session,
                token: claim.token,
                since: claim.claimed_at,
                // A session that was cleared away has no owner any more.
                owner: owner.unwrap_or_else(|| Owner::from_row("")),
            };
            let names = claim.names().filter(|name| self.runs(name, claim.token));
            running.extend(names.map(|name| (name, run.clone())));
        }
        running
    }
}

impl MemoryStore {
    /// Runs one verb about jobs, and tells the workers of queues in which something has become ready.
    pub(super) fn jobs<R>(&self, run: impl FnOnce(&mut Jobs, Timestamp) -> R) -> R {
        let (answer, woken) = self.verb(|tables, now| {
            let answer = run(&mut tables.jobs, now);
            tables.jobs.let_in();
            (answer, core::mem::take(&mut tables.jobs.woken))
        });
        self.wake_queues(woken);
        answer
    }

    pub(super) fn wake_queues(&self, queues: impl IntoIterator<Item = (Namespace, Queue)>) {
        for (namespace, queue) in queues {
            // Nobody listening is fine.
            let _ = self.wakes.send(Wake::Jobs(namespace, queue));
        }
    }
}

#[async_trait]
impl JobStore for MemoryStore {
    async fn session_open(&self, ask: &session::Open) -> Result<session::Record> {
        self.jobs(|jobs, now| jobs.session_open(ask, now))
    }

    async fn session_renew(&self, ask: &SessionRef) -> Result<SessionRenewed> {
        Ok(self.jobs(|jobs, now| jobs.session_renew(ask, now)))
    }

    async fn session_close(&self, ask: &SessionRef) -> Result<bool> {
        Ok(self.jobs(|jobs, now| jobs.session_close(ask, now)))
    }

    async fn session_list(&self) -> Result<Snapshot<session::Record>> {
        Ok(self.jobs(|jobs, now| Snapshot { now, rows: jobs.session_list() }))
    }

    async fn session_drain(&self, id: SessionId, draining: bool) -> Result<bool> {
        Ok(self.jobs(|jobs, _| jobs.session_drain(id, draining)))
    }

    async fn job_enqueue(&self, batch: &[job::New]) -> Result<Vec<Enqueued>> {
        Ok(self.jobs(|jobs, now| batch.iter().map(|new| jobs.enqueue(new, now)).collect()))
    }

    async fn job_hand_over(&self, ask: &HandOver) -> Result<HandedOver> {
        Ok(self.jobs(|jobs, now| jobs.hand_over(ask, now)))
    }

    async fn job_claim(&self, ask: &ClaimJobs) -> Result<ClaimedJobs> {
        Ok(self.jobs(|jobs, now| jobs.claim(ask, now)))
    }

    async fn job_begin(&self, batch: &[BeginJob]) -> Result<Vec<bool>> {
        Ok(self.jobs(|jobs, now| batch.iter().map(|ask| jobs.begin(ask, now)).collect()))
    }

    async fn job_progress(&self, batch: &[JobProgress]) -> Result<Vec<bool>> {
        Ok(self.jobs(|jobs, _| batch.iter().map(|ask| jobs.progress(ask)).collect()))
    }

    async fn job_settle(&self, ask: &SettleJobs) -> Result<Vec<SettledJob>> {
        Ok(self.jobs(|jobs, now| jobs.settle_all(ask, now)))
    }

    async fn job_chores(&self) -> Result<Chores> {
        Ok(self.jobs(|jobs, now| jobs.chores(now)))
    }

    async fn job_promote(&self, limit: usize) -> Result<Promoted> {
        Ok(self.jobs(|jobs, now| jobs.promote(limit, now)))
    }

    async fn job_rescue(&self, limit: usize) -> Result<Rescued> {
        Ok(self.jobs(|jobs, now| jobs.rescue(limit, now)))
    }

    async fn job_overdue(&self, namespace: &Namespace, limit: usize) -> Result<Vec<JobRef>> {
        Ok(self.jobs(|jobs, now| jobs.overdue(namespace, limit, now)))
    }

    async fn job_lanes(&self, namespace: &Namespace, queues: &[Queue]) -> Result<Vec<Want>> {
        Ok(self.jobs(|jobs, _| jobs.lanes(namespace, queues)))
    }

    async fn job_outstanding(&self, ask: &Outstanding) -> Result<bool> {
        Ok(self.jobs(|jobs, now| jobs.outstanding(ask, now)))
    }

    async fn job_announce(&self, queues: &[(Namespace, Queue)]) -> Result<()> {
        self.wake_queues(queues.iter().cloned());
        Ok(())
    }

    async fn transactions(&self, ids: &[u64]) -> Result<Vec<Option<CommitOutcome>>> {
        Ok(vec![None; ids.len()])
    }

    async fn job_move(&self, ask: &MoveJob) -> Result<Moved> {
        Ok(self.jobs(|jobs, now| jobs.intervene(ask, now)))
    }

    async fn job_lookup(&self, asked: &[JobRef]) -> Result<Snapshot<Option<job::Record>>> {
        Ok(self.jobs(|jobs, now| Snapshot { now, rows: jobs.lookup(asked) }))
    }

    async fn job_list(&self, ask: &ListJobs) -> Result<Snapshot<job::Record>> {
        Ok(self.jobs(|jobs, now| Snapshot { now, rows: jobs.list(ask) }))
    }

    async fn queue_pause(&self, ask: &PauseQueue) -> Result<()> {
        self.jobs(|jobs, now| jobs.pause(ask, now));
        Ok(())
    }

    async fn queue_limit(&self, ask: &LimitQueue) -> Result<()> {
        self.jobs(|jobs, now| jobs.limit(ask, now));
        Ok(())
    }

    async fn queue_limit_keys(&self, ask: &LimitKeys) -> Result<()> {
        self.jobs(|jobs, now| jobs.limit_keys(ask, now));
        Ok(())
    }

    async fn queue_tune(&self, ask: &TuneQueue) -> Result<()> {
        self.jobs(|jobs, now| jobs.tune(ask, now));
        Ok(())
    }

    async fn queue_tunings(&self, namespace: &Namespace) -> Result<Vec<(Queue, Tuning)>> {
        Ok(self.jobs(|jobs, _| jobs.tunings(namespace)))
    }

    async fn queue_permits(&self, batch: &[AskPermits]) -> Result<Vec<Permits>> {
        Ok(self.jobs(|jobs, now| batch.iter().map(|ask| jobs.permits(ask, now)).collect()))
    }

    async fn queue_list(&self, namespace: &Namespace) -> Result<Vec<QueueRecord>> {
        Ok(self.jobs(|jobs, _| jobs.queues(namespace)))
    }

    async fn job_prune(&self, ask: &PruneJobs) -> Result<PrunedJobs> {
        Ok(self.jobs(|jobs, now| jobs.prune(ask, now)))
    }
}
