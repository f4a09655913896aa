//! `once` through the public API, on the memory model.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use onceward::history::Subject;
use onceward::{Classify, Code, NotDone, Onceward, Outcome, Verdict};

async fn client() -> Onceward {
    Onceward::options().short_ttls_for_tests().connect("memory:").await.unwrap()
}

/// O1, O3: many callers, one run, the same result for all.
#[tokio::test(flavor = "multi_thread")]
async fn o1_200_callers_one_run() {
    let ow = client().await;
    let runs = Arc::new(AtomicU32::new(0));
    let mut callers = Vec::new();
    for _ in 0..200 {
        let (ow, runs) = (ow.clone(), runs.clone());
        callers.push(tokio::spawn(async move {
            ow.once("k")
                .wait(Duration::from_secs(10))
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
}

#[tokio::test(flavor = "multi_thread")]
async fn every_ending_is_what_it_says() {
    let ow = client().await;
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
}

/// N9: a dropped future proves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_future_is_uncertain() {
    let ow = client().await;
    let run = ow.once("k").run(async |_| {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok(())
    });
    assert!(tokio::time::timeout(Duration::from_millis(50), run).await.is_err());
    for _ in 0..100 {
        if ow.once("k").peek::<()>().await.unwrap().is_some_and(|outcome| outcome.is_uncertain()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still not uncertain");
}

/// W14: the hard limit is a ceiling. W17: a function longer than its ttl stays alive.
#[tokio::test(flavor = "multi_thread")]
async fn the_hard_limit_cancels_and_renewal_keeps_alive() {
    let ow = client().await;
    let ttl = Duration::from_millis(300);
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
}

/// O4: W29.
#[tokio::test(flavor = "multi_thread")]
async fn o4_another_request_under_the_same_key_is_refused() {
    let ow = client().await;
    let call = async |cents: u32| ow.once("k").fingerprint(&("order", cents)).run(async |_| Ok(cents)).await;
    assert_eq!(call(100).await.unwrap().done(), Some(100));
    let refused = call(200).await.unwrap_err();
    assert_eq!(refused.code(), Code::FingerprintMismatch);
    assert!(!format!("{refused:?}").contains("100"), "the recorded result is not leaked");
    assert_eq!(call(100).await.unwrap().done(), Some(100));
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
    let ow = client().await;
    for key in ["a", "b", "c", "d"] {
        let outcome = ow.once(key).run(async |_| Err::<u32, _>(NotDone::unknown("cable cut"))).await.unwrap();
        assert!(outcome.is_uncertain());
    }
    let happened = ow.once("a").probe(async |_| Verdict::Happened(7_u32)).await.unwrap().unwrap();
    assert_eq!(happened.done(), Some(7));
    let free = ow.once("b").probe(async |_| Verdict::<u32>::DidNotHappen).await.unwrap();
    assert!(free.is_none());
    assert_eq!(ow.once("b").run(async |_| Ok(8_u32)).await.unwrap().done(), Some(8));
    let bulk =
        ow.admin().reconcile(None, "nightly", async |_| Verdict::<u32>::Failed("gone".into())).await.unwrap();
    assert_eq!(bulk.changed.len(), 2);
    let history = ow.admin().history(Subject::Once, "b", 50).await.unwrap();
    let events: Vec<&str> = history.iter().rev().map(|entry| entry.event.as_str()).collect();
    assert_eq!(events, ["claimed", "uncertain", "resolved_released", "claimed", "done"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_at_once_each_on_its_own() {
    let ow = client().await;
    let keys: Vec<String> = (0..300).map(|n| format!("k{n}")).collect();
    let outcomes = ow.once_many(&keys).run(async |attempt| Ok(attempt.key().to_string())).await.unwrap();
    assert!(
        outcomes
            .into_iter()
            .zip(&keys)
            .all(|((_, outcome), key)| outcome.unwrap().done().as_ref() == Some(key))
    );
}
