//! The verbs of a lease on a connection. The rules of the core decide; what is read and written here is
//! theirs.

use onceward_core::history::Event;
use onceward_core::lease::{self, Acquire, Ask, Record, Standing, Ticket};
use onceward_core::{Key, Namespace, Timestamp, Token};
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::clocks::Now;
use super::rows::{self, micros, session};
use super::statements::SQL;
use crate::{
    Acquired, BreakLease, Broken, ClaimRef, KeyRef, LeaveLease, ListLeases, ReleaseLease, Renew, Snapshot,
    WaitLease,
};

/// What is to be done about an ask.
enum Decision {
    /// Nothing is to be written.
    Answer(Acquired),
    /// This row, in place of the one before it, whose end is to be told unless it was told already.
    Grant { row: Box<Record>, before: Option<Box<Record>>, ended: Option<Event> },
}

/// Takes leases; wants the write lock.
pub(crate) fn acquire(connection: &Connection, asks: &[Ask], now: &Now) -> Result<Vec<Acquired>> {
    let acquire = |ask: &Ask| match decide(connection, ask, now)? {
        Decision::Answer(answer) => Ok(answer),
        Decision::Grant { row, before, ended } => {
            if let (Some(before), Some(event)) = (&before, ended) {
                tell_end(connection, before, event, ask.owner.as_str(), now)?;
            }
            grant(connection, &row, before.map(|before| before.token), now)?;
            Ok(Acquired::Granted(row))
        }
    };
    asks.iter().map(acquire).collect()
}

/// The answers to those asks that want nothing written: the key is held, or the asker's already.
pub(crate) fn answers(connection: &Connection, asks: &[Ask], now: &Now) -> Result<Vec<Option<Acquired>>> {
    let answer = |ask: &Ask| match decide(connection, ask, now)? {
        Decision::Answer(answer) => Ok(Some(answer)),
        Decision::Grant { .. } => Ok(None),
    };
    asks.iter().map(answer).collect()
}

fn decide(connection: &Connection, ask: &Ask, now: &Now) -> Result<Decision> {
    let places = places(connection, SQL.lease_places, &ask.namespace, &ask.key, now)?;
    // An earlier send of the same ask may have been granted any place.
    let is_own = |row: &&Record| {
        row.slot < ask.capacity && row.session == ask.session && row.standing(now.wall) == Standing::Held
    };
    if let Some(own) = places.iter().rev().find(is_own) {
        return Ok(Decision::Answer(Acquired::Granted(Box::new(own.clone()))));
    }
    let picked = pick(&places, ask, false, now.wall);
    // The waiting are asked only when there is something to promise.
    if matches!(picked, Decision::Grant { .. }) && is_behind(connection, ask, now)? {
        return Ok(pick(&places, ask, true, now.wall));
    }
    Ok(picked)
}

/// Picks the lowest free place; if there is none, says which becomes free first.
fn pick(places: &[Record], ask: &Ask, ahead: bool, now: Timestamp) -> Decision {
    let mut rows = places.iter().peekable();
    let mut held: Option<Record> = None;
    for slot in 0..ask.capacity {
        let before = rows.next_if(|row| row.slot == slot);
        match lease::acquire(before, ask, slot, ahead, now) {
            Some(Acquire::Grant { mut row, ended }) => {
                // All places of a key share one line of tokens (L1).
                row.token = lease::draw(ask, slot, places.iter().map(|row| row.token).max(), now);
                let before = before.cloned().map(Box::new);
                return Decision::Grant { row: Box::new(row), before, ended };
            }
            Some(Acquire::Adopt(row)) => return Decision::Answer(Acquired::Granted(Box::new(row))),
            Some(Acquire::Held(row)) if held.as_ref().is_none_or(|held| row.free_at() < held.free_at()) => {
                held = Some(row);
            }
            Some(Acquire::Held(_)) | None => {}
        }
    }
    Decision::Answer(Acquired::Held { by: held.map(Box::new), now })
}

/// Whether a fair waiter stands before the asker.
fn is_behind(connection: &Connection, ask: &Ask, now: &Now) -> Result<bool> {
    let mut ahead = connection.prepare_cached(SQL.lease_ahead)?;
    ahead.query_row(
        params![ask.namespace.as_str(), ask.key.as_str(), session(ask.session), now.boot_id, now.boot],
        |row| row.get(0),
    )
}

