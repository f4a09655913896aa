//! Looking at triggers, and intervening.

use onceward_core::trigger::Trigger;
use onceward_core::{Code, Error, Result, Timestamp, TriggerName};
use onceward_store::{ListTriggers, ListedTriggers};

use super::Admin;
use crate::trigger;

impl Admin {
    /// The triggers of this namespace, by name: a page. Rows that can't be read are named beside the others: nothing is
    /// enqueued by these.
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn triggers(&self, after: Option<&TriggerName>, limit: usize) -> Result<ListedTriggers> {
        let namespace = self.client.namespace.clone();
        let ask = ListTriggers { namespace, names: None, after: after.cloned(), limit };
        self.client.store().trigger_list(&ask).await
    }

    /// A trigger.
    ///
    /// # Errors
    /// [`TriggerUnknown`](Code::TriggerUnknown), [`RowUnreadable`](Code::RowUnreadable), and those of an unreachable
    /// store.
    pub async fn trigger(&self, name: &TriggerName) -> Result<Trigger> {
        trigger::lookup(&self.client, name).await
    }

    /// Has a trigger hear nothing; what it has heard is still acted on. `false` if it was paused before.
    ///
    /// # Errors
    /// As [`trigger`](Self::trigger), and [`TriggerMoved`](Code::TriggerMoved).
    pub async fn pause_trigger(&self, name: &TriggerName, reason: Option<&str>) -> Result<bool> {
        let by = self.client.owner.clone();
        self.change_trigger(name, |row, now| row.paused(&by, reason.map(str::to_owned), now)).await
    }

    /// Ends a pause. What ended during it is not made up for. `false` if it was not paused.
    ///
    /// # Errors
    /// As [`pause_trigger`](Self::pause_trigger).
    pub async fn resume_trigger(&self, name: &TriggerName) -> Result<bool> {
        self.change_trigger(name, |row, _| row.resumed()).await
    }

    async fn change_trigger(
        &self,
        name: &TriggerName,
        to: impl Fn(&Trigger, Timestamp) -> Option<Trigger> + Send + Sync,
    ) -> Result<bool> {
        trigger::lookup(&self.client, name).await?;
        trigger::change(&self.client, name, |row, now| match row {
            Some(row) => Ok(to(row, now)),
            None => Err(Error::new(Code::TriggerUnknown, "the trigger has just been removed")),
        })
        .await
    }

    /// Removes a trigger, also one that can't be read, and what it has heard; its jobs stay.
    ///
    /// # Errors
    /// As [`pause_trigger`](Self::pause_trigger).
    pub async fn remove_trigger(&self, name: &TriggerName) -> Result<()> {
        trigger::remove(&self.client, name).await
    }
}
