//! What runs of durable functions want of their worker: a slot only while they do something, and to be woken.

use core::time::Duration;
use std::sync::Arc;

use onceward_core::job::{Ending, State};
use onceward_core::once::Body;
use onceward_core::run::{Arrival, Arrived};
use onceward_core::{SessionId, Timestamp};
use onceward_store::{SettleJob, SettledJob};
use tokio::time::{Instant, sleep, sleep_until};

use super::attempt::{Attempt, Stop};
use super::context::JobContext;
use super::settle::EndedChild;
use super::shared::{Mode, Shared};
use crate::durable::End;

/// How many runs wait in memory at most; more of them are parked at once.
const CROWD: usize = 100_000;
/// How soon the store is asked again what has arrived: hints come in swarms, and most of them are about other things.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(80);
/// How often it is asked although nobody has said anything, while runs wait in memory, and otherwise.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_IDLE: Duration = Duration::from_secs(5);

/// How many bytes of memory they take at most, about, when nothing is said; the same.
pub(super) const CROWD_BYTES: usize = 128 * 1024 * 1024;

/// A slot that was lent, by a run that takes so many bytes while it waits; dropping this takes it back.
pub(crate) struct Lent(Arc<Shared>, usize);

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.pool.take_back(self.1);
    }
}

impl JobContext {
    /// Gives the slot to others while the attempt only waits, and takes about so many bytes of memory.
    pub(crate) fn lend(&self, bytes: usize) -> Option<Lent> {
        let shared = self.around.worker()?;
        shared.pool.lend(bytes);
        // Those that wait for a slot have one now.
        shared.start(Vec::new());
        Some(Lent(shared, bytes))
    }

    /// Whether so many attempts only wait that more of them should not.
    pub(crate) fn is_crowded(&self) -> bool {
        let is_crowd = |shared: Arc<Shared>| {
            let (runs, bytes) = shared.pool.lent();
            runs > CROWD || bytes > shared.waiting_memory
        };
        self.around.worker().is_none_or(is_crowd)
    }

    /// Whether the worker takes no more jobs, or the attempt is to stop: what only waits is parked.
    pub(crate) fn is_winding_up(&self) -> bool {
        // One that is called off may have something to undo.
        let stops = self.stopped_by().is_some_and(|why| why != Stop::CalledOff);
        stops || self.around.worker().is_none_or(|shared| shared.mode() != Mode::Working)
    }

    /// Waits until that is so.
    pub(crate) async fn winds_up(&self) {
        let stopped = self.attempt.stopped(None);
        let Some(shared) = self.around.worker() else { return };
        let mut status = shared.status.subscribe();
        drop(shared);
        tokio::select! {
            _ = stopped => {}
            _ = status.wait_for(|status| status.mode != Mode::Working) => {}
        }
    }

    /// How long it may only wait before it is parked.
    pub(crate) fn park_after(&self) -> Duration {
        self.around.worker().map_or(Duration::ZERO, |shared| shared.park_after)
    }

    /// The session that the attempt belongs to.
    pub(crate) fn session(&self) -> SessionId {
        self.attempt.claim.session.id
    }

    /// When it was claimed, by the store's clock and by this process's.
    pub(crate) fn claimed_at(&self) -> (Timestamp, Timestamp) {
        (self.attempt.claim.at, self.attempt.claim.seen_at)
    }

    /// Something that the attempt had to say was refused: the job is somebody else's.
    pub(crate) fn note_refused(&self) {
        self.around.refused(&self.attempt);
    }

    /// It can't go on as things are, and nothing is charged for it: the code of a run is not the code that wrote its
    /// journal, or an event may have to be told to an endpoint that can't be read.
    pub(crate) fn is_stuck(&self, why: String) {
        self.attempt.note_stuck(why);
    }

    /// The run goes on as new when it is given back.
    pub(crate) fn continues(&self) {
        self.attempt.note_continued();
    }

    /// How the function has failed, should this be its last attempt.
    pub(crate) fn fails_with(&self, failure: Body) {
        self.attempt.note_failure(failure);
    }
}

