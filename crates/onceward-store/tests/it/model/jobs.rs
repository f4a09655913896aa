//! Random histories of jobs: the memory model keeps the invariants, and every other store answers as it does.
//!
//! Three workers, two kinds, two queues, a few keys. Where a history has ordering keys, what is due is made ready after
//! each step: a store may let the next job of a key in at any time before that.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use onceward_core::job::tuning::Tuning;
use onceward_core::job::{
    self, Claimed, Dedupe, DedupeScope, Ended, Ending, IdempotencyKey, Move, New, OnConflict, Payload,
    Policy, State,
};
use onceward_core::once::{Body, Fingerprint};
use onceward_core::{ClaimId, JobId, Key, Kind, Namespace, Owner, Queue, SessionId, Token, session};
use onceward_store::clock::ManualClock;
use onceward_store::{
    BeginJob, ClaimJobs, Enqueued, HandOver, JobProgress, JobRef, LimitKeys, ListJobs, MoveJob, Outstanding,
    PauseQueue, PruneJobs, SessionRef, SettleJob, SettleJobs, Store, TuneQueue, Want,
};
use proptest::prelude::*;

use super::job_watch::{self, Watch};
use super::steps::{Follow, History, Verdict, agree};

const KINDS: [&str; 2] = ["mail", "pay"];
const ALL: usize = 1_000;
const TTL: Duration = Duration::from_secs(4);

/// One step. Jobs, claims and attempts are meant by how many of them ago they were made.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Enqueues jobs; `again` is an earlier one, sent once more.
    Enqueue { jobs: Vec<Job>, again: Option<usize> },
    /// Opens a worker's session: a new one, or the same again.
    Open { who: usize, anew: bool },
    /// Renews it.
    Renew { who: usize },
    /// Closes it.
    Close { who: usize },
    /// Asks it to take no more jobs, or to take some.
    Drain { who: usize, draining: bool },
    /// Claims jobs of one kind or both.
    Claim { who: usize, kinds: usize, limit: usize, alone: bool },
    /// Sends a claim again.
    Reclaim { ago: usize },
    /// Says that a handler starts.
    Begin { ago: usize },
    /// Enqueues jobs that a worker has at once.
    HandOver { who: usize, jobs: Vec<Job> },
    /// Says how far a job is.
    Progress { ago: usize, far: u8 },
    /// Says how attempts ended.
    Settle { ago: Vec<usize>, how: usize },
    /// Makes ready what is due.
    Promote { limit: usize },
    /// Takes what lost sessions hold.
    Rescue,
    /// Moves a job from outside; `seen`: by the token it has.
    Move { ago: usize, to: usize, seen: bool, dry_run: bool },
    /// Pauses or resumes the queue.
    Pause { paused: bool },
    /// Sets how many jobs of one ordering key a queue lets in.
    LimitKeys { strict: bool, most: u32 },
    /// Says how much waiting counts as one priority, or that it does not.
    Age { secs: Option<u64> },
    /// Lets time pass.
    Advance { ms: u64 },
    /// Forgets dead jobs that are this old.
    Prune { secs: u64 },
}

/// What is said about a job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    kind: usize,
    priority: i16,
    delay: u64,
    at_most_once: bool,
    kept: bool,
    max_attempts: u32,
    key: Option<(u8, u8)>,
    dedupe: Option<(u8, usize, usize)>,
    ordered: Option<u8>,
    /// In the other queue, where it is ordered.
    strict: bool,
}

impl Job {
    fn any() -> impl Strategy<Value = Self> {
        let plain = (0..2_usize, -1_i16..2, prop_oneof![3 => Just(0_u64), 1 => 1_u64..6]);
        let policy = (any::<bool>(), prop_oneof![4 => Just(true), 1 => Just(false)], 1_u32..4);
        let key = prop::option::weighted(0.25, (0_u8..2, 0_u8..2));
        let dedupe = prop::option::weighted(0.35, (0_u8..2, 0..3_usize, 0..3_usize));
        let ordered = prop::option::weighted(0.5, 0_u8..2);
        let strict = prop_oneof![3 => Just(false), 1 => Just(true)];
        (plain, policy, key, dedupe, (ordered, strict)).prop_map(|(plain, policy, key, dedupe, line)| Self {
            kind: plain.0,
            priority: plain.1,
            delay: plain.2,
            at_most_once: policy.0,
            kept: policy.1,
            max_attempts: policy.2,
            key,
            dedupe,
            ordered: line.0,
            strict: line.1,
        })
    }
}

