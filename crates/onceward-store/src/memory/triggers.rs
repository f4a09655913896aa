//! Triggers in the memory model.

use std::collections::BTreeMap;

use async_trait::async_trait;
use onceward_core::job::Record;
use onceward_core::trigger::{Heard, Outcome, Trigger, Watch};
use onceward_core::{Namespace, Result, Timestamp, TriggerName};

use super::{MemoryStore, Tables};
use crate::store::{HeardOutcomes, HeardTriggers, ListTriggers, ListedTriggers, TriggerStore, WriteTrigger};

type Name = (Namespace, TriggerName);

/// What triggers listen to, and what they have heard.
#[derive(Default)]
pub(super) struct Ears {
    watches: BTreeMap<Name, Vec<Watch>>,
    heard: BTreeMap<i64, (Namespace, Heard)>,
    last: i64,
}

impl Ears {
    /// Writes down what triggers want to hear of what has become of a job.
    pub(super) fn overhear(&mut self, row: &Record, at: Timestamp) {
        let Some(outcome) = Outcome::of(row.state) else { return };
        for ((namespace, trigger), watches) in &self.watches {
            let wanted = |watch: &&Watch| {
                watch.state == row.state.as_str()
                    && watch.kind.as_ref().is_none_or(|kind| *kind == row.kind)
                    && watch.queue.as_ref().is_none_or(|queue| *queue == row.queue)
            };
            // Once, also where it listens to that end in several ways.
            let mine: Vec<&Watch> =
                watches.iter().filter(wanted).filter(|_| *namespace == row.namespace).collect();
            if mine.is_empty() {
                continue;
            }
            self.last += 1;
            let heard = Heard {
                number: self.last,
                trigger: trigger.clone(),
                job: row.id,
                token: row.token,
                at,
                outcome,
                kind: row.kind.clone(),
                queue: row.queue.clone(),
                spec: row.spec(),
                error: row.error.clone(),
                body: mine.iter().any(|watch| watch.body).then(|| row.payload.bytes.clone()),
            };
            self.heard.insert(self.last, (namespace.clone(), heard));
        }
    }

    fn forget(&mut self, (namespace, name): &Name) {
        self.watches.remove(&(namespace.clone(), name.clone()));
        self.heard.retain(|_, (of, heard)| !(of == namespace && heard.trigger == *name));
    }
}

impl Tables {
    fn write_trigger(&mut self, ask: &WriteTrigger) -> bool {
        let name = (ask.row.namespace.clone(), ask.row.name.clone());
        let seen = self.triggers.get(&name).map_or(0, |row| row.version);
        if seen != ask.row.version {
            return false;
        }
        let ears = &mut self.jobs.ears;
        if ask.listens {
            ears.watches.insert(name.clone(), ask.row.watches());
        }
        for number in &ask.heard {
            let mine = |(of, heard): &(Namespace, Heard)| *of == name.0 && heard.trigger == name.1;
            if ears.heard.get(number).is_some_and(mine) {
                ears.heard.remove(number);
            }
        }
        let mut row = ask.row.clone();
        row.version = seen + 1;
        self.triggers.insert(name, row);
        true
    }
}

#[async_trait]
impl TriggerStore for MemoryStore {
    async fn trigger_list(&self, ask: &ListTriggers) -> Result<ListedTriggers> {
        Ok(self.verb(|tables, now| {
            let wanted = |row: &&Trigger| {
                row.namespace == ask.namespace
                    && ask.names.as_ref().is_none_or(|names| names.contains(&row.name))
                    && ask.after.as_ref().is_none_or(|after| row.name > *after)
            };
            let rows = tables.triggers.values().filter(wanted).take(ask.limit).cloned().collect();
            ListedTriggers { now, rows, unreadable: Vec::new() }
        }))
    }

    async fn trigger_heard(&self, ask: &HeardTriggers) -> Result<HeardOutcomes> {
        Ok(self.verb(|tables, _| {
            let ears = &tables.jobs.ears;
            let mine = ears
                .heard
                .values()
                .filter(|(of, heard)| *of == ask.namespace && !ask.except.contains(&heard.trigger));
            let listens =
                |(name, watches): (&Name, &Vec<Watch>)| name.0 == ask.namespace && !watches.is_empty();
            let listening = ears.watches.iter().any(listens);
            HeardOutcomes { rows: mine.take(ask.limit).map(|(_, heard)| heard.clone()).collect(), listening }
        }))
    }

    async fn trigger_write(&self, ask: &WriteTrigger) -> Result<bool> {
        let (written, woken) = self.verb(|tables, now| {
            let written = tables.write_trigger(ask);
            let woken = if written { tables.jobs.enqueue_all(&ask.jobs, now) } else { Default::default() };
            (written, woken)
        });
        self.wake_queues(woken);
        Ok(written)
    }

    async fn trigger_remove(&self, namespace: &Namespace, name: &TriggerName, version: i64) -> Result<bool> {
        Ok(self.verb(|tables, _| {
            let name = (namespace.clone(), name.clone());
            let same = tables.triggers.get(&name).is_some_and(|row| row.version == version);
            if same {
                tables.triggers.remove(&name);
            }
            if !tables.triggers.contains_key(&name) {
                tables.jobs.ears.forget(&name);
            }
            same
        }))
    }
}
