//! Claiming, and writing down that a handler starts.

use core::time::Duration;

use onceward_core::job::Claimed;
use onceward_core::job::tuning::Tuning;
use onceward_core::{ClaimId, Code, Error, Queue, Result, Timestamp, Token};
use tokio_postgres::Row;
use uuid::Uuid;

use super::super::Inner;
use super::super::link::{Call, Link};
use super::super::live::Param;
use super::super::row::{Columns, Instant};
use super::edges::{Edge, Lane};
use super::rows::Names;
use crate::store::{ClaimJobs, ClaimedJobs, Want};

const VERB: &str = "job.claim";

/// How often jobs of a claim are looked for that were not where their lanes said.
const LOOKS: usize = 3;

/// What a claim took from the lanes.
struct Taken {
    now: Timestamp,
    took: Duration,
    limited: Vec<Queue>,
    /// The queues that were met in which waiting counts, and how, if this claim went by it.
    aged: Vec<(Queue, Tuning)>,
    jobs: Vec<Claimed>,
    /// Those that were not where their lanes said.
    missing: Vec<Uuid>,
}

impl Inner {
    pub(super) async fn job_claim(&self, ask: &ClaimJobs) -> Result<ClaimedJobs> {
        let limit = if ask.alone { ask.limit.min(1) } else { ask.limit };
        let wants: Vec<&Want> = ask.wants.iter().filter(|want| want.limit > 0).collect();
        if wants.is_empty() || limit == 0 {
            return Ok(ClaimedJobs::default());
        }
        let lanes: Vec<Lane> = wants.iter().map(|want| lane_of(ask, want)).collect();
        let mut edges = self.edges_of(&lanes);
        loop {
            let ages = self.ages(ask, &wants);
            let rows = match ages {
                true => self.claim_aged(ask, &wants, limit).await?,
                false => self.claim_once(ask, &wants, &edges, limit).await?,
            };
            let Some(rows) = rows.filter(|rows| !is_known(rows)) else {
                let again = self.claimed_again(ask.claim).await?;
                // All of it may have ended since.
                if again.jobs.is_empty() && again.now == Timestamp::default() {
                    continue;
                }
                return Ok(again);
            };
            let Some(taken) = taken(&rows)? else { continue };
            self.note_aged(ask, &wants, &taken, ages);
            if ages {
                return self.complete(ask, taken).await;
            }
            self.note_edge(&lanes, &edges, &taken);
            if taken.jobs.is_empty() && taken.missing.is_empty() && !taken.aged.is_empty() {
                // It was not known that waiting counts there.
                continue;
            }
            if taken.jobs.is_empty() && taken.missing.is_empty() && self.looks_again(&lanes, &edges) {
                edges = vec![Edge::START; lanes.len()];
                continue;
            }
            return self.complete(ask, taken).await;
        }
    }

    /// Whether waiting counts as priority in one of these queues, as far as this process knows.
    fn ages(&self, ask: &ClaimJobs, wants: &[&Want]) -> bool {
        let aged = self.jobs.aged();
        !aged.is_empty()
            && wants.iter().any(|want| aged.contains(&(ask.namespace.clone(), want.queue.clone())))
    }

    /// Remembers in which of these queues waiting counts.
    fn note_aged(&self, ask: &ClaimJobs, wants: &[&Want], taken: &Taken, ages: bool) {
        if !ages && taken.aged.is_empty() {
            return;
        }
        let mut aged = self.jobs.aged();
        for queue in wants.iter().filter(|_| ages).map(|want| &want.queue) {
            aged.remove(&(ask.namespace.clone(), queue.clone()));
        }
        aged.extend(taken.aged.iter().map(|(queue, _)| (ask.namespace.clone(), queue.clone())));
    }

    fn edges_of(&self, lanes: &[Lane]) -> Vec<Edge> {
        let known = self.jobs.edges();
        lanes.iter().map(|lane| known.of(lane)).collect()
    }

