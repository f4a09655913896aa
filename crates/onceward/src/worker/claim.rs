//! The claimer: as few claims as possible, as large as what is run in the next moment.

use core::time::Duration;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use onceward_core::job::Claimed;
use onceward_core::{ClaimId, Kind, Queue, Result, backoff, limits};
use onceward_store::{AskPermits, ClaimJobs, ClaimedJobs, Want};
use tokio::time::{Instant, sleep, sleep_until};

use super::attempt::{Attempt, Claim};
use super::permits::Purse;
use super::plan::Plan;
use super::session::Session;
use super::shared::{Shared, Status};

/// For how long jobs are claimed ahead of a free slot, at the rate at which they went lately.
const AHEAD: Duration = Duration::from_millis(100);
/// The most jobs that wait for a slot.
const AHEAD_MAX: usize = 2_000;
/// After this time, jobs that wait for a slot are given back: others may have one.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// The pauses of the polling while nothing wakes it: the guarantee behind all wake-ups.
const POLL_FIRST: Duration = Duration::from_millis(5);
const POLL_MAX: Duration = Duration::from_secs(5);
/// How often jobs that are claimed by themselves are looked for, while others run or somebody has rung, and otherwise.
const ALONE: Duration = Duration::from_secs(1);
const ALONE_IDLE: Duration = Duration::from_secs(20);
/// How soon they are looked for again where only a permit was missing.
const SOON: Duration = Duration::from_millis(100);
/// After so many polls without a job nothing is going on.
const BUSY_POLLS: u32 = 9;
/// How often the lanes of jobs with tags are looked for, while something goes on or somebody has rung, and otherwise.
const LANES: Duration = Duration::from_millis(500);
const LANES_IDLE: Duration = Duration::from_secs(10);

/// Claims until the worker leaves.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut status = shared.status.subscribe();
    let mut claimer = Claimer::new(&shared, shared.plan.clone());
    loop {
        let session = status.borrow_and_update().claims_for().cloned();
        let Some(session) = session else {
            let ready = shared.pool.take_ready();
            shared.hand_back(ready);
            tokio::select! {
                changed = status.changed() => if changed.is_err() { return },
                () = claimer.let_go() => {}
            }
            continue;
        };
        tokio::select! {
            () = claimer.turn(&session) => {}
            _ = status.wait_for(|status| !is_for(status, &session)) => {}
        }
    }
}

pub(super) fn is_for(status: &Status, session: &Arc<Session>) -> bool {
    status.claims_for().is_some_and(|current| Arc::ptr_eq(current, session))
}

struct Claimer {
    shared: Arc<Shared>,
    plan: Plan,
    /// Whether the last claim got all it asked for.
    hungry: bool,
    polls: u32,
    next_poll: Instant,
    next_alone: Instant,
    next_lanes: Instant,
    /// When the lanes of jobs with tags were looked for the last time.
    lanes_seen: Instant,
    /// Jobs per second, and what it was computed from.
    rate: f64,
    measured: (Instant, u64),
    waiting_since: Instant,
    /// What it may take from limited queues.
    purse: Purse,
}

impl Claimer {
    fn new(shared: &Arc<Shared>, plan: Plan) -> Self {
        let now = Instant::now();
        Self {
            shared: Arc::clone(shared),
            plan,
            hungry: true,
            polls: 0,
            next_poll: now,
            next_alone: now + ALONE,
            next_lanes: now,
            lanes_seen: now,
            rate: 0.0,
            measured: (now, 0),
            waiting_since: now,
            purse: Purse::default(),
        }
    }

    /// Claims once, or waits for a reason to.
    async fn turn(&mut self, session: &Arc<Session>) {
        let ahead = self.ahead();
        let room = self.shared.pool.room(ahead / 2);
        self.give_back_what_waits(room.waiting);
        if self.purse.any() && self.tend_purse(session, room.free).await {
            return;
        }
        let now = Instant::now();
        if room.free > 0 && !room.alone && now >= self.next_alone {
            return self.claim_alone(session).await;
        }
        // Claims are large: what waits suffices until there is room for half of what may wait.
        let wanted = (room.free + ahead.saturating_sub(room.waiting)).min(limits::CLAIM_JOBS_MAX);
        let worth = room.free > 0 || (wanted > 0 && room.waiting <= ahead / 2);
        if !worth {
            return self.wait_for_room().await;
        }
        if self.hungry || now >= self.next_poll {
            return self.claim_some(session, wanted, room.free).await;
        }
        // With one in hand, the next one is claimed when it has ended.
        let alone = if room.alone { self.next_poll } else { self.next_alone };
        let next = self.purse.wake_at(&self.shared.pool).map_or(self.next_poll, |at| at.min(self.next_poll));
        tokio::select! {
            () = self.shared.bell.rung.notified() => self.was_rung(),
            () = self.shared.alone.notified() => self.next_alone = Instant::now(),
            () = self.shared.pool.freed.notified() => {}
            () = sleep_until(next.min(alone)) => {}
        }
    }

