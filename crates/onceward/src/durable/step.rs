//! Steps: ordinary code whose outcome is written down, so that it is not run again.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::sync::Arc;

use onceward_core::job::Retry;
use onceward_core::run::{Op, Outcome, Phase, Position, Start, Wanted};
use onceward_core::{Code, Error, limits};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Sleep, sleep};

use super::ambient::{Ambient, claim, within};
use super::awaits::freely;
use super::failure::{Failure, Never};
use super::run::{Asked, Run, failed};

/// Runs ordinary code once: its outcome is written into the journal, and given to the code each time it comes by again.
///
/// The body runs here, in the run's own task, at least once: where the process dies after the body and before its
/// outcome is durable, it runs again ([`at_most_once`](Step::at_most_once) has it fail as *uncertain* instead). An
/// `Err` is written down like a value, after the attempts that [`retry`](Step::retry) gives it.
///
/// ```
/// use onceward::durable::{AnyError, step};
///
/// # async fn send_mail(_: &str) -> Result<u64, AnyError> { Ok(1) }
/// #[onceward::durable]
/// async fn welcome(user: String) -> Result<u64, AnyError> {
///     let id = step("mail", || async { send_mail(&user).await }).await?;
///     Ok(id)
/// }
/// ```
pub fn step<F, Fut, T, E>(name: &'static str, body: F) -> Step<F, Fut>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
    T: Serialize + DeserializeOwned,
    E: Serialize + DeserializeOwned,
{
    let place = check_name(name).and_then(|()| claim());
    let retry = Retry::default();
    Step {
        place,
        name,
        body,
        work: Work::Idle,
        attempt: 0,
        attempts: 1,
        retry,
        timeout: None,
        rule: None,
        once: None,
    }
}

/// Refuses names that can't stand in a journal.
pub(super) fn check_name(name: &str) -> Result<(), Error> {
    let fits = (1..=limits::STEP_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    let max = limits::STEP_NAME_BYTES_MAX;
    let refuse = || {
        Error::new(Code::StepNameInvalid, format!("a name has 1 to {max} bytes, and no control characters"))
    };
    fits.then_some(()).ok_or_else(refuse)
}

pin_project_lite::pin_project! {
    /// A step, which `.await` runs; see [`step`].
    #[must_use = "a step runs when it is awaited"]
    pub struct Step<F, Fut>
    where
        Fut: Future,
    {
        place: Result<(Arc<Run>, Position), Error>,
        name: &'static str,
        body: F,
        #[pin]
        work: Work<Fut>,
        attempt: u32,
        attempts: u32,
        retry: Retry,
        timeout: Option<Duration>,
        rule: Option<Rule<Fut::Output>>,
        once: Option<Once>,
    }

    impl<F, Fut> PinnedDrop for Step<F, Fut>
    where
        Fut: Future,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let runs = matches!(this.work.project(), WorkProjected::Body { .. } | WorkProjected::Pause { .. });
            if let (Ok((run, _)), true) = (&*this.place, runs) {
                run.body(false);
            }
        }
    }
}

/// What is known of a step that must not run twice.
enum Once {
    Asked,
    /// Its intent is written down under this number.
    Intent(u32),
}

