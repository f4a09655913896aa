//! Between the rows of jobs, claims and sessions and their records: the columns in the order of the tables.

use core::time::Duration;

use onceward_core::job::{self, Pause, Payload, Record, Spec, State};
use onceward_core::once::Body;
use onceward_core::{
    ClaimId, JobId, Kind, Namespace, Owner, Place, Queue, SessionId, Timestamp, Token, session,
};
use rusqlite::{Result, Row};

use super::super::clocks::{Expiry, Now};
use super::super::failure::unreadable;

/// A job as it is kept.
pub(super) fn job(id: JobId) -> [u8; 16] {
    id.as_uuid().into_bytes()
}

/// A claim as it is kept.
pub(super) fn claim_id(id: ClaimId) -> [u8; 16] {
    id.as_uuid().into_bytes()
}

/// The priority, turned round: small goes first.
pub(super) fn rank(priority: i16) -> i32 {
    -i32::from(priority)
}

/// A row with what is said about its being paused, which stands behind it.
pub(super) fn record_with_pause(row: &Row<'_>) -> Result<Record> {
    let pause = |at: i64| {
        Ok::<_, rusqlite::Error>(Pause {
            at: Timestamp::from_micros(at),
            by: Owner::from_row(optional(row, 25)?.unwrap_or_default()),
            reason: row.get(26)?,
        })
    };
    let paused = row.get::<_, Option<i64>>(24)?.map(pause).transpose()?;
    Ok(Record { paused, ..record(row)? })
}

/// A row of `onceward_job` or `onceward_job_done`, which has no place.
pub(super) fn record(row: &Row<'_>) -> Result<Record> {
    let place: Option<i64> = row.get(0)?;
    let id = job_id(row, 2)?;
    let spec = Spec::from_text(optional(row, 14)?);
    let instant =
        |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros));
    let record = Record {
        namespace: Namespace::from_row(text(row, 1)?),
        id,
        kind: Kind::from_row(text(row, 3)?),
        queue: Queue::from_row(text(row, 4)?),
        priority: row.get(5)?,
        state: state(row, 6)?,
        token: Token::from_row(row.get(7)?),
        attempt: row.get(8)?,
        lost: row.get(9)?,
        policy: job::Policy::default(),
        enqueued_at: Timestamp::from_micros(row.get(10)?),
        run_at: Timestamp::from_micros(row.get(11)?),
        payload: Payload { bytes: row.get(12)?, content_type: row.get(13)? },
        ordering_key: None,
        tags: Vec::new(),
        metadata: None,
        trace: None,
        replay_of: None,
        parent: None,
        depth: 0,
        lines: Vec::new(),
        root: id,
        until_started: false,
        dedupe_key: None,
        begun: row.get::<_, Option<i64>>(15)?.map(Token::from_row),
        attempted_at: instant(16)?,
        finished_at: instant(17)?,
        worker: optional(row, 18)?.map(Owner::from_row),
        error: row.get(19)?,
        result: None,
        progress: None,
        past: job::past_from_text(optional(row, 23)?),
        running: None,
        paused: None,
        place: Place(place.and_then(|place| u64::try_from(place).ok())),
    };
    Ok(record.with_spec(spec).with_said(said(row)?))
}

/// What the job has returned, or said on the way to that.
fn said(row: &Row<'_>) -> Result<Option<Body>> {
    let Some(content_type) = row.get::<_, Option<String>>(21)? else { return Ok(None) };
    let size: Option<i64> = row.get(22)?;
    let size = size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
    Ok(Some(Body { bytes: row.get(20)?, content_type, size }))
}

/// A claim, and the ids of its jobs, in the order in which they are started.
pub(super) struct Claim {
    pub(super) id: ClaimId,
    pub(super) namespace: Namespace,
    pub(super) session: SessionId,
    pub(super) token: Token,
    pub(super) claimed_at: Timestamp,
    pub(super) jobs: Vec<JobId>,
}

/// A row of `onceward_job_claim`.
pub(super) fn claim(row: &Row<'_>) -> Result<Claim> {
    let jobs = row.get_ref(5)?.as_blob().map_err(|error| unreadable(5, error.to_string()))?;
    Ok(Claim {
        id: ClaimId::from_uuid(uuid(row, 0)?),
        namespace: Namespace::from_row(text(row, 1)?),
        session: SessionId::from_uuid(uuid(row, 2)?),
        token: Token::from_row(row.get(3)?),
        claimed_at: Timestamp::from_micros(row.get(4)?),
        jobs: jobs.as_chunks().0.iter().map(|id| JobId::from_uuid(uuid::Uuid::from_bytes(*id))).collect(),
    })
}

/// A row of `onceward_session`.
pub(super) fn session(row: &Row<'_>, now: &Now) -> Result<session::Record> {
    let (started_at, ttl): (i64, i64) = (row.get(3)?, row.get(8)?);
    let expiry = Expiry { began: started_at, wall: row.get(5)?, boot: row.get(6)?, boot_id: text(row, 7)? };
    Ok(session::Record {
        id: SessionId::from_uuid(uuid(row, 0)?),
        owner: Owner::from_row(text(row, 1)?),
        token: Token::from_row(row.get(2)?),
        started_at: Timestamp::from_micros(started_at),
        seen_at: Timestamp::from_micros(row.get(4)?),
        expires_at: now.shown(&expiry),
        ttl: Duration::from_micros(u64::try_from(ttl).unwrap_or_default()),
        draining: row.get(9)?,
        running: 0,
        about: session::About::from_text(text(row, 10)?),
    })
}

/// A text that is always there.
pub(super) fn text<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a str> {
    row.get_ref(column)?.as_str().map_err(|error| unreadable(column, error.to_string()))
}

fn optional<'a>(row: &'a Row<'_>, column: usize) -> Result<Option<&'a str>> {
    row.get_ref(column)?.as_str_or_null().map_err(|error| unreadable(column, error.to_string()))
}

/// The id of a job.
pub(super) fn job_id(row: &Row<'_>, column: usize) -> Result<JobId> {
    uuid(row, column).map(JobId::from_uuid)
}

pub(super) fn uuid(row: &Row<'_>, column: usize) -> Result<uuid::Uuid> {
    row.get(column).map(uuid::Uuid::from_bytes)
}

/// The state of a job.
pub(super) fn state(row: &Row<'_>, column: usize) -> Result<State> {
    let word = text(row, column)?;
    State::from_word(word).ok_or_else(|| unreadable(column, format!("{word:?} is not the state of a job")))
}
