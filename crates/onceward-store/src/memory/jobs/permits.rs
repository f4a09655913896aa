//! Limits of queues in the memory model, and the permits that sessions hold of them (J11).

use core::time::Duration;
use std::collections::BTreeMap;

use onceward_core::job::limit::{Bucket, Limits};
use onceward_core::job::permit::{Permit, Standing, grant};
use onceward_core::{Namespace, Owner, Queue, SessionId, Timestamp};

use super::Jobs;
use crate::store::{AskPermits, ClaimJobs, LimitQueue, Permits};

/// A queue that is or was limited.
pub(super) struct Limited {
    pub(super) limits: Limits,
    pub(super) at: Option<Timestamp>,
    pub(super) by: Option<Owner>,
    setting: i64,
    bucket: Bucket,
    /// Whether jobs may run that were claimed before it was limited.
    unsettled: bool,
    permits: BTreeMap<SessionId, Permit>,
}

impl Limited {
    /// How many permits are held.
    pub(super) fn held(&self) -> u64 {
        self.permits.values().map(|permit| u64::from(permit.held)).sum()
    }
}

impl Jobs {
    pub(super) fn limit(&mut self, ask: &LimitQueue, now: Timestamp) {
        let name = (ask.namespace.clone(), ask.queue.clone());
        let any = ask.limits.any();
        let limited = Limited {
            limits: ask.limits,
            at: any.then_some(now),
            by: Some(ask.actor.clone()).filter(|_| any),
            setting: self.limited.get(&name).map_or(0, |before| before.setting) + 1,
            bucket: Bucket::new(now),
            unsettled: true,
            permits: BTreeMap::new(),
        };
        self.limited.insert(name.clone(), limited);
        self.woken.insert(name);
    }

    pub(super) fn limited(&self, namespace: &Namespace, queue: &Queue) -> Option<&Limited> {
        self.limited.get(&(namespace.clone(), queue.clone())).filter(|limited| limited.limits.any())
    }

    pub(super) fn permits(&mut self, ask: &AskPermits, now: Timestamp) -> Permits {
        let Some(limited) = self.limited(&ask.namespace, &ask.queue) else { return Permits::default() };
        let limits = limited.limits;
        if self.is_lost(ask.session, now) {
            return Permits::none(limits);
        }
        let running = self.running_of(&ask.namespace, &ask.queue);
        let strays = running.iter().filter(|(session, _)| {
            limited.unsettled && **session != ask.session && !limited.permits.contains_key(session)
        });
        let standing = Standing {
            limits,
            setting: limited.setting,
            limits_at: limited.at.unwrap_or(now),
            bucket: limited.bucket,
            permits: limited.permits.values().copied().collect(),
            strays: strays.map(|(_, jobs)| jobs).sum(),
            running: running.get(&ask.session).copied().unwrap_or(0),
            now,
            settles: Duration::ZERO,
        };
        let granted = grant(&standing, &ask.wish());
        if let Some(limited) = self.limited.get_mut(&(ask.namespace.clone(), ask.queue.clone())) {
            limited.bucket = granted.bucket;
            limited.unsettled &= standing.is_unsettled_after();
            limited.permits.insert(ask.session, granted.permit);
        }
        Permits::of(limits, &granted, now)
    }

    /// How many jobs of a queue each session runs.
    fn running_of(&self, namespace: &Namespace, queue: &Queue) -> BTreeMap<SessionId, u32> {
        let mut running = BTreeMap::new();
        for (name, run) in self.running() {
            if name.0 == *namespace && self.rows.get(&name).is_some_and(|row| row.queue == *queue) {
                *running.entry(run.session).or_default() += 1;
            }
        }
        running
    }

    /// How many jobs of a queue a claim may take; `None` if its limits keep them back.
    pub(super) fn allowed(&self, ask: &ClaimJobs, queue: &Queue, now: Timestamp) -> Option<usize> {
        if self.is_paused(&ask.namespace, queue) {
            return Some(0);
        }
        let Some(limited) = self.limited(&ask.namespace, queue) else { return Some(ask.limit) };
        let has = ask.permitted && self.sessions.contains_key(&ask.session);
        let permit = limited.permits.get(&ask.session).filter(|_| has)?;
        let running = self.running_of(&ask.namespace, queue).get(&ask.session).copied().unwrap_or(0);
        let allowed = permit.allows(&limited.limits, running, now);
        usize::try_from(allowed).ok().filter(|allowed| *allowed > 0)
    }

    /// A claim has taken jobs of a queue.
    pub(super) fn spend(&mut self, ask: &ClaimJobs, queue: &Queue, jobs: usize) {
        let Some(limited) = self.limited.get_mut(&(ask.namespace.clone(), queue.clone())) else { return };
        if let Some(permit) = limited.permits.get_mut(&ask.session).filter(|_| limited.limits.rate.is_some())
        {
            permit.starts = permit.starts.saturating_sub(u32::try_from(jobs).unwrap_or(u32::MAX));
        }
    }

    /// Removes permits of sessions that are gone and of which nothing is left to rescue.
    pub(super) fn forget_permits(&mut self) {
        let (sessions, claims) = (&self.sessions, &self.claims);
        let is_there = |session: &SessionId| {
            sessions.contains_key(session) || claims.values().any(|claim| claim.session == *session)
        };
        for limited in self.limited.values_mut() {
            limited.permits.retain(|session, _| is_there(session));
        }
    }
}
