//! A store in memory whose time is skipped while nothing happens.

use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use onceward_core::run::Position;
use onceward_core::{Code, Error, Result, Timestamp, limits};
use onceward_store::clock::LeapingClock;
use onceward_store::memory::{MemoryStore, Outlook};
use onceward_store::{Clock, JobRef, Store};
use tokio::time::{Instant, sleep};

use crate::client::Onceward;
use crate::durable::{Durable, Failure, Onlooker, RunHandle};
use crate::worker::WorkerBuilder;

/// How often one looks whether anything happens.
const LOOK: Duration = Duration::from_millis(1);
/// How many jobs are made ready by one statement.
const LIMIT: usize = 1_000;

/// A store in memory for tests of durable functions and jobs, whose time is skipped: when everything waits for its
/// time, the clock jumps to the next one. A month's sleep ends in milliseconds, and what was to happen on the way
/// happens in its order.
///
/// Time is only skipped by [`result`](Self::result) and [`skip`](Self::skip). Whoever works meanwhile is not taken for
/// lost: leases, once keys and workers are held for as long as before. Runs are parked at each of their waits, so that
/// each goes through its journal many times.
///
/// ```
/// use onceward::durable::{AnyError, durable, sleep};
/// use onceward::testing::TestBed;
/// use std::time::Duration;
///
/// const MONTH: Duration = Duration::from_secs(30 * 86_400);
///
/// #[durable]
/// async fn trial(user: u64) -> Result<String, AnyError> {
///     sleep(MONTH).await?;
///     Ok(format!("the trial of {user} is over"))
/// }
///
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bed = TestBed::new();
/// let worker = bed.worker().durable(trial).start().await?;
/// let began = bed.now();
/// let run = bed.client().start(trial(42)).await?;
/// assert_eq!(bed.result(&run).await?, "the trial of 42 is over");
/// assert!(bed.now().since(began) >= MONTH);
/// worker.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TestBed {
    client: Onceward,
    store: Arc<MemoryStore>,
    clock: LeapingClock,
    patience: Duration,
    looks_on: Arc<InAHurry>,
}

impl core::fmt::Debug for TestBed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TestBed").field("now", &self.now()).finish_non_exhaustive()
    }
}

impl Default for TestBed {
    fn default() -> Self {
        Self::new()
    }
}

/// Pauses between attempts of a step are not waited for.
#[derive(Default)]
struct InAHurry {
    strange: Mutex<Vec<String>>,
    journal_entries: OnceLock<u32>,
}

impl Onlooker for InAHurry {
    fn begins(&self, _run: &JobRef, _position: &Position, _name: &str) {}

    fn pause(&self, _pause: Duration) -> Duration {
        Duration::ZERO
    }

    fn journal_entries(&self) -> u32 {
        self.journal_entries.get().copied().unwrap_or(limits::JOURNAL_ENTRIES_MAX)
    }

    fn strange(&self, _run: &JobRef, what: &str) {
        self.lock().push(what.to_owned());
    }
}

/// Has the journals of runs be full with so many entries, for the workers of this client and for good: to see on any
/// store what becomes of a run that would have more. Pauses between attempts of a step are not waited for.
pub fn short_journals(client: &Onceward, most: u32) {
    let looks_on = InAHurry::default();
    let _ = looks_on.journal_entries.set(most);
    let _ = client.inner.onlooker.set(Arc::new(looks_on));
}

