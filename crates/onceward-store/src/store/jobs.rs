//! The verbs of jobs and of the sessions that run them: one params struct each, batch-first where the verb is hot.

use core::time::Duration;

use async_trait::async_trait;
use onceward_core::job::limit::Limits;
use onceward_core::job::tuning::Tuning;
use onceward_core::job::{self, Claimed, Move, Moved, Next, State};
use onceward_core::once::Body;
use onceward_core::{
    ClaimId, JobId, Kind, Namespace, Owner, Place, Queue, Result, SessionId, Tag, Timestamp, Token, session,
};
use serde::Serialize;

use super::limits::{AskPermits, LimitKeys, LimitQueue, Permits, TuneQueue};
use super::{CommitOutcome, Renew, Snapshot};

/// A job in its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct JobRef {
    /// The namespace.
    pub namespace: Namespace,
    /// Which one.
    pub id: JobId,
}

/// A session as its worker knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRef {
    /// Which one.
    pub id: SessionId,
    /// Its token.
    pub token: Token,
}

/// What a renewal of a session says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRenewed {
    /// Until when, or that it has run out.
    pub renew: Renew,
    /// The jobs of its claims that somebody has asked to cancel, again each time until they have ended.
    pub called_off: Vec<JobRef>,
    /// The runs of its claims that somebody has paused, again each time until they were given back.
    pub paused: Vec<JobRef>,
    /// Whether it was asked to take no more jobs.
    pub draining: bool,
}

/// What came of enqueueing a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Enqueued {
    /// It is there, by this send or an earlier one of the same id.
    Created(JobId),
    /// Its idempotency key or its dedupe key belongs to this job, which was there before.
    Existing(JobId),
    /// Its idempotency key belongs to a job of another kind or payload. Nothing was written.
    Mismatch(JobId),
}

/// One lane that jobs are taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The queue.
    pub queue: Queue,
    /// The kind.
    pub kind: Kind,
    /// The lane of jobs with these tags: [`job::route`]; empty for those without.
    pub route: String,
    /// How many of this lane at most.
    pub limit: usize,
}

/// Takes jobs that are ready: the highest priority first, and of one priority those due first (J14: never more than
/// asked for); in a queue where waiting counts as priority, with what it counts. Lanes of paused queues give nothing.
#[derive(Clone, Debug)]
pub struct ClaimJobs {
    /// Whose jobs.
    pub namespace: Namespace,
    /// For which session. It need not be checked: what a lost session claims is rescued like what it had.
    pub session: SessionId,
    /// This claim. Asking again with the same one finds what it got, as far as it was not rescued since.
    pub claim: ClaimId,
    /// From where.
    pub wants: Vec<Want>,
    /// Jobs that have lost a process are claimed by themselves: `true` asks for those only, and gets one at most.
    pub alone: bool,
    /// How many in all; 1 to [`onceward_core::limits::CLAIM_JOBS_MAX`].
    pub limit: usize,
    /// Whether limited queues give as much as the session's permits allow (J11). Otherwise they give nothing, as paused
    /// ones do. A session sends one such claim, or one question for permits, at a time.
    pub permitted: bool,
}

/// The jobs of a claim. An empty claim leaves nothing behind.
#[derive(Clone, Debug, Default)]
pub struct ClaimedJobs {
    /// The jobs, in the order they are to be started. All have the same token.
    pub jobs: Vec<Claimed>,
    /// When they were claimed, by the store's clock.
    pub now: Timestamp,
    /// The queues that gave nothing because of their limits, although something waits in the lanes asked for.
    pub limited: Vec<Queue>,
}

