//! The rules of triggers: what has ended enqueues something else.
//!
//! ```text
//! a job ends ──a trigger listens──▶ a row of what it hears ──a leader evaluates──▶ the row goes, a job comes
//!             in the same statement                          in one statement, under the trigger's version
//! ```
//!
//! What a trigger hears is written by the statement that ends the job, so that nothing is lost whoever dies;
//! where nobody listens that statement looks into an empty table. What follows from it is decided here, and
//! written once: the version of the trigger keeps two that evaluate the same from both doing it. The id of what
//! is enqueued follows from what was heard.
//!
//! Read in this order: [`Condition`] (what is listened to) → [`Definition`] (what then) → [`Trigger`] (its row, and
//! what follows from what it hears).

mod cause;
mod definition;
mod row;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::backoff::mix;
use crate::history::words;
use crate::job::State;
use crate::{JobId, Namespace, Timestamp, Token, TriggerName};

pub use cause::{Cause, Happened, Heard};
pub use definition::{By, Condition, Definition, Rule, Watch};
pub use row::{Fired, Last, Stopped, Trigger};

words! {
    /// What has become of a job or a run.
    #[derive(Deserialize)]
    Outcome {
        /// It has done its work.
        Succeeded = "succeeded",
        /// An attempt has failed, and another one follows.
        Failed = "failed",
        /// It has failed for good.
        Dead = "dead",
        /// Somebody has called it off.
        Cancelled = "cancelled",
        /// Nobody knows.
        Uncertain = "uncertain",
    }
}

impl Outcome {
    /// The state that a row has then.
    pub const fn state(self) -> State {
        match self {
            Self::Succeeded => State::Succeeded,
            Self::Failed => State::Retrying,
            Self::Dead => State::Dead,
            Self::Cancelled => State::Cancelled,
            Self::Uncertain => State::Uncertain,
        }
    }

    /// The outcome that has led to a state.
    pub fn of(state: State) -> Option<Self> {
        Self::ALL.iter().copied().find(|outcome| outcome.state() == state)
    }
}

/// The id of the job that follows from what was heard: the same whoever works it out. It has the form of a UUID of
/// version 8, with the time of the last of them.
pub(crate) fn job_of(
    namespace: &Namespace,
    name: &TriggerName,
    created_at: Timestamp,
    heard: &[(JobId, Token, Timestamp)],
) -> JobId {
    let texts = [namespace.as_str(), name.as_str()];
    // The length stands before each text: two pairs that join to one text are different.
    let names = texts
        .iter()
        .flat_map(|text| core::iter::once(text.len() as u64).chain(text.bytes().map(u64::from)))
        .collect::<Vec<u64>>();
    let of = |(id, token, _): &(JobId, Token, Timestamp)| {
        let (high, low) = id.as_uuid().as_u64_pair();
        [high, low, token.get().cast_unsigned()]
    };
    let hash = |salt: u64| {
        let words = names.iter().copied().chain([created_at.as_micros().cast_unsigned()]);
        words
            .chain(heard.iter().flat_map(of))
            .fold(mix(salt), |state, word| mix(state ^ word).rotate_left(23))
    };
    let at = heard.iter().map(|(_, _, at)| *at).max().unwrap_or_default();
    let millis = u64::try_from(at.as_micros() / 1_000).unwrap_or(0) & 0xffff_ffff_ffff;
    let high = (millis << 16) | 0x8000 | (hash(1) & 0xfff);
    let low = (hash(2) & 0x3fff_ffff_ffff_ffff) | (1 << 63);
    JobId::from_uuid(uuid::Uuid::from_u64_pair(high, low))
}
