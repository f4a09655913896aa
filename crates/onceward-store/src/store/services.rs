//! The verbs of services and schedules. What they are set to is written under a version: who has seen another one is
//! refused and looks again. What they mean is decided by `onceward_core::service` and `onceward_core::schedule`.

use core::time::Duration;

use async_trait::async_trait;
use onceward_core::schedule::Schedule;
use onceward_core::service::{Held, Outcome, Runner, Setting, Term};
use onceward_core::{Namespace, Owner, Result, ScheduleName, ServiceName, SessionId, Timestamp, Token, job};

/// What a service is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRecord {
    /// The namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: ServiceName,
    /// Grows with each change, from 1 on.
    pub version: i64,
    /// What it is set to.
    pub setting: Setting,
}

/// The services of a namespace.
#[derive(Clone, Debug, Default)]
pub struct ListedServices {
    /// What was found, by name.
    pub rows: Vec<ServiceRecord>,
    /// What was found and can't be read, each with its version, by name.
    pub unreadable: Vec<(ServiceName, i64)>,
}

/// Looks at a service: everything that the next step is decided from.
#[derive(Clone, Debug)]
pub struct LookService {
    /// The namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: ServiceName,
    /// How many of its newest terms at most; 1 to [`onceward_core::limits::PAGE_ROWS_MAX`]. Those that somebody has
    /// asked for do not count: of these as many are shown, of the time that the others reach back.
    pub terms: usize,
}

/// A service as it stands.
#[derive(Clone, Debug, Default)]
pub struct ServiceView {
    /// The store's clock.
    pub now: Timestamp,
    /// What it is set to; none where nobody has declared it.
    pub record: Option<ServiceRecord>,
    /// The processes that run it, as their sessions say, lost ones included.
    pub runners: Vec<Runner>,
    /// Its newest terms, the newest cycle first, none of them due in a time that has not come; and all that run.
    pub terms: Vec<Term>,
    /// Who has its lease, or until when it is closed.
    pub held: Option<Held>,
}

/// Writes what a service is set to, if it still has the version that was seen: 0 where there was none.
#[derive(Clone, Debug)]
pub struct WriteService {
    /// What is to stand there, under the version that was seen.
    pub record: ServiceRecord,
}

/// Begins a term: under the lease of the service, before a time, if nobody has begun its cycle.
#[derive(Clone, Debug)]
pub struct BeginTerm {
    /// The namespace.
    pub namespace: Namespace,
    /// The service.
    pub service: ServiceName,
    /// The cycle.
    pub cycle: i64,
    /// Which part of it.
    pub part: String,
    /// When the cycle began.
    pub due_at: Timestamp,
    /// From then on it is not begun any more.
    pub not_after: Timestamp,
    /// The session of the runner.
    pub session: SessionId,
    /// Who that is.
    pub owner: Owner,
    /// The token of the lease on [`lease_key`](onceward_core::service::lease_key).
    pub token: Token,
}

/// What came of beginning a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It has begun, by this send or an earlier one.
    Begun,
    /// The cycle has a row already.
    Taken,
    /// The time is over.
    Late,
    /// The lease is not held under this token any more.
    Fenced,
}

/// Records how a term ended, if it runs under this token.
#[derive(Clone, Debug)]
pub struct EndTerm {
    /// The namespace.
    pub namespace: Namespace,
    /// The service.
    pub service: ServiceName,
    /// The cycle.
    pub cycle: i64,
    /// Which part of it.
    pub part: String,
    /// The token of the term.
    pub token: Token,
    /// How it ended.
    pub outcome: Outcome,
    /// Why.
    pub reason: Option<String>,
}

/// Records cycles that nobody has begun. What has a row keeps it.
#[derive(Clone, Debug)]
pub struct MissTerm {
    /// The namespace.
    pub namespace: Namespace,
    /// The service.
    pub service: ServiceName,
    /// Which ones, and why.
    pub miss: onceward_core::service::Miss,
}

