//! Limits of queues and of their ordering keys with real workers: an external count never sees more than may run or
//! start (J10, J11), and nothing that could run is left standing.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::jobs_kit::{NOW, Number, client, faulty};
use onceward::jobs::{Limits, Rate};
use onceward::store::Store;
use onceward::store::faulty::Verb;
use onceward::worker::{State, WorkerHandle};
use onceward::{Onceward, Queue};

/// What really happened, outside of any store.
#[derive(Default)]
struct Ledger {
    running: AtomicU32,
    most: AtomicU32,
    starts: Mutex<Vec<Instant>>,
}

impl Ledger {
    fn done(&self) -> usize {
        self.starts.lock().unwrap().len() - self.running.load(Ordering::SeqCst) as usize
    }

    /// The most starts in any window of this length.
    fn most_within(&self, window: Duration) -> usize {
        let starts = self.starts.lock().unwrap();
        let within = |from: &Instant| starts.iter().filter(|at| *at >= from && **at < *from + window).count();
        starts.iter().map(within).max().unwrap_or(0)
    }
}

/// Works for as many milliseconds as the job says.
async fn work(job: Number, ledger: State<Arc<Ledger>>) {
    ledger.starts.lock().unwrap().push(Instant::now());
    let running = ledger.running.fetch_add(1, Ordering::SeqCst) + 1;
    ledger.most.fetch_max(running, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(job.0.into())).await;
    ledger.running.fetch_sub(1, Ordering::SeqCst);
}

async fn workers(clients: &[Onceward], ledger: &Arc<Ledger>) -> Vec<WorkerHandle> {
    let mut workers = Vec::new();
    for ow in clients {
        let worker = ow.worker().job(work).state(Arc::clone(ledger)).concurrency(8).start().await.unwrap();
        workers.push(worker);
    }
    workers
}

