//! Whose turn it is: no receiver takes more than its share of the worker, and one that fails is left alone (H5).
//!
//! A receiver is a URL without its query, or an endpoint. It begins with a tenth of the worker, gets twice as much
//! with each success, and half as much where it does not answer in time, down to a tenth. Receivers whose last request
//! was not answered have half of the worker together at most, with those of which nothing is known three quarters: the
//! others keep the rest. Of one host, those that have not shown that they answer have a quarter as long as the last of
//! them did not answer: whoever makes up a new path for each request of a host that hangs gets no more than that.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onceward_core::http::{Breaker, Gate};
use onceward_core::job::limit::{Bucket, Limits, Rate};
use onceward_core::{Timestamp, backoff};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// After this time a request is slow.
pub(super) const SLOW: Duration = Duration::from_secs(1);
/// How long a job waits for its turn without leaving its slot.
const WAIT: Duration = Duration::from_millis(250);
/// The pauses of jobs that are sent away until it is their turn.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How many receivers are remembered at the most, beside those that something is under way to: first those are
/// forgotten of which there is nothing to remember, then those that nobody has asked for since longest.
const PLACES: usize = 10_000;
/// So many requests may be under way to one origin however small the worker is.
const FEW: usize = 4;
/// How many origins are remembered of which nothing is under way.
const ORIGINS: usize = 10_000;
/// How much a new time counts beside the earlier ones.
const WEIGHT: u32 = 8;

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
    /// How many requests are under way to receivers that have not shown that they answer.
    doubtful: usize,
    /// How many requests under way are slow.
    slow: usize,
    /// How many jobs wait for their turn in their slots.
    waiting: usize,
}

#[derive(Default)]
struct Origin {
    doubtful: usize,
    /// Whether the last of those came to an answer.
    answers: bool,
}

impl Origin {
    /// How many may be under way of which it is doubtful that they are answered.
    fn most(&self, slots: usize) -> usize {
        let part = if self.answers { slots } else { slots / 4 };
        part.max(least(slots)).max(FEW)
    }
}

