//! Services and schedules in the memory model.

use std::collections::BTreeMap;

use async_trait::async_trait;
use onceward_core::lease::Standing;
use onceward_core::schedule::Schedule;
use onceward_core::service::{Asked, Held, Outcome, Runner, Term, bell_key, lease_key};
use onceward_core::{Namespace, Result, ScheduleName, ServiceName, Timestamp, Token, limits};

use super::{MemoryStore, Tables};
use crate::store::{
    BeginTerm, Begun, DueSchedules, EndTerm, ListSchedules, ListedSchedules, ListedServices, LookService,
    MissTerm, PruneTerms, ServiceRecord, ServiceStore, ServiceView, WriteSchedule, WriteService,
};

type Service = (Namespace, ServiceName);

/// What is kept of services and schedules.
#[derive(Default)]
pub(super) struct Services {
    set: BTreeMap<Service, ServiceRecord>,
    terms: BTreeMap<Service, BTreeMap<(i64, String), Term>>,
    schedules: BTreeMap<(Namespace, ScheduleName), Schedule>,
}

impl Tables {
    fn held(&self, (namespace, name): &Service, now: Timestamp) -> Option<Held> {
        let row = self.leases.get(&(namespace.clone(), lease_key(name), 0))?;
        let until = row.expires_at.after(row.lock_delay);
        let is_poisoned = row.is_poisoned(now);
        (row.released_at.is_none() && until > now).then_some(Held { token: row.token, until, is_poisoned })
    }

    fn look(&self, ask: &LookService, now: Timestamp) -> ServiceView {
        let name = (ask.namespace.clone(), ask.name.clone());
        let sessions = self.jobs.session_list();
        let serving = sessions.into_iter().filter(|row| row.about.serves(&ask.namespace, &ask.name));
        let runner = |row: onceward_core::session::Record| Runner {
            session: row.id,
            owner: row.owner,
            started_at: row.started_at,
            seen_at: row.seen_at,
            expires_at: row.expires_at,
            draining: row.draining,
        };
        ServiceView {
            now,
            record: self.services.set.get(&name).cloned(),
            runners: serving.map(runner).collect(),
            terms: self.newest(&name, ask.terms, now),
            held: self.held(&name, now),
        }
    }

    fn newest(&self, name: &Service, limit: usize, now: Timestamp) -> Vec<Term> {
        let ahead = now.after(limits::TERMS_AHEAD_MAX);
        let all = self.services.terms.get(name).into_iter().flat_map(BTreeMap::values).rev();
        let (asked, of_cycles): (Vec<&Term>, Vec<&Term>) = all
            .filter(|row| row.due_at <= ahead && !row.is_missed_ahead(now))
            .partition(|row| Asked::is_part(&row.part));
        let of_cycles: Vec<&Term> = of_cycles.into_iter().take(limit).collect();
        let since = of_cycles.last().map_or(i64::MIN, |row| row.cycle);
        let asked = asked.into_iter().filter(|row| row.cycle >= since).take(limit);
        let all = self.services.terms.get(name).into_iter().flat_map(BTreeMap::values);
        let running = all.filter(|row| row.outcome == Outcome::Running);
        let mut terms: Vec<Term> = of_cycles.iter().copied().chain(asked).chain(running).cloned().collect();
        terms.sort_by(|a, b| (b.cycle, &b.part).cmp(&(a.cycle, &a.part)));
        terms.dedup_by(|a, b| (a.cycle, &a.part) == (b.cycle, &b.part));
        terms
    }

