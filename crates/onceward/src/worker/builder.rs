//! A worker being described.

use core::any::TypeId;
use core::future::Future;
use core::time::Duration;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use futures_util::FutureExt;
#[cfg(feature = "http-jobs")]
use futures_util::future::BoxFuture;
use onceward_core::job::limit::Limits;
use onceward_core::run::Entry;
use onceward_core::{Code, Error, Kind, Queue, Result, Tag, lease, limits, session};
use tokio::sync::{Mutex as FairMutex, Notify, RwLock, watch};
use tokio::task::JoinSet;

use super::context::{States, Surroundings, state_missing};
use super::hand_over::{self, Hand};
use super::handle::WorkerHandle;
use super::handler::{Erased, JobHandler, RawHandler};
use super::journal::{self, Journals};
#[cfg(any(feature = "http-jobs", feature = "tower"))]
use super::outcome::Outcome;
use super::plan::{Plan, QueueShare};
use super::pool::Pool;
use super::service::JobService;
use super::settle::Settler;
use super::shared::{Mode, Shared, Status, keep_going};
use super::{claim, parking, session as sessions, settle, upkeep};
use crate::bells::{Bell, Taker};
use crate::client::Onceward;
use crate::durable::{self, Durable, DurableFn};
use crate::jobs::Job;
use crate::service::{self, Served, Service};

/// Holds a journal against a durable function.
pub(super) type Check = fn(&super::JobContext, Vec<Entry>) -> durable::Verdict;

/// How many jobs run at the same time when nothing is said.
const CONCURRENCY: usize = 50;
/// How long durable functions that only wait stay in memory.
const PARK_AFTER: Duration = Duration::from_secs(10);
/// How long what runs has to end when the worker is ended.
const GRACE: Duration = Duration::from_secs(30);
/// How long it has then, once it was told to stop.
const LEAVE: Duration = Duration::from_secs(2);

/// A worker being described: what it runs, from where, and how much at a time.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// use std::time::Duration;
/// use onceward::worker::{JobContext, State};
/// use onceward::{Job, Onceward};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Job)]
/// #[job(kind = "mail.welcome", queue = "mail")]
/// struct Welcome { user: u64 }
///
/// struct Mailer { from: String }
///
/// async fn welcome(job: Welcome, mailer: State<Mailer>, context: JobContext) -> Result<String, std::io::Error> {
///     Ok(format!("{} wrote to user {} (attempt {})", mailer.from, job.user, context.attempt()))
/// }
///
/// let ow = Onceward::connect("memory:").await?;
/// let job = ow.enqueue(Welcome { user: 42 }).await?;
/// ow.worker()
///     .job(welcome)
///     .state(Mailer { from: "shop@example.com".to_owned() })
///     .queues(["default", "mail"])
///     .run_until_empty(Duration::ZERO)
///     .await?;
/// let done = ow.admin().job(job.id).await?;
/// assert_eq!(done.state, onceward::jobs::State::Succeeded);
/// # Ok(()) }
/// ```
#[must_use = "nothing runs before `run`, `start` or `run_until_empty`"]
pub struct WorkerBuilder {
    client: Onceward,
    handlers: HashMap<Kind, Erased>,
    strict: HashSet<Kind>,
    needs: Vec<(TypeId, &'static str)>,
    states: States,
    layers: Vec<Box<dyn FnOnce(JobService) -> JobService + Send>>,
    queues: Vec<QueueShare>,
    /// The queues of durable functions that have one of their own, and how many run of each at the same time.
    limited: Vec<(Queue, u32)>,
    tags: Vec<Tag>,
    concurrency: usize,
    session_ttl: Duration,
    grace: Duration,
    leave: Option<Duration>,
    version: String,
    /// How journals are held against its durable functions.
    checks: HashMap<Kind, Check>,
    durable: bool,
    park_after: Duration,
    waiting_memory: usize,
    #[cfg(feature = "http-jobs")]
    deliverer: Option<Arc<crate::http_jobs::Deliverer>>,
    services: Vec<Service>,
    serves: Vec<(String, String)>,
    /// What was wrong first.
    error: Option<Error>,
}

impl core::fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("WorkerBuilder")
            .field("kinds", &self.handlers.keys())
            .field("queues", &self.queues)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

impl WorkerBuilder {
    pub(crate) fn new(client: Onceward) -> Self {
        Self {
            client,
            handlers: HashMap::new(),
            strict: HashSet::new(),
            needs: Vec::new(),
            states: States::default(),
            layers: Vec::new(),
            queues: Vec::new(),
            limited: Vec::new(),
            tags: Vec::new(),
            concurrency: CONCURRENCY,
            session_ttl: limits::SESSION_TTL_DEFAULT,
            grace: GRACE,
            leave: None,
            version: String::new(),
            checks: HashMap::new(),
            durable: false,
            park_after: PARK_AFTER,
            waiting_memory: parking::CROWD_BYTES,
            #[cfg(feature = "http-jobs")]
            deliverer: None,
            services: Vec::new(),
            serves: Vec::new(),
            error: None,
        }
    }

