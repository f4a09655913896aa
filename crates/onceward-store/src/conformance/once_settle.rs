//! Once: recording how it ended; who may, and what stays.

use onceward_core::history::{Event, Subject};
use onceward_core::once::{Ask, Ending, Settle, State};
use onceward_core::{Token, limits};

use super::Harness;
use super::kit::*;

const ON_TIME: Settle = Settle::Applied { late: false };
const LATE: Settle = Settle::Applied { late: true };

fn endings() -> [Ending; 4] {
    [done("other"), failed("other"), not_started(), unknown()]
}

pub async fn o2_a_recorded_outcome_is_never_overwritten(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    for (text, first) in [("d", done("first")), ("f", failed("first")), ("n", not_started())] {
        let row = hand.begin(&once(text)).await;
        assert_eq!(hand.settle(&row, first.clone()).await, ON_TIME);
        let recorded = hand.row(text).await;
        for ending in endings() {
            let wanted = if ending.state() == first.state() { Settle::Already } else { Settle::Stale };
            assert_eq!(hand.settle(&row, ending.clone()).await, wanted, "{text}, then {ending:?}");
        }
        harness.advance(RETAIN / 2).await;
        assert_eq!(hand.settle(&row, unknown()).await, Settle::Stale, "also later");
        assert_eq!(hand.row(text).await, recorded);
        assert_eq!(hand.events(Subject::Once, text).await.len(), 2, "one start, one end");
    }
}

pub async fn o2_another_token_settles_nothing(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.begin(&once("pay")).await;
    for token in [Token::next(Some(row.token), row.claimed_at), Token::from_row(row.token.get() - 1)] {
        for ending in endings() {
            let mut ask = settle_of(&row, ending);
            ask.token = token;
            assert_eq!(hand.settle_all(&[ask]).await, [Settle::Stale]);
        }
    }
    for ending in endings() {
        let mut ask = settle_of(&row, ending);
        ask.key = key("absent");
        assert_eq!(hand.settle_all(&[ask]).await, [Settle::Stale]);
    }
    assert_eq!(hand.row("pay").await, row);
    assert!(hand.find("absent").await.is_none());
}

pub async fn o2_a_replaced_owner_settles_nothing(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let old = hand.begin(&once("pay")).await;
    harness.advance(TTL).await;
    let new = hand.begin(&Ask { restartable: true, ..once("pay") }).await;
    for ending in endings() {
        assert_eq!(hand.settle(&old, ending).await, Settle::Stale);
    }
    assert_eq!(hand.row("pay").await, new);
    assert_eq!(hand.settle(&new, done("mine")).await, ON_TIME);
    assert_eq!(hand.settle(&old, done("his")).await, Settle::Stale);
    assert_eq!(hand.existing(&once("pay")).await.0.body, Some(body("mine")));
}

pub async fn o3_an_outcome_sent_twice_is_recorded_once(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.begin(&once("pay")).await;
    assert_eq!(hand.settle(&row, done("x")).await, ON_TIME);
    let recorded = hand.row("pay").await;
    harness.advance(secs(20)).await;
    assert_eq!(Hand::second(harness).await.settle(&row, done("x")).await, Settle::Already);
    assert_eq!(hand.row("pay").await, recorded);
}

pub async fn o7_evidence_after_the_expiry_is_recorded_as_late(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let cases = [
        ("d", done("x"), State::Done),
        ("f", failed("x"), State::Failed),
        ("n", not_started(), State::Released),
    ];
    for (text, ending, state) in cases {
        let row = hand.begin(&once(text)).await;
        harness.advance(TTL * 2).await;
        assert_eq!(hand.settle(&row, ending).await, LATE, "{text}: nobody had looked");
        let seen = hand.row(text).await;
        assert_eq!((seen.state, seen.late, seen.token), (state, true, row.token));
        assert!(seen.finished_at.is_some_and(|at| near(at, row.claimed_at.after(TTL * 2))));
    }
    assert_eq!(hand.existing(&once("d")).await.0.body, Some(body("x")));
    assert_eq!(hand.events(Subject::Once, "d").await, [Event::Claimed, Event::Done]);
}

