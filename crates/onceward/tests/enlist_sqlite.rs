//! Joining the caller's transaction on SQLite: rusqlite and sqlx.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails says so by panicking"
)]
#![cfg(feature = "sqlite")]

mod enlist;

use enlist::Driver;
use onceward::Onceward;
use tempfile::TempDir;

const TABLE: &str = "CREATE TABLE effect (id INTEGER NOT NULL)";

async fn store() -> (Onceward, TempDir, std::path::PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("shop.db");
    let ow = Onceward::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    (ow, folder, path)
}

struct Rusqlite(rusqlite::Connection);

impl Driver for Rusqlite {
    type Tx<'a> = rusqlite::Transaction<'a>;

    async fn begin(&mut self) -> Self::Tx<'_> {
        self.0.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap()
    }

    async fn insert(tx: &mut Self::Tx<'_>, id: i64) {
        tx.execute("INSERT INTO effect VALUES (?1)", [id]).unwrap();
    }

    async fn commit(tx: Self::Tx<'_>) {
        tx.commit().unwrap();
    }

    async fn rollback(tx: Self::Tx<'_>) {
        tx.rollback().unwrap();
    }

    async fn count(&mut self) -> i64 {
        self.0.query_row("SELECT count(*) FROM effect", [], |row| row.get(0)).unwrap()
    }
}

async fn on_rusqlite() -> (Onceward, Rusqlite, TempDir) {
    let (ow, folder, path) = store().await;
    let mine = rusqlite::Connection::open(path).unwrap();
    mine.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    mine.execute_batch(TABLE).unwrap();
    (ow, Rusqlite(mine), folder)
}

enlist_suite!(rusqlite_transactions, super::on_rusqlite());

#[cfg(feature = "sqlx-sqlite")]
mod over_sqlx {
    use sqlx::{Connection, SqliteConnection};

    use super::*;

    pub(crate) struct Sqlx(pub(crate) SqliteConnection);

    impl Driver for Sqlx {
        type Tx<'a> = sqlx::Transaction<'a, sqlx::Sqlite>;

        async fn begin(&mut self) -> Self::Tx<'_> {
            self.0.begin_with("BEGIN IMMEDIATE").await.unwrap()
        }

        async fn insert(tx: &mut Self::Tx<'_>, id: i64) {
            sqlx::query("INSERT INTO effect VALUES (?1)").bind(id).execute(&mut **tx).await.unwrap();
        }

        async fn commit(tx: Self::Tx<'_>) {
            tx.commit().await.unwrap();
        }

        async fn rollback(tx: Self::Tx<'_>) {
            tx.rollback().await.unwrap();
        }

        async fn count(&mut self) -> i64 {
            sqlx::query_scalar("SELECT count(*) FROM effect").fetch_one(&mut self.0).await.unwrap()
        }
    }

    pub(crate) async fn on_sqlx() -> (Onceward, Sqlx, TempDir) {
        let (ow, folder, path) = store().await;
        let mut mine = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
        sqlx::query(TABLE).execute(&mut mine).await.unwrap();
        (ow, Sqlx(mine), folder)
    }
}

#[cfg(feature = "sqlx-sqlite")]
enlist_suite!(sqlx_transactions, super::over_sqlx::on_sqlx());
