//! The verbs that join a caller's transaction, the same for every driver.

use core::time::Duration;

use onceward_core::once::{self, Body, Record, Settle, State};
use onceward_core::{Code, Error, Key, Namespace, Result, Timestamp, Token};

use super::columns::Columns;
use super::{Cell, Enlist, EnlistSql, Param};
use crate::wall::{self, Believed, Offset, Trust};
use crate::{ClaimRef, Clock};

/// What came of claiming a once key in the caller's transaction.
#[derive(Clone, Debug)]
pub enum ClaimedIn {
    /// The claim is part of the transaction: it commits or vanishes with it (O11).
    Granted {
        /// The token of the claim.
        token: Token,
        /// How often the function was started under this key.
        attempts: i64,
    },
    /// The key was used with another fingerprint.
    Mismatch,
    /// Somebody else has it or had it.
    Existing {
        /// The row, with its body.
        row: Box<Record>,
        /// The store's clock when it was seen.
        now: Timestamp,
    },
}

/// Makes the caller's transaction depend on a lease: it can't commit after somebody else has taken the key (L4).
///
/// # Errors
/// [`Code::TokenStale`] if the lease is not held under that token any more; the driver's error otherwise. On
/// PostgreSQL the transaction is still usable after `TokenStale`, but should be rolled back.
pub async fn guard(sql: &EnlistSql, clock: &dyn Clock, tx: &mut impl Enlist, claim: &ClaimRef) -> Result<()> {
    check_kind(sql, tx)?;
    let (namespace, key) = (claim.namespace.as_str(), claim.key.as_str());
    let name = [Param::Text(Some(namespace)), Param::Text(Some(key)), Param::Int(Some(claim.token.get()))];
    let current = match sql.guard.as_slice() {
        [guard] => !tx.query(guard, &name).await.map_err(at_guard)?.is_empty(),
        [lock, check] => {
            tx.query(lock, &name).await.map_err(at_guard)?;
            // Read once the write lock is ours: until we commit, nobody can take the key over.
            let (boot_id, boottime) = (clock.boot_id(), clock.boottime().as_micros());
            let [namespace, key, token] = name;
            let params = [namespace, key, token, Param::Text(Some(boot_id)), Param::Int(Some(boottime))];
            let rows = tx.query(check, &params).await.map_err(at_guard)?;
            rows.first().and_then(|row| row.first()) == Some(&Cell::Int(1))
        }
        _ => return Err(no_enlist()),
    };
    if current {
        return Ok(());
    }
    let why = format!("token {} is not the current one of the lease on {key:?}: roll back", claim.token);
    Err(Error::new(Code::TokenStale, why).at("lease.guard"))
}

fn at_guard(error: Error) -> Error {
    error.at("lease.guard")
}

/// Claims a once key in the caller's transaction.
///
/// # Errors
/// [`Code::KeyLocked`] if another open transaction has claimed the key; the driver's error otherwise.
pub async fn claim_in(
    sql: &EnlistSql,
    clock: &dyn Clock,
    tx: &mut impl Enlist,
    ask: &once::Ask,
) -> Result<ClaimedIn> {
    check_kind(sql, tx)?;
    let claimed = match sql.claim_in.as_slice() {
        [one] => claim_postgres(one, &sql.server_clock, clock, tx, ask).await,
        [lock, clocks, ended, claim, read] => {
            claim_sqlite([lock, clocks, ended, claim, read], clock, tx, ask).await
        }
        _ => Err(no_enlist()),
    };
    claimed.map_err(|error| error.at("once.claim_in"))
}

/// How often a claim that met a row in the making is sent again.
const RACES_MAX: usize = 5;

