//! The store on PostgreSQL.
//!
//! Every verb is one autocommit statement (its text is in `sql/postgres/`): done means committed, a lost answer is a
//! lost answer of one statement, and nothing needs a session, so a transaction pooler may stand in between. In order:
//!
//! - `dial`: connecting, with which settings, and to the right cluster; `tls`, `live` (one connection),
//!   `link` (a place for one, made again when lost), `apart` (rows that wait), `error` (what an answer means);
//! - `statements`: every statement, filled in once; `batch` and `row`: rows on their way out and back;
//! - `lease`, `counted`, `renew`, `once`, `jobs`, `upkeep`, `wake`: the verbs;
//! - `check`: the self-check; `migrate`: the schema.
//!
//! What must never happen here: a write sent twice because no answer came; a row locked or written for a refusal; a
//! deadline decided by any clock but the database's, or before the row is locked.

mod apart;
mod batch;
mod check;
mod counted;
mod dial;
mod error;
mod jobs;
mod lease;
mod link;
mod live;
mod migrate;
mod once;
mod renew;
mod row;
mod statements;
mod streak;
mod tls;
mod upkeep;
mod wake;

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use onceward_core::Result;
use onceward_core::history;
use onceward_core::lease as lease_rules;
use onceward_core::once as once_rules;
use tokio::sync::broadcast;

use self::apart::Suspects;
use self::batch::{Named, Place};
use self::dial::{Dial, Purpose};
use self::link::Link;
use self::statements::Statements;
use self::streak::Streak;
use self::wake::Wakes;
use crate::enlist::EnlistSql;
use crate::store::{
    Acquired, BreakLease, Broken, Capabilities, ClaimRef, Claimed, Counters, Finding, HistoryOf, KeyRef,
    LeaveLease, ListLeases, ListOnce, Prune, Pruned, ReleaseLease, Renew, ResolveOnce, SettleOnce, Snapshot,
    Store, StoreKind, WaitLease, Wake,
};
use crate::url::PostgresAt;
use crate::wall::Trust;
use crate::{Clock, OpenOptions};

pub use self::migrate::PostgresMigrator;

/// What the tests of plans need to know.
#[cfg(feature = "conformance")]
#[doc(hidden)]
pub mod plans {
    pub use super::dial::{keyed_options, ordered_options};
    pub use super::statements::{Planned, planned};
}

/// How long a renewal waits for an answer: a connection that has gone silent must not cost a lease of ten seconds.
const RENEW_DEADLINE: Duration = Duration::from_secs(3);

/// How often a waiting caller looks again: rarely where LISTEN wakes it, often where a pooler keeps LISTEN away.
const POLL_LISTENING: Duration = Duration::from_secs(1);
const POLL_POOLED: Duration = Duration::from_millis(25);

/// A store on PostgreSQL.
pub struct PostgresStore {
    inner: Inner,
}

/// How many jobs make a batch worth it beside another one. Two batches of a few are slower than one of them all; of
/// many, the server works on both at the same time (decision 25).
const ENQUEUE_BESIDE: usize = 16;

/// The store's parts, where the verbs are written.
struct Inner {
    url: String,
    schema: String,
    clock: Arc<dyn Clock>,
    dial: Arc<Dial>,
    sql: Arc<Statements>,
    enlist: EnlistSql,
    /// Verbs that begin something, and verbs that end something: neither waits for the other.
    begin: [Link; 2],
    end: [Link; 2],
    /// Single rows of keys that were met locked a moment ago: nobody waits behind them.
    apart: Link,
    suspects: Suspects,
    /// Of keys that were new ones, of leases that had been given back, and of leases that lay where they were written.
    fresh: Streak,
    given_back: Streak,
    near: Streak,
    /// Takes from lanes, in their order.
    take: [Link; 2],
    jobs: jobs::Known,
    /// Renewals, alone.
    renew: Link,
    read: Link,
    admin: Link,
    sweeper: Link,
    /// Where in the tables upkeep goes on.
    places: upkeep::Places,
    trust: Arc<Trust>,
    wakes: Arc<Wakes>,
}