/// Enqueues jobs, and gives them to the session that runs them at once: they need not go through their lanes.
///
/// They are of one namespace, due, and have no keys. Those of a paused or limited queue wait in their lanes.
#[derive(Clone, Debug)]
pub struct HandOver {
    /// Whose jobs.
    pub namespace: Namespace,
    /// To which session; see [`ClaimJobs::session`].
    pub session: SessionId,
    /// By which claim. Sending the same one again finds what it got, as far as it was not rescued since.
    pub claim: ClaimId,
    /// The jobs, at most [`onceward_core::limits::CLAIM_JOBS_MAX`].
    pub jobs: Vec<job::New>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct HandedOver {
    /// What became of each job.
    pub enqueued: Vec<Enqueued>,
    /// Those that the session has now.
    pub claimed: ClaimedJobs,
}

/// Writes down that a handler is about to start: of jobs that run at most once, and of jobs whose dedupe key is free
/// from then on.
#[derive(Clone, Debug)]
pub struct BeginJob {
    /// Which job.
    pub job: JobRef,
    /// The token of the attempt.
    pub token: Token,
    /// In which session: one that has run out begins nothing.
    pub session: SessionId,
}

/// Writes down how far a job is. It applies while the attempt is the current one: the row's token is smaller.
#[derive(Clone, Debug)]
pub struct JobProgress {
    /// Which job.
    pub job: JobRef,
    /// The token of the attempt.
    pub token: Token,
    /// What its handler says, as JSON.
    pub progress: Body,
}

/// Records how an attempt ended, decided by [`job::end`].
///
/// It applies while the row's token is smaller than `fence`, or where the row is uncertain under exactly this token and
/// `next` is another final state (late evidence). Where somebody has asked for the job to be cancelled and `next` is
/// not final, the state becomes cancelled (J8).
#[derive(Clone, Debug)]
pub struct SettleJob {
    /// Which job.
    pub job: JobRef,
    /// Where the store said the row is.
    pub place: Place,
    /// The token of the attempt.
    pub fence: Token,
    /// The token to write: the attempt's own for its worker.
    pub token: Token,
    /// When the attempt was claimed.
    pub started_at: Timestamp,
    /// Who ran it.
    pub worker: Owner,
    /// What the row says from now on.
    pub next: Next,
    /// How long a job that is over is kept; zero deletes it at once.
    pub retain: Duration,
    /// The run that waits for it: with the end of the job it has something that arrived.
    pub parent: Option<JobId>,
}

/// A batch of endings.
#[derive(Clone, Debug, Default)]
pub struct SettleJobs {
    /// The endings; no job twice.
    pub jobs: Vec<SettleJob>,
    /// Claims of which no job is left after this.
    pub finished: Vec<ClaimId>,
}

/// What came of an ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettledJob {
    /// It was recorded; the state it has now.
    Applied(State),
    /// The same token was recorded before: the answer to an earlier send was lost.
    Already(State),
    /// The row has moved on; nothing was changed (J5).
    Stale,
    /// There is no row: it was deleted when it was over, by an earlier send of this or since.
    Gone,
}

/// What has become ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promoted {
    /// How many jobs.
    pub moved: u64,
    /// Of which queues.
    pub queues: Vec<(Namespace, Queue)>,
    /// When the next one is due, if any waits.
    pub next_due: Option<Timestamp>,
    /// The store's clock.
    pub now: Timestamp,
}

/// What there is to do for all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chores {
    /// When the next job is due, if any waits.
    pub next_due: Option<Timestamp>,
    /// Whether a job of an ordering key may be let through.
    pub arrived: bool,
    /// Whether sessions have run out, or have left something behind.
    pub lost: bool,
    /// The store's clock.
    pub now: Timestamp,
}

/// A job that was taken from a session that has run out, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RescuedJob {
    /// Which job.
    pub job: JobRef,
    /// Its queue.
    pub queue: Queue,
    /// Its state now.
    pub state: State,
}

/// What a rescue did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rescued {
    /// The jobs that were taken from lost sessions.
    pub jobs: Vec<RescuedJob>,
    /// How many sessions are gone for good.
    pub sessions: u64,
    /// Whether there may be more to do.
    pub more: bool,
}

/// Moves a job from outside. Audited in the row: who and why are its error text.
#[derive(Clone, Debug)]
pub struct MoveJob {
    /// Which job.
    pub job: JobRef,
    /// The token that was looked at; `None` takes the row as it is.
    pub token: Option<Token>,
    /// What is wanted.
    pub to: Move,
    /// Who does it.
    pub actor: Owner,
    /// Why.
    pub reason: Option<String>,
    /// Decide, but write nothing.
    pub dry_run: bool,
}

