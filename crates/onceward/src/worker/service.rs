//! What runs an attempt: the handlers, and the layers around them.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use onceward_core::Kind;

use super::context::JobContext;
use super::handler::Erased;
use super::outcome::Outcome;

/// An attempt to be run.
#[derive(Clone, Debug)]
pub struct JobRequest {
    /// The job.
    pub context: JobContext,
}

/// The handlers of a worker with the layers that were put around them so far: a `tower` service that answers a
/// [`JobRequest`] with an [`Outcome`].
#[derive(Clone)]
pub struct JobService(Arc<dyn Run>);

impl core::fmt::Debug for JobService {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("JobService").finish_non_exhaustive()
    }
}

trait Run: Send + Sync {
    fn run(&self, request: JobRequest) -> BoxFuture<'static, Outcome>;
}

/// The innermost one.
struct Handlers(HashMap<Kind, Erased>);

impl Run for Handlers {
    fn run(&self, request: JobRequest) -> BoxFuture<'static, Outcome> {
        match self.0.get(&request.context.job().kind) {
            Some(handler) => handler(request.context),
            // Only kinds with a handler are claimed.
            None => ready(Outcome::not_started("this worker has no handler for its kind")).boxed(),
        }
    }
}

impl JobService {
    pub(super) fn new(handlers: HashMap<Kind, Erased>) -> Self {
        Self(Arc::new(Handlers(handlers)))
    }

    pub(super) fn run(&self, request: JobRequest) -> BoxFuture<'static, Outcome> {
        self.0.run(request)
    }
}

#[cfg(feature = "tower")]
mod layered {
    use core::convert::Infallible;
    use core::fmt;
    use core::future::poll_fn;
    use core::task::{Context, Poll};
    use std::sync::Arc;

    use futures_util::FutureExt;
    use futures_util::future::{BoxFuture, Map};
    use tower_service::Service;

    use super::{JobRequest, JobService, Outcome, Run};

    impl Service<JobRequest> for JobService {
        type Response = Outcome;
        type Error = Infallible;
        type Future = Map<BoxFuture<'static, Outcome>, fn(Outcome) -> Result<Outcome, Infallible>>;

        fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: JobRequest) -> Self::Future {
            self.run(request).map(Ok)
        }
    }

    struct Layered<S>(S);

    impl<S> Run for Layered<S>
    where
        S: Service<JobRequest, Response = Outcome> + Clone + Send + Sync + 'static,
        S::Error: fmt::Display + Send,
        S::Future: Send,
    {
        fn run(&self, request: JobRequest) -> BoxFuture<'static, Outcome> {
            let mut service = self.0.clone();
            async move {
                if let Err(error) = poll_fn(|context| service.poll_ready(context)).await {
                    return Outcome::not_started(error);
                }
                // What a layer says is about the attempt: it has failed.
                service.call(request).await.unwrap_or_else(Outcome::retry)
            }
            .boxed()
        }
    }

    impl JobService {
        pub(in crate::worker) fn of<S>(service: S) -> Self
        where
            S: Service<JobRequest, Response = Outcome> + Clone + Send + Sync + 'static,
            S::Error: fmt::Display + Send,
            S::Future: Send,
        {
            Self(Arc::new(Layered(service)))
        }
    }
}
