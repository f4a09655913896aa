//! The client: one per process and database, cheap to clone.

use core::fmt;
use core::time::Duration;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use onceward_core::job::Payload;
use onceward_core::{Error, Key, Kind, Namespace, Owner, Result, ServiceName, SessionId, limits};
use onceward_store::lane::Lanes;
use onceward_store::{Clock, OpenOptions, Store};

use crate::admin::Admin;
use crate::bells::Bells;
use crate::commits::Commits;
use crate::durable::{Hot, Onlooker};
use crate::jobs::{Enqueue, Enqueued, IntoEnqueue, Job};
use crate::lease::{LeaseBuilder, LeasesBuilder, PoisonWatch};
use crate::once::{Cache, OnceBuilder, OnceManyBuilder};
use crate::renewer::Renewer;
use crate::schedule::ScheduleBuilder;
use crate::service::{RunnerBuilder, ServiceBuilder};
use crate::switchboard::Switchboard;
use crate::trigger::TriggerBuilder;
use crate::worker::WorkerBuilder;

/// The way in: leases, once, and their administration, on one store.
///
/// Clones share the connections, the renewing thread and the cache of finished results.
///
/// ```
/// # tokio_test_block(async {
/// use onceward::Onceward;
///
/// let ow = Onceward::connect("memory:").await?;
/// if let Some(lease) = ow.lease("report:daily").acquire().await? {
///     println!("we are the one, with fencing token {}", lease.token());
/// }
/// # Ok::<(), onceward::Error>(()) }).unwrap();
/// # fn tokio_test_block<F: Future>(f: F) -> F::Output {
/// #     tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(f)
/// # }
/// ```
#[derive(Clone)]
pub struct Onceward {
    pub(crate) inner: Arc<Inner>,
    pub(crate) namespace: Namespace,
    pub(crate) owner: Owner,
}

pub(crate) struct Inner {
    pub(crate) lanes: Lanes,
    pub(crate) renewer: Renewer,
    pub(crate) switchboard: Switchboard,
    pub(crate) bells: Arc<Bells>,
    pub(crate) hot: Hot,
    /// Who looks on while steps run, in tests.
    pub(crate) onlooker: OnceLock<Arc<dyn Onlooker>>,
    pub(crate) commits: Commits,
    pub(crate) cache: Cache,
    pub(crate) poison: PoisonWatch,
    pub(crate) ttl_min: Duration,
    closed: Mutex<bool>,
}

impl fmt::Debug for Onceward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Onceward")
            .field("store", &self.store().url())
            .field("namespace", &self.namespace)
            .field("owner", &self.owner)
            .finish()
    }
}

/// How to connect, where the defaults are not enough.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// use std::time::Duration;
///
/// let options = onceward::Onceward::options().namespace("shop").owner("web1").deadline(Duration::from_secs(5));
/// let shop = options.connect("memory:").await?;
/// assert_eq!((shop.namespace().as_str(), shop.owner().as_str()), ("shop", "web1"));
/// # drop(ow);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ConnectOptions {
    namespace: Result<Namespace>,
    owner: Result<Owner>,
    cache_bytes: u64,
    open: OpenOptions,
    #[cfg(feature = "redis")]
    redis: Option<String>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            namespace: Ok(Namespace::default()),
            owner: Ok(Owner::from_row(default_owner())),
            cache_bytes: 32 * 1024 * 1024,
            open: OpenOptions::default(),
            #[cfg(feature = "redis")]
            redis: None,
        }
    }
}

