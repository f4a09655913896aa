//! Jobs that are enqueued by the process that runs them at once: written and claimed in one statement, past the lanes.
//!
//! Only where nothing waits that would come first, as far as this worker knows: its last claim looked everywhere and
//! came back short, and a slot is free: what has come since is claimed in the next moment, and has a slot as well.
//! Natural batching as everywhere: one statement in flight, and everything that comes meanwhile is the next one.

use core::ops::ControlFlow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use onceward_core::job::New;
use onceward_core::{ClaimId, Result, Timestamp};
use onceward_store::{Enqueued, HandOver, HandedOver};
use tokio::sync::{Notify, oneshot};

use super::batch::{fitting, gather};
use super::claim::accept;
use super::shared::Shared;
use crate::bells::{Answer, Taker};

/// The most jobs of one statement.
const ROWS_MAX: usize = 500;

/// The jobs that were offered to a worker.
#[derive(Default)]
pub(super) struct Hand {
    offered: Mutex<Offered>,
    bell: Notify,
    /// Whether the last claim has looked into all lanes and found less than it asked for.
    caught_up: AtomicBool,
}

#[derive(Default)]
struct Offered {
    jobs: VecDeque<Offer>,
    /// How many are being handed over and have no slot yet.
    under_way: usize,
    /// The worker leaves, and takes no more.
    closed: bool,
}

struct Offer {
    new: New,
    answer: Asker,
}

/// Whoever has enqueued a job and waits for it.
struct Asker {
    to: oneshot::Sender<Result<Enqueued>>,
    sent: Arc<AtomicBool>,
}

impl Asker {
    /// Whether the job may be sent: from now on its enqueuer does not know what became of it if it stops waiting.
    fn begin(&self) -> bool {
        // In this order: whoever stops waiting looks at it afterwards.
        self.sent.store(true, Ordering::SeqCst);
        !self.to.is_closed()
    }

    fn answer(self, answer: Result<Enqueued>) {
        // Whoever has enqueued it may have gone.
        let _ = self.to.send(answer);
    }
}

impl Hand {
    /// What the claimer knows of what waits in the lanes.
    pub(super) fn set_caught_up(&self, caught_up: bool) {
        self.caught_up.store(caught_up, Ordering::SeqCst);
    }

    /// Whether nothing waits in the lanes, as far as the claimer knows.
    pub(super) fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Offered> {
        // Nothing panics while it holds the lock; if it did, the queue would still be a queue.
        self.offered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for more for a moment, and takes what goes into one statement.
    async fn next_batch(&self) -> Vec<Offer> {
        gather(|| self.lock().jobs.len(), ROWS_MAX).await;
        let mut offered = self.lock();
        let count = fitting(offered.jobs.iter().map(|offer| 512 + offer.new.payload.bytes.len()), ROWS_MAX);
        let batch: Vec<Offer> = offered.jobs.drain(..count).collect();
        offered.under_way = batch.len();
        batch
    }
}

impl Taker for Shared {
    fn offer(&self, new: New, now: Timestamp) -> ControlFlow<Answer, New> {
        let has_keys = new.key.is_some() || new.dedupe.is_some() || new.ordering_key.is_some();
        // What is left to jobs with tags in their lanes is not looked at with every claim.
        if has_keys
            || !new.tags.is_empty()
            || !self.kinds.contains(&new.kind)
            || new.due(now) > now
            || !self.hand.is_caught_up()
        {
            return ControlFlow::Continue(new);
        }
        if self.status.borrow().claims_for().is_none() {
            return ControlFlow::Continue(new);
        }
        let mut offered = self.hand.lock();
        if offered.closed || self.pool.free() <= offered.jobs.len() + offered.under_way {
            return ControlFlow::Continue(new);
        }
        let (to, answered) = oneshot::channel();
        let sent = Arc::new(AtomicBool::new(false));
        let answer = Answer { answered, sent: Arc::clone(&sent) };
        offered.jobs.push_back(Offer { new, answer: Asker { to, sent } });
        drop(offered);
        self.hand.bell.notify_one();
        ControlFlow::Break(answer)
    }
}

/// Takes no more jobs; those that were offered and not taken yet are enqueued.
pub(super) async fn close(shared: &Shared) {
    let left = {
        let mut offered = shared.hand.lock();
        offered.closed = true;
        core::mem::take(&mut offered.jobs)
    };
    let (jobs, answers) = left.into_iter().map(|offer| (offer.new, offer.answer)).unzip();
    enqueue(shared, jobs, answers, false).await;
}

/// Hands batch after batch over.
pub(super) async fn keep(shared: Arc<Shared>) {
    loop {
        let batch = shared.hand.next_batch().await;
        if batch.is_empty() {
            shared.hand.bell.notified().await;
            continue;
        }
        // In a task of its own, which goes on to its end even if this worker is told to stop meanwhile: what nobody
        // knows to be claimed would be held until the session ends.
        if let Err(error) = tokio::spawn(hand_over(Arc::clone(&shared), batch)).await {
            tracing::error!(%error, "a hand-over ended in an unforeseen way");
        }
        shared.hand.lock().under_way = 0;
    }
}

async fn hand_over(shared: Arc<Shared>, batch: Vec<Offer>) {
    // Whoever tells the worker to stop waits for this lock afterwards, so that nothing is claimed any more.
    let under_way = shared.handing.lock().await;
    let session = shared.status.borrow().claims_for().cloned();
    let (jobs, answers): (Vec<New>, Vec<_>) =
        batch.into_iter().filter(|offer| offer.answer.begin()).map(|offer| (offer.new, offer.answer)).unzip();
    if jobs.is_empty() {
        return;
    }
    if let Some(session) = session {
        let ask = HandOver {
            namespace: shared.around.client.namespace.clone(),
            session: session.id,
            claim: ClaimId::from_uuid(uuid::Uuid::now_v7()),
            jobs,
        };
        let wanted = || answers.iter().any(|asker| !asker.to.is_closed());
        match session.until_answered(|| shared.store().job_hand_over(&ask), wanted).await {
            Ok(HandedOver { enqueued, claimed }) => {
                if claimed.jobs.len() < enqueued.len() {
                    // The rest is in the lanes.
                    shared.hand.set_caught_up(false);
                    shared.ring();
                }
                accept(&shared, (ask.claim, session), false, claimed, shared.pool.free());
                for (asker, enqueued) in answers.into_iter().zip(enqueued) {
                    asker.answer(Ok(enqueued));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "jobs could not be handed over and are enqueued");
                drop(under_way);
                enqueue(&shared, ask.jobs, answers, error.is_uncertain()).await;
            }
        }
        return;
    }
    drop(under_way);
    enqueue(&shared, jobs, answers, false).await;
}

/// Enqueues jobs in the usual way: the same ids, so that what is there already is found.
async fn enqueue(shared: &Shared, jobs: Vec<New>, answers: Vec<Asker>, doubt: bool) {
    let client = &shared.around.client;
    let waits = jobs.into_iter().zip(answers).filter(|(_, asker)| asker.begin());
    let each = waits.map(async |(new, asker)| {
        let queue = new.queue.clone();
        let enqueued = client.inner.lanes.enqueue(new).await;
        client.inner.bells.ring(&client.namespace, &queue);
        asker.answer(enqueued.map_err(|error| if doubt { error.uncertain() } else { error }));
    });
    join_all(each).await;
}