    /// Whether nothing was found because it was not looked from the beginning, and it is worth looking there.
    fn looks_again(&self, lanes: &[Lane], from: &[Edge]) -> bool {
        let mut known = self.jobs.edges();
        let mut late = lanes.iter().zip(from).filter(|(_, from)| **from != Edge::START).peekable();
        late.peek().is_some() && late.all(|(lane, _)| known.looks_again(lane))
    }

    /// Remembers how far the lane was read, if there was one; of several nobody knows which one was slow.
    fn note_edge(&self, lanes: &[Lane], from: &[Edge], taken: &Taken) {
        if let ([lane], [from]) = (lanes, from) {
            let last = taken.jobs.iter().map(|claimed| edge_of(&claimed.job)).max();
            self.jobs.edges().note(lane.clone(), *from, last, taken.jobs.len(), taken.took);
        }
    }

    /// Takes jobs; `None` if there is a claim of that id already.
    async fn claim_once(
        &self,
        ask: &ClaimJobs,
        wants: &[&Want],
        edges: &[Edge],
        limit: usize,
    ) -> Result<Option<Vec<Row>>> {
        let (session, claim) = (ask.session.as_uuid(), ask.claim.as_uuid());
        let namespace = ask.namespace.as_str();
        let link = Link::idlest(&self.take);
        if let (false, [want], [edge]) = (ask.permitted, wants, edges) {
            let params: &[Param<'_>] = &[
                &namespace,
                &session,
                &claim,
                &want.queue.as_str(),
                &want.kind.as_str(),
                &want.route,
                &ask.alone,
                &super::super::limit(want.limit.min(limit)),
                &edge.rank,
                &Instant(edge.run_at),
                &edge.id.as_uuid(),
            ];
            let call = Call { verb: VERB, statement: &self.sql.claim_one, params, rows: limit };
            return link.write_unless_taken(&call).await;
        }
        let params: &[Param<'_>] = &[
            &namespace,
            &session,
            &claim,
            &column(wants, |want| want.queue.as_str()),
            &column(wants, |want| want.kind.as_str()),
            &column(wants, |want| want.route.as_str()),
            &column(wants, |want| super::super::limit(want.limit)),
            &ask.alone,
            &super::super::limit(limit),
            &column(edges, |edge| edge.rank),
            &column(edges, |edge| Instant(edge.run_at)),
            &column(edges, |edge| edge.id.as_uuid()),
        ];
        let statement = if ask.permitted { &self.sql.claim_permitted } else { &self.sql.claim_many };
        let call = Call { verb: VERB, statement, params, rows: limit };
        link.write_unless_taken(&call).await
    }

    /// The same where waiting counts as priority in some of the queues.
    async fn claim_aged(&self, ask: &ClaimJobs, wants: &[&Want], limit: usize) -> Result<Option<Vec<Row>>> {
        let params: &[Param<'_>] = &[
            &ask.namespace.as_str(),
            &ask.session.as_uuid(),
            &ask.claim.as_uuid(),
            &column(wants, |want| want.queue.as_str()),
            &column(wants, |want| want.kind.as_str()),
            &column(wants, |want| want.route.as_str()),
            &column(wants, |want| super::super::limit(want.limit)),
            &ask.alone,
            &super::super::limit(limit),
            &ask.permitted,
        ];
        let call = Call { verb: VERB, statement: &self.sql.claim_aged, params, rows: limit };
        Link::idlest(&self.take).write_unless_taken(&call).await
    }

