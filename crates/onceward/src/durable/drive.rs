//! Driving a run: polling its code, writing down what it asks for, and giving it what has ended.
//!
//! One loop for each run in memory. Only it appends to the journal, and it has one append under way at a time: what is
//! written down meanwhile is the next one. While the code does nothing but wait, the worker's slot is somebody else's;
//! after a while the run is parked, and goes through the store again when something arrives for it.

use core::future::poll_fn;
use core::pin::pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use onceward_core::once::Body;
use onceward_core::run::{Arrival, Arrived, Outcome as RunOutcome, PARK_MAX, Scope};
use onceward_core::{Code, Error, JobId, Result};
use onceward_store::{JobRef, NoteArrivals, TellRun};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::Instrument;
use uuid::Uuid;

use super::ambient::{Ambient, within};
use super::awaits::Awaits;
use super::continuing::{Found, open};
use super::failure::{Failure, Never};
use super::function::Durable;
use super::hot::News;
use super::remembered::{keep, recall};
use super::rest::{Came, Rounds, Woken};
use super::run::{Broken, Run, failed};
use super::step::written;
use crate::jobs::JSON;
use crate::worker::{JobContext, Lent, Outcome, Stop};

/// How long a run waits whose journal could not be read or written.
const STORE_AWAY: Duration = Duration::from_secs(1);
/// How long the driver sleeps at most.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How soon what a run shows is written down again.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// How long a run waits whose code is not the code that wrote its journal.
const STUCK: Duration = Duration::from_secs(60);

/// Why a child is called off, and how many that have not begun at a time.
const GIVEN_UP: &str = "the run that waited for it has given it up";
const FORESTALL_AT_ONCE: usize = 16;
/// How many things that have ended are given to the code without letting others have the thread.
const DELIVERIES: usize = 1_000;

/// What the code has come to.
type Ended<D> = core::result::Result<<D as Durable>::Value, <D as Durable>::Error>;
/// The code itself.
type Running<D> = BoxFuture<'static, Ended<D>>;

/// Something the driver has to do.
enum Event<T> {
    Ended(T),
    Appended(Result<bool>),
    Heard(News),
    Time,
    Stop,
    /// The code waits for a signal, and what came before this attempt was not read.
    Unread,
}

/// Runs a durable function as the handler of its job. What it logs says of which run.
pub(crate) async fn run<D: Durable>(context: JobContext) -> Outcome {
    let (id, attempt, trace) = (context.id(), context.attempt(), context.job().trace.clone());
    let span = tracing::info_span!("run", %id, function = D::KIND, attempt, trace);
    attend::<D>(context).instrument(span).await
}

async fn attend<D: Durable>(context: JobContext) -> Outcome {
    let (id, token) = (context.id(), context.token());
    let hot = Leave(context.clone());
    let mail = context.client().inner.hot.enter(id, token);
    let begun = begin::<D>(&context).await;
    let outcome = match begun {
        Ok(Begun::Known(value)) => done(&value),
        Ok(Begun::Code(run, code)) => {
            Box::pin(
                Driver {
                    context,
                    run,
                    mail,
                    append: None,
                    appending: 0,
                    calling: None,
                    report: None,
                    lent: None,
                    since: Instant::now(),
                    awaits: Awaits::new(),
                    rounds: Rounds::default(),
                    left: false,
                    warned: false,
                    told: false,
                }
                .drive::<D>(code),
            )
            .await
        }
        Ok(Begun::Unreadable(error)) => stuck_at(&context, &error).await,
        Ok(Begun::Stale) => {
            context.note_refused();
            Outcome::Snooze(STORE_AWAY)
        }
        Err(error) if is_hopeless(&error) => Outcome::dead(error),
        // The store's trouble is not the run's: no attempt is charged.
        Err(error) if error.is_retryable() || error.is_uncertain() || error.code() == Code::LaneFull => {
            Outcome::Snooze(STORE_AWAY)
        }
        Err(error) => Outcome::not_started(error),
    };
    drop(hot);
    outcome
}

/// Whether nothing will come of it, however often it is tried.
fn is_hopeless(error: &Error) -> bool {
    matches!(error.code(), Code::JournalUnreadable | Code::PayloadUnreadable)
}

/// Takes the run out of memory, however it ends.
struct Leave(JobContext);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.client().inner.hot.leave(self.0.id(), self.0.token());
    }
}

