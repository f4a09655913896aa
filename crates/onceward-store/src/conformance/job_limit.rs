//! Limits of queues and the permits of sessions (J11): what runs stays within the limit by the store's count, and what
//! starts within the rate by the store's clock.

use core::time::Duration;

use onceward_core::job::New;
use onceward_core::job::limit::{CHUNK_LIFE, Limits};
use onceward_core::{Queue, Timestamp};

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::{AskPermits, ClaimJobs, ClaimedJobs, LimitQueue, Permits, QueueRecord, Want};

fn at_once(concurrency: u32) -> Limits {
    Limits { concurrency: Some(concurrency), ..Limits::default() }
}

fn rate(text: &str, burst: u32) -> Limits {
    Limits { rate: Some(text.parse().unwrap()), burst: Some(burst), ..Limits::default() }
}

/// Limits the default queue, and lets pass the time in which nothing is given.
async fn limit(harness: &dyn Harness, hand: &Hand, limits: Limits) {
    set(hand, limits).await;
    harness.advance(secs(1)).await;
}

async fn set(hand: &Hand, limits: Limits) {
    let ask = LimitQueue {
        namespace: onceward_core::Namespace::default(),
        queue: Queue::default(),
        limits,
        actor: owner("ops"),
    };
    hand.ask(|| hand.store.queue_limit(&ask)).await;
}

async fn queue_line(hand: &Hand) -> QueueRecord {
    hand.queues().await.into_iter().find(|line| line.queue == Queue::default()).unwrap()
}

impl Worker {
    async fn permits(&self, wanted: u32, starts: u32) -> Permits {
        let ask = AskPermits {
            namespace: onceward_core::Namespace::default(),
            queue: Queue::default(),
            session: self.session.id,
            wanted,
            starts,
        };
        only(self.hand.ask(|| self.hand.store.queue_permits(core::slice::from_ref(&ask))).await)
    }

    /// What a claim of these lanes says that comes with permits.
    fn permitted(&self, wants: &[Want], limit: usize) -> ClaimJobs {
        ClaimJobs { permitted: true, ..self.wish(wants, limit) }
    }

    async fn take_permitted(&self, text: &str, limit: usize) -> ClaimedJobs {
        self.hand.claim_jobs(&self.permitted(&[lane(text)], limit)).await
    }
}

pub async fn limits_are_set_read_and_lifted(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let limits = Limits { concurrency: Some(3), ..rate("100/1m", 7) };
    set(&hand, limits).await;
    other.pause("default", true).await;
    let line = queue_line(&other).await;
    assert_eq!((line.limits, line.held), (limits, 0));
    assert_eq!(line.limits_by, Some(owner("ops")));
    assert!(line.limits_at.is_some_and(|at| near(at, line.paused_at.unwrap())), "{line:?}");
    set(&other, Limits::default()).await;
    let line = queue_line(&hand).await;
    assert_eq!((line.limits, line.limits_at, line.limits_by), (Limits::default(), None, None));
    assert!(line.paused_at.is_some(), "a pause is another thing");
    let worker = Worker::of(&hand).await;
    assert_eq!(worker.permits(5, 5).await, Permits::default(), "a queue without limits has no permits");
}

