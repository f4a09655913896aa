//! How many jobs of one ordering key run at the same time is what their queues are set to (J10).
//!
//! As in the cases of one at a time, who may go next is decided when one before has ended, or by the next promotion.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use onceward_core::job::keys::KEY_CONCURRENCY_MAX;
use onceward_core::job::{Claimed, Dedupe, DedupeScope, Ending, Move, New, OnConflict, State};
use onceward_core::{JobId, Namespace, Queue};

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::{ClaimJobs, LimitKeys, QueueRecord, Want};

/// A job of the key in the default queue.
fn reader() -> New {
    New { ordering_key: Some(key("account")), ..work("mail") }
}

/// The same in a queue of its own.
fn writer() -> New {
    New { queue: queue("strict"), ..reader() }
}

async fn allow(hand: &Hand, text: &str, most: u32) {
    let ask = LimitKeys { namespace: Namespace::default(), queue: queue(text), most, actor: owner("ops") };
    hand.ask(|| hand.store.queue_limit_keys(&ask)).await;
}

async fn line_of(hand: &Hand, text: &str) -> Option<QueueRecord> {
    hand.queues().await.into_iter().find(|line| line.queue == queue(text))
}

/// What may run now, of both queues.
async fn next(worker: &Worker) -> Vec<Claimed> {
    worker.hand.promote().await;
    let wants = [lane("mail"), Want { queue: queue("strict"), ..lane("mail") }];
    worker.hand.claim_jobs(&worker.wish(&wants, ALL)).await.jobs
}

pub async fn how_many_of_a_key_run_is_set_and_read(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    assert_eq!(line_of(&hand, "strict").await, None, "who says nothing allows one");
    for most in [KEY_CONCURRENCY_MAX, 3, 1] {
        let before = now(&hand).await;
        allow(&hand, "strict", most).await;
        let line = line_of(&other, "strict").await.unwrap();
        assert_eq!((line.key_concurrency, &line.keys_by), (most, &Some(owner("ops"))));
        assert!(line.keys_at.is_some_and(|at| at >= before && at <= before.after(secs(60))), "{line:?}");
        assert_eq!((line.limits_at, line.held), (None, 0), "that is another thing");
    }
    hand.pause("default", true).await;
    let line = line_of(&hand, "default").await.unwrap();
    assert_eq!((line.key_concurrency, line.keys_at, line.keys_by), (1, None, None));
}

/// J10.
pub async fn j10_as_many_of_a_key_run_as_its_queue_allows(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    allow(&hand, "default", 3).await;
    let created = hand.create_all(&(0..6).map(|_| reader()).collect::<Vec<_>>()).await;
    let other = hand.create(&New { ordering_key: Some(key("other")), ..work("mail") }).await;
    let claimed = next(&worker).await;
    assert_eq!(ids(&claimed), [created[0], created[1], created[2], other], "in their order");
    assert!(next(&worker).await.is_empty(), "the others wait");
    worker.end_all(&claimed[1..2], &succeeded()).await;
    assert_eq!(ids(&next(&worker).await), [created[3]]);
    worker.end_all(&claimed[..1], &Ending::Dead("no".to_owned())).await;
    worker.end_all(&claimed[2..3], &Ending::Cancelled("no".to_owned())).await;
    assert_eq!(ids(&next(&worker).await), created[4..]);
}

/// J10: each namespace has keys and settings of its own.
pub async fn j10_what_a_queue_allows_is_of_its_namespace(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    allow(&hand, "default", 2).await;
    let theirs = || New { namespace: namespace("theirs"), ..reader() };
    hand.create_all(&[reader(), reader(), theirs(), theirs()]).await;
    assert_eq!(next(&worker).await.len(), 2);
    let ask = ClaimJobs { namespace: namespace("theirs"), ..worker.wish(&[lane("mail")], ALL) };
    assert_eq!(hand.claim_jobs(&ask).await.jobs.len(), 1);
}

