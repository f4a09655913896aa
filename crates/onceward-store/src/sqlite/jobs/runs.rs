//! Runs: their journals, and what has arrived for them.

use async_trait::async_trait;
use onceward_core::job::{Record, State};
use onceward_core::run::generation::{generation, turn};
use onceward_core::run::{Arrival, Arrived, Entry, Op, Phase, Position};
use onceward_core::{JobId, Namespace, Queue, Result as Answer, SessionId, Timestamp, Token};
use rusqlite::{OptionalExtension, Result, Row, params};

use super::super::SqliteStore;
use super::super::failure::unreadable;
use super::super::rows::session;
use super::super::statements::SQL;
use super::Jobs;
use super::rows::{self, job as job_id};
use crate::store::{
    AppendRun, AppendRuns, Appended, ClaimedJobs, ContinueRun, ForkRun, HandChildren, JobRef, LoadRun,
    NoteArrivals, RunStore, TellRun, Told, Woken,
};

/// How many journals are forgotten in one transaction.
const PRUNE_RUNS: usize = 100;

impl Jobs<'_> {
    fn is_lost(&self, id: SessionId) -> Result<bool> {
        let mut read = self.at.prepare_cached(SQL.session_read)?;
        let row = read.query_row([session(id)], |row| rows::session(row, self.now)).optional()?;
        Ok(row.is_none_or(|row| row.is_lost(self.now.wall)))
    }

    /// Adds to journals; wants the write lock.
    fn append_all(&mut self, ask: &AppendRuns) -> Result<Appended> {
        let mut open = Vec::new();
        let added = ask.runs.iter().map(|run| self.append(run, &mut open)).collect::<Result<_>>()?;
        let ended = ask.runs.iter().flat_map(|run| &run.ended).map(|ended| ended.job.id).collect();
        for claim in &ask.finished {
            self.finish(*claim, &ended)?;
        }
        let Some(HandChildren { namespace, session, claim }) = &ask.hand else {
            return Ok(Appended { added, claimed: ClaimedJobs::default() });
        };
        let claimed = match self.claim_of(*claim)? {
            Some(before) => self.claimed_before(&before)?,
            None => self.claim_new((namespace, *claim, *session), open)?,
        };
        Ok(Appended { added, claimed })
    }

    /// Whether a run still is this attempt's, and its session lasts.
    fn is_held(&self, run: &JobRef, session: SessionId, token: Token) -> Result<bool> {
        let mut holds = self.at.prepare_cached(SQL.run_holds)?;
        let name = params![run.namespace.as_str(), job_id(run.id), token.get()];
        let holds: bool = holds.query_row(name, |row| row.get(0))?;
        Ok(holds && !self.is_lost(session)?)
    }

    fn append(&mut self, ask: &AppendRun, open: &mut Vec<Record>) -> Result<bool> {
        let (namespace, run) = (ask.run.namespace.as_str(), job_id(ask.run.id));
        if !self.is_held(&ask.run, ask.session, ask.token)? || !self.end_children(ask)? {
            return Ok(false);
        }
        let mut fresh = Vec::with_capacity(ask.entries.len());
        for entry in &ask.entries {
            let added = self.add_entry(&ask.run, entry, ask.token)?;
            fresh.extend((added > 0).then_some(entry.seq));
        }
        for id in &ask.taken {
            self.at.prepare_cached(SQL.run_take)?.execute(params![namespace, run, id.into_bytes()])?;
        }
        // A child is enqueued with the entry that starts it, or was before.
        for child in ask.children.iter().filter(|child| fresh.contains(&child.seq)) {
            open.extend(self.enqueue_child(child)?);
        }
        Ok(true)
    }

    fn add_entry(&self, run: &JobRef, entry: &Entry, token: Token) -> Result<usize> {
        self.at.prepare_cached(SQL.run_entry)?.execute(params![
            run.namespace.as_str(),
            job_id(run.id),
            entry.seq,
            entry.at.as_micros(),
            token.get(),
            entry.position.as_str(),
            entry.op.as_str(),
            entry.phase.word(),
            entry.name,
            entry.phase.row_data(),
        ])
    }

    /// Has a run go on as new; wants the write lock.
    fn go_on_as_new(&self, ask: &ContinueRun) -> Result<bool> {
        if !self.is_held(&ask.run, ask.session, ask.token)? {
            return Ok(false);
        }
        let entry = |from| self.load(&LoadRun { run: ask.run.clone(), from, limit: 1 });
        if generation(&entry(0)?) == ask.turn.generation {
            return Ok(true);
        }
        if turn(&entry(ask.turn.seq)?, self.now.wall, ask.token).is_none_or(|turn| turn.seq != ask.turn.seq) {
            return Ok(false);
        }
        let name = params![ask.run.namespace.as_str(), job_id(ask.run.id)];
        self.at.prepare_cached(SQL.run_prune_journal)?.execute(name)?;
        self.at.prepare_cached(SQL.run_continue_steps)?.execute(name)?;
        let to = params![ask.run.namespace.as_str(), job_id(ask.run.id), ask.turn.args];
        self.at.prepare_cached(SQL.run_continue_payload)?.execute(to)?;
        for entry in &ask.turn.entries {
            self.add_entry(&ask.run, entry, ask.token)?;
        }
        Ok(true)
    }

    /// Records the success of children; `false`, and nothing is, where one of them is not there any more.
    fn end_children(&mut self, ask: &AppendRun) -> Result<bool> {
        let (Some(last), false) = (ask.entries.last(), ask.ended.is_empty()) else { return Ok(true) };
        let sent = LoadRun { run: ask.run.clone(), from: last.seq, limit: 1 };
        if !self.load(&sent)?.is_empty() {
            return Ok(true);
        }
        for ended in &ask.ended {
            if !self.runs(&ended.job.namespace, ended.job.id, ended.fence)? {
                return Ok(false);
            }
        }
        self.settle_told(&ask.ended)?;
        for ended in &ask.ended {
            // It stands in the journal.
            let name = params![ask.run.namespace.as_str(), job_id(ask.run.id), job_id(ended.job.id)];
            self.at.prepare_cached(SQL.run_take)?.execute(name)?;
        }
        Ok(true)
    }

    pub(super) fn load(&self, ask: &LoadRun) -> Result<Vec<Entry>> {
        let mut load = self.at.prepare_cached(SQL.run_load)?;
        let (namespace, run) = (ask.run.namespace.as_str(), job_id(ask.run.id));
        let limit = i64::try_from(ask.limit).unwrap_or(i64::MAX);
        load.query_map(params![namespace, run, ask.from, limit], entry)?.collect()
    }

    fn arrived(&self, run: &JobRef) -> Result<Vec<Arrival>> {
        let mut arrived = self.at.prepare_cached(SQL.run_arrived)?;
        let name = params![run.namespace.as_str(), job_id(run.id)];
        let mut arrived: Vec<Arrival> = arrived.query_map(name, arrival)?.collect::<Result<_>>()?;
        arrived.sort_by_key(|arrival| (arrival.at, arrival.id));
        Ok(arrived)
    }

    /// Writes down for a run that its child has ended; wants the write lock.
    pub(super) fn child_ended(&self, parent: JobId, row: &Record) -> Result<()> {
        let said = row.said();
        self.at.prepare_cached(SQL.run_told)?.execute(params![
            row.namespace.as_str(),
            job_id(parent),
            job_id(row.id),
            self.now.wall.as_micros(),
            row.state.as_str(),
            row.error.as_deref().unwrap_or_default(),
            said.and_then(|body| body.bytes.as_deref()),
        ])?;
        Ok(())
    }

    fn tell(&mut self, ask: &TellRun) -> Result<Told> {
        let (namespace, run) = (ask.run.namespace.as_str(), job_id(ask.run.id));
        let standing =
            |row: &Row<'_>| Ok((rows::state(row, 0)?, Queue::from_row(rows::text(row, 1)?), row.get(2)?));
        let mut read = self.at.prepare_cached(SQL.run_standing)?;
        let standing = read.query_row(params![namespace, run], standing).optional()?;
        drop(read);
        let Some((state, queue, is_paused)) = standing else { return Ok(Told::Unknown) };
        let Some((word, name, data)) = ask.what.said().filter(|_| !state.is_final()) else {
            return Ok(Told::Ended(state));
        };
        let (id, at) = (ask.id.into_bytes(), self.now.wall.as_micros());
        let told = params![namespace, run, id, at, word, name, data];
        let is_new = self.at.prepare_cached(SQL.run_told)?.execute(told)? > 0;
        if is_paused {
            return Ok(Told::Paused(queue));
        }
        let row = if is_new && state == State::Scheduled {
            self.find_bare(&ask.run.namespace, ask.run.id)?
        } else {
            None
        };
        let is_woken = row.map(|row| self.wake_parked(row)).transpose()?.unwrap_or(false);
        Ok(if is_woken { Told::Woken(queue) } else { Told::Waits(queue) })
    }

    /// Makes a run ready that is parked; whether it was.
    fn wake_parked(&mut self, mut row: Record) -> Result<bool> {
        // One that was never taken up waits for its time, and for nothing else.
        let parks = row.state == State::Scheduled && row.attempted_at.is_some();
        if !parks || self.unplace(&row)?.is_none() {
            return Ok(false);
        }
        (row.state, row.run_at) = (State::Ready, self.now.wall);
        self.write_row(&row)?;
        self.place_row(&row, false)?;
        Ok(true)
    }

    fn note_arrivals(&self, ask: &NoteArrivals) -> Result<()> {
        let (namespace, run) = (ask.run.namespace.as_str(), job_id(ask.run.id));
        for id in &ask.ids {
            self.at.prepare_cached(SQL.run_note)?.execute(params![namespace, run, id.into_bytes()])?;
        }
        Ok(())
    }

    fn unknown(&self) -> Result<Vec<JobRef>> {
        self.at.prepare_cached(SQL.run_wake)?.query_map([], job_ref)?.collect()
    }

    /// Makes parked runs ready for which something has arrived; wants the write lock.
    fn wake(&mut self) -> Result<Woken> {
        let mut woken = Woken::default();
        for run in self.unknown()? {
            let name = params![run.namespace.as_str(), job_id(run.id)];
            let Some(row) = self.find_bare(&run.namespace, run.id)? else {
                // What came too late for a run that is over is of no use to anybody.
                self.at.prepare_cached(SQL.run_prune_inbox)?.execute(name)?;
                continue;
            };
            if row.state.is_final() || (row.paused.is_some() && !self.is_claimed(&row)?) {
                // One that has failed may be tried again by somebody, and one that is paused goes on: it reads it then.
                self.at.prepare_cached(SQL.run_wake_failed)?.execute(name)?;
                continue;
            }
            let queue = (row.namespace.clone(), row.queue.clone());
            if self.wake_parked(row)? {
                woken.queues.push(queue);
            } else {
                woken.unheard.push(run);
            }
        }
        woken.queues.sort_unstable();
        woken.queues.dedup();
        Ok(woken)
    }

    /// Forgets journals of runs that are forgotten; wants the write lock.
    fn prune_runs(&self, after: Option<JobRef>, limit: usize) -> Result<(u64, Option<JobRef>)> {
        let (mut gone, mut last) = (0, after);
        let mut runs = self.unknown()?;
        for _ in 0..limit {
            let from = last.as_ref().map(|run| (run.namespace.as_str(), job_id(run.id)));
            let (namespace, run) = from.unwrap_or(("", [0; 16]));
            let mut next = self.at.prepare_cached(SQL.run_prune_next)?;
            last = next.query_row(params![namespace, run], job_ref).optional()?;
            let Some(run) = &last else { break };
            runs.push(run.clone());
        }
        for run in runs {
            let name = params![run.namespace.as_str(), job_id(run.id)];
            let mut known = self.at.prepare_cached(SQL.run_prune_known)?;
            let known: bool = known.query_row(name, |row| row.get(0))?;
            if !known {
                let journal = self.at.prepare_cached(SQL.run_prune_journal)?.execute(name)?;
                let inbox = self.at.prepare_cached(SQL.run_prune_inbox)?.execute(name)?;
                gone += u64::from(journal + inbox > 0);
            }
        }
        Ok((gone, last))
    }
}

