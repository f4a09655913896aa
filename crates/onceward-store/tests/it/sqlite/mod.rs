//! SQLite: the suite on a file that two stores share, as two processes do, and in memory; and what only a
//! file has.

mod asks;
mod clocks;
mod crash;
mod enlisted;
mod file;
mod jobs;
mod jobs_enlisted;
mod opening;
mod upkeep;
mod writing;

use core::time::Duration;
use std::sync::Arc;

use onceward_store::Store;
use onceward_store::clock::ManualClock;
use onceward_store::conformance::Harness;
use onceward_store::sqlite::SqliteStore;
use onceward_store::url::SqliteAt;

use file::{File, options};

struct Sqlite {
    clock: ManualClock,
    store: Arc<dyn Store>,
    second: Arc<dyn Store>,
    /// Removed with the harness.
    _file: Option<File>,
}

impl Sqlite {
    async fn on_file() -> Self {
        let (clock, file) = (ManualClock::default(), File::new());
        let (store, second) = (file.open(&clock).await, file.open(&clock).await);
        Self { clock, store, second, _file: Some(file) }
    }

    async fn in_memory() -> Self {
        let clock = ManualClock::default();
        let open = SqliteStore::open(&SqliteAt { path: None }, options(&clock)).await;
        let store: Arc<dyn Store> = Arc::new(open.unwrap());
        Self { clock, second: Arc::clone(&store), store, _file: None }
    }
}

#[async_trait::async_trait]
impl Harness for Sqlite {
    async fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn second(&self) -> Arc<dyn Store> {
        self.second.clone()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn step_back(&self, by: Duration) -> bool {
        self.clock.step_wall(-i64::try_from(by.as_micros()).unwrap_or(i64::MAX));
        true
    }
}

mod on_file {
    use super::Sqlite;

    onceward_store::conformance::suite!(Sqlite::on_file().await);
}

mod in_memory {
    use super::Sqlite;

    onceward_store::conformance::suite!(Sqlite::in_memory().await);
}
