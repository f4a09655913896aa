//! The verbs of runs: a run is a job, and these are its journal and what arrives for it from outside.

use async_trait::async_trait;
use onceward_core::job::{self, State};
use onceward_core::run::generation::Turn;
use onceward_core::run::{Arrival, Arrived, Entry};
use onceward_core::{ClaimId, JobId, Namespace, Queue, Result, SessionId, Token};
use uuid::Uuid;

use super::{ClaimedJobs, JobRef, SettleJob};

/// Adds to the journal of a run, all of it or nothing. Only the owner of the run does that (D1): the session that has
/// claimed it, as long as it lasts.
#[derive(Clone, Debug)]
pub struct AppendRun {
    /// Which run.
    pub run: JobRef,
    /// The session that has it.
    pub session: SessionId,
    /// The token of the attempt.
    pub token: Token,
    /// What is added, in order. Sending the same again changes nothing.
    pub entries: Vec<Entry>,
    /// The children that these entries start, due now or later, without idempotency and dedupe keys.
    pub children: Vec<Child>,
    /// What has arrived and stands in the journal now: it waits no more (D6).
    pub taken: Vec<Uuid>,
    /// Children whose success stands in the journal now: it is recorded with the same commit, and nothing has to
    /// arrive. If one of them is not there any more under its fence, nothing is added, and the ends that were recorded
    /// all the same arrive in the usual way. So it may be where somebody has called one off.
    pub ended: Vec<SettleJob>,
}

impl AppendRun {
    /// Whether it adds nothing but entries, as of most steps: nothing is started, and nothing was waited for.
    pub fn is_plain(&self) -> bool {
        self.children.is_empty() && self.taken.is_empty() && self.ended.is_empty()
    }
}

/// Adds to the journals of runs, no two of which are the same.
#[derive(Clone, Debug)]
pub struct AppendRuns {
    /// What is added to each.
    pub runs: Vec<AppendRun>,
    /// For whom children start at once, if any are to.
    pub hand: Option<HandChildren>,
    /// The claims of which no job is left with the children that end here.
    pub finished: Vec<ClaimId>,
}

/// For whom children start at once.
#[derive(Clone, Debug)]
pub struct HandChildren {
    /// The namespace of their runs.
    pub namespace: Namespace,
    /// The session they are claimed for.
    pub session: SessionId,
    /// The claim, drawn by the caller: sending the same again finds what it got.
    pub claim: ClaimId,
}

/// What came of adding to journals.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Whether each was added to, in the order asked for.
    pub added: Vec<bool>,
    /// The children that were claimed.
    pub claimed: ClaimedJobs,
}

/// A child, and the entry that starts it.
#[derive(Clone, Debug)]
pub struct Child {
    /// The number of the entry.
    pub seq: u32,
    /// The child.
    pub job: job::New,
    /// Whether it is claimed at once, if it is due and its queue is neither paused nor limited; not one with an
    /// ordering key.
    pub at_once: bool,
}

/// Reads a part of a journal.
#[derive(Clone, Debug)]
pub struct LoadRun {
    /// Which run.
    pub run: JobRef,
    /// From this number on.
    pub from: u32,
    /// How many entries at most.
    pub limit: usize,
}

/// Tells a run something.
#[derive(Clone, Debug)]
pub struct TellRun {
    /// Which run.
    pub run: JobRef,
    /// Which telling, drawn by the caller: sending it again is safe.
    pub id: Uuid,
    /// A signal, or that it is called off.
    pub what: Arrived,
}

/// Starts a run whose journal begins with a part of that of another one.
#[derive(Clone, Debug)]
pub struct ForkRun {
    /// The new run: due, without idempotency and dedupe keys, of the namespace of the other one.
    pub run: job::New,
    /// Whose journal.
    pub of: JobId,
    /// The entries before this number are in it.
    pub until: u32,
    /// None of them was written by a later attempt than this one: a run that has gone on as new has others.
    pub by: Token,
    /// Except these.
    pub without: Vec<u32>,
    /// What some of them hold instead, as [`Phase::data`](onceward_core::run::Phase::data).
    pub instead: Vec<(u32, Vec<u8>)>,
    /// What follows them. All entries are numbered anew.
    pub more: Vec<Entry>,
}

