//! Renews every claim of the process: one thread, one connection, one statement per interval whatever it holds.
//!
//! The thread has a runtime of its own, so that user code that blocks all of its threads can't starve a renewal (G9,
//! N7). It sleeps until the next renewal is due; watching a claim costs a lock and a tree insert, and wakes the thread
//! only if the new claim is due before everything else.

use core::time::Duration;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use onceward_core::{Code, Error, Result, Timestamp, lease, limits};
use onceward_store::{ClaimRef, LeaveLease, ReleaseLease, Renew, SettleOnce, Store, insist};
use tokio::sync::{Notify, oneshot};

use crate::hold::{Hold, Lost};

/// What is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Lease,
    Once,
}

/// A claim under the renewer's care; dropping it ends the care, nothing else.
pub(crate) struct Watch {
    id: u64,
    shared: Arc<Shared>,
}

/// Something to be sent for somebody who can't wait for it.
pub(crate) enum Farewell {
    Leave(LeaveLease),
    Release(ReleaseLease),
    Settle(SettleOnce),
}

pub(crate) struct Renewer {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    bell: Notify,
    /// How many farewells are on their way or wait for it.
    farewells: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watched: HashMap<u64, Watched>,
    /// (boot time in microseconds, claim): when to look at which claim next.
    agenda: BTreeSet<(i64, u64)>,
    farewells: Vec<Farewell>,
    next_id: u64,
    /// Until when the thread means to sleep.
    sleeping_until: i64,
    running: bool,
    /// Set by the last handle: send what is left, then end, and tell them.
    finishing: Option<Vec<oneshot::Sender<()>>>,
}

struct Watched {
    kind: Kind,
    claim: ClaimRef,
    ttl: Duration,
    auto: bool,
    hold: Arc<Hold>,
    /// When the next renewal is to be sent.
    renew_at: Timestamp,
    /// Where it stands on the agenda.
    due: i64,
    in_flight: bool,
    asked: Vec<oneshot::Sender<Result<Renew>>>,
}

/// A claim that is to be renewed now.
#[derive(Clone)]
struct Due {
    id: u64,
    kind: Kind,
    claim: ClaimRef,
    ttl: Duration,
}

impl Watched {
    /// When to look at it next: to renew it, or to say that it is lost.
    fn next_look(&self) -> i64 {
        let trusted = self.hold.trusted_until();
        let renews = !self.in_flight
            && ((self.auto && !self.hold.is_at_hard_limit(self.ttl)) || !self.asked.is_empty());
        if renews { self.renew_at.min(trusted).as_micros() } else { trusted.as_micros() }
    }
}

impl Renewer {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            shared: Arc::new(Shared {
                store,
                bell: Notify::new(),
                farewells: AtomicUsize::new(0),
                state: Mutex::default(),
            }),
        }
    }

    /// Takes a claim into care: renews it if `auto`, and says when it is lost.
    pub(crate) fn watch(
        &self,
        kind: Kind,
        claim: ClaimRef,
        ttl: Duration,
        auto: bool,
        hold: Arc<Hold>,
    ) -> Watch {
        let mut state = self.shared.lock();
        let id = state.next_id;
        state.next_id += 1;
        let renew_at = self.shared.store.clock().boottime().after(lease::renew_interval(ttl));
        let mut watched =
            Watched { kind, claim, ttl, auto, hold, renew_at, due: 0, in_flight: false, asked: vec![] };
        watched.due = watched.next_look();
        let due = watched.due;
        state.agenda.insert((due, id));
        state.watched.insert(id, watched);
        let wake = !state.running || due < state.sleeping_until;
        self.shared.start(&mut state);
        drop(state);
        if wake {
            self.shared.bell.notify_one();
        }
        Watch { id, shared: Arc::clone(&self.shared) }
    }

    /// Sends something in the background, trying for a while.
    pub(crate) fn send(&self, farewell: Farewell) {
        if self.shared.farewells.fetch_add(1, Ordering::SeqCst) >= limits::LANE_WAITING_MAX {
            self.shared.farewells.fetch_sub(1, Ordering::SeqCst);
            return tracing::warn!(
                "too many farewells wait for the store already; the claim runs out by itself"
            );
        }
        let mut state = self.shared.lock();
        state.farewells.push(farewell);
        self.shared.start(&mut state);
        drop(state);
        self.shared.bell.notify_one();
    }

    /// Sends what is left and ends the thread.
    pub(crate) async fn finish(&self) {
        let done = {
            let mut state = self.shared.lock();
            if !state.running {
                return;
            }
            let (tell, done) = oneshot::channel();
            state.finishing.get_or_insert_default().push(tell);
            done
        };
        self.shared.bell.notify_one();
        // The thread drops the sender when it ends, with or without a word.
        let _ = done.await;
    }
}