impl Step {
    /// Any step, the common ones more often.
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        let pass = prop_oneof![Just(1_u64), Just(500), Just(2_000), Just(4_000), 0..9_000_u64];
        prop_oneof![
            4 => Self::making(),
            12 => Self::working(),
            6 => Self::upkeep(),
            3 => pass.prop_map(|ms| Self::Advance { ms }),
        ]
    }

    fn making() -> impl Strategy<Value = Self> {
        let again = prop::option::weighted(0.2, 0..4_usize);
        (prop::collection::vec(Job::any(), 1..3), again)
            .prop_map(|(jobs, again)| Self::Enqueue { jobs, again })
    }

    fn working() -> impl Strategy<Value = Self> {
        let ago = || prop_oneof![3 => Just(0_usize), 2 => 0..6_usize];
        let alone = || prop_oneof![2 => Just(false), 1 => Just(true)];
        prop_oneof![
            8 => (0..3_usize, 0..3_usize, 1..5_usize, alone())
                .prop_map(|(who, kinds, limit, alone)| Self::Claim { who, kinds, limit, alone }),
            1 => ago().prop_map(|ago| Self::Reclaim { ago }),
            3 => ago().prop_map(|ago| Self::Begin { ago }),
            3 => (0..3_usize, prop::collection::vec(Job::any(), 1..3))
                .prop_map(|(who, jobs)| Self::HandOver { who, jobs }),
            2 => (ago(), 0..3_u8).prop_map(|(ago, far)| Self::Progress { ago, far }),
            7 => (prop::collection::vec(ago(), 1..4), 0..12_usize)
                .prop_map(|(ago, how)| Self::Settle { ago, how }),
        ]
    }

    fn upkeep() -> impl Strategy<Value = Self> {
        let flags = || (any::<bool>(), prop_oneof![4 => Just(false), 1 => Just(true)]);
        prop_oneof![
            2 => (0..3_usize, any::<bool>()).prop_map(|(who, anew)| Self::Open { who, anew }),
            3 => (0..3_usize).prop_map(|who| Self::Renew { who }),
            1 => (0..3_usize).prop_map(|who| Self::Close { who }),
            1 => (0..3_usize, any::<bool>()).prop_map(|(who, draining)| Self::Drain { who, draining }),
            3 => prop_oneof![2 => Just(ALL), 1 => 1..3_usize].prop_map(|limit| Self::Promote { limit }),
            3 => Just(Self::Rescue),
            4 => (prop_oneof![0..3_usize, 0..9_usize], 0..6_usize, flags())
                .prop_map(|(ago, to, (seen, dry_run))| Self::Move { ago, to, seen, dry_run }),
            1 => prop_oneof![1 => Just(true), 2 => Just(false)].prop_map(|paused| Self::Pause { paused }),
            1 => (0_u64..9).prop_map(|secs| Self::Prune { secs }),
            2 => (any::<bool>(), 1..4_u32).prop_map(|(strict, most)| Self::LimitKeys { strict, most }),
            1 => prop::option::weighted(0.7, 1_u64..4).prop_map(|secs| Self::Age { secs }),
        ]
    }
}

/// An attempt, as its worker remembers it.
#[derive(Clone)]
struct Attempt {
    claimed: Claimed,
    session: SessionId,
}

/// The stores, the model first, and what workers and makers remember.
pub(crate) struct World {
    clock: ManualClock,
    follow: Option<Follow>,
    stores: Vec<Arc<dyn Store>>,
    ordered: bool,
    drawn: u128,
    sessions: [SessionId; 3],
    opened: Vec<session::Record>,
    made: Vec<New>,
    claims: Vec<ClaimJobs>,
    attempts: Vec<Attempt>,
    /// The invariants, and what has happened.
    pub(crate) watch: Watch,
}

