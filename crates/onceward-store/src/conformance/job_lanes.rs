//! Queues and lanes: what waits where, pauses, and what makes jobs ready (J15).

use core::time::Duration;

use onceward_core::Queue;
use onceward_core::job::{Ending, New, State};
use tokio::sync::broadcast::Receiver;

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::{QueueRecord, SettledJob, Wake, Want};

async fn queue_of(hand: &Hand, text: &str) -> Option<QueueRecord> {
    hand.queues().await.into_iter().find(|line| line.queue == queue(text))
}

/// W66.
pub async fn a_paused_queue_gives_nothing_until_it_is_resumed(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let worker = Worker::of(&hand).await;
    let created = hand.create_all(&works("mail", 2)).await;
    let elsewhere = hand.create(&New { queue: queue("front"), ..work("mail") }).await;
    let running = worker.take_one("mail").await;
    other.pause("default", true).await;
    let both = [lane("mail"), Want { queue: queue("front"), ..lane("mail") }];
    let claimed = hand.claim_jobs(&worker.wish(&both, ALL)).await.jobs;
    assert_eq!(ids(&claimed), [elsewhere], "other queues go on");
    let late = hand.create(&work("mail")).await;
    let delayed = hand.create(&New { delay: Some(secs(1)), ..work("mail") }).await;
    harness.advance(secs(2)).await;
    hand.promote().await;
    assert!(worker.take("mail", ALL).await.is_empty(), "what is enqueued and promoted waits as well");
    assert_eq!(
        worker.end(&running, succeeded()).await,
        SettledJob::Applied(State::Succeeded),
        "what runs ends"
    );
    other.pause("default", false).await;
    assert_eq!(ids(&worker.take("mail", ALL).await), [created[1], late, delayed]);
}

pub async fn a_pause_is_of_one_queue_in_one_namespace(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    for text in ["Default", "defaul_", "%"] {
        hand.pause(text, true).await;
    }
    let theirs = New { namespace: namespace("theirs"), ..work("mail") };
    hand.create(&theirs).await;
    let mine = hand.create(&work("mail")).await;
    assert_eq!(ids(&worker.take("mail", ALL).await), [mine]);
    hand.pause("default", true).await;
    let wish = crate::ClaimJobs { namespace: namespace("theirs"), ..worker.wish(&[lane("mail")], ALL) };
    assert_eq!(ids(&hand.claim_jobs(&wish).await.jobs), [theirs.id]);
}

pub async fn a_pause_tells_who_and_why(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    hand.pause("unused", true).await;
    let line = queue_of(&other, "unused").await.unwrap();
    assert!(near(line.paused_at.unwrap(), now(&hand).await));
    assert_eq!(line.paused_by, Some(owner("ops")));
    assert_eq!(line.pause_reason.as_deref(), Some("the printer is out of paper"));
    assert_eq!((line.ready, line.later, line.running, line.oldest), (0, 0, 0, None));
    hand.create(&New { queue: queue("unused"), ..work("mail") }).await;
    hand.pause("unused", false).await;
    let line = queue_of(&other, "unused").await.unwrap();
    assert_eq!((line.paused_at, line.paused_by, line.pause_reason), (None, None, None));
}

pub async fn a_queue_tells_what_it_holds(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let seen = now(&hand).await;
    let old = seen.before(secs(600));
    hand.create_all(&works("mail", 4)).await;
    hand.create(&New { run_at: Some(old), priority: -5, ..work("print") }).await;
    hand.create_all(&[
        New { delay: Some(secs(60)), ..work("later") },
        New { queue: queue("a-front"), ..work("mail") },
        New { namespace: namespace("theirs"), queue: queue("theirs"), ..work("mail") },
    ])
    .await;
    let claimed = worker.take("mail", 2).await;
    worker.end_all(&claimed[..1], &broken(secs(60))).await;
    let names: Vec<_> = hand.queues().await.into_iter().map(|line| line.queue).collect();
    assert_eq!(names, [queue("a-front"), queue("default")], "by name, and nobody else's");
    let line = queue_of(&hand, "default").await.unwrap();
    assert_eq!((line.ready, line.later, line.running), (3, 2, 1));
    assert_eq!(line.oldest, Some(old));
    for text in ["mail", "print"] {
        assert!(line.kinds.contains(&kind(text)), "{text} waits");
    }
    assert_eq!(line.paused_at, None);
}

