//! The verbs of a once key on a connection. The rules of the core decide; what is read and written here is
//! theirs.

use onceward_core::history::Event;
use onceward_core::once::{self, Ask, Body, Claim, Ending, Record, Resolution, Resolve, Settle, State};
use onceward_core::{Namespace, Timestamp, limits};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Result, ToSql, params};

use super::clocks::Now;
use super::rows::{self, instant, micros, session};
use super::statements::SQL;
use super::trust::{self, WallClock};
use super::upkeep;
use crate::{ClaimRef, Claimed, KeyRef, ListOnce, Renew, ResolveOnce, SettleOnce, Snapshot};

/// Claims keys; wants the write lock.
pub(crate) fn claim(connection: &Connection, asks: &[Ask], now: &Now) -> Result<Vec<Claimed>> {
    let mut insert = connection.prepare_cached(SQL.once_insert)?;
    let mut claim = |ask: &Ask| {
        // Most keys are new: one statement, and what the row was before is asked only where there was one.
        if let Claim::Grant { row, .. } = once::claim(None, ask, now.wall)
            && with_claim(&row, now, |fields| insert.execute(fields))? == 1
        {
            return Ok(Claimed::Granted(row));
        }
        claim_again(connection, ask, now)
    };
    asks.iter().map(&mut claim).collect()
}

/// Claims a key that was used before, if the rules allow it.
fn claim_again(connection: &Connection, ask: &Ask, now: &Now) -> Result<Claimed> {
    let before = read(connection, SQL.once_read, &ask.namespace, &ask.key, now)?;
    let before = before.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let before = note_expiry(connection, before, now)?;
    match once::claim(Some(&before), ask, now.wall) {
        // N16: a clock that jumped ahead for a moment must not make anything run again.
        Claim::Grant { ended: Some(Event::Retired), .. }
            if trust::wall_clock(connection, now)? == WallClock::Ahead =>
        {
            Ok(Claimed::Existing { row: Box::new(before), now: now.wall })
        }
        Claim::Grant { row, ended } => {
            connection.prepare_cached(SQL.once_told)?.execute([ask.namespace.as_str(), ask.key.as_str()])?;
            if let Some(event) = ended {
                tell(connection, SQL.once_history, &before, event, ask.owner.as_str(), None, now.wall)?;
            }
            let statements = [SQL.once_insert, SQL.once_reclaim];
            with_claim(&row, now, |fields| rows::write(connection, statements, fields, Some(before.token)))?;
            Ok(Claimed::Granted(row))
        }
        Claim::Adopt(row) => Ok(Claimed::Granted(row)),
        Claim::Mismatch => Ok(Claimed::Mismatch),
        Claim::Existing(row) => Ok(Claimed::Existing { row, now: now.wall }),
    }
}

/// The answers to those asks that want nothing written: the key is taken, or the asker's already.
pub(crate) fn answers(connection: &Connection, asks: &[Ask], now: &Now) -> Result<Vec<Option<Claimed>>> {
    let mut lookup = connection.prepare_cached(SQL.once_lookup)?;
    let mut answer = |ask: &Ask| {
        let Some(row) = read_with(&mut lookup, &ask.namespace, &ask.key, now)? else { return Ok(None) };
        // Whoever sees first that a claim has run out writes it down.
        if row.state == State::Running && row.state_at(now.wall) != State::Running {
            return Ok(None);
        }
        Ok(match once::claim(Some(&row), ask, now.wall) {
            Claim::Grant { .. } => None,
            Claim::Adopt(row) => Some(Claimed::Granted(row)),
            Claim::Mismatch => Some(Claimed::Mismatch),
            Claim::Existing(row) => Some(Claimed::Existing { row, now: now.wall }),
        })
    };
    asks.iter().map(&mut answer).collect()
}

