//! Beginning once more in the middle: which part of a journal another run may begin with.
//!
//! A journal is only added to (D1). What is to be done once more is therefore done by another run, whose journal begins
//! as a copy. Two things are asked for: everything from a place in the code on ([`fork`]), or only what has failed
//! ([`again`]). In both, what stands in the copy is given to the code as it was, and nothing in it is done twice (D3).

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, Op, Outcome, Phase, Position, Start};
use crate::JobId;

/// The part of a journal that another run begins with.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Part {
    /// The entries before this one.
    pub until: u32,
    /// Except these, in order.
    pub without: Vec<u32>,
    /// Children of which only the start is in it, in order: whoever copies says what becomes of them.
    pub children: Vec<OpenChild>,
}

/// A child of which a part of a journal has the start and no end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenChild {
    /// The entry that starts it.
    pub seq: u32,
    /// Where it stands.
    pub position: Position,
    /// What it is called.
    pub name: String,
    /// Which run.
    pub id: JobId,
    /// A hash of its arguments.
    pub input: u64,
}

/// Why a run can't be begun once more there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no such place in its journal.
    Nowhere(String),
    /// The run was called off before it came there, and its code has taken another way since.
    CalledOff,
    /// Its code has gone on after what has failed, and may have undone what it had done before.
    WentOn(Position),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere(place) => {
                write!(f, "its journal has no place {place:?}, and no step, child or signal of that name")
            }
            Self::CalledOff => {
                f.write_str("it was called off before it came there: fork it from an earlier place")
            }
            Self::WentOn(position) => write!(
                f,
                "it has done more after what has failed at {position}, and may have undone what it had done before: \
                 fork it from the place where it is to begin"
            ),
        }
    }
}

/// Everything before a place: a position, or the first step, child or signal of that name. Children that had not ended
/// by then are not part of it: they are begun anew, since their ends belong to the run that has started them.
///
/// # Errors
/// Where there is no such place, or it lies behind a cancellation.
pub fn fork(entries: &[Entry], place: &str) -> Result<Part, Refused> {
    let at = entries.iter().position(|entry| entry.position.as_str() == place && !place.is_empty());
    // A signal that it had from the beginning is no place.
    let is_named = |entry: &Entry| entry.name == place && !place.is_empty() && !entry.position.is_whole();
    let named = || entries.iter().position(is_named);
    let at = at.or_else(named).ok_or_else(|| Refused::Nowhere(place.to_owned()))?;
    let kept = entries.get(..at).unwrap_or_default();
    if kept.iter().any(|entry| entry.op == Op::Cancel) {
        return Err(Refused::CalledOff);
    }
    let without = open_children(kept).into_iter().map(|child| child.seq).collect();
    Ok(Part { until: length(kept), without, children: Vec::new() })
}

/// Everything except what has failed and was not followed by anything: that is done again, and nothing else. Where the
/// run was called off, it is taken up where it was when it heard of that.
///
/// # Errors
/// Where the code has gone on after each failure, or after it was called off: what it has done then may have been to
/// undo what stands before, which would have to be done again as well.
pub fn again(entries: &[Entry]) -> Result<Part, Refused> {
    let cancelled = entries.iter().position(|entry| entry.op == Op::Cancel);
    let (kept, rest) = entries.split_at(cancelled.unwrap_or(entries.len()));
    if let Some(undone) = rest.iter().find(|entry| is_work(entry)) {
        return Err(Refused::WentOn(undone.position.clone()));
    }
    let failures: Vec<&Entry> =
        kept.iter().filter(|entry| matches!(entry.phase, Phase::Ended(Outcome::Failed(_)))).collect();
    let open: BTreeSet<&Position> =
        failures.iter().filter(|failure| !is_followed(failure, kept)).map(|entry| &entry.position).collect();
    if let (Some(first), true) = (failures.first(), open.is_empty()) {
        return Err(Refused::WentOn(first.position.clone()));
    }
    let mut part = Part { until: length(kept), ..Part::default() };
    let left: Vec<&Entry> = kept.iter().filter(|entry| !ends_one_of(&open, entry)).collect();
    part.children = open_children(left.iter().copied());
    let starts: BTreeSet<u32> = part.children.iter().map(|child| child.seq).collect();
    let goes = |entry: &&Entry| open.contains(&entry.position) && !starts.contains(&entry.seq);
    part.without = kept.iter().filter(goes).map(|entry| entry.seq).collect();
    Ok(part)
}

fn length(entries: &[Entry]) -> u32 {
    u32::try_from(entries.len()).unwrap_or(u32::MAX)
}

fn ends_one_of(open: &BTreeSet<&Position>, entry: &Entry) -> bool {
    matches!(entry.phase, Phase::Ended(_)) && open.contains(&entry.position)
}

/// Whether something was done that can be seen from outside.
fn is_work(entry: &Entry) -> bool {
    matches!(entry.op, Op::Step | Op::Child)
        && matches!(entry.phase, Phase::Ended(_) | Phase::Started(Start::Child { .. } | Start::Intent))
}

/// Whether the code has asked for something later in its way, after this had failed.
fn is_followed(failure: &Entry, entries: &[Entry]) -> bool {
    let mut begun: BTreeMap<&Position, u32> = BTreeMap::new();
    for entry in entries {
        begun.entry(&entry.position).or_insert(entry.seq);
    }
    begun.iter().any(|(position, seq)| *seq > failure.seq && position.comes_after(&failure.position))
}

