//! The reference model: the rules of `onceward-core` over maps in memory.
//!
//! It keeps nothing beyond the process. Users get it for their tests; we hold the databases against it.

mod endpoints;
mod jobs;
mod runs;
mod services;
mod triggers;

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use onceward_core::endpoint::Endpoint;
use onceward_core::history::{self, Entry, Event, Subject};
use onceward_core::lease::{self, Acquire, Standing, Ticket};
use onceward_core::once::{self, Claim, Resolution, Resolve, Settle, State};
use onceward_core::trigger::Trigger;
use onceward_core::{EndpointName, Key, Namespace, Result, Timestamp, Token, TriggerName};
use tokio::sync::broadcast;

use crate::store::{
    Acquired, BreakLease, Broken, Capabilities, ClaimRef, Claimed, Finding, HistoryOf, KeyRef, LeaveLease,
    ListLeases, ListOnce, Prune, Pruned, ReleaseLease, Renew, ResolveOnce, SettleOnce, Severity, Snapshot,
    Store, StoreKind, WaitLease, Wake,
};
use crate::{Clock, clock::SystemClock};

#[cfg(feature = "conformance")]
pub use self::jobs::Outlook;

/// A store in memory.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    wakes: broadcast::Sender<Wake>,
    state: Mutex<Tables>,
}

type Name = (Namespace, Key);

#[derive(Default)]
struct Tables {
    leases: BTreeMap<(Namespace, Key, u32), lease::Record>,
    waiting: BTreeMap<Name, Vec<Ticket>>,
    once: BTreeMap<Name, once::Record>,
    history: Vec<history::Row>,
    jobs: jobs::Jobs,
    services: services::Services,
    endpoints: BTreeMap<(Namespace, EndpointName), Endpoint>,
    triggers: BTreeMap<(Namespace, TriggerName), Trigger>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

impl MemoryStore {
    /// An empty store that reads the time from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, wakes: broadcast::channel(1024).0, state: Mutex::default() }
    }

    /// Runs one verb: it sees the tables alone, at one instant.
    fn verb<R>(&self, run: impl FnOnce(&mut Tables, Timestamp) -> R) -> R {
        let mut tables = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        run(&mut tables, self.clock.wall())
    }

    fn wake(&self, namespace: &Namespace, key: &Key) {
        // Nobody listening is fine.
        let _ = self.wakes.send(Wake::Lease(namespace.clone(), key.clone()));
    }
}

impl Tables {
    fn log(&mut self, entry: Entry, claim: Option<(Timestamp, &str)>) {
        let claimed_by = claim.filter(|(_, by)| *by != entry.actor).map(|(_, by)| by.to_owned());
        self.history.push(history::Row { entry, claimed_at: claim.map(|(at, _)| at), claimed_by });
    }

    fn log_lease(
        &mut self,
        row: &lease::Record,
        event: Event,
        actor: &str,
        reason: Option<String>,
        at: Timestamp,
    ) {
        let entry = Entry {
            subject: Subject::Lease,
            namespace: row.namespace.clone(),
            key: row.key.clone(),
            event,
            token: row.token,
            actor: actor.to_owned(),
            at,
            reason,
        };
        self.log(entry, Some((row.granted_at, row.owner.as_str())));
    }

    /// Writes an event of a once row; the first event after a claim also tells that the claim had begun.
    fn log_once(
        &mut self,
        row: &once::Record,
        event: Event,
        actor: &str,
        reason: Option<String>,
        at: Timestamp,
    ) {
        let entry = Entry {
            subject: Subject::Once,
            namespace: row.namespace.clone(),
            key: row.key.clone(),
            event,
            token: row.token,
            actor: actor.to_owned(),
            at,
            reason,
        };
        let open = row.state == State::Running;
        self.log(entry, open.then_some((row.claimed_at, row.owner.as_str())));
    }

