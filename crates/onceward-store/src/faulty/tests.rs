//! What each fault does, and what it leaves behind.

use onceward_core::{Key, Namespace, Owner, SessionId, Token};

use super::*;
use crate::memory::MemoryStore;

const LONG: Duration = Duration::from_secs(60);

fn name(text: &str) -> KeyRef {
    KeyRef { namespace: Namespace::default(), key: Key::new(text).unwrap() }
}

fn ask(text: &str) -> lease::Ask {
    lease::Ask {
        namespace: Namespace::default(),
        key: Key::new(text).unwrap(),
        capacity: 1,
        owner: Owner::new("me").unwrap(),
        session: SessionId::from_uuid(uuid::Uuid::new_v4()),
        ttl: LONG,
        hard_ttl: None,
        lock_delay: Duration::ZERO,
        metadata: None,
        watched: None,
    }
}

fn faulty() -> Arc<Faulty> {
    Faulty::new(Arc::new(MemoryStore::default()))
}

async fn held(store: &Faulty, text: &str) -> Option<lease::Record> {
    store.inner().lease_lookup(&name(text)).await.unwrap().rows.pop()
}

#[tokio::test]
async fn l7_a_lost_answer_leaves_a_grant_that_the_same_ask_finds() {
    let store = faulty();
    store.next(Verb::LeaseAcquire, Fault::ReplyLost);
    let batch = [ask("k")];
    let error = store.lease_acquire(&batch).await.unwrap_err();
    assert!(error.code() == Code::CommitUnknown && error.is_uncertain());
    assert_eq!(error.verb(), Some("lease.acquire"));
    let row = held(&store, "k").await.unwrap();
    let again = store.lease_acquire(&batch).await.unwrap().remove(0);
    assert!(matches!(again, Acquired::Granted(again) if *again == row));
}

#[tokio::test]
async fn what_was_never_done_leaves_nothing() {
    let store = faulty();
    for (fault, code, uncertain) in [
        (Fault::RequestLost, Code::CommitUnknown, true),
        (Fault::Away, Code::StoreUnavailable, false),
        (Fault::Busy, Code::StoreBusy, false),
    ] {
        store.next(Verb::LeaseAcquire, fault);
        let error = store.lease_acquire(&[ask("k")]).await.unwrap_err();
        assert_eq!((error.code(), error.is_uncertain(), error.is_retryable()), (code, uncertain, true));
        assert_eq!(held(&store, "k").await, None);
    }
    store.next(Verb::LeaseLookup, Fault::ReplyLost);
    let error = store.lease_lookup(&name("k")).await.unwrap_err();
    assert!(error.code() == Code::StoreUnavailable && !error.is_uncertain(), "a read leaves no doubt");
}

#[tokio::test(start_paused = true)]
async fn late_calls_take_effect_after_the_caller_has_gone() {
    let store = faulty();
    store.next(Verb::LeaseAcquire, Fault::Late(LONG));
    assert!(store.lease_acquire(&[ask("k")]).await.unwrap_err().is_uncertain());
    assert_eq!(held(&store, "k").await, None);
    tokio::time::sleep(LONG + Duration::from_secs(1)).await;
    assert!(held(&store, "k").await.is_some());
    let before = tokio::time::Instant::now();
    store.next(Verb::LeaseAcquire, Fault::Slow(LONG));
    assert!(store.lease_acquire(&[ask("other")]).await.is_ok());
    assert!(before.elapsed() >= LONG);
}

#[tokio::test]
async fn a_locked_key_fails_its_batch_and_keeps_only_its_own_renewal_waiting() {
    let store = faulty();
    let mut claims = Vec::new();
    for answer in store.lease_acquire(&[ask("a"), ask("b")]).await.unwrap() {
        let Acquired::Granted(row) = answer else { panic!("{answer:?}") };
        let (namespace, key) = (row.namespace, row.key);
        claims.push(ClaimRef { namespace, key, slot: 0, token: row.token, session: row.session });
    }
    store.lock(name("a"));
    let error = store.lease_acquire(&[ask("c"), ask("a")]).await.unwrap_err();
    assert_eq!(error.code(), Code::KeyLocked);
    assert_eq!(held(&store, "c").await, None, "nothing of the batch was done");
    let renewed = store.lease_renew(&claims).await.unwrap();
    assert!(matches!(renewed[..], [Renew::Busy, Renew::Until(_)]));
    assert!(store.lease_lookup(&name("a")).await.is_ok(), "reading goes on");
    store.unlock(&name("a"));
    assert!(store.lease_acquire(&[ask("c"), ask("a")]).await.is_ok());
}

#[tokio::test]
async fn faults_come_in_their_order_and_end_when_healed() {
    let store = faulty();
    store.pass(1, Verb::Check);
    store.times(2, Verb::Check, Fault::Busy);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(store.check().await.is_ok());
    }
    assert_eq!(seen, [true, false, false, true]);
    store.times(9, Verb::Check, Fault::Away);
    store.heal();
    assert!(store.check().await.is_ok());
    assert_eq!((store.calls(Verb::Check), store.calls(Verb::Prune)), (5, 0));
}

#[tokio::test]
async fn random_faults_repeat_with_their_seed() {
    let run = async |seed| {
        let store = faulty();
        store.random(seed, 4, [Fault::Away, Fault::Busy]);
        let mut seen = Vec::new();
        for _ in 0..200 {
            seen.push(store.check().await.err().map(|error| error.code()));
        }
        seen
    };
    let first = run(7).await;
    assert_eq!(first, run(7).await);
    assert_ne!(first, run(8).await);
    let count = |code| first.iter().filter(|seen| **seen == Some(code)).count();
    let (away, busy) = (count(Code::StoreUnavailable), count(Code::StoreBusy));
    assert!((10..50).contains(&away) && (10..50).contains(&busy), "{away} and {busy} of 200");
}

/// J2: an enqueue whose answer was lost is sent again, and there is one job.
#[tokio::test]
async fn j2_a_lost_answer_leaves_a_job_that_the_same_enqueue_finds() {
    use onceward_core::job::{New, Payload};
    use onceward_core::{JobId, Kind};

    use crate::{Enqueued, JobRef, JobStore, ListJobs};

    let store = faulty();
    let id = JobId::from_uuid(uuid::Uuid::new_v4());
    let kind = Kind::new("mail").unwrap();
    let batch = [New::of_kind(Namespace::default(), id, kind, Payload::default())];
    for (fault, there) in [(Fault::RequestLost, false), (Fault::ReplyLost, true), (Fault::Away, true)] {
        store.next(Verb::JobEnqueue, fault);
        let error = store.job_enqueue(&batch).await.unwrap_err();
        assert_eq!((error.verb(), error.is_uncertain()), (Some("job.enqueue"), fault != Fault::Away));
        let job = JobRef { namespace: Namespace::default(), id };
        let found = store.job_lookup(&[job]).await.unwrap().rows.remove(0);
        assert_eq!(found.is_some(), there, "{fault:?}");
    }
    assert_eq!(store.job_enqueue(&batch).await.unwrap(), [Enqueued::Created(id)]);
    let all = ListJobs { limit: 10, ..ListJobs::default() };
    assert_eq!(store.job_list(&all).await.unwrap().rows.len(), 1);
    store.next(Verb::SessionRenew, Fault::Busy);
    let ask = crate::SessionRef { id: SessionId::from_uuid(id.as_uuid()), token: Token::from_row(1) };
    assert_eq!(store.session_renew(&ask).await.unwrap_err().verb(), Some("session.renew"));
}
