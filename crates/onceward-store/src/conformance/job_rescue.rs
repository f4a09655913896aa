//! Jobs whose worker is gone: taken over once, charged once, and never after they have ended (J7).

use core::time::Duration;
use std::collections::BTreeSet;

use onceward_core::job::{Ending, LOST, Move, Moved, New, Policy, State};
use onceward_core::once::Body;
use onceward_core::{ClaimId, JobId, Owner, limits};

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::{ClaimJobs, Rescued, SettledJob};

/// The states a rescue says it has left, by job.
fn states(rescued: &Rescued) -> Vec<(JobId, State)> {
    let mut states: Vec<_> = rescued.jobs.iter().map(|rescued| (rescued.job.id, rescued.state)).collect();
    states.sort_by_key(|(id, _)| *id);
    states
}

/// A job that runs at most once and whose worker died after its handler was started.
async fn doubt(harness: &dyn Harness, hand: &Hand) -> (Worker, onceward_core::job::Claimed) {
    let worker = Worker::of(hand).await;
    hand.create(&at_most_once("pay")).await;
    let claimed = worker.take_one("pay").await;
    assert!(worker.start(&claimed).await);
    harness.advance(TTL).await;
    assert_eq!(states(&hand.rescue().await), [(claimed.job.id, State::Uncertain)]);
    (worker, claimed)
}

/// J7, J4.
pub async fn j7_what_a_lost_worker_had_runs_again(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let worker = Worker::of(&hand).await;
    let created = hand.create_all(&works("mail", 3)).await;
    let claimed = worker.take("mail", ALL).await;
    harness.advance(TTL).await;
    let rescued = other.rescue().await;
    assert_eq!(states(&rescued), created.iter().map(|id| (*id, State::Ready)).collect::<Vec<_>>());
    assert!(rescued.sessions == 1 && rescued.jobs.iter().all(|rescued| rescued.queue == queue("default")));
    for id in created {
        let row = hand.job(id).await;
        assert_eq!((row.state_now(), row.attempt, row.lost), (State::Ready, 1, 1));
        assert_eq!((row.error.as_deref(), row.finished_at), (Some(LOST), None));
        assert!(row.token > claimed[0].token);
        let attempt = only(row.attempts());
        assert_eq!(
            (attempt.outcome.as_str(), attempt.worker.as_str()),
            ("lost", worker.session.owner.as_str())
        );
        assert_eq!((attempt.token, attempt.number), (claimed[0].token, 1));
    }
    assert_eq!(other.rescue().await, Rescued::default(), "once");
}

/// J7.
pub async fn j7_nothing_is_taken_from_a_worker_that_lives(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let id = hand.create(&work("mail")).await;
    let claimed = worker.take_one("mail").await;
    for _ in 0..6 {
        harness.advance(TTL / 2).await;
        assert!(matches!(worker.renew().await.renew, crate::Renew::Until(_)));
        assert_eq!(hand.rescue().await, Rescued::default());
    }
    assert_eq!(hand.state(id).await, State::Running);
    assert_eq!(worker.end(&claimed, succeeded()).await, SettledJob::Applied(State::Succeeded));
}

/// J7, J5.
pub async fn j7_a_rescued_worker_is_too_late(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let id = hand.create(&work("mail")).await;
    let claimed = worker.take_one("mail").await;
    harness.advance(TTL).await;
    hand.rescue().await;
    let row = hand.job(id).await;
    for ending in
        [succeeded(), broken(Duration::ZERO), Ending::HandedBack, Ending::Cancelled("no".to_owned())]
    {
        assert_eq!(worker.end(&claimed, ending).await, SettledJob::Stale);
    }
    assert!(!worker.start(&claimed).await);
    assert_eq!(hand.job(id).await, row);
}

/// J7: River's rescue fails this one.
pub async fn j7_a_job_that_has_ended_is_not_rescued(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let created = hand.create_all(&works("mail", 4)).await;
    let claimed = worker.take("mail", ALL).await;
    worker.end_all(&claimed[..1], &succeeded()).await;
    worker.end_all(&claimed[1..2], &Ending::Dead("no".to_owned())).await;
    worker.end_all(&claimed[2..3], &broken(secs(3_600))).await;
    let rows = hand.jobs(&created[..3]).await.rows;
    harness.advance(TTL).await;
    assert_eq!(states(&hand.rescue().await), [(created[3], State::Ready)]);
    assert_eq!(hand.jobs(&created[..3]).await.rows, rows);
}

