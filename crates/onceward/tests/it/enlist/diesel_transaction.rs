//! A Diesel connection with a transaction open, as the suite begins and ends it: users have it inside of a closure.

use onceward::Result;
use onceward::store::StoreKind;
use onceward::store::enlist::{Enlist, Param, Row};

pub(crate) struct Tx<'a, C>(pub(crate) &'a mut C);

impl<C: Enlist> Enlist for Tx<'_, C> {
    fn kind(&self) -> StoreKind {
        self.0.kind()
    }

    async fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        self.0.query(sql, params).await
    }
}
