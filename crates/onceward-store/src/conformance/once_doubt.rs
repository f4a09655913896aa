//! Once: what nobody knows, who may settle it, and what the first owner can no longer do then.

use onceward_core::history::{Event, Subject};
use onceward_core::once::{Ask, Body, Ending, Record, Resolution, Resolve, Settle, State};
use onceward_core::{Token, limits};

use super::Harness;
use super::kit::*;
use crate::{Claimed, Renew, ResolveOnce};

const ON_TIME: Settle = Settle::Applied { late: false };

fn resolutions() -> [Resolution; 3] {
    [
        Resolution::Done(body("settled")),
        Resolution::Failed { reason: "never paid".to_owned() },
        Resolution::Release,
    ]
}

/// A claim that ran out, seen by nobody yet.
async fn expired(hand: &Hand, harness: &dyn Harness, text: &str) -> Record {
    let row = hand.begin(&once(text)).await;
    harness.advance(TTL).await;
    row
}

pub async fn o5_an_expired_claim_is_uncertain_and_not_run_again(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.begin(&once("pay")).await;
    harness.advance(TTL * 3).await;
    for _ in 0..3 {
        let (seen, now) = hand.existing(&once("pay")).await;
        assert_eq!((seen.state_at(now), seen.token, seen.attempts), (State::Uncertain, row.token, 1));
        assert_eq!(
            seen.uncertain_since(now),
            Some(row.expires_at),
            "since it ran out, not since it was seen"
        );
    }
    assert!(hand.row("pay").await.reason.is_some());
    let told = hand.told(Subject::Once, "pay").await;
    assert_eq!(told.iter().map(|entry| entry.event).collect::<Vec<_>>(), [Event::Claimed, Event::Expired]);
    assert_eq!((told[0].at, told[1].at), (row.claimed_at, row.expires_at));
    assert!(told.iter().all(|entry| entry.token == row.token && entry.actor == row.owner.as_str()));
}

pub async fn o5_only_a_restartable_ask_runs_an_uncertain_key_again(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let first = expired(&hand, harness, "expired").await;
    hand.existing(&once("expired")).await;
    let doubted = hand.doubt("doubted").await;
    for (text, before, ended) in
        [("expired", &first, Event::Expired), ("doubted", &doubted, Event::Uncertain)]
    {
        hand.existing(&once(text)).await;
        let ask = Ask { restartable: true, ..once(text) };
        let row = hand.begin(&ask).await;
        assert!(row.token > before.token && row.session == ask.session);
        assert_eq!((row.attempts, row.state), (2, State::Running));
        assert!(row.inherits_doubt() && row.reason.is_some(), "the first run is in doubt still");
        assert_eq!(row, hand.row(text).await);
        assert_eq!(hand.settle(before, done("too late")).await, Settle::Stale);
        assert_eq!(hand.once_renew(before).await, Renew::Lost);
        assert_eq!(hand.settle(&row, done("second")).await, ON_TIME);
        let events = [Event::Claimed, ended, Event::Restarted, Event::Claimed, Event::Done];
        assert_eq!(hand.events(Subject::Once, text).await, events);
    }
}

pub async fn o5_a_restart_that_does_not_start_leaves_the_doubt_before_it(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let first = expired(&hand, harness, "expired").await;
    hand.existing(&once("expired")).await;
    let doubted = hand.doubt("doubted").await;
    for (text, since) in
        [("expired", first.expires_at), ("doubted", hand.row("doubted").await.uncertain_at.unwrap())]
    {
        let before = hand.row(text).await;
        let row = hand.begin(&Ask { restartable: true, ..once(text) }).await;
        let nothing = Ending::NotStarted { reason: "no funds".to_owned() };
        assert_eq!(hand.settle(&row, nothing.clone()).await, ON_TIME);
        assert_eq!(hand.settle(&row, nothing).await, Settle::Already);
        let seen = hand.row(text).await;
        assert_eq!(
            (seen.state, seen.uncertain_at, seen.reason),
            (State::Uncertain, Some(since), before.reason)
        );
        hand.existing(&once(text)).await;
        // The second run proves nothing, however it ends without an outcome; an outcome ends the doubt.
        let row = hand.begin(&Ask { restartable: true, ..once(text) }).await;
        harness.advance(TTL * 3).await;
        hand.existing(&once(text)).await;
        assert_eq!(hand.row(text).await.uncertain_at, Some(since));
        assert_eq!(hand.settle(&row, done("third")).await, Settle::Applied { late: true });
        let events = hand.events(Subject::Once, text).await;
        let tail = [Event::NotStarted, Event::Restarted, Event::Claimed, Event::Expired, Event::Done];
        assert_eq!(events[events.len() - 5..], tail, "{text}: {events:?}");
    }
    assert!(doubted.token > first.token);
}

