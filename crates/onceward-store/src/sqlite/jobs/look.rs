//! Looking at jobs: one by one, and page by page. That a job runs is read from the claims, which are few.

use std::collections::BTreeMap;

use onceward_core::job::{self, Record, Running, State};
use onceward_core::{JobId, Namespace, Owner, Token};
use rusqlite::{OptionalExtension, Result, params};

use super::super::statements::SQL;
use super::Jobs;
use super::rows::{self, Claim, job as job_id};
use crate::{JobRef, ListJobs};

/// Behind every id, in the order of a listing.
const LAST: [u8; 17] = [0xff; 17];

/// Who has claimed what, the newest claim of each job. Whether the job still runs its own token tells.
type Holders = BTreeMap<(Namespace, JobId), Running>;

impl Jobs<'_> {
    /// Every claim.
    pub(super) fn claims(&self) -> Result<Vec<Claim>> {
        let mut claims = self.at.prepare_cached(SQL.lookup_claims)?;
        claims.query_map([], rows::claim)?.collect()
    }

    /// Who has claimed what, of the jobs that are wanted.
    fn holders(&self, wanted: impl Fn(&Namespace, JobId) -> bool) -> Result<Holders> {
        let mut holders = Holders::new();
        let mut claims = self.at.prepare_cached(SQL.lookup_claims)?;
        let claims = claims.query_map([], |row| Ok((rows::claim(row)?, row.get::<_, Option<String>>(6)?)))?;
        for claim in claims {
            let (claim, owner) = claim?;
            // A session that was cleared away has no owner any more.
            let owner = Owner::from_row(owner.unwrap_or_default());
            for id in claim.jobs.into_iter().filter(|id| wanted(&claim.namespace, *id)) {
                let running = Running {
                    claim: claim.id,
                    session: claim.session,
                    token: claim.token,
                    since: claim.claimed_at,
                    owner: owner.clone(),
                };
                let newest = holders.entry((claim.namespace.clone(), id)).or_insert_with(|| running.clone());
                if newest.token < running.token {
                    *newest = running;
                }
            }
        }
        Ok(holders)
    }

    /// Whether somebody runs a job.
    pub(super) fn is_claimed(&self, row: &Record) -> Result<bool> {
        let holders = self.holders(|namespace, id| *namespace == row.namespace && id == row.id)?;
        let holder = holders.get(&(row.namespace.clone(), row.id));
        Ok(holder.is_some_and(|holder| job::is_running(row.token, holder.token)))
    }

    /// Jobs whose deadline has passed and that nobody runs.
    pub(super) fn overdue(&self, namespace: &Namespace, limit: usize) -> Result<Vec<JobRef>> {
        let held = self.holders(|of, _| of == namespace)?;
        let mut overdue = self.at.prepare_cached(SQL.job_overdue)?;
        let asked = params![namespace.as_str(), self.now.wall.as_micros()];
        let found =
            overdue.query_map(asked, |row| Ok((rows::job_id(row, 0)?, Token::from_row(row.get(1)?))))?;
        let runs = |id: JobId, token| {
            let holder = held.get(&(namespace.clone(), id));
            holder.is_some_and(|holder| job::is_running(token, holder.token))
        };
        let free = found.filter(|row| !matches!(row, Ok((id, token)) if runs(*id, *token)));
        free.take(limit).map(|row| Ok(JobRef { namespace: namespace.clone(), id: row?.0 })).collect()
    }

    /// Reads jobs, in the order asked for.
    pub(super) fn lookup(&self, asked: &[JobRef]) -> Result<Vec<Option<Record>>> {
        let mut ids: Vec<JobId> = asked.iter().map(|job| job.id).collect();
        ids.sort_unstable();
        let holders = self.holders(|_, id| ids.binary_search(&id).is_ok())?;
        let mut live = self.at.prepare_cached(SQL.lookup_live)?;
        let mut over = self.at.prepare_cached(SQL.lookup_over)?;
        let mut read = |job: &JobRef| {
            let name = params![job.namespace.as_str(), job_id(job.id)];
            if let Some(row) = live.query_row(name, rows::record_with_pause).optional()? {
                return Ok(Some(with_holder(row, &holders)));
            }
            over.query_row(name, rows::record_with_pause).optional()
        };
        asked.iter().map(&mut read).collect()
    }

    /// A page of jobs.
    pub(super) fn list(&self, ask: &ListJobs) -> Result<Vec<Record>> {
        let holders = self.holders(|namespace, _| ask.namespace.as_ref().is_none_or(|of| of == namespace))?;
        let mut found = Vec::new();
        for namespace in self.namespaces(ask)? {
            match ask.state {
                _ if ask.paused => {
                    self.page(SQL.list_paused, ask, (&namespace, None), &holders, &mut found)?
                }
                Some(State::Running) => self.running(ask, &namespace, &holders, &mut found)?,
                Some(state @ (State::Dead | State::Uncertain)) => {
                    self.page(SQL.list_wanted, ask, (&namespace, Some(state)), &holders, &mut found)?;
                }
                Some(State::Succeeded | State::Cancelled) => {
                    self.page(SQL.list_over, ask, (&namespace, None), &holders, &mut found)?;
                }
                Some(State::Scheduled | State::Ready | State::Retrying) => {
                    self.page(SQL.list_live, ask, (&namespace, None), &holders, &mut found)?;
                }
                None => {
                    self.page(SQL.list_live, ask, (&namespace, None), &holders, &mut found)?;
                    self.page(SQL.list_over, ask, (&namespace, None), &holders, &mut found)?;
                }
            }
        }
        found.sort_by(|a, b| (b.id, &b.namespace).cmp(&(a.id, &a.namespace)));
        found.truncate(ask.limit);
        Ok(found)
    }

    fn namespaces(&self, ask: &ListJobs) -> Result<Vec<Namespace>> {
        if let Some(namespace) = &ask.namespace {
            return Ok(vec![namespace.clone()]);
        }
        let mut next = self.at.prepare_cached(SQL.list_namespaces)?;
        let (mut found, mut last) = (Vec::new(), String::new());
        while let Some(namespace) = next.query_row([&last], |row| row.get::<_, Option<String>>(0))? {
            found.push(Namespace::from_row(namespace.as_str()));
            last = namespace;
        }
        Ok(found)
    }

    /// The jobs of one namespace from one table, as many as a page holds.
    fn page(
        &self,
        statement: &str,
        ask: &ListJobs,
        (namespace, state): (&Namespace, Option<State>),
        holders: &Holders,
        found: &mut Vec<Record>,
    ) -> Result<()> {
        let mut read = self.at.prepare_cached(statement)?;
        let before = ask.after.map_or_else(|| LAST.to_vec(), |after| job_id(after).to_vec());
        let mut rows = match state {
            Some(state) => read.query(params![namespace.as_str(), before, state.as_str()])?,
            None => read.query(params![namespace.as_str(), before])?,
        };
        let most = found.len().saturating_add(ask.limit);
        while found.len() < most
            && let Some(row) = rows.next()?
        {
            let row = with_holder(rows::record_with_pause(row)?, holders);
            if is_wanted(&row, ask) {
                found.push(row);
            }
        }
        Ok(())
    }

    /// The jobs of one namespace that run.
    fn running(
        &self,
        ask: &ListJobs,
        namespace: &Namespace,
        holders: &Holders,
        found: &mut Vec<Record>,
    ) -> Result<()> {
        let of = |(name, _): &(&(Namespace, JobId), &Running)| name.0 == *namespace;
        let most = found.len().saturating_add(ask.limit);
        for ((_, id), _) in holders.iter().rev().filter(of) {
            if found.len() >= most {
                break;
            }
            if ask.after.is_none_or(|after| *id < after)
                && let Some(row) = self.find_bare(namespace, *id)?
            {
                let row = with_holder(row, holders);
                found.extend(Some(row).filter(|row| is_wanted(row, ask)));
            }
        }
        Ok(())
    }
}

/// Fills in who runs it, if anybody does.
fn with_holder(row: Record, holders: &Holders) -> Record {
    let holder = holders.get(&(row.namespace.clone(), row.id));
    let runs = |holder: &&Running| !row.state.is_final() && job::is_running(row.token, holder.token);
    let running = holder.filter(runs).cloned();
    Record { running, ..row }
}

fn is_wanted(row: &Record, ask: &ListJobs) -> bool {
    ask.state.is_none_or(|state| state == row.state_now())
        && ask.queue.as_ref().is_none_or(|queue| *queue == row.queue)
        && ask.kind.as_ref().is_none_or(|kind| *kind == row.kind)
        && ask.tag.as_ref().is_none_or(|tag| row.tags.contains(tag))
        && (!ask.paused || row.paused.is_some())
}
