//! Keys and namespaces: what is one name and what is another.

use onceward_core::history::{Event, Subject};
use onceward_core::once::Settle;
use onceward_core::{Key, Namespace, lease, once};

use super::Harness;
use super::kit::*;
use crate::KeyRef;

/// Names that meet when joined, folded, trimmed or normalised, but are different.
fn odd_keys() -> Vec<Key> {
    let longest = "x".repeat(255);
    let wide = format!("{}y", "ä".repeat(127));
    let texts = [
        "a",
        "A",
        " a",
        "a ",
        "a  ",
        "á",
        "a\u{301}",
        "ß",
        "ss",
        "ı",
        "i",
        "İ",
        "日本語",
        "🦀",
        "\u{feff}a",
        "\u{200b}",
        "it's",
        "\"quoted\"",
        "`tick`",
        "$1",
        "?1",
        ":name",
        "@p",
        "%",
        "_",
        "\\",
        "\\\\",
        "{schema}",
        "{clock}",
        "'; drop table lease; --",
        "NULL",
        "null",
        "0",
        "00",
        "1e3",
        "-1",
        "a/b",
        "a:b",
        "a,b",
        "(a)",
        "[a]",
        "{a,b}",
        "\u{a0}",
        "\u{e000}",
        "\u{10ffff}",
        "\u{ffff}",
        "true",
        longest.as_str(),
        wide.as_str(),
    ];
    texts.iter().map(key).collect()
}

pub async fn o12_odd_keys_are_kept_apart_as_leases(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let asks: Vec<_> = odd_keys().into_iter().map(|key| lease::Ask { key, ..lease("x") }).collect();
    let mut tokens = Vec::new();
    for ask in &asks {
        let row = hand.grant(ask).await;
        assert_eq!(row.key, ask.key);
        tokens.push(row.token);
    }
    for (ask, token) in asks.iter().zip(tokens) {
        let name = KeyRef { namespace: ask.namespace.clone(), key: ask.key.clone() };
        let row = only(hand.leases(&name).await.rows);
        assert_eq!((&row.key, row.session, row.token), (&ask.key, ask.session, token));
    }
}

pub async fn o12_odd_keys_are_kept_apart_in_one_batch(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let asks: Vec<_> = odd_keys().into_iter().map(|key| once::Ask { key, ..once("x") }).collect();
    let claimed = hand.claim_all(&asks).await;
    for (ask, claimed) in asks.iter().zip(&claimed) {
        let crate::Claimed::Granted(row) = claimed else { panic!("{:?}: {claimed:?}", ask.key) };
        assert_eq!((&row.key, row.session), (&ask.key, ask.session));
        assert_eq!(hand.settle(row, done(ask.key.as_str())).await, Settle::Applied { late: false });
    }
    let names: Vec<_> =
        asks.iter().map(|ask| KeyRef { namespace: ask.namespace.clone(), key: ask.key.clone() }).collect();
    for (ask, row) in asks.iter().zip(hand.lookup(&names).await.rows) {
        assert_eq!(row.unwrap().body, Some(body(ask.key.as_str())));
    }
}

/// Two names that are one string when joined by a colon.
fn joined() -> [KeyRef; 2] {
    [("a", "b:c"), ("a:b", "c")].map(|(space, text)| KeyRef { namespace: namespace(space), key: key(text) })
}

pub async fn o12_a_namespace_and_a_key_never_run_together_as_leases(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut rows = Vec::new();
    for name in joined() {
        let ask = lease::Ask { namespace: name.namespace.clone(), key: name.key.clone(), ..lease("x") };
        rows.push(hand.grant(&ask).await);
    }
    assert!(hand.release(&rows[0]).await);
    hand.renewed(&rows[1]).await;
    let [first, second] = joined();
    assert_eq!(hand.history(Subject::Lease, &first, 10).await.len(), 1);
    assert_eq!(hand.history(Subject::Lease, &second, 10).await.len(), 0);
}

pub async fn o12_a_namespace_and_a_key_never_run_together_as_once(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let [first, second] = joined();
    let ask =
        |name: &KeyRef| once::Ask { namespace: name.namespace.clone(), key: name.key.clone(), ..once("x") };
    let row = hand.begin(&ask(&first)).await;
    assert_eq!(hand.settle(&row, done("of the first")).await, Settle::Applied { late: false });
    let found = hand.lookup(&[second.clone(), first.clone()]).await.rows;
    assert!(found[0].is_none() && found[1].is_some());
    hand.begin(&ask(&second)).await;
    assert_eq!(hand.history(Subject::Once, &first, 10).await[0].entry.event, Event::Done);
    assert!(hand.history(Subject::Once, &second, 10).await.is_empty());
}

pub async fn o12_one_tenant_sees_nothing_of_another(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let spaces: Vec<_> =
        ["t1", "T1", "t1 ", "t", &"n".repeat(128)].iter().map(|text| namespace(text)).collect();
    for (at, space) in spaces.iter().enumerate() {
        let row = hand.begin(&once::Ask { namespace: space.clone(), ..printed("pay", at as u8) }).await;
        let answer = hand.settle(&row, done(space.as_str())).await;
        assert_eq!(answer, Settle::Applied { late: false });
        hand.grant(&lease::Ask { namespace: space.clone(), ..lease("pay") }).await;
    }
    for space in &spaces {
        let (row, _) = hand.existing(&once::Ask { namespace: space.clone(), ..once("pay") }).await;
        assert_eq!((row.body, &row.namespace), (Some(body(space.as_str())), space));
        let ask = crate::ListOnce { namespace: Some(space.clone()), limit: 10, ..Default::default() };
        assert_eq!(only(hand.list_once(&ask).await.rows).namespace, *space);
    }
    assert!(hand.find("pay").await.is_none(), "nothing in the default namespace");
}

pub async fn a_lease_and_a_once_of_one_name_are_two_things(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let held = hand.grant(&lease("k")).await;
    let row = hand.begin(&once("k")).await;
    assert_eq!(hand.settle(&row, done("x")).await, Settle::Applied { late: false });
    hand.renewed(&held).await;
    assert!(hand.release(&held).await);
    assert_eq!(hand.events(Subject::Lease, "k").await, [Event::Claimed, Event::Released]);
    assert_eq!(hand.events(Subject::Once, "k").await, [Event::Claimed, Event::Done]);
}

pub async fn names_of_owners_are_kept_as_they_are(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let long = "ö".repeat(127);
    for (at, text) in ["Zoë's \"host\":1", "日本語", "a\\b%_", long.as_str()].into_iter().enumerate() {
        let key = format!("k{at}");
        let row = hand.grant(&lease::Ask { owner: owner(text), ..lease(&key) }).await;
        assert_eq!(row.owner.as_str(), text);
        assert_eq!(hand.lease_row(&key).await.owner.as_str(), text);
        let row = hand.begin(&once::Ask { owner: owner(text), ..once(&key) }).await;
        assert_eq!(hand.settle(&row, unknown()).await, Settle::Applied { late: false });
        assert_eq!(hand.row(&key).await.owner.as_str(), text);
        assert_eq!(hand.told(Subject::Once, &key).await[0].actor, text);
    }
    assert_eq!(Namespace::default().as_str(), "default");
}