impl ConnectOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The namespace all keys of this client live in; `default` if none is named.
    #[must_use]
    pub fn namespace(mut self, namespace: impl AsRef<str>) -> Self {
        self.namespace = Namespace::new(namespace);
        self
    }

    /// What others see as the holder; `host:pid` if nothing else is said.
    #[must_use]
    pub fn owner(mut self, owner: impl AsRef<str>) -> Self {
        self.owner = Owner::new(owner);
        self
    }

    /// How many bytes of finished `once` results this process keeps; 32 MiB by default, 0 turns the cache off.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// How long opening and every call tries before it says that the store is away; 10 s by default.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.open.deadline = deadline;
        self
    }

    /// Forgets by the database's clock even where it does not agree with this host's. For a host whose own clock is
    /// wrong, and known to be: without this, a process that is new forgets nothing for its first hour then.
    #[must_use]
    pub fn trust_server_clock(mut self, trust: bool) -> Self {
        self.open.trust_server_clock = trust;
        self
    }

    /// What the connections are called in `pg_stat_activity`.
    #[must_use]
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.open.application_name = name.into();
        self
    }

    /// Tells other processes of ready jobs and freed leases over the Redis at `url` as well:
    /// `redis://[[user]:password@]host[:port]`, `rediss://…` with TLS, `unix:///path`, and `?channel=shop` where
    /// several databases share one. For processes behind a pooler, which the database's own notifications do not
    /// reach.
    ///
    /// These are hints. A Redis that is away, slow, hangs or refuses us delays and fails nothing: everybody looks by
    /// himself then, as without it. A store that was opened elsewhere ([`build`](Self::build)) goes without.
    #[cfg(feature = "redis")]
    #[must_use]
    pub fn redis(mut self, url: impl Into<String>) -> Self {
        self.redis = Some(url.into());
        self
    }

    /// Allows ttls from 100 ms on, for tests.
    #[must_use]
    pub fn short_ttls_for_tests(mut self) -> Self {
        self.open.ttl_min = limits::TTL_MIN_IN_TESTS;
        self
    }

    /// Reads this process's time from `clock`.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.open.clock = clock;
        self
    }

    /// Opens the store at `url`.
    ///
    /// # Errors
    /// As [`onceward_store::open`], the codes of a bad namespace or owner, and
    /// [`StoreUrlInvalid`](onceward_core::Code::StoreUrlInvalid) for a bad URL of a Redis.
    pub async fn connect(self, url: &str) -> Result<Onceward> {
        self.clone().check()?;
        #[cfg(feature = "redis")]
        let this = self.with_carrier()?;
        #[cfg(not(feature = "redis"))]
        let this = self;
        let store = onceward_store::open(url, this.open.clone()).await?;
        this.build(store)
    }

    /// Connected anew for each client: what one tells, the other is to hear.
    #[cfg(feature = "redis")]
    fn with_carrier(mut self) -> Result<Self> {
        if let Some(url) = &self.redis {
            self.open.carrier = Some(Arc::new(onceward_store::redis::Redis::new(url)?));
        }
        Ok(self)
    }

    /// Uses a store that is open already: one of one's own making, or a faulty one in a test.
    ///
    /// # Errors
    /// The codes of a bad namespace or owner.
    pub fn build(self, store: Arc<dyn Store>) -> Result<Onceward> {
        let (namespace, owner) = self.clone().check()?;
        let bells = Arc::new(Bells::default());
        let inner = Inner {
            renewer: Renewer::new(Arc::clone(&store)),
            switchboard: Switchboard::new(Arc::clone(&store)),
            commits: Commits::new(Arc::clone(&store), Arc::clone(&bells)),
            bells,
            hot: Hot::default(),
            onlooker: OnceLock::new(),
            cache: Cache::new(self.cache_bytes),
            poison: PoisonWatch::default(),
            ttl_min: self.open.ttl_min,
            closed: Mutex::new(false),
            lanes: Lanes::new(store, self.open.deadline),
        };
        Ok(Onceward { inner: Arc::new(inner), namespace, owner })
    }

    fn check(self) -> Result<(Namespace, Owner)> {
        Ok((self.namespace?, self.owner?))
    }
}

impl Onceward {
    /// Opens the store at `url` (`sqlite://shop.db`, `postgres://user@host/db`, `memory:`) with the defaults.
    ///
    /// # Errors
    /// As [`ConnectOptions::connect`].
    pub async fn connect(url: &str) -> Result<Self> {
        ConnectOptions::default().connect(url).await
    }

    /// How to connect, where the defaults are not enough.
    pub fn options() -> ConnectOptions {
        ConnectOptions::default()
    }

    /// The same client for another namespace.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// let other = ow.in_namespace("other")?;
    /// let (here, there) = (ow.lease("k").acquire().await?, other.lease("k").acquire().await?);
    /// assert!(here.is_some() && there.is_some(), "two keys of the same name");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`NamespaceInvalid`](onceward_core::Code::NamespaceInvalid).
    pub fn in_namespace(&self, namespace: impl AsRef<str>) -> Result<Self> {
        Ok(Self { namespace: Namespace::new(namespace)?, ..self.clone() })
    }

    /// A lease on `key`: see [`LeaseBuilder`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// assert!(ow.lease("report:daily").acquire().await?.is_some());
    /// # Ok(()) }
    /// ```
    pub fn lease(&self, key: impl AsRef<str>) -> LeaseBuilder {
        LeaseBuilder::new(self.clone(), Key::new(key))
    }

