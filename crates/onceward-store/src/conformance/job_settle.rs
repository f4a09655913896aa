//! Jobs: how attempts end. The first ending counts, and only that of the current attempt.

use core::time::Duration;

use onceward_core::job::{self, Attempt, Ending, New, Policy, Record, State};
use onceward_core::once::Body;
use onceward_core::{Token, limits};

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::{ListJobs, SettleJob, SettleJobs, SettledJob};

const ZERO: Duration = Duration::ZERO;

fn text(text: &str) -> String {
    text.to_owned()
}

/// Every ending a worker may report, the state it leaves, and whether the attempt is charged.
fn endings() -> Vec<(Ending, State, u32)> {
    vec![
        (succeeded(), State::Succeeded, 1),
        (Ending::Done(None), State::Succeeded, 1),
        (broken(secs(9)), State::Retrying, 1),
        (Ending::NotStarted { error: text("no connection") }, State::Retrying, 1),
        (Ending::TimedOut, State::Retrying, 1),
        (Ending::Snoozed(secs(9)), State::Scheduled, 0),
        (Ending::HandedBack, State::Ready, 0),
        (Ending::Cancelled(text("it was told to stop")), State::Cancelled, 1),
        (Ending::Dead(text("no such address")), State::Dead, 1),
        (Ending::Uncertain(text("the line went dead")), State::Uncertain, 1),
    ]
}

/// J4, J5.
pub async fn j5_every_ending_leaves_the_state_it_means(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    for (ending, state, charged) in endings() {
        let id = hand.create(&work("mail")).await;
        let claimed = worker.take_one("mail").await;
        let ask = worker.verdict(&claimed, ending.clone());
        assert_eq!(
            hand.settle_jobs(core::slice::from_ref(&ask)).await,
            [SettledJob::Applied(state)],
            "{ending:?}"
        );
        let row = hand.job(id).await;
        assert_eq!((row.state, row.attempt, row.lost), (state, charged, 0), "{ending:?}");
        assert_eq!((row.token, row.running.as_ref()), (claimed.token, None));
        assert_eq!((&row.error, &row.result, &row.past), (&ask.next.error, &ask.next.result, &ask.next.past));
        assert_eq!(row.finished_at.is_some(), state.is_final());
        assert_eq!(row.attempts().len(), charged as usize, "J4: told once if it was charged");
        if charged == 1 {
            assert_eq!(row.worker.as_ref(), Some(&worker.session.owner));
            assert_eq!(row.attempted_at, Some(ask.started_at));
        }
        if state == State::Ready {
            worker.end_all(&worker.take("mail", 1).await, &succeeded()).await;
        }
    }
}

/// J5: an answer that got lost is asked for again.
pub async fn j5_an_ending_sent_twice_is_recorded_once(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    for (ending, state, _) in endings().into_iter().filter(|(_, state, _)| *state != State::Uncertain) {
        let id = hand.create(&work("mail")).await;
        let claimed = worker.take_one("mail").await;
        assert_eq!(worker.end(&claimed, ending.clone()).await, SettledJob::Applied(state));
        let row = hand.job(id).await;
        harness.advance(TICK).await;
        assert_eq!(worker.end(&claimed, ending.clone()).await, SettledJob::Already(state));
        assert_eq!(worker.end(&claimed, broken(ZERO)).await, SettledJob::Already(state), "nor another one");
        assert_eq!(hand.job(id).await, row);
        if state == State::Ready {
            worker.end_all(&worker.take("mail", 1).await, &succeeded()).await;
        }
    }
}

/// J5.
pub async fn j5_the_end_of_an_earlier_attempt_changes_nothing(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let id = hand.create(&work("mail")).await;
    let first = worker.take_one("mail").await;
    worker.end_all(core::slice::from_ref(&first), &broken(ZERO)).await;
    harness.advance(TICK).await;
    hand.promote().await;
    let second = worker.take_one("mail").await;
    let row = hand.job(id).await;
    // The row holds the first attempt's token still: its end is told again, and is no end of the second.
    assert_eq!(worker.end(&first, succeeded()).await, SettledJob::Already(State::Retrying));
    assert_eq!(hand.job(id).await, row);
    assert_eq!(worker.end(&second, succeeded()).await, SettledJob::Applied(State::Succeeded));
    assert_eq!(worker.end(&first, succeeded()).await, SettledJob::Stale);
    assert_eq!(hand.job(id).await.attempt, 2);
}

