//! Finding schedules whose next tick lies in a time that has not come: the store's clock was ahead as they were fired.
//! A look at what is due never shows them, so all are gone through once: by whoever begins to lead, and when the clock
//! was set back meanwhile.

use core::time::Duration;

use onceward_core::{Result, ScheduleName, Timestamp, limits};
use onceward_store::{ListSchedules, WriteSchedule};

use super::fire::Check;
use crate::client::Onceward;

/// How long it is between two pages.
pub(super) const BETWEEN_PAGES: Duration = Duration::from_millis(250);
/// By how much a clock may go back without that being a step.
const STEP: Duration = Duration::from_secs(1);

/// Where one is on the way through all schedules.
pub(super) struct Patrol {
    /// The store's clock when it was seen last.
    seen: Timestamp,
    /// The last schedule that was looked at; nothing where all were.
    after: Option<Option<ScheduleName>>,
}

impl Default for Patrol {
    fn default() -> Self {
        Self { seen: Timestamp::default(), after: Some(None) }
    }
}

impl Patrol {
    /// Begins anew where the clock was set back.
    pub(super) fn notice(&mut self, now: Timestamp) {
        if now.after(STEP) < self.seen {
            self.after = Some(None);
        }
        self.seen = now;
    }

    /// One page, where there is one; whether there is another.
    pub(super) async fn page(&mut self, client: &Onceward, check: Check<'_>) -> Result<bool> {
        let Some(after) = self.after.clone() else { return Ok(false) };
        let (namespace, limit) = (client.namespace.clone(), limits::PAGE_ROWS_MAX);
        let ask = ListSchedules { namespace, name: None, after, limit };
        let page = client.store().schedule_list(&ask).await?;
        let is_last = page.rows.len() + page.unreadable.len() < limit;
        let last = page.rows.iter().map(|row| &row.name).chain(page.unreadable.iter().map(|(name, _)| name));
        let last = last.max().cloned();
        for row in page.rows.iter().filter_map(|row| row.recalled(page.now)) {
            check()?;
            let (name, next) = (row.name.clone(), row.next_at);
            // Where somebody has changed it meanwhile, he has worked out its next tick.
            if client.store().schedule_write(&WriteSchedule { row, jobs: Vec::new() }).await? {
                let next = next.map(|at| at.to_string());
                tracing::warn!(schedule = %name, next, "the next tick of a schedule lay in a time that has not come");
            }
        }
        self.after = if is_last || last.is_none() { None } else { Some(last) };
        Ok(self.after.is_some())
    }
}