    /// Leases on several keys, all or none, taken in an order that can't deadlock: see [`LeasesBuilder`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// assert!(ow.leases(["account:1", "account:2"]).acquire().await?.is_some());
    /// # Ok(()) }
    /// ```
    pub fn leases<K: AsRef<str>>(&self, keys: impl IntoIterator<Item = K>) -> LeasesBuilder {
        LeasesBuilder::new(self.clone(), keys.into_iter().map(Key::new).collect())
    }

    /// A function that starts at most once under `key`: see [`OnceBuilder`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// assert_eq!(ow.once("order-17").run(async |_| Ok(7)).await?.done(), Some(7));
    /// # Ok(()) }
    /// ```
    pub fn once(&self, key: impl AsRef<str>) -> OnceBuilder {
        OnceBuilder::new(self.clone(), Key::new(key))
    }

    /// One function for many keys, each of them at most once, sent in batches: see [`OnceManyBuilder`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// let outcomes = ow.once_many(["a", "b"]).run(async |attempt| Ok(attempt.number())).await?;
    /// assert_eq!(outcomes.len(), 2);
    /// # Ok(()) }
    /// ```
    pub fn once_many<K: AsRef<str>>(&self, keys: impl IntoIterator<Item = K>) -> OnceManyBuilder {
        OnceManyBuilder::new(self.clone(), keys.into_iter().map(Key::new).collect())
    }

    /// Enqueues a job: see [`Enqueue`].
    #[expect(clippy::needless_pass_by_value, reason = "a job that was enqueued is given away")]
    pub fn enqueue<J: Job>(&self, job: J) -> Enqueue {
        Enqueue::typed(self.clone(), &job)
    }

    /// Enqueues a job whose payload is bytes of whatever `content_type` says.
    pub fn enqueue_raw(
        &self,
        kind: impl AsRef<str>,
        payload: impl Into<Vec<u8>>,
        content_type: impl Into<String>,
    ) -> Enqueue {
        let payload = Payload { bytes: payload.into(), content_type: content_type.into() };
        Enqueue::raw(self.clone(), Kind::new(kind), payload)
    }

    /// Enqueues an HTTP request: see [`HttpJob`](crate::http_jobs::HttpJob). It has 30 s for an attempt if nothing else
    /// is said, and ten minutes at the most.
    #[cfg(feature = "http-jobs")]
    pub fn enqueue_http(&self, job: crate::http_jobs::HttpJob) -> Enqueue {
        Enqueue::http(self.clone(), job)
    }

    /// Declares a receiver of webhooks: see [`EndpointBuilder`](crate::endpoints::EndpointBuilder).
    #[cfg(feature = "http-jobs")]
    pub fn endpoint(&self, name: impl AsRef<str>) -> crate::endpoints::EndpointBuilder {
        let name = onceward_core::EndpointName::new(name);
        crate::endpoints::EndpointBuilder::new(self.clone(), name)
    }

    /// Tells every endpoint that wants to know of something that has happened: see
    /// [`EventBuilder`](crate::endpoints::EventBuilder).
    #[cfg(feature = "http-jobs")]
    pub fn event(&self, event: impl AsRef<str>) -> crate::endpoints::EventBuilder {
        crate::endpoints::EventBuilder::new(self.clone(), event.as_ref())
    }

    /// Enqueues many jobs, in few large statements; answers in the order of the jobs. All are checked before anything
    /// is sent. They are not one transaction: for all or nothing, enqueue them in a transaction of yours.
    ///
    /// ```
    /// # #[derive(serde::Serialize, serde::Deserialize, onceward::Job)]
    /// # #[job(kind = "mail.welcome")]
    /// # struct Welcome { user: u64 }
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// let jobs = ow.enqueue_many((0..5_000).map(|user| Welcome { user })).await?;
    /// assert_eq!(jobs.len(), 5_000);
    /// let keyed = (0..3).map(|user| ow.enqueue(Welcome { user }).key(format!("welcome:{user}")));
    /// ow.enqueue_many(keyed).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As awaiting an [`Enqueue`]: the first one of any job. It does not say what became of the others, which may be
    /// there: give them keys, and enqueueing all of them again finds those that are; or use
    /// [`enqueue_each`](Self::enqueue_each).
    pub async fn enqueue_many<J: IntoEnqueue>(
        &self,
        jobs: impl IntoIterator<Item = J>,
    ) -> Result<Vec<Enqueued>> {
        crate::jobs::enqueue_many(self, jobs).await
    }

