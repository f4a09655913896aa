//! What a runner does next, decided from one look at the store. Two runners that decide the same do no harm: the row of
//! the cycle and the lease let one of them through.

use core::time::Duration;

use super::order::{Runner, longest, position};
use super::row::{Outcome, Pause, Setting, Term};
use super::slot::{Slot, count, slot};
use super::{Mode, OnMissed};
use crate::{SessionId, Timestamp, Token, limits};

/// The lease of the service, where somebody holds it or it is closed for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The token of the grant.
    pub token: Token,
    /// Until when nobody else gets it, unless it is given back or renewed.
    pub until: Timestamp,
    /// Whether that lies so far ahead that only a step of the store's clock explains it (N17): then it is not waited
    /// for. Whoever asks for the lease gets it, once he has seen for its whole ttl that nobody renews it.
    pub is_poisoned: bool,
}

/// One look at a service.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// The store's clock.
    pub now: Timestamp,
    /// What it is set to.
    pub setting: &'a Setting,
    /// The runners, in their [`order`](super::order).
    pub runners: &'a [Runner],
    /// The newest rows, in any order.
    pub terms: &'a [Term],
    /// Who has the lease.
    pub held: Option<Held>,
}

impl View<'_> {
    /// The lease, where it is worth waiting for its end.
    fn held(&self) -> Option<Held> {
        self.held.filter(|held| !held.is_poisoned)
    }

    /// How long it is until then; no longer than any cycle.
    fn left(&self, until: Timestamp) -> Duration {
        until.since(self.now).min(limits::INTERVAL_MAX)
    }
}

/// A term that may be begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The cycle; a leader's is the token it gets.
    pub cycle: i64,
    /// Which part of it.
    pub part: String,
    /// When the cycle began.
    pub due_at: Timestamp,
    /// From then on it is not begun any more.
    pub not_after: Timestamp,
    /// How long that is from this look on.
    pub left: Duration,
    /// How long the term has until the next one's turn comes.
    pub slot: Duration,
}

/// Cycles to be recorded as missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// The first one.
    pub cycle: i64,
    /// Which part of it.
    pub part: String,
    /// How many, from that one on.
    pub cycles: i64,
    /// When the first one began.
    pub due_at: Timestamp,
    /// Why nobody began them.
    pub reason: String,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// To begin a term.
    Begin(Begin),
    /// To look again then, or as soon as the lease becomes free if that is what is waited for.
    Look {
        /// When.
        at: Timestamp,
        /// Whether the end of a term is waited for.
        on_release: bool,
    },
}

/// What is to be done after a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Terms whose lease has gone: their cycle, part and token.
    pub lost: Vec<(i64, String, Token)>,
    /// Cycles that nobody began.
    pub missed: Vec<Miss>,
    /// What comes then.
    pub next: Next,
}

/// Why cycles were missed.
const PAUSED: &str = "paused";
const NOBODY: &str = "no runner began it";

/// Decides what the runner of `me` does.
pub fn plan(view: &View<'_>, me: SessionId) -> Plan {
    plan_after(view, me, None)
}

/// The same where its process has begun this cycle before, perhaps under a session that was lost since: of a service
/// that every runner runs it does not begin that one again.
pub fn plan_after(view: &View<'_>, me: SessionId, began: Option<i64>) -> Plan {
    let lost = |term: &&Term| {
        term.outcome == Outcome::Running && view.held.is_none_or(|held| held.token != term.token)
    };
    let lost =
        view.terms.iter().filter(lost).map(|term| (term.cycle, term.part.clone(), term.token)).collect();
    let Some(position) = position(me, view.runners) else {
        // Not in the order yet, or not any more: who is not there begins nothing (W77).
        let at = view.now.after(OUTSIDE);
        return Plan { lost, missed: Vec::new(), next: Next::Look { at, on_release: false } };
    };
    let looker = Looker { view, me, position, began };
    let (missed, next) = match view.setting.spec.mode {
        Mode::Leader => (Vec::new(), looker.lead()),
        Mode::Cycle => looker.once_per_cycle(),
        Mode::PerRunner => looker.each_once(),
    };
    Plan { lost, missed, next }
}

/// The slot of a runner in the cycle of now; none where there is no slot of its own for it.
pub fn turn_of(view: &View<'_>, runner: SessionId) -> Option<Slot> {
    turn_with(view, runner, view.setting.spec.spread_margin)
}

/// The same slot with the margin at its end.
pub fn whole_turn_of(view: &View<'_>, runner: SessionId) -> Option<Slot> {
    turn_with(view, runner, Duration::ZERO)
}