pub async fn o5_a_restart_may_be_the_first_to_see_the_expiry(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let first = expired(&hand, harness, "pay").await;
    let row = hand.begin(&Ask { restartable: true, ..once("pay") }).await;
    assert!(row.token > first.token);
    let events = [Event::Claimed, Event::Expired, Event::Restarted];
    assert_eq!(hand.events(Subject::Once, "pay").await, events);
}

pub async fn o6_doubt_never_ends_by_itself(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    hand.doubt("doubted").await;
    expired(&hand, harness, "expired").await;
    for _ in 0..3 {
        harness.advance(limits::RETAIN_MAX).await;
        hand.prune(secs(0)).await;
        for text in ["doubted", "expired"] {
            let (seen, now) = hand.existing(&once(text)).await;
            assert_eq!((seen.state_at(now), seen.attempts), (State::Uncertain, 1), "{text}");
        }
    }
}

pub async fn o6_a_resolution_settles_what_nobody_knows(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    for (at, resolution) in resolutions().into_iter().enumerate() {
        let text = format!("k{at}");
        let row = hand.doubt(&text).await;
        let token = hand.resolved(&resolve_of(&row, resolution.clone())).await;
        assert!(token > row.token);
        let seen = hand.row(&text).await;
        assert_eq!((seen.state, seen.token, seen.attempts), (resolution.state(), token, 1));
        assert_eq!(seen.retain_until, seen.finished_at.map(|at| at.after(RETAIN)));
        assert_eq!(seen.session, row.session);
    }
    let (seen, _) = hand.existing(&once("k0")).await;
    assert_eq!(seen.body, Some(body("settled")));
    let (seen, _) = hand.existing(&once("k1")).await;
    assert_eq!((seen.body, seen.reason.as_deref()), (None, Some("never paid")));
    let again = hand.begin(&once("k2")).await;
    assert_eq!(again.attempts, 2);
    assert!(again.token > hand.row("k1").await.token || again.token > hand.row("k0").await.token);
}

pub async fn o6_an_expired_claim_is_resolved_before_anybody_saw_it(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = expired(&hand, harness, "pay").await;
    let token = hand.resolved(&resolve_of(&row, Resolution::Done(body("found")))).await;
    let (seen, now) = hand.existing(&once("pay")).await;
    assert_eq!((seen.state_at(now), seen.token, seen.body), (State::Done, token, Some(body("found"))));
    let events = [Event::Claimed, Event::Expired, Event::ResolvedDone];
    assert_eq!(hand.events(Subject::Once, "pay").await, events);
}

pub async fn o6_a_resolution_is_audited(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let events = [Event::ResolvedDone, Event::ResolvedFailed, Event::ResolvedReleased];
    for (at, (resolution, event)) in resolutions().into_iter().zip(events).enumerate() {
        let text = format!("k{at}");
        let row = hand.doubt(&text).await;
        harness.advance(secs(1)).await;
        let token = hand.resolved(&resolve_of(&row, resolution)).await;
        let told = hand.told(Subject::Once, &text).await;
        let words: Vec<_> = told.iter().map(|entry| entry.event).collect();
        assert_eq!(words, [Event::Claimed, Event::Uncertain, event]);
        assert_eq!((told[2].actor.as_str(), told[2].reason.as_deref()), ("ops", Some("looked at the bank")));
        assert_eq!((told[2].token, told[1].token), (token, row.token));
    }
}

pub async fn o6_a_dry_run_decides_and_writes_nothing(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = expired(&hand, harness, "pay").await;
    let before = hand.row("pay").await;
    for resolution in resolutions() {
        let ask = ResolveOnce { dry_run: true, ..resolve_of(&row, resolution) };
        assert!(hand.resolved(&ask).await > row.token);
    }
    assert_eq!(hand.row("pay").await, before);
    assert!(hand.events(Subject::Once, "pay").await.is_empty());
    let ask = ResolveOnce {
        dry_run: true,
        token: Some(Token::from_row(1)),
        ..resolve_of(&row, Resolution::Release)
    };
    assert_eq!(hand.resolve(&ask).await, Resolve::Moved(row.token));
    hand.resolved(&resolve_of(&row, Resolution::Release)).await;
}

pub async fn o6_a_resolution_is_for_the_row_that_was_looked_at(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let first = expired(&hand, harness, "pay").await;
    let second = hand.begin(&Ask { restartable: true, ..once("pay") }).await;
    assert_eq!(hand.settle(&second, unknown()).await, ON_TIME);
    let before = hand.row("pay").await;
    let stale = resolve_of(&first, Resolution::Release);
    assert_eq!(hand.resolve(&stale).await, Resolve::Moved(second.token));
    assert_eq!(hand.row("pay").await, before);
    hand.resolved(&ResolveOnce { token: None, ..stale }).await;
}