pub async fn j11_a_limited_queue_gives_nothing_without_a_permit(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    hand.create_all(&works("mail", 3)).await;
    let elsewhere = hand.create(&New { queue: queue("front"), ..work("mail") }).await;
    limit(harness, &hand, at_once(2)).await;
    let both = [lane("mail"), Want { queue: queue("front"), ..lane("mail") }];
    let single = hand.claim_jobs(&worker.wish(&both[..1], ALL)).await;
    assert_eq!((single.jobs.len(), single.limited), (0, vec![Queue::default()]));
    let claimed = hand.claim_jobs(&worker.wish(&both, ALL)).await;
    assert_eq!(claimed.limited, [Queue::default()]);
    assert_eq!(ids(&claimed.jobs), [elsewhere], "other queues go on");
    let claimed = worker.take_permitted("mail", ALL).await;
    assert_eq!((claimed.jobs.len(), claimed.limited), (0, vec![Queue::default()]), "it has not asked yet");
    let permits = worker.permits(5, 0).await;
    assert_eq!((permits.share, permits.held), (2, 2));
    assert!(worker.take("mail", ALL).await.is_empty(), "nor a claim that does not say so");
    let claimed = worker.take_permitted("mail", ALL).await;
    assert_eq!((claimed.jobs.len(), claimed.limited), (2, Vec::new()));
    set(&hand, Limits::default()).await;
    assert_eq!(worker.take("mail", ALL).await.len(), 1, "it is not limited any more");
}

pub async fn j11_a_limited_queue_hands_nothing_over(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    limit(harness, &hand, at_once(2)).await;
    worker.permits(2, 0).await;
    let elsewhere = New { queue: queue("front"), ..work("mail") };
    let jobs = [work("mail"), elsewhere.clone(), work("mail"), work("mail")];
    let handed = hand.hand_over(&worker.handing(&jobs)).await;
    assert_eq!(ids(&handed.claimed.jobs), [elsewhere.id]);
    assert_eq!(worker.take_permitted("mail", ALL).await.jobs.len(), 2, "they wait like others");
}

pub async fn j11_no_more_run_than_the_limit(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let (here, there) = (Worker::of(&hand).await, Worker::of(&other).await);
    hand.create_all(&works("mail", 30)).await;
    limit(harness, &hand, at_once(5)).await;
    assert_eq!(here.permits(8, 0).await.share, 5);
    let mut mine = here.take_permitted("mail", ALL).await.jobs;
    assert_eq!(mine.len(), 5);
    assert_eq!(there.permits(8, 0).await.share, 0, "all are in use");
    assert_eq!(there.take_permitted("mail", ALL).await.jobs.len(), 0);
    here.end_all(&mine.split_off(1), &succeeded()).await;
    assert_eq!(here.take_permitted("mail", 1).await.jobs.len(), 1, "what has ended makes room");
    // Both want as many: the first keeps no more than its part, or what it runs.
    let permits = here.permits(8, 0).await;
    assert!((2..=3).contains(&permits.share), "{permits:?}");
    let theirs = there.permits(8, 0).await;
    assert!(theirs.share >= 2 && permits.held + theirs.held <= 5, "{theirs:?}");
    let claimed = (
        here.take_permitted("mail", ALL).await.jobs.len(),
        there.take_permitted("mail", ALL).await.jobs.len(),
    );
    let line = queue_line(&hand).await;
    assert!(line.running <= 5 && line.held <= 5, "{claimed:?} {line:?}");
    assert_eq!(claimed.1, theirs.share as usize);
}

pub async fn j11_a_permit_is_for_all_lanes_of_its_queue(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let low = New { priority: -1, ..work("mail") };
    let mut batch = works("mail", 3);
    batch.extend(works("post", 3));
    batch.push(low);
    let wanted = hand.create_all(&batch).await;
    let elsewhere = hand.create_all(&[New { queue: queue("front"), ..work("mail") }]).await;
    limit(harness, &hand, at_once(4)).await;
    worker.permits(9, 0).await;
    let wants = [lane("mail"), Want { queue: queue("front"), ..lane("mail") }, lane("post")];
    let claimed = hand.claim_jobs(&worker.permitted(&wants, ALL)).await.jobs;
    let of_queue = claimed.iter().filter(|claimed| claimed.job.queue == Queue::default()).count();
    assert_eq!((of_queue, claimed.len()), (4, 5), "an unlimited queue gives what it has");
    assert_eq!(ids(&claimed), [&wanted[..4], &elsewhere].concat(), "in the order of all of them");
    assert_eq!(hand.claim_jobs(&worker.permitted(&wants, ALL)).await.jobs.len(), 0);
    hand.pause("default", true).await;
    worker.end_all(&claimed, &succeeded()).await;
    assert_eq!(hand.claim_jobs(&worker.permitted(&wants, ALL)).await.jobs.len(), 0, "it is paused");
}