    /// Whoever sees an expired claim first writes that it became uncertain.
    fn note_expiry(&mut self, name: &Name, now: Timestamp) {
        let Some(row) = self.once.get(name) else { return };
        if row.state != State::Running || row.state_at(now) != State::Uncertain {
            return;
        }
        let row = row.clone();
        let reason = Some(once::EXPIRED.to_owned());
        self.log_once(&row, Event::Expired, row.owner.as_str(), reason, row.expires_at);
        self.once.insert(name.clone(), row.expired());
    }

    fn ahead(&mut self, ask: &lease::Ask, now: Timestamp) -> bool {
        let Some(line) = self.waiting.get_mut(&(ask.namespace.clone(), ask.key.clone())) else {
            return false;
        };
        line.retain(|ticket| ticket.expires_at > now);
        let mine = line.iter().find(|ticket| ticket.fair && ticket.session == ask.session).map(|t| t.number);
        line.iter().any(|ticket| {
            ticket.fair && ticket.session != ask.session && mine.is_none_or(|mine| ticket.number < mine)
        })
    }

    fn acquire(&mut self, ask: &lease::Ask, now: Timestamp) -> Acquired {
        let ahead = self.ahead(ask, now);
        let place = |slot| (ask.namespace.clone(), ask.key.clone(), slot);
        // An earlier send of the same ask may have been granted any place.
        let mine = |row: &&lease::Record| row.session == ask.session && row.standing(now) == Standing::Held;
        let own = self.leases.range(place(0)..=place(u32::MAX)).map(|(_, row)| row).find(mine);
        if let Some(own) = own {
            return Acquired::Granted(Box::new(own.clone()));
        }
        // All places of a key share one line of tokens, also those beyond today's capacity.
        let last = self.leases.range(place(0)..=place(u32::MAX)).map(|(_, row)| row.token).max();
        let mut held: Option<lease::Record> = None;
        for slot in 0..ask.capacity {
            let before = self.leases.get(&place(slot)).cloned();
            match lease::acquire(before.as_ref(), ask, slot, ahead, now) {
                Some(Acquire::Grant { mut row, ended }) => {
                    row.token = lease::draw(ask, slot, last, now);
                    if let (Some(before), Some(event)) = (&before, ended) {
                        self.log_lease(before, event, ask.owner.as_str(), None, now);
                    }
                    self.leases.insert(place(slot), row.clone());
                    return Acquired::Granted(Box::new(row));
                }
                Some(Acquire::Adopt(row)) => return Acquired::Granted(Box::new(row)),
                Some(Acquire::Held(row))
                    if held.as_ref().is_none_or(|held| row.free_at() < held.free_at()) =>
                {
                    held = Some(row);
                }
                Some(Acquire::Held(_)) | None => {}
            }
        }
        Acquired::Held { by: held.map(Box::new), now }
    }

    fn lease_of(&mut self, claim: &ClaimRef) -> Option<&mut lease::Record> {
        self.leases.get_mut(&(claim.namespace.clone(), claim.key.clone(), claim.slot))
    }

    fn release(&mut self, ask: &ReleaseLease, now: Timestamp) -> bool {
        let rows =
            self.leases.values_mut().filter(|row| row.namespace == ask.namespace && row.key == ask.key);
        let Some(row) = rows.into_iter().find(|row| lease::may_release(Some(row), ask.token)) else {
            return false;
        };
        row.released_at = Some(now);
        let row = row.clone();
        self.log_lease(&row, Event::Released, row.owner.clone().as_str(), ask.reason.clone(), now);
        true
    }

    fn wait(&mut self, ask: &WaitLease, now: Timestamp) -> Ticket {
        let line = self.waiting.entry((ask.namespace.clone(), ask.key.clone())).or_default();
        line.retain(|ticket| ticket.expires_at > now);
        let last = line.iter().map(|ticket| ticket.number).max();
        let expires_at = now.after(ask.ttl);
        if let Some(mine) = line.iter_mut().find(|ticket| ticket.session == ask.session) {
            mine.expires_at = expires_at;
            return mine.clone();
        }
        let ticket =
            Ticket { session: ask.session, number: Token::next(last, now), fair: ask.fair, expires_at };
        line.push(ticket.clone());
        ticket
    }

