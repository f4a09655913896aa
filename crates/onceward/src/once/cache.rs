//! Finished outcomes kept in the process: they never change, so the copy can't be wrong, only too old.
//!
//! Only what the store has said to be committed goes in (never from the caller's own transaction); an entry carries
//! the fingerprint, ends before its retention does, and all of them end when the store's timeline changes.

use onceward_core::once::{Fingerprint, Record, State};
use onceward_core::{Key, Namespace, Timestamp};
use quick_cache::Weighter;
use quick_cache::sync::Cache as QuickCache;
use std::sync::Arc;

use crate::client::Onceward;

type Name = (Namespace, Key);

pub(crate) struct Cache {
    entries: Option<QuickCache<Name, Arc<Entry>, ByBytes>>,
}

/// A finished outcome.
pub(crate) struct Entry {
    pub(crate) row: Record,
    /// Boot time after which the entry is not used any more.
    ends: Timestamp,
    epoch: u64,
}

/// The moment before a question was sent. An answer is kept under the timeline of that moment: one that came from a
/// server which was replaced while it was under way is not taken for one of the new server.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    /// Boot time.
    pub(crate) at: Timestamp,
    epoch: u64,
}

impl Asked {
    pub(crate) fn now(client: &Onceward) -> Self {
        Self { at: client.clock().boottime(), epoch: client.store().epoch() }
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Name, Arc<Entry>> for ByBytes {
    fn weight(&self, (_, key): &Name, entry: &Arc<Entry>) -> u64 {
        let body = entry.row.body.as_ref().and_then(|body| body.bytes.as_ref()).map_or(0, Vec::len);
        (body + key.as_str().len() + 512) as u64
    }
}

impl Cache {
    pub(crate) fn new(bytes: u64) -> Self {
        // A result of 1 KiB is a guess; the bound is in bytes.
        let items = usize::try_from(bytes / 1024).unwrap_or(usize::MAX).clamp(16, 1_000_000);
        Self { entries: (bytes > 0).then(|| QuickCache::with_weighter(items, bytes, ByBytes)) }
    }

    /// A finished outcome that may still be replayed. `boottime` is read only when there is one.
    pub(crate) fn find(
        &self,
        name: &Name,
        epoch: u64,
        boottime: impl Fn() -> Timestamp,
    ) -> Option<Arc<Entry>> {
        let entries = self.entries.as_ref()?;
        let entry = entries.get(name)?;
        if entry.epoch == epoch && boottime() < entry.ends {
            return Some(entry);
        }
        entries.remove(name);
        None
    }

    /// Keeps a row that the store has shown at `now` in answer to what was asked.
    pub(crate) fn keep(&self, row: &Record, now: Timestamp, asked: Asked) {
        let Some(entries) = &self.entries else { return };
        let kept = matches!(row.state, State::Done | State::Failed);
        let (true, Some(until)) = (kept, row.retain_until) else { return };
        // What is left of the retention counts from before the question; a tenth of it is given away for clocks that
        // run at different rates.
        let left = until.since(now).mul_f64(0.9);
        let entry = Entry { row: row.clone(), ends: asked.at.after(left), epoch: asked.epoch };
        entries.insert((row.namespace.clone(), row.key.clone()), Arc::new(entry));
    }

    /// Forgets a key: an operator has just changed it.
    pub(crate) fn forget(&self, name: &Name) {
        if let Some(entries) = &self.entries {
            entries.remove(name);
        }
    }
}

impl Entry {
    pub(crate) fn contradicts(&self, fingerprint: Option<Fingerprint>) -> bool {
        onceward_core::once::mismatched(self.row.fingerprint, fingerprint)
    }
}
