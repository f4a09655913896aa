//! Replaying a job: a new row with the same payload, linked to the one it repeats.

use onceward_core::job::{New, Record, State};
use onceward_core::{JobId, Result};
use sha2::{Digest, Sha256};

use super::Admin;
use super::jobs::{absent, wrong};
use crate::jobs::{Enqueued, send};

/// How a job is replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Whether a job may be replayed that has succeeded, or of which nobody knows.
    pub force: bool,
    /// What the request is called: replaying a job twice under one name makes one job.
    pub request: Option<String>,
}

impl Replay {
    /// Only jobs that are dead or were cancelled, and each time anew.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also jobs that have succeeded or are uncertain: what they did may be done twice.
    #[must_use]
    pub fn force(mut self) -> Self {
        self.force = true;
        self
    }

    /// Replaying a job twice under this name makes one job.
    #[must_use]
    pub fn request(mut self, name: impl Into<String>) -> Self {
        self.request = Some(name.into());
        self
    }
}

impl Admin {
    /// Enqueues a job that is over once more: a new job with the same payload, linked to the old one, with attempts of its
    /// own. [`root`](Record::root) stays the same, so that receivers recognise the work; idempotency and dedupe keys of
    /// the enqueue stay with the old one.
    ///
    /// # Errors
    /// [`JobAbsent`](onceward_core::Code::JobAbsent); [`JobStateWrong`](onceward_core::Code::JobStateWrong) where it is
    /// not over, or has succeeded or is uncertain and [`force`](Replay::force) was not said.
    pub async fn replay(&self, id: JobId, how: &Replay) -> Result<Enqueued> {
        let enqueued = self.replay_row(id, how, false).await?;
        // Only a dry run has none.
        enqueued.ok_or_else(|| absent(id))
    }

    pub(super) async fn replay_row(&self, id: JobId, how: &Replay, dry_run: bool) -> Result<Option<Enqueued>> {
        let row = self.job(id).await?.ok_or_else(|| absent(id))?;
        match row.state_now() {
            State::Dead | State::Cancelled => {}
            State::Succeeded | State::Uncertain if how.force => {}
            state => return Err(wrong(id, state)),
        }
        let copy = copy(&row, how.request.as_deref());
        if how.request.is_some() && self.job(copy.id).await?.is_some() {
            return Ok(Some(Enqueued { id: copy.id, created: false }));
        }
        if dry_run {
            return Ok(None);
        }
        send(&self.client, copy).await.map(Some)
    }
}

fn copy(row: &Record, request: Option<&str>) -> New {
    let id = request.map_or_else(
        || JobId::from_uuid(uuid::Uuid::now_v7()),
        |request| JobId::from_uuid(id_of(row.id, request)),
    );
    let mut policy = row.policy.clone();
    // It has passed, or would pass before the new job is through.
    policy.deadline = None;
    let mut new = New::of_kind(row.namespace.clone(), id, row.kind.clone(), row.payload.clone());
    new.queue = row.queue.clone();
    new.priority = row.priority;
    new.policy = policy;
    new.ordering_key.clone_from(&row.ordering_key);
    new.tags.clone_from(&row.tags);
    new.metadata.clone_from(&row.metadata);
    new.trace.clone_from(&row.trace);
    new.replay_of = Some(row.id);
    new.root = row.root;
    new
}

/// The id that a request gives the copy of a job: always the same one.
fn id_of(job: JobId, request: &str) -> uuid::Uuid {
    let digest = Sha256::new().chain_update(job.as_uuid().as_bytes()).chain_update(request).finalize();
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest).for_each(|(byte, of_digest)| *byte = of_digest);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
