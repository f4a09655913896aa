//! The Store trait: the verbs, one params struct each, batch-first where the verb is hot.

use core::time::Duration;
use std::sync::Arc;

use async_trait::async_trait;
use onceward_core::history::{self, Subject};
use onceward_core::lease::{self, Standing};
use onceward_core::once::{self, Ending, Resolution, Resolve, Settle, State};
use onceward_core::{Key, Namespace, Owner, Place, Queue, Result, SessionId, Timestamp, Token};
use serde::Serialize;
use tokio::sync::broadcast;

use crate::Clock;
use crate::enlist::EnlistSql;

pub use onceward_core::lease::Renew;

mod endpoints;
mod jobs;
mod limits;
mod runs;
mod services;
mod triggers;

pub use endpoints::{EndpointStore, ListEndpoints, ListedEndpoints, RemoveEndpoint, WriteEndpoint};
pub(crate) use jobs::KEY_KEPT_FOR;
pub use jobs::{
    BeginJob, Chores, ClaimJobs, ClaimedJobs, Enqueued, HandOver, HandedOver, JobProgress, JobRef, JobStore,
    ListJobs, MoveJob, Outstanding, PauseQueue, Promoted, PruneJobs, PruneOnly, PrunedJobs, QUEUE_COUNT_MAX,
    QueueRecord, Rescued, RescuedJob, SessionRef, SessionRenewed, SettleJob, SettleJobs, SettledJob, Want,
};
pub(crate) use jobs::{USUAL_TYPE, result_columns};
pub use limits::{AskPermits, LimitKeys, LimitQueue, Permits, TuneQueue};
pub use runs::{
    AppendRun, AppendRuns, Appended, Child, ContinueRun, ForkRun, HandChildren, LoadRun, NoteArrivals,
    RunStore, TellRun, Told, Woken,
};
pub use services::{
    BeginTerm, Begun, DueSchedules, EndTerm, ListSchedules, ListedSchedules, ListedServices, LookService,
    MissTerm, PruneTerms, ServiceRecord, ServiceStore, ServiceView, WriteSchedule, WriteService,
};
pub use triggers::{HeardOutcomes, HeardTriggers, ListTriggers, ListedTriggers, TriggerStore, WriteTrigger};

/// Which database stands behind a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StoreKind {
    /// The reference model: this process only, gone with it.
    Memory,
    /// PostgreSQL.
    Postgres,
    /// SQLite, embedded.
    Sqlite,
}

/// What a store can do, asked instead of guessed.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// The database.
    pub kind: StoreKind,
    /// How often a waiting caller should look again although nothing woke it: a wake-up is a hint, this the guarantee.
    pub poll_interval: Duration,
    /// Whether it is heard what other processes do. Where it is not, looking is all there is.
    pub is_heard: bool,
    /// Batches in flight per verb that make sense: connections for PostgreSQL, one writer for SQLite.
    pub batches_in_flight: usize,
    /// How many calls must wait for a batch of jobs to be enqueued beside another one, where otherwise one batch of a
    /// verb makes sense; `None`: jobs are as everything else, and a batch costs next to nothing by itself.
    pub enqueue_beside: Option<usize>,
}

impl Capabilities {
    /// Batches in flight per verb, whatever a store says of itself.
    pub(crate) fn batches_max(&self) -> usize {
        self.batches_in_flight.clamp(1, 4)
    }
}

/// Something happened that a waiter may want to know.
#[derive(Clone, Debug)]
pub enum Wake {
    /// A lease of this key was given back or broken.
    Lease(Namespace, Key),
    /// Jobs of this queue have become ready, or soon will be.
    Jobs(Namespace, Queue),
    /// Something happened, nobody knows what: look again.
    Anything,
}

/// Rows, and the instant of the store's clock at which they were read.
#[derive(Clone, Debug)]
pub struct Snapshot<T> {
    /// The store's clock when the rows were read.
    pub now: Timestamp,
    /// The rows.
    pub rows: Vec<T>,
}

