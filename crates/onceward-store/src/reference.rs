//! What the database can do without us: single-row commits, the yardstick of every benchmark.
//!
//! Absolute figures say more about a machine than about a program, so every benchmark reports ratios to this, measured
//! in the same run, round by round.

use core::time::Duration;
use std::time::Instant;

use onceward_core::{Code, Error, Result};

use crate::StoreKind;
use crate::enlist::{Enlist, Param, Row};
use crate::url::StoreUrl;

/// One measurement: how long each operation took, and how long all of them.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Microseconds of each operation, in no order.
    pub micros: Vec<u32>,
    /// From the first start to the last end.
    pub elapsed: Duration,
}

impl Sample {
    /// Operations a second.
    pub fn per_second(&self) -> f64 {
        if self.elapsed.is_zero() { 0.0 } else { self.micros.len() as f64 / self.elapsed.as_secs_f64() }
    }

    /// The latency that `part` (0 to 1) of the operations stayed within, in milliseconds.
    pub fn percentile_ms(&mut self, part: f64) -> f64 {
        if self.micros.is_empty() {
            return 0.0;
        }
        self.micros.sort_unstable();
        let last = self.micros.len() - 1;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 <= part <= 1")]
        let at = ((last as f64) * part).round() as usize;
        f64::from(self.micros.get(at).copied().unwrap_or_default()) / 1000.0
    }

    /// Notes one operation.
    pub fn note(&mut self, began: Instant) {
        self.micros.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
}

/// What a server has used up so far, where it can be seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Seconds of CPU of the server's processes, if they run on this host.
    pub cpu_s: Option<f64>,
    /// Bytes of write-ahead log.
    pub wal_bytes: Option<u64>,
}

/// The yardstick of one store.
pub enum Reference {
    /// Nothing to compare with: no commits are made.
    Memory,
    /// Single-row commits at `synchronous=FULL`, one connection: SQLite has one writer.
    #[cfg(feature = "sqlite")]
    Sqlite(std::path::PathBuf),
    /// Single-row insert commits by eight connections.
    #[cfg(feature = "postgres")]
    Postgres(Box<postgres::Table>),
}

impl Reference {
    /// Makes ready beside the store at `url`: a table of its own in the store's schema, or a file of its own.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn open(url: &str) -> Result<Self> {
        match StoreUrl::parse(url)? {
            #[cfg(feature = "sqlite")]
            StoreUrl::Sqlite(at) => Ok(at.path.map_or(Self::Memory, |path| {
                let mut name = path.into_os_string();
                name.push(".reference");
                Self::Sqlite(name.into())
            })),
            #[cfg(feature = "postgres")]
            StoreUrl::Postgres(at) => Ok(Self::Postgres(Box::new(postgres::Table::open(&at).await?))),
            _ => Ok(Self::Memory),
        }
    }

    /// What is measured, in words.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory => "none: nothing is committed",
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => "single-row commits, WAL, synchronous=FULL, one connection",
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "single-row insert commits by 8 connections, default durability",
        }
    }

    /// Commits for `time` over as many connections as the yardstick has.
    ///
    /// # Errors
    /// Those of an unreachable store.
    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres")),
        expect(unused_variables, reason = "nothing to time")
    )]
    pub async fn commits(&self, time: Duration) -> Result<Sample> {
        match self {
            Self::Memory => Ok(Sample::default()),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => sqlite::commits(path.clone(), time).await,
            #[cfg(feature = "postgres")]
            Self::Postgres(table) => table.commits(8, time).await,
        }
    }

    /// Commits for `time` over one connection.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn single_commits(&self, time: Duration) -> Result<Sample> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(table) => table.commits(1, time).await,
            other => Box::pin(other.commits(time)).await,
        }
    }

    /// What the server has used up so far.
    pub async fn usage(&self) -> Usage {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(table) => table.usage().await.unwrap_or_default(),
            _ => Usage::default(),
        }
    }

    /// How many bytes of what was logged between two looks were images of whole pages, where that can be seen.
    #[cfg_attr(not(feature = "postgres"), expect(unused_variables, reason = "only PostgreSQL writes such"))]
    pub async fn page_images(&self, from: &Usage, to: &Usage) -> Option<u64> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(table) => table.page_images(from.wal_bytes?, to.wal_bytes?).await,
            _ => None,
        }
    }

    /// Removes what [`open`](Self::open) made, the schema too: nothing else may be in it any more.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn remove(self) -> Result<()> {
        match self {
            Self::Memory => Ok(()),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => {
                sqlite::remove(&path);
                Ok(())
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(table) => table.remove().await,
        }
    }
}

/// A connection of the user's beside the store: for transactions that enqueue, and for snapshots that are held.
pub enum Beside {
    /// On SQLite.
    #[cfg(feature = "sqlite")]
    Sqlite(Box<rusqlite::Connection>),
    /// On PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(Box<crate::postgres::Beside>),
}