/// What a worker would still have to wait for that runs until nothing is left.
#[derive(Clone, Debug)]
pub struct Outstanding {
    /// Whose jobs.
    pub namespace: Namespace,
    /// Of which queues.
    pub queues: Vec<Queue>,
    /// Of which kinds.
    pub kinds: Vec<Kind>,
    /// Which tags the worker offers.
    pub tags: Vec<Tag>,
    /// What is due within this time counts.
    pub horizon: Duration,
}

/// A page of jobs, the newest first, without payloads and results.
#[derive(Clone, Debug, Default)]
pub struct ListJobs {
    /// Only this namespace.
    pub namespace: Option<Namespace>,
    /// Only this state, as people mean it.
    pub state: Option<State>,
    /// Only this queue.
    pub queue: Option<Queue>,
    /// Only this kind.
    pub kind: Option<Kind>,
    /// Only with this tag.
    pub tag: Option<Tag>,
    /// Only runs that were paused, those included that are still to be given back.
    pub paused: bool,
    /// Only what comes after this id in the order of the listing: smaller ids.
    pub after: Option<JobId>,
    /// How many at most; 1 to [`onceward_core::limits::PAGE_ROWS_MAX`].
    pub limit: usize,
}

/// What a queue is set to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueRecord {
    /// The namespace.
    pub namespace: Namespace,
    /// The queue.
    pub queue: Queue,
    /// Since when it is paused.
    pub paused_at: Option<Timestamp>,
    /// Who paused it.
    pub paused_by: Option<Owner>,
    /// Why.
    pub pause_reason: Option<String>,
    /// What it is limited to.
    #[serde(flatten)]
    pub limits: Limits,
    /// Since when.
    pub limits_at: Option<Timestamp>,
    /// Who has limited it.
    pub limits_by: Option<Owner>,
    /// How many jobs of one of its ordering keys run at the same time.
    pub key_concurrency: u32,
    /// Since when, if it was set.
    pub keys_at: Option<Timestamp>,
    /// Who has set it.
    pub keys_by: Option<Owner>,
    /// What it is tuned by.
    #[serde(flatten)]
    pub tuning: Tuning,
    /// Since when, if it was set.
    pub tuned_at: Option<Timestamp>,
    /// Who has tuned it.
    pub tuned_by: Option<Owner>,
    /// How many permits workers hold.
    pub held: u64,
    /// How many jobs wait for a worker, at most [`QUEUE_COUNT_MAX`].
    pub ready: u64,
    /// How many are not due yet, at most [`QUEUE_COUNT_MAX`].
    pub later: u64,
    /// How many run.
    pub running: u64,
    /// When the job that has waited longest was due.
    pub oldest: Option<Timestamp>,
    /// The kinds that wait.
    pub kinds: Vec<Kind>,
}

/// Up to where the jobs of a queue are counted for a listing: a count of millions reads millions of rows.
pub const QUEUE_COUNT_MAX: u64 = 10_000;

/// Pauses or resumes a queue.
#[derive(Clone, Debug)]
pub struct PauseQueue {
    /// The namespace.
    pub namespace: Namespace,
    /// The queue. It need not have been used before.
    pub queue: Queue,
    /// Pause or resume.
    pub paused: bool,
    /// Who does it.
    pub actor: Owner,
    /// Why.
    pub reason: Option<String>,
}

/// When pruning looks again at an idempotency key that lasts as long as its job (PostgreSQL says it in its SQL).
pub(crate) const KEY_KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Which jobs are forgotten: without anything said, all that may be, and the keys that have run out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneOnly {
    /// Only of this namespace.
    pub namespace: Option<Namespace>,
    /// Only of this queue.
    pub queue: Option<Queue>,
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only in this state: succeeded, cancelled or dead. Of others none are forgotten.
    pub state: Option<State>,
}

