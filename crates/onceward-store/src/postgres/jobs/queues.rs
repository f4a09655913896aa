//! Queues: what they are set to, and what is in them.

use core::time::Duration;

use onceward_core::job::keys::KEY_CONCURRENCY;
use onceward_core::job::tuning::Tuning;
use onceward_core::{Code, Kind, Namespace, Owner, Queue, Result};
use tokio::time::Instant;

use super::super::Inner;
use super::super::link::Call;
use super::super::live::Param;
use super::super::row::{Columns, micros};
use crate::store::{LimitKeys, PauseQueue, QUEUE_COUNT_MAX, QueueRecord, TuneQueue};

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

    pub(super) async fn queue_limit_keys(&self, ask: &LimitKeys) -> Result<()> {
        const VERB: &str = "queue.limit_keys";
        let namespace = ask.namespace.as_str();
        let most = i32::try_from(ask.most).unwrap_or(i32::MAX);
        let params: &[Param<'_>] = &[&namespace, &ask.queue.as_str(), &most, &ask.actor.as_str()];
        let set = Call { verb: VERB, statement: &self.sql.limit_keys_set, params, rows: 1 };
        let until = Instant::now() + self.dial.deadline;
        loop {
            match self.admin.write(&set).await {
                // Whoever lets jobs through at the moment has the turn, for longer than we wait for a lock.
                Err(error) if error.code() == Code::KeyLocked && Instant::now() < until => {}
                done => break drop(done?),
            }
        }
        let params: &[Param<'_>] = &[&namespace];
        let stir = Call { verb: VERB, statement: &self.sql.limit_keys_stir, params, rows: 1 };
        self.admin.write(&stir).await?;
        self.admit_soon().await;
        Ok(())
    }

    pub(super) async fn queue_tune(&self, ask: &TuneQueue) -> Result<()> {
        let Tuning { ageing, retain, retain_dead } = ask.tuning;
        let params: &[Param<'_>] = &[
            &ask.namespace.as_str(),
            &ask.queue.as_str(),
            &ageing.map(micros),
            &retain.map(micros),
            &retain_dead.map(micros),
            &ask.actor.as_str(),
        ];
        let call = Call { verb: "queue.tune", statement: &self.sql.queue_tune, params, rows: 1 };
        self.admin.write(&call).await.map(drop)
    }

    pub(super) async fn queue_tunings(&self, namespace: &Namespace) -> Result<Vec<(Queue, Tuning)>> {
        let params: &[Param<'_>] = &[&namespace.as_str()];
        let call = Call { verb: "queue.tunings", statement: &self.sql.queue_tunings, params, rows: 1 };
        let rows = self.admin.read(&call).await?;
        let tuned = rows.iter().map(|row| {
            let mut columns = Columns::of(row);
            Ok((Queue::from_row(columns.get::<&str>()?), tuning(&mut columns)?))
        });
        tuned.collect()
    }

    pub(super) async fn queue_list(&self, namespace: &Namespace) -> Result<Vec<QueueRecord>> {
        let bound = i64::try_from(QUEUE_COUNT_MAX).unwrap_or(i64::MAX);
        let params: &[Param<'_>] = &[&namespace.as_str(), &bound];
        let call = Call { verb: "queue.list", statement: &self.sql.queue_list, params, rows: 1 };
        let rows = self.admin.read(&call).await?;
        rows.iter().map(|row| queue(namespace, &mut Columns::of(row))).collect()
    }
}

fn tuning(columns: &mut Columns<'_>) -> Result<Tuning> {
    let span = |columns: &mut Columns<'_>| -> Result<Option<Duration>> {
        Ok(columns.get::<Option<i64>>()?.map(|span| Duration::from_micros(span.unsigned_abs())))
    };
    Ok(Tuning { ageing: span(columns)?, retain: span(columns)?, retain_dead: span(columns)? })
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
        key_concurrency: u32::try_from(columns.get::<i32>()?).unwrap_or(KEY_CONCURRENCY),
        keys_at: columns.maybe_time()?,
        keys_by: columns.get::<Option<&str>>()?.map(Owner::from_row),
        tuning: tuning(columns)?,
        tuned_at: columns.maybe_time()?,
        tuned_by: columns.get::<Option<&str>>()?.map(Owner::from_row),
        held: count(columns)?,
        ready: count(columns)?,
        later: count(columns)?,
        running: count(columns)?,
        oldest: columns.maybe_time()?,
        kinds: columns.get::<Vec<&str>>()?.into_iter().map(Kind::from_row).collect(),
    })
}