fn job_ref(row: &Row<'_>) -> Result<JobRef> {
    Ok(JobRef { namespace: Namespace::from_row(rows::text(row, 0)?), id: rows::job_id(row, 1)? })
}

fn entry(row: &Row<'_>) -> Result<Entry> {
    let (op, phase) = (rows::text(row, 4)?, rows::text(row, 5)?);
    let strange = || unreadable(5, format!("a journal says {op:?}, {phase:?}"));
    Ok(Entry {
        seq: row.get(0)?,
        at: Timestamp::from_micros(row.get(1)?),
        token: Token::from_row(row.get(2)?),
        position: Position::from_row(rows::text(row, 3)?),
        op: Op::from_word(op).ok_or_else(strange)?,
        phase: Phase::from_row(phase, row.get(7)?).ok_or_else(strange)?,
        name: row.get(6)?,
    })
}

fn arrival(row: &Row<'_>) -> Result<Arrival> {
    let word = rows::text(row, 2)?;
    let what = Arrived::from_row(word, row.get(3)?, row.get(4)?);
    let what = what.ok_or_else(|| unreadable(2, format!("what has arrived says {word:?}")))?;
    Ok(Arrival { id: rows::uuid(row, 0)?, at: Timestamp::from_micros(row.get(1)?), what })
}

