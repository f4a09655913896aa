//! Joining the caller's transaction on SQLite, whatever the driver.

use crate::enlist::Driver;
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

    async fn execute(tx: &mut Self::Tx<'_>, sql: &str) -> Result<(), String> {
        tx.execute_batch(sql).map(drop).map_err(|error| error.to_string())
    }

    async fn commit(tx: Self::Tx<'_>) -> Result<(), String> {
        tx.commit().map_err(|error| error.to_string())
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

crate::enlist_suite!(rusqlite_transactions, super::on_rusqlite());

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

        async fn execute(tx: &mut Self::Tx<'_>, sql: &str) -> Result<(), String> {
            sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()))
                .execute(&mut **tx)
                .await
                .map(drop)
                .map_err(|error| error.to_string())
        }

        async fn commit(tx: Self::Tx<'_>) -> Result<(), String> {
            tx.commit().await.map_err(|error| error.to_string())
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
crate::enlist_suite!(sqlx_transactions, super::over_sqlx::on_sqlx());

#[cfg(feature = "diesel-sqlite")]
mod over_diesel {
    use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
    use diesel::sql_types::BigInt;
    use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};

    use super::*;
    use crate::enlist::diesel_transaction::Tx;

    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }

    pub(crate) struct Diesel(pub(crate) SqliteConnection);

    impl Driver for Diesel {
        type Tx<'a> = Tx<'a, SqliteConnection>;

        async fn begin(&mut self) -> Self::Tx<'_> {
            AnsiTransactionManager::begin_transaction_sql(&mut self.0, "BEGIN IMMEDIATE").unwrap();
            Tx(&mut self.0)
        }

        async fn insert(tx: &mut Self::Tx<'_>, id: i64) {
            sql_query("INSERT INTO effect VALUES (?)").bind::<BigInt, _>(id).execute(tx.0).unwrap();
        }

        async fn execute(tx: &mut Self::Tx<'_>, sql: &str) -> Result<(), String> {
            sql_query(sql).execute(tx.0).map(drop).map_err(|error| error.to_string())
        }

        async fn commit(tx: Self::Tx<'_>) -> Result<(), String> {
            AnsiTransactionManager::commit_transaction(tx.0).map_err(|error| error.to_string())
        }

        async fn rollback(tx: Self::Tx<'_>) {
            AnsiTransactionManager::rollback_transaction(tx.0).unwrap();
        }

        async fn count(&mut self) -> i64 {
            let count: Count =
                sql_query("SELECT count(*) AS count FROM effect").get_result(&mut self.0).unwrap();
            count.count
        }
    }

    pub(crate) async fn on_diesel() -> (Onceward, Diesel, TempDir) {
        let (ow, folder, path) = store().await;
        let mut mine = SqliteConnection::establish(&path.display().to_string()).unwrap();
        mine.batch_execute("PRAGMA busy_timeout = 5000").unwrap();
        mine.batch_execute(TABLE).unwrap();
        (ow, Diesel(mine), folder)
    }

    /// Outside of a transaction each statement would commit by itself.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_connection_without_a_transaction_is_refused() {
        let (ow, mut mine, _folder) = on_diesel().await;
        let refused = ow.once("k").run_in(&mut mine.0, async |_| Ok(1)).await.unwrap_err();
        assert!(refused.to_string().contains("no transaction open"), "{refused}");
        assert!(ow.once("k").peek::<i64>().await.unwrap().is_none());
    }
}

#[cfg(feature = "diesel-sqlite")]
crate::enlist_suite!(diesel_transactions, super::over_diesel::on_diesel());

#[cfg(feature = "sea-orm-sqlite")]
mod over_sea_orm {
    use sea_orm::{
        ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend,
    };
    use sea_orm::{Statement, TransactionTrait};

    use super::*;

    pub(crate) struct SeaOrm(pub(crate) DatabaseConnection);

    impl Driver for SeaOrm {
        type Tx<'a> = DatabaseTransaction;

        async fn begin(&mut self) -> Self::Tx<'_> {
            self.0.begin().await.unwrap()
        }

        async fn insert(tx: &mut Self::Tx<'_>, id: i64) {
            let insert = Statement::from_sql_and_values(
                DbBackend::Sqlite,
                "INSERT INTO effect VALUES (?)",
                [id.into()],
            );
            tx.execute_raw(insert).await.unwrap();
        }

        async fn execute(tx: &mut Self::Tx<'_>, sql: &str) -> Result<(), String> {
            tx.execute_unprepared(sql).await.map(drop).map_err(|error| error.to_string())
        }

        async fn commit(tx: Self::Tx<'_>) -> Result<(), String> {
            tx.commit().await.map_err(|error| error.to_string())
        }

        async fn rollback(tx: Self::Tx<'_>) {
            tx.rollback().await.unwrap();
        }

        async fn count(&mut self) -> i64 {
            let count = Statement::from_string(DbBackend::Sqlite, "SELECT count(*) FROM effect");
            let row = self.0.query_one_raw(count).await.unwrap().unwrap();
            row.try_get_by_index(0).unwrap()
        }
    }

    pub(crate) async fn on_sea_orm() -> (Onceward, SeaOrm, TempDir) {
        let (ow, folder, path) = store().await;
        let mut options = ConnectOptions::new(format!("sqlite://{}", path.display()));
        options.max_connections(1);
        let mine = Database::connect(options).await.unwrap();
        mine.execute_unprepared(TABLE).await.unwrap();
        (ow, SeaOrm(mine), folder)
    }
}

#[cfg(feature = "sea-orm-sqlite")]
crate::enlist_suite!(sea_orm_transactions, super::over_sea_orm::on_sea_orm());
