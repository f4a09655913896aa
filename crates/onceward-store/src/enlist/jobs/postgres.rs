//! Jobs in a caller's PostgreSQL transaction: one statement each, whatever there is.

use core::time::Duration;

use onceward_core::job::{self, DedupeScope, New, OnConflict, Record, Spec, State, past_to_text};
use onceward_core::{Code, Error, JobId, Result, SessionId, Timestamp, Token};

use super::super::columns::Columns;
use super::super::verbs::no_enlist;
use super::super::{Enlist, EnlistSql, Param};
use super::EnqueuedIn;
use crate::store::{USUAL_TYPE, result_columns};
use crate::{Enqueued, SettleJob, SettledJob};

/// Enqueues a job.
pub(super) async fn enqueue(sql: &EnlistSql, tx: &mut impl Enlist, new: &New) -> Result<EnqueuedIn> {
    let statement = sql.jobs.get("enqueue").ok_or_else(no_enlist)?;
    let (id, spec) = (new.id.to_string(), new.spec().to_text());
    let route = (!new.tags.is_empty()).then(|| job::route(&new.tags));
    let scope = new.dedupe.as_ref().map(|dedupe| dedupe.scope);
    let window = match scope {
        Some(DedupeScope::Window(window)) => Some(millis(window)),
        _ => None,
    };
    let key = new.key.as_ref();
    let params = [
        Param::Text(Some(new.namespace.as_str())),
        Param::Text(Some(&id)),
        Param::Text(Some(new.kind.as_str())),
        Param::Text(Some(new.queue.as_str())),
        Param::Int(Some(i64::from(new.priority))),
        Param::Bytes(Some(&new.payload.bytes)),
        Param::Text(Some(new.payload.content_type.as_str()).filter(|kind| *kind != USUAL_TYPE)),
        Param::Text(spec.as_deref()),
        Param::Text(route.as_deref()),
        Param::Int(due(new)),
        Param::Text(new.ordering_key.as_ref().map(|key| key.as_str())),
        Param::Text(key.map(|key| key.key.as_str())),
        Param::Bytes(key.map(|key| key.fingerprint.0.as_slice())),
        Param::Int(key.map(|key| millis(key.ttl))),
        Param::Text(new.dedupe.as_ref().map(|dedupe| dedupe.key.as_str())),
        Param::Int(window),
        Param::Bool(scope == Some(DedupeScope::UntilStarted)),
        Param::Bool(scope == Some(DedupeScope::UntilDone)),
    ];
    let rows = tx.query(statement, &params).await?;
    let mut columns = Columns::of(rows.into_iter().next().unwrap_or_default());
    let present = columns.bool_or_null()?.unwrap_or(false);
    let (key_id, same) = (columns.job_or_null()?, columns.bool_or_null()?.unwrap_or(false));
    let dedupe_id = columns.job_or_null()?;
    let transaction = columns.text_or_null()?.and_then(|number| number.parse().ok());
    let enqueued = match (present, key_id, dedupe_id) {
        (true, _, _) => Enqueued::Created(new.id),
        (_, Some(id), _) if id == new.id => Enqueued::Created(id),
        (_, Some(id), _) if same => Enqueued::Existing(id),
        (_, Some(id), _) => Enqueued::Mismatch(id),
        (_, _, Some(id)) => {
            replace(sql, tx, new, id).await?;
            Enqueued::Existing(id)
        }
        _ => {
            let why = "the key was taken by a transaction that this one can't see: begin a new one";
            return Err(Error::new(Code::KeyLocked, why));
        }
    };
    Ok(EnqueuedIn { enqueued, existing: None, transaction })
}

