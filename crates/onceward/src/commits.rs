//! Watches the transactions of callers that have enqueued something, and tells workers when they have committed.
//!
//! A hint, and bounded like one: what is not watched any more is found by looking.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onceward_core::Result;
use onceward_store::{CommitOutcome, Store};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::bells::{Bells, News};

/// How many transactions are watched at once.
const WATCHED_MAX: usize = 10_000;
/// For how long.
const AGE_MAX: Duration = Duration::from_secs(60);
/// The pauses between two looks: they grow as long as nothing happens.
const PAUSE_FIRST: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Most transactions commit as soon as they have enqueued: so many looks without a pause meet that, but not again
/// before this time has passed.
const QUICK: u32 = 6;
const QUICK_EVERY: Duration = Duration::from_millis(20);

/// The transactions that are watched.
pub(crate) struct Commits {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    bells: Arc<Bells>,
    state: Mutex<State>,
    /// Rung when there is another transaction to watch.
    more: Notify,
}

#[derive(Default)]
struct State {
    watched: HashMap<u64, Watched>,
    /// Which watcher is at work, if one is.
    watching: Option<u64>,
    watchers: u64,
    /// When it was last looked without pauses.
    quick: Option<Instant>,
}

struct Watched {
    since: Instant,
    news: Vec<News>,
}

impl Commits {
    pub(crate) fn new(store: Arc<dyn Store>, bells: Arc<Bells>) -> Self {
        Self { shared: Arc::new(Shared { store, bells, state: Mutex::default(), more: Notify::new() }) }
    }

    /// Tells workers of a job once that transaction has committed.
    pub(crate) fn watch(&self, transaction: u64, news: News) {
        let mut state = self.shared.lock();
        if state.watched.len() >= WATCHED_MAX {
            return;
        }
        let new = || Watched { since: Instant::now(), news: Vec::new() };
        let watched = state.watched.entry(transaction).or_insert_with(new);
        if !watched.news.contains(&news) {
            watched.news.push(news);
        }
        if state.watching.is_none() {
            state.watchers += 1;
            let number = state.watchers;
            state.watching = Some(number);
            tokio::spawn(look(Watching(Arc::clone(&self.shared), number)));
        }
        drop(state);
        self.shared.more.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A map stays a map whatever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether some looks without a pause are due.
    fn may_be_quick(&self) -> bool {
        let mut state = self.lock();
        let is_due = state.quick.is_none_or(|last| last.elapsed() >= QUICK_EVERY);
        if is_due {
            state.quick = Some(Instant::now());
        }
        is_due
    }

    /// Gives up those that were watched for long: also where nobody answers, so that the watcher ends one day.
    fn forget_old(&self) {
        self.lock().watched.retain(|_, watched| watched.since.elapsed() < AGE_MAX);
    }

    /// Asks once about everything that is watched, and tells what has committed; whether anything has ended.
    async fn look_once(&self) -> Result<bool> {
        let ids: Vec<u64> = self.lock().watched.keys().copied().collect();
        let outcomes = self.store.transactions(&ids).await?;
        let mut told = Vec::new();
        {
            let mut state = self.lock();
            for (id, outcome) in ids.iter().zip(outcomes) {
                let Some(outcome) = outcome else { continue };
                let watched = state.watched.remove(id);
                // Where nobody knows, a look costs little.
                if outcome != CommitOutcome::RolledBack {
                    told.extend(watched.into_iter().flat_map(|watched| watched.news));
                }
            }
        }
        self.forget_old();
        if told.iter().any(News::wakes) {
            self.store.run_wake().await?;
        }
        told.iter().for_each(|news| self.bells.tell(news));
        let mut queues: Vec<_> = told.iter().map(News::queue).collect();
        queues.sort_unstable();
        queues.dedup();
        if !queues.is_empty() {
            self.store.job_announce(&queues).await?;
        }
        Ok(!told.is_empty())
    }
}

/// Says that nobody watches any more, also when the runtime goes away under the watcher.
struct Watching(Arc<Shared>, u64);

impl Drop for Watching {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        // Another one may have taken over already.
        if state.watching == Some(self.1) {
            state.watching = None;
        }
    }
}

/// Looks until nothing is left to watch.
async fn look(watching: Watching) {
    let shared = Arc::clone(&watching.0);
    let (mut pause, mut quick) = (PAUSE_FIRST, 0_u32);
    loop {
        quick = quick.saturating_sub(1);
        if quick == 0 {
            tokio::select! {
                () = sleep(pause) => {}
                () = shared.more.notified() => {
                    pause = PAUSE_FIRST;
                    if shared.may_be_quick() {
                        quick = QUICK;
                    } else {
                        sleep(pause).await;
                    }
                }
            }
        }
        match shared.look_once().await {
            Ok(true) => pause = PAUSE_FIRST,
            Ok(false) if quick > 0 => {}
            Ok(false) => pause = (pause * 2).min(PAUSE_MAX),
            Err(error) => {
                tracing::debug!(%error, "what became of transactions is not known; workers look for themselves");
                (pause, quick) = (PAUSE_MAX, 0);
                shared.forget_old();
            }
        }
        let mut state = shared.lock();
        if state.watched.is_empty() {
            // Under the same lock: whoever comes after this starts another watcher.
            state.watching = None;
            return;
        }
    }
}
