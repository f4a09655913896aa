//! Jobs moved from outside: called off, run again, settled by somebody who has looked (J6, J8).

use core::time::Duration;

use onceward_core::job::{Ending, Move, Moved, New, Policy, State};
use onceward_core::once::Body;
use onceward_core::{JobId, Namespace, Token, limits};

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::{MoveJob, SettledJob};

const NOTE: &str = "by ops: looked at the log";

/// A job that has ended like this.
async fn ended(worker: &Worker, ending: Ending) -> onceward_core::job::Claimed {
    worker.hand.create(&work("mail")).await;
    let claimed = worker.take_one("mail").await;
    worker.end_all(core::slice::from_ref(&claimed), &ending).await;
    claimed
}

fn dead() -> Ending {
    Ending::Dead("no such address".to_owned())
}

fn uncertain() -> Ending {
    Ending::Uncertain("the line went dead".to_owned())
}

/// J8: whatever it waited for.
pub async fn j8_a_job_that_was_called_off_before_its_claim_never_runs(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let scheduled = hand.create(&New { delay: Some(secs(60)), ..work("mail") }).await;
    let retrying = hand.create(&work("mail")).await;
    worker.end_all(&worker.take("mail", 1).await, &broken(secs(60))).await;
    let ready = hand.create(&work("mail")).await;
    let wanted = [(scheduled, State::Scheduled), (retrying, State::Retrying), (ready, State::Ready)];
    for (id, from) in wanted {
        let before = hand.job(id).await;
        assert_eq!(hand.moved(id, Move::Cancel).await, from);
        let row = hand.job(id).await;
        assert_eq!((row.state, row.attempts()), (State::Cancelled, before.attempts()), "no attempt was made");
        assert!(row.token > before.token && row.finished_at.is_some());
        assert_eq!(row.error, Some(format!("cancelled {NOTE}")), "who and why");
    }
    harness.advance(secs(61)).await;
    assert_eq!(hand.promote().await.moved, 0);
    assert!(worker.take("mail", ALL).await.is_empty());
}

/// J15, W47: also where no worker will ever take it. What runs is its worker's, and what is over is over.
pub async fn j15_a_job_whose_deadline_has_passed_is_found_and_ended(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let at = now(&hand).await;
    let within = |seconds| Policy { deadline: Some(at.after(secs(seconds))), ..Policy::default() };
    let overdue = async |limit| {
        let ours = Namespace::default();
        let found = hand.ask(|| hand.store.job_overdue(&ours, limit)).await;
        found.into_iter().map(|job| job.id).collect::<Vec<_>>()
    };
    let runs = hand.create(&New { policy: within(3), ..work("mail") }).await;
    let claimed = worker.take_one("mail").await;
    let dead = ended_within(&worker, within(3)).await;
    // As long as that, from its enqueue on.
    let lasts = Policy { expiry: Some(secs(4)), ..Policy::default() };
    let later = hand.create(&New { policy: lasts, ..work("mail") }).await;
    let delayed = New { delay: Some(secs(2)), policy: within(3), ..work("mail") };
    let sooner = hand.create(&delayed).await;
    let far = hand.create(&New { policy: within(600), ..work("mail") }).await;
    hand.create(&work("mail")).await;
    assert_eq!(overdue(ALL).await, [], "their time is not over");
    harness.advance(secs(5)).await;
    assert_eq!(overdue(ALL).await, [sooner, later]);
    assert_eq!(overdue(1).await, [sooner], "the one whose time has been over for longer");
    assert_eq!(hand.intervene(runs, Move::Expire(None)).await, Moved::Running);
    assert_eq!(hand.intervene(dead, Move::Expire(None)).await, Moved::Wrong(State::Dead));
    let how = Body::new(b"too late".to_vec(), "text/plain");
    assert_eq!(hand.moved(sooner, Move::Expire(None)).await, State::Scheduled);
    assert_eq!(hand.moved(later, Move::Expire(Some(how.clone()))).await, State::Ready);
    let row = hand.job(later).await;
    assert_eq!((row.state, row.said()), (State::Dead, Some(&how)));
    assert!(row.error.is_some_and(|error| error.starts_with("its deadline had passed")), "and why");
    assert_eq!(overdue(ALL).await, []);
    assert_eq!(hand.job(far).await.state, State::Ready);
    worker.end_all(&[claimed], &succeeded()).await;
}

