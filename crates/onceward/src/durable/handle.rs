//! Starting a run, and what one can do with it from outside.

use core::future::IntoFuture;
use core::marker::PhantomData;
use core::pin::pin;
use core::time::Duration;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use onceward_core::job::{IdempotencyKey, Move, Moved, Record};
use onceward_core::run::{Arrived, Standing};
use onceward_core::{Code, Error, JobId, Key, Result, limits};
use onceward_store::enlist::{self, Enlist};
use onceward_store::{JobRef, TellRun, Told};
use serde::Serialize;
use tokio::time::sleep;
use uuid::Uuid;

use super::call::Call;
use super::failure::Failure;
use super::function::Durable;
use super::hot::{End, Watched};
use super::remembered::fingerprint;
use super::step::{check_name, json, read};
use crate::RunFork;
use crate::bells::News;
use crate::client::{Onceward, no_transactions};
use crate::jobs::{self, Enqueued};
use crate::worker;

/// How soon a result is looked for at first, and in the end, while nothing wakes who waits for it.
const LOOK_FIRST: Duration = Duration::from_millis(5);
const LOOK_MAX: Duration = Duration::from_secs(1);

impl Onceward {
    /// Starts a durable function: see [`StartRun`].
    pub fn start<D: Durable>(&self, call: Call<D>) -> StartRun<D> {
        StartRun { client: self.clone(), call, id: None, parent: None }
    }

    /// A run that was started before, by the id that [`RunHandle::id`] has said.
    pub fn run<D: Durable>(&self, id: JobId) -> RunHandle<D> {
        RunHandle::of(self.clone(), Enqueued::found(id), None)
    }

    /// Tells a run something, whatever its function is.
    ///
    /// # Errors
    /// As [`RunHandle::signal`].
    pub async fn signal_run(&self, run: JobId, name: &str, value: &impl Serialize) -> Result<()> {
        let value = written_signal(name, value)?;
        self.tell_run(run, Arrived::Signal { name: name.to_owned(), value }).await
    }

    /// Tells a run something in a transaction of yours: it arrives if that commits.
    ///
    /// # Errors
    /// [`RunUnknown`](Code::RunUnknown) where there is no such run or it has ended; as [`RunHandle::signal`] otherwise,
    /// and the driver's.
    pub async fn signal_run_in<X: Enlist>(
        &self,
        tx: &mut X,
        run: JobId,
        name: &str,
        value: &impl Serialize,
    ) -> Result<()> {
        let what = Arrived::Signal { name: name.to_owned(), value: written_signal(name, value)? };
        self.check_open()?;
        let store = self.store();
        let sql = store.enlist().ok_or_else(no_transactions)?;
        let job = JobRef { namespace: self.namespace.clone(), id: run };
        let ask = TellRun { run: job, id: Uuid::now_v7(), what };
        let told = enlist::tell_run_in(sql, &**store.clock(), tx, &ask).await?.ok_or_else(|| {
            let why = format!("there is no run {run}, or it has ended");
            Error::new(Code::RunUnknown, why).at("run.tell_in")
        })?;
        // Where there is no number, the workers see it when they look.
        if let Some(transaction) = told.transaction {
            let news = News::arrival(self.namespace.clone(), told.queue);
            self.inner.commits.watch(transaction, news);
        }
        Ok(())
    }

    /// Asks a run to end: whatever it waits for fails as [`Cancelled`](Failure::Cancelled), and so do its children. It
    /// may still undo what it has done; for that, one that is paused goes on.
    ///
    /// # Errors
    /// As [`RunHandle::signal`].
    pub async fn cancel_run(&self, run: JobId, reason: &str) -> Result<()> {
        self.check_open()?;
        let job = JobRef { namespace: self.namespace.clone(), id: run };
        let seen = self.store().job_lookup(core::slice::from_ref(&job)).await?.rows.pop().flatten();
        match seen {
            // Where nothing was done that could be undone, it does not begin.
            Some(row) if row.policy.durable && !row.state.is_final() => {
                let moved = self.admin().move_run(run, None, Move::Cancel, Some(reason), false).await?;
                match moved {
                    Moved::Begun => self.ask_run_to_end(run, reason.to_owned()).await,
                    _ => Ok(()),
                }
            }
            _ => self.ask_run_to_end(run, reason.to_owned()).await,
        }
    }

