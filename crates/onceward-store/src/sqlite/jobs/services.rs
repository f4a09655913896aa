//! Services and schedules: rows that say what is to be run, under a version, and a row per cycle.

use async_trait::async_trait;
use onceward_core::lease::Standing;
use onceward_core::schedule::Schedule;
use onceward_core::service::{Held, Outcome, Runner, Setting, Term, bell_key, lease_key};
use onceward_core::session::About;
use onceward_core::{
    Key, Namespace, Owner, Result as Answer, ScheduleName, ServiceName, Timestamp, Token, lease, limits,
};
use rusqlite::{OptionalExtension, Result, Row, params};

use super::super::SqliteStore;
use super::super::failure::unreadable;
use super::super::rows::{instant, session as session_id};
use super::super::statements::SQL;
use super::super::trust::{self, WallClock};
use super::{Jobs, PRUNE_ROWS, rows};
use crate::{
    BeginTerm, Begun, DueSchedules, EndTerm, KeyRef, ListSchedules, ListedSchedules, ListedServices,
    LookService, MissTerm, PruneTerms, ServiceRecord, ServiceStore, ServiceView, Wake, WriteSchedule,
    WriteService,
};

impl Jobs<'_> {
    fn look_service(&self, ask: &LookService) -> Result<ServiceView> {
        let mut record = self.at.prepare_cached(SQL.service_read)?;
        let record = record
            .query_row([ask.namespace.as_str(), ask.name.as_str()], |row| {
                record_of(&ask.namespace, ask.name.clone(), row, 0)
            })
            .optional()?;
        let mut runners = self.at.prepare_cached(SQL.service_runners)?;
        let said = About::service_text(&ask.namespace, &ask.name);
        let runners = runners.query_map([said], |row| rows::session(row, self.now).map(runner))?;
        let runners = runners.collect::<Result<_>>()?;
        let terms = self.newest_terms(ask)?;
        let held = self.lease_of(&ask.namespace, &ask.name)?.and_then(|row| {
            let until = row.expires_at.after(row.lock_delay);
            let closed = row.released_at.is_none() && until > self.now.wall;
            let is_poisoned = row.is_poisoned(self.now.wall);
            closed.then_some(Held { token: row.token, until, is_poisoned })
        });
        Ok(ServiceView { now: self.now.wall, record, runners, terms, held })
    }

    fn newest_terms(&self, ask: &LookService) -> Result<Vec<Term>> {
        let (namespace, name) = (ask.namespace.as_str(), ask.name.as_str());
        let limit = i64::try_from(ask.terms).unwrap_or(i64::MAX);
        let ahead = self.ahead();
        let mut of_cycles = self.at.prepare_cached(SQL.service_terms)?;
        let of_cycles =
            of_cycles.query_map(params![namespace, name, limit, ahead], |row| term(&ask.name, row))?;
        let mut terms = of_cycles.collect::<Result<Vec<Term>>>()?;
        let since = terms.last().map_or(i64::MIN, |row| row.cycle);
        let mut asked = self.at.prepare_cached(SQL.service_asked)?;
        let asked =
            asked.query_map(params![namespace, name, limit, ahead, since], |row| term(&ask.name, row))?;
        terms.extend(asked.collect::<Result<Vec<Term>>>()?);
        let mut running = self.at.prepare_cached(SQL.service_running)?;
        let running = running.query_map([namespace, name], |row| term(&ask.name, row))?;
        terms.extend(running.collect::<Result<Vec<Term>>>()?);
        terms.sort_by(|a, b| (b.cycle, &b.part).cmp(&(a.cycle, &a.part)));
        terms.dedup_by(|a, b| (a.cycle, &a.part) == (b.cycle, &b.part));
        Ok(terms)
    }

    /// What is due, or was recorded as missed, after that was written by a clock that was ahead.
    fn ahead(&self) -> i64 {
        self.now.wall.after(limits::TERMS_AHEAD_MAX).as_micros()
    }

    fn lease_of(&self, namespace: &Namespace, service: &ServiceName) -> Result<Option<lease::Record>> {
        let key = KeyRef { namespace: namespace.clone(), key: lease_key(service) };
        let found = super::super::lease::lookup(self.at, &key, self.now)?;
        Ok(found.rows.into_iter().find(|row| row.slot == 0))
    }

    fn list_services(&self, namespace: &Namespace) -> Result<ListedServices> {
        let mut list = self.at.prepare_cached(SQL.service_list)?;
        let found = list.query_map([namespace.as_str()], |row| {
            let (name, version) = (ServiceName::from_row(rows::text(row, 0)?), row.get(1)?);
            Ok((name, version, Setting::from_text(rows::text(row, 2)?)))
        })?;
        let mut listed = ListedServices::default();
        for row in found {
            let (name, version, setting) = row?;
            match setting {
                Some(setting) => {
                    let namespace = namespace.clone();
                    listed.rows.push(ServiceRecord { namespace, name, version, setting });
                }
                None => listed.unreadable.push((name, version)),
            }
        }
        Ok(listed)
    }

    fn write_service(&self, ask: &WriteService) -> Result<bool> {
        let ServiceRecord { namespace, name, version, setting } = &ask.record;
        let (of, text) = ((namespace.as_str(), name.as_str()), setting.to_text());
        let written = match version {
            0 => self.at.prepare_cached(SQL.service_make)?.execute(params![of.0, of.1, text])?,
            _ => self.at.prepare_cached(SQL.service_change)?.execute(params![of.0, of.1, text, version])?,
        };
        Ok(written == 1)
    }

    fn begin_term(&self, ask: &BeginTerm) -> Result<Begun> {
        let lease = self.lease_of(&ask.namespace, &ask.service)?;
        let current =
            |row: &lease::Record| row.token == ask.token && row.standing(self.now.wall) == Standing::Held;
        if !lease.as_ref().is_some_and(current) {
            return Ok(Begun::Fenced);
        }
        let place = params![ask.namespace.as_str(), ask.service.as_str(), ask.cycle, ask.part];
        let mut read = self.at.prepare_cached(SQL.service_begun)?;
        let begun = |row: &Row<'_>| {
            let ahead = outcome(row, 0)? == Outcome::Missed && row.get::<_, i64>(2)? > self.ahead();
            Ok((!ahead).then_some((outcome(row, 0)?, Token::from_row(row.get(1)?))))
        };
        let row = read.query_row(place, begun).optional()?.flatten();
        if row == Some((Outcome::Running, ask.token)) {
            return Ok(Begun::Begun);
        }
        if self.now.wall >= ask.not_after {
            return Ok(Begun::Late);
        }
        let reaches = self.covered_until(&ask.namespace, &ask.service, ask.cycle, &ask.part)?;
        let is_open = match row {
            Some((outcome, _)) => outcome == Outcome::HandedOver,
            None => reaches.is_none_or(|until| until <= ask.cycle),
        };
        if !is_open {
            return Ok(Begun::Taken);
        }
        self.at.prepare_cached(SQL.service_begin)?.execute(params![
            ask.namespace.as_str(),
            ask.service.as_str(),
            ask.cycle,
            ask.part,
            ask.due_at.as_micros(),
            session_id(ask.session),
            ask.owner.as_str(),
            ask.token.get(),
            self.now.wall.as_micros(),
        ])?;
        Ok(Begun::Begun)
    }

    fn end_term(&self, ask: &EndTerm) -> Result<bool> {
        let ended = self.at.prepare_cached(SQL.service_end)?.execute(params![
            ask.namespace.as_str(),
            ask.service.as_str(),
            ask.cycle,
            ask.part,
            ask.token.get(),
            ask.outcome.as_str(),
            ask.reason,
            self.now.wall.as_micros(),
        ])?;
        Ok(ended == 1)
    }

    /// Up to which cycle the row before this one stands.
    fn covered_until(
        &self,
        namespace: &Namespace,
        service: &ServiceName,
        cycle: i64,
        part: &str,
    ) -> Result<Option<i64>> {
        let mut earlier = self.at.prepare_cached(SQL.service_earlier)?;
        let place = params![namespace.as_str(), service.as_str(), cycle, part, self.ahead()];
        earlier.query_row(place, |row| row.get(0)).optional()
    }

    fn miss_term(&self, ask: &MissTerm) -> Result<()> {
        let reaches = self.covered_until(&ask.namespace, &ask.service, ask.miss.cycle, &ask.miss.part)?;
        if reaches.is_some_and(|until| until > ask.miss.cycle) {
            return Ok(());
        }
        self.at.prepare_cached(SQL.service_miss)?.execute(params![
            ask.namespace.as_str(),
            ask.service.as_str(),
            ask.miss.cycle,
            ask.miss.part,
            ask.miss.due_at.as_micros(),
            ask.miss.cycles,
            ask.miss.reason,
            self.now.wall.as_micros(),
            self.ahead(),
        ])?;
        Ok(())
    }

    fn prune_terms(&self, ask: &PruneTerms) -> Result<u64> {
        if trust::wall_clock(self.at, self.now)? != WallClock::Trusted {
            tracing::warn!(
                "the wall clock jumped against the boot clock: no term is forgotten until it is believed"
            );
            return Ok(0);
        }
        let old = self.now.wall.before(ask.older_than).as_micros();
        let limit = i64::try_from(ask.limit).unwrap_or(i64::MAX);
        let Some((namespace, service)) = &ask.of else {
            return Ok(self.at.prepare_cached(SQL.service_prune)?.execute(params![old, limit])? as u64);
        };
        let of = params![old, limit, namespace.as_str(), service.as_str()];
        Ok(self.at.prepare_cached(SQL.service_prune_one)?.execute(of)? as u64)
    }

    fn list_schedules(&self, ask: &ListSchedules) -> Result<ListedSchedules> {
        let mut list = self.at.prepare_cached(SQL.schedule_list)?;
        let limit = i64::try_from(ask.limit).unwrap_or(i64::MAX);
        let name = ask.name.as_ref().map(ScheduleName::as_str);
        let after = ask.after.as_ref().map(ScheduleName::as_str);
        let rows = list.query_map(params![ask.namespace.as_str(), name, after, limit], |row| {
            schedule(&ask.namespace, row)
        })?;
        let mut page = ListedSchedules { now: self.now.wall, ..ListedSchedules::default() };
        for row in rows {
            match row? {
                Ok(row) => page.rows.push(row),
                Err(unreadable) => page.unreadable.push(unreadable),
            }
        }
        Ok(page)
    }

    fn due_schedules(&self, namespace: &Namespace, limit: usize) -> Result<DueSchedules> {
        let now = self.now.wall.as_micros();
        let mut due = self.at.prepare_cached(SQL.schedule_due)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = due.query_map(params![namespace.as_str(), now, limit], |row| schedule(namespace, row))?;
        let (mut rows, mut unreadable) = (Vec::new(), Vec::new());
        for row in found {
            match row? {
                Ok(row) => rows.push(row),
                Err((name, _)) => unreadable.push(name),
            }
        }
        let mut next = self.at.prepare_cached(SQL.schedule_next)?;
        let next: Option<i64> = next.query_row(params![namespace.as_str(), now], |row| row.get(0))?;
        let next_at = next.map(Timestamp::from_micros);
        Ok(DueSchedules { now: self.now.wall, rows, unreadable, next_at })
    }

    fn write_schedule(&mut self, ask: &WriteSchedule) -> Result<bool> {
        let row = &ask.row;
        let (namespace, name, next_at) = (row.namespace.as_str(), row.name.as_str(), instant(row.next_at));
        let (text, payload) = (row.to_text(), &row.definition.target.payload.bytes);
        let written = match row.version {
            0 => self
                .at
                .prepare_cached(SQL.schedule_make)?
                .execute(params![namespace, name, next_at, text, payload])?,
            version => self
                .at
                .prepare_cached(SQL.schedule_change)?
                .execute(params![namespace, name, next_at, text, payload, version])?,
        };
        if written == 1 {
            for new in &ask.jobs {
                self.enqueue(new)?;
            }
        }
        Ok(written == 1)
    }
}

