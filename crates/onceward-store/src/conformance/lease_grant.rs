//! Leases: who gets one, who does not, and what a refused caller is told.

use onceward_core::history::{Event, Subject};
use onceward_core::lease::{Ask, Standing, Watched};
use onceward_core::limits;

use super::Harness;
use super::kit::*;

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

pub async fn l1_tokens_grow_although_the_clock_steps_back(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let first = hand.grant(&lease("k")).await;
    assert!(hand.release(&first).await);
    if !harness.step_back(secs(3600)).await {
        return;
    }
    let second = hand.grant(&lease("k")).await;
    assert!(second.token > first.token);
    assert!(hand.renewed(&second).await.since(second.granted_at) >= TTL, "and the lease works");
}

pub async fn l2_a_live_lease_is_refused_and_shows_its_holder(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut ask = lease("printer");
    ask.owner = owner("anna");
    ask.metadata = Some("{\"pages\":3}".to_owned());
    let row = hand.grant(&ask).await;
    assert_eq!((row.slot, row.heartbeats, row.released_at, row.hard_expires_at), (0, 0, None, None));
    assert_eq!((row.session, &row.owner, row.ttl), (ask.session, &ask.owner, TTL));
    assert_eq!((&row.namespace, &row.key, row.lock_delay), (&ask.namespace, &ask.key, ask.lock_delay));
    assert_eq!(row.metadata.as_deref(), Some("{\"pages\":3}"));
    assert_eq!(row.expires_at, row.granted_at.after(TTL));
    let (by, now) = hand.refused(&lease("printer")).await;
    assert_eq!(by, Some(row.clone()));
    assert!(near(now, row.granted_at) && row.standing(now) == Standing::Held);
    assert_eq!(Hand::second(harness).await.lease_row("printer").await, row, "another process sees it");
}

pub async fn l2_a_refused_ask_changes_nothing(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.grant(&lease("k")).await;
    for _ in 0..10 {
        hand.refused(&lease("k")).await;
    }
    assert_eq!(hand.lease_row("k").await, row);
    assert!(hand.events(Subject::Lease, "k").await.is_empty(), "a live grant has no history yet");
}

pub async fn l2_an_expired_lease_is_free_by_the_stores_clock(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    hand.grant(&lease("k")).await;
    harness.advance(TTL / 2).await;
    hand.refused(&lease("k")).await;
    harness.advance(TTL / 2).await;
    let seen = hand.leases(&name("k")).await;
    assert_eq!(only(seen.rows).standing(seen.now), Standing::Expired);
    hand.grant(&lease("k")).await;
}

pub async fn l2_nothing_of_the_holder_before_is_left(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut ask = lease("k");
    (ask.owner, ask.metadata) = (owner("anna"), Some("hers".to_owned()));
    (ask.hard_ttl, ask.lock_delay) = (Some(secs(60)), secs(1));
    let first = hand.grant(&ask).await;
    hand.renewed(&first).await;
    harness.advance(TTL + secs(1)).await;
    let mut ask = lease("k");
    (ask.owner, ask.ttl) = (owner("ben"), secs(20));
    let row = hand.grant(&ask).await;
    assert_eq!((row.owner.as_str(), row.session, row.heartbeats), ("ben", ask.session, 0));
    assert_eq!((row.metadata.as_ref(), row.hard_expires_at, row.released_at), (None, None, None));
    assert_eq!(
        (row.ttl, row.lock_delay, row.expires_at),
        (secs(20), secs(0), row.granted_at.after(secs(20)))
    );
    assert_eq!(hand.lease_row("k").await, row);
}

pub async fn l6_a_lost_lease_stays_closed_for_its_lock_delay(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.grant(&Ask { lock_delay: secs(20), ..lease("k") }).await;
    harness.advance(TTL + secs(15)).await;
    let (by, now) = hand.refused(&lease("k")).await;
    assert_eq!(by.map(|by| (by.token, by.standing(now))), Some((row.token, Standing::Expired)));
    assert_eq!(hand.renew(&row).await, crate::Renew::Lost, "the delay is not for the holder");
    harness.advance(secs(5)).await;
    hand.grant(&lease("k")).await;
}

pub async fn l6_a_lease_given_back_has_no_lock_delay(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.grant(&Ask { lock_delay: secs(20), ..lease("k") }).await;
    assert!(hand.release(&row).await);
    hand.grant(&Ask { lock_delay: secs(20), ..lease("k") }).await;
    hand.break_lease(&name("k"), None).await;
    let row = hand.grant(&Ask { lock_delay: secs(20), ..lease("k") }).await;
    harness.advance(TTL + secs(1)).await;
    assert!(hand.release(&row).await, "given back late, but given back");
    hand.grant(&lease("k")).await;
}

