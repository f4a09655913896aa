//! What was proved wrong with the job queues before us, each as a test that ours passes: those that stand nowhere else.
//! W53 is in `jobs_sqlite.rs` and `proof_postgres.rs`, W57 in the contract of the caller's transaction (`enlist`), W55,
//! W59, W63, W68 and W69 in the tests of HTTP jobs, W58, W60, W61, W66 and W67 in the conformance suite, W70 in the
//! tests of the PostgreSQL store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::jobs_kit::{Number, before, faulty, job, until, until_that};
use onceward::Onceward;
use onceward::jobs::{JobId, Queue, State as JobState};
use onceward::store::faulty::{Fault, Faulty, Verb};
use onceward::worker::{JobContext, State};

/// W54: renewals that fail while a handler runs cost it nothing, as long as the session lasts.
#[tokio::test(flavor = "multi_thread")]
async fn w54_failed_renewals_discard_no_finished_work() {
    failed_renewals_discard_nothing(&faulty().0).await;
}

pub(crate) async fn failed_renewals_discard_nothing(ow: &Onceward) {
    let (ow, store) = before(ow);
    let handler = async |_: Number, store: State<Arc<Faulty>>| {
        store.times(3, Verb::SessionRenew, Fault::Away);
        let asked = store.calls(Verb::SessionRenew);
        while store.calls(Verb::SessionRenew) < asked + 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok::<_, String>("paid")
    };
    let worker = ow.worker().job(handler).state(Arc::clone(&store)).session_ttl(Duration::from_secs(2));
    let worker = worker.start().await.unwrap();
    let enqueued = ow.enqueue(Number(1)).await.unwrap();
    let row = until(&ow, enqueued.id, JobState::Succeeded).await;
    assert_eq!((row.attempt, row.lost, worker.stale_endings()), (1, 0, 0), "it ran once, and its end counts");
    worker.shutdown().await;
}

/// W64: a drain pauses its queue, waits for what runs, and does not count what is to come; workers that have ended
/// leave no row.
#[tokio::test(flavor = "multi_thread")]
async fn w64_a_drain_waits_for_what_runs_and_not_for_the_future() {
    a_drain_ignores_the_future(&faulty().0).await;
}

pub(crate) async fn a_drain_ignores_the_future(ow: &Onceward) {
    let go = Arc::new(tokio::sync::Notify::new());
    let handler = async |_: Number, go: State<Arc<tokio::sync::Notify>>| go.notified().await;
    let worker = ow.worker().job(handler).state(Arc::clone(&go)).start().await.unwrap();
    let running = ow.enqueue(Number(1)).await.unwrap();
    until(ow, running.id, JobState::Running).await;
    let later = ow.enqueue(Number(2)).delay(Duration::from_secs(3_600)).await.unwrap();
    let (queue, admin) = (Queue::default(), ow.admin());
    let early = admin.drain_queue(&queue, None, Duration::from_millis(50)).await;
    assert!(early.is_err(), "the first one still runs");
    let after = ow.enqueue(Number(3)).await.unwrap();
    go.notify_one();
    admin.drain_queue(&queue, None, Duration::from_secs(10)).await.unwrap();
    assert_eq!(job(ow, running.id).await.state_now(), JobState::Succeeded);
    let states = [job(ow, later.id).await.state_now(), job(ow, after.id).await.state_now()];
    assert_eq!(states, [JobState::Scheduled, JobState::Ready], "nothing of it is started any more");
    worker.shutdown().await;
    assert!(admin.workers().await.unwrap().rows.is_empty());
}

