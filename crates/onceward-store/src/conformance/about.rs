//! What a store says of itself.

use super::Harness;
use super::kit::*;
use crate::Severity;

pub async fn a_store_says_what_it_can_do(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let can = hand.store.capabilities();
    assert!(can.batches_in_flight >= 1 && !can.poll_interval.is_zero());
    assert_eq!(can.kind, other.store.capabilities().kind);
    assert!(!hand.store.url().is_empty());
    assert!(!hand.store.clock().boot_id().is_empty());
}

pub async fn the_epoch_stands_while_nothing_was_lost(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let epoch = hand.store.epoch();
    let row = hand.begin(&once("pay")).await;
    hand.settle(&row, done("x")).await;
    harness.advance(RETAIN).await;
    assert_eq!(hand.store.epoch(), epoch);
}

pub async fn the_self_check_finds_no_error(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let findings = hand.store.check().await.unwrap();
    assert!(!findings.is_empty());
    for finding in findings {
        assert!(finding.severity < Severity::Error, "{finding:?}");
        assert!(finding.severity > Severity::Ok || finding.code.is_none(), "{finding:?}");
    }
}

pub async fn what_one_process_writes_the_other_sees(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let held = hand.grant(&lease("k")).await;
    other.refused(&lease("k")).await;
    other.renewed(&held).await;
    assert!(other.release(&held).await);
    let mine = other.grant(&lease("k")).await;
    assert!(mine.token > held.token);
    assert_eq!(hand.renew(&held).await, crate::Renew::Lost);
    let row = other.begin(&once("pay")).await;
    hand.existing(&once("pay")).await;
    hand.settle(&row, done("x")).await;
    assert_eq!(other.existing(&once("pay")).await.0.body, Some(body("x")));
}
