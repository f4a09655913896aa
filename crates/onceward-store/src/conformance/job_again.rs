//! Jobs: what an operator's "run it now" means for the keys of a job (J9).

use core::time::Duration;

use onceward_core::JobId;
use onceward_core::job::{Dedupe, DedupeScope, Ending, Move, Moved, New, OnConflict, Payload, State};

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::{Enqueued, MoveJob};

const HOUR: Duration = Duration::from_secs(3_600);
const SCOPES: [DedupeScope; 3] =
    [DedupeScope::UntilDone, DedupeScope::UntilStarted, DedupeScope::Window(HOUR)];

fn deduped(scope: DedupeScope, on_conflict: OnConflict) -> New {
    New { dedupe: Some(Dedupe { key: key("d"), scope, on_conflict }), ..work("mail") }
}

fn alone(scope: DedupeScope) -> New {
    deduped(scope, OnConflict::Existing)
}

/// Who has the key, by what somebody is told who wants it. Where it is free, it stays so.
async fn holder(hand: &Hand, scope: DedupeScope) -> Option<JobId> {
    match hand.enqueue(&alone(scope)).await {
        Enqueued::Existing(id) => Some(id),
        Enqueued::Created(id) => {
            hand.moved(id, Move::Cancel).await;
            None
        }
        Enqueued::Mismatch(id) => panic!("a dedupe key has no fingerprint, and {id} has another one"),
    }
}

fn ends() -> [(Ending, State); 2] {
    let doubt = Ending::Uncertain("the line went dead".to_owned());
    [(Ending::Dead("no such address".to_owned()), State::Dead), (doubt, State::Uncertain)]
}

/// Takes the next job, starts it, and ends it like this; which one that was.
async fn run(worker: &Worker, ending: &Ending) -> JobId {
    let claimed = worker.take_one("mail").await;
    if claimed.job.wants_begin() {
        assert!(worker.start(&claimed).await);
    }
    worker.end_all(core::slice::from_ref(&claimed), ending).await;
    claimed.job.id
}

/// J9: what has ended has let go of its key; alive again, it has it again.
pub async fn j9_a_job_that_is_run_again_takes_its_key_again(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let scope = DedupeScope::UntilDone;
    for (ending, state) in ends() {
        let first = hand.create(&alone(scope)).await;
        assert_eq!(run(&worker, &ending).await, first);
        let dry = MoveJob { dry_run: true, ..moving(first, Move::RunNow) };
        assert_eq!(hand.job_move(&dry).await, Moved::Applied { from: state });
        assert_eq!(holder(&hand, scope).await, None, "a dry run takes nothing");
        assert_eq!(hand.moved(first, Move::RunNow).await, state);
        assert_eq!(holder(&hand, scope).await, Some(first), "it waits");
        let claimed = worker.take_one("mail").await;
        assert_eq!(holder(&hand, scope).await, Some(first), "it runs");
        worker.end_all(&[claimed], &broken(Duration::ZERO)).await;
        assert_eq!(holder(&hand, scope).await, Some(first), "it will be tried again");
        harness.advance(TICK).await;
        hand.promote().await;
        assert_eq!(run(&worker, &succeeded()).await, first);
        assert_eq!(holder(&hand, scope).await, None);
    }
}

/// J9: of one key one job is alive, whoever wants two.
pub async fn j9_a_job_whose_key_another_has_is_not_run_again(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let scope = DedupeScope::UntilDone;
    for (ending, state) in ends() {
        let first = hand.create(&alone(scope)).await;
        run(&worker, &ending).await;
        let second = hand.create(&alone(scope)).await;
        let row = hand.job(first).await;
        for dry_run in [true, false] {
            let ask = MoveJob { dry_run, ..moving(first, Move::RunNow) };
            assert_eq!(hand.job_move(&ask).await, Moved::KeyTaken(second), "it waits");
        }
        let claimed = worker.take_one("mail").await;
        assert_eq!(claimed.job.id, second);
        assert_eq!(hand.intervene(first, Move::RunNow).await, Moved::KeyTaken(second), "it runs");
        assert_eq!(hand.job(first).await, row, "nothing was changed");
        worker.end_all(&[claimed], &succeeded()).await;
        assert_eq!(hand.moved(first, Move::RunNow).await, state, "the key is free");
        assert_eq!(run(&worker, &succeeded()).await, first);
    }
    let first = hand.create(&alone(scope)).await;
    run(&worker, &ends()[0].0).await;
    let second = hand.create(&alone(scope)).await;
    hand.moved(first, Move::Cancel).await;
    assert_eq!(holder(&hand, scope).await, Some(second), "whoever gives the first one up frees nothing");
}

