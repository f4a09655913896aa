//! A store that fails when told to: what does a program do when its store is away, slow, or answers late?
//!
//! [`Faulty`] stands before any other store. What goes wrong is said in advance, per verb, and happens in
//! that order; everything else passes through.
//!
//! ```
//! use std::sync::Arc;
//! use onceward_store::faulty::{Fault, Faulty, Verb};
//! use onceward_store::{KeyRef, Store, memory::MemoryStore};
//! use onceward_core::{Code, Key, Namespace};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> onceward_core::Result<()> {
//! let store = Faulty::new(Arc::new(MemoryStore::default()));
//! store.next(Verb::OnceLookup, Fault::Away);
//!
//! let keys = [KeyRef { namespace: Namespace::default(), key: Key::new("order-17")? }];
//! let error = store.once_lookup(&keys).await.unwrap_err();
//! assert_eq!(error.code(), Code::StoreUnavailable);
//! assert!(store.once_lookup(&keys).await.is_ok(), "only the next call");
//! assert_eq!(store.calls(Verb::OnceLookup), 2);
//! # Ok(())
//! # }
//! ```

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use onceward_core::lease::Ticket;
use onceward_core::once::{Resolve, Settle};
use onceward_core::{Code, Error, Result, history, lease, once};
use tokio::sync::{broadcast, watch};

use crate::enlist::EnlistSql;
use crate::{
    Acquired, BreakLease, Broken, Capabilities, ClaimRef, Claimed, Clock, Counters, Finding, HistoryOf,
    KeyRef, LeaveLease, ListLeases, ListOnce, Prune, Pruned, ReleaseLease, Renew, ResolveOnce, SettleOnce,
    Snapshot, Store, WaitLease, Wake,
};