impl PostgresStore {
    /// Connects, checks the server and the schema.
    ///
    /// # Errors
    /// [`StoreUnavailable`](onceward_core::Code::StoreUnavailable), [`TlsFailed`](onceward_core::Code::TlsFailed),
    /// [`SchemaBehind`](onceward_core::Code::SchemaBehind), and the `OW04xx` codes of the self-check.
    pub async fn open(at: &PostgresAt, options: OpenOptions) -> Result<Self> {
        let dial = Arc::new(Dial::new(at, &options)?);
        let sql = Arc::new(Statements::new(&at.schema, options.test_clock, at.pooler));
        let keyed = || Link::new(&dial, Purpose::Keyed);
        let trust = Arc::new(Trust::new(options.trust_server_clock));
        let inner = Inner {
            url: at.redacted.clone(),
            schema: at.schema.clone(),
            clock: options.clock.clone(),
            enlist: statements::enlisted(&at.schema, options.test_clock, &trust),
            begin: [keyed(), keyed()],
            end: [keyed(), keyed()],
            apart: keyed(),
            suspects: Suspects::default(),
            fresh: Streak::default(),
            given_back: Streak::default(),
            near: Streak::default(),
            take: [Link::new(&dial, Purpose::Ordered), Link::new(&dial, Purpose::Ordered)],
            jobs: jobs::Known::since(options.clock.wall(), options.test_clock),
            renew: Link::with_deadline(&dial, Purpose::Keyed, options.deadline.min(RENEW_DEADLINE)),
            read: keyed(),
            admin: Link::new(&dial, Purpose::Plain),
            sweeper: Link::new(&dial, Purpose::Sweep).patient(upkeep::SWEEP_TIMEOUT),
            places: upkeep::Places::default(),
            trust,
            wakes: Arc::new(Wakes::new(&dial, &sql, &at.schema, options.carrier)),
            dial,
            sql,
        };
        inner.check_at_open(options.unmigrated).await.map_err(|error| error.at("store.open"))?;
        Ok(Self { inner })
    }
}

impl Inner {
    /// The link for rows that begin something.
    fn begin_link<T: Named>(&self, places: &[Place<'_, T>]) -> &Link {
        if self.suspects.holds(places) { &self.apart } else { Link::idlest(&self.begin) }
    }

    fn end_link(&self) -> &Link {
        Link::idlest(&self.end)
    }

    /// The URL a person can use again, with the schema if it is not the usual one.
    fn url_with_schema(&self) -> String {
        match self.schema.as_str() {
            "onceward" => self.url.clone(),
            schema => {
                format!("{}{}schema={schema}", self.url, if self.url.contains('?') { '&' } else { '?' })
            }
        }
    }
}

/// A page size as the statements take it.
fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

#[async_trait]
impl Store for PostgresStore {
    fn capabilities(&self) -> Capabilities {
        let poll_interval = if self.inner.dial.pooled { POLL_POOLED } else { POLL_LISTENING };
        let is_heard = !self.inner.dial.pooled || self.inner.wakes.has_carrier();
        Capabilities {
            kind: StoreKind::Postgres,
            poll_interval,
            is_heard,
            batches_in_flight: 1,
            enqueue_beside: Some(ENQUEUE_BESIDE),
        }
    }

    fn url(&self) -> &str {
        &self.inner.url
    }

