//! Runs in the memory model: their journals, and what has arrived for them.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use onceward_core::job::{Record, State};
use onceward_core::run::generation::{generation, turn};
use onceward_core::run::{Arrival, Arrived, Entry, Phase};
use onceward_core::{JobId, Result, Timestamp, Token};
use uuid::Uuid;

use super::MemoryStore;
use super::jobs::{Jobs, Lane, Name, name};
use crate::store::{
    AppendRun, AppendRuns, Appended, ContinueRun, ForkRun, HandChildren, JobRef, LoadRun, NoteArrivals,
    RunStore, TellRun, Told, Woken,
};

/// What is kept of runs beside their jobs.
#[derive(Default)]
pub(super) struct Runs {
    journals: BTreeMap<Name, Vec<Entry>>,
    inbox: BTreeMap<(Name, Uuid), Waiting>,
}

struct Waiting {
    arrival: Arrival,
    /// Whether the run knows of it.
    noted: bool,
}

impl Runs {
    /// A child has ended.
    pub(super) fn child_ended(&mut self, parent: Name, id: JobId, what: Arrived, at: Timestamp) {
        self.arrive(parent, id.as_uuid(), what, at);
    }

    /// Its journal.
    #[cfg(feature = "conformance")]
    pub(super) fn journal(&self, run: &Name) -> &[Entry] {
        self.journals.get(run).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether something has arrived for it that it does not know of.
    #[cfg(feature = "conformance")]
    pub(super) fn has_news(&self, run: &Name) -> bool {
        let first = (run.clone(), Uuid::nil());
        let mut of_run = self.inbox.range(first..).take_while(|((of, _), _)| of == run);
        of_run.any(|(_, waiting)| !waiting.noted)
    }

    /// Whether it is new.
    fn arrive(&mut self, run: Name, id: Uuid, what: Arrived, at: Timestamp) -> bool {
        let arrival = Arrival { id, at, what };
        let before = self.inbox.len();
        self.inbox.entry((run, id)).or_insert(Waiting { arrival, noted: false });
        self.inbox.len() > before
    }

    fn arrived(&self, run: &Name) -> Vec<Arrival> {
        let first = (run.clone(), Uuid::nil());
        let of_run = self.inbox.range(first..).take_while(|((of, _), _)| of == run);
        let mut arrived: Vec<Arrival> = of_run.map(|(_, waiting)| waiting.arrival.clone()).collect();
        arrived.sort_by_key(|arrival| (arrival.at, arrival.id));
        arrived
    }
}

impl Jobs {
    fn append_all(&mut self, ask: &AppendRuns, now: Timestamp) -> Appended {
        let mut open = Vec::new();
        let added = ask.runs.iter().map(|run| self.append(run, now, &mut open)).collect();
        for claim in &ask.finished {
            self.clear_claim(*claim);
        }
        let claimed = ask.hand.as_ref().map(|HandChildren { namespace, session, claim }| {
            self.claim_open((namespace.clone(), *claim, *session), open, now)
        });
        Appended { added, claimed: claimed.unwrap_or_default() }
    }

    fn append(&mut self, ask: &AppendRun, now: Timestamp, open: &mut Vec<Lane>) -> bool {
        let run = name(&ask.run);
        if self.is_lost(ask.session, now) || !self.runs(&run, ask.token) {
            return false;
        }
        let before: BTreeSet<u32> =
            self.runs.journals.get(&run).into_iter().flatten().map(|entry| entry.seq).collect();
        let sent = ask.entries.last().is_some_and(|last| before.contains(&last.seq));
        if !sent && !ask.ended.iter().all(|ended| self.runs(&name(&ended.job), ended.fence)) {
            return false;
        }
        let journal = self.runs.journals.entry(run.clone()).or_default();
        journal.extend(ask.entries.iter().filter(|entry| !before.contains(&entry.seq)).cloned());
        for id in &ask.taken {
            self.runs.inbox.remove(&(run.clone(), *id));
        }
        for ended in ask.ended.iter().filter(|_| !sent) {
            self.settle(ended, now);
            // It stands in the journal.
            self.runs.inbox.remove(&(run.clone(), ended.job.id.as_uuid()));
        }
        for child in ask.children.iter().filter(|child| !before.contains(&child.seq)) {
            self.enqueue(&child.job, now);
            if child.at_once {
                open.extend(self.take_open(&(child.job.namespace.clone(), child.job.id)));
            }
        }
        true
    }