/// The columns of a claim, handed to what writes them.
fn with_claim<R>(row: &Record, now: &Now, write: impl FnOnce(&[&dyn ToSql]) -> R) -> R {
    let fingerprint = row.fingerprint.as_ref().map(|it| it.0.as_slice());
    let hard_expires_boot = row.hard_expires_at.map(|hard| now.on_boot_clock(hard));
    write(params![
        row.namespace.as_str(),
        row.key.as_str(),
        row.token.get(),
        row.owner.as_str(),
        session(row.session),
        row.attempts,
        fingerprint,
        row.claimed_at.as_micros(),
        row.expires_at.as_micros(),
        now.on_boot_clock(row.expires_at),
        hard_expires_boot,
        now.boot_id,
        micros(row.ttl),
        micros(row.retain),
        instant(row.uncertain_at),
        row.reason,
    ])
}

/// Writes that a claim has run out, if it has and nobody has written it yet; the row as it is then.
fn note_expiry(connection: &Connection, row: Record, now: &Now) -> Result<Record> {
    if row.state != State::Running || row.state_at(now.wall) != State::Uncertain {
        return Ok(row);
    }
    tell(
        connection,
        SQL.once_history,
        &row,
        Event::Expired,
        row.owner.as_str(),
        Some(once::EXPIRED),
        row.expires_at,
    )?;
    let row = row.expired();
    let (namespace, key) = (row.namespace.as_str(), row.key.as_str());
    let expired = params![namespace, key, row.token.get(), instant(row.uncertain_at), once::EXPIRED];
    connection.prepare_cached(SQL.once_expire)?.execute(expired)?;
    Ok(row)
}

/// The namespace and the key where looking for claims that have run out goes on.
pub(crate) type OpenPlace = (String, String);

/// Writes which claims have run out that nobody has looked at since, at most `limit` of them, from
/// `at` on. Whether all were looked at.
pub(crate) fn note_expiries(
    connection: &Connection,
    limit: usize,
    at: &mut OpenPlace,
    now: &Now,
) -> Result<bool> {
    let mut open = connection.prepare_cached(SQL.once_list_all_open)?;
    let mut rows = open.query([&at.0, &at.1])?;
    let (mut expired, mut seen) = (Vec::new(), 0);
    let mut stopped_at = OpenPlace::default();
    while let Some(row) = rows.next()? {
        let (namespace, key) = rows::name(row, 21)?;
        if expired.len() >= limit || seen >= upkeep::READ_ROWS_MAX {
            stopped_at = (namespace.as_str().to_owned(), key.as_str().to_owned());
            break;
        }
        seen += 1;
        let record = rows::once(row, &namespace, &key, now)?;
        if record.state == State::Running && record.state_at(now.wall) == State::Uncertain {
            expired.push(record);
        }
    }
    *at = stopped_at;
    let is_all = seen < upkeep::READ_ROWS_MAX;
    expired.into_iter().try_for_each(|record| note_expiry(connection, record, now).map(drop))?;
    Ok(is_all)
}

/// Writes an event; the first after a claim also tells that the claim had begun.
fn tell(
    connection: &Connection,
    statement: &str,
    row: &Record,
    event: Event,
    actor: &str,
    reason: Option<&str>,
    at: Timestamp,
) -> Result<()> {
    let open = row.state == State::Running;
    let claimed_at = open.then(|| row.claimed_at.as_micros());
    let claimed_by = Some(row.owner.as_str()).filter(|owner| open && *owner != actor);
    connection.prepare_cached(statement)?.execute(params![
        row.namespace.as_str(),
        row.key.as_str(),
        event.as_str(),
        row.token.get(),
        actor,
        at.as_micros(),
        reason,
        claimed_at,
        claimed_by,
    ])?;
    Ok(())
}

fn read(
    connection: &Connection,
    statement: &str,
    namespace: &Namespace,
    key: &onceward_core::Key,
    now: &Now,
) -> Result<Option<Record>> {
    read_with(&mut connection.prepare_cached(statement)?, namespace, key, now)
}

fn read_with(
    statement: &mut CachedStatement<'_>,
    namespace: &Namespace,
    key: &onceward_core::Key,
    now: &Now,
) -> Result<Option<Record>> {
    let row = |row: &rusqlite::Row<'_>| rows::once(row, namespace, key, now);
    statement.query_row([namespace.as_str(), key.as_str()], row).optional()
}