/// Writes a grant into a place that had the token `before`, or no row.
fn grant(connection: &Connection, row: &Record, before: Option<Token>, now: &Now) -> Result<()> {
    let hard_expires_boot = row.hard_expires_at.map(|hard| now.on_boot_clock(hard));
    let fields = params![
        row.namespace.as_str(),
        row.key.as_str(),
        row.slot,
        row.token.get(),
        row.owner.as_str(),
        session(row.session),
        row.granted_at.as_micros(),
        row.expires_at.as_micros(),
        now.on_boot_clock(row.expires_at),
        hard_expires_boot,
        now.boot_id,
        micros(row.ttl),
        micros(row.lock_delay),
        row.metadata,
    ];
    rows::write(connection, [SQL.lease_grant, SQL.lease_regrant], fields, before)
}

/// Writes how the grant before ended, which nobody had written.
fn tell_end(connection: &Connection, row: &Record, event: Event, actor: &str, now: &Now) -> Result<()> {
    connection.prepare_cached(SQL.lease_ended)?.execute(params![
        row.namespace.as_str(),
        row.key.as_str(),
        event.as_str(),
        row.token.get(),
        actor,
        now.wall.as_micros(),
        row.granted_at.as_micros(),
        other_than(actor, row),
    ])?;
    Ok(())
}

/// The holder, if it was not the one who acted.
fn other_than<'a>(actor: &str, row: &'a Record) -> Option<&'a str> {
    Some(row.owner.as_str()).filter(|owner| *owner != actor)
}

fn places(
    connection: &Connection,
    statement: &str,
    namespace: &Namespace,
    key: &Key,
    now: &Now,
) -> Result<Vec<Record>> {
    let mut read = connection.prepare_cached(statement)?;
    let rows =
        read.query_map([namespace.as_str(), key.as_str()], |row| rows::lease(row, namespace, key, now))?;
    rows.collect()
}

