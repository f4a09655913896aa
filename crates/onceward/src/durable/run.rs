//! A run in the hands of a worker: its journal as far as it is known, and what its code waits for.
//!
//! The code asks through the futures of this module; the driver (`drive.rs`) writes down, and gives back what has
//! ended. Neither does anything of the other.

mod append;
mod children;
mod over;
mod signals;

use core::task::Waker;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use onceward_core::job::{Record, State as JobState};
use onceward_core::run::generation::{generation, signals};
use onceward_core::run::{
    Arrival, Arrived, Delivery, Diverged, Entry, Issued, Op, Outcome, Phase, Position, Replay, Start,
    Unheard, Wanted,
};
use onceward_core::{Code, Error, JobId, Key, Kind, SessionId, Timestamp, Token, limits};
use onceward_store::{Child, JobRef, LoadRun};
use uuid::Uuid;

use super::awaits::by_us;
use super::failure::{Failure, Never};
use super::report::Report;
use crate::client::Onceward;
use crate::worker::EndedChild;

/// How many entries of a journal are read at first, together with those of other runs that are taken up, and how many
/// at once after that.
const FIRST_PAGE: usize = 100;
const PAGE: usize = 2_000;

/// About how many bytes a run takes in memory that waits, and each entry of its journal.
const WEIGHT: usize = 8 * 1024;
const WEIGHT_OF_ENTRY: usize = 256;

/// One run.
pub(super) struct Run {
    pub(super) client: Onceward,
    pub(super) job: JobRef,
    pub(super) token: Token,
    /// The session that has it; a run that only follows its journal is nobody's.
    pub(super) session: Option<SessionId>,
    /// What its children inherit.
    pub(super) trace: Option<String>,
    /// The same: by how many triggers it has come to be.
    pub(super) depth: u32,
    /// The same: the lines of those who wait for them, which is all whom they must not wait for.
    pub(super) lines: Vec<Key>,
    /// The same: when its time is over, and so is theirs.
    pub(super) deadline: Option<Timestamp>,
    /// Of which function.
    pub(super) kind: Kind,
    /// What its random numbers are made of.
    pub(super) seed: Uuid,
    /// How often it has gone on as new.
    pub(super) generation: u32,
    /// With how many entries its journal began then.
    began: u32,
    /// The store's clock when this attempt was claimed, and the same by this process's clock.
    clock: (Timestamp, Timestamp),
    state: Mutex<State>,
    /// What it shows to whoever looks at it.
    pub(super) report: Mutex<Report>,
}

impl core::fmt::Debug for Run {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Run").field("job", &self.job).finish_non_exhaustive()
    }
}

struct State {
    replay: Replay,
    /// Whether its code has made a durable call.
    asks: bool,
    slots: HashMap<Position, Slot>,
    /// What is to be appended.
    entries: VecDeque<Entry>,
    children: VecDeque<Child>,
    /// What of the inbox stands in the journal with the entry of that number.
    taken: VecDeque<(u32, Uuid)>,
    /// Children whose success is recorded with the entry of that number.
    ended: VecDeque<(u32, EndedChild)>,
    /// Steps that begin once it is durable that they do.
    intents: Vec<Position>,
    /// How many entries are durable.
    durable: u32,
    /// How many bytes its entries have ended with, and how many entries there may be.
    bytes: usize,
    entries_max: u32,
    /// Where the end of a child belongs.
    waits_of: HashMap<JobId, Position>,
    timers: BTreeSet<(Timestamp, Position)>,
    /// Those who wait for a signal, by its name, in the order in which they came.
    listening: HashMap<String, VecDeque<Position>>,
    /// Signals that nobody has asked for yet, in the order in which they came.
    mail: VecDeque<(Uuid, String, Vec<u8>)>,
    /// Waits for signals that the code has given up: what comes for them, or has come, was not taken.
    given_up: HashSet<Position>,
    /// Signals that such a wait had, by their name and in their order: they are the next ones.
    returned: HashMap<String, BTreeMap<u32, Vec<u8>>>,
    /// Waits that were given one of those, and its place in that order.
    again: HashMap<Position, u32>,
    /// What steps have committed with their effects, and does not stand in the journal yet.
    written: HashMap<Position, (Uuid, Vec<u8>)>,
    /// Everything that has arrived and was seen, so that the same is not taken twice.
    seen: HashSet<Uuid>,
    /// Why the run can't go on.
    broken: Option<Broken>,
    /// Whether its code was told that it is called off, and whether that is written down and on its way to it.
    cancelled: bool,
    cancelling: bool,
    /// Which lines of its code hear of that later, because they were in the middle of a step.
    unheard: Unheard,
    cancel_asked: Option<(Uuid, String)>,
    /// How many bodies of steps are running.
    bodies: usize,
    /// With which entries children were started that may not be durable yet.
    started: HashMap<JobId, u32>,
    /// Children that nobody waits for any more.
    abandoned: Vec<JobId>,
    /// Those that were told that they are called off.
    told: HashSet<JobId>,
    /// Whether what had arrived before this attempt is still to be read, and whether the code wants it.
    unread: (bool, bool),
    /// Whether the code is being dropped: it has not given up what it waits for.
    closing: bool,
    /// Whether it begins nothing any more, because somebody has paused it.
    pausing: bool,
    /// The entry that says that it goes on as new: nothing is written down after it.
    over: Option<u32>,
}

