//! Wake-ups: hints that a lease was given back or that jobs are ready, within this process at once, to others by
//! NOTIFY, and by whatever else carries hints beside it.
//!
//! NOTIFY takes a lock of the whole cluster until its transaction is over. So it is sent only where somebody waits
//! or may wait, never in the transaction that released the lease or made the jobs, and one at a time: what happens
//! while one is under way, or shortly after one about jobs, goes into the next. Where none is under way, a hint about
//! new jobs rides right behind the statement that makes them, on the same connection: it leaves the server as soon as
//! they are there, and nobody waits for its answer. Whoever misses a hint finds out by looking again.

use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onceward_core::{Key, Namespace, Queue, backoff};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::Notification;

use super::dial::{Dial, Purpose};
use super::link::{Busy, Call, Link, seed};
use super::live::{Live, Param};
use super::statements::Statements;
use crate::hints::{Carrier, Outbox, Told, wakes};
use crate::store::Wake;

/// How often a quiet LISTEN connection is asked whether it still stands (N37).
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_PATIENCE: Duration = Duration::from_secs(5);

/// How long after one about jobs the next one is sent: they come in floods.
const JOBS_EVERY: Duration = Duration::from_millis(5);

/// How long hints have to leave when who has told them ends.
const LAST: Duration = Duration::from_millis(300);

/// The hints of one store.
pub(super) struct Wakes {
    local: broadcast::Sender<Wake>,
    sql: Arc<Statements>,
    dial: Arc<Dial>,
    link: Link,
    channel: String,
    outbox: Mutex<Outbox>,
    /// Rung when the last hint has left.
    empty: Notify,
    listener: Mutex<Option<JoinHandle<()>>>,
    carrier: Option<Arc<dyn Carrier>>,
}

impl Wakes {
    pub(super) fn new(
        dial: &Arc<Dial>,
        sql: &Arc<Statements>,
        schema: &str,
        carrier: Option<Arc<dyn Carrier>>,
    ) -> Self {
        Self {
            sql: sql.clone(),
            local: broadcast::channel(1024).0,
            dial: dial.clone(),
            link: Link::new(dial, Purpose::Plain),
            channel: format!("onceward:{schema}"),
            outbox: Mutex::default(),
            empty: Notify::new(),
            listener: Mutex::default(),
            carrier,
        }
    }

    /// Where the carrier listens, if there is one.
    pub(super) fn carried_at(&self) -> Vec<(String, u16)> {
        self.carrier.as_ref().map_or_else(Vec::new, |carrier| carrier.listens_at())
    }

    /// A receiver of hints. The first one makes us listen to other processes.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<Wake> {
        let receiver = self.local.subscribe();
        self.listen();
        if let Some(carrier) = &self.carrier {
            carrier.listen(&self.local);
        }
        receiver
    }

    /// Listens to other processes, unless a pooler stands in between or we do already.
    pub(super) fn listen(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        // A listener ends with the runtime it was started on.
        let running = listener.as_ref().is_some_and(|task| !task.is_finished());
        if !running && !self.dial.pooled {
            let task = keep_listening(self.dial.clone(), self.channel.clone(), self.local.clone());
            *listener = Some(runtime.spawn(task));
        }
    }

    /// Tells this process.
    pub(super) fn tell_here(&self, namespace: &Namespace, key: &Key) {
        // Nobody listening is fine.
        let _ = self.local.send(Wake::Lease(namespace.clone(), key.clone()));
    }

    /// Tells this process and, soon, the others.
    pub(super) fn tell(self: &Arc<Self>, namespace: &Namespace, key: &Key) {
        self.tell_here(namespace, key);
        self.post(Told::Lease(namespace.clone(), key.clone()));
    }

    /// Tells workers of this process and, soon, the others' that jobs of a queue are ready.
    pub(super) fn tell_jobs(self: &Arc<Self>, namespace: &Namespace, queue: &Queue) {
        self.tell_jobs_without_notify(namespace, queue);
        self.notify(Told::Jobs(namespace.clone(), queue.clone()));
    }

    /// The same where the hint for the others rides already.
    pub(super) fn tell_jobs_without_notify(&self, namespace: &Namespace, queue: &Queue) {
        let wake = Wake::Jobs(namespace.clone(), queue.clone());
        let _ = self.local.send(wake.clone());
        if let Some(carrier) = &self.carrier {
            carrier.tell(&wake);
        }
    }

    /// A hint that rides behind the statement that makes jobs of these queues; `None` where one is under way, or a
    /// pooler stands in between, which takes one statement at a time.
    pub(super) fn ride<'a>(
        self: &Arc<Self>,
        queues: impl Iterator<Item = (&'a Namespace, &'a Queue)>,
    ) -> Option<Ride> {
        let mut outbox = self.outbox();
        if self.dial.pooled || outbox.sending || Handle::try_current().is_err() {
            return None;
        }
        for (namespace, queue) in queues {
            outbox.add(Told::Jobs(namespace.clone(), queue.clone()));
        }
        let (payload, rows, _) = outbox.take()?;
        outbox.sending = true;
        drop(outbox);
        Some(Ride { sending: Sending(self.clone()), payload, rows })
    }

    fn post(self: &Arc<Self>, told: Told) {
        if let Some(carrier) = &self.carrier {
            carrier.tell(&told.clone().into());
        }
        self.notify(told);
    }

    fn notify(self: &Arc<Self>, told: Told) {
        let mut outbox = self.outbox();
        outbox.add(told);
        if !outbox.sending && Handle::try_current().is_ok() {
            outbox.sending = true;
            tokio::spawn(Sending(self.clone()).send());
        }
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives what is still to be told a moment to leave. What does not leave by then is found by looking.
    pub(super) async fn leave(&self) {
        let left = async {
            loop {
                let mut empty = pin!(self.empty.notified());
                empty.as_mut().enable();
                if self.outbox().is_empty() {
                    return;
                }
                empty.await;
            }
        };
        if timeout(LAST, left).await.is_err() {
            tracing::debug!("wake-ups were not sent before their end");
        }
    }

    /// Whether hints travel beside the database as well.
    pub(super) fn has_carrier(&self) -> bool {
        self.carrier.is_some()
    }

    /// Stops listening and lets go of the connections.
    pub(super) async fn close(&self) {
        self.stop_listening();
        self.link.close().await;
        if let Some(carrier) = &self.carrier {
            carrier.close().await;
        }
    }

    fn stop_listening(&self) {
        if let Some(task) = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.stop_listening();
    }
}