pub async fn o6_only_uncertain_keys_are_resolved(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let running = hand.begin(&once("running")).await;
    let absent = ResolveOnce { key: key("absent"), ..resolve_of(&running, Resolution::Release) };
    assert_eq!(hand.resolve(&absent).await, Resolve::Absent);
    let mut rows = vec![(running, State::Running)];
    for (text, ending) in [("d", done("x")), ("f", failed("x")), ("n", not_started())] {
        let row = hand.begin(&once(text)).await;
        assert_eq!(hand.settle(&row, ending.clone()).await, ON_TIME);
        rows.push((row, ending.state()));
    }
    for (row, state) in rows {
        let before = hand.row(row.key.as_str()).await;
        for resolution in resolutions() {
            let ask = resolve_of(&row, resolution);
            assert_eq!(hand.resolve(&ask).await, Resolve::NotUncertain(state));
            assert_eq!(hand.resolve(&ResolveOnce { token: None, ..ask }).await, Resolve::NotUncertain(state));
        }
        assert_eq!(hand.row(row.key.as_str()).await, before);
    }
    assert!(hand.find("absent").await.is_none());
}

pub async fn o6_of_two_operators_one_wins(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.doubt("pay").await;
    hand.resolved(&resolve_of(&row, Resolution::Done(body("mine")))).await;
    let second = resolve_of(&row, Resolution::Failed { reason: "no".to_owned() });
    assert_eq!(hand.resolve(&second).await, Resolve::NotUncertain(State::Done));
    assert_eq!(hand.existing(&once("pay")).await.0.body, Some(body("mine")));
}

pub async fn o7_the_first_owner_is_too_late_after_a_resolution(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    for (at, resolution) in resolutions().into_iter().enumerate() {
        let text = format!("k{at}");
        let row = expired(&hand, harness, &text).await;
        hand.resolved(&resolve_of(&row, resolution)).await;
        let settled = hand.row(&text).await;
        for ending in [done("late"), failed("late"), not_started(), unknown()] {
            assert_eq!(hand.settle(&row, ending).await, Settle::Stale);
        }
        assert_eq!(hand.once_renew(&row).await, Renew::Lost);
        assert_eq!(hand.row(&text).await, settled);
    }
}

pub async fn o7_the_first_owner_is_too_late_after_the_run_that_followed(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = expired(&hand, harness, "pay").await;
    hand.resolved(&resolve_of(&row, Resolution::Release)).await;
    let second = hand.begin(&once("pay")).await;
    assert_eq!(hand.settle(&row, done("first")).await, Settle::Stale);
    assert_eq!(hand.settle(&second, done("second")).await, ON_TIME);
    assert_eq!(hand.settle(&row, done("first")).await, Settle::Stale);
    assert_eq!(hand.existing(&once("pay")).await.0.body, Some(body("second")));
}

pub async fn o8_a_resolved_outcome_is_kept_as_long_as_any(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.begin(&Ask { retain: secs(50), ..once("pay") }).await;
    assert_eq!(hand.settle(&row, unknown()).await, ON_TIME);
    harness.advance(secs(500)).await;
    let token = hand.resolved(&resolve_of(&row, Resolution::Done(body("x")))).await;
    harness.advance(secs(45)).await;
    hand.existing(&once("pay")).await;
    harness.advance(secs(5)).await;
    assert!(hand.begin(&once("pay")).await.token > token);
}

pub async fn o13_a_resolution_may_bring_a_large_or_an_empty_body(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let large = vec![7; limits::RESULT_BYTES_MAX + 1];
    for (text, body) in [("large", Body::new(large, "b")), ("empty", Body::new(Vec::new(), ""))] {
        let row = hand.doubt(text).await;
        hand.resolved(&resolve_of(&row, Resolution::Done(body.clone()))).await;
        assert_eq!(hand.existing(&once(text)).await.0.body, Some(body));
    }
}

pub async fn odd_reasons_of_operators_are_kept_or_cut(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let long = "é".repeat(limits::REASON_BYTES_MAX);
    for (at, reason) in ["a\0b", "it's \"x\" \\ %", long.as_str()].into_iter().enumerate() {
        let text = format!("k{at}");
        let row = hand.doubt(&text).await;
        let mut ask = resolve_of(&row, Resolution::Failed { reason: reason.to_owned() });
        ask.reason = reason.to_owned();
        hand.resolved(&ask).await;
        let wanted = onceward_core::once::cut(reason, limits::REASON_BYTES_MAX);
        assert_eq!(hand.row(&text).await.reason.as_ref(), Some(&wanted));
        assert_eq!(hand.told(Subject::Once, &text).await[2].reason.as_ref(), Some(&wanted));
    }
}

pub async fn o4_a_mismatch_sees_the_expiry_but_shows_nothing(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    hand.begin(&printed("pay", 1)).await;
    harness.advance(TTL).await;
    let answer = hand.claim(&Ask { restartable: true, ..printed("pay", 2) }).await;
    assert!(matches!(answer, Claimed::Mismatch));
    let row = hand.begin(&Ask { restartable: true, ..printed("pay", 1) }).await;
    assert_eq!(row.attempts, 2);
    assert_eq!(hand.events(Subject::Once, "pay").await, [Event::Claimed, Event::Expired, Event::Restarted]);
}