/// A key in its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyRef {
    /// The namespace.
    pub namespace: Namespace,
    /// The key.
    pub key: Key,
}

/// What came of asking for a lease.
#[derive(Clone, Debug)]
pub enum Acquired {
    /// The caller holds it (newly, or by an earlier send of the same ask); the row as written.
    Granted(Box<lease::Record>),
    /// It is not to be had now.
    Held {
        /// The row in the way; of a counted lease the one that becomes free first. `None` only where the key is free
        /// but promised to a fair waiter who was there before.
        by: Option<Box<lease::Record>>,
        /// The store's clock when that was seen.
        now: Timestamp,
    },
}

/// A claim as its holder knows it: what renewing needs.
#[derive(Clone, Debug)]
pub struct ClaimRef {
    /// The namespace.
    pub namespace: Namespace,
    /// The key.
    pub key: Key,
    /// The place of a counted lease; 0 otherwise.
    pub slot: u32,
    /// The token of the grant.
    pub token: Token,
    /// The claim attempt.
    pub session: SessionId,
}

/// Gives a lease back.
#[derive(Clone, Debug)]
pub struct ReleaseLease {
    /// The namespace.
    pub namespace: Namespace,
    /// The key.
    pub key: Key,
    /// The token of the grant: nothing else is ever released by it (L8).
    pub token: Token,
    /// Why, for the history; `None` for the ordinary end.
    pub reason: Option<String>,
    /// Where the store said the row is.
    pub place: Place,
}

/// Takes (or keeps) a place among those who wait for a lease.
#[derive(Clone, Debug)]
pub struct WaitLease {
    /// The namespace.
    pub namespace: Namespace,
    /// The key.
    pub key: Key,
    /// The claim attempt that waits. The same session keeps its place.
    pub session: SessionId,
    /// Whether nobody may overtake this waiter.
    pub fair: bool,
    /// How long the place is kept without asking again.
    pub ttl: Duration,
}

/// Gives a place among the waiting up.
#[derive(Clone, Debug)]
pub struct LeaveLease {
    /// The namespace.
    pub namespace: Namespace,
    /// The key.
    pub key: Key,
    /// The claim attempt that waited.
    pub session: SessionId,
}

/// Takes a lease away from its holder. Audited.
#[derive(Clone, Debug)]
pub struct BreakLease {
    /// The namespace.
    pub namespace: Namespace,
    /// The key.
    pub key: Key,
    /// The token that was looked at; only that grant is broken. `None` breaks whatever is held (all places).
    pub token: Option<Token>,
    /// Who does it.
    pub actor: Owner,
    /// Why.
    pub reason: String,
}

/// What came of breaking a lease.
#[derive(Clone, Debug)]
pub enum Broken {
    /// These grants were ended (the rows as they were before).
    Applied(Vec<lease::Record>),
    /// Nobody holds it.
    NotHeld,
    /// Somebody holds it under another token.
    Moved(Token),
}

/// A page of leases, in the order of (namespace, key, slot).
#[derive(Clone, Debug, Default)]
pub struct ListLeases {
    /// Only this namespace.
    pub namespace: Option<Namespace>,
    /// Only keys that start with this.
    pub prefix: Option<String>,
    /// Only leases of this standing.
    pub standing: Option<Standing>,
    /// Only what comes after this row.
    pub after: Option<(Namespace, Key, u32)>,
    /// How many at most; 1 to [`onceward_core::limits::PAGE_ROWS_MAX`].
    pub limit: usize,
}

/// What came of claiming a once key.
#[derive(Clone, Debug)]
pub enum Claimed {
    /// The caller runs the function; the row as written. The claim is durable (O9).
    Granted(Box<once::Record>),
    /// The key was used with another fingerprint. Nothing of the recorded outcome is shown.
    Mismatch,
    /// Somebody else has it or had it.
    Existing {
        /// The row, with its body.
        row: Box<once::Record>,
        /// The store's clock when it was seen: [`once::Record::state_at`] wants it.
        now: Timestamp,
    },
}