/// Renews claims.
pub(crate) fn renew(connection: &Connection, claims: &[ClaimRef], now: &Now) -> Result<Vec<Renew>> {
    let mut renew = connection.prepare_cached(SQL.once_renew)?;
    let mut renew = |claim: &ClaimRef| {
        let until = renew.query_row(
            params![
                claim.namespace.as_str(),
                claim.key.as_str(),
                claim.token.get(),
                session(claim.session),
                now.boot_id,
                now.boot,
                now.wall.as_micros(),
            ],
            |row| row.get(0).map(Timestamp::from_micros),
        );
        Ok(until.optional()?.map_or(Renew::Lost, Renew::Until))
    };
    claims.iter().map(&mut renew).collect()
}

/// The columns of a recorded outcome.
struct Outcome<'a> {
    content_type: Option<&'a str>,
    size: Option<i64>,
    bytes: Option<&'a [u8]>,
}

impl<'a> Outcome<'a> {
    fn of(body: Option<&'a Body>) -> Self {
        Self {
            content_type: body.map(|body| body.content_type.as_str()),
            size: body.map(|body| i64::try_from(body.size).unwrap_or(i64::MAX)),
            bytes: body.and_then(|body| body.bytes.as_deref()),
        }
    }
}

/// Records outcomes; wants the write lock.
pub(crate) fn settle(connection: &Connection, asks: &[SettleOnce], now: &Now) -> Result<Vec<Settle>> {
    let mut read = connection.prepare_cached(SQL.once_settle_read)?;
    let mut settle = connection.prepare_cached(SQL.once_settle)?;
    let mut settle = |ask: &SettleOnce| {
        let (namespace, key) = (&ask.namespace, &ask.key);
        let found = read
            .query_row([namespace.as_str(), key.as_str()], |row| {
                Ok((row.get(21)?, rows::once(row, namespace, key, now)?))
            })
            .optional()?;
        let row = found.as_ref().map(|(_, row)| row);
        let answer = once::settle(row, ask.token, &ask.ending, now.wall);
        if let (Settle::Applied { late }, Some((rowid, row))) = (&answer, &found) {
            write_ending(&mut settle, (*rowid, row), &ask.ending, *late, now)?;
            if !stands_in_row(row, &ask.ending) {
                let (event, reason) = (ask.ending.event(), reason(&ask.ending));
                let actor = row.owner.as_str();
                tell(connection, SQL.once_settled, row, event, actor, reason.as_deref(), now.wall)?;
            }
        }
        Ok(answer)
    };
    asks.iter().map(&mut settle).collect()
}

fn reason(ending: &Ending) -> Option<String> {
    ending.reason().map(|reason| once::cut(reason, limits::REASON_BYTES_MAX))
}

/// Whether the row alone tells the history of this ending, until it is overwritten: of an outcome that nobody ever
/// doubted. Another outcome may follow a doubt.
fn stands_in_row(row: &Record, ending: &Ending) -> bool {
    row.uncertain_at.is_none() && ending.state() != State::Uncertain
}

/// Writes an ending into its row, as [`once::settled`] has it, without a copy of the body.
fn write_ending(
    settle: &mut CachedStatement<'_>,
    (rowid, row): (i64, &Record),
    ending: &Ending,
    late: bool,
    now: &Now,
) -> Result<()> {
    let body = Outcome::of(ending.body());
    let state = once::leaves(row, ending);
    let (mut uncertain_at, mut finished_at, mut retain_until) = (row.uncertain_at, None, None);
    if state == State::Uncertain {
        uncertain_at = uncertain_at.or(Some(now.wall));
    } else {
        finished_at = Some(now.wall);
        retain_until = Some(now.wall.after(row.retain));
    }
    let changed = settle.execute(params![
        rowid,
        row.token.get(),
        state.as_str(),
        late,
        instant(uncertain_at),
        instant(finished_at),
        instant(retain_until),
        if state == ending.state() { reason(ending) } else { row.reason.clone() },
        body.content_type,
        body.size,
        body.bytes,
        stands_in_row(row, ending),
    ])?;
    if changed == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(changed)) }
}

