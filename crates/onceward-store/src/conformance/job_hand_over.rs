//! Jobs that are enqueued and claimed in one stroke.

use core::time::Duration;

use onceward_core::job::{New, State};

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::{Enqueued, SettledJob};

/// J3, J4. It is a claim like any other.
pub async fn j3_j4_what_is_handed_over_runs_under_a_claim(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let urgent = New { priority: 5, ..work("pay") };
    let jobs = [work("mail"), urgent.clone(), work("mail")];
    let handed = hand.hand_over(&worker.handing(&jobs)).await;
    assert_eq!(handed.enqueued, jobs.clone().map(|new| Enqueued::Created(new.id)));
    assert_eq!(ids(&handed.claimed.jobs), [urgent.id, jobs[0].id, jobs[2].id], "in the order of their start");
    for claimed in &handed.claimed.jobs {
        let row = hand.job(claimed.job.id).await;
        assert_eq!((row.state_now(), row.attempt), (State::Running, 0));
        assert!(row.token < claimed.token);
        assert_eq!(onceward_core::job::Record { running: None, ..row }.spec(), claimed.job.spec());
        assert_eq!(claimed.job.run_at, handed.claimed.now);
    }
    assert!(worker.take("mail", ALL).await.is_empty(), "it is in no lane");
    assert_eq!(hand.session(worker.session.id).await.unwrap().running, 3);
    for claimed in &handed.claimed.jobs {
        assert_eq!(worker.end(claimed, succeeded()).await, SettledJob::Applied(State::Succeeded));
    }
    assert!(!hand.outstanding("mail", &[], Duration::ZERO).await);
}

/// J2. The answer was lost, and it is sent again: by then the jobs may have ended.
pub async fn j2_what_is_handed_over_again_is_there_once(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let jobs = works("mail", 3);
    let ask = worker.handing(&jobs);
    let first = hand.hand_over(&ask).await;
    let again = hand.hand_over(&ask).await;
    assert_eq!(again.enqueued, first.enqueued);
    assert_eq!((ids(&again.claimed.jobs), again.claimed.now), (ids(&first.claimed.jobs), first.claimed.now));
    worker.end_all(&first.claimed.jobs[..1], &succeeded()).await;
    assert_eq!(ids(&hand.hand_over(&ask).await.claimed.jobs), ids(&first.claimed.jobs[1..]));
    worker.end_all(&first.claimed.jobs[1..], &succeeded()).await;
    assert!(hand.hand_over(&ask).await.claimed.jobs.is_empty());
    let ids: Vec<_> = jobs.iter().map(|new| new.id).collect();
    assert_eq!(hand.states(&ids).await, [State::Succeeded; 3]);
    assert!(worker.take("mail", ALL).await.is_empty(), "nothing came twice");
}

/// What was enqueued before, by the same id, is not taken from whoever has it.
pub async fn what_was_there_before_is_not_handed_over(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, other) = (Worker::of(&hand).await, Worker::of(&hand).await);
    let (waits, runs, new) = (work("mail"), work("pay"), work("mail"));
    hand.create_all(&[waits.clone(), runs.clone()]).await;
    other.take_one("pay").await;
    let handed = hand.hand_over(&worker.handing(&[waits.clone(), runs.clone(), new.clone()])).await;
    assert_eq!(handed.enqueued, [waits.id, runs.id, new.id].map(Enqueued::Created));
    let taken: Vec<_> = handed.claimed.jobs.iter().map(|claimed| claimed.job.id).collect();
    assert!(!taken.contains(&waits.id) && !taken.contains(&runs.id));
    let left = worker.take("mail", ALL).await;
    let mut all: Vec<_> = taken.into_iter().chain(ids(&left)).collect();
    all.sort();
    assert_eq!(all, [waits.id, new.id], "each of them once");
    assert_eq!(hand.job(runs.id).await.running.unwrap().session, other.session.id);
}

/// W66.
pub async fn a_paused_queue_hands_nothing_over(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    hand.pause("default", true).await;
    let elsewhere = New { queue: queue("front"), ..work("mail") };
    let later = New { delay: Some(secs(60)), ..elsewhere.clone() };
    let later = New { id: job_id(), ..later };
    let paused = work("mail");
    let jobs = [paused.clone(), elsewhere.clone(), later.clone()];
    let handed = hand.hand_over(&worker.handing(&jobs)).await;
    assert_eq!(ids(&handed.claimed.jobs), [elsewhere.id]);
    let states = [State::Ready, State::Running, State::Scheduled];
    assert_eq!(hand.states(&[paused.id, elsewhere.id, later.id]).await, states);
    hand.pause("default", false).await;
    assert_eq!(ids(&worker.take("mail", ALL).await), [paused.id]);
}

/// J7. Its session runs out before anything has ended.
pub async fn j7_what_was_handed_over_is_rescued(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let new = work("mail");
    let handed = hand.hand_over(&worker.handing(core::slice::from_ref(&new))).await;
    harness.advance(TTL).await;
    let rescued = hand.rescue().await;
    assert_eq!(rescued.jobs.iter().map(|rescued| rescued.job.id).collect::<Vec<_>>(), [new.id]);
    assert_eq!(worker.end(&handed.claimed.jobs[0], succeeded()).await, SettledJob::Stale);
    assert_eq!(hand.state(new.id).await, State::Ready);
}
