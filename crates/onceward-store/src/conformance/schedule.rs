//! Schedules: written under a version, and their jobs with them or not at all.

use core::time::Duration;

use onceward_core::job::State;
use onceward_core::schedule::{Definition, Overlap, Schedule, Target};
use onceward_core::{Namespace, ScheduleName, Timestamp};

use super::Harness;
use super::job_kit::*;
use super::kit::*;
use crate::{DueSchedules, ListSchedules, WriteSchedule};

fn schedule(text: &str, when: &str, at: Timestamp) -> Schedule {
    let mut job = work("report");
    job.priority = 3;
    let definition = Definition::new(when.parse().unwrap(), Target::of(&job));
    Schedule::new(Namespace::default(), ScheduleName::new(text).unwrap(), definition, at)
}

async fn write(hand: &Hand, row: &Schedule, ticks: &[Timestamp]) -> bool {
    let jobs = ticks.iter().map(|tick| row.job(*tick)).collect();
    let ask = WriteSchedule { row: row.clone(), jobs };
    hand.ask(|| hand.store.schedule_write(&ask)).await
}

async fn list(hand: &Hand, name: Option<&str>, after: Option<&str>, limit: usize) -> Vec<Schedule> {
    let name_of = |text: Option<&str>| text.map(|text| ScheduleName::new(text).unwrap());
    let ask =
        ListSchedules { namespace: Namespace::default(), name: name_of(name), after: name_of(after), limit };
    hand.ask(|| hand.store.schedule_list(&ask)).await.rows
}

async fn due(hand: &Hand, limit: usize) -> DueSchedules {
    let namespace = Namespace::default();
    hand.ask(|| hand.store.schedule_due(&namespace, limit)).await
}

fn names(rows: &[Schedule]) -> Vec<&str> {
    rows.iter().map(|row| row.name.as_str()).collect()
}

pub async fn a_schedule_comes_back_as_it_was_written(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let at = now(&hand).await;
    let row = schedule("nightly", "30 2 * * * Europe/Berlin", at);
    assert!(write(&hand, &row, &[]).await);
    let found = list(&other, Some("nightly"), None, 10).await;
    assert_eq!(found, [Schedule { version: 1, ..row.clone() }]);
    assert!(!write(&hand, &row, &[]).await, "it is there");
    let paused = found[0].paused(&owner("ops"), Some("why".to_owned()), at).unwrap();
    assert!(write(&hand, &paused, &[]).await);
    assert!(!write(&hand, &paused, &[]).await, "it has another version by now");
    assert_eq!(list(&other, None, None, 10).await, [Schedule { version: 2, ..paused }]);
}

pub async fn schedules_are_listed_page_by_page_and_per_namespace(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let at = now(&hand).await;
    for name in ["c", "a", "b", "d"] {
        assert!(write(&hand, &schedule(name, "every 1h", at), &[]).await);
    }
    let elsewhere = Schedule { namespace: namespace("elsewhere"), ..schedule("z", "every 1h", at) };
    assert!(write(&hand, &elsewhere, &[]).await);
    assert_eq!(names(&list(&hand, None, None, 3).await), ["a", "b", "c"]);
    assert_eq!(names(&list(&hand, None, Some("c"), 3).await), ["d"]);
    assert!(list(&hand, Some("z"), None, 3).await.is_empty());
}

pub async fn what_is_due_is_shown_by_the_stores_clock(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let at = now(&hand).await;
    assert!(due(&hand, 10).await.rows.is_empty() && due(&hand, 10).await.next_at.is_none());
    for (name, seconds) in [("late", 50), ("soon", 10), ("sooner", 5)] {
        let row = Schedule { next_at: Some(at.after(secs(seconds))), ..schedule(name, "every 1h", at) };
        assert!(write(&hand, &row, &[]).await);
    }
    let paused = Schedule { next_at: None, ..schedule("paused", "every 1h", at) };
    assert!(write(&hand, &paused, &[]).await);
    let seen = due(&hand, 10).await;
    assert!(seen.rows.is_empty() && near(seen.next_at.unwrap(), at.after(secs(5))));
    harness.advance(secs(20)).await;
    let seen = due(&hand, 10).await;
    assert_eq!(names(&seen.rows), ["sooner", "soon"]);
    assert!(near(seen.next_at.unwrap(), at.after(secs(50))) && near(seen.now, at.after(secs(20))));
    assert_eq!(names(&due(&hand, 1).await.rows), ["sooner"]);
}