    fn begin(&mut self, ask: &BeginTerm, now: Timestamp) -> Begun {
        let name = (ask.namespace.clone(), ask.service.clone());
        let lease = self.leases.get(&(ask.namespace.clone(), lease_key(&ask.service), 0));
        if !lease.is_some_and(|row| row.token == ask.token && row.standing(now) == Standing::Held) {
            return Begun::Fenced;
        }
        let terms = self.services.terms.entry(name).or_default();
        let place = (ask.cycle, ask.part.clone());
        let before = terms.get(&place).filter(|row| !row.is_missed_ahead(now));
        if before.is_some_and(|row| row.outcome == Outcome::Running && row.token == ask.token) {
            return Begun::Begun;
        }
        if now >= ask.not_after {
            return Begun::Late;
        }
        let covered = |row: &Term| row.part == ask.part && row.cycle.saturating_add(row.cycles) > ask.cycle;
        let before_this = |row: &Term| row.part == ask.part && !row.is_missed_ahead(now);
        let earlier = terms.range(..&place).rev().find(|(_, row)| before_this(row));
        let is_taken = before.is_some_and(|row| row.outcome != Outcome::HandedOver);
        if is_taken || (before.is_none() && earlier.is_some_and(|(_, row)| covered(row))) {
            return Begun::Taken;
        }
        let term = Term {
            service: ask.service.clone(),
            cycle: ask.cycle,
            part: ask.part.clone(),
            due_at: ask.due_at,
            cycles: 1,
            session: Some(ask.session),
            owner: Some(ask.owner.clone()),
            token: ask.token,
            started_at: now,
            ended_at: None,
            outcome: Outcome::Running,
            reason: None,
        };
        terms.insert(place, term);
        Begun::Begun
    }

    fn end(&mut self, ask: &EndTerm, now: Timestamp) -> bool {
        let terms = self.services.terms.get_mut(&(ask.namespace.clone(), ask.service.clone()));
        let row = terms.and_then(|terms| terms.get_mut(&(ask.cycle, ask.part.clone())));
        let running = |row: &&mut Term| row.token == ask.token && row.outcome == Outcome::Running;
        let Some(row) = row.filter(running) else { return false };
        (row.ended_at, row.outcome, row.reason) = (Some(now), ask.outcome, ask.reason.clone());
        true
    }

    fn miss(&mut self, ask: &MissTerm, now: Timestamp) {
        let terms = self.services.terms.entry((ask.namespace.clone(), ask.service.clone())).or_default();
        let miss = &ask.miss;
        let place = (miss.cycle, miss.part.clone());
        let before_this = |row: &Term| row.part == miss.part && !row.is_missed_ahead(now);
        let earlier = terms.range(..&place).rev().find(|(_, row)| before_this(row));
        if earlier.is_some_and(|(_, row)| row.cycle.saturating_add(row.cycles) > miss.cycle) {
            return;
        }
        if terms.get(&place).is_some_and(|row| row.is_missed_ahead(now)) {
            terms.remove(&place);
        }
        terms.entry(place).or_insert_with(|| Term {
            service: ask.service.clone(),
            cycle: miss.cycle,
            part: miss.part.clone(),
            due_at: miss.due_at,
            cycles: miss.cycles,
            session: None,
            owner: None,
            token: Token::from_row(0),
            started_at: now,
            ended_at: Some(now),
            outcome: Outcome::Missed,
            reason: Some(miss.reason.clone()),
        });
    }

    fn prune_terms(&mut self, ask: &PruneTerms, now: Timestamp) -> u64 {
        let (old, mut left, mut gone) = (now.before(ask.older_than), ask.limit, 0);
        let wanted = |name: &Service| ask.of.as_ref().is_none_or(|of| of == name);
        for (_, terms) in self.services.terms.iter_mut().filter(|(name, _)| wanted(name)) {
            let newest = terms.keys().next_back().cloned();
            terms.retain(|place, row| {
                let goes = row.started_at <= old && row.outcome != Outcome::Running && left > 0;
                let goes = goes && newest.as_ref().is_some_and(|newest| place.0 < newest.0);
                // Of one service what is looked at is counted, of all of them what goes.
                left -= usize::from((goes || ask.of.is_some()) && left > 0);
                gone += u64::from(goes);
                !goes
            });
        }
        gone
    }
}

#[async_trait]
impl ServiceStore for MemoryStore {
    async fn service_look(&self, ask: &LookService) -> Result<ServiceView> {
        Ok(self.verb(|tables, now| tables.look(ask, now)))
    }

