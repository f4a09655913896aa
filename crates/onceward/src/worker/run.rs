//! One attempt: whether it may start, its handler, and how it ended.

use core::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use onceward_core::job::{self, Ending, State};
use onceward_core::lease;
use onceward_store::{BeginJob, JobRef};

use super::attempt::{Attempt, Stop};
use super::context::JobContext;
use super::lineage;
use super::outcome::Outcome;
use super::service::JobRequest;
use super::shared::Shared;
use crate::durable::{EXPIRED, timed_out};
use crate::once::panic_words;

/// How often a runner lets others go first: handlers that never wait would keep the thread for themselves.
const TURNS: u32 = 32;

/// Runs one job after the other until none waits.
pub(super) async fn runner(shared: Arc<Shared>) {
    let place = Runner { shared: Arc::clone(&shared), ended: false };
    let mut turns = 0;
    while let Some(attempt) = shared.pool.next() {
        match attempt_once(&shared, &attempt).await {
            Some(ending) => super::parking::end(&shared, &attempt, ending),
            None => shared.pool.release([attempt.name()]),
        }
        turns += 1;
        if turns % TURNS == 0 {
            tokio::task::yield_now().await;
        }
    }
    place.end();
}

/// A runner's place, given back when it ends in an unforeseen way.
struct Runner {
    shared: Arc<Shared>,
    ended: bool,
}

impl Runner {
    fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if self.ended || !self.shared.pool.lose_runner() {
            return;
        }
        tracing::error!("a runner of the worker has ended before its time; another one goes on");
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(runner(Arc::clone(&self.shared)));
        }
    }
}

/// Runs an attempt, if it may start. `None`: it is not ours any more.
async fn attempt_once(shared: &Arc<Shared>, attempt: &Arc<Attempt>) -> Option<Ending> {
    if !attempt.claim.session.hold.is_valid() {
        return None;
    }
    match attempt.stopped_by() {
        None => {}
        Some(Stop::CalledOff) => return Some(Ending::Cancelled(job::CALLED_OFF.to_owned())),
        Some(Stop::Leaving) => return Some(Ending::HandedBack),
        Some(Stop::SessionLost) => return None,
    }
    if attempt.job.is_overdue(attempt.store_now(shared.store().clock().boottime())) {
        if attempt.job.policy.durable {
            attempt.note_failure(timed_out());
            return Some(Ending::Dead(EXPIRED.to_owned()));
        }
        return Some(Ending::Dead("its deadline had passed before it was started".to_owned()));
    }
    if attempt.job.wants_begin() && !begin(shared, attempt).await {
        // If it still is ours after all, it was not started; if not, the token says so.
        return Some(Ending::HandedBack);
    }
    handle(shared, attempt).await
}

/// Writes down that the handler starts: what may not happen twice must not start unseen.
async fn begin(shared: &Shared, attempt: &Attempt) -> bool {
    let job = JobRef { namespace: attempt.job.namespace.clone(), id: attempt.id() };
    let session = &attempt.claim.session;
    let ask = BeginJob { job, token: attempt.token, session: session.id };
    let within = session.hold.trusted_until().since(shared.store().clock().boottime());
    match shared.around.client.inner.lanes.begin(ask, within).await {
        Ok(begun) => begun && session.hold.is_valid(),
        Err(error) => {
            tracing::warn!(%error, job = %attempt.id(), "the start of a job could not be recorded; it is not started");
            false
        }
    }
}

async fn handle(shared: &Arc<Shared>, attempt: &Arc<Attempt>) -> Option<Ending> {
    let context = JobContext::new(Arc::clone(attempt), Arc::clone(&shared.around));
    // In a block of its own: a layer may panic before there is a future.
    let work = async { shared.service.run(JobRequest { context }).await };
    let work = AssertUnwindSafe(lineage::within(attempt.job.depth, work)).catch_unwind();
    let ending = tokio::select! {
        biased;
        outcome = work => match outcome {
            Ok(Outcome::Snooze(_)) if attempt.is_continued() => Ending::Continued,
            Ok(Outcome::Snooze(pause)) => match attempt.stuck() {
                Some(why) => Ending::Stuck { error: why.to_owned(), pause },
                None => Outcome::Snooze(pause).into_ending(),
            },
            Ok(outcome) => outcome.into_ending(),
            Err(panic) => panicked(attempt, &panic_words(&*panic)),
        },
        why = dropped(shared, attempt) => return stopped(attempt, why),
        () = tokio::time::sleep(attempt.job.policy.timeout) => Ending::TimedOut,
    };
    if attempt.is_settled_in() {
        return Some(settled_in(attempt));
    }
    // Of a lost session only what was done is told: it may come in time.
    let lost = attempt.stopped_by() == Some(Stop::SessionLost);
    (!lost || matches!(ending, Ending::Done(_))).then_some(ending)
}

/// Waits until the handler has been told to stop, and has had its time to do so.
async fn dropped(shared: &Shared, attempt: &Attempt) -> Stop {
    let mut why = attempt.stopped(None).await;
    loop {
        let time = match why {
            Stop::CalledOff => shared.calling_off,
            Stop::Leaving => shared.leave,
            // The trust has ended this much before the session does.
            Stop::SessionLost => lease::trust_margin(shared.session_ttl),
        };
        tokio::select! {
            () = tokio::time::sleep(time) => return why,
            weightier = attempt.stopped(Some(why)) => why = weightier,
        }
    }
}

/// What is recorded of a handler that was told to stop, did not, and was dropped.
fn stopped(attempt: &Attempt, why: Stop) -> Option<Ending> {
    if attempt.is_settled_in() {
        return Some(settled_in(attempt));
    }
    match why {
        Stop::CalledOff if attempt.job.policy.at_most_once => {
            Some(Ending::Uncertain("it was cancelled, and stopped on its way".to_owned()))
        }
        Stop::CalledOff => Some(Ending::Cancelled(job::CALLED_OFF.to_owned())),
        // Left to its session, which ends now: whoever rescues it decides.
        Stop::Leaving | Stop::SessionLost => None,
    }
}

fn panicked(attempt: &Attempt, words: &str) -> Ending {
    let error = format!("the handler panicked: {words}");
    if attempt.job.policy.at_most_once {
        return Ending::Uncertain(error);
    }
    Ending::Failed { error, after: None }
}

/// The handler has recorded the ending in its own transaction. If that was committed, the token says so, and what is
/// sent now changes nothing; if it was rolled back, the attempt has failed. That nobody knows how it was would give way
/// to what is known to have failed, whoever has committed it: so the same is said again.
fn settled_in(attempt: &Attempt) -> Ending {
    let error = "the transaction in which its end was recorded was not committed".to_owned();
    if attempt.job.policy.at_most_once || attempt.settled_in() == Some(State::Uncertain) {
        return Ending::Uncertain(error);
    }
    Ending::Failed { error, after: None }
}