/// J9: a key until it is started is used up once it was, however often the job runs.
pub async fn j9_a_key_until_started_is_taken_again_by_what_never_started(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let scope = DedupeScope::UntilStarted;
    let never = hand.create(&alone(scope)).await;
    let claimed = worker.take_one("mail").await;
    worker.end_all(&[claimed], &Ending::Dead("the payload can't be read".to_owned())).await;
    assert_eq!(holder(&hand, scope).await, None);
    hand.moved(never, Move::RunNow).await;
    assert_eq!(holder(&hand, scope).await, Some(never), "it waits for its start, as before");
    let claimed = worker.take_one("mail").await;
    assert!(worker.start(&claimed).await);
    assert_eq!(holder(&hand, scope).await, None);
    worker.end_all(&[claimed], &ends()[0].0).await;
    let second = hand.create(&alone(scope)).await;
    assert_eq!(hand.moved(never, Move::RunNow).await, State::Dead, "it has no use for the key");
    assert_eq!(holder(&hand, scope).await, Some(second));
    assert_eq!(worker.take("mail", ALL).await.len(), 2);
}

/// J9: a window is about time, and asks nobody what has become of its job.
pub async fn j9_a_window_is_the_same_for_a_job_that_is_run_again(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let scope = DedupeScope::Window(HOUR);
    let first = hand.create(&alone(scope)).await;
    run(&worker, &ends()[0].0).await;
    assert_eq!(holder(&hand, scope).await, Some(first));
    hand.moved(first, Move::RunNow).await;
    assert_eq!(holder(&hand, scope).await, Some(first));
    run(&worker, &ends()[0].0).await;
    harness.advance(HOUR + secs(1)).await;
    let second = hand.create(&alone(scope)).await;
    hand.moved(first, Move::RunNow).await;
    assert_eq!(holder(&hand, scope).await, Some(second), "that window is over");
    run(&worker, &ends()[0].0).await;
    hand.intervene(first, Move::Cancel).await;
    assert_eq!(holder(&hand, scope).await, Some(second));
}

/// J9: what waits has its key, and keeps it, whenever it is due.
pub async fn j9_a_job_that_is_run_at_once_keeps_its_key(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    for scope in [DedupeScope::UntilDone, DedupeScope::UntilStarted] {
        let first = hand.create(&New { delay: Some(HOUR), ..alone(scope) }).await;
        assert_eq!(hand.moved(first, Move::RunNow).await, State::Scheduled);
        assert_eq!(holder(&hand, scope).await, Some(first));
        assert_eq!(hand.moved(first, Move::RunNow).await, State::Ready, "and once more");
        let claimed = worker.take_one("mail").await;
        assert_eq!(claimed.job.id, first);
        let started = scope == DedupeScope::UntilStarted;
        assert!(!started || worker.start(&claimed).await);
        worker.end_all(&[claimed], &broken(HOUR)).await;
        let has = (!started).then_some(first);
        assert_eq!(holder(&hand, scope).await, has, "it waits for its second attempt");
        assert_eq!(hand.moved(first, Move::RunNow).await, State::Retrying);
        assert_eq!(holder(&hand, scope).await, has);
        assert_eq!(run(&worker, &succeeded()).await, first);
        assert_eq!(holder(&hand, scope).await, None);
        assert!(worker.take("mail", ALL).await.is_empty(), "once");
    }
}