    /// Looks for the jobs that were not where their lanes said, and puts all of them in order.
    async fn complete(&self, ask: &ClaimJobs, taken: Taken) -> Result<ClaimedJobs> {
        let Taken { now, mut jobs, mut missing, limited, aged, .. } = taken;
        for _ in 0..LOOKS {
            if missing.is_empty() {
                break;
            }
            let params: &[Param<'_>] = &[&ask.claim.as_uuid(), &missing];
            let call = Call { verb: VERB, statement: &self.sql.claim_moved, params, rows: missing.len() };
            let found = claimed(&Link::idlest(&self.end).read(&call).await?)?.jobs;
            missing.retain(|id| found.iter().all(|found| found.job.id.as_uuid() != *id));
            jobs.extend(found);
        }
        // What could not be read stays in the claim, and is rescued with it.
        jobs.retain(|claimed| claimed.job.token < claimed.token);
        jobs.sort_by_key(|claimed| {
            let (edge, queue) = (edge_of(&claimed.job), &claimed.job.queue);
            let tuning = aged.iter().find(|(aged, _)| aged == queue);
            let tuning = tuning.map_or_else(Tuning::default, |(_, tuning)| *tuning);
            (tuning.rank(edge.rank.into(), edge.run_at, now), edge.run_at, edge.id)
        });
        Ok(ClaimedJobs { jobs, now, limited })
    }

    /// What a claim that was made before still holds, in its order; a time of zero if there is no such claim any more.
    pub(super) async fn claimed_again(&self, claim: ClaimId) -> Result<ClaimedJobs> {
        let params: &[Param<'_>] = &[&claim.as_uuid()];
        let call = Call { verb: VERB, statement: &self.sql.claim_again, params, rows: 1 };
        claimed(&Link::idlest(&self.end).read(&call).await?)
    }
}

fn lane_of(ask: &ClaimJobs, want: &Want) -> Lane {
    Lane {
        namespace: ask.namespace.clone(),
        queue: want.queue.clone(),
        kind: want.kind.clone(),
        route: want.route.clone(),
        alone: ask.alone,
    }
}

pub(super) fn edge_of(job: &onceward_core::job::Record) -> Edge {
    Edge { rank: job.priority.saturating_neg(), run_at: job.run_at, id: job.id }
}

fn column<T, V>(items: &[T], value: impl Fn(&T) -> V) -> Vec<V> {
    items.iter().map(value).collect()
}

/// Whether there was such a claim before.
fn is_known(rows: &[Row]) -> bool {
    rows.first().is_some_and(|row| Columns::of(row).get().unwrap_or(false))
}

/// The rows of the steps that claim.
fn taken(rows: &[Row]) -> Result<Option<Taken>> {
    let mut taken: Option<Taken> = None;
    let mut names = Names::default();
    for row in rows {
        let mut columns = Columns::of(row);
        columns.skip(1);
        let limited = columns.get::<Option<Vec<&str>>>()?.unwrap_or_default();
        let queues = columns.get::<Option<Vec<&str>>>()?.unwrap_or_default();
        let mut spans = columns.get::<Option<Vec<i64>>>()?.unwrap_or_default().into_iter();
        let token = columns.get::<Option<i64>>()?.map(Token::from_row);
        let (now, took) = (columns.time()?, columns.seconds()?);
        let taken = taken.get_or_insert_with(|| Taken {
            now,
            took,
            limited: limited.iter().copied().map(Queue::from_row).collect(),
            aged: queues.into_iter().map(|queue| (Queue::from_row(queue), aged(spans.next()))).collect(),
            jobs: Vec::with_capacity(rows.len()),
            missing: Vec::new(),
        });
        let Some(token) = token else { continue };
        match columns.get::<Option<Uuid>>()? {
            Some(missing) => taken.missing.push(missing),
            None => taken.jobs.push(Claimed { job: columns.job(&mut names)?, token }),
        }
        taken.took = taken.took.min(took);
    }
    Ok(taken)
}

fn aged(span: Option<i64>) -> Tuning {
    let ageing = span.map(|span| Duration::from_micros(span.unsigned_abs()));
    Tuning { ageing, ..Tuning::default() }
}

/// The rows of the steps that read a claim.
fn claimed(rows: &[Row]) -> Result<ClaimedJobs> {
    let mut claimed = ClaimedJobs::default();
    let mut names = Names::default();
    for row in rows {
        let mut columns = Columns::of(row);
        let token = columns.token()?;
        claimed.now = columns.time()?;
        if !columns.at_null() {
            claimed.jobs.push(Claimed { job: columns.job(&mut names)?, token });
        }
    }
    Ok(claimed)
}

/// The error for a statement that answers what nobody asked.
pub(super) fn unasked(verb: &'static str) -> Error {
    Error::new(Code::RowUnreadable, "an answer to no question").at(verb)
}
