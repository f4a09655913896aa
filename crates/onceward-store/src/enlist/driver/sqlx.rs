//! sqlx 0.9.

use onceward_core::{Code, Error, Result};
use sqlx::{AssertSqlSafe, Column, TypeInfo};

use crate::StoreKind;
use crate::enlist::{Cell, Enlist, Param, Row};

macro_rules! enlist {
    ($database:ty, $kind:expr) => {
        impl Enlist for sqlx::Transaction<'_, $database> {
            fn kind(&self) -> StoreKind {
                $kind
            }

            async fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
                // Our own statements, with nothing in them but a schema name that was checked when it was configured.
                let mut query = sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(false);
                for param in params {
                    query = match *param {
                        Param::Text(value) => query.bind(value.map(str::to_owned)),
                        Param::Int(value) => query.bind(value),
                        Param::Bytes(value) => query.bind(value.map(<[u8]>::to_vec)),
                        Param::Bool(value) => query.bind(value),
                    };
                }
                let rows = query.fetch_all(&mut **self).await.map_err(refused)?;
                rows.iter().map(cells).collect()
            }
        }
    };
}

#[cfg(feature = "sqlx-postgres")]
enlist!(sqlx::Postgres, StoreKind::Postgres);
#[cfg(feature = "sqlx-sqlite")]
enlist!(sqlx::Sqlite, StoreKind::Sqlite);

/// A row of whatever columns our statement returns.
pub(super) fn cells<R>(row: &R) -> Result<Row>
where
    R: sqlx::Row,
    usize: sqlx::ColumnIndex<R>,
    for<'r> Option<String>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    for<'r> Option<i64>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    for<'r> Option<Vec<u8>>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    for<'r> Option<bool>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    let cells: sqlx::Result<Row> = (0..row.columns().len()).map(|at| cell(row, at)).collect();
    cells.map_err(|error| Error::new(Code::RowUnreadable, "a row of ours can't be read").with_source(error))
}

fn cell<R>(row: &R, at: usize) -> sqlx::Result<Cell>
where
    R: sqlx::Row,
    usize: sqlx::ColumnIndex<R>,
    for<'r> Option<String>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    for<'r> Option<i64>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    for<'r> Option<Vec<u8>>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    for<'r> Option<bool>: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    use sqlx::ValueRef;
    let value = row.try_get_raw(at)?;
    if value.is_null() {
        return Ok(Cell::Null);
    }
    // SQLite types its values, PostgreSQL its columns; the names of the four kinds differ a little.
    let of = value.type_info().name().to_owned();
    let column = row.columns().get(at).map(|column| column.type_info().name().to_owned()).unwrap_or_default();
    Ok(match if of == "NULL" { column } else { of }.as_str() {
        "TEXT" => row.try_get::<Option<String>, _>(at)?.map_or(Cell::Null, Cell::Text),
        "INT8" | "INTEGER" | "BIGINT" => row.try_get::<Option<i64>, _>(at)?.map_or(Cell::Null, Cell::Int),
        "BYTEA" | "BLOB" => row.try_get::<Option<Vec<u8>>, _>(at)?.map_or(Cell::Null, Cell::Bytes),
        _ => row.try_get::<Option<bool>, _>(at)?.map_or(Cell::Null, Cell::Bool),
    })
}

fn refused(error: sqlx::Error) -> Error {
    let sqlstate = error.as_database_error().and_then(|e| e.code()).map(|code| code.into_owned());
    super::super::verbs::refused(sqlstate.as_deref(), error)
}
