//! What is remembered, for how long, and what is never forgotten.

use onceward_core::history::{Event, Subject, unfold};
use onceward_core::lease;
use onceward_core::once::{Ask, Resolution, Settle, State};

use super::Harness;
use super::kit::*;
use crate::{Claimed, Pruned};

const ON_TIME: Settle = Settle::Applied { late: false };

pub async fn a_history_is_told_newest_first(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut tokens = Vec::new();
    for at in 0..6 {
        harness.advance(TICK).await;
        let row = hand.grant(&lease::Ask { owner: owner(&format!("host:{at}")), ..lease("k") }).await;
        harness.advance(TICK).await;
        assert!(hand.release(&row).await);
        tokens.push(row.token);
    }
    let rows = hand.history(Subject::Lease, &name("k"), 100).await;
    let seen: Vec<_> = rows.iter().rev().map(|row| row.entry.token).collect();
    assert_eq!(seen, tokens, "one row per ended grant");
    assert!(rows.iter().all(|row| row.claimed_at.is_some_and(|at| at < row.entry.at)));
    let newest: Vec<_> = hand.history(Subject::Lease, &name("k"), 2).await;
    assert_eq!(newest, rows[..2]);
    let entries = unfold(rows);
    assert!(entries.is_sorted_by_key(|entry| core::cmp::Reverse(entry.at)));
    let words: Vec<_> = entries.iter().take(3).map(|entry| (entry.event, entry.actor.as_str())).collect();
    assert_eq!(words, [(Event::Released, "host:5"), (Event::Claimed, "host:5"), (Event::Released, "host:4")]);
}

pub async fn a_takeover_tells_whom_it_replaced(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let lost = hand.grant(&lease::Ask { owner: owner("anna"), ..lease("k") }).await;
    harness.advance(TTL).await;
    hand.grant(&lease::Ask { owner: owner("ben"), ..lease("k") }).await;
    let told = hand.told(Subject::Lease, "k").await;
    let words: Vec<_> = told.iter().map(|entry| (entry.event, entry.token)).collect();
    assert_eq!(words, [(Event::Claimed, lost.token), (Event::Expired, lost.token)]);
    assert_eq!((told[0].actor.as_str(), told[0].at), ("anna", lost.granted_at));
    assert!(near(told[1].at, lost.expires_at));
}

pub async fn a_history_of_nothing_is_empty(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    for subject in Subject::ALL.iter().copied() {
        assert!(hand.history(subject, &name("k"), 10).await.is_empty());
    }
}

pub async fn o5_the_expiry_is_told_once_however_many_see_it(harness: &dyn Harness) {
    let hands = [Hand::of(harness).await.patient(), Hand::second(harness).await.patient()];
    hands[0].begin(&once("pay")).await;
    harness.advance(TTL).await;
    together(16, |at| {
        let hand = hands[at % 2].clone();
        async move { hand.existing(&once("pay")).await }
    })
    .await;
    hands[0].existing(&once("pay")).await;
    let rows = hands[0].history(Subject::Once, &name("pay"), 100).await;
    assert_eq!(only(rows).entry.event, Event::Expired);
}

pub async fn every_start_and_every_end_of_a_key_is_told(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let restartable = || Ask { restartable: true, retain: secs(1), ..once("pay") };
    let tick = || harness.advance(TICK);
    for ending in [not_started(), unknown()] {
        let row = hand.begin(&restartable()).await;
        tick().await;
        assert_eq!(hand.settle(&row, ending).await, ON_TIME);
        tick().await;
    }
    let row = hand.begin(&restartable()).await;
    harness.advance(TTL + TICK).await;
    hand.resolved(&resolve_of(&row, Resolution::Release)).await;
    tick().await;
    for ending in [failed("x"), done("x")] {
        let row = hand.begin(&restartable()).await;
        tick().await;
        assert_eq!(hand.settle(&row, ending).await, ON_TIME);
        harness.advance(secs(1)).await;
    }
    use Event::*;
    let wanted = [
        Claimed,
        NotStarted,
        Claimed,
        Uncertain,
        Restarted,
        Claimed,
        Expired,
        ResolvedReleased,
        Claimed,
        Failed,
        Retired,
        Claimed,
        Done,
    ];
    assert_eq!(hand.events(Subject::Once, "pay").await, wanted);
}

