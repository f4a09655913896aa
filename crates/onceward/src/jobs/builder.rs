//! A job being enqueued.

use core::future::IntoFuture;
use core::ops::ControlFlow;
use core::sync::atomic::Ordering;
use core::time::Duration;

use futures_util::future::BoxFuture;
#[cfg(feature = "http-jobs")]
use onceward_core::http;
#[cfg(feature = "http-jobs")]
use onceward_core::job::Policy;
use onceward_core::job::{Dedupe, DedupeScope, IdempotencyKey, New, OnConflict, Payload, Retry, State};
use onceward_core::once::Fingerprint;
use onceward_core::{Code, Error, JobId, Key, Kind, Queue, Result, Tag, Timestamp, limits};
use onceward_store as store;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Job;
use crate::bells::{Answer, News};
use crate::client::Onceward;
use crate::worker;

pub(crate) const JSON: &str = "application/json";

/// What came of enqueueing a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Enqueued {
    /// The job: the new one, or the one whose key it was.
    pub id: JobId,
    /// Whether it is new. `false`: its idempotency key or its dedupe key belongs to a job that was there before.
    pub created: bool,
    /// The state of the job that was there before, so that one which is dead, was cancelled or is uncertain is no
    /// surprise. `None` where the job is new, and where that one is forgotten and only its key is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing_state: Option<State>,
}

/// A job being enqueued; `.await` does it.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// use std::time::Duration;
/// use onceward::{Job, Onceward};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize, Job)]
/// #[job(kind = "mail.welcome", queue = "mail", max_attempts = 8)]
/// struct Welcome { user: u64 }
///
/// let ow = Onceward::connect("memory:").await?;
/// let job = ow.enqueue(Welcome { user: 42 }).key("welcome:42").delay(Duration::from_secs(300)).await?;
/// assert!(job.created);
/// let again = ow.enqueue(Welcome { user: 42 }).key("welcome:42").await?;
/// assert_eq!((again.id, again.created), (job.id, false));
/// # Ok(()) }
/// ```
///
/// Cancel safety: once it was polled, dropping the future leaves it open whether the job is there; with a
/// [`key`](Self::key), enqueueing it again finds it.
///
/// # Errors
/// Awaiting it: the codes of bad input, before anything is sent; [`JobKeyMismatch`](Code::JobKeyMismatch);
/// [`KeyLocked`](Code::KeyLocked) where an open transaction holds the key until the deadline; those of an unreachable
/// store, [uncertain](Error::is_uncertain) where the job may be there.
#[derive(Clone, Debug)]
#[must_use = "nothing is enqueued before `.await`"]
pub struct Enqueue {
    client: Onceward,
    new: Result<New>,
    key: Option<Key>,
    key_ttl: Option<Duration>,
    on_conflict: Option<OnConflict>,
    /// What the fingerprint is taken of, where that is not the payload.
    stands_for: Option<Vec<u8>>,
}

impl Enqueue {
    pub(crate) fn typed<J: Job>(client: Onceward, job: &J) -> Self {
        let new = || {
            let bytes = serde_json::to_vec(job).map_err(|error| {
                Error::new(Code::PayloadUnwritable, "the payload can't be written as JSON").with_source(error)
            })?;
            let payload = Payload { bytes, content_type: JSON.to_owned() };
            let mut new = new_job(&client, Kind::new(J::KIND)?, payload);
            J::OPTIONS.apply(&mut new)?;
            Ok(new)
        };
        let new = new();
        Self::of(client, new)
    }

    /// A job of a type, with a payload that is written already.
    pub(crate) fn typed_raw<J: Job>(client: Onceward, payload: Payload) -> Self {
        let new = || {
            let mut new = new_job(&client, Kind::new(J::KIND)?, payload);
            J::OPTIONS.apply(&mut new)?;
            Ok(new)
        };
        let new = new();
        Self::of(client, new)
    }

    /// A job that was described elsewhere.
    pub(crate) fn described(client: Onceward, new: Result<New>) -> Self {
        let namespace = client.namespace.clone();
        let new = new.map(|new| New { namespace, parent: None, ..new });
        Self::of(client, new)
    }

