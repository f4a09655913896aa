//! Once: who runs, who gets the recorded outcome.

use onceward_core::once::{Settle, State};

use super::Harness;
use super::kit::*;

pub async fn o1_a_first_claim_runs(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let ask = printed("pay-1", 7);
    let row = hand.begin(&ask).await;
    assert_eq!((row.state, row.attempts, row.late), (State::Running, 1, false));
    assert_eq!((row.session, row.fingerprint, row.retain), (ask.session, ask.fingerprint, RETAIN));
    assert_eq!(row.expires_at, row.claimed_at.after(TTL));
    assert_eq!(Hand::second(harness).await.row("pay-1").await, row);
}

pub async fn o3_a_finished_key_is_replayed_byte_for_byte(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.begin(&once("pay-1")).await;
    assert_eq!(hand.settle(&row, done("ok")).await, Settle::Applied { late: false });
    let (seen, now) = hand.existing(&once("pay-1")).await;
    assert_eq!(seen.state_at(now), State::Done);
    assert_eq!((seen.token, seen.body), (row.token, Some(body("ok"))));
}

pub async fn o5_an_expired_claim_is_uncertain_and_not_run_again(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.begin(&once("pay-1")).await;
    harness.advance(TTL).await;
    let (seen, now) = hand.existing(&once("pay-1")).await;
    assert_eq!(seen.state_at(now), State::Uncertain);
    assert_eq!(seen.token, row.token, "its owner may still bring evidence");
}
