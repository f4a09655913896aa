//! The children of a run: started with an entry, ended with one, and called off where nobody waits for them.

use std::collections::HashMap;

use onceward_core::job::{self, State as JobState};
use onceward_core::run::{Entry, Op, Outcome, Phase, Position, Start};
use onceward_core::{JobId, Timestamp, Token};
use onceward_store::Child;

use super::{Run, State, outcome_of};
use crate::worker::EndedChild;

impl Run {
    /// Starts a child.
    pub(in crate::durable) fn start_child(
        &self,
        position: &Position,
        name: &str,
        input: u64,
        child: job::New,
    ) {
        let (now, id) = (self.store_now(), child.id);
        let mut state = self.lock();
        state.start_child((position, name), input, child, now, self.token);
        state.waits_of.insert(id, position.clone());
    }

    /// Starts a run that nobody waits for: that it was started is all there is to know of it.
    pub(in crate::durable) fn spawn(&self, position: &Position, name: &str, input: u64, child: job::New) {
        let (now, id) = (self.store_now(), child.id);
        let mut state = self.lock();
        state.start_child((position, name), input, child, now, self.token);
        let value = serde_json::to_vec(&id.as_uuid()).unwrap_or_default();
        state.record(position, Op::Child, name, Phase::Ended(Outcome::Value(value)), now, self.token);
    }

    /// Has the end of a child given to the position.
    pub(in crate::durable) fn wait_for_child(&self, position: &Position, id: JobId) {
        self.lock().waits_of.entry(id).or_insert_with(|| position.clone());
    }

    /// The code wants the child at that position called off; `false` where it was not started yet.
    pub(in crate::durable) fn abandon(&self, position: &Position) -> bool {
        let mut state = self.lock();
        let child = state.replay.child_at(position).filter(|id| state.waits_of.contains_key(id));
        if !state.closing {
            state.abandoned.extend(child);
        }
        child.is_some()
    }

    /// A child has succeeded in this process: its end is recorded with its entry, if the code waits for it.
    pub(in crate::durable) fn child_ended(&self, child: EndedChild) {
        let now = self.store_now();
        let mut state = self.lock();
        let id = child.id();
        let waits = state.waits_of.get(&id).filter(|at| !state.replay.has_ended(at)).cloned();
        let Some(position) = waits.filter(|_| state.over.is_none()) else {
            // Dropped where the lock is not held: it is recorded, and arrives, in the usual way.
            drop(state);
            return;
        };
        if !state.seen.insert(id.as_uuid()) {
            drop(state);
            return;
        }
        state.waits_of.remove(&id);
        state.started.remove(&id);
        let outcome = outcome_of(JobState::Succeeded, child.result(), None);
        let name = state.replay.name_at(&position).unwrap_or_default().to_owned();
        let seq = state.record(&position, Op::Child, &name, Phase::Ended(outcome), now, self.token);
        state.ended.push_back((seq, child));
    }

    /// The children that are to be called off now: those that were given up, also by the run's being called off, once
    /// it is durable that they were started.
    pub(in crate::durable) fn take_called_off(&self) -> Vec<JobId> {
        let mut state = self.lock();
        if state.abandoned.is_empty() {
            return Vec::new();
        }
        let (durable, abandoned) = (state.durable, core::mem::take(&mut state.abandoned));
        let is_there = |id: &JobId| state.started.get(id).is_none_or(|seq| *seq < durable);
        let (mut now, later): (Vec<JobId>, Vec<JobId>) = abandoned.into_iter().partition(is_there);
        state.abandoned = later;
        now.retain(|id| state.told.insert(*id));
        now
    }

    /// These could not be told that they are called off.
    pub(in crate::durable) fn not_called_off(&self, children: Vec<JobId>) {
        let mut state = self.lock();
        state.told.retain(|id| !children.contains(id));
        state.abandoned.extend(children);
    }

    /// Whether there are children that are to be called off.
    pub(in crate::durable) fn calls_off(&self) -> bool {
        !self.lock().abandoned.is_empty()
    }

    /// Children that were to be started with what is not durable never will be.
    pub(in crate::durable) fn forget_unstarted(&self) {
        let mut state = self.lock();
        let State { abandoned, started, durable, .. } = &mut *state;
        abandoned.retain(|id| started.get(id).is_none_or(|seq| *seq < *durable));
    }

    /// Nobody waits for any child any more.
    pub(in crate::durable) fn abandon_all(&self) {
        let mut state = self.lock();
        let waits: Vec<JobId> = state.waits_of.keys().copied().collect();
        state.abandoned.extend(waits);
    }
}

impl State {
    /// Writes down that a child is started, and has it enqueued with that.
    pub(super) fn start_child(
        &mut self,
        (position, name): (&Position, &str),
        input: u64,
        child: job::New,
        now: Timestamp,
        token: Token,
    ) {
        let phase = Phase::Started(Start::Child { id: child.id, input });
        let seq = self.record(position, Op::Child, name, phase, now, token);
        self.started.insert(child.id, seq);
        self.children.push_back(Child { seq, job: child, at_once: false });
    }

    pub(super) fn child_ended(&mut self, id: JobId, outcome: Outcome, now: Timestamp, token: Token) {
        if self.over.is_some() {
            return;
        }
        self.take(id.as_uuid());
        self.started.remove(&id);
        let Some(position) = self.waits_of.remove(&id).filter(|at| !self.replay.has_ended(at)) else {
            return;
        };
        let name = self.replay.name_at(&position).unwrap_or_default().to_owned();
        self.record(&position, Op::Child, &name, Phase::Ended(outcome), now, token);
    }
}

/// The children of a journal that have not ended in it: what arrives of them has its place, wherever the code is.
pub(super) fn open(entries: &[Entry]) -> HashMap<JobId, Position> {
    let mut open = HashMap::new();
    for entry in entries {
        match &entry.phase {
            Phase::Started(Start::Child { id, .. }) => drop(open.insert(entry.position.clone(), *id)),
            Phase::Ended(_) => drop(open.remove(&entry.position)),
            Phase::Started(_) => {}
        }
    }
    open.into_iter().map(|(position, id)| (id, position)).collect()
}
