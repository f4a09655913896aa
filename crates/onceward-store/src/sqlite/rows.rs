//! Between rows and records: the columns in the order in which the statements name them.

use core::time::Duration;

use onceward_core::once::{self, Body, Fingerprint, State};
use onceward_core::{Key, Namespace, Owner, Place, SessionId, Timestamp, Token, lease};
use rusqlite::{Connection, Result, Row, ToSql};

use super::clocks::{Expiry, Now};
use super::failure::unreadable;

/// A duration as it is kept.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A claim attempt as it is kept.
pub(crate) fn session(session: SessionId) -> [u8; 16] {
    session.as_uuid().into_bytes()
}

/// An optional instant as it is kept.
pub(crate) fn instant(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_micros)
}

/// Runs the first statement for a row that is new, or the second for one that had the token `before`: it
/// takes that one as its last parameter, and must find it.
pub(crate) fn write(
    connection: &Connection,
    [insert, update]: [&str; 2],
    fields: &[&dyn ToSql],
    before: Option<Token>,
) -> Result<()> {
    let Some(before) = before else {
        connection.prepare_cached(insert)?.execute(fields)?;
        return Ok(());
    };
    let token = before.get();
    let guard: [&dyn ToSql; 1] = [&token];
    match connection.prepare_cached(update)?.execute(&*[fields, &guard].concat())? {
        1 => Ok(()),
        count => Err(rusqlite::Error::StatementChangedRows(count)),
    }
}

/// The key columns of a listed row.
pub(crate) fn name(row: &Row<'_>, namespace: usize) -> Result<(Namespace, Key)> {
    let text = |column| {
        row.get_ref(column).and_then(|value| value.as_str().map_err(|error| column_error(column, &error)))
    };
    Ok((Namespace::from_row(text(namespace)?), Key::from_row(text(namespace + 1)?)))
}

/// A row of `onceward_lease`.
pub(crate) fn lease(row: &Row<'_>, namespace: &Namespace, key: &Key, now: &Now) -> Result<lease::Record> {
    let (expires_at, hard_expires_at) = expiry(row, 4, 5, now)?;
    Ok(lease::Record {
        namespace: namespace.clone(),
        key: key.clone(),
        slot: row.get(0)?,
        token: Token::from_row(row.get(1)?),
        owner: owner(row, 2)?,
        session: session_of(row, 3)?,
        granted_at: timestamp(row, 4)?,
        expires_at,
        hard_expires_at,
        ttl: duration(row, 9)?,
        lock_delay: duration(row, 10)?,
        heartbeats: row.get(11)?,
        released_at: row.get::<_, Option<i64>>(12)?.map(Timestamp::from_micros),
        place: Place::default(),
        metadata: row.get(13)?,
    })
}

/// A row of `onceward_once`.
pub(crate) fn once(row: &Row<'_>, namespace: &Namespace, key: &Key, now: &Now) -> Result<once::Record> {
    let (expires_at, hard_expires_at) = expiry(row, 6, 7, now)?;
    let optional =
        |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros));
    Ok(once::Record {
        namespace: namespace.clone(),
        key: key.clone(),
        state: state(row, 0)?,
        token: Token::from_row(row.get(1)?),
        owner: owner(row, 2)?,
        session: session_of(row, 3)?,
        attempts: row.get(4)?,
        fingerprint: row.get::<_, Option<[u8; 32]>>(5)?.map(Fingerprint),
        claimed_at: timestamp(row, 6)?,
        expires_at,
        hard_expires_at,
        ttl: duration(row, 11)?,
        retain: duration(row, 12)?,
        uncertain_at: optional(13)?,
        finished_at: optional(14)?,
        retain_until: optional(15)?,
        late: row.get(16)?,
        reason: row.get(17)?,
        body: body(row, 18)?,
        place: Place::default(),
    })
}

/// The expiry and the hard limit: from `began` the beginning of the claim, from `at` the columns
/// `expires_at`, `expires_boot`, `hard_expires_boot`, `boot_id`.
fn expiry(row: &Row<'_>, began: usize, at: usize, now: &Now) -> Result<(Timestamp, Option<Timestamp>)> {
    let boot: i64 = row.get(at + 1)?;
    let hard: Option<i64> = row.get(at + 2)?;
    let boot_id = row.get_ref(at + 3)?.as_str().map_err(|error| column_error(at + 3, &error))?;
    let shown = now.shown(&Expiry { began: row.get(began)?, wall: row.get(at)?, boot, boot_id });
    let later =
        |hard: i64| Timestamp::from_micros(shown.as_micros().saturating_add(hard.saturating_sub(boot)));
    Ok((shown, hard.map(later)))
}

/// The state written in a column.
pub(crate) fn state(row: &Row<'_>, column: usize) -> Result<State> {
    let word = row.get_ref(column)?.as_str().map_err(|error| column_error(column, &error))?;
    State::from_word(word).ok_or_else(|| unreadable(column, format!("{word:?} is not a state")))
}

fn owner(row: &Row<'_>, column: usize) -> Result<Owner> {
    let text = row.get_ref(column)?.as_str().map_err(|error| column_error(column, &error))?;
    Ok(Owner::from_row(text))
}

fn session_of(row: &Row<'_>, column: usize) -> Result<SessionId> {
    Ok(SessionId::from_uuid(uuid::Uuid::from_bytes(row.get(column)?)))
}

fn timestamp(row: &Row<'_>, column: usize) -> Result<Timestamp> {
    row.get(column).map(Timestamp::from_micros)
}

fn duration(row: &Row<'_>, column: usize) -> Result<Duration> {
    let micros: i64 = row.get(column)?;
    Ok(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

fn body(row: &Row<'_>, at: usize) -> Result<Option<Body>> {
    let Some(content_type) = row.get::<_, Option<String>>(at)? else { return Ok(None) };
    let size: i64 = row.get(at + 1)?;
    Ok(Some(Body { bytes: row.get(at + 2)?, content_type, size: u64::try_from(size).unwrap_or(0) }))
}

fn column_error(column: usize, error: &rusqlite::types::FromSqlError) -> rusqlite::Error {
    unreadable(column, error.to_string())
}