/// J7: a job that was taken over and is run by somebody else is left to them.
pub async fn j7_a_job_of_a_later_claim_is_not_rescued_with_an_earlier_one(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (dying, living) = (Worker::of(&hand).await, Worker::of(&hand).await);
    let created = hand.create_all(&works("mail", 2)).await;
    let claimed = dying.take("mail", ALL).await;
    dying.end_all(&claimed[..1], &Ending::HandedBack).await;
    let again = living.take_one("mail").await;
    harness.advance(TTL / 2).await;
    living.renew().await;
    harness.advance(TTL / 2).await;
    assert_eq!(states(&hand.rescue().await), [(created[1], State::Ready)]);
    assert_eq!(hand.state(created[0]).await, State::Running);
    assert_eq!(living.end(&again, succeeded()).await, SettledJob::Applied(State::Succeeded));
}

/// J7, J4.
pub async fn j7_two_rescuers_take_each_job_once(harness: &dyn Harness) {
    let hands = [Hand::of(harness).await.patient(), Hand::second(harness).await.patient()];
    let mut created = Vec::new();
    for _ in 0..4 {
        let worker = Worker::of(&hands[0]).await;
        created.extend(hands[0].create_all(&works("mail", 25)).await);
        worker.take("mail", ALL).await;
    }
    harness.advance(TTL).await;
    let rescued = together(4, |at| {
        let hand = hands[at % 2].clone();
        async move { states(&hand.rescue().await) }
    });
    let mut rescued: Vec<_> = rescued.await.into_iter().flatten().collect();
    rescued.extend(states(&hands[0].rescue().await));
    assert_eq!(rescued.len(), created.len(), "no job twice");
    assert_eq!(rescued.iter().map(|(id, _)| id).collect::<BTreeSet<_>>(), created.iter().collect());
    for row in hands[0].jobs(&created).await.rows {
        let row = row.unwrap();
        assert_eq!((row.attempt, row.lost, row.attempts().len()), (1, 1, 1));
    }
}

/// J7, J5: of a worker that comes back and a rescuer, one wins each job.
pub async fn j7_a_late_settle_and_a_rescue_never_both_win(harness: &dyn Harness) {
    let hands = [Hand::of(harness).await.patient(), Hand::second(harness).await.patient()];
    for _ in 0..4 {
        let worker = Worker::of(&hands[0]).await;
        let created = hands[0].create_all(&works("mail", 30)).await;
        let claimed = worker.take("mail", ALL).await;
        harness.advance(TTL).await;
        let asks: Vec<_> = claimed.iter().map(|claimed| worker.verdict(claimed, succeeded())).collect();
        let (settled, rescued) = tokio::join!(
            async {
                let mut answers = Vec::new();
                for ask in &asks {
                    answers.push(only(hands[0].settle_jobs(core::slice::from_ref(ask)).await));
                }
                answers
            },
            hands[1].rescue()
        );
        let mut rescued: BTreeSet<JobId> = states(&rescued).into_iter().map(|(id, _)| id).collect();
        rescued.extend(states(&hands[1].rescue().await).into_iter().map(|(id, _)| id));
        for (id, answer) in created.iter().zip(settled) {
            let (won, taken) = (answer == SettledJob::Applied(State::Succeeded), rescued.contains(id));
            assert!(won != taken, "{answer:?}, and rescued: {taken}");
            let state = hands[0].state(*id).await;
            assert_eq!(state, if won { State::Succeeded } else { State::Ready });
            hands[0].intervene(*id, Move::Cancel).await;
        }
    }
}

/// J4, N55: a job that kills its processes comes to an end.
pub async fn j4_a_job_that_kills_its_processes_ends_dead(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let id = hand.create(&work("mail")).await;
    for lost in 1..=limits::LOST_MAX {
        let worker = Worker::of(&hand).await;
        let claimed =
            if lost == 1 { worker.take("mail", ALL).await } else { worker.take_alone("mail").await };
        assert_eq!(only(claimed).attempt(), lost);
        harness.advance(TTL).await;
        let state = if lost < limits::LOST_MAX { State::Ready } else { State::Dead };
        assert_eq!(states(&hand.rescue().await), [(id, state)]);
    }
    let row = hand.job(id).await;
    assert_eq!((row.attempt, row.lost), (limits::LOST_MAX, limits::LOST_MAX));
    assert_eq!(row.attempts().len(), limits::LOST_MAX as usize);
    let worker = Worker::of(&hand).await;
    assert!(worker.take("mail", ALL).await.is_empty() && worker.take_alone("mail").await.is_empty());
}

/// J4.
pub async fn j4_the_last_attempt_that_is_lost_is_the_end(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let policy = Policy { max_attempts: 1, ..Policy::default() };
    let id = hand.create(&New { policy, ..work("mail") }).await;
    Worker::of(&hand).await.take_one("mail").await;
    harness.advance(TTL).await;
    assert_eq!(states(&hand.rescue().await), [(id, State::Dead)]);
    assert_eq!(hand.job(id).await.attempt, 1);
}

