//! Waiting for a time, or for something from outside.

use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::Arc;

use onceward_core::run::{Op, Phase, Position, Start, Wanted};
use onceward_core::{Error, Timestamp, limits};
use serde::de::DeserializeOwned;

use super::ambient::claim;
use super::failure::{Failure, Never};
use super::run::{Asked, Run};
use super::step::{check_name, engine, read};

/// When something is due.
#[derive(Clone, Copy, Debug)]
enum Due {
    After(Duration),
    At(Timestamp),
}

impl Due {
    fn at(self, run: &Run) -> Timestamp {
        match self {
            // Ten years are as good as for ever.
            Self::After(span) => run.store_now().after(span.min(limits::DELAY_MAX)),
            Self::At(at) => at,
        }
    }
}

/// Waits for so long, whatever becomes of the process meanwhile. A run that only waits costs no slot of its worker, and
/// after a while no memory either.
///
/// It is not shorter than said, by the store's clock; the time counts from when the code first came by here.
pub fn sleep(span: Duration) -> Sleep {
    Sleep { place: claim(), due: Due::After(span) }
}

/// Waits until that time, by the store's clock; see [`sleep`].
pub fn sleep_until(at: impl Into<Timestamp>) -> Sleep {
    Sleep { place: claim(), due: Due::At(at.into()) }
}

/// A wait, which ends with an error only where it can't be waited: the run is called off, or there is no run.
#[derive(Debug)]
#[must_use = "it waits when it is awaited"]
pub struct Sleep {
    place: Result<(Arc<Run>, Position), Error>,
    due: Due,
}

impl Future for Sleep {
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (run, position) = match &self.place {
            Ok(place) => place,
            Err(error) => return Poll::Ready(Err(engine(error))),
        };
        match run.ask(position, Wanted { op: Op::Sleep, name: "", input: None }, cx.waker()) {
            Asked::Ended(outcome) => Poll::Ready(match read::<(), Never>(outcome) {
                // That its time has come is what it waited for.
                Err(Failure::TimedOut) | Ok(()) => Ok(()),
                Err(failure) => Err(failure),
            }),
            Asked::Waits => Poll::Pending,
            Asked::Fresh(start) => {
                tick(run, position, (Op::Sleep, ""), start.as_ref(), self.due);
                Poll::Pending
            }
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Ok((run, position)) = &self.place {
            run.leave(position);
        }
    }
}

/// Writes down when something is due, the first time, and has it come then.
fn tick(run: &Run, position: &Position, (op, name): (Op, &str), start: Option<&Start>, due: Due) {
    let due = match start {
        Some(Start::Due(due)) => *due,
        _ => {
            let due = due.at(run);
            run.record(position, op, name, Phase::Started(Start::Due(due)));
            due
        }
    };
    run.wait_until(position, due);
}

/// Waits for the next signal of that name that nobody has taken, sent before the run came by here or after: by
/// [`RunHandle::signal`](super::RunHandle::signal) or `onceward runs signal`. Each signal is taken once, in the order
/// in which they were sent. A wait that the code gives up, as in a race that something else wins, takes none: a signal
/// that came for it is the next one for whoever waits then.
///
/// ```
/// use onceward::durable::{Failure, signal};
/// use std::time::Duration;
///
/// #[onceward::durable]
/// async fn approval(order: u64) -> Result<bool, Failure> {
///     match signal::<bool>("approved").timeout(Duration::from_secs(86_400)).await {
///         Err(Failure::TimedOut) => Ok(false),
///         answer => answer,
///     }
/// }
/// ```
pub fn signal<T: DeserializeOwned>(name: impl Into<String>) -> Signal<T> {
    let name = name.into();
    Signal {
        place: check_name(&name).and_then(|()| claim()),
        name,
        timeout: None,
        taken: false,
        value: PhantomData,
    }
}

/// A signal that is waited for; see [`signal`].
#[must_use = "it is waited for when it is awaited"]
pub struct Signal<T> {
    place: Result<(Arc<Run>, Position), Error>,
    name: String,
    timeout: Option<Due>,
    /// Whether the code has what it waited for.
    taken: bool,
    value: PhantomData<fn() -> T>,
}

impl<T> core::fmt::Debug for Signal<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Signal").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<T> Signal<T> {
    /// After this long it fails as [`TimedOut`](Failure::TimedOut); the time counts from when the code first came by
    /// here.
    pub fn timeout(mut self, span: Duration) -> Self {
        self.timeout = Some(Due::After(span));
        self
    }
}

impl<T> Signal<T> {
    /// Where it is waited for.
    pub(super) fn position(&self) -> Option<&Position> {
        self.place.as_ref().ok().map(|(_, position)| position)
    }
}

impl<T: DeserializeOwned> Future for Signal<T> {
    type Output = Result<T, Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (run, position) = match &this.place {
            Ok(place) => place,
            Err(error) => return Poll::Ready(Err(engine(error))),
        };
        match run.ask(position, Wanted { op: Op::Signal, name: &this.name, input: None }, cx.waker()) {
            Asked::Ended(outcome) => {
                this.taken = true;
                Poll::Ready(read(outcome))
            }
            Asked::Waits => Poll::Pending,
            Asked::Fresh(start) => {
                run.listen(position, &this.name);
                // It may have been there already.
                if let (Some(due), false) = (this.timeout, run.has_ended(position)) {
                    tick(run, position, (Op::Signal, &this.name), start.as_ref(), due);
                }
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Signal<T> {
    fn drop(&mut self) {
        if let (Ok((run, position)), false) = (&self.place, self.taken) {
            run.give_up_signal(position, &self.name);
            run.leave(position);
        }
    }
}
