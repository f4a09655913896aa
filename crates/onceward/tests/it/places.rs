//! One test, every store: in memory, on SQLite, on PostgreSQL.

use std::any::Any;
use std::sync::Arc;

use onceward::store::Store;
use onceward::store::memory::MemoryStore;
use onceward::{ConnectOptions, Onceward};

/// A store that several clients share, each as if it were a process of its own.
pub(crate) enum Place {
    Memory(Arc<dyn Store>),
    At {
        url: String,
        /// What goes away with it.
        _kept: Box<dyn Any + Send + Sync>,
    },
}

impl Place {
    pub(crate) fn memory() -> Self {
        Self::Memory(Arc::new(MemoryStore::default()))
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("ow.db").display());
        Self::At { url, _kept: Box::new(folder) }
    }

    #[cfg(feature = "postgres")]
    pub(crate) async fn postgres() -> Self {
        let schema = crate::pg::Schema::migrated().await;
        Self::At { url: schema.url().to_owned(), _kept: Box::new(schema) }
    }

    /// The same behind a pooler that keeps notifications away.
    #[cfg(feature = "postgres")]
    pub(crate) async fn pooled() -> Self {
        let schema = crate::pg::Schema::migrated().await;
        let pooled = &crate::pg::support::shared().pgbouncer;
        let url = format!("{pooled}?schema={}&pooler=transaction", schema.name());
        Self::At { url, _kept: Box::new(schema) }
    }

    /// Where it is, for another process; nowhere in memory.
    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Memory(_) => "memory:",
            Self::At { url, .. } => url,
        }
    }

    pub(crate) async fn client(&self, owner: &str) -> Onceward {
        let options = ConnectOptions::new().owner(owner).short_ttls_for_tests();
        match self {
            Self::Memory(store) => options.build(Arc::clone(store)).unwrap(),
            Self::At { url, .. } => options.connect(url).await.unwrap(),
        }
    }
}

/// Makes of each function that takes a place a test on each store.
macro_rules! on_each_store {
    ($($test:ident),+ $(,)?) => { $(
        mod $test {
            use crate::places::Place;

            #[tokio::test(flavor = "multi_thread")]
            async fn in_memory() {
                super::$test(&Place::memory()).await;
            }

            #[cfg(feature = "sqlite")]
            #[tokio::test(flavor = "multi_thread")]
            async fn on_sqlite() {
                super::$test(&Place::sqlite()).await;
            }

            #[cfg(feature = "postgres")]
            #[tokio::test(flavor = "multi_thread")]
            async fn on_postgres() {
                super::$test(&Place::postgres().await).await;
            }
        }
    )+ };
}
pub(crate) use on_each_store;