/// What an attempt begins with.
enum Begun<D: Durable> {
    Code(Arc<Run>, Running<D>),
    /// What another run with the same arguments has come to.
    Known(D::Value),
    /// The run is not this attempt's any more.
    Stale,
    /// Its journal, or what has arrived for it, says what this program does not know.
    Unreadable(Error),
}

/// Another program may know what this one can't read: the run waits for that, and looks again.
async fn stuck_at(context: &JobContext, error: &Error) -> Outcome {
    let words =
        format!("{}: this program can't read the journal of the run: {error}", Code::JournalUnreadable);
    tracing::error!(run = %context.id(), "{words}");
    context.is_stuck(words);
    let (run, store) =
        (JobRef { namespace: context.job().namespace.clone(), id: context.id() }, context.client().store());
    // It is not woken again for what is there.
    if let Ok(arrived) = store.run_arrived(core::slice::from_ref(&run)).await {
        let ids = arrived.into_iter().flatten().map(|arrival| arrival.id).collect();
        let _ = store.run_note(&[NoteArrivals { run, ids }]).await;
    }
    Outcome::Snooze(STUCK)
}

/// How a run has ended that has come to this.
fn done<T: serde::Serialize>(value: &T) -> Outcome {
    match written(value) {
        RunOutcome::Value(bytes) => Outcome::Done(Some(Body::new(bytes, JSON))),
        _ => {
            Outcome::dead(Error::new(Code::StepUnwritable, "what the function returns can't be written down"))
        }
    }
}

/// Reads what has happened so far, and calls the code.
async fn begin<D: Durable>(context: &JobContext) -> Result<Begun<D>> {
    let record = context.job();
    let job = JobRef { namespace: record.namespace.clone(), id: record.id };
    // One of which no attempt has ended has done nothing.
    let fresh = record.token.get() == 0;
    let found = if fresh { Ok(Some(Found::default())) } else { open(context, &job).await };
    let found = match found {
        Err(error) if error.code() == Code::RowUnreadable => return Ok(Begun::Unreadable(error)),
        found => found?,
    };
    let Some(Found { entries, args }) = found else { return Ok(Begun::Stale) };
    let args = args.as_deref().map_or_else(|| context.decode(), |args| context.decode_bytes(args))?;
    let client = context.client().in_namespace(record.namespace.as_str())?;
    let session = Some(context.session());
    let run = Run::new(client, record, context.token(), context.claimed_at(), entries, session);
    let run = run.ok_or_else(|| {
        Error::new(Code::JournalUnreadable, "the journal of the run has a gap: somebody has changed it")
    })?;
    let run = Arc::new(run);
    if run.generation == 0
        && run.is_blank()
        && let Some(value) = recall::<D>(context, &run.client).await?
    {
        return Ok(Begun::Known(value));
    }
    if !fresh && let Err(error) = run.read_arrived().await {
        return if error.code() == Code::RowUnreadable { Ok(Begun::Unreadable(error)) } else { Err(error) };
    }
    let scope = Arc::new(Mutex::new(Scope::root()));
    let ambient = Ambient::In(Arc::clone(&run), scope);
    let mut code = within(ambient.clone(), || D::call(args, context))?;
    let code: Running<D> = Box::pin(poll_fn(move |cx| within(ambient.clone(), || code.as_mut().poll(cx))));
    Ok(Begun::Code(run, code))
}

struct Driver {
    context: JobContext,
    run: Arc<Run>,
    mail: UnboundedReceiver<News>,
    /// The append that is under way.
    append: Option<BoxFuture<'static, Result<bool>>>,
    /// How many entries are durable once that is done.
    appending: u32,
    /// Children are being called off; those that could not be.
    calling: Option<BoxFuture<'static, Vec<JobId>>>,
    /// What it shows is being written down.
    report: Option<BoxFuture<'static, ()>>,
    /// The slot of the worker, while the code only waits.
    lent: Option<Lent>,
    /// Since when it only waits.
    since: Instant,
    /// Who wakes the code.
    awaits: Awaits,
    /// How often it has woken itself.
    rounds: Rounds,
    /// Whether it was left in the middle of what it does, for others to have the thread.
    left: bool,
    /// Whether it was told that it awaits what is not written down.
    warned: bool,
    /// Whether it has heard that it is to stop.
    told: bool,
}

