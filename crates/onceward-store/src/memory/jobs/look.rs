//! Looking at jobs in the memory model, moving them from outside, and forgetting what is over.

use onceward_core::job::{self, Move, Moved, Payload, Record, State};
use onceward_core::once::Body;
use onceward_core::{Namespace, Timestamp};

use super::enqueue::HeldKey;
use super::{Jobs, Name, name};
use crate::store::{JobRef, KEY_KEPT_FOR, ListJobs, MoveJob, Outstanding, PruneJobs, PruneOnly, PrunedJobs};

impl Jobs {
    pub(super) fn lookup(&self, asked: &[JobRef]) -> Vec<Option<Record>> {
        let mut running = self.running();
        let row = |job: &JobRef| {
            let name = name(job);
            let row = self.rows.get(&name)?.clone();
            Some(Record { running: running.remove(&name), ..row })
        };
        asked.iter().map(row).collect()
    }

    pub(super) fn list(&self, ask: &ListJobs) -> Vec<Record> {
        let running = self.running();
        let rows = self.rows.iter().map(|(name, row)| Record {
            running: running.get(name).cloned(),
            payload: Payload { bytes: Vec::new(), ..row.payload.clone() },
            result: row.result.clone().map(without_bytes),
            progress: row.progress.clone().map(without_bytes),
            ..row.clone()
        });
        let wanted = |row: &Record| {
            ask.namespace.as_ref().is_none_or(|namespace| *namespace == row.namespace)
                && ask.state.is_none_or(|state| state == row.state_now())
                && ask.queue.as_ref().is_none_or(|queue| *queue == row.queue)
                && ask.kind.as_ref().is_none_or(|kind| *kind == row.kind)
                && ask.tag.as_ref().is_none_or(|tag| row.tags.contains(tag))
                && (!ask.paused || row.paused.is_some())
                && ask.after.is_none_or(|after| row.id < after)
        };
        let mut rows: Vec<Record> = rows.filter(wanted).collect();
        rows.sort_by(|a, b| (b.id, &b.namespace).cmp(&(a.id, &a.namespace)));
        rows.truncate(ask.limit);
        rows
    }

    pub(super) fn outstanding(&self, ask: &Outstanding, now: Timestamp) -> bool {
        let running = self.running();
        let horizon = now.after(ask.horizon);
        let waits = |row: &Record| match row.state {
            State::Ready | State::Retrying => true,
            State::Scheduled => row.run_at <= horizon,
            _ => false,
        };
        self.rows.iter().any(|(name, row)| {
            let asked = row.namespace == ask.namespace
                && ask.queues.contains(&row.queue)
                && ask.kinds.contains(&row.kind)
                && job::may_take(&job::route(&row.tags), &ask.tags);
            let open = || row.paused.is_none() && !self.is_paused(&row.namespace, &row.queue);
            asked && (running.contains_key(name) || (waits(row) && open()))
        })
    }

    pub(super) fn overdue(&self, namespace: &Namespace, limit: usize, now: Timestamp) -> Vec<JobRef> {
        let running = self.running();
        let is_over = |row: &Record| !row.state.is_final() && row.is_overdue(now);
        let rows = self.rows.iter().filter(|(name, row)| {
            row.namespace == *namespace && is_over(row) && !running.contains_key(*name)
        });
        let mut found: Vec<_> = rows.map(|(_, row)| (row.policy.deadline, row.id)).collect();
        found.sort_unstable();
        found.truncate(limit);
        found.into_iter().map(|(_, id)| JobRef { namespace: namespace.clone(), id }).collect()
    }

