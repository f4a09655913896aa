//! Many callers at once, through two handles: what must happen exactly once does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use onceward_core::history::{Event, Row, Subject};
use onceward_core::lease;
use onceward_core::once::{Ask, Resolution, Resolve, Settle, State};
use onceward_core::{Token, limits};

use super::Harness;
use super::kit::*;
use crate::{Acquired, Claimed};

async fn two_hands(harness: &dyn Harness) -> [Hand; 2] {
    [Hand::of(harness).await.patient(), Hand::second(harness).await.patient()]
}

/// Takes and gives back one lease `rounds` times; `inside` counts who is in between.
async fn contend(hand: Hand, rounds: u32, inside: Arc<AtomicU32>) -> Vec<Token> {
    let mut tokens = Vec::new();
    while tokens.len() < rounds as usize {
        match hand.acquire(&lease("k")).await {
            Acquired::Granted(row) => {
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders at once");
                tokio::time::sleep(TICK / 4).await;
                inside.fetch_sub(1, Ordering::SeqCst);
                assert!(hand.release(&row).await);
                tokens.push(row.token);
            }
            Acquired::Held { .. } => tokio::time::sleep(TICK * 4).await,
        }
    }
    tokens
}

/// Every grant's interval, in the order of the tokens, ends before the next begins.
fn assert_disjoint(mut rows: Vec<Row>) {
    rows.sort_by_key(|row| row.entry.token);
    for pair in rows.windows(2) {
        assert!(pair[0].entry.token < pair[1].entry.token);
        assert!(Some(pair[0].entry.at) <= pair[1].claimed_at, "{:?} overlaps {:?}", pair[0], pair[1]);
    }
}

pub async fn l2_sixteen_contenders_never_overlap_and_their_tokens_grow(harness: &dyn Harness) {
    let hands = two_hands(harness).await;
    let inside = Arc::new(AtomicU32::new(0));
    let contenders = together(16, |at| {
        let (hand, inside) = (hands[at % 2].clone(), inside.clone());
        async move { tokio::time::timeout(secs(90), contend(hand, 12, inside)).await.unwrap() }
    });
    let ticking = async {
        loop {
            harness.advance(TICK).await;
            tokio::time::sleep(TICK).await;
        }
    };
    let tokens: Vec<Token> = tokio::select! {
        tokens = contenders => {
            assert!(tokens.iter().all(|own| own.is_sorted()), "each contender saw its own tokens grow");
            tokens.into_iter().flatten().collect()
        }
        () = ticking => return,
    };
    let rows = hands[0].history(Subject::Lease, &name("k"), limits::PAGE_ROWS_MAX).await;
    let told: BTreeSet<_> = rows.iter().map(|row| row.entry.token).collect();
    assert_eq!(
        (rows.len(), told.len()),
        (16 * 12, 16 * 12),
        "every grant ended once, with a token of its own"
    );
    assert_eq!(tokens.into_iter().collect::<BTreeSet<_>>(), told);
    assert!(rows.iter().all(|row| row.entry.event == Event::Released));
    assert_disjoint(rows);
}

fn granted(answers: Vec<Acquired>) -> Vec<lease::Record> {
    let row = |answer| match answer {
        Acquired::Granted(row) => Some(*row),
        Acquired::Held { .. } => None,
    };
    answers.into_iter().filter_map(row).collect()
}

pub async fn l2_a_lost_lease_is_taken_over_by_one(harness: &dyn Harness) {
    let hands = two_hands(harness).await;
    let mut last = hands[0].grant(&lease("k")).await;
    for round in 0..6 {
        harness.advance(TTL).await;
        let answers = together(16, |at| {
            let hand = hands[at % 2].clone();
            async move { hand.acquire(&lease("k")).await }
        });
        let next = only(granted(answers.await));
        assert!(next.token > last.token, "round {round}");
        last = next;
    }
    let rows = hands[0].history(Subject::Lease, &name("k"), 100).await;
    assert_eq!(rows.len(), 6);
    assert_disjoint(rows);
}

