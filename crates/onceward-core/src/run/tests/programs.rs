//! Random programs: what a run has written down is followed by the same code, wherever its journal ends, and in the
//! same order; other code is found.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::*;
use crate::{Timestamp, Token};

/// Lines of code that go on at the same time, and what each asks for, one thing after the other.
type Program = Vec<Vec<(Op, String)>>;

/// One execution.
struct Machine<'a> {
    program: &'a Program,
    scopes: Vec<Scope>,
    /// How far each line is, and what it waits for.
    lines: Vec<(usize, Option<Position>)>,
    replay: Replay,
    journal: Vec<Entry>,
    /// The places whose end the code was given, in order.
    given: Vec<Position>,
}

impl<'a> Machine<'a> {
    fn of(program: &'a Program, journal: Vec<Entry>) -> Self {
        let fork = Scope::root().take();
        Self {
            scopes: (0..program.len()).map(|line| Scope::branch(&fork, line)).collect(),
            lines: vec![(0, None); program.len()],
            replay: Replay::of(journal.clone(), Timestamp::default()).unwrap(),
            program,
            journal,
            given: Vec::new(),
        }
    }

    /// Each line asks for what it comes by next.
    fn ask(&mut self) -> Result<(), Diverged> {
        for ((line, scope), code) in self.lines.iter_mut().zip(&mut self.scopes).zip(self.program) {
            if let (None, Some((op, name))) = (&line.1, code.get(line.0)) {
                let position = scope.take();
                self.replay.issue(&position, Wanted { op: *op, name, input: None })?;
                line.1 = Some(position);
            }
        }
        Ok(())
    }

    fn write(&mut self, line: usize, phase: Phase) {
        let (at, position) = self.lines[line].clone();
        let (op, name) = &self.program[line][at];
        let now = Timestamp::from_micros(1 + i64::from(self.replay.len()));
        let entry = self.replay.record((&position.unwrap(), *op, name), phase, now, Token::from_row(7));
        self.journal.push(entry);
    }

    /// Gives the code what has ended, as long as there is something.
    fn follow(&mut self) -> Result<(), Diverged> {
        self.ask()?;
        while let Some(Delivery::End(position, _, _)) = self.replay.deliver(self.replay.len()) {
            let line = self.lines.iter_mut().find(|line| line.1.as_ref() == Some(&position)).unwrap();
            *line = (line.0 + 1, None);
            self.given.push(position);
            self.ask()?;
        }
        match self.replay.stuck() {
            Some(diverged) => Err(diverged),
            None => Ok(()),
        }
    }

    /// Runs to the end; of what is waited for, `picks` say what ends next.
    fn run(&mut self, picks: &[usize]) -> Result<(), Diverged> {
        for pick in picks.iter().cycle() {
            self.follow()?;
            assert!(self.replay.is_live());
            let waits: Vec<usize> =
                (0..self.lines.len()).filter(|line| self.lines[*line].1.is_some()).collect();
            let Some(line) = waits.get(pick % waits.len().max(1)) else { break };
            let begun = self.lines[*line].1.as_ref().is_some_and(|position| self.replay.is_begun(position));
            // Some are begun before they end.
            if pick % 2 == 1 && !begun {
                self.write(*line, Phase::Started(Start::Intent));
            } else {
                self.write(*line, Phase::Ended(Outcome::Due));
            }
        }
        self.replay.passed_over().map_or(Ok(()), Err)
    }
}

fn program() -> impl Strategy<Value = Program> {
    let op = prop_oneof![Just(Op::Step), Just(Op::Sleep), Just(Op::Signal), Just(Op::Child)];
    let ask = (op, 0_u8..3).prop_map(|(op, name)| (op, format!("n{name}")));
    prop::collection::vec(prop::collection::vec(ask, 1..6), 1..5)
}

fn ends(journal: &[Entry]) -> Vec<Position> {
    let ended = journal.iter().filter(|entry| matches!(entry.phase, Phase::Ended(_)));
    ended.map(|entry| entry.position.clone()).collect()
}

proptest! {
    #[test]
    fn d2_d3_the_same_code_takes_the_same_way_wherever_its_journal_ends(
        program in program(),
        first in prop::collection::vec(0_usize..97, 1..40),
        later in prop::collection::vec(0_usize..97, 1..40),
    ) {
        let mut whole = Machine::of(&program, Vec::new());
        whole.run(&first).unwrap();
        prop_assert_eq!(&whole.given, &ends(&whole.journal));
        for cut in 0..=whole.journal.len() {
            let known = whole.journal[..cut].to_vec();
            let mut again = Machine::of(&program, known.clone());
            again.run(&later).unwrap();
            // What had ended before is given in the order in which it had; what is written follows it.
            prop_assert_eq!(&again.journal[..cut], &known[..]);
            prop_assert_eq!(&again.given, &ends(&again.journal));
            let mut each = BTreeMap::new();
            again.given.iter().for_each(|position| *each.entry(position).or_insert(0) += 1);
            prop_assert!(each.values().all(|count| *count == 1), "each end is given once");
            prop_assert_eq!(each.len(), program.iter().map(Vec::len).sum::<usize>());
        }
    }

    #[test]
    fn d2_other_code_is_found(
        program in program(),
        picks in prop::collection::vec(0_usize..97, 1..40),
        at in any::<prop::sample::Index>(),
        how in 0..3,
    ) {
        let mut whole = Machine::of(&program, Vec::new());
        whole.run(&picks).unwrap();
        let mut other = program.clone();
        let line = at.index(other.len());
        let place = at.index(other[line].len());
        match how {
            0 => other[line][place].1 = "other".to_owned(),
            1 => drop(other[line].remove(place)),
            _ => other[line].insert(place, (Op::Patch, "new".to_owned())),
        }
        let mut follows = Machine::of(&other, whole.journal.clone());
        prop_assert!(follows.run(&picks).is_err(), "{program:?} as {other:?}");
    }
}
