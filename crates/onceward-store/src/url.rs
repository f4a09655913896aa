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
    let mut url = ::url::Url::parse(text).map_err(|_| invalid("the postgres URL can't be read"))?;
    let mut schema = "onceward".to_owned();
    let (mut pooler, mut sslmode, mut sslrootcert, mut rest) = (false, None, None, Vec::new());
    for (name, value) in url.query_pairs().into_owned() {
        match (name.as_str(), value.as_str()) {
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
            _ => rest.push((name, value)),
        }
    }
    // What is left (connect_timeout, host=/socket/dir …) is the driver's.
    url.set_query(None);
    if !rest.is_empty() {
        url.query_pairs_mut().extend_pairs(&rest);
    }
    let dsn = url.to_string();
    if url.password().is_some() {
        // The result only says whether the URL can have a password; it has one.
        let _ = url.set_password(Some("***"));
    }
    let secret = rest.iter().any(|(name, _)| name == "password");
    if secret {
        url.set_query(None);
    }
    Ok(StoreUrl::Postgres(PostgresAt {
        dsn,
        redacted: url.to_string(),
        schema,
        pooler,
        sslmode,
        sslrootcert,
    }))
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
        let hidden = StoreUrl::parse("postgres://bob@db/shop?password=s3cret").unwrap();
        assert!(!hidden.redacted().contains("s3cret"));
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
            "postgres://u:s3cret@[bad/x",
            "postgres://u:s3cret@h/x?pooler=session",
            "redis://:s3cret@h",
        ] {
            let error = StoreUrl::parse(bad).unwrap_err();
            assert_eq!(error.code(), Code::StoreUrlInvalid, "{bad}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