async fn until_done(ledger: &Ledger, jobs: usize, within: Duration) {
    let began = Instant::now();
    while ledger.done() < jobs {
        assert!(began.elapsed() < within, "{} of {jobs} within {within:?}", ledger.done());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn at_once(concurrency: u32) -> Limits {
    Limits { concurrency: Some(concurrency), ..Limits::default() }
}

fn per_second(count: u32, burst: u32) -> Limits {
    let rate = Rate::new(count, Duration::from_secs(1)).unwrap();
    Limits { rate: Some(rate), burst: Some(burst), ..Limits::default() }
}

async fn limit(ow: &Onceward, limits: Limits) {
    ow.admin().limit_queue(&Queue::default(), limits).await.unwrap();
}

async fn held(ow: &Onceward) -> u64 {
    ow.admin().queues().await.unwrap().iter().map(|view| view.queue.held).sum()
}

/// J11: three workers, one queue that runs five jobs at a time, two thousand jobs.
async fn no_more_run_than_may(clients: [Onceward; 3]) {
    let [ow, ..] = &clients;
    let ledger = Arc::new(Ledger::default());
    limit(ow, at_once(5)).await;
    ow.enqueue_many((0..2_000).map(|n| Number(u32::from(n % 10 == 0)))).await.unwrap();
    let workers = workers(&clients, &ledger).await;
    until_done(&ledger, 2_000, Duration::from_secs(60)).await;
    assert!(ledger.most.load(Ordering::SeqCst) <= 5, "{:?} ran at once", ledger.most);
    // Nothing is left: the permits go back, so that another worker could have all of them.
    let began = Instant::now();
    while held(ow).await > 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "permits are kept for nothing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for worker in workers {
        worker.shutdown().await;
    }
}

/// J10: three workers, one key of which three jobs may run at the same time, and then two.
async fn no_more_of_a_key_run_than_may(clients: [Onceward; 3]) {
    let [ow, ..] = &clients;
    let ledger = Arc::new(Ledger::default());
    ow.admin().limit_keys(&Queue::default(), 3).await.unwrap();
    ow.enqueue_many((0..90).map(|_| ow.enqueue(Number(5)).ordering_key("account"))).await.unwrap();
    let workers = workers(&clients, &ledger).await;
    until_done(&ledger, 60, Duration::from_secs(60)).await;
    let most = ledger.most.load(Ordering::SeqCst);
    assert!((2..=3).contains(&most), "{most} ran at once");
    assert_eq!(ow.admin().key_concurrency(&Queue::default()).await.unwrap(), 3);
    ow.admin().limit_keys(&Queue::default(), 1).await.unwrap();
    until_done(&ledger, 90, Duration::from_secs(60)).await;
    ledger.most.store(0, Ordering::SeqCst);
    ow.enqueue_many((0..20).map(|_| ow.enqueue(Number(2)).ordering_key("account"))).await.unwrap();
    until_done(&ledger, 110, Duration::from_secs(60)).await;
    assert_eq!(ledger.most.load(Ordering::SeqCst), 1);
    for worker in workers {
        worker.shutdown().await;
    }
}

/// J11: several workers of one queue start no more than its rate and its burst allow, and not much less.
async fn no_more_start_than_may(clients: [Onceward; 3]) {
    let [ow, ..] = &clients;
    let ledger = Arc::new(Ledger::default());
    limit(ow, per_second(100, 20)).await;
    ow.enqueue_many((0..400).map(|_| Number(0))).await.unwrap();
    let workers = workers(&clients, &ledger).await;
    let began = Instant::now();
    until_done(&ledger, 400, Duration::from_secs(30)).await;
    // The store counts by its own clock; between a claim and its handler lie some milliseconds.
    let most = ledger.most_within(Duration::from_millis(950));
    assert!(most <= 120, "{most} started within a second");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    for worker in workers {
        worker.shutdown().await;
    }
}

/// One permit and three workers: everybody has a turn.
#[tokio::test(flavor = "multi_thread")]
async fn one_permit_goes_round() {
    let ow = client().await;
    limit(&ow, at_once(1)).await;
    let done = [(); 3].map(|()| Arc::new(Ledger::default()));
    let mut workers = Vec::new();
    for ledger in &done {
        workers.push(ow.worker().job(work).state(Arc::clone(ledger)).start().await.unwrap());
    }
    ow.enqueue_many((0..2_000).map(|_| Number(20))).await.unwrap();
    let began = Instant::now();
    while done.iter().any(|ledger| ledger.done() == 0) {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{:?}",
            done.each_ref().map(|ledger| ledger.done())
        );
        let running: u32 = done.iter().map(|ledger| ledger.running.load(Ordering::SeqCst)).sum();
        assert!(running <= 1, "{running} run at once");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A worker that is gone without a word holds its permits until its session has run out, and no longer.
#[tokio::test(flavor = "multi_thread")]
async fn the_permits_of_a_lost_worker_come_back() {
    let store = Arc::new(onceward::store::memory::MemoryStore::default());
    let options = || Onceward::options().short_ttls_for_tests();
    let (sound, broken) = (
        options().build(Arc::clone(&store) as Arc<dyn Store>).unwrap(),
        onceward::store::faulty::Faulty::new(store),
    );
    let lost = options().build(Arc::clone(&broken) as Arc<dyn Store>).unwrap();
    limit(&sound, at_once(2)).await;
    sound.enqueue_many((0..2).map(|_| Number(600_000))).await.unwrap();
    let ledger = Arc::new(Ledger::default());
    let ttl = Duration::from_millis(1_500);
    let gone = lost.worker().job(work).state(Arc::clone(&ledger)).session_ttl(ttl).start().await.unwrap();
    while ledger.running.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // From now on nothing of it reaches the store.
    broken.random(1, 1, [onceward::store::faulty::Fault::RequestLost]);
    let next = Arc::new(Ledger::default());
    let worker = sound.worker().job(work).state(Arc::clone(&next)).session_ttl(ttl).start().await.unwrap();
    sound.enqueue_many((0..4).map(|_| Number(5))).await.unwrap();
    let began = Instant::now();
    while next.starts.lock().unwrap().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(15), "the permits are stranded");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(began.elapsed() > Duration::from_millis(500), "it may have been running until then");
    broken.heal();
    drop((gone, worker));
}

/// A queue that nobody has limited costs nothing: no other verb is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_without_limits_asks_for_no_permits() {
    let (ow, store) = faulty();
    let ledger = Arc::new(Ledger::default());
    ow.enqueue_many((0..500).map(|_| Number(0))).await.unwrap();
    ow.worker().job(work).state(Arc::clone(&ledger)).run_until_empty(NOW).await.unwrap();
    assert_eq!((ledger.done(), store.calls(Verb::QueuePermits)), (500, 0));
    limit(&ow, at_once(1)).await;
    ow.enqueue_many((0..5).map(|_| Number(0))).await.unwrap();
    ow.worker().job(work).state(Arc::clone(&ledger)).run_until_empty(NOW).await.unwrap();
    assert!(ledger.done() == 505 && store.calls(Verb::QueuePermits) > 0);
}

