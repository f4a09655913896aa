//! Hints over a real Redis: whom they wake, and that nothing depends on them.

use std::time::{Duration, Instant};

use crate::jobs_kit::{Number, until};
use crate::redis_kit::Server;
use onceward::jobs::State as JobState;
use onceward::store::Wake;
use onceward::{Code, Onceward};
use rustix::process::Signal;
use tokio::sync::broadcast::Receiver;
use tokio::time::{sleep, timeout};

/// For how long a worker has nothing to do, until it looks rarely: its looks are twice as far apart each time, up to
/// five seconds, and after the one in the sixth second none comes before the tenth.
const IDLE: Duration = Duration::from_secs(7);
/// What has arrived by then was told, and not found by looking.
const TOLD: Duration = Duration::from_secs(2);

/// A client behind the pooler, where no notification of PostgreSQL arrives, with a channel of the test's own.
async fn pooled(schema: &crate::pg::Schema, redis: Option<&str>) -> Onceward {
    let url =
        schema.url().replace(&crate::pg::support::shared().postgres, &crate::pg::support::shared().pgbouncer);
    let mut options = Onceward::options();
    if let Some(redis) = redis {
        options = options.redis(format!("{redis}?channel={}", schema.name()));
    }
    options.connect(&format!("{url}&pooler=transaction")).await.unwrap()
}

/// How long it takes until an idle worker of another client has run a job.
async fn pick_up(schema: &crate::pg::Schema, redis: Option<&str>) -> Duration {
    let (ow, other) = (pooled(schema, redis).await, pooled(schema, redis).await);
    let worker = other.worker().job(async |_: Number| ()).start().await.unwrap();
    sleep(IDLE).await;
    let began = Instant::now();
    let enqueued = ow.enqueue(Number(1)).await.unwrap();
    until(&ow, enqueued.id, JobState::Succeeded).await;
    let took = began.elapsed();
    worker.shutdown().await;
    other.shutdown().await;
    ow.shutdown().await;
    took
}

/// The same twice: only the hint makes the difference.
#[tokio::test(flavor = "multi_thread")]
async fn a_hint_wakes_an_idle_worker_behind_a_pooler() {
    let redis = crate::redis_kit::shared();
    for _ in 0..3 {
        let (with, without) = (crate::pg::Schema::migrated().await, crate::pg::Schema::migrated().await);
        let (told, found) = tokio::join!(pick_up(&with, Some(&redis)), pick_up(&without, None));
        assert!(told < TOLD, "{told:?} with Redis");
        // Where the machine was so slow that somebody happened to look just then, nothing was shown.
        if found > TOLD {
            return;
        }
    }
    panic!("without Redis it was as quick three times: nothing was shown");
}

/// Waits for a hint about the queue; whatever else is told is not it.
async fn hear(wakes: &mut Receiver<Wake>, queue: &str) {
    loop {
        match wakes.recv().await {
            Ok(Wake::Jobs(_, told)) if told.as_str() == queue => return,
            Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Processes on one SQLite file see that the file has changed; what has happened, the hint says.
#[tokio::test(flavor = "multi_thread")]
async fn hints_say_what_has_happened_to_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("jobs.db").display());
    let redis = format!("{}?channel={}", crate::redis_kit::shared(), crate::pg::support::fresh_name());
    let (ow, other) = (
        Onceward::options().redis(&redis).connect(&url).await.unwrap(),
        Onceward::options().redis(&redis).connect(&url).await.unwrap(),
    );
    let mut wakes = other.store().subscribe();
    // The first thing heard is that something may have been missed: from then on nothing is.
    timeout(Duration::from_secs(20), wakes.recv()).await.unwrap().unwrap();
    let heard = async {
        loop {
            ow.enqueue(Number(1)).queue("mail").await.unwrap();
            if timeout(Duration::from_secs(1), hear(&mut wakes, "mail")).await.is_ok() {
                return;
            }
        }
    };
    timeout(Duration::from_secs(20), heard).await.unwrap();
    let lease = ow.lease("report").acquire().await.unwrap().unwrap();
    lease.release().await.unwrap();
    let freed =
        async { while !matches!(wakes.recv().await, Ok(Wake::Lease(_, key)) if key.as_str() == "report") {} };
    timeout(Duration::from_secs(20), freed).await.unwrap();
    other.shutdown().await;
    ow.shutdown().await;
}

/// A process that enqueues and ends at once has told before.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_hint_leaves_with_its_process() {
    let (schema, redis) = (crate::pg::Schema::migrated().await, crate::redis_kit::shared());
    let other = pooled(&schema, Some(&redis)).await;
    let mut wakes = other.store().subscribe();
    timeout(Duration::from_secs(20), wakes.recv()).await.unwrap().unwrap();
    let ow = pooled(&schema, Some(&redis)).await;
    ow.enqueue(Number(1)).queue("last").await.unwrap();
    ow.shutdown().await;
    timeout(Duration::from_secs(20), hear(&mut wakes, "last")).await.unwrap();
    other.shutdown().await;
}

