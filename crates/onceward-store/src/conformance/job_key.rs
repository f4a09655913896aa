//! Jobs: the keys under which a second enqueue finds the first one's job (J9).

use core::time::Duration;

use onceward_core::job::{
    Dedupe, DedupeScope, Ending, IdempotencyKey, Move, New, OnConflict, Payload, Policy, State,
};
use onceward_core::once::Fingerprint;

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::Enqueued;

const HOUR: Duration = Duration::from_secs(3_600);

/// A job under an idempotency key.
fn keyed(text: &str, print: u8) -> New {
    let fingerprint = Fingerprint([print; 32]);
    New { key: Some(IdempotencyKey { key: key(text), fingerprint, ttl: HOUR }), ..work("mail") }
}

/// A job under a dedupe key.
fn deduped(text: &str, scope: DedupeScope, on_conflict: OnConflict) -> New {
    New { dedupe: Some(Dedupe { key: key(text), scope, on_conflict }), ..work("mail") }
}

fn alone(scope: DedupeScope) -> New {
    deduped("d", scope, OnConflict::Existing)
}

/// Whether another job may be enqueued under the key; the job that may.
async fn newcomer(hand: &Hand, scope: DedupeScope) -> Option<New> {
    let new = alone(scope);
    (hand.enqueue(&new).await == Enqueued::Created(new.id)).then_some(new)
}

/// J9, J13.
pub async fn j9_an_idempotency_key_finds_its_job_in_every_state(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let first = hand.create(&keyed("order-1", 1)).await;
    let again = async || assert_eq!(hand.enqueue(&keyed("order-1", 1)).await, Enqueued::Existing(first));
    again().await;
    let claimed = worker.take_one("mail").await;
    again().await;
    worker.end_all(&[claimed], &Ending::Dead("no such address".to_owned())).await;
    again().await;
    hand.moved(first, Move::Cancel).await;
    again().await;
    assert!(worker.take("mail", ALL).await.is_empty(), "one job");
}

/// J9.
pub async fn j9_an_idempotency_key_refuses_another_request(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let first = hand.create(&keyed("order-1", 1)).await;
    let other = keyed("order-1", 2);
    for _ in 0..2 {
        assert_eq!(hand.enqueue(&other).await, Enqueued::Mismatch(first));
    }
    assert_eq!(hand.find_job(other.id).await, None);
    assert_eq!(hand.job(first).await.state, State::Ready);
}

/// J9, J2: the answer got lost, and the same job comes again with its key.
pub async fn j9_a_job_sent_again_is_not_kept_away_by_its_own_keys(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let new = New { dedupe: alone(DedupeScope::UntilDone).dedupe, ..keyed("order-1", 1) };
    hand.create(&new).await;
    hand.create(&new).await;
    assert_eq!(Worker::of(&hand).await.take("mail", ALL).await.len(), 1);
}

/// J9.
pub async fn j9_an_idempotency_key_outlives_the_row_of_its_job(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let policy = Policy { retain: Duration::ZERO, ..Policy::default() };
    let first = hand.create(&New { policy, ..keyed("order-1", 1) }).await;
    worker.end_all(&worker.take("mail", 1).await, &succeeded()).await;
    assert_eq!(hand.find_job(first).await, None);
    assert_eq!(hand.enqueue(&keyed("order-1", 1)).await, Enqueued::Existing(first));
    assert_eq!(hand.enqueue(&keyed("order-1", 2)).await, Enqueued::Mismatch(first));
}

/// J9: a job that waits for longer than its key lasts is not made twice.
pub async fn j9_an_idempotency_key_lasts_as_long_as_its_job(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let first = hand.create(&keyed("order-1", 1)).await;
    harness.advance(HOUR + secs(1)).await;
    assert_eq!(hand.enqueue(&keyed("order-1", 1)).await, Enqueued::Existing(first));
    assert_eq!(hand.prune_jobs(HOUR).await.keys, 0);
    assert_eq!(hand.enqueue(&keyed("order-1", 2)).await, Enqueued::Mismatch(first));
    worker.end_all(&worker.take("mail", 1).await, &succeeded()).await;
    harness.advance(HOUR * 25).await;
    let second = hand.create(&keyed("order-1", 2)).await;
    assert_eq!(hand.states(&[first, second]).await, [State::Succeeded, State::Ready]);
}