fn turn_with(view: &View<'_>, runner: SessionId, margin: Duration) -> Option<Slot> {
    let position = position(runner, view.runners)?;
    let looker = Looker { view, me: runner, position, began: None };
    match view.setting.spec.mode {
        Mode::Leader => None,
        Mode::Cycle => looker.turn_of(looker.cycle(), looker.slots(), margin),
        Mode::PerRunner => slot(position, view.runners.len(), looker.every(), margin),
    }
}

/// How soon somebody looks again who is not in the order.
const OUTSIDE: Duration = Duration::from_millis(500);

struct Looker<'a> {
    view: &'a View<'a>,
    me: SessionId,
    position: usize,
    /// The last cycle that this process has begun.
    began: Option<i64>,
}

/// What was missed.
struct Missed {
    /// What is to be recorded.
    rows: Vec<Miss>,
    /// The cycle that is still to be run for it.
    owed: Option<i64>,
    /// Whether there is more: what it is shows once these are recorded.
    more: bool,
}

impl Looker<'_> {
    fn every(&self) -> Duration {
        self.view.setting.spec.every
    }

    fn cycle(&self) -> i64 {
        self.view.setting.cycle_of(self.view.now)
    }

    fn start_of(&self, cycle: i64) -> Timestamp {
        self.view.setting.start_of(cycle)
    }

    fn begin(&self, cycle: i64, part: String, not_after: Timestamp, slot: Duration) -> Next {
        let (due_at, left) = (self.start_of(cycle), self.view.left(not_after));
        Next::Begin(Begin { cycle, part, due_at, not_after, left, slot })
    }

    fn lead(&self) -> Next {
        let spare = Duration::from_secs(1);
        let rested = self.rested();
        match self.view.held() {
            Some(held) => Next::Look { at: held.until, on_release: true },
            None if rested > self.view.now => Next::Look { at: rested, on_release: false },
            None if self.view.setting.is_paused() => {
                Next::Look { at: self.view.now.after(limits::TERM_TTL_MAX), on_release: false }
            }
            None => Next::Begin(Begin {
                cycle: 0,
                part: String::new(),
                due_at: self.view.now,
                not_after: self.view.now.after(limits::TERM_TTL_MAX + spare),
                left: limits::TERM_TTL_MAX + spare,
                slot: Duration::MAX,
            }),
        }
    }

    /// When the next leader may begin: at once after one that has left or was lost; a while after one whose work has
    /// ended, longer each time, so that work that can't go on does not wander through the cluster (A5).
    fn rested(&self) -> Timestamp {
        let mut terms: Vec<&Term> = self.terms().filter(|term| term.part.is_empty()).collect();
        terms.sort_by_key(|term| core::cmp::Reverse(term.cycle));
        let short = |term: &&&Term| term.took().is_some_and(|took| took < REST_MAX);
        let fell = u32::try_from(terms.iter().take_while(short).count()).unwrap_or(u32::MAX);
        // An end in a time that has not come was told by a clock that was ahead: it is not waited for.
        let believed = |ended: &Timestamp| *ended <= self.view.now;
        let last = terms.first().filter(|_| fell > 0).and_then(|term| term.ended_at);
        let Some(ended) = last.filter(believed) else { return self.view.now };
        ended.after(REST_MIN.saturating_mul(2_u32.saturating_pow(fell.min(20) - 1)).min(REST_MAX))
    }

    /// The first term that somebody has asked for and that is not over. A leader has nothing to run beside its term.
    fn asked(&self) -> Option<Next> {
        let asked = self.view.setting.asked.first()?;
        if self.view.setting.spec.mode == Mode::Leader {
            return None;
        }
        Some(match self.view.held() {
            Some(held) => Next::Look { at: held.until, on_release: true },
            // Of the cycle in which it was asked for: its row is the same whoever begins it, and whenever.
            None => {
                let not_after = Timestamp::from_micros(i64::MAX);
                Next::Begin(Begin {
                    cycle: asked.cycle,
                    part: asked.part(),
                    due_at: self.start_of(self.view.setting.cycle_of(asked.at)),
                    not_after,
                    left: self.view.left(not_after),
                    slot: self.every(),
                })
            }
        })
    }

    fn once_per_cycle(&self) -> (Vec<Miss>, Next) {
        let Missed { rows: missed, owed, more } = self.missed();
        if more {
            return (missed, Next::Look { at: self.view.now, on_release: false });
        }
        if let Some(asked) = self.asked() {
            return (missed, asked);
        }
        if let Some(owed) = owed.filter(|_| !self.view.setting.is_paused()) {
            let next = match self.view.held() {
                Some(held) => Next::Look { at: held.until, on_release: true },
                // It is late as it is: whoever sees it runs it.
                None => self.begin(owed, String::new(), Timestamp::from_micros(i64::MAX), self.every()),
            };
            return (missed, next);
        }
        (missed, self.this_cycle())
    }

    /// The cycle of now: whether it is my turn.
    fn this_cycle(&self) -> Next {
        let cycle = self.cycle();
        let row = self.rows().find(|term| term.covers(cycle));
        let open = row.is_none_or(|row| row.outcome == Outcome::HandedOver);
        if !open || self.view.setting.is_paused() {
            return self.wait_out(cycle, row);
        }
        let start = self.start_of(cycle);
        let (time, end) = (self.view.now.since(start), start.after(self.every()));
        let slots = self.slots();
        let mine = self.turn(cycle, slots).map(|slot| self.unhindered(slot, cycle, slots));
        // The last one is for anyone, and so is a cycle that was handed over.
        let last =
            slot(slots - 1, slots, self.every(), Duration::ZERO).map_or(Duration::ZERO, |slot| slot.start);
        let is_turn = row.is_some() || time >= last || mine.is_some_and(|slot| slot.holds(time));
        if let Some(held) = self.view.held() {
            let tries = [mine.map(|slot| slot.start), Some(last)].into_iter().flatten();
            let later = tries.filter(|start| *start > time).min().map(|at| start.after(at));
            let at = if is_turn { held.until.min(end) } else { later.unwrap_or(end) };
            return Next::Look { at: at.max(self.view.now.after(SOON)), on_release: is_turn };
        }
        if is_turn {
            let size = mine.map_or(self.every() / u32::try_from(slots).unwrap_or(u32::MAX), Slot::size);
            return self.begin(cycle, String::new(), end, size);
        }
        let at = mine.map(|slot| slot.start).filter(|start| *start > time).unwrap_or(last);
        Next::Look { at: start.after(at), on_release: false }
    }

    /// Waits for the next cycle. A term that runs may be handed over, and who is to go on with it may not hear of that:
    /// so he looks again when its lease would have run out.
    fn wait_out(&self, cycle: i64, row: Option<&Term>) -> Next {
        let next = self.look_in(cycle + 1);
        let runs = row.is_some_and(|row| row.outcome == Outcome::Running);
        match (next, self.view.held().filter(|_| runs)) {
            (Next::Look { at, .. }, Some(held)) => {
                Next::Look { at: at.min(held.until).max(self.view.now.after(SOON)), on_release: false }
            }
            (next, _) => next,
        }
    }

    /// A slot in which a term of another cycle was still running: it lasts as long as it would without a margin,
    /// so that who was kept from his turn has it then, and not the quickest of all in the last slot.
    fn unhindered(&self, slot: Slot, cycle: i64, slots: usize) -> Slot {
        let begins = self.start_of(cycle).after(slot.start);
        let hinders = |term: &Term| {
            term.cycle != cycle && term.was_begun() && term.ended_at.is_none_or(|ended| ended > begins)
        };
        let kept = self.view.terms.iter().any(hinders);
        let roomy = self.turn_of(cycle, slots, Duration::ZERO).filter(|_| kept);
        roomy.unwrap_or(slot)
    }

    /// How many slots a cycle has.
    fn slots(&self) -> usize {
        let spec = &self.view.setting.spec;
        // How long terms took before the interval or the mode was another says nothing of these.
        let since = self.since();
        let of_this = self.view.terms.iter().filter(|term| term.cycle >= since);
        let longest = longest(of_this.filter_map(Term::took));
        count(self.view.runners.len(), spec.every, spec.spread_margin, longest)
    }

    /// My slot in a cycle. The first one is the turn of another runner in every cycle; of the runner of the last term
    /// where the service is sticky.
    fn turn(&self, cycle: i64, slots: usize) -> Option<Slot> {
        self.turn_of(cycle, slots, self.view.setting.spec.spread_margin)
    }

    fn turn_of(&self, cycle: i64, slots: usize, margin: Duration) -> Option<Slot> {
        let runners = i64::try_from(self.view.runners.len()).unwrap_or(i64::MAX);
        let mine = i64::try_from(self.position).unwrap_or(0);
        let mut place = usize::try_from((mine - cycle).rem_euclid(runners)).unwrap_or(0);
        if let Some(first) = self.stuck().filter(|_| self.view.setting.spec.sticky) {
            let theirs = i64::try_from(first).unwrap_or(0);
            let theirs = usize::try_from((theirs - cycle).rem_euclid(runners)).unwrap_or(0);
            place = if first == self.position { 0 } else { place + usize::from(place < theirs) };
        }
        slot(place, slots, self.every(), margin)
    }

    /// The place of the runner of the last term.
    fn stuck(&self) -> Option<usize> {
        let last = self.rows().filter(|term| term.was_begun()).max_by_key(|term| term.cycle)?;
        position(last.session?, self.view.runners)
    }

    /// The rows of the cycles, since they are counted with this interval.
    fn rows(&self) -> impl Iterator<Item = &Term> {
        let since = self.since();
        self.terms().filter(move |term| term.part.is_empty() && term.cycle >= since)
    }

    /// The rows that are believed.
    fn terms(&self) -> impl Iterator<Item = &Term> {
        let now = self.view.now;
        self.view.terms.iter().filter(move |term| !term.is_missed_ahead(now))
    }

    /// The first cycle that counts; a time that has not come was told by a clock that was wrong.
    fn since(&self) -> i64 {
        self.view.setting.cycle_of(self.view.setting.since.min(self.view.now))
    }

    /// A look in a cycle to come: in my slot.
    fn look_in(&self, cycle: i64) -> Next {
        let slots = self.slots();
        let last = slot(slots - 1, slots, self.every(), Duration::ZERO);
        let time = self.turn(cycle, slots).or(last).map_or(Duration::ZERO, |slot| slot.start);
        Next::Look { at: self.start_of(cycle).after(time), on_release: false }
    }

    /// What was missed before this cycle and is to be recorded, and the cycle that is still to be run for it.
    fn missed(&self) -> Missed {
        let (setting, now) = (self.view.setting, self.cycle());
        let from = self.rows().map(|term| term.cycle.saturating_add(term.cycles)).max();
        let from = from.unwrap_or(i64::MIN).max(self.since());
        let (open, owed) = match setting.spec.on_missed {
            OnMissed::Skip => (None, None),
            OnMissed::One => {
                let open = self.last_owed(from, now);
                (open, open.or_else(|| self.left_behind(from - 1, now)))
            }
            OnMissed::All => {
                let open = self.first_owed(from, now);
                (open, self.left_behind(i64::MIN, now).or(open))
            }
        };
        let until = open.unwrap_or(now);
        // One by one: each of these rows keeps a late runner from its cycle, and is kept away by one that was not.
        // What lies further back is one row, which is written first and alone: another looker's may reach less far or
        // further, and the rest has to begin where the one ends that was first.
        let near = from.max(until.saturating_sub(limits::MISSED_CYCLES_MAX));
        if near > from {
            return Missed { rows: vec![self.miss(from, near - from, self.why(from))], owed, more: true };
        }
        let rows = (near..until).map(|cycle| self.miss(cycle, 1, self.why(cycle))).collect();
        Missed { rows, owed, more: false }
    }

    /// The first of these cycles that was handed over and that nobody went on with before its end: it is made up for
    /// like one that was missed.
    fn left_behind(&self, from: i64, now: i64) -> Option<i64> {
        let left = self.rows().filter(|term| term.outcome == Outcome::HandedOver).map(|term| term.cycle);
        let is_owed = |cycle: &i64| {
            (from..now).contains(cycle) && self.within(*cycle) == *cycle && !self.paused_in(*cycle)
        };
        left.filter(is_owed).min()
    }

    /// The first of these cycles that is to be made up for: in the window, and not of a pause.
    fn first_owed(&self, from: i64, now: i64) -> Option<i64> {
        let mut open = self.within(from);
        // Past one pause after the other.
        while let Some(pause) = self.pause_in(open).filter(|_| open < now) {
            open = self.view.setting.cycle_of(pause.until?).max(open + 1);
        }
        Some(open).filter(|cycle| *cycle < now)
    }

    /// The last of these cycles that is to be made up for.
    fn last_owed(&self, from: i64, now: i64) -> Option<i64> {
        let (mut open, first) = (now - 1, self.within(from));
        while let Some(pause) = self.pause_in(open).filter(|_| open >= first) {
            open = self.view.setting.cycle_of(pause.at).min(open - 1);
        }
        Some(open).filter(|cycle| *cycle >= first)
    }

    /// The first cycle from this one on whose end lies in the window for making up.
    fn within(&self, from: i64) -> i64 {
        let earliest = self.view.now.before(self.view.setting.spec.catch_up);
        from.max(self.view.setting.cycle_of(earliest))
    }

    fn miss(&self, cycle: i64, cycles: i64, reason: String) -> Miss {
        Miss { cycle, part: String::new(), cycles, due_at: self.start_of(cycle), reason }
    }

    fn paused_in(&self, cycle: i64) -> bool {
        self.pause_in(cycle).is_some()
    }

    fn pause_in(&self, cycle: i64) -> Option<&Pause> {
        // At its end: until then it could have been begun.
        let end = self.start_of(cycle).after(self.every());
        self.view.setting.paused_at(end.before(Duration::from_micros(1)))
    }

    fn why(&self, cycle: i64) -> String {
        if self.paused_in(cycle) {
            return PAUSED.to_owned();
        }
        let start = self.start_of(cycle);
        let end = start.after(self.every());
        let over = |term: &&Term| {
            term.was_begun() && term.started_at < end && term.ended_at.is_none_or(|ended| ended > start)
        };
        match self.view.terms.iter().filter(over).max_by_key(|term| term.cycle) {
            Some(term) => format!("the term of cycle {} was still running", term.cycle),
            None => NOBODY.to_owned(),
        }
    }

    /// As the seed does it: each runner in its own slot of each cycle.
    fn each_once(&self) -> (Vec<Miss>, Next) {
        if let Some(asked) = self.asked() {
            return (Vec::new(), asked);
        }
        let (cycle, part) = (self.cycle(), self.me.to_string());
        let slot =
            slot(self.position, self.view.runners.len(), self.every(), self.view.setting.spec.spread_margin);
        let slot = slot.unwrap_or(Slot { start: Duration::ZERO, end: self.every() });
        let start = self.start_of(cycle);
        let time = self.view.now.since(start);
        let next = |cycle| Next::Look { at: self.start_of(cycle).after(slot.start), on_release: false };
        let row = self.terms().find(|term| term.part == part && term.cycle == cycle);
        let over = row.is_some() || self.has_begun(cycle) || self.view.setting.is_paused();
        let mut missed = self.missed_of(&part, cycle);
        if !over && time >= slot.end {
            // Who came after his slot had begun has his first one in the next cycle, and has missed none.
            if self.came_at() <= start.after(slot.start) {
                let reason = if self.view.held.is_some() { "another term was still running" } else { NOBODY };
                missed.push(Miss { part, ..self.miss(cycle, 1, reason.to_owned()) });
            }
            return (missed, next(cycle + 1));
        }
        let next = match self.view.held() {
            _ if over => next(cycle + 1),
            _ if time < slot.start => next(cycle),
            Some(held) => Next::Look {
                at: held.until.min(start.after(slot.end)).max(self.view.now.after(SOON)),
                on_release: true,
            },
            None => self.begin(cycle, part, start.after(slot.end), slot.size()),
        };
        (missed, next)
    }

    /// Whether this process has begun the cycle, under whatever session. A later one that it has begun says nothing of
    /// this one: the clock was ahead then.
    fn has_begun(&self, cycle: i64) -> bool {
        self.began == Some(cycle)
    }

    /// When this runner came.
    fn came_at(&self) -> Timestamp {
        self.view.runners.get(self.position).map_or(self.view.now, |runner| runner.started_at)
    }

    /// The cycles before this one that passed without a term of this runner although it was there: it was stopped for a
    /// while, or the service was paused.
    fn missed_of(&self, part: &str, now: i64) -> Vec<Miss> {
        let mine = self.terms().filter(|term| term.part == part);
        let after_last = mine.map(|term| term.cycle.saturating_add(term.cycles)).max();
        let came = self.view.setting.cycle_of(self.came_at()) + 1;
        let began =
            self.began.filter(|began| *began <= now).map_or(i64::MIN, |began| began.saturating_add(1));
        let from = after_last.unwrap_or(came).max(began).max(self.since());
        let near = from.max(now.saturating_sub(limits::MISSED_CYCLES_MAX));
        let miss = |cycle, cycles| {
            let reason = if self.paused_in(cycle) { PAUSED } else { NOBODY };
            Miss { part: part.to_owned(), ..self.miss(cycle, cycles, reason.to_owned()) }
        };
        let far = (near > from).then(|| miss(from, near - from));
        far.into_iter().chain((near..now).map(|cycle| miss(cycle, 1))).collect()
    }
}

/// How long nobody leads after a leader's work has ended by itself, at first and at most.
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);

/// The least time between two looks of who waits for a lease that should have run out.
const SOON: Duration = Duration::from_millis(20);

impl Term {
    fn covers(&self, cycle: i64) -> bool {
        (self.cycle..self.cycle.saturating_add(self.cycles)).contains(&cycle)
    }
}
