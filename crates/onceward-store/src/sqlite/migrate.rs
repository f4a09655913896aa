//! Bringing the tables of a file up to date.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use onceward_core::{Code, Error, Result, Timestamp};
use rusqlite::{Connection, params};

use super::statements::SQL;
use super::{connect, failure, off_thread, place::Place, transaction};
use crate::migrate::{Applied, Migrator, SQLITE, Status, compare};
use crate::store::StoreKind;
use crate::url::SqliteAt;
use crate::{Clock, OpenOptions};

/// The runner of migrations for a SQLite file.
pub struct SqliteMigrator {
    connection: Arc<Mutex<Connection>>,
    options: OpenOptions,
}

impl SqliteMigrator {
    /// Opens the file at `at`, and creates it when it is not there.
    ///
    /// # Errors
    /// As [`SqliteStore::open`](super::SqliteStore::open), except that the state of the schema does not
    /// matter.
    pub async fn open(at: &SqliteAt, options: OpenOptions) -> Result<Self> {
        let (path, patience) = (at.path.clone(), options.deadline);
        let open = move || {
            connect::check_version(rusqlite::version_number())?;
            match path {
                Some(path) => connect::writer(&Place::prepare(&path)?, patience),
                None => connect::memory(),
            }
        };
        let connection = off_thread("onceward-migrate", open).await?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), options })
    }

    async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, Instant, &dyn Clock) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let (connection, options) = (Arc::clone(&self.connection), self.options.clone());
        let work = move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&connection, Instant::now() + options.deadline, options.clock.as_ref())
        };
        off_thread("onceward-migrate", work).await
    }
}

#[async_trait]
impl Migrator for SqliteMigrator {
    fn kind(&self) -> StoreKind {
        StoreKind::Sqlite
    }

    async fn status(&self) -> Result<Status> {
        self.run(|connection, _, _| status(connection)).await
    }

    async fn up(&self, to: Option<u32>) -> Result<Vec<u32>> {
        self.run(move |connection, deadline, clock| up(connection, to, deadline, clock.wall())).await
    }

    async fn down(&self, to: u32) -> Result<Vec<u32>> {
        self.run(move |connection, deadline, _| down(connection, to, deadline)).await
    }
}

/// How the tables of a file stand to this program.
pub(crate) fn status(connection: &Connection) -> Result<Status> {
    compare(SQLITE, applied(connection)?)
}

fn applied(connection: &Connection) -> Result<Vec<Applied>> {
    let tables = texts(connection, SQL.tables).map_err(failure::failed)?;
    if tables.iter().any(|name| name == "onceward_migration") {
        return migrations(connection).map_err(failure::failed);
    }
    match tables.first() {
        None => Ok(Vec::new()),
        Some(name) => {
            let why = format!("there is something called {name}, but no onceward_migration: it is not ours");
            Err(Error::new(Code::SchemaObjectForeign, why))
        }
    }
}

/// The first column of every row.
pub(crate) fn texts(connection: &Connection, statement: &str) -> rusqlite::Result<Vec<String>> {
    connection.prepare(statement)?.query_map([], |row| row.get(0))?.collect()
}

fn migrations(connection: &Connection) -> rusqlite::Result<Vec<Applied>> {
    let mut read = connection.prepare(SQL.migrations)?;
    let rows = read.query_map([], |row| {
        let applied_at = Timestamp::from_micros(row.get(3)?);
        Ok(Applied { version: row.get(0)?, name: row.get(1)?, checksum: row.get(2)?, applied_at })
    })?;
    rows.collect()
}

/// Applies what is pending, each in a transaction of its own. Who comes second finds nothing to do.
pub(crate) fn up(
    connection: &Connection,
    to: Option<u32>,
    deadline: Instant,
    at: Timestamp,
) -> Result<Vec<u32>> {
    let mut done = Vec::new();
    for migration in SQLITE.iter().filter(|migration| to.is_none_or(|to| migration.version <= to)) {
        if !is_pending(connection, migration.version)? {
            continue; // most often: no lock for looking
        }
        let applied = transaction::locked(connection, deadline, || {
            if !is_pending(connection, migration.version)? {
                return Ok(false);
            }
            connection.execute_batch(migration.up).map_err(failure::failed)?;
            let row = params![migration.version, migration.name, migration.checksum(), at.as_micros()];
            connection.execute(SQL.migration_applied, row).map_err(failure::failed)?;
            Ok(true)
        })?;
        if applied {
            done.push(migration.version);
        }
    }
    Ok(done)
}

fn is_pending(connection: &Connection, version: u32) -> Result<bool> {
    Ok(status(connection)?.pending.iter().any(|(pending, _)| *pending == version))
}

/// Undoes the newest down to (not including) `to`.
fn down(connection: &Connection, to: u32, deadline: Instant) -> Result<Vec<u32>> {
    let mut done = Vec::new();
    for migration in SQLITE.iter().rev().filter(|migration| migration.version > to) {
        let undone = transaction::locked(connection, deadline, || {
            if status(connection)?.applied.last().map(|row| row.version) != Some(migration.version) {
                return Ok(false);
            }
            // Before the statements: the first migration takes the table itself away.
            connection.execute(SQL.migration_undone, [migration.version]).map_err(failure::failed)?;
            connection.execute_batch(migration.down).map_err(failure::failed)?;
            Ok(true)
        })?;
        if undone {
            done.push(migration.version);
        }
    }
    Ok(done)
}