/// J5, W58: the same process, and even the same session, is fenced by its attempt.
pub async fn j5_an_older_attempt_of_the_same_worker_settles_nothing(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let id = hand.create(&work("mail")).await;
    let old = worker.take_one("mail").await;
    harness.advance(TTL).await;
    hand.rescue().await;
    let again = Worker::of(&hand).await;
    let new = only(again.take_alone("mail").await);
    assert!(new.token > old.token && again.session.owner == worker.session.owner);
    for (ending, ..) in endings() {
        assert_eq!(worker.end(&old, ending.clone()).await, SettledJob::Stale, "{ending:?}");
        assert_eq!(again.end(&old, ending.clone()).await, SettledJob::Stale, "also through the new session");
    }
    assert_eq!(hand.state(id).await, State::Running);
    assert_eq!(again.end(&new, succeeded()).await, SettledJob::Applied(State::Succeeded));
}

/// J5.
pub async fn j5_a_token_nobody_was_given_settles_nothing(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let id = hand.create(&work("mail")).await;
    worker.end_all(&worker.take("mail", 1).await, &Ending::HandedBack).await;
    let claimed = worker.take_one("mail").await;
    let row = hand.job(id).await;
    let token = Token::from_row(row.token.get() - 1);
    let ask = SettleJob { fence: token, token, ..worker.verdict(&claimed, succeeded()) };
    assert_eq!(hand.settle_jobs(&[ask]).await, [SettledJob::Stale]);
    assert_eq!(hand.job(id).await, row);
}

/// J2, decisions 4: a true outcome counts while nobody has taken the job over, however late it is.
pub async fn j2_an_ending_counts_after_the_session_has_run_out(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let id = hand.create(&work("mail")).await;
    let claimed = worker.take_one("mail").await;
    harness.advance(TTL * 3).await;
    assert_eq!(worker.end(&claimed, succeeded()).await, SettledJob::Applied(State::Succeeded));
    assert_eq!(hand.rescue().await.jobs, [], "J7: and it is not rescued");
    assert_eq!(hand.state(id).await, State::Succeeded);
}

pub async fn a_job_not_to_be_kept_is_gone_when_it_is_over(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let policy = Policy { retain: ZERO, ..Policy::default() };
    let brief = || New { policy: policy.clone(), ..work("mail") };
    for (ending, kept) in [(succeeded(), false), (Ending::Cancelled(text("no")), false)]
        .into_iter()
        .chain([(Ending::Dead(text("no")), true), (Ending::Uncertain(text("?")), true)])
    {
        let id = hand.create(&brief()).await;
        let claimed = worker.take_one("mail").await;
        worker.end_all(core::slice::from_ref(&claimed), &ending).await;
        assert_eq!(hand.find_job(id).await.is_some(), kept, "{ending:?}");
        if !kept {
            assert_eq!(worker.end(&claimed, ending).await, SettledJob::Gone, "the same sent again");
        }
    }
    let asked: Vec<_> =
        hand.queues().await.into_iter().map(|line| line.ready + line.later + line.running).collect();
    assert!(asked.iter().all(|left| *left == 0), "nothing is left in a lane");
}

/// J6.
pub async fn j6_a_job_that_has_ended_never_runs_again_by_itself(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let finals = endings().into_iter().filter(|(_, state, _)| state.is_final());
    let mut ended = Vec::new();
    for (ending, ..) in finals {
        ended.push(hand.create(&work("mail")).await);
        worker.end_all(&worker.take("mail", 1).await, &ending).await;
    }
    let rows = hand.jobs(&ended).await.rows;
    harness.advance(secs(3_600)).await;
    assert_eq!((hand.promote().await.moved, hand.rescue().await.jobs), (0, Vec::new()));
    assert!(Worker::of(&hand).await.take("mail", ALL).await.is_empty());
    assert_eq!(hand.jobs(&ended).await.rows, rows);
}

