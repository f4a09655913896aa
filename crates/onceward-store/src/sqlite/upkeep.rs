//! History, pruning, and the self-check, on a connection.

use onceward_core::history::{Entry, Event, Row, Subject};
use onceward_core::{Code, Timestamp, Token};
use rusqlite::{Connection, OptionalExtension, Result, ToSql, params};

use super::clocks::Now;
use super::failure::unreadable;
use super::migrate::{self, texts};
use super::once::OpenPlace;
use super::place::Place;
use super::rows::micros;
use super::statements::SQL;
use super::trust::{self, Meta, WallClock};
use crate::{Finding, HistoryOf, Prune, Pruned, Severity};

/// A token that far ahead of the wall clock was not made by it.
const AHEAD_MICROS: i64 = 5 * 60 * 1_000_000;
/// A log larger than this is not being folded into the file.
const LOG_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How many rows of a table one prune looks at with the write lock in its hands; the next one goes on there.
pub(crate) const READ_ROWS_MAX: i64 = 10_000;

/// Where in its tables upkeep goes on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// The rowid of a once key.
    live: i64,
    lease: LeasePlace,
    open: OpenPlace,
}

/// A namespace, a key, and a place of the lease.
type LeasePlace = (String, String, i64);

/// The newest rows of one key's history.
pub(crate) fn history(connection: &Connection, ask: &HistoryOf) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if ask.subject == Subject::Once && ask.limit > 0 {
        let mut live = connection.prepare_cached(SQL.history_live)?;
        let row = live.query_row([ask.namespace.as_str(), ask.key.as_str()], |row| history_row(row, ask));
        rows.extend(row.optional()?);
    }
    let mut list = connection.prepare_cached(SQL.history_list)?;
    let left = i64::try_from(ask.limit.saturating_sub(rows.len())).unwrap_or(i64::MAX);
    let of = params![ask.subject.as_str(), ask.namespace.as_str(), ask.key.as_str(), left];
    for row in list.query_map(of, |row| history_row(row, ask))? {
        rows.push(row?);
    }
    Ok(rows)
}

fn history_row(row: &rusqlite::Row<'_>, of: &HistoryOf) -> Result<Row> {
    let word: String = row.get(0)?;
    let event = Event::from_word(&word).ok_or_else(|| unreadable(0, format!("{word:?} is not an event")))?;
    let entry = Entry {
        subject: of.subject,
        namespace: of.namespace.clone(),
        key: of.key.clone(),
        event,
        token: Token::from_row(row.get(1)?),
        actor: row.get(2)?,
        at: Timestamp::from_micros(row.get(3)?),
        reason: row.get(4)?,
    };
    let claimed_at = row.get::<_, Option<i64>>(5)?.map(Timestamp::from_micros);
    Ok(Row { entry, claimed_at, claimed_by: row.get(6)? })
}

/// Forgets what may be forgotten; wants the write lock.
pub(crate) fn prune(connection: &Connection, ask: &Prune, places: &mut Places, now: &Now) -> Result<Pruned> {
    if trust::wall_clock(connection, now)? != WallClock::Trusted {
        tracing::warn!(
            "the wall clock jumped against the boot clock: nothing is forgotten until it is believed"
        );
        return Ok(Pruned::default());
    }
    let limit = i64::try_from(ask.limit).unwrap_or(i64::MAX);
    let wall = now.wall.as_micros();
    let run = |statement, params: &[&dyn ToSql]| -> Result<i64> {
        let rows = connection.prepare_cached(statement)?.execute(params)?;
        Ok(i64::try_from(rows).unwrap_or(i64::MAX))
    };
    let old = now.wall.before(ask.history_older_than).as_micros();
    let history = run(SQL.prune_history, params![old, limit])?;
    let (live, all_live) = forget_live(connection, old, limit - history, &mut places.live)?;
    run(SQL.prune_told, params![wall, limit])?;
    let once = run(SQL.prune_once, params![wall, limit])?;
    let (leases, all_leases) = forget_leases(connection, ask, &mut places.lease, now)?;
    run(SQL.prune_waiting, params![now.boot_id, now.boot])?;
    let all_open = super::once::note_expiries(connection, ask.limit, &mut places.open, now)?;
    let [once, leases, history] = [once, leases, history + live].map(|rows| rows.unsigned_abs());
    Ok(Pruned { once, leases, history, more: !(all_live && all_leases && all_open) })
}

