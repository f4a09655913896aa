//! A database file of a test's own, removed with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use onceward_core::limits;
use onceward_store::sqlite::SqliteStore;
use onceward_store::url::SqliteAt;
use onceward_store::{Clock, OpenOptions};

pub(crate) struct File {
    folder: PathBuf,
}

impl File {
    pub(crate) fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("onceward-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join("store.db")
    }

    pub(crate) fn at(&self) -> SqliteAt {
        SqliteAt { path: Some(self.path()) }
    }

    /// Another store on the file.
    pub(crate) async fn open(&self, clock: &(impl Clock + Clone)) -> Arc<SqliteStore> {
        Arc::new(SqliteStore::open(&self.at(), options(clock)).await.unwrap())
    }

    #[allow(dead_code)]
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let folder: &Path = &self.folder;
        std::fs::remove_dir_all(folder).unwrap();
    }
}

/// The options of a test that owns the clock.
pub(crate) fn options(clock: &(impl Clock + Clone)) -> OpenOptions {
    OpenOptions {
        clock: Arc::new(clock.clone()),
        ttl_min: limits::TTL_MIN_IN_TESTS,
        ..OpenOptions::default()
    }
}
