//! What hints say, and how they travel: gathered, so that one message tells of many.

use std::collections::BTreeSet;

use onceward_core::{Key, Namespace, Queue};

use crate::store::Wake;

/// The longest payload: PostgreSQL takes 8000 bytes, but what it queues is shared by everybody.
const PAYLOAD_BYTES_MAX: usize = 1000;
/// The most names in one payload.
const NAMES_MAX: usize = 100;
/// Between a namespace and its key, and between names. Names hold no control characters.
const UNIT: char = '\u{1f}';
const RECORD: char = '\u{1e}';

/// What somebody is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Told {
    Lease(Namespace, Key),
    Jobs(Namespace, Queue),
}

impl Told {
    /// What is worth telling others of.
    #[cfg(feature = "redis")]
    pub(crate) fn of(wake: &Wake) -> Option<Self> {
        match wake.clone() {
            Wake::Lease(namespace, key) => Some(Self::Lease(namespace, key)),
            Wake::Jobs(namespace, queue) => Some(Self::Jobs(namespace, queue)),
            Wake::Anything => None,
        }
    }
}

#[cfg(feature = "postgres")]
impl From<Told> for Wake {
    fn from(told: Told) -> Self {
        match told {
            Told::Lease(namespace, key) => Self::Lease(namespace, key),
            Told::Jobs(namespace, queue) => Self::Jobs(namespace, queue),
        }
    }
}

/// What is to be told, until somebody takes it with him. However much comes, it holds only so much.
#[derive(Default)]
pub(crate) struct Outbox {
    names: BTreeSet<Told>,
    /// There were more names than anybody would read one by one.
    more: bool,
    /// Whether somebody is on his way with it.
    pub(crate) sending: bool,
}

impl Outbox {
    pub(crate) fn add(&mut self, told: Told) {
        if self.names.len() < NAMES_MAX {
            self.names.insert(told);
        } else {
            self.more = true;
        }
    }

    /// Whether nothing waits, and nothing is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty() && !self.sending
    }

    /// The payload of all that has gathered, of how many it tells, and whether of jobs; `None` if that is nothing.
    pub(crate) fn take(&mut self) -> Option<(String, usize, bool)> {
        let (names, more) = (core::mem::take(&mut self.names), core::mem::take(&mut self.more));
        if names.is_empty() {
            self.sending = false;
            return None;
        }
        let jobs = names.iter().any(|told| matches!(told, Told::Jobs(..)));
        Some((if more { String::new() } else { payload(&names) }, names.len(), jobs))
    }
}

fn payload(names: &BTreeSet<Told>) -> String {
    let mut payload = String::new();
    for told in names {
        if !payload.is_empty() {
            payload.push(RECORD);
        }
        let (namespace, of_jobs, name) = match told {
            Told::Lease(namespace, key) => (namespace, false, key.as_str()),
            Told::Jobs(namespace, queue) => (namespace, true, queue.as_str()),
        };
        payload.push_str(namespace.as_str());
        payload.push(UNIT);
        // Programs that know of no jobs read that as anything.
        payload.extend(of_jobs.then_some(UNIT));
        payload.push_str(name);
        if payload.len() > PAYLOAD_BYTES_MAX {
            return String::new();
        }
    }
    payload
}

/// What a payload tells; anything that is not one of ours tells that something happened.
pub(crate) fn wakes(payload: &str) -> Vec<Wake> {
    let read = |name: &str| {
        let (namespace, name) = name.split_once(UNIT)?;
        let namespace = Namespace::new(namespace).ok()?;
        Some(match name.strip_prefix(UNIT) {
            Some(queue) => Wake::Jobs(namespace, Queue::new(queue).ok()?),
            None => Wake::Lease(namespace, Key::new(name).ok()?),
        })
    };
    let wakes: Option<Vec<Wake>> = payload.split(RECORD).map(read).collect();
    wakes.unwrap_or_else(|| vec![Wake::Anything])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(namespace: &str, key: &str) -> Told {
        Told::Lease(Namespace::new(namespace).unwrap(), Key::new(key).unwrap())
    }

    #[test]
    fn names_travel_in_a_payload_and_a_long_list_becomes_anything() {
        let jobs = Told::Jobs(Namespace::new("a").unwrap(), Queue::new("b:c").unwrap());
        let names = BTreeSet::from([name("a", "b:c"), name("a:b", "c"), name("default", "ä ö"), jobs]);
        let heard: BTreeSet<_> = wakes(&payload(&names))
            .into_iter()
            .map(|wake| match wake {
                Wake::Lease(namespace, key) => Told::Lease(namespace, key),
                Wake::Jobs(namespace, queue) => Told::Jobs(namespace, queue),
                Wake::Anything => panic!("anything"),
            })
            .collect();
        assert_eq!(heard, names);
        let many = (0..100).map(|number| name("default", &format!("key-number-{number}"))).collect();
        assert_eq!(payload(&many), "");
        assert!(matches!(wakes("")[..], [Wake::Anything]));
        assert!(matches!(wakes("{\"of\":\"others\"}")[..], [Wake::Anything]));
    }
}
