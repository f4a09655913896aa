//! How attempts end: by their worker or by a rescue, of which the first one counts (J5).

use std::collections::{BTreeMap, BTreeSet};

use core::ops::Range;
use core::time::Duration;
use onceward_core::job::{self, Move, Next, Record, State};
use onceward_core::{ClaimId, JobId, Namespace, Owner, Timestamp, Token};
use rusqlite::{OptionalExtension, Result, params};

use super::super::rows::instant;
use super::super::statements::SQL;
use super::Jobs;
use super::lanes::place_of;
use super::rows::{self, claim_id, job as job_id};
use crate::store::result_columns;
use crate::{SettleJob, SettleJobs, SettledJob};

/// The jobs that may be forgotten in one millisecond are numbered by that many bits.
const SLOT_BITS: u32 = 20;

/// The numbers in `job_done` of the jobs that may be forgotten in that millisecond.
pub(crate) fn slots(forget_at: Timestamp) -> Range<i64> {
    // The year 2248 is the last one whose milliseconds have room for the bits.
    let start = (forget_at.as_micros() / 1_000).clamp(0, (i64::MAX >> SLOT_BITS) - 1) << SLOT_BITS;
    start..start + (1 << SLOT_BITS)
}

/// An ending, as the worker or the rescuer has decided it.
pub(super) struct Verdict<'a> {
    pub(super) token: Token,
    pub(super) started_at: Timestamp,
    pub(super) worker: Option<Owner>,
    pub(super) next: &'a Next,
    pub(super) retain: Duration,
}

/// What is known about a whole batch of endings.
#[derive(Default)]
struct Batch {
    /// Somebody has called a job off, or a job has an ordering key: each has to be read.
    hanging: bool,
    /// A job has a dedupe key.
    deduped: bool,
    /// A trigger listens: what is over has to be read, and told of.
    overheard: bool,
    /// The next free numbers in `job_done`.
    numbers: BTreeMap<i64, i64>,
}