    /// Runs jobs of the type of the handler's first argument by it: see [`JobHandler`].
    pub fn job<A, H: JobHandler<A>>(mut self, handler: H) -> Self {
        self.needs.extend(H::needs());
        let kind = <H::Job as Job>::KIND;
        if <H::Job as Job>::OPTIONS.is_at_most_once() {
            self.strict.extend(Kind::new(kind));
        }
        self.add(kind, Box::new(move |context| handler.run(&context)))
    }

    /// Runs jobs of this kind by a handler that reads their bytes itself.
    pub fn raw(self, kind: impl AsRef<str>, handler: impl RawHandler) -> Self {
        self.add(kind.as_ref(), Box::new(move |context| handler.run(context)))
    }

    /// Delivers HTTP jobs, and tells [endpoints](crate::endpoints) of events: see
    /// [`HttpDelivery`](crate::http_jobs::HttpDelivery).
    #[cfg(feature = "http-jobs")]
    pub fn http(mut self, delivery: crate::http_jobs::HttpDelivery) -> Self {
        let deliverer = match delivery.build(self.client.store().listens_at()) {
            Ok(deliverer) => Arc::new(deliverer),
            Err(error) => {
                self.refuse(error);
                return self;
            }
        };
        self.deliverer = Some(Arc::clone(&deliverer));
        let teller = Arc::clone(&deliverer);
        let deliver = move |job| {
            let deliverer = Arc::clone(&deliverer);
            Box::pin(async move { deliverer.deliver(job).await }) as BoxFuture<'static, Outcome>
        };
        let tell = move |job| {
            let teller = Arc::clone(&teller);
            Box::pin(async move { teller.tell(&job).await }) as BoxFuture<'static, Outcome>
        };
        self.add(onceward_core::http::KIND, Box::new(deliver))
            .add(onceward_core::endpoint::KIND, Box::new(tell))
    }

    fn add(mut self, kind: &str, handler: Erased) -> Self {
        match Kind::new(kind) {
            Ok(kind) if self.handlers.contains_key(&kind) => {
                let why = format!("there is a handler for jobs of kind {:?} already", kind.as_str());
                self.refuse(Error::new(Code::HandlerTwice, why));
            }
            Ok(kind) => drop(self.handlers.insert(kind, handler)),
            Err(error) => self.refuse(error),
        }
        self
    }

    fn refuse(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    /// Gives handlers a value, found by its type: as an argument [`State<T>`](super::State), or by
    /// [`JobContext::state`](super::JobContext::state).
    pub fn state<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        self.states.put(state);
        self
    }

    /// Takes jobs from these queues; from `default` if none is named. Of all of them, the highest priority goes
    /// first, and of one priority what was due first.
    pub fn queues<Q: AsRef<str>>(mut self, queues: impl IntoIterator<Item = Q>) -> Self {
        for queue in queues {
            self.add_queue(queue.as_ref(), None);
        }
        self
    }

    /// Takes jobs from this queue, in proportion to its weight among those that have one: in the long run, of
    /// queues with the weights 9 and 1 that both have more than enough, nine jobs of ten come from the first. What
    /// a queue does not use goes to the others. Queues named without a weight have 1 then.
    pub fn queue(mut self, queue: impl AsRef<str>, weight: u32) -> Self {
        if weight == 0 {
            let why = "a weight is at least 1: a queue that is to give nothing is not named, or paused";
            self.refuse(Error::new(Code::LimitInvalid, why));
        }
        self.add_queue(queue.as_ref(), Some(weight));
        self
    }

