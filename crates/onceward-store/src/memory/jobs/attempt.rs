//! Attempts in the memory model: claimed, begun, and ended by a settle or a rescue, of which the first one counts.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use onceward_core::job::{self, Ended, Ending, Next, Record, State};
use onceward_core::run::Arrived;
use onceward_core::{ClaimId, JobId, Namespace, Owner, Queue, SessionId, Timestamp, Token};

use super::lanes::Lane;
use super::{Claim, Jobs, Name, name};
use crate::store::{
    BeginJob, ClaimJobs, ClaimedJobs, HandOver, HandedOver, JobProgress, JobRef, Rescued, RescuedJob,
    SettleJob, SettleJobs, SettledJob, Want,
};

/// An ending, as the worker or the rescuer has decided it.
struct Verdict<'a> {
    token: Token,
    started_at: Timestamp,
    worker: Option<Owner>,
    next: &'a Next,
    retain: Duration,
}

impl Jobs {
    pub(super) fn claim(&mut self, ask: &ClaimJobs, now: Timestamp) -> ClaimedJobs {
        let limited = if self.claims.contains_key(&ask.claim) { Vec::new() } else { self.take(ask, now) };
        ClaimedJobs { limited, ..self.held_by(ask.claim, now) }
    }

    /// What a claim holds.
    fn held_by(&self, claim: ClaimId, now: Timestamp) -> ClaimedJobs {
        let Some(claim) = self.claims.get(&claim) else {
            return ClaimedJobs { now, ..ClaimedJobs::default() };
        };
        let held = claim.names().filter(|name| self.runs(name, claim.token));
        let rows = held.filter_map(|name| self.rows.get(&name).cloned());
        let jobs = rows.map(|job| job::Claimed { job, token: claim.token }).collect();
        ClaimedJobs { jobs, now: claim.claimed_at, limited: Vec::new() }
    }

    pub(super) fn hand_over(&mut self, ask: &HandOver, now: Timestamp) -> HandedOver {
        let known = self.claims.contains_key(&ask.claim);
        let (mut enqueued, mut open) = (Vec::with_capacity(ask.jobs.len()), Vec::new());
        for new in &ask.jobs {
            let name = (ask.namespace.clone(), new.id);
            let fresh = !known && !self.rows.contains_key(&name);
            enqueued.push(self.enqueue(new, now));
            if fresh {
                open.extend(self.take_open(&name));
            }
        }
        let claimed = self.claim_open((ask.namespace.clone(), ask.claim, ask.session), open, now);
        HandedOver { enqueued, claimed }
    }

    /// Claims what was taken out of the lanes; or finds what an earlier send has claimed.
    pub(in crate::memory) fn claim_open(
        &mut self,
        (namespace, claim, session): (Namespace, ClaimId, SessionId),
        mut open: Vec<Lane>,
        now: Timestamp,
    ) -> ClaimedJobs {
        open.sort_by_key(|lane| (lane.rank, lane.run_at, lane.id));
        if !open.is_empty() {
            self.write_claim((namespace, claim, session), open, now);
        }
        self.held_by(claim, now)
    }

    /// Takes a job out of its lane that may be claimed at once.
    pub(in crate::memory) fn take_open(&mut self, name: &Name) -> Option<Lane> {
        let row = self.rows.get(name)?;
        let lane = Self::lane(row, false);
        let is_open = !self.is_paused(&name.0, &row.queue) && self.limited(&name.0, &row.queue).is_none();
        (is_open && self.ready.remove(&lane)).then_some(lane)
    }

    /// Takes jobs; the queues that have some and gave none because of their limits.
    fn take(&mut self, ask: &ClaimJobs, now: Timestamp) -> Vec<Queue> {
        let (mut limited, mut allowed) = (BTreeSet::new(), BTreeMap::new());
        for want in &ask.wants {
            match self.allowed(ask, &want.queue, now) {
                Some(most) => drop(allowed.insert(want.queue.clone(), most)),
                None if self.front(ask, want, now).is_empty() => {}
                None => drop(limited.insert(want.queue.clone())),
            }
        }
        let mut lanes: Vec<Lane> = ask.wants.iter().flat_map(|want| self.front(ask, want, now)).collect();
        lanes.sort_by_key(|lane| self.standing(lane, now));
        lanes.dedup_by_key(|lane| lane.id);
        let mut left = allowed.clone();
        lanes.retain(|lane| {
            let left = left.get_mut(&lane.queue).filter(|left| **left > 0);
            left.map(|left| *left -= 1).is_some()
        });
        lanes.truncate(if ask.alone { 1 } else { ask.limit });
        for queue in allowed.keys() {
            self.spend(ask, queue, lanes.iter().filter(|lane| lane.queue == *queue).count());
        }
        self.claim_lanes(ask, lanes, now);
        limited.into_iter().collect()
    }

