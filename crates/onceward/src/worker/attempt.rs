//! What the worker knows of a job it has claimed, and how it is told to stop.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use onceward_core::http::Seen;
use onceward_core::job::{Claimed, Record, State};
use onceward_core::once::Body;
use onceward_core::{ClaimId, JobId, Timestamp, Token};
use onceward_store::SettleJob;
use tokio::sync::Notify;

use super::session::Session;

/// Why an attempt is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Stop {
    /// Somebody has asked for the job to be cancelled.
    CalledOff,
    /// The worker has to leave, and its grace is over.
    Leaving,
    /// The worker's session is lost: another worker may be running the job by now.
    SessionLost,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CalledOff => "the job was called off",
            Self::Leaving => "the worker has to leave",
            Self::SessionLost => "the worker's session was lost",
        })
    }
}

/// One claim: what its jobs have in common.
pub(super) struct Claim {
    pub(super) id: ClaimId,
    pub(super) session: Arc<Session>,
    /// Whether it took one job that has lost a process, and is run without another of that sort beside it.
    pub(super) alone: bool,
    /// When it was made, by the store's clock.
    pub(super) at: Timestamp,
    /// The same by this process's clock, at the latest.
    pub(super) seen_at: Timestamp,
    /// How many of its jobs nobody has recorded an ending of.
    pub(super) left: AtomicUsize,
    /// Whether a statement removes it with the last of them.
    pub(super) closes: AtomicBool,
}

impl Claim {
    /// The ending of one of its jobs is recorded; whether it was the last one, and nobody removes the claim.
    pub(super) fn leave(&self) -> bool {
        self.left.fetch_sub(1, Ordering::SeqCst) == 1 && !self.closes.load(Ordering::SeqCst)
    }
}

/// A job in the hands of this worker, until its ending is recorded.
pub(super) struct Attempt {
    pub(super) job: Record,
    pub(super) token: Token,
    pub(super) claim: Arc<Claim>,
    stop: AtomicU8,
    bell: Notify,
    /// Whether its handler has recorded the ending in a transaction of its own, and the last one it recorded there.
    settled_in: Mutex<Option<State>>,
    /// What was seen of the exchange, if it is an HTTP request.
    seen: Mutex<Option<Box<Seen>>>,
    /// Whether its ending was refused because it no longer was the job's current attempt.
    refused: AtomicBool,
    /// How a durable function has failed, if that is the end of it.
    failure: Mutex<Option<Body>>,
    /// Whether it is given back to go on as new.
    continued: AtomicBool,
    /// Why its code can't go on with its journal.
    stuck: OnceLock<String>,
    writing: Mutex<Writing>,
}

/// What an attempt has under way to its journal.
#[derive(Default)]
struct Writing {
    appends: usize,
    /// The ending of the attempt, which waits for them.
    ending: Option<SettleJob>,
}

impl Attempt {
    pub(super) fn new(claimed: Claimed, claim: &Arc<Claim>) -> Arc<Self> {
        Arc::new(Self {
            job: claimed.job,
            token: claimed.token,
            claim: Arc::clone(claim),
            stop: AtomicU8::new(0),
            bell: Notify::new(),
            settled_in: Mutex::default(),
            seen: Mutex::default(),
            refused: AtomicBool::new(false),
            failure: Mutex::default(),
            continued: AtomicBool::new(false),
            stuck: OnceLock::new(),
            writing: Mutex::default(),
        })
    }

    /// Something is being written into its journal: its ending waits for that. Otherwise the job might be taken up
    /// again, and its journal read, before it is there (D1).
    pub(super) fn begin_append(&self) {
        self.writing().appends += 1;
    }

    /// It was answered; the ending that has waited for it.
    pub(super) fn end_append(&self) -> Option<SettleJob> {
        let mut writing = self.writing();
        writing.appends -= 1;
        if writing.appends == 0 { writing.ending.take() } else { None }
    }

    /// Gives the ending back if nothing is being written.
    pub(super) fn after_appends(&self, ending: SettleJob) -> Option<SettleJob> {
        let mut writing = self.writing();
        if writing.appends == 0 {
            return Some(ending);
        }
        writing.ending = Some(ending);
        None
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn id(&self) -> JobId {
        self.job.id
    }

    /// Which attempt of which job.
    pub(super) fn name(&self) -> (JobId, Token) {
        (self.job.id, self.token)
    }

    /// Tells it to stop; what weighs more stays.
    pub(super) fn stop(&self, why: Stop) {
        let level = why as u8 + 1;
        if self.stop.fetch_max(level, Ordering::SeqCst) < level {
            self.bell.notify_waiters();
        }
    }

    pub(super) fn stopped_by(&self) -> Option<Stop> {
        match self.stop.load(Ordering::SeqCst) {
            0 => None,
            1 => Some(Stop::CalledOff),
            2 => Some(Stop::Leaving),
            _ => Some(Stop::SessionLost),
        }
    }

    /// Waits until it is told to stop, for a weightier reason than `known`.
    pub(super) async fn stopped(&self, known: Option<Stop>) -> Stop {
        loop {
            let rung = self.bell.notified();
            if let Some(why) = self.stopped_by().filter(|why| Some(*why) > known) {
                return why;
            }
            rung.await;
        }
    }

    /// How a durable function has failed.
    pub(super) fn note_failure(&self, failure: Body) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }

    pub(super) fn take_failure(&self) -> Option<Body> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the run that it is goes on as new when it is given back.
    /// Its code is not the code that wrote its journal.
    pub(super) fn note_stuck(&self, why: String) {
        let _ = self.stuck.set(why);
    }

    pub(super) fn stuck(&self) -> Option<&str> {
        self.stuck.get().map(String::as_str)
    }

    pub(super) fn note_continued(&self) {
        self.continued.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_continued(&self) -> bool {
        self.continued.load(Ordering::SeqCst)
    }

    pub(super) fn note_settled_in(&self, state: State) {
        *self.settled_in.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
    }

    /// The state that its handler has recorded in a transaction of its own.
    pub(super) fn settled_in(&self) -> Option<State> {
        *self.settled_in.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_settled_in(&self) -> bool {
        self.settled_in().is_some()
    }

    /// Keeps what was seen of the exchange.
    #[cfg(feature = "http-jobs")]
    pub(super) fn note_seen(&self, seen: Seen) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(seen));
    }

    /// What was seen of the exchange.
    pub(super) fn seen(&self) -> Option<Box<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that its ending was refused; whether that is news. One that was refused in the handler's own transaction
    /// may be sent, and refused, once more.
    pub(super) fn note_refused(&self) -> bool {
        !self.refused.swap(true, Ordering::SeqCst)
    }

    /// The store's clock, as far as this process can tell: when the claim was made, and the time since then.
    pub(super) fn store_now(&self, boottime: Timestamp) -> Timestamp {
        self.claim.at.after(boottime.since(self.claim.seen_at))
    }
}