/// A hint that has not left yet. Dropped, it never does, and what has gathered behind it leaves with the next one:
/// whoever has made jobs tells of them in the usual way then.
pub(super) struct Ride {
    sending: Sending,
    payload: String,
    rows: usize,
}

impl Ride {
    /// Sends it behind what was sent last on this connection. Its answer is waited for by a task of its own; until then
    /// the connection counts as busy.
    pub(super) async fn go(self, live: Arc<Live>, busy: Busy) {
        let Self { sending, payload, rows } = self;
        let wakes = sending.0.clone();
        wakes.dial.count(rows);
        let mut behind = Box::pin(async move {
            let params: &[Param<'_>] = &[&wakes.channel, &payload];
            if let Err(error) = live.run_at_once(&wakes.sql.notify, params).await {
                tracing::debug!(%error, "a wake-up was not sent");
            }
            drop(busy);
            sleep(JOBS_EVERY).await;
            sending.send().await;
        });
        // Whoever polls it first sends it.
        poll_fn(|context| {
            let _ = behind.as_mut().poll(context);
            Poll::Ready(())
        })
        .await;
        tokio::spawn(behind);
    }
}

/// The right to send. It goes back even when the task that has it is dropped with its runtime.
struct Sending(Arc<Wakes>);

impl Sending {
    async fn send(self) {
        loop {
            let gathered = self.0.outbox().take();
            let Some((payload, rows, jobs)) = gathered else { return };
            let call = Call {
                verb: "lease.notify",
                statement: &self.0.sql.notify,
                params: &[&self.0.channel, &payload],
                rows,
            };
            // A hint that is lost costs a poll.
            if let Err(error) = self.0.link.write(&call).await {
                tracing::debug!(%error, "a wake-up was not sent");
            }
            if jobs {
                sleep(JOBS_EVERY).await;
            }
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.outbox().sending = false;
        self.0.empty.notify_waiters();
    }
}

/// Listens for ever, on one connection after the other.
async fn keep_listening(dial: Arc<Dial>, channel: String, local: broadcast::Sender<Wake>) {
    let mut failures = 0;
    loop {
        let (heard, mut hear) = unbounded_channel();
        if let Ok(live) = dial.listen(heard).await {
            let listen = format!("LISTEN \"{channel}\"");
            if live.client().batch_execute(&listen).await.is_ok() {
                failures = 0;
                // What was told before, nobody has heard.
                let _ = local.send(Wake::Anything);
                hear_all(&live, &mut hear, &local).await;
            }
            live.end();
        }
        failures += 1;
        sleep(backoff::delay(failures, Duration::from_millis(20), Duration::from_secs(5), seed())).await;
    }
}

/// Passes on what is heard until the connection ends.
async fn hear_all(live: &Live, hear: &mut UnboundedReceiver<Notification>, local: &broadcast::Sender<Wake>) {
    loop {
        match timeout(PING_EVERY, hear.recv()).await {
            Ok(Some(notification)) => {
                for wake in wakes(notification.payload()) {
                    let _ = local.send(wake);
                }
            }
            Ok(None) => return,
            Err(_) => {
                let ping = timeout(PING_PATIENCE, live.client().batch_execute(""));
                if !matches!(ping.await, Ok(Ok(()))) {
                    return;
                }
            }
        }
    }
}
