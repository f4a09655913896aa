//! Joining the caller's transaction on PostgreSQL, whatever the driver.

use crate::enlist::Driver;
use onceward::{Code, Onceward};
use tokio_postgres::Client;

async fn store() -> (Onceward, crate::pg::Schema) {
    let schema = crate::pg::Schema::migrated().await;
    let ow = Onceward::connect(schema.url()).await.unwrap();
    (ow, schema)
}

struct TokioPostgres(Client);

impl Driver for TokioPostgres {
    type Tx<'a> = tokio_postgres::Transaction<'a>;

    async fn begin(&mut self) -> Self::Tx<'_> {
        self.0.transaction().await.unwrap()
    }

    async fn insert(tx: &mut Self::Tx<'_>, id: i64) {
        tx.execute("INSERT INTO effect VALUES ($1)", &[&id]).await.unwrap();
    }

    async fn execute(tx: &mut Self::Tx<'_>, sql: &str) -> Result<(), String> {
        tx.execute(sql, &[]).await.map(drop).map_err(|error| error.to_string())
    }

    async fn commit(tx: Self::Tx<'_>) -> Result<(), String> {
        tx.commit().await.map_err(|error| error.to_string())
    }

    async fn rollback(tx: Self::Tx<'_>) {
        tx.rollback().await.unwrap();
    }

    async fn count(&mut self) -> i64 {
        self.0.query_one("SELECT count(*) FROM effect", &[]).await.unwrap().get(0)
    }
}

async fn on_tokio_postgres() -> (Onceward, TokioPostgres, crate::pg::Schema) {
    let (ow, schema) = store().await;
    let mine = schema.client().await;
    // A table of the user's own, found through the connection's search path.
    let make = format!("SET search_path = {0}; CREATE TABLE effect (id bigint NOT NULL)", schema.name());
    mine.batch_execute(&make).await.unwrap();
    (ow, TokioPostgres(mine), schema)
}

crate::enlist_suite!(tokio_postgres_transactions, super::on_tokio_postgres());

mod over_deadpool {
    use deadpool_postgres::{Manager, Object, Pool};
    use onceward::store::StoreKind;
    use onceward::store::enlist::{Enlist, Param, Row};
    use tokio_postgres::NoTls;

    use super::*;

    pub(crate) struct Deadpool(Object);

    /// Users pass `&mut *tx`: the transaction of the driver, which the pool's dereferences to.
    pub(crate) struct Tx<'a>(deadpool_postgres::Transaction<'a>);

    impl Enlist for Tx<'_> {
        fn kind(&self) -> StoreKind {
            (*self.0).kind()
        }

        async fn query(&mut self, sql: &str, params: &[Param<'_>]) -> onceward::Result<Vec<Row>> {
            Enlist::query(&mut *self.0, sql, params).await
        }
    }

    impl Driver for Deadpool {
        type Tx<'a> = Tx<'a>;

        async fn begin(&mut self) -> Self::Tx<'_> {
            Tx(self.0.transaction().await.unwrap())
        }

        async fn insert(tx: &mut Self::Tx<'_>, id: i64) {
            tx.0.execute("INSERT INTO effect VALUES ($1)", &[&id]).await.unwrap();
        }

        async fn execute(tx: &mut Self::Tx<'_>, sql: &str) -> Result<(), String> {
            tx.0.execute(sql, &[]).await.map(drop).map_err(|error| error.to_string())
        }

        async fn commit(tx: Self::Tx<'_>) -> Result<(), String> {
            tx.0.commit().await.map_err(|error| error.to_string())
        }

        async fn rollback(tx: Self::Tx<'_>) {
            tx.0.rollback().await.unwrap();
        }

        async fn count(&mut self) -> i64 {
            self.0.query_one("SELECT count(*) FROM effect", &[]).await.unwrap().get(0)
        }
    }

    pub(crate) async fn on_deadpool() -> (Onceward, Deadpool, crate::pg::Schema) {
        let (ow, schema) = store().await;
        let url = schema.url().split('?').next().unwrap().parse().unwrap();
        let pool = Pool::builder(Manager::new(url, NoTls)).max_size(1).build().unwrap();
        let mine = pool.get().await.unwrap();
        let make = format!("SET search_path = {0}; CREATE TABLE effect (id bigint NOT NULL)", schema.name());
        mine.batch_execute(&make).await.unwrap();
        (ow, Deadpool(mine), schema)
    }
}

crate::enlist_suite!(deadpool_transactions, super::over_deadpool::on_deadpool());

#[cfg(feature = "sqlx-postgres")]
mod over_sqlx {
    use sqlx::{Connection, PgConnection};

