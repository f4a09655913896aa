//! The laws of the batcher, on the memory model behind a store that fails when told to.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails says so by panicking")]

use std::time::Instant;

use onceward_core::once::{Body, Ending};
use onceward_core::{Code, Key, Namespace, Owner, SessionId, limits};

use super::*;
use crate::KeyRef;
use crate::faulty::{Fault, Faulty, Verb};
use crate::memory::MemoryStore;

const DEADLINE: Duration = Duration::from_secs(5);

fn lanes() -> (Lanes, Arc<Faulty>) {
    let store = Faulty::new(Arc::new(MemoryStore::default()));
    (Lanes::new(Arc::clone(&store) as Arc<dyn Store>, DEADLINE), store)
}

fn lease_ask(key: &str) -> lease::Ask {
    lease::Ask {
        namespace: Namespace::default(),
        key: Key::new(key).unwrap(),
        capacity: 1,
        owner: Owner::new("me").unwrap(),
        session: SessionId::from_uuid(uuid::Uuid::new_v4()),
        ttl: Duration::from_secs(10),
        hard_ttl: None,
        lock_delay: Duration::ZERO,
        metadata: None,
        watched: None,
    }
}

fn once_ask(key: &str) -> once::Ask {
    once::Ask {
        namespace: Namespace::default(),
        key: Key::new(key).unwrap(),
        owner: Owner::new("me").unwrap(),
        session: SessionId::from_uuid(uuid::Uuid::new_v4()),
        ttl: Duration::from_secs(10),
        hard_ttl: None,
        retain: limits::RETAIN_DEFAULT,
        fingerprint: None,
        restartable: false,
    }
}

fn name(key: &str) -> KeyRef {
    KeyRef { namespace: Namespace::default(), key: Key::new(key).unwrap() }
}

async fn is_held_by_nobody(store: &Faulty, key: &str) -> bool {
    let seen = store.lease_lookup(&name(key)).await.unwrap();
    seen.rows.iter().all(|row| row.released_at.is_some())
}

async fn is_free(store: &Faulty, key: &str) -> bool {
    for _ in 0..200 {
        if is_held_by_nobody(store, key).await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

/// Calls that arrive while a statement is in flight leave together as the next one.
#[tokio::test(flavor = "multi_thread")]
async fn calls_gather_while_a_batch_is_in_flight() {
    let (lanes, store) = lanes();
    for _ in 0..4 {
        store.next(Verb::LeaseAcquire, Fault::Slow(Duration::from_millis(50)));
    }
    let calls: Vec<_> = (0..300)
        .map(|n| {
            let lanes = lanes.clone();
            tokio::spawn(async move { lanes.acquire(lease_ask(&format!("k{n}"))).await })
        })
        .collect();
    for call in calls {
        assert!(matches!(call.await.unwrap().unwrap(), Acquired::Granted(_)));
    }
    assert!(store.calls(Verb::LeaseAcquire) < 30, "{} statements", store.calls(Verb::LeaseAcquire));
}

/// A second batch of jobs goes beside the first one as soon as enough calls wait for it, and with fewer none.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_batch_of_jobs_goes_when_enough_wait() {
    let store = Faulty::new(Arc::new(MemoryStore::default()));
    store.enqueue_beside(16);
    let lanes = Lanes::new(Arc::clone(&store) as Arc<dyn Store>, DEADLINE);
    store.next(Verb::JobEnqueue, Fault::Slow(Duration::from_secs(2)));
    store.times(3, Verb::JobEnqueue, Fault::Slow(Duration::from_millis(50)));
    let enqueue = |count: usize| -> Vec<_> {
        let call = |_| {
            let lanes = lanes.clone();
            tokio::spawn(async move { lanes.enqueue(new_job(None)).await })
        };
        (0..count).map(call).collect()
    };
    let sent = async |statements: u64| {
        while store.calls(Verb::JobEnqueue) < statements {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let mut calls = enqueue(1);
    sent(1).await;
    calls.extend(enqueue(15));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(store.calls(Verb::JobEnqueue), 1, "that is not enough");
    calls.extend(enqueue(1));
    sent(2).await;
    assert!(!calls[0].is_finished(), "beside it, not behind it");
    // They are under way: what comes now waits for one of them, and goes as one batch.
    calls.extend(enqueue(3));
    for call in calls {
        assert!(matches!(call.await.unwrap().unwrap(), Enqueued::Created(_)));
    }
    assert!((3..=4).contains(&store.calls(Verb::JobEnqueue)), "{}", store.calls(Verb::JobEnqueue));
}

/// Law 1 and 2: a locked row delays and fails nobody else in its batch.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_key_harms_no_other() {
    let (lanes, store) = lanes();
    store.lock(name("locked"));
    store.next(Verb::OnceClaim, Fault::Slow(Duration::from_millis(30)));
    store.next(Verb::OnceClaim, Fault::Slow(Duration::from_millis(30)));
    let claim = |key: String| {
        let lanes = lanes.clone();
        tokio::spawn(async move { lanes.claim(once_ask(&key)).await })
    };
    let others: Vec<_> = (0..100).map(|n| claim(format!("k{n}"))).collect();
    let locked = claim("locked".to_owned());
    let began = Instant::now();
    for other in others {
        assert!(matches!(other.await.unwrap().unwrap(), Claimed::Granted(_)));
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(locked.await.unwrap().unwrap_err().code(), Code::KeyLocked);
}

/// Law 3: the same key many times over, each answered, one at a time.
#[tokio::test(flavor = "multi_thread")]
async fn one_row_per_key_and_batch() {
    let (lanes, _store) = lanes();
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let lanes = lanes.clone();
            tokio::spawn(async move { lanes.claim(once_ask("k")).await.unwrap() })
        })
        .collect();
    let mut granted = 0;
    for call in calls {
        granted += usize::from(matches!(call.await.unwrap(), Claimed::Granted(_)));
    }
    assert_eq!(granted, 1);
}

/// Law 4: whoever leaves before the answer leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_grant_is_given_back() {
    let (lanes, store) = lanes();
    store.next(Verb::LeaseAcquire, Fault::Slow(Duration::from_millis(60)));
    let left = tokio::time::timeout(Duration::from_millis(20), lanes.acquire(lease_ask("k"))).await;
    assert!(left.is_err());
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert!(is_free(&store, "k").await);

    store.next(Verb::OnceClaim, Fault::Slow(Duration::from_millis(60)));
    let left = tokio::time::timeout(Duration::from_millis(20), lanes.claim(once_ask("k"))).await;
    assert!(left.is_err());
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(matches!(lanes.claim(once_ask("k")).await.unwrap(), Claimed::Granted(row) if row.attempts == 2));
}

