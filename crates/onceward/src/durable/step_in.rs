//! Steps whose effects and whose outcome are one commit, in the database of the store.
//!
//! The value of such a step arrives for its run like a signal does: as a row that the transaction of the step writes,
//! and
//! that is removed when it stands in the journal. Who has taken the run up finds either all of it or nothing, and so
//! the
//! body never runs again once it has committed. As long as the transaction is open nobody else takes the run up; and
//! when the body is over without its value being there, a row of the same id is written, which either waits for the
//! transaction and finds its value, or keeps it from committing.

use core::fmt;
use core::future::poll_fn;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Poll;
use core::time::Duration;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use onceward_core::job::Retry;
use onceward_core::run::{Arrived, Op, Phase, Position, Wanted};
use onceward_core::{Code, Error};
use onceward_store::TellRun;
use onceward_store::enlist::{self, Enlist, WriteStep};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::ambient::{Ambient, claim, within};
use super::awaits::freely;
use super::failure::{Failure, Never};
use super::run::{Asked, Run, failed};
use super::step::{check_name, engine, json, read, seed};
use crate::client::no_transactions;

/// How soon it is asked again what has become of a transaction, while the store is away.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Runs a step that changes the database of the store, exactly once: its effects and its outcome are one commit.
///
/// The body opens a transaction of its own, does its work in it, has the [`Pen`] write the value of the step into the
/// same transaction, commits it, and returns the receipt of the pen. It runs again where nothing was committed: after a
/// crash, or an `Err` as [`max_attempts`](StepIn::max_attempts) says. Once it has committed it never runs again, also
/// where its process dies with the commit, or never hears of it.
///
/// The transaction may be that of any driver that may enqueue jobs: tokio-postgres, deadpool, sqlx, diesel, SeaORM,
/// rusqlite. It has to be in the database of the store, and keeps everybody from taking the run up or calling it off
/// until it ends: keep it short.
///
/// ```no_run
/// # #[cfg(feature = "sqlx-postgres")] mod bank {
/// use onceward::durable::{AnyError, step_in};
/// use onceward::worker::State;
///
/// #[onceward::durable]
/// async fn transfer(bank: State<sqlx::PgPool>, from: i64, to: i64, cents: i64) -> Result<i64, AnyError> {
///     let left = step_in("move", |pen| {
///         let bank = &bank;
///         async move {
///             let mut tx = bank.begin().await?;
///             let (left,): (i64,) =
///                 sqlx::query_as("UPDATE account SET cents = cents - $1 WHERE id = $2 RETURNING cents")
///                     .bind(cents).bind(from).fetch_one(&mut *tx).await?;
///             sqlx::query("UPDATE account SET cents = cents + $1 WHERE id = $2")
///                 .bind(cents).bind(to).execute(&mut *tx).await?;
///             let written = pen.write(&mut tx, left).await?;
///             tx.commit().await?;
///             Ok::<_, AnyError>(written)
///         }
///     });
///     Ok(left.await?)
/// }
/// # }
/// ```
pub fn step_in<'a, F, Fut, T, E>(name: &'static str, body: F) -> StepIn<'a, F>
where
    F: FnMut(Pen) -> Fut + Send + 'a,
    Fut: Future<Output = Result<Written<T>, E>> + Send + 'a,
    T: Serialize + DeserializeOwned,
    E: fmt::Display + Serialize + DeserializeOwned,
{
    let place = check_name(name).and_then(|()| claim());
    StepIn { place, name, body, attempts: 1, retry: Retry::default(), borrows: PhantomData }
}

/// A step in a transaction, which `.await` runs; see [`step_in`].
#[must_use = "a step runs when it is awaited"]
pub struct StepIn<'a, F> {
    place: Result<(Arc<Run>, Position), Error>,
    name: &'static str,
    body: F,
    attempts: u32,
    retry: Retry,
    borrows: PhantomData<&'a ()>,
}

