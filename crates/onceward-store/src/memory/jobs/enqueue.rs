//! Enqueueing in the memory model, and the keys under which a second enqueue finds the first one's job.

use onceward_core::job::{self, Dedupe, DedupeScope, Move, New, OnConflict, Record};
use onceward_core::once::Fingerprint;
use onceward_core::{JobId, Key, Namespace, Timestamp};

use super::{Jobs, Name};
use crate::store::Enqueued;

/// What a key is for: the same text may be used for both.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    Idempotency,
    Dedupe,
}

pub(super) type KeyName = (Namespace, Purpose, Key);

/// A key that refers to a job.
pub(super) struct HeldKey {
    pub(super) id: JobId,
    fingerprint: Option<Fingerprint>,
    /// `None`: until its job is started, or has ended.
    pub(super) expires_at: Option<Timestamp>,
    until_started: bool,
}

impl Jobs {
    pub(in crate::memory) fn enqueue(&mut self, new: &New, now: Timestamp) -> Enqueued {
        if self.rows.contains_key(&(new.namespace.clone(), new.id)) {
            return Enqueued::Created(new.id);
        }
        if let Some(answer) = self.same_request(new, now).or_else(|| self.duplicate(new, now)) {
            return answer;
        }
        self.take_keys(new, now);
        let name = (new.namespace.clone(), new.id);
        self.rows.insert(name.clone(), Record::of_new(new, now));
        self.place(&name, false, now);
        Enqueued::Created(new.id)
    }

    /// The answer of an idempotency key that is taken.
    fn same_request(&self, new: &New, now: Timestamp) -> Option<Enqueued> {
        let key = new.key.as_ref()?;
        let held = self.holder(&(new.namespace.clone(), Purpose::Idempotency, key.key.clone()), now)?;
        Some(match held.id {
            id if id == new.id => Enqueued::Created(id),
            id if held.fingerprint.as_ref() == Some(&key.fingerprint) => Enqueued::Existing(id),
            id => Enqueued::Mismatch(id),
        })
    }

    /// The answer of a dedupe key that is taken, after what the newcomer wants of the job that has it.
    fn duplicate(&mut self, new: &New, now: Timestamp) -> Option<Enqueued> {
        let Dedupe { key, on_conflict, .. } = new.dedupe.as_ref()?;
        let id = self.holder(&(new.namespace.clone(), Purpose::Dedupe, key.clone()), now)?.id;
        if id == new.id {
            return Some(Enqueued::Created(id));
        }
        let name = (new.namespace.clone(), id);
        if *on_conflict != OnConflict::Existing && self.waits(&name) {
            let alone = self.unplace(&name);
            if let Some(row) = self.rows.get_mut(&name) {
                match on_conflict {
                    OnConflict::Replace => *row = new.onto(row),
                    OnConflict::PushOut => push_out(row, new.due(now), now),
                    OnConflict::Existing => {}
                }
            }
            self.place(&name, alone, now);
        }
        Some(Enqueued::Existing(id))
    }

    fn holder(&self, key: &KeyName, now: Timestamp) -> Option<&HeldKey> {
        self.keys.get(key).filter(|held| !self.is_over(key, held, now))
    }

    /// Whether the time of a key is over; an idempotency key lasts at least as long as its job.
    pub(super) fn is_over(&self, key: &KeyName, held: &HeldKey, now: Timestamp) -> bool {
        let (namespace, purpose, _) = key;
        let goes_on = || {
            let row = self.rows.get(&(namespace.clone(), held.id));
            *purpose == Purpose::Idempotency && row.is_some_and(|row| row.state.holds_key())
        };
        held.expires_at.is_some_and(|expires_at| expires_at <= now) && !goes_on()
    }

    fn take_keys(&mut self, new: &New, now: Timestamp) {
        if let Some(key) = &new.key {
            let held = HeldKey {
                id: new.id,
                fingerprint: Some(key.fingerprint),
                expires_at: Some(now.after(key.ttl)),
                until_started: false,
            };
            self.keys.insert((new.namespace.clone(), Purpose::Idempotency, key.key.clone()), held);
        }
        if let Some(Dedupe { key, scope, .. }) = &new.dedupe {
            let expires_at = match scope {
                DedupeScope::Window(window) => Some(now.after(*window)),
                DedupeScope::UntilStarted | DedupeScope::UntilDone => None,
            };
            let until_started = *scope == DedupeScope::UntilStarted;
            let held = HeldKey { id: new.id, fingerprint: None, expires_at, until_started };
            self.keys.insert((new.namespace.clone(), Purpose::Dedupe, key.clone()), held);
            self.dedupe.insert((new.namespace.clone(), new.id), key.clone());
        }
    }

    /// The other job that has the dedupe key which a job would take again.
    pub(super) fn other_holder(&self, row: &Record, to: &Move, now: Timestamp) -> Option<JobId> {
        let key = job::key_again(row, to)?.clone();
        let holder = self.holder(&(row.namespace.clone(), Purpose::Dedupe, key), now)?.id;
        Some(holder).filter(|id| *id != row.id)
    }

    /// Takes the dedupe key again that a job gave up when it ended.
    pub(super) fn take_again(&mut self, row: &Record, to: &Move) {
        let Some(key) = job::key_again(row, to) else { return };
        let (id, until_started) = (row.id, row.until_started);
        let held = HeldKey { id, fingerprint: None, expires_at: None, until_started };
        self.keys.insert((row.namespace.clone(), Purpose::Dedupe, key.clone()), held);
        self.dedupe.insert((row.namespace.clone(), id), key.clone());
    }

    /// Whether a job waits for a worker, for its time, or for its turn: nobody runs it, and it has not ended.
    fn waits(&self, name: &Name) -> bool {
        let waits = self.rows.get(name).is_some_and(|row| !row.state.is_final());
        waits && !self.running().contains_key(name)
    }

    /// Gives the dedupe key free that a job has until its handler starts.
    pub(super) fn free_at_start(&mut self, name: &Name) {
        self.free_key(name, |held| held.until_started);
    }

    /// Gives the dedupe key free of a job that has ended, unless it lasts for a time of its own.
    pub(super) fn free_at_end(&mut self, name: &Name) {
        self.free_key(name, |held| held.expires_at.is_none());
    }

    fn free_key(&mut self, name: &Name, when: impl Fn(&HeldKey) -> bool) {
        let Some(key) = self.dedupe.get(name) else { return };
        let key = (name.0.clone(), Purpose::Dedupe, key.clone());
        if self.keys.get(&key).is_some_and(|held| held.id == name.1 && when(held)) {
            self.keys.remove(&key);
            self.dedupe.remove(name);
        }
    }
}

fn push_out(row: &mut Record, due: Timestamp, now: Timestamp) {
    row.run_at = due;
    row.state = job::pushed_out(row.state, due, now);
}