#[async_trait]
impl RunStore for SqliteStore {
    async fn run_append(&self, ask: &AppendRuns) -> Answer<Appended> {
        let ask = ask.clone();
        self.jobs("run.append", ask.runs.len(), move |jobs| jobs.append_all(&ask)).await
    }

    async fn run_continue(&self, batch: &[ContinueRun]) -> Answer<Vec<bool>> {
        let (batch, rows) = (batch.to_vec(), batch.len());
        let go_on = move |jobs: &mut Jobs<'_>| batch.iter().map(|ask| jobs.go_on_as_new(ask)).collect();
        self.jobs("run.continue", rows, go_on).await
    }

    async fn run_load(&self, asks: &[LoadRun]) -> Answer<Vec<Vec<Entry>>> {
        let asks = asks.to_vec();
        self.look("run.load", move |jobs| asks.iter().map(|ask| jobs.load(ask)).collect()).await
    }

    async fn run_arrived(&self, runs: &[JobRef]) -> Answer<Vec<Vec<Arrival>>> {
        let runs = runs.to_vec();
        self.look("run.arrived", move |jobs| runs.iter().map(|run| jobs.arrived(run)).collect()).await
    }

    async fn run_tell(&self, batch: &[TellRun]) -> Answer<Vec<Told>> {
        let (batch, rows) = (batch.to_vec(), batch.len());
        self.jobs("run.tell", rows, move |jobs| batch.iter().map(|ask| jobs.tell(ask)).collect()).await
    }