    fn listens_at(&self) -> Vec<(String, u16)> {
        let mut all = self.inner.dial.listens_at();
        all.extend(self.inner.wakes.carried_at());
        all
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    fn subscribe(&self) -> broadcast::Receiver<Wake> {
        self.inner.wakes.subscribe()
    }

    fn epoch(&self) -> u64 {
        self.inner.dial.lineage.epoch()
    }

    fn counters(&self) -> Counters {
        let dial = &self.inner.dial;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Counters { statements: read(&dial.statements), rows: read(&dial.rows) }
    }

    fn enlist(&self) -> Option<&EnlistSql> {
        Some(&self.inner.enlist)
    }

    async fn lease_acquire(&self, batch: &[lease_rules::Ask]) -> Result<Vec<Acquired>> {
        self.inner.lease_acquire(batch).await
    }

    async fn lease_renew(&self, batch: &[ClaimRef]) -> Result<Vec<Renew>> {
        self.inner.lease_renew(batch).await
    }

    async fn lease_release(&self, batch: &[ReleaseLease]) -> Result<Vec<bool>> {
        self.inner.lease_release(batch).await
    }

    async fn lease_wait(&self, wait: &WaitLease) -> Result<lease_rules::Ticket> {
        self.inner.lease_wait(wait).await
    }

    async fn lease_leave(&self, leave: &LeaveLease) -> Result<()> {
        self.inner.lease_leave(leave).await
    }

    async fn lease_break(&self, ask: &BreakLease) -> Result<Broken> {
        self.inner.lease_break(ask).await
    }

    async fn lease_lookup(&self, key: &KeyRef) -> Result<Snapshot<lease_rules::Record>> {
        self.inner.lease_lookup(key).await
    }

    async fn lease_list(&self, ask: &ListLeases) -> Result<Snapshot<lease_rules::Record>> {
        self.inner.lease_list(ask).await
    }

    async fn once_claim(&self, batch: &[once_rules::Ask]) -> Result<Vec<Claimed>> {
        self.inner.once_claim(batch).await
    }

    async fn once_renew(&self, batch: &[ClaimRef]) -> Result<Vec<Renew>> {
        self.inner.once_renew(batch).await
    }

    async fn once_settle(&self, batch: &[SettleOnce]) -> Result<Vec<once_rules::Settle>> {
        self.inner.once_settle(batch).await
    }

    async fn once_resolve(&self, ask: &ResolveOnce) -> Result<once_rules::Resolve> {
        self.inner.once_resolve(ask).await
    }

    async fn once_lookup(&self, keys: &[KeyRef]) -> Result<Snapshot<Option<once_rules::Record>>> {
        self.inner.once_lookup(keys).await
    }

    async fn once_list(&self, ask: &ListOnce) -> Result<Snapshot<once_rules::Record>> {
        self.inner.once_list(ask).await
    }

    async fn history(&self, ask: &HistoryOf) -> Result<Vec<history::Row>> {
        self.inner.history(ask).await
    }

    async fn prune(&self, ask: &Prune) -> Result<Pruned> {
        self.inner.prune(ask).await
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        self.inner.check().await
    }

    async fn close(&self) {
        let inner = &self.inner;
        // What was done last is told before nothing can be told any more.
        inner.wakes.leave().await;
        inner.dial.closed.store(true, Ordering::SeqCst);
        let single = [&inner.apart, &inner.renew, &inner.read, &inner.admin, &inner.sweeper];
        for link in inner.begin.iter().chain(&inner.end).chain(&inner.take).chain(single) {
            link.close().await;
        }
        inner.wakes.close().await;
    }
}

/// A connection beside the store's own, as a user has it: for the yardstick of the benchmarks.
#[cfg(feature = "bench")]
pub struct Beside(live::Live);

#[cfg(feature = "bench")]
impl Beside {
    pub(crate) async fn connect(at: &PostgresAt) -> Result<Self> {
        let dial = Dial::new(at, &OpenOptions::default())?;
        dial.connect(Purpose::Beside).await.map(Self).map_err(|failed| failed.error)
    }

    pub(crate) fn client(&self) -> &tokio_postgres::Client {
        self.0.client()
    }

    pub(crate) fn client_mut(&mut self) -> &mut tokio_postgres::Client {
        self.0.client_mut()
    }
}
