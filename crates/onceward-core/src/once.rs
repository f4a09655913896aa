//! The rules of `once`: a keyed function that starts at most once, its outcome replayed, its doubts said aloud.
//!
//! ```text
//! absent ──claim──▶ running ──settle──▶ done | failed        replayed to everybody until retain_until
//!   ▲                 │ ├────settle──▶ released              proved that nothing happened: the key is free again
//!   │                 │ ├────settle──▶ uncertain             an unclassified error, a panic, a dropped future
//!   │                 │ └────time────▶ uncertain             the claim ran out, or reached its hard limit
//!   └── retain_until passed      uncertain ──late settle──▶ done | failed      while the token is still the row's
//!                                uncertain ──resolve─────▶ done | failed | released, with a new token
//!                                uncertain ──claim, restartable─▶ running, with a new token
//! ```

use core::time::Duration;

use serde::Serialize;

use crate::history::{Event, words};
use crate::lease::{as_millis, check_hard_ttl, check_ttl, clipped, in_range};
use crate::{Code, Error, Key, Namespace, Owner, Place, Result, SessionId, Timestamp, Token, limits};

words! {
    /// The state of a once key.
    State {
        /// Somebody runs the function.
        Running = "running",
        /// It finished with a result.
        Done = "done",
        /// It ended with a final failure.
        Failed = "failed",
        /// Nobody knows whether it had its effect.
        Uncertain = "uncertain",
        /// It was proved that nothing happened; the next caller runs the function.
        Released = "released",
    }
}

impl State {
    /// Whether the outcome is recorded and will be replayed.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }
}

/// The 32 bytes that stand for a request: the same key with another fingerprint is refused (O4).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl core::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…")
    }
}

/// What was recorded of an outcome: bytes and what they are.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct Body {
    /// The bytes, exactly as they were written; `None` when they were too large to keep (O13).
    #[serde(skip)]
    pub bytes: Option<Vec<u8>>,
    /// What the bytes are, for example `application/json`.
    pub content_type: String,
    /// How many bytes there were.
    pub size: u64,
}

impl Body {
    /// A body of these bytes; without them if they are more than [`limits::RESULT_BYTES_MAX`].
    pub fn new(bytes: Vec<u8>, content_type: impl Into<String>) -> Self {
        let size = bytes.len() as u64;
        let bytes = (bytes.len() <= limits::RESULT_BYTES_MAX).then_some(bytes);
        Self { bytes, content_type: content_type.into(), size }
    }
}

/// The row of a once key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// The namespace of the key.
    pub namespace: Namespace,
    /// What is to be done once.
    pub key: Key,
    /// The state as written. Ask [`Record::state_at`] for what it means now.
    pub state: State,
    /// The fencing token of the latest claim, or of the latest resolution.
    pub token: Token,
    /// Who ran or runs the function.
    pub owner: Owner,
    /// The claim attempt it was granted to.
    #[serde(skip)]
    pub session: SessionId,
    /// How often the function was started under this key.
    pub attempts: i64,
    /// What the first caller said its request was.
    #[serde(skip)]
    pub fingerprint: Option<Fingerprint>,
    /// When the latest claim began.
    pub claimed_at: Timestamp,
    /// When the claim runs out unless renewed.
    pub expires_at: Timestamp,
    /// Where renewals stop.
    pub hard_expires_at: Option<Timestamp>,
    /// The time to live each renewal gives.
    #[serde(rename = "ttl_ms", serialize_with = "as_millis")]
    pub ttl: Duration,
    /// How long the outcome is kept once there is one.
    #[serde(rename = "retain_ms", serialize_with = "as_millis")]
    pub retain: Duration,
    /// Since when nobody knows, if that was ever written. A run that was started again inherits the doubt of the run
    /// before it, and keeps it until there is an outcome.
    pub uncertain_at: Option<Timestamp>,
    /// When the outcome was recorded.
    pub finished_at: Option<Timestamp>,
    /// Until when the outcome is replayed.
    pub retain_until: Option<Timestamp>,
    /// Whether the outcome came after the claim had run out.
    pub late: bool,
    /// The result, or the failure.
    pub body: Option<Body>,
    /// Why it failed or is uncertain, for people to read.
    pub reason: Option<String>,
    /// Where the store has put the row.
    #[serde(skip)]
    pub place: Place,
}

