//! A verb on its way through a thread: what to do there, and whom to tell.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use onceward_core::{Code, Error, Result};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::clocks::Now;
use super::failure;

/// Something to do on a connection.
pub(crate) trait Task: Send {
    /// How many rows it is about.
    fn rows(&self) -> usize;
    /// Until when it may wait for the write lock.
    fn deadline(&self) -> Instant;
    /// Whether nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool;
    /// The verb, for messages.
    fn verb(&self) -> &'static str;
    /// Does it, and keeps the answer. `false` where it failed: its changes are not to be kept. It may be done
    /// again after it was undone.
    fn run(&mut self, connection: &Connection, now: &Now) -> bool;
    /// Gives the answer: the one that was kept, or the error that befell everything done together with it.
    fn answer(self: Box<Self>, together: Result<()>);
}

/// A [`Task`] made of a closure.
pub(crate) struct ClosureTask<F, R> {
    verb: &'static str,
    rows: usize,
    deadline: Instant,
    work: F,
    found: Option<Result<R>>,
    reply: oneshot::Sender<Result<R>>,
}

impl<F, R> ClosureTask<F, R>
where
    F: Fn(&Connection, &Now) -> rusqlite::Result<R> + Send,
    R: Send,
{
    /// A task, and where its answer arrives.
    pub(crate) fn new(
        verb: &'static str,
        rows: usize,
        deadline: Instant,
        work: F,
    ) -> (Self, oneshot::Receiver<Result<R>>) {
        let (reply, answer) = oneshot::channel();
        (Self { verb, rows, deadline, work, found: None, reply }, answer)
    }
}

impl<F, R> Task for ClosureTask<F, R>
where
    F: Fn(&Connection, &Now) -> rusqlite::Result<R> + Send,
    R: Send,
{
    fn rows(&self) -> usize {
        self.rows
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn verb(&self) -> &'static str {
        self.verb
    }

    fn run(&mut self, connection: &Connection, now: &Now) -> bool {
        let found = catch_unwind(AssertUnwindSafe(|| (self.work)(connection, now)));
        let found = found.map(|found| found.map_err(failure::failed)).unwrap_or_else(|_| {
            Err(Error::new(Code::StoreFailed, "a statement's code panicked: please report it"))
        });
        let kept = found.is_ok();
        self.found = Some(found);
        kept
    }

    fn answer(self: Box<Self>, together: Result<()>) {
        let answer = match (self.found, together) {
            // Its own failure says more than what befell the others.
            (Some(Err(own)), _) => Err(own),
            (_, Err(error)) => Err(error),
            (Some(found), Ok(())) => found,
            (None, Ok(())) => Err(failure::closed()),
        };
        // Who has stopped waiting finds its row by its session or its token.
        let _ = self.reply.send(answer.map_err(|error| error.at(self.verb)));
    }
}