impl Drop for Renewer {
    fn drop(&mut self) {
        self.shared.lock().finishing.get_or_insert_default();
        self.shared.bell.notify_one();
    }
}

impl Watch {
    /// Renews now, and waits for the answer.
    pub(crate) async fn renew_now(&self) -> Result<Renew> {
        let (tell, answer) = oneshot::channel();
        {
            let mut state = self.shared.lock();
            let Some(watched) = state.watched.get_mut(&self.id) else { return Ok(Renew::Lost) };
            watched.asked.push(tell);
            watched.renew_at = Timestamp::from_micros(0);
            state.reschedule(self.id);
        }
        self.shared.bell.notify_one();
        answer.await.unwrap_or(Ok(Renew::Lost))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(watched) = state.watched.remove(&self.id) {
            state.agenda.remove(&(watched.due, self.id));
        }
    }
}

impl State {
    fn reschedule(&mut self, id: u64) {
        let Some(watched) = self.watched.get_mut(&id) else { return };
        self.agenda.remove(&(watched.due, id));
        watched.due = watched.next_look();
        self.agenda.insert((watched.due, id));
    }

    /// Nobody renews any more: whoever still holds a claim is told at once, not when it has run out.
    fn abandon(&mut self) {
        self.agenda.clear();
        for (_, watched) in self.watched.drain() {
            watched.hold.lose(Lost::NotRenewed);
        }
    }

    /// Says of every claim whose trust has ended that it is lost.
    fn expire(&mut self, now: Timestamp) {
        let due: Vec<u64> = self.agenda.range(..=(now.as_micros(), u64::MAX)).map(|(_, id)| *id).collect();
        for id in due {
            let over = self.watched.get(&id).is_some_and(|watched| watched.hold.trusted_until() <= now);
            if !over {
                continue;
            }
            if let Some(watched) = self.watched.remove(&id) {
                self.agenda.remove(&(watched.due, id));
                watched.hold.expire();
            }
        }
    }

    /// The claims to renew now: all that are due, and with them those that will be soon, so that claims of one ttl
    /// end up in one statement.
    fn take_due(&mut self, now: Timestamp) -> Vec<Due> {
        let due: Vec<u64> = self.agenda.range(..=(now.as_micros(), u64::MAX)).map(|(_, id)| *id).collect();
        if due.is_empty() {
            return Vec::new();
        }
        let soon = |watched: &Watched| {
            let window = watched.ttl / 6;
            watched.auto
                && !watched.hold.is_at_hard_limit(watched.ttl)
                && watched.renew_at.before(window) <= now
        };
        let mut batch = Vec::new();
        for (id, watched) in &mut self.watched {
            let wanted = !watched.in_flight && (soon(watched) || !watched.asked.is_empty());
            if wanted && batch.len() < limits::RENEW_ROWS_MAX {
                watched.in_flight = true;
                batch.push(Due {
                    id: *id,
                    kind: watched.kind,
                    claim: watched.claim.clone(),
                    ttl: watched.ttl,
                });
            }
        }
        for due in &batch {
            self.reschedule(due.id);
        }
        batch
    }

    /// Writes down what became of one renewal.
    fn renewed(&mut self, id: u64, answer: &Result<Renew>, sent: Timestamp, now: Timestamp) {
        let Some(watched) = self.watched.get_mut(&id) else { return };
        watched.in_flight = false;
        let ttl = watched.ttl;
        match answer {
            Ok(Renew::Until(until)) => {
                watched.hold.renewed(sent, ttl, *until);
                watched.renew_at = sent.after(lease::renew_interval(ttl));
            }
            Ok(Renew::Lost) => watched.hold.lose(Lost::TakenAway),
            // One failure is no loss: two more tries fit before the trust ends.
            Ok(Renew::Busy) | Err(_) => {
                let soon = (ttl / 20).clamp(Duration::from_millis(10), Duration::from_secs(1));
                watched.renew_at = now.after(soon);
            }
        }
        for asked in watched.asked.drain(..) {
            // Whoever asked may have left.
            let _ = asked.send(answer.clone());
        }
        if matches!(answer, Ok(Renew::Lost)) {
            if let Some(watched) = self.watched.remove(&id) {
                self.agenda.remove(&(watched.due, id));
            }
        } else {
            self.reschedule(id);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; the agenda is consistent between any two calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the thread if it does not run: the first claim of a process, or one after `finish`.
    fn start(self: &Arc<Self>, state: &mut State) {
        if state.running {
            return;
        }
        let shared = Arc::clone(self);
        let spawned =
            std::thread::Builder::new().name("onceward-renew".to_owned()).spawn(move || run(&shared));
        match spawned {
            Ok(_) => state.running = true,
            // Claims then run out by themselves, and their holders are told: safe, if not comfortable.
            Err(error) => tracing::error!(%error, "the renewing thread can't be started"),
        }
    }
}

/// Marks the thread as ended, however it ends, so that the next claim starts a new one.
struct Running {
    shared: Arc<Shared>,
    /// Whether it has worked: a thread that can't work is not started again by itself.
    worked: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.abandon();
        let finishing = state.finishing.take();
        state.running = false;
        if self.worked && !state.farewells.is_empty() {
            self.shared.start(&mut state);
        }
        drop(state);
        for tell in finishing.into_iter().flatten() {
            // Whoever asked may have left.
            let _ = tell.send(());
        }
    }
}

fn run(shared: &Arc<Shared>) {
    let mut running = Running { shared: Arc::clone(shared), worked: false };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            running.worked = true;
            runtime.block_on(turn_by_turn(shared));
        }
        Err(error) => tracing::error!(%error, "the renewing thread has no runtime"),
    }
}

