//! Batches: every row gets its own answer, in the order asked, whatever becomes of the others.

use onceward_core::lease;
use onceward_core::limits::{BATCH_ROWS_MAX, RESULT_BYTES_MAX};
use onceward_core::once::{Body, Ending, Settle, State};
use onceward_core::{Token, once};

use super::Harness;
use super::kit::*;
use crate::{Acquired, Claimed, ReleaseLease, Renew, SettleOnce};

/// Names whose order in a batch is neither the order of the rows nor its reverse.
fn shuffled(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("k{:04}", (at * 37 + 11) % count)).collect()
}

pub async fn an_empty_batch_has_no_answers(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    assert!(hand.acquire_all(&[]).await.is_empty());
    assert!(hand.renew_all(&[]).await.is_empty());
    assert!(hand.release_all(&[]).await.is_empty());
    assert!(hand.claim_all(&[]).await.is_empty());
    assert!(hand.once_renew_all(&[]).await.is_empty());
    assert!(hand.settle_all(&[]).await.is_empty());
    assert!(hand.lookup(&[]).await.rows.is_empty());
}

pub async fn leases_are_answered_in_the_order_asked(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let names = shuffled(40);
    for name in names.iter().step_by(3) {
        hand.grant(&lease(name)).await;
    }
    let asks: Vec<_> = names.iter().map(lease).collect();
    for (at, answer) in hand.acquire_all(&asks).await.into_iter().enumerate() {
        match answer {
            Acquired::Granted(row) => {
                assert!(at % 3 != 0 && row.key == asks[at].key && row.session == asks[at].session);
            }
            Acquired::Held { by, .. } => {
                let by = by.unwrap();
                assert!(at % 3 == 0 && by.key == asks[at].key && by.session != asks[at].session);
            }
        }
    }
}

/// One ask per fate: its key says what must come of it.
async fn every_lease(hand: &Hand, harness: &dyn Harness) -> Vec<lease::Ask> {
    hand.grant(&lease("grant-expired")).await;
    hand.grant(&lease::Ask { lock_delay: secs(60), ..lease("held-delayed") }).await;
    harness.advance(TTL).await;
    hand.grant(&lease("held")).await;
    let released = hand.grant(&lease("grant-released")).await;
    assert!(hand.release(&released).await);
    hand.wait(&lease("held-promised"), true, secs(60)).await;
    let waiter = lease("grant-first-in-line");
    hand.wait(&waiter, true, secs(60)).await;
    hand.wait(&lease("grant-first-in-line"), true, secs(60)).await;
    let own = lease("grant-own");
    hand.grant(&own).await;
    hand.grant(&place("grant-place", 2)).await;
    hand.grant(&place("held-places", 2)).await;
    hand.grant(&place("held-places", 2)).await;
    vec![
        lease("held-delayed"),
        place("grant-place", 2),
        lease("grant-expired"),
        lease("held"),
        own,
        lease("held-promised"),
        lease("grant-new"),
        place("held-places", 2),
        waiter,
        lease("grant-released"),
        lease::Ask { namespace: namespace("other"), ..lease("grant-new") },
    ]
}

pub async fn one_batch_of_leases_has_every_fate(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let asks = every_lease(&hand, harness).await;
    let first = hand.acquire_all(&asks).await;
    for (ask, answer) in asks.iter().zip(&first) {
        let granted = ask.key.as_str().starts_with("grant");
        assert_eq!(matches!(answer, Acquired::Granted(_)), granted, "{}: {answer:?}", ask.key);
    }
    // The answer got lost, the same batch is sent again: the same grants.
    for (before, again) in first.iter().zip(hand.acquire_all(&asks).await) {
        match (before, again) {
            (Acquired::Granted(before), Acquired::Granted(again)) => assert_eq!(*before, again),
            (Acquired::Held { .. }, Acquired::Held { .. }) => {}
            (before, again) => panic!("{before:?}, then {again:?}"),
        }
    }
}

