//! A PostgreSQL for tests: the one `cargo xtask test` started, else one of our own; and a fresh schema for every test.

#![allow(dead_code, unreachable_pub, unused_imports)] // every test file uses another part
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // these are tests

mod pool;
mod proxy;
mod server;

use core::time::Duration;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use onceward_core::{Key, Namespace, Owner, SessionId, Timestamp, lease, once};
use onceward_store::clock::{Clock, SystemClock};
use onceward_store::postgres::{PostgresMigrator, PostgresStore};
use onceward_store::url::{PostgresAt, StoreUrl};
use onceward_store::{ClaimRef, OpenOptions, Store, migrate::Migrator};
use tokio_postgres::{Client, NoTls};

pub use proxy::Proxy;
pub use server::{Bouncer, Server, programs};

/// Where the servers are.
pub struct Urls {
    pub postgres: String,
    pub pgbouncer: String,
}

/// The servers all tests of this process share.
pub fn shared() -> &'static Urls {
    static URLS: OnceLock<Urls> = OnceLock::new();
    // Kept for the life of the process; they end with it.
    static OWN: OnceLock<(Server, Bouncer)> = OnceLock::new();
    URLS.get_or_init(|| {
        let given = |name| std::env::var(name).ok().filter(|url| !url.is_empty());
        match (given("ONCEWARD_TEST_POSTGRES"), given("ONCEWARD_TEST_PGBOUNCER")) {
            (Some(postgres), Some(pgbouncer)) => Urls { postgres, pgbouncer },
            _ => {
                let (server, bouncer) = OWN.get_or_init(|| {
                    let server = Server::start();
                    let bouncer = Bouncer::start(&server);
                    (server, bouncer)
                });
                Urls { postgres: server.url(), pgbouncer: bouncer.url() }
            }
        }
    })
}

/// A client of the driver itself.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A name nobody else uses.
pub fn fresh_name() -> String {
    format!("t_{}", uuid::Uuid::new_v4().simple())
}

/// A schema of its own, with its own clock.
pub struct Fresh {
    pub server: String,
    pub schema: String,
    pub pooled: bool,
    pub options: OpenOptions,
    pub passed: Arc<AtomicI64>,
    pub lent: Option<pool::Lent>,
}

/// The clocks of a host on which time passes as it does in the schema: with the real one, and in leaps.
struct Passing(Arc<AtomicI64>);

impl Clock for Passing {
    fn boottime(&self) -> Timestamp {
        SystemClock.boottime().after(Duration::from_micros(self.0.load(Ordering::SeqCst).unsigned_abs()))
    }

    fn wall(&self) -> Timestamp {
        SystemClock.wall().after(Duration::from_micros(self.0.load(Ordering::SeqCst).unsigned_abs()))
    }

    fn boot_id(&self) -> &str {
        SystemClock.boot_id()
    }
}

impl Fresh {
    /// An up-to-date schema on the shared server.
    pub async fn new() -> Self {
        Self::on(&shared().postgres).await
    }

    /// An up-to-date and empty schema on the shared server, which may have been another test's before.
    pub async fn lent() -> Self {
        pool::lend(&shared().postgres).await
    }

    /// The same, used through pgbouncer.
    pub async fn pooled() -> Self {
        Self { pooled: true, ..Self::lent().await }
    }

    /// An up-to-date schema on some server.
    pub async fn on(server: &str) -> Self {
        let fresh = Self::unmigrated(server).await;
        fresh.migrator().await.up(None).await.unwrap();
        fresh
    }

    /// What is known of a schema of this name.
    fn named(server: &str, schema: String) -> Self {
        let passed = Arc::new(AtomicI64::new(0));
        let options = OpenOptions {
            clock: Arc::new(Passing(passed.clone())),
            test_clock: true,
            ttl_min: Duration::from_millis(100),
            application_name: "onceward tests".to_owned(),
            ..OpenOptions::default()
        };
        Self { server: server.to_owned(), schema, pooled: false, options, passed, lent: None }
    }