/// What a future of the code waits at.
#[derive(Default)]
struct Slot {
    waker: Option<Waker>,
    outcome: Option<Outcome>,
    /// The number of the entry that has told its end.
    seq: u32,
}

/// Why a run can't go on.
#[derive(Clone, Debug)]
pub(super) enum Broken {
    /// Its code is not the code that wrote the journal.
    Diverged(Diverged),
    /// Its journal is full.
    TooLong,
}

/// Where something stands that the code asks for.
pub(super) enum Asked {
    /// It has ended like this.
    Ended(Outcome),
    /// It is under way, or its end is on its way.
    Waits,
    /// Nothing was done about it yet; what was started before, if anything.
    Fresh(Option<Start>),
}

impl Run {
    pub(super) fn new(
        client: Onceward,
        record: &Record,
        token: Token,
        clock: (Timestamp, Timestamp),
        entries: Vec<Entry>,
        session: Option<SessionId>,
    ) -> Option<Self> {
        let (waits_of, entries_are_none) = (children::open(&entries), record.token.get() == 0);
        let (generation, began) = (generation(&entries), began(&entries));
        let mut returned = HashMap::<String, BTreeMap<u32, Vec<u8>>>::new();
        for (seq, name, value) in signals(&entries) {
            returned.entry(name.to_owned()).or_default().insert(seq, value.to_vec());
        }
        let bytes = entries.iter().map(|entry| entry.phase.size()).sum();
        let replay = Replay::of(entries, super::began(record))?;
        let state = State {
            durable: replay.len(),
            bytes,
            entries_max: Self::entries_max(&client),
            replay,
            asks: false,
            slots: HashMap::new(),
            entries: VecDeque::new(),
            children: VecDeque::new(),
            taken: VecDeque::new(),
            ended: VecDeque::new(),
            intents: Vec::new(),
            waits_of,
            timers: BTreeSet::new(),
            listening: HashMap::new(),
            mail: VecDeque::new(),
            given_up: HashSet::new(),
            returned,
            again: HashMap::new(),
            written: HashMap::new(),
            seen: HashSet::new(),
            broken: None,
            cancelled: false,
            cancelling: false,
            unheard: Unheard::default(),
            cancel_asked: None,
            bodies: 0,
            started: HashMap::new(),
            abandoned: Vec::new(),
            told: HashSet::new(),
            unread: (entries_are_none, false),
            closing: false,
            pausing: false,
            over: None,
        };
        let job = JobRef { namespace: record.namespace.clone(), id: record.id };
        Some(Self {
            client,
            job,
            token,
            session,
            trace: record.trace.clone(),
            depth: record.depth,
            lines: record.lines.iter().chain(&record.ordering_key).cloned().collect(),
            kind: record.kind.clone(),
            seed: super::seed(record),
            generation,
            deadline: record.policy.deadline,
            began,
            clock,
            state: Mutex::new(state),
            report: Mutex::default(),
        })
    }

