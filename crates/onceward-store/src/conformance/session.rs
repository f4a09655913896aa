//! Sessions: the only thing of a worker that is renewed, and never revived.

use onceward_core::job::{Ending, Move, Moved, State};
use onceward_core::{Code, Token};

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::{Renew, SessionRef};

fn until(renew: Renew) -> onceward_core::Timestamp {
    match renew {
        Renew::Until(until) => until,
        answer => panic!("not renewed: {answer:?}"),
    }
}

pub async fn a_session_is_what_its_worker_said(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let ask = opening(secs(15));
    let row = hand.open(&ask).await;
    assert_eq!((row.id, &row.owner, row.ttl, &row.about), (ask.id, &ask.owner, ask.ttl, &ask.about));
    assert!((row.draining, row.running) == (false, 0) && row.token > Token::from_row(0));
    assert!(near(row.expires_at, row.started_at.after(ask.ttl)) && near(now(&hand).await, row.started_at));
    let seen = other.session(ask.id).await.unwrap();
    assert_eq!((seen.id, seen.token, &seen.owner, &seen.about), (row.id, row.token, &row.owner, &row.about));
    assert_eq!((seen.started_at, seen.ttl), (row.started_at, row.ttl));
}

pub async fn the_same_session_opened_twice_is_one(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let ask = opening(TTL);
    let row = hand.open(&ask).await;
    harness.advance(secs(1)).await;
    let again = hand.open(&ask).await;
    assert_eq!((again.token, again.started_at), (row.token, row.started_at));
    assert_eq!(hand.sessions().await.len(), 1);
}

/// J7.
pub async fn j7_a_session_that_has_run_out_is_not_opened_again(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let ask = opening(TTL);
    hand.open(&ask).await;
    harness.advance(TTL).await;
    let error = hand.store.session_open(&ask).await.unwrap_err();
    assert_eq!((error.code(), error.is_uncertain()), (Code::SessionLost, false));
}

/// J7.
pub async fn j7_a_session_lives_as_long_as_it_is_renewed(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let mut last = worker.session.expires_at;
    for _ in 0..4 {
        harness.advance(TTL / 2).await;
        let renewed = worker.renew().await;
        assert!(until(renewed.renew) > last && renewed.called_off.is_empty() && !renewed.draining);
        last = until(renewed.renew);
        let seen = hand.session(worker.session.id).await.unwrap();
        assert!(near(seen.expires_at, last) && near(seen.seen_at.after(TTL), last));
    }
    assert_eq!(hand.rescue().await.sessions, 0);
}

/// J7, L3: also where nobody has cleared it away yet.
pub async fn j7_a_session_that_has_run_out_is_not_renewed(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    hand.create(&work("mail")).await;
    worker.take_one("mail").await;
    harness.advance(TTL).await;
    for _ in 0..2 {
        let renewed = worker.renew().await;
        assert_eq!((renewed.renew, renewed.called_off), (Renew::Lost, Vec::new()));
    }
    let rescued = hand.rescue().await;
    assert_eq!((rescued.sessions, rescued.jobs.len()), (1, 1));
    assert_eq!(worker.renew().await.renew, Renew::Lost);
    assert_eq!(hand.session(worker.session.id).await, None);
}

/// J7.
pub async fn j7_a_session_is_renewed_by_its_token(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let me = worker.me();
    let token = Token::from_row(me.token.get() + 1);
    for ask in [SessionRef { token, ..me }, SessionRef { id: session(), ..me }] {
        let renewed = hand.store.session_renew(&ask).await.unwrap();
        assert_eq!(renewed.renew, Renew::Lost);
        assert!(!hand.store.session_close(&ask).await.unwrap());
    }
    until(worker.renew().await.renew);
}

pub async fn a_session_is_closed_once(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, other) = (Worker::of(&hand).await, Worker::of(&hand).await);
    assert!(worker.close().await);
    assert!(!worker.close().await);
    assert_eq!(worker.renew().await.renew, Renew::Lost);
    until(other.renew().await.renew);
    assert_eq!(hand.sessions().await.iter().map(|row| row.id).collect::<Vec<_>>(), [other.session.id]);
}

pub async fn a_drain_is_told_at_the_next_renewal(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let (worker, bystander) = (Worker::of(&hand).await, Worker::of(&hand).await);
    assert!(other.drain(worker.session.id, true).await);
    assert!(worker.renew().await.draining && worker.renew().await.draining);
    assert!(!bystander.renew().await.draining);
    assert!(hand.session(worker.session.id).await.unwrap().draining);
    assert!(other.drain(worker.session.id, false).await);
    assert!(!worker.renew().await.draining);
    assert!(!other.drain(session(), true).await, "there is no such session");
}

pub async fn sessions_are_listed_the_oldest_first_with_what_they_run(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(Worker::of(&hand).await);
        harness.advance(TICK).await;
    }
    hand.create_all(&works("mail", 12)).await;
    for (at, worker) in workers.iter().enumerate().skip(1) {
        worker.take("mail", at).await;
        worker.take("mail", 1).await;
    }
    let own = workers[3].take("mail", 1).await;
    workers[3].end_all(&own, &Ending::HandedBack).await;
    let listed: Vec<_> = hand.sessions().await.into_iter().map(|row| (row.id, row.running)).collect();
    let wanted: Vec<_> = workers.iter().map(|worker| worker.session.id).zip([0, 2, 3, 4]).collect();
    assert_eq!(listed, wanted);
}

/// J8: told at every renewal until it has ended, and to nobody else.
pub async fn j8_a_cancel_is_told_to_the_session_that_runs_the_job(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let (worker, bystander) = (Worker::of(&hand).await, Worker::of(&hand).await);
    let created = hand.create_all(&works("mail", 3)).await;
    let claimed = worker.take("mail", ALL).await;
    hand.create(&work("mail")).await;
    bystander.take_one("mail").await;
    assert!(worker.renew().await.called_off.is_empty());
    for id in &created[..2] {
        assert_eq!(other.intervene(*id, Move::Cancel).await, Moved::Noted);
        assert_eq!(other.intervene(*id, Move::Cancel).await, Moved::Noted, "again");
    }
    for _ in 0..2 {
        let mut told: Vec<_> = worker.renew().await.called_off.into_iter().map(|job| job.id).collect();
        told.sort();
        assert_eq!(told, created[..2]);
    }
    assert!(bystander.renew().await.called_off.is_empty());
    worker.end_all(&claimed[..1], &Ending::Cancelled("it was told to".to_owned())).await;
    worker.end_all(&claimed[1..2], &succeeded()).await;
    assert!(worker.renew().await.called_off.is_empty(), "they have ended");
    assert_eq!(hand.states(&created).await, [State::Cancelled, State::Succeeded, State::Running]);
}
