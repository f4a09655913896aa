//! Handlers: functions of a job, and of what they want to know beside it.

use core::any::{TypeId, type_name};
use core::future::Future;
use core::ops::Deref;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use onceward_core::Result;

use super::context::JobContext;
use super::outcome::{IntoOutcome, Outcome};
use crate::jobs::Job;

/// Something a handler can have as an argument.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an argument of a handler",
    note = "the first argument is the job; after it come `JobContext` and `State<T>`, in any order"
)]
pub trait FromContext: Sized + Send {
    /// Makes it, when an attempt starts.
    ///
    /// # Errors
    /// Where it can't be made: the attempt has failed.
    fn from_context(context: &JobContext) -> Result<Self>;

    /// The state it needs, so that the worker can tell whether there is one before it starts.
    fn needs() -> Option<(TypeId, &'static str)> {
        None
    }
}

impl FromContext for JobContext {
    fn from_context(context: &JobContext) -> Result<Self> {
        Ok(context.clone())
    }
}

/// What the worker was given by `.state(…)`, as an argument of a handler.
#[derive(Debug)]
pub struct State<T>(pub Arc<T>);

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Send + Sync + 'static> FromContext for State<T> {
    fn from_context(context: &JobContext) -> Result<Self> {
        context.state().map(Self)
    }

    fn needs() -> Option<(TypeId, &'static str)> {
        Some((TypeId::of::<T>(), type_name::<T>()))
    }
}

/// A function that runs jobs of one type: `async fn(Welcome)`, `async fn(Welcome, JobContext)`,
/// `async fn(Welcome, State<Mailer>, JobContext) -> Result<T, E>`. Closures have to name the types of their arguments.
#[diagnostic::on_unimplemented(
    message = "this is not a handler of jobs",
    note = "a handler is `async fn(job: J, …) -> R`: `J` implements `Job`, what follows is `JobContext` or `State<T>`, \
            `R` implements `IntoOutcome` (such as `Result<T, E>`), and the future is `Send`"
)]
pub trait JobHandler<Arguments>: Send + Sync + 'static {
    /// What it runs.
    type Job: Job;

    /// Runs one attempt.
    fn run(&self, context: &JobContext) -> BoxFuture<'static, Outcome>;

    /// The states its arguments need.
    fn needs() -> Vec<(TypeId, &'static str)>;
}

macro_rules! handlers {
    ($($argument:ident),*) => {
        impl<F, Fut, R, J, $($argument),*> JobHandler<(J, $($argument,)*)> for F
        where
            F: Fn(J, $($argument),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = R> + Send + 'static,
            R: IntoOutcome,
            J: Job,
            $($argument: FromContext,)*
        {
            type Job = J;

            fn run(&self, context: &JobContext) -> BoxFuture<'static, Outcome> {
                let job = match context.decode() {
                    Ok(job) => job,
                    // More attempts are no use: the bytes stay what they are.
                    Err(error) => return ready(Outcome::dead(error)).boxed(),
                };
                let future = self(job, $(match $argument::from_context(context) {
                    Ok(argument) => argument,
                    Err(error) => return ready(Outcome::not_started(error)).boxed(),
                }),*);
                async move { future.await.into_outcome() }.boxed()
            }

            fn needs() -> Vec<(TypeId, &'static str)> {
                let needs: [Option<(TypeId, &'static str)>; _] = [$($argument::needs()),*];
                needs.into_iter().flatten().collect()
            }
        }
    };
}

handlers!();
handlers!(A);
handlers!(A, B);
handlers!(A, B, C);
handlers!(A, B, C, D);

/// A function that runs jobs of a kind known only at run time: `async fn(JobContext) -> R`. It finds the bytes by
/// [`JobContext::payload`].
pub trait RawHandler: Send + Sync + 'static {
    /// Runs one attempt.
    fn run(&self, context: JobContext) -> BoxFuture<'static, Outcome>;
}

impl<F, Fut, R> RawHandler for F
where
    F: Fn(JobContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + Send + 'static,
    R: IntoOutcome,
{
    fn run(&self, context: JobContext) -> BoxFuture<'static, Outcome> {
        let future = self(context);
        async move { future.await.into_outcome() }.boxed()
    }
}

/// A handler whose type is forgotten.
pub(super) type Erased = Box<dyn Fn(JobContext) -> BoxFuture<'static, Outcome> + Send + Sync>;
