//! What is renewed, and when: the state of the renewer, without any I/O.

use core::time::Duration;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use onceward_core::{Result, Timestamp, lease, limits};
use onceward_store::Renew;
use tokio::sync::oneshot;

use super::{Farewell, Subject};
use crate::hold::{Hold, Lost};

#[derive(Default)]
pub(super) struct State {
    pub(super) watched: HashMap<u64, Watched>,
    /// (boot time in microseconds, claim): when to look at which claim next.
    pub(super) agenda: BTreeSet<(i64, u64)>,
    pub(super) farewells: Vec<Farewell>,
    pub(super) next_id: u64,
    /// Until when the thread means to sleep.
    pub(super) sleeping_until: i64,
    pub(super) running: bool,
    /// Set by the last handle: send what is left, then end, and tell them.
    pub(super) finishing: Option<Vec<oneshot::Sender<()>>>,
}

pub(super) struct Watched {
    pub(super) subject: Subject,
    pub(super) ttl: Duration,
    pub(super) auto: bool,
    pub(super) hold: Arc<Hold>,
    /// When the next renewal is to be sent.
    pub(super) renew_at: Timestamp,
    /// Where it stands on the agenda.
    pub(super) due: i64,
    pub(super) in_flight: bool,
    pub(super) asked: Vec<oneshot::Sender<Result<Renew>>>,
}

/// A claim that is to be renewed now.
#[derive(Clone)]
pub(super) struct Due {
    pub(super) id: u64,
    pub(super) subject: Subject,
    pub(super) ttl: Duration,
}

impl Watched {
    /// When to look at it next: to renew it, or to say that it is lost.
    pub(super) fn next_look(&self) -> i64 {
        let trusted = self.hold.trusted_until();
        let renews = !self.in_flight
            && ((self.auto && !self.hold.is_at_hard_limit(self.ttl)) || !self.asked.is_empty());
        if renews { self.renew_at.min(trusted).as_micros() } else { trusted.as_micros() }
    }
}

impl State {
    pub(super) fn reschedule(&mut self, id: u64) {
        let Some(watched) = self.watched.get_mut(&id) else { return };
        self.agenda.remove(&(watched.due, id));
        watched.due = watched.next_look();
        self.agenda.insert((watched.due, id));
    }

    /// Nobody renews any more: whoever still holds a claim is told at once, not when it has run out.
    pub(super) fn abandon(&mut self) {
        self.agenda.clear();
        for (_, watched) in self.watched.drain() {
            watched.hold.lose(Lost::NotRenewed);
        }
    }

    /// Says of every claim whose trust has ended that it is lost.
    pub(super) fn expire(&mut self, now: Timestamp) {
        let due: Vec<u64> = self.agenda.range(..=(now.as_micros(), u64::MAX)).map(|(_, id)| *id).collect();
        for id in due {
            let over = self.watched.get(&id).is_some_and(|watched| watched.hold.trusted_until() <= now);
            if !over {
                continue;
            }
            if let Some(watched) = self.watched.remove(&id) {
                self.agenda.remove(&(watched.due, id));
                watched.hold.expire();
            }
        }
    }

    /// The claims to renew now: all that are due, and with them those that will be soon, so that claims of one ttl
    /// end up in one statement.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<Due> {
        let due: Vec<u64> = self.agenda.range(..=(now.as_micros(), u64::MAX)).map(|(_, id)| *id).collect();
        if due.is_empty() {
            return Vec::new();
        }
        let soon = |watched: &Watched| {
            let window = watched.ttl / 6;
            watched.auto
                && !watched.hold.is_at_hard_limit(watched.ttl)
                && watched.renew_at.before(window) <= now
        };
        let mut batch = Vec::new();
        for (id, watched) in &mut self.watched {
            let wanted = !watched.in_flight && (soon(watched) || !watched.asked.is_empty());
            if wanted && batch.len() < limits::RENEW_ROWS_MAX {
                watched.in_flight = true;
                batch.push(Due { id: *id, subject: watched.subject.clone(), ttl: watched.ttl });
            }
        }
        for due in &batch {
            self.reschedule(due.id);
        }
        batch
    }

    /// Writes down what became of one renewal.
    pub(super) fn renewed(&mut self, id: u64, answer: &Result<Renew>, sent: Timestamp, now: Timestamp) {
        let Some(watched) = self.watched.get_mut(&id) else { return };
        watched.in_flight = false;
        let ttl = watched.ttl;
        match answer {
            Ok(Renew::Until(until)) => {
                watched.hold.renewed(sent, ttl, *until);
                watched.renew_at = sent.after(lease::renew_interval(ttl));
            }
            Ok(Renew::Lost) => watched.hold.lose(Lost::TakenAway),
            // One failure is no loss: two more tries fit before the trust ends.
            Ok(Renew::Busy) | Err(_) => {
                let soon = (ttl / 20).clamp(Duration::from_millis(10), Duration::from_secs(1));
                watched.renew_at = now.after(soon);
            }
        }
        for asked in watched.asked.drain(..) {
            // Whoever asked may have left.
            let _ = asked.send(answer.clone());
        }
        if matches!(answer, Ok(Renew::Lost)) {
            if let Some(watched) = self.watched.remove(&id) {
                self.agenda.remove(&(watched.due, id));
            }
        } else {
            self.reschedule(id);
        }
    }
}
