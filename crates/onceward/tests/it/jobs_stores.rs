//! What workers and administration make of jobs, on the stores that keep them: the same as on the model.

use std::sync::Arc;
use std::time::Duration;

use crate::jobs_kit::{AtMostOnce, Number, job, until, until_that};
use onceward::jobs::State as JobState;
use onceward::worker::{JobContext, State};
use onceward::{Code, Onceward, Queue};

/// A client of a store of its own on a file.
async fn on_file() -> (Onceward, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("jobs.db").display());
    (Onceward::options().short_ttls_for_tests().connect(&url).await.unwrap(), folder)
}

/// The same on a schema.
async fn on_server() -> (Onceward, crate::pg::Schema) {
    let schema = crate::pg::Schema::migrated().await;
    (Onceward::options().short_ttls_for_tests().connect(schema.url()).await.unwrap(), schema)
}

macro_rules! on_both {
    ($($name:ident = $way:path;)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let (ow, _folder) = super::on_file().await;
                $way(&ow).await;
                ow.shutdown().await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let (ow, _schema) = super::on_server().await;
                $way(&ow).await;
                ow.shutdown().await;
            })*
        }
    };
}

on_both! {
    every_outcome_is_what_it_says = crate::jobs::outcomes_are_what_they_say;
    at_most_once_is_not_tried_again = crate::jobs::at_most_once_is_tried_once;
    j8_a_running_job_is_told_that_it_was_called_off = crate::jobs::running_jobs_are_told;
    a_queue_says_how_long_its_jobs_are_kept = crate::jobs::queues_say_how_long_jobs_are_kept;
    a_drain_waits_for_what_runs = crate::jobs_stores::a_drain_waits;
    an_attempt_that_takes_too_long_has_failed = crate::jobs::attempts_have_their_time;
    a_job_past_its_deadline_is_not_started = crate::jobs::deadlines_hold;
    a_shutdown_hands_back_and_waits = crate::jobs::a_shutdown_hands_back;
    a_drained_worker_takes_no_more = crate::jobs::drained_workers_take_no_more;
    a_worker_is_asked_to_drain_and_to_go_on = crate::jobs::workers_are_asked_to_drain;
    until_empty_waits_for_what_is_due_within_the_horizon = crate::jobs::until_empty_waits;
    tags_route_jobs_to_workers_that_offer_one = crate::jobs::tags_route_jobs;
    queues_share_by_their_weights = crate::jobs::queues_share;
    the_higher_priority_goes_first = crate::jobs::priorities_hold;
    a_dedupe_key_until_started_is_free_in_the_handler = crate::jobs::a_start_frees_the_dedupe_key;
    j13_a_replay_is_recognised_by_its_root = crate::jobs::replays_are_recognised;
    j13_a_request_finds_its_replay = crate::jobs::requests_find_their_replays;
    j13_a_bulk_replay_asked_for_twice_makes_one_copy_of_each = crate::jobs::bulk_replays_make_one_copy;
    w54_failed_renewals_discard_no_finished_work = crate::weaknesses_jobs::failed_renewals_discard_nothing;
    w61_a_kind_that_no_worker_knows_waits = crate::weaknesses_jobs::unknown_kinds_wait;
    w64_a_drain_does_not_wait_for_the_future = crate::weaknesses_jobs::a_drain_ignores_the_future;
    w65_a_busy_worker_rescues_others = crate::weaknesses_jobs::a_busy_worker_rescues_others;
    j5_a_lost_session_stops_its_jobs = crate::jobs_faults::lost_sessions_stop_their_jobs;
    j5_endings_that_come_too_late_are_refused = crate::jobs_faults::late_endings_are_refused;
    n55_a_job_that_kills_its_process_harms_no_other = crate::jobs_faults::a_killer_harms_no_other;
    j5_a_shutdown_tells_what_runs_to_stop_once_its_grace_is_over = crate::jobs_stores::shutdown_grace_cancels;
}

/// J5, J7: once the grace is over, a handler that listens says how it ended; one that does not is left, and its attempt
/// is lost; and of one that may not run twice nobody knows.
pub(crate) async fn shutdown_grace_cancels(ow: &Onceward) {
    let numbers = async |job: Number, context: JobContext| {
        if job.0 != 1 {
            core::future::pending::<()>().await;
        }
        Ok::<_, String>(context.cancelled().await.to_string())
    };
    let once = async |_: AtMostOnce| core::future::pending::<()>().await;
    let (grace, leave) = (Duration::from_millis(50), Duration::from_millis(700));
    let worker = ow.worker().job(numbers).job(once).grace(grace).leave(leave).start().await.unwrap();
    let listens = ow.enqueue(Number(1)).await.unwrap().id;
    let ignores = ow.enqueue(Number(2)).await.unwrap().id;
    let strict = ow.enqueue(AtMostOnce(3)).await.unwrap().id;
    until_that(ow, strict, "begun", |row| row.begun.is_some()).await;
    while worker.running() < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    worker.shutdown().await;
    let row = job(ow, listens).await;
    assert_eq!((row.state, row.attempt, row.lost), (JobState::Succeeded, 1, 0));
    assert!(String::from_utf8(row.result.unwrap().bytes.unwrap()).unwrap().contains("has to leave"));
    ow.store().job_rescue(100).await.unwrap();
    let row = job(ow, ignores).await;
    assert_eq!((row.state_now(), row.attempt, row.lost), (JobState::Ready, 1, 1));
    let row = job(ow, strict).await;
    assert_eq!((row.state_now(), row.attempt), (JobState::Uncertain, 1));
}

/// W64: a drain waits for what runs, at most as long as it is told to, and leaves the queue paused.
pub(crate) async fn a_drain_waits(ow: &Onceward) {
    let go = Arc::new(tokio::sync::Notify::new());
    let handler = async |_: Number, go: State<Arc<tokio::sync::Notify>>| go.notified().await;
    let worker = ow.worker().job(handler).state(Arc::clone(&go)).start().await.unwrap();
    let running = ow.enqueue(Number(1)).await.unwrap().id;
    until(ow, running, JobState::Running).await;
    let (queue, admin) = (Queue::default(), ow.admin());
    let early = admin.drain_queue(&queue, Some("a test"), Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(early.code(), Code::StoreBusy);
    let waits = ow.enqueue(Number(2)).await.unwrap().id;
    go.notify_one();
    admin.drain_queue(&queue, Some("a test"), Duration::from_secs(10)).await.unwrap();
    assert_eq!(job(ow, running).await.state, JobState::Succeeded);
    assert_eq!(job(ow, waits).await.state_now(), JobState::Ready);
    let seen = admin.queues().await.unwrap().remove(0).queue;
    assert!(seen.paused_at.is_some() && seen.running == 0, "{seen:?}");
    worker.shutdown().await;
}
