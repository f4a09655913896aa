//! Runs: their journals, and what has arrived for them.

use async_trait::async_trait;
use onceward_core::job::State;
use onceward_core::run::{Arrival, Arrived, Entry, Op, Phase, Position};
use onceward_core::{Code, Error, JobId, Namespace, Queue, Result};
use tokio_postgres::Row;
use uuid::Uuid;

use super::super::link::{Call, Link};
use super::super::live::Param;
use super::super::row::{Columns, Instant};
use super::super::{Inner, PostgresStore};
use super::claim::unasked;
use crate::store::{
    AppendRuns, Appended, ContinueRun, ForkRun, JobRef, LoadRun, NoteArrivals, RunStore, TellRun, Told, Woken,
};

/// A batch in the order in which rows are locked everywhere, each with its place among the answers.
pub(super) fn sorted<T>(batch: &[T], run: impl Fn(&T) -> &JobRef) -> Vec<(usize, &T)> {
    let mut sorted: Vec<(usize, &T)> = batch.iter().enumerate().collect();
    sorted.sort_by(|(_, a), (_, b)| run(a).cmp(run(b)));
    sorted
}

pub(super) fn int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

impl Inner {
    async fn run_continue(&self, batch: &[ContinueRun]) -> Result<Vec<bool>> {
        let runs = sorted(batch, |ask| &ask.run);
        let begins = |ask: &ContinueRun| ask.turn.entries.first().map(|entry| entry.phase.row_data());
        let entries = || {
            (1_i32..)
                .zip(&runs)
                .flat_map(|(of, (_, ask))| ask.turn.entries.iter().map(move |entry| (of, entry)))
        };
        let params: &[Param<'_>] = &[
            &runs.iter().map(|(_, ask)| ask.run.namespace.as_str()).collect::<Vec<_>>(),
            &runs.iter().map(|(_, ask)| ask.run.id.as_uuid()).collect::<Vec<_>>(),
            &runs.iter().map(|(_, ask)| ask.session.as_uuid()).collect::<Vec<_>>(),
            &runs.iter().map(|(_, ask)| ask.token.get()).collect::<Vec<_>>(),
            &runs.iter().map(|(_, ask)| int(ask.turn.seq)).collect::<Vec<_>>(),
            &runs.iter().map(|(_, ask)| ask.turn.args.as_slice()).collect::<Vec<_>>(),
            &runs.iter().map(|(_, ask)| begins(ask)).collect::<Vec<_>>(),
            &entries().map(|(of, _)| of).collect::<Vec<_>>(),
            &entries().map(|(_, entry)| int(entry.seq)).collect::<Vec<_>>(),
            &entries().map(|(_, entry)| Instant(entry.at)).collect::<Vec<_>>(),
            &entries().map(|(_, entry)| entry.position.as_str()).collect::<Vec<_>>(),
            &entries().map(|(_, entry)| entry.op.as_str()).collect::<Vec<_>>(),
            &entries().map(|(_, entry)| entry.phase.word()).collect::<Vec<_>>(),
            &entries().map(|(_, entry)| entry.name.as_str()).collect::<Vec<_>>(),
            &entries().map(|(_, entry)| entry.phase.row_data()).collect::<Vec<_>>(),
        ];
        let call =
            Call { verb: "run.continue", statement: &self.sql.run_continue, params, rows: batch.len() };
        let mut continued = vec![false; batch.len()];
        for row in Link::idlest(&self.begin).write(&call).await? {
            let n: i64 = Columns::of(&row).get()?;
            let at = usize::try_from(n).ok().and_then(|n| runs.get(n.checked_sub(1)?));
            let slot = at.and_then(|(at, _)| continued.get_mut(*at));
            *slot.ok_or_else(|| unasked("run.continue"))? = true;
        }
        Ok(continued)
    }

    async fn run_load(&self, asks: &[LoadRun]) -> Result<Vec<Vec<Entry>>> {
        let params: &[Param<'_>] = &[
            &asks.iter().map(|ask| ask.run.namespace.as_str()).collect::<Vec<_>>(),
            &asks.iter().map(|ask| ask.run.id.as_uuid()).collect::<Vec<_>>(),
            &asks.iter().map(|ask| int(ask.from)).collect::<Vec<_>>(),
            &asks.iter().map(|ask| super::super::limit(ask.limit)).collect::<Vec<_>>(),
        ];
        let call = Call { verb: "run.load", statement: &self.sql.run_load, params, rows: asks.len() };
        let mut parts = of_each(&call, &self.begin_any().read(&call).await?, entry)?;
        // As they come mostly, but not as anybody has said they would.
        parts.iter_mut().for_each(|part| part.sort_by_key(|entry| entry.seq));
        Ok(parts)
    }

