//! Jobs: taking them. Each once, the right ones first, never more than asked for.

use core::time::Duration;
use std::collections::BTreeSet;

use onceward_core::job::{self, New, Policy, State};
use onceward_core::{JobId, limits};

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::{ClaimJobs, ListJobs, Want};

async fn two_hands(harness: &dyn Harness) -> [Hand; 2] {
    [Hand::of(harness).await.patient(), Hand::second(harness).await.patient()]
}

/// J14.
pub async fn j14_a_claim_takes_no_more_than_asked(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    hand.create_all(&works("mail", 20)).await;
    hand.create_all(&works("print", 20)).await;
    let few = |text, limit| Want { limit, ..lane(text) };
    assert_eq!(worker.take("mail", 1).await.len(), 1);
    assert_eq!(worker.take("mail", 3).await.len(), 3);
    let wish = worker.wish(&[few("mail", 2), few("print", 5)], ALL);
    let claimed = hand.claim_jobs(&wish).await.jobs;
    let count = |text| claimed.iter().filter(|claimed| claimed.job.kind == kind(text)).count();
    assert_eq!((count("mail"), count("print")), (2, 5), "no more of a lane than is wanted of it");
    let wish = worker.wish(&[few("mail", 9), few("print", 9)], 4);
    assert_eq!(hand.claim_jobs(&wish).await.jobs.len(), 4, "no more in all");
    assert!(hand.claim_jobs(&worker.wish(&[few("mail", 0)], ALL)).await.jobs.is_empty());
    let rest = hand.claim_jobs(&worker.wish(&[lane("mail"), lane("print")], ALL)).await.jobs;
    assert_eq!(rest.len(), 40 - 1 - 3 - 7 - 4);
}

/// J14, J3: an answer that got lost is asked for again.
pub async fn j14_the_same_claim_sent_twice_takes_nothing_more(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let worker = Worker::of(&hand).await;
    hand.create_all(&works("mail", 9)).await;
    let wish = worker.wish(&[lane("mail")], 4);
    let first = hand.claim_jobs(&wish).await;
    harness.advance(secs(1)).await;
    for hand in [&hand, &other] {
        let again = hand.claim_jobs(&wish).await;
        assert_eq!(again.jobs, first.jobs);
        assert_eq!(again.now, first.now, "it was claimed when it was claimed");
    }
    let wider = ClaimJobs { limit: ALL, ..wish.clone() };
    assert_eq!(hand.claim_jobs(&wider).await.jobs, first.jobs);
    assert_eq!(worker.take("mail", ALL).await.len(), 5);
}

/// J3, J5.
pub async fn j3_a_claim_sent_again_shows_what_still_runs_under_it(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    hand.create_all(&works("mail", 3)).await;
    let wish = worker.wish(&[lane("mail")], ALL);
    let claimed = hand.claim_jobs(&wish).await.jobs;
    worker.end_all(&claimed[1..2], &succeeded()).await;
    assert_eq!(ids(&hand.claim_jobs(&wish).await.jobs), [claimed[0].job.id, claimed[2].job.id]);
    harness.advance(TTL).await;
    assert_eq!(hand.rescue().await.jobs.len(), 2);
    let nothing = ClaimJobs { wants: vec![lane("other")], ..wish };
    assert!(hand.claim_jobs(&nothing).await.jobs.is_empty(), "it was taken from it");
}

pub async fn an_empty_claim_leaves_nothing_behind(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let wish = worker.wish(&[lane("mail"), lane("print")], ALL);
    assert!(hand.claim_jobs(&wish).await.jobs.is_empty());
    let id = hand.create(&work("print")).await;
    assert_eq!(ids(&hand.claim_jobs(&wish).await.jobs), [id]);
    assert_eq!(hand.session(worker.session.id).await.unwrap().running, 1);
}

pub async fn the_highest_priority_goes_first_then_what_was_due_first(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let seen = now(&hand).await;
    let of = |priority, age| New { priority, run_at: Some(seen.before(secs(age))), ..work("mail") };
    let batch = [of(0, 10), of(1_000, 1), of(0, 30), of(-1_000, 99), of(7, 5), of(0, 20), of(7, 6)];
    let created = hand.create_all(&batch).await;
    let order = [1, 6, 4, 2, 5, 0, 3].map(|at: usize| created[at]);
    for three in order.chunks(3) {
        assert_eq!(ids(&worker.take("mail", 3).await), three);
    }
}

