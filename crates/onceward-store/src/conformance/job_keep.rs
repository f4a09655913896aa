//! Jobs as they are kept: looked up, listed, and forgotten when they may be (J16).

use core::time::Duration;

use onceward_core::JobId;
use onceward_core::job::{Ending, Move, New, Policy, Record, State};
use onceward_core::once::Fingerprint;

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::{Enqueued, ListJobs, PruneJobs};

const DAY: Duration = Duration::from_secs(86_400);

fn all() -> ListJobs {
    ListJobs { limit: 500, ..ListJobs::default() }
}

fn listed(rows: &[Record]) -> Vec<JobId> {
    rows.iter().map(|row| row.id).collect()
}

/// The newest first.
fn reversed(ids: &[JobId]) -> Vec<JobId> {
    ids.iter().rev().copied().collect()
}

/// One job of every state, as the states are declared.
async fn one_of_each(harness: &dyn Harness, worker: &Worker) -> Vec<(JobId, State)> {
    let hand = &worker.hand;
    let mut jobs =
        vec![(hand.create(&New { delay: Some(DAY * 300), ..work("mail") }).await, State::Scheduled)];
    let endings = [
        (broken(DAY * 300), State::Retrying),
        (succeeded(), State::Succeeded),
        (Ending::Dead("no".to_owned()), State::Dead),
        (Ending::Cancelled("no".to_owned()), State::Cancelled),
        (Ending::Uncertain("?".to_owned()), State::Uncertain),
    ];
    for (ending, state) in endings {
        let id = hand.create(&work("mail")).await;
        worker.end_all(&worker.take("mail", 1).await, &ending).await;
        jobs.push((id, state));
    }
    jobs.push((hand.create(&work("mail")).await, State::Running));
    worker.take_one("mail").await;
    jobs.push((hand.create(&work("mail")).await, State::Ready));
    harness.advance(TICK).await;
    jobs
}

pub async fn a_lookup_of_jobs_answers_in_the_order_asked(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let jobs = one_of_each(harness, &worker).await;
    let mut asked: Vec<JobId> = jobs.iter().map(|(id, _)| *id).collect();
    asked.reverse();
    asked.insert(3, job_id());
    asked.push(asked[0]);
    let found = hand.jobs(&asked).await;
    assert!(near(found.now, now(&hand).await));
    for (id, row) in asked.iter().zip(found.rows) {
        let wanted = jobs.iter().find(|(of, _)| of == id);
        assert_eq!(row.map(|row| (row.id, row.state_now())), wanted.copied());
    }
}

pub async fn a_listing_of_jobs_is_by_the_state_people_mean(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let jobs = one_of_each(harness, &worker).await;
    for (id, state) in &jobs {
        let rows = hand.list_jobs(&ListJobs { state: Some(*state), ..all() }).await;
        assert_eq!(listed(&rows), [*id], "{state:?}");
        assert_eq!(rows[0].state_now(), *state);
    }
    assert_eq!(hand.list_jobs(&all()).await.len(), jobs.len());
}

pub async fn a_listing_of_jobs_is_filtered(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let tagged = |tags: &[&str]| tags.iter().map(|text| tag(text)).collect::<Vec<_>>();
    let created = hand
        .create_all(&[
            work("mail"),
            work("MAIL"),
            New { queue: queue("front"), ..work("mail") },
            New { tags: tagged(&["gpu", "eu"]), ..work("mail") },
            New { tags: tagged(&["gp"]), ..work("mail") },
        ])
        .await;
    let theirs = New { namespace: namespace("theirs"), tags: tagged(&["gpu"]), ..work("mail") };
    let foreign = hand.create(&theirs).await;
    worker.end_all(&worker.take("mail", 1).await, &succeeded()).await;
    let of = async |ask: ListJobs| listed(&hand.list_jobs(&ask).await);
    let here = || ListJobs { namespace: Some(namespace("default")), ..all() };
    assert_eq!(of(here()).await, reversed(&created));
    assert_eq!(of(ListJobs { namespace: Some(namespace("theirs")), ..all() }).await, [foreign]);
    assert_eq!(of(ListJobs { namespace: Some(namespace("nobody")), ..all() }).await, []);
    assert_eq!(of(ListJobs { kind: Some(kind("MAIL")), ..here() }).await, [created[1]]);
    assert_eq!(of(ListJobs { queue: Some(queue("front")), ..here() }).await, [created[2]]);
    assert_eq!(of(ListJobs { tag: Some(tag("gpu")), ..all() }).await, [foreign, created[3]]);
    assert_eq!(of(ListJobs { tag: Some(tag("eu")), ..here() }).await, [created[3]]);
    let mail = ListJobs { kind: Some(kind("mail")), queue: Some(queue("default")), ..here() };
    assert_eq!(of(mail.clone()).await, [created[4], created[3], created[0]]);
    assert_eq!(of(ListJobs { state: Some(State::Succeeded), ..mail }).await, [created[0]]);
}

