//! What the tests of durable functions share: a place on each store, and a ledger of what really happened.

mod testing;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onceward::Onceward;

use crate::pg;

/// A client on a store of its own, and what happens there.
pub(crate) struct Place {
    pub(crate) ow: Onceward,
    pub(crate) ledger: Ledger,
}

impl Place {
    /// Waits for something to be so.
    pub(crate) async fn until(&self, is_so: impl AsyncFn() -> bool) {
        let look = async {
            while !is_so().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let store = self.ow.store().url();
        tokio::time::timeout(Duration::from_secs(30), look)
            .await
            .unwrap_or_else(|_| panic!("it did not become so on {store}: {:?}", self.ledger.all()));
    }
}

/// Runs a test on memory, on a SQLite file, and on PostgreSQL.
pub(crate) async fn each(test: impl AsyncFn(Place)) {
    let folder = tempfile::tempdir().unwrap();
    let schema = pg::Schema::migrated().await;
    let urls = [
        "memory:".to_owned(),
        format!("sqlite://{}/runs.db", folder.path().display()),
        schema.url().to_owned(),
    ];
    for url in urls {
        let ow = Onceward::options().short_ttls_for_tests().connect(&url).await.unwrap();
        let place = Place { ow: ow.clone(), ledger: Ledger::default() };
        let test = test(place);
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .unwrap_or_else(|_| panic!("it hangs on {url}"));
        ow.shutdown().await;
    }
}

/// What really happened, outside of any store.
#[derive(Clone, Default, Debug)]
pub(crate) struct Ledger {
    seen: Arc<Mutex<Vec<String>>>,
    tripped: Arc<Mutex<HashSet<u32>>>,
}

impl Ledger {
    /// Something happened; how often so far.
    pub(crate) fn note(&self, what: &str) -> u32 {
        let mut seen = self.seen.lock().unwrap();
        seen.push(what.to_owned());
        u32::try_from(seen.iter().filter(|other| *other == what).count()).unwrap()
    }

    /// How often that happened.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|other| *other == what).count()
    }

    /// Everything that happened.
    pub(crate) fn all(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// Panics the first time that a run which is to fall at a place comes by there.
    pub(crate) fn trip(&self, run: u32, place: u32) {
        let falls = run == place && self.tripped.lock().unwrap().insert(run);
        if falls {
            self.note(&format!("trip {run}"));
            panic!("as told, at {place}");
        }
    }
}
