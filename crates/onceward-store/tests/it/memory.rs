//! The suite on the memory model.

use core::time::Duration;
use std::sync::Arc;

use onceward_store::Store;
use onceward_store::clock::ManualClock;
use onceward_store::conformance::{Harness, suite};
use onceward_store::memory::MemoryStore;

struct Memory {
    clock: ManualClock,
    store: Arc<dyn Store>,
}

impl Memory {
    fn new() -> Self {
        let clock = ManualClock::default();
        Self { store: Arc::new(MemoryStore::new(Arc::new(clock.clone()))), clock }
    }
}

#[async_trait::async_trait]
impl Harness for Memory {
    async fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn second(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn step_back(&self, by: Duration) -> bool {
        self.clock.step_wall(-i64::try_from(by.as_micros()).unwrap_or(i64::MAX));
        true
    }
}

suite!(Memory::new());
