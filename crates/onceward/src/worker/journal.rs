//! What runs write down: a few statements in flight, and everything that is written down meanwhile is the next one.
//!
//! With it children are started, at once where a slot is free, and children that have ended here are over: what would
//! be four statements for each child is one for all that is going on.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onceward_core::run::{Entry, Outcome, Phase};
use onceward_core::{ClaimId, Code, Error, Result, backoff};
use onceward_store::{AppendRun, AppendRuns, Appended, Capabilities, Child, HandChildren};
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};

use super::attempt::Attempt;
use super::batch::{fitting, gather};
use super::claim::accept;
use super::context::JobContext;
use super::session::Session;
use super::settle::{EndedChild, finished};
use super::shared::Shared;
use crate::Lost;

/// The most runs of one statement.
const ROWS_MAX: usize = 500;
/// How many statements are in flight at once.
pub(super) const SENDERS: usize = 2;
/// With how many runs the second one goes, where a batch costs much by itself; and with any that have waited this long,
/// because the first one waits for something.
const BESIDE_FROM: usize = 32;
const BESIDE_AFTER: Duration = Duration::from_millis(50);

/// What is to be written down.
pub(super) struct Journals {
    waiting: Mutex<Waiting>,
    /// How many must wait for a statement to go beside another one.
    beside_from: usize,
    bell: Notify,
}

#[derive(Default)]
struct Waiting {
    rows: VecDeque<(AppendRun, Asker)>,
    /// How many statements are in flight.
    out: usize,
}

/// Who has asked for it.
struct Asker {
    shared: Arc<Shared>,
    attempt: Arc<Attempt>,
    /// The children that have ended, in the order of the ask.
    ended: Vec<EndedChild>,
    /// Taken with the answer.
    reply: Option<oneshot::Sender<Result<bool>>>,
}

impl Asker {
    fn session(&self) -> &Session {
        &self.attempt.claim.session
    }

    fn has_left(&self) -> bool {
        self.reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn answer(mut self, answer: Result<bool>) {
        if let Some(reply) = self.reply.take() {
            // Whoever has asked may have gone.
            let _ = reply.send(answer);
        }
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        // What its attempt has come to waits for this, if it was dropped meanwhile.
        if let Some(ending) = self.attempt.end_append() {
            self.shared.settler.push(&self.attempt, ending);
        }
    }
}

impl JobContext {
    /// Adds to the journal of the run that is this attempt; `false` where it is no longer this attempt's. The children
    /// that have ended are over with it, or in the usual way.
    ///
    /// Cancel safe: what is under way goes on to its end.
    pub(crate) async fn append(&self, mut ask: AppendRun, ended: Vec<EndedChild>) -> Result<bool> {
        let gone = || Error::new(Code::StoreClosed, "the worker of the run has ended");
        let shared = self.around.worker().ok_or_else(gone)?;
        ask.ended = ended.iter().map(|child| child.row().clone()).collect();
        let (reply, answer) = oneshot::channel();
        let attempt = Arc::clone(&self.attempt);
        attempt.begin_append();
        let asker = Asker { shared: Arc::clone(&shared), attempt, ended, reply: Some(reply) };
        shared.journals.push(ask, asker);
        drop(shared);
        answer.await.unwrap_or_else(|_| Err(gone().uncertain()))
    }
}

impl Journals {
    /// For a store of which this is known.
    pub(super) fn new(can: &Capabilities) -> Self {
        let beside_from = can.enqueue_beside.map_or(1, |_| BESIDE_FROM);
        Self { waiting: Mutex::default(), beside_from, bell: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it holds the lock; if it did, the queue would still be a queue.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, ask: AppendRun, asker: Asker) {
        let mut waiting = self.lock();
        waiting.rows.push_back((ask, asker));
        let due = self.is_due(&waiting) || waiting.rows.len() == 1;
        drop(waiting);
        if due {
            self.bell.notify_one();
        }
    }

    /// A statement costs for each of its steps, whatever the number of its rows: a few go with those that follow.
    fn is_due(&self, waiting: &Waiting) -> bool {
        waiting.rows.len() >= if waiting.out == 0 { 1 } else { self.beside_from }
    }

    /// Waits until something is due, or has waited for long: that is then due as well.
    async fn wait(&self) -> bool {
        let rung = self.bell.notified();
        if self.lock().rows.is_empty() {
            rung.await;
            return false;
        }
        timeout(BESIDE_AFTER, rung).await.is_err()
    }

    /// Waits for more for a moment, and takes what goes into one statement, if one is due. It is in flight then.
    async fn next_batch(&self, overdue: bool) -> Batch {
        gather(|| self.lock().rows.len(), ROWS_MAX).await;
        let mut waiting = self.lock();
        // Whoever has left asks for nothing any more.
        waiting.rows.retain(|(_, asker)| !asker.has_left());
        let due = self.is_due(&waiting) || (overdue && !waiting.rows.is_empty());
        if !due {
            return Batch { asks: Vec::new(), askers: Vec::new() };
        }
        waiting.out += 1;
        let count = fitting(waiting.rows.iter().map(|(ask, _)| weight(ask)), ROWS_MAX);
        let (asks, askers) = waiting.rows.drain(..count).unzip();
        Batch { asks, askers }
    }
}

/// A statement in flight, until it is answered, or is going to be sent again: then others need not wait for it.
struct Flight(Arc<Shared>);

impl Drop for Flight {
    fn drop(&mut self) {
        let mut waiting = self.0.journals.lock();
        waiting.out -= 1;
        let due = self.0.journals.is_due(&waiting);
        drop(waiting);
        if due {
            self.0.journals.bell.notify_one();
        }
    }
}

/// What goes into one statement.
struct Batch {
    asks: Vec<AppendRun>,
    askers: Vec<Asker>,
}

impl Batch {
    fn split(mut self) -> [Self; 2] {
        let half = self.asks.len() / 2;
        let (asks, askers) = (self.asks.split_off(half), self.askers.split_off(half));
        [Self { asks, askers }, self]
    }