pub async fn one_batch_renews_and_gives_back_only_what_is_held(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let lost = hand.grant(&lease("lost")).await;
    harness.advance(TTL).await;
    let held = hand.grant(&lease("held")).await;
    let released = hand.grant(&lease("released")).await;
    assert!(hand.release(&released).await);
    let (one, two) = (hand.grant(&place("pool", 2)).await, hand.grant(&place("pool", 2)).await);
    let mut absent = held.clone();
    absent.key = key("absent");
    let rows = [&two, &lost, &held, &released, &absent, &one];
    let claims: Vec<_> = rows.iter().map(|row| claim_of(row)).collect();
    let renewed: Vec<_> =
        hand.renew_all(&claims).await.iter().map(|answer| matches!(answer, Renew::Until(_))).collect();
    assert_eq!(renewed, [true, false, true, false, false, true]);
    let mut stale = release_of(&one);
    stale.token = Token::from_row(1);
    let batch: Vec<ReleaseLease> = vec![stale, release_of(&lost), release_of(&absent), release_of(&held)];
    assert_eq!(hand.release_all(&batch).await, [false, true, false, true]);
    hand.renewed(&one).await;
}

pub async fn the_largest_batch_of_leases_is_granted_renewed_and_given_back(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let asks: Vec<_> = shuffled(BATCH_ROWS_MAX).iter().map(lease).collect();
    let mut rows = Vec::new();
    for (ask, answer) in asks.iter().zip(hand.acquire_all(&asks).await) {
        let Acquired::Granted(row) = answer else { panic!("{answer:?}") };
        assert_eq!((&row.key, row.session), (&ask.key, ask.session));
        rows.push(*row);
    }
    let claims: Vec<_> = rows.iter().map(claim_of).collect();
    let renewed = hand.renew_all(&claims).await;
    assert!(renewed.iter().all(|answer| matches!(answer, Renew::Until(_))));
    let back: Vec<_> = rows.iter().map(release_of).collect();
    assert!(hand.release_all(&back).await.into_iter().all(|released| released));
    assert!(hand.release_all(&back).await.into_iter().all(|released| !released));
}

/// One claim per fate: its key says what must come of it.
async fn every_once(hand: &Hand, harness: &dyn Harness) -> Vec<once::Ask> {
    for (text, ending) in
        [("existing-done", done("x")), ("existing-failed", failed("no")), ("grant-freed", not_started())]
    {
        let row = hand.begin(&once(text)).await;
        assert_eq!(hand.settle(&row, ending).await, Settle::Applied { late: false });
    }
    let short = once::Ask { retain: secs(5), ..once("grant-retired") };
    let row = hand.begin(&short).await;
    assert_eq!(hand.settle(&row, done("old")).await, Settle::Applied { late: false });
    hand.begin(&once("existing-expired")).await;
    hand.begin(&once("grant-restarted")).await;
    let row = hand.begin(&printed("mismatch", 1)).await;
    assert_eq!(hand.settle(&row, done("secret")).await, Settle::Applied { late: false });
    harness.advance(TTL).await;
    hand.begin(&once("existing-running")).await;
    hand.doubt("existing-uncertain").await;
    let own = once("grant-own");
    hand.begin(&own).await;
    vec![
        printed("mismatch", 2),
        once("existing-running"),
        once("grant-new"),
        once::Ask { restartable: true, ..once("grant-restarted") },
        once("existing-done"),
        once("grant-freed"),
        own,
        once("existing-uncertain"),
        once("grant-retired"),
        once("existing-expired"),
        once("existing-failed"),
        once::Ask { namespace: namespace("other"), ..once("existing-done") },
    ]
}

pub async fn one_batch_of_claims_has_every_fate(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let asks = every_once(&hand, harness).await;
    let (foreign, answers) = (asks.len() - 1, hand.claim_all(&asks).await);
    for (at, (ask, answer)) in asks.iter().zip(&answers).enumerate() {
        let (fate, row) = match answer {
            Claimed::Granted(row) => ("grant", Some(row)),
            Claimed::Mismatch => ("mismatch", None),
            Claimed::Existing { row, .. } => ("existing", Some(row)),
        };
        let wanted = ask.key.as_str().split('-').next().unwrap();
        assert_eq!(fate, if at == foreign { "grant" } else { wanted }, "{}: {answer:?}", ask.key);
        assert!(row.is_none_or(|row| row.key == ask.key && row.namespace == ask.namespace));
    }
    for (before, again) in answers.iter().zip(hand.claim_all(&asks).await) {
        if let Claimed::Granted(before) = before {
            assert!(matches!(again, Claimed::Granted(again) if *before == again), "sent twice, granted once");
        }
    }
}