    /// Whether it only follows its journal, and begins nothing.
    fn is_dry(&self) -> bool {
        self.session.is_none()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store's clock, as far as this process can tell.
    pub(super) fn store_now(&self) -> Timestamp {
        let (at, seen_at) = self.clock;
        at.after(self.client.clock().boottime().since(seen_at))
    }

    /// What time it is for the code.
    pub(super) fn now(&self) -> Timestamp {
        self.lock().replay.now()
    }

    // What the code asks.

    /// Asks for something at a position; whoever asks is woken when there is news.
    pub(super) fn ask(&self, position: &Position, wanted: Wanted<'_>, waker: &Waker) -> Asked {
        self.ask_or_hear(position, wanted, waker, true)
    }

    /// Whether its code has made a durable call.
    pub(super) fn makes_calls(&self) -> bool {
        self.lock().asks
    }

    /// The same for what may not hear just there that the run is called off: it undoes what was done.
    pub(super) fn ask_or_hear(
        &self,
        position: &Position,
        wanted: Wanted<'_>,
        waker: &Waker,
        hears: bool,
    ) -> Asked {
        let mut state = self.lock();
        state.asks = true;
        let issued = state.issue(position, wanted);
        let Some(Issued { start, ended, is_new }) = issued else { return Asked::Waits };
        if wanted.op == Op::Continue {
            // It is refused, so that the code knows.
            state.unheard.clear();
        } else if hears && is_new && state.unheard.hears(position) {
            return Asked::Ended(cancelled());
        }
        let (live, pausing, is_over) = (state.replay.is_live(), state.pausing, state.over.is_some());
        let slot = state.slots.entry(position.clone()).or_default();
        if let Some(outcome) = slot.outcome.take() {
            // Nobody asks for it again.
            state.slots.remove(position);
            return Asked::Ended(outcome);
        }
        slot.waker = Some(waker.clone());
        // What was begun goes on, so that an intent is followed by its body.
        let begins = start.is_none();
        // Nothing is begun before the journal is followed to its end (D2).
        let waits = ended || !live || is_over || self.is_dry();
        if waits || (begins && pausing) { Asked::Waits } else { Asked::Fresh(start) }
    }

    /// Writes something down at a position.
    pub(super) fn record(&self, position: &Position, op: Op, name: &str, phase: Phase) -> u32 {
        let now = self.store_now();
        let mut state = self.lock();
        state.record(position, op, name, phase, now, self.token)
    }

    /// Has a time given to the position, once it has come.
    pub(super) fn wait_until(&self, position: &Position, due: Timestamp) {
        self.lock().timers.insert((due, position.clone()));
    }

    /// Whether what had arrived before this attempt is to be read now; once.
    pub(super) fn takes_unread(&self) -> bool {
        let mut state = self.lock();
        let takes = state.unread == (true, true);
        if takes {
            state.unread.0 = false;
        }
        takes
    }

    /// The code waits at this position no more.
    pub(super) fn leave(&self, position: &Position) {
        let mut state = self.lock();
        if !state.closing {
            state.slots.remove(position);
        }
    }

    /// The code is dropped from here on.
    pub(super) fn close(&self) {
        self.lock().closing = true;
    }

    /// Whether what was asked for at a position has ended.
    pub(super) fn has_ended(&self, position: &Position) -> bool {
        self.lock().replay.has_ended(position)
    }

    /// Whether the journal has something at a position that the code has not come by.
    pub(super) fn is_recorded(&self, position: &Position) -> bool {
        self.lock().replay.recorded_at(position).is_some()
    }

    /// Whether the step at a position has committed its value.
    pub(super) fn has_written(&self, position: &Position) -> bool {
        self.lock().written.contains_key(position)
    }

    /// Writes down what the step at a position has committed; `false` if it has committed nothing.
    pub(super) fn take_written(&self, position: &Position, name: &str) -> bool {
        let now = self.store_now();
        let mut state = self.lock();
        let Some((id, value)) = state.written.remove(position) else { return false };
        state.take(id);
        let phase = Phase::Ended(Outcome::Value(value));
        state.record(position, Op::Step, name, phase, now, self.token);
        true
    }

    /// Whether so many entries are durable.
    pub(super) fn is_durable(&self, seq: u32) -> bool {
        seq < self.lock().durable
    }

    pub(super) fn body(&self, runs: bool) {
        let mut state = self.lock();
        state.bodies = if runs { state.bodies + 1 } else { state.bodies.saturating_sub(1) };
    }

    /// Which version of the code the run has met at a position that may be new.
    pub(super) fn is_patched(&self, position: &Position, id: &str) -> bool {
        let state = self.lock();
        match state.replay.recorded_at(position) {
            Some((op, name)) => op == Op::Patch && name == id,
            None => state.replay.is_live(),
        }
    }

    /// Takes a position for a mark, which is written down the first time.
    pub(super) fn mark(&self, position: &Position, id: &str) {
        let wanted = Wanted { op: Op::Patch, name: id, input: None };
        let now = self.store_now();
        let mut state = self.lock();
        if state.issue(position, wanted).is_some_and(|issued| issued.start.is_none()) {
            state.record(position, Op::Patch, id, Phase::Started(Start::Intent), now, self.token);
        }
    }

    // What the driver does.

    /// Gives the code the next thing that has ended; `false` if there is none.
    pub(super) fn deliver(&self) -> bool {
        let mut state = self.lock();
        let durable = state.durable;
        match state.replay.deliver(durable) {
            None => false,
            Some(Delivery::End(position, outcome, seq)) => {
                state.deliver(&position, outcome, seq);
                true
            }
            Some(Delivery::Cancel) => {
                state.cancel();
                true
            }
        }
    }

    /// Wakes whatever waits for the journal to come to its end; what keeps it from that, if anything does.
    pub(super) fn go_live(&self) -> Option<Broken> {
        let mut state = self.lock();
        if state.broken.is_none() {
            state.broken = state.replay.stuck().map(Broken::Diverged);
        }
        if state.broken.is_none() && state.is_full(state.replay.len()) {
            state.broken = Some(Broken::TooLong);
        }
        state.broken.clone()
    }

    pub(super) fn is_live(&self) -> bool {
        self.lock().replay.is_live()
    }

    /// Wakes everything that waits.
    pub(super) fn wake_all(&self) {
        let wakers: Vec<Waker> =
            self.lock().slots.values_mut().filter_map(|slot| slot.waker.take()).collect();
        by_us(|| wakers.into_iter().for_each(Waker::wake));
    }

    /// Reads what has arrived, and takes note of it.
    pub(super) async fn read_arrived(&self) -> Result<(), Error> {
        let arrived = self.client.store().run_arrived(core::slice::from_ref(&self.job)).await?;
        self.arrive(arrived.into_iter().flatten().collect());
        Ok(())
    }

    /// Takes note of what has arrived.
    pub(super) fn arrive(&self, arrivals: Vec<Arrival>) {
        let now = self.store_now();
        let mut state = self.lock();
        for arrival in arrivals {
            if !state.seen.insert(arrival.id) {
                continue;
            }
            match arrival.what {
                Arrived::Child { state: how, result, error } => {
                    let outcome = outcome_of(how, result, error.as_deref());
                    let id = JobId::from_uuid(arrival.id);
                    state.child_ended(id, outcome, now, self.token);
                }
                Arrived::Signal { name, value } => state.mail.push_back((arrival.id, name, value)),
                Arrived::Cancel { reason } => {
                    state.cancel_asked.get_or_insert((arrival.id, reason));
                }
                Arrived::Step { position, value: Some(value) } => {
                    state.written.insert(position, (arrival.id, value));
                }
                // That it did not commit is of use to nobody any more.
                Arrived::Step { value: None, .. } => state.take(arrival.id),
            }
        }
        state.hand_out(now, self.token);
    }

    /// Lets the times come that have come; when the next one does.
    pub(super) fn ring(&self) -> Option<Duration> {
        let now = self.store_now();
        let mut state = self.lock();
        if !state.goes_on() {
            return None;
        }
        while state.timers.first().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, position)) = state.timers.pop_first() {
                state.time_has_come(&position, now, self.token);
            }
        }
        state.timers.first().map(|(due, _)| due.since(now))
    }

    /// Writes down that the run is called off, once its journal was followed to its end.
    pub(super) fn note_cancel(&self) {
        let now = self.store_now();
        let mut state = self.lock();
        if !state.goes_on() {
            return;
        }
        if let Some((id, reason)) = state.cancel_asked.take() {
            state.take(id);
            // Those who are told twice hear it once.
            if !state.cancelled && !state.cancelling {
                let reason = serde_json::to_vec(&reason).unwrap_or_default();
                let phase = Phase::Ended(Outcome::Value(reason));
                state.record(&Position::whole(), Op::Cancel, "", phase, now, self.token);
                state.cancelling = true;
            }
        }
    }

    /// Whether the code was told that the run is called off.
    pub(super) fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    /// Whether the run does nothing but wait.
    pub(super) fn is_waiting(&self) -> bool {
        let state = self.lock();
        let quiet = state.entries.is_empty() && state.taken.is_empty() && state.cancel_asked.is_none();
        // What is waited for besides is nothing that could wake a run which is parked.
        let awaited = !state.timers.is_empty() || !state.waits_of.is_empty() || state.listens();
        // One that is to be given back waits for nothing.
        let awaited = awaited || state.pausing;
        state.bodies == 0 && quiet && awaited
    }

    /// About how many bytes of memory it takes while it waits: what its journal says of each place, and at most what
    /// its code may have kept of it.
    pub(super) fn weight(&self) -> usize {
        let state = self.lock();
        let mail: usize = state.mail.iter().map(|(_, name, value)| name.len() + value.len()).sum();
        WEIGHT
            + WEIGHT_OF_ENTRY * usize::try_from(state.replay.len()).unwrap_or(usize::MAX)
            + state.bytes
            + mail
    }

    /// Nothing is begun from here on.
    pub(super) fn pause_begins(&self) {
        self.lock().pausing = true;
    }

    /// Whether it is to be given back as soon as nothing is under way.
    pub(super) fn is_pausing(&self) -> bool {
        self.lock().pausing
    }

    /// What the code waits for, as far as it is written down: `3 signal go, 4 sleep`.
    pub(super) fn waits_for(&self) -> String {
        let state = self.lock();
        let waits = state.slots.iter().filter(|(_, slot)| slot.waker.is_some());
        let mut waits: Vec<&Position> = waits.map(|(at, _)| at).collect();
        waits.sort_unstable();
        let said = |at: &&Position| state.replay.asked_at(at).map(|(op, name)| format!("{at} {op} {name}"));
        let said: Vec<String> =
            waits.iter().filter_map(said).map(|said| said.trim_end().to_owned()).collect();
        if said.is_empty() { "nothing that is written down".to_owned() } else { said.join(", ") }
    }

    /// When the next time comes that it waits for.
    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        self.lock().timers.first().map(|(due, _)| *due)
    }

    /// What has arrived and was not asked for.
    pub(super) fn unread(&self) -> Vec<Uuid> {
        self.lock().mail.iter().map(|(id, _, _)| *id).collect()
    }

    /// Everything that has arrived.
    pub(super) fn seen(&self) -> Vec<Uuid> {
        self.lock().seen.iter().copied().collect()
    }

    /// Whether nothing was written down since it began, as new or for the first time.
    pub(super) fn is_blank(&self) -> bool {
        self.lock().replay.len() <= self.began
    }

    /// What it shows, if that is news.
    pub(super) fn take_report(&self) -> Option<serde_json::Value> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).take_news()
    }

    /// Whether it shows something that was not written down.
    pub(super) fn has_news(&self) -> bool {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).is_news()
    }

    pub(super) fn broken(&self) -> Option<Broken> {
        self.lock().broken.clone()
    }

    /// The code has come to its end: whether it has passed over something that stands in the journal.
    pub(super) fn has_ended_early(&self) -> bool {
        let mut state = self.lock();
        if state.broken.is_none() {
            state.broken = state.replay.passed_over().map(Broken::Diverged);
        }
        state.broken.is_some()
    }
}