    fn claim_lanes(&mut self, ask: &ClaimJobs, lanes: Vec<Lane>, now: Timestamp) {
        if lanes.is_empty() {
            return;
        }
        lanes.iter().for_each(|lane| drop(self.ready.take(lane)));
        self.write_claim((ask.namespace.clone(), ask.claim, ask.session), lanes, now);
    }

    fn write_claim(
        &mut self,
        (namespace, id, session): (Namespace, ClaimId, SessionId),
        lanes: Vec<Lane>,
        now: Timestamp,
    ) {
        let jobs: Vec<JobId> = lanes.into_iter().map(|lane| lane.id).collect();
        let rows = jobs.iter().filter_map(|id| self.rows.get(&(namespace.clone(), *id)));
        let token = job::claim_token(rows.map(|row| row.token), now);
        self.claims.insert(id, Claim { namespace, session, token, claimed_at: now, jobs });
    }

    /// The first rows of one lane.
    fn front(&self, ask: &ClaimJobs, want: &Want, now: Timestamp) -> Vec<Lane> {
        let first = Lane {
            namespace: ask.namespace.clone(),
            queue: want.queue.clone(),
            kind: want.kind.clone(),
            route: want.route.clone(),
            alone: ask.alone,
            rank: i32::MIN,
            run_at: Timestamp::from_micros(i64::MIN),
            id: JobId::from_uuid(uuid::Uuid::nil()),
        };
        let same = |lane: &&Lane| {
            (&lane.namespace, &lane.queue, &lane.kind, &lane.route, lane.alone)
                == (&first.namespace, &first.queue, &first.kind, &first.route, first.alone)
        };
        let mut lane: Vec<Lane> = self.ready.range(&first..).take_while(same).cloned().collect();
        lane.sort_by_key(|lane| self.standing(lane, now));
        lane.truncate(want.limit);
        lane
    }

    pub(super) fn begin(&mut self, ask: &BeginJob, now: Timestamp) -> bool {
        let name = name(&ask.job);
        let mut claims = self.claims.values();
        let held = claims.any(|claim| {
            (claim.session, claim.token) == (ask.session, ask.token)
                && claim.namespace == name.0
                && claim.jobs.contains(&name.1)
        });
        if !held || !self.runs(&name, ask.token) || self.is_lost(ask.session, now) {
            return false;
        }
        if let Some(row) = self.rows.get_mut(&name) {
            row.begun = Some(ask.token);
        }
        self.free_at_start(&name);
        true
    }

    pub(super) fn progress(&mut self, ask: &JobProgress) -> bool {
        let name = name(&ask.job);
        if !self.runs(&name, ask.token) {
            return false;
        }
        if let Some(row) = self.rows.get_mut(&name) {
            row.progress = Some(ask.progress.clone());
        }
        true
    }

    pub(super) fn settle_all(&mut self, ask: &SettleJobs, now: Timestamp) -> Vec<SettledJob> {
        let answers = ask.jobs.iter().map(|ask| self.settle(ask, now)).collect();
        for id in &ask.finished {
            self.clear_claim(*id);
        }
        answers
    }

    pub(in crate::memory) fn settle(&mut self, ask: &SettleJob, now: Timestamp) -> SettledJob {
        let name = name(&ask.job);
        let Some(row) = self.rows.get(&name) else { return SettledJob::Gone };
        if !job::may_end(row.state, row.token, ask.fence, &ask.next) {
            return if row.token == ask.token { SettledJob::Already(row.state) } else { SettledJob::Stale };
        }
        let verdict = Verdict {
            token: ask.token,
            started_at: ask.started_at,
            worker: Some(ask.worker.clone()),
            next: &ask.next,
            retain: ask.retain,
        };
        SettledJob::Applied(self.end(&name, verdict, now))
    }

    /// Writes how an attempt ended, and puts the job where it waits or rests from now on. Its state then.
    fn end(&mut self, name: &Name, verdict: Verdict<'_>, now: Timestamp) -> State {
        let Verdict { next, .. } = verdict;
        let called_off = self.called_off.remove(name).filter(|_| !next.state.is_final());
        let state = if called_off.is_some() { State::Cancelled } else { next.state };
        let Some(row) = self.rows.get_mut(name) else { return state };
        row.state = state;
        row.token = verdict.token;
        (row.attempt, row.lost) = (next.attempt, next.lost);
        (row.attempted_at, row.worker) = (Some(verdict.started_at), verdict.worker);
        row.error = next.error.clone().or(called_off);
        row.set_result(next.result.clone());
        row.past.clone_from(&next.past);
        row.finished_at = state.is_final().then_some(now);
        row.paused = row.paused.take().filter(|_| !state.is_final());
        if let Some(delay) = next.delay.filter(|_| !state.is_final()) {
            row.run_at = now.after(delay);
        }
        let row = row.clone();
        self.ears.overhear(&row, now);
        if state.is_final() {
            self.rest(name, verdict.retain, now);
        } else {
            self.place(name, next.alone, now);
        }
        state
    }