/// J12: a tick and its job are written together, once.
pub async fn j12_a_tick_is_enqueued_once_whoever_does_it(harness: &dyn Harness) {
    let (hand, other) = (Hand::of(harness).await, Hand::second(harness).await);
    let at = now(&hand).await;
    let row = schedule("hourly", "every 1h", at);
    assert!(write(&hand, &row, &[]).await);
    let seen = list(&hand, Some("hourly"), None, 1).await.remove(0);
    let tick = seen.next_at.unwrap();
    let next = Schedule { next_at: Some(tick.after(secs(3_600))), ..seen.clone() };
    assert!(write(&hand, &next, &[tick]).await);
    assert!(!write(&other, &next, &[tick]).await, "the other one saw the same tick");
    let job = hand.job(row.job(tick).id).await;
    assert_eq!((job.state, job.kind.as_str(), job.priority), (State::Ready, "report", 3));
    assert_eq!(hand.list_jobs(&crate::ListJobs { limit: 10, ..Default::default() }).await.len(), 1);
    assert_eq!(list(&other, None, None, 9).await[0].next_at, next.next_at);
    // Nothing of a write that is refused is enqueued.
    let refused = Schedule { version: 1, ..next.clone() };
    assert!(!write(&hand, &refused, &[tick.after(secs(3_600))]).await);
    assert!(hand.find_job(row.job(tick.after(secs(3_600))).id).await.is_none());
    // A worker gets it as any other job.
    let worker = Worker::of(&hand).await;
    assert_eq!(worker.take_one("report").await.job.id, job.id);
}

/// J12: of many that fire the same tick at once, one does.
pub async fn j12_of_many_at_once_one_enqueues_a_tick(harness: &dyn Harness) {
    let hand = Hand::of(harness).await.patient();
    let at = now(&hand).await;
    assert!(write(&hand, &schedule("hourly", "every 1h", at), &[]).await);
    for round in 1..=4 {
        let seen = list(&hand, Some("hourly"), None, 1).await.remove(0);
        let tick = seen.next_at.unwrap();
        let next = Schedule { next_at: Some(tick.after(secs(3_600))), ..seen };
        let written = together(12, |_| {
            let (hand, next) = (hand.clone(), next.clone());
            async move { write(&hand, &next, &[tick]).await }
        });
        assert_eq!(written.await.into_iter().filter(|written| *written).count(), 1);
        let jobs = hand.list_jobs(&crate::ListJobs { limit: 100, ..Default::default() }).await;
        assert_eq!(jobs.len(), round);
    }
}

/// J12: also where the job of a tick is over by then, or still there.
pub async fn j12_a_job_that_is_there_is_not_enqueued_again(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let at = now(&hand).await;
    let row = schedule("hourly", "every 1h", at);
    let (first, second) = (at, at.after(secs(1)));
    assert!(write(&hand, &row, &[first, second]).await);
    let worker = Worker::of(&hand).await;
    let claimed = worker.take("report", 1).await;
    worker.end_all(&claimed, &succeeded()).await;
    let row = Schedule { version: 1, ..row };
    assert!(write(&hand, &row, &[first, second]).await, "asked for again: a backfill");
    let jobs = hand.list_jobs(&crate::ListJobs { limit: 100, ..Default::default() }).await;
    assert_eq!(jobs.len(), 2);
    assert_eq!(worker.take("report", 10).await.len(), 1);
}

pub async fn ticks_with_jitter_wait_and_those_in_a_line_follow_each_other(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let at = now(&hand).await;
    let mut row = schedule("line", "every 1h", at);
    row.definition.overlap = Overlap::Queue;
    assert!(write(&hand, &row, &[at, at.after(secs(1))]).await);
    hand.promote().await;
    let worker = Worker::of(&hand).await;
    let first = worker.take("report", 10).await;
    assert_eq!(first.len(), 1, "the second one waits for the first");
    worker.end_all(&first, &succeeded()).await;
    hand.promote().await;
    assert_eq!(worker.take("report", 10).await.len(), 1);
    let mut late = schedule("late", "every 1h", at);
    late.definition.jitter = Duration::from_secs(3_600);
    let put_off = at.after(secs(86_400));
    assert!(write(&hand, &late, &[put_off]).await);
    assert_eq!(hand.state(late.job(put_off).id).await, State::Scheduled);
}

pub async fn a_schedule_is_removed_under_its_version_and_its_jobs_stay(harness: &dyn Harness) {
    let hand = Hand::of(harness).await;
    let at = now(&hand).await;
    let row = schedule("gone", "every 1h", at);
    assert!(write(&hand, &row, &[at]).await);
    let remove = |version| {
        let (hand, name) = (hand.clone(), row.name.clone());
        let namespace = Namespace::default();
        async move { hand.ask(|| hand.store.schedule_remove(&namespace, &name, version)).await }
    };
    assert!(!remove(9).await && remove(1).await && !remove(1).await);
    assert!(list(&hand, None, None, 9).await.is_empty());
    assert_eq!(hand.state(row.job(at).id).await, State::Ready);
}
