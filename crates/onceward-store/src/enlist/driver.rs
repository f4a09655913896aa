//! One adapter a driver: bind four kinds of values, read five.

#[cfg(feature = "postgres")]
mod tokio_postgres;

#[cfg(feature = "sqlite")]
mod rusqlite;

#[cfg(any(feature = "sqlx-postgres", feature = "sqlx-sqlite"))]
mod sqlx;

#[cfg(feature = "diesel-postgres")]
mod diesel_postgres;

#[cfg(feature = "diesel-sqlite")]
mod diesel_sqlite;

#[cfg(any(feature = "sea-orm-postgres", feature = "sea-orm-sqlite"))]
mod sea_orm;
