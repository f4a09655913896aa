//! What a handler knows of the job it runs.

use core::any::{Any, TypeId, type_name};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};

use onceward_core::job::tuning::Tuning;
use onceward_core::job::{Payload, Record};
use onceward_core::once::Body;
use onceward_core::{Code, Error, JobId, Queue, Result, Token, limits};
use onceward_store::enlist::{self, Enlist};
use onceward_store::{JobProgress, JobRef, SettledJob};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::attempt::{Attempt, Stop};
use super::outcome::IntoOutcome;
use super::settle;
use super::shared::Shared;
use crate::client::{Onceward, no_transactions};

/// What handlers share: by type.
#[derive(Clone, Default)]
pub(super) struct States(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl States {
    pub(super) fn put<T: Send + Sync + 'static>(&mut self, state: T) {
        self.0.insert(TypeId::of::<T>(), Arc::new(state));
    }

    pub(super) fn holds(&self, state: TypeId) -> bool {
        self.0.contains_key(&state)
    }
}

/// What surrounds every attempt of a worker.
pub(super) struct Surroundings {
    pub(super) client: Onceward,
    pub(super) states: States,
    /// How many attempts had their ending refused.
    stale: AtomicU64,
    /// How long the queues keep jobs that do not say anything else, as far as it was looked at.
    kept: RwLock<HashMap<Queue, Duration>>,
    /// The worker, once it has started.
    worker: OnceLock<Weak<Shared>>,
}

impl Surroundings {
    pub(super) fn new(client: Onceward, states: States) -> Self {
        Self { client, states, stale: AtomicU64::new(0), kept: RwLock::default(), worker: OnceLock::new() }
    }

    /// Counts an attempt whose ending was refused, and says so, once.
    pub(super) fn refused(&self, attempt: &Attempt) {
        if attempt.note_refused() {
            let stale_endings = self.stale.fetch_add(1, Ordering::SeqCst) + 1;
            let (job, token) = attempt.name();
            let what = "an attempt ended too late: the job had moved on, and nothing was changed";
            tracing::warn!(%job, %token, stale_endings, "{what}");
        }
    }

    /// What the queues are tuned by from now on.
    pub(super) fn tune(&self, tunings: Vec<(Queue, Tuning)>) {
        let kept = tunings.into_iter().filter_map(|(queue, tuning)| Some((queue, tuning.retain?)));
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = kept.collect();
    }

    /// How long a job is kept once it is over.
    pub(super) fn kept_for(&self, job: &Record) -> Duration {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        job.policy.kept_in(kept.get(&job.queue).copied())
    }

    /// From now on it is known whose attempts these are.
    pub(super) fn belong_to(&self, worker: &Arc<Shared>) {
        // A worker starts once.
        let _ = self.worker.set(Arc::downgrade(worker));
    }

    /// The worker, while it is there.
    pub(super) fn worker(&self) -> Option<Arc<Shared>> {
        self.worker.get().and_then(Weak::upgrade)
    }

    pub(super) fn stale(&self) -> u64 {
        self.stale.load(Ordering::SeqCst)
    }
}

/// The job being run, for its handler. Cheap to clone.
#[derive(Clone)]
pub struct JobContext {
    pub(super) attempt: Arc<Attempt>,
    pub(super) around: Arc<Surroundings>,
}

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext")
            .field("id", &self.id())
            .field("kind", &self.attempt.job.kind)
            .field("attempt", &self.attempt())
            .field("token", &self.token())
            .finish_non_exhaustive()
    }
}

impl JobContext {
    pub(super) fn new(attempt: Arc<Attempt>, around: Arc<Surroundings>) -> Self {
        Self { attempt, around }
    }

    /// Which job.
    pub fn id(&self) -> JobId {
        self.attempt.id()
    }