    /// Has a run hear that it is called off.
    pub(crate) async fn ask_run_to_end(&self, run: JobId, reason: String) -> Result<()> {
        self.tell_run(run, Arrived::Cancel { reason }).await
    }

    async fn tell_run(&self, run: JobId, what: Arrived) -> Result<()> {
        self.check_open()?;
        let job = JobRef { namespace: self.namespace.clone(), id: run };
        let seen = self.store().job_lookup(core::slice::from_ref(&job)).await?.rows.pop().flatten();
        if !seen.is_some_and(|row| row.policy.durable) {
            return Err(Error::new(Code::RunUnknown, format!("there is no run {run}")).at("run.tell"));
        }
        let ask = [TellRun { run: job, id: Uuid::now_v7(), what }];
        match tell(self, &ask).await?.pop() {
            Some(Told::Woken(_) | Told::Waits(_) | Told::Paused(_)) => Ok(()),
            Some(Told::Ended(state)) => {
                Err(Error::new(Code::RunEnded, format!("run {run} has ended: {state}")).at("run.tell"))
            }
            _ => Err(Error::new(Code::RunUnknown, format!("there is no run {run}")).at("run.tell")),
        }
    }
}

/// What a signal says, as it is kept.
pub(crate) fn written_signal(name: &str, value: &impl Serialize) -> Result<Vec<u8>> {
    check_name(name)?;
    json(value)
}

/// Tells runs something, and has those looked after that may be parked.
pub(super) async fn tell(client: &Onceward, asks: &[TellRun]) -> Result<Vec<Told>> {
    let store = client.store();
    let told = store.run_tell(asks).await?;
    let mut queues: Vec<_> = asks
        .iter()
        .zip(&told)
        .filter_map(|(ask, told)| match told {
            Told::Woken(queue) | Told::Waits(queue) => Some((ask.run.namespace.clone(), queue.clone())),
            _ => None,
        })
        .collect();
    queues.sort_unstable();
    queues.dedup();
    if !queues.is_empty() {
        if told.iter().any(|told| matches!(told, Told::Waits(_))) {
            // After what was told is there: a run that parks meanwhile sees it, or is seen here.
            store.run_wake().await?;
        }
        client.tell_workers(&queues).await;
    }
    // Only by going on can it undo what it has done.
    let called_off = |ask: &TellRun| matches!(ask.what, Arrived::Cancel { .. });
    for (ask, told) in asks.iter().zip(&told) {
        if matches!(told, Told::Paused(_)) && called_off(ask) {
            client.admin().resume_run(ask.run.id, Some("it was called off")).await?;
        }
    }
    Ok(told)
}

/// A run being started; `.await` does it.
#[derive(Debug)]
#[must_use = "nothing is started before `.await`"]
pub struct StartRun<D: Durable> {
    client: Onceward,
    call: Call<D>,
    id: Option<Result<Key>>,
    parent: Option<JobId>,
}

impl<D: Durable> StartRun<D> {
    /// A second start under this id finds the first one's run, whatever has become of it. The same id with another
    /// function or other arguments is refused.
    pub fn id(mut self, id: impl AsRef<str>) -> Self {
        self.id = Some(Key::new(id));
        self
    }

