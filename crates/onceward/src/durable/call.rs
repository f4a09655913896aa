//! Calling a durable function: inside of another one it becomes a child, which any worker may run; from outside it is
//! started.

use core::future::IntoFuture;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::Arc;

use onceward_core::job::{New, Payload, Retry};
use onceward_core::run::{Op, Position, Start, Wanted};
use onceward_core::{Code, Error, JobId, Key, Kind, Queue, Result, Tag, limits};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::ambient::claim;
use super::continuing::Continue;
use super::failure::Failure;
use super::function::Durable;
use super::remembered::{self, canonical};
use super::run::{Asked, Run};
use super::step::{engine, read};
use crate::client::Onceward;
use crate::jobs::{Enqueue, IntoEnqueue, JSON};

/// A call of a durable function, with something said about it or not.
///
/// Inside of a durable function, `.await` makes it a child of the run: it is written down, any worker that knows the
/// function may run it, and its result is given to the code each time it comes by again. From outside,
/// [`Onceward::start`] takes it.
#[must_use = "a durable function is run when its call is awaited, or given to `ow.start(…)`"]
pub struct Call<D: Durable> {
    pub(super) new: Result<New>,
    place: Result<(Arc<Run>, Position)>,
    /// Whether something was said about it.
    said: bool,
    function: PhantomData<fn() -> D>,
}

impl<D: Durable> core::fmt::Debug for Call<D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Call").field("kind", &D::KIND).finish_non_exhaustive()
    }
}

impl<D: Durable> Call<D> {
    /// A call with these arguments; written by `#[durable]`.
    #[doc(hidden)]
    pub fn new(args: &D::Args) -> Self {
        let place = claim();
        let new = || {
            let bytes = serde_json::to_vec(args).map_err(|error| {
                let why = "the arguments can't be written as JSON";
                Error::new(Code::PayloadUnwritable, why).with_source(error)
            })?;
            let namespace = match &place {
                Ok((run, _)) => run.job.namespace.clone(),
                // Whoever starts it says which one.
                Err(_) => onceward_core::Namespace::default(),
            };
            let payload = Payload { bytes, content_type: JSON.to_owned() };
            let id = JobId::from_uuid(Uuid::now_v7());
            let mut new = New::of_kind(namespace, id, Kind::new(D::KIND)?, payload);
            // What it does is bounded by what it waits for, unless something else is said.
            new.policy.timeout = limits::TIMEOUT_MAX;
            new.policy.max_attempts = ATTEMPTS_DEFAULT;
            D::OPTIONS.apply(&mut new)?;
            new.policy.durable = true;
            new.ordering_key = remembered::key::<D>(&new.payload.bytes)?;
            if let Ok((run, _)) = &place {
                new.parent = Some(run.job.id);
                new.depth = run.depth;
                new.lines.clone_from(&run.lines);
                new.trace.clone_from(&run.trace);
            }
            Ok(new)
        };
        let new = new();
        Self { new, place, said: false, function: PhantomData }
    }

    fn with(mut self, change: impl FnOnce(&mut New) -> Result<()>) -> Self {
        self.new = self.new.and_then(|mut new| change(&mut new).map(|()| new));
        self.said = true;
        self
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

    /// Begins only after this long.
    pub fn delay(self, delay: Duration) -> Self {
        self.with(|new| {
            new.delay = Some(delay);
            Ok(())
        })
    }

    /// How many attempts it has, if it fails before it has written anything down: see
    /// [`durable`](mod@crate::durable#when-a-function-fails).
    pub fn max_attempts(self, attempts: u32) -> Self {
        self.with(|new| {
            new.policy.max_attempts = attempts;
            Ok(())
        })
    }

    /// How long to wait between attempts.
    pub fn retry(self, policy: Retry) -> Self {
        self.with(|new| {
            new.policy.retry = policy;
            Ok(())
        })
    }

    /// How long one attempt may take while it stays in memory.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|new| {
            new.policy.timeout = timeout;
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

    /// Runs of one ordering key go one after the other, or as many at a time as their queue says (`onceward queues set
    /// QUEUE --per-key 2`): one for each customer, for example. A run has its turn until it has ended, also while it is
    /// parked.
    ///
    /// Refused ([`RunCallRefused`](Code::RunCallRefused)) of a function that is `idempotent` or `cached`: what its runs
    /// have in common is their arguments.
    pub fn ordering_key(self, key: impl AsRef<str>) -> Self {
        self.with(|new| {
            if D::REMEMBERS.is_some() {
                let why = "what is kept for later calls has an ordering key already, made of its arguments";
                return Err(Error::new(Code::RunCallRefused, why));
            }
            new.ordering_key = Some(Key::new(key)?);
            Ok(())
        })
    }

    /// The trace it belongs to: a `traceparent`. A child has that of its run if nothing is said.
    pub fn trace(self, context: impl Into<String>) -> Self {
        self.with(|new| {
            new.trace = Some(context.into());
            Ok(())
        })
    }

    /// An attempt that nobody knows the end of makes it uncertain.
    pub fn at_most_once(self) -> Self {
        self.with(|new| {
            new.policy.at_most_once = true;
            Ok(())
        })
    }

    /// Starts it inside of a durable function as a run of its own, which nobody waits for: it is not called off with
    /// the run that has started it, and its end is told to nobody. `.await` gives its id, once it is certain to run.
    ///
    /// ```
    /// use onceward::durable::{AnyError, durable};
    ///
    /// #[durable]
    /// async fn clean_up(order: u64) -> Result<(), AnyError> {
    ///     Ok(())
    /// }
    ///
    /// #[durable]
    /// async fn checkout(order: u64) -> Result<(), AnyError> {
    ///     clean_up(order).spawn().await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn spawn(mut self) -> Spawn<D> {
        if let Ok(new) = &mut self.new {
            new.parent = None;
            new.lines.clear();
        }
        Spawn(self.into_future())
    }

