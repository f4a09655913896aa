//! The verbs of jobs and sessions, each sent to the thread that does it. The rules of the core decide, under the
//! write lock; what is read and written is in the files beside this one.

mod begin;
mod claim;
mod endpoints;
mod enqueue;
mod fork;
mod intervene;
mod lanes;
mod look;
mod outstanding;
mod permits;
mod prune;
mod queues;
mod rescue;
mod rows;
mod runs;
mod services;
mod session;
mod settle;
mod triggers;

use std::collections::BTreeSet;

use async_trait::async_trait;
use onceward_core::job::tuning::Tuning;
use onceward_core::job::{self, Moved};
use onceward_core::{Key, Namespace, Queue, Result, SessionId, session as core_session};
use rusqlite::Connection;

use super::SqliteStore;
use super::clocks::Now;
use super::queue::Line;
use crate::{
    AskPermits, BeginJob, Chores, ClaimJobs, ClaimedJobs, CommitOutcome, Enqueued, HandOver, HandedOver,
    JobProgress, JobRef, JobStore, LimitKeys, LimitQueue, ListJobs, MoveJob, Outstanding, PauseQueue,
    Permits, Promoted, PruneJobs, PrunedJobs, QueueRecord, Rescued, SessionRef, SessionRenewed, SettleJobs,
    SettledJob, Snapshot, TuneQueue, Wake, Want,
};

pub(crate) use settle::slots;

/// How many rows of each kind are forgotten in one transaction: others want to write meanwhile.
const PRUNE_ROWS: usize = 500;

/// The queues in which something has become ready.
type Woken = BTreeSet<(Namespace, Queue)>;

/// The tables of jobs at one instant, seen by a thread that reads, or that has the write lock.
struct Jobs<'a> {
    at: &'a Connection,
    now: &'a Now,
    woken: Woken,
    /// The ordering keys of which the next job may have to be let in.
    stirred: BTreeSet<(Namespace, Key)>,
}

impl<'a> Jobs<'a> {
    fn new(at: &'a Connection, now: &'a Now) -> Self {
        Self { at, now, woken: Woken::new(), stirred: BTreeSet::new() }
    }
}

impl SqliteStore {
    /// Does something with the write lock, and tells the workers of queues in which something has become ready.
    async fn jobs<R: Send + 'static>(
        &self,
        verb: &'static str,
        rows: usize,
        work: impl Fn(&mut Jobs<'_>) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R> {
        let work = move |at: &_, now: &_| {
            let mut jobs = Jobs::new(at, now);
            let found = work(&mut jobs)?;
            jobs.let_in()?;
            Ok((found, jobs.woken))
        };
        let (found, woken) = self.write(verb, Line::Patient, rows, work).await?;
        self.wake_queues(woken);
        Ok(found)
    }

    /// Looks at jobs.
    async fn look<R: Send + 'static>(
        &self,
        verb: &'static str,
        work: impl Fn(&mut Jobs<'_>) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R> {
        self.read(verb, 1, move |at, now| work(&mut Jobs::new(at, now))).await
    }

    fn wake_queues(&self, queues: impl IntoIterator<Item = (Namespace, Queue)>) {
        for (namespace, queue) in queues {
            self.tell(Wake::Jobs(namespace, queue));
        }
    }
}

#[async_trait]
impl JobStore for SqliteStore {
    async fn session_open(&self, ask: &core_session::Open) -> Result<core_session::Record> {
        let ask = ask.clone();
        let open = move |at: &_, now: &_| session::open(at, &ask, now);
        self.write("session.open", Line::Urgent, 1, open).await?
    }

    async fn session_renew(&self, ask: &SessionRef) -> Result<SessionRenewed> {
        let ask = *ask;
        let renew = move |at: &_, now: &_| session::renew(at, &ask, now);
        self.write("session.renew", Line::Urgent, 1, renew).await
    }