macro_rules! verbs {
    ($($(#[$doc:meta])* $verb:ident = $name:literal, $writes:literal;)*) => {
        /// A verb of a [`Store`], or of its jobs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Verb { $($(#[$doc])* $verb,)* }

        impl Verb {
            /// Every verb.
            pub const ALL: &'static [Self] = &[$(Self::$verb,)*];

            /// The name that errors carry, for example `lease.acquire`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$verb => $name,)* }
            }

            /// Whether the verb may write: only then may the loss of its answer leave a doubt.
            pub const fn writes(self) -> bool {
                match self { $(Self::$verb => $writes,)* }
            }
        }
    };
}

verbs! {
    /// [`Store::lease_acquire`].
    LeaseAcquire = "lease.acquire", true;
    /// [`Store::lease_renew`].
    LeaseRenew = "lease.renew", true;
    /// [`Store::lease_release`].
    LeaseRelease = "lease.release", true;
    /// [`Store::lease_wait`].
    LeaseWait = "lease.wait", true;
    /// [`Store::lease_leave`].
    LeaseLeave = "lease.leave", true;
    /// [`Store::lease_break`].
    LeaseBreak = "lease.break", true;
    /// [`Store::lease_lookup`].
    LeaseLookup = "lease.lookup", false;
    /// [`Store::lease_list`].
    LeaseList = "lease.list", false;
    /// [`Store::once_claim`].
    OnceClaim = "once.claim", true;
    /// [`Store::once_renew`].
    OnceRenew = "once.renew", true;
    /// [`Store::once_settle`].
    OnceSettle = "once.settle", true;
    /// [`Store::once_resolve`].
    OnceResolve = "once.resolve", true;
    /// [`Store::once_lookup`].
    OnceLookup = "once.lookup", false;
    /// [`Store::once_list`].
    OnceList = "once.list", false;
    /// [`Store::history`].
    History = "history", false;
    /// [`Store::prune`].
    Prune = "prune", true;
    /// [`Store::check`].
    Check = "check", false;
    /// [`JobStore::session_open`](crate::JobStore::session_open).
    SessionOpen = "session.open", true;
    /// [`JobStore::session_renew`](crate::JobStore::session_renew).
    SessionRenew = "session.renew", true;
    /// [`JobStore::session_close`](crate::JobStore::session_close).
    SessionClose = "session.close", true;
    /// [`JobStore::session_list`](crate::JobStore::session_list).
    SessionList = "session.list", false;
    /// [`JobStore::session_drain`](crate::JobStore::session_drain).
    SessionDrain = "session.drain", true;
    /// [`JobStore::job_enqueue`](crate::JobStore::job_enqueue).
    JobEnqueue = "job.enqueue", true;
    /// [`JobStore::job_hand_over`](crate::JobStore::job_hand_over).
    JobHandOver = "job.hand_over", true;
    /// [`JobStore::job_claim`](crate::JobStore::job_claim).
    JobClaim = "job.claim", true;
    /// [`JobStore::job_begin`](crate::JobStore::job_begin).
    JobBegin = "job.begin", true;
    /// [`JobStore::job_progress`](crate::JobStore::job_progress).
    JobProgress = "job.progress", true;
    /// [`JobStore::job_settle`](crate::JobStore::job_settle).
    JobSettle = "job.settle", true;
    /// [`JobStore::job_chores`](crate::JobStore::job_chores).
    JobChores = "job.chores", false;
    /// [`JobStore::job_promote`](crate::JobStore::job_promote).
    JobPromote = "job.promote", true;
    /// [`JobStore::job_rescue`](crate::JobStore::job_rescue).
    JobRescue = "job.rescue", true;
    /// [`JobStore::job_overdue`](crate::JobStore::job_overdue).
    JobOverdue = "job.overdue", false;
    /// [`JobStore::job_lanes`](crate::JobStore::job_lanes).
    JobLanes = "job.lanes", false;
    /// [`JobStore::job_outstanding`](crate::JobStore::job_outstanding).
    JobOutstanding = "job.outstanding", false;
    /// [`JobStore::job_announce`](crate::JobStore::job_announce): a hint, which leaves no doubt.
    JobAnnounce = "job.announce", false;
    /// [`JobStore::transactions`](crate::JobStore::transactions).
    Transactions = "transactions", false;
    /// [`JobStore::job_move`](crate::JobStore::job_move).
    JobMove = "job.move", true;
    /// [`JobStore::job_lookup`](crate::JobStore::job_lookup).
    JobLookup = "job.lookup", false;
    /// [`JobStore::job_list`](crate::JobStore::job_list).
    JobList = "job.list", false;
    /// [`JobStore::queue_pause`](crate::JobStore::queue_pause).
    QueuePause = "queue.pause", true;
    /// [`JobStore::queue_limit`](crate::JobStore::queue_limit).
    QueueLimit = "queue.limit", true;
    /// [`JobStore::queue_limit_keys`](crate::JobStore::queue_limit_keys).
    QueueLimitKeys = "queue.limit_keys", true;
    /// [`JobStore::queue_tune`](crate::JobStore::queue_tune).
    QueueTune = "queue.tune", true;
    /// [`JobStore::queue_tunings`](crate::JobStore::queue_tunings).
    QueueTunings = "queue.tunings", false;
    /// [`JobStore::queue_permits`](crate::JobStore::queue_permits).
    QueuePermits = "queue.permits", true;
    /// [`JobStore::queue_list`](crate::JobStore::queue_list).
    QueueList = "queue.list", false;
    /// [`JobStore::job_prune`](crate::JobStore::job_prune).
    JobPrune = "job.prune", true;
    /// [`RunStore::run_append`](crate::RunStore::run_append).
    RunAppend = "run.append", true;
    /// [`RunStore::run_continue`](crate::RunStore::run_continue).
    RunContinue = "run.continue", true;
    /// [`RunStore::run_load`](crate::RunStore::run_load).
    RunLoad = "run.load", false;
    /// [`RunStore::run_arrived`](crate::RunStore::run_arrived).
    RunArrived = "run.arrived", false;
    /// [`RunStore::run_tell`](crate::RunStore::run_tell).
    RunTell = "run.tell", true;
    /// [`RunStore::run_note`](crate::RunStore::run_note).
    RunNote = "run.note", true;
    /// [`RunStore::run_wake`](crate::RunStore::run_wake).
    RunWake = "run.wake", true;
    /// [`RunStore::run_fork`](crate::RunStore::run_fork).
    RunFork = "run.fork", true;
    /// [`RunStore::run_prune`](crate::RunStore::run_prune).
    RunPrune = "run.prune", true;
    /// [`ServiceStore::service_look`](crate::ServiceStore::service_look).
    ServiceLook = "service.look", false;
    /// [`ServiceStore::service_list`](crate::ServiceStore::service_list).
    ServiceList = "service.list", false;
    /// [`ServiceStore::service_write`](crate::ServiceStore::service_write).
    ServiceWrite = "service.write", true;
    /// [`ServiceStore::service_begin`](crate::ServiceStore::service_begin).
    ServiceBegin = "service.begin", true;
    /// [`ServiceStore::service_end`](crate::ServiceStore::service_end).
    ServiceEnd = "service.end", true;
    /// [`ServiceStore::service_ring`](crate::ServiceStore::service_ring): a hint, which leaves no doubt.
    ServiceRing = "service.ring", false;
    /// [`ServiceStore::service_miss`](crate::ServiceStore::service_miss).
    ServiceMiss = "service.miss", true;
    /// [`ServiceStore::service_prune`](crate::ServiceStore::service_prune).
    ServicePrune = "service.prune", true;
    /// [`ServiceStore::schedule_list`](crate::ServiceStore::schedule_list).
    ScheduleList = "schedule.list", false;
    /// [`ServiceStore::schedule_due`](crate::ServiceStore::schedule_due).
    ScheduleDue = "schedule.due", false;
    /// [`ServiceStore::schedule_write`](crate::ServiceStore::schedule_write).
    ScheduleWrite = "schedule.write", true;
    /// [`ServiceStore::schedule_remove`](crate::ServiceStore::schedule_remove).
    ScheduleRemove = "schedule.remove", true;
    /// [`EndpointStore::endpoint_list`](crate::EndpointStore::endpoint_list).
    EndpointList = "endpoint.list", false;
    /// [`EndpointStore::endpoint_write`](crate::EndpointStore::endpoint_write).
    EndpointWrite = "endpoint.write", true;
    /// [`EndpointStore::endpoint_remove`](crate::EndpointStore::endpoint_remove).
    EndpointRemove = "endpoint.remove", true;
    /// [`TriggerStore::trigger_list`](crate::TriggerStore::trigger_list).
    TriggerList = "trigger.list", false;
    /// [`TriggerStore::trigger_heard`](crate::TriggerStore::trigger_heard).
    TriggerHeard = "trigger.heard", false;
    /// [`TriggerStore::trigger_write`](crate::TriggerStore::trigger_write).
    TriggerWrite = "trigger.write", true;
    /// [`TriggerStore::trigger_remove`](crate::TriggerStore::trigger_remove).
    TriggerRemove = "trigger.remove", true;
}

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The call takes effect, its answer is lost: [`Code::CommitUnknown`].
    ReplyLost,
    /// The call takes no effect, and the caller can't know that: [`Code::CommitUnknown`].
    RequestLost,
    /// The call is cut off as [`ReplyLost`](Self::ReplyLost), but takes effect only this much later.
    Late(Duration),
    /// No connection could be had; nothing was sent: [`Code::StoreUnavailable`].
    Away,
    /// The store has too much to do; nothing was done: [`Code::StoreBusy`].
    Busy,
    /// The call waits this long first, then goes through.
    Slow(Duration),
    /// The call goes through, and while its answer is on its way another server takes over: the
    /// [`epoch`](Store::epoch) changes.
    TakenOver,
    /// The process dies before the call has any effect: neither this call nor any after it is ever answered, and none
    /// of them has an effect.
    DiesBefore,
    /// The call takes effect, and the process dies: it never hears of that, nor of anything else.
    DiesAfter,
}