/// Forgets the history that stands in the rows of once keys. How much, and whether all rows were looked at, or as many
/// as it took.
fn forget_live(connection: &Connection, old: i64, limit: i64, place: &mut i64) -> Result<(i64, bool)> {
    if limit <= 0 {
        return Ok((0, true));
    }
    let mut window = connection.prepare_cached(SQL.prune_live_to)?;
    let (last, seen): (Option<i64>, i64) =
        window.query_row(params![*place, READ_ROWS_MAX], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut forget = connection.prepare_cached(SQL.prune_live)?;
    let gone = i64::try_from(forget.execute(params![old, limit, *place, READ_ROWS_MAX])?).unwrap_or(i64::MAX);
    if gone >= limit {
        return Ok((gone, true));
    }
    let next = last.filter(|_| seen >= READ_ROWS_MAX);
    *place = next.unwrap_or_default();
    Ok((gone, next.is_none()))
}

/// Removes leases, and tells the end of those whose end nobody has seen. How many there were, and whether all rows were
/// looked at, or as many as it took.
fn forget_leases(
    connection: &Connection,
    ask: &Prune,
    place: &mut LeasePlace,
    now: &Now,
) -> Result<(i64, bool)> {
    let mut window = connection.prepare_cached(SQL.prune_lease_to)?;
    let (namespace, key, slot) = &*place;
    let skip = params![namespace, key, slot, READ_ROWS_MAX - 1];
    let next = window.query_row(skip, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    let limit = i64::try_from(ask.limit).unwrap_or(i64::MAX);
    let old = now.wall.before(ask.leases_older_than).as_micros();
    let old_boot = now.boot.saturating_sub(micros(ask.leases_older_than));
    let (wall, boot_id) = (now.wall.as_micros(), &now.boot_id);
    let of = params![wall, old, old_boot, boot_id, limit, namespace, key, slot, READ_ROWS_MAX];
    let gone = forget_leases_of(connection, of)?;
    if gone >= limit {
        return Ok((gone, true));
    }
    let is_last = next.is_none();
    *place = next.unwrap_or_default();
    Ok((gone, is_last))
}

fn forget_leases_of(connection: &Connection, params: &[&dyn ToSql]) -> Result<i64> {
    let mut forget = connection.prepare_cached(SQL.prune_leases)?;
    let mut gone = forget.query(params)?;
    let (mut count, mut lost) = (0, Vec::<Lost>::new());
    while let Some(row) = gone.next()? {
        count += 1;
        if row.get(6)? {
            lost.push((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?));
        }
    }
    drop(gone);
    let mut tell = connection.prepare_cached(SQL.lease_ended)?;
    for (namespace, key, token, owner, granted_at, expires_at) in lost {
        let event = Event::Expired.as_str();
        tell.execute(params![namespace, key, event, token, owner, expires_at, granted_at, None::<String>])?;
    }
    Ok(count)
}

/// A lease that was lost: namespace, key, token, owner, and from when until when it was held.
type Lost = (String, String, i64, String, i64, i64);

/// Looks at the file and its settings.
pub(crate) fn check(connection: &Connection, place: Option<&Place>, now: &Now) -> Result<Vec<Finding>> {
    let mut findings = vec![fine("sqlite", rusqlite::version())];
    match place {
        None => findings.push(warning("durability", "kept in memory only, gone with this process", None)),
        Some(place) => {
            findings.extend(place.findings());
            findings.push(journal(connection)?);
            findings.push(fine("synchronous", "full"));
            findings.push(log(place.log_bytes()));
        }
    }
    findings.push(match migrate::status(connection) {
        Ok(status) if status.pending.is_empty() => {
            fine("schema", &format!("version {}", status.applied.len()))
        }
        Ok(_) => warning("schema", "behind this program", Some(Code::SchemaBehind)),
        Err(error) => {
            Finding { severity: Severity::Error, ..warning("schema", error.message(), Some(error.code())) }
        }
    });
    if let Ok(meta) = trust::meta(connection) {
        findings.push(clock(connection, meta.as_ref(), now)?);
        findings.push(triggers(&texts(connection, SQL.triggers)?));
    }
    Ok(findings)
}

fn journal(connection: &Connection) -> Result<Finding> {
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    Ok(match mode.as_str() {
        "wal" => fine("journal", "write-ahead log"),
        other => {
            let found = format!("\"{other}\": somebody has changed it");
            Finding { severity: Severity::Error, ..warning("journal", &found, Some(Code::CommitNotDurable)) }
        }
    })
}

/// A log that only grows: a reader that never ends keeps it from being folded into the file (N47).
fn log(bytes: u64) -> Finding {
    let found = format!("{} MiB", bytes >> 20);
    if bytes <= LOG_BYTES_MAX {
        return fine("log", &found);
    }
    warning("log", &format!("{found}: a read transaction somewhere does not end"), Some(Code::StoreBusy))
}

/// N18: tokens come from the wall clock, so it must not be behind the last grant.
fn clock(connection: &Connection, meta: Option<&Meta>, now: &Now) -> Result<Finding> {
    let newest: Option<i64> = connection.query_row(SQL.newest_token, [], |row| row.get(0))?;
    let latest = newest.max(meta.map(|meta| meta.wall)).unwrap_or(0);
    let ahead = latest - now.wall.as_micros();
    if ahead > AHEAD_MICROS {
        let found = format!("the wall clock is {} s behind the last grant", ahead / 1_000_000);
        return Ok(warning("clock", &found, Some(Code::ClockBehind)));
    }
    if meta.is_some_and(|meta| trust::is_doubted(meta, now)) {
        let found = "the wall clock has jumped: nothing is pruned until it has stayed for an hour";
        return Ok(warning("clock", found, Some(Code::ClockInconsistent)));
    }
    Ok(fine("clock", "not behind the last grant"))
}

fn triggers(names: &[String]) -> Finding {
    match names {
        [] => fine("triggers", "none on our tables"),
        names => {
            let found = format!("{} on our tables: our connections don't run them", names.join(", "));
            warning("triggers", &found, Some(Code::SchemaObjectForeign))
        }
    }
}

fn fine(check: &'static str, found: &str) -> Finding {
    Finding { severity: Severity::Ok, check, found: found.to_owned(), code: None }
}

fn warning(check: &'static str, found: &str, code: Option<Code>) -> Finding {
    Finding { severity: Severity::Warning, check, found: found.to_owned(), code }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n47_a_log_that_a_reader_keeps_from_being_folded_in_is_warned_of() {
        let small = log(LOG_BYTES_MAX);
        assert_eq!((small.severity, small.code), (Severity::Ok, None));
        let large = log(LOG_BYTES_MAX + 1);
        assert_eq!((large.severity, large.code), (Severity::Warning, Some(Code::StoreBusy)));
        assert!(large.found.contains("256 MiB"), "{}", large.found);
    }
}
