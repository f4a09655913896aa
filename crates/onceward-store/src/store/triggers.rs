//! The verbs of triggers. What they are set to is written under a version, and what follows from what they hear
//! with it: who has seen another version is refused and looks again. What it means is decided by
//! `onceward_core::trigger`.

use async_trait::async_trait;
use onceward_core::trigger::{Heard, Trigger};
use onceward_core::{Namespace, Result, Timestamp, TriggerName, job};

/// A page of triggers, by name.
#[derive(Clone, Debug)]
pub struct ListTriggers {
    /// The namespace.
    pub namespace: Namespace,
    /// Only these.
    pub names: Option<Vec<TriggerName>>,
    /// Only what comes after this one.
    pub after: Option<TriggerName>,
    /// How many at most; 1 to [`onceward_core::limits::PAGE_ROWS_MAX`].
    pub limit: usize,
}

/// A page of triggers.
#[derive(Clone, Debug, Default)]
pub struct ListedTriggers {
    /// The store's clock.
    pub now: Timestamp,
    /// What was found, by name.
    pub rows: Vec<Trigger>,
    /// What was found and can't be read, each with its version; they count in the limit.
    pub unreadable: Vec<(TriggerName, i64)>,
}

/// Asks what triggers have heard.
#[derive(Clone, Debug)]
pub struct HeardTriggers {
    /// The namespace.
    pub namespace: Namespace,
    /// Not what these have heard: nothing can follow from it at the moment.
    pub except: Vec<TriggerName>,
    /// How much at most; 1 to [`onceward_core::limits::PAGE_ROWS_MAX`].
    pub limit: usize,
}

/// What triggers have heard.
#[derive(Clone, Debug, Default)]
pub struct HeardOutcomes {
    /// In about the order in which it was written down.
    pub rows: Vec<Heard>,
    /// Whether any trigger of the namespace listens.
    pub listening: bool,
}

/// Writes a trigger, if it still has the version that was seen (0 where there was none); with it goes what has
/// been acted on, and come the jobs that follow: all of it or nothing. A job whose id is there already stays as
/// it is.
#[derive(Clone, Debug)]
pub struct WriteTrigger {
    /// What is to stand there, under the version that was seen.
    pub row: Trigger,
    /// Whether what it listens to is written as well. From the next commit on, endings are heard accordingly.
    pub listens: bool,
    /// What has been acted on, by its number.
    pub heard: Vec<i64>,
    /// The jobs: without idempotency and dedupe keys, of the namespace of the trigger, no two of one id.
    pub jobs: Vec<job::New>,
}

/// Where triggers are kept. The contract of [`Store`](super::Store) holds here as well.
///
/// A verb that ends a job, or an attempt of it, writes down with the same commit what a trigger wants to hear of that.
#[async_trait]
pub trait TriggerStore: Send + Sync + 'static {
    /// A page of triggers.
    async fn trigger_list(&self, ask: &ListTriggers) -> Result<ListedTriggers>;
    /// What the triggers of a namespace have heard.
    async fn trigger_heard(&self, ask: &HeardTriggers) -> Result<HeardOutcomes>;
    /// Writes a trigger, with jobs; `false` where it has another version.
    async fn trigger_write(&self, ask: &WriteTrigger) -> Result<bool>;
    /// Removes a trigger of this version and what it has heard; `false` where there is no such one. Under
    /// version 0 only what was heard for one that is not there. Its jobs stay.
    async fn trigger_remove(&self, namespace: &Namespace, name: &TriggerName, version: i64) -> Result<bool>;
}
