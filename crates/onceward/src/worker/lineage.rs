//! How many triggers have led to the job whose handler is just being polled: what it enqueues inherits that, so that a
//! loop of triggers and handlers has an end as well.

use onceward_core::job::New;

tokio::task_local! {
    static DEPTH: u32;
}

/// Runs the handler of a job of this depth.
pub(super) async fn within<F: Future>(depth: u32, handler: F) -> F::Output {
    DEPTH.scope(depth, handler).await
}

/// Has a job inherit the depth of the one whose handler enqueues it. Of a task that a handler has spawned nothing is
/// known.
pub(crate) fn inherit(new: &mut New) {
    if let Ok(depth) = DEPTH.try_with(|depth| *depth) {
        new.depth = new.depth.max(depth);
    }
}
