//! Opening a store by its URL.

use core::time::Duration;
use std::sync::Arc;

use onceward_core::{Code, Error, Result, limits};

use crate::clock::SystemClock;
use crate::hints::Carrier;
use crate::memory::MemoryStore;
use crate::url::StoreUrl;
use crate::{Clock, Store};

/// How to open a store. The defaults are right for production.
#[derive(Clone)]
pub struct OpenOptions {
    /// The process's clock.
    pub clock: Arc<dyn Clock>,
    /// The shortest ttl that is not refused.
    pub ttl_min: Duration,
    /// How long opening and every verb tries before it says that the store is away.
    pub deadline: Duration,
    /// What the connection is called in `pg_stat_activity`.
    pub application_name: String,
    /// Take the time from `{schema}.test_clock()` instead of the database's clock. Only a schema made for tests has it.
    pub test_clock: bool,
    /// Forget by the database's clock even where it does not agree with this host's: for hosts whose clock is wrong,
    /// and known to be.
    pub trust_server_clock: bool,
    /// What carries hints to other processes, beside the database's own way.
    pub carrier: Option<Arc<dyn Carrier>>,
    /// Skip the check that the schema is up to date: for the command that brings it up to date.
    pub unmigrated: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            ttl_min: limits::TTL_MIN,
            deadline: Duration::from_secs(10),
            application_name: "onceward".to_owned(),
            test_clock: false,
            trust_server_clock: false,
            carrier: None,
            unmigrated: false,
        }
    }
}

/// Opens the store at `url`: `sqlite://shop.db`, `sqlite::memory:`, `postgres://user@host/db?schema=onceward`,
/// `memory:`. SQLite and memory stores bring themselves up to date; a PostgreSQL schema that is behind is an error
/// ([`Code::SchemaBehind`]).
///
/// # Errors
/// [`Code::StoreUrlInvalid`], [`Code::DriverMissing`], [`Code::StoreUnavailable`], the `OW04xx` codes of the
/// self-check, and the codes of the schema check.
pub async fn open(url: &str, options: OpenOptions) -> Result<Arc<dyn Store>> {
    match StoreUrl::parse(url)? {
        StoreUrl::Memory => Ok(Arc::new(MemoryStore::new(options.clock))),
        #[cfg(feature = "sqlite")]
        StoreUrl::Sqlite(at) => Ok(Arc::new(crate::sqlite::SqliteStore::open(&at, options).await?)),
        #[cfg(not(feature = "sqlite"))]
        StoreUrl::Sqlite(_) => Err(missing("sqlite")),
        #[cfg(feature = "postgres")]
        StoreUrl::Postgres(at) => Ok(Arc::new(crate::postgres::PostgresStore::open(&at, options).await?)),
        #[cfg(not(feature = "postgres"))]
        StoreUrl::Postgres(_) => Err(missing("postgres")),
    }
}

#[cfg(any(not(feature = "sqlite"), not(feature = "postgres")))]
fn missing(feature: &str) -> Error {
    Error::new(Code::DriverMissing, format!("this program was built without the feature `{feature}`"))
}

/// Checks a schema name: the rule that makes it safe to quote (S22).
///
/// # Errors
/// [`Code::SchemaNameInvalid`] for anything but `[a-z_][a-z0-9_]{0,40}`, for names PostgreSQL keeps to itself
/// (`pg_…`), and for `public`.
pub(crate) fn check_schema(name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let head = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    let tail = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if head
        && tail
        && name.len() <= 41
        && !name.starts_with("pg_")
        && name != "public"
        && name != "information_schema"
    {
        return Ok(());
    }
    let shown: String = name.chars().take(60).flat_map(char::escape_debug).collect();
    Err(Error::new(Code::SchemaNameInvalid, format!("the schema can't be called \"{shown}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_schema_names_are_refused() {
        for good in ["onceward", "_x", "a1_b", &"x".repeat(41)] {
            assert!(check_schema(good).is_ok(), "{good}");
        }
        let long = "x".repeat(42);
        for bad in [
            "",
            "a\"; drop schema public cascade; --",
            "a.b",
            "pg_temp",
            "\"",
            &long,
            "a\0",
            "ſ",
            "Robert'); --",
            "Ab",
            "1a",
            "public",
            "information_schema",
            "a-b",
            " a",
        ] {
            assert_eq!(check_schema(bad).unwrap_err().code(), Code::SchemaNameInvalid, "{bad:?}");
        }
    }
}
