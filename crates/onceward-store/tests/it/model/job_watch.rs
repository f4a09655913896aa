//! The invariants of jobs, held against the rows of the model after each step.

use std::collections::{BTreeMap, BTreeSet};

use onceward_core::job::{Claimed, Move, Moved, New, Record, State};
use onceward_core::{JobId, Queue, Token};
use onceward_store::{SettleJob, SettledJob};
use proptest::prelude::*;

use super::steps::Verdict;

/// What must have happened in some history, or the proof proves nothing.
pub(crate) const WANTED: [&str; 24] = [
    "created",
    "existing",
    "mismatch",
    "claimed",
    "claimed alone",
    "begun",
    "not begun",
    "applied",
    "already",
    "stale",
    "gone",
    "late evidence",
    "rescued",
    "rescued uncertain",
    "promoted",
    "aged",
    "run again",
    "called off",
    "told of a cancel",
    "forgotten dead",
    "handed over",
    "progress",
    "no progress",
    "several of a key",
];

/// The rows before this step, and what may happen to them.
#[derive(Default)]
pub(crate) struct Watch {
    rows: BTreeMap<JobId, Record>,
    /// The largest token a job had, claims included.
    tokens: BTreeMap<JobId, Token>,
    /// Jobs that somebody has moved, or told how it was, since they ended.
    touched: BTreeSet<JobId>,
    /// Jobs that had a row and have none any more: sent again, they would be new ones.
    pub(crate) forgotten: BTreeSet<JobId>,
    /// The most jobs of one ordering key that a queue has ever allowed: what was let in stays so.
    most: BTreeMap<Queue, u32>,
    /// How often each of [`WANTED`] happened.
    pub(crate) seen: BTreeMap<&'static str, u32>,
}

impl Watch {
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// J3: the token of an attempt is larger than any before.
    pub(crate) fn claimed(&mut self, claimed: &Claimed) -> Verdict {
        let last = self.tokens.insert(claimed.job.id, claimed.token);
        prop_assert!(last.is_none_or(|last| last < claimed.token), "{} after {last:?}", claimed.token);
        prop_assert!(claimed.attempt() <= claimed.job.policy.max_attempts, "J4: {claimed:?}");
        Ok(())
    }

    pub(crate) fn settled(&mut self, ask: &SettleJob, answer: SettledJob) {
        let was_uncertain = self.rows.get(&ask.job.id).is_some_and(|row| row.state == State::Uncertain);
        match answer {
            SettledJob::Applied(_) if was_uncertain => {
                self.touched.insert(ask.job.id);
                self.count("late evidence");
            }
            SettledJob::Applied(_) => self.count("applied"),
            SettledJob::Already(_) => self.count("already"),
            SettledJob::Stale => self.count("stale"),
            SettledJob::Gone => self.count("gone"),
        }
    }

    pub(crate) fn rescued(&mut self, _: JobId, state: State) {
        self.count(if state == State::Uncertain { "rescued uncertain" } else { "rescued" });
    }

    pub(crate) fn moved(&mut self, id: JobId, to: &Move, moved: Moved, dry_run: bool) {
        match moved {
            Moved::Applied { .. } if !dry_run => {
                self.touched.insert(id);
                if *to == Move::RunNow {
                    self.count("run again");
                }
            }
            Moved::Noted => self.count("called off"),
            _ => {}
        }
    }

    /// Looks at the row of a job after a step.
    pub(crate) fn row(&mut self, new: &New, row: Option<&Record>) -> Verdict {
        let before = self.rows.remove(&new.id);
        let touched = self.touched.remove(&new.id);
        let Some(row) = row else {
            let may_go = before.as_ref().is_none_or(|before| {
                before.state == State::Dead
                    || before.policy.retain.is_zero() && before.state != State::Uncertain
                    || touched
            });
            prop_assert!(may_go, "J2, J16: it is gone: {before:?}");
            self.forgotten.extend(before.map(|_| new.id));
            return Ok(());
        };
        prop_assert!(row.attempt <= row.policy.max_attempts && row.lost <= row.attempt, "J4: {row:?}");
        prop_assert!(row.attempts().len() == row.attempt as usize, "J4: each attempt is told once: {row:?}");
        prop_assert!(row.state.is_final() == row.finished_at.is_some(), "{row:?}");
        prop_assert!(row.running.is_none() || !row.state.is_final(), "J6: {row:?}");
        if let Some(before) = before {
            prop_assert!(row.token >= before.token, "J3: {row:?} after {before:?}");
            if before.state.is_final() && !touched {
                prop_assert!(*row == before, "J6: {row:?} after {before:?}");
            }
        }
        let largest = self.tokens.entry(new.id).or_insert(row.token);
        *largest = row.token.max(*largest);
        self.rows.insert(new.id, row.clone());
        Ok(())
    }

    pub(crate) fn allowed(&mut self, queue: Queue, most: u32) {
        let before = self.most.entry(queue).or_insert(1);
        *before = most.max(*before);
    }

    /// Looks at all rows after a step.
    pub(crate) fn together(&mut self, rows: &[Option<Record>]) -> Verdict {
        let mut keys = BTreeMap::<_, (u32, u32)>::new();
        for row in rows.iter().flatten().filter(|row| row.running.is_some()) {
            let Some(key) = &row.ordering_key else { continue };
            let allowed = self.most.get(&row.queue).copied().unwrap_or(1);
            let (running, most) = keys.entry(key.clone()).or_insert((0, u32::MAX));
            (*running, *most) = (*running + 1, allowed.min(*most));
        }
        for (key, (running, most)) in keys {
            prop_assert!(running <= most, "J10: {running} of {key:?} run at once, {most} are allowed");
            if running > 1 {
                self.count("several of a key");
            }
        }
        Ok(())
    }
}
