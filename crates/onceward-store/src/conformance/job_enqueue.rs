//! Jobs: what is enqueued is there, once, to the byte, and due when it was to be.

use core::time::Duration;

use onceward_core::job::{
    Dedupe, DedupeScope, IdempotencyKey, New, OnConflict, Origin, Payload, Policy, Record, State,
};
use onceward_core::once::Fingerprint;
use onceward_core::{Timestamp, Token, limits};

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::{Enqueued, JobRef, SettledJob};

/// Payloads that a text, a JSON column or a driver would change or refuse.
fn odd_payloads() -> Vec<Vec<u8>> {
    vec![
        Vec::new(),
        vec![0],
        b"{\"a\":\"\\u0000\",\"a\":1.0,\"a\":1}".to_vec(),
        b"\"\\ud800\"".to_vec(),
        vec![0xed, 0xa0, 0x80, 0xff, 0xfe, 0xc0, 0x80],
        b"a\r\n\t'\"\\x00 \x1b[2J".to_vec(),
        (0..=255).collect(),
        "日本\u{feff}\u{202e}\u{1f980}".as_bytes().to_vec(),
    ]
}

/// J1, J2.
pub async fn j1_an_enqueued_job_is_seen_by_every_process(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let id = hand.create(&work("mail")).await;
    assert_eq!(other.job(id).await, hand.job(id).await);
    let worker = Worker::of(&other).await;
    assert_eq!(worker.take_one("mail").await.job.id, id);
    assert_eq!(hand.state(id).await, State::Running);
}

pub async fn a_new_job_is_what_its_maker_said_and_no_more(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let new = work("mail");
    let row = hand.job(hand.create(&new).await).await;
    assert_eq!(row, Record::of_new(&new, row.enqueued_at));
    assert_eq!((row.state, row.token, row.run_at), (State::Ready, Token::from_row(0), row.enqueued_at));
    assert!(near(now(&hand).await, row.enqueued_at));
}

pub async fn everything_said_about_a_job_comes_back(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let seen = now(&hand).await;
    let policy = Policy {
        durable: false,
        max_attempts: 3,
        timeout: Duration::from_millis(1_234),
        deadline: Some(Timestamp::from_micros(seen.after(secs(86_400)).as_micros())),
        // What comes first counts.
        expiry: Some(secs(90_000)),
        begins_after: None,
        retry: "linear 3s max 1m jitter 0.1".parse().unwrap(),
        at_most_once: true,
        retain: secs(17),
        origin: Some(Origin { seed: uuid::Uuid::from_u128(17), began: Some(Timestamp::from_micros(17)) }),
    };
    let replayed = job_id();
    let new = New {
        queue: queue("front"),
        priority: -1_000,
        payload: Payload {
            bytes: b"{}".to_vec(),
            content_type: "application/json; charset=utf-8".to_owned(),
        },
        policy,
        run_at: Some(seen.after(secs(3_600))),
        key: Some(IdempotencyKey { key: key("k"), fingerprint: Fingerprint([7; 32]), ttl: secs(60) }),
        dedupe: Some(Dedupe {
            key: key("d"),
            scope: DedupeScope::UntilStarted,
            on_conflict: OnConflict::Existing,
        }),
        ordering_key: Some(key("customer:\"1\"")),
        lines: vec![key("the one \"before\"")],
        tags: vec![tag("gpu"), tag("eu")],
        metadata: Some("{\"a\":\"\\u0000\",\"a\":2}".to_owned()),
        trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        replay_of: Some(replayed),
        root: replayed,
        ..work("mail")
    };
    let row = hand.job(hand.create(&new).await).await;
    assert_eq!(row, Record::of_new(&new, row.enqueued_at));
    assert!(row.wants_begin() && row.state == State::Scheduled);
}

/// J2.
pub async fn j2_the_same_job_sent_twice_is_one_job(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let batch = works("mail", 3);
    let created = hand.create_all(&batch).await;
    assert_eq!(hand.create_all(&batch).await, created);
    let claimed = worker.take("mail", ALL).await;
    assert_eq!(ids(&claimed), created);
    hand.create_all(&batch).await;
    assert!(worker.take("mail", ALL).await.is_empty(), "it runs already");
    worker.end_all(&claimed, &succeeded()).await;
    hand.create_all(&batch).await;
    assert!(worker.take("mail", ALL).await.is_empty(), "it has ended");
    assert_eq!(hand.states(&created).await, [State::Succeeded; 3]);
}

