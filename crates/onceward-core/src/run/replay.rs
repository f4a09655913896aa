//! Following a journal: what the code asks for is compared with what was written down at the same place, and what has
//! ended is given to it in the order in which it had ended before.

use core::fmt;
use std::collections::{HashMap, VecDeque};

use super::{Entry, Op, Outcome, Phase, Position, Start};
use crate::{JobId, Timestamp, Token};

/// Where a run is in its journal.
#[derive(Debug)]
pub struct Replay {
    known: HashMap<Position, Known>,
    /// What has ended and was not given to the code, in the order of the journal.
    ends: VecDeque<End>,
    /// How many positions of the journal the code has not come by yet.
    unmet: usize,
    /// How many entries were there to begin with.
    recorded: u32,
    next_seq: u32,
    /// When the last thing had ended that was given to the code.
    now: Timestamp,
}

#[derive(Debug)]
struct Known {
    op: Op,
    name: String,
    start: Option<Start>,
    /// The number of the entry that tells its end.
    end: Option<u32>,
    issued: bool,
}

#[derive(Debug)]
struct End {
    seq: u32,
    position: Position,
    op: Op,
    outcome: Outcome,
    at: Timestamp,
}

/// What the code asks for at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// What.
    pub op: Op,
    /// What it is called.
    pub name: &'a str,
    /// Of a child, a hash of its arguments, and what earlier programs have written for it.
    pub input: Option<[u64; 2]>,
}

/// What the journal knows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issued {
    /// That it was started.
    pub start: Option<Start>,
    /// Whether it has ended: that will be given to the code in its turn.
    pub ended: bool,
    /// Whether neither the journal nor the code before this knows the place.
    pub is_new: bool,
}

/// What is given to the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// What was asked for at this position has ended, with the entry of this number.
    End(Position, Outcome, u32),
    /// The run is called off: whatever it waits for fails with that.
    Cancel,
}

/// The code is not the code that wrote the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diverged {
    /// Where.
    pub position: Position,
    /// What stands there.
    pub recorded: (Op, String),
    /// What the code asks for instead; `None` where it does not come by at all.
    pub asked: Option<(Op, String)>,
}

impl fmt::Display for Diverged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (op, name) = &self.recorded;
        write!(f, "at {} the journal has {op} `{name}`, ", self.position)?;
        match &self.asked {
            Some((asked, other)) if (asked, other) == (op, name) => {
                f.write_str("and the code asks for the same with other arguments")
            }
            Some((asked, name)) => write!(f, "and the code asks for {asked} `{name}`"),
            None => f.write_str("and the code does not come by there any more"),
        }
    }
}

impl Replay {
    /// Begins to follow a journal; `now` is the time until something has ended. `None` where entries are missing.
    pub fn of(entries: Vec<Entry>, now: Timestamp) -> Option<Self> {
        let mut replay = Self {
            known: HashMap::new(),
            ends: VecDeque::new(),
            unmet: 0,
            recorded: u32::try_from(entries.len()).ok()?,
            next_seq: 0,
            now,
        };
        for entry in entries {
            if entry.seq != replay.next_seq {
                return None;
            }
            replay.note(entry);
        }
        replay.unmet = replay.known.len();
        Some(replay)
    }

    /// Adds an entry to what is known.
    fn note(&mut self, entry: Entry) {
        self.next_seq = entry.seq.saturating_add(1);
        let Entry { seq, position, op, name, phase, at, .. } = entry;
        if position.is_whole() && op != Op::Cancel {
            // What its generation began with, or leaves to the next one: nothing that the code asks for.
            if op == Op::Continue {
                self.now = self.now.max(at);
            }
            return;
        }
        if op != Op::Cancel {
            let fresh = || Known { op, name, start: None, end: None, issued: false };
            let known = self.known.entry(position.clone()).or_insert_with(fresh);
            match &phase {
                Phase::Started(start) => known.start = Some(start.clone()),
                Phase::Ended(_) => known.end = Some(seq),
            }
        }
        if let Phase::Ended(outcome) = phase {
            self.ends.push_back(End { seq, position, op, outcome, at });
        }
    }

    /// The code asks for something (D2).
    ///
    /// # Errors
    /// Where the journal has something else there.
    pub fn issue(&mut self, position: &Position, wanted: Wanted<'_>) -> Result<Issued, Diverged> {
        let Some(known) = self.known.get_mut(position) else {
            let name = wanted.name.to_owned();
            let known = Known { op: wanted.op, name, start: None, end: None, issued: true };
            self.known.insert(position.clone(), known);
            return Ok(Issued { is_new: true, ..Issued::default() });
        };
        let other_input = match (&known.start, wanted.input) {
            (Some(Start::Child { input, .. }), Some(wanted)) => !wanted.contains(input),
            _ => false,
        };
        if known.op != wanted.op || known.name != wanted.name || other_input {
            return Err(Diverged {
                position: position.clone(),
                recorded: (known.op, known.name.clone()),
                asked: Some((wanted.op, wanted.name.to_owned())),
            });
        }
        if !core::mem::replace(&mut known.issued, true) {
            self.unmet = self.unmet.saturating_sub(1);
        }
        Ok(Issued { start: known.start.clone(), ended: known.end.is_some(), is_new: false })
    }