/// Who began to claim before the pause may get something after it: a drain looks again once that can't be any more.
#[tokio::test(flavor = "multi_thread")]
async fn w64_a_drain_sees_what_was_claimed_as_it_began() {
    let (ow, _) = faulty();
    let go = Arc::new(tokio::sync::Notify::new());
    let handler = async |_: Number, go: State<Arc<tokio::sync::Notify>>| go.notified().await;
    let worker = ow.worker().job(handler).state(Arc::clone(&go)).start().await.unwrap();
    let (queue, admin) = (Queue::default(), ow.admin());
    admin.pause_queue(&queue, None).await.unwrap();
    let id = ow.enqueue(Number(1)).await.unwrap().id;
    let late = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        // It is claimed as if by somebody who does not see the pause.
        admin.resume_queue(&queue).await.unwrap();
        until(&ow, id, JobState::Running).await;
        admin.pause_queue(&queue, None).await.unwrap();
    };
    let (drained, ()) = tokio::join!(admin.drain_queue(&queue, None, Duration::from_secs(2)), late);
    assert_eq!(drained.unwrap_err().code(), onceward::Code::StoreBusy, "it runs");
    go.notify_one();
    admin.drain_queue(&queue, None, Duration::from_secs(10)).await.unwrap();
    assert_eq!(job(&ow, id).await.state, JobState::Succeeded);
    worker.shutdown().await;
}

/// W65: a worker whose slots are all taken goes on renewing its session, and rescues what others have lost.
#[tokio::test(flavor = "multi_thread")]
async fn w65_a_busy_worker_is_alive_and_rescues_others() {
    a_busy_worker_rescues_others(&faulty().0).await;
}

pub(crate) async fn a_busy_worker_rescues_others(ow: &Onceward) {
    let (other, lame) = before(ow);
    let lost = other.enqueue(Number(2)).queue("lame").await.unwrap();
    let hangs = async |_: Number| core::future::pending::<()>().await;
    let ttl = Duration::from_millis(1_200);
    let lamed = other
        .worker()
        .job(hangs)
        .queues(["lame"])
        .session_ttl(ttl)
        .grace(Duration::ZERO)
        .start()
        .await
        .unwrap();
    until(ow, lost.id, JobState::Running).await;
    let watches = async |_: Number, lost: State<JobId>, context: JobContext| {
        let ow = context.client();
        until_that(ow, *lost, "rescued", |row| row.lost > 0).await;
        let alive = ow.admin().workers().await.unwrap();
        let me = alive.rows.iter().find(|row| row.running == 1).unwrap();
        assert!(me.expires_at > alive.now, "its only slot is taken, and it is there");
    };
    let busy = ow.worker().job(watches).state(lost.id).concurrency(1).session_ttl(ttl);
    let busy = busy.start().await.unwrap();
    let taken = ow.enqueue(Number(1)).await.unwrap();
    until(ow, taken.id, JobState::Running).await;
    lame.times(10_000, Verb::SessionRenew, Fault::Away);
    let began = Instant::now();
    let row = until(ow, taken.id, JobState::Succeeded).await;
    assert_eq!(row.attempt, 1, "after {:?}", began.elapsed());
    busy.shutdown().await;
    lame.heal();
    lamed.shutdown().await;
}

/// W61: a kind that nobody knows is no dead letter, however long it waits beside others.
#[tokio::test(flavor = "multi_thread")]
async fn w61_a_kind_that_no_worker_knows_waits() {
    unknown_kinds_wait(&faulty().0).await;
}

pub(crate) async fn unknown_kinds_wait(ow: &Onceward) {
    let unknown = ow.enqueue_raw("of.tomorrow", "1", "application/json").await.unwrap();
    let known = ow.enqueue(Number(1)).await.unwrap();
    ow.worker().job(async |_: Number| ()).run_until_empty(Duration::ZERO).await.unwrap();
    let row = job(ow, unknown.id).await;
    assert_eq!((row.state_now(), row.attempt), (JobState::Ready, 0));
    assert_eq!(job(ow, known.id).await.state_now(), JobState::Succeeded);
    // What can't be read by a handler that knows the kind is one, with its reason.
    let bad = ow.enqueue_raw("test.number", "\"x\"", "application/json").await.unwrap();
    ow.worker().job(async |_: Number| ()).run_until_empty(Duration::ZERO).await.unwrap();
    let row = job(ow, bad.id).await;
    assert!(
        row.state_now() == JobState::Dead && row.error.as_deref().unwrap().contains("payload"),
        "{row:?}"
    );
}
