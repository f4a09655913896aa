//! The rules of jobs: work that is enqueued with the caller's own commit, and then runs until it is done, dead, or
//! honestly uncertain.
//!
//! ```text
//! enqueue ──▶ scheduled ──due──▶ ready ──claim──▶ running ──settle──▶ succeeded
//!                 ▲                ▲                │ ├──────────────▶ retrying ──due──▶ ready
//!                 └────snooze──────│────────────────┤ ├──────────────▶ dead        out of attempts, or said so
//!                                  └──handed back───┘ ├──────────────▶ cancelled
//!                                  └──rescue, if its process died─────▶ ready, dead, or uncertain (at most once)
//! ```
//!
//! A job's row is written when it is enqueued and when an attempt ends; claiming it writes one row for all jobs of the
//! claim. The row holds the token of the last attempt that ended. A claim's token is larger than that of each of its
//! jobs: **a job runs under a claim as long as its row's token is smaller than the claim's**. Settling writes the
//! claim's token, rescuing a newer one; whoever comes second finds a token that is not smaller, and changes nothing
//! (J5, J7).

mod ending;
mod intervene;
pub mod keys;
pub mod limit;
mod new;
mod past;
pub mod permit;
mod retry;
mod spec;
pub mod tuning;

use core::time::Duration;

use serde::Serialize;
use uuid::Uuid;

pub use ending::{CALLED_OFF, Ended, Ending, Facts, LOST, Next, end, may_end};
pub use intervene::{Move, Moved, intervene, key_again, moved};
pub use new::{Dedupe, DedupeScope, IdempotencyKey, New, OnConflict, pushed_out};
pub use past::{Attempt, from_text as past_from_text, remember, to_text as past_to_text};
pub use retry::{Growth, Retry};
pub use spec::{Spec, may_take, route};

use crate::history::words;
use crate::http::{self, Seen};
use crate::lease::as_millis;
use crate::once::Body;
use crate::{
    ClaimId, JobId, Key, Kind, Namespace, Owner, Place, Queue, SessionId, Tag, Timestamp, Token, limits,
};

words! {
    /// The state of a job. `running` is never written: a job runs while a claim holds it.
    State {
        /// It is not due yet.
        Scheduled = "scheduled",
        /// It waits for a worker.
        Ready = "ready",
        /// A worker has it.
        Running = "running",
        /// An attempt failed, and the next one is not due yet.
        Retrying = "retrying",
        /// It is done.
        Succeeded = "succeeded",
        /// It is out of attempts, or its handler said that more of them are no use.
        Dead = "dead",
        /// Somebody called it off.
        Cancelled = "cancelled",
        /// It was to run at most once, and nobody knows whether it did.
        Uncertain = "uncertain",
    }
}

impl State {
    /// Whether nothing happens to the job any more by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Dead | Self::Cancelled | Self::Uncertain)
    }

    /// Whether the row moves to the history of finished jobs. Dead and uncertain ones still want somebody.
    pub fn is_history(self) -> bool {
        matches!(self, Self::Succeeded | Self::Cancelled)
    }

    /// Whether an idempotency key refers to the job however old the key is: it goes on, or nobody knows yet how it was.
    pub fn holds_key(self) -> bool {
        !self.is_final() || self == Self::Uncertain
    }

    /// Whether the job waits for its time.
    pub fn is_later(self) -> bool {
        matches!(self, Self::Scheduled | Self::Retrying)
    }
}

/// How a job is run: kept with each job, so that a change of code does not change what was promised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// How many attempts it has.
    pub max_attempts: u32,
    /// How long one attempt may take.
    #[serde(rename = "timeout_ms", serialize_with = "as_millis")]
    pub timeout: Duration,
    /// After this it is not started any more.
    pub deadline: Option<Timestamp>,
    /// The same from when it is enqueued on, by the clock of the store: a row has it as its
    /// [`deadline`](Self::deadline).
    #[serde(skip)]
    pub expiry: Option<Duration>,
    /// How long after it was enqueued the run of a durable function begins, for its code; at once, if nothing is said.
    #[serde(skip)]
    pub begins_after: Option<Duration>,
    /// How long to wait between attempts.
    pub retry: Retry,
    /// Whether an attempt that nobody knows the end of makes it uncertain, instead of being followed by another.
    pub at_most_once: bool,
    /// How long it is kept once it has succeeded or was cancelled; zero deletes it at once. See
    /// [`kept_for`](Self::kept_for).
    #[serde(rename = "retain_ms", serialize_with = "as_millis")]
    pub retain: Duration,
    /// Whether it is the run of a durable function: what it has done stands in its journal, so that losing its process
    /// costs it no attempt.
    pub durable: bool,
    /// What a run has in common with the one that it repeats, or was when it was taken out of another store.
    #[serde(skip)]
    pub origin: Option<Origin>,
}

