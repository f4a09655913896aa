//! What a journal consists of, and what arrives from outside.

use core::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use super::Position;
use super::packed::{pack, unpack};
use crate::history::words;
use crate::job::{Record, State};
use crate::{Code, JobId, Timestamp, Token};

words! {
    /// What the code has asked for.
    #[non_exhaustive]
    Op {
        /// Code that runs in the run itself, once.
        Step = "step",
        /// Another durable function, which any worker may run.
        Child = "child",
        /// A time to wait.
        Sleep = "sleep",
        /// Something from outside.
        Signal = "signal",
        /// Which version of the code the run has met here.
        Patch = "patch",
        /// Somebody has called the run off.
        Cancel = "cancel",
        /// The run goes on as new, with other arguments.
        Continue = "continue",
    }
}

/// What was started at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// A child, and what stands for its arguments.
    Child {
        /// Which run.
        id: JobId,
        /// A hash of its arguments.
        input: u64,
    },
    /// A wait until this time.
    Due(Timestamp),
    /// A step that must not run twice, or a signal that is waited for without a time.
    Intent,
}

/// How it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a value, as JSON.
    Value(Vec<u8>),
    /// With a failure, as JSON.
    Failed(Vec<u8>),
    /// The time has come.
    Due,
    /// With a signal that a wait before it had taken, and that its code did not take from there: as JSON. Of the run as
    /// a whole: a signal that it has when it goes on as new.
    Again(Vec<u8>),
}

/// One half of what happens at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It was started.
    Started(Start),
    /// It has ended.
    Ended(Outcome),
}

/// One entry of a journal. Entries are only ever added (D1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 0 and without a gap: the order in which things were written down, and in which what has ended
    /// is given to the code.
    pub seq: u32,
    /// Where in the code.
    pub position: Position,
    /// What was asked for.
    pub op: Op,
    /// What it is called.
    pub name: String,
    /// What happened.
    pub phase: Phase,
    /// When, by the store's clock as the worker knew it.
    pub at: Timestamp,
    /// The token of the attempt that wrote it.
    pub token: Token,
}

impl Phase {
    /// The word that a row keeps.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Started(Start::Child { .. }) => "child",
            Self::Started(Start::Due(_)) => "timer",
            Self::Started(Start::Intent) => "intent",
            Self::Ended(Outcome::Value(_)) => "value",
            Self::Ended(Outcome::Failed(_)) => "failed",
            Self::Ended(Outcome::Due) => "due",
            Self::Ended(Outcome::Again(_)) => "again",
        }
    }

    /// How many bytes it has ended with.
    pub fn size(&self) -> usize {
        match self {
            Self::Ended(Outcome::Value(bytes) | Outcome::Failed(bytes) | Outcome::Again(bytes)) => {
                bytes.len()
            }
            Self::Ended(Outcome::Due) | Self::Started(_) => 0,
        }
    }

    /// The bytes that a row keeps: [`data`](Self::data), compressed where that is worth it.
    pub fn row_data(&self) -> Vec<u8> {
        match self {
            Self::Ended(Outcome::Value(bytes) | Outcome::Failed(bytes) | Outcome::Again(bytes)) => {
                pack(bytes)
            }
            other => other.data(),
        }
    }

    /// What it says, in bytes.
    pub fn data(&self) -> Vec<u8> {
        match self {
            Self::Started(Start::Child { id, input }) => {
                [id.as_uuid().as_bytes().as_slice(), &input.to_be_bytes()].concat()
            }
            Self::Started(Start::Due(at)) => at.as_micros().to_be_bytes().to_vec(),
            Self::Ended(Outcome::Value(bytes) | Outcome::Failed(bytes) | Outcome::Again(bytes)) => {
                bytes.clone()
            }
            Self::Started(Start::Intent) | Self::Ended(Outcome::Due) => Vec::new(),
        }
    }

    /// Reads what a row keeps, compressed or not; `None` where a newer version has written it.
    pub fn from_row(word: &str, data: Vec<u8>) -> Option<Self> {
        Some(match word {
            "child" => {
                let (id, input) = data.split_at_checked(16)?;
                let id = JobId::from_uuid(Uuid::from_slice(id).ok()?);
                Self::Started(Start::Child { id, input: u64::from_be_bytes(input.try_into().ok()?) })
            }
            "timer" => {
                let at = i64::from_be_bytes(data.try_into().ok()?);
                Self::Started(Start::Due(Timestamp::from_micros(at)))
            }
            "intent" => Self::Started(Start::Intent),
            "value" => Self::Ended(Outcome::Value(unpack(data)?)),
            "failed" => Self::Ended(Outcome::Failed(unpack(data)?)),
            "due" => Self::Ended(Outcome::Due),
            "again" => Self::Ended(Outcome::Again(unpack(data)?)),
            _ => return None,
        })
    }
}

