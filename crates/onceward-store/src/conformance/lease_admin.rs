//! Leases: breaking, looking up, listing.

use onceward_core::history::{Event, Subject};
use onceward_core::lease::{Ask, Record, Standing};
use onceward_core::{Namespace, Token};

use super::Harness;
use super::kit::*;
use crate::{Broken, ListLeases, Renew};

fn applied(broken: Broken) -> Vec<Record> {
    match broken {
        Broken::Applied(rows) => rows,
        other => panic!("not broken: {other:?}"),
    }
}

pub async fn l8_a_break_ends_the_grant_that_was_looked_at(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.grant(&lease("k")).await;
    let other = Token::next(Some(row.token), row.granted_at);
    match hand.break_lease(&name("k"), Some(other)).await {
        Broken::Moved(token) => assert_eq!(token, row.token),
        answer => panic!("not moved: {answer:?}"),
    }
    assert_eq!(hand.lease_row("k").await, row, "another token changes nothing");
    assert_eq!(only(applied(hand.break_lease(&name("k"), Some(row.token)).await)), row);
    assert_eq!(hand.renew(&row).await, Renew::Lost);
    assert!(!hand.release(&row).await);
    assert!(hand.grant(&lease("k")).await.token > row.token);
}

pub async fn a_break_of_what_nobody_holds_is_answered_so(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let released = hand.grant(&lease("released")).await;
    assert!(hand.release(&released).await);
    let expired = hand.grant(&lease("expired")).await;
    harness.advance(TTL).await;
    for (key, token) in [
        ("absent", None),
        ("absent", Some(expired.token)),
        ("released", None),
        ("released", Some(released.token)),
        ("expired", None),
        ("expired", Some(expired.token)),
    ] {
        let answer = hand.break_lease(&name(key), token).await;
        assert!(matches!(answer, Broken::NotHeld), "{key}: {answer:?}");
    }
    assert_eq!(hand.events(Subject::Lease, "expired").await, []);
}

pub async fn a_break_is_audited(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.grant(&Ask { owner: owner("anna"), ..lease("k") }).await;
    harness.advance(secs(1)).await;
    applied(hand.break_lease(&name("k"), None).await);
    let told = hand.told(Subject::Lease, "k").await;
    assert_eq!(told.len(), 2);
    assert_eq!((told[0].event, told[0].actor.as_str(), told[0].at), (Event::Claimed, "anna", row.granted_at));
    assert_eq!((told[1].event, told[1].actor.as_str()), (Event::Broken, "ops"));
    assert_eq!((told[1].reason.as_deref(), told[1].token), (Some("its host burns"), row.token));
    assert!(near(told[1].at, row.granted_at.after(secs(1))));
}

pub async fn a_break_without_a_token_ends_every_place(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut rows = Vec::new();
    for _ in 0..4 {
        rows.push(hand.grant(&place("pool", 4)).await);
    }
    let one = applied(hand.break_lease(&name("pool"), Some(rows[2].token)).await);
    assert_eq!(one, [rows[2].clone()]);
    assert!(hand.release(&rows[0]).await);
    let mut rest = applied(hand.break_lease(&name("pool"), None).await);
    rest.sort_by_key(|row| row.slot);
    assert_eq!(rest, [rows[1].clone(), rows[3].clone()]);
    let seen = hand.leases(&name("pool")).await;
    assert!(seen.rows.iter().all(|row| row.standing(seen.now) == Standing::Released));
}

pub async fn a_lookup_shows_every_place_in_order(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    assert!(hand.leases(&name("pool")).await.rows.is_empty(), "absent");
    let mut rows = Vec::new();
    for _ in 0..12 {
        rows.push(hand.grant(&place("pool", 12)).await);
    }
    hand.grant(&lease("pool2")).await;
    rows.sort_by_key(|row| row.slot);
    assert_eq!(hand.leases(&name("pool")).await.rows, rows);
}

/// Reads a listing page by page.
async fn pages(hand: &Hand, ask: ListLeases) -> Vec<Record> {
    let (mut ask, mut rows) = (ask, Vec::<Record>::new());
    loop {
        let page = hand.list_leases(&ask).await.rows;
        assert!(page.len() <= ask.limit);
        let Some(last) = page.last() else { return rows };
        ask.after = Some((last.namespace.clone(), last.key.clone(), last.slot));
        rows.extend(page);
    }
}