/// A store before which things go wrong as told.
pub struct Faulty {
    inner: Arc<dyn Store>,
    script: Mutex<Script>,
    dead: watch::Sender<bool>,
    takeovers: AtomicU64,
    /// How many calls make a second batch of jobs, if not 0.
    beside: AtomicUsize,
}

#[derive(Default)]
struct Script {
    queues: BTreeMap<Verb, VecDeque<Option<Fault>>>,
    locked: BTreeSet<KeyRef>,
    random: Option<Random>,
    calls: BTreeMap<Verb, u64>,
}

struct Random {
    state: u64,
    one_in: u64,
    faults: Vec<Fault>,
}

impl Random {
    /// The next number of the splitmix64 sequence.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fault(&mut self) -> Option<Fault> {
        let (hit, which) = (self.draw().checked_rem(self.one_in)?, self.draw());
        let at = usize::try_from(which % (self.faults.len().max(1) as u64)).ok()?;
        self.faults.get(at).copied().filter(|_| hit == 0)
    }
}

impl Faulty {
    /// A store that passes everything through until told otherwise.
    pub fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            script: Mutex::default(),
            dead: watch::Sender::new(false),
            takeovers: AtomicU64::new(0),
            beside: AtomicUsize::new(0),
        })
    }

    /// The store behind, where nothing goes wrong: to see what really happened.
    pub fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    /// Waits until the process before this store has died of a fault.
    pub async fn died(&self) {
        // invariant: the sender lives as long as the store.
        let _ = self.dead.subscribe().wait_for(|dead| *dead).await;
    }

    /// Adds a fault to the queue of `verb`: each call of it takes one from the queue.
    pub fn next(&self, verb: Verb, fault: Fault) {
        self.script().queues.entry(verb).or_default().push_back(Some(fault));
    }

    /// Adds the same fault `count` times.
    pub fn times(&self, count: usize, verb: Verb, fault: Fault) {
        (0..count).for_each(|_| self.next(verb, fault));
    }

    /// Lets `count` calls of `verb` through before the next fault in its queue.
    pub fn pass(&self, count: usize, verb: Verb) {
        self.script().queues.entry(verb).or_default().extend(core::iter::repeat_n(None, count));
    }

    /// From now on somebody's open transaction holds this key: a batch that would write to it fails with
    /// [`Code::KeyLocked`], a renewal of it is answered [`Renew::Busy`], and reading goes on.
    pub fn lock(&self, key: KeyRef) {
        self.script().locked.insert(key);
    }

    /// Ends [`lock`](Self::lock).
    pub fn unlock(&self, key: &KeyRef) {
        self.script().locked.remove(key);
    }

    /// From now on one call in `one_in`, of any verb, meets one of `faults`. The same seed and the same
    /// order of calls give the same faults.
    pub fn random(&self, seed: u64, one_in: u32, faults: impl Into<Vec<Fault>>) {
        self.script().random = Some(Random { state: seed, one_in: one_in.into(), faults: faults.into() });
    }

    /// Ends every fault that has not happened yet.
    pub fn heal(&self) {
        let mut script = self.script();
        let calls = core::mem::take(&mut script.calls);
        *script = Script { calls, ..Script::default() };
    }

    /// From now on jobs are enqueued in one batch at a time, and beside it in another one where so many calls wait: as
    /// on a server that works on both.
    pub fn enqueue_beside(&self, calls: usize) {
        self.beside.store(calls, Ordering::SeqCst);
    }

    /// How often `verb` was called.
    pub fn calls(&self, verb: Verb) -> u64 {
        self.script().calls.get(&verb).copied().unwrap_or(0)
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this call meets. A scripted fault comes before a random one; a script that says "pass" is obeyed.
    fn fault(&self, verb: Verb) -> Option<Fault> {
        let mut script = self.script();
        *script.calls.entry(verb).or_default() += 1;
        match script.queues.get_mut(&verb).and_then(VecDeque::pop_front) {
            Some(said) => said,
            None => script.random.as_mut().and_then(Random::fault),
        }
    }

    fn is_locked(&self, row: &impl Named) -> bool {
        let locked = &self.script().locked;
        !locked.is_empty() && locked.contains(&row.name())
    }

    /// What a batch that writes to these rows is told, if one of them is locked.
    fn locked_out<R: Named>(&self, verb: Verb, rows: &[R]) -> Option<Error> {
        let row = rows.iter().find(|row| self.is_locked(*row))?;
        let why = format!("an open transaction holds {:?}, as the test wants it", row.name().key);
        Some(Error::new(Code::KeyLocked, why).at(verb.as_str()))
    }

    /// Makes one call, or what is left of it.
    async fn call<T, F>(&self, verb: Verb, locked_out: Option<Error>, call: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let call = async move {
            match locked_out {
                Some(error) => Err(error),
                None => call.await,
            }
        };
        if *self.dead.borrow() {
            return core::future::pending().await;
        }
        let Some(fault) = self.fault(verb) else { return call.await };
        match fault {
            Fault::DiesBefore => {
                self.dead.send_replace(true);
                return core::future::pending().await;
            }
            Fault::DiesAfter => {
                let _ = call.await;
                self.dead.send_replace(true);
                return core::future::pending().await;
            }
            Fault::Slow(by) => {
                tokio::time::sleep(by).await;
                return call.await;
            }
            Fault::TakenOver => {
                let answer = call.await;
                self.takeovers.fetch_add(1, Ordering::SeqCst);
                return answer;
            }
            Fault::ReplyLost => drop(call.await?),
            Fault::Late(by) => drop(tokio::spawn(async move {
                tokio::time::sleep(by).await;
                call.await
            })),
            Fault::RequestLost | Fault::Away | Fault::Busy => {}
        }
        Err(error(verb, fault))
    }
}