/// J2, N70: of two jobs of one id the first one counts.
pub async fn j2_the_first_of_two_jobs_of_one_id_wins(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let first = work("mail");
    hand.create(&first).await;
    let row = hand.job(first.id).await;
    let other = Payload { bytes: b"other".to_vec(), content_type: "other".to_owned() };
    let second = New { id: first.id, payload: other, priority: 5, queue: queue("front"), ..work("print") };
    assert_eq!(hand.enqueue(&second).await, Enqueued::Created(first.id));
    assert_eq!(hand.job(first.id).await, row);
    let worker = Worker::of(&hand).await;
    assert!(worker.take("print", ALL).await.is_empty());
    assert_eq!(worker.take_one("mail").await.job.payload, first.payload);
}

pub async fn payloads_come_back_to_the_byte(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let payload = |bytes| Payload { bytes, content_type: String::new() };
    let batch: Vec<New> =
        odd_payloads().into_iter().map(|bytes| New { payload: payload(bytes), ..work("mail") }).collect();
    let created = hand.create_all(&batch).await;
    let claimed = Worker::of(&hand).await.take("mail", ALL).await;
    let rows = hand.jobs(&created).await.rows;
    for ((new, claimed), row) in batch.iter().zip(claimed).zip(rows) {
        assert_eq!(claimed.job.payload, new.payload);
        assert_eq!(row.unwrap().payload, new.payload);
    }
}

pub async fn the_largest_payload_comes_back_to_the_byte(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let bytes: Vec<u8> = (0..limits::PAYLOAD_BYTES_MAX).map(|at| (at % 251) as u8).collect();
    let content_type = "x".repeat(limits::CONTENT_TYPE_BYTES_MAX);
    let new = New { payload: Payload { bytes, content_type }, ..work("mail") };
    hand.create(&new).await;
    let claimed = Worker::of(&hand).await.take_one("mail").await;
    assert!(claimed.job.payload == new.payload && hand.job(new.id).await.payload == new.payload);
}

/// J15.
pub async fn j15_a_delayed_job_waits_for_its_time_by_the_stores_clock(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let id = hand.create(&New { delay: Some(secs(60)), ..work("mail") }).await;
    let row = hand.job(id).await;
    assert_eq!((row.state, row.run_at), (State::Scheduled, row.enqueued_at.after(secs(60))));
    let promoted = hand.promote().await;
    assert_eq!((promoted.moved, promoted.next_due), (0, Some(row.run_at)));
    assert!(worker.take("mail", 1).await.is_empty());
    harness.advance(secs(61)).await;
    let promoted = hand.promote().await;
    assert_eq!((promoted.moved, promoted.next_due), (1, None));
    assert_eq!(worker.take_one("mail").await.job.id, id);
}

pub async fn a_job_that_was_due_long_ago_is_due_now(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let young = hand.create(&work("mail")).await;
    let old = hand.create(&New { run_at: Some(Timestamp::from_micros(1)), ..work("mail") }).await;
    let row = hand.job(old).await;
    assert_eq!((row.state, row.run_at), (State::Ready, Timestamp::from_micros(1)));
    assert_eq!(ids(&Worker::of(&hand).await.take("mail", ALL).await), [old, young]);
}

pub async fn jobs_may_be_due_as_late_as_can_be_said(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let at = Timestamp::from_micros(9_999_999_999_000_000);
    let late = hand.create(&New { run_at: Some(at), ..work("mail") }).await;
    let longest = hand.create(&New { delay: Some(limits::DELAY_MAX), ..work("mail") }).await;
    assert_eq!(hand.job(late).await.run_at, at);
    let row = hand.job(longest).await;
    assert_eq!(row.run_at, row.enqueued_at.after(limits::DELAY_MAX));
    assert_eq!(hand.promote().await.next_due, Some(row.run_at));
}

