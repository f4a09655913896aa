//! Natural batching of what the parts of a worker send: everything that comes while a statement is in flight is in the
//! next one.

use onceward_core::limits;

/// How often others go first while more keeps coming, at most.
const YIELDS_MAX: usize = 8;

/// Lets others go first for as long as more keeps coming, up to `enough`: that fills the batch, without a timer.
pub(super) async fn gather(count: impl Fn() -> usize, enough: usize) {
    let mut before = count();
    for _ in 0..YIELDS_MAX {
        tokio::task::yield_now().await;
        let now = count();
        if now == before || now >= enough {
            return;
        }
        before = now;
    }
}

/// How many rows of these weights fit into one statement: at least one, however large it is.
pub(super) fn fitting(weights: impl Iterator<Item = usize>, rows_max: usize) -> usize {
    let mut bytes = 0_usize;
    let mut count = 0;
    for weight in weights.take(rows_max) {
        bytes = bytes.saturating_add(weight);
        if count > 0 && bytes > limits::BATCH_BYTES_MAX {
            break;
        }
        count += 1;
    }
    count
}