    /// Has the run go on as new, with these arguments: its journal ends here, and its code begins from its beginning,
    /// as the same run, whose result is what it comes to then. So a loop without an end has a journal that has one.
    ///
    /// Only a function itself can go on as new, and as it was started: nothing is said about the call. It has to have
    /// waited for its children, or to have given them up; see [`RunContinueRefused`](Code::RunContinueRefused). Signals
    /// that the code has not taken stay, whoever waits for the run waits on, and its attempts are counted anew. An
    /// expiry stays what it was. A run that was called off fails here as [`Cancelled`](Failure::Cancelled).
    ///
    /// ```
    /// use onceward::durable::{AnyError, durable, sleep, step};
    /// use std::time::Duration;
    ///
    /// # async fn fetch(cursor: u64) -> Result<u64, AnyError> { Ok(cursor + 1) }
    /// #[durable]
    /// async fn poll(cursor: u64) -> Result<u64, AnyError> {
    ///     let next = step("fetch", || fetch(cursor)).await?;
    ///     sleep(Duration::from_secs(60)).await?;
    ///     Ok(poll(next).continue_as_new().await?)
    /// }
    /// ```
    pub fn continue_as_new(self) -> Continue<D> {
        let Self { new, place, said, .. } = self;
        Continue::of(place, new, said)
    }

    /// What is enqueued, checked.
    pub(super) fn finish(self) -> Result<New> {
        let new = self.new?;
        if D::REMEMBERS.is_some() && new.policy.at_most_once {
            let why = "what is kept for later calls can't run at most once: that belongs into a step of it";
            return Err(Error::new(Code::RunCallRefused, why));
        }
        new.check()?;
        Ok(new)
    }
}

/// For schedules and triggers, which start it; not as a child of the run that declares them.
impl<D: Durable> IntoEnqueue for Call<D> {
    fn into_enqueue(self, client: &Onceward) -> Enqueue {
        Enqueue::described(client.clone(), self.new)
    }
}

/// How many attempts a function has that has written nothing down.
pub(super) const ATTEMPTS_DEFAULT: u32 = 3;

impl<D: Durable> IntoFuture for Call<D> {
    type Output = Result<D::Value, Failure<D::Error>>;
    type IntoFuture = Child<D>;

    fn into_future(self) -> Child<D> {
        let Self { new, place, .. } = self;
        let place = place.and_then(|(run, position)| {
            let call = Self { new, place: Err(nowhere()), said: false, function: PhantomData };
            let mut new = call.finish()?;
            if new.parent.is_some() {
                // Nobody waits for it any longer than that.
                new.policy.deadline = [new.policy.deadline, run.deadline].into_iter().flatten().min();
            }
            let waits_for_itself = new.ordering_key.as_ref().is_some_and(|key| run.lines.contains(key));
            if new.parent.is_some() && waits_for_itself {
                let why = "it would wait for a run that waits for it: both have one ordering key";
                return Err(Error::new(Code::RunCallRefused, why));
            }
            Ok((run, position, input(&new.payload), Some(Box::new(new))))
        });
        Child { place, over: false, cancelled: false, called_off: false, function: PhantomData }
    }
}

