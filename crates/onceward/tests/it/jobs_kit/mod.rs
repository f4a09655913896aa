//! What the tests of jobs share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;
use std::time::Duration;

use onceward::jobs::{JobId, Record, State};
use onceward::store::Store;
use onceward::store::faulty::Faulty;
use onceward::store::memory::MemoryStore;
use onceward::{Job, Onceward};
use serde::{Deserialize, Serialize};

pub(crate) const NOW: Duration = Duration::ZERO;

#[derive(Clone, Debug, Serialize, Deserialize, Job)]
#[job(kind = "test.number", retry = "fixed 10ms")]
pub(crate) struct Number(pub(crate) u32);

#[derive(Clone, Debug, Serialize, Deserialize, Job)]
#[job(kind = "test.once", at_most_once, retry = "fixed 10ms")]
pub(crate) struct AtMostOnce(pub(crate) u32);

pub(crate) async fn client() -> Onceward {
    Onceward::options().short_ttls_for_tests().connect("memory:").await.unwrap()
}

/// A client of a store that fails when told to.
pub(crate) fn faulty() -> (Onceward, Arc<Faulty>) {
    let store = Faulty::new(Arc::new(MemoryStore::default()));
    let options = Onceward::options().short_ttls_for_tests();
    (options.build(Arc::clone(&store) as Arc<dyn Store>).unwrap(), store)
}

/// Another client of the store of a client, before which things go wrong when told to: another process.
pub(crate) fn before(ow: &Onceward) -> (Onceward, Arc<Faulty>) {
    let store = Faulty::new(Arc::clone(ow.store()));
    let options = Onceward::options().short_ttls_for_tests();
    (options.build(Arc::clone(&store) as Arc<dyn Store>).unwrap(), store)
}

pub(crate) async fn job(ow: &Onceward, id: JobId) -> Record {
    ow.admin().job(id).await.unwrap()
}

/// Waits until a job is in this state.
pub(crate) async fn until(ow: &Onceward, id: JobId, state: State) -> Record {
    until_that(ow, id, &format!("{state:?}"), |row| row.state_now() == state).await
}

pub(crate) async fn until_that(
    ow: &Onceward,
    id: JobId,
    what: &str,
    holds: impl Fn(&Record) -> bool,
) -> Record {
    for _ in 0..1000 {
        let row = job(ow, id).await;
        if holds(&row) {
            return row;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not {what} within ten seconds: {:?}", job(ow, id).await);
}