    fn was_rung(&mut self) {
        self.hungry = true;
        self.polls = 0;
        self.next_alone = self.next_alone.min(Instant::now() + ALONE);
        // It may have a tag.
        self.next_lanes = self.next_lanes.min(self.lanes_seen + LANES);
    }

    /// Looks after the permits; whether it has asked for some.
    async fn tend_purse(&mut self, session: &Arc<Session>, free: usize) -> bool {
        let shared = Arc::clone(&self.shared);
        self.purse.is_for(session.id);
        self.purse.settle();
        let asks = self.purse.asks(&shared.pool, &shared.around.client.namespace, free);
        let asked = !asks.is_empty();
        if asked {
            let before = self.purse.count();
            self.ask_for_permits(asks).await;
            // One that is not limited any more has to be looked into.
            self.hungry |= self.purse.count() < before;
        }
        self.hungry |= self.purse.has_room(&shared.pool);
        asked
    }

    /// Asks in a task of its own, as for claims: what was given while nobody listened would be of no use to anybody.
    async fn ask_for_permits(&mut self, asks: Vec<AskPermits>) {
        let (shared, sent) = (Arc::clone(&self.shared), Instant::now());
        let ask = tokio::spawn(async move {
            let _under_way = shared.claiming.lock().await;
            let given = shared.store().queue_permits(&asks).await;
            (asks, given)
        });
        match ask.await {
            Ok((asks, Ok(given))) => self.purse.learn(&asks, &given, sent, &self.shared.pool),
            Ok((asks, Err(error))) => {
                tracing::warn!(%error, "permits of limited queues could not be asked for");
                self.purse.learn(&asks, &[], sent, &self.shared.pool);
            }
            Err(error) => tracing::error!(%error, "asking for permits ended in an unforeseen way"),
        }
    }