/// L7, law 5, N22: a grant whose answer was lost is found again by its session.
#[tokio::test(flavor = "multi_thread")]
async fn l7_a_lost_answer_is_asked_for_again() {
    let (lanes, store) = lanes();
    store.next(Verb::LeaseAcquire, Fault::ReplyLost);
    let Acquired::Granted(row) = lanes.acquire(lease_ask("k")).await.unwrap() else { panic!("adopted") };
    let release = ReleaseLease {
        namespace: row.namespace,
        key: row.key,
        token: row.token,
        reason: None,
        place: row.place,
    };
    store.next(Verb::LeaseRelease, Fault::ReplyLost);
    // The second send finds the lease given back already, and the row says by whom.
    assert!(lanes.release(release.clone()).await.unwrap());
    assert!(is_free(&store, "k").await);
    assert!(!lanes.release(release.clone()).await.unwrap(), "given back a second time");
    // One that somebody else has by now was not given back by the send whose answer got lost.
    assert!(matches!(lanes.acquire(lease_ask("k")).await.unwrap(), Acquired::Granted(_)));
    store.next(Verb::LeaseRelease, Fault::ReplyLost);
    assert!(!lanes.release(release).await.unwrap());
    assert!(!is_held_by_nobody(&store, "k").await);

    store.next(Verb::OnceClaim, Fault::ReplyLost);
    let Claimed::Granted(row) = lanes.claim(once_ask("k")).await.unwrap() else { panic!("adopted") };
    assert_eq!(row.attempts, 1, "claimed once, not twice");
    store.next(Verb::OnceSettle, Fault::ReplyLost);
    let ending = Ending::Done(Body::new(vec![1], "x"));
    let settle =
        SettleOnce { namespace: row.namespace, key: row.key, token: row.token, ending, place: row.place };
    assert_eq!(lanes.settle(settle, DEADLINE).await.unwrap(), Settle::Already);
}

fn new_job(key: Option<&str>) -> job::New {
    let id = onceward_core::JobId::from_uuid(uuid::Uuid::now_v7());
    let kind = onceward_core::Kind::new("test").unwrap();
    let mut new = job::New::of_kind(Namespace::default(), id, kind, job::Payload::default());
    new.key = key.map(|key| job::IdempotencyKey {
        key: Key::new(key).unwrap(),
        fingerprint: once::Fingerprint([7; 32]),
        ttl: Duration::from_secs(60),
    });
    new
}

