//! Diesel 2.3 on SQLite.
//!
//! Diesel has no type for a transaction: inside of `connection.immediate_transaction(…)` it is the connection itself.
//! That one is open is checked; outside of one each of our statements would commit by itself.

use diesel::connection::{Connection, TransactionManager};
use diesel::deserialize::{self, FromSql, QueryableByName};
use diesel::result::Error as DieselError;
use diesel::row::{Field, NamedRow};
use diesel::sql_types::{BigInt, Binary, Nullable, Text};
use diesel::sqlite::{Sqlite, SqliteType};
use diesel::{RunQueryDsl, SqliteConnection};
use onceward_core::{Code, Error, Result};

use crate::StoreKind;
use crate::enlist::{Cell, Enlist, Param, Row};

impl Enlist for SqliteConnection {
    fn kind(&self) -> StoreKind {
        StoreKind::Sqlite
    }

    async fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        check_open(self)?;
        let mut query = diesel::sql_query(sql.to_owned()).into_boxed::<Sqlite>();
        for param in params {
            query = match *param {
                Param::Text(value) => query.bind::<Nullable<Text>, _>(value.map(str::to_owned)),
                Param::Int(value) => query.bind::<Nullable<BigInt>, _>(value),
                Param::Bytes(value) => query.bind::<Nullable<Binary>, _>(value.map(<[u8]>::to_vec)),
                Param::Bool(value) => query.bind::<BigInt, _>(i64::from(value)),
            };
        }
        let rows: Vec<Cells> = query.load(self).map_err(refused)?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }
}

type Manager = <SqliteConnection as Connection>::TransactionManager;

fn check_open(connection: &mut SqliteConnection) -> Result<()> {
    let status = Manager::transaction_manager_status_mut(connection);
    if matches!(status.transaction_depth(), Ok(Some(_))) {
        return Ok(());
    }
    let why = "the Diesel connection has no transaction open: call this inside of `immediate_transaction(…)`";
    Err(Error::new(Code::StoreFailed, why))
}

/// A row of whatever columns our statement returns.
struct Cells(Row);

impl QueryableByName<Sqlite> for Cells {
    fn build<'a>(row: &impl NamedRow<'a, Sqlite>) -> deserialize::Result<Self> {
        let cell = |at: usize| {
            let field = diesel::row::Row::get(row, at).ok_or("a column is missing")?;
            let Some(value) = field.value() else { return Ok(Cell::Null) };
            Ok(match value.value_type() {
                Some(SqliteType::Text) => Cell::Text(<String as FromSql<Text, Sqlite>>::from_sql(value)?),
                Some(SqliteType::Binary) => {
                    Cell::Bytes(<Vec<u8> as FromSql<Binary, Sqlite>>::from_sql(value)?)
                }
                Some(SqliteType::Long) => Cell::Int(<i64 as FromSql<BigInt, Sqlite>>::from_sql(value)?),
                _ => Cell::Null, // none of our columns is a float
            })
        };
        (0..row.field_count()).map(cell).collect::<deserialize::Result<Row>>().map(Self)
    }
}

fn refused(error: DieselError) -> Error {
    let busy = matches!(&error, DieselError::DatabaseError(_, about) if about.message().contains("locked"));
    if busy {
        let what = "another connection is writing to the file: begin the transaction as IMMEDIATE";
        return Error::new(Code::StoreBusy, what).with_source(error);
    }
    super::super::verbs::refused(None, error)
}
