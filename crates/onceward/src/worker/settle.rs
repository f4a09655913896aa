//! Recording endings: one statement in flight, everything that ends meanwhile is the next one.
//!
//! A statement is sent again until it is answered, as long as the session lives: the token makes that safe. Once the
//! session is lost it is sent once more, because what was done may still come in time.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onceward_core::job::{self, Ended, Ending, State};
use onceward_core::{ClaimId, Code, Error, JobId, Owner, Result, Timestamp, backoff};
use onceward_store::{JobRef, SettleJob, SettleJobs, SettledJob};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::attempt::{Attempt, Claim, Stop};
use super::batch::{fitting, gather};
use super::shared::Shared;

/// How long claims of which nothing is left wait for a statement that takes them along.
const CLOSE: Duration = Duration::from_millis(500);
/// The most endings of one statement.
const ROWS_MAX: usize = 1_000;
/// How long an ending waits whose row somebody's open transaction holds.
const LOCKED: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(super) struct Settler {
    waiting: Mutex<VecDeque<Item>>,
    /// Claims of which the last ending was recorded by a statement that did not know it.
    closing: Mutex<Vec<ClaimId>>,
    bell: Notify,
}

struct Item {
    row: SettleJob,
    attempt: Arc<Attempt>,
    /// Whether it was sent before, in a batch that failed.
    sent: bool,
}

impl Item {
    fn claim(&self) -> &Arc<Claim> {
        &self.attempt.claim
    }
}

impl Settler {
    /// Adds an ending, as soon as nothing is being written into the journal of its attempt.
    pub(super) fn push(&self, attempt: &Arc<Attempt>, row: SettleJob) {
        let Some(row) = attempt.after_appends(row) else { return };
        self.push_item(Item { row, attempt: Arc::clone(attempt), sent: false });
    }