async fn claim_postgres(
    sql: &str,
    server_clock: &Trust,
    clock: &dyn Clock,
    tx: &mut impl Enlist,
    ask: &once::Ask,
) -> Result<ClaimedIn> {
    let session = ask.session.to_string();
    let params = [
        Param::Text(Some(ask.namespace.as_str())),
        Param::Text(Some(ask.key.as_str())),
        Param::Text(Some(ask.owner.as_str())),
        Param::Text(Some(&session)),
        Param::Int(Some(millis(ask.ttl))),
        Param::Int(ask.hard_ttl.map(millis)),
        Param::Int(Some(millis(ask.retain))),
        Param::Bytes(ask.fingerprint.as_ref().map(|print| print.0.as_slice())),
        Param::Bool(ask.restartable),
        Param::Text(Some(once::EXPIRED)),
        Param::Int(server_clock.latest(clock.boottime())),
    ];
    for _ in 0..RACES_MAX {
        let rows = tx.query(sql, &params).await?;
        let mut columns = Columns::of(rows.into_iter().next().unwrap_or_default());
        let Some(granted) = columns.bool_or_null()? else { continue };
        let now = columns.time()?;
        server_clock.observe(now, clock.boottime());
        let row = columns.postgres_record()?;
        return Ok(answer(granted, row, ask, now));
    }
    // Under REPEATABLE READ and above the row that was made meanwhile stays invisible: only a new transaction sees it.
    Err(Error::new(
        Code::KeyLocked,
        "the key was claimed by a transaction that this one can't see: begin a new one",
    ))
}

fn answer(granted: bool, row: Record, ask: &once::Ask, now: Timestamp) -> ClaimedIn {
    if granted || (row.session == ask.session && row.state_at(now) == State::Running) {
        return ClaimedIn::Granted { token: row.token, attempts: row.attempts };
    }
    if once::mismatched(row.fingerprint, ask.fingerprint) {
        return ClaimedIn::Mismatch;
    }
    ClaimedIn::Existing { row: Box::new(row), now }
}

async fn claim_sqlite(
    [lock, clocks, ended, claim, read]: [&str; 5],
    clock: &dyn Clock,
    tx: &mut impl Enlist,
    ask: &once::Ask,
) -> Result<ClaimedIn> {
    let name = [Param::Text(Some(ask.namespace.as_str())), Param::Text(Some(ask.key.as_str()))];
    tx.query(lock, &name).await?;
    let (wall, boot) = (clock.wall(), clock.boottime());
    let known = tx.query(clocks, &[]).await?.into_iter().next();
    let forget_until = known.map(|known| forget_until(known, clock.boot_id(), wall, boot)).transpose()?;
    let hard = ask.hard_ttl.map(|hard| boot.after(hard));
    let expires_boot = onceward_core::lease::clipped(boot, ask.ttl, hard);
    let session = ask.session.as_uuid();
    let [namespace, key] = name;
    let params = [
        namespace,
        key,
        Param::Text(Some(clock.boot_id())),
        Param::Int(Some(boot.as_micros())),
        Param::Int(Some(wall.as_micros())),
        Param::Text(Some(ask.owner.as_str())),
        Param::Bytes(ask.fingerprint.as_ref().map(|print| print.0.as_slice())),
        Param::Bool(ask.restartable),
        Param::Int(Some(forget_until.unwrap_or(wall.as_micros()))),
        Param::Bytes(Some(session.as_bytes())),
        Param::Int(Some(wall.after(expires_boot.since(boot)).as_micros())),
        Param::Int(Some(expires_boot.as_micros())),
        Param::Int(hard.map(Timestamp::as_micros)),
        Param::Int(Some(micros(ask.ttl))),
        Param::Int(Some(micros(ask.retain))),
    ];
    let first = params.get(..9).unwrap_or_default();
    tx.query(ended, first).await?;
    if let Some(row) = tx.query(claim, &params).await?.into_iter().next() {
        let mut columns = Columns::of(row);
        return Ok(ClaimedIn::Granted { token: Token::from_row(columns.int()?), attempts: columns.int()? });
    }
    let seen = tx.query(read, &name).await?.into_iter().next().unwrap_or_default();
    let row = Columns::of(seen).sqlite_record(ask, clock.boot_id(), boot, wall)?;
    Ok(answer(false, row, ask, wall))
}

/// The time up to which outcomes may be forgotten, by what the file of SQLite knows about the clocks (N16).
fn forget_until(known: super::Row, boot_id: &str, wall: Timestamp, boot: Timestamp) -> Result<i64> {
    let mut columns = Columns::of(known);
    let (wall, boot) = (wall.as_micros(), boot.as_micros());
    if columns.text()? != boot_id {
        return Ok(wall);
    }
    let offset = columns.int()?;
    let doubted = columns.int_or_null()?.zip(columns.int_or_null()?);
    let doubted = doubted.map(|(offset, since)| Offset { offset, since });
    Ok(wall::forget_until(Believed { offset, doubted }, wall, boot))
}

