//! Queues and workers, from outside.

use core::time::Duration;

use onceward_core::{Code, Error, Queue, Result, SessionId, session};
use onceward_store::{PauseQueue, QueueRecord, Snapshot};
use tokio::time::{Instant, sleep};

use super::Admin;

impl Admin {
    /// The queues of this namespace that hold something or are set to something, by name.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn queues(&self) -> Result<Vec<QueueRecord>> {
        self.client.store().queue_list(&self.client.namespace).await
    }

    /// From the next claim on, no worker takes jobs from this queue. It need not have been used before.
    ///
    /// # Errors
    /// [`QueueInvalid`](Code::QueueInvalid), and those of an unreachable store.
    pub async fn pause_queue(&self, queue: &str, reason: Option<&str>) -> Result<()> {
        self.set_paused(queue, true, reason).await
    }

    /// Workers take jobs from this queue again.
    ///
    /// # Errors
    /// As [`pause_queue`](Self::pause_queue).
    pub async fn resume_queue(&self, queue: &str) -> Result<()> {
        self.set_paused(queue, false, None).await?;
        let name = (self.client.namespace.clone(), Queue::new(queue)?);
        self.client.inner.bells.ring(&name.0, &name.1);
        self.client.store().job_announce(&[name]).await
    }

    async fn set_paused(&self, queue: &str, paused: bool, reason: Option<&str>) -> Result<()> {
        let ask = PauseQueue {
            namespace: self.client.namespace.clone(),
            queue: Queue::new(queue)?,
            paused,
            actor: self.actor.clone(),
            reason: reason.map(str::to_owned),
        };
        self.client.store().queue_pause(&ask).await
    }

    /// Pauses a queue, and waits until none of its jobs runs, for at most `within`. Jobs that wait in it, now or later, are
    /// not counted. The queue stays paused. Returns how many jobs still run.
    ///
    /// Cancel safe: the queue stays paused.
    ///
    /// # Errors
    /// As [`pause_queue`](Self::pause_queue).
    pub async fn drain_queue(&self, queue: &str, reason: Option<&str>, within: Duration) -> Result<u64> {
        self.pause_queue(queue, reason).await?;
        let (give_up, mut pause) = (Instant::now() + within, Duration::from_millis(10));
        loop {
            let queues = self.queues().await?;
            let running = queues.iter().find(|row| row.queue.as_str() == queue).map_or(0, |row| row.running);
            if running == 0 || Instant::now() >= give_up {
                return Ok(running);
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// The sessions of all workers of the store that have not been cleared away, the oldest first.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn workers(&self) -> Result<Snapshot<session::Record>> {
        self.client.store().session_list().await
    }

    /// Asks a worker to take no more jobs, or to take some again. It learns of it at the next renewal of its session.
    ///
    /// # Errors
    /// [`SessionLost`](Code::SessionLost) where there is no such session, and those of an unreachable store.
    pub async fn drain_worker(&self, session: SessionId, draining: bool) -> Result<()> {
        if self.client.store().session_drain(session, draining).await? {
            return Ok(());
        }
        Err(Error::new(Code::SessionLost, format!("there is no worker with the session {session}")))
    }
}
