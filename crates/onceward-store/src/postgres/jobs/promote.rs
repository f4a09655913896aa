//! What is due becomes ready, and the next job of an ordering key is let through.

use core::time::Duration;

use onceward_core::{JobId, Kind, Namespace, Queue, Result};
use tokio_postgres::Row;

use super::super::Inner;
use super::super::link::{Call, Link};
use super::super::live::Param;
use super::super::row::{Columns, Instant};
use super::edges::{Edge, Lane};
use crate::store::{Chores, JobRef, Promoted, Want};

const VERB: &str = "job.promote";

/// How many changes of ordering keys are looked at by one statement, and by how many statements in a row.
const ADMITTED: i64 = 1_000;
const ROUNDS: usize = 20;

impl Inner {
    pub(super) async fn job_chores(&self) -> Result<Chores> {
        let params: &[Param<'_>] = &[&Instant(self.jobs.edges().of(&due_lane()).run_at)];
        let call = Call { verb: "job.chores", statement: &self.sql.promote_chores, params, rows: 1 };
        let mut chores = Chores::default();
        if let Some(row) = Link::idlest(&self.take).read(&call).await?.first() {
            let mut columns = Columns::of(row);
            (chores.next_due, chores.arrived) = (columns.maybe_time()?, columns.get()?);
            (chores.lost, chores.now) = (columns.get()?, columns.time()?);
        }
        Ok(chores)
    }

    pub(super) async fn job_promote(&self, limit: usize) -> Result<Promoted> {
        let lane = due_lane();
        let from = self.jobs.edges().of(&lane);
        let mut promoted = self.promote_due(limit, from).await?;
        let params: &[Param<'_>] = &[&Instant(from.run_at)];
        let call = Call { verb: VERB, statement: &self.sql.promote_next, params, rows: 1 };
        let mut waiting = false;
        if let Some(row) = Link::idlest(&self.take).read(&call).await?.first() {
            let mut columns = Columns::of(row);
            promoted.next_due = columns.maybe_time()?;
            waiting = columns.get()?;
        }
        if waiting {
            promoted.queues.extend(self.admit().await?);
            promoted.queues.sort();
            promoted.queues.dedup();
        }
        self.tell_queues(promoted.queues.iter().cloned());
        Ok(promoted)
    }

    async fn promote_due(&self, limit: usize, from: Edge) -> Result<Promoted> {
        let params: &[Param<'_>] = &[&super::super::limit(limit), &Instant(from.run_at)];
        let call = Call { verb: VERB, statement: &self.sql.promote_due, params, rows: 1 };
        let mut promoted = Promoted::default();
        let (mut latest, mut took) = (None, Duration::ZERO);
        for row in Link::idlest(&self.take).write(&call).await? {
            let mut columns = Columns::of(&row);
            let moved: i64 = columns.get()?;
            promoted.moved = u64::try_from(moved).unwrap_or(0);
            (latest, took, promoted.now) = (columns.maybe_time()?, columns.seconds()?, columns.time()?);
            promoted.queues.extend(queue(&mut columns)?);
        }
        promoted.queues.sort();
        let moved = usize::try_from(promoted.moved).unwrap_or(usize::MAX);
        let last = latest.map(|run_at| Edge { run_at, ..Edge::START });
        self.jobs.edges().note(due_lane(), from, last, moved, took);
        Ok(promoted)
    }

    /// Lets jobs through whose ordering key is free. Somebody else may be doing it: then there is nothing to do.
    pub(super) async fn admit(&self) -> Result<Vec<(Namespace, Queue)>> {
        let mut queues = Vec::new();
        for _ in 0..ROUNDS {
            let params: &[Param<'_>] = &[&ADMITTED];
            let call = Call { verb: VERB, statement: &self.sql.promote_admit, params, rows: 1 };
            let rows = Link::idlest(&self.take).write(&call).await?;
            let looked = looked(&rows, &mut queues)?;
            if looked < ADMITTED {
                break;
            }
        }
        Ok(queues)
    }

    /// The same after a verb of another kind, as well as it goes: whoever promotes next does what is left.
    pub(super) async fn admit_soon(&self) {
        match self.admit().await {
            Ok(queues) => self.tell_queues(queues),
            Err(error) => tracing::debug!(%error, "ordering keys wait for the next promotion"),
        }
    }

    pub(super) async fn job_overdue(&self, namespace: &Namespace, limit: usize) -> Result<Vec<JobRef>> {
        let params: &[Param<'_>] = &[&namespace.as_str(), &super::super::limit(limit)];
        let call = Call { verb: "job.overdue", statement: &self.sql.job_overdue, params, rows: limit };
        let rows = self.admin.read(&call).await?;
        let id = |row| Columns::of(row).get().map(JobId::from_uuid);
        rows.iter().map(|row| Ok(JobRef { namespace: namespace.clone(), id: id(row)? })).collect()
    }

    pub(super) async fn job_lanes(&self, namespace: &Namespace, queues: &[Queue]) -> Result<Vec<Want>> {
        let names: Vec<&str> = queues.iter().map(Queue::as_str).collect();
        let params: &[Param<'_>] = &[&namespace.as_str(), &names];
        let call = Call { verb: "job.lanes", statement: &self.sql.job_lanes, params, rows: 1 };
        let mut wants = Vec::new();
        for row in Link::idlest(&self.take).read(&call).await? {
            let mut columns = Columns::of(&row);
            wants.push(Want {
                queue: Queue::from_row(columns.get::<&str>()?),
                kind: Kind::from_row(columns.get::<&str>()?),
                route: columns.get()?,
                limit: 0,
            });
        }
        wants.sort_by(|a, b| (&a.queue, &a.kind, &a.route).cmp(&(&b.queue, &b.kind, &b.route)));
        Ok(wants)
    }
}

/// Under which name the beginning of what waits for its time is remembered: no lane has an empty kind.
fn due_lane() -> Lane {
    Lane {
        namespace: Namespace::default(),
        queue: Queue::default(),
        kind: Kind::from_row(""),
        route: String::new(),
        alone: false,
    }
}

fn queue(columns: &mut Columns<'_>) -> Result<Option<(Namespace, Queue)>> {
    let (namespace, queue): (Option<&str>, Option<&str>) = (columns.get()?, columns.get()?);
    Ok(namespace
        .zip(queue)
        .map(|(namespace, queue)| (Namespace::from_row(namespace), Queue::from_row(queue))))
}

fn looked(rows: &[Row], queues: &mut Vec<(Namespace, Queue)>) -> Result<i64> {
    let mut looked = 0;
    for row in rows {
        let mut columns = Columns::of(row);
        looked = columns.get()?;
        queues.extend(queue(&mut columns)?);
    }
    Ok(looked)
}
