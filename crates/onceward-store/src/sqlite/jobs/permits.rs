//! Limits of queues, and the permits that sessions hold of them (J11).

use core::time::Duration;
use std::collections::BTreeMap;

use onceward_core::job::limit::{Bucket, Limits, Rate};
use onceward_core::job::permit::{Granted, Permit, Standing, grant};
use onceward_core::{Queue, SessionId, Timestamp};
use rusqlite::{OptionalExtension, Result, Row, params};

use super::super::rows::{micros, session as session_id};
use super::super::statements::SQL;
use super::Jobs;
use super::rows::{self, job as job_id};
use crate::{AskPermits, ClaimJobs, LimitQueue, Permits, Want};

/// A limited queue as it stands, without its permits.
struct Limited {
    limits: Limits,
    setting: i64,
    at: Timestamp,
    bucket: Bucket,
    unsettled: bool,
}

impl Jobs<'_> {
    /// Sets what a queue is limited to; wants the write lock.
    pub(super) fn limit(&mut self, ask: &LimitQueue) -> Result<()> {
        let (namespace, queue, limits) = (ask.namespace.as_str(), ask.queue.as_str(), ask.limits);
        let any = limits.any();
        self.at.prepare_cached(SQL.queue_limit)?.execute(params![
            namespace,
            queue,
            limits.concurrency,
            limits.rate.map(|rate| rate.count),
            limits.rate.map(|rate| micros(rate.per)),
            limits.burst,
            any.then(|| self.now.wall.as_micros()),
            Some(ask.actor.as_str()).filter(|_| any),
        ])?;
        self.at.prepare_cached(SQL.queue_begin)?.execute(params![
            namespace,
            queue,
            self.now.wall.as_micros()
        ])?;
        self.at.prepare_cached(SQL.queue_void)?.execute([namespace, queue])?;
        self.woken.insert((ask.namespace.clone(), ask.queue.clone()));
        Ok(())
    }

    /// What a session gets; wants the write lock.
    pub(super) fn permits(&mut self, ask: &AskPermits) -> Result<Permits> {
        let Some(limited) = self.limited(ask.namespace.as_str(), &ask.queue)? else {
            return Ok(Permits::default());
        };
        let limits = limited.limits;
        if !self.lasts(ask.session)? {
            return Ok(Permits::none(limits));
        }
        let permits = self.held(ask, limited.setting)?;
        let running = if limits.concurrency.is_some() { self.running_of(ask)? } else { BTreeMap::new() };
        let has = |session: &SessionId| permits.iter().any(|permit| permit.session == *session);
        let is_stray = |session: &SessionId| limited.unsettled && *session != ask.session && !has(session);
        let strays = running.iter().filter(|(session, _)| is_stray(session)).map(|(_, jobs)| jobs).sum();
        let standing = Standing {
            limits,
            setting: limited.setting,
            limits_at: limited.at,
            bucket: limited.bucket,
            strays,
            running: running.get(&ask.session).copied().unwrap_or(0),
            permits,
            now: self.now.wall,
            settles: Duration::ZERO,
        };
        let granted = grant(&standing, &ask.wish());
        self.write_permit(ask, &granted, standing.is_unsettled_after())?;
        Ok(Permits::of(limits, &granted, self.now.wall))
    }

    fn limited(&self, namespace: &str, queue: &Queue) -> Result<Option<Limited>> {
        let mut read = self.at.prepare_cached(SQL.permit_read)?;
        let limited = read.query_row([namespace, queue.as_str()], |row| {
            Ok(Limited {
                limits: limits(row, 0)?,
                setting: row.get(4)?,
                at: Timestamp::from_micros(row.get(5)?),
                bucket: Bucket {
                    tokens: row.get(6)?,
                    at: Timestamp::from_micros(row.get(7)?),
                    lent: row.get(8)?,
                },
                unsettled: row.get(9)?,
            })
        });
        limited.optional()
    }

    fn lasts(&self, session: SessionId) -> Result<bool> {
        let mut read = self.at.prepare_cached(SQL.session_read)?;
        let row = read.query_row([session_id(session)], |row| rows::session(row, self.now)).optional()?;
        Ok(row.is_some_and(|row| !row.is_lost(self.now.wall)))
    }

    fn held(&self, ask: &AskPermits, setting: i64) -> Result<Vec<Permit>> {
        let mut held = self.at.prepare_cached(SQL.permit_held)?;
        let of = params![ask.namespace.as_str(), ask.queue.as_str(), setting];
        held.query_map(of, permit)?.collect()
    }

    /// How many jobs of a queue each session runs.
    fn running_of(&self, ask: &AskPermits) -> Result<BTreeMap<SessionId, u32>> {
        let mut running = BTreeMap::new();
        for claim in self.claims()?.into_iter().filter(|claim| claim.namespace == ask.namespace) {
            *running.entry(claim.session).or_default() += self.running_under(&claim, &ask.queue)?;
        }
        Ok(running)
    }

    fn running_under(&self, claim: &rows::Claim, queue: &Queue) -> Result<u32> {
        let mut runs = self.at.prepare_cached(SQL.queue_runs)?;
        let mut count = 0;
        for id in &claim.jobs {
            let name = params![claim.namespace.as_str(), job_id(*id), claim.token.get()];
            let is_it = runs.query_row(name, |row| Ok(rows::text(row, 0)? == queue.as_str())).optional()?;
            count += u32::from(is_it.unwrap_or(false));
        }
        Ok(count)
    }

    fn write_permit(&self, ask: &AskPermits, granted: &Granted, unsettled: bool) -> Result<()> {
        let (namespace, queue) = (ask.namespace.as_str(), ask.queue.as_str());
        let Granted { permit, bucket, .. } = granted;
        let fill = params![namespace, queue, bucket.tokens, bucket.at.as_micros(), bucket.lent, unsettled];
        self.at.prepare_cached(SQL.permit_fill)?.execute(fill)?;
        self.at.prepare_cached(SQL.permit_grant)?.execute(params![
            namespace,
            queue,
            session_id(permit.session),
            permit.setting,
            permit.wanted,
            permit.share,
            permit.held,
            permit.starts,
            permit.starts_until.as_micros(),
            permit.asked_at.as_micros(),
        ])?;
        Ok(())
    }

    /// How many jobs of a queue a claim may take; `None` if its limits keep them back.
    pub(super) fn allowed(&self, ask: &ClaimJobs, queue: &Queue) -> Result<Option<usize>> {
        let (is_paused, is_limited) = self.is_closed(&ask.namespace, queue)?;
        if is_paused || !is_limited {
            return Ok(Some(if is_paused { 0 } else { ask.limit }));
        }
        let (namespace, session) = (ask.namespace.as_str(), session_id(ask.session));
        let limited = self.limited(namespace, queue)?.filter(|_| ask.permitted);
        let Some(limited) = limited else { return Ok(None) };
        let mut one = self.at.prepare_cached(SQL.permit_one)?;
        let name = params![namespace, queue.as_str(), session, limited.setting];
        let Some(permit) = one.query_row(name, permit).optional()? else { return Ok(None) };
        let mut running = 0;
        let mut claims = self.at.prepare_cached(SQL.session_claims)?;
        for claim in claims.query_map([session], rows::claim)? {
            let claim = claim?;
            if claim.namespace == ask.namespace {
                running += self.running_under(&claim, queue)?;
            }
        }
        let allowed = permit.allows(&limited.limits, running, self.now.wall);
        Ok(usize::try_from(allowed).ok().filter(|allowed| *allowed > 0))
    }

    /// A claim takes jobs of these lanes, once for each.
    pub(super) fn spend<'w>(&self, ask: &ClaimJobs, taken: impl Iterator<Item = &'w Want>) -> Result<()> {
        if !ask.permitted {
            return Ok(());
        }
        let mut used: BTreeMap<&Queue, i64> = BTreeMap::new();
        taken.for_each(|want| *used.entry(&want.queue).or_default() += 1);
        for (queue, jobs) in used {
            if self
                .limited(ask.namespace.as_str(), queue)?
                .is_some_and(|limited| limited.limits.rate.is_some())
            {
                let name = params![ask.namespace.as_str(), queue.as_str(), session_id(ask.session), jobs];
                self.at.prepare_cached(SQL.permit_spend)?.execute(name)?;
            }
        }
        Ok(())
    }
}

/// The columns of limits, from this one on.
pub(super) fn limits(row: &Row<'_>, at: usize) -> Result<Limits> {
    let (count, per) = (row.get::<_, Option<u32>>(at + 1)?, row.get::<_, Option<i64>>(at + 2)?);
    let rate =
        count.zip(per).map(|(count, per)| Rate { count, per: Duration::from_micros(per.unsigned_abs()) });
    Ok(Limits { concurrency: row.get(at)?, rate, burst: row.get(at + 3)? })
}

fn permit(row: &Row<'_>) -> Result<Permit> {
    Ok(Permit {
        session: SessionId::from_uuid(rows::uuid(row, 0)?),
        setting: row.get(1)?,
        wanted: row.get(2)?,
        share: row.get(3)?,
        held: row.get(4)?,
        starts: row.get(5)?,
        starts_until: Timestamp::from_micros(row.get(6)?),
        asked_at: Timestamp::from_micros(row.get(7)?),
    })
}