/// J10: who waits for a retry has its seat, and stands before those behind it.
pub async fn j10_a_job_that_will_be_tried_again_keeps_its_seat(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    allow(&hand, "default", 2).await;
    let created = hand.create_all(&[reader(), reader(), reader(), reader()]).await;
    let first = next(&worker).await;
    worker.end_all(&first[..1], &broken(secs(5))).await;
    assert!(next(&worker).await.is_empty(), "two are on their way");
    worker.end_all(&first[1..], &succeeded()).await;
    assert_eq!(ids(&next(&worker).await), [created[2]]);
    harness.advance(secs(6)).await;
    worker.renew().await;
    let again = next(&worker).await;
    assert_eq!(ids(&again), [created[0]]);
    worker.end_all(&again, &Ending::HandedBack).await;
    let again = next(&worker).await;
    assert_eq!(ids(&again), [created[0]]);
    worker.end_all(&again, &succeeded()).await;
    assert_eq!(ids(&next(&worker).await), [created[3]]);
}

/// J10.
pub async fn j10_more_or_fewer_may_be_allowed_while_jobs_wait_and_run(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let created = hand.create_all(&(0..7).map(|_| reader()).collect::<Vec<_>>()).await;
    let mut running = next(&worker).await;
    assert_eq!(ids(&running), created[..1]);
    allow(&hand, "default", 3).await;
    running.extend(next(&worker).await);
    assert_eq!(ids(&running), created[..3], "at once");
    allow(&hand, "default", 2).await;
    for ended in running.chunks(1).take(1) {
        worker.end_all(ended, &succeeded()).await;
        assert!(next(&worker).await.is_empty(), "what runs goes on, and counts");
    }
    worker.end_all(&running[1..2], &succeeded()).await;
    let fourth = next(&worker).await;
    assert_eq!(ids(&fourth), created[3..4]);
    allow(&hand, "default", 1).await;
    worker.end_all(&running[2..], &succeeded()).await;
    assert!(next(&worker).await.is_empty());
    worker.end_all(&fourth, &succeeded()).await;
    assert_eq!(ids(&next(&worker).await), created[4..5]);
    allow(&hand, "default", KEY_CONCURRENCY_MAX).await;
    assert_eq!(ids(&next(&worker).await), created[5..]);
}

/// J10: a key in several queues. Nobody runs beside a job whose queue allows no other, and nobody overtakes it.
pub async fn j10_of_a_key_in_several_queues_the_strictest_counts(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    allow(&hand, "default", 3).await;
    let batch = [reader(), reader(), writer(), reader(), reader(), reader(), reader()];
    let created = hand.create_all(&batch).await;
    let readers = next(&worker).await;
    assert_eq!(ids(&readers), created[..2], "the one that must be alone is next");
    worker.end_all(&readers[..1], &succeeded()).await;
    assert!(next(&worker).await.is_empty());
    worker.end_all(&readers[1..], &succeeded()).await;
    let alone = next(&worker).await;
    assert_eq!(ids(&alone), created[2..3]);
    worker.end_all(&alone, &succeeded()).await;
    assert_eq!(ids(&next(&worker).await), created[3..6]);
    allow(&hand, "strict", 2).await;
    let last = hand.create(&New { priority: 9, ..writer() }).await;
    assert!(next(&worker).await.is_empty(), "more than two run");
    assert_eq!(hand.states(&[last]).await, [State::Ready]);
}

/// J10, J8.
pub async fn j10_who_waits_behind_a_strict_job_goes_when_that_is_called_off(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    allow(&hand, "default", 2).await;
    let created = hand.create_all(&[reader(), writer(), reader()]).await;
    assert_eq!(ids(&next(&worker).await), created[..1]);
    hand.moved(created[1], Move::Cancel).await;
    assert_eq!(ids(&next(&worker).await), created[2..]);
}

/// J10, J9: the same where it is made due later.
pub async fn j10_who_waits_behind_a_strict_job_goes_when_that_is_pushed_out(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    allow(&hand, "default", 2).await;
    let deduped = |delay: Option<Duration>| {
        let dedupe =
            Dedupe { key: key("writer"), scope: DedupeScope::UntilDone, on_conflict: OnConflict::PushOut };
        New { dedupe: Some(dedupe), delay, ..writer() }
    };
    let created = hand.create_all(&[reader(), deduped(None), reader()]).await;
    assert_eq!(ids(&next(&worker).await), created[..1]);
    hand.enqueue(&deduped(Some(secs(3600)))).await;
    assert_eq!(ids(&next(&worker).await), created[2..]);
    assert_eq!(hand.state(created[1]).await, State::Scheduled);
}