/// A transaction of that connection.
pub enum BesideTx<'a> {
    /// On SQLite.
    #[cfg(feature = "sqlite")]
    Sqlite(rusqlite::Transaction<'a>),
    /// On PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(tokio_postgres::Transaction<'a>),
}

fn beside_failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Code::StoreFailed, "the connection beside the store failed").with_source(error)
}

impl Beside {
    /// Connects to the database of the store at `url`.
    ///
    /// # Errors
    /// Those of an unreachable store, and [`Code::DriverMissing`] for a store in memory.
    pub async fn connect(url: &str) -> Result<Self> {
        match StoreUrl::parse(url)? {
            #[cfg(feature = "sqlite")]
            StoreUrl::Sqlite(crate::url::SqliteAt { path: Some(path), .. }) => {
                let connection = rusqlite::Connection::open(path).map_err(beside_failed)?;
                connection.busy_timeout(Duration::from_secs(5)).map_err(beside_failed)?;
                Ok(Self::Sqlite(Box::new(connection)))
            }
            #[cfg(feature = "postgres")]
            StoreUrl::Postgres(at) => {
                Ok(Self::Postgres(Box::new(crate::postgres::Beside::connect(&at).await?)))
            }
            _ => Err(Error::new(Code::DriverMissing, "nobody else can connect to a store in memory")),
        }
    }

    /// Begins a transaction as a user would.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn begin(&mut self) -> Result<BesideTx<'_>> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => connection
                .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
                .map(BesideTx::Sqlite)
                .map_err(beside_failed),
            #[cfg(feature = "postgres")]
            Self::Postgres(beside) => {
                beside.client_mut().transaction().await.map(BesideTx::Postgres).map_err(beside_failed)
            }
        }
    }

    /// Takes a snapshot and holds it, as a long report does, until [`let_go`](Self::let_go).
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn hold(&mut self) -> Result<()> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => connection
                .execute_batch("BEGIN; SELECT count(*) FROM onceward_migration;")
                .map_err(beside_failed),
            #[cfg(feature = "postgres")]
            Self::Postgres(beside) => {
                let hold = "BEGIN ISOLATION LEVEL REPEATABLE READ; \
                            SET LOCAL idle_in_transaction_session_timeout = 0; SELECT pg_current_xact_id()";
                beside.client().batch_execute(hold).await.map_err(beside_failed)
            }
        }
    }

    /// Ends what [`hold`](Self::hold) began.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn let_go(&mut self) -> Result<()> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(connection) => connection.execute_batch("ROLLBACK").map_err(beside_failed),
            #[cfg(feature = "postgres")]
            Self::Postgres(beside) => beside.client().batch_execute("ROLLBACK").await.map_err(beside_failed),
        }
    }
}

impl BesideTx<'_> {
    /// Commits.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn commit(self) -> Result<()> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(tx) => tx.commit().map_err(beside_failed),
            #[cfg(feature = "postgres")]
            Self::Postgres(tx) => tx.commit().await.map_err(beside_failed),
        }
    }
}