    async fn session_close(&self, ask: &SessionRef) -> Result<bool> {
        let ask = *ask;
        self.write("session.close", Line::Patient, 1, move |at, now| session::close(at, &ask, now)).await
    }

    async fn session_list(&self) -> Result<Snapshot<core_session::Record>> {
        self.read("session.list", 1, session::list).await
    }

    async fn session_drain(&self, id: SessionId, draining: bool) -> Result<bool> {
        self.write("session.drain", Line::Patient, 1, move |at, _| session::drain(at, id, draining)).await
    }

    async fn job_enqueue(&self, batch: &[job::New]) -> Result<Vec<Enqueued>> {
        let rows = batch.len();
        let batch = batch.to_vec();
        self.jobs("job.enqueue", rows, move |jobs| batch.iter().map(|new| jobs.enqueue(new)).collect()).await
    }

    async fn job_hand_over(&self, ask: &HandOver) -> Result<HandedOver> {
        let ask = ask.clone();
        self.jobs("job.hand_over", ask.jobs.len(), move |jobs| jobs.hand_over(&ask)).await
    }

    async fn job_claim(&self, ask: &ClaimJobs) -> Result<ClaimedJobs> {
        const VERB: &str = "job.claim";
        let ask = std::sync::Arc::new(ask.clone());
        if self.has_readers() {
            let wants = std::sync::Arc::clone(&ask);
            // Who finds nothing writes nothing, and waits for nobody who does.
            if let Some(none) = self.look(VERB, move |jobs| jobs.claim_nothing(&wants)).await? {
                return Ok(none);
            }
        }
        self.jobs(VERB, ask.limit, move |jobs| jobs.claim(&ask)).await
    }

    async fn job_begin(&self, batch: &[BeginJob]) -> Result<Vec<bool>> {
        let rows = batch.len();
        let batch = batch.to_vec();
        self.jobs("job.begin", rows, move |jobs| jobs.begin(&batch)).await
    }

    async fn job_progress(&self, batch: &[JobProgress]) -> Result<Vec<bool>> {
        let rows = batch.len();
        let batch = batch.to_vec();
        self.jobs("job.progress", rows, move |jobs| jobs.progress(&batch)).await
    }

    async fn job_settle(&self, ask: &SettleJobs) -> Result<Vec<SettledJob>> {
        let ask = ask.clone();
        self.jobs("job.settle", ask.jobs.len(), move |jobs| jobs.settle_all(&ask)).await
    }

    async fn job_chores(&self) -> Result<Chores> {
        self.look("job.chores", |jobs| jobs.chores()).await
    }

    async fn job_promote(&self, limit: usize) -> Result<Promoted> {
        const VERB: &str = "job.promote";
        if self.has_readers()
            && let Some(none) = self.look(VERB, |jobs| jobs.promote_nothing()).await?
        {
            return Ok(none);
        }
        self.jobs(VERB, limit, move |jobs| jobs.promote(limit)).await
    }

    async fn job_rescue(&self, limit: usize) -> Result<Rescued> {
        const VERB: &str = "job.rescue";
        if self.has_readers() && !self.look(VERB, |jobs| jobs.is_anything_lost()).await? {
            return Ok(Rescued::default());
        }
        self.jobs(VERB, limit, move |jobs| jobs.rescue(limit)).await
    }

    async fn job_overdue(&self, namespace: &Namespace, limit: usize) -> Result<Vec<JobRef>> {
        let namespace = namespace.clone();
        self.look("job.overdue", move |jobs| jobs.overdue(&namespace, limit)).await
    }

    async fn job_lanes(&self, namespace: &Namespace, queues: &[Queue]) -> Result<Vec<Want>> {
        let (namespace, queues) = (namespace.clone(), queues.to_vec());
        self.look("job.lanes", move |jobs| jobs.lanes(&namespace, &queues)).await
    }

    async fn job_outstanding(&self, ask: &Outstanding) -> Result<bool> {
        let ask = ask.clone();
        self.look("job.outstanding", move |jobs| jobs.outstanding(&ask)).await
    }