/// J2.
pub async fn j2_a_thousand_jobs_are_enqueued_claimed_and_settled_at_once(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let batch = works("mail", limits::CLAIM_JOBS_MAX);
    let created = hand.create_all(&batch).await;
    let claimed = worker.take("mail", limits::CLAIM_JOBS_MAX).await;
    assert_eq!(ids(&claimed), created);
    worker.end_all(&claimed, &succeeded()).await;
    assert!(hand.states(&created).await.iter().all(|state| *state == State::Succeeded));
}

pub async fn one_batch_of_jobs_has_every_fate_in_its_order(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let keyed = |text: &str, print| New {
        key: Some(IdempotencyKey { key: key(text), fingerprint: Fingerprint([print; 32]), ttl: secs(60) }),
        ..work("mail")
    };
    let (first, second, sent) = (keyed("a", 1), keyed("b", 1), work("mail"));
    hand.create_all(&[first.clone(), second.clone(), sent.clone()]).await;
    let (fresh, plain) = (keyed("c", 1), work("mail"));
    let batch = [plain.clone(), keyed("b", 2), keyed("a", 1), sent.clone(), fresh.clone()];
    let wanted = [
        Enqueued::Created(plain.id),
        Enqueued::Mismatch(second.id),
        Enqueued::Existing(first.id),
        Enqueued::Created(sent.id),
        Enqueued::Created(fresh.id),
    ];
    assert_eq!(hand.enqueue_all(&batch).await, wanted);
    assert_eq!(hand.enqueue_all(&batch).await, wanted, "and the same when it is sent again");
    let refused = hand.jobs(&[batch[1].id, batch[2].id]).await.rows;
    assert_eq!(refused, [None, None], "what was refused left nothing");
}

pub async fn empty_batches_of_jobs_have_no_answers(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    assert!(hand.enqueue_all(&[]).await.is_empty());
    assert!(hand.begin_jobs(&[]).await.is_empty());
    assert!(hand.settle_jobs(&[]).await.is_empty());
    assert!(hand.jobs(&[]).await.rows.is_empty());
    assert!(hand.claim_jobs(&worker.wish(&[], ALL)).await.jobs.is_empty());
    assert!(hand.lanes(&[]).await.is_empty());
    assert_eq!(hand.rescue().await.jobs, []);
    let promoted = hand.promote().await;
    assert_eq!((promoted.moved, promoted.queues, promoted.next_due), (0, Vec::new(), None));
}

pub async fn odd_names_of_kinds_and_queues_are_kept_apart(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let names =
        ["mail", "MAIL", "mail ", "ma%l", "m_il", "it's \"x\"", "日本", "mail\u{200b}", "; DROP TABLE job"];
    let names: Vec<&str> = names.into_iter().filter(|text| onceward_core::Kind::new(text).is_ok()).collect();
    let batch: Vec<New> = names.iter().map(|text| New { queue: queue(text), ..work(text) }).collect();
    hand.create_all(&batch).await;
    for (text, new) in names.iter().zip(&batch) {
        let want = crate::Want { queue: queue(text), ..lane(text) };
        let claimed = hand.claim_jobs(&worker.wish(&[want], ALL)).await.jobs;
        assert_eq!(ids(&claimed), [new.id], "{text:?}");
    }
}

/// J1.
pub async fn a_job_belongs_to_its_namespace(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let mine = work("mail");
    let theirs = New { namespace: namespace("theirs"), payload: Payload::default(), ..mine.clone() };
    hand.create_all(core::slice::from_ref(&mine)).await;
    hand.create_all(core::slice::from_ref(&theirs)).await;
    let wish = crate::ClaimJobs { namespace: namespace("theirs"), ..worker.wish(&[lane("mail")], ALL) };
    let claimed = only(hand.claim_jobs(&wish).await.jobs);
    assert_eq!((&claimed.job.namespace, &claimed.job.payload), (&theirs.namespace, &theirs.payload));
    assert_eq!(worker.end(&claimed, succeeded()).await, SettledJob::Applied(State::Succeeded));
    assert_eq!(hand.state(mine.id).await, State::Ready, "one of the same id, of somebody else");
    assert_eq!(worker.take_one("mail").await.job.payload, mine.payload);
    let foreign = JobRef { namespace: namespace("nobody"), id: mine.id };
    assert_eq!(hand.store.job_lookup(&[foreign]).await.unwrap().rows, [None]);
}