async fn turn_by_turn(shared: &Arc<Shared>) {
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let clock = shared.store.clock();
        let now = clock.boottime();
        let (batch, farewells, sleep) = {
            let mut state = shared.lock();
            state.expire(now);
            let batch = state.take_due(now);
            let farewells = core::mem::take(&mut state.farewells);
            let next = state.agenda.first().map_or(i64::MAX, |(due, _)| *due);
            state.sleeping_until = next;
            let sleep = Timestamp::from_micros(next).since(now).min(Duration::from_secs(3600));
            if state.finishing.is_some() && tasks.is_empty() && farewells.is_empty() {
                state.abandon();
                return;
            }
            (batch, farewells, sleep)
        };
        for kind in [Kind::Lease, Kind::Once] {
            let rows: Vec<_> = batch.iter().filter(|due| due.kind == kind).cloned().collect();
            if let Some(ttl) = rows.iter().map(|due| due.ttl).min() {
                let patience = (ttl / 4).clamp(Duration::from_millis(25), Duration::from_secs(3));
                tasks.spawn(renew(Arc::clone(shared), kind, rows, patience));
            }
        }
        for farewell in farewells {
            let shared = Arc::clone(shared);
            tasks.spawn(async move {
                say(Arc::clone(&shared.store), farewell).await;
                shared.farewells.fetch_sub(1, Ordering::SeqCst);
            });
        }
        tokio::select! {
            () = shared.bell.notified() => {}
            () = tokio::time::sleep(sleep.max(Duration::from_millis(1))) => {}
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Sends one statement for many claims, and writes down what became of each.
async fn renew(shared: Arc<Shared>, kind: Kind, rows: Vec<Due>, patience: Duration) {
    let sent = shared.store.clock().boottime();
    let (ids, claims): (Vec<u64>, Vec<ClaimRef>) = rows.into_iter().map(|due| (due.id, due.claim)).unzip();
    let answers = async {
        match kind {
            Kind::Lease => shared.store.lease_renew(&claims).await,
            Kind::Once => shared.store.once_renew(&claims).await,
        }
    };
    // A renewal without an answer must leave time for another one. Sending it twice does no harm.
    let answers = tokio::time::timeout(patience, answers).await.unwrap_or_else(|_| {
        Err(Error::new(Code::StoreUnavailable, "the store did not answer a renewal in time").uncertain())
    });
    let now = shared.store.clock().boottime();
    let mut state = shared.lock();
    match answers {
        Ok(answers) => {
            for (id, answer) in ids.into_iter().zip(answers) {
                state.renewed(id, &Ok(answer), sent, now);
            }
        }
        Err(error) => {
            tracing::warn!(%error, claims = ids.len(), "a renewal failed and will be tried again");
            for id in ids {
                state.renewed(id, &Err(error.clone()), sent, now);
            }
        }
    }
}

/// Sends what somebody left behind, for at most a minute.
async fn say(store: Arc<dyn Store>, farewell: Farewell) {
    let send = || -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            match &farewell {
                Farewell::Leave(ask) => store.lease_leave(ask).await,
                Farewell::Release(ask) => store.lease_release(core::slice::from_ref(ask)).await.map(drop),
                Farewell::Settle(ask) => store.once_settle(core::slice::from_ref(ask)).await.map(drop),
            }
        })
    };
    match tokio::time::timeout(FAREWELL_MAX, insist(FAREWELL_MAX, send)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "a farewell was refused; the claim runs out by itself"),
        Err(_) => {
            tracing::warn!("a farewell could not be sent within a minute; the claim runs out by itself")
        }
    }
}

/// How long something is sent for somebody who has left.
const FAREWELL_MAX: Duration = Duration::from_secs(60);