/// Has a run go on as new whose journal says that its generation is over: with the arguments that it says, and another
/// journal in the place of that one (D1). To be done by whoever has taken the run up, before anything else.
#[derive(Clone, Debug)]
pub struct ContinueRun {
    /// Which run.
    pub run: JobRef,
    /// The session that has it.
    pub session: SessionId,
    /// The token of the attempt.
    pub token: Token,
    /// What follows from the journal.
    pub turn: Turn,
}

/// What came of telling a run something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was parked, and is ready with that; its queue.
    Woken(Queue),
    /// It will hear of it, once it is woken if it parks meanwhile; its queue.
    Waits(Queue),
    /// It is paused, and hears of it once it is resumed; its queue.
    Paused(Queue),
    /// It has ended, or it is a job that hears nothing. Nothing was written.
    Ended(State),
    /// There is no such run.
    Unknown,
}

/// What a look at the runs for which something has arrived has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Woken {
    /// The queues that have something ready now.
    pub queues: Vec<(Namespace, Queue)>,
    /// The runs that are not parked and that something has arrived for which they have not taken note of.
    pub unheard: Vec<JobRef>,
}

/// Takes note that a run knows of something that it has no use for yet: it need not be woken for it again.
#[derive(Clone, Debug)]
pub struct NoteArrivals {
    /// Which run.
    pub run: JobRef,
    /// What it knows of.
    pub ids: Vec<Uuid>,
}

/// Where the journals of runs are kept. The contract of [`Store`](super::Store) holds here as well.
#[async_trait]
pub trait RunStore: Send + Sync + 'static {
    /// Adds to journals; not where the session has run out, or the run is no longer this attempt's: nothing was
    /// written.
    async fn run_append(&self, ask: &AppendRuns) -> Result<Appended>;
    /// Has runs go on as new; not where the session has run out, or the run is no longer this attempt's. Sent again it
    /// changes nothing. What steps have committed for the generation that is over is forgotten; whatever else has
    /// arrived stays.
    async fn run_continue(&self, batch: &[ContinueRun]) -> Result<Vec<bool>>;
    /// Reads parts of journals, each in order; in the order asked for.
    async fn run_load(&self, asks: &[LoadRun]) -> Result<Vec<Vec<Entry>>>;
    /// What has arrived for these runs, in the order in which it came; in the order asked for.
    async fn run_arrived(&self, runs: &[JobRef]) -> Result<Vec<Vec<Arrival>>>;
    /// Tells runs something.
    async fn run_tell(&self, batch: &[TellRun]) -> Result<Vec<Told>>;
    /// Notes what runs know of.
    async fn run_note(&self, batch: &[NoteArrivals]) -> Result<()>;
    /// Makes runs ready that are parked, and for which something has arrived that they have not taken note of; not
    /// those that are paused, which read it once they are resumed. To be
    /// called after whatever made it arrive, and after a run has parked: one of the two sees the other.
    async fn run_wake(&self) -> Result<Woken>;
    /// Starts runs with a part of the journals of others, all of them in one commit. `false`, and nothing was written,
    /// where a journal does not reach that far, or is forgotten. One that is there already stays as it is.
    async fn run_fork(&self, batch: &[ForkRun]) -> Result<bool>;
    /// Forgets journals of runs that are forgotten, and what has arrived for them. Looks at about `limit` runs, those
    /// after `after`; how many journals went, and the last run it has looked at: `None` at the end.
    async fn run_prune(&self, after: Option<&JobRef>, limit: usize) -> Result<(u64, Option<JobRef>)>;
}