/// W67.
pub async fn a_listing_of_jobs_is_paged_without_gaps(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let mut created = Vec::new();
    for at in 0..24 {
        created.push(hand.create(&work("mail")).await);
        if at % 3 == 0 {
            let ending = if at % 2 == 0 { succeeded() } else { Ending::Dead("no".to_owned()) };
            worker.end_all(&worker.take("mail", 1).await, &ending).await;
        }
    }
    for size in [1, 5, 24, 100] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = hand.list_jobs(&ListJobs { after, limit: size, ..all() }).await;
            after = page.last().map(|row| row.id);
            seen.extend(listed(&page));
            if page.is_empty() {
                break;
            }
        }
        assert_eq!(seen, reversed(&created), "pages of {size}");
    }
}

/// W67: what changes its state between two pages is neither told twice nor left out.
pub async fn a_listing_of_jobs_stays_in_its_order_while_they_move(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let created = hand.create_all(&works("mail", 12)).await;
    let (mut seen, mut after) = (Vec::new(), None);
    let policy = Policy { retain: Duration::ZERO, ..Policy::default() };
    let brief = hand.create(&New { policy, ..work("brief") }).await;
    loop {
        let page = hand.list_jobs(&ListJobs { after, limit: 3, ..all() }).await;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        seen.extend(listed(&page));
        worker.end_all(&worker.take("mail", 2).await, &succeeded()).await;
        worker.end_all(&worker.take("brief", 1).await, &succeeded()).await;
        hand.create(&work("new")).await;
    }
    assert_eq!(seen.remove(0), brief, "the listing goes on after a row that is gone");
    assert_eq!(seen, reversed(&created));
}

pub async fn a_listing_of_jobs_shows_no_payloads_and_no_results(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let created = hand.create_all(&works("mail", 2)).await;
    worker.end_all(&worker.take("mail", 1).await, &succeeded()).await;
    for row in hand.list_jobs(&all()).await {
        assert!(row.payload.bytes.is_empty(), "{:?}", row.state);
        assert!(row.result.is_none_or(|body| body.bytes.is_none()));
    }
    let row = hand.job(created[0]).await;
    assert!(row.payload.bytes == b"mail" && row.result.is_some_and(|body| body.bytes.is_some()));
}

pub async fn looking_at_jobs_changes_nothing(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let jobs: Vec<JobId> = one_of_each(harness, &worker).await.into_iter().map(|(id, _)| id).collect();
    harness.advance(TTL).await;
    let before = hand.jobs(&jobs).await.rows;
    hand.list_jobs(&all()).await;
    hand.queues().await;
    hand.lanes(&[queue("default")]).await;
    hand.sessions().await;
    assert_eq!(hand.jobs(&jobs).await.rows, before);
}

/// J16, G16: nothing that still wants something of somebody is forgotten.
pub async fn j16_a_prune_takes_nothing_that_has_not_ended(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let jobs = one_of_each(harness, &worker).await;
    let live: Vec<JobId> = jobs
        .iter()
        .filter(|(_, state)| !state.is_final() || *state == State::Uncertain)
        .map(|(id, _)| *id)
        .collect();
    let before = hand.jobs(&live).await.rows;
    harness.advance(DAY * 200).await;
    for _ in 0..3 {
        hand.prune_jobs(Duration::ZERO).await;
    }
    assert_eq!(hand.jobs(&live).await.rows, before);
    let left = hand.list_jobs(&all()).await;
    assert_eq!(listed(&left), reversed(&live), "and what has ended is forgotten");
}