    /// Gives back what is not in use while no jobs are taken; goes on for ever.
    async fn let_go(&mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            let session = shared.status.borrow().session.clone();
            if let Some(session) = session.filter(|session| session.hold.is_valid()) {
                self.purse.is_for(session.id);
                self.purse.give_up();
                let asks = self.purse.asks(&shared.pool, &shared.around.client.namespace, 0);
                if !asks.is_empty() {
                    self.ask_for_permits(asks).await;
                }
            }
            tokio::select! {
                () = shared.pool.freed.notified() => sleep(Duration::from_millis(50)).await,
                () = sleep(Duration::from_secs(1)) => {}
            }
        }
    }

    /// Waits for a slot, or for something to claim of limited queues.
    async fn wait_for_permits(&mut self) {
        let look_again = Instant::now() + Duration::from_millis(500);
        let next = self.purse.wake_at(&self.shared.pool).map_or(look_again, |at| at.min(look_again));
        tokio::select! {
            () = self.shared.bell.rung.notified() => self.was_rung(),
            () = self.shared.pool.freed.notified() => {}
            () = sleep_until(next) => {}
        }
    }

    async fn wait_for_room(&self) {
        let look_again = Instant::now() + Duration::from_millis(500);
        tokio::select! {
            () = self.shared.pool.room.notified() => {}
            () = sleep_until(look_again) => {}
        }
    }

    /// How many jobs may wait for a slot: what is started in the next moment.
    fn ahead(&mut self) -> usize {
        let (at, before) = self.measured;
        let passed = at.elapsed();
        if passed >= Duration::from_millis(20) {
            let started = self.shared.pool.room(0).started;
            #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
            let rate = started.saturating_sub(before) as f64 / passed.as_secs_f64();
            self.rate = (self.rate + rate) / 2.0;
            self.measured = (Instant::now(), started);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` cuts to what fits")]
        let ahead = (self.rate * AHEAD.as_secs_f64()) as usize;
        ahead.min(AHEAD_MAX)
    }

    /// Jobs that wait for long behind others that have become slow go back, so that idle workers find them.
    fn give_back_what_waits(&mut self, waiting: usize) {
        if waiting == 0 {
            self.waiting_since = Instant::now();
        } else if self.waiting_since.elapsed() > WAIT_MAX && self.rate * WAIT_MAX.as_secs_f64() < 1.0 {
            let ready = self.shared.pool.take_ready();
            self.shared.hand_back(ready);
            self.waiting_since = Instant::now();
        }
    }

    async fn claim_some(&mut self, session: &Arc<Session>, wanted: usize, free: usize) {
        if !self.shared.tags.is_empty() && Instant::now() >= self.next_lanes {
            self.look_for_lanes().await;
        }
        let mut seed = uuid::Uuid::new_v4().as_u64_pair().0;
        let mut wants = self.plan.wants(wanted, free, || {
            seed = backoff::mix(seed);
            seed
        });
        if self.purse.any() {
            let any = !wants.is_empty();
            self.purse.bound(&mut wants, free, &self.shared.pool);
            if any && wants.is_empty() {
                return self.wait_for_permits().await;
            }
        }
        if wants.is_empty() {
            // All of it is work that is claimed only for a free slot.
            return self.wait_for_room().await;
        }
        let permitted = self.purse.any();
        let ask = Ask { wants: wants.clone(), alone: false, limit: wanted, free, permitted };
        let taken = self.claim(session, ask).await;
        self.hungry = self.plan.learn(&wants, &taken, wanted);
        let looked = taken.answered && taken.limited.is_empty() && self.plan.is_covered_by(&wants);
        self.shared.hand.set_caught_up(looked && !self.hungry);
        self.purse.claimed(&wants, &taken.of_lane);
        if !taken.limited.is_empty() {
            self.purse.note(&taken.limited, &self.shared.pool);
            self.hungry = true;
        }
        self.polls = if taken.jobs == 0 { self.polls.saturating_add(1) } else { 0 };
        let pause = POLL_FIRST.saturating_mul(2_u32.saturating_pow(self.polls.min(16))).min(POLL_MAX);
        self.next_poll = Instant::now() + pause;
    }

    async fn look_for_lanes(&mut self) {
        let shared = &self.shared;
        match shared.store().job_lanes(&shared.around.client.namespace, &self.plan.queues()).await {
            Ok(lanes) => {
                let offered =
                    |route: &str| !route.is_empty() && onceward_core::job::may_take(route, &shared.tags);
                self.plan.set_tagged(lanes.into_iter().filter(|lane| offered(&lane.route)));
            }
            Err(error) => tracing::debug!(%error, "the lanes of jobs with tags could not be read"),
        }
        let idle = POLL_FIRST.saturating_mul(2_u32.saturating_pow(self.polls.min(16)));
        self.lanes_seen = Instant::now();
        self.next_lanes = self.lanes_seen + idle.clamp(LANES, LANES_IDLE);
    }

    /// Jobs that may be what kills their processes: one at a time, the next one when it has ended.
    async fn claim_alone(&mut self, session: &Arc<Session>) {
        let mut wants = self.plan.wants(1, 1, || 0);
        wants.iter_mut().for_each(|want| want.limit = 1);
        let permitted = self.purse.any();
        self.purse.bound(&mut wants, 1, &self.shared.pool);
        let taken = self.claim(session, Ask { wants, alone: true, limit: 1, free: 1, permitted }).await;
        self.purse.note(&taken.limited, &self.shared.pool);
        let busy = self.polls < BUSY_POLLS;
        let pause = match taken.jobs {
            0 if !taken.limited.is_empty() => SOON,
            0 if !busy => ALONE_IDLE,
            _ => ALONE,
        };
        self.next_alone = Instant::now() + pause;
    }

    /// Claims in a task of its own, which goes on to its end even if this worker is told to stop meanwhile: what nobody
    /// knows to be claimed would be held until the session ends.
    async fn claim(&self, session: &Arc<Session>, ask: Ask) -> Taken {
        let claim = tokio::spawn(claim(Arc::clone(&self.shared), Arc::clone(session), ask));
        match claim.await {
            Ok(Ok(taken)) => return taken,
            Ok(Err(error)) => tracing::warn!(%error, "jobs could not be claimed"),
            Err(error) => tracing::error!(%error, "a claim ended in an unforeseen way"),
        }
        sleep(Duration::from_millis(500)).await;
        Taken::default()
    }
}

/// What is claimed.
struct Ask {
    wants: Vec<Want>,
    alone: bool,
    limit: usize,
    /// How many can start at once.
    free: usize,
    /// Whether limited queues give what the permits allow.
    permitted: bool,
}

/// What came of it, for the plan.
#[derive(Default)]
pub(super) struct Taken {
    /// Whether it was answered at all.
    pub(super) answered: bool,
    /// How many jobs.
    pub(super) jobs: usize,
    /// How many of each lane that was asked for.
    pub(super) of_lane: Vec<usize>,
    /// The kinds of those that run at most once.
    pub(super) at_most_once: HashSet<Kind>,
    /// Queues that gave nothing for want of a permit.
    pub(super) limited: Vec<Queue>,
}

/// Claims, and puts what was claimed in line.
async fn claim(shared: Arc<Shared>, session: Arc<Session>, ask: Ask) -> Result<Taken> {
    // Whoever tells the worker to stop waits for this lock afterwards, so that no claim is under way any more.
    let _under_way = shared.claiming.lock().await;
    if !is_for(&shared.status.borrow(), &session) {
        return Ok(Taken::default());
    }
    let Ask { wants, alone, limit, free, permitted } = ask;
    let ask = ClaimJobs {
        namespace: shared.around.client.namespace.clone(),
        session: session.id,
        claim: ClaimId::from_uuid(uuid::Uuid::now_v7()),
        wants,
        alone,
        limit,
        permitted,
    };
    let claimed = session.until_answered(|| shared.store().job_claim(&ask), || true).await;
    let claimed = claimed.map_err(|error| error.at("job.claim"))?;
    let taken = Taken::of(&claimed, &ask.wants);
    // Slots may have gone to what was handed over meanwhile.
    let free = free.min(shared.pool.free());
    accept(&shared, (ask.claim, session), alone, claimed, free);
    Ok(taken)
}

impl Taken {
    fn of(claimed: &ClaimedJobs, wants: &[Want]) -> Self {
        let (jobs, limited) = (claimed.jobs.len(), claimed.limited.clone());
        let mut taken = Self { answered: true, jobs, limited, ..Self::default() };
        taken.of_lane = vec![0; wants.len()];
        for Claimed { job, .. } in &claimed.jobs {
            let route = onceward_core::job::route(&job.tags);
            let is_lane =
                |want: &Want| want.kind == job.kind && want.queue == job.queue && want.route == route;
            if let Some(count) = wants.iter().position(is_lane).and_then(|at| taken.of_lane.get_mut(at)) {
                *count += 1;
            }
            if job.policy.at_most_once && !taken.at_most_once.contains(&job.kind) {
                taken.at_most_once.insert(job.kind.clone());
            }
        }
        taken
    }
}

/// Puts claimed jobs in line. Work that runs at most once is given back where it can't start at once, and so is
/// everything if the worker has been told to stop.
pub(super) fn accept(
    shared: &Arc<Shared>,
    (id, session): (ClaimId, Arc<Session>),
    alone: bool,
    claimed: ClaimedJobs,
    free: usize,
) {
    let ClaimedJobs { jobs, now: at, .. } = claimed;
    if jobs.is_empty() {
        return;
    }
    let (seen_at, left) = (shared.store().clock().boottime(), AtomicUsize::new(jobs.len()));
    let claim = &Arc::new(Claim { id, session, alone, at, seen_at, left, closes: AtomicBool::new(false) });
    let attempts: Vec<_> = jobs.into_iter().map(|job| Attempt::new(job, claim)).collect();
    shared.pool.hold(&attempts);
    let works = is_for(&shared.status.borrow(), &claim.session);
    let mut position = 0;
    let (start, back): (Vec<_>, Vec<_>) = attempts.into_iter().partition(|attempt| {
        position += 1;
        works && (position <= free || !attempt.job.policy.at_most_once)
    });
    shared.hand_back(back);
    shared.start(start);
}
