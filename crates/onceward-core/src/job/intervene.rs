//! What somebody may do to a job from outside, on the row it has: call it off, run it now, say how it ended; and of the
//! run of a durable function, pause it and let it go on.

use super::{Pause, Record, State, remember};
use crate::once::{Body, cut};
use crate::{JobId, Key, Owner, Timestamp, Token, limits};

/// What somebody wants of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// It shall not run (any more).
    Cancel,
    /// It shall run now, with one more attempt if it has none left. Of an uncertain job: it did not happen.
    RunNow,
    /// It was uncertain, and did happen; this is its result.
    Done(Option<Body>),
    /// It was uncertain, and shall not happen any more.
    Dead,
    /// A run shall do nothing until it is resumed.
    Pause,
    /// A run that is paused shall go on.
    Resume,
    /// Its deadline has passed, and nobody runs it: it shall not begin any more. How a run has failed with that.
    Expire(Option<Body>),
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// The row was changed; what it was before.
    Applied {
        /// The state before.
        from: State,
    },
    /// It runs, and its worker is told at the next renewal of its session.
    Noted,
    /// It is so already.
    Unchanged,
    /// It runs; wait for its end, or cancel it.
    Running,
    /// It is a run that has begun, which may have something to undo: it is asked to end by what arrives for it (D9).
    Begun,
    /// There is no such job.
    Absent,
    /// Its state does not allow it.
    Wrong(State),
    /// It has moved on since it was looked at: this is its token now.
    Stale(Token),
    /// It would be alive again, and this one is that has its dedupe key.
    KeyTaken(JobId),
}

/// Decides (J6, J8). `seen`: the token that was looked at; `None` takes the row as it is. Where the answer is
/// [`Applied`](Moved::Applied), the row becomes what [`moved`] says.
pub fn intervene(row: Option<&Record>, seen: Option<Token>, to: &Move) -> Moved {
    let Some(row) = row else { return Moved::Absent };
    if seen.is_some_and(|seen| seen != row.token) {
        return Moved::Stale(row.token);
    }
    let state = row.state_now();
    let (pauses, is_paused) = (matches!(to, Move::Pause | Move::Resume), row.paused.is_some());
    match (state, to) {
        (State::Succeeded | State::Cancelled, _) => Moved::Wrong(state),
        // A job that is no run can't be stopped on its way; its queue can.
        _ if pauses && (state.is_final() || !row.policy.durable) => Moved::Wrong(state),
        _ if pauses && is_paused == (*to == Move::Pause) => Moved::Unchanged,
        (_, Move::Cancel) if !state.is_final() && has_begun(row) => Moved::Begun,
        (State::Running, Move::Cancel | Move::Pause | Move::Resume) => Moved::Noted,
        (State::Running, _) => Moved::Running,
        (_, Move::Expire(_)) if state.is_final() => Moved::Wrong(state),
        (_, Move::Expire(_)) => Moved::Applied { from: state },
        (_, Move::Pause | Move::Resume) => Moved::Applied { from: state },
        // None is left, and one more than there may ever be is not granted (J4).
        (_, Move::RunNow) if row.attempt >= limits::ATTEMPTS_MAX => Moved::Wrong(state),
        (_, Move::Cancel | Move::RunNow) | (State::Uncertain, _) => Moved::Applied { from: state },
        _ => Moved::Wrong(state),
    }
}

/// Whether it is a run that has done something, or goes on with what another one has done.
fn has_begun(row: &Record) -> bool {
    let goes_on = row.policy.origin.is_some_and(|origin| origin.began.is_some());
    row.policy.durable && (row.running.is_some() || row.attempted_at.is_some() || goes_on)
}

/// The dedupe key that a job takes again with what is done to it (J9): it gave that up when it ended, and is alive
/// again. Where another job has it, nothing is done, and the answer is [`KeyTaken`](Moved::KeyTaken). A key until its
/// job is started was used up if it was.
pub fn key_again<'a>(row: &'a Record, to: &Move) -> Option<&'a Key> {
    let lives_again = *to == Move::RunNow && row.state.is_final();
    let is_used_up = row.until_started && row.begun.is_some();
    row.dedupe_key.as_ref().filter(|_| lives_again && !is_used_up)
}

/// The row after an intervention that was applied. Its token is a new one: whatever was still on its way to the row as
/// it was comes too late.
pub fn moved(row: &Record, to: &Move, actor: &Owner, reason: Option<&str>, now: Timestamp) -> Record {
    let mut next = row.clone();
    next.token = Token::next(Some(row.token), now);
    next.paused = to.pause(actor, reason, now);
    if let Some(state) = to.state() {
        next.state = state;
        next.error = Some(to.note(actor, reason));
        next.finished_at = next.state.is_final().then_some(now);
    }
    match to {
        Move::RunNow => {
            // The attempt that ended the job stands in its columns, which the next one needs.
            next.past = match row.last_attempt() {
                Some(last) => remember(&row.past, last),
                None => next.past,
            };
            next.run_at = row.run_at.min(now);
            let granted = row.attempt.saturating_add(1).min(limits::ATTEMPTS_MAX);
            next.policy.max_attempts = row.policy.max_attempts.max(granted);
        }
        // What has arrived for it meanwhile has woken nobody: it looks for itself.
        Move::Resume if row.is_parked() => (next.state, next.run_at) = (State::Ready, now),
        Move::Done(result) | Move::Expire(result) => next.result.clone_from(result),
        Move::Cancel | Move::Dead | Move::Pause | Move::Resume => {}
    }
    next.set_result(next.result.clone());
    next
}

impl Move {
    /// What the row says of it: who did what, and why. Of a job that runs it is the error it is cancelled with.
    pub fn note(&self, actor: &Owner, reason: Option<&str>) -> String {
        let what = match self {
            Self::Cancel => "cancelled",
            Self::RunNow => "run again",
            Self::Done(_) => "said to be done",
            Self::Dead => "given up",
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Expire(_) => "its deadline had passed before it was started; ended",
        };
        let note = match reason {
            Some(reason) => format!("{what} by {}: {reason}", actor.as_str()),
            None => format!("{what} by {}", actor.as_str()),
        };
        cut(&note, limits::REASON_BYTES_MAX)
    }

    /// The state it leaves, if that is another one.
    pub fn state(&self) -> Option<State> {
        match self {
            Self::Cancel => Some(State::Cancelled),
            Self::RunNow => Some(State::Ready),
            Self::Done(_) => Some(State::Succeeded),
            Self::Dead | Self::Expire(_) => Some(State::Dead),
            Self::Pause | Self::Resume => None,
        }
    }

    /// What the row says of being paused from then on: whoever wants anything else of a run wants it to go on.
    pub fn pause(&self, actor: &Owner, reason: Option<&str>, now: Timestamp) -> Option<Pause> {
        let reason = || reason.map(|reason| cut(reason, limits::REASON_BYTES_MAX));
        (*self == Self::Pause).then(|| Pause { at: now, by: actor.clone(), reason: reason() })
    }
}