impl<F> fmt::Debug for StepIn<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepIn").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<F> StepIn<'_, F> {
    /// How often the body is tried before its error counts; once by default. The attempts are made by this process:
    /// another one begins to count anew.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// How long to wait between attempts: `exponential 2s max 15m jitter 0.2` by default.
    pub fn retry(mut self, policy: Retry) -> Self {
        self.retry = policy;
        self
    }
}

impl<'a, F, Fut, T, E> IntoFuture for StepIn<'a, F>
where
    F: FnMut(Pen) -> Fut + Send + 'a,
    Fut: Future<Output = Result<Written<T>, E>> + Send + 'a,
    T: Serialize + DeserializeOwned + 'a,
    E: fmt::Display + Serialize + DeserializeOwned + Send + 'a,
{
    type Output = Result<T, Failure<E>>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        // It waits for the store, besides its body.
        let mut run = Box::pin(self.run());
        Box::pin(poll_fn(move |cx| freely(cx, |cx| run.as_mut().poll(cx))))
    }
}

impl<'a, F, Fut, T, E> StepIn<'a, F>
where
    F: FnMut(Pen) -> Fut + Send + 'a,
    Fut: Future<Output = Result<Written<T>, E>> + Send + 'a,
    T: Serialize + DeserializeOwned + 'a,
    E: fmt::Display + Serialize + DeserializeOwned + Send + 'a,
{
    async fn run(mut self) -> Result<T, Failure<E>> {
        let (run, position) = match &self.place {
            Ok((run, position)) => (Arc::clone(run), position.clone()),
            Err(error) => return Err(engine(error)),
        };
        let place = Place { run, position, name: self.name };
        loop {
            if let Some(outcome) = place.asked().await {
                return read(outcome);
            }
            if !place.run.take_written(&place.position, place.name) {
                self.work(&place).await;
            }
        }
    }

    /// Runs the body until it has committed, or its error counts, and writes that down.
    async fn work(&mut self, place: &Place) {
        let run = &place.run;
        run.body_begins(&place.position, place.name);
        let _busy = Busy(run);
        let mut attempt = 0;
        let failure = loop {
            let pen = Pen::of(place);
            let mut body = Box::pin(within(Ambient::Step, || (self.body)(pen.clone())));
            let result = poll_fn(|cx| within(Ambient::Step, || body.as_mut().poll(cx))).await;
            // Whatever is left of the transaction goes with it.
            drop(body);
            attempt += 1;
            if place.has_committed(&pen).await {
                if let Err(error) = result {
                    let (run, step) = (run.job.id, place.name);
                    tracing::warn!(%error, %run, step, "a step has failed after its commit; what it committed counts");
                }
                run.take_written(&place.position, place.name);
                return;
            }
            match result {
                Ok(_) => break failed(&Failure::<Never>::Engine(uncommitted().to_string())),
                Err(error) if attempt >= self.attempts => break failed(&Failure::App(error)),
                Err(_) => {
                    let pause = run.pause(self.retry.delay(attempt, seed(run, attempt)));
                    sleep_until(Instant::now() + pause).await;
                }
            }
        };
        run.record(&place.position, Op::Step, place.name, Phase::Ended(failure));
    }
}

fn uncommitted() -> Error {
    Error::new(Code::StepNotCommitted, "the body has ended, and its transaction was not committed")
}

/// Where a step stands.
struct Place {
    run: Arc<Run>,
    position: Position,
    name: &'static str,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.run.leave(&self.position);
    }
}

impl Place {
    /// Waits for what the journal says of it; `None` where nothing was done about it.
    async fn asked(&self) -> Option<onceward_core::run::Outcome> {
        let wanted = Wanted { op: Op::Step, name: self.name, input: None };
        poll_fn(|cx| match self.run.ask(&self.position, wanted, cx.waker()) {
            Asked::Ended(outcome) => Poll::Ready(Some(outcome)),
            Asked::Waits => Poll::Pending,
            Asked::Fresh(_) => Poll::Ready(None),
        })
        .await
    }