    pub(super) fn intervene(&mut self, ask: &MoveJob, now: Timestamp) -> Moved {
        let name = name(&ask.job);
        let row = self.lookup(core::slice::from_ref(&ask.job)).pop().flatten();
        let answer = match (job::intervene(row.as_ref(), ask.token, &ask.to), &row) {
            (applied @ Moved::Applied { .. }, Some(row)) => {
                self.other_holder(row, &ask.to, now).map_or(applied, Moved::KeyTaken)
            }
            (answer, _) => answer,
        };
        if ask.dry_run {
            return answer;
        }
        match (&answer, row) {
            (Moved::Applied { .. }, Some(row)) => self.apply(&name, &row, ask, now),
            (Moved::Noted, Some(mut row)) if matches!(ask.to, Move::Pause | Move::Resume) => {
                row.paused = ask.to.pause(&ask.actor, ask.reason.as_deref(), now);
                self.rows.insert(name, Record { running: None, ..row });
            }
            (Moved::Noted, _) => {
                let note = ask.to.note(&ask.actor, ask.reason.as_deref());
                self.called_off.entry(name).or_insert(note);
            }
            _ => {}
        }
        answer
    }

    fn apply(&mut self, name: &Name, row: &Record, ask: &MoveJob, now: Timestamp) {
        self.unplace(name);
        self.take_again(row, &ask.to);
        let moved = job::moved(row, &ask.to, &ask.actor, ask.reason.as_deref(), now);
        let (retain, rests) = (moved.policy.kept_for(), moved.state.is_final());
        self.rows.insert(name.clone(), moved);
        if rests {
            if let Some(row) = self.rows.get(name) {
                self.ears.overhear(row, now);
            }
            self.rest(name, retain, now);
        } else {
            // One that has lost processes may lose the next as well.
            self.place(name, row.runs_alone(), now);
        }
    }

    /// A key that lasts as long as its job is looked at again tomorrow: so it may last up to a day longer.
    fn keep_keys(&mut self, now: Timestamp) {
        let expired = |held: &HeldKey| held.expires_at.is_some_and(|expires_at| expires_at <= now);
        let kept = self.keys.iter().filter(|(key, held)| expired(held) && !self.is_over(key, held, now));
        let kept: Vec<_> = kept.map(|(key, _)| key.clone()).collect();
        for key in &kept {
            if let Some(held) = self.keys.get_mut(key) {
                held.expires_at = Some(now.after(KEY_KEPT_FOR));
            }
        }
    }

    pub(super) fn prune(&mut self, ask: &PruneJobs, now: Timestamp) -> PrunedJobs {
        let (dead, done) = ask.only.of();
        let fits = |name: &Name| self.rows.get(name).is_some_and(|row| fits(&ask.only, row));
        let over = self.forget_at.iter().filter(|(name, at)| done && **at <= now && fits(name));
        let done: Vec<Name> = over.map(|(name, _)| name.clone()).take(ask.limit).collect();
        let is_old = |row: &Record| {
            let kept = self.tuning(&row.namespace, &row.queue).retain_dead.unwrap_or(ask.dead_older_than);
            row.finished_at.is_some_and(|finished_at| finished_at <= now.before(kept))
        };
        let over = self
            .rows
            .iter()
            .filter(|(name, row)| dead && row.state == State::Dead && is_old(row) && fits(name));
        let dead: Vec<Name> = over.map(|(name, _)| name.clone()).take(ask.limit).collect();
        if !ask.dry_run {
            done.iter().chain(&dead).for_each(|name| self.forget(name));
        }
        if !ask.dry_run && ask.only.is_all() {
            self.keep_keys(now);
        }
        let over = self.keys.iter().filter(|(key, held)| ask.only.is_all() && self.is_over(key, held, now));
        let over: Vec<_> = over.map(|(key, _)| key.clone()).take(ask.limit).collect();
        for key in over.iter().filter(|_| !ask.dry_run) {
            self.keys.remove(key);
        }
        PrunedJobs { done: done.len() as u64, dead: dead.len() as u64, keys: over.len() as u64 }
    }
}

fn fits(only: &PruneOnly, row: &Record) -> bool {
    only.namespace.as_ref().is_none_or(|namespace| *namespace == row.namespace)
        && only.queue.as_ref().is_none_or(|queue| *queue == row.queue)
        && only.kind.as_ref().is_none_or(|kind| *kind == row.kind)
        && only.state.is_none_or(|state| state == row.state)
}

fn without_bytes(body: Body) -> Body {
    Body { bytes: None, ..body }
}
