//! One adapter a driver: bind four kinds of values, read five.

#[cfg(feature = "postgres")]
mod tokio_postgres;

#[cfg(feature = "sqlite")]
mod rusqlite;

#[cfg(any(feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
mod sqlx;