    fn add_queue(&mut self, queue: &str, weight: Option<u32>) {
        match Queue::new(queue) {
            Ok(queue) => {
                self.queues.retain(|share| share.queue != queue);
                self.queues.push(QueueShare { queue, weight });
            }
            Err(error) => self.refuse(error),
        }
    }

    /// What this worker offers: it also takes jobs that have one of these tags. Jobs without tags it takes anyway.
    pub fn tags<T: AsRef<str>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        for tag in tags {
            match Tag::new(tag) {
                Ok(tag) => self.tags.push(tag),
                Err(error) => self.refuse(error),
            }
        }
        if self.tags.len() > limits::TAGS_MAX {
            let why = format!("a worker offers at most {} tags", limits::TAGS_MAX);
            self.refuse(Error::new(Code::TagsInvalid, why));
        }
        self
    }

    /// How many jobs run at the same time; 50 by default. Jobs that keep a processor busy want as many as there are
    /// processors, and [`spawn_blocking`](tokio::task::spawn_blocking). What only waits does not count: durable
    /// functions, and HTTP requests that have been without an answer for a second, of those up to half as many as this.
    pub fn concurrency(mut self, jobs: usize) -> Self {
        self.concurrency = jobs;
        self
    }

    /// How soon others notice that this process has died, and take over its jobs: 1 s to 24 h, 15 s by default. It is
    /// renewed three times as often, by one statement, whatever runs.
    pub fn session_ttl(mut self, ttl: Duration) -> Self {
        self.session_ttl = ttl;
        self
    }

    /// How long what runs has to end when the worker is ended, and how long a handler has to end when its job is called
    /// off; 30 s by default.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How long a handler has once it was told that the worker leaves, after the [grace](Self::grace); 2 s by default.
    /// One whose job is called off has as long, where the grace is shorter than what is said here.
    pub fn leave(mut self, leave: Duration) -> Self {
        self.leave = Some(leave);
        self
    }

    /// The version of the program, for people who look at workers.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Also runs a service, under the session of this worker: see [`service`](crate::service).
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// Also enqueues what schedules are due for: see
    /// [`RunnerBuilder::scheduler`](crate::service::RunnerBuilder::scheduler).
    pub fn scheduler(mut self) -> Self {
        match crate::schedule::service(&self.client) {
            Ok(service) => self.services.push(service),
            Err(error) => self.refuse(error),
        }
        self
    }

    /// Also forgets what may be forgotten: see [`RunnerBuilder::upkeep`](crate::service::RunnerBuilder::upkeep).
    pub fn upkeep(mut self) -> Self {
        match service::upkeep::service(&self.client) {
            Ok(service) => self.services.push(service),
            Err(error) => self.refuse(error),
        }
        self
    }

    /// Puts a `tower` layer around all handlers, outside of those that were put there before: it sees every
    /// [`JobRequest`](super::JobRequest) and every [`Outcome`](super::Outcome). Panics pass through layers as they are.
    #[cfg(feature = "tower")]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: tower_layer::Layer<JobService> + Send + 'static,
        L::Service:
            tower_service::Service<super::JobRequest, Response = Outcome> + Clone + Send + Sync + 'static,
        <L::Service as tower_service::Service<super::JobRequest>>::Error: core::fmt::Display + Send,
        <L::Service as tower_service::Service<super::JobRequest>>::Future: Send,
    {
        self.layers.push(Box::new(move |service| JobService::of(layer.layer(service))));
        self
    }

    /// Runs a durable function: `worker.durable(checkout)`; see [`durable`](mod@crate::durable).
    pub fn durable<A, F: DurableFn<A>>(mut self, _function: F) -> Self {
        self.needs.extend(F::Function::needs());
        if F::Function::OPTIONS.is_at_most_once() {
            self.strict.extend(Kind::new(F::Function::KIND));
        }
        self.durable = true;
        if let Some(most) = F::Function::MAX_CONCURRENT {
            match Queue::new(durable::queue_of(F::Function::KIND)) {
                Ok(queue) => self.limited.push((queue, most)),
                Err(error) => self.refuse(error),
            }
        }
        if let Ok(kind) = Kind::new(F::Function::KIND) {
            self.checks.insert(kind, durable::dry_run::<F::Function>);
        }
        self.add(F::Function::KIND, Box::new(|context| durable::run::<F::Function>(context).boxed()))
    }

    /// How long a durable function that only waits stays in memory before it is parked; 10 s by default. A parked one
    /// costs nothing, and its code goes through its journal when it is taken up again.
    pub fn park_after(mut self, park_after: Duration) -> Self {
        self.park_after = park_after;
        self
    }

