//! Adding to the journals of runs: with it children are started, and children that have ended are over.

use std::collections::{HashMap, HashSet};

use onceward_core::job::{Claimed, Record};
use onceward_core::run::Entry;
use onceward_core::{JobId, Result};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::super::Inner;
use super::super::link::{Call, Link};
use super::super::live::Param;
use super::super::row::{Columns, Instant, Tid, micros};
use super::claim::{edge_of, unasked};
use super::enqueue::{due, route_of};
use super::rows::kept_type;
use super::runs::{int, sorted};
use crate::store::{AppendRun, AppendRuns, Appended, Child, ClaimedJobs, SettleJob, result_columns};

const VERB: &str = "run.append";

/// A parameter that belongs to its statement.
type Owned<'a> = Box<dyn ToSql + Sync + Send + 'a>;

/// Something that belongs to a run, and the place of that in the arrays, from 1.
type Of<'a, T> = (i32, &'a T);

/// A batch, taken apart.
struct Parts<'a> {
    runs: Vec<(usize, &'a AppendRun)>,
    entries: Vec<Of<'a, Entry>>,
    taken: Vec<Of<'a, Uuid>>,
    children: Vec<Of<'a, Child>>,
    ended: Vec<Of<'a, SettleJob>>,
}

impl<'a> Parts<'a> {
    fn of(ask: &'a AppendRuns) -> Self {
        let runs = sorted(&ask.runs, |ask| &ask.run);
        let mut parts = Self {
            entries: each(&runs, |ask| &ask.entries),
            taken: each(&runs, |ask| &ask.taken),
            children: each(&runs, |ask| &ask.children),
            ended: each(&runs, |ask| &ask.ended),
            runs,
        };
        // Two batches meet in the same order and never wait for each other in a circle (N33).
        parts.children.sort_by_key(|(_, child)| child.job.id);
        parts.ended.sort_by_key(|(_, ended)| ended.job.id);
        parts
    }

    /// Whether nothing is started and nothing was waited for, as of most steps.
    fn is_short(&self) -> bool {
        self.runs.iter().all(|(_, ask)| ask.is_plain())
    }

    /// Whether a child waits for its turn.
    fn is_ordered(&self) -> bool {
        self.children.iter().any(|(_, child)| child.job.ordering_key.is_some())
    }