/// J9: nobody knows yet whether an uncertain job did its work, so that no other one does it under the key, however old
/// that is; once somebody has said how it was, the key is over.
pub async fn j9_an_uncertain_job_has_its_idempotency_key_until_it_is_resolved(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let ask = New { policy: at_most_once("mail").policy, ..keyed("order-1", 1) };
    let first = hand.create(&ask).await;
    let claimed = worker.take("mail", 1).await;
    worker.end_all(&claimed, &Ending::Uncertain("who knows".to_owned())).await;
    harness.advance(HOUR + secs(1)).await;
    assert_eq!(hand.enqueue(&keyed("order-1", 1)).await, Enqueued::Existing(first));
    assert_eq!(hand.enqueue(&keyed("order-1", 2)).await, Enqueued::Mismatch(first));
    assert_eq!(hand.prune_jobs(HOUR).await.keys, 0);
    assert_eq!(hand.enqueue(&keyed("order-1", 1)).await, Enqueued::Existing(first));
    hand.moved(first, Move::Dead).await;
    harness.advance(HOUR * 25).await;
    let second = hand.create(&keyed("order-1", 2)).await;
    assert_eq!(hand.states(&[first, second]).await, [State::Dead, State::Ready]);
}

/// J9.
pub async fn j9_an_idempotency_key_ends_with_its_time(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let first = hand.create(&keyed("order-1", 1)).await;
    worker.end_all(&worker.take("mail", 1).await, &succeeded()).await;
    harness.advance(HOUR - secs(5)).await;
    assert_eq!(hand.enqueue(&keyed("order-1", 1)).await, Enqueued::Existing(first));
    harness.advance(secs(6)).await;
    let second = hand.create(&keyed("order-1", 2)).await;
    assert_eq!(
        hand.enqueue(&keyed("order-1", 2)).await,
        Enqueued::Existing(second),
        "it is the second one's now"
    );
    assert_eq!(hand.states(&[first, second]).await, [State::Succeeded, State::Ready]);
}

/// J9.
pub async fn j9_keys_of_one_text_are_apart_by_namespace_and_purpose(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    hand.create(&keyed("x", 1)).await;
    hand.create(&deduped("x", DedupeScope::UntilDone, OnConflict::Existing)).await;
    hand.create(&New { namespace: namespace("theirs"), ..keyed("x", 2) }).await;
    for text in ["X", "x ", "x%", "%", "_"] {
        hand.create(&keyed(text, 1)).await;
        hand.create(&deduped(text, DedupeScope::UntilDone, OnConflict::Existing)).await;
    }
}

/// J9.
pub async fn j9_a_key_until_started_is_free_when_the_handler_starts(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let scope = DedupeScope::UntilStarted;
    let first = hand.create(&alone(scope)).await;
    assert!(newcomer(&hand, scope).await.is_none());
    let claimed = worker.take_one("mail").await;
    assert!(claimed.job.id == first && claimed.job.wants_begin());
    assert!(newcomer(&hand, scope).await.is_none(), "claimed is not started");
    assert!(worker.start(&claimed).await);
    let second = newcomer(&hand, scope).await.unwrap();
    assert!(worker.start(&claimed).await, "a start sent again");
    assert!(newcomer(&hand, scope).await.is_none(), "frees no key of somebody else");
    assert_eq!(worker.take_one("mail").await.job.id, second.id);
}

/// J9.
pub async fn j9_a_key_until_started_ends_with_a_job_that_never_started(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let scope = DedupeScope::UntilStarted;
    let first = hand.create(&alone(scope)).await;
    hand.moved(first, Move::Cancel).await;
    assert!(newcomer(&hand, scope).await.is_some());
}

/// J9.
pub async fn j9_a_key_until_done_lasts_as_long_as_its_job(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let scope = DedupeScope::UntilDone;
    let first = hand.create(&alone(scope)).await;
    for ending in [broken(Duration::ZERO), Ending::Snoozed(Duration::ZERO), Ending::HandedBack] {
        let claimed = worker.take_one("mail").await;
        assert!(claimed.job.id == first && newcomer(&hand, scope).await.is_none(), "it runs");
        worker.end_all(&[claimed], &ending).await;
        assert!(newcomer(&hand, scope).await.is_none(), "it waits after {ending:?}");
        harness.advance(TICK).await;
        hand.promote().await;
    }
    worker.end_all(&worker.take("mail", 1).await, &succeeded()).await;
    let second = newcomer(&hand, scope).await.unwrap();
    assert_eq!(hand.enqueue(&alone(scope)).await, Enqueued::Existing(second.id));
}