/// Renewals are answered row by row: a locked one is busy, the others go on.
fn with_busy(locked: &[bool], answers: Vec<Renew>) -> Vec<Renew> {
    let mut answers = answers.into_iter();
    let answer = |locked: &bool| if *locked { None } else { answers.next() };
    locked.iter().map(answer).map(|answer| answer.unwrap_or(Renew::Busy)).collect()
}

fn error(verb: Verb, fault: Fault) -> Error {
    let error = match fault {
        Fault::Busy => Error::new(Code::StoreBusy, "too many callers, as the test wants it"),
        Fault::Away | Fault::Slow(_) => {
            Error::new(Code::StoreUnavailable, "no connection, as the test wants it")
        }
        Fault::ReplyLost | Fault::RequestLost | Fault::Late(_) if verb.writes() => {
            Error::new(Code::CommitUnknown, "the answer was lost, as the test wants it").uncertain()
        }
        _ => Error::new(Code::StoreUnavailable, "the answer was lost, as the test wants it"),
    };
    error.at(verb.as_str())
}

/// A row of a batch that writes.
trait Named {
    fn name(&self) -> KeyRef;
}

macro_rules! named {
    ($($row:ty),*) => {
        $(impl Named for $row {
            fn name(&self) -> KeyRef {
                KeyRef { namespace: self.namespace.clone(), key: self.key.clone() }
            }
        })*
    };
}