/// The children that were started and have not ended.
fn open_children<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<OpenChild> {
    let mut open: BTreeMap<&Position, OpenChild> = BTreeMap::new();
    for entry in entries {
        match &entry.phase {
            Phase::Started(Start::Child { id, input }) => {
                let (position, name) = (entry.position.clone(), entry.name.clone());
                let child = OpenChild { seq: entry.seq, position, name, id: *id, input: *input };
                open.insert(&entry.position, child);
            }
            Phase::Ended(_) => drop(open.remove(&entry.position)),
            Phase::Started(_) => {}
        }
    }
    let mut open: Vec<OpenChild> = open.into_values().collect();
    open.sort_unstable_by_key(|child| child.seq);
    open
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Timestamp, Token};

    fn journal(lines: &[(&str, Op, &str, Phase)]) -> Vec<Entry> {
        let entry = |(seq, (position, op, name, phase)): (u32, &(&str, Op, &str, Phase))| Entry {
            seq,
            position: Position::from_row(*position),
            op: *op,
            name: (*name).to_owned(),
            phase: phase.clone(),
            at: Timestamp::default(),
            token: Token::from_row(1),
        };
        (0..).zip(lines).map(entry).collect()
    }

    fn value() -> Phase {
        Phase::Ended(Outcome::Value(b"1".to_vec()))
    }

    fn failed() -> Phase {
        Phase::Ended(Outcome::Failed(b"{}".to_vec()))
    }

    fn child(number: u128) -> Phase {
        Phase::Started(Start::Child { id: JobId::from_uuid(uuid::Uuid::from_u128(number)), input: 7 })
    }

    #[test]
    fn a_fork_begins_with_what_stands_before_its_place() {
        let entries = journal(&[
            ("0", Op::Step, "reserve", value()),
            ("1.0.0", Op::Child, "pack", child(1)),
            ("1.1.0", Op::Child, "pack", child(2)),
            ("1.1.0", Op::Child, "pack", value()),
            ("2", Op::Step, "charge", value()),
            ("1.0.0", Op::Child, "pack", value()),
        ]);
        let part = |place| fork(&entries, place).unwrap();
        assert_eq!(part("0"), Part::default());
        assert_eq!(part("pack"), Part { until: 1, ..Part::default() });
        // The other child is kept, the open one is begun anew.
        assert_eq!(part("2"), Part { until: 4, without: vec![1], ..Part::default() });
        assert_eq!(part("charge"), part("2"));
        assert_eq!(fork(&entries, "3").unwrap_err(), Refused::Nowhere("3".to_owned()));
        assert_eq!(fork(&entries, "").unwrap_err(), Refused::Nowhere(String::new()));
    }

    #[test]
    fn a_fork_keeps_what_its_generation_began_with() {
        let entries = journal(&[
            ("", Op::Continue, "", value()),
            ("", Op::Signal, "go", value()),
            ("0", Op::Step, "reserve", value()),
            ("1", Op::Signal, "go", Phase::Ended(Outcome::Again(b"1".to_vec()))),
        ]);
        assert_eq!(fork(&entries, "0").unwrap(), Part { until: 2, ..Part::default() });
        assert_eq!(fork(&entries, "go").unwrap(), Part { until: 3, ..Part::default() });
    }

    #[test]
    fn nothing_is_forked_behind_a_cancellation() {
        let entries = journal(&[
            ("0", Op::Step, "reserve", value()),
            ("", Op::Cancel, "", value()),
            ("1", Op::Step, "release", value()),
        ]);
        assert_eq!(fork(&entries, "1").unwrap_err(), Refused::CalledOff);
        assert_eq!(fork(&entries, "0").unwrap(), Part::default());
        assert_eq!(again(&entries).unwrap_err(), Refused::WentOn(Position::from_row("1")));
        assert_eq!(again(&entries[..2]).unwrap(), Part { until: 1, ..Part::default() });
    }

    #[test]
    fn only_what_has_failed_is_done_again() {
        let entries = journal(&[
            ("0", Op::Step, "reserve", value()),
            ("1.0.0", Op::Step, "charge", Phase::Started(Start::Intent)),
            ("1.0.0", Op::Step, "charge", failed()),
            ("1.1.0", Op::Child, "pack", child(1)),
            ("1.1.1", Op::Child, "ship", child(2)),
            ("1.1.0", Op::Child, "pack", failed()),
            ("1.2.0", Op::Step, "mail", value()),
        ]);
        let part = again(&entries).unwrap();
        assert_eq!((part.until, part.without), (7, vec![1, 2, 5]));
        let open: Vec<_> = part.children.iter().map(|child| (child.seq, child.name.as_str())).collect();
        assert_eq!(open, [(3, "pack"), (4, "ship")]);
    }

    #[test]
    fn what_has_gone_on_is_not_done_again() {
        let mut lines = vec![
            ("0", Op::Step, "reserve", value()),
            ("1", Op::Step, "charge", failed()),
            ("2", Op::Step, "release", value()),
        ];
        assert_eq!(again(&journal(&lines)).unwrap_err(), Refused::WentOn(Position::from_row("1")));
        // The first one was caught; the second one has ended it.
        lines.push(("3", Op::Step, "ask", failed()));
        let part = again(&journal(&lines)).unwrap();
        assert_eq!((part.until, part.without), (4, vec![3]));
        assert_eq!(again(&[]).unwrap(), Part::default());
    }
}