impl Enlist for BesideTx<'_> {
    fn kind(&self) -> StoreKind {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => StoreKind::Sqlite,
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => StoreKind::Postgres,
        }
    }

    async fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(tx) => tx.query(sql, params).await,
            #[cfg(feature = "postgres")]
            Self::Postgres(tx) => tx.query(sql, params).await,
        }
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    //! One thread, one connection, one row a commit.

    use core::time::Duration;
    use std::path::{Path, PathBuf};
    use std::time::Instant;

    use onceward_core::{Code, Error, Result};

    use super::Sample;

    pub(super) async fn commits(path: PathBuf, time: Duration) -> Result<Sample> {
        let failed =
            |error: rusqlite::Error| Error::new(Code::StoreFailed, "the reference failed").with_source(error);
        let ran = tokio::task::spawn_blocking(move || run(&path, time).map_err(failed)).await;
        ran.unwrap_or_else(|_| Err(Error::new(Code::StoreFailed, "the reference was cut off")))
    }

    fn run(path: &Path, time: Duration) -> rusqlite::Result<Sample> {
        let on = rusqlite::Connection::open(path)?;
        on.pragma_update(None, "journal_mode", "WAL")?;
        on.pragma_update(None, "synchronous", "FULL")?;
        on.execute_batch(
            "CREATE TABLE IF NOT EXISTS reference (id INTEGER PRIMARY KEY, payload TEXT NOT NULL)",
        )?;
        let mut insert = on.prepare("INSERT INTO reference (payload) VALUES (?1)")?;
        let payload = "x".repeat(100);
        let (mut sample, began) = (Sample::default(), Instant::now());
        while began.elapsed() < time {
            let at = Instant::now();
            insert.execute([&payload])?;
            sample.note(at);
        }
        sample.elapsed = began.elapsed();
        Ok(sample)
    }

    pub(super) fn remove(path: &Path) {
        for end in ["", "-wal", "-shm"] {
            let mut name = path.as_os_str().to_owned();
            name.push(end);
            // It may not have been made yet; a leftover file harms nobody.
            let _ = std::fs::remove_file(PathBuf::from(name));
        }
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    //! Eight connections, one row a commit, prepared.

    use core::time::Duration;
    use std::time::Instant;

    use super::{Sample, Usage};
    use crate::postgres::Beside;
    use crate::url::PostgresAt;
    use onceward_core::{Code, Error, Result};

    /// A table of our own.
    pub struct Table {
        at: PostgresAt,
        admin: Beside,
    }

    fn failed(error: tokio_postgres::Error) -> Error {
        Error::new(Code::StoreFailed, "the reference failed").with_source(error)
    }

    impl Table {
        pub(super) async fn open(at: &PostgresAt) -> Result<Self> {
            let admin = Beside::connect(at).await?;
            let schema = &at.schema;
            let make = format!(
                "CREATE SCHEMA IF NOT EXISTS {schema}; CREATE TABLE IF NOT EXISTS {schema}.reference \
                 (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload text NOT NULL)"
            );
            admin.client().batch_execute(&make).await.map_err(failed)?;
            Ok(Self { at: at.clone(), admin })
        }

        pub(super) async fn commits(&self, connections: usize, time: Duration) -> Result<Sample> {
            let mut clients = Vec::new();
            for _ in 0..connections {
                clients.push(Beside::connect(&self.at).await?);
            }
            let insert = format!("INSERT INTO {}.reference (payload) VALUES ($1)", self.at.schema);
            let began = Instant::now();
            let tasks: Vec<_> = clients
                .into_iter()
                .map(|client| tokio::spawn(one(client, insert.clone(), began, time)))
                .collect();
            let mut sample = Sample::default();
            for task in tasks {
                let done =
                    task.await.map_err(|_| Error::new(Code::StoreFailed, "the reference was cut off"))?;
                sample.micros.extend(done.map_err(failed)?.micros);
            }
            sample.elapsed = began.elapsed();
            Ok(sample)
        }

        pub(super) async fn usage(&self) -> Result<Usage> {
            let lsn = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
            let wal: i64 = self.admin.client().query_one(lsn, &[]).await.map_err(failed)?.get(0);
            let pids =
                self.admin.client().query("SELECT pid FROM pg_stat_activity", &[]).await.map_err(failed)?;
            let cpu = pids.iter().map(|row| cpu_of(row.get(0))).sum::<Option<f64>>();
            Ok(Usage { cpu_s: cpu, wal_bytes: u64::try_from(wal).ok() })
        }

        /// What of the log between two looks were images of whole pages; `None` where the server's extension
        /// `pg_walinspect` is not there, or what it would read is gone.
        pub(super) async fn page_images(&self, from: u64, to: u64) -> Option<u64> {
            let of = "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace \
                      WHERE e.extname = 'pg_walinspect'";
            let schema: String = self.admin.client().query_opt(of, &[]).await.ok()??.get(0);
            let lsn = |at: u64| format!("'{:X}/{:X}'::pg_lsn", at >> 32, at & 0xffff_ffff);
            // What is not on the disk yet can't be read.
            let stats = format!(
                "SELECT coalesce(sum(fpi_size), 0)::bigint \
                 FROM {schema}.pg_get_wal_stats({}, least({}, pg_current_wal_flush_lsn()))",
                lsn(from),
                lsn(to)
            );
            let row = self.admin.client().query_one(&stats, &[]).await.ok()?;
            u64::try_from(row.get::<_, i64>(0)).ok()
        }

        pub(super) async fn remove(self) -> Result<()> {
            self.admin
                .client()
                .batch_execute(&format!("DROP TABLE {0}.reference; DROP SCHEMA {0}", self.at.schema))
                .await
                .map_err(failed)
        }
    }

    async fn one(
        client: Beside,
        insert: String,
        began: Instant,
        time: Duration,
    ) -> Result<Sample, tokio_postgres::Error> {
        let insert = client.client().prepare(&insert).await?;
        let (payload, mut sample) = ("x".repeat(100), Sample::default());
        while began.elapsed() < time {
            let at = Instant::now();
            client.client().execute(&insert, &[&payload]).await?;
            sample.note(at);
        }
        Ok(sample)
    }

    /// Seconds of CPU of a process of this host; `None` where it is not to be seen, or not PostgreSQL's.
    fn cpu_of(pid: i32) -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.rsplit_once(')')?;
        if !name.contains("postgres") {
            return None;
        }
        // Fields 14 and 15 of proc(5), counted behind the name: user and system time in ticks of a hundredth.
        let mut fields = rest.split_whitespace().skip(11);
        let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some((user + system) / 100.0)
    }
}
