//! Beginning and ending a transaction: the write lock is taken at once or not at all, and a commit has three
//! outcomes.

use core::time::Duration;
use std::thread;
use std::time::Instant;

use onceward_core::{Error, Result};
use rusqlite::Connection;

use super::failure;
use super::statements::SQL;
use crate::CommitOutcome;

/// Takes the write lock. `false` where somebody else has it.
///
/// A transaction that first reads and then writes can fail in the middle, at once and whatever the busy
/// timeout (N47); one that begins with the lock can't.
pub(crate) fn begin(connection: &Connection) -> rusqlite::Result<bool> {
    match connection.prepare_cached("BEGIN IMMEDIATE")?.execute([]) {
        Ok(_) => Ok(true),
        Err(error) if failure::is_busy(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes the write lock, or gives up at `deadline`.
pub(crate) fn begin_until(connection: &Connection, deadline: Instant) -> Result<()> {
    let mut patience = Patience::default();
    while !begin(connection).map_err(failure::failed)? {
        if Instant::now() >= deadline {
            return Err(failure::busy());
        }
        patience.wait();
    }
    Ok(())
}

/// Runs `work` in a transaction of its own, with the write lock.
pub(crate) fn locked<R>(
    connection: &Connection,
    deadline: Instant,
    work: impl FnOnce() -> Result<R>,
) -> Result<R> {
    begin_until(connection, deadline)?;
    let found = work();
    if found.is_ok() {
        commit(connection).1?;
    } else {
        rollback(connection);
    }
    found
}

/// Commits. The error, if there is one, is uncertain exactly where the outcome is unknown.
pub(crate) fn commit(connection: &Connection) -> (CommitOutcome, Result<(), Error>) {
    let sent = connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
    let Err(error) = sent else { return (CommitOutcome::Committed, Ok(())) };
    let outcome = outcome_of_failure(connection.is_autocommit());
    rollback(connection);
    let error = match outcome {
        CommitOutcome::Unknown => failure::unknown(error),
        _ => failure::failed(error),
    };
    (outcome, Err(error))
}

/// What a failed commit has left. SQLite refuses some commits and keeps the transaction open. Where it has
/// ended the transaction instead, it was on its way to the disk: the log may hold all of it, and a crash now
/// would bring it back.
fn outcome_of_failure(transaction_ended: bool) -> CommitOutcome {
    if transaction_ended { CommitOutcome::Unknown } else { CommitOutcome::RolledBack }
}

/// Ends a transaction without its changes; harmless where there is none.
pub(crate) fn rollback(connection: &Connection) {
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        tracing::warn!(%error, "a transaction could not be rolled back");
    }
}

/// Overwrites what a failed commit may have left in the log, so that no crash can bring it back any more.
/// `false` where somebody else has the write lock.
pub(crate) fn settle_doubt(connection: &Connection) -> Result<bool> {
    if !begin(connection).map_err(failure::failed)? {
        return Ok(false);
    }
    let touched = connection.execute(SQL.meta_touch, []);
    if let Err(error) = touched {
        rollback(connection);
        return Err(failure::failed(error));
    }
    commit(connection).1.map(|()| true)
}

/// How to wait for a lock that gives no signal: shortly at first, since most are held for less than a
/// millisecond.
#[derive(Default)]
pub(crate) struct Patience {
    tries: u32,
}

impl Patience {
    pub(crate) fn wait(&mut self) {
        self.tries = self.tries.saturating_add(1);
        thread::sleep(match self.tries {
            ..=50 => Duration::from_micros(100),
            51..=200 => Duration::from_millis(1),
            _ => Duration::from_millis(5),
        });
    }
}

#[cfg(test)]
mod tests {
    use onceward_core::Code;

    use super::*;

    #[test]
    fn a_refused_commit_is_known_to_be_rolled_back() {
        let connection = Connection::open_in_memory().unwrap();
        let tables = "CREATE TABLE a (id INTEGER PRIMARY KEY);
            CREATE TABLE b (a INTEGER REFERENCES a (id) DEFERRABLE INITIALLY DEFERRED);";
        connection.execute_batch(tables).unwrap();
        connection.pragma_update(None, "foreign_keys", true).unwrap();
        assert!(begin(&connection).unwrap());
        connection.execute("INSERT INTO b VALUES (1)", []).unwrap();
        let (outcome, error) = commit(&connection);
        let error = error.unwrap_err();
        assert_eq!((outcome, error.code()), (CommitOutcome::RolledBack, Code::StoreFailed));
        assert!(!error.is_uncertain());
        assert!(connection.is_autocommit(), "nothing is left open");
        let rows: i64 = connection.query_row("SELECT count(*) FROM b", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0);
    }

    #[test]
    fn a_commit_that_ended_its_transaction_by_failing_is_unknown() {
        assert_eq!(outcome_of_failure(true), CommitOutcome::Unknown);
        assert_eq!(outcome_of_failure(false), CommitOutcome::RolledBack);
    }
}
