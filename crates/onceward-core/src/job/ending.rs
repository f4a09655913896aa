//! What becomes of a job when an attempt ends: decided here, written by the store if the token still allows it.

use core::time::Duration;

use super::past::{Attempt, remember};
use super::{Policy, State, runs_alone};
use crate::http::Seen;
use crate::once::{Body, cut};
use crate::{Owner, Timestamp, Token, duration, limits};

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is done.
    Done(Option<Body>),
    /// It failed; `after` overrides the pause of the policy.
    Failed {
        /// What went wrong.
        error: String,
        /// How long to wait before the next attempt.
        after: Option<Duration>,
    },
    /// It failed, and it is proved that nothing happened: also work that runs at most once may be tried again.
    NotStarted {
        /// What went wrong.
        error: String,
    },
    /// It took too long and was stopped.
    TimedOut,
    /// It wants to run later; no attempt is charged.
    Snoozed(Duration),
    /// A run whose code is not the code that wrote its journal: it is looked at again after this pause, and says why.
    Stuck {
        /// Where the two differ.
        error: String,
        /// How long to wait.
        pause: Duration,
    },
    /// A run goes on as new, at once: its attempts are counted anew.
    Continued,
    /// It was never started: the worker has to leave. No attempt is charged.
    HandedBack,
    /// Somebody called it off, and it stopped.
    Cancelled(String),
    /// More attempts are no use.
    Dead(String),
    /// Nobody knows whether it had its effect.
    Uncertain(String),
    /// Its process has died or was paused for too long. `begun`: its handler may have been started.
    Lost {
        /// Whether its handler may have been started.
        begun: bool,
    },
}

/// What deciding over an ending wants to know of a job.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// How many attempts have ended before.
    pub attempt: u32,
    /// How many of them were lost.
    pub lost: u32,
    /// How it is run.
    pub policy: &'a Policy,
    /// Its state as written.
    pub state: State,
    /// The attempts before.
    pub past: &'a [Attempt],
}

/// Whether an ending may be written (J5, J6): the job still runs under the token `fence`, or it is uncertain under
/// exactly that one and this is late evidence of how it was. Saying once more that nobody knows is no evidence.
pub fn may_end(state: State, token: Token, fence: Token, next: &Next) -> bool {
    let runs = !state.is_final() && token < fence;
    let evidence = next.state.is_final() && next.state != State::Uncertain;
    runs || (state == State::Uncertain && token == fence && evidence)
}

/// Which attempt ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its token.
    pub token: Token,
    /// When it was claimed.
    pub started_at: Timestamp,
    /// Who ran it.
    pub worker: Owner,
    /// What was seen of the exchange, if it was an HTTP request.
    pub http: Option<Box<Seen>>,
}

/// What the row says afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// The state.
    pub state: State,
    /// The attempts that have ended.
    pub attempt: u32,
    /// Those of them that were lost.
    pub lost: u32,
    /// When it is due again, from now on.
    pub delay: Option<Duration>,
    /// What went wrong.
    pub error: Option<String>,
    /// What it returned.
    pub result: Option<Body>,
    /// The attempts so far, if the job goes on.
    pub past: Vec<Attempt>,
    /// Whether it is claimed by itself from now on: it may be what kills its processes (N55).
    pub alone: bool,
}

