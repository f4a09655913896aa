//! A link: a place for one connection, made when it is needed and made again when it is lost.

use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use onceward_core::{Code, Error, Result, backoff};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_postgres::Row;

use super::dial::{Dial, Purpose, Undialled};
use super::error::Failed;
use super::live::{Live, Param};
use super::statements::Statement;
use super::wake::Ride;

const FIRST_DELAY: Duration = Duration::from_millis(20);
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// Behind a pooler the server may change under a living connection: it is asked again who it is after this long.
const LINEAGE_AGE_MAX: Duration = Duration::from_secs(5);

/// A statement to send for a verb.
pub(super) struct Call<'a> {
    /// The verb, for errors.
    pub(super) verb: &'static str,
    pub(super) statement: &'a Statement,
    pub(super) params: &'a [Param<'a>],
    /// How many rows it is about, for the counters.
    pub(super) rows: usize,
}

/// A place for one connection.
pub(super) struct Link {
    dial: Arc<Dial>,
    purpose: Purpose,
    /// How long a verb on this link tries.
    deadline: Duration,
    /// How long what was sent may take, where that is longer.
    patience: Duration,
    // Held while connecting: who comes meanwhile waits for the outcome instead of connecting as well.
    slot: tokio::sync::Mutex<Slot>,
    last_error: Mutex<Option<Error>>,
    in_flight: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Slot {
    live: Option<Arc<Live>>,
    failures: u32,
    not_before: Option<Instant>,
}

impl Link {
    pub(super) fn new(dial: &Arc<Dial>, purpose: Purpose) -> Self {
        Self::with_deadline(dial, purpose, dial.deadline)
    }

    pub(super) fn with_deadline(dial: &Arc<Dial>, purpose: Purpose, deadline: Duration) -> Self {
        Self {
            dial: dial.clone(),
            purpose,
            deadline,
            patience: Duration::ZERO,
            slot: tokio::sync::Mutex::default(),
            last_error: Mutex::default(),
            in_flight: Arc::default(),
        }
    }

    /// For statements that read a lot: what is sent may take this long. Being away is told as early as ever.
    pub(super) fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The one of two links with the least to do.
    pub(super) fn idlest([first, second]: &[Self; 2]) -> &Self {
        let busy = |link: &Self| link.in_flight.load(Ordering::Relaxed);
        if busy(second) < busy(first) { second } else { first }
    }

    /// Sends a write once. It is sent again only as long as nothing of it was sent; what becomes of a write that was
    /// sent and not answered is for the caller to find out (G5).
    pub(super) async fn write(&self, call: &Call<'_>) -> Result<Vec<Row>> {
        let until = Instant::now() + self.deadline;
        loop {
            match self.send(call, until).await {
                Ok(rows) => return Ok(rows),
                Err(Failed::Before(_)) if Instant::now() < until => sleep(FIRST_DELAY).await,
                Err(failed) => return Err(failed.of_write().at(call.verb)),
            }
        }
    }

    /// Sends a write once, as [`write`](Self::write) does; `None` where a row of that key is there already.
    pub(super) async fn write_unless_taken(&self, call: &Call<'_>) -> Result<Option<Vec<Row>>> {
        let until = Instant::now() + self.deadline;
        loop {
            match self.send(call, until).await {
                Ok(rows) => return Ok(Some(rows)),
                Err(Failed::Taken(_)) => return Ok(None),
                Err(Failed::Before(_)) if Instant::now() < until => sleep(FIRST_DELAY).await,
                Err(failed) => return Err(failed.of_write().at(call.verb)),
            }
        }
    }

    /// The same, and right behind it, in a transaction of its own, a hint of what it makes. What did not ride stays in
    /// `ride`.
    pub(super) async fn write_unless_taken_with(
        &self,
        call: &Call<'_>,
        ride: &mut Option<Ride>,
    ) -> Result<Option<Vec<Row>>> {
        let until = Instant::now() + self.deadline;
        if let Ok(live) = self.live(until).await
            && live.is_prepared(call.statement)
            && ride.is_some()
        {
            return match self.send_with(call, live, ride, until).await {
                Ok(rows) => Ok(Some(rows)),
                Err(Failed::Taken(_)) => Ok(None),
                Err(Failed::Before(_)) => self.write_unless_taken(call).await,
                Err(failed) => Err(failed.of_write().at(call.verb)),
            };
        }
        self.write_unless_taken(call).await
    }

