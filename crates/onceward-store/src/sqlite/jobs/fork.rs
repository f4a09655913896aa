//! Starting runs with a part of the journals of others.

use std::collections::{BTreeMap, BTreeSet};

use onceward_core::Token;
use onceward_core::run::Entry;
use rusqlite::{Result, params};

use super::super::statements::SQL;
use super::Jobs;
use super::rows::job as job_id;
use crate::store::{ForkRun, JobRef, LoadRun};

/// How many entries are copied at once.
const PAGE: usize = 1_000;

impl Jobs<'_> {
    /// Starts runs with a part of the journals of others, all of them or none; wants the write lock.
    pub(super) fn fork_all(&mut self, batch: &[ForkRun]) -> Result<bool> {
        for ask in batch {
            if !self.is_known(ask)? && !self.reaches(ask)? {
                return Ok(false);
            }
        }
        for ask in batch {
            self.fork(ask)?;
        }
        Ok(true)
    }

    fn is_known(&self, ask: &ForkRun) -> Result<bool> {
        let name = params![ask.run.namespace.as_str(), job_id(ask.run.id)];
        let mut known = self.at.prepare_cached(SQL.run_prune_known)?;
        known.query_row(name, |row| row.get(0))
    }

    fn reaches(&self, ask: &ForkRun) -> Result<bool> {
        let of = params![ask.run.namespace.as_str(), job_id(ask.of), ask.until, ask.by.get()];
        let reach: u32 = self.at.prepare_cached(SQL.run_fork_reach)?.query_row(of, |row| row.get(0))?;
        Ok(reach == ask.until)
    }

    fn fork(&mut self, ask: &ForkRun) -> Result<()> {
        if self.is_known(ask)? {
            return Ok(());
        }
        let Some(place) = self.make_alone(&ask.run)? else { return Ok(()) };
        let token = Token::next(None, self.now.wall);
        self.at.prepare_cached(SQL.run_fork_token)?.execute(params![place, token.get()])?;
        self.copy(ask, token)?;
        self.place_new(&ask.run, place)
    }

    fn copy(&self, ask: &ForkRun, token: Token) -> Result<()> {
        let without: BTreeSet<u32> = ask.without.iter().copied().collect();
        let instead: BTreeMap<u32, &[u8]> =
            ask.instead.iter().map(|(seq, data)| (*seq, data.as_slice())).collect();
        let (mut next, mut from) = (0, 0);
        let run = JobRef { namespace: ask.run.namespace.clone(), id: ask.of };
        while from < ask.until {
            let page = self.load(&LoadRun { run: run.clone(), from, limit: PAGE })?;
            let Some(last) = page.last() else { break };
            from = last.seq + 1;
            for entry in page.iter().filter(|entry| entry.seq < ask.until && !without.contains(&entry.seq)) {
                let data =
                    instead.get(&entry.seq).map_or_else(|| entry.phase.row_data(), |data| data.to_vec());
                self.add(ask, &mut next, entry, entry.token, &data)?;
            }
        }
        ask.more.iter().try_for_each(|entry| self.add(ask, &mut next, entry, token, &entry.phase.row_data()))
    }

    fn add(&self, ask: &ForkRun, next: &mut u32, entry: &Entry, token: Token, data: &[u8]) -> Result<()> {
        self.at.prepare_cached(SQL.run_entry)?.execute(params![
            ask.run.namespace.as_str(),
            job_id(ask.run.id),
            *next,
            entry.at.as_micros(),
            token.get(),
            entry.position.as_str(),
            entry.op.as_str(),
            entry.phase.word(),
            entry.name,
            data,
        ])?;
        *next += 1;
        Ok(())
    }
}
