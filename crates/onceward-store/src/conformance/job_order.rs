//! Jobs of one ordering key run one after the other (J10).
//!
//! Who may go next is decided when the one before has ended, or by the next promotion: the cases promote.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use onceward_core::JobId;
use onceward_core::job::{Ending, Move, New, State};

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::SettledJob;

fn of(text: &str) -> New {
    New { ordering_key: Some(key(text)), ..work("mail") }
}

/// What may run now.
async fn next(worker: &Worker) -> Vec<onceward_core::job::Claimed> {
    worker.hand.promote().await;
    worker.take("mail", ALL).await
}

/// J10.
pub async fn j10_one_job_of_a_key_runs_at_a_time(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let created = hand.create_all(&[of("c"), of("c"), of("c")]).await;
    for id in created {
        let claimed = next(&worker).await;
        assert_eq!(ids(&claimed), [id], "in their order");
        assert!(next(&worker).await.is_empty(), "the others wait");
        worker.end_all(&claimed, &succeeded()).await;
    }
    assert!(next(&worker).await.is_empty());
}

/// J10.
pub async fn j10_keys_and_jobs_without_a_key_do_not_wait_for_each_other(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let batch = [of("a"), of("a"), of("A"), of("a "), of("b"), work("mail"), work("mail")];
    let batch: Vec<New> = batch.into_iter().collect();
    let created = hand.create_all(&batch).await;
    hand.create(&New { namespace: namespace("theirs"), ..of("a") }).await;
    let claimed = next(&worker).await;
    let mut taken = ids(&claimed);
    taken.sort();
    assert_eq!(taken, [0, 2, 3, 4, 5, 6].map(|at: usize| created[at]));
    let theirs = crate::ClaimJobs { namespace: namespace("theirs"), ..worker.wish(&[lane("mail")], ALL) };
    assert_eq!(hand.claim_jobs(&theirs).await.jobs.len(), 1);
    worker.end_all(&claimed, &succeeded()).await;
    assert_eq!(ids(&next(&worker).await), [created[1]]);
}

/// J10: a failed one is tried again before those behind it.
pub async fn j10_a_job_that_will_be_tried_again_keeps_those_behind_it_waiting(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let created = hand.create_all(&[of("c"), of("c")]).await;
    for ending in [broken(secs(5)), Ending::Snoozed(secs(5)), Ending::HandedBack] {
        let claimed = next(&worker).await;
        assert_eq!(ids(&claimed), created[..1], "before {ending:?}");
        worker.end_all(&claimed, &ending).await;
        if ending != Ending::HandedBack {
            assert!(next(&worker).await.is_empty(), "after {ending:?}");
        }
        harness.advance(secs(6)).await;
        worker.renew().await;
    }
    worker.end_all(&next(&worker).await, &succeeded()).await;
    assert_eq!(ids(&next(&worker).await), created[1..]);
}

/// J10.
pub async fn j10_every_end_lets_the_next_one_in(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let endings = [
        succeeded(),
        Ending::Dead("no".to_owned()),
        Ending::Cancelled("no".to_owned()),
        Ending::Uncertain("?".to_owned()),
    ];
    let created = hand.create_all(&[of("c"), of("c"), of("c"), of("c"), of("c"), of("c")]).await;
    for (id, ending) in created.iter().zip(&endings) {
        let claimed = next(&worker).await;
        assert_eq!(ids(&claimed), [*id], "before {ending:?}");
        worker.end_all(&claimed, ending).await;
    }
    hand.promote().await;
    hand.moved(created[4], Move::Cancel).await;
    assert_eq!(ids(&next(&worker).await), created[5..], "also after the first in line was called off");
}

/// J10.
pub async fn j10_those_who_wait_go_by_priority_then_by_when_they_were_due(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let seen = now(&hand).await;
    let waiting = |priority, age| New { priority, run_at: Some(seen.before(secs(age))), ..of("c") };
    hand.create(&of("c")).await;
    let first = next(&worker).await;
    let created = hand.create_all(&[waiting(0, 5), waiting(7, 1), waiting(0, 9), waiting(-7, 99)]).await;
    assert!(next(&worker).await.is_empty());
    worker.end_all(&first, &succeeded()).await;
    for at in [1_usize, 2, 0, 3] {
        let claimed = next(&worker).await;
        assert_eq!(ids(&claimed), [created[at]]);
        worker.end_all(&claimed, &succeeded()).await;
    }
}

