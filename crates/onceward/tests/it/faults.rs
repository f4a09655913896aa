//! What callers see when the store fails under them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use onceward::store::Store;
use onceward::store::faulty::{Fault, Faulty, Verb};
use onceward::store::memory::MemoryStore;
use onceward::{Code, Lost, Onceward, Outcome};

const TTL: Duration = Duration::from_millis(600);

fn client(deadline: Duration) -> (Onceward, Arc<Faulty>) {
    let store = Faulty::new(Arc::new(MemoryStore::default()));
    let options = Onceward::options().short_ttls_for_tests().deadline(deadline);
    (options.build(Arc::clone(&store) as Arc<dyn Store>).unwrap(), store)
}

/// W22, W49: one failed renewal, or two, end nothing.
#[tokio::test(flavor = "multi_thread")]
async fn failed_renewals_are_tried_again_within_the_ttl() {
    let (ow, store) = client(Duration::from_secs(2));
    let lease = ow.lease("k").ttl(TTL).acquire().await.unwrap().unwrap();
    store.next(Verb::LeaseRenew, Fault::Away);
    store.next(Verb::LeaseRenew, Fault::ReplyLost);
    tokio::time::sleep(TTL * 2).await;
    assert!(lease.is_valid(), "{:?}", lease.lost_because());
}

/// L9, W2: a holder whose store is away knows before its lease runs out.
#[tokio::test(flavor = "multi_thread")]
async fn l9_a_holder_without_its_store_is_told_before_the_expiry() {
    let (ow, store) = client(Duration::from_secs(2));
    store.times(1000, Verb::LeaseRenew, Fault::Away);
    let began = Instant::now();
    let lease = ow.lease("k").ttl(TTL).acquire().await.unwrap().unwrap();
    assert_eq!(lease.lost().await, Lost::NotRenewed);
    assert!(began.elapsed() < TTL, "{:?}", began.elapsed());
    assert!(!lease.is_valid() && lease.check().is_err());
}

/// L5: a renewal that hangs is no renewal.
#[tokio::test(flavor = "multi_thread")]
async fn l5_a_hanging_renewal_is_not_trusted() {
    let (ow, store) = client(Duration::from_secs(2));
    store.times(1000, Verb::LeaseRenew, Fault::Slow(Duration::from_secs(5)));
    let began = Instant::now();
    let lease = ow.lease("k").ttl(TTL).acquire().await.unwrap().unwrap();
    lease.lost().await;
    assert!(began.elapsed() < TTL, "{:?}", began.elapsed());
}