/// Law 3 and 5, N22: an enqueue whose answer was lost is asked for again under its id, and jobs of one key meet
/// nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn an_enqueue_without_an_answer_is_found_by_its_id() {
    let (lanes, store) = lanes();
    for fault in [Fault::ReplyLost, Fault::RequestLost, Fault::Away] {
        store.next(Verb::JobEnqueue, fault);
        let new = new_job(None);
        assert_eq!(lanes.enqueue(new.clone()).await.unwrap(), Enqueued::Created(new.id));
    }
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let lanes = lanes.clone();
            tokio::spawn(async move { lanes.enqueue(new_job(Some("k"))).await.unwrap() })
        })
        .collect();
    let mut created = 0;
    for call in calls {
        created += usize::from(matches!(call.await.unwrap(), Enqueued::Created(_)));
    }
    assert_eq!(created, 1);
}

/// Many jobs of one caller go in large statements, whatever gets lost, and what shares a key goes in different ones.
#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_of_one_caller_are_a_few_statements() {
    let (lanes, store) = lanes();
    store.next(Verb::JobEnqueue, Fault::ReplyLost);
    let mut jobs: Vec<_> = (0..2_500).map(|_| new_job(None)).collect();
    jobs.extend([new_job(Some("k")), new_job(Some("k"))]);
    let (ids, answers): (Vec<_>, _) =
        (jobs.iter().map(|new| new.id).collect(), lanes.enqueue_many(jobs).await.unwrap());
    assert!(store.calls(Verb::JobEnqueue) <= 6, "{} statements", store.calls(Verb::JobEnqueue));
    let expected = ids.iter().take(2_500).map(|id| Enqueued::Created(*id));
    assert!(answers.iter().take(2_500).copied().eq(expected));
    let keyed = answers.iter().skip(2_500).filter(|answer| matches!(answer, Enqueued::Created(_))).count();
    assert_eq!(keyed, 1);
    assert_eq!(lanes.enqueue_many(Vec::new()).await.unwrap(), []);
}

/// An enqueue that may have come through says so, whatever the last answer was.
#[tokio::test(flavor = "multi_thread")]
async fn an_enqueue_of_unknown_effect_says_so() {
    let (_, store) = lanes();
    let lanes = Lanes::new(Arc::clone(&store) as Arc<dyn Store>, Duration::from_millis(200));
    store.next(Verb::JobEnqueue, Fault::ReplyLost);
    store.times(100, Verb::JobEnqueue, Fault::Away);
    let error = lanes.enqueue(new_job(None)).await.unwrap_err();
    assert!(error.is_uncertain(), "{error:?}");
}

/// Law 6: a store that stays away is told by the deadline, and a doubtful grant is looked after.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stays_away_is_told_in_time() {
    let (_, store) = lanes();
    let lanes = Lanes::new(Arc::clone(&store) as Arc<dyn Store>, Duration::from_millis(300));
    for _ in 0..100 {
        store.next(Verb::LeaseAcquire, Fault::Away);
    }
    let began = Instant::now();
    let error = lanes.acquire(lease_ask("away")).await.unwrap_err();
    assert_eq!(error.code(), Code::StoreUnavailable);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    store.heal();

    store.next(Verb::LeaseAcquire, Fault::Late(Duration::from_millis(400)));
    for _ in 0..100 {
        store.next(Verb::LeaseAcquire, Fault::RequestLost);
    }
    let error = lanes.acquire(lease_ask("late")).await.unwrap_err();
    assert!(error.is_uncertain(), "{error:?}");
    tokio::time::sleep(Duration::from_millis(450)).await;
    store.heal();
    assert!(is_free(&store, "late").await, "the late grant was found and given back");
}

/// O7, law 5: asking what became of a claim restarts nobody's key: who ran it may still record how it ended.
#[tokio::test(flavor = "multi_thread")]
async fn o7_a_doubt_that_is_looked_after_restarts_no_uncertain_key() {
    let (_, store) = lanes();
    let lanes = Lanes::new(Arc::clone(&store) as Arc<dyn Store>, Duration::from_millis(200));
    let Claimed::Granted(row) = lanes.claim(once_ask("k")).await.unwrap() else { panic!("granted") };
    let settle = |ending| SettleOnce {
        namespace: row.namespace.clone(),
        key: row.key.clone(),
        token: row.token,
        ending,
        place: row.place,
    };
    let unknown = settle(Ending::Unknown { reason: "it hung".to_owned() });
    assert_eq!(lanes.settle(unknown, DEADLINE).await.unwrap(), Settle::Applied { late: false });
    // It is lost, time and again, until its caller has been told; what looks after it gets through.
    store.times(1_000, Verb::OnceClaim, Fault::RequestLost);
    let error = lanes.claim(once::Ask { restartable: true, ..once_ask("k") }).await.unwrap_err();
    assert!(error.is_uncertain(), "{error:?}");
    store.heal();
    lanes.finish(tokio::time::Instant::now() + DEADLINE).await;
    let late = settle(Ending::Done(Body::new(vec![1], "x")));
    assert!(
        matches!(lanes.settle(late, DEADLINE).await.unwrap(), Settle::Applied { .. }),
        "it was restarted"
    );
}

