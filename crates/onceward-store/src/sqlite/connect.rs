//! Opening connections: which SQLite, with which settings, on which file.

use core::time::Duration;
use std::path::Path;
use std::thread;
use std::time::Instant;

use onceward_core::{Code, Error, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::failure;

/// SQLite 3.51.3, the first without the fault that could destroy a log two connections write to (N49).
const VERSION_MIN: i32 = 3_051_003;
/// As many statements as there are, and some.
const STATEMENTS: usize = 160;
/// The pages a connection keeps in memory, in KiB.
const CACHE_KIB: i64 = 16 * 1024;
/// The log is folded into the file when it has this many pages.
const CHECKPOINT_PAGES: i64 = 1_000;
/// A log that grew larger is cut to this when it starts anew.
const LOG_BYTES: i64 = 64 * 1024 * 1024;

/// Refuses an SQLite that can destroy a file which several connections write to.
pub(crate) fn check_version(number: i32) -> Result<()> {
    if number >= VERSION_MIN {
        return Ok(());
    }
    let parts = [number / 1_000_000, number / 1_000 % 1_000, number % 1_000];
    let [major, minor, patch] = parts;
    Err(Error::new(Code::SqliteTooOld, format!("this is SQLite {major}.{minor}.{patch}; 3.51.3 is needed")))
}

/// A connection that writes.
pub(crate) fn writer(path: &Path, patience: Duration) -> Result<Connection> {
    // Without the flag to create: the file is there, with the rights we gave it.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failure::failed)?;
    settle_in(&connection, patience).map_err(failure::failed)?;
    if connection.is_readonly("main").map_err(failure::failed)? {
        return Err(Error::new(Code::StoreReadOnly, format!("{} can only be read", path.display())));
    }
    use_log(&connection, Instant::now() + patience)?;
    durable(&connection)?;
    Ok(connection)
}

/// A connection that only reads.
pub(crate) fn reader(path: &Path, patience: Duration) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failure::failed)?;
    settle_in(&connection, patience).map_err(failure::failed)?;
    connection.pragma_update(None, "query_only", true).map_err(failure::failed)?;
    Ok(connection)
}

/// A connection to a database of its own in memory.
pub(crate) fn memory() -> Result<Connection> {
    let connection = Connection::open_in_memory().map_err(failure::failed)?;
    settle_in(&connection, Duration::ZERO).map_err(failure::failed)?;
    Ok(connection)
}

/// What every connection is set to.
fn settle_in(connection: &Connection, patience: Duration) -> rusqlite::Result<()> {
    connection.busy_timeout(patience)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    for (setting, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        // Nothing but our own statements runs on our connections, whatever else lies in the file.
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true),
    ] {
        connection.set_db_config(setting, on)?;
    }
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)
}

/// Switches the file to a write-ahead log, if it has none yet. That wants the file for a moment alone, and
/// SQLite does not always wait for it.
fn use_log(connection: &Connection, deadline: Instant) -> Result<()> {
    loop {
        let mode =
            connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode == "wal" => break,
            Ok(mode) => {
                let why = format!(
                    "the file keeps its journal mode \"{mode}\": a write-ahead log can't be had there"
                );
                return Err(Error::new(Code::StoreFailed, why));
            }
            Err(error) if failure::is_busy(&error) && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(failure::failed(error)),
        }
    }
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(failure::failed)?;
    let limit = connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES, |_| Ok(()));
    limit.map_err(failure::failed)
}

/// A commit is on the disk when it is answered (O9): `synchronous` is FULL, and nothing less.
fn durable(connection: &Connection) -> Result<()> {
    const FULL: i64 = 2;
    connection.pragma_update(None, "synchronous", FULL).map_err(failure::failed)?;
    let found = connection.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0));
    match found.map_err(failure::failed)? {
        FULL => Ok(()),
        other => Err(Error::new(Code::CommitNotDurable, format!("synchronous stays at {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n49_an_sqlite_that_can_destroy_a_shared_log_is_refused() {
        assert!(check_version(rusqlite::version_number()).is_ok(), "the one we bring is not");
        assert!(check_version(3_051_003).is_ok() && check_version(4_000_000).is_ok());
        let error = check_version(3_051_002).unwrap_err();
        assert_eq!(error.code(), Code::SqliteTooOld);
        assert!(error.to_string().contains("3.51.2"), "{error}");
        assert!(check_version(3_040_001).is_err());
    }

    #[test]
    fn other_files_are_out_of_reach() {
        let connection = memory().unwrap();
        let path = std::env::temp_dir().join("onceward-attached.db");
        let sql = format!("ATTACH '{}' AS other", path.display());
        assert!(connection.execute_batch(&sql).is_err(), "no file is created");
        assert!(!path.exists());
        assert!(connection.query_row("SELECT load_extension('x')", [], |_| Ok(())).is_err());
    }
}