/// What chance and time come from in the code of a run, so that they come out the same in another run that has its
/// journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// What its random numbers are made of.
    pub seed: Uuid,
    /// When it began, for its code; when it was enqueued, if nothing is said.
    pub began: Option<Timestamp>,
}

impl Policy {
    /// How a job is run that was enqueued at this time.
    #[must_use]
    pub fn enqueued(mut self, enqueued_at: Timestamp) -> Self {
        let expires = self.expiry.take().map(|expiry| enqueued_at.after(expiry));
        self.deadline = [self.deadline, expires].into_iter().flatten().min();
        self
    }

    /// How long the row of a job is kept once it is over. Where the answer to its enqueue got lost, that is sent again
    /// under the same id: as long as there is a row it is found, and work that runs at most once must be.
    pub fn kept_for(&self) -> Duration {
        self.kept_in(None)
    }

    /// The same in a queue that says how long jobs are kept which do not say anything else than is usual.
    pub fn kept_in(&self, queue: Option<Duration>) -> Duration {
        let usual = self.retain == limits::JOB_RETAIN_DEFAULT;
        let retain = queue.filter(|_| usual).unwrap_or(self.retain);
        if self.at_most_once { retain.max(limits::AT_MOST_ONCE_KEPT_MIN) } else { retain }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_attempts: limits::ATTEMPTS_DEFAULT,
            timeout: limits::TIMEOUT_DEFAULT,
            deadline: None,
            expiry: None,
            begins_after: None,
            retry: Retry::default(),
            at_most_once: false,
            retain: limits::JOB_RETAIN_DEFAULT,
            durable: false,
            origin: None,
        }
    }
}

/// What the bytes of a job are.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Payload {
    /// The bytes, exactly as they were given.
    pub bytes: Vec<u8>,
    /// What they are, for example `application/json`.
    pub content_type: String,
}

/// Who runs a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Running {
    /// Under which claim.
    #[serde(skip)]
    pub claim: ClaimId,
    /// In which session.
    pub session: SessionId,
    /// The token of the attempt.
    pub token: Token,
    /// Since when.
    pub since: Timestamp,
    /// Who, for people.
    pub owner: Owner,
}

/// That a run was paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pause {
    /// When.
    pub at: Timestamp,
    /// Who has done it.
    pub by: Owner,
    /// Why.
    pub reason: Option<String>,
}