impl Jobs<'_> {
    /// Records how attempts ended; wants the write lock.
    pub(super) fn settle_all(&mut self, ask: &SettleJobs) -> Result<Vec<SettledJob>> {
        let mut batch = self.batch()?;
        let mut answers = Vec::with_capacity(ask.jobs.len());
        for job in &ask.jobs {
            answers.push(match self.settle_quickly(job, &mut batch)? {
                Some(answer) => answer,
                None => self.settle(job, &mut batch)?,
            });
        }
        let ended = ask.jobs.iter().zip(&answers);
        let ended: BTreeSet<JobId> = ended
            .filter(|(_, answer)| !matches!(answer, SettledJob::Stale))
            .map(|(job, _)| job.job.id)
            .collect();
        for claim in &ask.finished {
            self.finish(*claim, &ended)?;
        }
        Ok(answers)
    }

    /// Records the success of jobs whose run knows of it already.
    pub(super) fn settle_told(&mut self, jobs: &[SettleJob]) -> Result<()> {
        let mut batch = self.batch()?;
        for job in jobs {
            let told = SettleJob { parent: None, ..job.clone() };
            if self.settle_quickly(&told, &mut batch)?.is_none() {
                self.settle(&told, &mut batch)?;
            }
        }
        Ok(())
    }

    fn batch(&self) -> Result<Batch> {
        let mut hanging = self.at.prepare_cached(SQL.settle_hanging)?;
        let (hanging, deduped) = hanging.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let overheard = self.is_overheard()?;
        Ok(Batch { hanging, deduped, overheard, numbers: BTreeMap::new() })
    }

    /// Records the end of a job that is over and that nothing hangs on, without looking at it first. Nothing where
    /// it is not as simple as that.
    fn settle_quickly(&self, ask: &SettleJob, batch: &mut Batch) -> Result<Option<SettledJob>> {
        let (next, place) = (&ask.next, ask.place.0.and_then(|place| i64::try_from(place).ok()));
        let quick = next.state.is_history() && !batch.hanging && !batch.overheard && ask.parent.is_none();
        let Some(place) = place.filter(|_| quick) else {
            return Ok(None);
        };
        let (namespace, id, fence) = (ask.job.namespace.as_str(), job_id(ask.job.id), ask.fence.get());
        if ask.retain.is_zero() {
            let mut remove = self.at.prepare_cached(SQL.settle_remove)?;
            if remove.execute(params![place, namespace, id, fence])? == 0 {
                return Ok(None);
            }
        } else {
            let (result, result_type, result_size) = result_columns(next.result.as_ref());
            let kept = self.at.prepare_cached(SQL.settle_keep)?.execute(params![
                self.number(ask.retain, batch)?,
                place,
                namespace,
                id,
                fence,
                next.state.as_str(),
                ask.token.get(),
                next.attempt,
                next.lost,
                ask.started_at.as_micros(),
                self.now.wall.as_micros(),
                ask.worker.as_str(),
                next.error,
                result,
                result_type,
                result_size,
                job::past_to_text(&next.past),
            ])?;
            if kept == 0 {
                return Ok(None);
            }
            self.at.prepare_cached(SQL.settle_delete)?.execute([place])?;
        }
        if batch.deduped {
            self.free_at_end(&ask.job.namespace, ask.job.id)?;
        }
        Ok(Some(SettledJob::Applied(next.state)))
    }

    /// Records the end of any attempt.
    fn settle(&mut self, ask: &SettleJob, batch: &mut Batch) -> Result<SettledJob> {
        let Some(row) = self.find_bare(&ask.job.namespace, ask.job.id)? else {
            return self.settled_before(ask);
        };
        if !job::may_end(row.state, row.token, ask.fence, &ask.next) {
            let already = row.token == ask.token;
            return Ok(if already { SettledJob::Already(row.state) } else { SettledJob::Stale });
        }
        let verdict = Verdict {
            token: ask.token,
            started_at: ask.started_at,
            worker: Some(ask.worker.clone()),
            next: &ask.next,
            retain: ask.retain,
        };
        self.end_of(row, verdict, batch).map(SettledJob::Applied)
    }

    fn settled_before(&self, ask: &SettleJob) -> Result<SettledJob> {
        let mut over = self.at.prepare_cached(SQL.settle_over)?;
        let name = params![ask.job.namespace.as_str(), job_id(ask.job.id)];
        let found =
            over.query_row(name, |row| Ok((rows::state(row, 0)?, row.get::<_, i64>(1)?))).optional()?;
        Ok(match found {
            Some((state, token)) if token == ask.token.get() => SettledJob::Already(state),
            Some(_) => SettledJob::Stale,
            None => SettledJob::Gone,
        })
    }

    /// Writes how an attempt ended, and puts the job where it waits or rests from now on. Its state then.
    pub(super) fn end(&mut self, row: Record, verdict: Verdict<'_>) -> Result<State> {
        self.end_of(row, verdict, &mut Batch::default())
    }

    fn end_of(&mut self, mut row: Record, verdict: Verdict<'_>, batch: &mut Batch) -> Result<State> {
        let next = verdict.next;
        let called_off = self.take_note(&row)?.filter(|_| !next.state.is_final());
        row.state = if called_off.is_some() { State::Cancelled } else { next.state };
        row.token = verdict.token;
        (row.attempt, row.lost) = (next.attempt, next.lost);
        (row.attempted_at, row.worker) = (Some(verdict.started_at), verdict.worker);
        row.error = next.error.clone().or(called_off);
        row.set_result(next.result.clone());
        row.past.clone_from(&next.past);
        row.finished_at = row.state.is_final().then_some(self.now.wall);
        row.paused = row.paused.take().filter(|_| !row.state.is_final());
        if let Some(delay) = next.delay.filter(|_| !row.state.is_final()) {
            row.run_at = self.now.wall.after(delay);
        }
        self.write_row(&row)?;
        let state = row.state;
        self.overhear(place_of(&row), row.token, state, row.error.as_deref())?;
        if state.is_final() {
            self.rest(&row, verdict.retain, batch)?;
        } else {
            self.place_row(&row, next.alone)?;
        }
        Ok(state)
    }

    /// Who has called a job off, in words; it has ended now, whatever they wanted.
    fn take_note(&self, row: &Record) -> Result<Option<String>> {
        let mut note = self.at.prepare_cached(SQL.settle_note)?;
        let name = params![row.namespace.as_str(), job_id(row.id)];
        let words = note.query_row(name, |row| {
            let (actor, reason) = (Owner::from_row(rows::text(row, 0)?), row.get::<_, Option<String>>(1)?);
            Ok(Move::Cancel.note(&actor, reason.as_deref()))
        });
        words.optional()
    }

    /// Writes what an attempt or an intervention has changed in a row.
    pub(super) fn write_row(&self, row: &Record) -> Result<()> {
        // The bytes of what it has said on its way were not read, unless this is how it has failed.
        let failed = row.progress.as_ref().filter(|body| body.bytes.is_some());
        let said = row.result.as_ref().or(failed);
        let (result, result_type, result_size) = result_columns(said);
        self.at.prepare_cached(SQL.settle_write)?.execute(params![
            place_of(row),
            row.state.as_str(),
            row.token.get(),
            row.attempt,
            row.lost,
            instant(row.attempted_at),
            instant(row.finished_at),
            row.worker.as_ref().map(Owner::as_str),
            row.error,
            result,
            result_type,
            result_size,
            job::past_to_text(&row.past),
            row.run_at.as_micros(),
            row.spec().to_text(),
            row.begun.map(Token::get),
            row.paused.as_ref().map(|pause| pause.at.as_micros()),
            row.paused.as_ref().map(|pause| pause.by.as_str()),
            row.paused.as_ref().and_then(|pause| pause.reason.as_deref()),
        ])?;
        Ok(())
    }

    /// What follows from the end of a job that was written: its keys are free, the next of its ordering key may run,
    /// and it is kept for as long as it was to be.
    pub(super) fn rest_alone(&mut self, row: &Record) -> Result<()> {
        self.rest(row, row.policy.kept_for(), &mut Batch::default())
    }

    fn rest(&mut self, row: &Record, retain: Duration, batch: &mut Batch) -> Result<()> {
        self.free_at_end(&row.namespace, row.id)?;
        if let Some(parent) = row.parent {
            self.child_ended(parent, row)?;
        }
        if row.state.is_history() {
            if !retain.is_zero() {
                let number = self.number(retain, batch)?;
                self.at.prepare_cached(SQL.settle_move)?.execute([number, place_of(row)])?;
            }
            self.at.prepare_cached(SQL.settle_delete)?.execute([place_of(row)])?;
        }
        match &row.ordering_key {
            Some(key) => self.leave_line(&row.namespace, key, row.id),
            None => Ok(()),
        }
    }

    /// Gives the dedupe key free of a job that has ended, unless it lasts for a time of its own.
    fn free_at_end(&self, namespace: &Namespace, id: JobId) -> Result<()> {
        let mut free = self.at.prepare_cached(SQL.settle_free)?;
        free.execute(params![namespace.as_str(), job_id(id)]).map(drop)
    }

    /// A free number in `job_done` for a job that is kept for that long.
    fn number(&self, retain: Duration, batch: &mut Batch) -> Result<i64> {
        let slots = slots(self.now.wall.after(retain));
        let next = match batch.numbers.get(&slots.start) {
            Some(next) => *next,
            None => {
                let mut last = self.at.prepare_cached(SQL.settle_slot)?;
                let last: Option<i64> = last.query_row([slots.start, slots.end], |row| row.get(0))?;
                last.map_or(slots.start, |last| last.saturating_add(1))
            }
        };
        batch.numbers.insert(slots.start, next.saturating_add(1));
        Ok(next)
    }

    /// Removes a claim of which nothing runs any more; `ended`: what is known to have ended.
    pub(super) fn finish(&self, id: ClaimId, ended: &BTreeSet<JobId>) -> Result<()> {
        let claim =
            self.at.prepare_cached(SQL.settle_claim)?.query_row([claim_id(id)], rows::claim).optional()?;
        let Some(claim) = claim else { return Ok(()) };
        for id in claim.jobs.iter().filter(|id| !ended.contains(id)) {
            if self.runs(&claim.namespace, *id, claim.token)? {
                return Ok(()); // whoever said so was wrong about it: it stays to be rescued
            }
        }
        self.remove_claim(claim.id)
    }

    pub(super) fn remove_claim(&self, id: ClaimId) -> Result<()> {
        self.at.prepare_cached(SQL.settle_finish)?.execute([claim_id(id)]).map(drop)
    }

    /// Whether a job still runs under a claim.
    pub(super) fn runs(&self, namespace: &Namespace, id: JobId, claim: Token) -> Result<bool> {
        let mut runs = self.at.prepare_cached(SQL.settle_runs)?;
        runs.query_row(params![namespace.as_str(), job_id(id), claim.get()], |row| row.get(0))
    }

    /// A job that is not over, without payload and result.
    pub(super) fn find_bare(&self, namespace: &Namespace, id: JobId) -> Result<Option<Record>> {
        let mut find = self.at.prepare_cached(SQL.settle_read)?;
        find.query_row(params![namespace.as_str(), job_id(id)], rows::record_with_pause).optional()
    }
}