    async fn service_list(&self, namespace: &Namespace) -> Result<ListedServices> {
        let rows = self.verb(|tables, _| {
            let set = tables.services.set.values();
            set.filter(|record| record.namespace == *namespace).cloned().collect()
        });
        Ok(ListedServices { rows, unreadable: Vec::new() })
    }

    async fn service_write(&self, ask: &WriteService) -> Result<bool> {
        let record = &ask.record;
        let written = self.verb(|tables, _| {
            let name = (record.namespace.clone(), record.name.clone());
            let seen = tables.services.set.get(&name).map_or(0, |row| row.version);
            let same = seen == record.version;
            if same {
                tables.services.set.insert(name, ServiceRecord { version: seen + 1, ..record.clone() });
            }
            same
        });
        if written {
            self.wake(&record.namespace, &bell_key(&record.name));
        }
        Ok(written)
    }

    async fn service_begin(&self, ask: &BeginTerm) -> Result<Begun> {
        Ok(self.verb(|tables, now| tables.begin(ask, now)))
    }

    async fn service_end(&self, ask: &EndTerm) -> Result<bool> {
        Ok(self.verb(|tables, now| tables.end(ask, now)))
    }

    async fn service_ring(&self, namespace: &Namespace, name: &ServiceName) -> Result<()> {
        self.wake(namespace, &bell_key(name));
        Ok(())
    }

    async fn service_miss(&self, batch: &[MissTerm]) -> Result<()> {
        self.verb(|tables, now| batch.iter().for_each(|ask| tables.miss(ask, now)));
        Ok(())
    }

    async fn service_prune(&self, ask: &PruneTerms) -> Result<u64> {
        Ok(self.verb(|tables, now| tables.prune_terms(ask, now)))
    }

    async fn schedule_list(&self, ask: &ListSchedules) -> Result<ListedSchedules> {
        Ok(self.verb(|tables, now| {
            let wanted = |row: &&Schedule| {
                row.namespace == ask.namespace
                    && ask.name.as_ref().is_none_or(|name| row.name == *name)
                    && ask.after.as_ref().is_none_or(|after| row.name > *after)
            };
            let rows = tables.services.schedules.values().filter(wanted).take(ask.limit).cloned().collect();
            ListedSchedules { now, rows, unreadable: Vec::new() }
        }))
    }

    async fn schedule_due(&self, namespace: &Namespace, limit: usize) -> Result<DueSchedules> {
        Ok(self.verb(|tables, now| {
            let of = tables.services.schedules.values().filter(|row| row.namespace == *namespace);
            let mut rows: Vec<&Schedule> = of.filter(|row| row.next_at.is_some()).collect();
            rows.sort_by_key(|row| (row.next_at, row.name.clone()));
            let next_at = rows.iter().filter_map(|row| row.next_at).find(|at| *at > now);
            let due = rows.into_iter().filter(|row| row.next_at.is_some_and(|at| at <= now));
            let rows = due.take(limit).cloned().collect();
            DueSchedules { now, rows, unreadable: Vec::new(), next_at }
        }))
    }

    async fn schedule_write(&self, ask: &WriteSchedule) -> Result<bool> {
        let (written, woken) = self.verb(|tables, now| {
            let name = (ask.row.namespace.clone(), ask.row.name.clone());
            let seen = tables.services.schedules.get(&name).map_or(0, |row| row.version);
            if seen != ask.row.version {
                return (false, Default::default());
            }
            tables.services.schedules.insert(name, Schedule { version: seen + 1, ..ask.row.clone() });
            let woken = tables.jobs.enqueue_all(&ask.jobs, now);
            (true, woken)
        });
        self.wake_queues(woken);
        Ok(written)
    }

    async fn schedule_remove(
        &self,
        namespace: &Namespace,
        name: &ScheduleName,
        version: i64,
    ) -> Result<bool> {
        Ok(self.verb(|tables, _| {
            let name = (namespace.clone(), name.clone());
            let same = tables.services.schedules.get(&name).is_some_and(|row| row.version == version);
            if same {
                tables.services.schedules.remove(&name);
            }
            same
        }))
    }
}