/// J10, J7.
pub async fn j10_rescued_jobs_keep_their_seats(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    allow(&hand, "default", 2).await;
    let created = hand.create_all(&[reader(), reader(), reader()]).await;
    assert_eq!(next(&Worker::of(&hand).await).await.len(), 2);
    harness.advance(TTL).await;
    hand.rescue().await;
    let worker = Worker::of(&hand).await;
    assert!(next(&worker).await.is_empty());
    let mut again = worker.take_alone("mail").await;
    again.extend(worker.take_alone("mail").await);
    assert_eq!(ids(&again), created[..2]);
    assert!(worker.take_alone("mail").await.is_empty());
    worker.end_all(&again[1..], &succeeded()).await;
    assert_eq!(ids(&next(&worker).await), created[2..]);
}

/// J10: a dead one that is run again stands in the line like any other.
pub async fn j10_a_job_that_is_run_again_waits_for_a_seat(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    allow(&hand, "default", 2).await;
    let created = hand.create_all(&[reader(), reader(), reader()]).await;
    let first = next(&worker).await;
    worker.end_all(&first[..1], &Ending::Dead("no".to_owned())).await;
    assert_eq!(ids(&next(&worker).await), created[2..]);
    hand.moved(created[0], Move::RunNow).await;
    assert!(next(&worker).await.is_empty());
    worker.end_all(&first[1..], &succeeded()).await;
    assert_eq!(ids(&next(&worker).await), created[..1]);
}

/// J10: whoever claims, however many at once, and while what is allowed changes.
pub async fn j10_many_claimers_never_run_more_of_a_key_than_allowed(harness: &dyn Harness) {
    let hands = [Hand::of(harness).await.patient(), Hand::second(harness).await.patient()];
    allow(&hands[0], "default", 3).await;
    let batch: Vec<New> = (0..60).map(|at| if at % 7 == 3 { writer() } else { reader() }).collect();
    let created = hands[0].create_all(&batch).await;
    let running = Arc::new(Mutex::new(BTreeMap::<Queue, usize>::new()));
    let done = together(6, |at| {
        let (hand, running) = (hands[at % 2].clone(), running.clone());
        async move {
            let worker = Worker::of(&hand).await;
            let (mut mine, mut empty) = (Vec::<JobId>::new(), 0);
            while empty < 30 {
                if at == 0 {
                    allow(&hand, "default", if empty % 2 == 0 { 3 } else { 2 }).await;
                }
                let claimed = next(&worker).await;
                empty = if claimed.is_empty() { empty + 1 } else { 0 };
                for claimed in &claimed {
                    let mut running = running.lock().unwrap();
                    *running.entry(claimed.job.queue.clone()).or_default() += 1;
                    let of = |text| running.get(&queue(text)).copied().unwrap_or_default();
                    let (strict, all) = (of("strict"), of("strict") + of("default"));
                    assert!(if strict == 0 { all <= 3 } else { all == 1 }, "J10: {running:?} run");
                }
                tokio::time::sleep(TICK).await;
                for claimed in claimed {
                    *running.lock().unwrap().entry(claimed.job.queue.clone()).or_default() -= 1;
                    worker.end_all(core::slice::from_ref(&claimed), &succeeded()).await;
                    mine.push(claimed.job.id);
                }
            }
            mine
        }
    });
    let mut done: Vec<JobId> = done.await.into_iter().flatten().collect();
    let worker = Worker::of(&hands[0]).await;
    for _ in 0..created.len() {
        let rest = next(&worker).await;
        worker.end_all(&rest, &Ending::Done(None)).await;
        done.extend(ids(&rest));
    }
    done.sort();
    assert_eq!(done, created, "each of them once");
}