pub async fn the_best_of_several_lanes_go_first(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let seen = now(&hand).await;
    let of = |text, place, priority, age| New {
        queue: queue(place),
        priority,
        run_at: Some(seen.before(secs(age))),
        ..work(text)
    };
    let batch = [
        of("mail", "front", 0, 10),
        of("print", "front", 5, 1),
        of("mail", "back", 9, 1),
        of("print", "back", 0, 20),
        of("mail", "front", -1, 99),
    ];
    let created = hand.create_all(&batch).await;
    let wants: Vec<Want> = [("mail", "front"), ("print", "front"), ("mail", "back"), ("print", "back")]
        .map(|(text, place)| Want { queue: queue(place), ..lane(text) })
        .to_vec();
    let order = [2, 1, 3, 0, 4].map(|at: usize| created[at]);
    assert_eq!(ids(&hand.claim_jobs(&worker.wish(&wants, 2)).await.jobs), order[..2]);
    assert_eq!(ids(&hand.claim_jobs(&worker.wish(&wants, ALL)).await.jobs), order[2..]);
}

/// J15: a worker takes what it knows; what nobody knows yet waits, and is in nobody's way (W61).
pub async fn j15_unknown_kinds_are_left_for_others(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let unknown: Vec<New> =
        works("from-the-future", 300).into_iter().map(|new| New { priority: 1_000, ..new }).collect();
    let strange = hand.create_all(&unknown).await;
    let known = hand.create(&work("mail")).await;
    assert_eq!(ids(&worker.take("mail", 1).await), [known]);
    assert!(worker.take("mail", ALL).await.is_empty());
    assert!(hand.states(&strange).await.iter().all(|state| *state == State::Ready));
    assert_eq!(hand.lanes(&[queue("default")]).await, [Want { limit: 0, ..lane("from-the-future") }]);
    assert_eq!(worker.take("from-the-future", ALL).await.len(), 300, "until somebody does");
}

/// J15: what lies in the future slows nothing down and hides nothing (W66).
pub async fn j15_what_is_not_due_hides_nothing_that_is(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let future = |new| New { priority: 1_000, delay: Some(secs(3_600)), ..new };
    hand.create_all(&works("mail", 500).into_iter().map(future).collect::<Vec<_>>()).await;
    let due = hand.create(&New { priority: -1_000, ..work("mail") }).await;
    assert_eq!(hand.promote().await.moved, 0);
    assert_eq!(ids(&worker.take("mail", ALL).await), [due]);
}

pub async fn tagged_jobs_are_taken_only_from_their_own_lane(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let tagged = |tags: &[&str]| New { tags: tags.iter().map(|text| tag(text)).collect(), ..work("mail") };
    let batch = [tagged(&["gpu", "eu"]), tagged(&[]), tagged(&["eu"]), tagged(&["eu", "gpu"])];
    let created = hand.create_all(&batch).await;
    let route = job::route(&batch[0].tags);
    let lanes = hand.lanes(&[queue("default")]).await;
    let routes: Vec<_> = lanes.iter().map(|lane| lane.route.as_str()).collect();
    assert_eq!(routes, ["", "eu", route.as_str()], "each once, whatever the order of the tags");
    assert_eq!(ids(&worker.take("mail", ALL).await), [created[1]], "an untagged job runs anywhere");
    let both = Want { route, ..lane("mail") };
    let claimed = hand.claim_jobs(&worker.wish(&[both], ALL)).await.jobs;
    assert_eq!(ids(&claimed), [created[0], created[3]]);
    assert_eq!(claimed[1].job.tags, batch[3].tags, "as they were said");
}

/// J3.
pub async fn j3_the_token_of_a_job_grows_over_all_its_attempts(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let id = hand.create(&work("mail")).await;
    let mut last = hand.job(id).await.token;
    for round in 0..6 {
        let claimed = worker.take_one("mail").await;
        assert!(claimed.token > last, "{} after {last}", claimed.token);
        last = claimed.token;
        if round == 2 {
            harness.step_back(secs(3)).await;
        }
        worker.end_all(&[claimed], &job::Ending::HandedBack).await;
        assert_eq!(hand.job(id).await.token, last);
    }
}

/// J3, W66.
pub async fn j3_many_claimers_take_each_job_once(harness: &dyn Harness) {
    let hands = two_hands(harness).await;
    let created = hands[0].create_all(&works("mail", 600)).await;
    let taken = together(12, |at| {
        let hand = hands[at % 2].clone();
        async move {
            let worker = Worker::of(&hand).await;
            let (mut mine, mut empty) = (Vec::new(), 0);
            // A claim passes over what others are taking at the moment, so one empty answer says nothing.
            while empty < 5 {
                let claimed = worker.take("mail", 7).await;
                empty = if claimed.is_empty() { empty + 1 } else { 0 };
                worker.end_all(&claimed, &succeeded()).await;
                mine.extend(ids(&claimed));
            }
            mine
        }
    });
    let taken: Vec<JobId> = taken.await.into_iter().flatten().collect();
    assert_eq!(taken.len(), created.len(), "each of them");
    assert_eq!(taken.iter().collect::<BTreeSet<_>>(), created.iter().collect(), "exactly once");
    assert!(hands[0].states(&created).await.iter().all(|state| *state == State::Succeeded));
}