fn record_of(namespace: &Namespace, name: ServiceName, row: &Row<'_>, at: usize) -> Result<ServiceRecord> {
    let setting = Setting::from_text(rows::text(row, at + 1)?)
        .ok_or_else(|| unreadable(at + 1, "what a service is set to".to_owned()))?;
    Ok(ServiceRecord { namespace: namespace.clone(), name, version: row.get(at)?, setting })
}

fn runner(row: onceward_core::session::Record) -> Runner {
    Runner {
        session: row.id,
        owner: row.owner,
        started_at: row.started_at,
        seen_at: row.seen_at,
        expires_at: row.expires_at,
        draining: row.draining,
    }
}

fn outcome(row: &Row<'_>, at: usize) -> Result<Outcome> {
    let word = rows::text(row, at)?;
    Outcome::from_word(word).ok_or_else(|| unreadable(at, format!("{word:?} is no outcome of a term")))
}

fn term(service: &ServiceName, row: &Row<'_>) -> Result<Term> {
    let at = |micros: i64| Timestamp::from_micros(micros);
    let session: Option<[u8; 16]> = row.get(4)?;
    Ok(Term {
        service: service.clone(),
        cycle: row.get(0)?,
        part: row.get(1)?,
        due_at: at(row.get(2)?),
        cycles: row.get(3)?,
        session: session.map(|id| onceward_core::SessionId::from_uuid(uuid::Uuid::from_bytes(id))),
        owner: row.get::<_, Option<String>>(5)?.map(Owner::from_row),
        token: Token::from_row(row.get(6)?),
        started_at: at(row.get(7)?),
        ended_at: row.get::<_, Option<i64>>(8)?.map(at),
        outcome: outcome(row, 9)?,
        reason: row.get(10)?,
    })
}