/// Law 4: whoever closes the store waits for what is given back.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_is_waited_for() {
    let (lanes, store) = lanes();
    store.next(Verb::LeaseAcquire, Fault::Slow(Duration::from_millis(60)));
    store.next(Verb::LeaseRelease, Fault::Slow(Duration::from_millis(60)));
    let left = tokio::time::timeout(Duration::from_millis(20), lanes.acquire(lease_ask("k"))).await;
    assert!(left.is_err());
    lanes.finish(tokio::time::Instant::now() + DEADLINE).await;
    assert!(store.calls(Verb::LeaseRelease) == 1 && is_held_by_nobody(&store, "k").await);
    // A store that does not answer is not waited for longer than was said.
    store.next(Verb::LeaseAcquire, Fault::Slow(Duration::from_secs(60)));
    let left = tokio::time::timeout(Duration::from_millis(20), lanes.acquire(lease_ask("k"))).await;
    assert!(left.is_err());
    let began = Instant::now();
    lanes.finish(tokio::time::Instant::now() + Duration::from_millis(50)).await;
    assert!(began.elapsed() < Duration::from_secs(30));
}

/// A runtime that goes away under its callers leaves nobody waiting for ever.
#[test]
fn a_dying_runtime_leaves_nobody_hanging() {
    let (lanes, store) = lanes();
    store.next(Verb::LeaseAcquire, Fault::Slow(Duration::from_secs(60)));
    let first = tokio::runtime::Runtime::new().unwrap();
    let call = lanes.clone();
    first.spawn(async move { call.acquire(lease_ask("k")).await });
    std::thread::sleep(Duration::from_millis(50));
    first.shutdown_background();
    let second = tokio::runtime::Runtime::new().unwrap();
    let granted = second.block_on(lanes.acquire(lease_ask("k"))).unwrap();
    assert!(matches!(granted, Acquired::Granted(_)));
}

/// A row that waits behind one of a dying runtime is not lost with it, and the queue is not locked for ever.
#[test]
fn a_dying_runtime_takes_no_waiting_row_along() {
    let (lanes, store) = lanes();
    store.next(Verb::LeaseAcquire, Fault::Slow(Duration::from_secs(60)));
    let (first, second) = (tokio::runtime::Runtime::new().unwrap(), tokio::runtime::Runtime::new().unwrap());
    let call = lanes.clone();
    first.spawn(async move { call.acquire(lease_ask("k")).await });
    while store.calls(Verb::LeaseAcquire) == 0 {
        std::thread::yield_now();
    }
    let waiting = second.spawn(async move { lanes.acquire(lease_ask("k")).await });
    // Time to get into the queue: too little of it makes the test easier, not wrong.
    std::thread::sleep(Duration::from_millis(50));
    first.shutdown_background();
    let granted = second.block_on(async { tokio::time::timeout(DEADLINE, waiting).await.unwrap() });
    assert!(matches!(granted.unwrap().unwrap(), Acquired::Granted(_)));
}

/// Law 6: a queue is bounded. Who comes when it is full is told at once, and that nothing was done.
#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let (lanes, store) = lanes();
    store.times(8, Verb::LeaseAcquire, Fault::Slow(Duration::from_secs(60)));
    let mut context = core::task::Context::from_waker(core::task::Waker::noop());
    let (mut waiting, mut refused) = (Vec::new(), None);
    // Those that are out already don't wait.
    for n in 0..limits::LANE_WAITING_MAX + 8 * limits::BATCH_ROWS_MAX {
        let mut call = Box::pin(lanes.acquire(lease_ask(&format!("k{n}"))));
        match call.as_mut().poll(&mut context) {
            core::task::Poll::Pending => waiting.push(call),
            core::task::Poll::Ready(answer) => {
                refused = Some(answer.unwrap_err());
                break;
            }
        }
    }
    let error = refused.expect("it is full");
    assert_eq!((error.code(), error.is_uncertain()), (Code::LaneFull, false), "{error:?}");
    assert!(waiting.len() >= limits::LANE_WAITING_MAX);
    // Whoever leaves makes room.
    drop(waiting);
    store.heal();
    tokio::task::yield_now().await;
    let fresh = Lanes::new(Arc::clone(&store) as Arc<dyn Store>, DEADLINE);
    assert!(matches!(fresh.acquire(lease_ask("k")).await.unwrap(), Acquired::Granted(_)));
}
