//! Running a durable function again and again, and killing its worker at each of its steps.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;
use onceward_core::run::Position;
use onceward_core::{Code, Error, JobId, Result};
use onceward_store::faulty::{Fault, Faulty, Verb};
use onceward_store::memory::MemoryStore;
use onceward_store::{JobRef, Store};
use serde::Serialize;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::bed::{TestBed, client_of};
use crate::durable::{Call, Durable, Failure, Onlooker, RunHandle};
use crate::worker::WorkerBuilder;

/// How many crashes one run may meet.
const LIVES_MAX: u32 = 1_000;

/// What a durable function has come to.
type Ended<D> = core::result::Result<<D as Durable>::Value, Failure<<D as Durable>::Error>>;
type Accept<D> = dyn Fn(&Ended<D>) -> bool + Send + Sync;
type Worker = dyn Fn(WorkerBuilder) -> WorkerBuilder + Send + Sync;

/// Kills the worker of a durable function at every step it takes, and lets another one go on: the result has to be the
/// same, and nothing that was written down may be done again.
///
/// The function is run on stores in memory, whose time is skipped. In each round the worker dies once, before or after
/// it has written something down, which is another place each time; in the last rounds it dies at every place. What
/// dies is its runtime, with all its tasks, and nothing it sends from then on arrives.
///
/// ```
/// use onceward::durable::{AnyError, durable, sleep, step};
/// use onceward::testing::CrashTest;
/// use std::time::Duration;
///
/// #[durable]
/// async fn charge(order: u64) -> Result<String, AnyError> {
///     Ok(format!("ch_{order}"))
/// }
///
/// #[durable]
/// async fn checkout(order: u64) -> Result<String, AnyError> {
///     let charge = charge(order).await?;
///     sleep(Duration::from_secs(86_400)).await?;
///     step("mail", || async { Ok::<_, AnyError>(()) }).await?;
///     Ok(charge)
/// }
///
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let survived = CrashTest::new(|| checkout(789))
///     .worker(|worker| worker.durable(checkout).durable(charge))
///     .run()
///     .await?;
/// assert_eq!(survived.result?, "ch_789");
/// assert!(survived.crashes > 10);
/// # Ok(()) }
/// ```
#[must_use = "nothing is run before `run`"]
pub struct CrashTest<D: Durable> {
    call: Box<dyn Fn() -> Call<D> + Send + Sync>,
    worker: Arc<Worker>,
    signals: Vec<(String, Value)>,
    accept: Option<Box<Accept<D>>>,
    error: Option<Error>,
}

impl<D: Durable> fmt::Debug for CrashTest<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashTest").field("kind", &D::KIND).finish_non_exhaustive()
    }
}

/// What came of a [`CrashTest`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Survived<T, E> {
    /// What the function came to, each time.
    pub result: core::result::Result<T, Failure<E>>,
    /// How many workers were killed.
    pub crashes: u32,
    /// How many bodies of steps ran again, since they were killed before their outcome was written down.
    pub again: u32,
}

/// Where the worker dies.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Never,
    /// At the so manieth call of that verb.
    Once(Verb, Fault, usize),
    /// At each of them.
    Always(Verb, Fault),
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |fault: &Fault| if *fault == Fault::DiesBefore { "before" } else { "after" };
        match self {
            Self::Never => f.write_str("without a crash"),
            Self::Once(verb, fault, number) => {
                write!(f, "killed {} {} number {number}", word(fault), verb.as_str())
            }
            Self::Always(verb, fault) => write!(f, "killed {} every {}", word(fault), verb.as_str()),
        }
    }
}

impl Cut {
    fn prepare(self, store: &Faulty, life: u32) {
        match self {
            Self::Once(verb, fault, number) if life == 0 => {
                store.pass(number - 1, verb);
                store.next(verb, fault);
            }
            Self::Always(verb, fault) => store.next(verb, fault),
            Self::Never | Self::Once(..) => {}
        }
    }
}

/// One round.
struct Round<D: Durable> {
    ended: Ended<D>,
    crashes: u32,
    again: u32,
}

impl<D: Durable> CrashTest<D> {
    /// A test of that call, which is made anew in each round.
    pub fn new(call: impl Fn() -> Call<D> + Send + Sync + 'static) -> Self {
        let worker: Arc<Worker> = Arc::new(|worker| worker);
        Self { call: Box::new(call), worker, signals: Vec::new(), accept: None, error: None }
    }

    /// What workers know: the function itself, those it calls, and the states they want.
    pub fn worker(mut self, worker: impl Fn(WorkerBuilder) -> WorkerBuilder + Send + Sync + 'static) -> Self {
        self.worker = Arc::new(worker);
        self
    }