    fn break_lease(&mut self, ask: &BreakLease, now: Timestamp) -> Broken {
        let held: Vec<_> = self
            .leases
            .values()
            .filter(|row| row.namespace == ask.namespace && row.key == ask.key)
            .filter(|row| row.standing(now) == Standing::Held)
            .cloned()
            .collect();
        let Some(first) = held.first() else { return Broken::NotHeld };
        let first = first.token;
        let broken: Vec<_> =
            held.into_iter().filter(|row| ask.token.is_none_or(|token| token == row.token)).collect();
        if broken.is_empty() {
            return Broken::Moved(first);
        }
        for row in &broken {
            self.log_lease(row, Event::Broken, ask.actor.as_str(), Some(ask.reason.clone()), now);
            if let Some(row) = self.leases.get_mut(&(row.namespace.clone(), row.key.clone(), row.slot)) {
                row.released_at = Some(now);
            }
        }
        Broken::Applied(broken)
    }

    fn claim(&mut self, ask: &once::Ask, now: Timestamp) -> Claimed {
        let name = (ask.namespace.clone(), ask.key.clone());
        self.note_expiry(&name, now);
        match once::claim(self.once.get(&name), ask, now) {
            Claim::Grant { row, ended } => {
                if let (Some(before), Some(event)) = (self.once.get(&name).cloned(), ended) {
                    self.log_once(&before, event, ask.owner.as_str(), None, now);
                }
                self.once.insert(name, (*row).clone());
                Claimed::Granted(row)
            }
            Claim::Adopt(row) => Claimed::Granted(row),
            Claim::Mismatch => Claimed::Mismatch,
            Claim::Existing(row) => Claimed::Existing { row, now },
        }
    }

    fn settle(&mut self, ask: &SettleOnce, now: Timestamp) -> Settle {
        let name = (ask.namespace.clone(), ask.key.clone());
        let settle = once::settle(self.once.get(&name), ask.token, &ask.ending, now);
        if let (Settle::Applied { late }, Some(row)) = (&settle, self.once.get(&name).cloned()) {
            let new = once::settled(&row, &ask.ending, *late, now);
            let reason = ask.ending.reason();
            let reason = reason.map(|reason| once::cut(reason, onceward_core::limits::REASON_BYTES_MAX));
            self.log_once(&row, ask.ending.event(), row.owner.as_str(), reason, now);
            self.once.insert(name, new);
        }
        settle
    }

    fn resolve(&mut self, ask: &ResolveOnce, now: Timestamp) -> Resolve {
        let name = (ask.namespace.clone(), ask.key.clone());
        if !ask.dry_run {
            self.note_expiry(&name, now);
        }
        let answer = once::resolve(self.once.get(&name), ask.token, now);
        if let (Resolve::Applied { token }, Some(mut row), false) =
            (&answer, self.once.get(&name).cloned(), ask.dry_run)
        {
            row.token = *token;
            let reason = once::cut(&ask.reason, onceward_core::limits::REASON_BYTES_MAX);
            self.log_once(&row, ask.resolution.event(), ask.actor.as_str(), Some(reason), now);
            row.state = ask.resolution.state();
            row.finished_at = Some(now);
            row.retain_until = Some(now.after(row.retain));
            match &ask.resolution {
                Resolution::Done(body) => (row.body, row.reason) = (Some(body.clone()), None),
                Resolution::Failed { reason } => {
                    row.reason = Some(once::cut(reason, onceward_core::limits::REASON_BYTES_MAX));
                }
                Resolution::Release => {}
            }
            self.once.insert(name, row);
        }
        answer
    }

