//! Enqueueing.
//!
//! Jobs of which nobody can have heard are not looked for, and those without keys go the short way. What may have been
//! sent before is looked for first, among what waits and what is over.

use std::collections::HashMap;

use futures_util::future::join;
use onceward_core::job::{self, DedupeScope, New, OnConflict};
use onceward_core::{Code, Error, JobId, Namespace, Queue, Result, Timestamp};
use tokio_postgres::Row;
use uuid::Uuid;

use super::super::Inner;
use super::super::lease::{ROUNDS, in_the_way};
use super::super::link::{Call, Link};
use super::super::live::Param;
use super::super::row::{Columns, micros, millis};
use super::super::statements::Statement;
use super::super::wake::Ride;
use super::rows::kept_type;
use crate::store::{Enqueued, JobRef};

const VERB: &str = "job.enqueue";

/// How many jobs are worth two statements at the same time.
const HALVES_FROM: usize = 256;

/// One job of a batch, and where its answer belongs.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) at: usize,
    pub(super) new: &'a New,
}

/// How jobs of which nobody has heard are sent.
pub(super) struct Sending<'a> {
    pub(super) statement: &'a Statement,
    pub(super) link: &'a Link,
    /// From when on those are due that are due at once or after a while, where that is not for the statement to say.
    pub(super) now: Option<Timestamp>,
}