/// A job with this policy that is dead.
async fn ended_within(worker: &Worker, policy: Policy) -> JobId {
    worker.hand.create(&New { policy, ..work("mail") }).await;
    let claimed = worker.take_one("mail").await;
    worker.end_all(core::slice::from_ref(&claimed), &dead()).await;
    claimed.job.id
}

/// J8: never another attempt; a true outcome stays one.
pub async fn j8_a_running_job_that_was_called_off_does_not_go_on(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let endings = [
        (broken(secs(1)), State::Cancelled),
        (Ending::Snoozed(secs(1)), State::Cancelled),
        (Ending::HandedBack, State::Cancelled),
        (Ending::TimedOut, State::Cancelled),
        (Ending::Cancelled("it was told to".to_owned()), State::Cancelled),
        (succeeded(), State::Succeeded),
        (dead(), State::Dead),
        (uncertain(), State::Uncertain),
    ];
    for (ending, state) in endings {
        let id = hand.create(&work("mail")).await;
        let claimed = worker.take_one("mail").await;
        assert_eq!(hand.intervene(id, Move::Cancel).await, Moved::Noted);
        assert_eq!(hand.state(id).await, State::Running, "it is its worker's to stop");
        // The worker does not know yet: the store does.
        assert_eq!(worker.end(&claimed, ending.clone()).await, SettledJob::Applied(state), "{ending:?}");
        let row = hand.job(id).await;
        assert!(row.state == state && row.finished_at.is_some() && row.token == claimed.token);
        assert!(row.error.is_some() || state == State::Succeeded, "it says why");
        assert_eq!(worker.end(&claimed, ending).await, SettledJob::Already(state));
    }
    harness.advance(secs(5)).await;
    hand.promote().await;
    assert!(worker.take("mail", ALL).await.is_empty() && worker.renew().await.called_off.is_empty());
}

/// J8: the wish is about this life of the job.
pub async fn j8_a_job_that_is_run_again_is_not_called_off_any_more(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let id = hand.create(&work("mail")).await;
    let claimed = worker.take_one("mail").await;
    assert_eq!(hand.intervene(id, Move::Cancel).await, Moved::Noted);
    worker.end_all(&[claimed], &dead()).await;
    hand.moved(id, Move::RunNow).await;
    let claimed = worker.take_one("mail").await;
    assert!(worker.renew().await.called_off.is_empty());
    assert_eq!(worker.end(&claimed, broken(secs(1))).await, SettledJob::Applied(State::Retrying));
}

/// J6.
pub async fn j6_what_is_done_or_cancelled_can_not_be_moved(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let done = ended(&worker, succeeded()).await.job.id;
    let cancelled = ended(&worker, Ending::Cancelled("no".to_owned())).await.job.id;
    for (id, state) in [(done, State::Succeeded), (cancelled, State::Cancelled)] {
        let row = hand.job(id).await;
        for to in [Move::Cancel, Move::RunNow, Move::Done(None), Move::Dead] {
            assert_eq!(hand.intervene(id, to).await, Moved::Wrong(state));
        }
        assert_eq!(hand.job(id).await, row);
    }
    let dead = ended(&worker, dead()).await.job.id;
    assert_eq!(hand.intervene(dead, Move::Done(None)).await, Moved::Wrong(State::Dead));
    assert_eq!(hand.intervene(dead, Move::Dead).await, Moved::Wrong(State::Dead));
    assert_eq!(hand.intervene(job_id(), Move::Cancel).await, Moved::Absent);
}

/// J4, J6: the same row, one more attempt, and everything it has been through.
pub async fn j4_a_dead_job_that_is_run_again_has_one_more_attempt(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let policy = Policy { max_attempts: 2, ..Policy::default() };
    let id = hand.create(&New { policy, ..work("mail") }).await;
    for _ in 0..2 {
        worker.end_all(&worker.take("mail", 1).await, &broken(Duration::ZERO)).await;
        harness.advance(TICK).await;
        hand.promote().await;
    }
    let before = hand.job(id).await;
    assert_eq!(before.state, State::Dead);
    assert_eq!(hand.moved(id, Move::RunNow).await, State::Dead);
    let row = hand.job(id).await;
    assert_eq!((row.state, row.attempt, row.finished_at), (State::Ready, 2, None));
    assert_eq!((row.policy.max_attempts, row.attempts()), (3, before.attempts()));
    assert_eq!(row.error, Some(format!("run again {NOTE}")));
    let claimed = worker.take_one("mail").await;
    assert!(claimed.attempt() == 3 && claimed.token > before.token);
    assert_eq!(worker.end(&claimed, broken(Duration::ZERO)).await, SettledJob::Applied(State::Dead));
    assert_eq!(hand.job(id).await.attempts().len(), 3);
}

