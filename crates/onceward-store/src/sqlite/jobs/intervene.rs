//! Moving jobs from outside.

use onceward_core::job::{self, Move, Moved, Record};
use rusqlite::{Result, params};

use super::super::statements::SQL;
use super::Jobs;
use super::lanes::place_of;
use super::rows::job as job_id;
use crate::MoveJob;

impl Jobs<'_> {
    /// Moves a job; wants the write lock unless it is only tried.
    pub(super) fn intervene(&mut self, ask: &MoveJob) -> Result<Moved> {
        let row = self.lookup(core::slice::from_ref(&ask.job))?.pop().flatten();
        let answer = match (job::intervene(row.as_ref(), ask.token, &ask.to), &row) {
            (applied @ Moved::Applied { .. }, Some(row)) => {
                self.other_holder(row, &ask.to)?.map_or(applied, Moved::KeyTaken)
            }
            (answer, _) => answer,
        };
        match (&answer, row) {
            _ if ask.dry_run => {}
            (Moved::Applied { .. }, Some(row)) => self.apply(&row, ask)?,
            (Moved::Noted, Some(row)) if matches!(ask.to, Move::Pause | Move::Resume) => {
                self.mark(&row, ask)?
            }
            (Moved::Noted, _) => self.note(ask)?,
            _ => {}
        }
        Ok(answer)
    }

    fn apply(&mut self, row: &Record, ask: &MoveJob) -> Result<()> {
        self.unplace(row)?;
        self.take_again(row, &ask.to)?;
        let moved = job::moved(row, &ask.to, &ask.actor, ask.reason.as_deref(), self.now.wall);
        self.write_row(&moved)?;
        if moved.state.is_final() {
            self.overhear(place_of(&moved), moved.token, moved.state, moved.error.as_deref())?;
            return self.rest_alone(&moved);
        }
        // One that has lost processes may lose the next as well.
        self.place_row(&moved, row.runs_alone())
    }

    /// Pauses a run that somebody runs, or not any more.
    fn mark(&self, row: &Record, ask: &MoveJob) -> Result<()> {
        let pause = ask.to.pause(&ask.actor, ask.reason.as_deref(), self.now.wall);
        self.at.prepare_cached(SQL.move_mark)?.execute(params![
            place_of(row),
            pause.as_ref().map(|pause| pause.at.as_micros()),
            pause.as_ref().map(|pause| pause.by.as_str()),
            pause.as_ref().and_then(|pause| pause.reason.as_deref()),
        ])?;
        Ok(())
    }

    /// Calls a running job off: its worker hears of it at the next renewal of its session.
    fn note(&self, ask: &MoveJob) -> Result<()> {
        self.at.prepare_cached(SQL.move_note)?.execute(params![
            ask.job.namespace.as_str(),
            job_id(ask.job.id),
            self.now.wall.as_micros(),
            ask.actor.as_str(),
            ask.reason,
        ])?;
        Ok(())
    }
}
