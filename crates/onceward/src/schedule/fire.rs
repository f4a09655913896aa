//! The scheduler: enqueues what is due, as the leader of a service.
//!
//! Being the leader only saves work. Each tick is written by the statement that moves its schedule on, under the
//! version that was looked at: a second scheduler, paused in the middle and gone on with, writes nothing (J12).

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt;
use onceward_core::job::Move;
use onceward_core::schedule::{Last, Overlap, Schedule, due};
use onceward_core::service::bell_key;
use onceward_core::{Code, Error, Result, ScheduleName, ServiceName, Timestamp, backoff, job, limits};
use onceward_store::{JobRef, MoveJob, WriteSchedule};
use tokio::time::Instant;

use super::NAME;
use super::patrol::{self, Patrol};
use crate::client::Onceward;
use crate::ears::Ears;
use crate::jobs::overdue;
use crate::service::{Service, Term};
use crate::trigger;

/// How many schedules are read by one statement.
const PAGE: usize = 200;
/// How many of them are written at the same time.
const AT_ONCE: usize = 16;
/// How many ticks of one schedule are enqueued by one statement.
const TICKS: usize = 200;
/// How long is waited at most before one looks again although nothing was said to be due.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How soon one looks again after a hint.
const AFTER_HINT: Duration = Duration::from_millis(50);
/// How soon somebody else goes on where the scheduler has died. Who stands by looks each time its lease would run out:
/// with half of this he would cost more than half a statement a second where nothing is heard.
const TTL: Duration = Duration::from_secs(10);

pub(crate) fn service(client: &Onceward) -> Result<Service> {
    let of = client.clone();
    let ttl = if client.ttl_min() < limits::TTL_MIN { Duration::from_secs(1) } else { TTL };
    client.service(NAME).always_on().ttl(ttl).does(move |term| {
        let client = of.clone();
        // What is due, what triggers have heard, and what nobody takes.
        async move {
            tokio::join!(lead(&client, &term), trigger::lead(&client, &term), overdue::lead(&client, &term));
        }
    })
}

/// Enqueues what is due until the term is over.
async fn lead(client: &Onceward, term: &Term) {
    let line = client.inner.switchboard.line(&client.namespace, &bell_key(&ServiceName::from_row(NAME)));
    let mut ears = Ears::new(vec![line], AFTER_HINT, LOOK_AGAIN);
    let (mut failures, mut told, mut patrol) = (0_u32, BTreeSet::new(), Patrol::default());
    let mut failing = 0;
    while term.check().is_ok() {
        let heard = ears.heard();
        let looked = look(client, &|| term.check(), &mut patrol, failing).await;
        failing = looked.as_ref().map_or(0, |round| round.failed.len());
        failures = if failing > 0 || looked.is_err() { failures.saturating_add(1) } else { 0 };
        let again = backoff::delay(failures, Duration::from_millis(100), LOOK_AGAIN, failures.into());
        let pause = match looked {
            Ok(round) => {
                tracing::trace!(due = round.due, "the scheduler has looked");
                flag(round.unreadable, &mut told);
                // One that fails again and again makes no other one wait.
                if failing > 0 { round.pause.min(again) } else { round.pause }
            }
            Err(error) => {
                tracing::warn!(%error, "due schedules could not be enqueued and will be tried again");
                again
            }
        };
        term.progress();
        let until = Instant::now() + pause;
        tokio::select! {
            () = ears.wait(&heard, until, 1) => {}
            _ = term.cancelled() => return,
        }
    }
}

/// One round, and a page of the patrol where one is under way.
async fn look(client: &Onceward, check: Check<'_>, patrol: &mut Patrol, failing: usize) -> Result<Round> {
    let round = round(client, check, failing).await?;
    patrol.notice(round.now);
    if patrol.page(client, check).await? {
        let pause = round.pause.min(patrol::BETWEEN_PAGES);
        return Ok(Round { pause, ..round });
    }
    Ok(round)
}

/// One round without a term: being the leader decides nothing.
#[cfg(feature = "testing")]
pub(crate) async fn fire_due(client: &Onceward) -> Result<bool> {
    let round = round(client, &|| Ok(()), 0).await?;
    round.failed.into_iter().next().map_or(Ok(round.due > 0), Err)
}

/// Says once of each row that can't be read that nothing is enqueued of it.
fn flag(unreadable: Vec<ScheduleName>, told: &mut BTreeSet<ScheduleName>) {
    told.retain(|name| unreadable.contains(name));
    for name in unreadable {
        if told.insert(name.clone()) {
            let code = Code::RowUnreadable.as_str();
            tracing::error!(schedule = %name, code, "a schedule can't be read; nothing is enqueued of it");
        }
    }
}

/// What came of a look.
struct Round {
    /// How many schedules were due.
    due: usize,
    /// Why some of them could not be fired.
    failed: Vec<Error>,
    /// Those that were due and can't be read.
    unreadable: Vec<ScheduleName>,
    /// How long nothing else is.
    pause: Duration,
    /// The store's clock.
    now: Timestamp,
}