    use super::*;

    pub(crate) struct Sqlx(pub(crate) PgConnection);

    impl Driver for Sqlx {
        type Tx<'a> = sqlx::Transaction<'a, sqlx::Postgres>;

        async fn begin(&mut self) -> Self::Tx<'_> {
            self.0.begin().await.unwrap()
        }

        async fn insert(tx: &mut Self::Tx<'_>, id: i64) {
            sqlx::query("INSERT INTO effect VALUES ($1)").bind(id).execute(&mut **tx).await.unwrap();
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

    pub(crate) async fn on_sqlx() -> (Onceward, Sqlx, crate::pg::Schema) {
        let (ow, schema) = store().await;
        let url = schema.url().split('?').next().unwrap().to_owned();
        let mut mine = PgConnection::connect(&url).await.unwrap();
        let make = format!("SET search_path = {}", schema.name());
        sqlx::query(sqlx::AssertSqlSafe(make)).execute(&mut mine).await.unwrap();
        sqlx::query("CREATE TABLE effect (id bigint NOT NULL)").execute(&mut mine).await.unwrap();
        (ow, Sqlx(mine), schema)
    }
}

#[cfg(feature = "sqlx-postgres")]
crate::enlist_suite!(sqlx_transactions, super::over_sqlx::on_sqlx());

#[cfg(feature = "diesel-postgres")]
mod over_diesel {
    use diesel::sql_types::BigInt;
    use diesel::{QueryableByName, sql_query};
    use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, TransactionManager};

    use super::*;
    use crate::enlist::diesel_transaction::Tx;

    type Manager = <AsyncPgConnection as AsyncConnection>::TransactionManager;

    #[derive(QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }

    pub(crate) struct Diesel(pub(crate) AsyncPgConnection);

    impl Driver for Diesel {
        type Tx<'a> = Tx<'a, AsyncPgConnection>;

        async fn begin(&mut self) -> Self::Tx<'_> {
            Manager::begin_transaction(&mut self.0).await.unwrap();
            Tx(&mut self.0)
        }

        async fn insert(tx: &mut Self::Tx<'_>, id: i64) {
            sql_query("INSERT INTO effect VALUES ($1)").bind::<BigInt, _>(id).execute(tx.0).await.unwrap();
        }

        async fn execute(tx: &mut Self::Tx<'_>, sql: &str) -> Result<(), String> {
            sql_query(sql).execute(tx.0).await.map(drop).map_err(|error| error.to_string())
        }

        async fn commit(tx: Self::Tx<'_>) -> Result<(), String> {
            Manager::commit_transaction(tx.0).await.map_err(|error| error.to_string())
        }

        async fn rollback(tx: Self::Tx<'_>) {
            Manager::rollback_transaction(tx.0).await.unwrap();
        }

        async fn count(&mut self) -> i64 {
            let count: Count =
                sql_query("SELECT count(*) FROM effect").get_result(&mut self.0).await.unwrap();
            count.count
        }
    }

    pub(crate) async fn on_diesel() -> (Onceward, Diesel, crate::pg::Schema) {
        let (ow, schema) = store().await;
        let url = schema.url().split('?').next().unwrap().to_owned();
        let mut mine = AsyncPgConnection::establish(&url).await.unwrap();
        for make in [
            format!("SET search_path = {}", schema.name()),
            "CREATE TABLE effect (id bigint NOT NULL)".to_owned(),
        ] {
            sql_query(make).execute(&mut mine).await.unwrap();
        }
        (ow, Diesel(mine), schema)
    }

    /// Outside of a transaction each statement would commit by itself.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_connection_without_a_transaction_is_refused() {
        let (ow, mut mine, _schema) = on_diesel().await;
        let refused = ow.once("k").run_in(&mut mine.0, async |_| Ok(1)).await.unwrap_err();
        assert!(refused.to_string().contains("no transaction open"), "{refused}");
        assert!(ow.once("k").peek::<i64>().await.unwrap().is_none());
    }
}

#[cfg(feature = "diesel-postgres")]
crate::enlist_suite!(diesel_transactions, super::over_diesel::on_diesel());