/// J9.
pub async fn j9_a_key_until_done_is_free_after_every_end(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let scope = DedupeScope::UntilDone;
    let doubt = Ending::Uncertain("the line went dead".to_owned());
    let endings = [succeeded(), Ending::Dead("no".to_owned()), Ending::Cancelled("no".to_owned()), doubt];
    for ending in endings {
        newcomer(&hand, scope).await.expect("the key is free");
        worker.end_all(&worker.take("mail", 1).await, &ending).await;
    }
    let waiting = newcomer(&hand, scope).await.expect("the key is free");
    hand.moved(waiting.id, Move::Cancel).await;
    newcomer(&hand, scope).await.expect("the key is free after a cancel");
}

/// J9: the window is apart from how long the job is kept (W60).
pub async fn j9_a_window_lasts_whatever_becomes_of_its_job(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let scope = DedupeScope::Window(HOUR);
    let policy = Policy { retain: Duration::ZERO, ..Policy::default() };
    hand.create(&New { policy, ..alone(scope) }).await;
    let claimed = worker.take("mail", 1).await;
    assert!(newcomer(&hand, scope).await.is_none());
    worker.end_all(&claimed, &succeeded()).await;
    assert!(newcomer(&hand, scope).await.is_none(), "its job is done and forgotten");
    harness.advance(HOUR + secs(1)).await;
    assert!(newcomer(&hand, scope).await.is_some());
}

/// J9.
pub async fn j9_a_newcomer_replaces_what_waits_under_its_key(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let replacing = |text: &str| {
        let payload = Payload { bytes: text.as_bytes().to_vec(), content_type: format!("text/{text}") };
        let policy = Policy { max_attempts: 3, timeout: secs(9), ..Policy::default() };
        let dedupe = deduped("d", DedupeScope::UntilDone, OnConflict::Replace).dedupe;
        New { payload, policy, dedupe, ..work("mail") }
    };
    let first = hand.create(&New { policy: Policy::default(), ..replacing("first") }).await;
    let second = replacing("second");
    assert_eq!(hand.enqueue(&second).await, Enqueued::Existing(first));
    let claimed = worker.take_one("mail").await;
    assert_eq!((claimed.job.id, &claimed.job.payload), (first, &second.payload));
    assert_eq!(claimed.job.policy, second.policy);
    assert_eq!(hand.enqueue(&replacing("third")).await, Enqueued::Existing(first));
    assert_eq!(hand.job(first).await.payload, second.payload, "what runs stays what it is");
    worker.end_all(&[claimed], &broken(Duration::ZERO)).await;
    let fourth = replacing("fourth");
    assert_eq!(hand.enqueue(&fourth).await, Enqueued::Existing(first));
    harness.advance(TICK).await;
    hand.promote().await;
    let claimed = worker.take_one("mail").await;
    assert_eq!((claimed.attempt(), &claimed.job.payload), (2, &fourth.payload));
    assert!(hand.find_job(second.id).await.is_none() && worker.take("mail", ALL).await.is_empty());
}

/// J4, J9: whoever replaces a job that is to be tried again does not take the attempt from it that it waits for.
pub async fn j4_a_newcomer_leaves_an_attempt_to_what_it_replaces(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let replacing = |max_attempts| New {
        policy: Policy { max_attempts, ..Policy::default() },
        ..deduped("d", DedupeScope::UntilDone, OnConflict::Replace)
    };
    let first = hand.create(&replacing(5)).await;
    for _ in 0..2 {
        worker.end_all(&worker.take("mail", 1).await, &broken(Duration::ZERO)).await;
        harness.advance(TICK).await;
        hand.promote().await;
    }
    assert_eq!(hand.enqueue(&replacing(1)).await, Enqueued::Existing(first));
    let claimed = worker.take_one("mail").await;
    assert_eq!((claimed.attempt(), claimed.job.policy.max_attempts), (3, 3));
    worker.end_all(&[claimed], &broken(Duration::ZERO)).await;
    assert_eq!(hand.state(first).await, State::Dead);
}

/// J9, J10: it was let through under its ordering key before, and does not wait for itself.
pub async fn j9_j10_a_retrying_job_that_is_asked_for_now_runs(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let pushing = || New {
        ordering_key: Some(key("line")),
        ..deduped("d", DedupeScope::UntilDone, OnConflict::PushOut)
    };
    let first = hand.create(&pushing()).await;
    worker.end_all(&[worker.take_one("mail").await], &broken(secs(60))).await;
    let behind = hand.create(&New { ordering_key: Some(key("line")), ..work("mail") }).await;
    harness.advance(secs(1)).await;
    assert_eq!(hand.enqueue(&pushing()).await, Enqueued::Existing(first));
    hand.promote().await;
    assert_eq!(ids(&worker.take("mail", ALL).await), [first]);
    assert_eq!(hand.state(behind).await, State::Ready, "those behind it go on waiting");
}