impl Inner {
    pub(super) async fn job_enqueue(&self, batch: &[New]) -> Result<Vec<Enqueued>> {
        let mut entries: Vec<Entry<'_>> =
            batch.iter().enumerate().map(|(at, new)| Entry { at, new }).collect();
        // Two batches meet in the same order and never wait for each other in a circle (N33).
        entries.sort_by_key(|entry| entry.new.id);
        let mut answers: Vec<Enqueued> = batch.iter().map(|new| Enqueued::Created(new.id)).collect();
        let (mut open, heard) = self.partition(entries);
        open.extend(self.unknown(heard).await?);
        open.sort_by_key(|entry| entry.new.id);
        let keyed = |Entry { new, .. }: &Entry<'_>| {
            new.key.is_some() || new.dedupe.is_some() || new.ordering_key.is_some()
        };
        // All of a batch go the same way, so that all of it has the same time.
        if !open.is_empty() && !open.iter().any(keyed) {
            // Behind one of two statements it might arrive before the other one has ended.
            let ride = if open.len() < HALVES_FROM { self.wakes.ride(queues_of(batch)) } else { None };
            let may_ride = ride.is_some();
            let (written, left) = self.enqueue_new(&open, ride).await?;
            if written && may_ride && left.is_none() {
                queues_of(batch).for_each(|(of, queue)| self.wakes.tell_jobs_without_notify(of, queue));
                return Ok(answers);
            }
            if written {
                open.clear();
            }
        }
        if !open.is_empty() {
            self.enqueue_any(open, &mut answers).await?;
        }
        self.tell_of(batch);
        Ok(answers)
    }

    /// Tells workers that jobs are ready.
    pub(super) fn tell_of<'a>(&self, jobs: impl IntoIterator<Item = &'a New>) {
        queues_of(jobs).for_each(|(namespace, queue)| self.wakes.tell_jobs(namespace, queue));
    }

    /// Those that surely were not sent before, and the others.
    pub(super) fn partition<'a>(&self, entries: Vec<Entry<'a>>) -> (Vec<Entry<'a>>, Vec<Entry<'a>>) {
        let now = self.clock.wall();
        let mut sent = self.jobs.sent();
        entries.into_iter().partition(|Entry { new, .. }| sent.is_first(new.id, now))
    }

    /// Those of which there is nothing, neither among what waits nor among what is over.
    async fn unknown<'a>(&self, entries: Vec<Entry<'a>>) -> Result<Vec<Entry<'a>>> {
        if entries.is_empty() {
            return Ok(entries);
        }
        let params: &[Param<'_>] =
            &[&column(&entries, |new| new.namespace.as_str()), &column(&entries, |new| new.id.as_uuid())];
        let call = Call { verb: VERB, statement: &self.sql.job_settle_why, params, rows: entries.len() };
        let mut left: Vec<Option<Entry<'a>>> = entries.into_iter().map(Some).collect();
        for row in Link::idlest(&self.begin).read(&call).await? {
            let n: i64 = Columns::of(&row).get()?;
            if let Some(slot) = usize::try_from(n).ok().and_then(|n| left.get_mut(n.checked_sub(1)?)) {
                *slot = None;
            }
        }
        Ok(left.into_iter().flatten().collect())
    }

    /// Writes jobs of which nobody has heard; `false` if somebody has after all, and nothing was written. With it the
    /// hint that did not ride.
    async fn enqueue_new(&self, entries: &[Entry<'_>], ride: Option<Ride>) -> Result<(bool, Option<Ride>)> {
        let mut ride = ride;
        if entries.len() >= HALVES_FROM {
            return Ok((self.enqueue_halves(entries).await?, ride));
        }
        let sent = Sending { statement: &self.sql.enqueue_new, link: Link::idlest(&self.begin), now: None };
        let written = self.write_new(&sent, entries, &[], &mut ride).await?;
        Ok((written.is_some(), ride))
    }

    /// Writes many jobs by two statements at the same time, so that the server works on both halves; `false` if
    /// somebody has heard of some. All of them are due at the same moment, and so stay in the order of their ids.
    async fn enqueue_halves(&self, entries: &[Entry<'_>]) -> Result<bool> {
        let now = self.time_of_jobs().await?;
        let [a, b] = &self.begin;
        let sent = |link| Sending { statement: &self.sql.enqueue_new, link, now: Some(now) };
        let (a, b) = (sent(a), sent(b));
        let (first, second) = entries.split_at(entries.len() / 2);
        let (mut no, mut none) = (None, None);
        let first = self.write_new(&a, first, &[], &mut no);
        let written = join(first, self.write_new(&b, second, &[], &mut none)).await;
        match written {
            (Ok(first), Ok(second)) => Ok(first.is_some() && second.is_some()),
            // Half of them may be there: whoever sends them again finds those.
            (Err(error), Ok(Some(_))) | (Ok(Some(_)), Err(error)) => Err(error.uncertain()),
            (Err(first), Err(second)) if second.is_uncertain() => Err(first.uncertain()),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// What time it is for jobs that are due at once.
    async fn time_of_jobs(&self) -> Result<Timestamp> {
        let call = Call { verb: VERB, statement: &self.sql.enqueue_now, params: &[], rows: 1 };
        let rows = self.read.read(&call).await?;
        let row = rows.first().ok_or_else(|| Error::new(Code::RowUnreadable, "no time was told").at(VERB))?;
        Columns::of(row).time()
    }

    /// Sends a statement that writes jobs of which nobody has heard; `None` if somebody has, and nothing was written.
    pub(super) async fn write_new(
        &self,
        sent: &Sending<'_>,
        entries: &[Entry<'_>],
        more: &[Param<'_>],
        ride: &mut Option<Ride>,
    ) -> Result<Option<Vec<Row>>> {
        let shapes = Shapes::of(entries);
        let specs: Vec<Option<String>> = entries.iter().map(|entry| entry.new.spec().to_text()).collect();
        let params: &[Param<'_>] = &[
            &shapes.column(|new| new.namespace.as_str()),
            &shapes.column(|new| new.kind.as_str()),
            &shapes.column(|new| new.queue.as_str()),
            &shapes.column(|new| new.priority),
            &shapes.column(|new| kept_type(&new.payload.content_type)),
            &shapes.column(route_of),
            &shapes.of,
            &column(entries, |new| new.id.as_uuid()),
            &column(entries, |new| new.payload.bytes.as_slice()),
            &specs,
            &column(entries, |new| match (due(new), sent.now) {
                (Some(span), Some(now)) if span < 0 => Some(now.as_micros().saturating_sub(span)),
                (due, now) => due.or(now.map(|now| now.as_micros())),
            }),
        ];
        let params = &[params, more].concat();
        let call = Call { verb: VERB, statement: sent.statement, params, rows: entries.len() };
        sent.link.write_unless_taken_with(&call, ride).await
    }

    async fn enqueue_any(&self, entries: Vec<Entry<'_>>, answers: &mut [Enqueued]) -> Result<()> {
        let ordered = entries.iter().any(|entry| entry.new.ordering_key.is_some());
        let mut open = entries;
        for _ in 0..ROUNDS {
            let rows = self.enqueue_round(&open).await?;
            let mut again = Vec::new();
            for (entry, met) in open.iter().zip(met(&open, &rows)?) {
                match (met.answer(entry.new), answers.get_mut(entry.at)) {
                    (Some(answer), Some(slot)) => *slot = answer,
                    _ => {
                        self.let_go(entry.new).await?;
                        again.push(*entry);
                        continue;
                    }
                }
                // Whose idempotency key was found has been answered by it: then nothing is replaced.
                if met.dedupe_id.is_some() && met.key_id.is_none() && !met.made {
                    self.replace(entry.new, met.dedupe_id).await?;
                }
            }
            open = self.unknown(again).await?;
            if open.is_empty() {
                if ordered {
                    self.admit_soon().await;
                }
                return Ok(());
            }
        }
        Err(in_the_way(VERB))
    }

    async fn enqueue_round(&self, entries: &[Entry<'_>]) -> Result<Vec<Row>> {
        let specs: Vec<Option<String>> = entries.iter().map(|entry| entry.new.spec().to_text()).collect();
        let scope = |new: &New| new.dedupe.as_ref().map(|dedupe| dedupe.scope);
        let params: &[Param<'_>] = &[
            &column(entries, |new| new.namespace.as_str()),
            &column(entries, |new| new.kind.as_str()),
            &column(entries, |new| new.queue.as_str()),
            &column(entries, |new| new.priority),
            &column(entries, |new| kept_type(&new.payload.content_type)),
            &column(entries, route_of),
            &column(entries, |new| new.id.as_uuid()),
            &column(entries, |new| new.payload.bytes.as_slice()),
            &specs,
            &column(entries, due),
            &column(entries, |new| new.ordering_key.as_ref().map(|key| key.as_str())),
            &column(entries, |new| new.key.as_ref().map(|key| key.key.as_str())),
            &column(entries, |new| new.key.as_ref().map(|key| key.fingerprint.0.as_slice())),
            &column(entries, |new| new.key.as_ref().map(|key| millis(key.ttl))),
            &column(entries, |new| new.dedupe.as_ref().map(|dedupe| dedupe.key.as_str())),
            &column(entries, |new| match scope(new) {
                Some(DedupeScope::Window(window)) => Some(millis(window)),
                _ => None,
            }),
            &column(entries, |new| scope(new) == Some(DedupeScope::UntilStarted)),
            &column(entries, |new| scope(new) == Some(DedupeScope::UntilDone)),
        ];
        let call = Call { verb: VERB, statement: &self.sql.enqueue, params, rows: entries.len() };
        // What has keys may meet somebody's open transaction: it goes where only single rows would wait behind it.
        let link = if entries.len() == 1 { &self.apart } else { Link::idlest(&self.begin) };
        link.write(&call).await
    }

    /// Lets go of a key that this job has got while it lost a race for its other one.
    async fn let_go(&self, new: &New) -> Result<()> {
        let (Some(key), Some(dedupe)) = (&new.key, &new.dedupe) else { return Ok(()) };
        let call = Call {
            verb: VERB,
            statement: &self.sql.enqueue_left,
            params: &[&new.namespace.as_str(), &key.key.as_str(), &dedupe.key.as_str(), &new.id.as_uuid()],
            rows: 1,
        };
        self.apart.write(&call).await.map(drop)
    }

    /// Gives the job that has the dedupe key what the newcomer wants, if it still waits.
    async fn replace(&self, new: &New, of: Option<JobId>) -> Result<()> {
        let on_conflict = new.dedupe.as_ref().map(|dedupe| dedupe.on_conflict);
        let (Some(on_conflict), Some(id)) = (on_conflict, of) else { return Ok(()) };
        if on_conflict == OnConflict::Existing || id == new.id {
            return Ok(());
        }
        let job = JobRef { namespace: new.namespace.clone(), id };
        for _ in 0..ROUNDS {
            let seen = self.lookup_jobs(VERB, &self.apart, core::slice::from_ref(&job)).await?;
            let Some(row) = seen.rows.into_iter().next().flatten() else { return Ok(()) };
            if row.running.is_some()
                || row.state.is_final()
                || self.replace_now(new, &row, on_conflict).await?
            {
                return Ok(());
            }
        }
        // It is being claimed, or somebody holds it: then it does not wait any more.
        Ok(())
    }

    async fn replace_now(&self, new: &New, row: &job::Record, on_conflict: OnConflict) -> Result<bool> {
        let next = new.onto(row);
        let replaces = on_conflict == OnConflict::Replace;
        let call = Call {
            verb: VERB,
            statement: &self.sql.enqueue_replace,
            params: &[
                &row.namespace.as_str(),
                &row.id.as_uuid(),
                &row.token.get(),
                &replaces.then_some(next.payload.bytes.as_slice()),
                &kept_type(&next.payload.content_type),
                &next.spec().to_text(),
                &(!next.tags.is_empty()).then(|| job::route(&next.tags)),
                &due(new),
                &(on_conflict == OnConflict::PushOut),
            ],
            rows: 1,
        };
        Ok(!self.apart.write(&call).await?.is_empty())
    }
}

/// The queues of jobs: mostly all of a batch go to the same one, which is named once.
fn queues_of<'a>(
    jobs: impl IntoIterator<Item = &'a New>,
) -> impl Iterator<Item = (&'a Namespace, &'a Queue)> {
    let mut last = None;
    let queues = jobs.into_iter().map(|new| (&new.namespace, &new.queue));
    queues.filter(move |queue| last.replace(*queue) != Some(*queue))
}

/// What the statement said about one job.
#[derive(Clone, Copy, Default)]
struct Met {
    made: bool,
    key_id: Option<JobId>,
    same: bool,
    dedupe_id: Option<JobId>,
}

impl Met {
    fn answer(self, new: &New) -> Option<Enqueued> {
        match self {
            Self { made: true, .. } => Some(Enqueued::Created(new.id)),
            Self { key_id: Some(id), .. } if id == new.id => Some(Enqueued::Created(id)),
            Self { key_id: Some(id), same: true, .. } => Some(Enqueued::Existing(id)),
            Self { key_id: Some(id), .. } => Some(Enqueued::Mismatch(id)),
            Self { dedupe_id: Some(id), .. } if id == new.id => Some(Enqueued::Created(id)),
            Self { dedupe_id: Some(id), .. } => Some(Enqueued::Existing(id)),
            _ => None,
        }
    }
}

fn met(entries: &[Entry<'_>], rows: &[Row]) -> Result<Vec<Met>> {
    let mut all = vec![Met::default(); entries.len()];
    for row in rows {
        let mut columns = Columns::of(row);
        let n: i64 = columns.get()?;
        let slot = usize::try_from(n).ok().and_then(|n| all.get_mut(n.checked_sub(1)?));
        let slot =
            slot.ok_or_else(|| Error::new(Code::RowUnreadable, "an answer to no question").at(VERB))?;
        *slot = Met {
            made: columns.get()?,
            key_id: columns.get::<Option<Uuid>>()?.map(JobId::from_uuid),
            same: columns.get()?,
            dedupe_id: columns.get::<Option<Uuid>>()?.map(JobId::from_uuid),
        };
    }
    Ok(all)
}

/// What jobs have in common, said once: of each shape the first job that has it, and which one each job has.
struct Shapes<'a> {
    first: Vec<&'a New>,
    of: Vec<i32>,
}

impl<'a> Shapes<'a> {
    fn of(entries: &[Entry<'a>]) -> Self {
        let mut shapes = Self { first: Vec::new(), of: Vec::with_capacity(entries.len()) };
        let mut numbers = HashMap::new();
        let mut last: Option<(&New, i32)> = None;
        for Entry { new, .. } in entries {
            let number = match last {
                Some((shape, number)) if name_of(shape) == name_of(new) => number,
                _ => *numbers.entry(name_of(new)).or_insert_with(|| {
                    shapes.first.push(new);
                    i32::try_from(shapes.first.len()).unwrap_or(i32::MAX)
                }),
            };
            last = Some((new, number));
            shapes.of.push(number);
        }
        shapes
    }

    fn column<V>(&self, value: impl Fn(&'a New) -> V) -> Vec<V> {
        self.first.iter().copied().map(value).collect()
    }
}

/// What makes a shape.
type Name<'a> = (&'a str, &'a str, &'a str, i16, &'a str, &'a [onceward_core::Tag]);

fn name_of(new: &New) -> Name<'_> {
    let (namespace, kind, queue) = (new.namespace.as_str(), new.kind.as_str(), new.queue.as_str());
    (namespace, kind, queue, new.priority, new.payload.content_type.as_str(), new.tags.as_slice())
}

fn column<'a, V>(entries: &[Entry<'a>], value: impl Fn(&'a New) -> V) -> Vec<V> {
    entries.iter().map(|entry| value(entry.new)).collect()
}

pub(super) fn route_of(new: &New) -> Option<String> {
    (!new.tags.is_empty()).then(|| job::route(&new.tags))
}

/// When it is due, as the statements take it: microseconds since 1970, or negative from now on, or at once.
pub(super) fn due(new: &New) -> Option<i64> {
    match new.delay {
        Some(delay) => Some(-micros(delay)).filter(|span| *span < 0),
        None => new.run_at.map(|at| at.as_micros().max(0)),
    }
}