#[cfg(feature = "sea-orm-postgres")]
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
            let sql = "INSERT INTO effect VALUES ($1)";
            let insert = Statement::from_sql_and_values(DbBackend::Postgres, sql, [id.into()]);
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
            let count = Statement::from_string(DbBackend::Postgres, "SELECT count(*) FROM effect");
            let row = self.0.query_one_raw(count).await.unwrap().unwrap();
            row.try_get_by_index(0).unwrap()
        }
    }

    pub(crate) async fn on_sea_orm() -> (Onceward, SeaOrm, crate::pg::Schema) {
        let (ow, schema) = store().await;
        let mut options = ConnectOptions::new(schema.url().split('?').next().unwrap());
        options.max_connections(1).set_schema_search_path(schema.name());
        let mine = Database::connect(options).await.unwrap();
        mine.execute_unprepared("CREATE TABLE effect (id bigint NOT NULL)").await.unwrap();
        (ow, SeaOrm(mine), schema)
    }
}

#[cfg(feature = "sea-orm-postgres")]
crate::enlist_suite!(sea_orm_transactions, super::over_sea_orm::on_sea_orm());

/// O11: a claim in an open transaction closes the key to others, in time, and to nobody for longer than it is open.
#[tokio::test(flavor = "multi_thread")]
async fn o11_an_open_claim_locks_the_key_and_only_the_key() {
    let (ow, mut mine, schema) = on_tokio_postgres().await;
    let mut other = schema.client().await;
    let mut tx = mine.begin().await;
    assert!(ow.once("k").run_in(&mut tx, async |_| Ok(1)).await.unwrap().is_done());
    assert_eq!(ow.once("k").run(async |_| Ok(2)).await.unwrap_err().code(), Code::KeyLocked);
    let mut second = other.transaction().await.unwrap();
    let locked = ow.once("k").run_in(&mut second, async |_| Ok(3)).await.unwrap_err();
    assert_eq!(locked.code(), Code::KeyLocked);
    second.rollback().await.unwrap();
    assert_eq!(ow.once("free").run(async |_| Ok(4)).await.unwrap().done(), Some(4));
    TokioPostgres::commit(tx).await.unwrap();
    assert_eq!(ow.once("k").run(async |_| Ok(5)).await.unwrap().done(), Some(1));
}

/// L4, E18: while a guarded transaction is open, nobody takes the key over, and the holder's renewals pass.
#[tokio::test(flavor = "multi_thread")]
async fn l4_a_guarded_transaction_keeps_the_key_and_lets_renewals_pass() {
    let (ow, mut mine, _schema) = on_tokio_postgres().await;
    let lease = ow.lease("k").acquire().await.unwrap().unwrap();
    let mut tx = mine.begin().await;
    lease.guard(&mut tx).await.unwrap();
    lease.renew().await.unwrap();
    ow.admin().break_lease("k", None, "test").await.unwrap();
    assert!(ow.lease("k").acquire().await.unwrap().is_none(), "not before the transaction ends");
    TokioPostgres::commit(tx).await.unwrap();
    assert!(ow.lease("k").acquire().await.unwrap().is_some());
}

/// Nothing of ours outlives our statement in the caller's session.
#[tokio::test(flavor = "multi_thread")]
async fn the_callers_settings_are_as_they_were() {
    let (ow, mut mine, _schema) = on_tokio_postgres().await;
    let lease = ow.lease("k").acquire().await.unwrap().unwrap();
    mine.0.batch_execute("SET lock_timeout = '7s'; SET statement_timeout = '33s'").await.unwrap();
    let mut tx = mine.begin().await;
    lease.guard(&mut tx).await.unwrap();
    assert!(ow.once("a").run_in(&mut tx, async |_| Ok(1)).await.unwrap().is_done());
    for (name, value) in [("lock_timeout", "7s"), ("statement_timeout", "33s"), ("synchronous_commit", "on")]
    {
        let seen: String = tx.query_one(&format!("SHOW {name}"), &[]).await.unwrap().get(0);
        assert_eq!(seen, value, "{name}");
    }
    TokioPostgres::commit(tx).await.unwrap();
}

/// `fence()` from any language: the current token passes, a stale one raises our SQLSTATE.
#[tokio::test(flavor = "multi_thread")]
async fn fence_refuses_a_stale_writer_in_plain_sql() {
    let (ow, mine, schema) = on_tokio_postgres().await;
    let lease = ow.lease("k").acquire().await.unwrap().unwrap();
    let fence = format!("SELECT {}.fence($1, $2, $3)", schema.name());
    let old = lease.token().get();
    mine.0.execute(&fence, &[&"default", &"k", &old]).await.unwrap();
    lease.release().await.unwrap();
    let next = ow.lease("k").acquire().await.unwrap().unwrap();
    let refused = mine.0.execute(&fence, &[&"default", &"k", &old]).await.unwrap_err();
    assert_eq!(refused.code().map(|state| state.code()), Some("OW203"));
    mine.0.execute(&fence, &[&"default", &"k", &next.token().get()]).await.unwrap();
}
