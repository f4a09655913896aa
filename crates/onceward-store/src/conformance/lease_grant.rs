//! Leases: who gets one, who does not, and what a refused caller is told.

use onceward_core::lease::Standing;

use super::Harness;
use super::kit::*;

pub async fn l2_a_live_lease_is_refused_and_shows_its_holder(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut ask = lease("printer");
    ask.owner = owner("anna");
    ask.metadata = Some("{\"pages\":3}".to_owned());
    let row = hand.grant(&ask).await;
    assert_eq!((row.slot, row.heartbeats, row.released_at, row.hard_expires_at), (0, 0, None, None));
    assert_eq!((row.session, &row.owner, row.ttl), (ask.session, &ask.owner, TTL));
    assert_eq!(row.metadata.as_deref(), Some("{\"pages\":3}"));
    assert_eq!(row.expires_at, row.granted_at.after(TTL));
    let (by, now) = hand.refused(&lease("printer")).await;
    assert_eq!(by, Some(row.clone()));
    assert!(near(now, row.granted_at) && row.standing(now) == Standing::Held);
    assert_eq!(Hand::second(harness).await.lease_row("printer").await, row, "another process sees it");
}

pub async fn l2_an_expired_lease_is_free_by_the_stores_clock(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    hand.grant(&lease("k")).await;
    harness.advance(TTL - secs(1)).await;
    hand.refused(&lease("k")).await;
    harness.advance(secs(1)).await;
    let seen = hand.leases(&name("k")).await;
    assert_eq!(only(seen.rows).standing(seen.now), Standing::Expired);
    hand.grant(&lease("k")).await;
}

pub async fn l1_a_takeover_has_a_larger_token(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut last = hand.grant(&lease("k")).await;
    for round in 0..6 {
        match round % 3 {
            0 => harness.advance(TTL).await,
            1 => assert!(hand.release(&last).await),
            _ => drop(hand.break_lease(&name("k"), None).await),
        }
        let next = hand.grant(&lease("k")).await;
        assert!(next.token > last.token, "{} after {} in round {round}", next.token, last.token);
        last = next;
    }
}