/// Forgets terms that are over; the newest one of each service stays.
#[derive(Clone, Debug)]
pub struct PruneTerms {
    /// Of this service alone: then only its first rows are looked at, in the order of their cycles, `limit` of them.
    /// None: of all of them, and everything is looked at.
    pub of: Option<(Namespace, ServiceName)>,
    /// Those that began at least this long ago go.
    pub older_than: Duration,
    /// How many at most.
    pub limit: usize,
}

/// A page of schedules, by name.
#[derive(Clone, Debug)]
pub struct ListSchedules {
    /// The namespace.
    pub namespace: Namespace,
    /// Only this one.
    pub name: Option<ScheduleName>,
    /// Only what comes after this one.
    pub after: Option<ScheduleName>,
    /// How many at most; 1 to [`onceward_core::limits::PAGE_ROWS_MAX`].
    pub limit: usize,
}

/// The schedules that are due.
#[derive(Clone, Debug, Default)]
pub struct DueSchedules {
    /// The store's clock.
    pub now: Timestamp,
    /// Those that are due, the one that has waited longest first.
    pub rows: Vec<Schedule>,
    /// Those that are due and can't be read, in the same order; they count in the limit.
    pub unreadable: Vec<ScheduleName>,
    /// When the next one is due, of those that are not yet.
    pub next_at: Option<Timestamp>,
}

/// A page of schedules.
#[derive(Clone, Debug, Default)]
pub struct ListedSchedules {
    /// The store's clock.
    pub now: Timestamp,
    /// What was found, by name.
    pub rows: Vec<Schedule>,
    /// What was found and can't be read, each with its version; they count in the limit.
    pub unreadable: Vec<(ScheduleName, i64)>,
}

/// Writes a schedule, if it still has the version that was seen (0 where there was none), and enqueues jobs with it:
/// both or neither. A job whose id is there already stays as it is.
#[derive(Clone, Debug)]
pub struct WriteSchedule {
    /// What is to stand there, under the version that was seen.
    pub row: Schedule,
    /// The jobs: without idempotency and dedupe keys, of the namespace of the schedule, no two of one id.
    pub jobs: Vec<job::New>,
}

/// Where services and schedules are kept. The contract of [`Store`](super::Store) holds here as well.
#[async_trait]
pub trait ServiceStore: Send + Sync + 'static {
    /// Looks at a service.
    async fn service_look(&self, ask: &LookService) -> Result<ServiceView>;
    /// The services of a namespace, by name. One that can't be read is named, and hides none of the others.
    async fn service_list(&self, namespace: &Namespace) -> Result<ListedServices>;
    /// Writes what a service is set to, and wakes its runners; `false` where it has another version.
    async fn service_write(&self, ask: &WriteService) -> Result<bool>;
    /// Begins a term. It is durable when it is answered.
    async fn service_begin(&self, ask: &BeginTerm) -> Result<Begun>;
    /// Records the end of a term; `false` where it does not run under this token.
    async fn service_end(&self, ask: &EndTerm) -> Result<bool>;
    /// Makes the runners of a service look, here and on other machines. A hint: nothing depends on it.
    async fn service_ring(&self, namespace: &Namespace, name: &ServiceName) -> Result<()>;
    /// Records cycles as missed.
    async fn service_miss(&self, batch: &[MissTerm]) -> Result<()>;
    /// Forgets old terms; how many.
    async fn service_prune(&self, ask: &PruneTerms) -> Result<u64>;

    /// A page of schedules.
    async fn schedule_list(&self, ask: &ListSchedules) -> Result<ListedSchedules>;
    /// What is due of a namespace: one statement, however many there are.
    async fn schedule_due(&self, namespace: &Namespace, limit: usize) -> Result<DueSchedules>;
    /// Writes a schedule, with jobs; `false` where it has another version.
    async fn schedule_write(&self, ask: &WriteSchedule) -> Result<bool>;
    /// Removes a schedule of this version; `false` where there is no such one. Its jobs stay.
    async fn schedule_remove(&self, namespace: &Namespace, name: &ScheduleName, version: i64)
    -> Result<bool>;
}
