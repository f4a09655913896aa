//! tokio-postgres, and the pools that dereference to it.

use onceward_core::{Code, Error, Result};
use tokio_postgres::types::{ToSql, Type};

use crate::StoreKind;
use crate::enlist::{Cell, Enlist, Param, Row};

impl Enlist for tokio_postgres::Transaction<'_> {
    fn kind(&self) -> StoreKind {
        StoreKind::Postgres
    }

    async fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        let typed: Vec<(&(dyn ToSql + Sync), Type)> = params.iter().map(typed).collect();
        // Unnamed: one round trip, and no prepared statement left behind on a connection that is not ours.
        let rows = self.query_typed(sql, &typed).await.map_err(refused)?;
        rows.iter().map(cells).collect()
    }
}

fn typed<'a>(param: &'a Param<'a>) -> (&'a (dyn ToSql + Sync), Type) {
    match param {
        Param::Text(value) => (value, Type::TEXT),
        Param::Int(value) => (value, Type::INT8),
        Param::Bytes(value) => (value, Type::BYTEA),
        Param::Bool(value) => (value, Type::BOOL),
    }
}

fn cells(row: &tokio_postgres::Row) -> Result<Row> {
    let cell = |at: usize, of: &Type| {
        Ok(match *of {
            Type::TEXT => row.try_get::<_, Option<String>>(at)?.map(Cell::Text),
            Type::INT8 => row.try_get::<_, Option<i64>>(at)?.map(Cell::Int),
            Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(at)?.map(Cell::Bytes),
            _ => row.try_get::<_, Option<bool>>(at)?.map(Cell::Bool),
        }
        .unwrap_or(Cell::Null))
    };
    let columns = row.columns().iter().enumerate();
    let cells: core::result::Result<Row, tokio_postgres::Error> =
        columns.map(|(at, column)| cell(at, column.type_())).collect();
    cells.map_err(|error| Error::new(Code::RowUnreadable, "a row of ours can't be read").with_source(error))
}

fn refused(error: tokio_postgres::Error) -> Error {
    let sqlstate = error.code().map(|state| state.code().to_owned());
    super::super::verbs::refused(sqlstate.as_deref(), error)
}
