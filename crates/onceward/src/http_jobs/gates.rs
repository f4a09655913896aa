//! Whose turn it is: no receiver takes more than its share of the worker, and one that fails is left alone (H5).
//!
//! A receiver is a URL without its query, or an endpoint at its URL. It begins with a tenth of the worker, gets twice
//! as much with each success, and half as much where it does not answer in time, down to a tenth. Receivers whose last
//! request was not answered have half of the worker together at most, with those of which nothing is known three
//! quarters: the others keep the rest. Of those that answered, but not just now, one request goes in any case, and more
//! only up to half of the worker: if many of them go dark together, they have little in common with those that answer.
//! Of one host, those that have not shown that they answer have a quarter as long as the last of them did not answer:
//! whoever makes up a new path for each request of a host that hangs gets no more than that.
//!
//! A request that is slow only waits: up to half as many as there are slots lend theirs to other jobs.
//!
//! Whoever is sent away joins a line, and comes back when it is his turn as far as anybody can tell (N56).

mod place;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onceward_core::Timestamp;
use onceward_core::http::{Breaker, Gate};
use onceward_core::job::limit::{Limits, Rate};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use place::{PAUSE_MAX, Pace, Place, Tail, UNKNOWN_MAX};

/// After this time a request is slow.
pub(super) const SLOW: Duration = Duration::from_secs(1);
/// How long a job waits for its turn without leaving its slot.
const WAIT: Duration = Duration::from_millis(250);
/// How many receivers are remembered at the most, beside those that something is under way to: first those are
/// forgotten of which there is nothing to remember, then those that nobody has asked for since longest.
const PLACES: usize = 10_000;
/// So many requests may be under way to one origin however small the worker is.
const FEW: usize = 4;
/// How many origins are remembered of which nothing is under way.
const ORIGINS: usize = 10_000;

/// All receivers of a delivery.
pub(super) struct Gates {
    /// How many jobs the worker runs at the same time.
    pub(super) slots: AtomicUsize,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    places: HashMap<String, Place>,
    /// By scheme, host and port: what is under way there to receivers that have not shown that they answer.
    origins: HashMap<String, Origin>,
    /// What is under way to receivers that have not just answered.
    doubt: Doubt,
    /// How many requests under way are slow, and how many of them have lent their slots.
    slow: usize,
    lent: usize,
    /// How many jobs wait for their turn in their slots.
    waiting: usize,
}

#[derive(Default)]
struct Doubt {
    count: usize,
    /// How many of them are to receivers that have not shown that they answer, and how soon those end.
    much: usize,
    pace: Pace,
    /// Those that were sent away: to receivers that do not answer, and to those that nobody knows.
    failing: Tail,
    unknown: Tail,
}

#[derive(Default)]
struct Origin {
    doubtful: usize,
    /// Whether the last of those came to an answer.
    answers: bool,
    pace: Pace,
    tail: Tail,
}

impl Origin {
    /// How many may be under way of which it is doubtful that they are answered.
    fn most(answers: bool, slots: usize) -> usize {
        let part = if answers { slots } else { slots / 4 };
        part.max(least(slots)).max(FEW)
    }
}

/// In which line a request waits: by the name of its receiver, with what that was set to.
pub(super) struct Line {
    pub(super) name: String,
    /// Scheme, host and port that it goes to.
    pub(super) origin: String,
    /// How many are under way at the same time.
    pub(super) most: Option<usize>,
    /// How many start in a time.
    pub(super) rate: Option<Rate>,
}

impl Line {
    /// One that was set to nothing.
    pub(super) fn of(name: String, origin: String) -> Self {
        Self { name, origin, most: None, rate: None }
    }

    fn limits(&self) -> Option<(Rate, u32)> {
        let limits = Limits { rate: self.rate, ..Limits::default() };
        self.rate.map(|rate| (rate, limits.burst().max(1)))
    }
}

/// What a request may do.
pub(super) enum Turn {
    /// Go.
    Go(Pass),
    /// Come back after this time.
    Later(Duration),
    /// Count it as failed: others have just failed in a row.
    Open,
}

enum Asked {
    /// Go.
    Go {
        doubt: Doubtful,
        /// Of one that others wait for: the breaker before it and after it was let through.
        probe: Option<(Breaker, Breaker)>,
    },
    Busy(Arc<Notify>),
    Later(Duration),
    Open,
}