impl<D: Durable> Child<D> {
    /// Asks it to end: whatever it waits for fails as [`Cancelled`](Failure::Cancelled), and it may undo what it has
    /// done. Awaiting it gives how it has ended; dropping it asks for the same, and does not wait.
    ///
    /// ```
    /// use onceward::durable::{AnyError, Either, durable, race, sleep};
    /// use std::future::IntoFuture;
    /// use std::time::Duration;
    ///
    /// #[durable]
    /// async fn render(film: u64) -> Result<u64, AnyError> {
    ///     sleep(Duration::from_secs(3_600)).await?;
    ///     Ok(film)
    /// }
    ///
    /// #[durable]
    /// async fn publish(film: u64) -> Result<u64, AnyError> {
    ///     let mut rendering = render(film).into_future();
    ///     match race(&mut rendering, sleep(Duration::from_secs(60))).await {
    ///         Either::Left(rendered) => Ok(rendered?),
    ///         Either::Right(_) => {
    ///             rendering.cancel();
    ///             // Until it has cleaned up.
    ///             Ok(rendering.await.unwrap_or_default())
    ///         }
    ///     }
    /// }
    /// ```
    pub fn cancel(&mut self) {
        self.cancelled = true;
        self.call_off();
    }

    /// Has it called off once it is started; what is given up has no waker any more, and is asked for again.
    fn call_off(&mut self) {
        if let (Ok((run, position, ..)), true, false) = (&self.place, self.cancelled, self.called_off) {
            self.called_off = run.abandon(position);
        }
    }
}

fn nowhere() -> Error {
    Error::new(Code::RunAbsent, "this is asked for outside of a durable function")
}

/// What stands for arguments in the journal: the same for maps in whatever order, and what it was before that.
fn input(payload: &Payload) -> [u64; 2] {
    let short = |bytes: &[u8]| {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    };
    [short(&canonical(&payload.bytes)), short(&payload.bytes)]
}

/// Where a child stands, what stands for its arguments, and the child itself until it was started.
type Place = (Arc<Run>, Position, [u64; 2], Option<Box<New>>);

/// A child that is waited for.
#[must_use = "it is started when it is awaited"]
pub struct Child<D: Durable> {
    place: Result<Place>,
    over: bool,
    /// Whether it is to be called off, and whether that was asked for.
    cancelled: bool,
    called_off: bool,
    function: PhantomData<fn() -> D>,
}

impl<D: Durable> core::fmt::Debug for Child<D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Child").field("kind", &D::KIND).finish_non_exhaustive()
    }
}

impl<D: Durable> Future for Child<D> {
    type Output = Result<D::Value, Failure<D::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let (run, position, input, new) = match &mut this.place {
            Ok(place) => place,
            Err(error) => return Poll::Ready(Err(engine(error))),
        };
        let wanted = Wanted { op: Op::Child, name: D::KIND, input: Some(*input) };
        match run.ask(position, wanted, cx.waker()) {
            Asked::Ended(outcome) => {
                this.over = true;
                return Poll::Ready(read(outcome));
            }
            Asked::Waits => {}
            Asked::Fresh(Some(Start::Child { id, .. })) => run.wait_for_child(position, id),
            Asked::Fresh(_) => {
                if let Some(new) = new.take() {
                    run.start_child(position, D::KIND, input[0], *new);
                }
            }
        }
        this.call_off();
        Poll::Pending
    }
}

impl<D: Durable> Drop for Child<D> {
    fn drop(&mut self) {
        if let (Ok((run, position, ..)), false) = (&self.place, self.over) {
            let _ = run.abandon(position);
            run.leave(position);
        }
    }
}

/// A run that is started and not waited for; see [`Call::spawn`].
#[derive(Debug)]
#[must_use = "it is started when it is awaited"]
pub struct Spawn<D: Durable>(Child<D>);

impl<D: Durable> Future for Spawn<D> {
    type Output = Result<JobId, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let child = &mut self.0;
        let (run, position, input, new) = match &mut child.place {
            Ok(place) => place,
            Err(error) => return Poll::Ready(Err(engine(error))),
        };
        let wanted = Wanted { op: Op::Child, name: D::KIND, input: Some(*input) };
        match run.ask(position, wanted, cx.waker()) {
            Asked::Ended(outcome) => {
                child.over = true;
                return Poll::Ready(read::<Uuid, _>(outcome).map(JobId::from_uuid));
            }
            Asked::Waits => {}
            Asked::Fresh(_) => {
                if let Some(new) = new.take() {
                    run.spawn(position, D::KIND, input[0], *new);
                }
            }
        }
        Poll::Pending
    }
}