impl Driver {
    async fn drive<D: Durable>(mut self, mut code: Running<D>) -> Outcome {
        let outcome = loop {
            if self.has_expired() {
                break self.expire().await;
            }
            self.run.note_cancel();
            let timer = self.run.ring();
            match self.next::<D>(&mut code, timer).await {
                Event::Ended(_) if self.run.has_ended_early() => {}
                Event::Ended(ended) => break self.finish::<D>(ended).await,
                Event::Appended(answer) => {
                    if let Err(later) = self.note_append(answer) {
                        break later;
                    }
                }
                Event::Unread => self.read_what_was_there().await,
                Event::Heard(News::Arrived(arrivals)) => self.run.arrive(arrivals),
                Event::Heard(News::Child(child)) => self.run.child_ended(*child),
                Event::Heard(News::Pause) => self.run.pause_begins(),
                Event::Time => {}
                Event::Stop => self.stop(),
            }
            if let Some(broken) = self.run.broken() {
                break self.give_up(broken).await;
            }
            if self.run.is_over() {
                break self.go_on_as_new().await;
            }
            if self.wants_to_park() {
                break self.park().await;
            }
        };
        // What the code waits for is not given up: the run goes on.
        self.run.close();
        drop(code);
        outcome
    }

    /// Waits for something to do. Cancel safe: whatever is under way stays where it is.
    async fn next<D: Durable>(&mut self, code: &mut Running<D>, timer: Option<Duration>) -> Event<Ended<D>> {
        let (context, run) = (self.context.clone(), Arc::clone(&self.run));
        let mut stop = pin!(context.winds_up());
        let until = Instant::now() + timer.unwrap_or(LOOK_AGAIN).min(self.patience());
        let mut time = pin!(sleep_until(until));
        poll_fn(|cx| {
            self.mind_what_it_awaits();
            let rounds = &mut self.rounds;
            let came = self.awaits.poll(cx, |cx| poll_code::<D>(&run, code, rounds, cx));
            self.left = matches!(came, Came::Restless);
            if let Came::Ended(ended) = came {
                return Poll::Ready(Event::Ended(ended));
            }
            if run.broken().is_some() {
                return Poll::Ready(Event::Time);
            }
            if run.takes_unread() {
                return Poll::Ready(Event::Unread);
            }
            if let Poll::Ready(answer) = self.poll_append(cx) {
                return Poll::Ready(Event::Appended(answer));
            }
            self.poll_report(cx);
            // Those that could not be told are told again.
            if self.poll_calling(cx) == Poll::Ready(false) {
                let _ = self.poll_calling(cx);
            }
            if let Poll::Ready(Some(news)) = self.mail.poll_recv(cx) {
                return Poll::Ready(Event::Heard(news));
            }
            if !self.told && stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::Stop);
            }
            // What the code has just asked for may be due before.
            if run.ring().is_some_and(|due| Instant::now() + due < until) || time.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Event::Time);
            }
            // From when it waits on, it is known when it is to be parked.
            if self.mind_the_slot() { Poll::Ready(Event::Time) } else { Poll::Pending }
        })
        .await
    }

    /// Says so where the code was woken by something that is not written down.
    fn mind_what_it_awaits(&mut self) {
        // A function that makes no durable call has nothing that could come out otherwise: it is done as a whole.
        let minds = cfg!(debug_assertions) && self.run.makes_calls();
        if !minds || !self.awaits.take_strange() || core::mem::replace(&mut self.warned, true) {
            return;
        }
        let (run, waits) = (&self.run, self.run.waits_for());
        tracing::warn!(
            run = %run.job.id, function = run.kind.as_str(),
            "the code of a run was woken by a timer, a channel or I/O that it awaits outside of a step, while it \
             waited for {waits}: that comes out otherwise the next time; put it into a step"
        );
        if let Some(onlooker) = run.client.inner.onlooker.get() {
            onlooker.strange(&run.job, &format!("{}, which waited for {waits}", run.kind.as_str()));
        }
    }

    /// Sends what is to be appended, one statement at a time.
    fn poll_append(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        if self.append.is_none()
            && let Some((ask, ended, durable)) = self.run.take_append(self.context.session())
        {
            self.appending = durable;
            let context = self.context.clone();
            self.append = Some(Box::pin(async move { context.append(ask, ended).await }));
        }
        let Some(append) = &mut self.append else { return Poll::Pending };
        let answer = append.as_mut().poll(cx);
        if answer.is_ready() {
            self.append = None;
        }
        answer
    }

    /// Calls children off that nobody waits for any more; whether that is done, for now, and whether it went well.
    fn poll_calling(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            if self.calling.is_none() {
                let children = self.run.take_called_off();
                if children.is_empty() {
                    return Poll::Ready(!self.run.calls_off());
                }
                self.calling = Some(Box::pin(call_off(self.run.client.clone(), children)));
            }
            let Some(calling) = &mut self.calling else { continue };
            let left = core::task::ready!(calling.as_mut().poll(cx));
            self.calling = None;
            if !left.is_empty() {
                self.run.not_called_off(left);
                return Poll::Ready(false);
            }
        }
    }

    /// Writes down what the run shows: at once, and not again for a while.
    fn poll_report(&mut self, cx: &mut Context<'_>) {
        loop {
            if self.report.is_none()
                && self.run.is_live()
                && let Some(report) = self.run.take_report()
            {
                let context = self.context.clone();
                self.report = Some(Box::pin(async move {
                    show(&context, &report).await;
                    sleep(REPORT_EVERY).await;
                }));
            }
            match self.report.as_mut().map(|report| report.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => self.report = None,
                _ => return,
            }
        }
    }

    /// The worker leaves, or somebody has called the job off: the code is told of the latter.
    fn stop(&mut self) {
        self.told = true;
        if self.context.stopped_by() == Some(Stop::CalledOff) {
            let what = Arrived::Cancel { reason: "its job was cancelled".to_owned() };
            let arrival = Arrival { id: Uuid::nil(), at: self.run.store_now(), what };
            self.run.arrive(vec![arrival]);
        }
    }

    /// Whether the code only waits, and nothing is being written down.
    fn only_waits(&self) -> bool {
        let rests = !self.left && self.append.is_none() && self.report.is_none() && self.calling.is_none();
        rests && self.run.is_waiting() && !self.run.has_news() && !self.run.calls_off()
    }

    /// Lends the slot while the code only waits; whether it was lent just now.
    fn mind_the_slot(&mut self) -> bool {
        match (self.only_waits(), self.lent.is_some()) {
            (true, false) => {
                self.lent = self.context.lend(self.run.weight());
                self.since = Instant::now();
                self.lent.is_some()
            }
            (false, true) => {
                self.lent = None;
                false
            }
            _ => false,
        }
    }

    /// How long it may wait until something has to be looked at.
    fn patience(&self) -> Duration {
        let park_after = self.context.park_after().saturating_sub(self.since.elapsed());
        let parks = if self.lent.is_some() { park_after } else { LOOK_AGAIN };
        let expires = self.context.job().policy.deadline.map(|at| at.since(self.run.store_now()));
        parks.min(expires.unwrap_or(LOOK_AGAIN)).min(LOOK_AGAIN)
    }

    fn has_expired(&self) -> bool {
        self.context.job().is_overdue(self.run.store_now())
    }

    /// It takes longer than it may in all, and nobody waits for its children any more.
    async fn expire(&mut self) -> Outcome {
        self.run.abandon_all();
        if let Err(later) = self.write_what_is_left().await {
            return later;
        }
        self.context.fails_with(timed_out());
        Outcome::Dead { error: EXPIRED.to_owned() }
    }

    /// What its journal would have to say can't be written. Where the store is away that is not the run's fault.
    fn unwritten(&self, error: &Error) -> Outcome {
        let run = self.context.id();
        tracing::warn!(%error, %run, "a journal could not be written; the run goes on later");
        if error.is_retryable() || error.is_uncertain() {
            return Outcome::Snooze(STORE_AWAY);
        }
        Outcome::Retry { error: error.to_string() }
    }

    /// Reads what had arrived before this attempt.
    async fn read_what_was_there(&mut self) {
        if let Err(error) = self.run.read_arrived().await {
            tracing::debug!(%error, "what had arrived for a run could not be read yet");
        }
    }

    fn wants_to_park(&self) -> bool {
        let long = self.since.elapsed() >= self.context.park_after()
            || self.context.is_crowded()
            || self.context.is_winding_up()
            || self.run.is_pausing();
        long && self.lent.is_some() && self.only_waits() && self.mail.is_empty()
    }

    /// Gives the run back until something is due, or arrives.
    async fn park(&mut self) -> Outcome {
        if self.run.is_pausing() {
            // Where it was resumed meanwhile, it goes on at once.
            return Outcome::Snooze(Duration::from_millis(1));
        }
        self.run.note_waits();
        if let Err(later) = self.write_what_is_left().await {
            return later;
        }
        self.note(self.run.unread()).await;
        let due = [self.run.next_timer(), self.context.job().policy.deadline].into_iter().flatten().min();
        let due = due.map(|due| due.since(self.run.store_now()));
        Outcome::Snooze(due.unwrap_or(PARK_MAX).clamp(Duration::from_millis(1), PARK_MAX))
    }

    /// Takes note of what the run knows of, so that it is not woken for it again.
    async fn note(&mut self, ids: Vec<Uuid>) {
        if ids.is_empty() {
            return;
        }
        let note = [NoteArrivals { run: self.run.job.clone(), ids }];
        if let Err(error) = self.run.client.store().run_note(&note).await {
            tracing::debug!(%error, "what a run knows of could not be noted; it is woken once more");
        }
    }

    /// Gives the run back, which goes on as new at once: whoever takes it up sees that this generation is over.
    async fn go_on_as_new(&mut self) -> Outcome {
        if let Err(later) = self.write_what_is_left().await {
            return later;
        }
        self.context.continues();
        Outcome::Snooze(Duration::ZERO)
    }

    /// Writes down what is left, and calls off what nobody waits for any more.
    ///
    /// # Errors
    /// Where that does not go: what becomes of the attempt.
    async fn write_what_is_left(&mut self) -> core::result::Result<(), Outcome> {
        loop {
            match poll_fn(|cx| match self.poll_append(cx) {
                Poll::Pending if self.append.is_none() => Poll::Ready(None),
                answer => answer.map(Some),
            })
            .await
            {
                None => break,
                Some(answer) => self.note_append(answer)?,
            }
        }
        // Whoever takes the run up again comes by there, and calls them off.
        if poll_fn(|cx| self.poll_calling(cx)).await { Ok(()) } else { Err(Outcome::Snooze(STORE_AWAY)) }
    }

    /// Waits for what is being written down.
    ///
    /// # Errors
    /// Where that does not go: what becomes of the attempt.
    async fn end_append(&mut self) -> core::result::Result<(), Outcome> {
        let Some(append) = self.append.take() else { return Ok(()) };
        let answer = append.await;
        self.note_append(answer)
    }

    /// Takes note of what was written down; what becomes of the attempt where it was not.
    fn note_append(&self, answer: Result<bool>) -> core::result::Result<(), Outcome> {
        match answer {
            Ok(true) => self.run.appended(self.appending),
            Ok(false) => {
                self.context.note_refused();
                return Err(Outcome::Snooze(STORE_AWAY));
            }
            Err(error) => return Err(self.unwritten(&error)),
        }
        Ok(())
    }

    /// Writes down what is left, and says how the run has ended.
    async fn finish<D: Durable>(&mut self, ended: Ended<D>) -> Outcome {
        if let Err(later) = self.write_what_is_left().await {
            return later;
        }
        match ended {
            Ok(value) => self.keep::<D>(done(&value)).await,
            Err(error) => {
                // One that has failed keeps what it has shown.
                if let Some(report) = self.run.take_report() {
                    show(&self.context, &report).await;
                }
                self.failed::<D>(error)
            }
        }
    }

    /// Keeps what the run has come to for later ones with the same arguments, before it has ended: they begin then.
    async fn keep<D: Durable>(&mut self, outcome: Outcome) -> Outcome {
        if let (Outcome::Done(Some(Body { bytes: Some(value), .. })), Some(_)) = (&outcome, D::REMEMBERS) {
            let of = (self.context.job(), self.run.generation);
            if let Err(error) = keep::<D>(of, &self.run.client, value).await {
                let run = self.context.id();
                tracing::warn!(%error, %run, "what a run has come to could not be kept; it ends later");
                return Outcome::Snooze(STORE_AWAY);
            }
        }
        outcome
    }

    fn failed<D: Durable>(&self, error: D::Error) -> Outcome {
        let words = error.to_string();
        if self.run.is_cancelled() {
            return Outcome::Cancel { reason: words };
        }
        let (transient, blank) = (D::is_transient(&error), self.run.is_blank());
        if let RunOutcome::Failed(bytes) = failed(&Failure::App(error)) {
            self.context.fails_with(Body::new(bytes, JSON));
        }
        // What was written down would come out the same: only a function that has done nothing is called again.
        if blank && transient { Outcome::Retry { error: words } } else { Outcome::Dead { error: words } }
    }

    async fn give_up(&mut self, broken: Broken) -> Outcome {
        match broken {
            Broken::Diverged(diverged) => {
                let words = format!("{}: {diverged}", Code::RunStuck);
                tracing::error!(run = %self.context.id(), "{words}");
                self.context.is_stuck(words);
                // The code that wrote the journal reads it.
                self.note(self.run.seen()).await;
                Outcome::Snooze(STUCK)
            }
            Broken::TooLong => {
                if let Err(later) = self.end_append().await {
                    return later;
                }
                self.run.abandon_all();
                // What does not fit is not written down any more, and the children of it never were.
                self.run.forget_unstarted();
                if !poll_fn(|cx| self.poll_calling(cx)).await {
                    return Outcome::Snooze(STORE_AWAY);
                }
                Outcome::dead(Error::new(
                    Code::JournalFull,
                    "the journal of the run is full: give parts of it to children",
                ))
            }
        }
    }
}

