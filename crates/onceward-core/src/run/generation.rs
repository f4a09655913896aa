//! Going on as new: a run ends its journal and begins another one, with other arguments and under its own id.
//!
//! What the code has asked for stands in the journal as [`Op::Continue`] with the arguments, at its place; before it,
//! as a part of the run as a whole, the signals that the run has taken and its code has not. From then on the
//! generation is over: whoever takes the run up next puts the journal of the next one in the place of this one, before
//! anything else. That begins with the number of the generation and with those signals.

use super::{Entry, Op, Outcome, Phase, Position};
use crate::{Timestamp, Token};

/// What becomes of a journal whose generation is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The number of the entry that says so.
    pub seq: u32,
    /// The number of the next generation.
    pub generation: u32,
    /// Its arguments.
    pub args: Vec<u8>,
    /// What its journal begins with.
    pub entries: Vec<Entry>,
}

/// Which generation a journal is of: 0 of a run that has never gone on as new.
pub fn generation(journal: &[Entry]) -> u32 {
    let first = journal.first().filter(|entry| entry.op == Op::Continue && entry.position.is_whole());
    match first.map(|entry| &entry.phase) {
        Some(Phase::Ended(Outcome::Value(number))) => {
            core::str::from_utf8(number).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
        }
        _ => 0,
    }
}

/// The signals that a generation began with, by their name and in their order.
pub fn signals(journal: &[Entry]) -> impl Iterator<Item = (u32, &str, &[u8])> {
    journal.iter().filter(|entry| entry.position.is_whole() && entry.op == Op::Signal).filter_map(|entry| {
        match &entry.phase {
            Phase::Ended(Outcome::Value(value)) => Some((entry.seq, entry.name.as_str(), value.as_slice())),
            _ => None,
        }
    })
}

/// How a journal goes on if its generation is over; `at` and `token` are those of whoever has taken the run up.
pub fn turn(journal: &[Entry], at: Timestamp, token: Token) -> Option<Turn> {
    let (seq, args) = journal.iter().rev().find_map(|entry| match &entry.phase {
        Phase::Ended(Outcome::Value(args)) if entry.op == Op::Continue && !entry.position.is_whole() => {
            Some((entry.seq, args.clone()))
        }
        _ => None,
    })?;
    let generation = generation(journal).saturating_add(1);
    let begins = (Op::Continue, String::new(), generation.to_string().into_bytes());
    let left = journal.iter().filter(|entry| entry.position.is_whole() && entry.op == Op::Signal);
    let left = left.filter_map(|entry| match &entry.phase {
        Phase::Ended(Outcome::Again(value)) => Some((Op::Signal, entry.name.clone(), value.clone())),
        _ => None,
    });
    let entry = |(seq, (op, name, value))| Entry {
        seq,
        position: Position::whole(),
        op,
        name,
        phase: Phase::Ended(Outcome::Value(value)),
        at,
        token,
    };
    let entries = (0..).zip(core::iter::once(begins).chain(left)).map(entry).collect();
    Some(Turn { seq, generation, args, entries })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Replay;

    const NOW: Timestamp = Timestamp::from_micros(9_000);

    fn journal(lines: &[(&str, Op, &str, Outcome)]) -> Vec<Entry> {
        let entry = |(seq, (position, op, name, outcome)): (u32, &(&str, Op, &str, Outcome))| Entry {
            seq,
            position: Position::from_row(*position),
            op: *op,
            name: (*name).to_owned(),
            phase: Phase::Ended(outcome.clone()),
            at: Timestamp::from_micros(i64::from(seq)),
            token: Token::from_row(1),
        };
        (0..).zip(lines).map(entry).collect()
    }

    fn value(text: &str) -> Outcome {
        Outcome::Value(text.as_bytes().to_vec())
    }

    fn again(text: &str) -> Outcome {
        Outcome::Again(text.as_bytes().to_vec())
    }

    #[test]
    fn a_generation_is_over_when_its_journal_says_so() {
        let mut lines = vec![
            ("0", Op::Step, "poll", value("1")),
            ("1", Op::Continue, "poll", Outcome::Failed(Vec::new())),
        ];
        assert_eq!(turn(&journal(&lines), NOW, Token::from_row(7)), None, "it was refused");
        lines[1].3 = value("{\"cursor\":1}");
        let over = journal(&lines);
        let turn = turn(&over, NOW, Token::from_row(7)).unwrap();
        assert_eq!((turn.seq, turn.generation, turn.args.as_slice()), (1, 1, &b"{\"cursor\":1}"[..]));
        assert_eq!((generation(&over), generation(&turn.entries), generation(&[])), (0, 1, 0));
        let first = &turn.entries[0];
        assert_eq!((first.seq, first.at, first.token), (0, NOW, Token::from_row(7)));
        assert!(super::turn(&turn.entries, NOW, Token::from_row(8)).is_none(), "it goes on as new once");
    }

    #[test]
    fn signals_that_were_not_taken_go_along() {
        let lines = [
            ("", Op::Continue, "", value("4")),
            ("", Op::Signal, "go", value("1")),
            ("0", Op::Signal, "go", again("1")),
            ("", Op::Signal, "stop", again("2")),
            ("", Op::Signal, "go", again("3")),
            ("1", Op::Continue, "poll", value("{}")),
        ];
        let turn = turn(&journal(&lines), NOW, Token::from_row(7)).unwrap();
        assert_eq!(turn.generation, 5);
        let left: Vec<_> = signals(&turn.entries).collect();
        assert_eq!(left, [(1, "stop", &b"2"[..]), (2, "go", &b"3"[..])]);
    }

    /// D2, D8: what a generation begins with is nothing that the code asks for, and says what time it is.
    #[test]
    fn d2_d8_a_generation_begins_live_and_at_its_time() {
        let over = journal(&[("0", Op::Continue, "poll", value("{}"))]);
        let turn = turn(&over, NOW, Token::from_row(7)).unwrap();
        let replay = Replay::of(turn.entries, Timestamp::from_micros(1)).unwrap();
        assert!(replay.is_live() && replay.stuck().is_none() && replay.passed_over().is_none());
        assert_eq!((replay.now(), replay.len()), (NOW, 1));
    }
}