named!(
    lease::Ask,
    ClaimRef,
    ReleaseLease,
    WaitLease,
    LeaveLease,
    BreakLease,
    once::Ask,
    SettleOnce,
    ResolveOnce
);

/// Sends `$ask` on to the same method of the inner store, past what the script says.
macro_rules! read {
    ($self:ident, $verb:ident, $method:ident, $ask:ident) => {
        read!($self, $verb, $method, $ask, None)
    };
    ($self:ident, $verb:ident, $method:ident, $ask:ident, $locked_out:expr) => {{
        let (store, ask) = ($self.inner.clone(), $ask.to_owned());
        $self.call(Verb::$verb, $locked_out, async move { store.$method(&ask).await }).await
    }};
}

/// As `read`, for a batch that writes.
macro_rules! write {
    ($self:ident, $verb:ident, $method:ident, $rows:ident) => {
        read!($self, $verb, $method, $rows, $self.locked_out(Verb::$verb, $rows))
    };
}

/// As `write`, for a single row.
macro_rules! write_one {
    ($self:ident, $verb:ident, $method:ident, $ask:ident) => {
        read!($self, $verb, $method, $ask, $self.locked_out(Verb::$verb, core::slice::from_ref($ask)))
    };
}

/// As `write`, for renewals.
macro_rules! renew {
    ($self:ident, $verb:ident, $method:ident, $batch:ident) => {{
        let locked: Vec<bool> = $batch.iter().map(|claim| $self.is_locked(claim)).collect();
        let open = $batch.iter().zip(&locked).filter(|(_, locked)| !**locked);
        let open: Vec<ClaimRef> = open.map(|(claim, _)| claim.clone()).collect();
        let open = open.as_slice();
        read!($self, $verb, $method, open).map(|answers| with_busy(&locked, answers))
    }};
}

