//! Which jobs this store may have enqueued before: what it is asked for once more must be looked for first.
//!
//! An id says when it was drawn (version 7). One that was drawn after the memory begins, and is not in it, was not
//! sent by this store. Everything else is taken for known, which costs a look and nothing else.

use std::collections::HashSet;

use onceward_core::{JobId, Timestamp};

/// How many ids are remembered at least. More than can wait in a lane: those that wait are never forgotten.
const REMEMBERED: usize = 128 * 1024;

/// The memory: two generations, of which the older one is forgotten at once.
pub(super) struct Sent {
    young: HashSet<JobId>,
    old: HashSet<JobId>,
    /// In milliseconds since 1970: since when the young ones, and since when all of them are remembered.
    young_since: u64,
    since: u64,
}

impl Sent {
    /// One that begins now.
    pub(super) fn since(now: Timestamp) -> Self {
        let now = millis(now);
        Self { young: HashSet::new(), old: HashSet::new(), young_since: now, since: now }
    }

    /// Whether this id surely was not sent before; from now on it was.
    pub(super) fn is_first(&mut self, id: JobId, now: Timestamp) -> bool {
        if self.young.len() >= REMEMBERED {
            self.old = core::mem::take(&mut self.young);
            self.since = core::mem::replace(&mut self.young_since, millis(now));
        }
        let unheard = drawn(id).is_some_and(|drawn| drawn > self.since);
        self.young.insert(id) && unheard && !self.old.contains(&id)
    }
}

/// When a version 7 id was drawn, in milliseconds since 1970.
fn drawn(id: JobId) -> Option<u64> {
    let uuid = id.as_uuid();
    (uuid.get_version_num() == 7).then(|| uuid.as_u64_pair().0 >> 16)
}

fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or(0) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(at: u64, number: u64) -> JobId {
        JobId::from_uuid(uuid::Uuid::from_u64_pair(at << 16 | 0x7000, 1 << 63 | number))
    }

    #[test]
    fn only_what_was_drawn_lately_and_not_sent_is_new() {
        let at = |millis: i64| Timestamp::from_micros(millis * 1000);
        let mut sent = Sent::since(at(100));
        assert!(sent.is_first(id(101, 1), at(101)));
        assert!(!sent.is_first(id(101, 1), at(101)), "it was sent");
        assert!(!sent.is_first(id(100, 2), at(101)), "it may have been sent before we were there");
        assert!(
            !sent.is_first(JobId::from_uuid(uuid::Uuid::from_u128(7)), at(101)),
            "nobody knows when it was drawn"
        );
        let count = u64::try_from(REMEMBERED).unwrap();
        assert!((10..3 * count).all(|number| sent.is_first(id(150, number), at(120))));
        assert!(
            !sent.is_first(id(101, 1), at(200)),
            "it was forgotten, and is older than what is remembered"
        );
    }
}