    /// The children that are to be claimed at once.
    fn at_once(&self) -> impl Iterator<Item = &'a Child> {
        self.children.iter().map(|(_, child)| *child).filter(|child| child.at_once)
    }

    fn of_runs<V>(&self, value: impl Fn(&'a AppendRun) -> V) -> Vec<V> {
        self.runs.iter().map(|(_, ask)| value(ask)).collect()
    }

    /// One entry of one run, if that is all.
    fn only(&self) -> Option<Vec<Owned<'a>>> {
        let ([(_, ask)], [(_, entry)]) = (self.runs.as_slice(), self.entries.as_slice()) else { return None };
        self.is_short().then(|| -> Vec<Owned<'a>> {
            vec![
                Box::new(ask.run.namespace.as_str()),
                Box::new(ask.run.id.as_uuid()),
                Box::new(ask.session.as_uuid()),
                Box::new(ask.token.get()),
                Box::new(int(entry.seq)),
                Box::new(Instant(entry.at)),
                Box::new(entry.position.as_str()),
                Box::new(entry.op.as_str()),
                Box::new(entry.phase.word()),
                Box::new(entry.name.as_str()),
                Box::new(entry.phase.row_data()),
            ]
        })
    }

    /// All of it, for a statement that takes it.
    fn all(&self, ask: &'a AppendRuns) -> Vec<Owned<'a>> {
        let parts = [self.params(), self.starts(), self.ends(), self.claims(ask)];
        parts.into_iter().flatten().collect()
    }

    /// The runs, and what is added to them.
    fn params(&self) -> Vec<Owned<'a>> {
        let entries = &self.entries;
        vec![
            Box::new(self.of_runs(|ask| ask.run.namespace.as_str())),
            Box::new(self.of_runs(|ask| ask.run.id.as_uuid())),
            Box::new(self.of_runs(|ask| ask.session.as_uuid())),
            Box::new(self.of_runs(|ask| ask.token.get())),
            Box::new(numbers(entries)),
            Box::new(column(entries, |entry| int(entry.seq))),
            Box::new(column(entries, |entry| Instant(entry.at))),
            Box::new(column(entries, |entry| entry.position.as_str())),
            Box::new(column(entries, |entry| entry.op.as_str())),
            Box::new(column(entries, |entry| entry.phase.word())),
            Box::new(column(entries, |entry| entry.name.as_str())),
            Box::new(column(entries, |entry| entry.phase.row_data())),
        ]
    }

    /// What has arrived for them, and the children they start.
    fn starts(&self) -> Vec<Owned<'a>> {
        let (taken, children) = (&self.taken, &self.children);
        vec![
            Box::new(numbers(taken)),
            Box::new(column(taken, |id| *id)),
            Box::new(numbers(children)),
            Box::new(column(children, |child| int(child.seq))),
            Box::new(column(children, |child| child.job.id.as_uuid())),
            Box::new(column(children, |child| child.job.kind.as_str())),
            Box::new(column(children, |child| child.job.queue.as_str())),
            Box::new(column(children, |child| child.job.priority)),
            Box::new(column(children, |child| kept_type(&child.job.payload.content_type))),
            Box::new(column(children, |child| route_of(&child.job))),
            Box::new(column(children, |child| child.job.payload.bytes.as_slice())),
            Box::new(column(children, |child| child.job.spec().to_text())),
            Box::new(column(children, |child| due(&child.job))),
        ]
    }

    /// The children that have ended.
    fn ends(&self) -> Vec<Owned<'a>> {
        let ended = &self.ended;
        let last = |ask: &AppendRun| ask.entries.last().map_or(0, |entry| entry.seq);
        let count = |ask: &AppendRun| i32::try_from(ask.ended.len()).unwrap_or(i32::MAX);
        let result = |ended: &'a SettleJob| result_columns(ended.next.result.as_ref());
        vec![
            Box::new(self.of_runs(count)),
            Box::new(self.of_runs(|ask| int(last(ask)))),
            Box::new(numbers(ended)),
            Box::new(column(ended, |ended| ended.job.id.as_uuid())),
            Box::new(column(ended, |ended| ended.place.0.map(Tid))),
            Box::new(column(ended, |ended| ended.fence.get())),
            Box::new(column(ended, |ended| ended.token.get())),
            Box::new(column(ended, |ended| Instant(ended.started_at))),
            Box::new(column(ended, |ended| ended.worker.as_str())),
            Box::new(column(ended, |ended| int(ended.next.attempt))),
            Box::new(column(ended, |ended| int(ended.next.lost))),
            Box::new(column(ended, |ended| micros(ended.retain))),
            Box::new(column(ended, |ended| result(ended).0)),
            Box::new(column(ended, |ended| result(ended).1)),
            Box::new(column(ended, |ended| result(ended).2)),
        ]
    }

    /// The claims that come and go.
    fn claims(&self, ask: &'a AppendRuns) -> Vec<Owned<'a>> {
        let hand = ask.hand.as_ref();
        vec![
            Box::new(ask.finished.iter().map(|claim| claim.as_uuid()).collect::<Vec<_>>()),
            Box::new(self.at_once().map(|child| child.job.id.as_uuid()).collect::<Vec<_>>()),
            Box::new(hand.map_or("", |hand| hand.namespace.as_str())),
            Box::new(hand.map_or(Uuid::nil(), |hand| hand.session.as_uuid())),
            Box::new(hand.map_or(Uuid::nil(), |hand| hand.claim.as_uuid())),
            Box::new(column(&self.children, |child| child.job.ordering_key.as_ref().map(|key| key.as_str()))),
        ]
    }
}

/// What belongs to the runs, with the place of its run.
fn each<'a, T>(runs: &[(usize, &'a AppendRun)], part: impl Fn(&'a AppendRun) -> &'a [T]) -> Vec<Of<'a, T>> {
    let numbered = (1..).zip(runs);
    numbered.flat_map(|(n, (_, ask))| part(ask).iter().map(move |item| (n, item))).collect()
}

fn column<'a, T, V>(items: &[Of<'a, T>], value: impl Fn(&'a T) -> V) -> Vec<V> {
    items.iter().map(|(_, item)| value(item)).collect()
}