/// O9, N22: a function whose claim is not known to be durable does not start.
#[tokio::test(flavor = "multi_thread")]
async fn o9_no_function_starts_on_an_unknown_claim() {
    let (ow, store) = client(Duration::from_millis(300));
    store.times(1000, Verb::OnceClaim, Fault::RequestLost);
    let runs = AtomicU32::new(0);
    let run = async |_| Ok(runs.fetch_add(1, Ordering::SeqCst));
    let error = ow.once("k").run(run).await.unwrap_err();
    assert!(error.is_uncertain() && runs.load(Ordering::SeqCst) == 0, "{error:?}");
    store.heal();
    // The doubt is looked after: the key frees itself, and a later call runs it.
    for _ in 0..100 {
        if let Ok(Outcome::Done { .. }) = ow.once("k").run(run).await {
            assert_eq!(runs.load(Ordering::SeqCst), 1);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the key stayed closed");
}

/// W15: the store is away when the function is done: the caller keeps the value, and the outcome is sent on.
#[tokio::test(flavor = "multi_thread")]
async fn the_value_survives_a_store_that_is_away_at_the_end() {
    let (ow, store) = client(Duration::from_millis(300));
    store.times(40, Verb::OnceSettle, Fault::Away);
    let outcome = ow.once("k").run(async |_| Ok("ch_1".to_owned())).await.unwrap();
    let Outcome::Uncertain { value, reason, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(value.as_deref(), Some("ch_1"));
    assert!(reason.contains("OW0001"), "{reason}");
    store.heal();
    for _ in 0..300 {
        if let Some(Outcome::Done { value, replayed: true }) = ow.once("k").peek::<String>().await.unwrap() {
            assert_eq!(value, "ch_1", "late evidence won");
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the outcome never arrived");
}

/// O3: the answer to the settle is lost, the outcome is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_the_settle_changes_nothing() {
    let (ow, store) = client(Duration::from_secs(2));
    store.next(Verb::OnceSettle, Fault::ReplyLost);
    let first = ow.once("k").run(async |_| Ok(1)).await.unwrap();
    assert_eq!(first, Outcome::Done { value: 1, replayed: false });
    assert_eq!(ow.once("k").run(async |_| Ok(2)).await.unwrap(), Outcome::Done { value: 1, replayed: true });
}

/// Renewing many leases costs a statement per interval, not one each.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_leases_are_renewed_by_a_few_statements() {
    let (ow, store) = client(Duration::from_secs(10));
    let ttl = Duration::from_secs(3);
    let mut leases = Vec::new();
    for chunk in 0..100 {
        let asks = (0..100).map(|n| ow.lease(format!("k{chunk}-{n}")).ttl(ttl).acquire());
        for lease in futures_util::future::join_all(asks).await {
            leases.push(lease.unwrap().unwrap());
        }
    }
    // They were taken over a while; from the second interval on they go together.
    tokio::time::sleep(ttl * 2 / 3).await;
    let mut statements = Vec::new();
    for _ in 0..4 {
        let before = store.calls(Verb::LeaseRenew);
        tokio::time::sleep(ttl / 3).await;
        statements.push(store.calls(Verb::LeaseRenew) - before);
    }
    assert!(leases.iter().all(onceward::Lease::is_valid));
    assert!(statements.iter().all(|count| *count <= 2), "{statements:?} statements in each interval");
    let all: u64 = statements.iter().sum();
    assert!((2..=5).contains(&all), "{statements:?} statements in four intervals");
}

/// A store that is away is told by the deadline, with a code, and nothing hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_told_by_the_deadline() {
    let (ow, store) = client(Duration::from_millis(300));
    store.times(1000, Verb::LeaseAcquire, Fault::Away);
    store.times(1000, Verb::OnceClaim, Fault::Busy);
    let began = Instant::now();
    assert_eq!(ow.lease("k").acquire().await.unwrap_err().code(), Code::StoreUnavailable);
    // The store's own word, unless time is up while it is being asked once more.
    let code = ow.once("k").run(async |_| Ok(1)).await.unwrap_err().code();
    assert!(matches!(code, Code::StoreBusy | Code::StoreUnavailable), "{code:?}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// L10: two handles of one owner are two claims; neither renews or releases for the other.
#[tokio::test(flavor = "multi_thread")]
async fn l10_two_handles_never_share_a_grant() {
    let (ow, _store) = client(Duration::from_secs(2));
    let first = ow.lease("k").capacity(2).acquire().await.unwrap().unwrap();
    let second = ow.lease("k").capacity(2).acquire().await.unwrap().unwrap();
    assert!(
        first.session() != second.session()
            && first.token() != second.token()
            && first.slot() != second.slot()
    );
    assert!(first.release().await.unwrap());
    assert!(second.renew().await.is_ok());
}

/// After `shutdown`, calls say so instead of hanging.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_shut_down_says_so() {
    let (ow, _store) = client(Duration::from_secs(2));
    drop(ow.lease("k").acquire().await.unwrap().unwrap());
    ow.shutdown().await;
    assert_eq!(ow.lease("k").acquire().await.unwrap_err().code(), Code::StoreClosed);
    assert_eq!(ow.once("k").run(async |_| Ok(1)).await.unwrap_err().code(), Code::StoreClosed);
}

/// Decision 6: an answer that was on its way while another server took over is not kept for one of the new server.
#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_of_a_server_that_was_replaced_meanwhile_is_not_kept() {
    let (ow, store) = client(Duration::from_secs(5));
    let run = async || ow.once("k").run(async |_| Ok(7_u32)).await.unwrap();
    let asked = |calls: u64| assert_eq!(store.calls(Verb::OnceClaim), calls);
    store.next(Verb::OnceSettle, Fault::TakenOver);
    assert!(matches!(run().await, Outcome::Done { value: 7, replayed: false }));
    store.next(Verb::OnceClaim, Fault::TakenOver);
    for calls in 2..=3 {
        assert!(matches!(run().await, Outcome::Done { value: 7, replayed: true }));
        asked(calls);
    }
    // Now that it is asked of the server that answers, it is.
    assert!(run().await.is_done());
    asked(3);
}