pub async fn l2_an_absent_lease_is_first_taken_by_one(harness: &dyn Harness) {
    let hands = two_hands(harness).await;
    let answers = together(32, |at| {
        let hand = hands[at % 2].clone();
        async move {
            let asks: Vec<_> = (0..24).map(|key| lease(format!("k{}", (key + at) % 24))).collect();
            hand.acquire_all(&asks).await
        }
    });
    let rows = granted(answers.await.into_iter().flatten().collect());
    let keys: BTreeSet<_> = rows.iter().map(|row| row.key.clone()).collect();
    assert_eq!((rows.len(), keys.len()), (24, 24));
}

pub async fn l8_a_late_release_and_a_takeover_never_both_win(harness: &dyn Harness) {
    let hands = two_hands(harness).await;
    for round in 0..12 {
        let text = format!("k{round}");
        let old = hands[0].grant(&lease(&text)).await;
        harness.advance(TTL).await;
        let (old_too, taker) = (old.clone(), hands[1].clone());
        let ask = lease(&text);
        let released = tokio::spawn({
            let hand = hands[0].clone();
            async move { hand.release(&old_too).await }
        });
        let taken = tokio::spawn(async move { taker.acquire(&ask).await });
        let (released, taken) = (released.await.unwrap(), granted(vec![taken.await.unwrap()]));
        let row = hands[0].lease_row(&text).await;
        if let Some(new) = taken.first() {
            assert_eq!(row, *new, "round {round}: the new grant stands");
            assert!(new.token > old.token);
        } else {
            assert!(released, "round {round}: nobody won");
        }
        assert_eq!(hands[0].history(Subject::Lease, &name(&text), 10).await.len(), 1, "ended once");
    }
}

async fn claimed_together(hands: &[Hand; 2], count: usize, ask: impl Fn() -> Ask) -> Vec<Claimed> {
    together(count, |at| {
        let (hand, ask) = (hands[at % 2].clone(), ask());
        async move { hand.claim(&ask).await }
    })
    .await
}

fn begun(answers: &[Claimed]) -> usize {
    answers.iter().filter(|answer| matches!(answer, Claimed::Granted(_))).count()
}

pub async fn o1_two_hundred_callers_start_it_once(harness: &dyn Harness) {
    let hands = two_hands(harness).await;
    let answers = claimed_together(&hands, 200, || printed("pay", 1)).await;
    assert_eq!(begun(&answers), 1);
    for answer in &answers {
        if let Claimed::Existing { row, now } = answer {
            assert_eq!((row.state_at(*now), row.attempts), (State::Running, 1));
        }
    }
    assert!(answers.iter().all(|answer| !matches!(answer, Claimed::Mismatch)));
    assert_eq!(hands[0].row("pay").await.attempts, 1);
}

/// The keys one of many callers goes through, in batches, each caller in another order.
fn tour(caller: usize, keys: usize) -> Vec<Vec<Ask>> {
    let order: Vec<_> =
        (0..keys).map(|at| once(format!("k{:03}", (at * (2 * caller + 1) + caller) % keys))).collect();
    order.chunks(16).map(<[Ask]>::to_vec).collect()
}

pub async fn n34_sixty_four_callers_start_every_key_once(harness: &dyn Harness) {
    const KEYS: usize = 256;
    let hands = two_hands(harness).await;
    let answers = together(64, |caller| {
        let hand = hands[caller % 2].clone();
        async move {
            let mut started = Vec::new();
            for batch in tour(caller, KEYS) {
                for answer in hand.claim_all(&batch).await {
                    if let Claimed::Granted(row) = answer {
                        started.push(row.key.clone());
                    }
                }
            }
            started
        }
    });
    let mut starts = BTreeMap::new();
    for key in answers.await.into_iter().flatten() {
        *starts.entry(key).or_insert(0) += 1;
    }
    assert_eq!(starts.len(), KEYS);
    assert!(starts.values().all(|count| *count == 1), "{starts:?}");
}

pub async fn o1_a_key_that_is_free_again_is_started_once(harness: &dyn Harness) {
    let hands = two_hands(harness).await;
    for (text, ending) in [("freed", not_started()), ("retired", done("x")), ("restarted", unknown())] {
        let row = hands[0].begin(&Ask { retain: secs(1), ..once(text) }).await;
        assert_eq!(hands[0].settle(&row, ending).await, Settle::Applied { late: false });
        harness.advance(secs(1)).await;
        let answers = claimed_together(&hands, 24, || Ask { restartable: true, ..once(text) }).await;
        assert_eq!(begun(&answers), 1, "{text}");
        let now = hands[0].row(text).await;
        assert!(now.token > row.token && now.attempts == 2, "{text}");
    }
}

