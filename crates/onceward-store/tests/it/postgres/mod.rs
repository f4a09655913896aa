//! The suite on PostgreSQL: straight, and through pgbouncer in transaction mode.

mod disk;
mod faults;
mod jobs;
mod locks;
mod often;
mod plans;
mod scale;
mod schema;
mod upkeep;

use core::time::Duration;
use std::sync::Arc;

use crate::support::Fresh;
use onceward_store::Store;
use onceward_store::conformance::{Harness, suite};
use tokio::sync::OnceCell;

struct Postgres {
    fresh: Fresh,
    store: OnceCell<Arc<dyn Store>>,
}

impl Postgres {
    async fn direct() -> Self {
        Self { fresh: Fresh::lent().await, store: OnceCell::new() }
    }

    async fn pooled() -> Self {
        Self { fresh: Fresh::pooled().await, store: OnceCell::new() }
    }
}

#[async_trait::async_trait]
impl Harness for Postgres {
    async fn store(&self) -> Arc<dyn Store> {
        self.store.get_or_init(|| self.fresh.store()).await.clone()
    }

    async fn second(&self) -> Arc<dyn Store> {
        self.fresh.store().await
    }

    async fn advance(&self, by: Duration) {
        self.fresh.advance(by).await;
    }

    async fn step_back(&self, by: Duration) -> bool {
        self.fresh.shift(-i64::try_from(by.as_micros()).unwrap()).await;
        true
    }
}

mod direct {
    use super::*;

    suite!(Postgres::direct().await);
}

mod pooled {
    use super::*;

    suite!(Postgres::pooled().await);
}
