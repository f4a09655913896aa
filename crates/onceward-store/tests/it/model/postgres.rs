//! PostgreSQL on a clock that stands still.

use std::sync::Arc;

use onceward_core::Timestamp;
use onceward_store::Store;
use tokio_postgres::Client;

use super::steps::Follow;
use crate::support::Fresh;

/// A schema whose clock says what it was last told.
pub(crate) struct Frozen {
    fresh: Fresh,
    client: Arc<Client>,
    store: Arc<dyn Store>,
}

impl Frozen {
    pub(crate) async fn new() -> Self {
        let mut fresh = Fresh::new().await;
        // This host knows another time.
        fresh.options.trust_server_clock = true;
        fresh
            .run(
                "CREATE OR REPLACE FUNCTION {schema}.test_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
                     SELECT timestamptz 'epoch' + micros * interval '1 microsecond' FROM {schema}.test_clock_offset
                 $$",
            )
            .await;
        let (client, store) = (Arc::new(fresh.client().await), fresh.store().await);
        Self { fresh, client, store }
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// Empties the tables and sets the clock.
    pub(crate) async fn start_over(&self, now: Timestamp) {
        self.fresh
            .run(
                "TRUNCATE {schema}.lease, {schema}.lease_waiter, {schema}.once, {schema}.history, {schema}.session,
                     {schema}.job, {schema}.job_done, {schema}.job_ready, {schema}.job_later, {schema}.job_claim,
                     {schema}.job_cancel, {schema}.job_held, {schema}.job_gate, {schema}.job_arrived, {schema}.job_key,
                     {schema}.job_queue",
            )
            .await;
        self.follow()(now).await;
    }

    /// What sets the clock.
    pub(crate) fn follow(&self) -> Follow {
        let (client, schema) = (self.client.clone(), self.fresh.schema.clone());
        Box::new(move |now| {
            let client = client.clone();
            let set = format!("UPDATE {schema}.test_clock_offset SET micros = {}", now.as_micros());
            Box::pin(async move { client.batch_execute(&set).await.unwrap() })
        })
    }
}