    /// Begins only after this long.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.call = self.call.delay(delay);
        self
    }

    /// How long it may take in all, by the store's clock; after that it is not taken up any more.
    pub fn expiry(mut self, expiry: Duration) -> Self {
        self.call = self.call.expiry(expiry);
        self
    }

    /// Where it waits for a worker.
    pub fn queue(mut self, queue: impl AsRef<str>) -> Self {
        self.call = self.call.queue(queue);
        self
    }

    /// From -1000 to 1000, the higher one goes first.
    pub fn priority(mut self, priority: i16) -> Self {
        self.call = self.call.priority(priority);
        self
    }

    /// Runs of one ordering key go one after the other: see [`Call::ordering_key`].
    pub fn ordering_key(mut self, key: impl AsRef<str>) -> Self {
        self.call = self.call.ordering_key(key);
        self
    }

    /// The trace it belongs to, which its children and [`trace`](fn@super::trace) have as well: a `traceparent`.
    pub fn trace(mut self, context: impl Into<String>) -> Self {
        self.call = self.call.trace(context);
        self
    }

    /// The run on whose behalf it is started, by code that is not in it: a handler, or a step of it. Whoever looks at
    /// the new run sees where it comes from; it is not called off with that one, which does not wait for it.
    pub fn parent(mut self, run: JobId) -> Self {
        self.parent = Some(run);
        self
    }

    fn finish(self) -> Result<(Onceward, onceward_core::job::New)> {
        let Self { client, call, id, parent } = self;
        let mut new = call.finish()?;
        new.namespace = client.namespace.clone();
        new.parent = parent;
        new.lines.clear();
        worker::inherit(&mut new);
        if let Some(key) = id.transpose()? {
            let fingerprint = fingerprint(&new.kind, &new.payload.bytes);
            new.key = Some(IdempotencyKey { key, fingerprint, ttl: limits::JOB_KEY_TTL_DEFAULT });
        }
        client.check_open()?;
        Ok((client, new))
    }

    /// Starts it in a transaction of yours: it begins if that commits, and never was if not.
    ///
    /// # Errors
    /// As enqueueing a job in a transaction.
    pub async fn start_in<X: Enlist>(self, tx: &mut X) -> Result<RunHandle<D>> {
        let (client, new) = self.finish()?;
        let started = jobs::enqueue_in(&client, tx, new).await?;
        Ok(RunHandle::of(client, started, None))
    }
}

impl<D: Durable> IntoFuture for StartRun<D> {
    type Output = Result<RunHandle<D>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (client, new) = self.finish()?;
            // Before it can end.
            let watched = client.inner.hot.watch(new.id);
            let started = jobs::send(&client, new).await?;
            Ok(RunHandle::of(client, started, Some(watched)))
        })
    }
}

/// A run, from outside.
pub struct RunHandle<D: Durable> {
    client: Onceward,
    id: JobId,
    created: bool,
    watched: Arc<Watched>,
    function: PhantomData<fn() -> D>,
}

impl<D: Durable> Clone for RunHandle<D> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), watched: Arc::clone(&self.watched), ..*self }
    }
}

impl<D: Durable> core::fmt::Debug for RunHandle<D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RunHandle").field("kind", &D::KIND).field("id", &self.id).finish_non_exhaustive()
    }
}

impl<D: Durable> RunHandle<D> {
    /// `watched` is the end of the run if this start has made it.
    fn of(client: Onceward, started: Enqueued, watched: Option<Arc<Watched>>) -> Self {
        let Enqueued { id, created, .. } = started;
        let watched = watched.filter(|_| created).unwrap_or_else(|| client.inner.hot.watch(id));
        Self { client, id, created, watched, function: PhantomData }
    }

    /// Which run: its job.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Whether this start has made it; `false` where its id was started before.
    pub fn is_created(&self) -> bool {
        self.created
    }

    async fn record(&self) -> Result<Record> {
        let job = JobRef { namespace: self.client.namespace.clone(), id: self.id };
        let seen = self.client.store().job_lookup(&[job]).await?;
        let unknown = || Error::new(Code::RunUnknown, format!("there is no run {}", self.id));
        seen.rows.into_iter().next().flatten().ok_or_else(unknown)
    }

    async fn record_if(&self, looks: bool) -> Result<Option<Record>> {
        if looks { self.record().await.map(Some) } else { Ok(None) }
    }

    /// How it stands.
    ///
    /// # Errors
    /// [`RunUnknown`](Code::RunUnknown); those of an unreachable store.
    pub async fn standing(&self) -> Result<Standing> {
        self.record().await.map(|row| Standing::of(&row))
    }

