//! What is written down of an attempt while it lasts: that its handler starts, from when on its job may have had its
//! effect, and how far it is.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use onceward_core::SessionId;
use rusqlite::{OptionalExtension, Result, params};

use super::super::rows::session;
use super::super::statements::SQL;
use super::Jobs;
use super::rows::{self, Claim, job as job_id};
use crate::{BeginJob, JobProgress};

impl Jobs<'_> {
    /// Writes down that handlers start; wants the write lock.
    pub(super) fn begin(&mut self, batch: &[BeginJob]) -> Result<Vec<bool>> {
        let mut held = BTreeMap::new();
        let mut answers = Vec::with_capacity(batch.len());
        for ask in batch {
            let claims = match held.entry(ask.session) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(self.held_by(ask.session)?),
            };
            let holds = |claim: &Claim| {
                claim.token == ask.token
                    && claim.namespace == ask.job.namespace
                    && claim.jobs.contains(&ask.job.id)
            };
            answers.push(claims.iter().any(holds) && self.write_begin(ask)?);
        }
        Ok(answers)
    }

    /// The claims of a session; none if it has run out.
    fn held_by(&self, id: SessionId) -> Result<Vec<Claim>> {
        let mut read = self.at.prepare_cached(SQL.session_read)?;
        let row = read.query_row([session(id)], |row| rows::session(row, self.now)).optional()?;
        if row.is_none_or(|row| row.is_lost(self.now.wall)) {
            return Ok(Vec::new());
        }
        self.at.prepare_cached(SQL.session_claims)?.query_map([session(id)], rows::claim)?.collect()
    }

    /// Writes down how far jobs are; wants the write lock.
    pub(super) fn progress(&mut self, batch: &[JobProgress]) -> Result<Vec<bool>> {
        let mut progress = self.at.prepare_cached(SQL.progress)?;
        let mut write = |ask: &JobProgress| {
            let (namespace, id) = (ask.job.namespace.as_str(), job_id(ask.job.id));
            let said = params![namespace, id, ask.token.get(), ask.progress.bytes, ask.progress.content_type];
            Ok(progress.execute(said)? == 1)
        };
        batch.iter().map(&mut write).collect()
    }

    fn write_begin(&self, ask: &BeginJob) -> Result<bool> {
        let (namespace, id) = (ask.job.namespace.as_str(), job_id(ask.job.id));
        let mut begin = self.at.prepare_cached(SQL.begin)?;
        if begin.execute(params![namespace, id, ask.token.get()])? == 0 {
            return Ok(false);
        }
        self.at.prepare_cached(SQL.begin_free)?.execute(params![namespace, id])?;
        Ok(true)
    }
}