/// Writes down what a run shows.
async fn show(context: &JobContext, report: &serde_json::Value) {
    if let Err(error) = context.progress(report).await {
        let run = context.id();
        tracing::debug!(%error, %run, "what a run shows could not be written down");
    }
}

/// Polls the code until it has nothing more to do but wait, giving it one thing that has ended after the other.
fn poll_code<D: Durable>(
    run: &Run,
    code: &mut Running<D>,
    rounds: &mut Rounds,
    cx: &mut Context<'_>,
) -> Came<Ended<D>> {
    let woken = Woken::of(cx);
    let mut live = run.is_live();
    let mut delivered = 0;
    loop {
        let came = rounds.poll(&woken, |cx| code.as_mut().poll(cx));
        if matches!(came, Came::Ended(_)) || run.broken().is_some() {
            return came;
        }
        if matches!(came, Came::Restless) || delivered == DELIVERIES {
            cx.waker().wake_by_ref();
            return Came::Restless;
        }
        if run.deliver() {
            delivered += 1;
            continue;
        }
        if !live && run.go_live().is_none() {
            live = true;
            run.note_cancel();
            // From here on things happen for the first time.
            run.arrive(Vec::new());
            run.wake_all();
            continue;
        }
        return Came::Rests;
    }
}

/// How a run has failed that takes longer than it may in all.
pub(crate) fn timed_out() -> Body {
    let RunOutcome::Failed(bytes) = failed(&Failure::<Never>::TimedOut) else {
        return Body::new(Vec::new(), JSON);
    };
    Body::new(bytes, JSON)
}

