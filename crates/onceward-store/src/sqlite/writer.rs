//! The one thread that writes: it takes what has gathered, does it in one transaction, and answers after the
//! commit.
//!
//! A commit costs a flush of the disk, however much is in it. So everything that waits when the write lock
//! has been got goes into one transaction, and so does what arrives while it is being done: one flush for
//! many callers, no timer, and no delay for one alone. A task that fails takes nothing with it: all are undone
//! and done again, each in a savepoint of its own. (Savepoints from the start would have SQLite copy every
//! page for every task.) Nothing is answered before the commit is known (G5).

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use onceward_core::{Code, Error, Result};
use rusqlite::Connection;

use super::Shared;
use super::failure;
use super::queue::Heard;
use super::task::Task;
use super::transaction::{self, Patience};
use crate::{CommitOutcome, Wake};

/// The most rows in one transaction: a renewal that arrives while it runs waits no longer than for these.
const GROUP_ROWS_MAX: usize = 2_048;
/// How often the file is looked at for the commits of others, while somebody waits for one.
const WATCH_INTERVAL: Duration = Duration::from_millis(5);

/// The thread's own things.
pub(crate) struct Writer {
    connection: Connection,
    shared: Arc<Shared>,
    patience: Patience,
    /// A commit has failed, and what it left in the log has not been overwritten yet.
    in_doubt: bool,
    /// A task has failed: those done with it are done again, each so that it can be undone alone.
    careful: bool,
    watch: Option<Watch>,
}

/// What was last seen of the commits of others.
struct Watch {
    version: i64,
    at: Instant,
}

impl Writer {
    pub(crate) fn new(connection: Connection, shared: Arc<Shared>) -> Self {
        Self {
            connection,
            shared,
            patience: Patience::default(),
            in_doubt: false,
            careful: false,
            watch: None,
        }
    }

    /// Works until the store is closed and everything is done.
    pub(crate) fn run(&mut self) {
        // The lock is waited for here, not in SQLite, so that deadlines are kept.
        if let Err(error) = self.connection.busy_timeout(Duration::ZERO) {
            tracing::warn!(%error, "the busy timeout could not be set");
        }
        while self.has_work() {
            self.group();
        }
    }

    /// Waits for work, and meanwhile looks for commits of others if anybody wants to know.
    fn has_work(&mut self) -> bool {
        loop {
            let wanted = self.is_watched();
            match self.shared.writes.listen(wanted.then_some(WATCH_INTERVAL)) {
                Heard::Work => return true,
                Heard::End => return false,
                Heard::Nudge | Heard::Nothing => self.look_for_commits(),
            }
        }
    }

    /// Everything that waits, in one transaction.
    fn group(&mut self) {
        match self.take_lock() {
            Ok(true) => self.patience = Patience::default(),
            Ok(false) => {
                for late in self.shared.writes.take_late(Instant::now()) {
                    late.answer(Err(failure::busy()));
                }
                return self.patience.wait();
            }
            Err(error) => return answer(self.shared.writes.take_all(), &Err(error)),
        }
        let before = self.connection.total_changes();
        let mut done = Vec::new();
        let ran = self.run_tasks(&mut done);
        if ran.is_err() && !self.careful {
            transaction::rollback(&self.connection);
            self.careful = true;
            return self.shared.writes.put_back(done);
        }
        self.careful = false;
        let together = ran.and_then(|()| self.commit());
        transaction::rollback(&self.connection); // nothing is left open, whatever has happened
        if together.is_ok() && self.connection.total_changes() != before {
            self.shared.counted.commits.fetch_add(1, Ordering::Relaxed);
        }
        answer(done, &together);
        if self.is_watched() && self.watch.as_ref().is_none_or(|watch| watch.at.elapsed() >= WATCH_INTERVAL) {
            self.look_for_commits();
        }
    }