    /// A schema with nothing in it but a clock.
    pub async fn unmigrated(server: &str) -> Self {
        let fresh = Self::named(server, fresh_name());
        let schema = &fresh.schema;
        let clock = format!(
            "CREATE SCHEMA {schema};
             CREATE TABLE {schema}.test_clock_offset (micros bigint NOT NULL);
             INSERT INTO {schema}.test_clock_offset VALUES (0);
             CREATE FUNCTION {schema}.test_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
                 SELECT clock_timestamp() + micros * interval '1 microsecond' FROM {schema}.test_clock_offset
             $$"
        );
        fresh.client().await.batch_execute(&clock).await.unwrap();
        fresh
    }

    pub fn at(&self) -> PostgresAt {
        let url = if self.pooled { &shared().pgbouncer } else { &self.server };
        let pooler = if self.pooled { "&pooler=transaction" } else { "" };
        let url = format!("{url}?schema={}{pooler}", self.schema);
        let StoreUrl::Postgres(at) = StoreUrl::parse(&url).unwrap() else { panic!("{url}") };
        at
    }

    pub async fn migrator(&self) -> PostgresMigrator {
        let at = PostgresAt { pooler: false, dsn: self.server.clone(), ..self.at() };
        PostgresMigrator::open(&at, self.options.clone()).await.unwrap()
    }

    pub async fn try_store(&self) -> onceward_core::Result<PostgresStore> {
        PostgresStore::open(&self.at(), self.options.clone()).await
    }

    pub async fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.try_store().await.unwrap())
    }

    /// The port of the server.
    #[allow(dead_code, reason = "every crate of tests uses another part")]
    pub fn port(&self) -> u16 {
        let (_, port) = self.server.rsplit_once(':').unwrap();
        port.split('/').next().unwrap().parse().unwrap()
    }

    /// A client of the driver, straight to the server.
    pub async fn client(&self) -> Client {
        connect(&self.server).await
    }

    /// Runs a statement with `{schema}` in it.
    pub async fn run(&self, text: &str) {
        let text = text.replace("{schema}", &self.schema);
        self.client().await.batch_execute(&text).await.unwrap();
    }

    /// Lets the schema's clock pass.
    pub async fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap();
        self.passed.fetch_add(micros, Ordering::SeqCst);
        self.shift(micros).await;
    }

    /// Steps the schema's clock.
    pub async fn shift(&self, micros: i64) {
        self.run(&format!("UPDATE {{schema}}.test_clock_offset SET micros = micros + ({micros})")).await;
    }
}

pub fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

pub fn session() -> SessionId {
    SessionId::from_uuid(uuid::Uuid::new_v4())
}

/// An ask for a plain lease.
pub fn ask(name: &str, ttl: Duration) -> lease::Ask {
    lease::Ask {
        namespace: Namespace::default(),
        key: key(name),
        capacity: 1,
        owner: Owner::new("test").unwrap(),
        session: session(),
        ttl,
        hard_ttl: None,
        lock_delay: Duration::ZERO,
        metadata: None,
        watched: None,
    }
}

/// An ask for a once key.
pub fn once_ask(name: &str, ttl: Duration) -> once::Ask {
    once::Ask {
        namespace: Namespace::default(),
        key: key(name),
        owner: Owner::new("test").unwrap(),
        session: session(),
        ttl,
        hard_ttl: None,
        retain: Duration::from_secs(3600),
        fingerprint: None,
        restartable: false,
    }
}

pub fn claim_of(row: &lease::Record) -> ClaimRef {
    let (namespace, key) = (row.namespace.clone(), row.key.clone());
    ClaimRef { namespace, key, slot: row.slot, token: row.token, session: row.session }
}

pub fn once_claim_of(row: &once::Record) -> ClaimRef {
    let (namespace, key) = (row.namespace.clone(), row.key.clone());
    ClaimRef { namespace, key, slot: 0, token: row.token, session: row.session }
}