    /// Whether what the pen wrote is there; if it is not, it won't be.
    async fn has_committed(&self, pen: &Pen) -> bool {
        if !pen.used.load(Ordering::SeqCst) {
            return false;
        }
        loop {
            match self.settled(pen).await {
                Ok(committed) => return committed,
                Err(error) => {
                    let run = self.run.job.id;
                    tracing::debug!(%error, %run, "what has become of a step's transaction is not known yet");
                    sleep(ASK_AGAIN).await;
                }
            }
        }
    }

    async fn settled(&self, pen: &Pen) -> Result<bool, Error> {
        self.run.read_arrived().await?;
        if self.run.has_written(&self.position) {
            return Ok(true);
        }
        // Either it waits for the transaction to end, and is refused if that commits; or the pen's own row is.
        let what = Arrived::Step { position: self.position.clone(), value: None };
        let ask = [TellRun { run: self.run.job.clone(), id: pen.id, what }];
        self.run.client.store().run_tell(&ask).await?;
        self.run.read_arrived().await?;
        Ok(self.run.has_written(&self.position))
    }
}

/// Says that the body runs, until it is dropped.
struct Busy<'a>(&'a Run);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.body(false);
    }
}

/// Writes the value of a step into the transaction that has its effects.
#[derive(Clone)]
pub struct Pen {
    run: Arc<Run>,
    position: Position,
    id: Uuid,
    /// Whether something may be written, or on its way.
    used: Arc<AtomicBool>,
}

impl fmt::Debug for Pen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pen")
            .field("run", &self.run.job.id)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// What a [`Pen`] has written: it counts once the transaction has committed.
#[derive(Debug)]
#[must_use = "the body returns it after its commit"]
pub struct Written<T>(PhantomData<fn() -> T>);

impl Pen {
    fn of(place: &Place) -> Self {
        let (run, position) = (Arc::clone(&place.run), place.position.clone());
        Self { run, position, id: Uuid::now_v7(), used: Arc::default() }
    }

    /// Writes the value of the step; once in each attempt, and before the commit.
    ///
    /// Cancel safe as far as the transaction is: where that is rolled back, nothing was written.
    ///
    /// # Errors
    /// [`AttemptStale`](Code::AttemptStale) where the run is somebody else's by now, or the value was written before:
    /// roll back. [`StepUnwritable`](Code::StepUnwritable) for what is no JSON or too long,
    /// [`KeyLocked`](Code::KeyLocked) where somebody is just moving the run; the driver's errors. On PostgreSQL the
    /// transaction can only be rolled back after an error of the driver.
    pub async fn write<X: Enlist, T: Serialize>(&self, tx: &mut X, value: T) -> Result<Written<T>, Error> {
        let value = json(&value)?;
        let store = self.run.client.store();
        let sql = store.enlist().ok_or_else(no_transactions)?;
        let session = self.run.session.ok_or_else(stale)?;
        let ask = WriteStep {
            run: &self.run.job,
            session,
            token: self.run.token,
            id: self.id,
            position: &self.position,
            value: &value,
        };
        self.used.store(true, Ordering::SeqCst);
        if enlist::write_step_in(sql, &**store.clock(), tx, &ask).await? {
            Ok(Written(PhantomData))
        } else {
            Err(stale())
        }
    }

    /// The same for drivers that don't wait, such as rusqlite, in code that is not async: in
    /// `tokio::task::spawn_blocking`.
    ///
    /// # Errors
    /// As [`write`](Self::write); [`DriverMissing`](Code::DriverMissing) for a driver that waits.
    pub fn write_blocking<X: Enlist, T: Serialize>(&self, tx: &mut X, value: T) -> Result<Written<T>, Error> {
        let waits = || Error::new(Code::DriverMissing, "the driver of this transaction waits: use `write`");
        self.write(tx, value).now_or_never().unwrap_or_else(|| Err(waits()))
    }
}

fn stale() -> Error {
    Error::new(
        Code::AttemptStale,
        "the run is no longer in the hands of this worker, or the step has written before: roll back",
    )
    .at("run.write")
}