/// The row of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// The namespace it belongs to.
    pub namespace: Namespace,
    /// Which one.
    pub id: JobId,
    /// What it is.
    pub kind: Kind,
    /// Where it waits.
    pub queue: Queue,
    /// The higher one goes first.
    pub priority: i16,
    /// The state as written; a job that [runs](Self::running) is written as what it was before.
    pub state: State,
    /// The token of the last attempt that ended; zero before the first.
    pub token: Token,
    /// How many attempts have ended, those that were lost included.
    pub attempt: u32,
    /// How many of them were lost with their process.
    pub lost: u32,
    /// How it is run.
    #[serde(flatten)]
    pub policy: Policy,
    /// When it was enqueued.
    pub enqueued_at: Timestamp,
    /// When it is due.
    pub run_at: Timestamp,
    /// What it is about.
    #[serde(skip)]
    pub payload: Payload,
    /// Whose jobs run one after the other.
    pub ordering_key: Option<Key>,
    /// What a worker must offer one of.
    pub tags: Vec<Tag>,
    /// What else its maker wanted to say, as JSON.
    pub metadata: Option<String>,
    /// The trace it belongs to (`traceparent`).
    pub trace: Option<String>,
    /// The job it repeats.
    pub replay_of: Option<JobId>,
    /// The first job of that line: what receivers recognise the work by (itself, unless it is a replay).
    pub root: JobId,
    /// The run that waits for it.
    pub parent: Option<JobId>,
    /// How many jobs that triggers have enqueued, each because of the one before, have led to it.
    #[serde(skip)]
    pub depth: u32,
    /// The ordering keys of the runs that wait for it, directly or not.
    #[serde(skip)]
    pub lines: Vec<Key>,
    /// Whether its dedupe key is free for others once its handler starts, which is written down therefore.
    #[serde(skip)]
    pub until_started: bool,
    /// Its dedupe key, if that lasts until its handler starts or until it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedupe_key: Option<Key>,
    /// The token under which its handler was started, if that had to be written down.
    #[serde(skip)]
    pub begun: Option<Token>,
    /// When the last attempt began.
    pub attempted_at: Option<Timestamp>,
    /// When it reached its final state.
    pub finished_at: Option<Timestamp>,
    /// Who ran the last attempt.
    pub worker: Option<Owner>,
    /// What the last attempt left in words, if it failed.
    pub error: Option<String>,
    /// What it returned.
    pub result: Option<Body>,
    /// What its handler has said on the way, as JSON: kept over its attempts, until it has succeeded or was cancelled.
    pub progress: Option<Body>,
    /// The attempts before the last one.
    #[serde(skip)]
    pub past: Vec<Attempt>,
    /// Who runs it now. Only look-ups and listings know.
    pub running: Option<Running>,
    /// That it was paused: it waits nowhere, and whoever runs it is to give it back. Only look-ups, listings, and what
    /// decides over the row know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Where the store has put the row.
    #[serde(skip)]
    pub place: Place,
}

impl Record {
    /// The row a job begins with.
    pub fn of_new(new: &New, now: Timestamp) -> Self {
        let run_at = new.due(now);
        Self {
            namespace: new.namespace.clone(),
            id: new.id,
            kind: new.kind.clone(),
            queue: new.queue.clone(),
            priority: new.priority,
            state: if run_at > now { State::Scheduled } else { State::Ready },
            token: Token::from_row(0),
            attempt: 0,
            lost: 0,
            policy: new.spec().policy.enqueued(now),
            enqueued_at: now,
            run_at,
            payload: new.payload.clone(),
            ordering_key: new.ordering_key.clone(),
            tags: new.tags.clone(),
            metadata: new.metadata.clone(),
            trace: new.trace.clone(),
            replay_of: new.replay_of,
            root: new.root,
            parent: new.parent,
            depth: new.depth,
            lines: new.lines.clone(),
            until_started: new.is_until_started(),
            dedupe_key: new.lasting_key().cloned(),
            begun: None,
            attempted_at: None,
            finished_at: None,
            worker: None,
            error: None,
            result: None,
            progress: None,
            past: Vec::new(),
            running: None,
            paused: None,
            place: Place::default(),
        }
    }

    /// Fills in what its [`Spec`] says.
    #[must_use]
    pub fn with_spec(mut self, spec: Spec) -> Self {
        self.policy = spec.policy.enqueued(self.enqueued_at);
        self.ordering_key = spec.ordering_key;
        self.tags = spec.tags;
        self.metadata = spec.metadata;
        self.trace = spec.trace;
        self.replay_of = spec.replay_of;
        self.root = spec.root.unwrap_or(self.id);
        self.parent = spec.parent;
        self.depth = spec.depth;
        self.lines = spec.lines;
        self.until_started = spec.until_started;
        self.dedupe_key = spec.dedupe_key;
        self
    }

    /// Fills in what the row keeps in one place: what the job returned, or what it has said on the way to that.
    #[must_use]
    pub fn with_said(mut self, said: Option<Body>) -> Self {
        (self.result, self.progress) =
            if self.state == State::Succeeded { (said, None) } else { (None, said) };
        self
    }

    /// What it returned, or how it has failed.
    pub fn said(&self) -> Option<&Body> {
        self.result.as_ref().or(self.progress.as_ref())
    }

