//! Changing a schedule: pausing, resuming, a tick out of turn, filling in, removing.

use onceward_core::schedule::Schedule;
use onceward_core::service::bell_key;
use onceward_core::{Code, Error, JobId, Result, ScheduleName, ServiceName, Timestamp, job, limits};
use onceward_store::{JobRef, ListSchedules, ListedSchedules, WriteSchedule};
use serde::Serialize;

use super::NAME;
use crate::client::Onceward;

/// How often a change is tried that meets others.
const ROUNDS: usize = 20;

/// What a backfill did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backfill {
    /// The ticks of the range.
    pub ticks: Vec<Timestamp>,
    /// Those of which there is no job; they were enqueued, unless this was a dry run.
    pub enqueued: Vec<JobId>,
    /// Whether nothing was written.
    pub dry_run: bool,
}

/// A schedule and the store's clock.
pub(crate) async fn lookup(client: &Onceward, name: &ScheduleName) -> Result<(Schedule, Timestamp)> {
    let (row, now) = find(client, name).await?;
    row.map(|row| (row, now)).ok_or_else(|| {
        let namespace = client.namespace.as_str();
        let why = format!("there is no schedule {:?} in the namespace {namespace:?}", name.as_str());
        Error::new(Code::ScheduleUnknown, why)
    })
}

async fn find(client: &Onceward, name: &ScheduleName) -> Result<(Option<Schedule>, Timestamp)> {
    let found = read(client, name).await?;
    if !found.unreadable.is_empty() {
        let why = format!(
            "the schedule {:?} can't be read by this program: use a newer one, or remove it and declare it again",
            name.as_str()
        );
        return Err(Error::new(Code::RowUnreadable, why));
    }
    Ok((found.rows.into_iter().next(), found.now))
}

async fn read(client: &Onceward, name: &ScheduleName) -> Result<ListedSchedules> {
    let ask = ListSchedules {
        namespace: client.namespace.clone(),
        name: Some(name.clone()),
        after: None,
        limit: 1,
    };
    client.store().schedule_list(&ask).await
}

/// Changes a schedule, however many do so at the same time; the row as it was written, if there was anything to change.
pub(crate) async fn change(
    client: &Onceward,
    name: &ScheduleName,
    change: impl Fn(Option<&Schedule>, Timestamp) -> Result<Option<(Schedule, Vec<job::New>)>> + Send + Sync,
) -> Result<Option<Schedule>> {
    client.check_open()?;
    for _ in 0..ROUNDS {
        let (row, now) = find(client, name).await?;
        let Some((row, jobs)) = change(row.as_ref(), now)? else { return Ok(None) };
        let ask = WriteSchedule { row, jobs };
        if client.store().schedule_write(&ask).await? {
            ring(client).await;
            return Ok(Some(ask.row));
        }
    }
    let why = format!("the schedule {:?} is being changed all the time", name.as_str());
    Err(Error::new(Code::ScheduleMoved, why))
}

/// Makes the scheduler look, wherever it is.
async fn ring(client: &Onceward) {
    let scheduler = ServiceName::from_row(NAME);
    client.inner.switchboard.ring(&client.namespace, &bell_key(&scheduler));
    if let Err(error) = client.store().service_ring(&client.namespace, &scheduler).await {
        tracing::debug!(%error, "the scheduler could not be told; it looks by itself");
    }
}

/// Removes a schedule; its jobs stay.
pub(crate) async fn remove(client: &Onceward, name: &ScheduleName) -> Result<()> {
    client.check_open()?;
    for _ in 0..ROUNDS {
        let version = match read(client, name).await?.unreadable.first() {
            Some((_, version)) => *version,
            None => lookup(client, name).await?.0.version,
        };
        if client.store().schedule_remove(&client.namespace, name, version).await? {
            return Ok(());
        }
    }
    let why = format!("the schedule {:?} is being changed all the time", name.as_str());
    Err(Error::new(Code::ScheduleMoved, why))
}

/// Enqueues the ticks of a range in the past of which there is no job.
pub(crate) async fn backfill(
    client: &Onceward,
    name: &ScheduleName,
    (from, until): (Timestamp, Timestamp),
    dry_run: bool,
) -> Result<Backfill> {
    let (row, now) = lookup(client, name).await?;
    let ticks = ticks(&row, from, until, now)?;
    let mut enqueued = Vec::new();
    for part in ticks.chunks(limits::PAGE_ROWS_MAX) {
        let jobs: Vec<job::New> = part.iter().map(|tick| row.job(*tick)).collect();
        let refs: Vec<JobRef> =
            jobs.iter().map(|new| JobRef { namespace: new.namespace.clone(), id: new.id }).collect();
        let there = client.store().job_lookup(&refs).await?.rows;
        let open: Vec<job::New> =
            jobs.into_iter().zip(there).filter(|(_, row)| row.is_none()).map(|(new, _)| new).collect();
        enqueued.extend(open.iter().map(|new| new.id));
        if dry_run || open.is_empty() {
            continue;
        }
        let filled = |row: Option<&Schedule>, _| match row {
            Some(row) => Ok(Some((row.clone(), open.clone()))),
            None => Err(Error::new(Code::ScheduleUnknown, "the schedule has just been removed")),
        };
        change(client, name, filled).await?;
    }
    Ok(Backfill { ticks, enqueued, dry_run })
}

fn ticks(row: &Schedule, from: Timestamp, until: Timestamp, now: Timestamp) -> Result<Vec<Timestamp>> {
    let refuse = |why: String| Err(Error::new(Code::BackfillInvalid, why));
    if from >= until {
        return refuse(format!("a backfill begins before its end: {from} is not before {until}"));
    }
    if until > now {
        return refuse(format!("a backfill ends in the past: {until} is still to come"));
    }
    let when = &row.definition.when;
    let first = when.next_after(from.before(core::time::Duration::from_micros(1)));
    let ticks: Vec<Timestamp> = core::iter::successors(first, |tick| when.next_after(*tick))
        .take_while(|tick| *tick < until)
        .take(limits::BACKFILL_TICKS_MAX + 1)
        .collect();
    if ticks.len() > limits::BACKFILL_TICKS_MAX {
        let max = limits::BACKFILL_TICKS_MAX;
        return refuse(format!("a backfill has at most {max} ticks: do it in parts"));
    }
    Ok(ticks)
}