async fn enqueue_and_run(ow: &Onceward, count: u32) {
    for n in 0..count {
        let enqueued = ow.enqueue(Number(n)).await.unwrap();
        until(ow, enqueued.id, JobState::Succeeded).await;
    }
}

/// A Redis that hangs, dies and comes back delays nothing and loses nothing; then hints come again.
#[tokio::test(flavor = "multi_thread")]
async fn exclusive_nothing_depends_on_a_redis_that_hangs_or_dies() {
    let schema = crate::pg::Schema::migrated().await;
    let mut redis = Server::start();
    let (ow, other) = (pooled(&schema, Some(&redis.url())).await, pooled(&schema, Some(&redis.url())).await);
    let mut wakes = other.store().subscribe();
    let worker = other.worker().job(async |_: Number| ()).start().await.unwrap();
    timeout(Duration::from_secs(20), async {
        ow.enqueue(Number(0)).queue("first").await.unwrap();
        hear(&mut wakes, "first").await;
    })
    .await
    .unwrap();
    redis.signal(Signal::STOP);
    let began = Instant::now();
    // Ten enqueues that had each waited out the patience with a Redis would have taken twenty seconds.
    let jobs: Vec<_> = (0..500).map(Number).collect();
    for jobs in jobs.chunks(50) {
        let enqueued = ow.enqueue_many(jobs.to_vec()).await.unwrap();
        until(&ow, enqueued[49].id, JobState::Succeeded).await;
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    redis.signal(Signal::CONT);
    redis.kill();
    enqueue_and_run(&ow, 3).await;
    redis.start_again();
    let heard = async {
        loop {
            ow.enqueue(Number(1)).queue("again").await.unwrap();
            if timeout(Duration::from_millis(500), hear(&mut wakes, "again")).await.is_ok() {
                return;
            }
        }
    };
    timeout(Duration::from_secs(60), heard).await.expect("hints come back");
    worker.shutdown().await;
    let closing = Instant::now();
    redis.kill();
    ow.enqueue(Number(1)).queue("nobody").await.unwrap();
    ow.shutdown().await;
    other.shutdown().await;
    assert!(closing.elapsed() < Duration::from_secs(20), "{:?}", closing.elapsed());
}

/// Nor on one that refuses us, or is not there at all; and a URL that can't be meant is refused, without its password.
#[tokio::test(flavor = "multi_thread")]
async fn exclusive_nothing_depends_on_a_redis_that_refuses_us() {
    let server = Server::with(&["--requirepass", "swordfish"]);
    let wrong = server.url().replace("redis://", "redis://:hunter2@");
    for redis in [wrong.as_str(), "redis://127.0.0.1:1"] {
        let schema = crate::pg::Schema::migrated().await;
        let ow = pooled(&schema, Some(redis)).await;
        let worker = ow.worker().job(async |_: Number| ()).start().await.unwrap();
        enqueue_and_run(&ow, 3).await;
        worker.shutdown().await;
        ow.shutdown().await;
    }
    let right = format!("{}?channel=c", server.url().replace("redis://", "redis://:swordfish@"));
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("jobs.db").display());
    let ow = Onceward::options().redis(right).connect(&url).await.unwrap();
    assert!(!format!("{ow:?}").contains("swordfish"));
    ow.shutdown().await;
    let bad = Onceward::options().redis("redis://:hunter2@cache/x").connect(&url).await.unwrap_err();
    assert_eq!(bad.code(), Code::StoreUrlInvalid);
    assert!(!format!("{bad:?} {bad}").contains("hunter2"), "{bad:?}");
}
