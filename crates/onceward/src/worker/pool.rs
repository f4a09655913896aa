//! The jobs of a worker between their claim and their end: those that wait for a slot, and those that run.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onceward_core::{JobId, Queue, Token};
use tokio::sync::Notify;

use super::attempt::{Attempt, Stop};

pub(super) struct Pool {
    /// How many run at the same time.
    concurrency: usize,
    state: Mutex<State>,
    /// Rung when more may be claimed.
    pub(super) room: Notify,
    /// Rung when nothing is held any more.
    pub(super) idle: Notify,
    /// Rung when a job of a counted queue is held no more.
    pub(super) freed: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Arc<Attempt>>,
    /// How many runners there are. Each runs one job at a time, and ends when none waits.
    runners: usize,
    /// How many jobs have lent their slot to others, and about how many bytes they take.
    lent: (usize, usize),
    /// Everything that was claimed and whose ending is not recorded. A job that was lost may be claimed again while its
    /// handler still stops.
    held: HashMap<(JobId, Token), Arc<Attempt>>,
    /// When no more than this many wait, the claimer is told.
    low: usize,
    /// How many were started so far.
    started: u64,
    /// How many of those held were claimed by themselves.
    alone: usize,
    /// How many are held of queues that are limited.
    counted: HashMap<Queue, usize>,
}

/// What may be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Slots for jobs that start at once.
    pub(super) free: usize,
    /// How many jobs wait for a slot.
    pub(super) waiting: usize,
    /// How many jobs were started so far.
    pub(super) started: u64,
    /// Whether a job is held that was claimed by itself.
    pub(super) alone: bool,
}

impl Pool {
    pub(super) fn new(concurrency: usize) -> Self {
        Self {
            concurrency,
            state: Mutex::default(),
            room: Notify::new(),
            idle: Notify::new(),
            freed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of jobs that were claimed.
    pub(super) fn hold(&self, attempts: &[Arc<Attempt>]) {
        let mut state = self.lock();
        state.alone += attempts.iter().filter(|attempt| attempt.claim.alone).count();
        if !state.counted.is_empty() {
            for attempt in attempts {
                state.counted.entry(attempt.job.queue.clone()).and_modify(|count| *count += 1);
            }
        }
        state.held.extend(attempts.iter().map(|attempt| (attempt.name(), Arc::clone(attempt))));
    }

    /// Puts held jobs in line; returns how many runners have to be started for them.
    pub(super) fn queue(&self, attempts: Vec<Arc<Attempt>>) -> usize {
        let mut state = self.lock();
        state.ready.extend(attempts);
        let runners = self.concurrency.saturating_sub(state.runners).min(state.ready.len());
        state.runners += runners;
        runners
    }

    /// The next job, for a runner; without one the runner has ended.
    pub(super) fn next(&self) -> Option<Arc<Attempt>> {
        let mut state = self.lock();
        // Where slots were lent and taken back there may be too many of them.
        let surplus = state.runners > self.concurrency;
        let next = if surplus { None } else { state.ready.pop_front() };
        match next {
            Some(_) => state.started += 1,
            None => state.runners -= 1,
        }
        if state.ready.len() <= state.low {
            self.room.notify_one();
        }
        next
    }

    /// A job that only waits, and takes so many bytes, gives its slot to others.
    pub(super) fn lend(&self, bytes: usize) {
        let mut state = self.lock();
        state.runners = state.runners.saturating_sub(1);
        state.lent = (state.lent.0 + 1, state.lent.1.saturating_add(bytes));
        self.room.notify_one();
    }

    /// It goes on. Until one of them has come to its end, one more runs than is said.
    pub(super) fn take_back(&self, bytes: usize) {
        let mut state = self.lock();
        state.runners += 1;
        state.lent = (state.lent.0.saturating_sub(1), state.lent.1.saturating_sub(bytes));
    }

    /// How many jobs only wait, and about how many bytes they take.
    pub(super) fn lent(&self) -> (usize, usize) {
        self.lock().lent
    }

    /// A runner has ended in an unforeseen way. Whoever waits for it gets another one: `true`.
    pub(super) fn lose_runner(&self) -> bool {
        let mut state = self.lock();
        let replace = !state.ready.is_empty();
        if !replace {
            state.runners -= 1;
        }
        replace
    }

    /// The endings of these attempts are recorded, or are somebody else's.
    pub(super) fn release(&self, attempts: impl IntoIterator<Item = (JobId, Token)>) {
        let mut state = self.lock();
        for attempt in attempts {
            let released = state.held.remove(&attempt);
            let Some(released) = released else { continue };
            state.alone -= usize::from(released.claim.alone);
            if let Some(count) = state.counted.get_mut(&released.job.queue) {
                *count -= 1;
                self.freed.notify_one();
            }
        }
        if state.held.is_empty() {
            self.idle.notify_waiters();
        }
    }

    /// Counts what is held of a queue from now on.
    pub(super) fn count(&self, queue: &Queue) {
        let mut state = self.lock();
        let held = state.held.values().filter(|attempt| attempt.job.queue == *queue).count();
        state.counted.insert(queue.clone(), held);
    }

    /// How many jobs of a counted queue are held.
    pub(super) fn counted(&self, queue: &Queue) -> usize {
        self.lock().counted.get(queue).copied().unwrap_or(0)
    }

    /// Counts a queue no more.
    pub(super) fn forget(&self, queue: &Queue) {
        self.lock().counted.remove(queue);
    }

    /// Takes back what waits for a slot.
    pub(super) fn take_ready(&self) -> Vec<Arc<Attempt>> {
        self.lock().ready.drain(..).collect()
    }

    /// What may be claimed; from now on the claimer is told when no more than `low` jobs wait.
    pub(super) fn room(&self, low: usize) -> Room {
        let mut state = self.lock();
        state.low = low;
        let waiting = state.ready.len();
        let free = self.concurrency.saturating_sub(state.runners).saturating_sub(waiting);
        Room { free, waiting, started: state.started, alone: state.alone > 0 }
    }

    /// How many jobs could start at once.
    pub(super) fn free(&self) -> usize {
        let state = self.lock();
        self.concurrency.saturating_sub(state.runners).saturating_sub(state.ready.len())
    }

    /// Tells jobs that they have been called off.
    pub(super) fn call_off(&self, jobs: &HashSet<JobId>) {
        if !jobs.is_empty() {
            self.stop(Stop::CalledOff, |attempt| jobs.contains(&attempt.id()));
        }
    }

    /// Tells all jobs of which that holds to stop.
    pub(super) fn stop(&self, why: Stop, which: impl Fn(&Attempt) -> bool) {
        for attempt in self.lock().held.values().filter(|attempt| which(attempt)) {
            attempt.stop(why);
        }
    }

    /// How many jobs run now.
    pub(super) fn running(&self) -> usize {
        self.lock().runners
    }

    /// How many jobs this worker has in its hands: waiting for a slot, running, or being settled.
    pub(super) fn held(&self) -> usize {
        self.lock().held.len()
    }

    /// Waits until nothing is held.
    pub(super) async fn until_idle(&self) {
        loop {
            let idle = self.idle.notified();
            let mut idle = core::pin::pin!(idle);
            idle.as_mut().enable();
            if self.held() == 0 {
                return;
            }
            idle.await;
        }
    }
}
