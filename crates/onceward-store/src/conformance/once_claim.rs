//! Once: who runs, who is told what was recorded, and how long that lasts.

use onceward_core::history::{Event, Subject};
use onceward_core::once::{Ask, Settle, State};
use onceward_core::{Token, limits};

use super::Harness;
use super::kit::*;
use crate::{Claimed, Renew};

const ON_TIME: Settle = Settle::Applied { late: false };

pub async fn o1_a_first_claim_runs(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let ask = printed("pay", 7);
    let row = hand.begin(&ask).await;
    assert_eq!((row.state, row.attempts, row.late), (State::Running, 1, false));
    assert_eq!(
        (row.session, row.fingerprint, row.retain, row.ttl),
        (ask.session, ask.fingerprint, RETAIN, TTL)
    );
    assert_eq!((&row.namespace, &row.key, &row.owner), (&ask.namespace, &ask.key, &ask.owner));
    assert_eq!((row.expires_at, row.hard_expires_at), (row.claimed_at.after(TTL), None));
    assert_eq!((row.uncertain_at, row.finished_at, row.retain_until), (None, None, None));
    assert_eq!((row.body.as_ref(), row.reason.as_ref()), (None, None));
}

pub async fn o9_a_granted_claim_is_in_the_store_already(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    for at in 0..20 {
        let text = format!("pay-{at}");
        let row = hand.begin(&once(&text)).await;
        assert_eq!(other.row(&text).await, row);
        assert_eq!(other.existing(&once(&text)).await.0, row);
    }
}

pub async fn o1_a_running_key_is_not_run_again(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.begin(&Ask { owner: owner("anna"), ..once("pay") }).await;
    for restartable in [false, true] {
        let (seen, now) = hand.existing(&Ask { restartable, ..once("pay") }).await;
        assert_eq!(seen, row);
        assert_eq!(seen.state_at(now), State::Running);
        assert!(near(now, row.claimed_at));
    }
    assert_eq!(hand.row("pay").await, row);
    assert!(hand.events(Subject::Once, "pay").await.is_empty());
}

pub async fn o3_a_result_is_replayed_to_everybody(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.begin(&once("pay")).await;
    harness.advance(secs(1)).await;
    assert_eq!(hand.settle(&row, done("receipt 7")).await, ON_TIME);
    let mut first = None;
    for replay in 0..4 {
        harness.advance(secs(60)).await;
        let hand = if replay % 2 == 0 { hand.clone() } else { Hand::second(harness).await };
        let (seen, now) = hand.existing(&once("pay")).await;
        assert_eq!((seen.state_at(now), seen.token, seen.attempts), (State::Done, row.token, 1));
        assert_eq!(seen.body, Some(body("receipt 7")));
        assert_eq!((seen.late, seen.reason.as_ref(), seen.uncertain_at), (false, None, None));
        assert_eq!(seen.retain_until, seen.finished_at.map(|at| at.after(RETAIN)));
        assert_eq!(*first.get_or_insert(seen.clone()), seen, "always the same");
    }
    let events = hand.events(Subject::Once, "pay").await;
    assert_eq!(events, [Event::Claimed, Event::Done], "a replay writes nothing");
}

pub async fn o3_a_final_failure_is_replayed_like_a_result(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.begin(&once("pay")).await;
    assert_eq!(hand.settle(&row, failed("card expired")).await, ON_TIME);
    for restartable in [false, true] {
        let (seen, now) = hand.existing(&Ask { restartable, ..once("pay") }).await;
        assert_eq!((seen.state_at(now), seen.reason.as_deref()), (State::Failed, Some("card expired")));
        assert_eq!(seen.body, Some(body("no")));
    }
}

pub async fn l7_the_same_claim_sent_twice_is_one_claim(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let ask = once("pay");
    let row = hand.begin(&ask).await;
    harness.advance(secs(1)).await;
    assert_eq!(hand.begin(&ask).await, row);
    assert_eq!(Hand::second(harness).await.begin(&ask).await, row);
    let (seen, _) = hand.existing(&once("pay")).await;
    assert_eq!(seen.attempts, 1);
}