pub async fn lanes_are_named_once_however_many_wait(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let named = async |queues: &[Queue]| hand.lanes(queues).await;
    let lane = |text: &str, place: &str| Want { queue: queue(place), limit: 0, ..lane(text) };
    hand.create_all(&works("mail", 30)).await;
    hand.create_all(
        &works("print", 30)
            .into_iter()
            .enumerate()
            .map(|(at, new)| New { priority: i16::try_from(at).unwrap(), ..new })
            .collect::<Vec<_>>(),
    )
    .await;
    hand.create_all(&[
        New { queue: queue("front"), ..work("mail") },
        New { queue: queue("other"), ..work("mail") },
        New { delay: Some(secs(60)), ..work("later") },
        New { namespace: namespace("theirs"), ..work("theirs") },
    ])
    .await;
    let asked = [queue("default"), queue("front"), queue("empty")];
    let wanted = [lane("mail", "default"), lane("print", "default"), lane("mail", "front")];
    assert_eq!(named(&asked).await, wanted);
    hand.pause("default", true).await;
    assert_eq!(named(&asked).await, [lane("mail", "front")], "not those of a paused queue");
    hand.pause("default", false).await;
    let worker = Worker::of(&hand).await;
    worker.take("mail", ALL).await;
    assert_eq!(named(&asked[..1]).await, [lane("print", "default")], "nor what runs");
    harness.advance(TTL).await;
    hand.rescue().await;
    assert_eq!(named(&asked[..1]).await, [lane("print", "default")], "nor what is claimed alone");
}

/// J15: what is due becomes ready, in its order, and no more at a time than asked for.
pub async fn j15_what_is_due_becomes_ready(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let due = |delay| New { delay: Some(secs(delay)), ..work("mail") };
    let batch = [due(40), due(10), due(30), due(20), due(500)];
    let created = hand.create_all(&batch).await;
    harness.advance(secs(60)).await;
    let rows = hand.jobs(&created).await.rows;
    let promoted = hand.store.job_promote(3).await.unwrap();
    assert_eq!(promoted.moved, 3);
    assert!(promoted.next_due.is_some_and(|at| at <= promoted.now), "there is more to do at once");
    assert_eq!(ids(&worker.take("mail", ALL).await), [created[1], created[3], created[2]]);
    let promoted = hand.promote().await;
    assert_eq!((promoted.moved, promoted.next_due), (1, rows[4].as_ref().map(|row| row.run_at)));
    assert!(near(promoted.now, now(&hand).await));
    assert_eq!(ids(&worker.take("mail", ALL).await), [created[0]]);
    assert_eq!(hand.promote().await.moved, 0, "once");
}

/// J15.
pub async fn j15_a_promoted_job_has_its_priority_and_its_place(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let urgent = hand.create(&New { delay: Some(secs(9)), priority: 9, ..work("mail") }).await;
    let early = hand.create(&New { delay: Some(secs(1)), ..work("mail") }).await;
    harness.advance(secs(10)).await;
    let fresh = hand.create(&work("mail")).await;
    hand.promote().await;
    assert_eq!(ids(&worker.take("mail", ALL).await), [urgent, early, fresh]);
}

/// J15: two that look at once promote each job once.
pub async fn j15_jobs_are_promoted_once_however_many_look(harness: &dyn Harness) {
    let hands = [Hand::of(harness).await.patient(), Hand::second(harness).await.patient()];
    let due = |new| New { delay: Some(secs(5)), ..new };
    let created = hands[0].create_all(&works("mail", 300).into_iter().map(due).collect::<Vec<_>>()).await;
    harness.advance(secs(6)).await;
    let moved = together(6, |at| {
        let hand = hands[at % 2].clone();
        async move { hand.promote().await.moved }
    });
    let moved: u64 = moved.await.into_iter().sum::<u64>() + hands[0].promote().await.moved;
    assert_eq!(moved, created.len() as u64);
    let worker = Worker::of(&hands[0]).await;
    assert_eq!(ids(&worker.take("mail", ALL).await), created);
    assert!(worker.take("mail", ALL).await.is_empty());
}