    /// What it shows, by [`report`](super::report), [`count`](super::count) and [`progress`](super::progress); `null`
    /// where it shows nothing.
    ///
    /// # Errors
    /// [`RunUnknown`](Code::RunUnknown); those of an unreachable store.
    pub async fn report(&self) -> Result<serde_json::Value> {
        let shown = self.record().await?.progress.and_then(|body| body.bytes);
        Ok(shown.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    /// Waits for its end: what it returned, or how it failed.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// Its failure. [`Engine`](Failure::Engine) where it is unknown, was forgotten meanwhile, or the store is away.
    pub async fn result(&self) -> core::result::Result<D::Value, Failure<D::Error>> {
        let mut pause = LOOK_FIRST;
        // One that was started just now has hardly ended, and is heard of if it does so in this process.
        let mut looks = !self.created;
        loop {
            let mut ended = pin!(self.watched.bell.notified());
            ended.as_mut().enable();
            if let Some(End { state, result, error }) = self.watched.take() {
                return read(super::run::outcome_of(state, result, error.as_deref()));
            }
            match self.record_if(looks).await {
                Ok(None) => {}
                Ok(Some(row)) if row.state.is_final() => return ending(&row),
                Ok(Some(_)) => {}
                Err(error) if error.is_retryable() => {
                    tracing::debug!(%error, "a result could not be looked for")
                }
                Err(error) => return Err(Failure::Engine(error.to_string())),
            }
            // One in the memory of this process is heard of: it is looked for in case that it has been lost.
            let here = || self.client.inner.hot.holds(self.id);
            if here() {
                pause = LOOK_MAX;
            }
            tokio::select! {
                () = ended => looks = true,
                () = sleep(pause) => {
                    // It may have been taken up here meanwhile.
                    looks = pause == LOOK_MAX || !here();
                    pause = (pause * 2).min(LOOK_MAX);
                }
            }
        }
    }

    /// Sends it a signal, which waits until the run asks for it.
    ///
    /// Dropping the future leaves it open whether it was sent.
    ///
    /// # Errors
    /// [`RunUnknown`](Code::RunUnknown); [`RunEnded`](Code::RunEnded); [`StepUnwritable`](Code::StepUnwritable) for a
    /// value that can't be written down; those of an unreachable store.
    pub async fn signal(&self, name: &str, value: &impl Serialize) -> Result<()> {
        self.client.signal_run(self.id, name, value).await
    }

    /// Sends it a signal in a transaction of yours: it arrives if that commits.
    ///
    /// # Errors
    /// As [`Onceward::signal_run_in`].
    pub async fn signal_in<X: Enlist>(&self, tx: &mut X, name: &str, value: &impl Serialize) -> Result<()> {
        self.client.signal_run_in(tx, self.id, name, value).await
    }

    /// Asks it to end; see [`Onceward::cancel_run`].
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub async fn cancel(&self, reason: &str) -> Result<()> {
        self.client.cancel_run(self.id, reason).await
    }

    /// Pauses it: it begins nothing any more until it is [resumed](Self::resume). See
    /// [`Admin::pause_run`](crate::Admin::pause_run).
    ///
    /// ```
    /// # use onceward::durable::{Durable, RunHandle};
    /// # async fn example<D: Durable>(run: RunHandle<D>) -> onceward::Result<()> {
    /// run.pause("the bank is away until noon").await?;
    /// // Whatever is sent meanwhile waits for it.
    /// run.signal("approved", &true).await?;
    /// run.resume().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub async fn pause(&self, reason: &str) -> Result<()> {
        self.client.admin().pause_run(self.id, Some(reason)).await.map(drop)
    }

    /// Has what has failed in it done once more, and nothing else; the run that goes on, which mostly is another one:
    /// see [`Admin::retry_run`](crate::Admin::retry_run).
    ///
    /// # Errors
    /// Those of [`Admin::retry_run`](crate::Admin::retry_run).
    pub async fn retry(&self) -> Result<Self> {
        let retried = self.client.admin().retry_run(self.id, None).await?;
        if !retried.is_fork() {
            // How it had ended is not how it ends.
            drop(self.watched.take());
        }
        Ok(Self::of(self.client.clone(), Enqueued::found(retried.id), None))
    }

    /// Another run that begins with what this one had done before a place, and does the rest once more: see
    /// [`Admin::fork_run`](crate::Admin::fork_run).
    ///
    /// # Errors
    /// Those of [`Admin::fork_run`](crate::Admin::fork_run).
    pub async fn fork(&self, from: &str) -> Result<Self> {
        let forked = self.client.admin().fork_run(self.id, from, &RunFork::default()).await?;
        Ok(Self::of(self.client.clone(), Enqueued::found(forked.id), None))
    }

    /// Lets it go on after a [pause](Self::pause).
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub async fn resume(&self) -> Result<()> {
        self.client.admin().resume_run(self.id, None).await
    }
}

/// How a run has ended, by its row.
fn ending<T: serde::de::DeserializeOwned, E: serde::de::DeserializeOwned>(
    row: &Record,
) -> core::result::Result<T, Failure<E>> {
    let said = row.said().and_then(|body| body.bytes.clone());
    read(super::run::outcome_of(row.state, said, row.error.as_deref()))
}