pub async fn l7_a_claim_that_ended_is_not_adopted(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (expired, settled, doubted) = (once("expired"), once("settled"), once("doubted"));
    hand.begin(&expired).await;
    harness.advance(TTL).await;
    let row = hand.begin(&settled).await;
    assert_eq!(hand.settle(&row, done("x")).await, ON_TIME);
    let row = hand.begin(&doubted).await;
    assert_eq!(hand.settle(&row, unknown()).await, ON_TIME);
    for (ask, state) in [(expired, State::Uncertain), (settled, State::Done), (doubted, State::Uncertain)] {
        let (seen, now) = hand.existing(&ask).await;
        assert_eq!(seen.state_at(now), state, "{}", ask.key);
    }
}

/// A key in every state in which another request is refused.
async fn every_refusing_state(hand: &Hand, harness: &dyn Harness) -> [&'static str; 5] {
    hand.begin(&printed("expired", 1)).await;
    harness.advance(TTL).await;
    hand.begin(&printed("running", 1)).await;
    for (text, ending) in [("done", done("secret")), ("failed", failed("secret")), ("uncertain", unknown())] {
        let row = hand.begin(&printed(text, 1)).await;
        assert_eq!(hand.settle(&row, ending).await, ON_TIME);
    }
    ["expired", "running", "done", "failed", "uncertain"]
}

pub async fn o4_another_request_is_refused_in_every_state(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    for text in every_refusing_state(&hand, harness).await {
        let before = hand.row(text).await;
        for restartable in [false, true] {
            hand.mismatch(&Ask { restartable, ..printed(text, 2) }).await;
        }
        let after = hand.row(text).await;
        assert_eq!((after.token, after.fingerprint), (before.token, before.fingerprint), "{text}");
        assert_eq!((after.attempts, after.session), (1, before.session));
    }
}

pub async fn o4_the_same_request_or_an_unnamed_one_is_not_refused(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    for text in every_refusing_state(&hand, harness).await {
        hand.existing(&printed(text, 1)).await;
        hand.existing(&once(text)).await;
    }
    let row = hand.begin(&once("unnamed")).await;
    hand.existing(&printed("unnamed", 9)).await;
    assert_eq!(hand.row("unnamed").await, row, "the first caller's word stands");
}

pub async fn o4_a_key_that_is_free_again_takes_any_request(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.begin(&printed("freed", 1)).await;
    assert_eq!(hand.settle(&row, not_started()).await, ON_TIME);
    let row = hand.begin(&Ask { retain: secs(5), ..printed("retired", 1) }).await;
    assert_eq!(hand.settle(&row, done("x")).await, ON_TIME);
    harness.advance(secs(5)).await;
    for text in ["freed", "retired"] {
        let ask = printed(text, 2);
        assert_eq!(hand.begin(&ask).await.fingerprint, ask.fingerprint);
        hand.mismatch(&printed(text, 1)).await;
    }
}

pub async fn o8_a_result_is_replayed_until_its_retention_ends(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let first = hand.begin(&Ask { retain: secs(100), ..once("pay") }).await;
    harness.advance(secs(5)).await;
    assert_eq!(hand.settle(&first, done("old")).await, ON_TIME);
    harness.advance(secs(90)).await;
    hand.existing(&once("pay")).await;
    harness.advance(secs(10)).await;
    let second = hand.begin(&once("pay")).await;
    assert!(second.token > first.token);
    assert_eq!((second.attempts, second.state, second.retain), (2, State::Running, RETAIN));
    assert_eq!((second.body.as_ref(), second.finished_at, second.retain_until), (None, None, None));
    assert_eq!(hand.row("pay").await, second);
    assert_eq!(hand.settle(&first, done("old again")).await, Settle::Stale);
    assert_eq!(hand.settle(&second, done("new")).await, ON_TIME);
    assert_eq!(hand.existing(&once("pay")).await.0.body, Some(body("new")));
    let events = [Event::Claimed, Event::Done, Event::Retired, Event::Claimed, Event::Done];
    assert_eq!(hand.events(Subject::Once, "pay").await, events);
}

pub async fn o8_a_failure_is_retired_as_well(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let first = hand.begin(&Ask { retain: secs(20), ..once("pay") }).await;
    assert_eq!(hand.settle(&first, failed("no")).await, ON_TIME);
    harness.advance(secs(20)).await;
    let second = hand.begin(&once("pay")).await;
    assert!(second.token > first.token && second.reason.is_none());
}