    async fn run_arrived(&self, runs: &[JobRef]) -> Result<Vec<Vec<Arrival>>> {
        let params: &[Param<'_>] = &[
            &runs.iter().map(|run| run.namespace.as_str()).collect::<Vec<_>>(),
            &runs.iter().map(|run| run.id.as_uuid()).collect::<Vec<_>>(),
        ];
        let call = Call { verb: "run.arrived", statement: &self.sql.run_arrived, params, rows: runs.len() };
        of_each(&call, &self.begin_any().read(&call).await?, arrival)
    }

    async fn run_tell(&self, batch: &[TellRun]) -> Result<Vec<Told>> {
        let runs = sorted(batch, |ask| &ask.run);
        let said: Vec<_> = runs.iter().map(|(_, ask)| ask.what.said().unwrap_or_default()).collect();
        let params: &[Param<'_>] = &[
            &runs.iter().map(|(_, ask)| ask.run.namespace.as_str()).collect::<Vec<_>>(),
            &runs.iter().map(|(_, ask)| ask.run.id.as_uuid()).collect::<Vec<_>>(),
            &runs.iter().map(|(_, ask)| ask.id).collect::<Vec<_>>(),
            &said.iter().map(|(word, _, _)| *word).collect::<Vec<_>>(),
            &said.iter().map(|(_, name, _)| *name).collect::<Vec<_>>(),
            &said.iter().map(|(_, _, data)| *data).collect::<Vec<_>>(),
        ];
        let call = Call { verb: "run.tell", statement: &self.sql.run_tell, params, rows: batch.len() };
        let mut told = vec![Told::Unknown; batch.len()];
        for row in Link::idlest(&self.begin).write(&call).await? {
            let mut columns = Columns::of(&row);
            let n: i64 = columns.get()?;
            let at = usize::try_from(n).ok().and_then(|n| runs.get(n.checked_sub(1)?));
            let slot = at.and_then(|(at, _)| told.get_mut(*at)).ok_or_else(|| unasked("run.tell"))?;
            let state = columns.word(State::from_word)?;
            let queue = Queue::from_row(columns.get::<&str>()?);
            *slot = match (columns.get()?, columns.get()?) {
                _ if state.is_final() => Told::Ended(state),
                (true, _) => Told::Paused(queue),
                (false, true) => Told::Woken(queue),
                (false, false) => Told::Waits(queue),
            };
        }
        Ok(told)
    }

    async fn run_note(&self, batch: &[NoteArrivals]) -> Result<()> {
        let known = || batch.iter().flat_map(|ask| ask.ids.iter().map(move |id| (&ask.run, *id)));
        let params: &[Param<'_>] = &[
            &known().map(|(run, _)| run.namespace.as_str()).collect::<Vec<_>>(),
            &known().map(|(run, _)| run.id.as_uuid()).collect::<Vec<_>>(),
            &known().map(|(_, id)| id).collect::<Vec<_>>(),
        ];
        let call = Call { verb: "run.note", statement: &self.sql.run_note, params, rows: batch.len() };
        Link::idlest(&self.begin).write(&call).await.map(drop)
    }

    async fn run_wake(&self) -> Result<Woken> {
        let call = Call { verb: "run.wake", statement: &self.sql.run_wake, params: &[], rows: 1 };
        let mut woken = Woken::default();
        for row in Link::idlest(&self.begin).write(&call).await? {
            let mut columns = Columns::of(&row);
            let namespace = Namespace::from_row(columns.get::<&str>()?);
            match (columns.get::<Option<&str>>()?, columns.get::<Option<Uuid>>()?) {
                (Some(queue), _) => woken.queues.push((namespace, Queue::from_row(queue))),
                (_, Some(id)) => woken.unheard.push(JobRef { namespace, id: JobId::from_uuid(id) }),
                _ => return Err(unasked("run.wake")),
            }
        }
        self.tell_queues(woken.queues.iter().cloned());
        Ok(woken)
    }