fn place_of(row: &Record) -> (Namespace, String, u32) {
    (row.namespace.clone(), row.key.as_str().to_owned(), row.slot)
}

pub async fn a_listing_is_paged_in_byte_order_without_gaps(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut wanted = Vec::new();
    for space in ["a", "B", "ä", "a:b", "z"] {
        for text in ["b", "B", "é", "e", "_", "Z", "10", "9"] {
            let row = hand.grant(&Ask { namespace: namespace(space), ..lease(text) }).await;
            wanted.push(place_of(&row));
        }
        for _ in 0..3 {
            let row = hand.grant(&Ask { namespace: namespace(space), ..place("pool", 3) }).await;
            wanted.push(place_of(&row));
        }
    }
    wanted.sort();
    for limit in [1, 7, 11, 500] {
        let rows = pages(&hand, ListLeases { limit, ..ListLeases::default() }).await;
        assert_eq!(rows.iter().map(place_of).collect::<Vec<_>>(), wanted, "pages of {limit}");
    }
    let ask = ListLeases { namespace: Some(namespace("a")), limit: 4, ..ListLeases::default() };
    let rows = pages(&hand, ask).await;
    assert_eq!(rows.len(), 11);
    assert!(rows.iter().all(|row| row.namespace.as_str() == "a"));
}

pub async fn a_listing_starts_after_rows_that_are_gone(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    for text in ["a", "c"] {
        hand.grant(&lease(text)).await;
    }
    let after = |key_text: &str, slot| ListLeases {
        after: Some((Namespace::default(), key(key_text), slot)),
        limit: 10,
        ..ListLeases::default()
    };
    for (ask, count) in [(after("b", 7), 1), (after("a", 0), 1), (after("a", 3), 1), (after("c", 0), 0)] {
        assert_eq!(hand.list_leases(&ask).await.rows.len(), count, "{ask:?}");
    }
}

pub async fn a_prefix_is_taken_literally(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    for text in PREFIXED {
        hand.grant(&lease(text)).await;
    }
    for (prefix, wanted) in PREFIXES {
        let ask = ListLeases { prefix: Some((*prefix).to_owned()), limit: 100, ..ListLeases::default() };
        let rows = hand.list_leases(&ask).await.rows;
        let seen: Vec<_> = rows.iter().map(|row| row.key.as_str()).collect();
        assert_eq!(seen, *wanted, "{prefix:?}");
    }
    let ask = ListLeases { prefix: Some(String::new()), limit: 100, ..ListLeases::default() };
    assert_eq!(hand.list_leases(&ask).await.rows.len(), PREFIXED.len());
}

pub async fn a_listing_tells_held_released_and_expired_apart(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    hand.grant(&lease("expired-1")).await;
    hand.grant(&Ask { lock_delay: secs(100), ..lease("expired-2") }).await;
    harness.advance(TTL).await;
    hand.grant(&lease("held-1")).await;
    let released = hand.grant(&lease("released-1")).await;
    assert!(hand.release(&released).await);
    hand.grant(&lease("released-2")).await;
    hand.break_lease(&name("released-2"), None).await;
    let all = [
        (Standing::Expired, vec!["expired-1", "expired-2"]),
        (Standing::Held, vec!["held-1"]),
        (Standing::Released, vec!["released-1", "released-2"]),
    ];
    for (standing, wanted) in all {
        let ask = ListLeases { standing: Some(standing), limit: 100, ..ListLeases::default() };
        let seen = hand.list_leases(&ask).await;
        assert!(seen.rows.iter().all(|row| row.standing(seen.now) == standing));
        let seen: Vec<_> = seen.rows.iter().map(|row| row.key.as_str()).collect();
        assert_eq!(seen, wanted);
        let ask = ListLeases { prefix: Some("re".to_owned()), ..ask };
        let wanted = wanted.iter().filter(|key| key.starts_with("re")).count();
        assert_eq!(hand.list_leases(&ask).await.rows.len(), wanted, "filters are joined by and");
    }
}