pub async fn a_job_that_waits_for_its_time_can_be_run_now(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let scheduled = hand.create(&New { delay: Some(secs(3_600)), ..work("mail") }).await;
    assert_eq!(hand.moved(scheduled, Move::RunNow).await, State::Scheduled);
    let claimed = worker.take_one("mail").await;
    assert_eq!(claimed.job.id, scheduled);
    worker.end_all(&[claimed], &broken(secs(3_600))).await;
    assert_eq!(hand.moved(scheduled, Move::RunNow).await, State::Retrying);
    let claimed = worker.take_one("mail").await;
    assert_eq!((claimed.attempt(), claimed.job.policy.max_attempts), (2, limits::ATTEMPTS_DEFAULT));
    harness.advance(secs(3_601)).await;
    assert_eq!(hand.promote().await.moved, 0, "once");
}

/// J3: nobody starts what runs.
pub async fn j3_a_running_job_can_not_be_run_again(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let id = hand.create(&work("mail")).await;
    let claimed = worker.take_one("mail").await;
    for to in [Move::RunNow, Move::Done(None), Move::Dead] {
        assert_eq!(hand.intervene(id, to).await, Moved::Running);
    }
    assert!(worker.take("mail", ALL).await.is_empty());
    assert_eq!(worker.end(&claimed, succeeded()).await, SettledJob::Applied(State::Succeeded));
}

/// J6: what nobody knows is settled by whoever has looked.
pub async fn j6_an_uncertain_job_is_settled_as_somebody_says(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let body = Body::new(vec![0, 0xff, 7], "x/receipt");
    let cases = [
        (Move::Done(Some(body.clone())), "said to be done"),
        (Move::Done(None), "said to be done"),
        (Move::Dead, "given up"),
        (Move::Cancel, "cancelled"),
    ];
    for (to, word) in cases {
        let id = ended(&worker, uncertain()).await.job.id;
        let before = hand.job(id).await;
        assert_eq!(hand.moved(id, to.clone()).await, State::Uncertain);
        let row = hand.job(id).await;
        assert_eq!((Some(row.state), row.attempt), (to.state(), 1));
        assert_eq!(row.error, Some(format!("{word} {NOTE}")));
        assert!(row.token > before.token && row.finished_at >= before.finished_at);
        let wanted = if let Move::Done(body) = to { body } else { None };
        assert_eq!(row.result, wanted);
    }
    let id = ended(&worker, uncertain()).await.job.id;
    assert_eq!(hand.moved(id, Move::RunNow).await, State::Uncertain);
    assert_eq!(worker.take_one("mail").await.attempt(), 2, "it did not happen");
}

/// J6.
pub async fn j6_a_move_is_of_the_row_that_was_looked_at(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let claimed = ended(&worker, dead()).await;
    let id = claimed.job.id;
    let token = hand.job(id).await.token;
    let older = Token::from_row(token.get() - 1);
    let stale = MoveJob { token: Some(older), ..moving(id, Move::RunNow) };
    let row = hand.job(id).await;
    assert_eq!(hand.job_move(&stale).await, Moved::Stale(token));
    assert_eq!(hand.job(id).await, row);
    let seen = MoveJob { token: Some(token), ..moving(id, Move::RunNow) };
    assert_eq!(hand.job_move(&seen).await, Moved::Applied { from: State::Dead });
    let new = hand.job(id).await.token;
    assert_eq!(hand.job_move(&seen).await, Moved::Stale(new), "the same sent again");
}

/// J6.
pub async fn j6_a_dry_run_decides_and_writes_nothing(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let dead = ended(&worker, dead()).await.job.id;
    let waiting = hand.create(&work("mail")).await;
    let running = hand.create(&work("print")).await;
    worker.take_one("print").await;
    let rows = hand.jobs(&[dead, waiting, running]).await.rows;
    for (id, to, wanted) in [
        (dead, Move::RunNow, Moved::Applied { from: State::Dead }),
        (waiting, Move::Cancel, Moved::Applied { from: State::Ready }),
        (running, Move::Cancel, Moved::Noted),
        (running, Move::RunNow, Moved::Running),
    ] {
        let ask = MoveJob { dry_run: true, ..moving(id, to) };
        assert_eq!(hand.job_move(&ask).await, wanted);
    }
    assert_eq!(hand.jobs(&[dead, waiting, running]).await.rows, rows);
    assert!(worker.renew().await.called_off.is_empty());
    assert_eq!(ids(&worker.take("mail", ALL).await), [waiting]);
}

