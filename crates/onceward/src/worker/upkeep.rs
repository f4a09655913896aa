//! What workers do for all of them: making jobs ready that have become due, taking jobs from lost sessions, and passing
//! the store's hints on.

use core::time::Duration;
use std::sync::Arc;

use onceward_core::job::State;
use onceward_core::{Namespace, Queue, backoff};
use onceward_store::Wake;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep, sleep_until};

use super::shared::{Mode, Shared};
use crate::bells::Bell;

/// How many jobs are made ready, or rescued, by one statement.
const LIMIT: usize = 1_000;
/// How long is waited at most before one looks again although nothing was said to be due.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How often one looks at what the queues are tuned by.
const TUNE_AGAIN: Duration = Duration::from_secs(10);
/// How soon after a hint one looks for jobs that will be due before what was known to come next.
const AFTER_HINT: Duration = Duration::from_millis(200);

/// Makes jobs ready when they are due.
pub(super) async fn promote(shared: Arc<Shared>) {
    let mut failures = 0;
    while shared.mode() < Mode::Leaving {
        // What was enqueued until now is seen by the statement.
        shared.bell.forget_due();
        let pause = match shared.store().job_promote(LIMIT).await {
            Ok(promoted) => {
                failures = 0;
                ring(&shared, &promoted.queues).await;
                let full = promoted.moved >= LIMIT as u64;
                let until = promoted.next_due.map_or(LOOK_AGAIN, |due| due.since(promoted.now));
                if full { Duration::ZERO } else { until.clamp(Duration::from_millis(1), LOOK_AGAIN) }
            }
            Err(error) => {
                tracing::warn!(%error, "due jobs could not be made ready and will be tried again");
                failures += 1;
                backoff::delay(failures, Duration::from_millis(100), LOOK_AGAIN, failures.into())
            }
        };
        wait(&shared.bell, Instant::now() + pause).await;
    }
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

/// Takes jobs from sessions that have run out.
pub(super) async fn rescue(shared: Arc<Shared>) {
    let (base, mut seed) = ((shared.session_ttl / 3).min(LOOK_AGAIN), uuid::Uuid::new_v4().as_u64_pair().0);
    while shared.mode() < Mode::Leaving {
        let more = match shared.store().job_rescue(LIMIT).await {
            Ok(rescued) => {
                if !rescued.jobs.is_empty() {
                    tracing::warn!(jobs = rescued.jobs.len(), "jobs were taken from lost workers");
                }
                let ready = rescued.jobs.iter().filter(|job| job.state == State::Ready);
                let mut queues: Vec<_> =
                    ready.map(|job| (job.job.namespace.clone(), job.queue.clone())).collect();
                queues.sort_unstable();
                queues.dedup();
                if !queues.is_empty() {
                    shared.alone.notify_one();
                }
                ring(&shared, &queues).await;
                rescued.more
            }
            Err(error) => {
                tracing::warn!(%error, "lost sessions could not be looked for and will be looked for again");
                false
            }
        };
        // Workers that were started together need not all look at the same time.
        seed = backoff::mix(seed);
        let pause =
            base.mul_f64(0.75) + (base / 2).mul_f64(f64::from((seed >> 44) as u32) / f64::from(1_u32 << 20));
        if !more {
            sleep(pause.min(LOOK_AGAIN)).await;
        }
    }
}

/// Tells this worker, and the others, that jobs have become ready.
pub(super) async fn ring(shared: &Shared, queues: &[(Namespace, Queue)]) {
    if queues.is_empty() {
        return;
    }
    for (namespace, queue) in queues {
        shared.around.client.inner.bells.ring(namespace, queue);
    }
    if let Err(error) = shared.store().job_announce(queues).await {
        tracing::debug!(%error, "other workers could not be told of ready jobs; they find them by looking");
    }
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