pub async fn one_batch_of_endings_has_every_fate(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let late = hand.begin(&once("late")).await;
    harness.advance(TTL).await;
    let fresh = hand.begin(&once("fresh")).await;
    let settled = hand.begin(&once("settled")).await;
    assert_eq!(hand.settle(&settled, done("first")).await, Settle::Applied { late: false });
    let doubted = hand.doubt("doubted").await;
    let mut absent = fresh.clone();
    absent.key = key("absent");
    let mut stale = hand.begin(&once("stale")).await;
    stale.token = Token::next(Some(stale.token), stale.claimed_at);
    let batch = [
        settle_of(&stale, done("x")),
        settle_of(&settled, done("second")),
        settle_of(&late, failed("slow")),
        settle_of(&absent, done("x")),
        settle_of(&fresh, not_started()),
        settle_of(&doubted, done("evidence")),
    ];
    let (on_time, late) = (Settle::Applied { late: false }, Settle::Applied { late: true });
    let wanted = [Settle::Stale, Settle::Already, late, Settle::Stale, on_time.clone(), on_time];
    assert_eq!(hand.settle_all(&batch).await, wanted);
    for (text, state) in [
        ("stale", State::Running),
        ("settled", State::Done),
        ("late", State::Failed),
        ("fresh", State::Released),
        ("doubted", State::Done),
    ] {
        assert_eq!(hand.row(text).await.state, state, "{text}");
    }
    assert_eq!(hand.row("settled").await.body, Some(body("first")));
}

pub async fn the_largest_batch_of_claims_is_granted_renewed_and_settled(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let asks: Vec<_> = shuffled(BATCH_ROWS_MAX).iter().map(once).collect();
    let mut rows = Vec::new();
    for (ask, answer) in asks.iter().zip(hand.claim_all(&asks).await) {
        let Claimed::Granted(row) = answer else { panic!("{answer:?}") };
        assert_eq!((&row.key, row.session), (&ask.key, ask.session));
        rows.push(*row);
    }
    let claims: Vec<_> = rows.iter().map(claim_of_once).collect();
    let renewed = hand.once_renew_all(&claims).await;
    assert!(renewed.iter().all(|answer| matches!(answer, Renew::Until(_))));
    let batch: Vec<_> = rows.iter().map(|row| settle_of(row, done(row.key.as_str()))).collect();
    let settled = hand.settle_all(&batch).await;
    assert!(settled.into_iter().all(|answer| answer == Settle::Applied { late: false }));
    let names: Vec<_> = rows.iter().rev().map(|row| name(row.key.as_str())).collect();
    for (name, row) in names.iter().zip(hand.lookup(&names).await.rows) {
        assert_eq!(row.unwrap().body, Some(body(name.key.as_str())));
    }
}

pub async fn a_batch_carries_the_most_bytes_it_may(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let asks: Vec<_> = (0..4).map(|at| once(format!("k{at}"))).collect();
    let mut batch: Vec<SettleOnce> = Vec::new();
    for (at, ask) in asks.iter().enumerate() {
        let bytes: Vec<u8> = (0..RESULT_BYTES_MAX).map(|byte| (byte * 31 + at) as u8).collect();
        batch.push(settle_of(&hand.begin(ask).await, Ending::Done(Body::new(bytes, "b"))));
    }
    let settled = hand.settle_all(&batch).await;
    assert!(settled.into_iter().all(|answer| answer == Settle::Applied { late: false }));
    let names: Vec<_> = asks.iter().map(|ask| name(ask.key.as_str())).collect();
    for (wanted, row) in batch.iter().zip(hand.lookup(&names).await.rows) {
        assert!(row.unwrap().body.as_ref() == wanted.ending.body(), "not the same bytes");
    }
}

pub async fn n33_batches_in_opposite_orders_both_end(harness: &dyn Harness) {
    let hands = [Hand::of(harness).await.patient(), Hand::second(harness).await.patient()];
    let names = shuffled(64);
    let answers = together(8, |at| {
        let (hand, mut names) = (hands[at % 2].clone(), names.clone());
        if at % 2 == 1 {
            names.reverse();
        }
        async move { hand.claim_all(&names.iter().map(once).collect::<Vec<_>>()).await }
    });
    let granted = answers.await.into_iter().flatten().filter(|one| matches!(one, Claimed::Granted(_)));
    assert_eq!(granted.count(), names.len());
}