    fn prune(&mut self, ask: &Prune, now: Timestamp) -> Pruned {
        let mut pruned = Pruned::default();
        let take = |left: &mut u64, gone: bool| {
            let remove = gone && *left < ask.limit as u64;
            *left += u64::from(remove);
            !remove
        };
        // G4: the clock must have passed the token, or the next grant might draw it again.
        let passed = |token: Token| token.as_timestamp() < now;
        self.once.retain(|_, row| {
            let over = row.retain_until.is_some_and(|until| until <= now) && passed(row.token);
            take(&mut pruned.once, over && matches!(row.state, State::Done | State::Failed | State::Released))
        });
        let (old, mut lost) = (now.before(ask.leases_older_than), Vec::new());
        self.leases.retain(|_, row| {
            let over = row.is_free(now) && row.free_at() <= old && passed(row.token);
            let stays = take(&mut pruned.leases, over);
            if !stays && row.released_at.is_none() {
                lost.push(row.clone());
            }
            stays
        });
        self.waiting.retain(|_, line| {
            line.retain(|ticket| ticket.expires_at > now);
            !line.is_empty()
        });
        let old = now.before(ask.history_older_than);
        self.history.retain(|row| take(&mut pruned.history, row.entry.at <= old));
        // The row was the only trace of how these ended.
        for row in lost {
            self.log_lease(&row, Event::Expired, row.owner.as_str(), None, row.expires_at);
        }
        let expired = |(_, row): &(&Name, &once::Record)| {
            row.state == State::Running && row.state_at(now) == State::Uncertain
        };
        let expired: Vec<Name> =
            self.once.iter().filter(expired).take(ask.limit).map(|(name, _)| name.clone()).collect();
        expired.iter().for_each(|name| self.note_expiry(name, now));
        pruned
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn capabilities(&self) -> Capabilities {
        let poll_interval = Duration::from_secs(1);
        Capabilities {
            kind: StoreKind::Memory,
            poll_interval,
            is_heard: true,
            batches_in_flight: 2,
            enqueue_beside: None,
        }
    }

    fn url(&self) -> &str {
        "memory:"
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    fn subscribe(&self) -> broadcast::Receiver<Wake> {
        self.wakes.subscribe()
    }

    fn epoch(&self) -> u64 {
        0
    }

    async fn lease_acquire(&self, batch: &[lease::Ask]) -> Result<Vec<Acquired>> {
        Ok(self.verb(|tables, now| batch.iter().map(|ask| tables.acquire(ask, now)).collect()))
    }

    async fn lease_renew(&self, batch: &[ClaimRef]) -> Result<Vec<Renew>> {
        let renew = |tables: &mut Tables, claim: &ClaimRef, now| {
            let row = tables.lease_of(claim);
            let answer = lease::renew(row.as_deref(), claim.token, claim.session, now);
            if let (Renew::Until(until), Some(row)) = (answer, row) {
                row.expires_at = until;
                row.heartbeats += 1;
            }
            answer
        };
        Ok(self.verb(|tables, now| batch.iter().map(|claim| renew(tables, claim, now)).collect()))
    }

    async fn lease_release(&self, batch: &[ReleaseLease]) -> Result<Vec<bool>> {
        let released: Vec<bool> =
            self.verb(|tables, now| batch.iter().map(|ask| tables.release(ask, now)).collect());
        for (ask, _) in batch.iter().zip(&released).filter(|(_, released)| **released) {
            self.wake(&ask.namespace, &ask.key);
        }
        Ok(released)
    }

    async fn lease_wait(&self, wait: &WaitLease) -> Result<Ticket> {
        Ok(self.verb(|tables, now| tables.wait(wait, now)))
    }

    async fn lease_leave(&self, leave: &LeaveLease) -> Result<()> {
        self.verb(|tables, _| {
            if let Some(line) = tables.waiting.get_mut(&(leave.namespace.clone(), leave.key.clone())) {
                line.retain(|ticket| ticket.session != leave.session);
            }
        });
        self.wake(&leave.namespace, &leave.key);
        Ok(())
    }

    async fn lease_break(&self, ask: &BreakLease) -> Result<Broken> {
        let broken = self.verb(|tables, now| tables.break_lease(ask, now));
        self.wake(&ask.namespace, &ask.key);
        Ok(broken)
    }

    async fn lease_lookup(&self, key: &KeyRef) -> Result<Snapshot<lease::Record>> {
        Ok(self.verb(|tables, now| {
            let rows =
                tables.leases.values().filter(|row| row.namespace == key.namespace && row.key == key.key);
            Snapshot { now, rows: rows.cloned().collect() }
        }))
    }

    async fn lease_list(&self, ask: &ListLeases) -> Result<Snapshot<lease::Record>> {
        Ok(self.verb(|tables, now| {
            let wanted = |row: &&lease::Record| {
                ask.namespace.as_ref().is_none_or(|namespace| *namespace == row.namespace)
                    && ask.prefix.as_ref().is_none_or(|prefix| row.key.as_str().starts_with(prefix.as_str()))
                    && ask.standing.is_none_or(|standing| standing == row.standing(now))
                    && ask.after.as_ref().is_none_or(|(namespace, key, slot)| {
                        (&row.namespace, &row.key, &row.slot) > (namespace, key, slot)
                    })
            };
            Snapshot { now, rows: tables.leases.values().filter(wanted).take(ask.limit).cloned().collect() }
        }))
    }

    async fn once_claim(&self, batch: &[once::Ask]) -> Result<Vec<Claimed>> {
        Ok(self.verb(|tables, now| batch.iter().map(|ask| tables.claim(ask, now)).collect()))
    }

    async fn once_renew(&self, batch: &[ClaimRef]) -> Result<Vec<Renew>> {
        let renew = |tables: &mut Tables, claim: &ClaimRef, now| {
            let row = tables.once.get_mut(&(claim.namespace.clone(), claim.key.clone()));
            let answer = once::renew(row.as_deref(), claim.token, claim.session, now);
            if let (Renew::Until(until), Some(row)) = (answer, row) {
                row.expires_at = until;
            }
            answer
        };
        Ok(self.verb(|tables, now| batch.iter().map(|claim| renew(tables, claim, now)).collect()))
    }

    async fn once_settle(&self, batch: &[SettleOnce]) -> Result<Vec<Settle>> {
        Ok(self.verb(|tables, now| batch.iter().map(|ask| tables.settle(ask, now)).collect()))
    }

    async fn once_resolve(&self, ask: &ResolveOnce) -> Result<Resolve> {
        Ok(self.verb(|tables, now| tables.resolve(ask, now)))
    }

    async fn once_lookup(&self, keys: &[KeyRef]) -> Result<Snapshot<Option<once::Record>>> {
        Ok(self.verb(|tables, now| {
            let row = |name: &KeyRef| tables.once.get(&(name.namespace.clone(), name.key.clone())).cloned();
            Snapshot { now, rows: keys.iter().map(row).collect() }
        }))
    }

    async fn once_list(&self, ask: &ListOnce) -> Result<Snapshot<once::Record>> {
        Ok(self.verb(|tables, now| {
            let wanted = |row: &&once::Record| {
                ask.namespace.as_ref().is_none_or(|namespace| *namespace == row.namespace)
                    && ask.prefix.as_ref().is_none_or(|prefix| row.key.as_str().starts_with(prefix.as_str()))
                    && ask.state.is_none_or(|state| state == row.state_at(now))
                    && ask
                        .after
                        .as_ref()
                        .is_none_or(|(namespace, key)| (&row.namespace, &row.key) > (namespace, key))
            };
            let without_bytes = |mut row: once::Record| {
                row.body = row.body.map(|body| once::Body { bytes: None, ..body });
                row
            };
            let rows = tables.once.values().filter(wanted).take(ask.limit).cloned().map(without_bytes);
            Snapshot { now, rows: rows.collect() }
        }))
    }

    async fn history(&self, ask: &HistoryOf) -> Result<Vec<history::Row>> {
        Ok(self.verb(|tables, _| {
            let wanted = |row: &&history::Row| {
                let entry = &row.entry;
                (entry.subject, &entry.namespace, &entry.key) == (ask.subject, &ask.namespace, &ask.key)
            };
            tables.history.iter().rev().filter(wanted).take(ask.limit).cloned().collect()
        }))
    }

    async fn prune(&self, ask: &Prune) -> Result<Pruned> {
        Ok(self.verb(|tables, now| tables.prune(ask, now)))
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        let found = "kept in memory only, gone with this process".to_owned();
        Ok(vec![Finding { severity: Severity::Warning, check: "durability", found, code: None }])
    }

    async fn close(&self) {}
}