/// What is said of it.
pub(crate) const EXPIRED: &str = "it took longer than it may in all";

/// Calls children off; those that could not be, after a while.
async fn call_off(client: crate::Onceward, children: Vec<JobId>) -> Vec<JobId> {
    let tell = |id: JobId| TellRun {
        run: JobRef { namespace: client.namespace.clone(), id },
        // Always the same, so that it arrives once however often it is sent.
        id: Uuid::from_u128(!id.as_uuid().as_u128()),
        what: Arrived::Cancel { reason: GIVEN_UP.to_owned() },
    };
    let asks: Vec<TellRun> = children.iter().copied().map(tell).collect();
    let mut told = super::handle::tell(&client, &asks).await.map(drop);
    if told.is_ok() {
        told = forestall(&client, &children).await;
    }
    let Err(error) = told else { return Vec::new() };
    tracing::warn!(%error, "children could not be called off yet");
    sleep(STORE_AWAY).await;
    children
}

/// Has those that have not begun never begin: nobody of them would read what has arrived.
async fn forestall(client: &crate::Onceward, children: &[JobId]) -> Result<()> {
    let admin = &client.admin();
    let elsewhere = children.iter().copied().filter(|id| !client.inner.hot.holds(*id));
    let stopped = elsewhere.map(|id| async move { admin.forestall_run(id, GIVEN_UP).await });
    stream::iter(stopped).buffer_unordered(FORESTALL_AT_ONCE).try_collect().await
}