    async fn job_announce(&self, queues: &[(Namespace, Queue)]) -> Result<()> {
        // Other processes see that the file has changed.
        self.wake_queues(queues.iter().cloned());
        Ok(())
    }

    async fn transactions(&self, ids: &[u64]) -> Result<Vec<Option<CommitOutcome>>> {
        // SQLite does not number them; that the file has changed is seen within milliseconds.
        Ok(vec![None; ids.len()])
    }

    async fn job_move(&self, ask: &MoveJob) -> Result<Moved> {
        const VERB: &str = "job.move";
        let ask = ask.clone();
        if ask.dry_run {
            return self.look(VERB, move |jobs| jobs.intervene(&ask)).await;
        }
        self.jobs(VERB, 1, move |jobs| jobs.intervene(&ask)).await
    }

    async fn job_lookup(&self, asked: &[JobRef]) -> Result<Snapshot<Option<job::Record>>> {
        let asked = asked.to_vec();
        self.look("job.lookup", move |jobs| Ok(Snapshot { now: jobs.now.wall, rows: jobs.lookup(&asked)? }))
            .await
    }

    async fn job_list(&self, ask: &ListJobs) -> Result<Snapshot<job::Record>> {
        let ask = ask.clone();
        self.look("job.list", move |jobs| Ok(Snapshot { now: jobs.now.wall, rows: jobs.list(&ask)? })).await
    }

    async fn queue_pause(&self, ask: &PauseQueue) -> Result<()> {
        let ask = ask.clone();
        self.jobs("queue.pause", 1, move |jobs| jobs.pause(&ask)).await
    }

    async fn queue_limit(&self, ask: &LimitQueue) -> Result<()> {
        let ask = ask.clone();
        self.jobs("queue.limit", 1, move |jobs| jobs.limit(&ask)).await
    }

    async fn queue_limit_keys(&self, ask: &LimitKeys) -> Result<()> {
        let ask = ask.clone();
        self.jobs("queue.limit_keys", 1, move |jobs| jobs.limit_keys(&ask)).await
    }

    async fn queue_tune(&self, ask: &TuneQueue) -> Result<()> {
        let ask = ask.clone();
        self.jobs("queue.tune", 1, move |jobs| jobs.tune(&ask)).await
    }

    async fn queue_tunings(&self, namespace: &Namespace) -> Result<Vec<(Queue, Tuning)>> {
        let namespace = namespace.clone();
        self.look("queue.tunings", move |jobs| jobs.tunings(&namespace)).await
    }

    async fn queue_permits(&self, batch: &[AskPermits]) -> Result<Vec<Permits>> {
        let batch = batch.to_vec();
        self.jobs("queue.permits", 1, move |jobs| batch.iter().map(|ask| jobs.permits(ask)).collect()).await
    }

    async fn queue_list(&self, namespace: &Namespace) -> Result<Vec<QueueRecord>> {
        let namespace = namespace.clone();
        self.look("queue.list", move |jobs| jobs.queues(&namespace)).await
    }

    async fn job_prune(&self, ask: &PruneJobs) -> Result<PrunedJobs> {
        let mut pruned = PrunedJobs::default();
        if ask.dry_run {
            let ask = ask.clone();
            return self.look("job.prune", move |jobs| jobs.count_over(&ask)).await;
        }
        let mut left = ask.limit;
        while left > 0 {
            let part = PruneJobs { limit: left.min(PRUNE_ROWS), ..ask.clone() };
            let (limit, most) = (part.limit, part.limit as u64);
            let found = self.jobs("job.prune", limit, move |jobs| jobs.prune(&part)).await?;
            pruned.done += found.done;
            pruned.dead += found.dead;
            pruned.keys += found.keys;
            if [found.done, found.dead, found.keys].iter().all(|count| *count < most) {
                break;
            }
            left -= limit;
        }
        Ok(pruned)
    }
}
