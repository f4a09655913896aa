//! A service being described.

use core::future::Future;
use core::time::Duration;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use onceward_core::service::{Mode, OnMissed, Setting, Spec};
use onceward_core::{Code, Error, Result, ServiceName, lease, limits};
use onceward_store::{LookService, ServiceRecord, WriteService};

use super::ending::TermResult;
use super::runner::{RunnerBuilder, RunnerHandle};
use super::term::Term;
use crate::client::Onceward;

/// What is done in a term.
pub(super) type Work = Arc<dyn Fn(Term) -> BoxFuture<'static, Option<String>> + Send + Sync>;

/// How long work has to end when its runner leaves.
const GRACE: Duration = Duration::from_secs(10);

/// A service being described: what it is called, how often it is run, and by what.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// use std::time::Duration;
/// use onceward::Onceward;
///
/// let ow = Onceward::connect("memory:").await?;
/// let runner = ow
///     .service("reconcile")
///     .every("1s")
///     .start(|term| async move {
///         println!("cycle {} is ours, under token {}", term.cycle(), term.token());
///     })
///     .await?;
/// // … the rest of the program …
/// runner.shutdown().await;
/// # Ok(()) }
/// ```
///
/// Started in every process of the cluster, it is run once per cycle, somewhere. A cycle that nobody could begin is
/// recorded as missed, with the reason: see [`on_missed`](Self::on_missed).
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `run` or `start`"]
pub struct ServiceBuilder {
    pub(super) client: Onceward,
    pub(super) name: Result<ServiceName>,
    pub(super) spec: Spec,
    pub(super) options: Options,
    error: Option<Error>,
}

/// What is said of a service and concerns this process only.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) ttl: Option<Duration>,
    pub(super) lock_delay: Duration,
    pub(super) stall_after: Option<Duration>,
    pub(super) grace: Duration,
    pub(super) abort_when_stuck: bool,
}

impl Options {
    fn check(&self) -> Result<()> {
        lease::check_lock_delay(self.lock_delay)?;
        if self.stall_after.is_some_and(|after| after.is_zero()) {
            let why = "the work of a service has longer than 0s to say that it gets on";
            return Err(Error::new(Code::ServiceInvalid, why));
        }
        Ok(())
    }
}

/// A service with its work, for [`RunnerBuilder::service`].
#[derive(Clone)]
pub struct Service {
    pub(super) name: ServiceName,
    pub(super) spec: Spec,
    pub(super) options: Options,
    pub(super) work: Work,
}

impl core::fmt::Debug for Service {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Service").field("name", &self.name).field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl ServiceBuilder {
    pub(crate) fn new(client: Onceward, name: Result<ServiceName>) -> Self {
        let options = Options {
            ttl: None,
            lock_delay: Duration::ZERO,
            stall_after: None,
            grace: GRACE,
            abort_when_stuck: false,
        };
        Self { client, name, spec: Spec::every(Duration::ZERO), options, error: None }
    }

    /// How long a cycle is, such as `"5m"` or `"1h 30m"`: 1 s to 366 days. In each cycle the service is run once.
    pub fn every(mut self, interval: impl AsRef<str>) -> Self {
        match onceward_core::duration::parse(interval.as_ref()) {
            Ok(every) => self.spec.every = every,
            Err(error) => drop(self.error.get_or_insert(error)),
        }
        self
    }

    /// The same as [`every`](Self::every).
    pub fn interval(mut self, every: Duration) -> Self {
        self.spec.every = every;
        self
    }

    /// How much of each slot is left free at its end. A cycle is divided among the runners, and each begins in its part
    /// of it; with a margin a late one does not run into the next one's. Shorter than the interval; none by default:
    /// what keeps terms apart is the lease.
    pub fn spread_margin(mut self, margin: impl AsRef<str>) -> Self {
        match onceward_core::duration::parse(margin.as_ref()) {
            Ok(margin) => self.spec.spread_margin = margin,
            Err(error) => drop(self.error.get_or_insert(error)),
        }
        self
    }

    /// The same as [`spread_margin`](Self::spread_margin).
    pub fn margin(mut self, margin: Duration) -> Self {
        self.spec.spread_margin = margin;
        self
    }

    /// What becomes of cycles that nobody began, because nobody was there or the term before took too long: recorded
    /// ([`Skip`](OnMissed::Skip), the default), the last one run, or all.
    pub fn on_missed(mut self, policy: OnMissed) -> Self {
        self.spec.on_missed = policy;
        self
    }

    /// How far back missed cycles are made up for; a day by default.
    pub fn catch_up(mut self, window: Duration) -> Self {
        self.spec.catch_up = window;
        self
    }

    /// The runner of the last term goes first, as long as it is there. Otherwise the turn goes round.
    pub fn sticky(mut self) -> Self {
        self.spec.sticky = true;
        self
    }

    /// Every runner runs it once per cycle, one after the other, each in its own slot.
    pub fn per_runner(mut self) -> Self {
        self.spec.mode = Mode::PerRunner;
        self
    }

    /// One runner runs it all the time: a leader. Its work goes on until the term is over; when it ends by itself,
    /// another term begins after a second, and later each time that happens.
    pub fn always_on(mut self) -> Self {
        self.spec.mode = Mode::Leader;
        self
    }