/// Whether it is doubtful that there will be an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doubtful {
    /// The receiver has just answered.
    No,
    /// It has answered, a while ago.
    Some,
    /// It has not shown that it answers: it counts at its origin as well.
    Much,
}

/// Who asks, when, and of how many slots.
#[derive(Clone, Copy)]
struct Ask {
    now: Timestamp,
    slots: usize,
    /// Whether it is the last attempt of its job.
    last: bool,
    /// Any random number.
    seed: u64,
    /// Whether it may wait in its slot.
    patient: bool,
}

/// How an exchange went, for the receiver's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    /// It answered, whatever it said.
    Answered,
    /// It answered that it is in trouble.
    Troubled,
    /// It answered that it gets too much.
    Throttled,
    /// It could not be reached, or has broken off.
    Broken,
    /// It took too long.
    Late,
    /// It was not asked.
    Unasked,
}

impl Went {
    fn is_answer(self) -> bool {
        matches!(self, Self::Answered | Self::Troubled | Self::Throttled)
    }
}

impl Gates {
    pub(super) fn new() -> Self {
        Self { slots: AtomicUsize::new(50), began: Instant::now(), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(0).after(self.began.elapsed())
    }

    fn slots(&self) -> usize {
        self.slots.load(Ordering::Relaxed).max(2)
    }

    /// Whether it is the turn of a request. `last`: it is the last attempt of its job, which is made whatever became of
    /// those of others. `seed` is any random number.
    pub(super) async fn turn(self: &Arc<Self>, line: &Line, last: bool, seed: u64) -> Turn {
        let patience = Instant::now() + WAIT;
        loop {
            let freed = match self.ask(line, last, seed, Instant::now() < patience) {
                Asked::Go { doubt, probe } => return Turn::Go(Pass::new(self, line, doubt, probe)),
                Asked::Later(pause) => return Turn::Later(pause),
                Asked::Open => return Turn::Open,
                Asked::Busy(freed) => freed,
            };
            let waiting = Waiting { gates: self, name: &line.name };
            let _ = timeout_at(patience, freed.notified()).await;
            drop(waiting);
        }
    }

    fn ask(&self, line: &Line, last: bool, seed: u64, patient: bool) -> Asked {
        let ask = Ask { now: self.now(), slots: self.slots(), last, seed, patient };
        self.lock().ask(line, &ask)
    }

    /// A receiver begins anew: what it did wrong does not count any more.
    pub(super) fn forgive(&self, line: &Line) {
        let mut state = self.lock();
        if let Some(place) = state.places.get_mut(&line.name) {
            place.forgive();
        }
    }

    fn ended(&self, pass: &Pass) {
        let (now, slots, took) = (self.now(), self.slots(), pass.began.elapsed());
        let mut state = self.lock();
        state.leaves(pass, now, took);
        let Some(place) = state.places.get_mut(&pass.name) else { return };
        place.in_flight = place.in_flight.saturating_sub(1);
        place.slow = place.slow.saturating_sub(usize::from(pass.slow));
        if pass.went != Went::Unasked {
            place.ended(now, took, pass.went.is_answer());
        }
        match pass.went {
            Went::Answered => place.breaker.succeeded(),
            // Whoever says for how long is left alone for as long; of the others many in a row are enough.
            Went::Throttled if pass.hold.is_some() => place.breaker.succeeded(),
            Went::Troubled | Went::Throttled | Went::Broken | Went::Late => {
                place.breaker.failed(now, pass.seed);
            }
            // A probe that was not sent says nothing: unless something has happened since, the next one may go.
            Went::Unasked => {
                if let Some((before, _)) = pass.probe.filter(|(_, after)| *after == place.breaker) {
                    place.breaker = before;
                }
            }
        }
        match pass.went {
            Went::Answered | Went::Troubled => place.limit = (place.limit * 2).min(without_rest(slots)),
            Went::Throttled | Went::Broken | Went::Late => place.limit = (place.limit / 2).max(least(slots)),
            Went::Unasked => {}
        }
        if let Some(pause) = pass.hold {
            place.breaker.hold(now, pause);
        }
        let more = place.limit.saturating_sub(place.in_flight).min(place.waiting);
        (0..more).for_each(|_| place.freed.notify_one());
    }
}

impl State {
    fn ask(&mut self, line: &Line, ask: &Ask) -> Asked {
        let &Ask { now, slots, seed, .. } = ask;
        if self.places.len() >= PLACES && !self.places.contains_key(&line.name) {
            forget(&mut self.places, now);
        }
        let place = self.places.entry(line.name.clone()).or_default();
        place.asked = now;
        place.limit = place.limit.max(least(slots)).min(line.most.unwrap_or(usize::MAX).max(1));
        let before = place.breaker;
        let probe = match place.breaker.ask(now) {
            Gate::Wait(pause) => return Asked::Later(place.step(now, pause, seed)),
            Gate::Open(_) if !ask.last => return Asked::Open,
            Gate::Probe => Some((before, place.breaker)),
            Gate::Open(_) | Gate::Go => None,
        };
        let doubt = match place.answers {
            Some(true) if place.answers_now(now) => Doubtful::No,
            Some(true) => Doubtful::Some,
            _ => Doubtful::Much,
        };
        // A probe is one request a pause: no rate is as slow as that.
        if probe.is_none()
            && let Some(not_now) = self.not_now(line, ask, doubt)
        {
            return not_now;
        }
        self.enters(line, now, doubt);
        Asked::Go { doubt, probe }
    }

