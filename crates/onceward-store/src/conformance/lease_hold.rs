//! Leases: renewing, giving back, and what a holder who was replaced can no longer do.

use onceward_core::Token;
use onceward_core::history::{Event, Subject};
use onceward_core::lease::{Ask, Standing};

use super::Harness;
use super::kit::*;
use crate::{ClaimRef, ReleaseLease, Renew};

pub async fn a_renewal_is_counted_and_moves_the_expiry(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.grant(&lease("k")).await;
    for beat in 1..=5 {
        harness.advance(TTL - secs(4)).await;
        let until = hand.renewed(&row).await;
        let seen = Hand::second(harness).await.leases(&name("k")).await;
        let now = seen.now;
        let seen = only(seen.rows);
        assert_eq!((seen.expires_at, seen.heartbeats), (until, beat));
        assert!(near(until, now.after(TTL)));
        assert_eq!((seen.token, seen.granted_at, seen.session), (row.token, row.granted_at, row.session));
    }
}

pub async fn l3_renewing_needs_the_token_and_the_session(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.grant(&lease("k")).await;
    let but = |change: &dyn Fn(&mut ClaimRef)| {
        let mut claim = claim_of(&row);
        change(&mut claim);
        claim
    };
    let bad = [
        but(&|claim| claim.token = Token::next(Some(row.token), row.granted_at)),
        but(&|claim| claim.token = Token::from_row(row.token.get() - 1)),
        but(&|claim| claim.session = session()),
        but(&|claim| claim.slot = 1),
        but(&|claim| claim.key = key("K")),
        but(&|claim| claim.namespace = namespace("other")),
    ];
    for claim in bad {
        assert_eq!(hand.renew_all(core::slice::from_ref(&claim)).await, [Renew::Lost], "{claim:?}");
    }
    assert_eq!(hand.lease_row("k").await, row, "nothing was changed");
}

pub async fn l3_an_expired_lease_is_not_revived(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.grant(&lease("k")).await;
    harness.advance(TTL).await;
    assert_eq!(hand.renew(&row).await, Renew::Lost);
    assert_eq!(hand.lease_row("k").await, row, "although nobody took it");
}

pub async fn l3_an_ended_lease_is_not_renewed(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let released = hand.grant(&lease("released")).await;
    assert!(hand.release(&released).await);
    let broken = hand.grant(&lease("broken")).await;
    hand.break_lease(&name("broken"), None).await;
    for row in [&released, &broken] {
        assert_eq!(hand.renew(row).await, Renew::Lost);
        let seen = hand.leases(&name(row.key.as_str())).await;
        assert_eq!(only(seen.rows).standing(seen.now), Standing::Released);
    }
}

pub async fn l3_a_replaced_holder_extends_nobody(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let old = hand.grant(&lease("k")).await;
    harness.advance(TTL).await;
    let new = hand.grant(&lease("k")).await;
    assert_eq!(hand.renew(&old).await, Renew::Lost);
    let mut mixed = old.clone();
    mixed.session = new.session;
    assert_eq!(hand.renew(&mixed).await, Renew::Lost, "the session of one, the token of another");
    assert!(!hand.release(&old).await);
    assert_eq!(hand.lease_row("k").await, new);
    hand.renewed(&new).await;
}

pub async fn l3_the_hard_limit_is_a_ceiling(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.grant(&Ask { hard_ttl: Some(secs(15)), ..lease("k") }).await;
    let limit = row.granted_at.after(secs(15));
    assert_eq!((row.hard_expires_at, row.expires_at), (Some(limit), row.granted_at.after(TTL)));
    harness.advance(secs(7)).await;
    assert_eq!(hand.renewed(&row).await, limit, "clipped");
    harness.advance(secs(4)).await;
    assert_eq!(hand.renewed(&row).await, limit);
    assert_eq!(hand.lease_row("k").await.expires_at, limit);
    harness.advance(secs(4)).await;
    assert_eq!(hand.renew(&row).await, Renew::Lost);
    hand.grant(&Ask { hard_ttl: Some(TTL), ..lease("k") }).await;
}

pub async fn l8_releasing_n_never_frees_n_plus_1(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let old = hand.grant(&lease("k")).await;
    assert!(hand.release(&old).await);
    let new = hand.grant(&lease("k")).await;
    assert!(!hand.release(&old).await, "the delayed second send of a release");
    assert_eq!(hand.lease_row("k").await, new);
    hand.refused(&lease("k")).await;
    assert!(hand.release(&new).await);
}

pub async fn l8_a_release_is_for_one_key_and_one_token(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.grant(&lease("a")).await;
    let others = [hand.grant(&lease("b")).await, {
        hand.grant(&Ask { namespace: namespace("other"), ..lease("a") }).await
    }];
    let with = |token| ReleaseLease { token, ..release_of(&row) };
    let (before, after) = (Token::from_row(row.token.get() - 1), Token::from_row(row.token.get() + 1));
    assert_eq!(hand.release_all(&[with(before)]).await, [false]);
    assert_eq!(hand.release_all(&[with(after)]).await, [false]);
    assert_eq!(
        hand.release_all(&[ReleaseLease { key: key("c"), ..with(row.token) }]).await,
        [false],
        "absent"
    );
    assert!(hand.release(&row).await);
    for other in &others {
        hand.renewed(other).await;
    }
}

pub async fn l8_giving_back_twice_is_answered_no(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.grant(&lease("k")).await;
    assert!(hand.release(&row).await);
    let once = hand.lease_row("k").await;
    harness.advance(secs(1)).await;
    assert!(!hand.release(&row).await);
    assert_eq!(hand.lease_row("k").await, once);
    assert_eq!(hand.events(Subject::Lease, "k").await, [Event::Claimed, Event::Released]);
}

pub async fn l8_late_is_not_too_late_to_give_back(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.grant(&lease("k")).await;
    harness.advance(TTL * 3).await;
    assert!(hand.release(&row).await);
    let seen = hand.lease_row("k").await;
    assert!(seen.released_at.is_some_and(|at| near(at, row.granted_at.after(TTL * 3))));
    assert_eq!(hand.events(Subject::Lease, "k").await, [Event::Claimed, Event::Released], "not expired");
}

pub async fn a_release_keeps_the_row_and_its_reason(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.grant(&lease("k")).await;
    harness.advance(secs(1)).await;
    let ask = ReleaseLease { reason: Some("the loop panicked: 'x'".to_owned()), ..release_of(&row) };
    assert_eq!(hand.release_all(&[ask]).await, [true]);
    let seen = hand.lease_row("k").await;
    assert_eq!((seen.token, &seen.owner, seen.expires_at), (row.token, &row.owner, row.expires_at));
    let told = hand.told(Subject::Lease, "k").await;
    assert_eq!(told[1].reason.as_deref(), Some("the loop panicked: 'x'"));
    assert_eq!(Some(told[1].at), seen.released_at);
}