/// J10, J8.
pub async fn j10_a_job_called_off_in_the_line_is_passed_over(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let created = hand.create_all(&[of("c"), of("c"), of("c")]).await;
    let first = next(&worker).await;
    assert!(matches!(hand.moved(created[1], Move::Cancel).await, State::Ready | State::Scheduled));
    assert_eq!(hand.state(created[0]).await, State::Running);
    assert!(next(&worker).await.is_empty());
    worker.end_all(&first, &succeeded()).await;
    assert_eq!(ids(&next(&worker).await), created[2..]);
}

/// J10, J7: whoever was lost is first again.
pub async fn j10_a_rescued_job_stays_before_those_behind_it(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let created = hand.create_all(&[of("c"), of("c")]).await;
    next(&Worker::of(&hand).await).await;
    harness.advance(TTL).await;
    hand.rescue().await;
    let worker = Worker::of(&hand).await;
    assert!(next(&worker).await.is_empty());
    let claimed = worker.take_alone("mail").await;
    assert_eq!(ids(&claimed), created[..1]);
    worker.end_all(&claimed, &succeeded()).await;
    assert_eq!(ids(&next(&worker).await), created[1..]);
}

/// J10: a dead one that is run again stands in the line like any other.
pub async fn j10_a_job_that_is_run_again_does_not_run_beside_another(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let created = hand.create_all(&[of("c"), of("c")]).await;
    worker.end_all(&next(&worker).await, &Ending::Dead("no".to_owned())).await;
    let second = next(&worker).await;
    assert_eq!(ids(&second), created[1..]);
    hand.moved(created[0], Move::RunNow).await;
    assert!(next(&worker).await.is_empty());
    worker.end_all(&second, &succeeded()).await;
    assert_eq!(ids(&next(&worker).await), created[..1]);
}

/// J10, J15: a long line hides nothing behind it (queues.md 6.4, 13).
pub async fn j10_a_long_line_hides_no_other_job(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let line: Vec<New> = (0..400).map(|_| New { priority: 1_000, ..of("stuck") }).collect();
    hand.create_all(&line).await;
    let first = next(&worker).await;
    assert_eq!(first.len(), 1);
    let other = hand.create_all(&[work("mail"), of("free")]).await;
    assert_eq!(ids(&next(&worker).await), other);
    assert_eq!(worker.end(&first[0], succeeded()).await, SettledJob::Applied(State::Succeeded));
    assert_eq!(next(&worker).await.len(), 1);
}

/// J10: whoever claims, and however many at once.
pub async fn j10_many_claimers_never_run_two_of_a_key(harness: &dyn Harness) {
    let hands = [Hand::of(harness).await.patient(), Hand::second(harness).await.patient()];
    let names = ["a", "b", "c", "d"];
    let batch: Vec<New> = (0..80).map(|at| of(names[at % names.len()])).collect();
    let created = hands[0].create_all(&batch).await;
    let running = Arc::new(Mutex::new(BTreeSet::new()));
    let done = together(6, |at| {
        let (hand, running) = (hands[at % 2].clone(), running.clone());
        async move {
            let worker = Worker::of(&hand).await;
            let (mut mine, mut empty) = (Vec::<JobId>::new(), 0);
            while empty < 20 {
                hand.promote().await;
                let claimed = worker.take("mail", 2).await;
                empty = if claimed.is_empty() { empty + 1 } else { 0 };
                for claimed in &claimed {
                    let key = claimed.job.ordering_key.clone();
                    assert!(running.lock().unwrap().insert(key), "two of a key at once");
                }
                tokio::time::sleep(TICK).await;
                for claimed in claimed {
                    assert!(running.lock().unwrap().remove(&claimed.job.ordering_key));
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
        tokio::time::sleep(Duration::from_micros(10)).await;
    }
    assert_eq!(done.len(), created.len());
    assert_eq!(done.iter().collect::<BTreeSet<_>>(), created.iter().collect());
}
