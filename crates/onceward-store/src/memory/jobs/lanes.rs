//! Where jobs wait in the memory model: for a worker, for their time, or for the end of the one before.

use std::collections::{BTreeMap, BTreeSet};

use onceward_core::job;
use onceward_core::job::keys::{KEY_CONCURRENCY, may_pass};
use onceward_core::job::limit::Limits;
use onceward_core::job::tuning::Tuning;
use onceward_core::{JobId, Key, Kind, Namespace, Owner, Queue, Timestamp};

use super::{Jobs, Name};
use crate::store::{Chores, LimitKeys, PauseQueue, Promoted, QUEUE_COUNT_MAX, QueueRecord, TuneQueue, Want};

/// The row of a job that is ready, in the order in which a lane is claimed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::memory) struct Lane {
    pub(super) namespace: Namespace,
    pub(super) queue: Queue,
    pub(super) kind: Kind,
    pub(super) route: String,
    pub(super) alone: bool,
    /// The priority, turned round: small goes first.
    pub(super) rank: i32,
    pub(super) run_at: Timestamp,
    pub(super) id: JobId,
}

/// The row of a job that is not due yet.
pub(super) type Due = (Timestamp, JobId, Namespace);

/// The row of a job that waits to be let in under its ordering key: rank, when it is due, which one, whether alone.
pub(super) type Held = (i32, Timestamp, JobId, bool);

/// What is said about a queue.
pub(super) struct Paused {
    at: Option<Timestamp>,
    by: Option<Owner>,
    reason: Option<String>,
}

/// How many jobs of one ordering key a queue lets through, and who has said so.
pub(super) struct KeysOf {
    most: u32,
    at: Timestamp,
    by: Owner,
}

/// What a queue is tuned by, and who has said so.
pub(super) struct Tuned {
    tuning: Tuning,
    at: Timestamp,
    by: Owner,
}

fn rank(row: &job::Record) -> i32 {
    -i32::from(row.priority)
}

fn ordered(row: &job::Record) -> Option<(Namespace, Key)> {
    row.ordering_key.clone().map(|key| (row.namespace.clone(), key))
}

impl Jobs {
    pub(super) fn lane(row: &job::Record, alone: bool) -> Lane {
        Lane {
            namespace: row.namespace.clone(),
            queue: row.queue.clone(),
            kind: row.kind.clone(),
            route: job::route(&row.tags),
            alone,
            rank: rank(row),
            run_at: row.run_at,
            id: row.id,
        }
    }

    /// Puts a job where it waits: for its time, or in its lane, where it comes at once unless it has an ordering key
    /// and was not let in under it yet. One that is paused waits nowhere.
    pub(in crate::memory) fn place(&mut self, name: &Name, alone: bool, now: Timestamp) {
        let Some(row) = self.rows.get(name).filter(|row| row.paused.is_none()) else { return };
        if row.state.is_later() && row.run_at > now {
            self.later.insert((row.run_at, row.id, row.namespace.clone()));
            return;
        }
        let is_seated =
            |key: &(Namespace, Key)| self.seated.get(key).is_some_and(|ids| ids.contains(&row.id));
        match ordered(row).filter(|key| !is_seated(key)) {
            Some(key) => {
                self.held.entry(key.clone()).or_default().insert((rank(row), row.run_at, row.id, alone));
                self.stirred.insert(key);
            }
            None => {
                self.woken.insert((row.namespace.clone(), row.queue.clone()));
                self.ready.insert(Self::lane(row, alone));
            }
        }
    }

    /// Takes a job from where it waits, as far as it does. Whether it was to be claimed alone.
    pub(super) fn unplace(&mut self, name: &Name) -> bool {
        let Some(row) = self.rows.get(name) else { return false };
        let (plain, alone) = (Self::lane(row, false), Self::lane(row, true));
        self.later.remove(&(row.run_at, row.id, row.namespace.clone()));
        // Whoever stood behind it may be first now.
        if let Some(key) = ordered(row)
            && let Some(held) = self.held.get_mut(&key)
        {
            held.retain(|(_, _, id, _)| *id != row.id);
            self.stirred.insert(key);
        }
        self.ready.remove(&plain);
        self.ready.remove(&alone)
    }

    /// A job of an ordering key has ended: the next one may be let in.
    pub(super) fn leave_line(&mut self, row: &job::Record) {
        let Some(key) = ordered(row) else { return };
        let Some(seated) = self.seated.get_mut(&key).filter(|seated| seated.contains(&row.id)) else {
            return;
        };
        seated.remove(&row.id);
        if seated.is_empty() {
            self.seated.remove(&key);
        }
        self.stirred.insert(key);
    }