#[async_trait]
impl Store for Faulty {
    fn capabilities(&self) -> Capabilities {
        let can = self.inner.capabilities();
        match self.beside.load(Ordering::SeqCst) {
            0 => can,
            calls => Capabilities { batches_in_flight: 1, enqueue_beside: Some(calls), ..can },
        }
    }

    fn url(&self) -> &str {
        self.inner.url()
    }

    fn listens_at(&self) -> Vec<(String, u16)> {
        self.inner.listens_at()
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        self.inner.clock()
    }

    fn subscribe(&self) -> broadcast::Receiver<Wake> {
        self.inner.subscribe()
    }

    fn epoch(&self) -> u64 {
        self.inner.epoch().wrapping_add(self.takeovers.load(Ordering::SeqCst))
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }

    fn enlist(&self) -> Option<&EnlistSql> {
        self.inner.enlist()
    }

    async fn lease_acquire(&self, batch: &[lease::Ask]) -> Result<Vec<Acquired>> {
        write!(self, LeaseAcquire, lease_acquire, batch)
    }

    async fn lease_renew(&self, batch: &[ClaimRef]) -> Result<Vec<Renew>> {
        renew!(self, LeaseRenew, lease_renew, batch)
    }

    async fn lease_release(&self, batch: &[ReleaseLease]) -> Result<Vec<bool>> {
        write!(self, LeaseRelease, lease_release, batch)
    }

    async fn lease_wait(&self, wait: &WaitLease) -> Result<Ticket> {
        write_one!(self, LeaseWait, lease_wait, wait)
    }

    async fn lease_leave(&self, leave: &LeaveLease) -> Result<()> {
        write_one!(self, LeaseLeave, lease_leave, leave)
    }

    async fn lease_break(&self, ask: &BreakLease) -> Result<Broken> {
        write_one!(self, LeaseBreak, lease_break, ask)
    }

    async fn lease_lookup(&self, key: &KeyRef) -> Result<Snapshot<lease::Record>> {
        read!(self, LeaseLookup, lease_lookup, key)
    }

    async fn lease_list(&self, ask: &ListLeases) -> Result<Snapshot<lease::Record>> {
        read!(self, LeaseList, lease_list, ask)
    }

    async fn once_claim(&self, batch: &[once::Ask]) -> Result<Vec<Claimed>> {
        write!(self, OnceClaim, once_claim, batch)
    }

    async fn once_renew(&self, batch: &[ClaimRef]) -> Result<Vec<Renew>> {
        renew!(self, OnceRenew, once_renew, batch)
    }

    async fn once_settle(&self, batch: &[SettleOnce]) -> Result<Vec<Settle>> {
        write!(self, OnceSettle, once_settle, batch)
    }

    async fn once_resolve(&self, ask: &ResolveOnce) -> Result<Resolve> {
        write_one!(self, OnceResolve, once_resolve, ask)
    }

    async fn once_lookup(&self, keys: &[KeyRef]) -> Result<Snapshot<Option<once::Record>>> {
        read!(self, OnceLookup, once_lookup, keys)
    }

    async fn once_list(&self, ask: &ListOnce) -> Result<Snapshot<once::Record>> {
        read!(self, OnceList, once_list, ask)
    }

    async fn history(&self, ask: &HistoryOf) -> Result<Vec<history::Row>> {
        read!(self, History, history, ask)
    }

    async fn prune(&self, ask: &Prune) -> Result<Pruned> {
        read!(self, Prune, prune, ask)
    }

    async fn check(&self) -> Result<Vec<Finding>> {
        let store = self.inner.clone();
        self.call(Verb::Check, None, async move { store.check().await }).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

mod endpoints;
mod jobs;
mod runs;
mod services;
#[cfg(test)]
mod tests;
mod triggers;