pub async fn results_come_back_to_the_byte(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let bodies = [
        Some(Body::new(Vec::new(), "")),
        Some(Body::new(vec![0, 0xed, 0xa0, 0x80, 255], "application/octet-stream")),
        Some(Body::new(vec![7; limits::RESULT_BYTES_MAX], "x/y")),
        Some(Body::new(vec![7; limits::RESULT_BYTES_MAX + 1], "x/y")),
        None,
    ];
    for body in bodies {
        let id = hand.create(&work("mail")).await;
        worker.end_all(&worker.take("mail", 1).await, &Ending::Done(body.clone())).await;
        let row = hand.job(id).await;
        assert!(row.result == body, "{:?}", body.map(|body| body.size));
    }
}

/// J4.
pub async fn j4_a_job_has_its_attempts_and_no_more(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let policy = Policy { max_attempts: 3, ..Policy::default() };
    let id = hand.create(&New { policy, ..work("mail") }).await;
    for attempt in 1..=3 {
        let claimed = worker.take_one("mail").await;
        assert_eq!((claimed.attempt(), claimed.job.attempt), (attempt, attempt - 1));
        let state = if attempt < 3 { State::Retrying } else { State::Dead };
        assert_eq!(worker.end(&claimed, broken(ZERO)).await, SettledJob::Applied(state));
        harness.advance(TICK).await;
        hand.promote().await;
    }
    assert!(worker.take("mail", ALL).await.is_empty());
    let attempts = hand.job(id).await.attempts();
    assert_eq!(attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(attempts[2].outcome, "dead");
    assert!(attempts.iter().all(|attempt| attempt.error.as_deref() == Some("it did not work")));
    assert!(attempts.is_sorted_by_key(|attempt| attempt.token));
}

/// J15: the pause is the store's to measure, and survives everything, because it stands in the row.
pub async fn j15_a_failed_attempt_is_followed_by_another_after_its_pause(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let id = hand.create(&work("mail")).await;
    let claimed = worker.take_one("mail").await;
    worker.end_all(&[claimed], &broken(secs(60))).await;
    let row = hand.job(id).await;
    assert!(near(row.run_at, now(&hand).await.after(secs(60))));
    let promoted = hand.promote().await;
    assert_eq!((promoted.moved, promoted.next_due), (0, Some(row.run_at)));
    assert!(worker.take("mail", ALL).await.is_empty());
    harness.advance(secs(61)).await;
    let other = Hand::second(harness).await;
    let promoted = other.promote().await;
    assert_eq!(promoted.moved, 1);
    assert_eq!(promoted.queues, [(namespace("default"), queue("default"))]);
    assert_eq!(worker.take_one("mail").await.attempt(), 2);
}

/// J4: what never ran, or wanted to run later, has cost nothing (W69).
pub async fn j4_snoozing_and_handing_back_cost_no_attempt(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let policy = Policy { max_attempts: 1, ..Policy::default() };
    let id = hand.create(&New { policy, ..work("mail") }).await;
    for ending in [Ending::HandedBack, Ending::Snoozed(secs(5)), Ending::Snoozed(ZERO), Ending::HandedBack] {
        let claimed = worker.take_one("mail").await;
        assert_eq!(claimed.attempt(), 1);
        worker.end_all(&[claimed], &ending).await;
        harness.advance(secs(6)).await;
        worker.renew().await;
        hand.promote().await;
    }
    worker.end_all(&worker.take("mail", 1).await, &broken(ZERO)).await;
    let row = hand.job(id).await;
    assert_eq!((row.state, row.attempt, row.attempts().len()), (State::Dead, 1, 1));
}

pub async fn a_job_that_is_handed_back_keeps_its_place(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let first = hand.create(&work("mail")).await;
    harness.advance(TICK).await;
    let second = hand.create(&work("mail")).await;
    worker.end_all(&worker.take("mail", 1).await, &Ending::HandedBack).await;
    assert_eq!(ids(&worker.take("mail", ALL).await), [first, second]);
}

/// J5.
pub async fn j5_one_batch_of_settles_has_every_fate_in_its_order(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let brief = Policy { retain: ZERO, ..Policy::default() };
    hand.create_all(&works("mail", 2)).await;
    let taken = worker.take("mail", ALL).await;
    harness.advance(TTL).await;
    hand.rescue().await;
    let worker = Worker::of(&hand).await;
    hand.create_all(&works("mail", 4)).await;
    hand.create(&New { policy: brief, ..work("mail") }).await;
    let claimed = worker.take("mail", ALL).await;
    worker.end_all(&claimed[3..], &succeeded()).await;
    let batch = [
        worker.verdict(&claimed[0], succeeded()),
        worker.verdict(&taken[0], succeeded()),
        worker.verdict(&claimed[1], broken(secs(9))),
        worker.verdict(&claimed[4], succeeded()),
        worker.verdict(&claimed[3], succeeded()),
        worker.verdict(&claimed[2], Ending::Dead(text("no"))),
    ];
    let wanted = [
        SettledJob::Applied(State::Succeeded),
        SettledJob::Stale,
        SettledJob::Applied(State::Retrying),
        SettledJob::Gone,
        SettledJob::Already(State::Succeeded),
        SettledJob::Applied(State::Dead),
    ];
    assert_eq!(hand.settle_jobs(&batch).await, wanted);
}

pub async fn long_and_odd_errors_are_kept_or_cut_never_refused(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let long = "é".repeat(limits::ATTEMPT_ERROR_BYTES_MAX);
    for error in ["", "a\0b", "it's \"x\" \\ %_", "日本\n\u{202e}\x1b[2J", "[1,\"x\"]", long.as_str()] {
        let id = hand.create(&work("mail")).await;
        let claimed = worker.take_one("mail").await;
        let failed = Ending::Failed { error: text(error), after: Some(ZERO) };
        worker.end_all(&[claimed], &failed).await;
        harness.advance(TICK).await;
        hand.promote().await;
        worker.end_all(&worker.take("mail", 1).await, &Ending::Dead(text(error))).await;
        let row = hand.job(id).await;
        let wanted = onceward_core::once::cut(error, limits::ATTEMPT_ERROR_BYTES_MAX);
        assert_eq!(row.error.as_ref(), Some(&wanted));
        assert!(row.attempts().iter().all(|attempt| attempt.error.as_ref() == Some(&wanted)));
    }
}

/// A job may fail a thousand times: its past stays bounded, and comes back as it was written.
pub async fn a_long_past_is_kept_within_its_bounds(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let policy = Policy { max_attempts: limits::ATTEMPTS_MAX, ..Policy::default() };
    let id = hand.create(&New { policy, ..work("mail") }).await;
    let claimed = worker.take_one("mail").await;
    let attempt = |number: u32| Attempt {
        number,
        token: Token::from_row(i64::from(number)),
        started_at: claimed.token.as_timestamp(),
        finished_at: claimed.token.as_timestamp(),
        outcome: text("failed"),
        worker: text("web-1:7"),
        error: Some("\"日本\"\n".repeat(120)),
        http: None,
    };
    let past = (1..900).fold(Vec::new(), |past, number| job::remember(&past, attempt(number)));
    let mut ask = worker.verdict(&claimed, broken(ZERO));
    (ask.next.attempt, ask.next.past) = (899, past.clone());
    assert_eq!(hand.settle_jobs(&[ask]).await, [SettledJob::Applied(State::Retrying)]);
    let row = hand.job(id).await;
    assert_eq!((row.attempt, row.past), (899, past));
    harness.advance(TICK).await;
    hand.promote().await;
    assert_eq!(worker.take_one("mail").await.attempt(), 900);
}

/// J2: a claim that is said to be finished is forgotten; whatever else its session holds is rescued.
pub async fn j2_a_finished_claim_takes_nothing_with_it(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let created = hand.create_all(&works("mail", 4)).await;
    let wishes = [worker.wish(&[lane("mail")], 2), worker.wish(&[lane("mail")], 2)];
    let first = hand.claim_jobs(&wishes[0]).await.jobs;
    hand.claim_jobs(&wishes[1]).await;
    let jobs = first.iter().map(|claimed| worker.verdict(claimed, succeeded())).collect();
    let ask = SettleJobs { jobs, finished: vec![wishes[0].claim] };
    for wanted in [SettledJob::Applied(State::Succeeded), SettledJob::Already(State::Succeeded)] {
        assert_eq!(hand.store.job_settle(&ask).await.unwrap(), [wanted; 2]);
    }
    assert_eq!(hand.session(worker.session.id).await.unwrap().running, 2);
    harness.advance(TTL).await;
    assert_eq!(hand.rescue().await.jobs.len(), 2);
    let states = [State::Succeeded, State::Succeeded, State::Ready, State::Ready];
    assert_eq!(hand.states(&created).await, states);
}

/// J5.
pub async fn j5_of_many_endings_at_once_one_is_recorded(harness: &dyn Harness) {
    let hands = [Hand::of(harness).await.patient(), Hand::second(harness).await.patient()];
    let worker = Worker::of(&hands[0]).await;
    for _ in 0..5 {
        let id = hands[0].create(&work("mail")).await;
        let claimed = worker.take_one("mail").await;
        let answers = together(8, |at| {
            let ending = if at % 2 == 0 { succeeded() } else { Ending::Dead(text("no")) };
            let (hand, ask) = (hands[at % 2].clone(), worker.verdict(&claimed, ending));
            async move { only(hand.settle_jobs(&[ask]).await) }
        });
        let answers = answers.await;
        let applied = |answer: &&SettledJob| matches!(answer, SettledJob::Applied(_));
        assert_eq!(answers.iter().filter(applied).count(), 1, "{answers:?}");
        let state = hands[0].state(id).await;
        assert!(answers.contains(&SettledJob::Applied(state)));
        assert_eq!(hands[0].job(id).await.attempt, 1);
    }
}

fn said(row: &Record) -> Option<&[u8]> {
    row.progress.as_ref().and_then(|body| body.bytes.as_deref())
}

/// J5. What a handler says on its way is kept over its attempts, and is its attempt's to say.
pub async fn j5_progress_is_kept_until_the_job_is_over(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let ids = hand.create_all(&works("mail", 3)).await;
    let claimed = worker.take("mail", ALL).await;
    for attempt in &claimed {
        assert!(worker.report(attempt, "1").await && worker.report(attempt, "[1,2]").await);
    }
    let row = hand.job(ids[0]).await;
    assert_eq!((row.state_now(), said(&row), &row.result), (State::Running, Some(&b"[1,2]"[..]), &None));
    let page = hand.list_jobs(&ListJobs { limit: 10, ..ListJobs::default() }).await;
    assert!(
        page.iter()
            .all(|row| row.progress.as_ref().is_some_and(|body| body.bytes.is_none() && body.size == 5))
    );

    worker.end_all(&claimed[..1], &broken(Duration::ZERO)).await;
    worker.end_all(&claimed[1..2], &Ending::Dead("no such address".to_owned())).await;
    assert_eq!(worker.end(&claimed[2], succeeded()).await, SettledJob::Applied(State::Succeeded));
    for attempt in &claimed {
        assert!(!worker.report(attempt, "late").await, "the attempt has ended");
    }
    assert_eq!(
        said(&hand.job(ids[1]).await),
        Some(&b"[1,2]"[..]),
        "somebody may want to know how far it came"
    );
    let done = hand.job(ids[2]).await;
    assert_eq!(
        (said(&done), done.result.as_ref().and_then(|body| body.bytes.as_deref())),
        (None, Some(&b"ok"[..]))
    );

    harness.advance(TICK).await;
    hand.promote().await;
    let again = worker.take_one("mail").await;
    assert_eq!(
        (again.job.id, said(&again.job)),
        (ids[0], Some(&b"[1,2]"[..])),
        "the next attempt goes on from there"
    );
    assert_eq!(worker.end(&again, Ending::Done(None)).await, SettledJob::Applied(State::Succeeded));
    let row = hand.job(ids[0]).await;
    assert_eq!((said(&row), &row.result), (None, &None));
}
