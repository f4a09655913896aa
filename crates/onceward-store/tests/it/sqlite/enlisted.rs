//! The statements that join a caller's transaction leave the same rows and the same history as the store's own.

use core::time::Duration;

use onceward_core::history::{Entry, Subject, unfold};
use onceward_core::once::{self, Ending};
use onceward_core::{Code, Token};
use onceward_store::clock::ManualClock;
use onceward_store::enlist::{ClaimedIn, DoneIn, claim_in, guard, settle_in};
use onceward_store::sqlite::SqliteStore;
use onceward_store::{ClaimRef, HistoryOf, SettleOnce, Store};
use rusqlite::Connection;

use super::asks::*;
use super::file::File;

async fn history(store: &SqliteStore, text: &str) -> Vec<Entry> {
    let ask =
        HistoryOf { subject: Subject::Once, namespace: name(text).namespace, key: key(text), limit: 100 };
    unfold(store.history(&ask).await.unwrap())
}

/// Claims in a transaction of the user's, and records its result in the same one if it has one.
async fn run_in(store: &SqliteStore, file: &File, ask: &once::Ask, result: Option<once::Body>) -> ClaimedIn {
    let mut user = Connection::open(file.path()).unwrap();
    let mut tx = user.transaction().unwrap();
    let (sql, clock) = (store.enlist().unwrap(), store.clock().as_ref());
    let claimed = claim_in(sql, clock, &mut tx, ask).await.unwrap();
    if let (ClaimedIn::Granted { token, .. }, Some(body)) = (&claimed, result) {
        let done = DoneIn { namespace: ask.namespace.clone(), key: ask.key.clone(), token: *token, body };
        settle_in(sql, clock, &mut tx, &done).await.unwrap();
    }
    tx.commit().unwrap();
    claimed
}

async fn end(store: &SqliteStore, row: &once::Record, ending: Ending) {
    store.once_settle(&[SettleOnce { ending, ..done(row) }]).await.unwrap();
}

/// Every way in which a key can be claimed again, by the store and by a transaction: they tell the same story.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_in_a_transaction_tells_what_it_overwrites() {
    let (file, clock) = (File::new(), ManualClock::default());
    let store = file.open(&clock).await;
    let (own, joined) = ("by the store", "in a transaction");
    let restartable = |text| once::Ask { restartable: true, ..once(text) };
    for text in [own, joined] {
        let row = begin(store.as_ref(), text).await;
        end(store.as_ref(), &row, Ending::NotStarted { reason: "no".to_owned() }).await;
    }
    clock.advance(Duration::from_secs(1));
    let second = begin(store.as_ref(), own).await;
    end(store.as_ref(), &second, result()).await;
    let granted = run_in(store.as_ref(), &file, &once(joined), Some(body())).await;
    assert!(matches!(granted, ClaimedIn::Granted { attempts: 2, .. }), "{granted:?}");

    clock.advance(RETAIN);
    let third = begin(store.as_ref(), own).await;
    run_in(store.as_ref(), &file, &once(joined), None).await;
    clock.advance(TTL);
    let existing = run_in(store.as_ref(), &file, &once(joined), None).await;
    assert!(matches!(existing, ClaimedIn::Existing { .. }), "{existing:?}");
    store.once_claim(&[restartable(own)]).await.unwrap();
    let restarted = run_in(store.as_ref(), &file, &restartable(joined), Some(body())).await;
    assert!(matches!(restarted, ClaimedIn::Granted { attempts: 4, .. }), "{restarted:?}");
    let row = store.once_lookup(&[name(own)]).await.unwrap().rows.remove(0).unwrap();
    assert!(row.token > third.token);
    end(store.as_ref(), &row, result()).await;

    let story = |entries: Vec<Entry>| -> Vec<_> {
        entries.into_iter().map(|it| (it.event, it.token, it.actor, it.at, it.reason)).collect()
    };
    let (told, joined) =
        (story(history(store.as_ref(), own).await), story(history(store.as_ref(), joined).await));
    assert!(told.len() >= 9, "{told:?}");
    assert_eq!(joined, told);
}

fn result() -> Ending {
    Ending::Done(body())
}

fn body() -> once::Body {
    once::Body::new(b"x".to_vec(), "text/plain")
}

/// O14, N16: a transaction does not take a kept outcome for over because the wall clock has jumped ahead.
#[tokio::test(flavor = "multi_thread")]
async fn o14_a_wall_clock_that_jumps_ahead_claims_nothing_again_in_a_transaction() {
    const MONTH: i64 = 30 * 86_400_000_000;
    let (file, clock) = (File::new(), ManualClock::default());
    let store = file.open(&clock).await;
    run_in(store.as_ref(), &file, &once("pay"), Some(body())).await;
    clock.step_wall(MONTH);
    let kept = run_in(store.as_ref(), &file, &once("pay"), None).await;
    assert!(matches!(&kept, ClaimedIn::Existing { row, .. } if row.state == once::State::Done), "{kept:?}");
    clock.step_wall(-MONTH);
    clock.advance(RETAIN);
    let again = run_in(store.as_ref(), &file, &once("pay"), None).await;
    assert!(matches!(again, ClaimedIn::Granted { attempts: 2, .. }), "{again:?}");
}

/// L4: until the guarded transaction ends, nobody takes the lease over; a token that is not current is refused.
#[tokio::test(flavor = "multi_thread")]
async fn l4_a_guarded_transaction_and_a_takeover_exclude_each_other() {
    let (file, clock) = (File::new(), ManualClock::default());
    let store = file.open(&clock).await;
    let row = grant(store.as_ref(), "k").await;
    let claim = ClaimRef {
        namespace: row.namespace.clone(),
        key: row.key.clone(),
        slot: 0,
        token: row.token,
        session: row.session,
    };
    let mut user = Connection::open(file.path()).unwrap();
    let mut tx = user.transaction().unwrap();
    let (sql, own) = (store.enlist().unwrap(), store.clock().as_ref());
    guard(sql, own, &mut tx, &claim).await.unwrap();
    clock.advance(TTL);
    let takeover =
        tokio::time::timeout(Duration::from_millis(200), acquire(store.as_ref(), lease("k"))).await;
    assert!(takeover.is_err(), "it waits: {takeover:?}");
    tx.commit().unwrap();
    let next = grant(store.as_ref(), "k").await;
    assert!(next.token > row.token);
    for stale in [claim.clone(), ClaimRef { token: Token::from_row(1), ..claim }] {
        let mut tx = user.transaction().unwrap();
        assert_eq!(code(guard(sql, own, &mut tx, &stale).await), Code::TokenStale);
    }
}