    /// The number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt.job.attempt.saturating_add(1)
    }

    /// How many attempts the job has.
    pub fn max_attempts(&self) -> u32 {
        self.attempt.job.policy.max_attempts
    }

    /// The fencing token of this attempt: larger than that of every earlier one of this job. Put it into writes that a
    /// worker who was paused for long must not repeat.
    pub fn token(&self) -> Token {
        self.attempt.token
    }

    /// The first job of the line of replays this one belongs to; itself unless it is a replay.
    pub fn root(&self) -> JobId {
        self.attempt.job.root
    }

    /// What receivers should recognise the work by, the same for all attempts and all replays: send it as an
    /// `Idempotency-Key`.
    pub fn idempotency_key(&self) -> String {
        self.root().to_string()
    }

    /// The row of the job, as it was before this attempt.
    pub fn job(&self) -> &Record {
        &self.attempt.job
    }

    /// The bytes it is about.
    pub fn payload(&self) -> &Payload {
        &self.attempt.job.payload
    }

    /// The payload as a value.
    ///
    /// # Errors
    /// [`PayloadUnreadable`](Code::PayloadUnreadable).
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        self.decode_bytes(&self.payload().bytes)
    }

    /// The same of other bytes.
    pub(crate) fn decode_bytes<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        serde_json::from_slice(bytes).map_err(|error| {
            let (content, bytes) = (&self.payload().content_type, bytes.len());
            let why = format!("the payload ({bytes} bytes of {content}) is no {}: {error}", type_name::<T>());
            Error::new(Code::PayloadUnreadable, why)
        })
    }

    /// What else was said when it was enqueued, as a value.
    ///
    /// # Errors
    /// [`MetadataInvalid`](Code::MetadataInvalid) where it is no `T`.
    pub fn metadata<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let read = |text: &str| serde_json::from_str(text);
        self.attempt.job.metadata.as_deref().map(read).transpose().map_err(|error| {
            Error::new(Code::MetadataInvalid, "the metadata is of another type").with_source(error)
        })
    }

    /// Writes down how far the job is, as JSON of at most 4 KiB: for those who watch it (`onceward jobs show`), and for
    /// the next attempt, which finds it in [`last_progress`](Self::last_progress) and may go on from there. Durable
    /// when this returns, unlike the effects of the handler: record what was done, after it was done.
    ///
    /// Jobs that report at the same time share a statement. Where a transaction of the handler's has recorded the end
    /// of the job, this waits until that is over. It is forgotten when the job has succeeded or was cancelled; a dead
    /// or uncertain one keeps it.
    ///
    /// ```
    /// # use onceward::worker::JobContext;
    /// # async fn send(_: u64) -> onceward::Result<()> { Ok(()) }
    /// async fn send_all(context: JobContext) -> onceward::Result<()> {
    ///     let done = context.last_progress::<u64>()?.unwrap_or(0);
    ///     for number in done..1_000 {
    ///         send(number).await?;
    ///         if number % 100 == 99 {
    ///             context.progress(&(number + 1)).await?;
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// Dropping the future leaves it open whether it is written.
    ///
    /// # Errors
    /// [`ProgressInvalid`](Code::ProgressInvalid) where it is too long or no JSON; [`AttemptStale`](Code::AttemptStale)
    /// where the job is no longer this attempt's: stop, somebody else runs it; those of an unreachable store.
    pub async fn progress<T: Serialize + ?Sized>(&self, progress: &T) -> Result<()> {
        let bytes = serde_json::to_vec(progress).map_err(|error| {
            Error::new(Code::ProgressInvalid, "the progress can't be written as JSON").with_source(error)
        })?;
        if bytes.len() > limits::PROGRESS_BYTES_MAX {
            let (has, max) = (bytes.len(), limits::PROGRESS_BYTES_MAX);
            return Err(Error::new(
                Code::ProgressInvalid,
                format!("the progress has {has} bytes; {max} is the most"),
            ));
        }
        let job = JobRef { namespace: self.attempt.job.namespace.clone(), id: self.id() };
        let progress = Body::new(bytes, "application/json");
        let ask = JobProgress { job, token: self.token(), progress };
        let client = &self.around.client;
        if client.inner.lanes.progress(ask, client.inner.lanes.deadline()).await? {
            return Ok(());
        }
        Err(self.stale("stop").at("job.progress"))
    }

    /// What an earlier attempt has last written down of how far the job is.
    ///
    /// # Errors
    /// [`ProgressInvalid`](Code::ProgressInvalid) where it is no `T`.
    pub fn last_progress<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let bytes = self.attempt.job.progress.as_ref().and_then(|body| body.bytes.as_deref());
        bytes.map(serde_json::from_slice).transpose().map_err(|error| {
            Error::new(Code::ProgressInvalid, "the progress is of another type").with_source(error)
        })
    }

    /// Keeps what was seen of the exchange with the attempt.
    #[cfg(feature = "http-jobs")]
    pub(crate) fn note_seen(&self, seen: onceward_core::http::Seen) {
        self.attempt.note_seen(seen);
    }

    fn stale(&self, what_to_do: &str) -> Error {
        Error::new(Code::AttemptStale, format!("job {} is no longer this attempt's: {what_to_do}", self.id()))
    }

    /// Whether the attempt should stop.
    pub fn is_cancelled(&self) -> bool {
        self.stopped_by().is_some()
    }

    /// Why the attempt should stop, if it should.
    pub fn stopped_by(&self) -> Option<Stop> {
        self.attempt.stopped_by()
    }

    /// Waits until the attempt should stop, and says why. A handler that goes on is dropped at its next `.await`: a
    /// moment later where the session is lost or the worker leaves, after the worker's grace where the job was called
    /// off.
    ///
    /// Cancel safe.
    pub async fn cancelled(&self) -> Stop {
        self.attempt.stopped(None).await
    }

    /// Records how the job ended in a transaction of yours in the same database: what the handler has written
    /// through it and the end of the job commit together, or not at all. Exactly once, if all the handler does is
    /// in there.
    ///
    /// Commit it, and return; what the handler returns then is not looked at any more. If the transaction was rolled
    /// back after all, the attempt has failed. Nothing is committed, rolled back or closed here.
    ///
    /// ```
    /// # #[cfg(feature = "postgres")] mod example {
    /// # #[derive(serde::Serialize, serde::Deserialize, onceward::Job)]
    /// # #[job(kind = "ledger.book")]
    /// # struct Book { account: i64, cents: i64 }
    /// # type Pool = std::sync::Arc<tokio::sync::Mutex<tokio_postgres::Client>>;
    /// use onceward::worker::{JobContext, Outcome, State};
    ///
    /// async fn book(
    ///     job: Book,
    ///     pool: State<Pool>,
    ///     context: JobContext,
    /// ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    ///     let mut client = pool.lock().await;
    ///     let mut tx = client.transaction().await?;
    ///     let update = "UPDATE account SET cents = cents + $2 WHERE id = $1";
    ///     tx.execute(update, &[&job.account, &job.cents]).await?;
    ///     context.settle_in(&mut tx, Outcome::Done(None)).await?;
    ///     tx.commit().await?;
    ///     Ok(())
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AttemptStale`](Code::AttemptStale) where the job is no longer this attempt's: roll back, somebody else
    /// runs it. [`KeyLocked`](Code::KeyLocked) where somebody is just moving it; the driver's errors. On PostgreSQL
    /// the transaction can only be rolled back after an error of the driver.
    pub async fn settle_in<X: Enlist>(&self, tx: &mut X, outcome: impl IntoOutcome) -> Result<()> {
        let (client, attempt) = (&self.around.client, &self.attempt);
        let store = client.store();
        let sql = store.enlist().ok_or_else(no_transactions)?;
        let clock = &**store.clock();
        let ending = outcome.into_outcome().into_ending();
        let retain = self.around.kept_for(&attempt.job);
        let row = settle::row(attempt, ending, attempt.store_now(clock.boottime()), &client.owner, retain);
        match enlist::settle_job_in(sql, clock, tx, attempt.claim.session.id, &row).await? {
            SettledJob::Applied(state) | SettledJob::Already(state) => {
                attempt.note_settled_in(state);
                Ok(())
            }
            SettledJob::Stale | SettledJob::Gone => {
                self.around.refused(attempt);
                Err(self.stale("roll back").at("job.settle_in"))
            }
        }
    }

    /// The state of this type that the worker was given.
    ///
    /// # Errors
    /// [`StateMissing`](Code::StateMissing). An argument [`State<T>`](super::State) of the handler has that found out
    /// when the worker starts.
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<Arc<T>> {
        let state = self.around.states.0.get(&TypeId::of::<T>()).map(Arc::clone);
        state.and_then(|state| state.downcast().ok()).ok_or_else(|| state_missing(type_name::<T>()))
    }

    /// The client of the worker: to enqueue other jobs, take leases, run things once.
    pub fn client(&self) -> &Onceward {
        &self.around.client
    }
}

pub(super) fn state_missing(name: &str) -> Error {
    Error::new(
        Code::StateMissing,
        format!("the worker has no state of type `{name}`: give it one by `.state(…)`"),
    )
}