    fn lives(&self) -> bool {
        self.askers.iter().any(|asker| asker.session().hold.is_valid())
    }
}

fn weight(ask: &AppendRun) -> usize {
    let entry = |entry: &Entry| match &entry.phase {
        Phase::Ended(Outcome::Value(bytes) | Outcome::Failed(bytes)) => 200 + bytes.len(),
        _ => 200,
    };
    let child = |child: &Child| 512 + child.job.payload.bytes.len();
    256 + ask.entries.iter().map(entry).sum::<usize>() + ask.children.iter().map(child).sum::<usize>()
}

/// Sends batch after batch.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut overdue = false;
    loop {
        let batch = shared.journals.next_batch(overdue).await;
        if batch.asks.is_empty() {
            overdue = shared.journals.wait().await;
            continue;
        }
        overdue = false;
        let flight = Flight(Arc::clone(&shared));
        // In a task of its own, which goes on to its end even if this worker is told to stop meanwhile: what nobody
        // knows to be claimed would be held until the session ends.
        if let Err(error) = tokio::spawn(send(Arc::clone(&shared), batch, flight)).await {
            tracing::error!(%error, "writing journals ended in an unforeseen way");
        }
    }
}

/// Sends a batch, in parts where it can't go as a whole.
async fn send(shared: Arc<Shared>, batch: Batch, flight: Flight) {
    let mut flight = Some(flight);
    // Whoever tells the worker to stop waits for this lock afterwards, so that nothing is claimed any more.
    let _under_way = shared.journaling.read().await;
    let mut parts = vec![batch];
    while let Some(mut part) = parts.pop() {
        let session = shared.status.borrow().claims_for().cloned();
        let hand = session.filter(|session| hand_children(&shared, &mut part, session));
        let hand = hand.map(|session| (ClaimId::from_uuid(uuid::Uuid::now_v7()), session));
        match insist(&shared, &mut part, hand.as_ref(), &mut flight).await {
            Ok(appended) => deliver(&shared, part, appended, hand),
            Err(error) if part.asks.len() > 1 && !error.is_uncertain() => parts.extend(part.split()),
            Err(error) => refuse(part, &error),
        }
    }
}

/// Marks the children that start at once: as many as there are free slots, and only where nothing waits that would come
/// first. Whether there are any.
fn hand_children(shared: &Shared, part: &mut Batch, session: &Session) -> bool {
    let mut free = if shared.hand.is_caught_up() { shared.pool.free() } else { 0 };
    let mut any = false;
    for (ask, asker) in part.asks.iter_mut().zip(&part.askers) {
        let ours = asker.session().id == session.id && ask.run.namespace == shared.around.client.namespace;
        for child in &mut ask.children {
            let job = &child.job;
            let plain = job.tags.is_empty() && job.run_at.is_none() && job.delay.is_none();
            // One that has to wait for its turn goes where those wait.
            let plain = plain && job.ordering_key.is_none();
            let takes = shared.about.queues.iter().any(|queue| queue == job.queue.as_str());
            child.at_once = ours && plain && takes && free > 0 && shared.kinds.contains(&job.kind);
            free -= usize::from(child.at_once);
            any |= child.at_once;
        }
    }
    any
}

/// Sends until there is an answer, or none that would help: the same entries change nothing the second time, and the
/// same claim finds what it got.
async fn insist(
    shared: &Shared,
    part: &mut Batch,
    hand: Option<&(ClaimId, Arc<Session>)>,
    flight: &mut Option<Flight>,
) -> Result<Appended> {
    let to_hand = |(claim, session): &(ClaimId, Arc<Session>)| HandChildren {
        namespace: shared.around.client.namespace.clone(),
        session: session.id,
        claim: *claim,
    };
    let claims = part.askers.iter().flat_map(|asker| asker.ended.iter().map(EndedChild::claim));
    // Where nothing but entries is added, no claim is removed.
    let plain = part.asks.iter().all(AppendRun::is_plain);
    let closing = if plain { Vec::new() } else { shared.settler.take_closing() };
    let finished = finished(claims).into_iter().chain(closing).collect();
    let ask = AppendRuns { runs: core::mem::take(&mut part.asks), hand: hand.map(to_hand), finished };
    let mut doubt = false;
    let mut attempt = 0_u32;
    let error = loop {
        let error = match shared.store().run_append(&ask).await {
            Ok(appended) => return Ok(appended),
            Err(error) => error,
        };
        drop(flight.take());
        doubt |= error.is_uncertain() || error.code() == Code::CommitUnknown;
        let alone = ask.runs.len() == 1;
        let goes_on = error.is_retryable() || error.is_uncertain();
        if !goes_on || !part.lives() || (error.code() == Code::KeyLocked && !alone && !doubt) {
            break error;
        }
        tracing::debug!(%error, runs = ask.runs.len(), "journals could not be written yet");
        let (first, cap) = (Duration::from_millis(10), Duration::from_secs(1));
        sleep(backoff::delay(attempt, first, cap, attempt.into())).await;
        attempt = attempt.saturating_add(1);
    };
    shared.settler.close_later(ask.finished);
    part.asks = ask.runs;
    if let (true, Some((_, session))) = (doubt, hand) {
        // What it may have claimed without knowing is rescued when the session is over.
        session.hold.lose(Lost::NotRenewed);
    }
    Err(if doubt { error.uncertain() } else { error })
}

fn deliver(shared: &Arc<Shared>, part: Batch, appended: Appended, hand: Option<(ClaimId, Arc<Session>)>) {
    let Appended { added, claimed } = appended;
    if let Some(hand) = hand {
        accept(shared, hand, false, claimed, shared.pool.free());
    }
    for (mut asker, added) in part.askers.into_iter().zip(added) {
        if added {
            asker.ended.drain(..).for_each(EndedChild::recorded);
        }
        asker.answer(Ok(added));
    }
}

fn refuse(part: Batch, error: &Error) {
    for mut asker in part.askers {
        if error.is_uncertain() {
            asker.ended.iter_mut().for_each(EndedChild::doubt);
        }
        asker.answer(Err(error.clone().at("run.append")));
    }
}
