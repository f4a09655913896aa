//! What a worker may take from limited queues: when it asks for permits, and when it gives them back.
//!
//! Nothing of this happens before a claim has said that a queue is limited. From then on the worker asks once a second
//! while it finds work there, sooner where it has too little, and gives back what it has not used for a second.

use core::time::Duration;
use std::collections::BTreeMap;

use onceward_core::job::limit::Limits;
use onceward_core::{Namespace, Queue, SessionId};
use onceward_store::{AskPermits, Permits, Want};
use tokio::time::Instant;

use super::pool::Pool;

/// For how long a permit is kept that finds no work.
const KEEP: Duration = Duration::from_secs(1);
/// What is given back is gathered for this long.
const GATHER: Duration = Duration::from_millis(20);
/// When to ask again after an error.
const AFTER_ERROR: Duration = Duration::from_millis(500);

/// The limited queues of a worker.
#[derive(Default)]
pub(super) struct Purse {
    queues: BTreeMap<Queue, Allowance>,
    session: Option<SessionId>,
}

/// What the worker has of one of them.
struct Allowance {
    limits: Limits,
    share: usize,
    held: usize,
    starts: usize,
    starts_end: Instant,
    asked_at: Instant,
    next_ask: Instant,
    /// Whether it wants any: a claim has said that something waits, and none since that nothing does.
    hungry: bool,
    /// Since when claims have found less than they were allowed.
    dry_since: Option<Instant>,
    /// How many jobs were started since the last question.
    started: usize,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self {
            limits: Limits::default(),
            share: 0,
            held: 0,
            starts: 0,
            starts_end: now,
            asked_at: now,
            next_ask: now,
            hungry: true,
            dry_since: None,
            started: 0,
        }
    }

    /// How many jobs may be claimed now.
    fn allowed(&self, running: usize, now: Instant) -> usize {
        if !self.limits.any() {
            return 0;
        }
        let slots = self.limits.concurrency.map_or(usize::MAX, |_| self.share.saturating_sub(running));
        let starts =
            self.limits.rate.map_or(usize::MAX, |_| if now < self.starts_end { self.starts } else { 0 });
        slots.min(starts)
    }

    /// Whether there is something to give back, or to ask for.
    fn is_due(&self, running: usize, now: Instant) -> bool {
        let too_much = self.held > running && (self.held > self.share || !self.hungry);
        let unused = !self.hungry && self.starts > 0 && now < self.starts_end;
        ((too_much || unused) && now >= self.asked_at + GATHER) || (self.hungry && now >= self.next_ask)
    }

    fn wants(&self, running: usize, free: usize) -> (usize, usize) {
        if self.hungry { (running + free, free + 2 * self.started) } else { (running, 0) }
    }
}

impl Purse {
    /// Whether any queue is known to be limited.
    pub(super) fn any(&self) -> bool {
        !self.queues.is_empty()
    }

    /// How many are.
    pub(super) fn count(&self) -> usize {
        self.queues.len()
    }

    /// Takes note of what a claim has said of queues that kept their jobs back: there is something to ask for.
    pub(super) fn note(&mut self, limited: &[Queue], pool: &Pool) {
        let now = Instant::now();
        for queue in limited {
            if let Some(allowance) = self.queues.get_mut(queue) {
                // If it was thought that there were some, one looks again, and not at once for ever.
                let pause = if allowance.hungry { AFTER_ERROR } else { GATHER };
                let next_ask = now.max(allowance.asked_at + pause);
                *allowance = Allowance { next_ask, asked_at: allowance.asked_at, ..Allowance::new(now) };
            } else {
                tracing::info!(queue = queue.as_str(), "the queue is limited: its jobs are run by permits");
                pool.count(queue);
                self.queues.insert(queue.clone(), Allowance::new(now));
            }
        }
    }

    /// Another session has nothing of what the one before had.
    pub(super) fn is_for(&mut self, session: SessionId) {
        if self.session.replace(session) != Some(session) {
            let now = Instant::now();
            self.queues.values_mut().for_each(|allowance| *allowance = Allowance::new(now));
        }
    }

    /// Wants nothing any more of queues that had nothing for a while.
    pub(super) fn settle(&mut self) {
        let now = Instant::now();
        for allowance in self.queues.values_mut() {
            if allowance.dry_since.is_some_and(|since| now >= since + KEEP) {
                (allowance.hungry, allowance.dry_since) = (false, None);
            }
        }
    }

