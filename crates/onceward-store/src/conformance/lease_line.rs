//! Leases: waiting in line, and being woken.

use core::time::Duration;

use onceward_core::lease::Ask;
use tokio::sync::broadcast::Receiver;

use super::Harness;
use super::kit::*;
use crate::Wake;

/// The ask of somebody who stands in line, by its session.
async fn queued(hand: &Hand, ask: Ask, ttl: Duration) -> Ask {
    hand.wait(&ask, true, ttl).await;
    ask
}

pub async fn l11_fair_waiters_are_served_in_their_order(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut holder = hand.grant(&lease("k")).await;
    let mut line = Vec::new();
    for _ in 0..4 {
        line.push(queued(&hand, lease("k"), secs(60)).await);
    }
    for at in 0..line.len() {
        assert!(hand.release(&holder).await);
        for early in line[at + 1..].iter().rev() {
            hand.refused(early).await;
        }
        hand.refused(&lease("k")).await;
        holder = hand.grant(&line[at]).await;
        hand.leave(&line[at]).await;
    }
    assert!(hand.release(&holder).await);
    hand.grant(&lease("k")).await;
}

pub async fn l11_a_place_in_line_has_a_larger_number_than_those_before(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let first = hand.wait(&lease("k"), true, TTL).await;
    let ask = lease("k");
    let second = hand.wait(&ask, true, TTL).await;
    assert!(second.number > first.number);
    assert!(second.fair && second.session == ask.session);
    assert!(near(second.expires_at, first.expires_at));
    let elsewhere = hand.wait(&lease("other"), true, TTL).await;
    assert!(elsewhere.fair);
    hand.grant(&lease("unrelated")).await;
}

pub async fn l11_a_free_key_that_is_promised_shows_no_holder(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let waiter = queued(&hand, lease("k"), secs(60)).await;
    assert_eq!(hand.refused(&lease("k")).await.0, None, "nobody ever held it");
    let row = hand.grant(&waiter).await;
    assert!(hand.release(&row).await);
    assert_eq!(hand.refused(&lease("k")).await.0, None, "the holder before is not in the way");
    let row = hand.grant(&waiter).await;
    assert_eq!(hand.refused(&lease("k")).await.0, Some(row), "this one is");
}

pub async fn l11_a_place_not_asked_for_again_is_given_up(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let holder = hand.grant(&Ask { ttl: secs(60), ..lease("k") }).await;
    let gone = queued(&hand, lease("k"), secs(5)).await;
    let next = queued(&hand, lease("k"), secs(60)).await;
    assert!(hand.release(&holder).await);
    hand.refused(&next).await;
    harness.advance(secs(5)).await;
    let again = hand.wait(&gone, true, secs(60)).await;
    assert!(
        again.number > hand.wait(&next, true, secs(60)).await.number,
        "whoever comes back stands at the end"
    );
    let row = hand.grant(&next).await;
    hand.leave(&next).await;
    assert!(hand.release(&row).await);
    hand.grant(&gone).await;
}

pub async fn l11_asking_again_keeps_the_place(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let holder = hand.grant(&Ask { ttl: secs(60), ..lease("k") }).await;
    let ask = lease("k");
    let first = hand.wait(&ask, true, secs(5)).await;
    let next = queued(&hand, lease("k"), secs(60)).await;
    for _ in 0..3 {
        harness.advance(secs(3)).await;
        let kept = Hand::second(harness).await.wait(&ask, true, secs(5)).await;
        assert_eq!((kept.number, kept.fair), (first.number, true));
        assert!(kept.expires_at > first.expires_at);
    }
    assert!(hand.release(&holder).await);
    hand.refused(&next).await;
    hand.grant(&ask).await;
}

pub async fn l11_whoever_leaves_makes_way(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let first = queued(&hand, lease("k"), secs(60)).await;
    let second = queued(&hand, lease("k"), secs(60)).await;
    hand.refused(&second).await;
    hand.leave(&lease("k")).await;
    hand.refused(&second).await;
    hand.leave(&first).await;
    hand.leave(&first).await;
    hand.grant(&second).await;
}

pub async fn l11_an_unfair_waiter_blocks_nobody(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let ask = lease("k");
    let ticket = hand.wait(&ask, false, secs(60)).await;
    assert!(!ticket.fair);
    let row = hand.grant(&lease("k")).await;
    hand.refused(&ask).await;
    assert!(hand.release(&row).await);
    let fair = queued(&hand, lease("k"), secs(60)).await;
    hand.refused(&ask).await;
    hand.grant(&fair).await;
}

pub async fn l11_lines_of_different_keys_are_apart(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    queued(&hand, lease("k"), secs(60)).await;
    hand.grant(&lease("K")).await;
    hand.grant(&Ask { namespace: namespace("other"), ..lease("k") }).await;
    hand.refused(&lease("k")).await;
}

pub async fn l11_the_line_of_a_counted_lease_is_for_all_places(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    hand.grant(&place("pool", 2)).await;
    let waiter = queued(&hand, place("pool", 2), secs(60)).await;
    hand.refused(&place("pool", 2)).await;
    hand.grant(&waiter).await;
    hand.leave(&waiter).await;
    hand.refused(&place("pool", 2)).await;
}

pub async fn l11_waiting_never_loses_a_grant_already_made(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let ask = lease("k");
    let row = hand.grant(&ask).await;
    queued(&hand, lease("k"), secs(60)).await;
    assert_eq!(hand.grant(&ask).await, row, "the holder finds its own, whoever waits");
    hand.renewed(&row).await;
}

pub async fn l11_waiters_who_come_at_once_are_served_one_by_one(harness: &dyn Harness) {
    let hands = [Hand::of(harness).await.patient(), Hand::second(harness).await.patient()];
    let held = hands[0].grant(&lease("k")).await;
    let waiters = together(16, |at| {
        let hand = hands[at % 2].clone();
        async move {
            let ask = lease("k");
            let ticket = hand.wait(&ask, true, secs(60)).await;
            (ticket.number, ask.session, ask)
        }
    });
    let mut waiters = waiters.await;
    // Two clocks may tell the same microsecond: then the session decides.
    waiters.sort_by_key(|(number, session, _)| (*number, session.as_uuid()));
    assert!(hands[0].release(&held).await);
    for at in 0..waiters.len() {
        for (_, _, later) in &waiters[at + 1..] {
            hands[0].refused(later).await;
        }
        let row = hands[1].grant(&waiters[at].2).await;
        hands[0].leave(&waiters[at].2).await;
        assert!(hands[0].release(&row).await);
    }
}

/// Waits for a hint that concerns `key`.
async fn woken(wakes: &mut Receiver<Wake>, wanted: &str) -> bool {
    let hint = async {
        loop {
            match wakes.recv().await {
                Ok(Wake::Lease(_, key)) if key.as_str() != wanted => {}
                Ok(_) => return true,
                Err(_) => return false,
            }
        }
    };
    tokio::time::timeout(secs(10), hint).await.unwrap_or(false)
}

pub async fn l6_a_release_and_a_break_wake_those_who_wait(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.grant(&lease("k")).await;
    hand.wait(&lease("k"), false, secs(60)).await;
    let mut wakes = hand.store.subscribe();
    assert!(hand.release(&row).await);
    assert!(woken(&mut wakes, "k").await, "by a release");
    hand.grant(&lease("b")).await;
    hand.wait(&lease("b"), false, secs(60)).await;
    hand.break_lease(&name("b"), None).await;
    assert!(woken(&mut wakes, "b").await, "by a break");
}
