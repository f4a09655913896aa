//! Queues and the workers that empty them: pausing, draining, and what nobody takes.

use core::time::Duration;

use onceward_core::job::keys::{KEY_CONCURRENCY, check_key_concurrency};
use onceward_core::job::limit::Limits;
use onceward_core::job::tuning::Tuning;
use onceward_core::once::check_reason;
use onceward_core::{Code, Error, Kind, Queue, Result, SessionId, session};
use onceward_store::{
    LimitKeys, LimitQueue, PauseQueue, PruneJobs, PrunedJobs, QueueRecord, Snapshot, TuneQueue,
};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::Admin;

/// A queue, and which of its kinds no worker takes.
#[derive(Clone, Debug, Serialize)]
pub struct QueueView {
    /// The queue.
    #[serde(flatten)]
    pub queue: QueueRecord,
    /// Kinds that wait there and that no live worker of this queue has a handler for.
    pub unknown: Vec<Kind>,
}

/// How often a drain looks.
const LOOK: Duration = Duration::from_millis(200);
/// How long after a pause a claim may still come that did not see it: on PostgreSQL a statement that began before. As
/// after a change of limits, which waits as long.
const LATE: Duration = Duration::from_secs(1);

impl Admin {
    /// The queues of this namespace that hold something or are set to something.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn queues(&self) -> Result<Vec<QueueView>> {
        let store = self.client.store();
        let queues = store.queue_list(&self.client.namespace).await?;
        let workers = store.session_list().await?;
        let live: Vec<&session::Record> =
            workers.rows.iter().filter(|worker| !worker.is_lost(workers.now)).collect();
        let view = |queue: QueueRecord| {
            let known = |kind: &Kind| live.iter().any(|worker| worker.about.runs(&queue.queue, kind));
            let unknown = queue.kinds.iter().filter(|kind| !known(kind)).cloned().collect();
            QueueView { queue, unknown }
        };
        Ok(queues.into_iter().map(view).collect())
    }

    /// Stops giving jobs of this queue to workers. What runs goes on; what is enqueued waits.
    ///
    /// # Errors
    /// [`ReasonMissing`](Code::ReasonMissing) for an empty reason, and those of an unreachable store.
    pub async fn pause_queue(&self, queue: &Queue, reason: Option<&str>) -> Result<()> {
        self.set_paused(queue, true, reason).await
    }

    /// Gives jobs of this queue to workers again.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn resume_queue(&self, queue: &Queue) -> Result<()> {
        self.set_paused(queue, false, None).await?;
        self.announce_queue(queue.clone()).await;
        Ok(())
    }

    async fn set_paused(&self, queue: &Queue, paused: bool, reason: Option<&str>) -> Result<()> {
        reason.map_or(Ok(()), check_reason)?;
        let ask = PauseQueue {
            namespace: self.client.namespace.clone(),
            queue: queue.clone(),
            paused,
            actor: self.actor.clone(),
            reason: reason.map(str::to_owned),
        };
        self.client.store().queue_pause(&ask).await
    }

    /// Limits over all workers how many jobs of a queue run at the same time, and how many start in a time; no limits
    /// lift what was set before. What runs goes on and is counted; from the answer on nothing starts beyond the new
    /// limits, and for about a second perhaps nothing at all.
    ///
    /// # Errors
    /// [`LimitInvalid`](Code::LimitInvalid), and those of an unreachable store.
    pub async fn limit_queue(&self, queue: &Queue, limits: Limits) -> Result<()> {
        limits.check()?;
        let ask = LimitQueue {
            namespace: self.client.namespace.clone(),
            queue: queue.clone(),
            limits,
            actor: self.actor.clone(),
        };
        self.client.store().queue_limit(&ask).await?;
        self.announce_queue(queue.clone()).await;
        Ok(())
    }

    /// Sets how many jobs of one ordering key run at the same time, over all workers; one where nothing was said. What
    /// was let through goes on and is counted. A key in several queues keeps to the strictest of those that have a job
    /// of it running or next in line.
    ///
    /// # Errors
    /// [`LimitInvalid`](Code::LimitInvalid), and those of an unreachable store.
    pub async fn limit_keys(&self, queue: &Queue, most: u32) -> Result<()> {
        check_key_concurrency(most)?;
        let ask = LimitKeys {
            namespace: self.client.namespace.clone(),
            queue: queue.clone(),
            most,
            actor: self.actor.clone(),
        };
        self.client.store().queue_limit_keys(&ask).await
    }

    /// How many jobs of one ordering key a queue lets run at the same time.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn key_concurrency(&self, queue: &Queue) -> Result<u32> {
        let queues = self.client.store().queue_list(&self.client.namespace).await?;
        let found = queues.into_iter().find(|row| row.queue == *queue);
        Ok(found.map_or(KEY_CONCURRENCY, |row| row.key_concurrency))
    }

    /// What a queue is limited to.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn queue_limits(&self, queue: &Queue) -> Result<Limits> {
        let queues = self.client.store().queue_list(&self.client.namespace).await?;
        Ok(queues.into_iter().find(|row| row.queue == *queue).map_or_else(Limits::default, |row| row.limits))
    }

    /// Says what a queue is tuned by: how much waiting counts as one priority, and how long jobs are kept that are
    /// over. What is not said is usual. Claims go by it at once; workers that run hear within ten seconds how long
    /// they have jobs kept.
    ///
    /// # Errors
    /// [`LimitInvalid`](Code::LimitInvalid), [`RetainInvalid`](Code::RetainInvalid), and those of an unreachable store.
    pub async fn tune_queue(&self, queue: &Queue, tuning: Tuning) -> Result<()> {
        tuning.check()?;
        let ask = TuneQueue {
            namespace: self.client.namespace.clone(),
            queue: queue.clone(),
            tuning,
            actor: self.actor.clone(),
        };
        self.client.store().queue_tune(&ask).await
    }

    /// What a queue is tuned by.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn queue_tuning(&self, queue: &Queue) -> Result<Tuning> {
        let tunings = self.client.store().queue_tunings(&self.client.namespace).await?;
        Ok(tunings.into_iter().find(|(of, _)| of == queue).map_or_else(Tuning::default, |(_, tuning)| tuning))
    }

    /// Pauses a queue and waits until nothing of it runs, for at most `within`, and for a second in any case: who
    /// began to claim before the pause may get something after it. Jobs that wait, or are due later, are not waited
    /// for: they stay where they are. The queue stays paused.
    ///
    /// # Errors
    /// [`StoreBusy`](Code::StoreBusy) where something still runs when the time is up, and as
    /// [`pause_queue`](Self::pause_queue).
    ///
    /// # Cancel safety
    /// Dropping the future stops the waiting; the queue stays paused.
    pub async fn drain_queue(&self, queue: &Queue, reason: Option<&str>, within: Duration) -> Result<()> {
        self.pause_queue(queue, reason).await?;
        let (quiet, end) = (Instant::now() + LATE, Instant::now() + within);
        loop {
            let began = Instant::now();
            let running = self.running_in(queue).await?;
            if running == 0 && began >= quiet {
                return Ok(());
            }
            if Instant::now() >= end.max(quiet) {
                let why =
                    format!("{running} jobs of the queue {:?} still run; it stays paused", queue.as_str());
                return Err(Error::new(Code::StoreBusy, why));
            }
            sleep(LOOK.min(end.max(quiet).saturating_duration_since(Instant::now()))).await;
        }
    }

    async fn running_in(&self, queue: &Queue) -> Result<u64> {
        let queues = self.client.store().queue_list(&self.client.namespace).await?;
        Ok(queues.into_iter().find(|row| row.queue == *queue).map_or(0, |row| row.running))
    }

    /// The workers of this store, the oldest first; those that have run out are shown until their jobs are taken from
    /// them.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn workers(&self) -> Result<Snapshot<session::Record>> {
        self.client.store().session_list().await
    }

    /// Asks a worker to take no more jobs, or to take some again. It hears of it at the next renewal of its session.
    /// `false` if there is no such worker.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn drain_worker(&self, worker: SessionId, draining: bool) -> Result<bool> {
        self.client.store().session_drain(worker, draining).await
    }

    /// Forgets jobs that are over: one round. On PostgreSQL it also makes the partitions of the next days and drops
    /// those of the past.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn prune_jobs(&self, ask: &PruneJobs) -> Result<PrunedJobs> {
        self.client.store().job_prune(ask).await
    }
}