/// J9: of an operator who wants it now and a newcomer who wants it later, or other, the last one is heard.
pub async fn j9_a_job_that_is_run_again_can_be_replaced_and_pushed_out(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    for scope in SCOPES {
        let worker = Worker::of(&hand).await;
        let pushing = || New { delay: Some(secs(60)), ..deduped(scope, OnConflict::PushOut) };
        let payload = Payload { bytes: b"new".to_vec(), content_type: "text/plain".to_owned() };
        let replacing = || New { payload: payload.clone(), ..deduped(scope, OnConflict::Replace) };
        let first = hand.create(&alone(scope)).await;
        // It has not started: a key until that is its own again.
        let claimed = worker.take_one("mail").await;
        worker.end_all(&[claimed], &ends()[0].0).await;
        hand.moved(first, Move::RunNow).await;
        assert_eq!(hand.enqueue(&pushing()).await, Enqueued::Existing(first));
        assert_eq!(hand.state(first).await, State::Scheduled);
        assert!(worker.take("mail", ALL).await.is_empty(), "it is not due any more");
        assert_eq!(hand.enqueue(&replacing()).await, Enqueued::Existing(first));
        assert_eq!(hand.moved(first, Move::RunNow).await, State::Scheduled);
        let claimed = worker.take_one("mail").await;
        assert_eq!((claimed.job.id, &claimed.job.payload), (first, &payload), "now, and as it was replaced");
        assert_eq!(claimed.attempt(), 2);
        worker.end_all(&[claimed], &broken(secs(60))).await;
        assert_eq!(hand.moved(first, Move::RunNow).await, State::Retrying);
        assert_eq!(hand.enqueue(&pushing()).await, Enqueued::Existing(first));
        harness.advance(secs(61)).await;
        hand.promote().await;
        let worker = Worker::of(&hand).await;
        assert_eq!(run(&worker, &succeeded()).await, first);
        assert!(worker.take("mail", ALL).await.is_empty(), "once");
        harness.advance(HOUR).await;
    }
}

/// J9, J10: of the same ordering key, it goes to its line, and has its dedupe key while it waits there.
pub async fn j9_j10_a_job_that_is_run_again_has_its_key_in_its_line(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let scope = DedupeScope::UntilDone;
    let line = |new: New| New { ordering_key: Some(key("line")), ..new };
    let first = hand.create(&line(alone(scope))).await;
    run(&worker, &ends()[0].0).await;
    let before = hand.create(&line(work("mail"))).await;
    let claimed = worker.take_one("mail").await;
    hand.moved(first, Move::RunNow).await;
    hand.promote().await;
    assert!(worker.take("mail", ALL).await.is_empty(), "the line is taken");
    assert_eq!(holder(&hand, scope).await, Some(first));
    assert_eq!(hand.moved(first, Move::RunNow).await, State::Ready, "now is when its turn comes");
    hand.promote().await;
    assert!(worker.take("mail", ALL).await.is_empty());
    assert_eq!(claimed.job.id, before);
    worker.end_all(&[claimed], &succeeded()).await;
    hand.promote().await;
    assert_eq!(run(&worker, &succeeded()).await, first);
    assert_eq!(holder(&hand, scope).await, None);
}

/// J9: of an operator and newcomers at the same time one gets the key.
pub async fn j9_of_a_run_now_and_newcomers_one_gets_the_key(harness: &dyn Harness) {
    let hands = [Hand::of(harness).await.patient(), Hand::second(harness).await.patient()];
    let worker = Worker::of(&hands[0]).await;
    let scope = DedupeScope::UntilDone;
    for _ in 0..8 {
        let first = hands[0].create(&alone(scope)).await;
        run(&worker, &ends()[0].0).await;
        let new = alone(scope);
        let (moved, answer) = tokio::join!(hands[1].intervene(first, Move::RunNow), hands[0].enqueue(&new));
        match (moved, answer) {
            (Moved::Applied { from: State::Dead }, Enqueued::Existing(id)) => assert_eq!(id, first),
            (Moved::KeyTaken(id), Enqueued::Created(made)) => assert_eq!((id, made), (new.id, new.id)),
            other => panic!("{other:?}"),
        }
        let alive = worker.take("mail", ALL).await;
        assert_eq!(alive.len(), 1, "J9");
        worker.end_all(&alive, &succeeded()).await;
    }
}

/// J9: a job that has a key beside the one it repeats is another job; it takes none of that one's keys.
pub async fn j9_a_replay_has_none_of_the_keys(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let scope = DedupeScope::UntilDone;
    let first = hand.create(&alone(scope)).await;
    run(&worker, &ends()[0].0).await;
    let second = hand.create(&alone(scope)).await;
    let replay = New { replay_of: Some(first), root: first, ..work("mail") };
    hand.create(&replay).await;
    assert_eq!(holder(&hand, scope).await, Some(second));
    let both = worker.take("mail", ALL).await;
    assert_eq!(both.len(), 2, "somebody wanted both");
    worker.end_all(&both, &succeeded()).await;
    assert_eq!(hand.job(replay.id).await.dedupe_key, None);
    assert_eq!(hand.moved(first, Move::RunNow).await, State::Dead);
}
