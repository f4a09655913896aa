//! Starting a run by the name of its function, for those who do not have the function: the command line.

use core::future::IntoFuture;
use core::time::Duration;

use futures_util::future::BoxFuture;
use onceward_core::job::{IdempotencyKey, New, Payload};
use onceward_core::{Code, Error, JobId, Key, Kind, Queue, Result, Tag, limits};
use serde_json::Value;
use uuid::Uuid;

use super::call::ATTEMPTS_DEFAULT;
use super::remembered::fingerprint;
use crate::client::Onceward;
use crate::jobs::{self, Enqueue, IntoEnqueue, JSON};
use crate::worker;

impl Onceward {
    /// Starts a durable function by its name, with its arguments by theirs: `{"order": 789}`. Whether there is such a
    /// function, and whether it can read them, is found out by the worker that takes the run; what stands on the
    /// function (its queue, its retries) is not known here and has to be said.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// use serde_json::json;
    ///
    /// let ow = onceward::Onceward::connect("memory:").await?;
    /// let run = ow.start_named("checkout", &json!({ "order": 789 })).id("order-789").await?;
    /// assert!(run.created);
    /// # Ok(()) }
    /// ```
    pub fn start_named(&self, function: impl AsRef<str>, args: &Value) -> StartNamed {
        let new = || {
            let payload = Payload { bytes: named_args(args)?, content_type: JSON.to_owned() };
            let (namespace, id) = (self.namespace.clone(), JobId::from_uuid(Uuid::now_v7()));
            let mut new = New::of_kind(namespace, id, Kind::new(function)?, payload);
            new.policy.timeout = limits::TIMEOUT_MAX;
            new.policy.max_attempts = ATTEMPTS_DEFAULT;
            new.policy.durable = true;
            Ok(new)
        };
        StartNamed { client: self.clone(), new: new() }
    }
}

/// Arguments by their names, as a run keeps them.
pub(crate) fn named_args(args: &Value) -> Result<Vec<u8>> {
    if args.is_object() {
        return Ok(args.to_string().into_bytes());
    }
    let why = "the arguments are given by their names, such as {\"order\": 789}";
    Err(Error::new(Code::PayloadUnwritable, why))
}

/// A run being started by the name of its function; `.await` does it.
#[derive(Debug)]
#[must_use = "nothing is started before `.await`"]
pub struct StartNamed {
    client: Onceward,
    new: Result<New>,
}

/// A run that was started by the name of its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartedRun {
    /// Which one.
    pub id: JobId,
    /// Whether this start has made it; `false` where its id was started before.
    pub created: bool,
}

impl StartNamed {
    fn with(mut self, change: impl FnOnce(&mut New) -> Result<()>) -> Self {
        self.new = self.new.and_then(|mut new| change(&mut new).map(|()| new));
        self
    }

    /// A second start under this id finds the first one's run; the same id with another function or other arguments is
    /// refused.
    pub fn id(self, id: impl AsRef<str>) -> Self {
        self.with(|new| {
            let fingerprint = fingerprint(&new.kind, &new.payload.bytes);
            new.key =
                Some(IdempotencyKey { key: Key::new(id)?, fingerprint, ttl: limits::JOB_KEY_TTL_DEFAULT });
            Ok(())
        })
    }

    /// Begins only after this long.
    pub fn delay(self, delay: Duration) -> Self {
        self.with(|new| {
            new.delay = Some(delay);
            Ok(())
        })
    }

    /// How long it may take in all, from when it is started on, by the store's clock; after that it is not taken up any
    /// more.
    pub fn expiry(self, expiry: Duration) -> Self {
        self.with(|new| {
            new.policy.expiry = Some(expiry.min(limits::DELAY_MAX));
            Ok(())
        })
    }

    /// Runs of one ordering key go one after the other, or as many at a time as their queue says. Of a function that is
    /// `idempotent` or `cached` this is not known here: it has its own where it is called, and none where it is started
    /// by name.
    pub fn ordering_key(self, key: impl AsRef<str>) -> Self {
        self.with(|new| {
            new.ordering_key = Some(Key::new(key)?);
            Ok(())
        })
    }

    /// The trace it belongs to, which its children have as well: a `traceparent`.
    pub fn trace(self, context: impl Into<String>) -> Self {
        self.with(|new| {
            new.trace = Some(context.into());
            Ok(())
        })
    }

    /// Where it waits for a worker.
    pub fn queue(self, queue: impl AsRef<str>) -> Self {
        self.with(|new| Queue::new(queue).map(|queue| new.queue = queue))
    }

    /// From -1000 to 1000, the higher one goes first.
    pub fn priority(self, priority: i16) -> Self {
        self.with(|new| {
            new.priority = priority;
            Ok(())
        })
    }

    /// Only workers that offer one of its tags run it.
    pub fn tag(self, tag: impl AsRef<str>) -> Self {
        self.with(|new| {
            new.tags.push(Tag::new(tag)?);
            Ok(())
        })
    }
}

/// For schedules and triggers, which start it.
impl IntoEnqueue for StartNamed {
    fn into_enqueue(self, client: &Onceward) -> Enqueue {
        Enqueue::described(client.clone(), self.new)
    }
}

impl IntoFuture for StartNamed {
    type Output = Result<StartedRun>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let mut new = self.new?;
            worker::inherit(&mut new);
            new.check()?;
            self.client.check_open()?;
            let started = jobs::send(&self.client, new).await?;
            Ok(StartedRun { id: started.id, created: started.created })
        })
    }
}
