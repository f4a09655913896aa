//! Queues: what they are set to, and what is in them.

use onceward_core::{Kind, Namespace, Owner, Queue, Result};

use super::super::Inner;
use super::super::link::Call;
use super::super::live::Param;
use super::super::row::Columns;
use crate::store::{PauseQueue, QUEUE_COUNT_MAX, QueueRecord};

impl Inner {
    pub(super) async fn queue_pause(&self, ask: &PauseQueue) -> Result<()> {
        let call = Call {
            verb: "queue.pause",
            statement: &self.sql.queue_pause,
            params: &[
                &ask.namespace.as_str(),
                &ask.queue.as_str(),
                &ask.paused,
                &ask.actor.as_str(),
                &ask.reason,
            ],
            rows: 1,
        };
        self.admin.write(&call).await?;
        if !ask.paused {
            self.wakes.tell_jobs(&ask.namespace, &ask.queue);
        }
        Ok(())
    }

    pub(super) async fn queue_list(&self, namespace: &Namespace) -> Result<Vec<QueueRecord>> {
        let bound = i64::try_from(QUEUE_COUNT_MAX).unwrap_or(i64::MAX);
        let params: &[Param<'_>] = &[&namespace.as_str(), &bound];
        let call = Call { verb: "queue.list", statement: &self.sql.queue_list, params, rows: 1 };
        let rows = self.admin.read(&call).await?;
        rows.iter().map(|row| queue(namespace, &mut Columns::of(row))).collect()
    }
}

fn queue(namespace: &Namespace, columns: &mut Columns<'_>) -> Result<QueueRecord> {
    let count =
        |columns: &mut Columns<'_>| -> Result<u64> { Ok(u64::try_from(columns.get::<i64>()?).unwrap_or(0)) };
    Ok(QueueRecord {
        namespace: namespace.clone(),
        queue: Queue::from_row(columns.get::<&str>()?),
        paused_at: columns.maybe_time()?,
        paused_by: columns.get::<Option<&str>>()?.map(Owner::from_row),
        pause_reason: columns.get()?,
        limits: super::permits::limits(columns)?,
        limits_at: columns.maybe_time()?,
        limits_by: columns.get::<Option<&str>>()?.map(Owner::from_row),
        held: count(columns)?,
        ready: count(columns)?,
        later: count(columns)?,
        running: count(columns)?,
        oldest: columns.maybe_time()?,
        kinds: columns.get::<Vec<&str>>()?.into_iter().map(Kind::from_row).collect(),
    })
}
