//! Store URLs: which database, where, and never the password in print.

use std::path::PathBuf;

use onceward_core::{Code, Error, Result};

use crate::open::check_schema;

/// A store URL, taken apart.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreUrl {
    /// `memory:`
    Memory,
    /// `sqlite://path`, `sqlite::memory:`
    Sqlite(SqliteAt),
    /// `postgres://…`
    Postgres(PostgresAt),
}

/// Where a SQLite store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteAt {
    /// The file; `None` for a store in memory.
    pub path: Option<PathBuf>,
}

/// Where a PostgreSQL store is.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresAt {
    /// The URL without our own parameters, password included. Not for printing.
    pub dsn: String,
    /// The URL as it may be printed.
    pub redacted: String,
    /// The schema our tables live in.
    pub schema: String,
    /// Whether a transaction pooler stands in between (`pooler=transaction`): no prepared statements, no LISTEN.
    pub pooler: bool,
    /// `sslmode`, if given.
    pub sslmode: Option<String>,
    /// `sslrootcert`, if given: a PEM file with the authorities to trust.
    pub sslrootcert: Option<PathBuf>,
}

impl std::fmt::Debug for PostgresAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PostgresAt").field(&self.redacted).finish()
    }
}

impl std::fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl StoreUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`Code::StoreUrlInvalid`] (never repeating a password), [`Code::SchemaNameInvalid`].
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "memory:" | "memory://" => return Ok(Self::Memory),
            "sqlite::memory:" | "sqlite://:memory:" => return Ok(Self::Sqlite(SqliteAt { path: None })),
            _ => {}
        }
        if let Some(path) = text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite:")) {
            return sqlite(path);
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return postgres(text);
        }
        let scheme: String = text.chars().take_while(|c| c.is_ascii_alphanumeric()).take(20).collect();
        Err(invalid(format!(
            "a store is sqlite://PATH, sqlite::memory:, postgres://… or memory:, not \"{scheme}…\""
        )))
    }

    /// The URL as it may be printed.
    pub fn redacted(&self) -> String {
        match self {
            Self::Memory => "memory:".to_owned(),
            Self::Sqlite(SqliteAt { path: None }) => "sqlite::memory:".to_owned(),
            Self::Sqlite(SqliteAt { path: Some(path) }) => format!("sqlite://{}", path.display()),
            Self::Postgres(at) => at.redacted.clone(),
        }
    }
}

fn sqlite(path: &str) -> Result<StoreUrl> {
    if path.is_empty() || path.ends_with('/') {
        return Err(invalid("a sqlite URL names a file: sqlite://shop.db or sqlite:///var/lib/shop.db"));
    }
    // SQLite reads `?mode=…&vfs=…` out of names; ours are plain paths (S27).
    if path.contains(['?', '#', '\0']) || path.starts_with("file:") {
        return Err(invalid("a sqlite URL is a plain path without parameters"));
    }
    Ok(StoreUrl::Sqlite(SqliteAt { path: Some(PathBuf::from(path)) }))
}

fn postgres(text: &str) -> Result<StoreUrl> {
    let (base, query) = text.split_once('?').unwrap_or((text, ""));
    let mut schema = "onceward".to_owned();
    let (mut pooler, mut sslmode, mut sslrootcert, mut rest) = (false, None, None, Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, raw) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(raw)?;
        match (name, value.as_str()) {
            ("schema", _) => {
                check_schema(&value)?;
                schema = value;
            }
            ("pooler", "transaction") => pooler = true,
            ("pooler", "none") => pooler = false,
            ("pooler", _) => return Err(invalid("pooler is `transaction` or `none`")),
            ("sslmode", "disable" | "prefer" | "require" | "verify-full") => sslmode = Some(value),
            ("sslmode", _) => return Err(invalid("sslmode is disable, prefer, require or verify-full")),
            ("sslrootcert", _) => sslrootcert = Some(PathBuf::from(value)),
            _ => rest.push(pair),
        }
    }
    // What is left (connect_timeout, options, host=/socket/dir …) is the driver's, as it was written.
    let dsn = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    if dsn.parse::<Driver>().is_err() {
        return Err(invalid("the postgres URL can't be read"));
    }
    Ok(StoreUrl::Postgres(PostgresAt { dsn, redacted: redacted(base), schema, pooler, sslmode, sslrootcert }))
}