pub async fn o6_a_prune_takes_nothing_uncertain_or_running(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let short = |text: &str| Ask { retain: secs(1), ..once(text) };
    hand.begin(&short("expired")).await;
    let row = hand.begin(&short("uncertain")).await;
    assert_eq!(hand.settle(&row, unknown()).await, ON_TIME);
    harness.advance(secs(1000)).await;
    hand.begin(&short("running")).await;
    assert_eq!(hand.prune(secs(0)).await.once, 0);
    for (text, state) in
        [("expired", State::Uncertain), ("uncertain", State::Uncertain), ("running", State::Running)]
    {
        let seen = hand.lookup(&[name(text)]).await;
        assert_eq!(only(seen.rows).map(|row| row.state_at(seen.now)), Some(state), "{text}");
    }
}

pub async fn o8_a_prune_takes_outcomes_when_their_retention_has_ended(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    for (text, ending) in [("d", done("x")), ("f", failed("x")), ("n", not_started())] {
        let row = hand.begin(&Ask { retain: secs(100), ..once(text) }).await;
        assert_eq!(hand.settle(&row, ending).await, ON_TIME);
    }
    let row = hand.doubt("resolved").await;
    hand.resolved(&resolve_of(&row, Resolution::Done(body("x")))).await;
    harness.advance(secs(95)).await;
    assert_eq!(hand.prune(secs(0)).await.once, 0, "not before");
    harness.advance(secs(5)).await;
    assert_eq!(hand.prune(secs(100_000)).await.once, 3, "their own retention counts, not the age asked for");
    for text in ["d", "f", "n"] {
        assert!(hand.find(text).await.is_none(), "{text}");
    }
    assert!(hand.find("resolved").await.is_some());
    assert_eq!(hand.prune(secs(0)).await.once, 0);
}

pub async fn a_prune_takes_leases_nobody_holds_for_long_enough(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let released = hand.grant(&lease("released")).await;
    assert!(hand.release(&released).await);
    let expired = hand.grant(&lease("expired")).await;
    hand.grant(&lease::Ask { lock_delay: secs(3000), ..lease("delayed") }).await;
    let held = hand.grant(&lease::Ask { ttl: secs(5000), ..lease("held") }).await;
    harness.advance(secs(55)).await;
    assert_eq!(hand.prune(secs(50)).await.leases, 1, "given back 55 s ago, expired 45 s ago");
    assert!(hand.leases(&name("released")).await.rows.is_empty());
    harness.advance(secs(10)).await;
    assert_eq!(hand.prune(secs(50)).await.leases, 1);
    assert!(hand.leases(&name("expired")).await.rows.is_empty());
    assert_eq!(hand.leases(&name("delayed")).await.rows.len(), 1, "still closed");
    hand.renewed(&held).await;
    assert!(!hand.release(&released).await, "its row is gone");
    let told = hand.told(Subject::Lease, "expired").await;
    let words: Vec<_> = told.iter().map(|entry| (entry.event, entry.token)).collect();
    let lost = [(Event::Claimed, expired.token), (Event::Expired, expired.token)];
    assert_eq!(words, lost, "the row was the only trace of how it ended");
    assert_eq!(told[1].actor, told[0].actor);
    assert!(near(told[1].at, expired.expires_at));
    let released = hand.told(Subject::Lease, "released").await;
    assert!(released.iter().all(|entry| entry.event != Event::Expired), "{released:?}");
}

pub async fn l1_tokens_grow_after_the_row_was_forgotten(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut last = hand.grant(&lease("k")).await;
    for round in 0..5 {
        assert!(hand.release(&last).await);
        if round % 2 == 1 {
            harness.advance(secs(1)).await;
        }
        hand.prune(secs(0)).await;
        let next = hand.grant(&lease("k")).await;
        assert!(next.token > last.token, "round {round}: {} after {}", next.token, last.token);
        last = next;
    }
    let first = hand.begin(&Ask { retain: secs(1), ..once("pay") }).await;
    assert_eq!(hand.settle(&first, done("x")).await, ON_TIME);
    harness.advance(secs(1)).await;
    assert_eq!(hand.prune(secs(0)).await.once, 1);
    assert!(hand.begin(&once("pay")).await.token > first.token);
}