/// Has the ending of an attempt recorded: that of a child by its run, if that is in the memory of this process.
pub(super) fn end(shared: &Arc<Shared>, attempt: &Arc<Attempt>, ending: Ending) {
    let row = shared.settlement(attempt, ending);
    let succeeded = row.next.state == State::Succeeded && attempt.stopped_by().is_none();
    // One of a line lets the next one go, which the statement that writes journals does not.
    let is_plain = succeeded && attempt.job.ordering_key.is_none();
    match row.parent.filter(|_| is_plain) {
        // Where it is not here, dropping what comes back records it in the usual way.
        Some(run) => {
            let child = Box::new(EndedChild::new(shared, attempt, row));
            drop(shared.around.client.inner.hot.end_child(run, child));
        }
        None => shared.settler.push(attempt, row),
    }
}

/// Takes note of endings that runs want to hear of.
pub(super) fn settled<'a>(shared: &Shared, endings: impl Iterator<Item = (&'a SettleJob, &'a SettledJob)>) {
    let (hot, mut wake) = (&shared.around.client.inner.hot, false);
    for (row, answer) in endings {
        let (SettledJob::Applied(state) | SettledJob::Already(state)) = answer else { continue };
        let (state, error) = (*state, &row.next.error);
        let result = || row.next.result.as_ref().and_then(|body| body.bytes.clone());
        if state.is_final() {
            // What was recorded before may say more than this.
            let applied = matches!(answer, SettledJob::Applied(_));
            let end = || End { state, result: result(), error: error.clone() };
            hot.has_ended(row.job.id, || applied.then(end));
        }
        match row.parent {
            Some(parent) if state.is_final() => {
                let what = Arrived::Child { state, result: result(), error: error.clone() };
                let arrival = Arrival { id: row.job.id.as_uuid(), at: row.started_at, what };
                wake |= !hot.tell(parent, vec![arrival]);
            }
            // Something may have arrived while it was parking.
            _ => wake |= state == State::Scheduled && shared.durable,
        }
    }
    if wake {
        if shared.durable {
            shared.runs.notify_one();
        } else {
            // Nobody else here does it.
            let around = Arc::clone(&shared.around);
            tokio::spawn(async move {
                if let Err(error) = around.client.store().run_wake().await {
                    tracing::debug!(%error, "runs could not be woken; their workers look by themselves");
                }
            });
        }
    }
}

/// Wakes runs for which something has arrived, and gives it to those that are in memory.
pub(super) async fn wake(shared: Arc<Shared>) {
    let mut pause = PAUSE;
    while shared.mode() < Mode::Gone {
        let client = &shared.around.client;
        let began = Instant::now();
        let look = if client.inner.hot.is_empty() { LOOK_IDLE } else { LOOK };
        match look_once(&shared).await {
            Ok(true) => pause = PAUSE,
            Ok(false) => pause = (pause * 2).min(PAUSE_MAX),
            Err(error) => {
                tracing::warn!(%error, "what has arrived for runs could not be read and will be read again");
                sleep(LOOK).await;
            }
        }
        let next = began + look;
        tokio::select! {
            () = shared.runs.notified() => sleep_until(began + pause).await,
            () = sleep_until(next) => {}
        }
    }
}

/// Looks once; whether there was anything.
async fn look_once(shared: &Shared) -> onceward_core::Result<bool> {
    let client = &shared.around.client;
    let woken = client.store().run_wake().await?;
    shared.around.client.tell_workers(&woken.queues).await;
    let here = client.inner.hot.those(woken.unheard);
    if here.is_empty() {
        return Ok(!woken.queues.is_empty());
    }
    let (runs, tokens): (Vec<_>, Vec<_>) = here.into_iter().unzip();
    let arrived = client.store().run_arrived(&runs).await?;
    for ((run, token), arrivals) in runs.iter().zip(tokens).zip(arrived) {
        client.inner.hot.tell_attempt(run.id, token, arrivals);
    }
    Ok(true)
}
