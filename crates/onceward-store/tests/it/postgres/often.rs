//! Statements for what nearly always happens: what they leave open is asked for by the others, and nobody notices.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::jobs::{ALL, Worker, work};
use crate::support::{Fresh, ask, key, once_ask};
use onceward_core::job::New;
use onceward_core::once::{self, Body, Ending, State};
use onceward_core::{Code, JobId, Namespace, lease};
use onceward_store::lane::Lanes;
use onceward_store::{Acquired, Claimed, Enqueued, JobRef, KeyRef, ReleaseLease, SettleOnce, Store};

const TTL: Duration = Duration::from_secs(30);

/// Claims so many new keys that the next batch expects some more of them, also if the one before was disappointed.
async fn warm(store: &Arc<dyn Store>, round: &str) {
    let asks: Vec<_> = (0..128).map(|n| once_ask(&format!("{round} {n}"), TTL)).collect();
    let granted = store.once_claim(&asks).await.unwrap();
    assert!(granted.iter().all(|answer| matches!(answer, Claimed::Granted(_))));
}

async fn claim(store: &Arc<dyn Store>, key: &str, ttl: Duration) -> once::Record {
    match store.once_claim(&[once_ask(key, ttl)]).await.unwrap().remove(0) {
        Claimed::Granted(row) => *row,
        other => panic!("{other:?}"),
    }
}

async fn finish(store: &Arc<dyn Store>, row: &once::Record) {
    let ending = Ending::Done(Body::new(b"ok".to_vec(), "text/plain"));
    let (namespace, key) = (row.namespace.clone(), row.key.clone());
    let settle = SettleOnce { namespace, key, token: row.token, ending, place: row.place };
    store.once_settle(&[settle]).await.unwrap();
}

/// What a claim found, in a word.
fn word(answer: &Claimed) -> &'static str {
    match answer {
        Claimed::Granted(_) => "granted",
        Claimed::Existing { row, now } => match row.state_at(*now) {
            State::Running => "running",
            State::Uncertain => "uncertain",
            State::Done => "done",
            _ => "something else",
        },
        _ => "refused",
    }
}