struct Place {
    breaker: Breaker,
    in_flight: usize,
    /// How many of them are slow.
    slow: usize,
    waiting: usize,
    limit: usize,
    /// Whether its last answer came in time; nothing is known before the first.
    answers: Option<bool>,
    /// How long it usually takes.
    usual: Duration,
    /// When it is the turn of the last one that was sent away.
    line: Timestamp,
    /// What is left of its rate, if it has one.
    bucket: Option<Bucket>,
    /// When somebody last asked for it.
    asked: Timestamp,
    freed: Arc<Notify>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            breaker: Breaker::default(),
            in_flight: 0,
            slow: 0,
            waiting: 0,
            limit: 0,
            answers: None,
            usual: Duration::from_millis(100),
            line: Timestamp::from_micros(0),
            bucket: None,
            asked: Timestamp::from_micros(0),
            freed: Arc::default(),
        }
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
        /// Whether it is doubtful that there will be an answer.
        doubtful: bool,
        /// Of one that others wait for: the breaker before it and after it was let through.
        probe: Option<(Breaker, Breaker)>,
    },
    Busy(Arc<Notify>),
    Later(Duration),
    Open,
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
                Asked::Go { doubtful, probe } => {
                    return Turn::Go(Pass::new(self, line, doubtful, probe));
                }
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
        let (now, slots) = (self.now(), self.slots());
        let mut state = self.lock();
        let State { places, origins, doubtful, slow, waiting } = &mut *state;
        if places.len() >= PLACES && !places.contains_key(&line.name) {
            forget(places, now);
        }
        let place = places.entry(line.name.clone()).or_default();
        place.asked = now;
        place.limit = place.limit.max(least(slots)).min(line.most.unwrap_or(usize::MAX).max(1));
        let before = place.breaker;
        let probe = match place.breaker.ask(now) {
            Gate::Wait(pause) => return Asked::Later(spread(pause.max(place.step(now)), seed)),
            Gate::Open(_) if !last => return Asked::Open,
            Gate::Probe => Some((before, place.breaker)),
            Gate::Open(_) | Gate::Go => None,
        };
        if probe.is_none() && place.in_flight >= place.limit {
            let quick = place.usual < WAIT && place.answers != Some(false);
            if patient && quick && place.waiting < 2 * place.limit.max(4) && *waiting < slots / 4 {
                place.waiting += 1;
                *waiting += 1;
                return Asked::Busy(Arc::clone(&place.freed));
            }
            return Asked::Later(place.step(now));
        }
        let full = match place.answers {
            Some(true) => false,
            Some(false) => *doubtful >= slots / 2,
            None => *doubtful >= slots - slots / 4,
        };
        let is_doubtful = place.answers != Some(true);
        let origin = origins.get(&line.origin);
        let here = origin.map_or(0, |origin| origin.doubtful);
        let most = origin.map_or_else(|| Origin::default().most(slots), |origin| origin.most(slots));
        let full = full || (is_doubtful && here >= most);
        if probe.is_none() && (full || (place.slow > 0 && *slow >= slots / 2)) {
            return Asked::Later(spread(SLOW, seed));
        }
        // A probe is one request a pause: no rate is as slow as that.
        if let Some(pause) = if probe.is_some() { None } else { place.throttled(line, now) } {
            return Asked::Later(spread(pause, seed));
        }
        *doubtful += usize::from(is_doubtful);
        place.in_flight += 1;
        if is_doubtful {
            origins.entry(line.origin.clone()).or_default().doubtful += 1;
        }
        Asked::Go { doubtful: is_doubtful, probe }
    }

    fn ended(&self, pass: &Pass) {
        let (now, slots, took) = (self.now(), self.slots(), pass.began.elapsed());
        let mut state = self.lock();
        let State { places, origins, doubtful, slow, .. } = &mut *state;
        *slow -= usize::from(pass.slow);
        *doubtful -= usize::from(pass.doubtful);
        if pass.doubtful {
            left(origins, &pass.origin, pass.went);
        }
        let Some(place) = places.get_mut(&pass.name) else { return };
        place.in_flight = place.in_flight.saturating_sub(1);
        place.slow = place.slow.saturating_sub(usize::from(pass.slow));
        if pass.went != Went::Unasked {
            place.usual = (place.usual * (WEIGHT - 1) + took) / WEIGHT;
            place.answers = Some(pass.went.is_answer());
        }
        let most = (slots - slots / 4).max(1);
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
            Went::Answered | Went::Troubled => place.limit = (place.limit * 2).min(most),
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

impl Place {
    /// When one more that is sent away may come back: after those before it.
    fn step(&mut self, now: Timestamp) -> Duration {
        let each = self.usual.max(Duration::from_millis(2)) / u32::try_from(self.limit).unwrap_or(1).max(1);
        self.line = self.line.max(now).after(each).min(now.after(PAUSE_MAX));
        self.line.since(now).clamp(PAUSE_MIN, PAUSE_MAX)
    }
}

impl Place {
    /// Takes a start out of the bucket; how long it takes until there is one, where it is empty. It begins full.
    fn throttled(&mut self, line: &Line, now: Timestamp) -> Option<Duration> {
        let Some((rate, burst)) = line.limits() else {
            self.bucket = None;
            return None;
        };
        let full = Bucket { tokens: i64::from(burst) * 1000, ..Bucket::new(now) };
        let bucket = self.bucket.unwrap_or(full).filled(rate, burst, now);
        let (taken, left) = bucket.take(1);
        self.bucket = Some(left);
        (taken == 0).then(|| left.next_in(rate).clamp(PAUSE_MIN, PAUSE_MAX))
    }

    /// Whether there is something to remember.
    fn is_told(&self, now: Timestamp) -> bool {
        !self.breaker.is_idle() || (self.bucket.is_some() && now.since(self.asked) < PAUSE_MAX)
    }
}

/// One less is under way of which it was doubtful that there is an answer.
fn left(origins: &mut HashMap<String, Origin>, name: &str, went: Went) {
    if let Some(origin) = origins.get_mut(name) {
        origin.doubtful = origin.doubtful.saturating_sub(1);
        if went != Went::Unasked {
            origin.answers = went.is_answer();
        }
        if origin.doubtful == 0 && !origin.answers {
            origins.remove(name);
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

/// Up to a quarter longer: those that were sent away together need not come back together.
fn spread(pause: Duration, seed: u64) -> Duration {
    let parts = u32::try_from(backoff::mix(seed) >> 44).unwrap_or(0); // 20 bits
    pause + (pause / 4).mul_f64(f64::from(parts) / f64::from(1_u32 << 20))
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
    doubtful: bool,
    probe: Option<(Breaker, Breaker)>,
    began: Instant,
    slow: bool,
    went: Went,
    hold: Option<Duration>,
    seed: u64,
}

impl Pass {
    fn new(gates: &Arc<Gates>, line: &Line, doubtful: bool, probe: Option<(Breaker, Breaker)>) -> Self {
        Self {
            gates: Arc::clone(gates),
            name: line.name.clone(),
            origin: line.origin.clone(),
            doubtful,
            probe,
            began: Instant::now(),
            slow: false,
            went: Went::Unasked,
            hold: None,
            seed: 0,
        }
    }

    /// It takes long.
    pub(super) fn is_slow(&mut self) {
        if !core::mem::replace(&mut self.slow, true) {
            let mut state = self.gates.lock();
            state.slow += 1;
            if let Some(place) = state.places.get_mut(&self.name) {
                place.slow += 1;
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> Line {
        Line::of(path.to_owned(), path.to_owned())
    }

    fn gates(slots: usize) -> Arc<Gates> {
        let gates = Gates::new();
        gates.slots.store(slots, Ordering::Relaxed);
        Arc::new(gates)
    }

    async fn go(gates: &Arc<Gates>, path: &str) -> Pass {
        match gates.turn(&target(path), false, 7).await {
            Turn::Go(pass) => pass,
            Turn::Later(pause) => panic!("sent away for {pause:?}"),
            Turn::Open => panic!("its breaker is open"),
        }
    }

    async fn is_sent_away(gates: &Arc<Gates>, path: &str) -> bool {
        matches!(gates.turn(&target(path), false, 7).await, Turn::Later(_))
    }

    /// H5.
    #[tokio::test(start_paused = true)]
    async fn h5_receivers_that_do_not_answer_leave_a_part_of_the_worker_to_the_others() {
        let gates = gates(20);
        go(&gates, "/good").await.end(Went::Answered, None, 1);
        go(&gates, "/late").await.end(Went::Late, None, 1);
        let mut hanging = Vec::new();
        for number in 0..15 {
            hanging.push(go(&gates, &format!("/hang/{number}")).await);
        }
        assert!(
            is_sent_away(&gates, "/hang/15").await,
            "three quarters are taken by those that nobody knows"
        );
        assert!(is_sent_away(&gates, "/late").await, "of one that did not answer, half is enough");
        let mut good = go(&gates, "/good").await;
        hanging.iter_mut().for_each(Pass::is_slow);
        good.is_slow();
        assert!(is_sent_away(&gates, "/good").await, "it has become slow itself");
        good.end(Went::Answered, None, 1);
        go(&gates, "/good").await.end(Went::Answered, None, 1);
        drop(hanging);
        {
            let state = gates.lock();
            assert_eq!((state.slow, state.doubtful), (0, 0));
        }
        go(&gates, "/late").await.end(Went::Answered, None, 1);
    }

    /// H5.
    #[tokio::test(start_paused = true)]
    async fn h5_a_receiver_begins_with_a_tenth_and_grows_with_its_answers() {
        let gates = gates(40);
        let mut first = Vec::new();
        for _ in 0..4 {
            first.push(go(&gates, "/a").await);
        }
        assert!(is_sent_away(&gates, "/a").await, "nothing is known of it yet");
        go(&gates, "/b").await.end(Went::Answered, None, 1);
        first.into_iter().for_each(|pass| pass.end(Went::Answered, None, 1));
        for _ in 0..10 {
            go(&gates, "/a").await.end(Went::Answered, None, 1);
        }
        let mut many = Vec::new();
        while let Turn::Go(pass) = gates.turn(&target("/a"), false, 7).await {
            many.push(pass);
        }
        assert_eq!(many.len(), 30, "never more than its share");
        many.into_iter().for_each(|pass| pass.end(Went::Late, None, 1));
        assert!(matches!(gates.turn(&target("/a"), false, 7).await, Turn::Open));
        // What would be the end of a job is tried all the same, within the share.
        let mut last = Vec::new();
        while let Turn::Go(pass) = gates.turn(&target("/a"), true, 7).await {
            last.push(pass);
        }
        assert_eq!(last.len(), 4);
        go(&gates, "/b").await.end(Went::Answered, None, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_quick_receiver_goes_as_soon_as_it_is_free() {
        let gates = gates(12);
        let first = go(&gates, "/a").await;
        let waits = tokio::spawn({
            let gates = Arc::clone(&gates);
            async move { go(&gates, "/a").await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        first.end(Went::Answered, None, 1);
        waits.await.unwrap().end(Went::Answered, None, 1);
        assert_eq!(gates.lock().waiting, 0);
    }

    /// N56.
    #[tokio::test(start_paused = true)]
    async fn n56_those_that_are_sent_away_come_back_one_after_the_other() {
        let gates = gates(12);
        go(&gates, "/a").await.end(Went::Late, None, 1);
        let _held = go(&gates, "/a").await;
        let mut last = Duration::ZERO;
        for number in 0..100 {
            let Turn::Later(pause) = gates.turn(&target("/a"), false, number).await else {
                panic!("it is held")
            };
            assert!(pause >= last && pause <= PAUSE_MAX, "{pause:?} after {last:?}");
            last = pause;
        }
        assert!(last >= Duration::from_secs(5), "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_gets_no_more_at_once_and_in_a_time_than_it_was_set_to() {
        let gates = gates(40);
        let most = Line { most: Some(2), ..target("/a") };
        let rate = Line { rate: Some("10/s".parse().unwrap()), ..target("/b") };
        let mut held = Vec::new();
        while let Turn::Go(pass) = gates.turn(&most, false, 7).await {
            held.push(pass);
        }
        assert_eq!(held.len(), 2);
        let mut started = 0;
        while let Turn::Go(pass) = gates.turn(&rate, false, 7).await {
            pass.end(Went::Answered, None, 1);
            started += 1;
        }
        assert_eq!(started, 10, "what the rate gives in a second, at once");
        tokio::time::sleep(Duration::from_millis(210)).await;
        for _ in 0..2 {
            assert!(matches!(gates.turn(&rate, false, 7).await, Turn::Go(_)));
        }
        assert!(matches!(gates.turn(&rate, false, 7).await, Turn::Later(_)));
    }

    /// H5: a receiver that has failed ten times is asked by one request, and if that was not sent, by the next one.
    #[tokio::test(start_paused = true)]
    async fn h5_one_probe_closes_the_breaker_and_one_that_was_not_sent_blocks_nobody() {
        let gates = gates(40);
        for _ in 0..10 {
            go(&gates, "/a").await.end(Went::Broken, None, 1);
        }
        let is_open =
            async |gates: &Arc<Gates>| matches!(gates.turn(&target("/a"), false, 7).await, Turn::Open);
        assert!(is_open(&gates).await);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let probe = go(&gates, "/a").await;
        assert!(is_open(&gates).await, "the others wait for it");
        drop(probe);
        let probe = go(&gates, "/a").await;
        probe.end(Went::Answered, None, 1);
        go(&gates, "/a").await.end(Went::Answered, None, 1);
    }

    /// However many receivers somebody makes up, and however they fail, what is remembered is bounded.
    #[tokio::test(start_paused = true)]
    async fn receivers_that_fail_do_not_fill_the_memory() {
        let gates = gates(40);
        let held = go(&gates, "/held").await;
        for number in 0..3 * PLACES {
            go(&gates, &format!("/{number}")).await.end(Went::Broken, None, 1);
            tokio::time::advance(Duration::from_micros(10)).await;
        }
        {
            let state = gates.lock();
            assert!(state.places.len() <= PLACES, "{}", state.places.len());
            assert!(state.places.contains_key("/held"), "something is under way to it");
            assert!(state.places.contains_key(&format!("/{}", 3 * PLACES - 1)), "the newest stay");
        }
        held.end(Went::Answered, None, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_asks_for_a_pause_is_left_alone() {
        let gates = gates(40);
        go(&gates, "/a").await.end(Went::Answered, Some(Duration::from_secs(30)), 1);
        let Turn::Later(pause) = gates.turn(&target("/a"), false, 7).await else { panic!("it is held") };
        assert!(pause >= Duration::from_secs(30), "{pause:?}");
        go(&gates, "/b").await.end(Went::Answered, None, 1);
        tokio::time::sleep(Duration::from_secs(31)).await;
        go(&gates, "/a").await.end(Went::Answered, None, 1);
    }

    /// H5: a host that does not answer gets no more of the worker by having many paths.
    #[tokio::test(start_paused = true)]
    async fn h5_one_host_with_many_paths_that_hang_leaves_most_of_the_worker_to_the_others() {
        let gates = gates(40);
        let at = |host: &str, path: usize| Line::of(format!("{host}/{path}"), host.to_owned());
        let take = async |line: &Line| match gates.turn(line, false, 7).await {
            Turn::Go(pass) => Some(pass),
            Turn::Later(_) | Turn::Open => None,
        };
        let mut held = Vec::new();
        for path in 0..200 {
            held.extend(take(&at("hangs", path)).await);
        }
        assert_eq!(held.len(), 10, "a quarter");
        // Another host of which nothing is known gets its part all the same, and one that answers more.
        take(&at("good", 0)).await.unwrap().end(Went::Answered, None, 1);
        let mut good = Vec::new();
        for path in 1..200 {
            good.extend(take(&at("good", path)).await);
        }
        assert_eq!(good.len(), 20, "all that is left for unknown ones: one was answered");
        good.into_iter().for_each(|pass| pass.end(Went::Answered, None, 1));
        held.into_iter().for_each(|pass| pass.end(Went::Late, None, 1));
        let state = gates.lock();
        assert_eq!((state.doubtful, state.origins.contains_key("hangs")), (0, false));
    }

    /// W69: a receiver that gets too much gets less, and none at all if it goes on saying so.
    #[tokio::test(start_paused = true)]
    async fn w69_a_receiver_that_says_it_gets_too_much_gets_less() {
        let gates = gates(40);
        for _ in 0..10 {
            go(&gates, "/a").await.end(Went::Answered, None, 1);
        }
        for _ in 0..9 {
            go(&gates, "/a").await.end(Went::Throttled, None, 1);
        }
        let mut many = Vec::new();
        while let Turn::Go(pass) = gates.turn(&target("/a"), false, 7).await {
            many.push(pass);
        }
        assert_eq!(many.len(), 4, "a tenth");
        many.into_iter().for_each(|pass| pass.end(Went::Throttled, None, 1));
        assert!(
            matches!(gates.turn(&target("/a"), false, 7).await, Turn::Open),
            "it has failed often enough"
        );
        // Whoever says for how long is taken at his word.
        for _ in 0..20 {
            go(&gates, "/b").await.end(Went::Throttled, Some(Duration::from_secs(1)), 1);
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        go(&gates, "/b").await.end(Went::Answered, None, 1);
    }

    /// A request that nobody waited for says something about its receiver only where it took long.
    #[tokio::test(start_paused = true)]
    async fn h5_a_slow_request_that_was_cut_off_counts_against_its_receiver() {
        let gates = gates(40);
        go(&gates, "/a").await.cut(1);
        assert_eq!(gates.lock().places["/a"].answers, None);
        let mut pass = go(&gates, "/a").await;
        pass.is_slow();
        pass.cut(1);
        let state = gates.lock();
        assert_eq!((state.places["/a"].answers, state.slow), (Some(false), 0));
    }
}