/// J8: a job of which no history is kept leaves nothing when it is called off.
pub async fn j8_a_job_not_to_be_kept_is_gone_when_it_is_called_off(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let policy = Policy { retain: Duration::ZERO, ..Policy::default() };
    let brief = || New { policy: policy.clone(), ..work("mail") };
    let waiting = hand.create(&brief()).await;
    hand.moved(waiting, Move::Cancel).await;
    let running = hand.create(&brief()).await;
    let claimed = worker.take_one("mail").await;
    assert_eq!(hand.intervene(running, Move::Cancel).await, Moved::Noted);
    worker.end_all(&[claimed], &broken(secs(1))).await;
    assert_eq!(hand.jobs(&[waiting, running]).await.rows, [None, None]);
    assert!(worker.take("mail", ALL).await.is_empty());
}

/// J8, J5: of a cancel and an ending, both come true or one does, never a third thing.
pub async fn j8_a_cancel_and_a_settle_leave_one_end(harness: &dyn Harness) {
    let hands = [Hand::of(harness).await.patient(), Hand::second(harness).await.patient()];
    let worker = Worker::of(&hands[0]).await;
    for round in 0..12 {
        let id = hands[0].create(&work("mail")).await;
        let claimed = worker.take_one("mail").await;
        let ending = if round % 2 == 0 { succeeded() } else { broken(Duration::ZERO) };
        let (moved, settled) =
            tokio::join!(hands[1].intervene(id, Move::Cancel), worker.end(&claimed, ending.clone()));
        let state = hands[0].state(id).await;
        let SettledJob::Applied(left) = settled else { panic!("nobody else ends it: {settled:?}") };
        match (moved, left) {
            (Moved::Noted, State::Succeeded | State::Cancelled | State::Retrying)
            | (Moved::Wrong(State::Succeeded), State::Succeeded) => {}
            (Moved::Applied { from: State::Retrying | State::Ready }, State::Retrying) => {
                assert_eq!(state, State::Cancelled);
            }
            other => panic!("{other:?}, and then {state:?}"),
        }
        if moved == Moved::Noted {
            assert_eq!(state, left);
            assert_ne!(state, State::Retrying, "J8: the note came first, and is obeyed");
        }
        hands[0].intervene(id, Move::Cancel).await;
    }
}

/// J8, J3: of a cancel and a claim the first one counts.
pub async fn j8_a_cancel_and_a_claim_never_both_have_the_job(harness: &dyn Harness) {
    let hands = [Hand::of(harness).await.patient(), Hand::second(harness).await.patient()];
    let worker = Worker::of(&hands[0]).await;
    for _ in 0..12 {
        let id = hands[0].create(&work("mail")).await;
        let (moved, taken) = tokio::join!(hands[1].intervene(id, Move::Cancel), worker.take("mail", 1));
        match moved {
            Moved::Applied { .. } => {
                assert!(taken.is_empty(), "it was called off before, and runs");
                assert_eq!(hands[0].state(id).await, State::Cancelled);
            }
            Moved::Noted => {
                let claimed = only(taken);
                let told: Vec<_> = worker.renew().await.called_off.into_iter().map(|job| job.id).collect();
                assert_eq!(told, [id]);
                worker.end_all(&[claimed], &Ending::HandedBack).await;
                assert_eq!(hands[0].state(id).await, State::Cancelled);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// J6: of two people one is first.
pub async fn j6_of_many_operators_one_moves_the_job(harness: &dyn Harness) {
    let hands = [Hand::of(harness).await.patient(), Hand::second(harness).await.patient()];
    let worker = Worker::of(&hands[0]).await;
    for _ in 0..4 {
        let claimed = ended(&worker, uncertain()).await;
        let answers = together(6, |at| {
            let to = if at % 2 == 0 { Move::Done(None) } else { Move::Dead };
            let ask = MoveJob { token: Some(claimed.token), ..moving(claimed.job.id, to.clone()) };
            let hand = hands[at % 2].clone();
            async move { (to, hand.job_move(&ask).await) }
        });
        let answers = answers.await;
        let applied: Vec<_> =
            answers.iter().filter(|(_, answer)| matches!(answer, Moved::Applied { .. })).collect();
        let (to, _) = only(applied);
        assert_eq!(Some(hands[0].state(claimed.job.id).await), to.state());
    }
}