/// Something from outside that waits for a run to take note of it. Taking note is one commit: the journal has it, and
/// it is here no more (D6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Which one, drawn by who sent it: sending it again is safe. Of a child its own id.
    pub id: Uuid,
    /// When it came.
    pub at: Timestamp,
    /// What it is.
    pub what: Arrived,
}

/// What has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// A child has ended.
    Child {
        /// How.
        state: State,
        /// What it returned, or how it failed.
        result: Option<Vec<u8>>,
        /// What went wrong, in words.
        error: Option<String>,
    },
    /// A signal.
    Signal {
        /// What it is called.
        name: String,
        /// What it says, as JSON.
        value: Vec<u8>,
    },
    /// The run is called off.
    Cancel {
        /// Why.
        reason: String,
    },
    /// A step of it has committed a transaction with its effects, and with this.
    Step {
        /// Where it stands.
        position: Position,
        /// Its value, as JSON; `None` where it did not commit, and can't any more.
        value: Option<Vec<u8>>,
    },
}

impl Arrived {
    /// The word, the name and the bytes that a row of a signal, a cancellation or a step keeps; `None` of a child,
    /// whose row is written where it ends.
    pub fn said(&self) -> Option<(&'static str, &str, &[u8])> {
        match self {
            Self::Child { .. } => None,
            Self::Signal { name, value } => Some((Self::SIGNAL, name, value)),
            Self::Cancel { reason } => Some((Self::CANCEL, "", reason.as_bytes())),
            // JSON is never empty.
            Self::Step { position, value } => {
                Some((Self::STEP, position.as_str(), value.as_deref().unwrap_or_default()))
            }
        }
    }

    /// The word of a signal.
    pub const SIGNAL: &'static str = "signal";
    /// The word of a cancellation.
    pub const CANCEL: &'static str = "cancel";
    /// The word of a step.
    pub const STEP: &'static str = "step";

    /// Reads what a row keeps: a word of these three, or the state of a child that has ended.
    pub fn from_row(word: &str, name: String, bytes: Option<Vec<u8>>) -> Option<Self> {
        Some(match word {
            Self::SIGNAL => Self::Signal { name, value: bytes.unwrap_or_default() },
            Self::CANCEL => {
                Self::Cancel { reason: String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned() }
            }
            Self::STEP => {
                let value = bytes.filter(|bytes| !bytes.is_empty());
                Self::Step { position: Position::from_row(name), value }
            }
            word => {
                let error = Some(name).filter(|name| !name.is_empty());
                Self::Child { state: State::from_word(word)?, result: bytes, error }
            }
        })
    }
}

words! {
    /// How a run is described to people: what the job's row says, in the words of runs.
    Standing {
        /// It waits for a worker.
        Pending = "pending",
        /// A worker has it.
        Running = "running",
        /// It waits for a time, or for something from outside.
        Parked = "parked",
        /// Its code is not the code that wrote its journal: it waits for the right one.
        Stuck = "stuck",
        /// Somebody has paused it. One that still runs gives itself back first.
        Paused = "paused",
        /// It is done.
        Succeeded = "succeeded",
        /// It has failed.
        Failed = "failed",
        /// It took longer than it may in all.
        Expired = "expired",
        /// It was called off.
        Cancelled = "cancelled",
        /// Nobody knows whether it had its effect.
        Uncertain = "uncertain",
    }
}

impl Standing {
    /// How a run stands, by its row.
    pub fn of(row: &Record) -> Self {
        match row.state_now() {
            State::Running => Self::Running,
            State::Succeeded => Self::Succeeded,
            State::Dead if has_expired(row) => Self::Expired,
            State::Dead => Self::Failed,
            State::Cancelled => Self::Cancelled,
            State::Uncertain => Self::Uncertain,
            State::Scheduled | State::Ready | State::Retrying if row.paused.is_some() => Self::Paused,
            State::Scheduled if is_stuck(row) => Self::Stuck,
            State::Scheduled if row.attempted_at.is_some() => Self::Parked,
            State::Scheduled | State::Ready | State::Retrying => Self::Pending,
        }
    }
}

/// Whether it was found that this program does not go on with its journal: its code is not the code that wrote it, or
/// it holds what only a newer program can read.
pub fn is_stuck(row: &Record) -> bool {
    let codes = [Code::RunStuck, Code::JournalUnreadable];
    let says_so = |error: &str| codes.iter().any(|code| error.starts_with(code.as_str()));
    row.is_parked() && row.error.as_deref().is_some_and(says_so)
}

/// Whether it has ended because its time was over.
fn has_expired(row: &Record) -> bool {
    row.policy.deadline.is_some_and(|at| row.finished_at.is_some_and(|ended| ended >= at))
}

/// The longest time after which a run that waits for something looks by itself.
pub const PARK_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