pub async fn l1_a_row_whose_token_is_ahead_of_the_clock_is_kept(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let held = hand.grant(&lease("k")).await;
    assert!(hand.release(&held).await);
    let first = hand.begin(&once("pay")).await;
    assert_eq!(hand.settle(&first, not_started()).await, ON_TIME);
    if !harness.step_back(secs(86_400)).await {
        return;
    }
    let ask = Ask { retain: secs(1), ..once("pay") };
    let second = hand.begin(&ask).await;
    assert_eq!(hand.settle(&second, done("x")).await, ON_TIME);
    harness.advance(secs(3600)).await;
    hand.prune(secs(0)).await;
    assert!(hand.grant(&lease("k")).await.token > held.token);
    match hand.claim(&once("pay")).await {
        Claimed::Granted(row) => assert!(row.token > second.token),
        // A store that doubts its clock may replay a little longer.
        Claimed::Existing { row, .. } => assert_eq!((row.state, row.token), (State::Done, second.token)),
        Claimed::Mismatch => panic!("no fingerprint was given"),
    }
}

pub async fn a_prune_takes_old_history_and_leaves_the_young(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    for _ in 0..3 {
        let row = hand.grant(&lease("k")).await;
        assert!(hand.release(&row).await);
        let row = hand.begin(&once("k")).await;
        assert_eq!(hand.settle(&row, not_started()).await, ON_TIME);
        harness.advance(secs(100)).await;
    }
    assert_eq!(hand.prune(secs(150)).await, Pruned { history: 4, ..Pruned::default() });
    assert_eq!(hand.history(Subject::Lease, &name("k"), 10).await.len(), 1);
    assert_eq!(hand.history(Subject::Once, &name("k"), 10).await.len(), 1);
    assert_eq!(hand.row("k").await.attempts, 3, "the row itself is not history");
}

pub async fn a_prune_takes_no_more_than_asked_at_a_time(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    for at in 0..7 {
        let row = hand.grant(&lease(format!("k{at}"))).await;
        assert!(hand.release(&row).await);
        let row = hand.begin(&Ask { retain: secs(1), ..once(format!("k{at}")) }).await;
        assert_eq!(hand.settle(&row, done("x")).await, ON_TIME);
    }
    harness.advance(secs(10)).await;
    let mut sum = Pruned::default();
    for _ in 0..6 {
        let taken = hand.prune_at_most(secs(5), 3).await;
        assert!(taken.once <= 3 && taken.leases <= 3 && taken.history <= 3, "{taken:?}");
        (sum.once, sum.leases) = (sum.once + taken.once, sum.leases + taken.leases);
        sum.history += taken.history;
    }
    assert_eq!(sum, Pruned { once: 7, leases: 7, history: 14, more: false });
    assert_eq!(hand.prune(secs(5)).await, Pruned::default());
}

pub async fn a_prune_gets_past_what_it_has_to_keep(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    // Those that stay come first, by the name and by the time of the claim, and are more than are taken at a time.
    let mut young = Vec::new();
    for at in 0..5 {
        hand.grant(&lease::Ask { ttl: secs(5000), ..lease(format!("a{at}")) }).await;
        young.push(hand.begin(&Ask { ttl: secs(5000), ..once(format!("a{at}")) }).await);
    }
    for at in 0..5 {
        let row = hand.grant(&lease(format!("z{at}"))).await;
        assert!(hand.release(&row).await);
        let row = hand.begin(&once(format!("z{at}"))).await;
        assert_eq!(hand.settle(&row, done("x")).await, ON_TIME);
    }
    harness.advance(secs(100)).await;
    for row in &young {
        assert_eq!(hand.settle(row, done("x")).await, ON_TIME);
    }
    let mut sum = Pruned::default();
    for _ in 0..10 {
        let taken = hand.prune_at_most(secs(50), 2).await;
        assert!(taken.leases <= 2 && taken.history <= 2 && taken.once == 0, "{taken:?}");
        (sum.leases, sum.history) = (sum.leases + taken.leases, sum.history + taken.history);
    }
    // A lease's end is a row of history; how a once key ended stands in its own row, which stays.
    assert_eq!((sum.leases, sum.history), (5, 10));
    assert_eq!(hand.events(Subject::Once, "z0").await, []);
    assert_eq!(hand.events(Subject::Once, "a0").await, [Event::Claimed, Event::Done]);
}