    async fn send_with(
        &self,
        call: &Call<'_>,
        live: Arc<Live>,
        ride: &mut Option<Ride>,
        until: Instant,
    ) -> Result<Vec<Row>, Failed> {
        let _busy = Busy::of(&self.in_flight);
        self.dial.count(call.rows);
        let mut answer = pin!(live.run(call.statement, call.params, until));
        // The first poll sends it, and may even find the answer, where this thread had to wait for its turn in between.
        let first = poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
        if !matches!(first, Poll::Ready(Err(_)))
            && let Some(ride) = ride.take()
        {
            ride.go(live.clone(), Busy::of(&self.in_flight)).await;
        }
        let answer = match first {
            Poll::Ready(answer) => answer,
            Poll::Pending => answer.await,
        };
        if answer.as_ref().is_err_and(Failed::ends_connection) {
            live.end();
        }
        answer
    }

    /// Sends a read, again and again until it is answered or time is up.
    pub(super) async fn read(&self, call: &Call<'_>) -> Result<Vec<Row>> {
        let until = Instant::now() + self.deadline;
        loop {
            match self.send(call, until).await {
                Ok(rows) => return Ok(rows),
                Err(failed) if failed.may_pass() && Instant::now() < until => sleep(FIRST_DELAY).await,
                Err(failed) => return Err(failed.of_read().at(call.verb)),
            }
        }
    }

    async fn send(&self, call: &Call<'_>, until: Instant) -> Result<Vec<Row>, Failed> {
        let _busy = Busy::of(&self.in_flight);
        // It was tried for as long as it makes sense.
        let live = self.live(until).await.map_err(Failed::Refused)?;
        self.dial.count(call.rows);
        let until = until.max(Instant::now() + self.patience);
        let answer = live.run(call.statement, call.params, until).await;
        if answer.as_ref().is_err_and(Failed::ends_connection) {
            live.end();
        }
        answer
    }

    /// The connection, made if need be.
    pub(super) async fn live(&self, until: Instant) -> Result<Arc<Live>> {
        timeout_at(until, self.connected()).await.unwrap_or_else(|_| Err(self.unavailable()))
    }

    async fn connected(&self) -> Result<Arc<Live>> {
        loop {
            let mut slot = self.slot.lock().await;
            if self.dial.closed.load(Ordering::SeqCst) {
                return Err(Error::new(Code::StoreClosed, "the store was closed"));
            }
            if let Some(live) = slot.live.as_ref().filter(|live| live.is_usable()) {
                let live = live.clone();
                drop(slot);
                self.still_the_same(&live).await?;
                return Ok(live);
            }
            slot.live = None;
            if let Some(moment) = slot.not_before {
                sleep_until(moment).await;
            }
            match self.dial.connect(self.purpose).await {
                Ok(live) => {
                    *slot = Slot { live: Some(Arc::new(live)), ..Slot::default() };
                    *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
                Err(Undialled { error, permanent }) => {
                    slot.failures = slot.failures.saturating_add(1);
                    let delay = backoff::delay(slot.failures, FIRST_DELAY, LONGEST_DELAY, seed());
                    slot.not_before = Some(Instant::now() + delay);
                    tracing::debug!(%error, ?delay, "no connection");
                    *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
                    if permanent {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Asks which cluster answers, anew.
    pub(super) async fn lineage(&self) -> Result<()> {
        let live = self.live(Instant::now() + self.deadline).await?;
        live.note_lineage();
        self.dial.ask_lineage(&live).await.inspect_err(|_| live.end())
    }

    async fn still_the_same(&self, live: &Live) -> Result<()> {
        if self.dial.pooled && live.lineage_age() > LINEAGE_AGE_MAX {
            live.note_lineage();
            self.dial.ask_lineage(live).await.inspect_err(|_| live.end())?;
        }
        Ok(())
    }

    fn unavailable(&self) -> Error {
        let last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        last.unwrap_or_else(|| {
            let why = format!("no connection to {} within {:?}", self.dial.to, self.deadline);
            Error::new(Code::StoreUnavailable, why)
        })
    }

    /// Lets go of the connection.
    pub(super) async fn close(&self) {
        self.slot.lock().await.live = None;
    }
}

/// A number for jitter.
pub(super) fn seed() -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *uuid::Uuid::new_v4().as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Counts a call while it is under way, also when its future is dropped.
pub(super) struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn of(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