/// Gives the job that has the dedupe key what the newcomer wants, if it still waits. Whoever claims it at this moment
/// gets what it was.
async fn replace(sql: &EnlistSql, tx: &mut impl Enlist, new: &New, id: JobId) -> Result<()> {
    let on_conflict = new.dedupe.as_ref().map_or(OnConflict::Existing, |dedupe| dedupe.on_conflict);
    if on_conflict == OnConflict::Existing || id == new.id {
        return Ok(());
    }
    let (namespace, id) = (Param::Text(Some(new.namespace.as_str())), id.to_string());
    let waiting = sql.jobs.get("waiting").ok_or_else(no_enlist)?;
    let Some(row) = tx.query(waiting, &[namespace, Param::Text(Some(&id))]).await?.into_iter().next() else {
        return Ok(());
    };
    let mut columns = Columns::of(row);
    let row = Record {
        token: Token::from_row(columns.int()?),
        attempt: columns.count()?,
        ..Record::of_new(new, Timestamp::default())
    };
    let next = new.onto(&row.with_spec(Spec::from_text(columns.text_or_null()?.as_deref())));
    let replaces = on_conflict == OnConflict::Replace;
    let (spec, route) = (next.spec().to_text(), (!next.tags.is_empty()).then(|| job::route(&next.tags)));
    let params = [
        namespace,
        Param::Text(Some(&id)),
        Param::Int(Some(next.token.get())),
        Param::Bytes(replaces.then_some(next.payload.bytes.as_slice())),
        Param::Text(Some(next.payload.content_type.as_str()).filter(|kind| *kind != USUAL_TYPE)),
        Param::Text(spec.as_deref()),
        Param::Text(route.as_deref()),
        Param::Int(due(new)),
        Param::Bool(!replaces),
    ];
    tx.query(sql.jobs.get("replace").ok_or_else(no_enlist)?, &params).await.map(drop)
}

/// Records how an attempt ended.
pub(super) async fn settle(
    sql: &EnlistSql,
    tx: &mut impl Enlist,
    session: SessionId,
    ask: &SettleJob,
) -> Result<SettledJob> {
    let statement = sql.jobs.get("settle").ok_or_else(no_enlist)?;
    let (id, session, past) = (ask.job.id.to_string(), session.to_string(), past_to_text(&ask.next.past));
    let (bytes, result_type, result_size) = result_columns(ask.next.result.as_ref());
    let params = [
        Param::Text(Some(ask.job.namespace.as_str())),
        Param::Text(Some(&id)),
        Param::Int(Some(ask.fence.get())),
        Param::Int(Some(ask.token.get())),
        Param::Int(Some(ask.started_at.as_micros())),
        Param::Text(Some(ask.worker.as_str())),
        Param::Text(Some(ask.next.state.as_str())),
        Param::Int(Some(i64::from(ask.next.attempt))),
        Param::Int(Some(i64::from(ask.next.lost))),
        Param::Int(ask.next.delay.map(micros)),
        Param::Text(ask.next.error.as_deref()),
        Param::Bytes(bytes),
        Param::Text(result_type),
        Param::Int(result_size),
        Param::Text(past.as_deref()),
        Param::Bool(ask.next.alone),
        Param::Int(Some(micros(ask.retain))),
        Param::Text(Some(&session)),
    ];
    for _ in 0..SENDS {
        let rows = tx.query(statement, &params).await?;
        let mut columns = Columns::of(rows.into_iter().next().unwrap_or_default());
        let word = columns.text_or_null()?;
        let (state, token, seen) =
            (word.as_deref().and_then(State::from_word), columns.int_or_null()?, columns.text_or_null()?);
        let seen = seen.as_deref().and_then(State::from_word);
        return Ok(match (state, token, seen) {
            (Some(state), _, _) => SettledJob::Applied(state),
            (None, Some(token), Some(seen)) if token == ask.token.get() => SettledJob::Already(seen),
            // It has just been written, by its own progress or a cancel: as it is now, the next statement sees it.
            (None, Some(token), Some(seen)) if token < ask.fence.get() && !seen.is_final() => continue,
            (None, Some(_), _) => SettledJob::Stale,
            _ => SettledJob::Gone,
        });
    }
    Err(Error::new(Code::KeyLocked, "the job is being written by others all the time"))
}

/// How often an ending is sent that meets a row in motion.
const SENDS: usize = 5;

fn due(new: &New) -> Option<i64> {
    match new.delay {
        Some(delay) => Some(-micros(delay)).filter(|span| *span < 0),
        None => new.run_at.map(|at| at.as_micros().max(0)),
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Columns {
    /// The id of a job, as text.
    fn job_or_null(&mut self) -> Result<Option<JobId>> {
        let id = self.text_or_null()?.map(|text| text.parse::<uuid::Uuid>());
        let id = id.transpose().map_err(|_| Self::unreadable("the id of a job"))?;
        Ok(id.map(JobId::from_uuid))
    }
}