impl Record {
    /// The state at `now`: a running row past its expiry *is* uncertain, whoever looks (O5).
    pub fn state_at(&self, now: Timestamp) -> State {
        match self.state {
            State::Running if self.expires_at <= now => State::Uncertain,
            state => state,
        }
    }

    /// Since when the row has been uncertain, if it is at `now`.
    pub fn uncertain_since(&self, now: Timestamp) -> Option<Timestamp> {
        (self.state_at(now) == State::Uncertain).then(|| self.uncertain_at.unwrap_or(self.expires_at))
    }

    /// Whether somebody ran this before the latest claim, and nobody knows what came of it.
    pub fn inherits_doubt(&self) -> bool {
        self.uncertain_at.is_some_and(|at| at <= self.claimed_at)
    }

    /// The row once somebody has seen that its claim ran out (O5).
    #[must_use]
    pub fn expired(mut self) -> Self {
        self.state = State::Uncertain;
        self.uncertain_at = Some(self.uncertain_at.unwrap_or(self.expires_at));
        self.reason = Some(EXPIRED.to_owned());
        self
    }

    /// Whether the recorded outcome is no longer replayed (O8).
    pub fn is_retired(&self, now: Timestamp) -> bool {
        self.state.is_settled() && self.retain_until.is_some_and(|until| until <= now)
    }
}

/// What a caller asks for when it wants to run a function once.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The namespace of the key.
    pub namespace: Namespace,
    /// What is to be done once.
    pub key: Key,
    /// Who asks.
    pub owner: Owner,
    /// This claim attempt. Asking again with the same session is safe: it finds its own claim.
    pub session: SessionId,
    /// How long the claim lasts without renewal.
    pub ttl: Duration,
    /// How long the function may run at most.
    pub hard_ttl: Option<Duration>,
    /// How long the outcome is kept.
    pub retain: Duration,
    /// What the request was.
    pub fingerprint: Option<Fingerprint>,
    /// Whether an uncertain key may be run again: the caller knows that doing it twice is harmless.
    pub restartable: bool,
}

/// What becomes of an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The caller runs the function; the new row, and what to write about the claim before it.
    Grant {
        /// The row to write.
        row: Box<Record>,
        /// What ended the time before, if it still has to be told.
        ended: Option<Event>,
    },
    /// The asker's own claim, made by an earlier send of the same ask whose answer was lost.
    Adopt(Box<Record>),
    /// The key was used with another request. The recorded outcome is not shown.
    Mismatch,
    /// Somebody else has it or had it: running, done, failed or uncertain as of now.
    Existing(Box<Record>),
}

/// Decides over a claim (O1, O2, O4, O5, O6, O8).
pub fn claim(row: Option<&Record>, ask: &Ask, now: Timestamp) -> Claim {
    let Some(row) = row else {
        return Claim::Grant { row: Box::new(claimed(ask, None, now)), ended: None };
    };
    if row.session == ask.session && row.state_at(now) == State::Running {
        return Claim::Adopt(Box::new(row.clone()));
    }
    let ended = match row.state_at(now) {
        State::Released => None,
        State::Done | State::Failed if row.is_retired(now) => Some(Event::Retired),
        _ if mismatched(row.fingerprint, ask.fingerprint) => return Claim::Mismatch,
        State::Uncertain if ask.restartable => Some(Event::Restarted),
        _ => return Claim::Existing(Box::new(row.clone())),
    };
    Claim::Grant { row: Box::new(claimed(ask, Some(row), now)), ended }
}

/// Two fingerprints disagree only where both sides gave one.
pub fn mismatched(recorded: Option<Fingerprint>, asked: Option<Fingerprint>) -> bool {
    matches!((recorded, asked), (Some(recorded), Some(asked)) if recorded != asked)
}