    /// Lets the first jobs in of every ordering key that has changed, as many as its queues allow (J10). At the end of
    /// each verb: of the jobs of one batch the first is not the one that happens to stand first in it.
    pub(super) fn let_in(&mut self) {
        for key in core::mem::take(&mut self.stirred) {
            while self.let_one_in(&key) {}
            if self.held.get(&key).is_some_and(BTreeSet::is_empty) {
                self.held.remove(&key);
            }
        }
    }

    fn let_one_in(&mut self, key: &(Namespace, Key)) -> bool {
        let Some((_, _, id, alone)) = self.held.get(key).and_then(BTreeSet::first).copied() else {
            return false;
        };
        let Some(row) = self.rows.get(&(key.0.clone(), id)) else { return false };
        let seated = self.seated.get(key).into_iter().flatten();
        let rows = seated.filter_map(|id| self.rows.get(&(key.0.clone(), *id)));
        if !may_pass(rows.map(|row| self.key_concurrency(row)), self.key_concurrency(row)) {
            return false;
        }
        let lane = Self::lane(row, alone);
        self.woken.insert((lane.namespace.clone(), lane.queue.clone()));
        self.ready.insert(lane);
        self.seated.entry(key.clone()).or_default().insert(id);
        self.held.get_mut(key).map(BTreeSet::pop_first);
        true
    }

    fn key_concurrency(&self, row: &job::Record) -> u32 {
        let set = self.keyed.get(&(row.namespace.clone(), row.queue.clone()));
        set.map_or(KEY_CONCURRENCY, |keys| keys.most)
    }

    pub(super) fn limit_keys(&mut self, ask: &LimitKeys, now: Timestamp) {
        let keys = KeysOf { most: ask.most, at: now, by: ask.actor.clone() };
        self.keyed.insert((ask.namespace.clone(), ask.queue.clone()), keys);
        let lines = self.held.keys().filter(|(namespace, _)| *namespace == ask.namespace);
        self.stirred.extend(lines.cloned());
    }

    pub(super) fn tune(&mut self, ask: &TuneQueue, now: Timestamp) {
        let tuned = Tuned { tuning: ask.tuning, at: now, by: ask.actor.clone() };
        self.tuned.insert((ask.namespace.clone(), ask.queue.clone()), tuned);
    }

    pub(super) fn tunings(&self, namespace: &Namespace) -> Vec<(Queue, Tuning)> {
        let mine = self.tuned.iter().filter(|((of, _), tuned)| of == namespace && tuned.tuning.any());
        mine.map(|((_, queue), tuned)| (queue.clone(), tuned.tuning)).collect()
    }

    pub(super) fn tuning(&self, namespace: &Namespace, queue: &Queue) -> Tuning {
        let tuned = self.tuned.get(&(namespace.clone(), queue.clone()));
        tuned.map_or_else(Tuning::default, |tuned| tuned.tuning)
    }

    /// In which order the rows of lanes are claimed.
    pub(super) fn standing(&self, lane: &Lane, now: Timestamp) -> (i64, Timestamp, JobId) {
        let tuning = self.tuning(&lane.namespace, &lane.queue);
        (tuning.rank(lane.rank.into(), lane.run_at, now), lane.run_at, lane.id)
    }

    pub(super) fn chores(&self, now: Timestamp) -> Chores {
        let lost = self.sessions.values().any(|row| row.is_lost(now))
            || self.claims.values().any(|claim| self.is_lost(claim.session, now));
        Chores { next_due: self.later.first().map(|due| due.0), arrived: false, lost, now }
    }

    pub(super) fn promote(&mut self, limit: usize, now: Timestamp) -> Promoted {
        let mut promoted = Promoted { now, ..Promoted::default() };
        let due: Vec<Due> = self.later.iter().take_while(|due| due.0 <= now).take(limit).cloned().collect();
        let mut queues = BTreeSet::new();
        for due in due {
            self.later.remove(&due);
            let name = (due.2, due.1);
            if let Some(row) = self.rows.get(&name) {
                queues.insert((row.namespace.clone(), row.queue.clone()));
                promoted.moved += 1;
            }
            self.place(&name, false, now);
        }
        promoted.queues = queues.into_iter().collect();
        promoted.next_due = self.later.first().map(|due| due.0);
        promoted
    }