/// J15: what fails again and again is in nobody's way, however urgent it is.
pub async fn j15_a_job_that_always_fails_blocks_no_other(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let poison = hand.create(&New { priority: 1_000, ..work("mail") }).await;
    let others = hand.create_all(&works("mail", 8)).await;
    for (round, other) in others.iter().enumerate() {
        let claimed = worker.take_one("mail").await;
        assert_eq!((claimed.job.id, claimed.job.attempt), (poison, u32::try_from(round).unwrap()));
        worker.end_all(&[claimed], &broken(secs(5))).await;
        let claimed = worker.take_one("mail").await;
        assert_eq!(claimed.job.id, *other, "while it waits for its next attempt");
        worker.end_all(&[claimed], &succeeded()).await;
        harness.advance(secs(6)).await;
        hand.promote().await;
    }
    assert_eq!(hand.job(poison).await.attempt, 8);
}

/// J15: jobs that kill their processes wait apart, and the others do not wait for them (N55).
pub async fn j15_a_job_that_kills_blocks_no_other(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let killer = hand.create(&New { priority: 1_000, ..work("mail") }).await;
    let others = hand.create_all(&works("mail", 5)).await;
    Worker::of(&hand).await.take_one("mail").await;
    harness.advance(TTL).await;
    hand.rescue().await;
    let worker = Worker::of(&hand).await;
    assert_eq!(ids(&worker.take("mail", ALL).await), others);
    assert_eq!(ids(&worker.take_alone("mail").await), [killer]);
}

/// A job that lost a process, and then ended an attempt by itself, is like any other.
pub async fn a_job_is_claimed_alone_until_an_attempt_comes_back(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let id = hand.create(&work("mail")).await;
    Worker::of(&hand).await.take_one("mail").await;
    harness.advance(TTL).await;
    hand.rescue().await;
    let worker = Worker::of(&hand).await;
    let claimed = only(worker.take_alone("mail").await);
    worker.end_all(&[claimed], &Ending::Failed { error: "no".to_owned(), after: Some(Duration::ZERO) }).await;
    harness.advance(TICK).await;
    hand.promote().await;
    assert_eq!(ids(&worker.take("mail", ALL).await), [id]);
}

/// A job that lost a process, and was handed back by the next one, still is what may have killed it (N55).
pub async fn n55_a_job_that_is_handed_back_is_still_claimed_alone(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let keyed = New { ordering_key: Some(key("k")), ..work("mail") };
    for new in [work("mail"), keyed] {
        let id = hand.create(&new).await;
        Worker::of(&hand).await.take_one("mail").await;
        harness.advance(TTL).await;
        hand.rescue().await;
        let worker = Worker::of(&hand).await;
        for _ in 0..2 {
            let claimed = only(worker.take_alone("mail").await);
            worker.end_all(&[claimed], &Ending::HandedBack).await;
            assert!(worker.take("mail", ALL).await.is_empty(), "beside others it could take them with it");
        }
        let claimed = only(worker.take_alone("mail").await);
        assert_eq!((claimed.job.id, claimed.attempt()), (id, 2));
        worker.end_all(&[claimed], &succeeded()).await;
    }
}

/// Whoever waits for something to do sees by one look whether there is anything: jobs that are due, and sessions that
/// have run out.
pub async fn a_look_tells_what_there_is_to_do(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let chores = async || hand.store.job_chores().await.unwrap();
    let seen = chores().await;
    assert_eq!((seen.next_due, seen.arrived, seen.lost), (None, false, false));
    let later = hand.create(&New { delay: Some(secs(60)), ..work("mail") }).await;
    let due = hand.job(later).await.run_at;
    let seen = chores().await;
    assert!(seen.next_due == Some(due) && seen.now < due, "{seen:?}");
    hand.create(&work("mail")).await;
    Worker::of(&hand).await.take_one("mail").await;
    assert!(!chores().await.lost, "it lives");
    harness.advance(TTL).await;
    assert!(chores().await.lost);
    hand.rescue().await;
    assert!(!chores().await.lost);
    harness.advance(secs(60)).await;
    let seen = chores().await;
    assert!(seen.next_due == Some(due) && due <= seen.now, "{seen:?}");
    assert_eq!(hand.promote().await.moved, 1);
    assert_eq!(chores().await.next_due, None);
}