/// A schedule, or the name and the version of one that can't be read.
type Found = core::result::Result<Schedule, (ScheduleName, i64)>;

fn schedule(namespace: &Namespace, row: &Row<'_>) -> Result<Found> {
    let (name, version) = (ScheduleName::from_row(rows::text(row, 0)?), row.get(1)?);
    let next_at = row.get::<_, Option<i64>>(2)?.map(Timestamp::from_micros);
    let text = rows::text(row, 3)?;
    let found = Schedule::from_row(namespace.clone(), name.clone(), version, next_at, text, row.get(4)?);
    Ok(found.ok_or((name, version)))
}

impl SqliteStore {
    fn ring(&self, namespace: &Namespace, key: Key) {
        self.tell(Wake::Lease(namespace.clone(), key));
    }
}

#[async_trait]
impl ServiceStore for SqliteStore {
    async fn service_look(&self, ask: &LookService) -> Answer<ServiceView> {
        let ask = ask.clone();
        self.look("service.look", move |jobs| jobs.look_service(&ask)).await
    }

    async fn service_list(&self, namespace: &Namespace) -> Answer<ListedServices> {
        let namespace = namespace.clone();
        self.look("service.list", move |jobs| jobs.list_services(&namespace)).await
    }

    async fn service_write(&self, ask: &WriteService) -> Answer<bool> {
        let (of, key) = (ask.record.namespace.clone(), bell_key(&ask.record.name));
        let ask = ask.clone();
        let written = self.jobs("service.write", 1, move |jobs| jobs.write_service(&ask)).await?;
        if written {
            self.ring(&of, key);
        }
        Ok(written)
    }