impl State {
    /// What the journal has at a position; nothing if it has something else there, and the run can't go on.
    fn issue(&mut self, position: &Position, wanted: Wanted<'_>) -> Option<Issued> {
        match self.replay.issue(position, wanted) {
            Ok(issued) => Some(issued),
            Err(diverged) => {
                self.broken.get_or_insert(Broken::Diverged(diverged));
                None
            }
        }
    }

    fn record(
        &mut self,
        position: &Position,
        op: Op,
        name: &str,
        phase: Phase,
        now: Timestamp,
        token: Token,
    ) -> u32 {
        if (op, &phase) == (Op::Step, &Phase::Started(Start::Intent)) {
            self.intents.push(position.clone());
        }
        let entry = self.replay.record((position, op, name), phase, now, token);
        let seq = entry.seq;
        self.bytes = self.bytes.saturating_add(entry.phase.size());
        if self.is_full(seq.saturating_add(1)) {
            self.broken.get_or_insert(Broken::TooLong);
        }
        self.entries.push_back(entry);
        seq
    }

    /// Whether a journal with so many entries has more than it may have.
    fn is_full(&self, entries: u32) -> bool {
        entries > self.entries_max || self.bytes > limits::JOURNAL_BYTES_MAX
    }

    fn listens(&self) -> bool {
        self.listening.values().any(|line| !line.is_empty())
    }