fn numbers<T>(items: &[Of<'_, T>]) -> Vec<i32> {
    items.iter().map(|(of, _)| *of).collect()
}

impl Inner {
    pub(super) async fn run_append(&self, ask: &AppendRuns) -> Result<Appended> {
        let parts = Parts::of(ask);
        // Those that were sent before may have been claimed before.
        let again = self.were_sent(parts.at_once().map(|child| child.job.id));
        let fresh = if again || parts.is_ordered() { None } else { self.append_fresh(ask, &parts).await? };
        let rows = match fresh {
            Some(rows) => rows,
            None => self.append_any(ask, &parts).await?,
        };
        let mut appended = answers(&parts, &rows)?;
        if let (true, Some(hand)) = (again, &ask.hand) {
            appended.claimed = self.claimed_again(hand.claim).await?;
        }
        appended.claimed.jobs.sort_by_key(|claimed| edge_of(&claimed.job));
        let claimed: HashSet<JobId> = appended.claimed.jobs.iter().map(|claimed| claimed.job.id).collect();
        if parts.is_ordered() {
            self.admit_soon().await;
        }
        let children = parts.children.iter().map(|(_, child)| &child.job);
        self.tell_of(children.filter(|child| !claimed.contains(&child.id)));
        Ok(appended)
    }

    /// Adds what was never added before, as nearly everything is; `None` where some of it was, and nothing is written.
    async fn append_fresh(&self, ask: &AppendRuns, parts: &Parts<'_>) -> Result<Option<Vec<Row>>> {
        let (statement, params) = match parts.only() {
            Some(params) => (&self.sql.run_append_entry, params),
            None if parts.is_short() => (&self.sql.run_append_entries, parts.params()),
            None => (&self.sql.run_append_fresh, parts.all(ask)),
        };
        let params = borrowed(&params);
        let call = Call { verb: VERB, statement, params: &params, rows: ask.runs.len() };
        Link::idlest(&self.begin).write_unless_taken(&call).await
    }

    async fn append_any(&self, ask: &AppendRuns, parts: &Parts<'_>) -> Result<Vec<Row>> {
        let statement = if parts.is_ordered() { &self.sql.run_append_ordered } else { &self.sql.run_append };
        let params = parts.all(ask);
        let params = borrowed(&params);
        let call = Call { verb: VERB, statement, params: &params, rows: ask.runs.len() };
        Link::idlest(&self.begin).write(&call).await
    }

    /// Whether any of these may have been sent before; from now on all of them were.
    fn were_sent(&self, ids: impl Iterator<Item = JobId>) -> bool {
        let now = self.clock.wall();
        let mut sent = self.jobs.sent();
        ids.filter(|id| !sent.is_first(*id, now)).count() > 0
    }
}

fn borrowed<'a>(params: &'a [Owned<'_>]) -> Vec<Param<'a>> {
    params.iter().map(|param| &**param as Param<'_>).collect()
}

/// What the rows say: of the runs, and of the children that were claimed.
fn answers(parts: &Parts<'_>, rows: &[Row]) -> Result<Appended> {
    let mut appended = Appended { added: vec![false; parts.runs.len()], claimed: ClaimedJobs::default() };
    let mut open: HashMap<JobId, &Child> = parts.at_once().map(|child| (child.job.id, child)).collect();
    for row in rows {
        let mut columns = Columns::of(row);
        if let Some(n) = columns.get::<Option<i64>>()? {
            let at = usize::try_from(n).ok().and_then(|n| parts.runs.get(n.checked_sub(1)?));
            let slot = at.and_then(|(at, _)| appended.added.get_mut(*at)).ok_or_else(|| unasked(VERB))?;
            *slot = true;
            continue;
        }
        let token = columns.token()?;
        appended.claimed.now = columns.time()?;
        let id = JobId::from_uuid(columns.get::<Uuid>()?);
        let child = open.remove(&id).ok_or_else(|| unasked(VERB))?;
        let row = Record::of_new(&child.job, appended.claimed.now);
        appended.claimed.jobs.push(Claimed { job: Record { place: columns.place()?, ..row }, token });
    }
    Ok(appended)
}