    async fn run_prune(&self, after: Option<&JobRef>, limit: usize) -> Result<(u64, Option<JobRef>)> {
        let params: &[Param<'_>] = &[
            &after.map_or("", |run| run.namespace.as_str()),
            &after.map_or(Uuid::nil(), |run| run.id.as_uuid()),
            &super::super::limit(limit),
        ];
        let call = Call { verb: "run.prune", statement: &self.sql.run_prune, params, rows: limit };
        let rows = self.admin.write(&call).await?;
        let mut columns = Columns::of(rows.first().ok_or_else(|| unasked("run.prune"))?);
        let gone: i64 = columns.get()?;
        let namespace = columns.get::<Option<&str>>()?.map(Namespace::from_row);
        let id = columns.get::<Option<Uuid>>()?.map(JobId::from_uuid);
        let last = namespace.zip(id).map(|(namespace, id)| JobRef { namespace, id });
        Ok((u64::try_from(gone).unwrap_or(0), last))
    }

    fn begin_any(&self) -> &Link {
        Link::idlest(&self.begin)
    }
}

/// What the rows say of each row of a call, by its place in the arrays, which comes first.
fn of_each<T>(
    call: &Call<'_>,
    rows: &[Row],
    read: impl Fn(&mut Columns<'_>) -> Result<T>,
) -> Result<Vec<Vec<T>>> {
    let mut each: Vec<Vec<T>> = (0..call.rows).map(|_| Vec::new()).collect();
    for row in rows {
        let mut columns = Columns::of(row);
        let n: i64 = columns.get()?;
        let one = usize::try_from(n).ok().and_then(|n| each.get_mut(n.checked_sub(1)?));
        one.ok_or_else(|| unasked(call.verb))?.push(read(&mut columns)?);
    }
    Ok(each)
}

fn entry(columns: &mut Columns<'_>) -> Result<Entry> {
    let seq = u32::try_from(columns.get::<i32>()?).unwrap_or(0);
    let (at, token) = (columns.time()?, columns.token()?);
    let position = Position::from_row(columns.get::<&str>()?);
    let op = columns.word(Op::from_word)?;
    let phase: &str = columns.get()?;
    let name: String = columns.get()?;
    let data: Vec<u8> = columns.get()?;
    let phase = Phase::from_row(phase, data)
        .ok_or_else(|| Error::new(Code::RowUnreadable, format!("a journal says \"{phase}\"")))?;
    Ok(Entry { seq, position, op, name, phase, at, token })
}

fn arrival(columns: &mut Columns<'_>) -> Result<Arrival> {
    let (id, at) = (columns.get()?, columns.time()?);
    let word: &str = columns.get()?;
    let (name, data): (String, Option<Vec<u8>>) = (columns.get()?, columns.get()?);
    let what = Arrived::from_row(word, name, data)
        .ok_or_else(|| Error::new(Code::RowUnreadable, format!("what has arrived says \"{word}\"")))?;
    Ok(Arrival { id, at, what })
}

#[async_trait]
impl RunStore for PostgresStore {
    async fn run_append(&self, ask: &AppendRuns) -> Result<Appended> {
        self.inner.run_append(ask).await
    }

    async fn run_continue(&self, batch: &[ContinueRun]) -> Result<Vec<bool>> {
        self.inner.run_continue(batch).await
    }

    async fn run_load(&self, asks: &[LoadRun]) -> Result<Vec<Vec<Entry>>> {
        self.inner.run_load(asks).await
    }

    async fn run_arrived(&self, runs: &[JobRef]) -> Result<Vec<Vec<Arrival>>> {
        self.inner.run_arrived(runs).await
    }

    async fn run_tell(&self, batch: &[TellRun]) -> Result<Vec<Told>> {
        self.inner.run_tell(batch).await
    }

    async fn run_note(&self, batch: &[NoteArrivals]) -> Result<()> {
        self.inner.run_note(batch).await
    }

    async fn run_wake(&self) -> Result<Woken> {
        self.inner.run_wake().await
    }

    async fn run_fork(&self, batch: &[ForkRun]) -> Result<bool> {
        self.inner.run_fork(batch).await
    }

    async fn run_prune(&self, after: Option<&JobRef>, limit: usize) -> Result<(u64, Option<JobRef>)> {
        self.inner.run_prune(after, limit).await
    }
}
