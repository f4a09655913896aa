//! What somebody may do to a job from outside, on the row it has: call it off, run it now, say how it ended.

use super::{Record, State};
use crate::Token;
use crate::once::Body;

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
    /// It runs; wait for its end, or cancel it.
    Running,
    /// There is no such job.
    Absent,
    /// Its state does not allow it.
    Wrong(State),
    /// It has moved on since it was looked at: this is its token now.
    Stale(Token),
}

/// Decides (J6, J8). `seen`: the token that was looked at; `None` takes the row as it is. Where the answer is
/// [`Applied`](Moved::Applied), the row gets the state [`Move::state`] and a new token.
pub fn intervene(row: Option<&Record>, seen: Option<Token>, to: &Move) -> Moved {
    let Some(row) = row else { return Moved::Absent };
    if seen.is_some_and(|seen| seen != row.token) {
        return Moved::Stale(row.token);
    }
    let state = row.state_now();
    match (state, to) {
        (State::Succeeded | State::Cancelled, _) => Moved::Wrong(state),
        (State::Running, Move::Cancel) => Moved::Noted,
        (State::Running, _) => Moved::Running,
        (_, Move::Cancel | Move::RunNow) | (State::Uncertain, _) => Moved::Applied { from: state },
        _ => Moved::Wrong(state),
    }
}

impl Move {
    /// The state it leaves.
    pub fn state(&self) -> State {
        match self {
            Self::Cancel => State::Cancelled,
            Self::RunNow => State::Ready,
            Self::Done(_) => State::Succeeded,
            Self::Dead => State::Dead,
        }
    }
}
