//! Steps: ordinary code whose outcome is written down, so that it is not run again.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use onceward_core::job::Retry;
use onceward_core::run::{Op, Outcome, Phase, Position, Start, Wanted};
use onceward_core::{Code, Error, limits};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Sleep, sleep};

use super::ambient::{Ambient, claim, within};
use super::awaits::freely;
use super::doubt::{Doubt, InDoubt, answer};
use super::failure::{Failure, Never};
use super::run::{Asked, Run, failed};
use super::wait::Signal;

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
        doubt: InDoubt::Fail,
        undoes: false,
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
        // What becomes of it where nobody knows whether it happened.
        doubt: InDoubt,
        // Whether it is there to undo something.
        undoes: bool,
    }

    impl<F, Fut> PinnedDrop for Step<F, Fut>
    where
        Fut: Future,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let runs = matches!(
                this.work.project(),
                WorkProjected::Body { .. } | WorkProjected::Pause { .. } | WorkProjected::Probe { .. }
            );
            if let Ok((run, position)) = &*this.place {
                if runs {
                    run.body(false);
                }
                run.leave(position);
            }
        }
    }
}

/// What is known of a step that must not run twice.
enum Once {
    Asked,
    /// It is known that it has not happened, or it may run again.
    Again,
    /// Its intent is written down under this number.
    Intent(u32),
}

pin_project_lite::pin_project! {
    #[project = WorkProjected]
    enum Work<Fut> {
        Idle,
        Body { #[pin] future: Fut, #[pin] limit: Option<Sleep> },
        Pause { #[pin] pause: Sleep },
        Probe { #[pin] probe: BoxFuture<'static, Option<Outcome>> },
        Asking { #[pin] said: Signal<Option<Value>> },
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

    /// It undoes what was done: that the run is called off is heard after it.
    pub(super) fn undoes(mut self) -> Self {
        self.undoes = true;
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
    /// What becomes of a step that must not run [twice](Self::at_most_once) where nobody knows whether it did its work:
    /// it fails, if nothing else is said. A body that has taken too [long](Self::timeout) fails in any case.
    ///
    /// ```
    /// use onceward::durable::{AnyError, Doubt, durable, step};
    ///
    /// # async fn send(_: u64) -> Result<u64, AnyError> { Ok(1) }
    /// #[durable]
    /// async fn transfer(order: u64) -> Result<u64, AnyError> {
    ///     // onceward runs signal ID uncertain/0 --json 'null'     it was not sent: send it
    ///     // onceward runs signal ID uncertain/0 --json '17'       it was, and this is its number
    ///     Ok(step("send", || send(order)).at_most_once().when_uncertain(Doubt::Ask).await?)
    /// }
    /// ```
    pub fn when_uncertain(mut self, doubt: Doubt<T>) -> Self
    where
        T: Serialize + Send + 'static,
    {
        self.doubt = InDoubt::of(doubt, self.place.as_ref().ok().map(|(_, position)| position));
        self
    }

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
                    let asked = run.ask_or_hear(position, wanted, cx.waker(), !*this.undoes);
                    match next((run, position, this.name), asked, this.once, this.doubt) {
                        Next::Ended(outcome) => return Poll::Ready(read(outcome)),
                        Next::Waits => return Poll::Pending,
                        Next::Goes(work) => this.work.set(work),
                        Next::Begins => {
                            run.body_begins(position, this.name);
                            this.work.set(begun(this.body, *this.timeout));
                        }
                    }
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
                WorkProjected::Probe { probe } => {
                    let found = ready!(freely(cx, |cx| within(Ambient::Step, || probe.poll(cx))));
                    run.body(false);
                    this.work.set(known((run, position, this.name), this.once, found));
                }
                WorkProjected::Asking { said } => {
                    let said = ready!(answer(said, cx, STARTED));
                    this.work.set(known((run, position, this.name), this.once, said));
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

/// What becomes of a step whose body does not run yet.
enum Next<Fut> {
    Ended(Outcome),
    Waits,
    Begins,
    Goes(Work<Fut>),
}

/// Where a step stands, and what it is called.
type Place<'a> = (&'a Run, &'a Position, &'a str);

fn next<Fut>(place: Place<'_>, asked: Asked, once: &mut Option<Once>, doubt: &mut InDoubt) -> Next<Fut> {
    let (run, position, name) = place;
    let start = match asked {
        Asked::Ended(outcome) => return Next::Ended(outcome),
        // Where somebody was asked how it was, the journal says so further on.
        Asked::Waits => match doubt {
            InDoubt::Ask(said, at) if run.is_recorded(at) => return asks(said),
            _ => return Next::Waits,
        },
        Asked::Fresh(start) => start,
    };
    match (&*once, start) {
        (None | Some(Once::Asked), Some(Start::Intent)) => in_doubt(place, once, doubt),
        (None | Some(Once::Again), _) => Next::Begins,
        (Some(Once::Intent(seq)), _) if run.is_durable(*seq) => Next::Begins,
        (Some(Once::Intent(_)), _) => Next::Waits,
        (Some(Once::Asked), _) => {
            let seq = run.record(position, Op::Step, name, Phase::Started(Start::Intent));
            *once = Some(Once::Intent(seq));
            Next::Waits
        }
    }
}

/// What is done where nobody knows whether it happened.
fn in_doubt<Fut>(place: Place<'_>, once: &mut Option<Once>, doubt: &mut InDoubt) -> Next<Fut> {
    let (run, position, name) = place;
    match doubt {
        InDoubt::Fail => {
            let lost = Failure::<Never>::Uncertain(STARTED.to_owned());
            run.record(position, Op::Step, name, Phase::Ended(failed(&lost)));
            Next::Goes(Work::Over)
        }
        InDoubt::Retry => {
            *once = Some(Once::Again);
            Next::Begins
        }
        InDoubt::Probe(probe) => {
            run.body(true);
            Next::Goes(Work::Probe { probe: within(Ambient::Step, probe) })
        }
        InDoubt::Ask(said, _) => asks(said),
    }
}

fn asks<Fut>(said: &mut Option<Signal<Option<Value>>>) -> Next<Fut> {
    said.take().map_or(Next::Waits, |said| Next::Goes(Work::Asking { said }))
}

/// It is known how it was: what it has come to, or nothing where its body is to run.
fn known<Fut>(place: Place<'_>, once: &mut Option<Once>, found: Option<Outcome>) -> Work<Fut> {
    let (run, position, name) = place;
    match found {
        Some(outcome) => {
            // Where it was said before, its end may stand in the journal as well.
            if !run.has_ended(position) {
                run.record(position, Op::Step, name, Phase::Ended(outcome));
            }
            Work::Over
        }
        None => {
            *once = Some(Once::Again);
            Work::Idle
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