    pub(super) fn is_paused(&self, namespace: &Namespace, queue: &Queue) -> bool {
        self.paused.get(&(namespace.clone(), queue.clone())).is_some_and(|paused| paused.at.is_some())
    }

    pub(super) fn lanes(&self, namespace: &Namespace, queues: &[Queue]) -> Vec<Want> {
        let asked = self.ready.iter().filter(|lane| lane.namespace == *namespace && !lane.alone);
        let open =
            asked.filter(|lane| queues.contains(&lane.queue) && !self.is_paused(namespace, &lane.queue));
        let mut lanes: Vec<Want> = Vec::new();
        for lane in open {
            let Lane { queue, kind, route, .. } = lane.clone();
            let want = Want { queue, kind, route, limit: 0 };
            if lanes.last() != Some(&want) {
                lanes.push(want);
            }
        }
        lanes
    }

    pub(super) fn pause(&mut self, ask: &PauseQueue, now: Timestamp) {
        let queue = (ask.namespace.clone(), ask.queue.clone());
        let paused = if ask.paused {
            Paused { at: Some(now), by: Some(ask.actor.clone()), reason: ask.reason.clone() }
        } else {
            self.woken.insert(queue.clone());
            Paused { at: None, by: None, reason: None }
        };
        self.paused.insert(queue, paused);
    }

    pub(super) fn queues(&self, namespace: &Namespace) -> Vec<QueueRecord> {
        let mut queues = BTreeMap::<Queue, QueueRecord>::new();
        for ((_, queue), paused) in self.paused.iter().filter(|((of, _), _)| of == namespace) {
            let record = at(&mut queues, namespace, queue);
            record.paused_at = paused.at;
            record.paused_by.clone_from(&paused.by);
            record.pause_reason.clone_from(&paused.reason);
        }
        for ((_, queue), limited) in self.limited.iter().filter(|((of, _), _)| of == namespace) {
            let record = at(&mut queues, namespace, queue);
            record.limits = limited.limits;
            record.limits_at = limited.at;
            record.limits_by.clone_from(&limited.by);
            record.held = limited.held();
        }
        for ((_, queue), keys) in self.keyed.iter().filter(|((of, _), _)| of == namespace) {
            let record = at(&mut queues, namespace, queue);
            record.key_concurrency = keys.most;
            (record.keys_at, record.keys_by) = (Some(keys.at), Some(keys.by.clone()));
        }
        for ((_, queue), tuned) in self.tuned.iter().filter(|((of, _), _)| of == namespace) {
            let record = at(&mut queues, namespace, queue);
            record.tuning = tuned.tuning;
            (record.tuned_at, record.tuned_by) = (Some(tuned.at), Some(tuned.by.clone()));
        }
        for lane in self.ready.iter().filter(|lane| lane.namespace == *namespace) {
            let record = at(&mut queues, namespace, &lane.queue);
            record.ready = (record.ready + 1).min(QUEUE_COUNT_MAX);
            record.oldest = record.oldest.into_iter().chain([lane.run_at]).min();
            if !record.kinds.contains(&lane.kind) {
                record.kinds.push(lane.kind.clone());
            }
        }
        for (_, id, of) in self.later.iter().filter(|(_, _, of)| of == namespace) {
            if let Some(row) = self.rows.get(&(of.clone(), *id)) {
                let record = at(&mut queues, namespace, &row.queue);
                record.later = (record.later + 1).min(QUEUE_COUNT_MAX);
            }
        }
        for name in self.running().into_keys().filter(|(of, _)| of == namespace) {
            if let Some(row) = self.rows.get(&name) {
                at(&mut queues, namespace, &row.queue).running += 1;
            }
        }
        queues.into_values().collect()
    }
}

/// The line of a queue in a listing.
fn at<'a>(
    queues: &'a mut BTreeMap<Queue, QueueRecord>,
    namespace: &Namespace,
    queue: &Queue,
) -> &'a mut QueueRecord {
    queues.entry(queue.clone()).or_insert_with(|| QueueRecord {
        namespace: namespace.clone(),
        queue: queue.clone(),
        paused_at: None,
        paused_by: None,
        pause_reason: None,
        limits: Limits::default(),
        limits_at: None,
        limits_by: None,
        key_concurrency: KEY_CONCURRENCY,
        keys_at: None,
        keys_by: None,
        tuning: Tuning::default(),
        tuned_at: None,
        tuned_by: None,
        held: 0,
        ready: 0,
        later: 0,
        running: 0,
        oldest: None,
        kinds: Vec::new(),
    })
}