    pub(crate) fn raw(client: Onceward, kind: Result<Kind>, payload: Payload) -> Self {
        let new = kind.map(|kind| new_job(&client, kind, payload));
        Self::of(client, new)
    }

    #[cfg(feature = "http-jobs")]
    pub(crate) fn http(client: Onceward, job: crate::http_jobs::HttpJob) -> Self {
        let new = new_job(&client, Kind::from_row(http::KIND), Payload::default());
        let (mut stands_for, finished) = (None, job.finish(&new.namespace));
        let new = finished.map(|finished| {
            stands_for = finished.stands_for;
            // That of an endpoint is what it is set to.
            let usual =
                if finished.to_endpoint { limits::TIMEOUT_DEFAULT } else { limits::HTTP_TIMEOUT_DEFAULT };
            let policy = Policy { timeout: usual, ..new.policy.clone() };
            New { payload: finished.payload, policy, ..new }
        });
        Self { stands_for, ..Self::of(client, new) }
    }

    /// An event, of which nothing is said yet.
    #[cfg(feature = "http-jobs")]
    pub(crate) fn event(client: Onceward) -> Self {
        let kind = Kind::from_row(onceward_core::endpoint::KIND);
        Self::raw(client, Ok(kind), Payload::default())
    }

    /// This event.
    #[cfg(feature = "http-jobs")]
    pub(crate) fn of_event(self, event: Result<onceward_core::endpoint::Event>) -> Self {
        self.with(|new| {
            let event = event?;
            event.check()?;
            new.payload = Payload { bytes: event.to_payload()?, content_type: JSON.to_owned() };
            Ok(())
        })
    }

    fn of(client: Onceward, new: Result<New>) -> Self {
        Self { client, new, key: None, key_ttl: None, on_conflict: None, stands_for: None }
    }

    fn with(mut self, change: impl FnOnce(&mut New) -> Result<()>) -> Self {
        self.new = self.new.and_then(|mut new| change(&mut new).map(|()| new));
        self
    }

    /// Where it waits; `default` if nothing else is said.
    pub fn queue(self, queue: impl AsRef<str>) -> Self {
        self.with(|new| Queue::new(queue).map(|queue| new.queue = queue))
    }

    /// From -1000 to 1000, the higher one goes first; 0 by default.
    pub fn priority(self, priority: i16) -> Self {
        self.with(|new| {
            new.priority = priority;
            Ok(())
        })
    }

    /// Makes it due this long from now, by the store's clock; at most ten years.
    pub fn delay(self, delay: Duration) -> Self {
        self.with(|new| {
            new.delay = Some(delay);
            Ok(())
        })
    }

    /// Makes it due at this time, by the store's clock. A [`delay`](Self::delay) wins.
    pub fn run_at(self, at: impl Into<Timestamp>) -> Self {
        self.with(|new| {
            new.run_at = Some(at.into());
            Ok(())
        })
    }

    /// How many attempts it has, 1 to 1000; 20 by default.
    pub fn max_attempts(self, attempts: u32) -> Self {
        self.with(|new| {
            new.policy.max_attempts = attempts;
            Ok(())
        })
    }