    /// Writes down what an attempt has returned, after the state it has led to: what was said on the way to that is of
    /// no interest any more.
    pub fn set_result(&mut self, result: Option<Body>) {
        if self.state == State::Succeeded {
            (self.result, self.progress) = (result, None);
        } else {
            // How a run has failed stands where it has said how far it was.
            self.progress = result.or(self.progress.take()).filter(|_| !self.state.is_history());
            self.result = None;
        }
    }

    /// The state people mean: running while somebody runs it.
    pub fn state_now(&self) -> State {
        if self.running.is_some() && !self.state.is_final() { State::Running } else { self.state }
    }

    /// What deciding over the end of an attempt wants to know.
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            attempt: self.attempt,
            lost: self.lost,
            policy: &self.policy,
            state: self.state,
            past: &self.past,
        }
    }

    /// Every attempt that was charged and has ended, in order.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.past.iter().cloned().chain(self.last_attempt()).collect()
    }

    /// The attempt that ended the job, which stands in its own columns. An attempt that was followed by another, or may
    /// be, is in the past already; one that was not charged is none.
    fn last_attempt(&self) -> Option<Attempt> {
        let started_at = self.attempted_at.filter(|_| self.attempt > 0)?;
        let last = Attempt {
            number: self.attempt,
            token: self.token,
            started_at,
            finished_at: self.finished_at.unwrap_or(started_at),
            outcome: self.state.as_str().to_owned(),
            worker: self.worker.as_ref().map_or_else(String::new, |worker| worker.as_str().to_owned()),
            error: self.error.clone(),
            http: self.seen(),
        };
        Some(last).filter(|last| self.past.last().is_none_or(|before| before.number < last.number))
    }

    /// What was seen of the exchange that succeeded: the result of an HTTP job.
    fn seen(&self) -> Option<Box<Seen>> {
        let is_http = self.kind.as_str() == http::KIND && self.state == State::Succeeded;
        let bytes = self.result.as_ref().filter(|_| is_http)?.bytes.as_deref()?;
        serde_json::from_slice(bytes).ok()
    }

    /// What the row keeps beside the columns.
    pub fn spec(&self) -> Spec {
        Spec {
            policy: self.policy.clone(),
            ordering_key: self.ordering_key.clone(),
            tags: self.tags.clone(),
            metadata: self.metadata.clone(),
            trace: self.trace.clone(),
            replay_of: self.replay_of,
            root: Some(self.root).filter(|root| *root != self.id),
            until_started: self.until_started,
            dedupe_key: self.dedupe_key.clone(),
            parent: self.parent,
            depth: self.depth,
            lines: self.lines.clone(),
        }
    }

    /// Whether the start of its handler is written down before it starts.
    pub fn wants_begin(&self) -> bool {
        self.policy.at_most_once || self.until_started
    }

    /// Whether it is a run that waits in the middle of its way.
    pub fn is_parked(&self) -> bool {
        self.policy.durable && self.state == State::Scheduled && self.attempted_at.is_some()
    }

    /// Whether it is claimed by itself when somebody has it run again.
    pub fn runs_alone(&self) -> bool {
        runs_alone(&self.policy, self.lost)
    }

    /// Whether an attempt may start now.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.policy.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// A job in the hands of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The job as it was before this attempt.
    pub job: Record,
    /// The token of the attempt.
    pub token: Token,
}

impl Claimed {
    /// The number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.job.attempt.saturating_add(1)
    }
}

/// Whether a job that has lost so many attempts is claimed by itself: it may be what kills its processes (N55). A run
/// is charged with that later than other jobs.
fn runs_alone(policy: &Policy, lost: u32) -> bool {
    lost >= if policy.durable { limits::RUN_LOST_ALONE } else { 1 }
}

/// The token of a claim: larger than those of all its jobs, so that each of them grows (J3).
pub fn claim_token(jobs: impl IntoIterator<Item = Token>, now: Timestamp) -> Token {
    Token::next(jobs.into_iter().max(), now)
}

/// Whether a job still runs under a claim: nobody has settled or rescued it since.
pub fn is_running(job: Token, claim: Token) -> bool {
    job < claim
}

#[cfg(test)]
mod tests;
