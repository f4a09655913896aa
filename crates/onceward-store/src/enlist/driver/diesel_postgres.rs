//! diesel-async 0.9 on PostgreSQL.
//!
//! Diesel has no type for a transaction: inside of `connection.transaction(…)` it is the connection itself. That one is
//! open is checked; outside of one each of our statements would commit by itself.

use diesel::deserialize::{self, FromSql, QueryableByName};
use diesel::pg::Pg;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::row::{Field, NamedRow};
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl, TransactionManager};
use onceward_core::{Code, Error, Result};

use crate::StoreKind;
use crate::enlist::{Cell, Enlist, Param, Row};

impl Enlist for AsyncPgConnection {
    fn kind(&self) -> StoreKind {
        StoreKind::Postgres
    }

    async fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        check_open(self)?;
        let mut query = diesel::sql_query(sql.to_owned()).into_boxed::<Pg>();
        for param in params {
            query = match *param {
                Param::Text(value) => query.bind::<Nullable<Text>, _>(value.map(str::to_owned)),
                Param::Int(value) => query.bind::<Nullable<BigInt>, _>(value),
                Param::Bytes(value) => query.bind::<Nullable<Binary>, _>(value.map(<[u8]>::to_vec)),
                Param::Bool(value) => query.bind::<Bool, _>(value),
            };
        }
        let rows: Vec<Cells> = query.load(self).await.map_err(refused)?;
        Ok(rows.into_iter().map(|row| row.0).collect())
    }
}

type Manager = <AsyncPgConnection as diesel_async::AsyncConnection>::TransactionManager;

fn check_open(connection: &mut AsyncPgConnection) -> Result<()> {
    let status = Manager::transaction_manager_status_mut(connection);
    if matches!(status.transaction_depth(), Ok(Some(_))) {
        return Ok(());
    }
    let why =
        "the Diesel connection has no transaction open: call this inside of `connection.transaction(…)`";
    Err(Error::new(Code::StoreFailed, why))
}

/// A row of whatever columns our statement returns.
struct Cells(Row);

impl QueryableByName<Pg> for Cells {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        let cell = |at: usize| {
            let field = diesel::row::Row::get(row, at).ok_or("a column is missing")?;
            let Some(value) = field.value() else { return Ok(Cell::Null) };
            // The numbers of the types are fixed in PostgreSQL's catalogue.
            Ok(match value.get_oid().get() {
                25 => Cell::Text(<String as FromSql<Text, Pg>>::from_sql(value)?),
                20 => Cell::Int(<i64 as FromSql<BigInt, Pg>>::from_sql(value)?),
                17 => Cell::Bytes(<Vec<u8> as FromSql<Binary, Pg>>::from_sql(value)?),
                16 => Cell::Bool(<bool as FromSql<Bool, Pg>>::from_sql(value)?),
                other => return Err(format!("a column of the unexpected type {other}").into()),
            })
        };
        (0..row.field_count()).map(cell).collect::<deserialize::Result<Row>>().map(Self)
    }
}

/// Diesel tells kinds of errors instead of SQLSTATEs.
fn refused(error: DieselError) -> Error {
    let sqlstate = match &error {
        DieselError::DatabaseError(DatabaseErrorKind::SerializationFailure, _) => Some("40001"),
        DieselError::DatabaseError(_, about) if about.message().contains("lock timeout") => Some("55P03"),
        DieselError::DatabaseError(_, about) if about.message().starts_with("deadlock detected") => {
            Some("40P01")
        }
        _ => None,
    };
    super::super::verbs::refused(sqlstate, error)
}