    /// How long the lease of a term lasts without renewal: how soon others notice that this process has died. As long
    /// as the interval by default, between 1 s and 15 s.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.options.ttl = Some(ttl);
        self
    }

    /// How long nobody begins after a runner was lost (not after one that has ended): time for what it had started
    /// outside to end.
    pub fn lock_delay(mut self, delay: Duration) -> Self {
        self.options.lock_delay = delay;
        self
    }

    /// Gives the term up when the work has not called [`Term::progress`] for this long.
    pub fn stall_after(mut self, time: Duration) -> Self {
        self.options.stall_after = Some(time);
        self
    }

    /// How long the work has to end when this process leaves, and still holds the term; 10 s by default.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.options.grace = grace;
        self
    }

    /// Aborts the whole process when the work goes on two seconds after it was told to stop and was dropped, which only
    /// work can that blocks its thread. Without it the runner says that it is not
    /// [healthy](RunnerHandle::is_healthy).
    pub fn abort_when_stuck(mut self) -> Self {
        self.options.abort_when_stuck = true;
        self
    }

    /// The service with its work, to be run by a [runner](crate::Onceward::runner) beside others.
    ///
    /// # Errors
    /// What was said wrong: [`ServiceNameInvalid`](Code::ServiceNameInvalid),
    /// [`IntervalInvalid`](Code::IntervalInvalid), [`MarginInvalid`](Code::MarginInvalid),
    /// [`CatchUpInvalid`](Code::CatchUpInvalid), [`DurationInvalid`](Code::DurationInvalid),
    /// [`TtlInvalid`](Code::TtlInvalid), [`LockDelayInvalid`](Code::LockDelayInvalid),
    /// [`ServiceInvalid`](Code::ServiceInvalid).
    pub fn does<F, R>(self, work: impl Fn(Term) -> F + Send + Sync + 'static) -> Result<Service>
    where
        F: Future<Output = R> + Send + 'static,
        R: TermResult,
    {
        if let Some(error) = self.error {
            return Err(error);
        }
        let name = self.name?;
        // In tests, where claims may be shorter than a second, cycles may be as well.
        self.spec.check(limits::INTERVAL_MIN.min(self.client.ttl_min()))?;
        lease::check_ttl(self.options.ttl.unwrap_or_else(|| self.spec.ttl()), self.client.ttl_min())?;
        self.options.check()?;
        let work = Arc::new(work);
        let work: Work = Arc::new(move |term| {
            let work = Arc::clone(&work);
            // Called where the future is run: what the closure does before it returns one may panic or block as well.
            async move { work(term).await.into_failure() }.boxed()
        });
        Ok(Service { name, spec: self.spec, options: self.options, work })
    }

    /// Starts it in the background, in a runner of its own.
    ///
    /// # Errors
    /// As [`does`](Self::does); those of an unreachable store, after its deadline.
    pub async fn start<F, R>(self, work: impl Fn(Term) -> F + Send + Sync + 'static) -> Result<RunnerHandle>
    where
        F: Future<Output = R> + Send + 'static,
        R: TermResult,
    {
        let client = self.client.clone();
        let service = self.does(work)?;
        RunnerBuilder::new(client).service(service).start().await
    }

    /// Runs it until the future is dropped; then the runner leaves in the background as
    /// [`shutdown`](RunnerHandle::shutdown) does.
    ///
    /// # Errors
    /// As [`start`](Self::start). Once it has started, whatever goes wrong is told and tried again.
    pub async fn run<F, R>(self, work: impl Fn(Term) -> F + Send + Sync + 'static) -> Result<()>
    where
        F: Future<Output = R> + Send + 'static,
        R: TermResult,
    {
        let _runner = self.start(work).await?;
        core::future::pending().await
    }
}

/// How often a declaration is tried that meets others.
const ROUNDS: usize = 20;

/// Declares a service: writes what it is, unless that stands there.
pub(crate) async fn declare(client: &Onceward, name: &ServiceName, spec: &Spec) -> Result<()> {
    change(client, name, |setting, now| match setting {
        None => Ok(Some(Setting::new(spec.clone(), now))),
        Some(setting) => Ok(setting.declared(spec, now)),
    })
    .await
    .map(drop)
}

/// Changes what a service is set to, however many do so at the same time; whether there was anything to change.
pub(crate) async fn change(
    client: &Onceward,
    name: &ServiceName,
    change: impl Fn(Option<&Setting>, onceward_core::Timestamp) -> Result<Option<Setting>> + Send + Sync,
) -> Result<bool> {
    let store = client.store();
    let ask = LookService { namespace: client.namespace.clone(), name: name.clone(), terms: 1 };
    for _ in 0..ROUNDS {
        let view = store.service_look(&ask).await?;
        let (version, setting) = match &view.record {
            Some(record) => (record.version, Some(&record.setting)),
            None => (0, None),
        };
        let Some(setting) = change(setting, view.now)? else { return Ok(false) };
        let record =
            ServiceRecord { namespace: client.namespace.clone(), name: name.clone(), version, setting };
        if store.service_write(&WriteService { record }).await? {
            client.inner.switchboard.ring(&client.namespace, &onceward_core::service::bell_key(name));
            return Ok(true);
        }
    }
    let why = format!("the service {:?} is being changed all the time", name.as_str());
    Err(Error::new(Code::StoreBusy, why).at("service.write"))
}