/// J4, decisions 13: claimed is not begun.
pub async fn j4_at_most_once_and_never_begun_is_handed_on_uncharged(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let id = hand.create(&at_most_once("pay")).await;
    Worker::of(&hand).await.take_one("pay").await;
    harness.advance(TTL).await;
    assert_eq!(states(&hand.rescue().await), [(id, State::Ready)]);
    let row = hand.job(id).await;
    assert_eq!((row.attempt, row.lost, row.attempts().len()), (0, 0, 0));
    let worker = Worker::of(&hand).await;
    let claimed = worker.take_one("pay").await;
    assert_eq!(claimed.attempt(), 1, "and not alone: it has killed nobody");
    assert!(worker.start(&claimed).await);
    assert_eq!(worker.end(&claimed, succeeded()).await, SettledJob::Applied(State::Succeeded));
}

/// J7: the start of an attempt before says nothing about this one.
pub async fn j7_an_earlier_begin_does_not_make_a_later_attempt_uncertain(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let id = hand.create(&at_most_once("pay")).await;
    let first = worker.take_one("pay").await;
    assert!(worker.start(&first).await);
    worker.end_all(&[first], &Ending::NotStarted { error: "refused".to_owned() }).await;
    harness.advance(secs(5)).await;
    hand.promote().await;
    let later = Worker::of(&hand).await;
    later.take_one("pay").await;
    harness.advance(TTL).await;
    assert_eq!(states(&hand.rescue().await), [(id, State::Ready)]);
    assert_eq!(hand.job(id).await.attempt, 1);
}

/// J7, G16.
pub async fn j7_at_most_once_and_begun_is_uncertain_and_stays_so(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (_, claimed) = doubt(harness, &hand).await;
    let row = hand.job(claimed.job.id).await;
    assert_eq!((row.state_now(), row.attempt, row.running.as_ref()), (State::Uncertain, 1, None));
    assert_eq!(row.token, claimed.token, "its worker may still know better");
    harness.advance(secs(86_400)).await;
    hand.prune_jobs(Duration::ZERO).await;
    assert_eq!((hand.promote().await.moved, hand.rescue().await), (0, Rescued::default()));
    assert_eq!(hand.job(claimed.job.id).await, row);
    let worker = Worker::of(&hand).await;
    assert!(worker.take("pay", ALL).await.is_empty() && worker.take_alone("pay").await.is_empty());
}

/// J5: whoever ran it may still say how it was.
pub async fn j5_late_evidence_settles_an_uncertain_job(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    for (ending, state) in
        [(succeeded(), State::Succeeded), (Ending::Dead("declined".to_owned()), State::Dead)]
    {
        let (worker, claimed) = doubt(harness, &hand).await;
        assert_eq!(worker.end(&claimed, ending.clone()).await, SettledJob::Applied(state));
        assert_eq!(worker.end(&claimed, ending).await, SettledJob::Already(state), "once");
        let row = hand.job(claimed.job.id).await;
        assert_eq!((row.state, row.attempt, row.attempts().len()), (state, 1, 1));
    }
}

/// J5: what would make it run again is no evidence.
pub async fn j5_an_uncertain_job_is_not_put_back_by_its_worker(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let (worker, claimed) = doubt(harness, &hand).await;
    let row = hand.job(claimed.job.id).await;
    for ending in
        [Ending::HandedBack, Ending::Snoozed(secs(1)), Ending::NotStarted { error: "no".to_owned() }]
    {
        let answer = worker.end(&claimed, ending).await;
        assert!(!matches!(answer, SettledJob::Applied(_)), "{answer:?}");
        assert_eq!(hand.job(claimed.job.id).await, row);
    }
}

/// J6, J5.
pub async fn j6_late_evidence_is_too_late_after_a_resolution(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let body = Body::new(b"receipt".to_vec(), "text/plain");
    let moves = [Move::Done(Some(body)), Move::Dead, Move::Cancel, Move::RunNow];
    for to in moves {
        let (worker, claimed) = doubt(harness, &hand).await;
        let id = claimed.job.id;
        assert_eq!(hand.intervene(id, to.clone()).await, Moved::Applied { from: State::Uncertain });
        let row = hand.job(id).await;
        assert!(row.token > claimed.token && Some(row.state) == to.state());
        assert_eq!(worker.end(&claimed, succeeded()).await, SettledJob::Stale, "{to:?}");
        assert_eq!(hand.job(id).await, row);
        hand.intervene(id, Move::Cancel).await;
    }
}

