//! Running until nothing is left that a worker could run.

use core::sync::atomic::Ordering;
use core::time::Duration;

use onceward_core::job::{Record, State, may_take, route};
use onceward_core::{Kind, Queue, Result, Timestamp, limits};
use onceward_store::{ListJobs, QueueRecord, Snapshot};
use tokio::time::sleep;

use super::handle::WorkerHandle;
use super::shared::Shared;

/// Waits until the queues of the worker hold no job of a kind it can run that is ready, retrying, due within
/// `horizon`, or claimed by anybody.
pub(super) async fn wait(worker: &WorkerHandle, horizon: Duration) -> Result<()> {
    let shared = worker.shared();
    let (mut pause, mut empty) = (Duration::from_millis(10), 0);
    loop {
        if worker.held() > 0 {
            (pause, empty) = (Duration::from_millis(10), 0);
            shared.pool.until_idle().await;
        } else if is_empty(shared, horizon).await? {
            empty += 1;
        } else {
            empty = 0;
        }
        // Twice, with nothing in hand in between: a job may have gone round while it was looked for.
        if empty == 2 && worker.held() == 0 {
            return Ok(());
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

async fn is_empty(shared: &Shared, horizon: Duration) -> Result<bool> {
    // The counts of queues are bounded, listings read what waits in other queues as well. So listings are asked only
    // where something waits at all.
    let queues = shared.store().queue_list(&shared.around.client.namespace).await?;
    let holds = |queue: &QueueRecord| queue.ready > 0 || queue.later > 0 || queue.running > 0;
    if !queues.iter().any(|queue| shared.bell.queues.contains(&queue.queue) && holds(queue)) {
        return Ok(true);
    }
    // In the order jobs go through them, so that one that moves on meanwhile is met where it has gone to.
    for state in [State::Scheduled, State::Retrying, State::Ready, State::Running] {
        for queue in &shared.bell.queues {
            for kind in &shared.kinds {
                if any(shared, queue, kind, state, horizon).await? {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

/// Whether there is a job of this kind and state that this worker waits for.
async fn any(shared: &Shared, queue: &Queue, kind: &Kind, state: State, horizon: Duration) -> Result<bool> {
    if state == State::Scheduled && !may_be_due(shared, horizon) {
        return Ok(false);
    }
    let mut ask = ListJobs {
        namespace: Some(shared.around.client.namespace.clone()),
        state: Some(state),
        queue: Some(queue.clone()),
        kind: Some(kind.clone()),
        limit: limits::PAGE_ROWS_MAX,
        ..ListJobs::default()
    };
    loop {
        let Snapshot { now, rows } = shared.store().job_list(&ask).await?;
        let Some(last) = rows.last() else { return Ok(false) };
        let counts = |row: &Record| {
            let due = state != State::Scheduled || row.run_at <= now.after(horizon);
            due && may_take(&route(&row.tags), &shared.tags)
        };
        if rows.iter().any(counts) {
            return Ok(true);
        }
        ask.after = Some(last.id);
    }
}

/// Whether the next job that is due, of any queue, is due within the horizon. Saves reading those that wait for long.
fn may_be_due(shared: &Shared, horizon: Duration) -> bool {
    let next = Timestamp::from_micros(shared.next_due.load(Ordering::SeqCst));
    // A wall clock that differs from the store's by an hour is told of at start; more than that is not due soon.
    next <= shared.store().clock().wall().after(horizon.max(Duration::from_secs(3600)))
}