pub async fn o7_evidence_wins_over_a_doubt_others_have_seen(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    for (text, ending, state) in [("d", done("x"), State::Done), ("f", failed("x"), State::Failed)] {
        let row = hand.begin(&once(text)).await;
        harness.advance(TTL).await;
        let (seen, now) = hand.existing(&once(text)).await;
        assert_eq!((seen.state_at(now), seen.token), (State::Uncertain, row.token));
        harness.advance(secs(60)).await;
        assert_eq!(hand.settle(&row, ending).await, LATE);
        let (seen, now) = hand.existing(&once(text)).await;
        assert_eq!((seen.state_at(now), seen.late, seen.attempts), (state, true, 1));
        assert_eq!(seen.retain_until, seen.finished_at.map(|at| at.after(RETAIN)));
    }
    let events = [Event::Claimed, Event::Expired, Event::Done];
    assert_eq!(hand.events(Subject::Once, "d").await, events, "the start is told once");
}

pub async fn an_unknown_ending_is_uncertain_at_once(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.begin(&once("pay")).await;
    harness.advance(secs(1)).await;
    assert_eq!(hand.settle(&row, unknown()).await, ON_TIME);
    let (seen, now) = hand.existing(&once("pay")).await;
    assert_eq!((seen.state, seen.state_at(now)), (State::Uncertain, State::Uncertain));
    assert_eq!((seen.token, seen.reason.as_deref()), (row.token, Some("the connection broke")));
    assert_eq!((seen.finished_at, seen.retain_until, seen.body.as_ref()), (None, None, None));
    assert!(seen.uncertain_since(now).is_some_and(|at| near(at, row.claimed_at.after(secs(1)))));
    assert_eq!(hand.settle(&row, Ending::Unknown { reason: "again".to_owned() }).await, Settle::Already);
    assert_eq!(hand.row("pay").await, seen, "the first reason stays");
    assert_eq!(hand.settle(&row, done("found it")).await, ON_TIME, "its own evidence still counts");
    assert_eq!(hand.existing(&once("pay")).await.0.body, Some(body("found it")));
    let events = [Event::Claimed, Event::Uncertain, Event::Done];
    assert_eq!(hand.events(Subject::Once, "pay").await, events);
}

pub async fn o1_not_started_frees_the_key_and_counts_the_attempt(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let first = hand.begin(&once("pay")).await;
    assert_eq!(hand.settle(&first, not_started()).await, ON_TIME);
    let freed = hand.row("pay").await;
    assert_eq!((freed.state, freed.reason.as_deref()), (State::Released, Some("no connection was made")));
    let second = hand.begin(&once("pay")).await;
    assert!(second.token > first.token);
    assert_eq!((second.attempts, second.state, second.reason.as_ref()), (2, State::Running, None));
    assert_eq!(hand.settle(&first, not_started()).await, Settle::Stale);
    assert_eq!(hand.settle(&first, done("x")).await, Settle::Stale);
    assert_eq!(hand.row("pay").await, second);
    let events = [Event::Claimed, Event::NotStarted];
    assert_eq!(hand.events(Subject::Once, "pay").await, events, "the second attempt is still open");
}

pub async fn an_adopted_ask_that_was_marked_not_started_begins_anew(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let ask = once("pay");
    let first = hand.begin(&ask).await;
    assert_eq!(hand.settle(&first, not_started()).await, ON_TIME);
    let second = hand.begin(&ask).await;
    assert!(second.token > first.token && second.attempts == 2);
}

pub async fn long_and_odd_reasons_are_cut_never_refused(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let long = "é".repeat(limits::REASON_BYTES_MAX);
    let reasons = ["", "a\0b", "it's \"x\" \\ %_", "日本\n\u{202e}", long.as_str()];
    for (at, reason) in reasons.into_iter().enumerate() {
        let wanted = onceward_core::once::cut(reason, limits::REASON_BYTES_MAX);
        let ending = |kind: usize| match kind {
            0 => Ending::Failed { body: None, reason: reason.to_owned() },
            1 => Ending::NotStarted { reason: reason.to_owned() },
            _ => Ending::Unknown { reason: reason.to_owned() },
        };
        for kind in 0..3 {
            let text = format!("k{at}-{kind}");
            let row = hand.begin(&once(&text)).await;
            assert_eq!(hand.settle(&row, ending(kind)).await, ON_TIME);
            assert_eq!(hand.row(&text).await.reason.as_ref(), Some(&wanted));
            let told = hand.told(Subject::Once, &text).await;
            assert_eq!(told[1].reason.as_ref(), Some(&wanted));
        }
    }
}