fn claimed(ask: &Ask, before: Option<&Record>, now: Timestamp) -> Record {
    let hard_expires_at = ask.hard_ttl.map(|hard| now.after(hard));
    let doubted = before.filter(|row| row.state_at(now) == State::Uncertain);
    Record {
        namespace: ask.namespace.clone(),
        key: ask.key.clone(),
        state: State::Running,
        token: Token::next(before.map(|row| row.token), now),
        owner: ask.owner.clone(),
        session: ask.session,
        attempts: before.map_or(0, |row| row.attempts) + 1,
        fingerprint: ask.fingerprint,
        claimed_at: now,
        expires_at: clipped(now, ask.ttl, hard_expires_at),
        hard_expires_at,
        ttl: ask.ttl,
        retain: ask.retain,
        // A clock that has gone back must not make the doubt look younger than this claim.
        uncertain_at: doubted.and_then(|row| row.uncertain_since(now)).map(|at| at.min(now)),
        finished_at: None,
        retain_until: None,
        late: false,
        body: None,
        reason: doubted.map(|row| row.reason.clone().unwrap_or_else(|| EXPIRED.to_owned())),
        place: Place::default(),
    }
}

/// Decides over a renewal: running, not expired, by its own token and session.
pub fn renew(row: Option<&Record>, token: Token, session: SessionId, now: Timestamp) -> crate::lease::Renew {
    match row {
        Some(row) if row.token == token && row.session == session && row.state_at(now) == State::Running => {
            crate::lease::Renew::Until(clipped(now, row.ttl, row.hard_expires_at))
        }
        _ => crate::lease::Renew::Lost,
    }
}

/// How the function ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a result.
    Done(Body),
    /// With a final failure, recorded and replayed like a result.
    Failed {
        /// The failure as data, for the caller to read back.
        body: Option<Body>,
        /// The failure in words.
        reason: String,
    },
    /// Before it did anything: the key is free again.
    NotStarted {
        /// Why it did not start.
        reason: String,
    },
    /// In a way that proves nothing: an unclassified error, a panic, a dropped future, the hard limit.
    Unknown {
        /// What happened.
        reason: String,
    },
}

impl Ending {
    /// The state this ending leaves, unless the row is in doubt for another reason: see [`leaves`].
    pub fn state(&self) -> State {
        match self {
            Self::Done(_) => State::Done,
            Self::Failed { .. } => State::Failed,
            Self::NotStarted { .. } => State::Released,
            Self::Unknown { .. } => State::Uncertain,
        }
    }

    /// The event it writes.
    pub fn event(&self) -> Event {
        match self {
            Self::Done(_) => Event::Done,
            Self::Failed { .. } => Event::Failed,
            Self::NotStarted { .. } => Event::NotStarted,
            Self::Unknown { .. } => Event::Uncertain,
        }
    }

    /// The recorded body, if there is one.
    pub fn body(&self) -> Option<&Body> {
        match self {
            Self::Done(body) => Some(body),
            Self::Failed { body, .. } => body.as_ref(),
            Self::NotStarted { .. } | Self::Unknown { .. } => None,
        }
    }

    /// The words, if there are any.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Done(_) => None,
            Self::Failed { reason, .. } | Self::NotStarted { reason } | Self::Unknown { reason } => {
                Some(reason)
            }
        }
    }
}

/// What becomes of an ending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settle {
    /// Recorded; `late` if the claim had run out before.
    Applied {
        /// Whether the claim had already run out.
        late: bool,
    },
    /// The very same token had recorded this state before: the answer to an earlier send was lost.
    Already,
    /// The row has moved on: another token, or an outcome by somebody else. Nothing was changed (O2).
    Stale,
}

/// The state an ending leaves in a row. That this run did nothing says nothing of the run before it: where that one is
/// in doubt, the key stays uncertain (O5).
pub fn leaves(row: &Record, ending: &Ending) -> State {
    match ending.state() {
        State::Released if row.inherits_doubt() => State::Uncertain,
        state => state,
    }
}

