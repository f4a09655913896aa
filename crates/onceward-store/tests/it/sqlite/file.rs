//! A database file of a test's own, removed with it.

use std::path::PathBuf;
use std::sync::Arc;

use onceward_core::limits;
use onceward_store::sqlite::SqliteStore;
use onceward_store::url::SqliteAt;
use onceward_store::{Clock, OpenOptions};
use rusqlite::Connection;

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
        self.open_with(options(clock)).await
    }

    pub(crate) async fn open_with(&self, options: OpenOptions) -> Arc<SqliteStore> {
        Arc::new(SqliteStore::open(&self.at(), options).await.unwrap())
    }

    /// Another file in the same directory.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// SQLite finds nothing wrong with the file.
    pub(crate) fn assert_sound(&self) {
        let connection = Connection::open(self.path()).unwrap();
        let found: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(found, "ok");
    }
}

impl Drop for File {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
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