pub async fn l7_the_same_ask_sent_twice_finds_its_own_grant(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let ask = lease("k");
    let row = hand.grant(&ask).await;
    harness.advance(TTL / 2).await;
    assert_eq!(hand.grant(&ask).await, row, "as it was: not renewed, no new token");
    assert_eq!(Hand::second(harness).await.grant(&ask).await, row, "also over another connection");
    hand.renewed(&row).await;
    assert_eq!(hand.grant(&ask).await.token, row.token);
    assert!(hand.events(Subject::Lease, "k").await.is_empty());
}

pub async fn l7_an_ended_grant_is_not_adopted(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let ask = lease("k");
    let first = hand.grant(&ask).await;
    harness.advance(TTL).await;
    let second = hand.grant(&ask).await;
    assert!(second.token > first.token, "expired");
    assert!(hand.release(&second).await);
    let third = hand.grant(&ask).await;
    assert!(third.token > second.token && third.released_at.is_none(), "given back");
    let events = [Event::Claimed, Event::Expired, Event::Claimed, Event::Released];
    assert_eq!(hand.events(Subject::Lease, "k").await, events);
}

pub async fn l10_the_same_owner_name_never_shares_a_grant(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let row = hand.grant(&lease("k")).await;
    let twin = lease("k");
    assert_eq!(twin.owner, row.owner);
    hand.refused(&twin).await;
    other.refused(&twin).await;
    let mut stolen = row.clone();
    stolen.session = twin.session;
    assert_eq!(other.renew(&stolen).await, crate::Renew::Lost);
    assert_eq!(hand.lease_row("k").await, row);
}

pub async fn l12_contenders_go_by_the_ttl_of_the_row(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.grant(&Ask { ttl: secs(60), ..lease("k") }).await;
    harness.advance(secs(50)).await;
    hand.refused(&Ask { ttl: secs(5), ..lease("k") }).await;
    let until = hand.renewed(&row).await;
    assert!(near(until, row.granted_at.after(secs(110))), "a renewal gives the row's ttl again");
    harness.advance(secs(60)).await;
    hand.grant(&Ask { ttl: secs(5), ..lease("k") }).await;
}

pub async fn l12_the_longest_and_shortest_times_are_kept(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut ask = lease("long");
    (ask.ttl, ask.hard_ttl) = (limits::TTL_MAX, Some(limits::HARD_TTL_MAX));
    ask.lock_delay = limits::LOCK_DELAY_MAX;
    let row = hand.grant(&ask).await;
    assert_eq!((row.ttl, row.lock_delay), (ask.ttl, ask.lock_delay));
    assert_eq!(row.expires_at, row.granted_at.after(limits::TTL_MAX));
    assert_eq!(row.hard_expires_at, Some(row.granted_at.after(limits::HARD_TTL_MAX)));
    let row = hand.grant(&Ask { ttl: limits::TTL_MIN_IN_TESTS, ..lease("short") }).await;
    assert_eq!(row.expires_at, row.granted_at.after(limits::TTL_MIN_IN_TESTS));
    assert_eq!(hand.lease_row("short").await, row);
}

pub async fn n17_a_poisoned_expiry_ends_with_its_ttl_and_not_a_day_later(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.grant(&lease("k")).await;
    if !harness.step_back(secs(86_400)).await {
        return;
    }
    hand.refused(&lease("k")).await;
    let watching = |heartbeats| Some(Watched { token: row.token, heartbeats });
    hand.refused(&Ask { watched: watching(row.heartbeats + 1), ..lease("k") }).await;
    harness.advance(TTL).await;
    let next = hand.grant(&Ask { watched: watching(row.heartbeats), ..lease("k") }).await;
    assert!(next.token > row.token);
    assert_eq!(hand.renew(&row).await, crate::Renew::Lost);
    assert!(hand.leases(&name("k")).await.rows.iter().all(|row| !row.is_poisoned(next.granted_at)));
}

pub async fn n17_a_renewing_holder_is_never_robbed(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.grant(&lease("k")).await;
    let watched = Some(Watched { token: row.token, heartbeats: row.heartbeats });
    hand.refused(&Ask { watched, ..lease("k") }).await;
    if !harness.step_back(secs(86_400)).await {
        return;
    }
    hand.renewed(&row).await;
    harness.advance(TTL / 2).await;
    hand.refused(&Ask { watched, ..lease("k") }).await;
    hand.renewed(&row).await;
    harness.advance(TTL).await;
    hand.grant(&lease("k")).await;
}

pub async fn metadata_is_kept_as_it_is(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let long = "é".repeat(limits::METADATA_BYTES_MAX / 2);
    let texts = ["", "it's \"quoted\" \\ %_ {}", "line\nline\ttab\r\n", "日本語 🦀 \u{202e}", long.as_str()];
    for (at, text) in texts.into_iter().enumerate() {
        let key = format!("k{at}");
        let row = hand.grant(&Ask { metadata: Some(text.to_owned()), ..lease(&key) }).await;
        assert_eq!(row.metadata.as_deref(), Some(text));
        assert_eq!(hand.lease_row(&key).await, row);
    }
}