pin_project_lite::pin_project! {
    #[project = WorkProjected]
    enum Work<Fut> {
        Idle,
        Body { #[pin] future: Fut, #[pin] limit: Option<Sleep> },
        Pause { #[pin] pause: Sleep },
        Over,
    }
}

impl<F, Fut: Future> core::fmt::Debug for Step<F, Fut> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Step").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<F, Fut: Future> Step<F, Fut> {
    /// How often the body is tried before its error counts; once by default. The attempts are made by this process:
    /// another one begins to count anew.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// How long to wait between attempts: `exponential 2s max 15m jitter 0.2` by default.
    pub fn retry(mut self, policy: Retry) -> Self {
        self.retry = policy;
        self
    }

    /// How long one attempt of the body may take; as long as the run may by default. An attempt that takes longer is
    /// dropped where it waits, and has failed as [`TimedOut`](Failure::TimedOut), or as
    /// [`Uncertain`](Failure::Uncertain) if it must not run twice. A body that blocks its thread can't be stopped.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Writes down that the body begins before it begins. Where nobody can know whether it did its work, the step fails
    /// as [`Uncertain`](Failure::Uncertain) instead of running again. It costs one more write.
    pub fn at_most_once(mut self) -> Self {
        self.once = Some(Once::Asked);
        self
    }
}

impl<F, Fut, T, E> Step<F, Fut>
where
    Fut: Future<Output = Result<T, E>>,
{
    /// Whether another attempt may help after this error; after each of them by default. What is permanent counts at
    /// once.
    ///
    /// ```
    /// use onceward::durable::{AnyError, durable, step};
    ///
    /// #[derive(Debug, serde::Serialize, serde::Deserialize)]
    /// enum Refused { Busy, Declined }
    ///
    /// # impl std::fmt::Display for Refused {
    /// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "{self:?}") }
    /// # }
    /// # impl std::error::Error for Refused {}
    /// #[durable]
    /// async fn pay(order: u64) -> Result<u64, AnyError> {
    ///     let charge = step("charge", || async move { Ok::<u64, Refused>(order) })
    ///         .max_attempts(5)
    ///         .retry_if(|refused| matches!(refused, Refused::Busy));
    ///     Ok(charge.await?)
    /// }
    /// ```
    pub fn retry_if(mut self, rule: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.rule = Some(Box::new(move |result: &Result<T, E>| result.as_ref().is_err_and(&rule)));
        self
    }
}

/// Whether another attempt of a body may help that has ended like this.
type Rule<O> = Box<dyn Fn(&O) -> bool + Send + Sync>;

const LONG: &str = "its time was over before it had ended, and it must not run twice";
const STARTED: &str =
    "its process died, or was away for too long, after the step had begun and before it had ended";

impl<F, Fut, T, E> Future for Step<F, Fut>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
    T: Serialize + DeserializeOwned,
    E: Serialize + DeserializeOwned,
{
    type Output = Result<T, Failure<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let (run, position) = match &*this.place {
            Ok(place) => place,
            Err(error) => return Poll::Ready(Err(engine(error))),
        };
        let wanted = Wanted { op: Op::Step, name: this.name, input: None };
        loop {
            match this.work.as_mut().project() {
                WorkProjected::Idle => {
                    match run.ask(position, wanted, cx.waker()) {
                        Asked::Ended(outcome) => return Poll::Ready(read(outcome)),
                        Asked::Waits => return Poll::Pending,
                        Asked::Fresh(start) => match (&this.once, start) {
                            (Some(Once::Intent(seq)), _) if run.is_durable(*seq) => {}
                            (Some(Once::Intent(_)), _) => return Poll::Pending,
                            (_, Some(Start::Intent)) => {
                                let lost = Failure::<Never>::Uncertain(STARTED.to_owned());
                                run.record(position, Op::Step, this.name, Phase::Ended(failed(&lost)));
                                this.work.set(Work::Over);
                                continue;
                            }
                            (Some(Once::Asked), _) => {
                                let intent = Phase::Started(Start::Intent);
                                let seq = run.record(position, Op::Step, this.name, intent);
                                *this.once = Some(Once::Intent(seq));
                                return Poll::Pending;
                            }
                            (None, _) => {}
                        },
                    }
                    run.body_begins(position, this.name);
                    this.work.set(begun(this.body, *this.timeout));
                }
                WorkProjected::Body { future, limit } => {
                    let mut more = *this.attempt + 1 < *this.attempts && this.once.is_none();
                    let result = match freely(cx, |cx| within(Ambient::Step, || future.poll(cx))) {
                        Poll::Ready(result) => {
                            more &= this.rule.as_ref().is_none_or(|rule| rule(&result));
                            result.map_err(Failure::App)
                        }
                        Poll::Pending => {
                            ready!(is_over(limit, cx));
                            Err(too_long(this.once.is_some()))
                        }
                    };
                    *this.attempt += 1;
                    if result.is_err() && more {
                        let pause = run.pause(this.retry.delay(*this.attempt, seed(run, *this.attempt)));
                        this.work.set(Work::Pause { pause: sleep(pause) });
                        continue;
                    }
                    run.body(false);
                    let outcome = result.map_or_else(|failure| failed(&failure), |value| written(&value));
                    run.record(position, Op::Step, this.name, Phase::Ended(outcome));
                    this.work.set(Work::Over);
                }
                WorkProjected::Pause { pause } => {
                    ready!(freely(cx, |cx| pause.poll(cx)));
                    this.work.set(begun(this.body, *this.timeout));
                }
                WorkProjected::Over => {
                    return match run.ask(position, wanted, cx.waker()) {
                        Asked::Ended(outcome) => Poll::Ready(read(outcome)),
                        Asked::Waits | Asked::Fresh(_) => Poll::Pending,
                    };
                }
            }
        }
    }
}

/// Whether the time of an attempt is over, if it has one.
fn is_over(limit: Pin<&mut Option<Sleep>>, cx: &mut Context<'_>) -> Poll<()> {
    limit.as_pin_mut().map_or(Poll::Pending, |limit| freely(cx, |cx| limit.poll(cx)))
}

/// An attempt of the body.
fn begun<F: FnMut() -> Fut, Fut>(body: &mut F, timeout: Option<Duration>) -> Work<Fut> {
    Work::Body { future: within(Ambient::Step, body), limit: timeout.map(sleep) }
}

fn too_long<E>(once: bool) -> Failure<E> {
    if once { Failure::Uncertain(LONG.to_owned()) } else { Failure::TimedOut }
}

pub(super) fn seed(run: &Run, attempt: u32) -> u64 {
    run.job.id.as_uuid().as_u64_pair().1 ^ u64::from(attempt)
}

/// What could not be asked for.
pub(super) fn engine<E>(error: &Error) -> Failure<E> {
    Failure::Engine(error.to_string())
}

/// A value as the journal keeps it.
pub(super) fn written<T: Serialize>(value: &T) -> Outcome {
    match json(value) {
        Ok(bytes) => Outcome::Value(bytes),
        Err(error) => failed(&Failure::<Never>::Engine(error.to_string())),
    }
}

/// A value as JSON.
pub(super) fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    let refuse = |why: String| Error::new(Code::StepUnwritable, why);
    let bytes = serde_json::to_vec(value)
        .map_err(|error| refuse(format!("the value can't be written as JSON: {error}")))?;
    let (has, max) = (bytes.len(), limits::RESULT_BYTES_MAX);
    if has > max {
        return Err(refuse(format!("the value has {has} bytes; {max} is the most")));
    }
    Ok(bytes)
}

/// Reads what the journal keeps.
pub(super) fn read<T: DeserializeOwned, E: DeserializeOwned>(outcome: Outcome) -> Result<T, Failure<E>> {
    let strange = |error: serde_json::Error| {
        Failure::Engine(format!("{}: the journal holds another type here: {error}", Code::JournalUnreadable))
    };
    match outcome {
        Outcome::Value(bytes) | Outcome::Again(bytes) => serde_json::from_slice(&bytes).map_err(strange),
        Outcome::Failed(bytes) => Err(serde_json::from_slice(&bytes).unwrap_or_else(strange)),
        Outcome::Due => Err(Failure::TimedOut),
    }
}
