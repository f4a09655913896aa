//! Migrating a PostgreSQL schema: one migration, one transaction, one runner at a time.

use core::time::Duration;
use std::sync::Arc;

use async_trait::async_trait;
use onceward_core::{Code, Error, Result};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::Type;

use super::check::applied;
use super::dial::{Dial, Purpose};
use super::error;
use super::link::Link;
use super::live::{Live, Param};
use super::statements::{Statements, fill};
use crate::OpenOptions;
use crate::migrate::{self, Applied, Migration, Migrator, POSTGRES, Status};
use crate::store::StoreKind;
use crate::url::PostgresAt;

const VERB: &str = "migrate";

/// How long one migration may take.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Brings a PostgreSQL schema up to date.
pub struct PostgresMigrator {
    link: Link,
    sql: Statements,
    schema: String,
    test_clock: bool,
    deadline: Duration,
}

impl PostgresMigrator {
    /// Connects to the server; the schema may be absent.
    ///
    /// # Errors
    /// As [`PostgresStore::open`](super::PostgresStore::open), but nothing is checked except that it answers and takes
    /// writes.
    pub async fn open(at: &PostgresAt, options: OpenOptions) -> Result<Self> {
        let dial = Arc::new(Dial::new(at, &options)?);
        let link = Link::new(&dial, Purpose::Plain);
        link.lineage().await.map_err(|error| error.at(VERB))?;
        Ok(Self {
            link,
            sql: Statements::new(&at.schema, options.test_clock, at.pooler),
            schema: at.schema.clone(),
            test_clock: options.test_clock,
            deadline: options.deadline,
        })
    }

    async fn connect(&self) -> Result<Arc<Live>> {
        self.link.live(Instant::now() + self.deadline).await
    }