impl PruneOnly {
    /// Whether it is about everything.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether dead jobs are meant, and whether others that are over.
    pub(crate) fn of(&self) -> (bool, bool) {
        (self.state.is_none_or(|state| state == State::Dead), self.state.is_none_or(State::is_history))
    }
}

/// Forgets what is over.
#[derive(Clone, Debug)]
pub struct PruneJobs {
    /// Dead jobs that ended at least this long ago go, where their queues say nothing else; uncertain ones never do
    /// (G16).
    pub dead_older_than: Duration,
    /// Which ones.
    pub only: PruneOnly,
    /// Counts what would be forgotten, up to the limit, and changes nothing.
    pub dry_run: bool,
    /// How many rows of each kind at most.
    pub limit: usize,
}

impl PruneJobs {
    /// Everything that may be forgotten.
    pub fn all(dead_older_than: Duration, limit: usize) -> Self {
        Self { dead_older_than, only: PruneOnly::default(), dry_run: false, limit }
    }
}

/// How many rows a prune removed. Whole partitions that were dropped are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PrunedJobs {
    /// Jobs that had succeeded or were cancelled.
    pub done: u64,
    /// Dead jobs.
    pub dead: u64,
    /// Idempotency and dedupe keys.
    pub keys: u64,
}

/// Where jobs are kept. The contract of [`Store`](super::Store) holds here as well: answers in the order of the batch,
/// refusals are answers, the same batch may be sent again, the store's clock decides.
#[async_trait]
pub trait JobStore: Send + Sync + 'static {
    /// Opens a session; the same id again finds it. One that has run out fails with
    /// [`Code::SessionLost`](onceward_core::Code::SessionLost).
    async fn session_open(&self, ask: &session::Open) -> Result<session::Record>;
    /// Renews a session, on the connection of the renewals: one statement, whatever it runs.
    async fn session_renew(&self, ask: &SessionRef) -> Result<SessionRenewed>;
    /// Ends a session; `false` where it had run out before. What it still holds is rescued as if it had run out; one
    /// that holds nothing is forgotten at once.
    async fn session_close(&self, ask: &SessionRef) -> Result<bool>;
    /// Every session that has not been cleared away, the oldest first.
    async fn session_list(&self) -> Result<Snapshot<session::Record>>;
    /// Asks a session to take no more jobs, or to take some again; `false` if there is no such session.
    async fn session_drain(&self, id: SessionId, draining: bool) -> Result<bool>;

    /// Enqueues jobs. No two of a batch have the same id, idempotency key or dedupe key.
    async fn job_enqueue(&self, batch: &[job::New]) -> Result<Vec<Enqueued>>;
    /// Enqueues jobs that are claimed in the same stroke.
    async fn job_hand_over(&self, ask: &HandOver) -> Result<HandedOver>;
    /// Takes jobs. The claim is durable when it is answered.
    async fn job_claim(&self, ask: &ClaimJobs) -> Result<ClaimedJobs>;
    /// Writes down that handlers start; `false` where the attempt is no longer the current one, or its session has run
    /// out: then it must not start.
    async fn job_begin(&self, batch: &[BeginJob]) -> Result<Vec<bool>>;
    /// Writes down how far jobs are; `false` where the attempt is no longer the current one. No two of a batch are of
    /// the same job.
    async fn job_progress(&self, batch: &[JobProgress]) -> Result<Vec<bool>>;
    /// Records how attempts ended.
    async fn job_settle(&self, ask: &SettleJobs) -> Result<Vec<SettledJob>>;

    /// Looks whether there is anything to promote or to rescue. A read, and all that it costs where there is not.
    async fn job_chores(&self) -> Result<Chores>;
    /// Makes up to `limit` jobs ready that are due. Of an ordering key one job at a time is let in, or as many as its
    /// queues allow, the best of those that are due: here, and perhaps as soon as one before them has ended.
    async fn job_promote(&self, limit: usize) -> Result<Promoted>;
    /// Takes up to about `limit` jobs from sessions that have run out (J7), and clears away what is finished.
    async fn job_rescue(&self, limit: usize) -> Result<Rescued>;
    /// Up to `limit` jobs that have not ended, that nobody runs, and whose deadline has passed, those first for which
    /// that is longest ago.
    async fn job_overdue(&self, namespace: &Namespace, limit: usize) -> Result<Vec<JobRef>>;
    /// The lanes in which jobs are ready, except paused queues' and those of jobs that are claimed alone. Each is named
    /// once, with limit 0, however many wait.
    async fn job_lanes(&self, namespace: &Namespace, queues: &[Queue]) -> Result<Vec<Want>>;

    /// Whether a job is left that such a worker waits for: one that anybody runs, or in a queue that is not paused one
    /// that is ready, is to be tried again, or is due within the horizon.
    async fn job_outstanding(&self, ask: &Outstanding) -> Result<bool>;

    /// Tells workers, here and on other machines, that jobs of these queues have become ready. A hint: nothing depends
    /// on it.
    async fn job_announce(&self, queues: &[(Namespace, Queue)]) -> Result<()>;
    /// What became of transactions that enqueued something, by the numbers that the enqueue returned. `None`: it is
    /// still open, or nobody knows any more.
    async fn transactions(&self, ids: &[u64]) -> Result<Vec<Option<CommitOutcome>>>;

    /// Moves a job from outside: the row becomes what [`job::moved`] says. A job that has lost a process and is to run
    /// again is claimed alone. A run that is paused waits nowhere: nobody claims it, and nothing wakes it.
    async fn job_move(&self, ask: &MoveJob) -> Result<Moved>;
    /// Reads jobs, in the order asked for, with payloads, results, and who runs them.
    async fn job_lookup(&self, jobs: &[JobRef]) -> Result<Snapshot<Option<job::Record>>>;
    /// A page of jobs.
    async fn job_list(&self, ask: &ListJobs) -> Result<Snapshot<job::Record>>;
    /// Pauses or resumes a queue.
    async fn queue_pause(&self, ask: &PauseQueue) -> Result<()>;
    /// Sets what a queue is limited to, or that it is not. Permits that were given before are void from then on, and
    /// what runs goes on.
    async fn queue_limit(&self, ask: &LimitQueue) -> Result<()>;
    /// Sets how many jobs of one ordering key are let through at the same time, as [`job::keys`] says. What was let
    /// through stays so; those that may follow now are let in here, or by the next promotion (J10).
    async fn queue_limit_keys(&self, ask: &LimitKeys) -> Result<()>;
    /// Says what a queue is tuned by. Where waiting counts as priority, [`job_claim`](Self::job_claim) goes by
    /// [`Tuning::rank`]; dead jobs are forgotten when the queue says; how long others are kept is up to who ends them.
    async fn queue_tune(&self, ask: &TuneQueue) -> Result<()>;
    /// What the queues of a namespace are tuned by, those that are.
    async fn queue_tunings(&self, namespace: &Namespace) -> Result<Vec<(Queue, Tuning)>>;
    /// Asks for permits of limited queues, as [`permit::grant`](onceward_core::job::permit::grant) gives them. Asking
    /// for nothing gives back what is not in use. They end with the session, once nothing of it is left to rescue.
    async fn queue_permits(&self, batch: &[AskPermits]) -> Result<Vec<Permits>>;
    /// The queues of a namespace that hold something or are set to something, by name.
    async fn queue_list(&self, namespace: &Namespace) -> Result<Vec<QueueRecord>>;
    /// Forgets jobs that are over.
    async fn job_prune(&self, ask: &PruneJobs) -> Result<PrunedJobs>;
}

/// The content type that nearly all payloads have: a store need not write it.
pub(crate) const USUAL_TYPE: &str = "application/json";

/// The result of a settled job, as the stores keep it.
pub(crate) fn result_columns(result: Option<&Body>) -> (Option<&[u8]>, Option<&str>, Option<i64>) {
    let size = |body: &Body| i64::try_from(body.size).unwrap_or(i64::MAX);
    (
        result.and_then(|body| body.bytes.as_deref()),
        result.map(|body| body.content_type.as_str()),
        result.map(size),
    )
}