    fn take_lock(&mut self) -> Result<bool> {
        if let Some(place) = &self.shared.place {
            place.verify()?;
        }
        if self.in_doubt {
            // Of what waits now nothing was sent: whatever befalls the doubt, it is certain that none of it
            // was done.
            let settled = transaction::settle_doubt(&self.connection).map_err(|error| {
                let why = "a commit has failed, and the disk still takes no other";
                Error::new(Code::StoreFailed, why).with_source(error)
            });
            if !settled? {
                return Ok(false);
            }
            self.in_doubt = false;
        }
        transaction::begin(&self.connection).map_err(failure::failed)
    }

    /// Runs what waits and what arrives meanwhile. An error is one that undoes everything.
    fn run_tasks(&self, done: &mut Vec<Box<dyn Task>>) -> Result<()> {
        let (mut rows, mut ran) = (0, Ok(()));
        while ran.is_ok()
            && rows < GROUP_ROWS_MAX
            && let Some(mut task) = self.shared.writes.pop()
        {
            if task.is_abandoned() {
                continue; // nobody waits for it any more, and nothing of it was done
            }
            rows += task.rows();
            ran = if self.careful { self.run_apart(task.as_mut()) } else { self.run_one(task.as_mut()) };
            done.push(task);
        }
        self.shared.counted.transaction(rows);
        ran
    }

    /// Runs one task. If it fails, everything done before it is to be undone.
    fn run_one(&self, task: &mut dyn Task) -> Result<()> {
        // Read anew for every task: a claim's time begins after it was asked for, so nobody trusts it for too
        // long (L5).
        let now = self.shared.clocks.now();
        if task.run(&self.connection, &now) {
            return Ok(());
        }
        Err(Error::new(Code::StoreFailed, format!("{} failed in the same transaction", task.verb())))
    }

    /// Runs one task so that nothing of it is left if it fails, and everything else is.
    fn run_apart(&self, task: &mut dyn Task) -> Result<()> {
        self.statement("SAVEPOINT task")?;
        if let Err(error) = self.run_one(task) {
            if self.connection.is_autocommit() {
                return Err(error); // SQLite has given up the whole transaction, for want of space or of the disk
            }
            self.statement("ROLLBACK TO task")?;
        }
        self.statement("RELEASE task")
    }

    fn statement(&self, sql: &str) -> Result<()> {
        let ran = self.connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        ran.map(|_| ()).map_err(failure::failed)
    }

    fn commit(&mut self) -> Result<()> {
        let (outcome, answer) = transaction::commit(&self.connection);
        if outcome == CommitOutcome::Unknown {
            self.in_doubt = true;
            // Before anybody reads his row back: what he finds must stay true. Tried again if it fails now.
            let settled = transaction::settle_doubt(&self.connection);
            self.in_doubt = !matches!(settled, Ok(true));
            tracing::error!(error = ?answer, settled = !self.in_doubt, "a commit failed");
        }
        answer
    }

    fn is_watched(&self) -> bool {
        self.shared.place.is_some() && self.shared.wakes.receiver_count() > 0
    }

    /// Wakes those who wait if anybody else has committed. Our own commits don't count: SQLite leaves them
    /// out on the connection that made them.
    fn look_for_commits(&mut self) {
        if !self.is_watched() {
            self.watch = None;
            return;
        }
        let version = self.connection.prepare_cached("PRAGMA data_version");
        let version = version.and_then(|mut version| version.query_row([], |row| row.get(0)));
        let Ok(version) = version else { return };
        let seen = self.watch.replace(Watch { version, at: Instant::now() });
        // At the first look something may have happened since they began to wait.
        if seen.is_none_or(|seen| seen.version != version) {
            let _ = self.shared.wakes.send(Wake::Anything);
        }
    }
}

fn answer(tasks: Vec<Box<dyn Task>>, together: &Result<()>) {
    for task in tasks {
        task.answer(together.clone());
    }
}