/// Decides (J4, J5, J8). `seed` is any random number, for the jitter; `called_off`: somebody has asked for the job to
/// be cancelled, so that it does not go on whatever the attempt says.
pub fn end(
    job: Facts<'_>,
    ended: &Ended,
    ending: Ending,
    now: Timestamp,
    called_off: bool,
    seed: u64,
) -> Next {
    let charged = job.attempt.saturating_add(1);
    let mut next = Next {
        state: State::Dead,
        attempt: charged,
        lost: job.lost,
        delay: None,
        error: None,
        result: None,
        past: Vec::new(),
        alone: false,
    };
    match ending {
        Ending::Done(result) => (next.state, next.result) = (State::Succeeded, result),
        Ending::Dead(error) => next.error = Some(error),
        Ending::Uncertain(error) => (next.state, next.error) = (State::Uncertain, Some(error)),
        Ending::Cancelled(reason) => (next.state, next.error) = (State::Cancelled, Some(reason)),
        Ending::Snoozed(pause) => {
            (next.state, next.delay, next.attempt) = (State::Scheduled, Some(pause), job.attempt);
            // A run that parks has come through: what it has lost before is not held against it.
            next.lost = if job.policy.durable { 0 } else { job.lost };
        }
        Ending::Stuck { error, pause } => {
            (next.state, next.delay, next.attempt) = (State::Scheduled, Some(pause), job.attempt);
            (next.lost, next.error) = (0, Some(error));
        }
        Ending::Continued => {
            (next.state, next.delay, next.attempt, next.lost) =
                (State::Scheduled, Some(Duration::ZERO), 0, 0);
        }
        Ending::HandedBack => {
            (next.state, next.attempt) = (State::Ready, job.attempt);
            next.alone = runs_alone(job.policy, job.lost);
        }
        // Whoever says that it failed knows that it ran: at most once means not again.
        Ending::Failed { error, .. } if job.policy.at_most_once => next.error = Some(error),
        Ending::Failed { error, after } => again(&mut next, job, error, after, now, seed),
        Ending::NotStarted { error } => again(&mut next, job, error, None, now, seed),
        Ending::TimedOut => {
            let error = format!("it took longer than {}", duration::format(job.policy.timeout));
            if job.policy.at_most_once {
                (next.state, next.error) = (State::Uncertain, Some(error));
            } else {
                again(&mut next, job, error, None, now, seed);
            }
        }
        Ending::Lost { .. } if job.policy.durable && !job.policy.at_most_once => lost_run(&mut next, job),
        Ending::Lost { begun } => lost(&mut next, job, begun),
    }
    if called_off && !next.state.is_final() {
        (next.state, next.delay) = (State::Cancelled, None);
        next.error = next.error.or_else(|| Some(CALLED_OFF.to_owned()));
    }
    next.error = next.error.map(|error| cut(&error, limits::ATTEMPT_ERROR_BYTES_MAX));
    next.past = past(&next, job, ended, now);
    next
}

/// The reason of a job that was called off, where nobody gave one.
pub const CALLED_OFF: &str = "it was cancelled";
/// What is written of an attempt whose worker is gone.
pub const LOST: &str = "its worker died, or was away for longer than its session lasts";

fn again(next: &mut Next, job: Facts<'_>, error: String, after: Option<Duration>, now: Timestamp, seed: u64) {
    let lost = if job.policy.durable { 0 } else { job.lost };
    let failures = next.attempt.saturating_sub(lost);
    let delay = after.unwrap_or_else(|| job.policy.retry.delay(failures, seed)).min(limits::DELAY_MAX);
    let too_late = job.policy.deadline.is_some_and(|deadline| now.after(delay) >= deadline);
    next.error = Some(error);
    if next.attempt < job.policy.max_attempts && !too_late {
        (next.state, next.delay) = (State::Retrying, Some(delay));
    }
}

fn lost(next: &mut Next, job: Facts<'_>, begun: bool) {
    if !begun {
        // It was claimed and never started: nothing is charged, nothing is known against it (decisions 13).
        (next.state, next.attempt) = (State::Ready, job.attempt);
        next.alone = runs_alone(job.policy, job.lost);
        return;
    }
    next.error = Some(LOST.to_owned());
    next.lost = job.lost.saturating_add(1);
    if job.policy.at_most_once {
        next.state = State::Uncertain;
    } else if next.attempt < job.policy.max_attempts && next.lost < limits::LOST_MAX {
        (next.state, next.alone) = (State::Ready, true);
    }
}

/// A run goes on where its journal ends: its process is charged with nothing, until it is lost again and again without
/// having come through in between.
fn lost_run(next: &mut Next, job: Facts<'_>) {
    (next.attempt, next.lost) = (job.attempt, job.lost.saturating_add(1));
    if next.lost < limits::RUN_LOST_MAX {
        (next.state, next.alone) = (State::Ready, next.lost >= limits::RUN_LOST_ALONE);
    } else {
        next.error = Some(LOST.to_owned());
    }
}

/// The attempts so far. The last one of a job that has ended stands in its own columns; only what was seen of an
/// exchange has no place there, except in the result of one that succeeded.
fn past(next: &Next, job: Facts<'_>, ended: &Ended, now: Timestamp) -> Vec<Attempt> {
    if next.attempt < job.attempt {
        // Those of another generation.
        return Vec::new();
    }
    let stands_in_row = next.state == State::Succeeded || (next.state.is_final() && ended.http.is_none());
    if stands_in_row || next.attempt == job.attempt {
        return job.past.to_vec();
    }
    let outcome = match next.state {
        state if state.is_final() => state.as_str(),
        _ if next.lost > job.lost => "lost",
        _ => "failed",
    };
    let attempt = Attempt {
        number: next.attempt,
        token: ended.token,
        started_at: ended.started_at,
        finished_at: now,
        outcome: outcome.to_owned(),
        worker: ended.worker.as_str().to_owned(),
        error: next.error.clone(),
        http: ended.http.clone(),
    };
    remember(job.past, attempt)
}
