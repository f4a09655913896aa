//! The invariants, held against the rows of the model after each step.

use std::collections::BTreeMap;

use onceward_core::lease::Standing;
use onceward_core::once::{self, State};
use onceward_core::{Key, Timestamp, Token, lease};
use proptest::prelude::*;

use super::steps::Verdict;

/// What must have happened in some history, or the proof proves nothing.
pub(crate) const WANTED: [&str; 9] = [
    "grant",
    "takeover",
    "forgotten lease",
    "start",
    "restart",
    "doubt",
    "late outcome",
    "resolution",
    "forgotten once",
];

/// The rows before this step, and the largest tokens ever.
#[derive(Default)]
pub(crate) struct Watch {
    leases: BTreeMap<(Key, u32), lease::Record>,
    once: BTreeMap<Key, once::Record>,
    largest: BTreeMap<(Key, &'static str), Token>,
    /// How often each of [`WANTED`] happened.
    pub(crate) seen: BTreeMap<&'static str, u32>,
}

impl Watch {
    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// L1: a token that was not there before is larger than every one before.
    fn grew(&mut self, key: &Key, kind: &'static str, token: Token) -> Verdict {
        let last = self.largest.insert((key.clone(), kind), token);
        prop_assert!(last.is_none_or(|last| token > last), "{kind} {key:?}: {token} after {last:?}");
        Ok(())
    }

    /// Looks at the leases of a key after a step.
    pub(crate) fn leases(&mut self, key: &Key, now: Timestamp, rows: &[lease::Record]) -> Verdict {
        let slots = 0..2_u32;
        let mut fresh: Vec<&lease::Record> = Vec::new();
        for slot in slots {
            let place = (key.clone(), slot);
            let row = rows.iter().find(|row| row.slot == slot);
            match (self.leases.get(&place), row) {
                (Some(old), None) => {
                    prop_assert!(old.is_free(now), "forgotten while held: {old:?}");
                    self.count("forgotten lease");
                }
                (Some(old), Some(row)) if old.token == row.token => same_grant(old, row, now)?,
                (Some(old), Some(row)) => {
                    prop_assert!(old.is_free(now), "L2: taken from {old:?} by {row:?}");
                    let lost = old.released_at.is_none();
                    fresh.push(row);
                    self.count(if lost { "takeover" } else { "grant" });
                }
                (None, Some(row)) => fresh.push(row),
                (None, None) => {}
            }
        }
        for row in fresh {
            prop_assert_eq!(row.standing(now), Standing::Held);
            self.grew(key, "lease", row.token)?;
        }
        self.leases.retain(|(of, _), _| of != key);
        self.leases.extend(rows.iter().map(|row| ((key.clone(), row.slot), row.clone())));
        Ok(())
    }

    /// Looks at a once key after a step; `restartable` if the step was a claim that said so.
    pub(crate) fn once(
        &mut self,
        key: &Key,
        now: Timestamp,
        row: Option<&once::Record>,
        restartable: bool,
    ) -> Verdict {
        let old = self.once.remove(key);
        match (&old, row) {
            (None, None) => {}
            (Some(old), None) => {
                let over = old.retain_until.is_some_and(|until| until <= now);
                let settled = old.state.is_settled() || old.state == State::Released;
                prop_assert!(over && settled, "O6: forgotten: {old:?}");
                self.count("forgotten once");
            }
            (None, Some(row)) => {
                prop_assert_eq!((row.state, row.attempts), (State::Running, 1));
                self.grew(key, "once", row.token)?;
                self.count("start");
            }
            (Some(old), Some(row)) if old.token == row.token => {
                self.count_outcome(old, row);
                same_claim(old, row, now)?;
            }
            (Some(old), Some(row)) => {
                self.grew(key, "once", row.token)?;
                self.count(next_claim(old, row, now, restartable)?);
            }
        }
        self.once.extend(row.map(|row| (key.clone(), row.clone())));
        Ok(())
    }

    fn count_outcome(&mut self, old: &once::Record, row: &once::Record) {
        if old.state != row.state {
            match row.state {
                State::Uncertain => self.count("doubt"),
                _ if row.late => self.count("late outcome"),
                _ => {}
            }
        }
    }
}

/// L3 and L8: what may become of a grant while its token stays.
fn same_grant(old: &lease::Record, row: &lease::Record, now: Timestamp) -> Verdict {
    prop_assert_eq!((row.session, row.granted_at), (old.session, old.granted_at));
    prop_assert!(row.hard_expires_at.is_none_or(|hard| row.expires_at <= hard), "beyond its limit: {row:?}");
    prop_assert!(old.released_at.is_none() || row == old, "changed after its end: {old:?}, {row:?}");
    let renewed = row.heartbeats > old.heartbeats;
    prop_assert!(!renewed || old.standing(now) == Standing::Held, "revived: {old:?}, {row:?}");
    prop_assert_eq!(renewed || row.expires_at == old.expires_at, true);
    Ok(())
}

/// O2, O5 and O7: what may become of a claim while its token stays.
fn same_claim(old: &once::Record, row: &once::Record, now: Timestamp) -> Verdict {
    prop_assert_eq!((row.session, row.attempts), (old.session, old.attempts));
    match (old.state, row.state) {
        (State::Running, State::Running) => {
            let live = old.state_at(now) == State::Running;
            prop_assert!(live || row == old, "revived: {old:?}, {row:?}");
        }
        (State::Running | State::Uncertain, State::Done | State::Failed | State::Released) => {
            prop_assert_eq!(row.late, old.expires_at <= now);
        }
        (State::Running, State::Uncertain) => {}
        _ => prop_assert!(row == old, "O2: overwritten: {old:?}, {row:?}"),
    }
    Ok(())
}

/// O1, O5 and O6: what may follow on a claim, with a new token.
fn next_claim(
    old: &once::Record,
    row: &once::Record,
    now: Timestamp,
    restartable: bool,
) -> Verdict<&'static str> {
    let doubt = old.state_at(now) == State::Uncertain;
    if row.attempts == old.attempts {
        prop_assert!(doubt && row.state != State::Running, "settled without a doubt: {old:?}, {row:?}");
        return Ok("resolution");
    }
    prop_assert_eq!((row.state, row.attempts), (State::Running, old.attempts + 1));
    let free = old.state == State::Released || old.is_retired(now);
    prop_assert!(free || (doubt && restartable), "O1: started again: {old:?}, {row:?}");
    Ok(if doubt { "restart" } else { "start" })
}