    fn go_on_as_new(&mut self, ask: &ContinueRun, now: Timestamp) -> bool {
        let run = name(&ask.run);
        if self.is_lost(ask.session, now) || !self.runs(&run, ask.token) {
            return false;
        }
        let journal = self.runs.journals.get(&run).map(Vec::as_slice).unwrap_or_default();
        if generation(journal) == ask.turn.generation {
            return true;
        }
        if turn(journal, now, ask.token).is_none_or(|turn| turn.seq != ask.turn.seq) {
            return false;
        }
        let entries = ask.turn.entries.iter().map(|entry| Entry { token: ask.token, ..entry.clone() });
        self.runs.journals.insert(run.clone(), entries.collect());
        let is_step = |what: &Arrived| matches!(what, Arrived::Step { .. });
        self.runs.inbox.retain(|(of, _), waiting| *of != run || !is_step(&waiting.arrival.what));
        if let Some(row) = self.rows.get_mut(&run) {
            row.payload.bytes.clone_from(&ask.turn.args);
        }
        true
    }

    fn tell(&mut self, ask: &TellRun, now: Timestamp) -> Told {
        let run = name(&ask.run);
        let Some(row) = self.rows.get(&run) else { return Told::Unknown };
        if row.state.is_final() {
            return Told::Ended(row.state);
        }
        let (queue, is_paused) = (row.queue.clone(), row.paused.is_some());
        let is_new = self.runs.arrive(run.clone(), ask.id, ask.what.clone(), now);
        match is_paused {
            true => Told::Paused(queue),
            false if is_new && self.wake_parked(&run, now) => Told::Woken(queue),
            false => Told::Waits(queue),
        }
    }

    /// Makes a run ready that is parked; whether it was.
    fn wake_parked(&mut self, run: &Name, now: Timestamp) -> bool {
        let Some(row) = self.rows.get_mut(run) else { return false };
        // One that was never taken up waits for its time, and for nothing else.
        let parked = row.state == State::Scheduled
            && row.attempted_at.is_some()
            && self.later.remove(&(row.run_at, row.id, row.namespace.clone()));
        if parked {
            (row.state, row.run_at) = (State::Ready, now);
            self.place(run, false, now);
        }
        parked
    }

    fn wake(&mut self, now: Timestamp) -> Woken {
        let unknown = self.runs.inbox.iter().filter(|(_, waiting)| !waiting.noted);
        let runs: BTreeSet<Name> = unknown.map(|((run, _), _)| run.clone()).collect();
        let (mut queues, mut unheard, running) = (BTreeSet::new(), Vec::new(), self.running());
        for run in runs {
            let Some(row) = self.rows.get(&run).filter(|row| !row.state.is_history()) else {
                // What came too late for a run that is over is of no use to anybody.
                self.runs.inbox.retain(|(of, _), _| *of != run);
                continue;
            };
            let rests = row.paused.is_some() && !running.contains_key(&run);
            if row.state.is_final() || rests {
                // One that has failed may be tried again by somebody, and one that is paused goes on: it reads it then.
                let of_run = self.runs.inbox.iter_mut().filter(|((of, _), _)| *of == run);
                of_run.for_each(|(_, waiting)| waiting.noted = true);
                continue;
            }
            let queue = (row.namespace.clone(), row.queue.clone());
            if self.wake_parked(&run, now) {
                queues.insert(queue);
            } else {
                unheard.push(JobRef { namespace: run.0, id: run.1 });
            }
        }
        Woken { queues: queues.into_iter().collect(), unheard }
    }

    fn fork_all(&mut self, batch: &[ForkRun], now: Timestamp) -> bool {
        let reaches = |jobs: &Self, ask: &ForkRun| {
            let journal = jobs.runs.journals.get(&(ask.run.namespace.clone(), ask.of));
            let part = journal.into_iter().flatten();
            let part = part.filter(|entry| entry.seq < ask.until && entry.token <= ask.by);
            part.count() == ask.until as usize
        };
        let is_known =
            |jobs: &Self, ask: &ForkRun| jobs.rows.contains_key(&(ask.run.namespace.clone(), ask.run.id));
        if !batch.iter().all(|ask| is_known(self, ask) || reaches(self, ask)) {
            return false;
        }
        for ask in batch {
            if !is_known(self, ask) {
                self.fork(ask, now);
            }
        }
        true
    }

