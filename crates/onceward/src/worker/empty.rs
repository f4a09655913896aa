//! Running until nothing is left that a worker could run.

use core::time::Duration;

use onceward_core::Result;
use onceward_store::Outstanding;
use tokio::time::sleep;

use super::handle::WorkerHandle;

/// Waits until the queues of the worker hold no job of a kind it can run that is ready, retrying, due within
/// `horizon`, or claimed by anybody. What waits in a paused queue is not waited for.
pub(super) async fn wait(worker: &WorkerHandle, horizon: Duration) -> Result<()> {
    let shared = worker.shared();
    let ask = Outstanding {
        namespace: shared.around.client.namespace.clone(),
        queues: shared.bell.queues.clone(),
        kinds: shared.kinds.clone(),
        tags: shared.tags.clone(),
        horizon,
    };
    let (mut pause, mut empty) = (PAUSE_MIN, 0);
    loop {
        if worker.held() > 0 {
            (pause, empty) = (PAUSE_MIN, 0);
            shared.pool.until_idle().await;
        } else if shared.store().job_outstanding(&ask).await? {
            empty = 0;
        } else {
            empty += 1;
        }
        // Twice, with nothing in hand in between: a claim may have been on its way while it was looked.
        if empty == 2 && worker.held() == 0 {
            return Ok(());
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// How soon is looked again at first.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// How soon is looked again in the end.
const PAUSE_MAX: Duration = Duration::from_secs(1);
