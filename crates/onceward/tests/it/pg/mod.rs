//! A PostgreSQL for the tests of the client: the stores' test servers, and schemas by URL.

#[path = "../../../../onceward-store/tests/it/support/mod.rs"]
pub(crate) mod support;

use onceward::store::migrate::Migrator;
use onceward::store::{OpenOptions, migrate};
use tokio_postgres::Client;

/// An up-to-date schema of its own on the shared server.
#[allow(dead_code, reason = "every test file uses another part")]
pub(crate) struct Schema {
    server: String,
    name: String,
    url: String,
}

#[allow(dead_code, reason = "every test file uses another part")]
impl Schema {
    pub(crate) async fn migrated() -> Self {
        Self::on(&support::shared().postgres).await
    }

    pub(crate) async fn on(server: &str) -> Self {
        let (server, name) = (server.to_owned(), support::fresh_name());
        let url = format!("{server}?schema={name}");
        let options = OpenOptions { unmigrated: true, ..OpenOptions::default() };
        let migrator = migrate::migrator(&url, options).await.unwrap();
        Migrator::up(&*migrator, None).await.unwrap();
        Self { server, name, url }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A client of the driver itself.
    pub(crate) async fn client(&self) -> Client {
        support::connect(&self.server).await
    }
}
