//! SeaORM 2.

use onceward_core::{Code, Error, Result};
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, QueryResult, RuntimeErr, Statement, Value,
};

use super::sqlx::cells;
use crate::StoreKind;
use crate::enlist::{Enlist, Param, Row};

impl Enlist for DatabaseTransaction {
    fn kind(&self) -> StoreKind {
        match self.get_database_backend() {
            DbBackend::Sqlite => StoreKind::Sqlite,
            _ => StoreKind::Postgres,
        }
    }

    async fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        let backend = self.get_database_backend();
        let value = |param: &Param<'_>| match *param {
            Param::Text(value) => Value::from(value.map(str::to_owned)),
            Param::Int(value) => Value::from(value),
            Param::Bytes(value) => Value::from(value.map(<[u8]>::to_vec)),
            Param::Bool(value) => Value::from(value),
        };
        let statement = Statement::from_sql_and_values(backend, sql, params.iter().map(value));
        let rows = self.query_all_raw(statement).await.map_err(refused)?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &QueryResult) -> Result<Row> {
    #[cfg(feature = "sea-orm-postgres")]
    if let Some(row) = row.try_as_pg_row() {
        return cells(row);
    }
    #[cfg(feature = "sea-orm-sqlite")]
    if let Some(row) = row.try_as_sqlite_row() {
        return cells(row);
    }
    Err(Error::new(Code::RowUnreadable, format!("a row of another database than ours: {row:?}")))
}

fn refused(error: DbErr) -> Error {
    let sqlstate = match &error {
        DbErr::Query(RuntimeErr::SqlxError(error)) | DbErr::Exec(RuntimeErr::SqlxError(error)) => {
            error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
        }
        _ => None,
    };
    super::super::verbs::refused(sqlstate.as_deref(), error)
}