    async fn run_note(&self, batch: &[NoteArrivals]) -> Answer<()> {
        let (batch, rows) = (batch.to_vec(), batch.len());
        let note = move |jobs: &mut Jobs<'_>| batch.iter().try_for_each(|ask| jobs.note_arrivals(ask));
        self.jobs("run.note", rows, note).await
    }

    async fn run_wake(&self) -> Answer<Woken> {
        // Mostly there is nothing, which wants no lock.
        if self.look("run.wake", |jobs| jobs.unknown()).await?.is_empty() {
            return Ok(Woken::default());
        }
        self.jobs("run.wake", 1, |jobs| jobs.wake()).await
    }

    async fn run_fork(&self, batch: &[ForkRun]) -> Answer<bool> {
        let (batch, rows) = (batch.to_vec(), batch.len());
        self.jobs("run.fork", rows, move |jobs| jobs.fork_all(&batch)).await
    }

    async fn run_prune(&self, after: Option<&JobRef>, limit: usize) -> Answer<(u64, Option<JobRef>)> {
        let (mut gone, mut after, mut left) = (0, after.cloned(), limit);
        while left > 0 {
            let (part, from) = (left.min(PRUNE_RUNS), after.clone());
            let prune = move |jobs: &mut Jobs<'_>| jobs.prune_runs(from.clone(), part);
            let (found, last) = self.jobs("run.prune", part, prune).await?;
            gone += found;
            after = last;
            if after.is_none() {
                break;
            }
            left -= part;
        }
        Ok((gone, after))
    }
}
