//! Going on as new: what the code asks for, and what whoever takes the run up next makes of it.

use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;

use onceward_core::job::New;
use onceward_core::run::generation::turn;
use onceward_core::run::{Entry, Op, Outcome, Position, Wanted};
use onceward_core::{Code, Error, Result};
use onceward_store::{ContinueRun, JobRef};

use super::ambient::peek;
use super::failure::Failure;
use super::function::Durable;
use super::run::{Asked, Run, load};
use super::step::{engine, read};
use crate::worker::JobContext;

/// How often the run has gone on as new: 0 at first.
///
/// # Errors
/// As [`now`](super::now).
pub fn generation() -> Result<u32> {
    peek().map(|(run, _)| run.generation)
}

/// Where a run goes on as new, and with which arguments until that was written down.
type Place = (Arc<Run>, Position, Option<Vec<u8>>);

/// The run goes on as new; see [`Call::continue_as_new`](super::Call::continue_as_new). As far as the code is
/// concerned, its outcome is that of the run: it is given to nobody but whoever waits for the run.
#[must_use = "the run goes on as new when this is awaited"]
pub struct Continue<D: Durable> {
    place: Result<Place>,
    function: PhantomData<fn() -> D>,
}

impl<D: Durable> core::fmt::Debug for Continue<D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Continue").field("kind", &D::KIND).finish_non_exhaustive()
    }
}

impl<D: Durable> Continue<D> {
    pub(super) fn of(place: Result<(Arc<Run>, Position)>, new: Result<New>, said: bool) -> Self {
        let refuse = |why: &str| Err(Error::new(Code::RunContinueRefused, why));
        let place = place.and_then(|(run, position)| {
            let new = new?;
            if run.kind != new.kind {
                return refuse(
                    "a run goes on as new by a call of its own function; `spawn` starts another one",
                );
            }
            if said {
                return refuse("a run goes on as it was started: nothing can be said about the call");
            }
            new.check()?;
            Ok((run, position, Some(new.payload.bytes)))
        });
        Self { place, function: PhantomData }
    }
}

impl<D: Durable> Future for Continue<D> {
    type Output = core::result::Result<D::Value, Failure<D::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (run, position, args) = match &mut self.place {
            Ok(place) => place,
            Err(error) => return Poll::Ready(Err(engine(error))),
        };
        let wanted = Wanted { op: Op::Continue, name: D::KIND, input: None };
        match run.ask(position, wanted, cx.waker()) {
            // That it goes on as new is the last thing that happens here.
            Asked::Ended(Outcome::Value(_)) | Asked::Waits => {}
            Asked::Ended(outcome) => return Poll::Ready(read(outcome)),
            Asked::Fresh(_) => {
                if let Some(args) = args.take() {
                    run.go_on_as_new(position, args);
                }
            }
        }
        Poll::Pending
    }
}

/// What an attempt finds of a run: its journal, and arguments that are not those of its job.
#[derive(Default)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    pub(super) args: Option<Vec<u8>>,
}

/// Reads the journal of a run. Where it says that its generation is over, the next one begins; `None` where the run is
/// somebody else's by now.
pub(super) async fn open(context: &JobContext, job: &JobRef) -> Result<Option<Found>> {
    let entries = load(context.client(), job).await?;
    let Some(turn) = turn(&entries, context.claimed_at().0, context.token()) else {
        return Ok(Some(Found { entries, args: None }));
    };
    let ask = [ContinueRun { run: job.clone(), session: context.session(), token: context.token(), turn }];
    if context.client().store().run_continue(&ask).await? != [true] {
        return Ok(None);
    }
    let [ContinueRun { turn, .. }] = ask;
    Ok(Some(Found { entries: turn.entries, args: Some(turn.args) }))
}