/// A worker that runs until nothing is left for it waits for what is ready, runs, is tried again or is due soon.
pub async fn what_is_outstanding_is_what_a_worker_could_still_run(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let now = Duration::ZERO;
    assert!(!hand.outstanding("mail", &[], now).await);
    hand.create(&New { queue: queue("front"), ..work("mail") }).await;
    hand.create(&New { namespace: namespace("theirs"), ..work("mail") }).await;
    hand.create(&work("fax")).await;
    hand.create(&New { tags: vec![tag("gpu")], ..work("mail") }).await;
    assert!(!hand.outstanding("mail", &["arm"], now).await, "another queue, namespace, kind and tag");
    assert!(hand.outstanding("mail", &["arm", "gpu"], now).await);

    hand.create(&work("mail")).await;
    assert!(hand.outstanding("mail", &[], now).await);
    hand.pause("default", true).await;
    assert!(!hand.outstanding("mail", &["gpu"], now).await, "a paused queue gives nothing");
    hand.pause("default", false).await;
    let claimed = worker.take_one("mail").await;
    hand.pause("default", true).await;
    assert!(hand.outstanding("mail", &[], now).await, "what runs may come back");
    hand.pause("default", false).await;
    worker.end_all(&[claimed], &broken(secs(60))).await;
    assert!(hand.outstanding("mail", &[], now).await, "it is tried again, whenever that is");
    harness.advance(secs(60)).await;
    hand.promote().await;
    let claimed = worker.take_one("mail").await;
    worker.end_all(&[claimed], &Ending::Dead("no such address".to_owned())).await;
    assert!(!hand.outstanding("mail", &[], secs(3600)).await, "dead ones are run no more");
}

pub async fn what_is_due_after_the_horizon_is_not_outstanding(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    hand.create(&New { delay: Some(secs(600)), ..work("mail") }).await;
    assert!(!hand.outstanding("mail", &[], secs(599)).await);
    assert!(hand.outstanding("mail", &[], secs(601)).await);
    let snoozed = hand.create(&work("mail")).await;
    let claimed = worker.take_one("mail").await;
    assert_eq!(claimed.job.id, snoozed);
    worker.end_all(&[claimed], &Ending::Snoozed(secs(3600))).await;
    assert!(
        !hand.outstanding("mail", &[], secs(599)).await,
        "a snoozed job is not tried again, it is due later"
    );

    let line = || New { ordering_key: Some(key("customer:7")), ..work("mail") };
    let first = hand.create(&line()).await;
    hand.create(&line()).await;
    let claimed = worker.take_one("mail").await;
    assert_eq!(claimed.job.id, first);
    worker.end_all(&[claimed], &succeeded()).await;
    assert!(hand.outstanding("mail", &[], Duration::ZERO).await, "the next one of the ordering key");
}

/// Waits for a hint about this queue, or one that may be about anything.
async fn woken(wakes: &mut Receiver<Wake>, wanted: &str) -> bool {
    let hint = async {
        loop {
            match wakes.recv().await {
                Ok(Wake::Lease(..)) => {}
                Ok(Wake::Jobs(_, name)) if name.as_str() != wanted => {}
                Ok(_) => return true,
                Err(_) => return false,
            }
        }
    };
    tokio::time::timeout(secs(10), hint).await.unwrap_or(false)
}

pub async fn workers_are_told_of_jobs_that_have_become_ready(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut wakes = hand.store.subscribe();
    hand.create(&New { queue: queue("front"), ..work("mail") }).await;
    let ready = [(namespace("default"), queue("front")), (namespace("default"), queue("back"))];
    hand.store.job_announce(&ready).await.unwrap();
    assert!(woken(&mut wakes, "front").await && woken(&mut wakes, "back").await);
    hand.store.job_announce(&[]).await.unwrap();
}