/// O1, O2, O5: after many new keys a batch does not look, and answers as one that looks.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_does_not_look_answers_as_one_that_does() {
    for fresh in [Fresh::new().await, Fresh::pooled().await] {
        let store = fresh.store().await;
        let (done, running) = (claim(&store, "done", TTL).await, claim(&store, "running", TTL).await);
        finish(&store, &done).await;
        claim(&store, "lost", Duration::from_millis(100)).await;
        fresh.advance(Duration::from_secs(1)).await;
        warm(&store, "warm").await;

        let before = store.counters().statements;
        let news: Vec<_> = (0..10).map(|n| once_ask(&format!("new {n}"), TTL)).collect();
        let granted = store.once_claim(&news).await.unwrap();
        assert_eq!(store.counters().statements - before, 1);
        let tokens: BTreeSet<_> = granted
            .iter()
            .map(|answer| match answer {
                Claimed::Granted(row) => (row.key.to_string(), row.attempts, row.place.0.is_some()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(tokens.len() == 10 && tokens.iter().all(|(_, attempts, placed)| *attempts == 1 && *placed));
        let Claimed::Granted(first) = &granted[0] else { panic!("{granted:?}") };
        finish(&store, first).await;

        let mixed: Vec<_> = ["new a", "done", "running", "new 0", "lost", "new b"]
            .map(|key| once_ask(key, TTL))
            .into_iter()
            .collect();
        let words: Vec<_> = store.once_claim(&mixed).await.unwrap().iter().map(word).collect();
        assert_eq!(words, ["granted", "done", "running", "done", "uncertain", "granted"]);
        // One of the same session is its own: an answer that was lost is found again.
        let again = once::Ask { session: running.session, ..once_ask("running", TTL) };
        warm(&store, "warm again").await;
        let seen = store.once_claim(&[again]).await.unwrap().remove(0);
        assert!(matches!(&seen, Claimed::Granted(row) if row.token == running.token), "{seen:?}");
    }
}

/// Law 1: somebody's open transaction changes the row of a finished key, or makes one. The batch that meets it waits
/// for the lock timeout, its other rows are granted, and what is finished is read whoever changes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_being_written_holds_up_nobody_else() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    finish(&store, &claim(&store, "held", TTL).await).await;
    warm(&store, "warm").await;
    let mut client = fresh.client().await;
    let tx = client.transaction().await.unwrap();
    let text = format!("UPDATE {}.once SET reason = 'mine' WHERE key = 'held'", fresh.schema);
    tx.batch_execute(&text).await.unwrap();
    let (began, both) = (Instant::now(), [once_ask("beside", TTL), once_ask("held", TTL)]);
    let words: Vec<_> = store.once_claim(&both).await.unwrap().iter().map(word).collect();
    assert_eq!(words, ["granted", "done"]);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());

    let text = format!(
        "INSERT INTO {0}.once SELECT (jsonb_populate_record(o, '{{\"key\": \"making\"}}')).* FROM {0}.once o
         WHERE key = 'beside'",
        fresh.schema
    );
    tx.batch_execute(&text).await.unwrap();
    warm(&store, "warm again").await;
    let lanes = Lanes::new(Arc::clone(&store), Duration::from_secs(5));
    let claim = |key: &str| {
        let (lanes, ask) = (lanes.clone(), once_ask(key, TTL));
        tokio::spawn(async move { lanes.claim(ask).await })
    };
    let (began, calls) = (Instant::now(), ["a", "making", "b", "held", "c"].map(claim));
    for (call, expected) in calls.into_iter().zip(["granted", "", "granted", "done", "granted"]) {
        match (call.await.unwrap(), expected) {
            (Err(error), "") => assert_eq!(error.code(), Code::KeyLocked, "{error:?}"),
            (answer, expected) => assert_eq!(word(&answer.unwrap()), expected),
        }
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    tx.rollback().await.unwrap();
    let held = KeyRef { namespace: Namespace::default(), key: key("held") };
    let row = store.once_lookup(&[held]).await.unwrap().rows.remove(0).unwrap();
    assert_eq!(row.state, State::Done);
}

/// Takes leases, all of which are free, and gives them back.
async fn cycle(store: &Arc<dyn Store>, keys: &[String]) -> Vec<lease::Record> {
    let asks: Vec<_> = keys.iter().map(|key| ask(key, TTL)).collect();
    let granted: Vec<_> = store.lease_acquire(&asks).await.unwrap().into_iter().map(held).collect();
    let backs: Vec<_> = granted.iter().map(back).collect();
    assert!(store.lease_release(&backs).await.unwrap().into_iter().all(|given| given));
    granted
}

fn held(acquired: Acquired) -> lease::Record {
    match acquired {
        Acquired::Granted(row) => *row,
        other => panic!("{other:?}"),
    }
}

fn back(row: &lease::Record) -> ReleaseLease {
    let (namespace, key) = (row.namespace.clone(), row.key.clone());
    ReleaseLease { namespace, key, token: row.token, reason: None, place: row.place }
}

/// L1, L2, L8: leases that are taken and given back over and over go the short way; those beside them that are held,
/// new, or have moved since, are answered as ever.
#[tokio::test(flavor = "multi_thread")]
async fn leases_that_go_round_answer_as_all_others() {
    for fresh in [Fresh::new().await, Fresh::pooled().await] {
        let store = fresh.store().await;
        let keys: Vec<String> = (0..64).map(|n| format!("round {n:02}")).collect();
        let first = cycle(&store, &keys).await;
        let before = store.counters().statements;
        let second = cycle(&store, &keys).await;
        assert_eq!(store.counters().statements - before, 2);
        assert!(first.iter().zip(&second).all(|(first, second)| first.token < second.token));

        let taken = held(store.lease_acquire(&[ask("round 07", TTL)]).await.unwrap().remove(0));
        cycle(&store, &keys[20..]).await;
        let mixed = ["round 01", "round 07", "never", "round 02"].map(|key| ask(key, TTL));
        let answers = store.lease_acquire(&mixed).await.unwrap();
        let words: Vec<_> = answers.iter().map(|answer| matches!(answer, Acquired::Granted(_))).collect();
        assert_eq!(words, [true, false, true, true]);
        let Acquired::Held { by: Some(by), .. } = &answers[1] else { panic!("{answers:?}") };
        assert_eq!(by.token, taken.token);

        // A renewal moves a row: it is given back all the same, and once.
        let claim = crate::support::claim_of(&taken);
        store.lease_renew(&[claim]).await.unwrap();
        cycle(&store, &keys[20..]).await;
        assert_eq!(store.lease_release(&[back(&second[0]), back(&taken)]).await.unwrap(), [false, true]);
        assert_eq!(store.lease_release(&[back(&taken)]).await.unwrap(), [false]);
    }
}

fn ids(jobs: &[New]) -> Vec<JobId> {
    jobs.iter().map(|new| new.id).collect()
}

/// J1, J4: so many jobs that two statements write them are due at one moment, stay in their order, and are there once,
/// also where some of them, or all, were sent before.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_two_statements_write_are_one_batch() {
    for fresh in [Fresh::new().await, Fresh::pooled().await] {
        let (store, other) = (fresh.store().await, fresh.store().await);
        let worker = Worker::on(&store).await;
        let jobs: Vec<New> = (0..600).map(|_| work("mail")).collect();
        let created = |answers: Vec<Enqueued>| answers.iter().all(|it| matches!(it, Enqueued::Created(_)));
        // One of the second half is there, and this store has not heard of it.
        other.job_enqueue(&jobs[500..501]).await.unwrap();
        assert!(created(store.job_enqueue(&jobs).await.unwrap()));
        assert!(created(store.job_enqueue(&jobs).await.unwrap()), "sent again");
        let more: Vec<New> = (0..300).map(|_| work("mail")).collect();
        assert!(created(store.job_enqueue(&more).await.unwrap()));

        let later: Vec<New> =
            (0..300).map(|_| New { delay: Some(Duration::from_secs(60)), ..work("mail") }).collect();
        assert!(created(store.job_enqueue(&later).await.unwrap()));
        let of = |new: &New| JobRef { namespace: Namespace::default(), id: new.id };
        let seen = store.job_lookup(&later.iter().map(of).collect::<Vec<_>>()).await.unwrap();
        let moments: BTreeSet<_> = seen.rows.iter().flatten().map(|row| row.run_at).collect();
        assert!(moments.len() == 1 && moments.first() > Some(&seen.now), "{moments:?}");

        let claimed = worker.take("mail", ALL).await;
        let seen: BTreeSet<JobId> = claimed.iter().map(|claimed| claimed.job.id).collect();
        assert_eq!(claimed.len(), 900);
        assert_eq!(seen, ids(&jobs).into_iter().chain(ids(&more)).collect());
        let last: Vec<_> = claimed.iter().filter(|claimed| ids(&more).contains(&claimed.job.id)).collect();
        assert_eq!(last.iter().map(|claimed| claimed.job.id).collect::<Vec<_>>(), ids(&more));
        let moments: BTreeSet<_> = last.iter().map(|claimed| claimed.job.run_at).collect();
        assert_eq!(moments.len(), 1, "all of a batch are due at one moment");
        assert!(last.iter().all(|claimed| claimed.job.run_at <= claimed.job.enqueued_at));
    }
}
