//! What is kept of a service: what it is set to, as one text that only these rules read, and a row per cycle.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Mode, OnMissed, Spec, cycle_of, start_of};
use crate::{Code, Error, Owner, Result, ServiceName, SessionId, Timestamp, Token, limits};

/// How far ahead of the clock the token of a leader may be.
const TOKEN_MARGIN: Duration = Duration::from_secs(1);

/// Why no new terms begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pause {
    /// Since when.
    pub at: Timestamp,
    /// Until when; none as long as it lasts.
    pub until: Option<Timestamp>,
    /// Who did it.
    pub by: Owner,
    /// Why.
    pub reason: Option<String>,
}

/// A term that somebody has asked for beside the cycles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// The how many-th.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// In which cycle that was: its row stays the same, also where cycles are counted anew since.
    pub cycle: i64,
    /// By whom.
    pub by: Owner,
}

impl Asked {
    /// Which part of its cycle it is.
    pub fn part(&self) -> String {
        format!("{ASKED}{}", self.number)
    }

    /// Whether a term is one that somebody has asked for.
    pub fn is_part(part: &str) -> bool {
        part.starts_with(ASKED)
    }
}

/// How the parts of terms that were asked for begin. The look of a store knows it as well.
const ASKED: &str = "asked-";

/// What a service is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What was declared.
    pub spec: Spec,
    /// Since when its cycles are counted: since it was declared with this interval first.
    pub since: Timestamp,
    /// What is added to the numbers of its cycles, so that they go on growing when the interval becomes longer: a
    /// number stands for one cycle for ever.
    pub first: i64,
    /// The pauses, the last one at the end. Only the newest ones are kept, as far as missed cycles are made up for.
    pub pauses: Vec<Pause>,
    /// The terms that were asked for and are not over, in their order.
    pub asked: Vec<Asked>,
    /// How many terms were asked for so far.
    pub runs: u64,
}

impl Setting {
    /// A service that is declared for the first time.
    pub fn new(spec: Spec, now: Timestamp) -> Self {
        Self { spec, since: now, first: 0, pauses: Vec::new(), asked: Vec::new(), runs: 0 }
    }

    /// The setting after another declaration; nothing where that says the same.
    pub fn declared(&self, spec: &Spec, now: Timestamp) -> Option<Self> {
        if self.spec == *spec {
            return None;
        }
        let counts_anew = (self.spec.every, self.spec.mode) != (spec.every, spec.mode);
        if !counts_anew {
            return Some(Self { spec: spec.clone(), ..self.clone() });
        }
        let next = Self { spec: spec.clone(), since: now, first: 0, ..self.clone() };
        Some(Self { first: (self.newest(now) + 1 - next.cycle_of(now)).max(0), ..next })
    }

    /// The largest number that a cycle can have by now.
    fn newest(&self, now: Timestamp) -> i64 {
        match self.spec.mode {
            // Its terms are numbered by their tokens.
            Mode::Leader => now.after(TOKEN_MARGIN).as_micros(),
            Mode::Cycle | Mode::PerRunner => self.cycle_of(now),
        }
    }

    /// In which cycle a moment lies.
    pub fn cycle_of(&self, at: Timestamp) -> i64 {
        cycle_of(at, self.spec.every) + self.first
    }

    /// When a cycle begins.
    pub fn start_of(&self, cycle: i64) -> Timestamp {
        start_of(cycle - self.first, self.spec.every)
    }

    /// The setting after a pause; nothing where it is paused.
    pub fn paused(&self, by: &Owner, reason: Option<String>, now: Timestamp) -> Option<Self> {
        let pause = Pause { at: now, until: None, by: by.clone(), reason };
        (!self.is_paused()).then(|| {
            let mut next = self.clone();
            next.forget_pauses(now);
            next.pauses.push(pause);
            next
        })
    }

    /// The setting after the end of a pause; nothing where it is not paused.
    pub fn resumed(&self, now: Timestamp) -> Option<Self> {
        let mut next = self.clone();
        next.pauses.iter_mut().rfind(|pause| pause.until.is_none())?.until = Some(now);
        Some(next)
    }