/// J14: the same claim sent by two at once is still one claim.
pub async fn j14_the_same_claim_sent_many_times_at_once_takes_once(harness: &dyn Harness) {
    let hands = two_hands(harness).await;
    hands[0].create_all(&works("mail", 40)).await;
    let worker = Worker::of(&hands[0]).await;
    let wish = worker.wish(&[lane("mail")], 5);
    let answers = together(8, |at| {
        let (hand, wish) = (hands[at % 2].clone(), wish.clone());
        async move { hand.claim_jobs(&wish).await.jobs }
    });
    let answers = answers.await;
    let taken: BTreeSet<JobId> = answers.iter().flat_map(|jobs| ids(jobs)).collect();
    assert_eq!(taken.len(), 5);
    assert_eq!(worker.take("mail", ALL).await.len(), 35, "the others still wait");
}

pub async fn a_claimed_job_shows_who_runs_it(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let id = hand.create(&work("mail")).await;
    assert_eq!(hand.job(id).await.running, None);
    let wish = worker.wish(&[lane("mail")], 1);
    let answer = hand.claim_jobs(&wish).await;
    let claimed = only(answer.jobs);
    assert_eq!((claimed.attempt(), claimed.job.state), (1, State::Ready));
    let row = hand.job(id).await;
    let running = row.running.clone().unwrap();
    assert_eq!((running.claim, running.session), (wish.claim, worker.session.id));
    assert_eq!((running.token, running.since), (claimed.token, answer.now));
    assert_eq!((running.owner, row.state_now()), (worker.session.owner.clone(), State::Running));
    assert_eq!(hand.session(worker.session.id).await.unwrap().running, 1);
    let listing = ListJobs { state: Some(State::Running), limit: 10, ..ListJobs::default() };
    assert_eq!(only(hand.list_jobs(&listing).await).running, row.running);
    worker.end_all(&[claimed], &succeeded()).await;
    assert_eq!(hand.job(id).await.running, None);
    assert_eq!(hand.session(worker.session.id).await.unwrap().running, 0);
}

/// J14: jobs that may kill their processes are taken one by one.
pub async fn j14_only_one_job_is_claimed_alone(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let lost = Worker::of(&hand).await;
    let created = hand.create_all(&works("mail", 3)).await;
    lost.take("mail", ALL).await;
    let fresh = hand.create(&work("mail")).await;
    harness.advance(TTL).await;
    hand.rescue().await;
    let worker = Worker::of(&hand).await;
    assert_eq!(ids(&worker.take("mail", ALL).await), [fresh], "and not with others");
    let mut alone = Vec::new();
    for _ in 0..3 {
        alone.extend(ids(&worker.take_alone("mail").await));
    }
    alone.sort();
    assert_eq!(alone, created);
    assert!(worker.take_alone("mail").await.is_empty());
}

/// J15: claims look at what is there now, also at jobs whose ids are smaller than those taken before.
pub async fn j15_jobs_that_come_late_with_small_ids_are_taken(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let early = job_id();
    let late = hand.create_all(&works("mail", 3)).await;
    assert_eq!(ids(&worker.take("mail", ALL).await), late);
    let seen = now(&hand).await;
    hand.create(&New { id: early, run_at: Some(seen.before(secs(3_600))), ..work("mail") }).await;
    assert_eq!(ids(&worker.take("mail", ALL).await), [early]);
}

/// Whether it is too late for a job is its worker's to say, who has to leave a reason.
pub async fn a_job_after_its_deadline_is_claimed_like_any_other(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let deadline = Some(now(&hand).await.after(secs(5)));
    let policy = Policy { deadline, ..Policy::default() };
    let id = hand.create(&New { policy: policy.clone(), ..work("mail") }).await;
    let delayed = hand.create(&New { policy, delay: Some(secs(4)), ..work("mail") }).await;
    harness.advance(secs(9)).await;
    hand.promote().await;
    let answer = hand.claim_jobs(&worker.wish(&[lane("mail")], ALL)).await;
    assert_eq!(ids(&answer.jobs), [id, delayed]);
    assert!(answer.jobs.iter().all(|claimed| claimed.job.is_overdue(answer.now)));
}

pub async fn the_largest_claim_may_name_many_lanes(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let names: Vec<String> = (0..60).map(|at| format!("kind-{at}")).collect();
    let batch: Vec<New> = names.iter().flat_map(|name| works(name, 2)).collect();
    hand.create_all(&batch).await;
    let wants: Vec<Want> = names.iter().map(|name| lane(name)).collect();
    let claimed = hand.claim_jobs(&worker.wish(&wants, limits::CLAIM_JOBS_MAX)).await.jobs;
    assert_eq!(claimed.len(), batch.len());
    worker.end_all(&claimed, &broken(Duration::ZERO)).await;
}