/// J16.
pub async fn j16_a_prune_takes_jobs_when_their_retention_has_ended(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let kept = |days: u32| New { policy: Policy { retain: DAY * days, ..Policy::default() }, ..work("mail") };
    let created = hand.create_all(&[kept(2), kept(20), kept(2), kept(2_000)]).await;
    let claimed = worker.take("mail", ALL).await;
    worker.end_all(&claimed[..2], &succeeded()).await;
    worker.end_all(&claimed[2..3], &Ending::Cancelled("no".to_owned())).await;
    worker.end_all(&claimed[3..], &succeeded()).await;
    harness.advance(DAY * 2 - secs(60)).await;
    hand.prune_jobs(DAY).await;
    assert!(hand.jobs(&created).await.rows.iter().all(Option::is_some), "not before");
    // A store may forget a whole day at once, when the day is over.
    harness.advance(DAY * 3).await;
    hand.prune_jobs(DAY).await;
    let there: Vec<bool> = hand.jobs(&created).await.rows.iter().map(Option::is_some).collect();
    assert_eq!(there, [false, true, false, true]);
    assert_eq!(hand.list_jobs(&all()).await.len(), 2);
}

/// J16.
pub async fn j16_a_prune_takes_dead_jobs_when_they_are_old_enough(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let old = hand.create_all(&works("mail", 5)).await;
    worker.end_all(&worker.take("mail", ALL).await, &Ending::Dead("no".to_owned())).await;
    harness.advance(DAY).await;
    let worker = Worker::of(&hand).await;
    let young = hand.create(&work("mail")).await;
    worker.end_all(&worker.take("mail", ALL).await, &Ending::Dead("no".to_owned())).await;
    assert_eq!(hand.prune_jobs(DAY + secs(60)).await.dead, 0);
    let three = PruneJobs::all(DAY / 2, 3);
    assert_eq!(hand.store.job_prune(&three).await.unwrap().dead, 3, "no more than asked at a time");
    assert_eq!(hand.store.job_prune(&three).await.unwrap().dead, 2);
    assert!(hand.jobs(&old).await.rows.iter().all(Option::is_none));
    assert_eq!(hand.state(young).await, State::Dead);
}

/// J16: a dead job that runs again is not dead, however long it was.
pub async fn j16_a_prune_takes_no_dead_job_that_runs_again(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let worker = Worker::of(&hand).await;
    let created = hand.create_all(&works("mail", 2)).await;
    worker.end_all(&worker.take("mail", ALL).await, &Ending::Dead("no".to_owned())).await;
    harness.advance(DAY).await;
    for id in &created {
        hand.moved(*id, Move::RunNow).await;
    }
    Worker::of(&hand).await.take_one("mail").await;
    assert_eq!(hand.prune_jobs(Duration::ZERO).await.dead, 0);
    assert_eq!(hand.states(&created).await, [State::Running, State::Ready]);
}

/// J9, J16: keys go when their time is over, and not with a prune of their jobs.
pub async fn j9_a_prune_takes_keys_when_their_time_is_over(harness: &dyn Harness) {
    use onceward_core::job::{Dedupe, DedupeScope, IdempotencyKey, OnConflict};

    let hand = Hand::of(harness).await;
    let fingerprint = Fingerprint([1; 32]);
    let new = |scope| New {
        key: Some(IdempotencyKey { key: key("k"), fingerprint, ttl: DAY }),
        dedupe: Some(Dedupe { key: key("d"), scope, on_conflict: OnConflict::Existing }),
        ..work("mail")
    };
    let first = hand.create(&new(DedupeScope::UntilDone)).await;
    assert_eq!(hand.prune_jobs(Duration::ZERO).await.keys, 0);
    assert_eq!(hand.enqueue(&new(DedupeScope::UntilDone)).await, Enqueued::Existing(first));
    harness.advance(DAY + secs(1)).await;
    assert_eq!(hand.prune_jobs(Duration::ZERO).await.keys, 0, "its job is not done");
    assert_eq!(hand.enqueue(&new(DedupeScope::UntilDone)).await, Enqueued::Existing(first));
    hand.moved(first, Move::Cancel).await;
    harness.advance(DAY + secs(1)).await;
    assert_eq!(hand.prune_jobs(Duration::ZERO).await.keys, 1);
    hand.create(&new(DedupeScope::UntilDone)).await;
}
