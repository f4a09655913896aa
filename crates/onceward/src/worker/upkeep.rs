//! What workers do for all of them: making jobs ready that have become due, taking jobs from lost sessions, and passing
//! the store's hints on.

use core::time::Duration;
use std::sync::Arc;

use onceward_core::job::State;
use onceward_core::{Result, Timestamp, backoff};
use onceward_store::Wake;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep, sleep_until};

use super::shared::{Mode, Shared};
use crate::bells::Bell;

/// How many jobs are made ready, or rescued, by one statement.
const LIMIT: usize = 1_000;
/// How long is waited at most before one looks again although nothing was said to be due.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long lost sessions are left alone after they were looked after.
const AFTER_RESCUE: Duration = Duration::from_secs(1);
/// How often one looks at what the queues are tuned by.
const TUNE_AGAIN: Duration = Duration::from_secs(10);
/// How soon after a hint one looks for jobs that will be due before what was known to come next.
const AFTER_HINT: Duration = Duration::from_millis(200);

/// Looks after what is to be done for all workers: makes jobs ready when they are due, and has those taken from lost
/// sessions that some hold. As long as there is nothing to do, a look is all that it costs.
pub(super) async fn promote(shared: Arc<Shared>) {
    let (mut failures, mut seed) = (0, uuid::Uuid::new_v4().as_u64_pair().0);
    let mut next_look = Instant::now();
    while shared.mode() < Mode::Leaving {
        // What was enqueued until now is seen by the statement.
        shared.bell.forget_due();
        let looks = next_look <= Instant::now();
        if looks {
            seed = backoff::mix(seed);
            next_look = Instant::now() + look_again(&shared, seed);
        }
        let done = if looks { look(&shared).await } else { make_ready(&shared).await };
        let due = match done {
            Ok(due) => {
                failures = 0;
                due
            }
            Err(error) => {
                tracing::warn!(%error, "due jobs could not be made ready and will be tried again");
                // Whoever takes jobs from lost sessions finds out by itself whether there are any.
                shared.lost.notify_one();
                failures += 1;
                Some(backoff::delay(failures, Duration::from_millis(100), LOOK_AGAIN, failures.into()))
            }
        };
        let due = due.map_or(next_look, |due| next_look.min(Instant::now() + due));
        wait(&shared.bell, due).await;
    }
}

/// How long after a look the next one comes. Workers that were started together need not all look at the same time.
fn look_again(shared: &Shared, seed: u64) -> Duration {
    let base = (shared.session_ttl / 3).min(LOOK_AGAIN);
    let spread = f64::from((seed >> 44) as u32) / f64::from(1_u32 << 20);
    (base.mul_f64(0.75) + (base / 2).mul_f64(spread)).min(LOOK_AGAIN)
}

/// Sees what there is to do; how long it is until something is due.
async fn look(shared: &Shared) -> Result<Option<Duration>> {
    let chores = shared.store().job_chores().await?;
    if chores.lost {
        shared.lost.notify_one();
    }
    let due = chores.next_due.map(|due| due.since(chores.now));
    Ok(if chores.arrived { Some(Duration::ZERO) } else { due })
}

/// Makes ready what is due; how long it is until more is.
async fn make_ready(shared: &Shared) -> Result<Option<Duration>> {
    let promoted = shared.store().job_promote(LIMIT).await?;
    shared.around.client.tell_workers(&promoted.queues).await;
    if promoted.moved >= LIMIT as u64 {
        return Ok(Some(Duration::ZERO));
    }
    let until = |due: Timestamp| due.since(promoted.now).max(Duration::from_millis(1));
    Ok(promoted.next_due.map(until))
}

/// Looks again and again at what the queues are tuned by.
pub(super) async fn tune(shared: Arc<Shared>) {
    while shared.mode() < Mode::Leaving {
        sleep(TUNE_AGAIN).await;
        look_at_tunings(&shared).await;
    }
}

/// Looks at what the queues are tuned by. Where that can't be read at the moment, what was seen before holds.
pub(super) async fn look_at_tunings(shared: &Shared) {
    match shared.store().queue_tunings(&shared.around.client.namespace).await {
        Ok(tunings) => shared.around.tune(tunings),
        Err(error) => tracing::debug!(%error, "what the queues are tuned by could not be looked at"),
    }
}

/// Waits until then, or until this process knows of something that is due before.
async fn wait(bell: &Bell, until: Instant) {
    loop {
        let at = bell.due().map_or(until, |due| due.min(until));
        tokio::select! {
            () = sleep_until(at) => return,
            () = bell.sooner.notified() => {}
        }
    }
}

/// Takes jobs from sessions that have run out, whenever somebody has seen such.
pub(super) async fn rescue(shared: Arc<Shared>) {
    while shared.mode() < Mode::Leaving {
        shared.lost.notified().await;
        while rescue_some(&shared).await {}
        // What somebody has locked is not worth asking for again at once.
        sleep(AFTER_RESCUE.min(shared.session_ttl / 4)).await;
    }
}

/// One statement's worth; whether there is more.
async fn rescue_some(shared: &Shared) -> bool {
    let rescued = match shared.store().job_rescue(LIMIT).await {
        Ok(rescued) => rescued,
        Err(error) => {
            tracing::warn!(%error, "lost sessions could not be looked for and will be looked for again");
            return false;
        }
    };
    if !rescued.jobs.is_empty() {
        tracing::warn!(jobs = rescued.jobs.len(), "jobs were taken from lost workers");
    }
    let ready = rescued.jobs.iter().filter(|job| job.state == State::Ready);
    let mut queues: Vec<_> = ready.map(|job| (job.job.namespace.clone(), job.queue.clone())).collect();
    queues.sort_unstable();
    queues.dedup();
    if !queues.is_empty() {
        shared.alone.notify_one();
    }
    shared.around.client.tell_workers(&queues).await;
    rescued.more
}

/// Passes the store's hints on to this worker.
pub(super) async fn listen(shared: Arc<Shared>) {
    while shared.mode() < Mode::Leaving {
        let mut wakes = shared.store().subscribe();
        loop {
            match wakes.recv().await {
                Ok(Wake::Jobs(namespace, queue)) if !shared.bell.wants(&namespace, &queue) => {}
                Ok(Wake::Jobs(..) | Wake::Anything) | Err(RecvError::Lagged(_)) => {
                    shared.ring();
                    shared.runs.notify_one();
                    // It may be about jobs that are due later, or were enqueued by somebody with a delay.
                    shared.bell.due_in(AFTER_HINT);
                }
                Ok(_) => {}
                Err(RecvError::Closed) => break,
            }
        }
        sleep(LOOK_AGAIN).await;
    }
}