/// Settles what nobody knows; wants the write lock unless it is only tried.
pub(crate) fn resolve(connection: &Connection, ask: &ResolveOnce, now: &Now) -> Result<Resolve> {
    let mut row = read(connection, SQL.once_read, &ask.namespace, &ask.key, now)?;
    if !ask.dry_run {
        row = row.map(|row| note_expiry(connection, row, now)).transpose()?;
    }
    let answer = once::resolve(row.as_ref(), ask.token, now.wall);
    if let (Resolve::Applied { token }, Some(row), false) = (&answer, row, ask.dry_run) {
        let before = row.token;
        let row = Record { token: *token, ..row };
        let why = once::cut(&ask.reason, limits::REASON_BYTES_MAX);
        tell(
            connection,
            SQL.once_history,
            &row,
            ask.resolution.event(),
            ask.actor.as_str(),
            Some(&why),
            now.wall,
        )?;
        let (body, reason) = match &ask.resolution {
            Resolution::Done(body) => (Some(body), None),
            Resolution::Failed { reason } => {
                (row.body.as_ref(), Some(once::cut(reason, limits::REASON_BYTES_MAX)))
            }
            Resolution::Release => (row.body.as_ref(), row.reason.clone()),
        };
        let body = Outcome::of(body);
        connection.prepare_cached(SQL.once_resolve)?.execute(params![
            row.namespace.as_str(),
            row.key.as_str(),
            before.get(),
            token.get(),
            ask.resolution.state().as_str(),
            now.wall.as_micros(),
            reason,
            body.content_type,
            body.size,
            body.bytes,
        ])?;
    }
    Ok(answer)
}

/// Reads keys, in the order asked for.
pub(crate) fn lookup(
    connection: &Connection,
    keys: &[KeyRef],
    now: &Now,
) -> Result<Snapshot<Option<Record>>> {
    let mut lookup = connection.prepare_cached(SQL.once_lookup)?;
    let rows = keys
        .iter()
        .map(|name| read_with(&mut lookup, &name.namespace, &name.key, now))
        .collect::<Result<_>>()?;
    Ok(Snapshot { now: now.wall, rows })
}

/// A page of keys.
pub(crate) fn list(connection: &Connection, ask: &ListOnce, now: &Now) -> Result<Snapshot<Record>> {
    let mut found = Snapshot { now: now.wall, rows: Vec::new() };
    let prefix = ask.prefix.as_deref().unwrap_or_default();
    // The smallest text after a key is the key and a NUL, which no key holds.
    let after = ask.after.as_ref().map(|(namespace, key)| (namespace.as_str(), format!("{key}\0")));
    let only = ask.namespace.as_ref().map_or("", Namespace::as_str);
    let start = (only, if ask.namespace.is_some() { prefix.to_owned() } else { String::new() });
    let start = after.map_or_else(|| start.clone(), |after| after.max(start.clone()));
    if ask.namespace.is_some() && start.0 != only {
        return Ok(found);
    }
    let open = matches!(ask.state, Some(State::Running | State::Uncertain));
    let statement = match (ask.namespace.is_some(), open) {
        (true, false) => SQL.once_list,
        (false, false) => SQL.once_list_all,
        (true, true) => SQL.once_list_open,
        (false, true) => SQL.once_list_all_open,
    };
    let mut read = connection.prepare_cached(statement)?;
    let mut rows = if open {
        read.query(params![start.0, start.1])?
    } else {
        read.query(params![start.0, start.1, ask.state.map(State::as_str)])?
    };
    while found.rows.len() < ask.limit
        && let Some(row) = rows.next()?
    {
        let (namespace, key) = rows::name(row, 21)?;
        if !key.as_str().starts_with(prefix) {
            if ask.namespace.is_some() {
                break; // within a namespace, keys of one prefix lie together
            }
            continue;
        }
        let record = rows::once(row, &namespace, &key, now)?;
        if ask.state.is_none_or(|state| state == record.state_at(now.wall)) {
            found.rows.push(record);
        }
    }
    Ok(found)
}
