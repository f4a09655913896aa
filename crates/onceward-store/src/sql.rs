//! SQL text lives in `sql/<database>/<area>/<verb>.sql` and nowhere else; both directories hold the same names.

/// The text of `sql/postgres/$name.sql`, with `{schema}` and `{clock}` still in it.
#[cfg(feature = "postgres")]
macro_rules! postgres_sql {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/sql/postgres/", $name, ".sql"))
    };
}
#[cfg(feature = "postgres")]
pub(crate) use postgres_sql;

/// The text of `sql/sqlite/$name.sql`.
#[cfg(feature = "sqlite")]
macro_rules! sqlite_sql {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/sql/sqlite/", $name, ".sql"))
    };
}
#[cfg(feature = "sqlite")]
pub(crate) use sqlite_sql;

/// The part of a file that stands below the line `-- step: $name`, up to the next such line.
///
/// A verb that one database does in one statement may take the other several; they stay together in one file.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn step(text: &'static str, name: &str) -> &'static str {
    let mark = "-- step: ";
    // A missing step prepares as an empty statement, which the stores' tests refuse.
    text.split(mark).skip(1).find_map(|part| part.strip_prefix(name)?.strip_prefix('\n')).unwrap_or("")
}