/// Whether it may go on.
pub(super) type Check<'a> = &'a (dyn Fn() -> Result<()> + Send + Sync);

/// One look: fires what is due. As many as have failed before stand before no other ones.
async fn round(client: &Onceward, check: Check<'_>, failing: usize) -> Result<Round> {
    let mut limit = PAGE + failing;
    let seen = loop {
        let seen = client.store().schedule_due(&client.namespace, limit).await?;
        if !seen.rows.is_empty() || seen.unreadable.len() < limit {
            break seen;
        }
        // A page of nothing but rows that can't be read does not stand before the others.
        limit *= 2;
    };
    let (due, is_full) = (seen.rows.len(), seen.rows.len() + seen.unreadable.len() >= limit);
    let now = seen.now;
    let fires = seen.rows.into_iter().map(|row| async move {
        let name = row.name.clone();
        (name, fire(client, check, row, now).await)
    });
    let fired: Vec<(ScheduleName, Result<Option<Timestamp>>)> =
        futures_util::stream::iter(fires).buffer_unordered(AT_ONCE).collect().await;
    check()?;
    let mut next = seen.next_at;
    let mut failed = Vec::new();
    for (name, fired) in fired {
        match fired {
            Ok(at) => next = [next, at].into_iter().flatten().min(),
            Err(error) => {
                tracing::warn!(schedule = %name, %error, "a schedule could not be enqueued and will be tried again");
                failed.push(error);
            }
        }
    }
    let is_full = is_full && failed.len() < due;
    let pause = next.map_or(LOOK_AGAIN, |next| next.since(now));
    let pause = if is_full { Duration::ZERO } else { pause.clamp(Duration::from_millis(1), LOOK_AGAIN) };
    Ok(Round { due, failed, unreadable: seen.unreadable, pause, now })
}

/// Enqueues the ticks of one schedule that are due; when its next one is.
async fn fire(
    client: &Onceward,
    check: Check<'_>,
    row: Schedule,
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    let Some(next) = row.next_at else { return Ok(None) };
    check()?;
    if row.owed.is_some() {
        return settle(client, row, now).await;
    }
    let definition = &row.definition;
    let due = due(&definition.when, next, now, definition.on_missed, definition.window, TICKS);
    if due.passed_over {
        tracing::warn!(schedule = %row.name, since = %next, "ticks of a schedule were passed over");
    }
    let ticks = match definition.overlap {
        // Of several ticks at once only the last would be left in the end.
        Overlap::Skip | Overlap::CancelPrevious => due.ticks.last().copied().into_iter().collect(),
        Overlap::Allow | Overlap::Queue => due.ticks,
    };
    let ticks = if definition.overlap == Overlap::Skip && is_alive(client, &row).await? {
        tracing::info!(schedule = %row.name, "a tick was passed over: a job before it has not ended");
        Vec::new()
    } else {
        ticks
    };
    let jobs: Vec<job::New> = ticks.iter().map(|tick| row.job(*tick)).collect();
    let last = ticks.last().zip(jobs.last()).map(|(tick, new)| Last { tick: *tick, job: new.id });
    let ask = Arc::new(WriteSchedule { row: row.fired(last, due.next), jobs });
    if !client.store().schedule_write(&ask).await? {
        // Somebody has changed it, or fired it: the next look shows how it is now.
        return Ok(Some(now));
    }
    for new in &ask.jobs {
        client.inner.bells.ring(&new.namespace, &new.queue);
    }
    if ask.row.owed.is_some() {
        let written = Schedule { version: ask.row.version + 1, ..ask.row.clone() };
        return settle(client, written, now).await;
    }
    Ok(ask.row.next_at)
}

/// Cancels the jobs before the tick, and writes down that this is done; when the next tick is due. A scheduler that
/// dies in between leaves a schedule that is due and says what is owed.
async fn settle(client: &Onceward, row: Schedule, now: Timestamp) -> Result<Option<Timestamp>> {
    let Some(owed) = &row.owed else { return Ok(row.next_at) };
    for id in &owed.jobs {
        let cancel = MoveJob {
            job: JobRef { namespace: client.namespace.clone(), id: *id },
            token: None,
            to: Move::Cancel,
            actor: client.owner.clone(),
            reason: Some(format!("the next tick of the schedule {:?} has come", row.name.as_str())),
            dry_run: false,
        };
        client.store().job_move(&cancel).await?;
    }
    let ask = WriteSchedule { row: row.settled(), jobs: Vec::new() };
    let written = client.store().schedule_write(&ask).await?;
    Ok(if written { ask.row.next_at } else { Some(now) })
}

/// Whether a job that the next tick finds before it has not ended.
async fn is_alive(client: &Onceward, row: &Schedule) -> Result<bool> {
    let jobs = row.before().map(|id| JobRef { namespace: client.namespace.clone(), id });
    let jobs: Vec<JobRef> = jobs.collect();
    if jobs.is_empty() {
        return Ok(false);
    }
    let seen = client.store().job_lookup(&jobs).await?;
    Ok(seen.rows.into_iter().flatten().any(|row| !row.state.is_final()))
}
