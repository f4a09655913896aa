//! Claiming: the first rows of the lanes go, and one row for all of them comes.

use std::collections::{BTreeMap, BTreeSet};

use onceward_core::job::{self, Claimed, Record};
use onceward_core::{ClaimId, JobId, Namespace, Queue, SessionId, Timestamp};
use rusqlite::{CachedStatement, OptionalExtension, Result, Row, params};

use super::super::rows::session;
use super::super::statements::SQL;
use super::Jobs;
use super::rows::{self, Claim, claim_id, job as job_id};
use crate::{ClaimJobs, ClaimedJobs, Want};

/// A row of a lane that may be taken: in the order in which jobs are started.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// Its rank, with what waiting counts.
    standing: i64,
    run_at: i64,
    id: JobId,
    rank: i64,
    place: i64,
    /// Which of the lanes that were asked for.
    want: usize,
    /// Whether waiting counts in its queue.
    ages: bool,
}

impl Jobs<'_> {
    /// The answer where all lanes are empty, which wants nothing written.
    pub(super) fn claim_nothing(&self, ask: &ClaimJobs) -> Result<Option<ClaimedJobs>> {
        if self.claim_of(ask.claim)?.is_some() {
            return Ok(None);
        }
        let mut limited = BTreeSet::new();
        for want in &ask.wants {
            if !self.is_ready(ask, want)? {
                continue;
            }
            match self.allowed(ask, &want.queue)? {
                Some(0) => {}
                Some(_) => return Ok(None),
                None => drop(limited.insert(want.queue.clone())),
            }
        }
        let limited = limited.into_iter().collect();
        Ok(Some(ClaimedJobs { jobs: Vec::new(), now: self.now.wall, limited }))
    }

    /// Whether a lane holds anything.
    fn is_ready(&self, ask: &ClaimJobs, want: &Want) -> Result<bool> {
        self.at.prepare_cached(SQL.claim_ready)?.query_row(lane(ask, want), |row| row.get(0))
    }

    /// Takes jobs, or finds what an earlier send of the same claim took; wants the write lock.
    pub(super) fn claim(&mut self, ask: &ClaimJobs) -> Result<ClaimedJobs> {
        if let Some(before) = self.claim_of(ask.claim)? {
            return self.claimed_before(&before);
        }
        let (jobs, limited) = self.take(ask)?;
        let claimed = self.write_claim(&ask.namespace, ask.claim, ask.session, jobs)?;
        Ok(ClaimedJobs { limited, ..claimed })
    }

    /// Writes down who has these jobs from now on, unless there are none.
    pub(super) fn write_claim(
        &self,
        namespace: &Namespace,
        claim: ClaimId,
        holder: SessionId,
        jobs: Vec<Record>,
    ) -> Result<ClaimedJobs> {
        let token = job::claim_token(jobs.iter().map(|job| job.token), self.now.wall);
        if !jobs.is_empty() {
            let ids: Vec<u8> = jobs.iter().flat_map(|job| job_id(job.id)).collect();
            self.at.prepare_cached(SQL.claim_insert)?.execute(params![
                claim_id(claim),
                namespace.as_str(),
                session(holder),
                token.get(),
                self.now.wall.as_micros(),
                ids,
            ])?;
        }
        let jobs = jobs.into_iter().map(|job| Claimed { job, token }).collect();
        Ok(ClaimedJobs { jobs, now: self.now.wall, limited: Vec::new() })
    }

    pub(super) fn claim_of(&self, claim: ClaimId) -> Result<Option<Claim>> {
        self.at.prepare_cached(SQL.claim_again)?.query_row([claim_id(claim)], rows::claim).optional()
    }

    /// What a claim still holds of what it took.
    pub(super) fn claimed_before(&self, claim: &Claim) -> Result<ClaimedJobs> {
        let mut jobs = Vec::with_capacity(claim.jobs.len());
        for id in &claim.jobs {
            let row = self.find(&claim.namespace, *id)?;
            let runs = |row: &Record| !row.state.is_final() && job::is_running(row.token, claim.token);
            jobs.extend(row.filter(runs).map(|job| Claimed { job, token: claim.token }));
        }
        Ok(ClaimedJobs { jobs, now: claim.claimed_at, limited: Vec::new() })
    }

    /// Takes the first rows of the lanes that were asked for, and reads their jobs.
    fn take(&self, ask: &ClaimJobs) -> Result<(Vec<Record>, Vec<Queue>)> {
        let limit = if ask.alone { 1 } else { ask.limit };
        let (mut front, limited) = self.front(ask, limit)?;
        front.truncate(limit);
        self.spend(ask, front.iter().filter_map(|taken| ask.wants.get(taken.want)))?;
        self.take_rows(ask, &front)?;
        let mut read = self.at.prepare_cached(SQL.claim_read)?;
        let mut jobs = Vec::with_capacity(front.len());
        for candidate in front {
            // A row of a lane without a job, which only somebody else's SQL can have left, is cleared away with this.
            jobs.extend(self.read(&mut read, &ask.namespace, &candidate)?);
        }
        Ok((jobs, limited))
    }

    /// Removes the rows of lanes that were chosen: of each lane, or of each rank in it where waiting counts, the first
    /// ones, so that all up to the last of them go in one stroke.
    fn take_rows(&self, ask: &ClaimJobs, front: &[Candidate]) -> Result<()> {
        let mut taken = BTreeSet::new();
        for last in front.iter().rev() {
            let Some(want) = ask.wants.get(last.want) else { continue };
            let ages = last.ages.then_some(last.rank);
            if !taken.insert((last.want, ages)) {
                continue;
            }
            let statement = if last.ages { SQL.claim_take_of_rank } else { SQL.claim_take };
            let [namespace, queue, kind, route] = names(ask, want);
            let id = job_id(last.id);
            let upto = params![namespace, queue, kind, route, ask.alone, last.rank, last.run_at, id];
            self.at.prepare_cached(statement)?.execute(upto)?;
        }
        Ok(())
    }

    /// The first rows of a lane, at most so many; where waiting counts as priority, of each rank in it.
    fn front_of(&self, ask: &ClaimJobs, (at, want): (usize, &Want), most: usize) -> Result<Vec<Candidate>> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let [namespace, queue, kind, route] = names(ask, want);
        let tuning = self.tuning(&ask.namespace, &want.queue)?;
        let ages = tuning.ageing.is_some();
        let candidate = |row: &Row<'_>| {
            let (rank, run_at) = (row.get(0)?, row.get(1)?);
            let standing = tuning.rank(rank, Timestamp::from_micros(run_at), self.now.wall);
            let (id, place) = (rows::job_id(row, 2)?, row.get(3)?);
            Ok(Candidate { standing, rank, run_at, id, place, want: at, ages })
        };
        if !ages {
            let mut lane = self.at.prepare_cached(SQL.claim_front)?;
            let rows = lane.query_map(params![namespace, queue, kind, route, ask.alone, most], candidate)?;
            return rows.collect();
        }
        let mut front = Vec::new();
        let mut ranks = self.at.prepare_cached(SQL.claim_rank)?;
        let mut lane = self.at.prepare_cached(SQL.claim_of_rank)?;
        let mut last = i64::MIN;
        let rank = |row: &Row<'_>| row.get::<_, i64>(0);
        while let Some(next) =
            ranks.query_row(params![namespace, queue, kind, route, ask.alone, last], rank).optional()?
        {
            last = next;
            let rows =
                lane.query_map(params![namespace, queue, kind, route, ask.alone, most, next], candidate)?;
            for row in rows {
                front.push(row?);
            }
        }
        front.sort_unstable();
        front.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        Ok(front)
    }

    /// The first rows of all lanes together, in the order in which they are to be started; and the queues that
    /// have some and give none because of their limits.
    fn front(&self, ask: &ClaimJobs, limit: usize) -> Result<(Vec<Candidate>, Vec<Queue>)> {
        let mut front = Vec::new();
        let (mut allowed, mut limited) = (BTreeMap::<&Queue, Option<usize>>::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for (at, want) in ask.wants.iter().enumerate() {
            if !allowed.contains_key(&want.queue) {
                allowed.insert(&want.queue, self.allowed(ask, &want.queue)?);
            }
            let most = allowed.get(&want.queue).copied().flatten();
            if most.is_none() && !limited.contains(&want.queue) && self.is_ready(ask, want)? {
                limited.push(want.queue.clone());
            }
            let most = most.unwrap_or(0).min(want.limit).min(limit);
            if most == 0 || !seen.insert(names(ask, want)) {
                continue;
            }
            front.extend(self.front_of(ask, (at, want), most)?);
        }
        if seen.len() > 1 || front.iter().any(|candidate| candidate.ages) {
            front.sort_unstable();
            front.retain(|candidate| {
                let queue = ask.wants.get(candidate.want).map(|want| &want.queue);
                let left = queue.and_then(|queue| allowed.get_mut(queue)?.as_mut()).filter(|left| **left > 0);
                left.map(|left| *left -= 1).is_some()
            });
        }
        Ok((front, limited))
    }

    /// A job where its lane says it is, or wherever else it is.
    fn read(
        &self,
        read: &mut CachedStatement<'_>,
        namespace: &Namespace,
        candidate: &Candidate,
    ) -> Result<Option<Record>> {
        let row = read.query_row([candidate.place], rows::record).optional()?;
        match row.filter(|row| row.id == candidate.id && row.namespace == *namespace) {
            Some(row) => Ok(Some(row)),
            None => self.find(namespace, candidate.id),
        }
    }

    /// A job that is not over.
    pub(super) fn find(&self, namespace: &Namespace, id: JobId) -> Result<Option<Record>> {
        let mut find = self.at.prepare_cached(SQL.claim_find)?;
        find.query_row(params![namespace.as_str(), job_id(id)], rows::record).optional()
    }
}

fn names<'a>(ask: &'a ClaimJobs, want: &'a Want) -> [&'a str; 4] {
    [ask.namespace.as_str(), want.queue.as_str(), want.kind.as_str(), want.route.as_str()]
}

fn lane<'a>(ask: &'a ClaimJobs, want: &'a Want) -> impl rusqlite::Params + 'a {
    let [namespace, queue, kind, route] = names(ask, want);
    (namespace, queue, kind, route, ask.alone)
}