pub async fn o8_nothing_unsettled_is_ever_retired(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    hand.begin(&Ask { retain: secs(1), ..once("expired") }).await;
    let row = hand.begin(&Ask { retain: secs(1), ..once("uncertain") }).await;
    assert_eq!(hand.settle(&row, unknown()).await, ON_TIME);
    harness.advance(limits::RETAIN_MAX).await;
    for text in ["expired", "uncertain"] {
        let (seen, now) = hand.existing(&once(text)).await;
        assert_eq!(seen.state_at(now), State::Uncertain, "{text}");
    }
}

pub async fn o8_the_longest_retention_is_kept(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.begin(&Ask { retain: limits::RETAIN_MAX, ..once("pay") }).await;
    assert_eq!(hand.settle(&row, done("x")).await, ON_TIME);
    harness.advance(limits::RETAIN_MAX - secs(60)).await;
    assert_eq!(hand.existing(&once("pay")).await.0.retain, limits::RETAIN_MAX);
}

pub async fn a_claim_is_renewed_by_its_token_and_session(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.begin(&once("pay")).await;
    for _ in 0..4 {
        harness.advance(TTL - secs(3)).await;
        let Renew::Until(until) = hand.once_renew(&row).await else { panic!("lost") };
        let seen = hand.row("pay").await;
        assert_eq!(seen.expires_at, until);
        assert_eq!((seen.token, seen.claimed_at, seen.attempts), (row.token, row.claimed_at, 1));
    }
    let seen = hand.row("pay").await;
    let later = Token::next(Some(row.token), row.claimed_at);
    for (token, session) in [(later, row.session), (row.token, session())] {
        let mut claim = claim_of_once(&row);
        (claim.token, claim.session) = (token, session);
        assert_eq!(hand.once_renew_all(&[claim]).await, [Renew::Lost]);
    }
    assert_eq!(hand.row("pay").await, seen);
}

pub async fn a_claim_that_ended_is_not_renewed(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let expired = hand.begin(&once("expired")).await;
    harness.advance(TTL).await;
    let mut rows = vec![expired.clone()];
    for (text, ending) in [("d", done("x")), ("f", failed("x")), ("n", not_started()), ("u", unknown())] {
        rows.push(hand.begin(&once(text)).await);
        assert_eq!(hand.settle(rows.last().unwrap(), ending).await, ON_TIME);
    }
    for row in &rows {
        assert_eq!(hand.once_renew(row).await, Renew::Lost, "{}", row.key);
    }
    assert_eq!(hand.row("expired").await.expires_at, expired.expires_at, "never revived");
}

pub async fn the_hard_limit_of_an_execution_is_a_ceiling(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let row = hand.begin(&Ask { hard_ttl: Some(secs(15)), ..once("pay") }).await;
    let limit = row.claimed_at.after(secs(15));
    assert_eq!(row.hard_expires_at, Some(limit));
    harness.advance(secs(7)).await;
    assert_eq!(hand.once_renew(&row).await, Renew::Until(limit));
    harness.advance(secs(8)).await;
    assert_eq!(hand.once_renew(&row).await, Renew::Lost);
    let (seen, now) = hand.existing(&once("pay")).await;
    assert_eq!(seen.state_at(now), State::Uncertain);
    assert_eq!(seen.uncertain_since(now), Some(limit));
    assert_eq!(hand.settle(&row, done("late")).await, Settle::Applied { late: true });
}

pub async fn l1_tokens_of_a_key_grow_over_all_its_claims(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut last = None;
    for round in 0..8_i64 {
        let ask = Ask { restartable: true, retain: secs(1), ..once("pay") };
        let Claimed::Granted(row) = hand.claim(&ask).await else { panic!("round {round}") };
        assert!(last.is_none_or(|last| row.token > last), "round {round}");
        assert_eq!(row.attempts, round + 1);
        last = Some(row.token);
        match round % 4 {
            0 => assert_eq!(hand.settle(&row, not_started()).await, ON_TIME),
            1 => assert_eq!(hand.settle(&row, unknown()).await, ON_TIME),
            2 => harness.advance(TTL).await,
            _ => {
                assert_eq!(hand.settle(&row, done("x")).await, ON_TIME);
                harness.advance(secs(1)).await;
            }
        }
    }
}