/// Records how a once function ended.
#[derive(Clone, Debug)]
pub struct SettleOnce {
    /// The namespace.
    pub namespace: Namespace,
    /// The key.
    pub key: Key,
    /// The token of the claim.
    pub token: Token,
    /// How it ended.
    pub ending: Ending,
    /// Where the store said the row is.
    pub place: Place,
}

/// Settles an uncertain key. Audited.
#[derive(Clone, Debug)]
pub struct ResolveOnce {
    /// The namespace.
    pub namespace: Namespace,
    /// The key.
    pub key: Key,
    /// The token that was looked at; `None` takes the row as it is.
    pub token: Option<Token>,
    /// How.
    pub resolution: Resolution,
    /// Who does it.
    pub actor: Owner,
    /// Why.
    pub reason: String,
    /// Decide, but write nothing.
    pub dry_run: bool,
}

/// A page of once keys, in the order of (namespace, key), without the bytes of their bodies.
#[derive(Clone, Debug, Default)]
pub struct ListOnce {
    /// Only this namespace.
    pub namespace: Option<Namespace>,
    /// Only keys that start with this.
    pub prefix: Option<String>,
    /// Only keys in this state, as of now: expired running rows count as uncertain.
    pub state: Option<State>,
    /// Only what comes after this row.
    pub after: Option<(Namespace, Key)>,
    /// How many at most; 1 to [`onceward_core::limits::PAGE_ROWS_MAX`].
    pub limit: usize,
}

/// The newest part of the history of one key.
#[derive(Clone, Debug)]
pub struct HistoryOf {
    /// A lease or a once.
    pub subject: Subject,
    /// The namespace.
    pub namespace: Namespace,
    /// The key.
    pub key: Key,
    /// How many rows at most; 1 to [`onceward_core::limits::PAGE_ROWS_MAX`].
    pub limit: usize,
}

/// Removes what may be forgotten: at most `limit` rows of each kind a call.
///
/// Never anything uncertain or running (G16), never a lease that is held or whose token is ahead of the clock (G4).
#[derive(Clone, Debug)]
pub struct Prune {
    /// Lease rows (and waiting places) given back or expired at least this long ago go.
    pub leases_older_than: Duration,
    /// History rows at least this old go.
    pub history_older_than: Duration,
    /// How many rows of each kind at most.
    pub limit: usize,
}

/// How many rows a prune removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Once keys whose retention had ended.
    pub once: u64,
    /// Leases.
    pub leases: u64,
    /// Rows of history.
    pub history: u64,
    /// Whether time was up before all rows had been looked at: the next prune goes on there.
    pub more: bool,
}

impl Pruned {
    /// Whether another round has nothing more to do.
    pub fn is_last_of(&self, ask: &Prune) -> bool {
        let full = ask.limit as u64;
        !self.more && [self.once, self.leases, self.history].iter().all(|gone| *gone < full)
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, but should be looked at.
    Warning,
    /// Refused at start.
    Error,
}

/// One line of the self-check.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// What was looked at, in a word or two: `fsync`, `encoding`, `schema`.
    pub check: &'static str,
    /// What was found.
    pub found: String,
    /// The code whose page tells what to do; `None` when all is well.
    #[serde(serialize_with = "code_word")]
    pub code: Option<onceward_core::Code>,
}

fn code_word<S: serde::Serializer>(code: &Option<onceward_core::Code>, to: S) -> Result<S::Ok, S::Error> {
    code.map(onceward_core::Code::as_str).serialize(to)
}

/// What a store has sent to its database so far, renewals included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Statements of PostgreSQL; transactions of SQLite.
    pub statements: u64,
    /// Rows those were about.
    pub rows: u64,
}

/// What is known of a commit (G5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// The database said so.
    Committed,
    /// The database said no, or was never asked.
    RolledBack,
    /// It was asked and did not answer: read the row back by its token or session.
    Unknown,
}