/// Decides over an ending (O2, O7): the token must still be the row's, and no outcome recorded.
pub fn settle(row: Option<&Record>, token: Token, ending: &Ending, now: Timestamp) -> Settle {
    match row {
        Some(row) if row.token == token => match row.state {
            // Doubt does not overwrite doubt: the first reason stays.
            State::Uncertain if leaves(row, ending) == State::Uncertain => Settle::Already,
            State::Running | State::Uncertain => Settle::Applied { late: row.expires_at <= now },
            state if state == ending.state() => Settle::Already,
            _ => Settle::Stale,
        },
        _ => Settle::Stale,
    }
}

/// Writes an ending into a row.
pub fn settled(row: &Record, ending: &Ending, late: bool, now: Timestamp) -> Record {
    let mut row = row.clone();
    row.state = leaves(&row, ending);
    row.late = late;
    row.body = ending.body().cloned();
    if row.state == ending.state() {
        row.reason = ending.reason().map(|reason| cut(reason, limits::REASON_BYTES_MAX));
    }
    if row.state == State::Uncertain {
        row.uncertain_at = row.uncertain_at.or(Some(now));
    } else {
        row.finished_at = Some(now);
        row.retain_until = Some(now.after(row.retain));
    }
    row
}

/// The reason written when a claim ran out without an outcome.
pub const EXPIRED: &str = "the claim ran out: its holder died, was paused, or met its hard limit";

/// How somebody settles what nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It did happen; this is its result.
    Done(Body),
    /// It did not, and shall not happen any more.
    Failed {
        /// Why.
        reason: String,
    },
    /// It did not happen: safe to run again.
    Release,
}

impl Resolution {
    /// The state it leaves.
    pub fn state(&self) -> State {
        match self {
            Self::Done(_) => State::Done,
            Self::Failed { .. } => State::Failed,
            Self::Release => State::Released,
        }
    }

    /// The event it writes.
    pub fn event(&self) -> Event {
        match self {
            Self::Done(_) => Event::ResolvedDone,
            Self::Failed { .. } => Event::ResolvedFailed,
            Self::Release => Event::ResolvedReleased,
        }
    }
}

/// What becomes of a resolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolve {
    /// Settled, under a new token, so that a late first owner is fenced (O7).
    Applied {
        /// The new token.
        token: Token,
    },
    /// The row is not uncertain: this is what it is.
    NotUncertain(State),
    /// The row is uncertain, but under another token than the one that was looked at.
    Moved(Token),
    /// There is no such key.
    Absent,
}

/// Decides over a resolution (O6): the row is uncertain now, and still the one that was looked at.
pub fn resolve(row: Option<&Record>, expect: Option<Token>, now: Timestamp) -> Resolve {
    let Some(row) = row else { return Resolve::Absent };
    match row.state_at(now) {
        State::Uncertain if expect.is_some_and(|token| token != row.token) => Resolve::Moved(row.token),
        State::Uncertain => Resolve::Applied { token: Token::next(Some(row.token), now) },
        state => Resolve::NotUncertain(state),
    }
}

impl Ask {
    /// Checks every field against [`limits`].
    ///
    /// # Errors
    /// The code of the first field that is out of bounds.
    pub fn check(&self, ttl_min: Duration) -> Result<()> {
        check_ttl(self.ttl, ttl_min)?;
        if let Some(hard) = self.hard_ttl {
            check_hard_ttl(hard, self.ttl)?;
        }
        let (min, max) = (limits::RETAIN_MIN.min(ttl_min), limits::RETAIN_MAX);
        in_range(self.retain, min, max, Code::RetainInvalid, "the retention")
    }
}

/// Checks the reason an operator gives for an action.
///
/// # Errors
/// [`Code::ReasonMissing`] when it is blank or too long.
pub fn check_reason(reason: &str) -> Result<()> {
    if reason.trim().is_empty() || reason.len() > limits::REASON_BYTES_MAX || reason.contains('\0') {
        let max = limits::REASON_BYTES_MAX;
        return Err(Error::new(Code::ReasonMissing, format!("say why, in 1 to {max} bytes")));
    }
    Ok(())
}

/// The text without NUL (which no database takes), cut to `max` bytes on a character.
pub fn cut(text: &str, max: usize) -> String {
    let mut text = text.replace('\0', "\u{fffd}");
    if text.len() > max {
        let end = (0..=max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests;
