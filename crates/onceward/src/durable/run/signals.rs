//! Signals: who gets which, first come, first served; and what becomes of one whose wait the code has given up.

use std::collections::VecDeque;

use onceward_core::run::{Op, Outcome, Phase, Position, Start};
use onceward_core::{Timestamp, Token};

use super::{Run, State};

impl Run {
    /// Has the next signal of that name given to the position.
    pub(in crate::durable) fn listen(&self, position: &Position, name: &str) {
        let now = self.store_now();
        let mut state = self.lock();
        let line = state.listening.entry(name.to_owned()).or_default();
        if !line.contains(position) {
            line.push_back(position.clone());
        }
        state.unread.1 = true;
        state.hand_out(now, self.token);
    }

    /// Writes down which signals the run waits for, where that does not stand in its journal: whoever looks at a run
    /// that is parked sees it. One that is waited for until some time was written down with that.
    pub(in crate::durable) fn note_waits(&self) {
        let now = self.store_now();
        let mut state = self.lock();
        if !state.goes_on() {
            return;
        }
        let waits = state.listening.iter();
        let waits = waits.flat_map(|(name, line)| line.iter().map(move |at| (at.clone(), name.clone())));
        let mut waits: Vec<(Position, String)> = waits.filter(|(at, _)| !state.replay.is_begun(at)).collect();
        waits.sort_unstable();
        for (position, name) in waits {
            state.record(&position, Op::Signal, &name, Phase::Started(Start::Intent), now, self.token);
        }
    }

    /// The code has given up its wait for a signal, and has taken none: one that this wait had, or gets, is the next
    /// one for somebody else.
    pub(in crate::durable) fn give_up_signal(&self, position: &Position, name: &str) {
        let now = self.store_now();
        let mut state = self.lock();
        if state.closing {
            return;
        }
        if let Some(line) = state.listening.get_mut(name) {
            line.retain(|waits| waits != position);
        }
        state.take_back(position, name);
        state.hand_out(now, self.token);
    }
}

impl State {
    /// Has the signal that a wait had, and that the code has not taken, be the next one for others. Its entry was
    /// written
    /// before the code gave up the wait, so that this comes out the same each time, whether the code was given it or
    /// not.
    pub(super) fn take_back(&mut self, position: &Position, name: &str) {
        let taken = self.slots.get_mut(position).and_then(|slot| Some((slot.seq, slot.outcome.take()?)));
        let pending = || self.replay.pending(position).map(|(seq, outcome)| (seq, outcome.clone()));
        let is_given = taken.is_some();
        let Some((seq, outcome)) = taken.or_else(pending) else { return };
        if !is_given {
            self.given_up.insert(position.clone());
        }
        let place = match outcome {
            Outcome::Value(_) => Some(seq),
            // Where the journal gives it one of them again, that one is still where it was.
            Outcome::Again(_) => self.again.get(position).copied(),
            _ => None,
        };
        if let (Some(place), Outcome::Value(value) | Outcome::Again(value)) = (place, outcome) {
            self.returned.entry(name.to_owned()).or_default().insert(place, value);
        }
    }

    /// Gives those who wait for a signal what others had and did not take.
    fn hand_back(&mut self, now: Timestamp, token: Token) {
        let mut given = Vec::new();
        for (name, values) in &mut self.returned {
            let Some(line) = self.listening.get_mut(name) else { continue };
            while !values.is_empty()
                && let Some(position) = line.pop_front()
            {
                given.extend(values.pop_first().map(|(place, value)| (position, place, name.clone(), value)));
            }
        }
        given.sort_unstable();
        for (position, place, name, value) in given {
            self.timers.retain(|(_, waits)| *waits != position);
            self.again.insert(position.clone(), place);
            self.record(&position, Op::Signal, &name, Phase::Ended(Outcome::Again(value)), now, token);
        }
    }

    /// Gives signals to those who wait for them, first come, first served.
    pub(super) fn hand_out(&mut self, now: Timestamp, token: Token) {
        // A wait that is about to hear that the run is called off takes none.
        if !self.goes_on() || self.cancelling {
            return;
        }
        self.hand_back(now, token);
        let mut left = VecDeque::new();
        for (id, name, value) in core::mem::take(&mut self.mail) {
            match self.listening.get_mut(&name).and_then(VecDeque::pop_front) {
                Some(position) => {
                    self.take(id);
                    self.timers.retain(|(_, waits)| *waits != position);
                    self.record(
                        &position,
                        Op::Signal,
                        &name,
                        Phase::Ended(Outcome::Value(value)),
                        now,
                        token,
                    );
                }
                None => left.push_back((id, name, value)),
            }
        }
        self.mail = left;
    }
}