pub async fn o5_an_expired_claim_is_restarted_by_one(harness: &dyn Harness) {
    let hands = two_hands(harness).await;
    hands[0].begin(&once("pay")).await;
    harness.advance(TTL).await;
    let answers = claimed_together(&hands, 24, || Ask { restartable: true, ..once("pay") }).await;
    assert_eq!(begun(&answers), 1);
    let events = [Event::Claimed, Event::Expired, Event::Restarted];
    assert_eq!(hands[0].events(Subject::Once, "pay").await, events);
}

pub async fn o2_of_many_endings_one_is_recorded(harness: &dyn Harness) {
    let hands = two_hands(harness).await;
    let row = hands[0].begin(&once("pay")).await;
    let answers = together(16, |at| {
        let (hand, row) = (hands[at % 2].clone(), row.clone());
        let ending = if at % 4 == 0 { failed("no") } else { done(format!("by {at}")) };
        async move { (hand.settle(&row, ending.clone()).await, ending) }
    });
    let (applied, rest): (Vec<_>, Vec<_>) =
        answers.await.into_iter().partition(|(answer, _)| *answer == Settle::Applied { late: false });
    let (_, recorded) = only(applied);
    let seen = hands[0].row("pay").await;
    assert_eq!((seen.state, seen.body.as_ref()), (recorded.state(), recorded.body()));
    for (answer, ending) in rest {
        let same = ending.state() == recorded.state();
        assert_eq!(answer, if same { Settle::Already } else { Settle::Stale });
    }
    assert_eq!(hands[0].events(Subject::Once, "pay").await.len(), 2);
}

pub async fn o6_of_many_operators_one_resolves(harness: &dyn Harness) {
    let hands = two_hands(harness).await;
    let row = hands[0].doubt("pay").await;
    let answers = together(16, |at| {
        let (hand, row) = (hands[at % 2].clone(), row.clone());
        async move { hand.resolve(&resolve_of(&row, Resolution::Done(body(format!("by {at}"))))).await }
    });
    let answers = answers.await;
    let applied = answers.iter().filter(|answer| matches!(answer, Resolve::Applied { .. })).count();
    assert_eq!(applied, 1);
    assert!(
        answers
            .iter()
            .all(|answer| { matches!(answer, Resolve::Applied { .. } | Resolve::NotUncertain(State::Done)) })
    );
}

pub async fn o7_late_evidence_and_an_operator_never_both_win(harness: &dyn Harness) {
    let hands = two_hands(harness).await;
    for round in 0..16 {
        let text = format!("k{round}");
        let row = hands[0].begin(&once(&text)).await;
        harness.advance(TTL).await;
        let (owner, operator) = (hands[round % 2].clone(), hands[(round + 1) % 2].clone());
        let (late, ask) = (row.clone(), resolve_of(&row, Resolution::Done(body("by the operator"))));
        let settled = tokio::spawn(async move { owner.settle(&late, done("by the owner")).await });
        let resolved = tokio::spawn(async move { operator.resolve(&ask).await });
        let (settled, resolved) = (settled.await.unwrap(), resolved.await.unwrap());
        let wanted = match (settled, resolved) {
            (Settle::Applied { late: true }, Resolve::NotUncertain(State::Done)) => "by the owner",
            (Settle::Stale, Resolve::Applied { .. }) => "by the operator",
            both => panic!("round {round}: {both:?}"),
        };
        assert_eq!(hands[0].row(&text).await.body, Some(body(wanted)));
    }
}

pub async fn l7_the_same_claim_sent_many_times_at_once_is_one_claim(harness: &dyn Harness) {
    let hands = two_hands(harness).await;
    let (claim, ask) = (once("pay"), lease("k"));
    let claims = claimed_together(&hands, 16, || claim.clone()).await;
    assert_eq!(begun(&claims), 16, "each send finds the grant: {claims:?}");
    assert_eq!(hands[0].row("pay").await.attempts, 1);
    let grants = together(16, |at| {
        let (hand, ask) = (hands[at % 2].clone(), ask.clone());
        async move { hand.acquire(&ask).await }
    });
    let rows = granted(grants.await);
    assert_eq!(rows.len(), 16);
    assert!(rows.iter().all(|row| row.token == rows[0].token));
}