    /// One transaction: `work` is given what the schema has seen, under the lock, and says what has to run and whether
    /// the migration is then applied or not.
    async fn transaction(
        &self,
        work: impl Fn(Vec<Applied>) -> Result<Option<(&'static Migration, Way)>>,
    ) -> Result<Option<u32>> {
        let live = self.connect().await?;
        let outcome = self.within(&live, work).await;
        if outcome.is_err() {
            // The server rolls back what it has not committed.
            live.end();
        }
        outcome
    }

    async fn within(
        &self,
        live: &Live,
        work: impl Fn(Vec<Applied>) -> Result<Option<(&'static Migration, Way)>>,
    ) -> Result<Option<u32>> {
        self.run(live, &self.begin()).await?;
        let Some((migration, way)) = work(self.applied(live).await?)? else {
            self.run(live, "ROLLBACK").await?;
            return Ok(None);
        };
        match way {
            Way::Up => {
                self.run(live, &self.filled(migration.up)).await?;
                self.record(live, migration).await?;
            }
            Way::Down => {
                self.forget(live, migration).await?;
                self.run(live, &self.filled(migration.down)).await?;
            }
        }
        self.run(live, "COMMIT").await?;
        // A COMMIT that was answered by a rollback looks the same to the driver (E1), so the table is asked.
        let committed = self.applied(live).await?.iter().any(|row| row.version == migration.version);
        if committed == (way == Way::Up) {
            return Ok(Some(migration.version));
        }
        let why = format!("PostgreSQL rolled migration {} back", migration.name);
        Err(Error::new(Code::StoreFailed, why))
    }

    /// Waits for other runners, but not for ever, and for nothing else.
    fn begin(&self) -> String {
        let lock = i64::from_be_bytes(self.lock_key());
        let wait = self.deadline.as_millis();
        format!(
            "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; \
             SET LOCAL lock_timeout = {wait}; SELECT pg_advisory_xact_lock({lock})"
        )
    }

    fn lock_key(&self) -> [u8; 8] {
        let digest = Sha256::digest(format!("onceward migrations of {}", self.schema));
        let mut key = [0; 8];
        key.copy_from_slice(digest.get(..8).unwrap_or(&[0; 8]));
        key
    }

    fn filled(&self, text: &str) -> String {
        fill(text, &self.schema, self.test_clock, false)
    }

    async fn applied(&self, live: &Live) -> Result<Vec<Applied>> {
        let settings = self.ask(live, &self.sql.settings.text, &[]).await?;
        let has_migrations =
            settings.first().is_some_and(|row| row.try_get("has_migrations").unwrap_or(false));
        if !has_migrations {
            return Ok(Vec::new());
        }
        applied(&self.ask(live, &self.sql.migrations.text, &[]).await?)
    }

    async fn record(&self, live: &Live, migration: &Migration) -> Result<()> {
        let text = "INSERT INTO {schema}.migration (version, name, checksum) VALUES ($1, $2, $3)";
        let version = i64::from(migration.version);
        let params: &[(Param<'_>, Type)] =
            &[(&version, Type::INT8), (&migration.name, Type::TEXT), (&migration.checksum(), Type::TEXT)];
        self.ask(live, &self.filled(text), params).await.map(drop)
    }

    async fn forget(&self, live: &Live, migration: &Migration) -> Result<()> {
        let version = i64::from(migration.version);
        let text = self.filled("DELETE FROM {schema}.migration WHERE version = $1");
        self.ask(live, &text, &[(&version, Type::INT8)]).await.map(drop)
    }

    /// Plans are made from statistics; a fresh table should not wait for autovacuum to have some.
    async fn analyze(&self) -> Result<()> {
        let live = self.connect().await?;
        let tables =
            ["lease", "lease_waiter", "history", "once", "upkeep"].map(|table| format!("{{schema}}.{table}"));
        self.run(&live, &self.filled(&format!("ANALYZE {}", tables.join(", ")))).await
    }

    async fn run(&self, live: &Live, text: &str) -> Result<()> {
        let answer = timeout_at(Instant::now() + PATIENCE, live.client().batch_execute(text)).await;
        answer.map_err(|_| out_of_patience())?.map_err(of_migration)
    }

    async fn ask(
        &self,
        live: &Live,
        text: &str,
        params: &[(Param<'_>, Type)],
    ) -> Result<Vec<tokio_postgres::Row>> {
        let answer = timeout_at(Instant::now() + PATIENCE, live.client().query_typed(text, params)).await;
        answer.map_err(|_| out_of_patience())?.map_err(of_migration)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

fn out_of_patience() -> Error {
    Error::new(Code::CommitUnknown, "the migration was sent and no answer came").uncertain()
}

fn of_migration(error: tokio_postgres::Error) -> Error {
    let state = error.code().map(|state| state.code().to_owned()).unwrap_or_default();
    let words = error.as_db_error().map(|answer| answer.message().to_owned()).unwrap_or_default();
    match state.as_str() {
        "55P03" => Error::new(Code::StoreBusy, "another program is migrating this schema"),
        "42P07" | "42P06" | "42723" => {
            let why = format!("something else lives where our tables should be: {words}");
            Error::new(Code::SchemaObjectForeign, why)
        }
        _ => error::of_statement(error).of_write(),
    }
}

#[async_trait]
impl Migrator for PostgresMigrator {
    fn kind(&self) -> StoreKind {
        StoreKind::Postgres
    }

    async fn status(&self) -> Result<Status> {
        let live = self.connect().await?;
        migrate::compare(POSTGRES, self.applied(&live).await.map_err(|error| error.at(VERB))?)
    }

    async fn up(&self, to: Option<u32>) -> Result<Vec<u32>> {
        let next = |applied: Vec<Applied>| {
            let status = migrate::compare(POSTGRES, applied)?;
            let version = status.pending.first().map(|(version, _)| *version);
            let version = version.filter(|version| to.is_none_or(|to| *version <= to));
            let known = POSTGRES.iter().find(|migration| Some(migration.version) == version);
            Ok(known.map(|migration| (migration, Way::Up)))
        };
        let mut done = Vec::new();
        while let Some(version) = self.transaction(next).await.map_err(|error| error.at(VERB))? {
            done.push(version);
        }
        // The tables of the last migration are there if it is.
        if done.last().is_some_and(|last| POSTGRES.last().is_some_and(|newest| newest.version == *last)) {
            self.analyze().await.map_err(|error| error.at(VERB))?;
        }
        Ok(done)
    }

    async fn down(&self, to: u32) -> Result<Vec<u32>> {
        let last = |applied: Vec<Applied>| {
            let status = migrate::compare(POSTGRES, applied)?;
            let Some(version) = status.applied.last().map(|row| row.version).filter(|last| *last > to) else {
                return Ok(None);
            };
            match POSTGRES.iter().find(|migration| migration.version == version) {
                Some(migration) => Ok(Some((migration, Way::Down))),
                None => {
                    let why = format!("this program does not know how to undo migration {version}");
                    Err(Error::new(Code::SchemaAhead, why))
                }
            }
        };
        let mut undone = Vec::new();
        while let Some(version) = self.transaction(last).await.map_err(|error| error.at(VERB))? {
            undone.push(version);
        }
        Ok(undone)
    }
}