    /// A signal that it is sent when it has started.
    pub fn signal(mut self, name: impl Into<String>, value: &impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(value) => self.signals.push((name.into(), value)),
            Err(error) => {
                let why = "what the signal says can't be written as JSON";
                self.error = Some(Error::new(Code::StepUnwritable, why).with_source(error));
            }
        }
        self
    }

    /// What may also come of it after a crash: a step that may not run twice is uncertain then.
    pub fn or_accept(mut self, accept: impl Fn(&Ended<D>) -> bool + Send + Sync + 'static) -> Self {
        self.accept = Some(Box::new(accept));
        self
    }

    /// Runs it.
    ///
    /// # Errors
    /// [`RunNotSurvived`](Code::RunNotSurvived) says after which crash something went wrong, and what.
    pub async fn run(mut self) -> Result<Survived<D::Value, D::Error>> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let first = self.round(Cut::Never).await?;
        let expected = written::<D>(&first.ended);
        let mut survived = Survived { result: first.ended, crashes: 0, again: first.again };
        let series = [Verb::RunAppend, Verb::RunContinue, Verb::JobSettle]
            .into_iter()
            .flat_map(|verb| [Fault::DiesBefore, Fault::DiesAfter].map(|fault| (verb, fault)));
        let series = series.map(|(verb, fault)| self.series(verb, fault, &expected));
        for (crashes, again) in try_join_all(series).await? {
            survived.crashes += crashes;
            survived.again += again;
        }
        Ok(survived)
    }

    /// All rounds in which the worker dies at the same sort of place.
    async fn series(&self, verb: Verb, fault: Fault, expected: &Value) -> Result<(u32, u32)> {
        let (mut crashes, mut again) = (0, 0);
        for number in 1.. {
            let round = self.compared(Cut::Once(verb, fault, number), expected).await?;
            crashes += round.crashes;
            again += round.again;
            if round.crashes == 0 {
                break;
            }
        }
        // Before each of them nothing would ever be written down.
        if fault == Fault::DiesAfter {
            let round = self.compared(Cut::Always(verb, fault), expected).await?;
            crashes += round.crashes;
            again += round.again;
        }
        Ok((crashes, again))
    }

    async fn compared(&self, cut: Cut, expected: &Value) -> Result<Round<D>> {
        let round = self.round(cut).await?;
        let ended = written::<D>(&round.ended);
        if ended == *expected || self.accept.as_ref().is_some_and(|accept| accept(&round.ended)) {
            return Ok(round);
        }
        Err(died(cut, &format!("it came to {ended}, and without a crash to {expected}")))
    }

    /// Runs it once.
    async fn round(&self, cut: Cut) -> Result<Round<D>> {
        let bed = TestBed::new();
        let witness = Arc::new(Witness { store: Arc::clone(bed.store()), seen: Mutex::default() });
        let run = bed.client().start((self.call)()).await?;
        for (name, value) in &self.signals {
            run.signal(name, value).await?;
        }
        for crashes in 0..LIVES_MAX {
            let store = Faulty::new(Arc::clone(bed.store()) as Arc<dyn Store>);
            cut.prepare(&store, crashes);
            let life = Life::begin(&store, &witness, &self.worker).await?;
            let ended = tokio::select! {
                ended = bed.result(&run) => Some(ended),
                () = store.died() => None,
            };
            drop(life);
            if let Some(what) = witness.wrong() {
                return Err(died(cut, &what));
            }
            if let Some(ended) = ended {
                self.check_end(cut, &bed, &run, &ended).await?;
                return Ok(Round { ended, crashes, again: witness.again() });
            }
            bed.store().lose_sessions();
        }
        Err(died(cut, &format!("it has not ended after {LIVES_MAX} crashes")))
    }

    /// A run that does not end is no result.
    async fn check_end(&self, cut: Cut, bed: &TestBed, run: &RunHandle<D>, ended: &Ended<D>) -> Result<()> {
        let row = bed.client().admin().job(run.id()).await?;
        match ended {
            Err(failure) if !row.state.is_final() => Err(died(cut, &failure.to_string())),
            _ => Ok(()),
        }
    }
}

fn died(cut: Cut, what: &str) -> Error {
    Error::new(Code::RunNotSurvived, format!("{cut}: {what}"))
}

fn written<D: Durable>(ended: &Ended<D>) -> Value {
    // What could not be written would not have come out of the journal.
    serde_json::to_value(ended).unwrap_or_default()
}

/// A worker, with a runtime of its own that can be taken away from it: dropping this does that. Nothing of it goes on:
/// what is just being polled is the last.
struct Life(Option<Runtime>);

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Life {
    async fn begin(store: &Arc<Faulty>, witness: &Arc<Witness>, worker: &Arc<Worker>) -> Result<Self> {
        let built = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = built.map_err(|error| {
            Error::new(Code::RunNotSurvived, "no runtime could be started for a worker").with_source(error)
        })?;
        let client = client_of(Arc::clone(store) as Arc<dyn Store>, Arc::clone(witness) as Arc<dyn Onlooker>);
        let (worker, (told, began)) = (Arc::clone(worker), oneshot::channel());
        runtime.spawn(async move {
            let worker = worker(client.worker()).park_after(Duration::ZERO).start().await;
            let (worker, said) = match worker {
                Ok(worker) => (Some(worker), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // Whoever waited for it may have left.
            let _ = told.send(said);
            core::future::pending::<()>().await;
            drop(worker);
        });
        let life = Self(Some(runtime));
        match began.await {
            Ok(Ok(())) => Ok(life),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::new(Code::RunNotSurvived, "the worker could not be started")),
        }
    }
}

/// Sees which bodies run.
struct Witness {
    store: Arc<MemoryStore>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Of each run, in which generation and where.
    bodies: BTreeMap<(JobId, u32, Position), u32>,
    wrong: Option<String>,
}

impl Witness {
    fn wrong(&self) -> Option<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).wrong.clone()
    }

    fn again(&self) -> u32 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.bodies.values().map(|times| times.saturating_sub(1)).sum()
    }
}

impl Onlooker for Witness {
    fn begins(&self, run: &JobRef, position: &Position, name: &str) {
        let (ended, intent) = self.store.knows_of(run, position);
        let generation = self.store.generation_of(run);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let times = seen.bodies.entry((run.id, generation, position.clone())).or_default();
        *times += 1;
        let wrong = match (ended, intent && *times > 1) {
            (true, _) => "after its outcome was written down",
            (_, true) => "although it may not run twice",
            _ => return,
        };
        seen.wrong.get_or_insert_with(|| format!("step `{name}` at {position} ran again {wrong}"));
    }

    fn pause(&self, _pause: Duration) -> Duration {
        Duration::ZERO
    }
}