    /// Why a request that would go has to wait.
    fn not_now(&mut self, line: &Line, ask: &Ask, doubt: Doubtful) -> Option<Asked> {
        let &Ask { now, slots, seed, .. } = ask;
        if doubt == Doubtful::Much
            && let Some(pause) = self.is_too_doubtful(line, ask)
        {
            return Some(Asked::Later(pause));
        }
        let place = self.places.get_mut(&line.name)?;
        let gone_dark = doubt == Doubtful::Some && place.in_flight > 0 && self.doubt.count >= slots / 2;
        if place.in_flight >= place.limit || gone_dark {
            let quick = place.pace.usual < WAIT && place.answers != Some(false) && place.slow == 0;
            if ask.patient && quick && place.waiting < 2 * place.limit.max(4) && self.waiting < slots / 4 {
                place.waiting += 1;
                self.waiting += 1;
                return Some(Asked::Busy(Arc::clone(&place.freed)));
            }
            return Some(Asked::Later(place.step(now, Duration::ZERO, seed)));
        }
        if place.slow > 0 && self.slow >= slots / 2 {
            return Some(Asked::Later(place.step(now, Duration::ZERO, seed).max(SLOW)));
        }
        place.throttled(line, now, seed).map(Asked::Later)
    }

    /// When one comes back to a receiver that has not shown that it answers, while too much is under way to such ones.
    fn is_too_doubtful(&mut self, line: &Line, ask: &Ask) -> Option<Duration> {
        let &Ask { now, slots, seed, .. } = ask;
        let place = self.places.get_mut(&line.name)?;
        // Its own line, if that is the longer one.
        if place.in_flight >= place.limit {
            return None;
        }
        if let Some(origin) = self.origins.get_mut(&line.origin) {
            let most = Origin::most(origin.answers, slots);
            if origin.doubtful >= most {
                let each = origin.pace.each(now, most);
                return Some(origin.tail.join(now, each, PAUSE_MAX, seed).max(SLOW));
            }
        }
        let doubt = &mut self.doubt;
        let (most, tail, longest) = match place.answers {
            Some(_) => (slots / 2, &mut doubt.failing, PAUSE_MAX),
            None => (without_rest(slots), &mut doubt.unknown, UNKNOWN_MAX),
        };
        (doubt.count >= most).then(|| tail.join(now, doubt.pace.each(now, most), longest, seed).max(SLOW))
    }

    /// A request begins.
    fn enters(&mut self, line: &Line, now: Timestamp, doubt: Doubtful) {
        if let Some(place) = self.places.get_mut(&line.name) {
            place.begins(now);
        }
        if doubt == Doubtful::No {
            return;
        }
        self.doubt.count += 1;
        if doubt == Doubtful::Much {
            if self.doubt.much == 0 {
                self.doubt.pace.began(now);
            }
            self.doubt.much += 1;
            let origin = self.origins.entry(line.origin.clone()).or_default();
            if origin.doubtful == 0 {
                origin.pace.began(now);
            }
            origin.doubtful += 1;
        }
    }

