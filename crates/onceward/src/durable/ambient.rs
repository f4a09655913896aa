//! Which run the code belongs to that is just being polled, and where in it.
//!
//! It is set for each poll and taken away after it, so that nothing that runs beside the code can take itself for it.

use core::cell::RefCell;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::{Arc, Mutex, PoisonError};

use onceward_core::run::{Position, Scope};
use onceward_core::{Code, Error};

use super::run::Run;

/// Where code is.
#[derive(Clone)]
pub(super) enum Ambient {
    /// In a run, in one of its lines.
    In(Arc<Run>, Arc<Mutex<Scope>>),
    /// In the body of a step: what it does is written down as a whole.
    Step,
}

thread_local! {
    static AMBIENT: RefCell<Option<Ambient>> = const { RefCell::new(None) };
}

/// Puts the one before back.
struct Restore(Option<Ambient>);

impl Drop for Restore {
    fn drop(&mut self) {
        let before = self.0.take();
        // A thread that is going away has none any more.
        let _ = AMBIENT.try_with(|ambient| ambient.replace(before));
    }
}

/// Runs something as a part of that.
pub(super) fn within<R>(ambient: Ambient, run: impl FnOnce() -> R) -> R {
    let _restore = Restore(AMBIENT.with(|current| current.replace(Some(ambient))));
    run()
}

/// The run that is being polled, and the next position in it.
pub(super) fn claim() -> Result<(Arc<Run>, Position), Error> {
    AMBIENT.with(|ambient| match &*ambient.borrow() {
        Some(Ambient::In(run, scope)) => {
            Ok((Arc::clone(run), scope.lock().unwrap_or_else(PoisonError::into_inner).take()))
        }
        Some(Ambient::Step) => Err(Error::new(
            Code::RunNested,
            "this is asked for inside the body of a step, where it can't be written down: do it beside the step",
        )),
        None => Err(Error::new(
            Code::RunAbsent,
            "this is asked for outside of a durable function, or in a task that one has spawned, where it can't be \
             written down: start it by `ow.start(…)`, or call its `plain(…)`",
        )),
    })
}

/// The run that is being polled and the next position in it, which stays the next one.
pub(super) fn peek() -> Result<(Arc<Run>, Position), Error> {
    AMBIENT.with(|ambient| match &*ambient.borrow() {
        Some(Ambient::In(run, scope)) => {
            Ok((Arc::clone(run), scope.lock().unwrap_or_else(PoisonError::into_inner).peek()))
        }
        _ => Err(Error::new(Code::RunAbsent, "this is asked for outside of a durable function")),
    })
}

pin_project_lite::pin_project! {
    /// A branch: a line of code that is counted for itself.
    pub struct Branch<F> {
        scope: Result<(Arc<Run>, Arc<Mutex<Scope>>), Error>,
        #[pin]
        future: F,
    }
}

impl<F> core::fmt::Debug for Branch<F> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Branch").finish_non_exhaustive()
    }
}

impl<F: Future> Future for Branch<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        match this.scope {
            Ok((run, scope)) => {
                within(Ambient::In(Arc::clone(run), Arc::clone(scope)), || this.future.poll(cx))
            }
            // Outside of a run everything in it says so itself.
            Err(_) => this.future.poll(cx),
        }
    }
}

/// Where branches begin.
#[derive(Debug)]
pub struct Fork(Result<(Arc<Run>, Position), Error>);

impl Fork {
    /// Begins branches here.
    #[expect(clippy::new_without_default, reason = "it takes a position, which a default does not")]
    pub fn new() -> Self {
        Self(claim())
    }

    /// The branch of that number.
    pub fn branch<F: Future>(&self, number: usize, future: F) -> Branch<F> {
        let scope = |(run, at): &(Arc<Run>, Position)| {
            (Arc::clone(run), Arc::new(Mutex::new(Scope::branch(at, number))))
        };
        Branch { scope: self.0.as_ref().map(scope).map_err(Clone::clone), future }
    }
}