    /// About how many bytes of memory durable functions may take that only wait; 128 MiB by default. Where they take
    /// more, those that begin to wait are parked at once. A run is taken for 8 KiB, what its journal says, and 256
    /// bytes for each of its entries; what its code keeps besides is not known.
    pub fn waiting_memory(mut self, bytes: usize) -> Self {
        self.waiting_memory = bytes;
        self
    }

    /// Starts the worker: opens its session and lets it work in the background.
    ///
    /// # Errors
    /// What was said wrong: [`WorkerIdle`](Code::WorkerIdle) without a handler, [`HandlerTwice`](Code::HandlerTwice),
    /// [`StateMissing`](Code::StateMissing), the codes of bad names, [`LimitInvalid`](Code::LimitInvalid) for a
    /// weight of 0 and a concurrency of 0 or more than 100,000, [`TtlInvalid`](Code::TtlInvalid),
    /// [`ServiceTwice`](Code::ServiceTwice). Those of an unreachable store, after its deadline.
    pub async fn start(mut self) -> Result<WorkerHandle> {
        self.client.check_open()?;
        let deadline = self.client.inner.lanes.deadline();
        let (client, services) = (self.client.clone(), core::mem::take(&mut self.services));
        service::check(&services)?;
        self.serves = service::about(&client, &services);
        let limited = core::mem::take(&mut self.limited);
        let shared = Arc::new(self.build(&limited)?);
        limit(&client, &limited).await?;
        // Before anything is taken: attempts ask it for their slots.
        shared.around.belong_to(&shared);
        shared.around.client.inner.bells.hang(&shared.bell);
        let first = sessions::open(&shared, deadline).await?;
        upkeep::look_at_tunings(&shared).await;
        let mut parts = JoinSet::new();
        parts.spawn(sessions::keep(Arc::clone(&shared), first));
        parts.spawn(keep_going("settle", Arc::clone(&shared), settle::keep));
        parts.spawn(keep_going("listen", Arc::clone(&shared), upkeep::listen));
        parts.spawn(keep_going("promote", Arc::clone(&shared), upkeep::promote));
        parts.spawn(keep_going("tune", Arc::clone(&shared), upkeep::tune));
        if shared.durable {
            parts.spawn(keep_going("wake", Arc::clone(&shared), parking::wake));
            for _ in 0..journal::SENDERS {
                parts.spawn(keep_going("journal", Arc::clone(&shared), journal::keep));
            }
        }
        parts.spawn(keep_going("rescue", Arc::clone(&shared), upkeep::rescue));
        parts.spawn(keep_going("claim", Arc::clone(&shared), claim::keep));
        parts.spawn(keep_going("hand over", Arc::clone(&shared), hand_over::keep));
        let taker: Weak<dyn Taker> = Arc::downgrade(&(Arc::clone(&shared) as Arc<dyn Taker>));
        shared.bell.set_taker(taker);
        let served = match services.is_empty() {
            true => None,
            false => Some(Served::start(client, services, sessions::watched(&shared, &mut parts)).await),
        };
        let (served, error) = match served.transpose() {
            Ok(served) => (served, None),
            Err(error) => (None, Some(error)),
        };
        let worker = WorkerHandle::new(shared, parts, served);
        // What was begun is ended in order.
        error.map_or(Ok(worker), Err)
    }

    /// Runs until the future is dropped; then the worker ends in the background as
    /// [`shutdown`](WorkerHandle::shutdown) does. To end it in order, use [`run_until`](Self::run_until).
    ///
    /// # Errors
    /// As [`start`](Self::start). Once it has started, whatever goes wrong is told and tried again.
    pub async fn run(self) -> Result<()> {
        self.run_until(core::future::pending()).await
    }

