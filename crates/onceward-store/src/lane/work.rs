//! What the lanes have under way, counted: whoever closes the store waits for it.

use std::sync::Arc;

use tokio::sync::watch;

/// How many tasks of the lanes have not ended.
#[derive(Clone)]
pub(super) struct Work(Arc<watch::Sender<usize>>);

impl Default for Work {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Work {
    /// Starts a task. It counts from now on, and until it has ended, however it ends.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let under_way = UnderWay::new(self);
        tokio::spawn(async move {
            task.await;
            drop(under_way);
        });
    }

    /// Waits until nothing is under way.
    pub(super) async fn over(&self) {
        // invariant: the sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|tasks| *tasks == 0).await;
    }
}

struct UnderWay(Work);

impl UnderWay {
    fn new(work: &Work) -> Self {
        work.0.send_modify(|tasks| *tasks += 1);
        Self(work.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.send_modify(|tasks| *tasks -= 1);
    }
}