    /// What follows from the end of a job: its key is free, the next of its ordering key may run, and it is kept for as
    /// long as it was to be.
    pub(super) fn rest(&mut self, name: &Name, retain: Duration, now: Timestamp) {
        self.free_at_end(name);
        let Some(row) = self.rows.get(name).cloned() else { return };
        self.leave_line(&row);
        if let Some(parent) = row.parent {
            let (state, error) = (row.state, row.error.clone());
            let what =
                Arrived::Child { state, result: row.said().and_then(|body| body.bytes.clone()), error };
            self.runs.child_ended((row.namespace.clone(), parent), row.id, what, now);
        }
        if !row.state.is_history() {
            return;
        }
        if retain.is_zero() {
            self.forget(name);
        } else {
            self.forget_at.insert(name.clone(), now.after(retain));
        }
    }

    /// Removes the row of a job that is over.
    pub(super) fn forget(&mut self, name: &Name) {
        self.rows.remove(name);
        self.forget_at.remove(name);
        self.dedupe.remove(name);
    }

    /// Removes a claim of which nothing runs any more.
    pub(in crate::memory) fn clear_claim(&mut self, id: ClaimId) {
        let over = |claim: &Claim| !claim.names().any(|name| self.runs(&name, claim.token));
        if self.claims.get(&id).is_some_and(over) {
            self.claims.remove(&id);
        }
    }

    pub(super) fn rescue(&mut self, limit: usize, now: Timestamp) -> Rescued {
        let mut rescued = Rescued::default();
        let lost: Vec<ClaimId> = self
            .claims
            .iter()
            .filter(|(_, claim)| self.is_lost(claim.session, now))
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            let Some(claim) = self.claims.get(&id) else { continue };
            let held: Vec<Name> = claim.names().filter(|name| self.runs(name, claim.token)).collect();
            for name in held {
                if rescued.jobs.len() >= limit {
                    rescued.more = true;
                    return rescued;
                }
                rescued.jobs.extend(self.take_over(&name, id, now));
            }
            self.claims.remove(&id);
        }
        let gone: Vec<SessionId> =
            self.sessions.values().filter(|row| row.is_lost(now)).map(|row| row.id).collect();
        rescued.sessions = gone.len() as u64;
        gone.iter().for_each(|id| drop(self.sessions.remove(id)));
        self.forget_permits();
        rescued
    }

    /// Ends an attempt whose worker is gone.
    fn take_over(&mut self, name: &Name, claim: ClaimId, now: Timestamp) -> Option<RescuedJob> {
        let (claim, row) = (self.claims.get(&claim)?, self.rows.get(name)?);
        let worker = self.sessions.get(&claim.session).map(|session| session.owner.clone());
        let (token, started_at) = (claim.token, claim.claimed_at);
        let next = lost(row, token, started_at, worker.as_ref(), self.called_off.contains_key(name), now);
        // An uncertain job keeps the token, so that its worker, should it come back, can still say how it was.
        let token = if next.state == State::Uncertain { token } else { Token::next(Some(token), now) };
        let (queue, retain) = (row.queue.clone(), row.policy.kept_for());
        let state = self.end(name, Verdict { token, started_at, worker, next: &next, retain }, now);
        let job = JobRef { namespace: name.0.clone(), id: name.1 };
        Some(RescuedJob { job, queue, state })
    }
}

/// What becomes of a job whose attempt was lost.
fn lost(
    row: &Record,
    token: Token,
    started_at: Timestamp,
    worker: Option<&Owner>,
    called_off: bool,
    now: Timestamp,
) -> Next {
    // The start of a handler is written down only where it matters: everything else may have been started.
    let begun = !row.policy.at_most_once || row.begun == Some(token);
    let worker = worker.cloned().unwrap_or_else(|| Owner::from_row(""));
    let ended = Ended { token, started_at, worker, http: None };
    // A lost attempt waits for nothing: no jitter is drawn.
    job::end(row.facts(), &ended, Ending::Lost { begun }, now, called_off, 0)
}
