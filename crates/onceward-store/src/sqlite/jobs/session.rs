//! Sessions: the only rows that are renewed. Whether one has run out is decided by the boot clock.

use onceward_core::{Code, Error, SessionId, Timestamp, Token, session};
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::super::clocks::Now;
use super::super::rows::{micros, session as session_id};
use super::super::statements::SQL;
use super::{Jobs, rows};
use crate::{JobRef, Renew, SessionRef, SessionRenewed, Snapshot};

/// Opens a session, or finds it; wants the write lock.
pub(super) fn open(
    at: &Connection,
    ask: &session::Open,
    now: &Now,
) -> Result<onceward_core::Result<session::Record>> {
    let id = session_id(ask.id);
    let mut read = at.prepare_cached(SQL.session_read)?;
    if let Some(row) = read.query_row([id], |row| rows::session(row, now)).optional()? {
        // A session that has run out never comes back: what it held is somebody else's by now.
        let lost = || Error::new(Code::SessionLost, "a session of this id has run out").at("session.open");
        return Ok(if row.is_lost(now.wall) { Err(lost()) } else { Ok(row) });
    }
    let expires_at = now.wall.after(ask.ttl);
    let token = Token::next(None, now.wall);
    at.prepare_cached(SQL.session_insert)?.execute(params![
        id,
        ask.owner.as_str(),
        token.get(),
        now.wall.as_micros(),
        expires_at.as_micros(),
        now.on_boot_clock(expires_at),
        now.boot_id,
        micros(ask.ttl),
        ask.about.to_text(),
    ])?;
    Ok(Ok(session::Record {
        id: ask.id,
        owner: ask.owner.clone(),
        token,
        started_at: now.wall,
        seen_at: now.wall,
        expires_at,
        ttl: ask.ttl,
        draining: false,
        running: 0,
        about: ask.about.clone(),
    }))
}

/// Renews a session.
pub(super) fn renew(at: &Connection, ask: &SessionRef, now: &Now) -> Result<SessionRenewed> {
    let mut renew = at.prepare_cached(SQL.session_renew)?;
    let clocks = params![session_id(ask.id), ask.token.get(), now.boot_id, now.boot, now.wall.as_micros()];
    let renewed =
        renew.query_row(clocks, |row| Ok((Timestamp::from_micros(row.get(0)?), row.get(1)?))).optional()?;
    let Some((until, draining)) = renewed else {
        let (called_off, paused) = (Vec::new(), Vec::new());
        return Ok(SessionRenewed { renew: Renew::Lost, called_off, paused, draining: false });
    };
    let (called_off, paused) = (called_off(at, ask.id, now)?, paused(at, ask.id)?);
    Ok(SessionRenewed { renew: Renew::Until(until), called_off, paused, draining })
}

/// The jobs of a session that somebody has called off.
fn called_off(at: &Connection, session: SessionId, now: &Now) -> Result<Vec<JobRef>> {
    let mut noted = at.prepare_cached(SQL.session_noted)?;
    let noted = noted.query_map([], |row| {
        Ok(JobRef {
            namespace: rows::text(row, 0).map(onceward_core::Namespace::from_row)?,
            id: rows::job_id(row, 1)?,
        })
    })?;
    let noted: Vec<JobRef> = noted.collect::<Result<_>>()?;
    if noted.is_empty() {
        return Ok(noted);
    }
    let mut claims = at.prepare_cached(SQL.session_claims)?;
    let claims: Vec<rows::Claim> =
        claims.query_map([session_id(session)], rows::claim)?.collect::<Result<_>>()?;
    let jobs = Jobs::new(at, now);
    let mut called_off = Vec::new();
    for job in noted {
        let of_this = |claim: &&rows::Claim| claim.namespace == job.namespace && claim.jobs.contains(&job.id);
        let mut runs = false;
        for claim in claims.iter().filter(of_this) {
            runs |= jobs.runs(&claim.namespace, job.id, claim.token)?;
        }
        if runs {
            called_off.push(job);
        }
    }
    Ok(called_off)
}

/// The runs of a session that somebody has paused.
fn paused(at: &Connection, session: SessionId) -> Result<Vec<JobRef>> {
    let any: bool = at.prepare_cached(SQL.session_any_paused)?.query_row([], |row| row.get(0))?;
    let mut paused = Vec::new();
    if !any {
        return Ok(paused);
    }
    let mut claims = at.prepare_cached(SQL.session_claims)?;
    let mut is_paused = at.prepare_cached(SQL.session_paused)?;
    for claim in claims.query_map([session_id(session)], rows::claim)? {
        let claim = claim?;
        for id in &claim.jobs {
            let name = params![claim.namespace.as_str(), rows::job(*id), claim.token.get()];
            if is_paused.query_row(name, |row| row.get(0))? {
                paused.push(JobRef { namespace: claim.namespace.clone(), id: *id });
            }
        }
    }
    paused.sort();
    Ok(paused)
}

/// Ends a session.
pub(super) fn close(at: &Connection, ask: &SessionRef, now: &Now) -> Result<bool> {
    let clocks = params![session_id(ask.id), ask.token.get(), now.boot_id, now.boot, now.wall.as_micros()];
    let was_alive = at.prepare_cached(SQL.session_end)?.execute(clocks)? == 1;
    at.prepare_cached(SQL.session_forget)?.execute(params![session_id(ask.id), ask.token.get()])?;
    at.prepare_cached(SQL.permit_forget)?.execute([])?;
    Ok(was_alive)
}

/// Asks a session to take no more jobs, or to take some again.
pub(super) fn drain(at: &Connection, id: SessionId, draining: bool) -> Result<bool> {
    Ok(at.prepare_cached(SQL.session_drain)?.execute(params![session_id(id), draining])? == 1)
}

/// Every session, with how many jobs it runs.
pub(super) fn list(at: &Connection, now: &Now) -> Result<Snapshot<session::Record>> {
    let mut list = at.prepare_cached(SQL.session_list)?;
    let mut found: Vec<session::Record> =
        list.query_map([], |row| rows::session(row, now))?.collect::<Result<_>>()?;
    let jobs = Jobs::new(at, now);
    for claim in jobs.claims()? {
        let Some(row) = found.iter_mut().find(|row| row.id == claim.session) else { continue };
        for id in &claim.jobs {
            row.running += u64::from(jobs.runs(&claim.namespace, *id, claim.token)?);
        }
    }
    found.sort_by_key(|row| (row.started_at, row.id));
    Ok(Snapshot { now: now.wall, rows: found })
}
