//! Rescue: what sessions held that have run out goes on without them (J7).

use onceward_core::job::{self, Ended, Ending, Next, Record, State};
use onceward_core::{Owner, Token};
use rusqlite::{OptionalExtension, Result, params};

use super::super::rows::session;
use super::super::statements::SQL;
use super::Jobs;
use super::rows::{self, Claim, job as job_id};
use super::settle::Verdict;
use crate::{JobRef, Rescued, RescuedJob};

impl Jobs<'_> {
    /// Whether there is anything to rescue or to clear away.
    pub(super) fn is_anything_lost(&self) -> Result<bool> {
        let mut any = self.at.prepare_cached(SQL.rescue_any)?;
        any.query_row(params![self.now.boot_id, self.now.boot], |row| row.get(0))
    }

    /// Takes jobs from sessions that have run out; wants the write lock.
    pub(super) fn rescue(&mut self, limit: usize) -> Result<Rescued> {
        let mut rescued = Rescued::default();
        let mut claims = self.at.prepare_cached(SQL.rescue_claims)?;
        let lost = params![self.now.boot_id, self.now.boot];
        let claims: Vec<Claim> = claims.query_map(lost, rows::claim)?.collect::<Result<_>>()?;
        for claim in claims {
            let owner = self.owner(&claim)?;
            for id in &claim.jobs {
                let Some(row) = self.find_bare(&claim.namespace, *id)? else { continue };
                if row.state.is_final() || !job::is_running(row.token, claim.token) {
                    continue;
                }
                if rescued.jobs.len() >= limit {
                    rescued.more = true;
                    return Ok(rescued);
                }
                rescued.jobs.push(self.take_over(row, &claim, owner.as_ref())?);
            }
            self.remove_claim(claim.id)?;
        }
        let mut gone = self.at.prepare_cached(SQL.rescue_gone)?;
        rescued.sessions = gone.execute(params![self.now.boot_id, self.now.boot])? as u64;
        self.at.prepare_cached(SQL.permit_forget)?.execute([])?;
        Ok(rescued)
    }

    fn owner(&self, claim: &Claim) -> Result<Option<Owner>> {
        let mut owner = self.at.prepare_cached(SQL.rescue_owner)?;
        let name = |row: &rusqlite::Row<'_>| rows::text(row, 0).map(Owner::from_row);
        owner.query_row([session(claim.session)], name).optional()
    }

    /// Ends an attempt whose worker is gone.
    fn take_over(&mut self, row: Record, claim: &Claim, owner: Option<&Owner>) -> Result<RescuedJob> {
        let next = self.lost(&row, claim, owner)?;
        // An uncertain job keeps the token, so that its worker, should it come back, can still say how it was.
        let uncertain = next.state == State::Uncertain;
        let token = if uncertain { claim.token } else { Token::next(Some(claim.token), self.now.wall) };
        let job = JobRef { namespace: row.namespace.clone(), id: row.id };
        let (queue, retain) = (row.queue.clone(), row.policy.kept_for());
        let worker = owner.cloned();
        let verdict = Verdict { token, started_at: claim.claimed_at, worker, next: &next, retain };
        let state = self.end(row, verdict)?;
        Ok(RescuedJob { job, queue, state })
    }

    /// What becomes of a job whose attempt was lost.
    fn lost(&self, row: &Record, claim: &Claim, owner: Option<&Owner>) -> Result<Next> {
        let mut noted = self.at.prepare_cached(SQL.rescue_noted)?;
        let name = params![row.namespace.as_str(), job_id(row.id)];
        let called_off = noted.query_row(name, |row| row.get(0))?;
        // The start of a handler is written down only where it matters: everything else may have been started.
        let begun = !row.policy.at_most_once || row.begun == Some(claim.token);
        let worker = owner.cloned().unwrap_or_else(|| Owner::from_row(""));
        let ended = Ended { token: claim.token, started_at: claim.claimed_at, worker, http: None };
        // A lost attempt waits for nothing: no jitter is drawn.
        Ok(job::end(row.facts(), &ended, Ending::Lost { begun }, self.now.wall, called_off, 0))
    }
}
