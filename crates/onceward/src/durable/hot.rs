//! The runs that are in the memory of this process: what arrives for them need not take the way through the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use onceward_core::job::State;
use onceward_core::run::Arrival;
use onceward_core::{JobId, Token};
use onceward_store::JobRef;
use tokio::sync::Notify;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::worker::EndedChild;

/// Under which token each was taken up, and where what arrives for it goes.
type Runs = HashMap<JobId, (Token, UnboundedSender<News>)>;

/// Something that a run in memory hears.
pub(crate) enum News {
    /// Something has arrived for it.
    Arrived(Vec<Arrival>),
    /// A child of it has succeeded, which is recorded when it stands in the run's journal.
    Child(Box<EndedChild>),
    /// Somebody has paused it: it gives itself back.
    Pause,
}

/// What is in memory.
#[derive(Default)]
pub(crate) struct Hot {
    runs: Mutex<Runs>,
    ends: Mutex<Ends>,
}

/// Who waits for the end of a run.
#[derive(Default)]
struct Ends {
    watched: HashMap<JobId, Weak<Watched>>,
    /// With how many of them those are let go that nobody waits for any more.
    sweep_at: usize,
}

/// How a run has ended.
pub(crate) struct End {
    pub(crate) state: State,
    pub(crate) result: Option<Vec<u8>>,
    pub(crate) error: Option<String>,
}

/// The end of a run that somebody waits for.
#[derive(Default)]
pub(crate) struct Watched {
    end: Mutex<Option<End>>,
    /// Rung when it has ended in this process.
    pub(crate) bell: Notify,
}

impl Watched {
    /// How it has ended, for the first one who asks: there may be another end when it was asked for again.
    pub(crate) fn take(&self) -> Option<End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Hot {
    fn lock(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run has been taken up under this token: what arrives for it comes out of the receiver.
    pub(crate) fn enter(&self, id: JobId, token: Token) -> UnboundedReceiver<News> {
        let (sender, receiver) = unbounded_channel();
        self.lock().insert(id, (token, sender));
        receiver
    }

    /// It is not in memory any more.
    pub(crate) fn leave(&self, id: JobId, token: Token) {
        let mut runs = self.lock();
        if runs.get(&id).is_some_and(|(of, _)| *of == token) {
            runs.remove(&id);
        }
    }

    /// Tells a run what has arrived; `false` where it is not here.
    pub(crate) fn tell(&self, id: JobId, arrivals: Vec<Arrival>) -> bool {
        self.lock().get(&id).is_some_and(|(_, sender)| sender.send(News::Arrived(arrivals)).is_ok())
    }

    /// Tells runs that they are paused, as far as they are here.
    pub(crate) fn pause(&self, runs: impl IntoIterator<Item = JobId>) {
        let here = self.lock();
        for (_, sender) in runs.into_iter().filter_map(|id| here.get(&id)) {
            // One that has just ended hears nothing.
            let _ = sender.send(News::Pause);
        }
    }

    /// Gives the end of a child to its run; back where that is not here.
    pub(crate) fn end_child(&self, run: JobId, child: Box<EndedChild>) -> Option<Box<EndedChild>> {
        let runs = self.lock();
        let Some((_, sender)) = runs.get(&run) else { return Some(child) };
        match sender.send(News::Child(child)) {
            Ok(()) => None,
            Err(SendError(News::Child(child))) => Some(child),
            Err(_) => None,
        }
    }

    /// Whoever waits for the end of this run hears of it, if it ends in this process.
    pub(crate) fn watch(&self, run: JobId) -> Arc<Watched> {
        let mut ends = self.ends();
        if let Some(watched) = ends.watched.get(&run).and_then(Weak::upgrade) {
            return watched;
        }
        if ends.watched.len() >= ends.sweep_at {
            ends.watched.retain(|_, watched| watched.strong_count() > 0);
            ends.sweep_at = (ends.watched.len() * 2).max(64);
        }
        let watched = Arc::<Watched>::default();
        ends.watched.insert(run, Arc::downgrade(&watched));
        watched
    }

    /// A job of this process has ended, and how, if that is known.
    pub(crate) fn has_ended(&self, job: JobId, end: impl FnOnce() -> Option<End>) {
        let watched = self.ends().watched.get(&job).and_then(Weak::upgrade);
        if let Some(watched) = watched {
            *watched.end.lock().unwrap_or_else(PoisonError::into_inner) = end();
            watched.bell.notify_waiters();
        }
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of these runs that are here, and under which token.
    pub(crate) fn those(&self, runs: Vec<JobRef>) -> Vec<(JobRef, Token)> {
        let here = self.lock();
        let token = |run: &JobRef| here.get(&run.id).map(|(token, _)| *token);
        runs.into_iter().filter_map(|run| token(&run).map(|token| (run, token))).collect()
    }

    /// Tells an attempt of a run what has arrived, if it still is the one that is here: another one may have taken it.
    pub(crate) fn tell_attempt(&self, id: JobId, token: Token, arrivals: Vec<Arrival>) {
        if let Some((_, sender)) = self.lock().get(&id).filter(|(of, _)| *of == token) {
            // One that has just ended hears nothing.
            let _ = sender.send(News::Arrived(arrivals));
        }
    }

    /// Whether a run is here.
    pub(crate) fn holds(&self, id: JobId) -> bool {
        self.lock().contains_key(&id)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}