impl History for World {
    type Step = Step;
    const WANTED: &'static [&'static str] = &job_watch::WANTED;

    fn step() -> BoxedStrategy<Step> {
        Step::any().boxed()
    }

    fn new(clock: ManualClock, stores: Vec<Arc<dyn Store>>, follow: Option<Follow>, ordered: bool) -> Self {
        Self {
            clock,
            follow,
            stores,
            ordered,
            drawn: 1 << 64,
            sessions: [1, 2, 3].map(|number| SessionId::from_uuid(uuid::Uuid::from_u128(number))),
            opened: Vec::new(),
            made: Vec::new(),
            claims: Vec::new(),
            attempts: Vec::new(),
            watch: Watch::default(),
        }
    }

    /// Takes one step on every store, and compares the answers and then the rows.
    async fn take(&mut self, step: &Step) -> Verdict {
        match step {
            Step::Enqueue { jobs, again } => self.enqueue(jobs, *again).await?,
            Step::Open { .. } | Step::Renew { .. } | Step::Close { .. } | Step::Drain { .. } => {
                self.take_session(step).await?;
            }
            Step::Claim { .. } | Step::Reclaim { .. } => self.claim(step).await?,
            Step::Begin { ago } => self.begin(*ago).await?,
            Step::HandOver { who, jobs } => self.hand_over(*who, jobs).await?,
            Step::Progress { ago, far } => self.progress(*ago, *far).await?,
            Step::Settle { ago, how } => self.settle(ago, *how).await?,
            Step::Move { ago, to, seen, dry_run } => self.intervene(*ago, *to, *seen, *dry_run).await?,
            Step::Advance { ms } => {
                self.clock.advance(Duration::from_millis(*ms));
                if let Some(follow) = &self.follow {
                    follow(onceward_store::Clock::wall(&self.clock)).await;
                }
            }
            _ => self.keep(step).await?,
        }
        if self.ordered {
            self.promote(ALL).await?;
        }
        self.compare_rows().await
    }

    /// Compares listings as well.
    async fn compare_all(&self) -> Verdict {
        let bare = |mut page: onceward_store::Snapshot<job::Record>| {
            page.rows.iter_mut().for_each(|row| row.past.clear());
            page
        };
        for state in State::ALL.iter().copied() {
            let ask = ListJobs { state: Some(state), limit: 500, ..ListJobs::default() };
            agree(&self.stores, async |store| store.job_list(&ask).await.map(bare)).await?;
        }
        agree(&self.stores, async |store| store.session_list().await).await?;
        if !self.ordered {
            let namespace = Namespace::default();
            agree(&self.stores, async |store| {
                let mut lanes = store.job_lanes(&namespace, &[Queue::default()]).await?;
                lanes.sort_by(|a, b| a.kind.cmp(&b.kind));
                let mut queues = store.queue_list(&namespace).await?;
                // A queue that was resumed may have a row or none.
                queues.retain(|line| {
                    line.ready + line.later + line.running > 0
                        || line.paused_at.is_some()
                        || line.keys_at.is_some()
                });
                queues.iter_mut().for_each(|line| line.kinds.sort());
                let mut outstanding = Vec::new();
                for (kinds, horizon) in [(&KINDS[..1], 0), (&KINDS[..], 0), (&KINDS[..], 3_600_000)] {
                    let ask = Outstanding {
                        namespace: namespace.clone(),
                        queues: vec![Queue::default()],
                        kinds: kinds.iter().map(|kind| Kind::from_row(*kind)).collect(),
                        tags: Vec::new(),
                        horizon: Duration::from_millis(horizon),
                    };
                    outstanding.push(store.job_outstanding(&ask).await?);
                }
                Ok((lanes, queues, outstanding))
            })
            .await?;
        }
        Ok(())
    }

    fn seen(self) -> BTreeMap<&'static str, u32> {
        self.watch.seen
    }
}

impl World {
    fn draw(&mut self) -> uuid::Uuid {
        self.drawn += 1;
        uuid::Uuid::from_u128(self.drawn)
    }

