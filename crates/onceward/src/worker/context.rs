//! What a handler knows of the job it runs.

use core::any::{Any, TypeId, type_name};
use core::fmt;
use std::collections::HashMap;
use std::sync::Arc;

use onceward_core::job::{Payload, Record};
use onceward_core::{Code, Error, JobId, Result, Token};
use serde::de::DeserializeOwned;

use super::attempt::{Attempt, Stop};
use crate::client::Onceward;

/// What handlers share: by type.
#[derive(Clone, Default)]
pub(super) struct States(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl States {
    pub(super) fn put<T: Send + Sync + 'static>(&mut self, state: T) {
        self.0.insert(TypeId::of::<T>(), Arc::new(state));
    }

    pub(super) fn holds(&self, state: TypeId) -> bool {
        self.0.contains_key(&state)
    }
}

/// What surrounds every attempt of a worker.
pub(super) struct Surroundings {
    pub(super) client: Onceward,
    pub(super) states: States,
}

/// The job being run, for its handler. Cheap to clone.
#[derive(Clone)]
pub struct JobContext {
    attempt: Arc<Attempt>,
    around: Arc<Surroundings>,
}

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext")
            .field("id", &self.id())
            .field("kind", &self.attempt.job.kind)
            .field("attempt", &self.attempt())
            .field("token", &self.token())
            .finish_non_exhaustive()
    }
}

impl JobContext {
    pub(super) fn new(attempt: Arc<Attempt>, around: Arc<Surroundings>) -> Self {
        Self { attempt, around }
    }

    /// Which job.
    pub fn id(&self) -> JobId {
        self.attempt.id()
    }

    /// The number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt.job.attempt.saturating_add(1)
    }

    /// How many attempts the job has.
    pub fn max_attempts(&self) -> u32 {
        self.attempt.job.policy.max_attempts
    }

    /// The fencing token of this attempt: larger than that of every earlier one of this job. Put it into writes that a
    /// worker who was paused for long must not repeat.
    pub fn token(&self) -> Token {
        self.attempt.token
    }

    /// The first job of the line of replays this one belongs to; itself unless it is a replay.
    pub fn root(&self) -> JobId {
        self.attempt.job.root
    }

    /// What receivers should recognise the work by, the same for all attempts and all replays: send it as an
    /// `Idempotency-Key`.
    pub fn idempotency_key(&self) -> String {
        self.root().to_string()
    }

    /// The row of the job, as it was before this attempt.
    pub fn job(&self) -> &Record {
        &self.attempt.job
    }

    /// The bytes it is about.
    pub fn payload(&self) -> &Payload {
        &self.attempt.job.payload
    }

    /// The payload as a value.
    ///
    /// # Errors
    /// [`PayloadUnreadable`](Code::PayloadUnreadable).
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        let payload = self.payload();
        serde_json::from_slice(&payload.bytes).map_err(|error| {
            let (content, bytes) = (&payload.content_type, payload.bytes.len());
            let why = format!("the payload ({bytes} bytes of {content}) is no {}: {error}", type_name::<T>());
            Error::new(Code::PayloadUnreadable, why)
        })
    }

    /// What else was said when it was enqueued, as a value.
    ///
    /// # Errors
    /// [`MetadataInvalid`](Code::MetadataInvalid) where it is no `T`.
    pub fn metadata<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let read = |text: &str| serde_json::from_str(text);
        self.attempt.job.metadata.as_deref().map(read).transpose().map_err(|error| {
            Error::new(Code::MetadataInvalid, "the metadata is of another type").with_source(error)
        })
    }

    /// Whether the attempt should stop.
    pub fn is_cancelled(&self) -> bool {
        self.stopped_by().is_some()
    }

    /// Why the attempt should stop, if it should.
    pub fn stopped_by(&self) -> Option<Stop> {
        self.attempt.stopped_by()
    }

    /// Waits until the attempt should stop, and says why. A handler that goes on is dropped at its next `.await`: a
    /// moment later where the session is lost or the worker leaves, after the worker's grace where the job was called
    /// off.
    ///
    /// Cancel safe.
    pub async fn cancelled(&self) -> Stop {
        self.attempt.stopped(None).await
    }

    /// The state of this type that the worker was given.
    ///
    /// # Errors
    /// [`StateMissing`](Code::StateMissing). An argument [`State<T>`](super::State) of the handler has that found out
    /// when the worker starts.
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<Arc<T>> {
        let state = self.around.states.0.get(&TypeId::of::<T>()).map(Arc::clone);
        state.and_then(|state| state.downcast().ok()).ok_or_else(|| state_missing(type_name::<T>()))
    }

    /// The client of the worker: to enqueue other jobs, take leases, run things once.
    pub fn client(&self) -> &Onceward {
        &self.around.client
    }
}

pub(super) fn state_missing(name: &str) -> Error {
    Error::new(
        Code::StateMissing,
        format!("the worker has no state of type `{name}`: give it one by `.state(…)`"),
    )
}