impl InAHurry {
    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.strange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TestBed {
    /// An empty one.
    pub fn new() -> Self {
        let clock = LeapingClock::default();
        let store = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
        let looks_on = Arc::<InAHurry>::default();
        let client =
            client_of(Arc::clone(&store) as Arc<dyn Store>, Arc::clone(&looks_on) as Arc<dyn Onlooker>);
        Self { client, store, clock, patience: Duration::from_secs(30), looks_on }
    }

    /// How long something may run before a test that waits for its end gives up; 30 s by default.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How many entries a journal may have, to see what becomes of a run that would have more; said once.
    #[must_use]
    pub fn journal_entries(self, most: u32) -> Self {
        let _ = self.looks_on.journal_entries.set(most);
        self
    }

    /// The client of its store.
    pub fn client(&self) -> &Onceward {
        &self.client
    }

    /// A worker for it, which parks runs as soon as they wait.
    pub fn worker(&self) -> WorkerBuilder {
        self.client.worker().park_after(Duration::ZERO)
    }

    /// Runs that were woken by a timer, a channel or I/O that their code awaits outside of a step, and what they waited
    /// for besides: what comes from there is not written down, and comes out otherwise the next time. Each run once for
    /// each time it was taken up. It is found in debug builds only; workers of any store warn of it there. A function
    /// that makes no durable call may wait for what it likes: it is done as a whole.
    ///
    /// ```
    /// use onceward::durable::{AnyError, durable, step};
    /// use onceward::testing::TestBed;
    /// use std::time::Duration;
    ///
    /// #[durable]
    /// async fn hasty() -> Result<(), AnyError> {
    ///     step("reserve", async || Ok::<_, AnyError>(())).await?;
    ///     // This would be `onceward::durable::sleep`.
    ///     tokio::time::sleep(Duration::from_millis(5)).await;
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let bed = TestBed::new();
    /// let worker = bed.worker().durable(hasty).start().await?;
    /// let run = bed.client().start(hasty()).await?;
    /// bed.result(&run).await?;
    /// if cfg!(debug_assertions) {
    ///     assert_eq!(bed.not_durable(), ["hasty, which waited for nothing that is written down"]);
    /// }
    /// worker.shutdown().await;
    /// # Ok(()) }
    /// ```
    pub fn not_durable(&self) -> Vec<String> {
        self.looks_on.lock().clone()
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        self.clock.wall()
    }

    /// Waits until nothing happens any more: everything has ended, or waits for its time or for somebody.
    ///
    /// # Errors
    /// [`RunNotIdle`](Code::RunNotIdle) where something goes on for longer than one is patient.
    pub async fn settle(&self) -> Result<()> {
        self.outlook().await.map(drop)
    }

    /// Lets time pass. What becomes due on the way is done at its time.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    pub async fn skip(&self, by: Duration) -> Result<()> {
        let until = self.now().after(by);
        while let Some(due) = self.outlook().await?.filter(|due| *due <= until) {
            self.leap_to(due);
        }
        self.leap_to(until);
        self.settle().await
    }

    /// The result of a run. Time is skipped as far as it takes.
    ///
    /// # Errors
    /// Its failure. [`Engine`](Failure::Engine) where nothing that time brings lets it go on: it waits for a signal, no
    /// worker knows a function it calls, or it is stuck.
    pub async fn result<D: Durable>(&self, run: &RunHandle<D>) -> Result<D::Value, Failure<D::Error>> {
        let engine = |error: Error| Failure::Engine(error.to_string());
        loop {
            let due = self.outlook().await.map_err(engine)?;
            let row = self.client.admin().job(run.id()).await.map_err(engine)?;
            match due {
                _ if row.state.is_final() => return run.result().await,
                Some(due) => self.leap_to(due),
                None => {
                    let said = row.progress.as_ref().and_then(|said| said.bytes.as_deref());
                    let said =
                        said.map(|said| format!(": {}", String::from_utf8_lossy(said))).unwrap_or_default();
                    let why = "nothing brings the run on: it waits for a signal, for a function that no worker here \
                               knows, or it is stuck";
                    return Err(engine(Error::new(Code::RunNotIdle, format!("{why}{said}"))));
                }
            }
        }
    }

    /// The store itself.
    pub(super) fn store(&self) -> &Arc<MemoryStore> {
        &self.store
    }

    fn leap_to(&self, at: Timestamp) {
        let by = at.since(self.now());
        if !by.is_zero() {
            self.store.leap(&self.clock, by);
        }
    }

    /// Waits until nothing happens; when the next thing does.
    async fn outlook(&self) -> Result<Option<Timestamp>> {
        let began = Instant::now();
        loop {
            self.push().await?;
            match self.store.outlook() {
                Outlook::Busy => {}
                Outlook::Due(at) => return Ok(Some(at)),
                Outlook::Still => return Ok(None),
            }
            if began.elapsed() > self.patience {
                let why = format!("something still runs, or waits for a slot, after {:?}", self.patience);
                return Err(Error::new(Code::RunNotIdle, why));
            }
            sleep(LOOK).await;
        }
    }

    /// Does at once what workers do from time to time.
    async fn push(&self) -> Result<()> {
        let mut queues = self.client.store().run_wake().await?.queues;
        loop {
            let promoted = self.client.store().job_promote(LIMIT).await?;
            queues.extend(promoted.queues);
            if promoted.moved < LIMIT as u64 {
                break;
            }
        }
        if queues.is_empty() { Ok(()) } else { self.client.store().job_announce(&queues).await }
    }
}

/// A client of that store, with somebody who looks on.
pub(super) fn client_of(store: Arc<dyn Store>, onlooker: Arc<dyn Onlooker>) -> Onceward {
    // invariant: no name was given that could be bad.
    #[expect(clippy::expect_used, reason = "the default names are good ones")]
    let client = Onceward::options().cache_bytes(0).build(store).expect("the default options are good");
    // It is new: nobody looks on yet.
    let _ = client.inner.onlooker.set(onlooker);
    client
}