    /// Forgets pauses of which no cycle is made up for any more, and the oldest of too many.
    fn forget_pauses(&mut self, now: Timestamp) {
        let earliest = now.before(self.spec.catch_up).before(self.spec.every);
        self.pauses.retain(|pause| pause.until.is_none_or(|until| until >= earliest));
        let too_many = (self.pauses.len() + 1).saturating_sub(limits::PAUSES_MAX);
        self.pauses.drain(..too_many);
    }

    /// The setting after somebody has asked for a term.
    ///
    /// # Errors
    /// [`Code::RunsWaiting`] where as many of them wait as may.
    pub fn run_now(&self, by: &Owner, now: Timestamp) -> Result<Self> {
        if self.asked.len() >= limits::RUNS_WAITING_MAX {
            let max = limits::RUNS_WAITING_MAX;
            return Err(Error::new(Code::RunsWaiting, format!("{max} runs that were asked for still wait")));
        }
        let mut next = Self { runs: self.runs + 1, ..self.clone() };
        let cycle = if self.spec.mode == Mode::Leader { 0 } else { self.cycle_of(now) };
        next.asked.push(Asked { number: next.runs, at: now, cycle, by: by.clone() });
        Ok(next)
    }

    /// The setting after a term that was asked for is over; nothing where it was over before.
    pub fn answered(&self, part: &str) -> Option<Self> {
        let mut next = self.clone();
        next.asked.retain(|asked| asked.part() != part);
        (next.asked.len() < self.asked.len()).then_some(next)
    }

    /// Why it is paused now, if it is.
    pub fn pause(&self) -> Option<&Pause> {
        self.pauses.iter().rfind(|pause| pause.until.is_none())
    }

    /// Whether it is paused now.
    pub fn is_paused(&self) -> bool {
        self.pause().is_some()
    }

    /// The pause in which a time lies.
    pub fn paused_at(&self, at: Timestamp) -> Option<&Pause> {
        let holds = |pause: &&Pause| pause.at <= at && pause.until.is_none_or(|until| at < until);
        self.pauses.iter().rfind(holds)
    }

    /// The text that a row keeps.
    pub fn to_text(&self) -> String {
        let kept = Kept {
            mode: self.spec.mode,
            every_us: micros(self.spec.every),
            margin_us: micros(self.spec.spread_margin),
            on_missed: self.spec.on_missed,
            catch_up_us: micros(self.spec.catch_up),
            sticky: self.spec.sticky,
            since_us: self.since.as_micros(),
            first: self.first,
            // The last one alone, as programs of before know it.
            pause: self.pauses.last().map(KeptPause::of),
            pauses: self
                .pauses
                .split_last()
                .map_or(&[][..], |(_, earlier)| earlier)
                .iter()
                .map(KeptPause::of)
                .collect(),
            asked: self.asked.iter().map(KeptAsked::of).collect(),
            runs: self.runs,
        };
        serde_json::to_string(&kept).unwrap_or_default()
    }

    /// Reads what [`to_text`](Self::to_text) has written; `None` for anything else.
    pub fn from_text(text: &str) -> Option<Self> {
        let kept: Kept = serde_json::from_str(text).ok()?;
        let at = Timestamp::from_micros;
        let setting = Self {
            spec: Spec {
                mode: kept.mode,
                every: Duration::from_micros(kept.every_us),
                spread_margin: Duration::from_micros(kept.margin_us),
                on_missed: kept.on_missed,
                catch_up: Duration::from_micros(kept.catch_up_us),
                sticky: kept.sticky,
            },
            since: at(kept.since_us),
            first: kept.first,
            pauses: kept.pauses.into_iter().chain(kept.pause).map(KeptPause::read).collect(),
            asked: Vec::new(),
            runs: kept.runs,
        };
        let asked = kept.asked.into_iter().map(|asked| asked.read(&setting)).collect();
        Some(Self { asked, ..setting })
    }
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(default)]
    mode: Mode,
    every_us: u64,
    #[serde(default)]
    margin_us: u64,
    #[serde(default)]
    on_missed: OnMissed,
    catch_up_us: u64,
    #[serde(default)]
    sticky: bool,
    since_us: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    first: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pause: Option<KeptPause>,
    /// Those before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pauses: Vec<KeptPause>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    asked: Vec<KeptAsked>,
    #[serde(default, skip_serializing_if = "is_none")]
    runs: u64,
}

