//! Where Onceward keeps its state.
//!
//! [`Store`] is the one seam: a dozen verbs at the altitude of *claim, renew, settle*, each taking a batch. Three
//! stores stand behind it: [`memory`] (the reference model, built on the rules of `onceward-core`), SQLite and
//! PostgreSQL. One suite, [`conformance`], holds all three to the same answers.
//!
//! The way of a call, to be read in this order: [`lane`] (natural batching) → [`Store`] → `sqlite/` or `postgres/` →
//! `sql/<database>/<area>/<verb>.sql`. The caller's own transaction takes the short way: [`enlist`].
//!
//! The traits here are sealed by intent: they are not meant to be implemented outside this crate.

pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod enlist;
#[cfg(feature = "conformance")]
pub mod faulty;
pub mod hints;
mod insist;
pub mod lane;
pub mod memory;
pub mod migrate;
mod open;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "bench")]
pub mod reference;
mod sql;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod store;
pub mod url;
mod wall;

pub use clock::Clock;
pub use insist::insist;
pub use open::{OpenOptions, open};
pub use store::{
    Acquired, AppendRun, AppendRuns, Appended, AskPermits, BeginJob, BeginTerm, Begun, BreakLease, Broken,
    Capabilities, Child, Chores, ClaimJobs, ClaimRef, Claimed, ClaimedJobs, CommitOutcome, ContinueRun,
    Counters, DueSchedules, EndTerm, EndpointStore, Enqueued, Finding, ForkRun, HandChildren, HandOver,
    HandedOver, HeardOutcomes, HeardTriggers, HistoryOf, JobProgress, JobRef, JobStore, KeyRef, LeaveLease,
    LimitKeys, LimitQueue, ListEndpoints, ListJobs, ListLeases, ListOnce, ListSchedules, ListTriggers,
    ListedEndpoints, ListedSchedules, ListedServices, ListedTriggers, LoadRun, LookService, MissTerm,
    MoveJob, NoteArrivals, Outstanding, PauseQueue, Permits, Promoted, Prune, PruneJobs, PruneOnly,
    PruneTerms, Pruned, PrunedJobs, QUEUE_COUNT_MAX, QueueRecord, ReleaseLease, RemoveEndpoint, Renew,
    Rescued, RescuedJob, ResolveOnce, RunStore, ServiceRecord, ServiceStore, ServiceView, SessionRef,
    SessionRenewed, SettleJob, SettleJobs, SettleOnce, SettledJob, Severity, Snapshot, Store, StoreKind,
    TellRun, Told, TriggerStore, TuneQueue, WaitLease, Wake, Want, Woken, WriteEndpoint, WriteSchedule,
    WriteService, WriteTrigger,
};
