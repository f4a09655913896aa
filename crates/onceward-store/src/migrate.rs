//! Bringing a schema up to date: numbered files with checksums in a table of our own.
//!
//! A migration only adds what the version before can live without (expand, then contract), so that binaries of two
//! neighbouring versions share one schema: a binary runs on a schema that is at most one version ahead of it. Applied
//! files never change; a changed checksum is an error, not a warning.

use std::sync::Arc;

use onceward_core::{Code, Error, Result, Timestamp};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::OpenOptions;
use crate::store::StoreKind;
use crate::url::StoreUrl;

/// One step of a schema.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its number, from 1, without gaps.
    pub version: u32,
    /// What it does, in the words of its file name.
    pub name: &'static str,
    /// The statements that do it, with `{schema}` where the schema's name belongs.
    pub up: &'static str,
    /// The statements that undo it.
    pub down: &'static str,
}

impl Migration {
    /// The checksum kept with an applied migration: of the statements, not of a schema's name in them.
    pub fn checksum(&self) -> String {
        Sha256::digest(self.up).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

macro_rules! migrations {
    ($database:literal: $(($version:literal, $name:literal)),* $(,)?) => {
        &[$(Migration {
            version: $version,
            name: $name,
            up: include_str!(concat!("../migrations/", $database, "/", $name, ".up.sql")),
            down: include_str!(concat!("../migrations/", $database, "/", $name, ".down.sql")),
        }),*]
    };
}

/// The steps of a PostgreSQL schema.
pub const POSTGRES: &[Migration] = migrations!(
    "postgres":
    (1, "0001_lease"),
    (2, "0002_once"),
    (3, "0003_job"),
    (4, "0004_limit"),
    (5, "0005_keys"),
    (6, "0006_run"),
    (7, "0007_service"),
    (8, "0008_endpoints"),
    (9, "0009_pause"),
    (10, "0010_triggers"),
    (11, "0011_enqueue"),
    (12, "0012_tuning"),
    (13, "0013_overdue")
);
/// The steps of a SQLite schema.
pub const SQLITE: &[Migration] = migrations!(
    "sqlite":
    (1, "0001_lease"),
    (2, "0002_once"),
    (3, "0003_job"),
    (4, "0004_limit"),
    (5, "0005_keys"),
    (6, "0006_run"),
    (7, "0007_service"),
    (8, "0008_endpoints"),
    (9, "0009_pause"),
    (10, "0010_triggers"),
    (11, "0011_enqueue"),
    (12, "0012_tuning"),
    (13, "0013_overdue")
);

/// A migration that a schema has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// Its number.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// Its checksum when it was applied.
    pub checksum: String,
    /// When that was.
    pub applied_at: Timestamp,
}

/// How a schema and this program stand to each other.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// What the schema has seen, in order.
    pub applied: Vec<Applied>,
    /// What it has not, in order: numbers and names.
    pub pending: Vec<(u32, String)>,
    /// How many versions the schema is ahead of this program.
    pub ahead: u32,
}

/// Compares what a schema has seen with what this program knows.
///
/// # Errors
/// [`Code::MigrationChanged`] when an applied migration is not the one this program knows under that number;
/// [`Code::SchemaAhead`] when the schema is more than one version ahead.
pub fn compare(known: &[Migration], applied: Vec<Applied>) -> Result<Status> {
    for (expected, row) in (1..).zip(&applied) {
        if row.version != expected {
            let why = format!("the table of migrations lacks number {expected}");
            return Err(Error::new(Code::MigrationChanged, why));
        }
    }
    for (migration, row) in known.iter().zip(&applied) {
        if migration.checksum() != row.checksum {
            let why = format!("migration {} was changed after it had been applied", migration.name);
            return Err(Error::new(Code::MigrationChanged, why));
        }
    }
    let ahead = applied.len().saturating_sub(known.len());
    if ahead > 1 {
        let why =
            format!("the schema is {ahead} versions ahead of this program, which lives with one at most");
        return Err(Error::new(Code::SchemaAhead, why));
    }
    let pending = known.iter().skip(applied.len()).map(|m| (m.version, m.name.to_owned())).collect();
    Ok(Status { applied, pending, ahead: u32::try_from(ahead).unwrap_or(u32::MAX) })
}

/// The SQL that `up` would run, in full: for reading, and for other migration tools.
pub fn print(kind: StoreKind, schema: &str) -> String {
    let (known, record) = match kind {
        StoreKind::Postgres => (POSTGRES, true),
        StoreKind::Sqlite => (SQLITE, true),
        StoreKind::Memory => (&[][..], false),
    };
    let mut text = String::new();
    for migration in known {
        text.push_str(&format!("-- {} (sha256 {})\n", migration.name, migration.checksum()));
        text.push_str(&migration.up.replace("{schema}", schema));
        if record {
            text.push_str(&record_statement(kind, schema, migration));
        }
        text.push('\n');
    }
    text
}