/// J9, J6.
pub async fn j9_a_newcomer_changes_nothing_that_has_ended(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    for (at, on_conflict) in [OnConflict::Replace, OnConflict::PushOut].into_iter().enumerate() {
        for (text, ending) in [("a", succeeded()), ("b", Ending::Dead("no".to_owned()))] {
            let text = format!("{text}{at}");
            let new = || deduped(&text, DedupeScope::Window(HOUR), on_conflict);
            let first = hand.create(&new()).await;
            worker.end_all(&worker.take("mail", 1).await, &ending).await;
            let ended = hand.job(first).await;
            let later = New { delay: Some(secs(60)), payload: Payload::default(), ..new() };
            assert_eq!(hand.enqueue(&later).await, Enqueued::Existing(first));
            assert_eq!(hand.job(first).await, ended);
        }
    }
    harness.advance(secs(120)).await;
    hand.promote().await;
    assert!(worker.take("mail", ALL).await.is_empty(), "nothing runs again");
}

/// J9.
pub async fn j9_a_newcomer_pushes_out_what_waits_under_its_key(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let pushing =
        |delay| New { delay: Some(secs(delay)), ..deduped("d", DedupeScope::UntilDone, OnConflict::PushOut) };
    let first = hand.create(&pushing(0)).await;
    assert_eq!(hand.enqueue(&pushing(60)).await, Enqueued::Existing(first));
    assert!(worker.take("mail", ALL).await.is_empty(), "it is not due any more");
    harness.advance(secs(40)).await;
    assert_eq!(hand.enqueue(&pushing(60)).await, Enqueued::Existing(first));
    harness.advance(secs(40)).await;
    assert_eq!(hand.promote().await.moved, 0);
    harness.advance(secs(21)).await;
    assert_eq!(hand.promote().await.moved, 1);
    let claimed = worker.take_one("mail").await;
    let before = hand.job(first).await;
    assert_eq!(hand.enqueue(&pushing(60)).await, Enqueued::Existing(first));
    assert_eq!(hand.job(first).await, before, "what runs is not put off");
    worker.end_all(&[claimed], &succeeded()).await;
}

/// J9.
pub async fn j9_of_many_at_once_one_gets_the_key(harness: &dyn Harness) {
    let hands = [Hand::of(harness).await.patient(), Hand::second(harness).await.patient()];
    for round in 0..6 {
        let text = format!("k{round}");
        let answers = together(12, |at| {
            let (hand, text) = (hands[at % 2].clone(), text.clone());
            let new = if round % 2 == 0 {
                keyed(&text, 1)
            } else {
                deduped(&text, DedupeScope::UntilDone, OnConflict::Existing)
            };
            async move { (new.id, hand.enqueue(&new).await) }
        });
        let answers = answers.await;
        let created: Vec<_> = answers
            .iter()
            .filter(|(id, answer)| *answer == Enqueued::Created(*id))
            .map(|(id, _)| *id)
            .collect();
        let winner = only(created);
        let others = answers.iter().filter(|(id, _)| *id != winner);
        for (id, answer) in others {
            assert_eq!(*answer, Enqueued::Existing(winner));
            assert_eq!(hands[0].find_job(*id).await, None, "the others left nothing");
        }
    }
}

/// J13.
pub async fn j13_a_replay_asked_for_twice_is_one_job_that_tells_its_line(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let payload = Payload { bytes: vec![0, 255, 0xed, 0xa0, 0x80], content_type: "x/y".to_owned() };
    let first = New { payload, metadata: Some("{\"h\":1}".to_owned()), ..work("mail") };
    hand.create(&first).await;
    worker.end_all(&worker.take("mail", 1).await, &Ending::Dead("no".to_owned())).await;
    let dead = hand.job(first.id).await;
    let request = keyed("replay-request-1", 1).key;
    let replay = || New { id: job_id(), key: request.clone(), replay_of: Some(first.id), ..first.clone() };
    let (one, two) = (replay(), replay());
    hand.create(&one).await;
    assert_eq!(hand.enqueue(&two).await, Enqueued::Existing(one.id));
    let claimed = worker.take_one("mail").await;
    assert_eq!((&claimed.job.payload, &claimed.job.metadata), (&first.payload, &first.metadata));
    assert_eq!((claimed.job.replay_of, claimed.job.root), (Some(first.id), first.id));
    assert_eq!(hand.job(first.id).await, dead, "J6: the dead one stays as it is");
}
