//! What a journal says about the code that follows it.

mod programs;

use super::*;
use crate::{JobId, Timestamp, Token};

const NOW: Timestamp = Timestamp::from_micros(1_000);

fn wanted(name: &str) -> Wanted<'_> {
    Wanted { op: Op::Step, name, input: None }
}

fn token() -> Token {
    Token::from_row(7)
}

/// A run that has done `names` one after the other.
fn journal(names: &[&str]) -> Vec<Entry> {
    let mut replay = Replay::of(Vec::new(), NOW).unwrap();
    let mut scope = Scope::root();
    let step = |name: &&str| {
        let position = scope.take();
        replay.issue(&position, wanted(name)).unwrap();
        let value = Phase::Ended(Outcome::Value(name.as_bytes().to_vec()));
        let at = Timestamp::from_micros(2_000 + i64::from(replay.len()));
        replay.record((&position, Op::Step, name), value, at, token())
    };
    names.iter().map(step).collect()
}

/// D2, D3: the same code finds what it did, in the same order, and is live after that.
#[test]
fn d2_d3_the_same_code_is_given_what_it_was_given_before() {
    let mut replay = Replay::of(journal(&["a", "b"]), NOW).unwrap();
    let mut scope = Scope::root();
    for (seq, name) in [(0, "a"), (1, "b")] {
        let position = scope.take();
        assert!(!replay.is_live());
        let issued = replay.issue(&position, wanted(name)).unwrap();
        assert_eq!(issued, Issued { start: None, ended: true, is_new: false });
        let outcome = Outcome::Value(name.as_bytes().to_vec());
        assert_eq!(replay.pending(&position), Some((seq, &outcome)));
        assert_eq!(replay.deliver(2), Some(Delivery::End(position, outcome, seq)));
    }
    assert!(replay.is_live() && replay.stuck().is_none());
    assert_eq!(replay.now(), Timestamp::from_micros(2_001));
    assert!(replay.issue(&scope.take(), wanted("c")).unwrap().is_new);
}

/// D2: other code is told where it differs, and how.
#[test]
fn d2_other_code_is_told_where_it_differs() {
    let mut replay = Replay::of(journal(&["a", "b"]), NOW).unwrap();
    let other = replay.issue(&Position::from_row("0"), wanted("x")).unwrap_err();
    assert_eq!(other.to_string(), "at 0 the journal has step `a`, and the code asks for step `x`");
    replay.issue(&Position::from_row("0"), wanted("a")).unwrap();
    assert!(replay.deliver(2).is_some() && replay.deliver(2).is_none());
    let missing = replay.stuck().unwrap();
    assert_eq!(
        missing.to_string(),
        "at 1 the journal has step `b`, and the code does not come by there any more"
    );
}

/// D2: a child with other arguments is another child.
#[test]
fn d2_other_arguments_are_a_difference() {
    let start = Start::Child { id: JobId::from_uuid(uuid::Uuid::from_u128(5)), input: 1 };
    let mut replay = Replay::of(Vec::new(), NOW).unwrap();
    let (position, op) = (Position::from_row("0"), Op::Child);
    let entry = replay.record((&position, op, "pick"), Phase::Started(start.clone()), NOW, token());
    let mut replay = Replay::of(vec![entry], NOW).unwrap();
    let ask = |input| Wanted { op, name: "pick", input: Some([input, input]) };
    assert!(replay.issue(&position, ask(2)).unwrap_err().to_string().contains("other arguments"));
    assert_eq!(replay.issue(&position, ask(1)).unwrap().start, Some(start));
    assert!(replay.is_live());
}

/// What has ended is given in the order of the journal, not in that of the code, and not before it is durable.
#[test]
fn ends_are_given_in_the_order_of_the_journal_once_they_are_durable() {
    let mut replay = Replay::of(Vec::new(), NOW).unwrap();
    let at = Position::whole();
    let (left, right) = (Scope::branch(&at, 0).take(), Scope::branch(&at, 1).take());
    for position in [&left, &right] {
        replay.issue(position, wanted("s")).unwrap();
    }
    for position in [&right, &left] {
        replay.record((position, Op::Step, "s"), Phase::Ended(Outcome::Due), NOW, token());
    }
    assert_eq!(replay.deliver(0), None);
    assert_eq!(replay.deliver(1), Some(Delivery::End(right, Outcome::Due, 0)));
    assert_eq!(replay.deliver(1), None);
    assert_eq!(replay.deliver(2), Some(Delivery::End(left, Outcome::Due, 1)));
}

#[test]
fn a_journal_with_a_gap_is_refused() {
    let mut entries = journal(&["a", "b", "c"]);
    entries.remove(1);
    assert!(Replay::of(entries, NOW).is_none());
}

#[test]
fn every_phase_survives_its_row() {
    let id = JobId::from_uuid(uuid::Uuid::from_u128(5));
    for phase in [
        Phase::Started(Start::Child { id, input: u64::MAX }),
        Phase::Started(Start::Due(NOW)),
        Phase::Started(Start::Intent),
        Phase::Ended(Outcome::Value(b"1".to_vec())),
        Phase::Ended(Outcome::Failed(b"2".to_vec())),
        Phase::Ended(Outcome::Due),
    ] {
        assert_eq!(Phase::from_row(phase.word(), phase.data()), Some(phase));
    }
    assert_eq!(Phase::from_row("child", vec![1]), None);
    assert_eq!(Phase::from_row("later", Vec::new()), None);
}