/// Where state is kept.
///
/// The contract of every batched verb: answers come in the order of the batch; no two rows of one batch have the same
/// key; a refusal is an answer, never an error; an error is about the whole batch and says by
/// [`onceward_core::Error::is_uncertain`] whether it may have taken effect; sending the same batch again is safe,
/// because every row carries its session or its token. Deadlines are decided by the store's clock after the row is
/// locked (G1).
///
/// A row locked by somebody's open transaction fails the batch with [`onceward_core::Code::KeyLocked`] within 50 ms;
/// the [`lane`](crate::lane) then sends the rows one by one.
#[async_trait]
pub trait Store: JobStore + RunStore + ServiceStore + EndpointStore + TriggerStore {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;
    /// The URL it was opened by, without a password.
    fn url(&self) -> &str;
    /// Where on the network what stands behind it listens, by name or address and port, its carrier of hints with it:
    /// HTTP jobs are not sent there.
    fn listens_at(&self) -> Vec<(String, u16)> {
        Vec::new()
    }
    /// This process's clock, for trusting claims no longer than they last.
    fn clock(&self) -> &Arc<dyn Clock>;
    /// Hints that something was released.
    fn subscribe(&self) -> broadcast::Receiver<Wake>;
    /// A number that changes when acked commits may have been lost (another timeline, another file): caches of
    /// recorded outcomes end with it.
    fn epoch(&self) -> u64;

    /// What was sent so far.
    fn counters(&self) -> Counters {
        Counters::default()
    }
    /// The statements that may join a caller's transaction; `None` where there is no such thing.
    fn enlist(&self) -> Option<&EnlistSql> {
        None
    }

    /// Takes leases.
    async fn lease_acquire(&self, batch: &[lease::Ask]) -> Result<Vec<Acquired>>;
    /// Renews leases, on a connection no other verb uses.
    async fn lease_renew(&self, batch: &[ClaimRef]) -> Result<Vec<Renew>>;
    /// Gives leases back; `false` where the token was no longer the row's (nothing was changed).
    async fn lease_release(&self, batch: &[ReleaseLease]) -> Result<Vec<bool>>;
    /// Takes or keeps a waiting place.
    async fn lease_wait(&self, wait: &WaitLease) -> Result<lease::Ticket>;
    /// Gives a waiting place up.
    async fn lease_leave(&self, leave: &LeaveLease) -> Result<()>;
    /// Ends somebody's grant.
    async fn lease_break(&self, ask: &BreakLease) -> Result<Broken>;
    /// Every place of one key.
    async fn lease_lookup(&self, key: &KeyRef) -> Result<Snapshot<lease::Record>>;
    /// A page of leases.
    async fn lease_list(&self, ask: &ListLeases) -> Result<Snapshot<lease::Record>>;

    /// Claims once keys. A finished key costs no write and no lock.
    async fn once_claim(&self, batch: &[once::Ask]) -> Result<Vec<Claimed>>;
    /// Renews once claims, on the connection of the renewals.
    async fn once_renew(&self, batch: &[ClaimRef]) -> Result<Vec<Renew>>;
    /// Records outcomes.
    async fn once_settle(&self, batch: &[SettleOnce]) -> Result<Vec<Settle>>;
    /// Settles what nobody knows.
    async fn once_resolve(&self, ask: &ResolveOnce) -> Result<Resolve>;
    /// Reads keys, in the order asked for, bodies included.
    async fn once_lookup(&self, keys: &[KeyRef]) -> Result<Snapshot<Option<once::Record>>>;
    /// A page of keys.
    async fn once_list(&self, ask: &ListOnce) -> Result<Snapshot<once::Record>>;

    /// The newest rows of one key's history, newest first.
    async fn history(&self, ask: &HistoryOf) -> Result<Vec<history::Row>>;
    /// Forgets what may be forgotten, and writes down which claims have run out.
    async fn prune(&self, ask: &Prune) -> Result<Pruned>;
    /// Looks at the database and its settings, as at start.
    async fn check(&self) -> Result<Vec<Finding>>;
    /// Finishes what is under way and lets go of files and connections.
    async fn close(&self);
}