pub async fn j11_what_ran_before_is_counted(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let (here, there) = (Worker::of(&hand).await, Worker::of(&other).await);
    hand.create_all(&works("mail", 9)).await;
    let mut before = here.take("mail", 4).await;
    limit(harness, &hand, at_once(3)).await;
    assert_eq!(there.permits(5, 0).await.share, 0, "more run than may");
    here.end_all(&before.split_off(2), &succeeded()).await;
    assert_eq!(there.permits(5, 0).await.share, 1);
    assert_eq!(there.take_permitted("mail", ALL).await.jobs.len(), 1);
    let permits = here.permits(5, 0).await;
    assert_eq!(permits.held, 2, "what it runs is its own");
    assert_eq!(here.take_permitted("mail", ALL).await.jobs.len(), 0);
    here.end_all(&before, &succeeded()).await;
    there.permits(1, 0).await;
    assert_eq!(here.permits(5, 0).await.share, 2);
    assert_eq!(here.take_permitted("mail", ALL).await.jobs.len(), 2);
    assert_eq!(queue_line(&hand).await.running, 3);
}

pub async fn j11_a_changed_limit_voids_what_was_given(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    hand.create_all(&works("mail", 9)).await;
    limit(harness, &hand, at_once(5)).await;
    worker.permits(5, 0).await;
    let mut running = worker.take_permitted("mail", 3).await.jobs;
    limit(harness, &hand, at_once(2)).await;
    let claimed = worker.take_permitted("mail", ALL).await;
    assert_eq!((claimed.jobs.len(), claimed.limited), (0, vec![Queue::default()]));
    assert_eq!(queue_line(&hand).await.held, 0);
    let permits = worker.permits(5, 0).await;
    assert_eq!((permits.share, permits.held), (2, 3));
    assert!(worker.take_permitted("mail", ALL).await.jobs.is_empty());
    worker.end_all(&running.split_off(1), &succeeded()).await;
    assert_eq!(worker.take_permitted("mail", ALL).await.jobs.len(), 1);
}

pub async fn j11_a_lost_session_keeps_its_permits_until_it_is_rescued(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let lost = Worker::of(&hand).await;
    hand.create_all(&works("mail", 9)).await;
    limit(harness, &hand, at_once(3)).await;
    lost.permits(3, 0).await;
    assert_eq!(lost.take_permitted("mail", 2).await.jobs.len(), 2);
    harness.advance(TTL + secs(1)).await;
    let next = Worker::of(&other).await;
    assert_eq!(next.permits(3, 0).await.share, 0, "its jobs may still be running");
    let gone = lost.permits(3, 0).await;
    assert_eq!((gone.share, gone.limits), (0, at_once(3)), "it gets nothing any more");
    other.rescue().await;
    other.rescue().await;
    assert_eq!(next.permits(3, 0).await.share, 3);
    assert_eq!(lost.take_permitted("mail", ALL).await.jobs.len(), 0, "one that is gone claims nothing");
    assert_eq!(next.take_alone_permitted("mail").await, 1);
    assert_eq!(next.take_permitted("mail", ALL).await.jobs.len(), 2);
}

impl Worker {
    async fn take_alone_permitted(&self, text: &str) -> usize {
        let wish = ClaimJobs { alone: true, ..self.permitted(&[lane(text)], ALL) };
        self.hand.claim_jobs(&wish).await.jobs.len()
    }
}

