//! Somebody who looks on while steps run: tests do, to see what runs again and not to wait for pauses.

use core::time::Duration;

use onceward_core::limits;
use onceward_core::run::Position;
use onceward_store::JobRef;

use super::run::Run;
use crate::client::Onceward;

/// What is told to whoever looks on.
pub(crate) trait Onlooker: Send + Sync {
    /// The body of a step is about to run.
    fn begins(&self, run: &JobRef, position: &Position, name: &str);
    /// A step waits this long before it is tried again; how long it really is to wait.
    fn pause(&self, pause: Duration) -> Duration;
    /// How many entries a journal may have.
    fn journal_entries(&self) -> u32 {
        limits::JOURNAL_ENTRIES_MAX
    }
    /// The code of a run was woken by something that is not written down.
    fn strange(&self, _run: &JobRef, _what: &str) {}
}

impl Run {
    /// The body of a step begins.
    pub(super) fn body_begins(&self, position: &Position, name: &str) {
        if let Some(onlooker) = self.client.inner.onlooker.get() {
            onlooker.begins(&self.job, position, name);
        }
        self.body(true);
    }

    /// How many entries its journal may have.
    pub(super) fn entries_max(client: &Onceward) -> u32 {
        client.inner.onlooker.get().map_or(limits::JOURNAL_ENTRIES_MAX, |onlooker| onlooker.journal_entries())
    }

    /// How long a step waits before it is tried again.
    pub(super) fn pause(&self, pause: Duration) -> Duration {
        self.client.inner.onlooker.get().map_or(pause, |onlooker| onlooker.pause(pause))
    }
}
