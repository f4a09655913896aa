//! What is written into the journal: as much at a time as one statement carries, and what has come of it with it.

use core::task::Waker;
use std::collections::VecDeque;

use onceward_core::SessionId;
use onceward_core::run::Entry;
use onceward_store::AppendRun;
use uuid::Uuid;

use super::super::awaits::by_us;
use super::{Run, State};
use crate::worker::EndedChild;

/// How many entries of a run go with one statement at most, and how many bytes of them and of its children.
const APPEND_ENTRIES: usize = 2_000;
const APPEND_BYTES: usize = 4 * 1024 * 1024;

impl Run {
    /// What is to be appended now, if anything.
    pub(in crate::durable) fn take_append(
        &self,
        session: SessionId,
    ) -> Option<(AppendRun, Vec<EndedChild>, u32)> {
        let mut state = self.lock();
        if state.entries.is_empty() && state.taken.is_empty() {
            return None;
        }
        let entries = state.next_entries();
        // What has come of other entries goes with those.
        let all = state.entries.is_empty();
        let durable = entries.last().filter(|_| !all).map_or(state.replay.len(), |last| last.seq + 1);
        let goes = |seq: u32| all || seq < durable;
        let ask = AppendRun {
            run: self.job.clone(),
            session,
            token: self.token,
            entries,
            children: take_while(&mut state.children, |child| goes(child.seq)),
            taken: take_while(&mut state.taken, |(seq, _)| goes(*seq))
                .into_iter()
                .map(|(_, id)| id)
                .collect(),
            ended: Vec::new(),
        };
        let ended = take_while(&mut state.ended, |(seq, _)| goes(*seq));
        Some((ask, ended.into_iter().map(|(_, child)| child).collect(), durable))
    }

    /// So many entries are durable from now on.
    pub(in crate::durable) fn appended(&self, durable: u32) {
        let mut state = self.lock();
        state.durable = durable;
        let intents = core::mem::take(&mut state.intents);
        let wakers: Vec<Waker> =
            intents.iter().filter_map(|at| state.slots.get_mut(at)?.waker.take()).collect();
        drop(state);
        by_us(|| wakers.into_iter().for_each(Waker::wake));
    }
}

impl State {
    /// What stands in the inbox under this id stands in the journal with the next entry, or with all that are there.
    pub(super) fn take(&mut self, id: Uuid) {
        self.taken.push_back((self.replay.len(), id));
    }

    /// As many entries as one statement carries.
    pub(super) fn next_entries(&mut self) -> Vec<Entry> {
        let (mut bytes, mut children, mut entries) = (0, self.children.iter().peekable(), Vec::new());
        while let Some(entry) = self.entries.front() {
            bytes += entry.phase.size() + entry.name.len();
            while let Some(child) = children.next_if(|child| child.seq <= entry.seq) {
                bytes += child.job.payload.bytes.len();
            }
            if !entries.is_empty() && (entries.len() >= APPEND_ENTRIES || bytes > APPEND_BYTES) {
                break;
            }
            entries.extend(self.entries.pop_front());
        }
        entries
    }
}

/// Takes from the front what goes.
fn take_while<T>(from: &mut VecDeque<T>, goes: impl Fn(&T) -> bool) -> Vec<T> {
    let count = from.iter().take_while(|item| goes(item)).count();
    from.drain(..count).collect()
}