    /// How long one attempt may take, 10 ms to 7 days; 15 minutes by default. Then it is stopped, and has failed. An
    /// HTTP request may take ten minutes; 30 seconds by default, or what its endpoint is set to.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|new| new.set_timeout(timeout))
    }

    /// After this no attempt is started: the job is dead. None by default. It comes after the time the job is due, and
    /// has not passed yet; with a key that is not looked at, because the job may have been enqueued before.
    pub fn deadline(self, at: impl Into<Timestamp>) -> Self {
        self.with(|new| {
            new.policy.deadline = Some(at.into());
            Ok(())
        })
    }

    /// How long to wait between attempts: `.retry("linear 10s max 5m".parse()?)`.
    pub fn retry(self, policy: Retry) -> Self {
        self.with(|new| {
            new.policy.retry = policy;
            Ok(())
        })
    }

    /// A second enqueue under this key finds this job instead of making another one, whatever has become of it. The
    /// same key with another kind or payload is refused.
    pub fn key(mut self, key: impl AsRef<str>) -> Self {
        match Key::new(key) {
            Ok(key) => self.key = Some(key),
            Err(error) => self.new = self.new.and(Err(error)),
        }
        self
    }

    /// How long the [`key`](Self::key) refers to this job; 30 days by default, and at least until it has ended.
    pub fn key_ttl(mut self, ttl: Duration) -> Self {
        self.key_ttl = Some(ttl);
        self
    }

    /// At most one job under this key is alive; `scope` says until when. What otherwise is said by
    /// [`on_conflict`](Self::on_conflict): by default the job that is there is returned.
    pub fn dedupe(self, key: impl AsRef<str>, scope: DedupeScope) -> Self {
        self.with(|new| {
            new.dedupe = Some(Dedupe { key: Key::new(key)?, scope, on_conflict: OnConflict::Existing });
            Ok(())
        })
    }

    /// What happens when the [`dedupe`](Self::dedupe) key is taken.
    pub fn on_conflict(mut self, action: OnConflict) -> Self {
        self.on_conflict = Some(action);
        self
    }

    /// Jobs of one ordering key are run one after the other.
    pub fn ordering_key(self, key: impl AsRef<str>) -> Self {
        self.with(|new| {
            new.ordering_key = Some(Key::new(key)?);
            Ok(())
        })
    }

    /// Only workers that offer one of its tags run it. May be said up to 16 times.
    pub fn tag(self, tag: impl AsRef<str>) -> Self {
        self.with(|new| {
            new.tags.push(Tag::new(tag)?);
            Ok(())
        })
    }

    /// Whatever else there is to say, kept as JSON of at most 16 KiB beside the payload.
    pub fn metadata(self, metadata: &impl Serialize) -> Self {
        self.with(|new| {
            let unwritable = |error| {
                Error::new(Code::MetadataInvalid, "the metadata can't be written as JSON").with_source(error)
            };
            new.metadata = Some(serde_json::to_string(metadata).map_err(unwritable)?);
            Ok(())
        })
    }

    /// The trace it belongs to: a `traceparent`.
    pub fn trace(self, context: impl Into<String>) -> Self {
        self.with(|new| {
            new.trace = Some(context.into());
            Ok(())
        })
    }

    /// An attempt nobody knows the end of makes it uncertain, instead of being followed by another: for effects that
    /// must not happen twice and can't be made idempotent. It costs one more statement before each attempt, shared.
    pub fn at_most_once(self) -> Self {
        self.with(|new| {
            new.policy.at_most_once = true;
            Ok(())
        })
    }

    /// How long it is kept once it has succeeded or was cancelled; 7 days by default, zero deletes it at once. Dead
    /// and uncertain jobs are kept whatever is said here, and one that runs [at most once](Self::at_most_once) for a
    /// minute.
    pub fn retain(self, retain: Duration) -> Self {
        self.with(|new| {
            new.policy.retain = retain;
            Ok(())
        })
    }

    /// What is sent, checked.
    pub(crate) fn finish(self) -> Result<(Onceward, New)> {
        let mut new = self.new?;
        let refuse = |why: &str| Err(Error::new(Code::KeyInvalid, why));
        match (self.key, self.key_ttl) {
            (Some(key), ttl) => {
                let ttl = ttl.unwrap_or(limits::JOB_KEY_TTL_DEFAULT);
                let bytes = self.stands_for.as_ref().unwrap_or(&new.payload.bytes);
                let fingerprint = fingerprint(&new.kind, &new.payload.content_type, bytes);
                new.key = Some(IdempotencyKey { key, fingerprint, ttl });
            }
            (None, Some(_)) => return refuse("`key_ttl` is said of a `key`, and there is none"),
            (None, None) => {}
        }
        match (&mut new.dedupe, self.on_conflict) {
            (Some(dedupe), Some(action)) => dedupe.on_conflict = action,
            (None, Some(_)) => return refuse("`on_conflict` is said of a `dedupe` key, and there is none"),
            (_, None) => {}
        }
        worker::inherit(&mut new);
        new.check()?;
        // By a key, one is found that was enqueued when there still was time.
        if new.key.is_none() && new.dedupe.is_none() {
            new.check_deadline(self.client.clock().wall())?;
        }
        self.client.check_open()?;
        Ok((self.client, new))
    }
}

