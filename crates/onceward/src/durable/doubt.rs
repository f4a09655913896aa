//! What a step does that must not run twice, where nobody knows whether it did its work.

use core::pin::Pin;
use core::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use onceward_core::run::{Outcome, Position};
use serde::Serialize;
use serde_json::Value;

use super::failure::{Failure, Never};
use super::run::failed;
use super::step::written;
use super::wait::{Signal, signal};

/// What becomes of a step that must not run twice and whose process has died in the middle of it: see
/// [`Step::when_uncertain`](super::Step::when_uncertain).
#[non_exhaustive]
pub enum Doubt<T> {
    /// It fails as [`Uncertain`](Failure::Uncertain): what nobody says anything else about.
    Fail,
    /// Its body runs again: it can take that after all, and the process before it is gone.
    Retry,
    /// It finds out by itself: see [`probe`](Self::probe).
    Probe(Probe<T>),
    /// Somebody says how it was, by a signal `uncertain/POSITION`: the value that the step has returned, or `null`
    /// where it has not happened, and its body is to run again. The run waits for that, as long as it takes.
    Ask,
}

/// Finds out what has become of a step: what it has returned, or `None` where it has not happened.
pub type Probe<T> = Box<dyn FnMut() -> BoxFuture<'static, Option<T>> + Send>;

impl<T> core::fmt::Debug for Doubt<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Fail => "Fail",
            Self::Retry => "Retry",
            Self::Probe(_) => "Probe",
            Self::Ask => "Ask",
        })
    }
}

impl<T> Doubt<T> {
    /// Asks whoever knows: `Some` is what the step has returned, and is written down; with `None` it has not happened,
    /// and its body runs.
    ///
    /// ```
    /// use onceward::durable::{AnyError, Doubt, durable, step};
    ///
    /// # async fn charge(order: u64) -> Result<u64, AnyError> { Ok(order) }
    /// # async fn charged(order: u64) -> Option<u64> { None }
    /// #[durable]
    /// async fn pay(order: u64) -> Result<u64, AnyError> {
    ///     let charge = step("charge", || charge(order)).at_most_once();
    ///     Ok(charge.when_uncertain(Doubt::probe(move || charged(order))).await?)
    /// }
    /// ```
    pub fn probe<F, Fut>(mut probe: F) -> Self
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Option<T>> + Send + 'static,
    {
        Self::Probe(Box::new(move || Box::pin(probe())))
    }
}

/// The same for a step at its place.
pub(super) enum InDoubt {
    Fail,
    Retry,
    Probe(Box<dyn FnMut() -> BoxFuture<'static, Option<Outcome>> + Send>),
    /// Who says how it was; where that is waited for.
    Ask(Option<Signal<Option<Value>>>, Position),
}

impl InDoubt {
    /// What was said of the step at a position.
    pub(super) fn of<T: Serialize + Send + 'static>(doubt: Doubt<T>, position: Option<&Position>) -> Self {
        match doubt {
            Doubt::Fail => Self::Fail,
            Doubt::Retry => Self::Retry,
            Doubt::Probe(mut probe) => {
                Self::Probe(Box::new(move || probe().map(|found| found.map(|value| written(&value))).boxed()))
            }
            Doubt::Ask => {
                let said = signal(position.map(|at| format!("uncertain/{at}")).unwrap_or_default());
                match said.position().cloned() {
                    Some(at) => Self::Ask(Some(said), at),
                    None => Self::Fail,
                }
            }
        }
    }
}

/// How it was, as soon as somebody says so: what the step has come to, or nothing where it is to run.
pub(super) fn answer(
    said: Pin<&mut Signal<Option<Value>>>,
    cx: &mut Context<'_>,
    lost: &str,
) -> Poll<Option<Outcome>> {
    said.poll(cx).map(|said| match said {
        Ok(value) => value.map(|value| written(&value)),
        // It is called off, or what was said can't be read.
        Err(_) => Some(failed(&Failure::<Never>::Uncertain(lost.to_owned()))),
    })
}
