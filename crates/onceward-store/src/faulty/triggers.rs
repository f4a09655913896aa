//! The verbs of triggers, past what the script says.

use async_trait::async_trait;
use onceward_core::{Namespace, Result, TriggerName};

use super::{Faulty, Verb};
use crate::store::{HeardOutcomes, HeardTriggers, ListTriggers, ListedTriggers, TriggerStore, WriteTrigger};

#[async_trait]
impl TriggerStore for Faulty {
    async fn trigger_list(&self, ask: &ListTriggers) -> Result<ListedTriggers> {
        read!(self, TriggerList, trigger_list, ask)
    }

    async fn trigger_heard(&self, ask: &HeardTriggers) -> Result<HeardOutcomes> {
        read!(self, TriggerHeard, trigger_heard, ask)
    }

    async fn trigger_write(&self, ask: &WriteTrigger) -> Result<bool> {
        read!(self, TriggerWrite, trigger_write, ask)
    }

    async fn trigger_remove(&self, namespace: &Namespace, name: &TriggerName, version: i64) -> Result<bool> {
        let (store, namespace, name) = (self.inner.clone(), namespace.clone(), name.clone());
        let call = async move { store.trigger_remove(&namespace, &name, version).await };
        self.call(Verb::TriggerRemove, None, call).await
    }
}