pub async fn j11_a_closed_session_gives_its_permits_back(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (first, second) = (Worker::of(&hand).await, Worker::of(&hand).await);
    hand.create_all(&works("mail", 3)).await;
    limit(harness, &hand, at_once(1)).await;
    assert_eq!(first.permits(1, 0).await.share, 1);
    assert_eq!(second.permits(1, 0).await.share, 0);
    assert!(first.close().await);
    assert_eq!(queue_line(&hand).await.held, 0);
    harness.advance(secs(4)).await;
    assert_eq!(second.permits(1, 0).await.share, 1);
    assert_eq!(second.take_permitted("mail", ALL).await.jobs.len(), 1);
    assert_eq!(second.permits(0, 0).await.held, 1, "what runs can't be given back");
}

pub async fn j11_starts_stay_within_the_rate(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let workers = [Worker::of(&hand).await, Worker::of(&other).await];
    hand.create_all(&works("mail", 200)).await;
    limit(harness, &hand, rate("20/1s", 10)).await;
    let mut starts: Vec<Timestamp> = Vec::new();
    for round in 0..60_u64 {
        let worker = &workers[usize::from(round % 3 == 0)];
        worker.permits(0, 50).await;
        if round % 7 != 0 {
            let claimed = worker.take_permitted("mail", ALL).await;
            starts.extend(claimed.jobs.iter().map(|_| claimed.now));
        }
        harness.advance(Duration::from_millis(50 + round)).await;
        workers[0].renew().await;
        workers[1].renew().await;
    }
    for from in &starts {
        let window = starts.iter().filter(|at| *at >= from && **at < from.after(secs(1))).count();
        assert!(window <= 30, "{window} started within a second");
    }
    assert!(starts.len() >= 40, "{} started in about five seconds", starts.len());
}

pub async fn j11_a_start_is_spent_once_and_ends_with_its_chunk(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    hand.create_all(&works("mail", 9)).await;
    limit(harness, &hand, rate("1/1h", 3)).await;
    assert_eq!(worker.permits(0, 9).await.starts, 0, "a new limit begins with nothing");
    assert_eq!(worker.take_permitted("mail", ALL).await.jobs.len(), 0);
    limit(harness, &hand, rate("4/1s", 4)).await;
    harness.advance(secs(1)).await;
    assert_eq!(worker.permits(0, 2).await.starts, 2);
    let wish = worker.permitted(&[lane("mail")], 1);
    assert_eq!(hand.claim_jobs(&wish).await.jobs.len(), 1);
    assert_eq!(hand.claim_jobs(&wish).await.jobs.len(), 1, "the same claim again is no other start");
    assert_eq!(worker.take_permitted("mail", ALL).await.jobs.len(), 1);
    assert_eq!(worker.take_permitted("mail", ALL).await.jobs.len(), 0);
    harness.advance(secs(1)).await;
    assert!(worker.permits(0, 2).await.starts >= 1);
    harness.advance(CHUNK_LIFE + secs(1)).await;
    assert_eq!(worker.take_permitted("mail", ALL).await.jobs.len(), 0, "a chunk ends with its time");
}

pub async fn j11_many_ask_and_claim_at_the_same_time(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let hands = [hand.clone().patient(), Hand::second(harness).await.patient()];
    hand.create_all(&works("mail", 60)).await;
    limit(harness, &hand, at_once(4)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..6 {
        let worker = Worker::of(&hands[at % 2]).await;
        tasks.spawn(async move {
            let mut done = 0;
            for _ in 0..25 {
                worker.permits(3, 0).await;
                let jobs = worker.take_permitted("mail", ALL).await.jobs;
                let line = queue_line(&worker.hand).await;
                assert!(line.running <= 4, "J11: {} run", line.running);
                done += jobs.len();
                worker.end_all(&jobs, &succeeded()).await;
            }
            worker.permits(0, 0).await;
            done
        });
    }
    let mut done = 0;
    while let Some(jobs) = tasks.join_next().await {
        done += jobs.unwrap();
    }
    assert!(done > 0, "somebody got something");
    assert_eq!(queue_line(&hand).await.held, 0);
}
