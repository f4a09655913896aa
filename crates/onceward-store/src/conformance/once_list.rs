//! Once: looking up and listing.

use onceward_core::Namespace;
use onceward_core::once::{Ask, Record, Settle, State};

use super::Harness;
use super::kit::*;
use crate::ListOnce;

const ON_TIME: Settle = Settle::Applied { late: false };

/// Two keys in every state; the names say which.
async fn every_state(hand: &Hand, harness: &dyn Harness) {
    for at in 1..=2 {
        hand.begin(&once(format!("uncertain-expired-{at}"))).await;
    }
    harness.advance(TTL).await;
    for at in 1..=2 {
        hand.begin(&once(format!("running-{at}"))).await;
        for (state, ending) in [
            ("done", done("x")),
            ("failed", failed("x")),
            ("released", not_started()),
            ("uncertain", unknown()),
        ] {
            let row = hand.begin(&once(format!("{state}-{at}"))).await;
            assert_eq!(hand.settle(&row, ending).await, ON_TIME);
        }
    }
}

pub async fn o6_a_listing_by_state_counts_expired_claims_as_uncertain(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    every_state(&hand, harness).await;
    for state in State::ALL.iter().copied() {
        let ask = ListOnce { state: Some(state), limit: 100, ..ListOnce::default() };
        let seen = hand.list_once(&ask).await;
        assert!(seen.rows.iter().all(|row| row.state_at(seen.now) == state), "{state}");
        let names: Vec<_> = seen.rows.iter().map(|row| row.key.as_str()).collect();
        let wanted = if state == State::Uncertain { 4 } else { 2 };
        assert_eq!(names.len(), wanted, "{state}: {names:?}");
        assert!(names.iter().all(|name| name.starts_with(state.as_str())), "{state}: {names:?}");
        let ask = ListOnce { prefix: Some("un".to_owned()), ..ask };
        let wanted = if state == State::Uncertain { 4 } else { 0 };
        assert_eq!(hand.list_once(&ask).await.rows.len(), wanted, "filters are joined by and");
    }
    let all = hand.list_once(&ListOnce { limit: 100, ..ListOnce::default() }).await.rows;
    assert_eq!(all.len(), 12);
}

/// Reads a listing page by page.
async fn pages(hand: &Hand, ask: ListOnce) -> Vec<Record> {
    let (mut ask, mut rows) = (ask, Vec::<Record>::new());
    loop {
        let page = hand.list_once(&ask).await.rows;
        assert!(page.len() <= ask.limit);
        let Some(last) = page.last() else { return rows };
        ask.after = Some((last.namespace.clone(), last.key.clone()));
        rows.extend(page);
    }
}

fn name_of(row: &Record) -> (Namespace, String) {
    (row.namespace.clone(), row.key.as_str().to_owned())
}

pub async fn a_listing_of_once_is_paged_in_byte_order_without_gaps(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut wanted = Vec::new();
    for space in ["a", "B", "ä", "a:b"] {
        for text in ["b", "B", "é", "e", "_", "Z", "10", "9", "é2"] {
            let row = hand.begin(&Ask { namespace: namespace(space), ..once(text) }).await;
            wanted.push(name_of(&row));
        }
    }
    wanted.sort();
    for limit in [1, 7, 9, 500] {
        let rows = pages(&hand, ListOnce { limit, ..ListOnce::default() }).await;
        assert_eq!(rows.iter().map(name_of).collect::<Vec<_>>(), wanted, "pages of {limit}");
    }
    let ask = ListOnce { namespace: Some(namespace("a")), limit: 4, ..ListOnce::default() };
    assert_eq!(pages(&hand, ask).await.len(), 9);
}

pub async fn o6_uncertain_keys_are_listed_page_by_page(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    every_state(&hand, harness).await;
    for limit in [1, 3] {
        let rows =
            pages(&hand, ListOnce { state: Some(State::Uncertain), limit, ..ListOnce::default() }).await;
        let names: Vec<_> = rows.iter().map(|row| row.key.as_str()).collect();
        assert_eq!(names, ["uncertain-1", "uncertain-2", "uncertain-expired-1", "uncertain-expired-2"]);
    }
}

pub async fn a_prefix_of_once_keys_is_taken_literally(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    for text in PREFIXED {
        hand.begin(&once(text)).await;
    }
    for (prefix, wanted) in PREFIXES {
        let ask = ListOnce { prefix: Some((*prefix).to_owned()), limit: 100, ..ListOnce::default() };
        let rows = hand.list_once(&ask).await.rows;
        let seen: Vec<_> = rows.iter().map(|row| row.key.as_str()).collect();
        assert_eq!(seen, *wanted, "{prefix:?}");
    }
}

pub async fn a_lookup_answers_in_the_order_asked(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    for text in ["a", "b", "c"] {
        hand.begin(&once(text)).await;
    }
    let names = ["c", "absent", "a", "zz", "b"].map(name);
    let seen = hand.lookup(&names).await;
    let keys: Vec<_> =
        seen.rows.iter().map(|row| row.as_ref().map(|row| row.key.as_str().to_owned())).collect();
    assert_eq!(keys, [Some("c".to_owned()), None, Some("a".to_owned()), None, Some("b".to_owned())]);
    assert!(seen.rows.iter().flatten().all(|row| near(row.claimed_at, seen.now)));
}

pub async fn o5_looking_changes_nothing(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.begin(&once("pay")).await;
    harness.advance(TTL).await;
    let seen = hand.lookup(&[name("pay")]).await;
    let found = only(seen.rows).unwrap();
    assert_eq!(found.state_at(seen.now), State::Uncertain);
    assert_eq!(found.uncertain_since(seen.now), Some(row.expires_at));
    let listed = only(hand.list_once(&ListOnce { limit: 10, ..ListOnce::default() }).await.rows);
    assert_eq!((listed.token, listed.expires_at), (row.token, row.expires_at));
    assert_eq!(hand.settle(&row, done("x")).await, Settle::Applied { late: true });
}