    fn push_item(&self, item: Item) {
        self.lock().push_back(item);
        self.bell.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Item>> {
        // Nothing panics while it holds the lock; if it did, the queue would still be a queue.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has claims removed with the next statement.
    pub(super) fn close_later(&self, claims: impl IntoIterator<Item = ClaimId>) {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner).extend(claims);
    }

    /// The claims that are to be removed with this statement.
    pub(super) fn take_closing(&self) -> Vec<ClaimId> {
        core::mem::take(&mut *self.closing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn closes(&self) -> bool {
        !self.closing.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Waits for more for a moment, and takes what goes into one statement.
    async fn next_batch(&self) -> Vec<Item> {
        gather(|| self.lock().len(), ROWS_MAX).await;
        let mut waiting = self.lock();
        let count = fitting(waiting.iter().map(weight), ROWS_MAX);
        waiting.drain(..count).collect()
    }
}

/// A child whose run is in the memory of this process: its success is recorded with the entry of its run's journal. If
/// that does not come to be, it is recorded as any other ending.
pub(crate) struct EndedChild {
    shared: Arc<Shared>,
    row: SettleJob,
    attempt: Arc<Attempt>,
    sent: bool,
    over: bool,
}

impl EndedChild {
    pub(super) fn new(shared: &Arc<Shared>, attempt: &Arc<Attempt>, row: SettleJob) -> Self {
        let (shared, attempt) = (Arc::clone(shared), Arc::clone(attempt));
        Self { shared, row, attempt, sent: false, over: false }
    }

    pub(super) fn row(&self) -> &SettleJob {
        &self.row
    }

    pub(super) fn claim(&self) -> &Arc<Claim> {
        &self.attempt.claim
    }

    /// Which child.
    pub(crate) fn id(&self) -> JobId {
        self.row.job.id
    }

    /// What it has come to.
    pub(crate) fn result(&self) -> Option<Vec<u8>> {
        self.row.next.result.as_ref().and_then(|body| body.bytes.clone())
    }

    /// It may be recorded, although no answer came.
    pub(super) fn doubt(&mut self) {
        self.sent = true;
    }

    /// It is recorded, and its run knows of it.
    pub(super) fn recorded(mut self) {
        self.over = true;
        self.row.parent = None;
        let answer = SettledJob::Applied(self.row.next.state);
        if self.claim().leave() {
            self.shared.settler.close_later([self.claim().id]);
        }
        super::parking::settled(&self.shared, core::iter::once((&self.row, &answer)));
        self.shared.pool.release([self.attempt.name()]);
        if self.claim().alone {
            self.shared.alone.notify_one();
        }
    }
}

impl Drop for EndedChild {
    fn drop(&mut self) {
        if !self.over {
            let (row, attempt) = (self.row.clone(), Arc::clone(&self.attempt));
            self.shared.settler.push_item(Item { row, attempt, sent: self.sent });
        }
    }
}

/// What is recorded of an attempt that ended like this; `now` is the store's clock.
pub(super) fn row(
    attempt: &Attempt,
    ending: Ending,
    now: Timestamp,
    worker: &Owner,
    retain: Duration,
) -> SettleJob {
    let ended = Ended {
        token: attempt.token,
        started_at: attempt.claim.at,
        worker: worker.clone(),
        http: attempt.seen(),
    };
    let called_off = attempt.stopped_by() == Some(Stop::CalledOff);
    // The end of a version 7 UUID is random.
    let seed = attempt.id().as_uuid().as_u64_pair().1 ^ attempt.token.get().unsigned_abs();
    let mut next = job::end(attempt.job.facts(), &ended, ending, now, called_off, seed);
    if next.state == State::Dead {
        next.result = attempt.take_failure();
    }
    SettleJob {
        job: JobRef { namespace: attempt.job.namespace.clone(), id: attempt.id() },
        place: attempt.job.place,
        fence: attempt.token,
        token: attempt.token,
        started_at: attempt.claim.at,
        worker: worker.clone(),
        next,
        retain,
        parent: attempt.job.parent,
    }
}

fn weight(item: &Item) -> usize {
    let next = &item.row.next;
    let result = next.result.as_ref().and_then(|body| body.bytes.as_ref()).map_or(0, Vec::len);
    512 + result + next.error.as_ref().map_or(0, String::len) + next.past.len() * 200
}

/// Sends batch after batch.
pub(super) async fn keep(shared: Arc<Shared>) {
    // Rows that somebody's open transaction holds: each goes alone, when it is time.
    let mut locked: VecDeque<(Instant, Item)> = VecDeque::new();
    loop {
        let settler = &shared.settler;
        let batch = settler.next_batch().await;
        let due = locked.front().map(|(due, _)| *due);
        // One of them after each batch: those that come all the time do not keep them waiting, nor the other way round.
        let one = locked.pop_front_if(|(due, _)| *due <= Instant::now()).map(|(_, item)| item);
        if batch.is_empty() && one.is_none() {
            match due {
                None => tokio::select! {
                    () = settler.bell.notified() => {}
                    () = sleep(CLOSE), if settler.closes() => close(&shared).await,
                },
                Some(due) => tokio::select! {
                    () = settler.bell.notified() => {}
                    () = sleep_until(due) => {}
                },
            }
        }
        for part in [batch, Vec::from_iter(one)] {
            if !part.is_empty() {
                let still = send(&shared, part).await.into_iter();
                locked.extend(still.map(|item| (Instant::now() + LOCKED, item)));
            }
        }
    }
}

/// Removes claims that no statement has taken along.
async fn close(shared: &Shared) {
    let ask = SettleJobs { jobs: Vec::new(), finished: shared.settler.take_closing() };
    if let Err(error) = shared.store().job_settle(&ask).await {
        // They go with the session.
        tracing::debug!(%error, claims = ask.finished.len(), "claims could not be removed");
    }
}

/// Sends a batch, in parts where it can't go as a whole; returns the rows that are locked.
async fn send(shared: &Shared, batch: Vec<Item>) -> Vec<Item> {
    let (mut parts, mut locked) = (vec![batch], Vec::new());
    while let Some(mut part) = parts.pop() {
        let error = match insist(shared, &part).await {
            Ok((answers, sends)) => {
                settled(shared, &part, &answers, sends);
                continue;
            }
            Err(error) => error,
        };
        part.iter_mut().for_each(|item| item.sent = true);
        let lives = part.iter().any(|item| item.claim().session.hold.is_valid());
        if part.len() > 1 && (error.code() == Code::KeyLocked || !error.is_retryable()) {
            let half = part.split_off(part.len() / 2);
            parts.extend([half, part]);
        } else if error.code() == Code::KeyLocked && lives {
            locked.append(&mut part);
        } else {
            give_up(shared, &part, &error);
        }
    }
    locked
}

/// Sends until there is an answer, or none that would help; the answers, and how often it was sent.
async fn insist(shared: &Shared, part: &[Item]) -> Result<(Vec<SettledJob>, u32)> {
    let claims = finished(part.iter().map(Item::claim)).into_iter().chain(shared.settler.take_closing());
    let ask =
        SettleJobs { jobs: part.iter().map(|item| item.row.clone()).collect(), finished: claims.collect() };
    for attempt in 0_u32.. {
        let lives = part.iter().any(|item| item.claim().session.hold.is_valid());
        match shared.store().job_settle(&ask).await {
            Err(error) if error.is_retryable() && error.code() != Code::KeyLocked && lives => {
                tracing::debug!(%error, endings = part.len(), "endings could not be recorded yet");
            }
            Ok(answers) => return Ok((answers, attempt + 1)),
            Err(error) => {
                shared.settler.close_later(ask.finished);
                return Err(error);
            }
        }
        let (first, cap) = (Duration::from_millis(10), Duration::from_secs(1));
        sleep(backoff::delay(attempt, first, cap, attempt.into())).await;
    }
    Err(Error::new(Code::StoreUnavailable, "the store did not record the ending"))
}

/// The claims of which no job is left when these endings are recorded.
pub(super) fn finished<'a>(part: impl Iterator<Item = &'a Arc<Claim>>) -> Vec<ClaimId> {
    let mut counts: Vec<(&Arc<Claim>, usize)> = Vec::new();
    for claim in part {
        match counts.iter_mut().rev().find(|(counted, _)| Arc::ptr_eq(counted, claim)) {
            Some((_, count)) => *count += 1,
            None => counts.push((claim, 1)),
        }
    }
    let is_last = |(claim, count): &(&Arc<Claim>, usize)| claim.left.load(Ordering::SeqCst) == *count;
    let last = counts.into_iter().filter(is_last);
    last.inspect(|(claim, _)| claim.closes.store(true, Ordering::SeqCst)).map(|(claim, _)| claim.id).collect()
}

/// Takes note of answers. Whatever the answer, the claim holds the job no longer.
fn settled(shared: &Shared, part: &[Item], answers: &[SettledJob], sends: u32) {
    for (item, answer) in part.iter().zip(answers) {
        if item.claim().leave() {
            shared.settler.close_later([item.claim().id]);
        }
        if let Some(delay) = item.row.next.delay {
            shared.bell.due_in(delay);
        }
        let refused = match answer {
            SettledJob::Applied(_) | SettledJob::Already(_) => false,
            // What the handler has recorded in its own transaction counts, and others may have gone on from there.
            SettledJob::Stale => !item.attempt.is_settled_in(),
            // This ending itself may have removed the row: sent before, or in the handler's own transaction.
            SettledJob::Gone => sends == 1 && !item.sent && !item.attempt.is_settled_in(),
        };
        if refused {
            shared.around.refused(&item.attempt);
        }
    }
    super::parking::settled(shared, part.iter().zip(answers).map(|(item, answer)| (&item.row, answer)));
    shared.pool.release(part.iter().map(|item| (item.row.job.id, item.row.fence)));
    if part.iter().any(|item| item.claim().alone) {
        // The next one of that sort may be claimed.
        shared.alone.notify_one();
    }
}

/// Nothing can be recorded: the session runs out, or is closed, and the jobs are rescued.
fn give_up(shared: &Shared, part: &[Item], error: &Error) {
    for item in part {
        tracing::error!(%error, job = %item.row.job.id, "an ending could not be recorded; the job will be rescued");
    }
    shared.pool.release(part.iter().map(|item| (item.row.job.id, item.row.fence)));
}
