//! Time that leaps, and a look at what is still to happen: for tests of what takes long.

use core::time::Duration;

use onceward_core::job::{self, State};
use onceward_core::lease::Standing;
use onceward_core::once;
use onceward_core::run::generation::generation;
use onceward_core::run::{Phase, Position, Start, is_stuck};
use onceward_core::{Kind, Queue, Timestamp};

use super::{Jobs, MemoryStore, Name, name};
use crate::clock::LeapingClock;
use crate::memory::Tables;
use crate::store::{JobRef, Wake};

/// What is due this soon comes by itself.
const SOON: Duration = Duration::from_secs(2);

/// What is still to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// Something runs, or is about to.
    Busy,
    /// Nothing happens before this time.
    Due(Timestamp),
    /// Nothing happens until somebody does something.
    Still,
}

impl MemoryStore {
    /// Lets the time of `clock`, which is the one of this store, leap. Whoever holds something holds it for as long as
    /// before: a worker has not been away meanwhile.
    pub fn leap(&self, clock: &LeapingClock, by: Duration) {
        self.verb(|tables, now| {
            clock.leap(by);
            tables.keep_what_is_held(now, by);
        });
        // Nobody listening is fine.
        let _ = self.wakes.send(Wake::Anything);
    }

    /// All sessions have run out: their processes are dead.
    pub fn lose_sessions(&self) {
        self.verb(|tables, now| {
            for session in tables.jobs.sessions.values_mut() {
                session.expires_at = session.expires_at.min(now);
            }
        });
    }

    /// What is still to happen, as far as the workers that are there do it.
    pub fn outlook(&self) -> Outlook {
        self.verb(|tables, now| tables.jobs.outlook(now))
    }

    /// Which generation of a run its journal is of.
    pub fn generation_of(&self, run: &JobRef) -> u32 {
        self.verb(|tables, _| generation(tables.jobs.runs.journal(&name(run))))
    }

    /// Whether the journal of a run says how something has ended, and whether it says that it was begun and may not be
    /// begun again.
    pub fn knows_of(&self, run: &JobRef, position: &Position) -> (bool, bool) {
        self.verb(|tables, _| {
            let journal = tables.jobs.runs.journal(&name(run));
            let mut phases = journal.iter().filter(|entry| entry.position == *position);
            let intent = phases.clone().any(|entry| entry.phase == Phase::Started(Start::Intent));
            (phases.any(|entry| matches!(entry.phase, Phase::Ended(_))), intent)
        })
    }
}

impl Tables {
    fn keep_what_is_held(&mut self, now: Timestamp, by: Duration) {
        for session in self.jobs.sessions.values_mut().filter(|session| !session.is_lost(now)) {
            session.expires_at = session.expires_at.after(by);
        }
        for lease in self.leases.values_mut().filter(|lease| lease.standing(now) == Standing::Held) {
            lease.expires_at = lease.expires_at.after(by);
            lease.hard_expires_at = lease.hard_expires_at.map(|at| at.after(by));
        }
        for ticket in self.waiting.values_mut().flatten() {
            ticket.expires_at = ticket.expires_at.after(by);
        }
        let runs = |row: &&mut once::Record| row.state_at(now) == once::State::Running;
        for row in self.once.values_mut().filter(runs) {
            row.expires_at = row.expires_at.after(by);
            row.hard_expires_at = row.hard_expires_at.map(|at| at.after(by));
        }
    }
}

impl Jobs {
    fn outlook(&self, now: Timestamp) -> Outlook {
        let ready = self.ready.iter().any(|lane| {
            !self.is_paused(&lane.namespace, &lane.queue)
                && self.somebody_takes(&lane.kind, &lane.queue, &lane.route)
        });
        let later = self.later.iter().filter_map(|(_, id, namespace)| {
            let name = (namespace.clone(), *id);
            self.rows.get(&name).map(|row| (name, row))
        });
        let mut later =
            later.filter(|(_, row)| self.somebody_takes(&row.kind, &row.queue, &job::route(&row.tags)));
        let told = later.clone().any(|(name, row)| is_parked(row) && self.runs.has_news(&name));
        if ready || told || !self.running().is_empty() {
            return Outlook::Busy;
        }
        // They are in the order of their time.
        match later.find(|(name, row)| self.is_brought_by_time(name, row, now)) {
            Some((_, row)) if row.run_at <= now => Outlook::Busy,
            Some((_, row)) => Outlook::Due(row.run_at),
            None => Outlook::Still,
        }
    }

    fn somebody_takes(&self, kind: &Kind, queue: &Queue, route: &str) -> bool {
        self.sessions.values().filter(|session| !session.draining).any(|session| {
            let about = &session.about;
            let tags: Vec<_> =
                about.tags.iter().filter_map(|tag| onceward_core::Tag::new(tag).ok()).collect();
            about.kinds.iter().any(|known| known == kind.as_str())
                && about.queues.iter().any(|from| from == queue.as_str())
                && job::may_take(route, &tags)
        })
    }

    /// Whether what waits for its time has one to wait for: a run that is parked until something arrives looks again
    /// by itself, after a year, and one that is stuck does so every minute, in vain.
    fn is_brought_by_time(&self, name: &Name, row: &job::Record, now: Timestamp) -> bool {
        if !is_parked(row) || row.run_at <= now.after(SOON) {
            return true;
        }
        let journal = self.runs.journal(name);
        let is_open = |position: &Position| {
            !journal.iter().any(|entry| entry.position == *position && matches!(entry.phase, Phase::Ended(_)))
        };
        let timers = journal.iter().filter_map(|entry| match entry.phase {
            Phase::Started(Start::Due(at)) if is_open(&entry.position) => Some(at),
            _ => None,
        });
        !is_stuck(row) && timers.chain(row.policy.deadline).any(|at| at <= row.run_at.after(SOON))
    }
}

/// A run that was taken up before, and waits.
fn is_parked(row: &job::Record) -> bool {
    row.policy.durable && row.state == State::Scheduled && row.attempted_at.is_some()
}