    /// An id that says it was drawn now: a store may hand over only what surely was not sent before.
    fn draw_now(&self) -> JobId {
        // Never the same one in two histories: a store that serves several of them remembers.
        static DRAWN: AtomicU64 = AtomicU64::new(0);
        let number = DRAWN.fetch_add(1, Ordering::Relaxed);
        let millis = onceward_store::Clock::wall(&self.clock).as_micros().unsigned_abs() / 1000 + 1;
        JobId::from_uuid(uuid::Uuid::from_u64_pair(millis << 16 | 0x7000, 1 << 63 | number))
    }

    async fn enqueue(&mut self, jobs: &[Job], again: Option<usize>) -> Verdict {
        // Sent again after it was forgotten, it would be a new job under the id of one that a claim may still name.
        let earlier = again.and_then(|ago| self.made.iter().rev().nth(ago));
        let there = earlier.filter(|new| !self.watch.forgotten.contains(&new.id));
        let mut batch: Vec<New> = there.cloned().into_iter().collect();
        for job in jobs {
            let id = JobId::from_uuid(self.draw());
            let new = self.new_job(job, id);
            // No two of a batch have the same key; and of two with one ordering key, either may be let in.
            let same = |other: &New| {
                let keys = |new: &New| new.key.as_ref().map(|key| key.key.clone());
                let dedupes = |new: &New| new.dedupe.as_ref().map(|dedupe| dedupe.key.clone());
                (other.ordering_key.is_some() && other.ordering_key == new.ordering_key)
                    || (keys(other).is_some() && keys(other) == keys(&new))
                    || (dedupes(other).is_some() && dedupes(other) == dedupes(&new))
            };
            if !batch.iter().any(same) {
                batch.push(new);
            }
        }
        let answers = agree(&self.stores, async |store| store.job_enqueue(&batch).await).await?;
        for (new, answer) in batch.into_iter().zip(answers) {
            self.watch.count(match answer {
                Enqueued::Created(_) => "created",
                Enqueued::Existing(_) => "existing",
                Enqueued::Mismatch(_) => "mismatch",
            });
            if !self.made.iter().any(|made| made.id == new.id) {
                self.made.push(new);
            }
        }
        Ok(())
    }

    fn new_job(&self, job: &Job, id: JobId) -> New {
        let text = |number: u8| Key::new(format!("k{number}")).unwrap();
        let kind = Kind::new(KINDS[job.kind]).unwrap();
        let payload = Payload { bytes: id.as_uuid().as_bytes().to_vec(), content_type: "x/y".to_owned() };
        let policy = Policy {
            max_attempts: job.max_attempts,
            at_most_once: job.at_most_once,
            retain: if job.kept { Duration::from_secs(40 * 86_400) } else { Duration::ZERO },
            ..Policy::default()
        };
        let fingerprint = |print| Fingerprint([print; 32]);
        let mut new = New {
            priority: job.priority,
            policy,
            key: job.key.map(|(key, print)| IdempotencyKey {
                key: text(key),
                fingerprint: fingerprint(print),
                ttl: Duration::from_secs(6),
            }),
            ..New::of_kind(Namespace::default(), id, kind, payload)
        };
        match job.ordered.filter(|_| self.ordered) {
            Some(key) => {
                new.ordering_key = Some(text(key));
                if job.strict {
                    new.queue = strict();
                }
            }
            None => {
                new.delay = Some(Duration::from_secs(job.delay)).filter(|delay| !delay.is_zero());
                new.dedupe = job.dedupe.map(|(key, scope, conflict)| Dedupe {
                    key: text(key),
                    scope: [
                        DedupeScope::UntilStarted,
                        DedupeScope::UntilDone,
                        DedupeScope::Window(Duration::from_secs(5)),
                    ][scope],
                    on_conflict: [OnConflict::Existing, OnConflict::Replace, OnConflict::PushOut][conflict],
                });
            }
        }
        new
    }

