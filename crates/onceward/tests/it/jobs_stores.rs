//! What workers and administration make of jobs, on the stores that keep them: the same as on the model.

use std::sync::Arc;
use std::time::Duration;

use crate::jobs_kit::{Number, job, until};
use onceward::jobs::State as JobState;
use onceward::worker::State;
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