    /// Gives the code what has ended at a position with that entry, unless it has given up its wait.
    fn deliver(&mut self, position: &Position, outcome: Outcome, seq: u32) {
        if self.given_up.remove(position) {
            return;
        }
        if matches!(outcome, Outcome::Again(_)) && !self.again.contains_key(position) {
            // It was given one of those the first time: this one.
            let name = self.replay.name_at(position).unwrap_or_default();
            let first = self.returned.get_mut(name).and_then(BTreeMap::pop_first);
            self.again.extend(first.map(|(place, _)| (position.clone(), place)));
        }
        self.slots.entry(position.clone()).or_default().seq = seq;
        self.end(position, outcome);
    }

    /// Gives the code what has ended at a position.
    fn end(&mut self, position: &Position, outcome: Outcome) {
        let slot = self.slots.entry(position.clone()).or_default();
        slot.outcome.get_or_insert(outcome);
        if let Some(waker) = slot.waker.take() {
            by_us(|| waker.wake());
        }
    }

    /// Whatever the code waits for fails, and what it asks for from now on goes its usual way (D9).
    fn cancel(&mut self) {
        (self.cancelled, self.cancelling) = (true, false);
        let open = self.slots.iter().filter(|(_, slot)| slot.outcome.is_none()).map(|(at, _)| at);
        let mut open: Vec<Position> = open.cloned().collect();
        open.sort_unstable();
        // A step goes on: what it has begun is written down, and its code hears of it at what it asks for next.
        let is_step = |at: &Position| self.replay.asked_at(at).is_some_and(|(op, _)| op == Op::Step);
        let (steps, waiting): (Vec<Position>, Vec<Position>) = open.into_iter().partition(is_step);
        self.unheard = Unheard::of(waiting.clone(), steps);
        for position in waiting {
            // Those that are started from now on are there to undo what was done.
            self.abandoned.extend(self.replay.child_at(&position));
            self.end(&position, cancelled());
        }
        self.timers.clear();
        self.listening.clear();
    }