/// A result to record in the caller's transaction. There is no word for other endings: whoever did not succeed rolls
/// back, and the claim vanishes with what was done under it.
#[derive(Clone, Debug)]
pub struct DoneIn {
    /// The namespace.
    pub namespace: Namespace,
    /// The key.
    pub key: Key,
    /// The token of the claim.
    pub token: Token,
    /// The result.
    pub body: Body,
}

/// Records the result of a once function in the caller's transaction.
///
/// # Errors
/// The driver's.
pub async fn settle_in(
    sql: &EnlistSql,
    clock: &dyn Clock,
    tx: &mut impl Enlist,
    done: &DoneIn,
) -> Result<Settle> {
    check_kind(sql, tx)?;
    let settled = match sql.settle_in.as_slice() {
        [one] => settle_postgres(one, tx, done).await,
        [settle, history] => settle_sqlite(settle, history, clock, tx, done).await,
        _ => Err(no_enlist()),
    };
    settled.map_err(|error| error.at("once.settle_in"))
}

async fn settle_postgres(sql: &str, tx: &mut impl Enlist, done: &DoneIn) -> Result<Settle> {
    let params = [
        Param::Text(Some(done.namespace.as_str())),
        Param::Text(Some(done.key.as_str())),
        Param::Int(Some(done.token.get())),
        Param::Bytes(done.body.bytes.as_deref()),
        Param::Text(Some(done.body.content_type.as_str())),
        Param::Int(Some(size(&done.body))),
    ];
    let rows = tx.query(sql, &params).await?;
    let mut columns = Columns::of(rows.into_iter().next().unwrap_or_default());
    let (applied, late) =
        (columns.bool_or_null()?.unwrap_or(false), columns.bool_or_null()?.unwrap_or(false));
    Ok(if applied { Settle::Applied { late } } else { Settle::Stale })
}

async fn settle_sqlite(
    settle: &str,
    history: &str,
    clock: &dyn Clock,
    tx: &mut impl Enlist,
    done: &DoneIn,
) -> Result<Settle> {
    let wall = Param::Int(Some(clock.wall().as_micros()));
    let [namespace, key] = [Param::Text(Some(done.namespace.as_str())), Param::Text(Some(done.key.as_str()))];
    let params = [
        namespace,
        key,
        Param::Int(Some(done.token.get())),
        Param::Text(Some(clock.boot_id())),
        Param::Int(Some(clock.boottime().as_micros())),
        wall,
        Param::Text(Some(done.body.content_type.as_str())),
        Param::Int(Some(size(&done.body))),
        Param::Bytes(done.body.bytes.as_deref()),
    ];
    let Some(row) = tx.query(settle, &params).await?.into_iter().next() else { return Ok(Settle::Stale) };
    tx.query(history, &[namespace, key, wall]).await?;
    Ok(Settle::Applied { late: Columns::of(row).int()? != 0 })
}

/// What each driver's error becomes: only the locks we ask for ourselves have codes of their own.
#[cfg(any(feature = "postgres", feature = "sqlite", feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
pub(super) fn refused(
    sqlstate: Option<&str>,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    match sqlstate {
        Some("55P03") => {
            Error::new(Code::KeyLocked, "another open transaction holds the key: roll back and try again")
        }
        Some("40001" | "40P01") => {
            Error::new(Code::StoreBusy, "the transaction met a conflict: roll back and run it again")
        }
        Some(state) => {
            Error::new(Code::StoreFailed, format!("the statement was refused with SQLSTATE {state}"))
        }
        None => Error::new(Code::StoreFailed, "the statement was refused in your transaction"),
    }
    .with_source(error)
}

pub(super) fn check_kind(sql: &EnlistSql, tx: &impl Enlist) -> Result<()> {
    if sql.kind == tx.kind() {
        return Ok(());
    }
    Err(Error::new(Code::StoreUrlInvalid, "the transaction is of another kind of database than the store"))
}

pub(super) fn no_enlist() -> Error {
    Error::new(Code::DriverMissing, "this store has no transactions to join")
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn size(body: &Body) -> i64 {
    i64::try_from(body.size).unwrap_or(i64::MAX)
}