impl IntoFuture for Enqueue {
    type Output = Result<Enqueued>;
    type IntoFuture = BoxFuture<'static, Result<Enqueued>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (client, new) = self.finish()?;
            send(&client, new).await
        })
    }
}

/// Enqueues a job through its lane, and tells the workers of this process.
pub(crate) async fn send(client: &Onceward, new: New) -> Result<Enqueued> {
    let now = client.clock().wall();
    let new = match client.inner.bells.offer(new, now) {
        ControlFlow::Break(answer) => return taken(client, answer).await,
        ControlFlow::Continue(new) => new,
    };
    let news = News::of(&new, now);
    let answer = client.inner.lanes.enqueue(new).await.map_err(|error| error.at("job.enqueue"))?;
    client.inner.bells.tell(&news);
    let mut enqueued = Enqueued::of(answer)?;
    look_at_existing(client, [&mut enqueued]).await;
    Ok(enqueued)
}

/// Adds in which state the jobs are that were there before. What can't be read at the moment stays open: whether
/// something was enqueued is known.
pub(super) async fn look_at_existing<'a>(
    client: &Onceward,
    enqueued: impl IntoIterator<Item = &'a mut Enqueued>,
) {
    let mut old: Vec<&mut Enqueued> = enqueued.into_iter().filter(|job| !job.created).collect();
    for part in old.chunks_mut(limits::PAGE_ROWS_MAX) {
        let name = |job: &&mut Enqueued| store::JobRef { namespace: client.namespace.clone(), id: job.id };
        let names: Vec<store::JobRef> = part.iter().map(name).collect();
        match client.store().job_lookup(&names).await {
            Ok(seen) => part.iter_mut().zip(seen.rows).for_each(|(job, row)| {
                job.existing_state = row.map(|row| row.state_now());
            }),
            Err(error) => tracing::debug!(%error, "the jobs that were there before could not be looked at"),
        }
    }
}

/// Waits for a job that a worker of this process has taken.
async fn taken(client: &Onceward, answer: Answer) -> Result<Enqueued> {
    let Answer { answered, sent } = answer;
    // The receiver is gone with this: what was not sent by then is not sent any more.
    let answered = tokio::time::timeout(client.inner.lanes.deadline(), answered).await;
    let late = || match sent.load(Ordering::SeqCst) {
        true => Error::new(Code::CommitUnknown, "the store did not answer in time; the job may be there")
            .uncertain(),
        false => Error::new(Code::StoreUnavailable, "the store did not answer in time; nothing was sent"),
    };
    let answer = answered.ok().and_then(|answer| answer.ok()).unwrap_or_else(|| Err(late()));
    Enqueued::of(answer.map_err(|error| error.at("job.enqueue"))?)
}

impl Enqueued {
    /// A job that was there before.
    pub(crate) fn found(id: JobId) -> Self {
        Self { id, created: false, existing_state: None }
    }

    pub(crate) fn of(answer: store::Enqueued) -> Result<Self> {
        match answer {
            store::Enqueued::Created(id) => Ok(Self { id, created: true, existing_state: None }),
            store::Enqueued::Existing(id) => Ok(Self::found(id)),
            store::Enqueued::Mismatch(id) => Err(Error::new(
                Code::JobKeyMismatch,
                format!("the key belongs to job {id}, which is of another kind or has another payload"),
            )
            .at("job.enqueue")),
        }
    }
}

/// A job of a new id.
fn new_job(client: &Onceward, kind: Kind, payload: Payload) -> New {
    New::of_kind(client.namespace.clone(), JobId::from_uuid(uuid::Uuid::now_v7()), kind, payload)
}

/// SHA-256 of kind, content type and payload, a NUL between them: neither of the first two can hold one.
fn fingerprint(kind: &Kind, content_type: &str, bytes: &[u8]) -> Fingerprint {
    let digest = Sha256::new()
        .chain_update(kind.as_str())
        .chain_update([0])
        .chain_update(content_type)
        .chain_update([0])
        .chain_update(bytes);
    Fingerprint(digest.finalize().into())
}