/// Renews leases.
pub(crate) fn renew(connection: &Connection, claims: &[ClaimRef], now: &Now) -> Result<Vec<Renew>> {
    let mut renew = connection.prepare_cached(SQL.lease_renew)?;
    let mut renew = |claim: &ClaimRef| {
        let until = renew.query_row(
            params![
                claim.namespace.as_str(),
                claim.key.as_str(),
                claim.slot,
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

/// Gives leases back; wants the write lock.
pub(crate) fn release(connection: &Connection, asks: &[ReleaseLease], now: &Now) -> Result<Vec<bool>> {
    let mut release = connection.prepare_cached(SQL.lease_release)?;
    let mut history = connection.prepare_cached(SQL.lease_released)?;
    let mut release = |ask: &ReleaseLease| {
        let places = places(connection, SQL.lease_release_read, &ask.namespace, &ask.key, now)?;
        let Some(row) = places.iter().find(|row| lease::may_release(Some(row), ask.token)) else {
            return Ok(false);
        };
        let (namespace, key, at) = (row.namespace.as_str(), row.key.as_str(), now.wall.as_micros());
        let (token, granted_at) = (row.token.get(), row.granted_at.as_micros());
        release.execute(params![namespace, key, row.slot, token, at])?;
        history.execute(params![namespace, key, token, row.owner.as_str(), at, ask.reason, granted_at])?;
        Ok(true)
    };
    asks.iter().map(&mut release).collect()
}

/// Takes or keeps a waiting place.
pub(crate) fn wait(connection: &Connection, ask: &WaitLease, now: &Now) -> Result<Ticket> {
    let (namespace, key, waiter) = (ask.namespace.as_str(), ask.key.as_str(), session(ask.session));
    let expires_at = now.wall.after(ask.ttl);
    let expires_boot = now.on_boot_clock(expires_at);
    let place = params![namespace, key, waiter, now.boot_id, expires_boot];
    let over = params![namespace, key, now.boot_id, now.boot];
    connection.prepare_cached(SQL.lease_wait_tidy)?.execute(over)?;
    let kept = connection.prepare_cached(SQL.lease_wait_keep)?.query_row(place, |row| {
        let (number, fair) = (Token::from_row(row.get(0)?), row.get(1)?);
        Ok(Ticket { session: ask.session, number, fair, expires_at })
    });
    if let Some(ticket) = kept.optional()? {
        return Ok(ticket);
    }
    let mut last = connection.prepare_cached(SQL.lease_wait_last)?;
    let last: Option<i64> = last.query_row([namespace, key], |row| row.get(0))?;
    let number = Token::next(last.map(Token::from_row), now.wall);
    let take = params![namespace, key, waiter, now.boot_id, expires_boot, number.get(), ask.fair];
    connection.prepare_cached(SQL.lease_wait_take)?.execute(take)?;
    Ok(Ticket { session: ask.session, number, fair: ask.fair, expires_at })
}

/// Gives a waiting place up.
pub(crate) fn leave(connection: &Connection, ask: &LeaveLease) -> Result<()> {
    let mut leave = connection.prepare_cached(SQL.lease_leave)?;
    leave.execute(params![ask.namespace.as_str(), ask.key.as_str(), session(ask.session)])?;
    Ok(())
}

/// Ends somebody's grant; wants the write lock.
pub(crate) fn break_lease(connection: &Connection, ask: &BreakLease, now: &Now) -> Result<Broken> {
    let mut held = places(connection, SQL.lease_places, &ask.namespace, &ask.key, now)?;
    held.retain(|row| row.standing(now.wall) == Standing::Held);
    let Some(first) = held.first().map(|row| row.token) else { return Ok(Broken::NotHeld) };
    held.retain(|row| ask.token.is_none_or(|token| token == row.token));
    if held.is_empty() {
        return Ok(Broken::Moved(first));
    }
    for row in &held {
        let (namespace, key, at) = (row.namespace.as_str(), row.key.as_str(), now.wall.as_micros());
        let place = params![namespace, key, row.slot, row.token.get(), at];
        connection.prepare_cached(SQL.lease_break)?.execute(place)?;
        let actor = ask.actor.as_str();
        let claim = (row.granted_at.as_micros(), other_than(actor, row));
        let event = params![namespace, key, row.token.get(), actor, at, ask.reason, claim.0, claim.1];
        connection.prepare_cached(SQL.lease_broken)?.execute(event)?;
    }
    Ok(Broken::Applied(held))
}

/// Every place of one key.
pub(crate) fn lookup(connection: &Connection, key: &KeyRef, now: &Now) -> Result<Snapshot<Record>> {
    let rows = places(connection, SQL.lease_lookup, &key.namespace, &key.key, now)?;
    Ok(Snapshot { now: now.wall, rows })
}

/// A page of leases.
pub(crate) fn list(connection: &Connection, ask: &ListLeases, now: &Now) -> Result<Snapshot<Record>> {
    let prefix = ask.prefix.as_deref().unwrap_or_default();
    let mut found = Snapshot { now: now.wall, rows: Vec::new() };
    let after = ask.after.as_ref();
    let after = after.map(|(namespace, key, slot)| (namespace.as_str(), key.as_str(), i64::from(*slot) + 1));
    let statement = if ask.namespace.is_some() { SQL.lease_list } else { SQL.lease_list_all };
    let only = ask.namespace.as_ref().map_or("", Namespace::as_str);
    let start = (only, if ask.namespace.is_some() { prefix } else { "" }, 0);
    let start = after.map_or(start, |after| after.max(start));
    if ask.namespace.is_some() && start.0 != only {
        return Ok(found);
    }
    let mut read = connection.prepare_cached(statement)?;
    let mut rows = read.query(params![start.0, start.1, start.2])?;
    while found.rows.len() < ask.limit
        && let Some(row) = rows.next()?
    {
        let (namespace, key) = rows::name(row, 14)?;
        if !key.as_str().starts_with(prefix) {
            if ask.namespace.is_some() {
                break; // within a namespace, keys of one prefix lie together
            }
            continue;
        }
        let record = rows::lease(row, &namespace, &key, now)?;
        if ask.standing.is_none_or(|standing| standing == record.standing(now.wall)) {
            found.rows.push(record);
        }
    }
    Ok(found)
}