    fn fork(&mut self, ask: &ForkRun, now: Timestamp) {
        let name = (ask.run.namespace.clone(), ask.run.id);
        // Whoever takes it up reads its journal.
        let token = Token::next(None, now);
        let journal =
            self.runs.journals.get(&(ask.run.namespace.clone(), ask.of)).cloned().unwrap_or_default();
        let kept =
            journal.into_iter().filter(|entry| entry.seq < ask.until && !ask.without.contains(&entry.seq));
        let kept = kept.map(|entry| match ask.instead.iter().find(|(seq, _)| *seq == entry.seq) {
            Some((_, data)) => {
                let phase = Phase::from_row(entry.phase.word(), data.clone()).unwrap_or(entry.phase);
                Entry { phase, ..entry }
            }
            None => entry,
        });
        let all = kept.chain(ask.more.iter().map(|entry| Entry { token, ..entry.clone() }));
        let journal = (0..).zip(all).map(|(seq, entry)| Entry { seq, ..entry }).collect();
        self.runs.journals.insert(name.clone(), journal);
        self.rows.insert(name.clone(), Record { token, ..Record::of_new(&ask.run, now) });
        self.place(&name, false, now);
    }

    fn prune_runs(&mut self, after: Option<&JobRef>, limit: usize) -> (u64, Option<JobRef>) {
        let after = after.map(name);
        let later = |run: &&Name| after.as_ref().is_none_or(|after| *run > after);
        let looked: Vec<Name> = self.runs.journals.keys().filter(later).take(limit).cloned().collect();
        let told = self.runs.inbox.iter().filter(|(_, waiting)| !waiting.noted);
        let told: Vec<Name> = told.map(|((run, _), _)| run.clone()).collect();
        let asked: BTreeSet<Name> = looked.iter().cloned().chain(told).collect();
        let gone: Vec<Name> = asked.into_iter().filter(|run| !self.rows.contains_key(run)).collect();
        for run in &gone {
            self.runs.journals.remove(run);
            self.runs.inbox.retain(|(of, _), _| of != run);
        }
        let last = looked.into_iter().nth(limit.saturating_sub(1));
        (gone.len() as u64, last.map(|(namespace, id)| JobRef { namespace, id }))
    }
}

#[async_trait]
impl RunStore for MemoryStore {
    async fn run_append(&self, ask: &AppendRuns) -> Result<Appended> {
        Ok(self.jobs(|jobs, now| jobs.append_all(ask, now)))
    }

    async fn run_continue(&self, batch: &[ContinueRun]) -> Result<Vec<bool>> {
        Ok(self.jobs(|jobs, now| batch.iter().map(|ask| jobs.go_on_as_new(ask, now)).collect()))
    }

    async fn run_load(&self, asks: &[LoadRun]) -> Result<Vec<Vec<Entry>>> {
        let part = |runs: &Runs, ask: &LoadRun| {
            let journal = runs.journals.get(&name(&ask.run));
            let entries = journal.into_iter().flatten().filter(|entry| entry.seq >= ask.from);
            entries.take(ask.limit).cloned().collect()
        };
        Ok(self.jobs(|jobs, _| asks.iter().map(|ask| part(&jobs.runs, ask)).collect()))
    }

    async fn run_arrived(&self, runs: &[JobRef]) -> Result<Vec<Vec<Arrival>>> {
        Ok(self.jobs(|jobs, _| runs.iter().map(|run| jobs.runs.arrived(&name(run))).collect()))
    }

    async fn run_tell(&self, batch: &[TellRun]) -> Result<Vec<Told>> {
        Ok(self.jobs(|jobs, now| batch.iter().map(|ask| jobs.tell(ask, now)).collect()))
    }

    async fn run_note(&self, batch: &[NoteArrivals]) -> Result<()> {
        self.jobs(|jobs, _| {
            for ask in batch {
                for id in &ask.ids {
                    let waiting = jobs.runs.inbox.get_mut(&(name(&ask.run), *id));
                    waiting.into_iter().for_each(|waiting| waiting.noted = true);
                }
            }
        });
        Ok(())
    }

    async fn run_wake(&self) -> Result<Woken> {
        Ok(self.jobs(Jobs::wake))
    }

    async fn run_fork(&self, batch: &[ForkRun]) -> Result<bool> {
        Ok(self.jobs(|jobs, now| jobs.fork_all(batch, now)))
    }

    async fn run_prune(&self, after: Option<&JobRef>, limit: usize) -> Result<(u64, Option<JobRef>)> {
        Ok(self.jobs(|jobs, _| jobs.prune_runs(after, limit)))
    }
}