/// Limits that change while jobs run: lowered, raised, and lifted.
#[tokio::test(flavor = "multi_thread")]
async fn limits_change_under_running_workers() {
    let ow = client().await;
    let ledger = Arc::new(Ledger::default());
    ow.enqueue_many((0..10_000).map(|_| Number(20))).await.unwrap();
    let _workers = workers(&[ow.clone(), ow.clone()], &ledger).await;
    for (limits, most) in [(Some(3), 3), (Some(9), 9), (Some(1), 1), (None, 16)] {
        limit(&ow, Limits { concurrency: limits, ..Limits::default() }).await;
        // What ran before ends; with it the limit holds.
        tokio::time::sleep(Duration::from_millis(500)).await;
        ledger.most.store(0, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let seen = ledger.most.load(Ordering::SeqCst);
        assert!(seen <= most && seen >= most.div_ceil(2), "{seen} of {most} ran");
    }
}

/// A worker that is told to take no more jobs keeps no permits for itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_draining_worker_gives_its_permits_back() {
    let ow = client().await;
    let ledger = Arc::new(Ledger::default());
    limit(&ow, at_once(4)).await;
    ow.enqueue_many((0..4_000).map(|_| Number(10))).await.unwrap();
    let workers = workers(&[ow.clone(), ow.clone()], &ledger).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    workers[0].drained().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(held(&ow).await, 4, "the other one has all of them");
    let before = ledger.done();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(ledger.done() > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn j11_no_more_run_than_may() {
    let ow = client().await;
    no_more_run_than_may([ow.clone(), ow.clone(), ow]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn j10_no_more_of_a_key_run_than_may() {
    let ow = client().await;
    no_more_of_a_key_run_than_may([ow.clone(), ow.clone(), ow]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn j11_no_more_start_than_may() {
    let ow = client().await;
    no_more_start_than_may([ow.clone(), ow.clone(), ow]).await;
}

#[cfg(feature = "sqlite")]
mod on_sqlite {
    use super::*;

    async fn clients(folder: &tempfile::TempDir) -> [Onceward; 3] {
        let url = format!("sqlite://{}", folder.path().join("jobs.db").display());
        let connect = async || Onceward::options().short_ttls_for_tests().connect(&url).await.unwrap();
        [connect().await, connect().await, connect().await]
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn j11_no_more_run_than_may() {
        let folder = tempfile::tempdir().unwrap();
        no_more_run_than_may(clients(&folder).await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn j10_no_more_of_a_key_run_than_may() {
        let folder = tempfile::tempdir().unwrap();
        no_more_of_a_key_run_than_may(clients(&folder).await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn j11_no_more_start_than_may() {
        let folder = tempfile::tempdir().unwrap();
        no_more_start_than_may(clients(&folder).await).await;
    }
}

#[cfg(feature = "postgres")]
mod on_postgres {
    use super::*;

    async fn clients(schema: &crate::pg::Schema) -> [Onceward; 3] {
        let connect =
            async || Onceward::options().short_ttls_for_tests().connect(schema.url()).await.unwrap();
        [connect().await, connect().await, connect().await]
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn j11_no_more_run_than_may() {
        let schema = crate::pg::Schema::migrated().await;
        no_more_run_than_may(clients(&schema).await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn j10_no_more_of_a_key_run_than_may() {
        let schema = crate::pg::Schema::migrated().await;
        no_more_of_a_key_run_than_may(clients(&schema).await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn j11_no_more_start_than_may() {
        let schema = crate::pg::Schema::migrated().await;
        no_more_start_than_may(clients(&schema).await).await;
    }
}