    /// Runs until `signal` comes, and then ends in order: see [`shutdown`](WorkerHandle::shutdown).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn run_until(self, signal: impl Future<Output = ()>) -> Result<()> {
        let worker = self.start().await?;
        signal.await;
        worker.shutdown().await;
        Ok(())
    }

    /// Runs until the queues of this worker hold no job of a kind it can run that is ready, retrying, due within
    /// `horizon`, or claimed by anybody. What waits in a paused queue is not waited for.
    ///
    /// # Errors
    /// As [`start`](Self::start), and those of an unreachable store.
    pub async fn run_until_empty(self, horizon: Duration) -> Result<()> {
        let worker = self.start().await?;
        let empty = worker.empty(horizon).await;
        worker.shutdown().await;
        empty
    }

    fn build(mut self, limited: &[(Queue, u32)]) -> Result<Shared> {
        self.check_functions()?;
        #[cfg(feature = "http-jobs")]
        if let Some(deliverer) = &self.deliverer {
            deliverer.has_slots(self.concurrency);
        }
        if self.queues.is_empty() {
            self.queues.push(QueueShare { queue: Queue::default(), weight: None });
        }
        for (queue, _) in limited {
            if !self.queues.iter().any(|share| share.queue == *queue) {
                self.queues.push(QueueShare { queue: queue.clone(), weight: None });
            }
        }
        if self.queues.iter().any(|share| share.weight.is_some()) {
            self.queues.iter_mut().for_each(|share| share.weight = share.weight.or(Some(1)));
        }
        let mut kinds: Vec<Kind> = self.handlers.keys().cloned().collect();
        kinds.sort_unstable();
        let queues: Vec<Queue> = self.queues.iter().map(|share| share.queue.clone()).collect();
        let texts = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
        let about = session::About {
            queues: texts(queues.iter().map(Queue::as_str).collect()),
            kinds: texts(kinds.iter().map(Kind::as_str).collect()),
            tags: texts(self.tags.iter().map(Tag::as_str).collect()),
            concurrency: u32::try_from(self.concurrency).unwrap_or(u32::MAX),
            version: self.version,
            services: self.serves,
        };
        let service =
            self.layers.into_iter().fold(JobService::new(self.handlers), |inner, layer| layer(inner));
        let namespace = self.client.namespace.clone();
        let journals = Journals::new(&self.client.store().capabilities());
        Ok(Shared {
            around: Arc::new(Surroundings::new(self.client, self.states)),
            service,
            tags: self.tags,
            session_ttl: self.session_ttl,
            about,
            grace: self.grace,
            leave: self.leave.unwrap_or(LEAVE),
            calling_off: self.grace.max(self.leave.unwrap_or_default()),
            pool: Arc::new(Pool::new(self.concurrency)),
            settler: Settler::default(),
            bell: Arc::new(Bell::new(namespace, queues)),
            hand: Hand::default(),
            journals,
            status: watch::Sender::new(Status { mode: Mode::Working, asked_to_drain: false, session: None }),
            plan: Plan::new(self.queues, kinds.clone(), self.strict),
            kinds,
            claiming: FairMutex::new(()),
            handing: FairMutex::new(()),
            journaling: RwLock::new(()),
            alone: Notify::new(),
            lost: Notify::new(),
            runs: Notify::new(),
            durable: self.durable,
            park_after: self.park_after,
            waiting_memory: self.waiting_memory,
        })
    }

    pub(super) fn client(&self) -> &Onceward {
        &self.client
    }

    pub(super) fn states(&self) -> &States {
        &self.states
    }

    pub(super) fn checks(&self) -> &HashMap<Kind, Check> {
        &self.checks
    }

    pub(super) fn check_functions(&mut self) -> Result<()> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if self.handlers.is_empty() {
            return Err(Error::new(Code::WorkerIdle, "this worker has no handler: give it one by `.job(…)`"));
        }
        if !(1..=limits::WORKER_CONCURRENCY_MAX).contains(&self.concurrency) {
            let (max, is) = (limits::WORKER_CONCURRENCY_MAX, self.concurrency);
            let why = format!("a worker runs between 1 and {max} jobs at a time, not {is}");
            return Err(Error::new(Code::LimitInvalid, why));
        }
        if let Some((_, name)) = self.needs.iter().find(|(state, _)| !self.states.holds(*state)) {
            return Err(state_missing(name));
        }
        lease::check_ttl(self.session_ttl, self.client.ttl_min())
    }
}

/// Sets what the functions of this worker are limited to, where it is not set so yet.
async fn limit(client: &Onceward, limited: &[(Queue, u32)]) -> Result<()> {
    let admin = client.admin();
    for (queue, most) in limited {
        let set = admin.queue_limits(queue).await?;
        if set.concurrency != Some(*most) {
            admin.limit_queue(queue, Limits { concurrency: Some(*most), ..set }).await?;
        }
    }
    Ok(())
}