    async fn take_session(&mut self, step: &Step) -> Verdict {
        let (Step::Open { who, .. } | Step::Renew { who } | Step::Close { who } | Step::Drain { who, .. }) =
            *step
        else {
            return Ok(());
        };
        if let Step::Open { anew, .. } = *step {
            let known = self.opened.iter().any(|row| row.id == self.sessions[who]);
            // Whether an id that was used up is told apart from a new one depends on what was cleared away.
            if anew || known && !self.lives(self.sessions[who]).await? {
                self.sessions[who] = SessionId::from_uuid(self.draw());
            }
            let owner = Owner::new(format!("worker-{who}")).unwrap();
            let ask =
                session::Open { id: self.sessions[who], owner, ttl: TTL, about: session::About::default() };
            let row = agree(&self.stores, async |store| store.session_open(&ask).await).await?;
            self.opened.push(row);
            return Ok(());
        }
        let Some(row) = self.opened.iter().rev().find(|row| row.id == self.sessions[who]) else {
            return Ok(());
        };
        let me = SessionRef { id: row.id, token: row.token };
        match *step {
            Step::Renew { .. } => {
                let sorted = |mut renewed: onceward_store::SessionRenewed| {
                    renewed.called_off.sort();
                    renewed
                };
                let renewed =
                    agree(&self.stores, async |store| store.session_renew(&me).await.map(sorted)).await?;
                if !renewed.called_off.is_empty() {
                    self.watch.count("told of a cancel");
                }
            }
            Step::Close { .. } => {
                agree(&self.stores, async |store| store.session_close(&me).await).await?;
            }
            Step::Drain { draining, .. } if self.lives(me.id).await? => {
                agree(&self.stores, async |store| store.session_drain(me.id, draining).await).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the model has a session that has not run out.
    async fn lives(&self, id: SessionId) -> Verdict<bool> {
        let seen = agree(&self.stores[..1], async |store| store.session_list().await).await?;
        Ok(seen.rows.iter().any(|row| row.id == id && !row.is_lost(seen.now)))
    }

    async fn claim(&mut self, step: &Step) -> Verdict {
        let ask = match *step {
            Step::Claim { who, kinds, limit, alone } => {
                // A worker whose session has run out opens another one first.
                if !self.lives(self.sessions[who]).await? {
                    self.take_session(&Step::Open { who, anew: false }).await?;
                }
                let want = |queue: &Queue, text: &str| Want {
                    queue: queue.clone(),
                    kind: Kind::new(text).unwrap(),
                    route: String::new(),
                    limit: 3,
                };
                let mut wants = Vec::new();
                for (_, text) in KINDS.iter().enumerate().filter(|(at, _)| kinds == 2 || kinds == *at) {
                    wants.push(want(&Queue::default(), text));
                    if self.ordered {
                        wants.push(want(&strict(), text));
                    }
                }
                let claim = ClaimId::from_uuid(self.draw());
                let (namespace, session) = (Namespace::default(), self.sessions[who]);
                ClaimJobs { namespace, session, claim, wants, alone, limit, permitted: false }
            }
            Step::Reclaim { ago } => match self.claims.iter().rev().nth(ago) {
                Some(ask) => ask.clone(),
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        let answer = agree(&self.stores, async |store| store.job_claim(&ask).await).await?;
        if answer.jobs.is_empty() {
            return Ok(());
        }
        self.watch.count(if ask.alone { "claimed alone" } else { "claimed" });
        prop_assert!(answer.jobs.len() <= ask.limit, "J14");
        self.note_claimed(answer.jobs, ask.session)?;
        if !self.claims.iter().any(|known| known.claim == ask.claim) {
            self.claims.push(ask);
        }
        Ok(())
    }

    fn note_claimed(&mut self, jobs: Vec<Claimed>, session: SessionId) -> Verdict {
        for claimed in jobs {
            let known = |attempt: &Attempt| {
                (attempt.claimed.job.id, attempt.claimed.token) == (claimed.job.id, claimed.token)
            };
            if !self.attempts.iter().any(known) {
                self.watch.claimed(&claimed)?;
                self.attempts.push(Attempt { claimed, session });
            }
        }
        Ok(())
    }

    /// Sent twice, as if the first answer had been lost.
    async fn hand_over(&mut self, who: usize, jobs: &[Job]) -> Verdict {
        if !self.lives(self.sessions[who]).await? {
            self.take_session(&Step::Open { who, anew: false }).await?;
        }
        let bare = |job: &Job| Job { key: None, dedupe: None, ordered: None, delay: 0, ..job.clone() };
        let mut made = Vec::new();
        for job in jobs {
            let id = self.draw_now();
            made.push(self.new_job(&bare(job), id));
        }
        let ask = HandOver {
            namespace: Namespace::default(),
            session: self.sessions[who],
            claim: ClaimId::from_uuid(self.draw()),
            jobs: made.clone(),
        };
        let first = agree(&self.stores, async |store| {
            store.job_hand_over(&ask).await.map(|handed| (handed.enqueued, handed.claimed.jobs))
        })
        .await?;
        let again = agree(&self.stores, async |store| {
            store.job_hand_over(&ask).await.map(|handed| (handed.enqueued, handed.claimed.jobs))
        })
        .await?;
        prop_assert_eq!(&first.0, &again.0, "an answer stays what it was");
        self.watch.count(if again.1.is_empty() { "not handed over" } else { "handed over" });
        self.made.extend(made);
        self.note_claimed(again.1, ask.session)
    }

    async fn begin(&mut self, ago: usize) -> Verdict {
        let Some(Attempt { claimed, session }) = self.attempts.iter().rev().nth(ago).cloned() else {
            return Ok(());
        };
        let batch = [BeginJob { job: job_ref(claimed.job.id), token: claimed.token, session }];
        let begun = agree(&self.stores, async |store| store.job_begin(&batch).await).await?;
        self.watch.count(if begun[0] { "begun" } else { "not begun" });
        Ok(())
    }

    async fn progress(&mut self, ago: usize, far: u8) -> Verdict {
        let Some(Attempt { claimed, .. }) = self.attempts.iter().rev().nth(ago).cloned() else {
            return Ok(());
        };
        let progress = Body::new(far.to_string().into_bytes(), "application/json");
        let batch = [JobProgress { job: job_ref(claimed.job.id), token: claimed.token, progress }];
        let noted = agree(&self.stores, async |store| store.job_progress(&batch).await).await?;
        self.watch.count(if noted[0] { "progress" } else { "no progress" });
        Ok(())
    }

    async fn settle(&mut self, ago: &[usize], how: usize) -> Verdict {
        let mut jobs: Vec<SettleJob> = Vec::new();
        for ago in ago {
            let Some(Attempt { claimed, .. }) = self.attempts.iter().rev().nth(*ago) else { continue };
            if jobs.iter().all(|ask| ask.job.id != claimed.job.id) {
                jobs.push(verdict(claimed, ending(how)));
            }
        }
        let ask = SettleJobs { jobs, finished: Vec::new() };
        let answers = agree(&self.stores, async |store| store.job_settle(&ask).await).await?;
        for (ask, answer) in ask.jobs.iter().zip(answers) {
            self.watch.settled(ask, answer);
        }
        Ok(())
    }

    async fn intervene(&mut self, ago: usize, to: usize, seen: bool, dry_run: bool) -> Verdict {
        let Some(new) = self.made.iter().rev().nth(ago) else { return Ok(()) };
        let to = match to {
            0 | 1 => Move::Cancel,
            2 | 3 => Move::RunNow,
            4 => Move::Done(Some(Body::new(vec![0, 1], "x/y"))),
            _ => Move::Dead,
        };
        let job = job_ref(new.id);
        let found =
            agree(&self.stores, async |store| store.job_lookup(core::slice::from_ref(&job)).await).await?;
        let token = found.rows[0].as_ref().map_or(Token::from_row(1), |row| row.token);
        let ask = MoveJob {
            job,
            token: seen.then_some(token),
            to,
            actor: Owner::new("ops").unwrap(),
            reason: Some("looked at".to_owned()),
            dry_run,
        };
        let moved = agree(&self.stores, async |store| store.job_move(&ask).await).await?;
        self.watch.moved(ask.job.id, &ask.to, moved, dry_run);
        Ok(())
    }

    async fn promote(&mut self, limit: usize) -> Verdict {
        let ordered = self.ordered;
        let promoted = agree(&self.stores, async |store| {
            let mut promoted = store.job_promote(limit).await?;
            promoted.queues.sort();
            // How many steps it takes from due to ready is the store's own affair where keys stand in between.
            if ordered {
                (promoted.moved, promoted.queues) = (0, Vec::new());
            }
            Ok(promoted)
        })
        .await?;
        if promoted.moved > 0 {
            self.watch.count("promoted");
        }
        Ok(())
    }

    async fn keep(&mut self, step: &Step) -> Verdict {
        match *step {
            Step::Promote { limit } => self.promote(if self.ordered { ALL } else { limit }).await?,
            Step::Rescue => {
                let rescued = agree(&self.stores, async |store| {
                    let mut rescued = store.job_rescue(ALL).await?;
                    rescued.jobs.sort_by_key(|rescued| rescued.job.id);
                    Ok(rescued)
                })
                .await?;
                for rescued in rescued.jobs {
                    self.watch.rescued(rescued.job.id, rescued.state);
                }
            }
            Step::Pause { paused } => {
                let (namespace, queue) = (Namespace::default(), Queue::default());
                let actor = Owner::new("ops").unwrap();
                let ask = PauseQueue { namespace, queue, paused, actor, reason: None };
                agree(&self.stores, async |store| store.queue_pause(&ask).await).await?;
            }
            Step::LimitKeys { strict: of_strict, most } => {
                let queue = if of_strict { strict() } else { Queue::default() };
                let (namespace, actor) = (Namespace::default(), Owner::new("ops").unwrap());
                let ask = LimitKeys { namespace, queue: queue.clone(), most, actor };
                agree(&self.stores, async |store| store.queue_limit_keys(&ask).await).await?;
                self.watch.allowed(queue, most);
            }
            Step::Age { secs } => {
                let (namespace, queue) = (Namespace::default(), Queue::default());
                let tuning = Tuning { ageing: secs.map(Duration::from_secs), ..Tuning::default() };
                let ask = TuneQueue { namespace, queue, tuning, actor: Owner::new("ops").unwrap() };
                agree(&self.stores, async |store| store.queue_tune(&ask).await).await?;
                if secs.is_some() {
                    self.watch.count("aged");
                }
            }
            Step::Prune { secs } => {
                let ask = PruneJobs::all(Duration::from_secs(secs), 10_000);
                let pruned = agree(&self.stores, async |store| store.job_prune(&ask).await).await?;
                if pruned.dead > 0 {
                    self.watch.count("forgotten dead");
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Compares the rows, and holds the model's against the invariants.
    async fn compare_rows(&mut self) -> Verdict {
        let asked: Vec<JobRef> = self.made.iter().map(|new| job_ref(new.id)).collect();
        let found = agree(&self.stores, async |store| store.job_lookup(&asked).await).await?;
        for (new, row) in self.made.iter().zip(&found.rows) {
            self.watch.row(new, row.as_ref())?;
        }
        self.watch.together(&found.rows)
    }
}

/// The queue beside the default one.
fn strict() -> Queue {
    Queue::new("strict").unwrap()
}

fn job_ref(id: JobId) -> JobRef {
    JobRef { namespace: Namespace::default(), id }
}

fn ending(how: usize) -> Ending {
    let text = || "because".to_owned();
    match how {
        0..4 => Ending::Done(Some(Body::new(vec![0, 1, 2], "application/octet-stream"))),
        4 => Ending::Failed { error: text(), after: Some(Duration::ZERO) },
        5 => Ending::Failed { error: text(), after: Some(Duration::from_secs(3)) },
        6 => Ending::NotStarted { error: text() },
        7 => Ending::Snoozed(Duration::from_secs(2)),
        8 => Ending::HandedBack,
        9 => Ending::Cancelled(text()),
        10 => Ending::Dead(text()),
        _ => Ending::Uncertain(text()),
    }
}

fn verdict(claimed: &Claimed, ending: Ending) -> SettleJob {
    let job = &claimed.job;
    let (started_at, worker) = (claimed.token.as_timestamp(), Owner::new("worker").unwrap());
    let ended = Ended { token: claimed.token, started_at, worker: worker.clone(), http: None };
    SettleJob {
        job: job_ref(job.id),
        place: job.place,
        fence: claimed.token,
        token: claimed.token,
        started_at,
        worker,
        next: job::end(job.facts(), &ended, ending, started_at, false, 7),
        retain: job.policy.retain,
        parent: claimed.job.parent,
    }
}
