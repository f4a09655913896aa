//! Leases with several holders.

use std::collections::BTreeSet;

use onceward_core::history::{Event, Subject};
use onceward_core::lease::Ask;

use super::Harness;
use super::kit::*;
use crate::{Acquired, Renew};

pub async fn l2_a_counted_lease_has_n_holders_and_not_one_more(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut rows = Vec::new();
    for _ in 0..5 {
        rows.push(hand.grant(&place("pool", 5)).await);
        harness.advance(TICK).await;
    }
    hand.refused(&place("pool", 5)).await;
    let slots: BTreeSet<_> = rows.iter().map(|row| row.slot).collect();
    assert_eq!(slots, (0..5).collect::<BTreeSet<_>>());
    assert_eq!(hand.leases(&name("pool")).await.rows.len(), 5);
}

pub async fn l1_tokens_grow_over_all_places(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut last = None;
    for round in 0..12 {
        let row = hand.grant(&place("pool", 4)).await;
        assert!(last.is_none_or(|last| row.token > last), "round {round}");
        last = Some(row.token);
        if round >= 3 {
            let oldest = hand.leases(&name("pool")).await.rows;
            let oldest = oldest.iter().filter(|row| row.released_at.is_none()).min_by_key(|row| row.token);
            assert!(hand.release(oldest.unwrap()).await);
        }
    }
}

pub async fn l1_tokens_grow_when_there_are_fewer_places(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut rows = Vec::new();
    for _ in 0..3 {
        rows.push(hand.grant(&place("pool", 3)).await);
    }
    for row in &rows {
        assert!(hand.release(row).await);
    }
    let next = hand.grant(&lease("pool")).await;
    assert_eq!(next.slot, 0);
    assert!(rows.iter().all(|row| next.token > row.token), "the tokens of places no longer used count");
}

pub async fn l2_a_free_place_is_used_again(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut rows = Vec::new();
    for _ in 0..3 {
        rows.push(hand.grant(&place("pool", 3)).await);
    }
    assert!(hand.release(&rows[1]).await);
    let row = hand.grant(&place("pool", 3)).await;
    assert_eq!(row.slot, rows[1].slot);
    assert!(row.token > rows[2].token);
    hand.refused(&place("pool", 3)).await;
}

pub async fn l2_a_full_lease_shows_the_place_that_is_free_first(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    hand.grant(&Ask { ttl: secs(60), ..place("pool", 3) }).await;
    let soonest = hand.grant(&Ask { ttl: secs(20), ..place("pool", 3) }).await;
    hand.grant(&Ask { ttl: secs(10), lock_delay: secs(30), ..place("pool", 3) }).await;
    let (by, _) = hand.refused(&place("pool", 3)).await;
    assert_eq!(by.map(|row| row.token), Some(soonest.token));
}

pub async fn l2_every_place_expires_on_its_own(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let lost = hand.grant(&place("pool", 2)).await;
    let kept = hand.grant(&place("pool", 2)).await;
    harness.advance(TTL - secs(4)).await;
    hand.renewed(&kept).await;
    harness.advance(secs(4)).await;
    let next = hand.grant(&place("pool", 2)).await;
    assert_eq!(next.slot, lost.slot);
    hand.refused(&place("pool", 2)).await;
    assert_eq!(hand.renew(&lost).await, Renew::Lost);
    hand.renewed(&kept).await;
    assert_eq!(hand.events(Subject::Lease, "pool").await, [Event::Claimed, Event::Expired]);
}

pub async fn l3_a_place_is_renewed_and_given_back_for_itself(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let one = hand.grant(&place("pool", 2)).await;
    let two = hand.grant(&place("pool", 2)).await;
    let mut crossed = one.clone();
    crossed.slot = two.slot;
    assert_eq!(hand.renew(&crossed).await, Renew::Lost);
    assert!(hand.release(&one).await);
    assert_eq!(hand.renew(&one).await, Renew::Lost);
    hand.renewed(&two).await;
}

pub async fn l7_the_same_session_never_takes_a_second_place(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let first = hand.grant(&place("pool", 3)).await;
    let ask = place("pool", 3);
    let row = hand.grant(&ask).await;
    assert!(hand.release(&first).await, "a lower place is free now");
    assert_eq!(hand.grant(&ask).await, row);
    assert_eq!(Hand::second(harness).await.grant(&ask).await, row);
    assert_eq!(hand.leases(&name("pool")).await.rows.len(), 2);
}

pub async fn l2_everybody_grabs_at_once_and_n_hold(harness: &dyn Harness) {
    let hands = [Hand::of(harness).await.patient(), Hand::second(harness).await.patient()];
    let answers = together(24, |at| {
        let hand = hands[at % 2].clone();
        async move { hand.acquire(&place("pool", 6)).await }
    });
    let mut granted = Vec::new();
    for answer in answers.await {
        if let Acquired::Granted(row) = answer {
            granted.push(*row);
        }
    }
    // A caller who collides with another on a place may be sent away; asking again fills what is left.
    while granted.len() < 6 {
        granted.push(hands[0].grant(&place("pool", 6)).await);
    }
    hands[1].refused(&place("pool", 6)).await;
    assert_eq!(granted.len(), 6);
    let slots: BTreeSet<_> = granted.iter().map(|row| row.slot).collect();
    let tokens: BTreeSet<_> = granted.iter().map(|row| row.token).collect();
    assert_eq!((slots.len(), tokens.len()), (6, 6), "no place and no token twice");
    for row in &granted {
        hands[0].renewed(row).await;
    }
}

pub async fn n12_many_places_are_given_out_and_taken_back(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut rows = Vec::new();
    for _ in 0..60 {
        rows.push(hand.grant(&place("pool", 60)).await);
    }
    hand.refused(&place("pool", 60)).await;
    let claims: Vec<_> = rows.iter().map(claim_of).collect();
    let renewed = hand.renew_all(&claims).await;
    assert!(renewed.iter().all(|answer| matches!(answer, Renew::Until(_))));
    for row in &rows {
        assert!(hand.release(row).await);
    }
    assert_eq!(hand.leases(&name("pool")).await.rows.len(), 60, "the places are kept for their tokens");
}