    /// What the journal has at a position that the code has not come by.
    pub fn recorded_at(&self, position: &Position) -> Option<(Op, &str)> {
        self.known.get(position).filter(|known| !known.issued).map(|known| (known.op, known.name.as_str()))
    }

    /// What the code has asked for at a position.
    pub fn asked_at(&self, position: &Position) -> Option<(Op, &str)> {
        self.known.get(position).map(|known| (known.op, known.name.as_str()))
    }

    /// Whether the journal says that something was begun there.
    pub fn is_begun(&self, position: &Position) -> bool {
        self.known.get(position).is_some_and(|known| known.start.is_some())
    }

    /// Whether the journal says how that has ended.
    pub fn has_ended(&self, position: &Position) -> bool {
        self.known.get(position).is_some_and(|known| known.end.is_some())
    }

    /// The child that was started there.
    pub fn child_at(&self, position: &Position) -> Option<JobId> {
        match self.known.get(position)?.start {
            Some(Start::Child { id, .. }) => Some(id),
            _ => None,
        }
    }

    /// What that is called.
    pub fn name_at(&self, position: &Position) -> Option<&str> {
        self.asked_at(position).map(|(_, name)| name)
    }

    /// Writes an entry, which is to be appended to the journal under its number.
    pub fn record(
        &mut self,
        (position, op, name): (&Position, Op, &str),
        phase: Phase,
        at: Timestamp,
        token: Token,
    ) -> Entry {
        let (position, name) = (position.clone(), name.to_owned());
        let entry = Entry { seq: self.next_seq, position, op, name, phase, at, token };
        self.note(entry.clone());
        entry
    }

    /// The next thing to give to the code, of the first `durable` entries.
    pub fn deliver(&mut self, durable: u32) -> Option<Delivery> {
        let end = self.ends.front()?;
        let met = || self.known.get(&end.position).is_some_and(|known| known.issued);
        if end.seq >= durable || !(end.op == Op::Cancel || met()) {
            return None;
        }
        let end = self.ends.pop_front()?;
        self.now = self.now.max(end.at);
        Some(match end.op {
            Op::Cancel => Delivery::Cancel,
            _ => Delivery::End(end.position, end.outcome, end.seq),
        })
    }

    /// How something has ended whose end was not given to the code yet, and the number of its entry.
    pub fn pending(&self, position: &Position) -> Option<(u32, &Outcome)> {
        let seq = self.known.get(position)?.end?;
        let at = self.ends.binary_search_by_key(&seq, |end| end.seq).ok()?;
        self.ends.get(at).map(|end| (end.seq, &end.outcome))
    }

    /// Whether the code has come to the end of the journal it began with: from here on things happen for the first
    /// time.
    pub fn is_live(&self) -> bool {
        self.unmet == 0 && self.ends.front().is_none_or(|end| end.seq >= self.recorded)
    }

    /// Once the code has nothing more to do but wait, and [`deliver`](Self::deliver) has nothing for it: why it does
    /// not come to the end of its journal.
    pub fn stuck(&self) -> Option<Diverged> {
        if self.is_live() {
            return None;
        }
        let head = self.ends.front().map(|end| &end.position);
        let unmet = self.known.iter().filter(|(_, known)| !known.issued);
        // The place where the journal waits for the code, or else the first one it does not come by.
        let first = head.and_then(|position| self.known.get_key_value(position));
        let (position, known) =
            first.filter(|(_, known)| !known.issued).or_else(|| unmet.min_by_key(|(at, _)| *at))?;
        Some(Diverged { position: position.clone(), recorded: (known.op, known.name.clone()), asked: None })
    }

    /// Once the code has come to its end: what stands in the journal and was not asked for. What has ended and was not
    /// given to the code is none of its business: it waited for something else that came first.
    pub fn passed_over(&self) -> Option<Diverged> {
        let unmet = self.known.iter().filter(|(_, known)| !known.issued);
        let (position, known) = unmet.min_by_key(|(at, _)| *at).filter(|_| self.unmet > 0)?;
        Some(Diverged { position: position.clone(), recorded: (known.op, known.name.clone()), asked: None })
    }

    /// What time it is for the code: the same each time it comes by (D8).
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// How many entries the journal has.
    pub fn len(&self) -> u32 {
        self.next_seq
    }

    /// Whether nothing has happened yet.
    pub fn is_empty(&self) -> bool {
        self.next_seq == 0
    }
}