    /// It has ended: whoever it was for, it takes nothing of the worker any more.
    fn leaves(&mut self, pass: &Pass, now: Timestamp, took: Duration) {
        self.slow = self.slow.saturating_sub(usize::from(pass.slow));
        self.lent = self.lent.saturating_sub(usize::from(pass.lent));
        if pass.doubt == Doubtful::No {
            return;
        }
        self.doubt.count = self.doubt.count.saturating_sub(1);
        if pass.doubt == Doubtful::Much {
            self.doubt.much = self.doubt.much.saturating_sub(1);
            if pass.went != Went::Unasked {
                self.doubt.pace.ended(now, took);
            }
            left(&mut self.origins, pass, now, took);
        }
    }
}

/// One less is under way of which it was doubtful that there is an answer.
fn left(origins: &mut HashMap<String, Origin>, pass: &Pass, now: Timestamp, took: Duration) {
    if let Some(origin) = origins.get_mut(&pass.origin) {
        origin.doubtful = origin.doubtful.saturating_sub(1);
        if pass.went != Went::Unasked {
            origin.answers = pass.went.is_answer();
            origin.pace.ended(now, took);
        }
        if origin.doubtful == 0 && !origin.answers {
            origins.remove(&pass.origin);
        }
    }
    if origins.len() > ORIGINS {
        origins.retain(|_, origin| origin.doubtful > 0);
    }
}

/// Makes room for others.
fn forget(places: &mut HashMap<String, Place>, now: Timestamp) {
    let is_busy = |place: &Place| place.in_flight + place.waiting > 0;
    places.retain(|_, place| is_busy(place) || place.is_told(now));
    if places.len() < PLACES {
        return;
    }
    // However many receivers fail, those that nobody asks for do not fill the memory: one half of them goes.
    let mut asked: Vec<Timestamp> =
        places.values().filter(|place| !is_busy(place)).map(|place| place.asked).collect();
    asked.sort_unstable();
    let Some(middle) = asked.get(asked.len() / 2).copied() else { return };
    let mut left = asked.len().div_ceil(2);
    places.retain(|_, place| {
        let goes = !is_busy(place) && place.asked <= middle && left > 0;
        left -= usize::from(goes);
        !goes
    });
}

/// The share of a receiver that does not answer.
fn least(slots: usize) -> usize {
    (slots / 10).max(1)
}

/// All but what is kept for those that answer: a quarter, and at least one.
fn without_rest(slots: usize) -> usize {
    slots.saturating_sub((slots / 4).max(1)).max(1)
}

/// A job that waits in its slot.
struct Waiting<'a> {
    gates: &'a Gates,
    name: &'a str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.gates.lock();
        state.waiting = state.waiting.saturating_sub(1);
        if let Some(place) = state.places.get_mut(self.name) {
            place.waiting = place.waiting.saturating_sub(1);
        }
    }
}

/// A request under way. Dropping it gives its place back.
pub(super) struct Pass {
    gates: Arc<Gates>,
    name: String,
    origin: String,
    doubt: Doubtful,
    probe: Option<(Breaker, Breaker)>,
    began: Instant,
    slow: bool,
    lent: bool,
    went: Went,
    hold: Option<Duration>,
    seed: u64,
}

impl Pass {
    fn new(gates: &Arc<Gates>, line: &Line, doubt: Doubtful, probe: Option<(Breaker, Breaker)>) -> Self {
        Self {
            gates: Arc::clone(gates),
            name: line.name.clone(),
            origin: line.origin.clone(),
            doubt,
            probe,
            began: Instant::now(),
            slow: false,
            lent: false,
            went: Went::Unasked,
            hold: None,
            seed: 0,
        }
    }

    /// It takes long; whether its job lends its slot to others until it has ended.
    pub(super) fn is_slow(&mut self) -> bool {
        if core::mem::replace(&mut self.slow, true) {
            return self.lent;
        }
        // A worker that runs one job at a time goes on to do so.
        let most = self.gates.slots.load(Ordering::Relaxed) / 2;
        let mut state = self.gates.lock();
        state.slow += 1;
        self.lent = state.lent < most;
        state.lent += usize::from(self.lent);
        if let Some(place) = state.places.get_mut(&self.name) {
            place.slow += 1;
        }
        self.lent
    }

    /// Nobody has waited for what becomes of it. That says something about the receiver only where it took long.
    pub(super) fn cut(self, seed: u64) {
        let went = if self.slow { Went::Late } else { Went::Unasked };
        self.end(went, None, seed);
    }

    /// How it went; `hold`: for how long the receiver wants to be left alone.
    pub(super) fn end(mut self, went: Went, hold: Option<Duration>, seed: u64) {
        (self.went, self.hold, self.seed) = (went, hold, seed);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gates.ended(self);
    }
}