    /// As [`enqueue_many`](Self::enqueue_many), with an answer for each job: one that is refused, because its key
    /// belongs to another one for example, keeps no other from being enqueued.
    ///
    /// ```
    /// # #[derive(serde::Serialize, serde::Deserialize, onceward::Job)]
    /// # #[job(kind = "mail.welcome")]
    /// # struct Welcome { user: u64 }
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// ow.enqueue(Welcome { user: 1 }).key("first").await?;
    /// let jobs = [("first", 2), ("second", 3)].map(|(key, user)| ow.enqueue(Welcome { user }).key(key));
    /// let answers = ow.enqueue_each(jobs).await?;
    /// assert_eq!(answers[0].as_ref().unwrap_err().code(), onceward::Code::JobKeyMismatch);
    /// assert!(answers[1].as_ref().unwrap().created);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The codes of bad input in any of the jobs, before anything is sent. What went wrong later stands in the answers,
    /// each as awaiting an [`Enqueue`] would have it.
    pub async fn enqueue_each<J: IntoEnqueue>(
        &self,
        jobs: impl IntoIterator<Item = J>,
    ) -> Result<Vec<Result<Enqueued>>> {
        crate::jobs::enqueue_each(self, jobs).await
    }

    /// A worker that runs jobs: see [`WorkerBuilder`].
    pub fn worker(&self) -> WorkerBuilder {
        WorkerBuilder::new(self.clone())
    }

    /// A global chore that one runner of the cluster does, in its time slot, fenced: see [`ServiceBuilder`].
    pub fn service(&self, name: impl AsRef<str>) -> ServiceBuilder {
        ServiceBuilder::new(self.clone(), ServiceName::new(name))
    }

    /// Several services in one process: see [`RunnerBuilder`].
    pub fn runner(&self) -> RunnerBuilder {
        RunnerBuilder::new(self.clone())
    }

    /// Enqueues a job by the clock: see [`ScheduleBuilder`].
    pub fn schedule<J: IntoEnqueue>(
        &self,
        name: impl AsRef<str>,
        when: impl AsRef<str>,
        job: J,
    ) -> ScheduleBuilder {
        ScheduleBuilder::new(self, name.as_ref(), when.as_ref(), job.into_enqueue(self))
    }

    /// Has jobs follow from what has become of others: see [`TriggerBuilder`].
    pub fn trigger(&self, name: impl AsRef<str>) -> TriggerBuilder {
        TriggerBuilder::new(self.clone(), name.as_ref())
    }

    /// Looking and intervening: what the command line and operators use.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// The namespace of this client.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// What others see as the holder.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        self.inner.lanes.store()
    }

    /// Sends what is still to be sent (leases dropped a moment ago, outcomes of dropped functions, what was granted
    /// to a call that nobody waits for any more) and closes the store; trying for as long as a call would. Clones of
    /// this client can't be used any more. Dropping the last clone does the same in the background.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// ow.shutdown().await;
    /// assert_eq!(ow.lease("k").acquire().await.unwrap_err().code(), onceward::Code::StoreClosed);
    /// # Ok(()) }
    /// ```
    pub async fn shutdown(&self) {
        {
            let mut closed = self.inner.closed.lock().unwrap_or_else(PoisonError::into_inner);
            if core::mem::replace(&mut *closed, true) {
                return;
            }
        }
        let deadline = tokio::time::Instant::now() + self.inner.lanes.deadline();
        self.inner.renewer.finish().await;
        self.inner.lanes.finish(deadline).await;
        self.store().close().await;
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        self.store().clock()
    }

    pub(crate) fn ttl_min(&self) -> Duration {
        self.inner.ttl_min
    }

    /// Refuses to work after [`shutdown`](Self::shutdown).
    pub(crate) fn check_open(&self) -> Result<()> {
        if *self.inner.closed.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(Error::new(onceward_core::Code::StoreClosed, "this client has been shut down"));
        }
        Ok(())
    }
}

pub(crate) fn new_session() -> SessionId {
    SessionId::from_uuid(uuid::Uuid::new_v4())
}

/// The memory store has no transactions to join.
pub(crate) fn no_transactions() -> Error {
    let why = "the store in memory has no transactions to join: use SQLite or PostgreSQL";
    Error::new(onceward_core::Code::DriverMissing, why)
}

/// `host:pid`, for people: it decides nothing.
fn default_owner() -> String {
    let name = rustix::system::uname();
    let host: String =
        name.nodename().to_string_lossy().chars().filter(|c| !c.is_control()).take(200).collect();
    let host = if host.is_empty() { "localhost".to_owned() } else { host };
    format!("{host}:{}", std::process::id())
}
