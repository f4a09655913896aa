//! `once` through the public API, on every store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use onceward::history::Subject;
use onceward::store::clock::ManualClock;
use onceward::store::memory::MemoryStore;
use onceward::store::{Claimed, SettleOnce, Store};
use onceward::{Classify, Code, Lost, NotDone, Onceward, Outcome, Verdict};
use onceward_core::once::{Body, Ending};

use crate::stores::each;

async fn client() -> Onceward {
    Onceward::options().short_ttls_for_tests().connect("memory:").await.unwrap()
}

/// O1, O3: many callers, one run, the same result for all.
#[tokio::test(flavor = "multi_thread")]
async fn o1_200_callers_one_run() {
    each(async |ow| {
        let runs = Arc::new(AtomicU32::new(0));
        let mut callers = Vec::new();
        for _ in 0..200 {
            let (ow, runs) = (ow.clone(), runs.clone());
            callers.push(tokio::spawn(async move {
                ow.once("k")
                    .wait(Duration::from_secs(60))
                    .run(async |_| {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        Ok(runs.fetch_add(1, Ordering::SeqCst))
                    })
                    .await
                    .unwrap()
            }));
        }
        let mut first = 0;
        for caller in callers {
            match caller.await.unwrap() {
                Outcome::Done { value: 0, replayed } => first += u32::from(!replayed),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((first, runs.load(Ordering::SeqCst)), (1, 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_ending_is_what_it_says() {
    each(async |ow| {
        let failed =
            ow.once("f").run(async |_| Err::<(), _>(NotDone::failed("card declined").with_data(&7)?)).await;
        let Outcome::Failed { error, replayed: false } = failed.unwrap() else { panic!("failed") };
        assert_eq!(error.data::<i32>().unwrap(), Some(7));
        let again = ow.once("f").run(async |_| Ok(())).await.unwrap();
        assert!(
            matches!(again, Outcome::Failed { replayed: true, ref error } if error.reason() == "card declined")
        );

        let not_started = ow.once("n").run(async |_| Err::<(), _>("no route").not_started()).await.unwrap();
        assert!(matches!(not_started, Outcome::NotStarted { .. }));
        let attempt = ow.once("n").run(async |attempt| Ok(attempt.number())).await.unwrap();
        assert_eq!(attempt.done(), Some(2));

        let unknown = ow.once("u").run(async |_| Ok(std::fs::read_to_string("/no/such/file")?)).await.unwrap();
        assert!(unknown.is_uncertain());
        let panicked = ow.once("p").run(async |_| -> Result<(), NotDone> { panic!("boom") }).await.unwrap();
        assert!(
            matches!(panicked, Outcome::Uncertain { ref reason, .. } if reason.contains("boom")),
            "{panicked:?}"
        );
        for key in ["u", "p"] {
            let seen = ow.once(key).run(async |_| Ok(String::new())).await.unwrap();
            assert!(seen.is_uncertain(), "never run again by itself");
        }
    })
    .await;
}

/// N9: a dropped future proves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_future_is_uncertain() {
    each(async |ow| {
        let run = ow.once("k").run(async |_| {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok(())
        });
        assert!(tokio::time::timeout(Duration::from_millis(500), run).await.is_err());
        for _ in 0..1000 {
            if ow.once("k").peek::<()>().await.unwrap().is_some_and(|outcome| outcome.is_uncertain()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("still not uncertain");
    })
    .await;
}

/// W14: the hard limit is a ceiling. W17: a function longer than its ttl stays alive.
#[tokio::test(flavor = "multi_thread")]
async fn the_hard_limit_cancels_and_renewal_keeps_alive() {
    each(async |ow| {
        let ttl = Duration::from_millis(1500);
        let long = ow.once("long").ttl(ttl).run(async |_| {
            tokio::time::sleep(ttl * 3).await;
            Ok(1)
        });
        let hard = ow.once("hard").ttl(ttl).hard_ttl(ttl * 2).run(async |_| {
            tokio::time::sleep(ttl * 10).await;
            Ok(1)
        });
        let (long, hard) = tokio::join!(long, hard);
        assert_eq!(long.unwrap().done(), Some(1));
        assert!(matches!(hard.unwrap(), Outcome::Uncertain { reason, .. } if reason.contains("hard limit")));
    })
    .await;
}

/// A function that is told to stop may come to its own end; one that does not is dropped at its limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_told_before_its_hard_limit_and_may_come_to_its_end() {
    let ow = client().await;
    let (ttl, hard) = (Duration::from_secs(1), Duration::from_secs(3));
    let once = |key| ow.once(key).ttl(ttl).hard_ttl(hard).stop_within(Duration::from_millis(600));
    let began = std::time::Instant::now();
    let tidy = once("tidy").run(async |attempt| {
        assert_eq!(attempt.lost().await, Lost::HardLimit);
        let left = attempt.time_to_stop();
        assert!(
            attempt.is_valid() && left > Duration::ZERO && left <= Duration::from_millis(600),
            "{left:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(7)
    });
    let deaf = once("deaf").run(async |attempt| {
        attempt.lost().await;
        let seen = ow.once("deaf").peek::<i32>().await.unwrap();
        assert!(
            matches!(seen, Some(Outcome::Running { .. })),
            "nothing is recorded while it stops: {seen:?}"
        );
        std::future::pending().await
    });
    let (tidy, deaf): (_, onceward::Result<Outcome<i32>>) = tokio::join!(tidy, deaf);
    assert_eq!(tidy.unwrap().done(), Some(7));
    assert!(matches!(deaf.unwrap(), Outcome::Uncertain { reason, .. } if reason.contains("hard limit")));
    assert!(began.elapsed() >= Duration::from_millis(2900), "{:?}", began.elapsed());
    let long = ow.once("long").stop_within(Duration::from_secs(3601)).run(async |_| Ok(1)).await;
    assert_eq!(long.unwrap_err().code(), Code::HardTtlInvalid);
}

/// O8: also somebody who waits is not told an outcome whose time is over.
#[tokio::test]
async fn o8_a_waiter_is_not_told_an_outcome_that_is_over() {
    let clock = ManualClock::default();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
    let ow = Onceward::options().build(Arc::clone(&store)).unwrap();
    let ask = onceward_core::once::Ask {
        namespace: onceward::Namespace::default(),
        key: onceward::Key::new("k").unwrap(),
        owner: onceward::Owner::new("me").unwrap(),
        session: onceward::SessionId::from_uuid(uuid::Uuid::new_v4()),
        ttl: Duration::from_secs(3600),
        hard_ttl: None,
        retain: Duration::from_secs(1),
        fingerprint: None,
        restartable: false,
    };
    let Claimed::Granted(row) = store.once_claim(&[ask]).await.unwrap().remove(0) else { panic!("granted") };
    let waiting = tokio::spawn(async move {
        ow.once("k").wait(Duration::from_secs(30)).run(async |_| Ok("second".to_owned())).await
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    // One thread, and nothing in between that waits: the waiter sees both or nothing.
    let ending = Ending::Done(Body::new(b"\"first\"".to_vec(), "application/json"));
    let settle =
        SettleOnce { namespace: row.namespace, key: row.key, token: row.token, ending, place: row.place };
    store.once_settle(&[settle]).await.unwrap();
    clock.advance(Duration::from_secs(2));
    let told = waiting.await.unwrap().unwrap();
    assert!(matches!(told, Outcome::NotStarted { .. }), "{told:?}");
}

/// O4: W29.
#[tokio::test(flavor = "multi_thread")]
async fn o4_another_request_under_the_same_key_is_refused() {
    each(async |ow| {
        let call =
            async |cents: u32| ow.once("k").fingerprint(&("order", cents)).run(async |_| Ok(cents)).await;
        assert_eq!(call(100).await.unwrap().done(), Some(100));
        let refused = call(200).await.unwrap_err();
        assert_eq!(refused.code(), Code::FingerprintMismatch);
        assert!(!format!("{refused:?}").contains("100"), "the recorded result is not leaked");
        assert_eq!(call(100).await.unwrap().done(), Some(100));
    })
    .await;
}

/// W15: a result that can't be written is told, with the value, and nothing runs again.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_no_json_comes_back_with_the_doubt() {
    use std::collections::BTreeMap;
    let ow = client().await;
    let odd: BTreeMap<(i32, i32), i32> = [((1, 2), 3)].into();
    let outcome = ow.once("k").run(async |_| Ok(odd.clone())).await.unwrap();
    assert!(matches!(outcome, Outcome::Uncertain { value: Some(value), .. } if value == odd));
    let unread = ow.once("n").run(async |_| Ok(5)).await.unwrap();
    assert_eq!(unread.done(), Some(5));
    assert_eq!(
        ow.once("n").run(async |_| Ok(String::new())).await.unwrap_err().code(),
        Code::ResultUnreadable
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn o6_probes_settle_what_nobody_knew() {
    each(async |ow| {
        for key in ["a", "b", "c", "d"] {
            let outcome =
                ow.once(key).run(async |_| Err::<u32, _>(NotDone::unknown("cable cut"))).await.unwrap();
            assert!(outcome.is_uncertain());
        }
        let happened = ow.once("a").probe(async |_| Verdict::Happened(7_u32)).await.unwrap().unwrap();
        assert_eq!(happened.done(), Some(7));
        let free = ow.once("b").probe(async |_| Verdict::<u32>::DidNotHappen).await.unwrap();
        assert!(free.is_none());
        assert_eq!(ow.once("b").run(async |_| Ok(8_u32)).await.unwrap().done(), Some(8));
        let verdict = async |row: &onceward::once::Record| match row.key.as_str() {
            "c" => Verdict::<u32>::Failed("gone".into()),
            _ => Verdict::StillUnknown,
        };
        let would = ow.admin().reconcile_dry_run(None, verdict).await.unwrap();
        let names = |keys: &[onceward::Key]| keys.iter().map(|key| key.to_string()).collect::<Vec<_>>();
        assert_eq!((names(&would.changed), names(&would.unknown)), (vec!["c".into()], vec!["d".into()]));
        let untouched = ow.once("c").peek::<u32>().await.unwrap();
        assert!(untouched.is_some_and(|outcome| outcome.is_uncertain()), "a dry run changes nothing");
        let bulk = ow
            .admin()
            .reconcile(None, "nightly", async |_| Verdict::<u32>::Failed("gone".into()))
            .await
            .unwrap();
        assert_eq!(bulk.changed.len(), 2);
        let history = ow.admin().history(Subject::Once, "b", 50).await.unwrap();
        let events: Vec<&str> = history.iter().rev().map(|entry| entry.event.as_str()).collect();
        assert_eq!(events, ["claimed", "uncertain", "resolved_released", "claimed", "done"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_at_once_each_on_its_own() {
    each(async |ow| {
        let keys: Vec<String> = (0..300).map(|n| format!("k{n}")).collect();
        let outcomes = ow.once_many(&keys).run(async |attempt| Ok(attempt.key().to_string())).await.unwrap();
        assert!(
            outcomes
                .into_iter()
                .zip(&keys)
                .all(|((_, outcome), key)| outcome.unwrap().done().as_ref() == Some(key))
        );
    })
    .await;
}