fn record_statement(kind: StoreKind, schema: &str, migration: &Migration) -> String {
    let Migration { version, name, .. } = migration;
    let checksum = migration.checksum();
    match kind {
        StoreKind::Postgres => format!(
            "INSERT INTO {schema}.migration (version, name, checksum) VALUES ({version}, '{name}', '{checksum}');\n"
        ),
        _ => format!(
            "INSERT INTO onceward_migration (version, name, checksum, applied_at) \
             VALUES ({version}, '{name}', '{checksum}', \
             CAST(1e6 * (julianday('now') - 2440587.5) * 86400 AS INTEGER));\n"
        ),
    }
}

/// The runner of one database; the stores implement it.
#[async_trait::async_trait]
pub trait Migrator: Send + Sync {
    /// The database.
    fn kind(&self) -> StoreKind;
    /// How the schema stands; an absent schema has seen nothing.
    async fn status(&self) -> Result<Status>;
    /// Applies what is pending, up to and including `to` (`None`: everything), each migration in one transaction,
    /// under a lock that lets only one runner work at a time. Returns what was applied.
    async fn up(&self, to: Option<u32>) -> Result<Vec<u32>>;
    /// Undoes the newest migrations down to (not including) `to`. Returns what was undone.
    async fn down(&self, to: u32) -> Result<Vec<u32>>;
}

/// The runner for the store at `url`.
///
/// # Errors
/// As [`crate::open`], except that a schema that is behind is no error here.
pub async fn migrator(url: &str, options: OpenOptions) -> Result<Arc<dyn Migrator>> {
    match StoreUrl::parse(url)? {
        StoreUrl::Memory => Ok(Arc::new(Nothing)),
        #[cfg(feature = "sqlite")]
        StoreUrl::Sqlite(at) => Ok(Arc::new(crate::sqlite::SqliteMigrator::open(&at, options).await?)),
        #[cfg(feature = "postgres")]
        StoreUrl::Postgres(at) => Ok(Arc::new(crate::postgres::PostgresMigrator::open(&at, options).await?)),
        #[cfg(any(not(feature = "sqlite"), not(feature = "postgres")))]
        _ => {
            drop(options);
            Err(Error::new(Code::DriverMissing, "this program was built without that database"))
        }
    }
}

/// A store in memory has no schema.
struct Nothing;

#[async_trait::async_trait]
impl Migrator for Nothing {
    fn kind(&self) -> StoreKind {
        StoreKind::Memory
    }

    async fn status(&self) -> Result<Status> {
        compare(&[], Vec::new())
    }

    async fn up(&self, _to: Option<u32>) -> Result<Vec<u32>> {
        Ok(Vec::new())
    }

    async fn down(&self, _to: u32) -> Result<Vec<u32>> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Migration] = &[
        Migration { version: 1, name: "0001_a", up: "a", down: "" },
        Migration { version: 2, name: "0002_b", up: "b", down: "" },
    ];

    fn applied(ups: &[&'static str]) -> Vec<Applied> {
        let row = |(version, up)| {
            let checksum = Migration { version, name: "", up, down: "" }.checksum();
            Applied { version, name: String::new(), checksum, applied_at: Timestamp::default() }
        };
        (1..).zip(ups.iter().copied()).map(row).collect()
    }

    #[test]
    fn a_schema_may_be_one_version_ahead_and_never_different() {
        assert_eq!(compare(KNOWN, applied(&[])).unwrap().pending.len(), 2);
        assert_eq!(compare(KNOWN, applied(&["a"])).unwrap().pending, [(2, "0002_b".to_owned())]);
        assert_eq!(compare(KNOWN, applied(&["a", "b", "c"])).unwrap().ahead, 1);
        let too_far = compare(KNOWN, applied(&["a", "b", "c", "d"])).unwrap_err();
        assert_eq!(too_far.code(), Code::SchemaAhead);
        assert_eq!(compare(KNOWN, applied(&["a", "x"])).unwrap_err().code(), Code::MigrationChanged);
        assert_eq!(
            compare(KNOWN, applied(&["a", "b"])[1..].to_vec()).unwrap_err().code(),
            Code::MigrationChanged
        );
    }

    #[test]
    fn numbers_have_no_gaps_and_both_databases_the_same_steps() {
        for (number, (postgres, sqlite)) in (1..).zip(POSTGRES.iter().zip(SQLITE)) {
            assert_eq!((postgres.version, postgres.name), (number, sqlite.name));
            assert!(postgres.name.starts_with(&format!("{number:04}_")));
        }
        assert_eq!(POSTGRES.len(), SQLITE.len());
    }
}