    fn time_has_come(&mut self, position: &Position, now: Timestamp, token: Token) {
        if self.replay.has_ended(position) {
            return;
        }
        let (op, name) = match self.replay.asked_at(position) {
            Some((op, name)) => (op, name.to_owned()),
            None => return,
        };
        self.listening.values_mut().for_each(|line| line.retain(|waits| waits != position));
        self.record(position, op, &name, Phase::Ended(Outcome::Due), now, token);
    }
}

/// How many entries of a journal were there when its generation began.
fn began(entries: &[Entry]) -> u32 {
    let begins = |entry: &&Entry| entry.position.is_whole() && entry.op != Op::Cancel;
    u32::try_from(entries.iter().take_while(begins).count()).unwrap_or(u32::MAX)
}

fn cancelled() -> Outcome {
    failed(&Failure::<Never>::Cancelled)
}

/// A failure as the journal keeps it.
pub(super) fn failed<E: serde::Serialize>(failure: &Failure<E>) -> Outcome {
    let written = serde_json::to_vec(failure).or_else(|error| {
        let words = format!("{}: an error can't be written as JSON: {error}", Code::StepUnwritable);
        serde_json::to_vec(&Failure::<Never>::Engine(words))
    });
    let mut written = written.unwrap_or_default();
    if written.len() > limits::RESULT_BYTES_MAX {
        let words = format!("{}: an error of {} bytes is too long", Code::StepUnwritable, written.len());
        written = serde_json::to_vec(&Failure::<Never>::Engine(words)).unwrap_or_default();
    }
    Outcome::Failed(written)
}

/// What the end of a child is for its parent.
pub(super) fn outcome_of(how: JobState, result: Option<Vec<u8>>, error: Option<&str>) -> Outcome {
    let words = || error.unwrap_or_default().to_owned();
    match (how, result) {
        (JobState::Succeeded, result) => Outcome::Value(result.unwrap_or_else(|| b"null".to_vec())),
        (JobState::Cancelled, _) => cancelled(),
        (JobState::Uncertain, _) => failed(&Failure::<Never>::Uncertain(words())),
        // How it has failed, if it has said so in our own words.
        (_, Some(bytes)) if serde_json::from_slice::<Failure<serde::de::IgnoredAny>>(&bytes).is_ok() => {
            Outcome::Failed(bytes)
        }
        _ => failed(&Failure::<Never>::Dead(words())),
    }
}

/// Reads a whole journal.
pub(crate) async fn load(client: &Onceward, run: &JobRef) -> Result<Vec<Entry>, Error> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut limit = FIRST_PAGE;
    loop {
        let from = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let page = client.inner.lanes.load(LoadRun { run: run.clone(), from, limit }).await?;
        let last = page.len() < limit;
        entries.extend(page);
        if last {
            return Ok(entries);
        }
        limit = PAGE;
    }
}