#[derive(Serialize, Deserialize)]
struct KeptPause {
    at_us: i64,
    until_us: Option<i64>,
    by: String,
    reason: Option<String>,
}

impl KeptPause {
    fn of(pause: &Pause) -> Self {
        Self {
            at_us: pause.at.as_micros(),
            until_us: pause.until.map(Timestamp::as_micros),
            by: pause.by.as_str().to_owned(),
            reason: pause.reason.clone(),
        }
    }

    fn read(self) -> Pause {
        let at = Timestamp::from_micros;
        let (by, reason) = (Owner::from_row(self.by), self.reason);
        Pause { at: at(self.at_us), until: self.until_us.map(at), by, reason }
    }
}

#[derive(Serialize, Deserialize)]
struct KeptAsked {
    number: u64,
    at_us: i64,
    /// Not said by programs of before.
    #[serde(default)]
    cycle: Option<i64>,
    by: String,
}

impl KeptAsked {
    fn of(asked: &Asked) -> Self {
        let by = asked.by.as_str().to_owned();
        Self { number: asked.number, at_us: asked.at.as_micros(), cycle: Some(asked.cycle), by }
    }

    fn read(self, setting: &Setting) -> Asked {
        let at = Timestamp::from_micros(self.at_us);
        let is_leader = setting.spec.mode == Mode::Leader;
        let cycle = self.cycle.unwrap_or_else(|| if is_leader { 0 } else { setting.cycle_of(at) });
        Asked { number: self.number, at, cycle, by: Owner::from_row(self.by) }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_none(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// What became of a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its term runs, as far as anybody has seen.
    Running,
    /// It ended well.
    Done,
    /// The work said that it has failed, or panicked.
    Failed,
    /// Its runner has left before the work was done; whoever comes goes on with the cycle.
    HandedOver,
    /// Its lease ran out or was broken before an end was recorded.
    Lost,
    /// Nobody began it.
    Missed,
}

impl Outcome {
    const ALL: [Self; 6] =
        [Self::Running, Self::Done, Self::Failed, Self::HandedOver, Self::Lost, Self::Missed];

    /// The outcome as written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::HandedOver => "handed_over",
            Self::Lost => "lost",
            Self::Missed => "missed",
        }
    }

    /// Reads what [`as_str`](Self::as_str) writes.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }
}

/// The row of a cycle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Term {
    /// The service.
    pub service: ServiceName,
    /// Its number. A leader's terms have their token here.
    pub cycle: i64,
    /// Empty; where a cycle may have several rows, whose or which one it is.
    pub part: String,
    /// When the cycle began.
    pub due_at: Timestamp,
    /// For how many cycles this row stands, from this one on: more than one only where they were missed.
    pub cycles: i64,
    /// The runner.
    pub session: Option<SessionId>,
    /// Who that was, for people.
    pub owner: Option<Owner>,
    /// The fencing token; 0 where there was none.
    pub token: Token,
    /// When the term began, or was recorded as missed.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why.
    pub reason: Option<String>,
}

impl Term {
    /// Whether it was run, rather than missed.
    pub fn was_begun(&self) -> bool {
        self.outcome != Outcome::Missed
    }

    /// Whether it says that cycles were missed, and says so by a clock that was ahead: then nobody knows that, and it
    /// keeps no cycle from being run. What was run was run, whatever the clock said.
    pub fn is_missed_ahead(&self, now: Timestamp) -> bool {
        !self.was_begun() && self.started_at > now.after(limits::TERMS_AHEAD_MAX)
    }

    /// How long it took, if it has ended by itself.
    pub fn took(&self) -> Option<Duration> {
        let ended = matches!(self.outcome, Outcome::Done | Outcome::Failed);
        self.ended_at.filter(|_| ended).map(|end| end.since(self.started_at))
    }
}