    async fn service_begin(&self, ask: &BeginTerm) -> Answer<Begun> {
        let ask = ask.clone();
        self.jobs("service.begin", 1, move |jobs| jobs.begin_term(&ask)).await
    }

    async fn service_end(&self, ask: &EndTerm) -> Answer<bool> {
        let ask = ask.clone();
        self.jobs("service.end", 1, move |jobs| jobs.end_term(&ask)).await
    }

    async fn service_ring(&self, namespace: &Namespace, name: &ServiceName) -> Answer<()> {
        self.ring(namespace, bell_key(name));
        Ok(())
    }

    async fn service_miss(&self, batch: &[MissTerm]) -> Answer<()> {
        let rows = batch.len();
        let batch = batch.to_vec();
        self.jobs("service.miss", rows, move |jobs| batch.iter().try_for_each(|ask| jobs.miss_term(ask)))
            .await
    }

    async fn service_prune(&self, ask: &PruneTerms) -> Answer<u64> {
        let (mut gone, mut left) = (0, ask.limit);
        while left > 0 {
            let part = PruneTerms { limit: left.min(PRUNE_ROWS), ..ask.clone() };
            let most = part.limit as u64;
            let found = self.jobs("service.prune", part.limit, move |jobs| jobs.prune_terms(&part)).await?;
            gone += found;
            if found < most {
                break;
            }
            left = left.saturating_sub(PRUNE_ROWS);
        }
        Ok(gone)
    }

    async fn schedule_list(&self, ask: &ListSchedules) -> Answer<ListedSchedules> {
        let ask = ask.clone();
        self.look("schedule.list", move |jobs| jobs.list_schedules(&ask)).await
    }

    async fn schedule_due(&self, namespace: &Namespace, limit: usize) -> Answer<DueSchedules> {
        let namespace = namespace.clone();
        self.look("schedule.due", move |jobs| jobs.due_schedules(&namespace, limit)).await
    }

    async fn schedule_write(&self, ask: &WriteSchedule) -> Answer<bool> {
        let ask = ask.clone();
        self.jobs("schedule.write", 1 + ask.jobs.len(), move |jobs| jobs.write_schedule(&ask)).await
    }

    async fn schedule_remove(
        &self,
        namespace: &Namespace,
        name: &ScheduleName,
        version: i64,
    ) -> Answer<bool> {
        let (namespace, name) = (namespace.clone(), name.clone());
        let remove = move |jobs: &mut Jobs<'_>| {
            let row = params![namespace.as_str(), name.as_str(), version];
            Ok(jobs.at.prepare_cached(SQL.schedule_remove)?.execute(row)? == 1)
        };
        self.jobs("schedule.remove", 1, remove).await
    }
}
