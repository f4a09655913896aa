//! What a durable function is, as `#[durable]` writes it down.

use core::any::TypeId;
use core::fmt;
use core::time::Duration;

use futures_util::future::BoxFuture;
use onceward_core::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::jobs::JobOptions;
use crate::worker::JobContext;

use super::call::Call;

/// A durable function: implemented by [`#[durable]`](macro@crate::durable), not by hand.
pub trait Durable: Sized + Send + Sync + 'static {
    /// What it is called in the store: its name, and its version if it has one.
    const KIND: &'static str;
    /// How it is run when nothing else is said.
    const OPTIONS: JobOptions;
    /// For how long what a run has come to is that of later runs with the same arguments as well: `idempotent`,
    /// `cached`.
    const REMEMBERS: Option<Duration> = None;
    /// How many of its runs are worked on at the same time, over all workers. It then waits in a queue of its name.
    const MAX_CONCURRENT: Option<u32> = None;
    /// Its arguments, except those that the worker gives it.
    type Args: Serialize + DeserializeOwned + Send;
    /// What it returns.
    type Value: Serialize + DeserializeOwned + Send + 'static;
    /// How it fails.
    type Error: Serialize + DeserializeOwned + fmt::Display + Send + 'static;

    /// Calls it.
    ///
    /// # Errors
    /// Where the worker lacks a state that it wants.
    fn call(
        args: Self::Args,
        context: &JobContext,
    ) -> Result<BoxFuture<'static, Result<Self::Value, Self::Error>>>;

    /// The states it wants.
    fn needs() -> Vec<(TypeId, &'static str)> {
        Vec::new()
    }

    /// What calls have in common that have one result, where it is not all of their arguments.
    fn key(_args: &Self::Args) -> Option<String> {
        None
    }

    /// Whether another attempt may help after this error.
    fn is_transient(_error: &Self::Error) -> bool {
        true
    }
}

/// The queue of a function that has one of its own: it is called as the function is, whatever its version.
pub(crate) fn queue_of(kind: &str) -> &str {
    kind.split_once('@').map_or(kind, |(name, _)| name)
}

/// What a durable function may return: a `Result`.
///
/// ```compile_fail,E0277
/// #[onceward::durable]
/// async fn counts() -> u32 {
///     7
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "a durable function can't return `{Self}`",
    note = "return `Result<T, E>`: both are written down as JSON, and `E` can be shown; \
            `onceward::durable::AnyError` is an `E` for everything"
)]
pub trait DurableResult {
    /// What it returns.
    type Value;
    /// How it fails.
    type Error;
    /// Takes the two apart.
    #[expect(clippy::missing_errors_doc, reason = "it is what the function has returned")]
    fn into_result(self) -> Result<Self::Value, Self::Error>;
}

impl<T, E> DurableResult for Result<T, E> {
    type Value = T;
    type Error = E;

    fn into_result(self) -> Self {
        self
    }
}

/// A function that `#[durable]` stands on, by its name: `worker.durable(checkout)`.
///
/// ```compile_fail,E0277
/// async fn checkout(order: u64) -> Result<u64, String> {
///     Ok(order)
/// }
///
/// # async fn example(ow: onceward::Onceward) {
/// ow.worker().durable(checkout);
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "this is not a durable function",
    note = "put `#[onceward::durable]` on an `async fn`, and name it here"
)]
pub trait DurableFn<Arguments> {
    /// What it is.
    type Function: Durable;
}

macro_rules! functions {
    ($($argument:ident),*) => {
        impl<F, D, $($argument),*> DurableFn<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> Call<D>,
            D: Durable,
        {
            type Function = D;
        }
    };
}

functions!();
functions!(A);
functions!(A, B);
functions!(A, B, C);
functions!(A, B, C, D1);
functions!(A, B, C, D1, E);
functions!(A, B, C, D1, E, G);
functions!(A, B, C, D1, E, G, H);
functions!(A, B, C, D1, E, G, H, I);