    /// Wants nothing any more.
    pub(super) fn give_up(&mut self) {
        self.queues.values_mut().for_each(|allowance| allowance.hungry = false);
    }

    /// Whether something may be claimed of a queue that had more.
    pub(super) fn has_room(&self, pool: &Pool) -> bool {
        let now = Instant::now();
        self.queues.iter().any(|(queue, allowance)| {
            let more = allowance.hungry && allowance.dry_since.is_none();
            more && allowance.allowed(pool.counted(queue), now) > 0
        })
    }

    /// What to ask for now, with `free` slots.
    pub(super) fn asks(&self, pool: &Pool, namespace: &Namespace, free: usize) -> Vec<AskPermits> {
        let (now, Some(session)) = (Instant::now(), self.session) else { return Vec::new() };
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let mut asks = Vec::new();
        for (queue, allowance) in &self.queues {
            let running = pool.counted(queue);
            if allowance.is_due(running, now) {
                let (wanted, starts) = allowance.wants(running, free);
                let (namespace, queue) = (namespace.clone(), queue.clone());
                let (wanted, starts) = (small(wanted), small(starts));
                asks.push(AskPermits { namespace, queue, session, wanted, starts });
            }
        }
        asks
    }

    /// Takes note of what was given; `sent` is when it was asked for. An error gives nothing.
    pub(super) fn learn(&mut self, asks: &[AskPermits], given: &[Permits], sent: Instant, pool: &Pool) {
        for (at, ask) in asks.iter().enumerate() {
            let Some(allowance) = self.queues.get_mut(&ask.queue) else { continue };
            allowance.asked_at = sent;
            let Some(permits) = given.get(at) else {
                allowance.next_ask = Instant::now() + AFTER_ERROR;
                continue;
            };
            if !permits.limits.any() {
                self.queues.remove(&ask.queue);
                pool.forget(&ask.queue);
                continue;
            }
            let large = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
            allowance.limits = permits.limits;
            (allowance.share, allowance.held) = (large(permits.share), large(permits.held));
            (allowance.starts, allowance.starts_end) = (large(permits.starts), sent + permits.starts_for);
            allowance.next_ask = Instant::now() + permits.again_in;
            allowance.started = 0;
        }
    }

    /// Leaves of a wish what the permits allow. Jobs of limited queues are claimed for free slots only: while they
    /// wait, another worker could run them.
    pub(super) fn bound(&self, wants: &mut Vec<Want>, free: usize, pool: &Pool) {
        let now = Instant::now();
        for want in wants.iter_mut() {
            if let Some(allowance) = self.queues.get(&want.queue) {
                let allowed = allowance.allowed(pool.counted(&want.queue), now);
                // One that it wants nothing of is looked into: the answer says whether something waits.
                want.limit =
                    if allowance.hungry { want.limit.min(allowed).min(free) } else { want.limit.min(free) };
            }
        }
        wants.retain(|want| want.limit > 0);
    }

    /// Learns from a claim of these lanes, which gave so many jobs each.
    pub(super) fn claimed(&mut self, wants: &[Want], taken: &[usize]) {
        let now = Instant::now();
        for (queue, allowance) in &mut self.queues {
            let of_queue = || wants.iter().zip(taken).filter(|(want, _)| want.queue == *queue);
            let Some(most) = of_queue().map(|(want, _)| want.limit).max() else { continue };
            let count: usize = of_queue().map(|(_, count)| count).sum();
            allowance.started += count;
            allowance.starts = allowance.starts.saturating_sub(count);
            if count >= most {
                (allowance.hungry, allowance.dry_since) = (true, None);
            } else if allowance.hungry {
                allowance.dry_since.get_or_insert(now);
            }
        }
    }

    /// When there is something to do again, if nothing happens before.
    pub(super) fn wake_at(&self, pool: &Pool) -> Option<Instant> {
        let moment = |(queue, allowance): (&Queue, &Allowance)| {
            let dry = allowance.dry_since.map(|since| since + KEEP);
            let ask = Some(allowance.next_ask).filter(|_| allowance.hungry);
            let running = pool.counted(queue);
            let back = Some(allowance.asked_at + GATHER).filter(|gathered| {
                !allowance.is_due(running, Instant::now()) && allowance.is_due(running, *gathered)
            });
            [dry, ask, back].into_iter().flatten().min()
        };
        self.queues.iter().filter_map(moment).min()
    }
}