/// J7: closing is leaving; nobody has to wait for the time to run out.
pub async fn j7_what_a_closed_session_held_is_rescued_at_once(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let created = hand.create_all(&[work("mail"), work("mail")]).await;
    worker.take("mail", ALL).await;
    assert!(worker.close().await);
    assert_eq!(
        states(&hand.rescue().await),
        created.iter().map(|id| (*id, State::Ready)).collect::<Vec<_>>()
    );
    assert_eq!(hand.session(worker.session.id).await, None);
}

/// J2, J7: a claim of a session that has run out, or is not there any more, is rescued like what it had.
pub async fn j2_what_a_lost_session_claims_is_rescued_as_well(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    harness.advance(TTL).await;
    let id = hand.create(&at_most_once("pay")).await;
    let claimed = worker.take_one("pay").await;
    assert!(!worker.start(&claimed).await, "nothing starts in a session that has run out");
    assert_eq!(states(&hand.rescue().await), [(id, State::Ready)]);
    assert_eq!(hand.session(worker.session.id).await, None);
    let claimed = worker.take_one("pay").await;
    assert!(!worker.start(&claimed).await);
    assert_eq!(states(&hand.rescue().await), [(id, State::Ready)], "also when it was cleared away");
    assert_eq!(hand.job(id).await.attempt, 0);
}

/// J7.
pub async fn j7_a_rescue_goes_on_where_the_last_one_stopped(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let mut created = Vec::new();
    for _ in 0..3 {
        let worker = Worker::of(&hand).await;
        created.extend(hand.create_all(&works("mail", 10)).await);
        worker.take("mail", 5).await;
        worker.take("mail", 5).await;
    }
    harness.advance(TTL).await;
    let mut rescued = Vec::new();
    for _ in 0..50 {
        let part = hand.store.job_rescue(4).await.unwrap();
        let more = part.more;
        rescued.extend(states(&part));
        if !more {
            break;
        }
    }
    rescued.sort_by_key(|(id, _)| *id);
    assert_eq!(rescued, created.iter().map(|id| (*id, State::Ready)).collect::<Vec<_>>(), "each, once");
    assert!(hand.sessions().await.is_empty());
}

/// J8.
pub async fn j8_a_job_that_was_called_off_is_not_rescued_into_another_attempt(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let created = hand.create_all(&[work("mail"), work("mail")]).await;
    worker.take("mail", ALL).await;
    assert_eq!(hand.intervene(created[0], Move::Cancel).await, Moved::Noted);
    harness.advance(TTL).await;
    assert_eq!(states(&hand.rescue().await), [(created[0], State::Cancelled), (created[1], State::Ready)]);
    assert_eq!(hand.state(created[0]).await, State::Cancelled);
}

/// J7: a start is written once the attempt is the current one, and never after.
pub async fn j7_only_the_current_attempt_begins(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    hand.create_all(&[at_most_once("pay"), at_most_once("pay")]).await;
    let claimed = worker.take("pay", ALL).await;
    let starts: Vec<_> = claimed.iter().map(|claimed| worker.start_of(claimed)).collect();
    assert_eq!(hand.begin_jobs(&starts).await, [true, true]);
    assert_eq!(hand.begin_jobs(&starts).await, [true, true], "the same sent again");
    worker.end_all(&claimed[..1], &succeeded()).await;
    assert_eq!(hand.begin_jobs(&starts).await, [false, true]);
    harness.advance(TTL).await;
    assert_eq!(hand.begin_jobs(&starts).await, [false, false], "its session has run out");
    hand.rescue().await;
    assert_eq!(hand.begin_jobs(&starts).await, [false, false]);
}

/// J3: a claim sent again after its jobs were rescued finds none of them.
pub async fn j3_a_rescued_claim_is_not_found_again(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    hand.create_all(&works("mail", 2)).await;
    let wish = worker.wish(&[lane("mail")], ALL);
    let claimed = hand.claim_jobs(&wish).await.jobs;
    harness.advance(TTL).await;
    hand.rescue().await;
    let again = Worker::of(&hand).await;
    let taken = only(again.take_alone("mail").await);
    let old = ClaimJobs { wants: Vec::new(), ..wish };
    assert!(hand.claim_jobs(&old).await.jobs.is_empty());
    assert!(taken.token > claimed[0].token);
    let ClaimJobs { claim, .. } = old;
    assert_ne!(hand.job(taken.job.id).await.running.map(|running| running.claim), Some::<ClaimId>(claim));
    assert_eq!(again.session.owner, Owner::new("web-1:7").unwrap());
}