#[cfg(feature = "postgres")]
type Driver = tokio_postgres::Config;
#[cfg(not(feature = "postgres"))]
type Driver = String;

/// The URL without its password and without parameters, among which a password may be as well.
fn redacted(base: &str) -> String {
    let (scheme, rest) = base.split_once("://").unwrap_or(("postgres", base));
    // A user name may hold no bare `@`, but people write such passwords: all up to the last one is the login.
    let (login, place) = rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
    match login.map(|login| login.split_once(':')) {
        None => format!("{scheme}://{place}"),
        Some(None) => format!("{scheme}://{}@{place}", login.unwrap_or_default()),
        Some(Some((user, _))) => format!("{scheme}://{user}:***@{place}"),
    }
}

/// A parameter's value with its percent signs resolved.
fn decoded(raw: &str) -> Result<String> {
    let decoded = percent_encoding::percent_decode_str(raw).decode_utf8();
    decoded.map(Into::into).map_err(|_| invalid("a parameter of the postgres URL is not UTF-8"))
}

fn invalid(why: impl Into<String>) -> Error {
    Error::new(Code::StoreUrlInvalid, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_passwords_never_printed() {
        for url in ["memory:", "sqlite::memory:", "sqlite://shop.db", "sqlite:///var/lib/shop.db"] {
            assert_eq!(StoreUrl::parse(url).unwrap().redacted(), url);
        }
        let url = StoreUrl::parse("postgres://bob:s3cret@db:6432/shop?schema=ow&pooler=transaction").unwrap();
        assert_eq!(url.redacted(), "postgres://bob:***@db:6432/shop");
        assert!(!format!("{url:?}").contains("s3cret"));
        let StoreUrl::Postgres(at) = url else { panic!("postgres") };
        assert!(at.pooler && at.schema == "ow" && at.dsn == "postgres://bob:s3cret@db:6432/shop");
        for hidden in ["postgres://bob@db/shop?password=s3cret", "postgres://bob:s3c@ret@db/shop"] {
            let Ok(hidden) = StoreUrl::parse(hidden) else { continue };
            assert!(!hidden.redacted().contains("s3c"), "{hidden:?}");
        }
    }

    #[test]
    fn what_is_the_drivers_reaches_it_as_it_was_written() {
        for dsn in [
            "postgres://app@db1:5432,db2:5433/shop",
            "postgres:///shop?host=/run/postgresql",
            "postgres://app@db/shop?options=-c%20work_mem%3D1MB&connect_timeout=3",
        ] {
            let StoreUrl::Postgres(at) = StoreUrl::parse(&with_schema(dsn)).unwrap() else {
                panic!("postgres")
            };
            assert_eq!((at.dsn.as_str(), at.schema.as_str()), (dsn, "ow"));
        }
    }

    fn with_schema(dsn: &str) -> String {
        format!("{dsn}{}schema=ow", if dsn.contains('?') { '&' } else { '?' })
    }

    #[test]
    fn odd_urls_are_refused_without_repeating_secrets() {
        for bad in [
            "",
            "shop.db",
            "mysql://x",
            "sqlite://",
            "sqlite://dir/",
            "sqlite://a?mode=ro",
            "sqlite://file:a",
            "postgres://u:s3cret@h/x?pooler=session",
            "redis://:s3cret@h",
        ] {
            let error = StoreUrl::parse(bad).unwrap_err();
            assert_eq!(error.code(), Code::StoreUrlInvalid, "{bad}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
