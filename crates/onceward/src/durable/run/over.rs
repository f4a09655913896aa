//! The end of a generation: the run goes on as new, and its journal says so.

use onceward_core::run::{Op, Outcome, Phase, Position};
use onceward_core::{Code, Timestamp, Token};

use super::super::failure::{Failure, Never};
use super::{Run, State, cancelled, failed};

impl Run {
    /// Writes down that the run goes on as new with these arguments, or why it can't.
    pub(in crate::durable) fn go_on_as_new(&self, position: &Position, args: Vec<u8>) {
        let (now, name) = (self.store_now(), self.kind.as_str());
        let mut state = self.lock();
        let refused = if state.cancelled { Some(cancelled()) } else { state.under_way().map(refused) };
        if let Some(outcome) = refused {
            state.record(position, Op::Continue, name, Phase::Ended(outcome), now, self.token);
            return;
        }
        state.leave_signals(now, self.token);
        let phase = Phase::Ended(Outcome::Value(args));
        state.over = Some(state.record(position, Op::Continue, name, phase, now, self.token));
    }

    /// Whether this generation is over, and everybody who takes the run up will see that.
    pub(in crate::durable) fn is_over(&self) -> bool {
        let state = self.lock();
        state.over.is_some_and(|seq| seq < state.durable)
    }
}

impl State {
    /// Whether something may happen for the first time: the journal was followed to its end, and goes on.
    pub(super) fn goes_on(&self) -> bool {
        self.replay.is_live() && self.over.is_none()
    }

    /// What keeps the run from going on as new.
    fn under_way(&self) -> Option<&'static str> {
        let is_waited_for = |id| !self.abandoned.contains(id) && !self.told.contains(id);
        if self.waits_of.keys().any(is_waited_for) {
            return Some("children of the run have not ended: wait for them first");
        }
        (self.bodies > 0).then_some("the body of a step is running beside: wait for it first")
    }

    /// Has the next generation begin with the signals that the code of this one was to be given, and has not taken.
    fn leave_signals(&mut self, now: Timestamp, token: Token) {
        let is_signal = |at: &Position| self.replay.asked_at(at).is_some_and(|(op, _)| op == Op::Signal);
        let waits = self.slots.keys().filter(|at| is_signal(at) && !self.given_up.contains(*at));
        let waits: Vec<(Position, String)> =
            waits.map(|at| (at.clone(), self.replay.name_at(at).unwrap_or_default().to_owned())).collect();
        for (position, name) in waits {
            self.take_back(&position, &name);
        }
        let left = core::mem::take(&mut self.returned).into_iter();
        let left = left.flat_map(|(name, values)| {
            values.into_iter().map(move |(place, value)| (place, name.clone(), value))
        });
        let mut left: Vec<(u32, String, Vec<u8>)> = left.collect();
        left.sort_unstable();
        for (_, name, value) in left {
            let phase = Phase::Ended(Outcome::Again(value));
            self.record(&Position::whole(), Op::Signal, &name, phase, now, token);
        }
    }
}

fn refused(why: &str) -> Outcome {
    failed(&Failure::<Never>::Engine(format!("{}: {why}", Code::RunContinueRefused)))
}
