//! The workloads of jobs: enqueueing, draining, both at once, and how soon an idle worker picks a job up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use onceward::store::StoreKind;
use onceward::store::reference::{Beside, Sample};
use onceward::worker::{JobContext, WorkerBuilder, WorkerHandle};
use onceward::{Code, Error, Onceward};
use tokio::sync::mpsc;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobWorkload {
    /// Single enqueues, by so many callers.
    Enqueue(usize),
    /// Enqueues of so many at a time, by one caller.
    EnqueueMany(usize),
    /// A backlog of no-op jobs, run by one worker process; finished jobs are kept.
    DrainHistory,
    /// The same; finished jobs are deleted.
    DrainDelete,
    /// The same as `DrainHistory`, with a million others waiting behind.
    DrainBehindMillion,
    /// The same as `DrainHistory`, while a transaction that was opened long ago keeps dead rows from being removed.
    DrainHeldSnapshot,
    /// 64 callers enqueue while a worker runs what they enqueue.
    EndToEnd,
    /// From the call that enqueues to the start of the handler, in a client that shares nothing but the store.
    Pickup,
    /// From the commit of the caller's own transaction to the start of the handler.
    PickupTx,
    /// Statements of a worker that has nothing to do.
    Idle,
}

/// What was made ready for a workload.
#[derive(Default)]
pub(super) struct Prepared {
    queue: String,
    /// What holds a snapshot.
    holder: Option<Beside>,
}

pub(super) const ALL: &[JobWorkload] = &[
    JobWorkload::Enqueue(1),
    JobWorkload::Enqueue(8),
    JobWorkload::Enqueue(64),
    JobWorkload::EnqueueMany(1000),
    JobWorkload::EnqueueMany(50_000),
    JobWorkload::DrainHistory,
    JobWorkload::DrainDelete,
    JobWorkload::EndToEnd,
    JobWorkload::Pickup,
    JobWorkload::PickupTx,
    JobWorkload::DrainHeldSnapshot,
    JobWorkload::DrainBehindMillion,
    JobWorkload::Idle,
];

/// How many jobs a drain is about.
const BACKLOG: u64 = 50_000;
/// How many wait beside them where many wait.
const MILLION: u64 = 1_000_000;
const MANY: &str = "million";
/// How many jobs come and go behind a held snapshot before anything is measured.
const CHURN: u64 = 300_000;
/// How many pick-ups are measured.
const PICKUPS: usize = 200;
/// How long a worker is left until it is idle, in what is said for a workload, and how long its statements are counted.
const IDLE_AFTER: u32 = 3;
const IDLE_FOR: u32 = 5;
const KIND: &str = "bench.noop";
/// 100 bytes.
const PAYLOAD: &[u8] =
    br#"{"order":"0193a6b2-7c41-7b7e-9b37-0d5d3f0f8a11","event":"order.placed","amount":4200,"pad":"xxxx"}"#;

impl JobWorkload {
    pub(super) fn name(self) -> String {
        match self {
            Self::Enqueue(callers) => format!("enqueue_{callers}"),
            Self::EnqueueMany(size) => format!("enqueue_b{size}"),
            Self::DrainHistory => "drain_history".to_owned(),
            Self::DrainDelete => "drain_delete".to_owned(),
            Self::DrainBehindMillion => "drain_1m_waiting".to_owned(),
            Self::DrainHeldSnapshot => "drain_held_snapshot".to_owned(),
            Self::EndToEnd => "end_to_end".to_owned(),
            Self::Pickup => "pickup_idle".to_owned(),
            Self::PickupTx => "pickup_idle_tx".to_owned(),
            Self::Idle => "idle".to_owned(),
        }
    }

    /// Fills what is to be drained: that is not measured with it.
    pub(super) async fn prepare(self, ow: &Onceward, url: &str) -> Result<Prepared, Error> {
        let queue = format!("{}-{}", self.name(), uuid::Uuid::new_v4().simple());
        let mut prepared = Prepared { queue, holder: None };
        match self {
            Self::DrainHistory => fill(ow, &prepared.queue, BACKLOG, Keep::History).await?,
            Self::DrainDelete => fill(ow, &prepared.queue, BACKLOG, Keep::Nothing).await?,
            Self::DrainHeldSnapshot => prepared.holder = Some(churn(ow, url, &prepared.queue).await?),
            Self::DrainBehindMillion => fill_million(ow).await?,
            _ => {}
        }
        Ok(prepared)
    }

    pub(super) async fn run(
        self,
        ow: &Onceward,
        url: &str,
        time: Duration,
        prepared: Prepared,
    ) -> Result<Sample, Error> {
        let Prepared { queue, holder } = prepared;
        match self {
            Self::Enqueue(callers) => enqueue(ow, &queue, callers, time).await,
            Self::EnqueueMany(size) => enqueue_many(ow, &queue, size, time).await,
            Self::DrainHistory | Self::DrainDelete => timed_drain(ow, &queue).await,
            Self::DrainBehindMillion => behind_million(ow).await,
            Self::DrainHeldSnapshot => {
                let sample = timed_drain(ow, &queue).await;
                if let Some(mut holder) = holder {
                    holder.let_go().await?;
                }
                sample
            }
            Self::Idle => idle(url, &queue, time).await,
            Self::EndToEnd => end_to_end(ow, &queue, time).await,
            Self::Pickup => pickup(ow, url, &queue, None).await,
            Self::PickupTx => match ow.store().capabilities().kind {
                StoreKind::Memory => Ok(Sample::default()),
                _ => pickup(ow, url, &queue, Some(Beside::connect(url).await?)).await,
            },
        }
    }
}

/// What is kept of a job that is done.
#[derive(Clone, Copy)]
enum Keep {
    History,
    Nothing,
}

fn job(ow: &Onceward, queue: &str, keep: Keep) -> onceward::jobs::Enqueue {
    let job = ow.enqueue_raw(KIND, PAYLOAD.to_vec(), "application/json").queue(queue);
    match keep {
        Keep::History => job,
        Keep::Nothing => job.retain(Duration::ZERO),
    }
}

fn worker(ow: &Onceward, queue: &str) -> WorkerBuilder {
    ow.worker().queues([queue]).concurrency(500).raw(KIND, async |_: JobContext| {})
}

async fn enqueue(ow: &Onceward, queue: &str, callers: usize, time: Duration) -> Result<Sample, Error> {
    let began = Instant::now();
    let caller = |_| {
        let (ow, queue) = (ow.clone(), queue.to_owned());
        tokio::spawn(async move {
            let mut sample = Sample::default();
            while began.elapsed() < time {
                let at = Instant::now();
                job(&ow, &queue, Keep::History).await?;
                sample.note(at);
            }
            Ok::<_, Error>(sample)
        })
    };
    let callers: Vec<_> = (0..callers).map(caller).collect();
    let mut sample = Sample::default();
    for caller in callers {
        sample.micros.extend(caller.await.map_err(cut_off)??.micros);
    }
    sample.elapsed = began.elapsed();
    Ok(sample)
}

fn cut_off(_: tokio::task::JoinError) -> Error {
    Error::new(Code::StoreFailed, "a caller was cut off")
}

async fn enqueue_many(ow: &Onceward, queue: &str, size: usize, time: Duration) -> Result<Sample, Error> {
    let (began, mut micros) = (Instant::now(), Vec::new());
    while began.elapsed() < time {
        let at = Instant::now();
        ow.enqueue_many((0..size).map(|_| job(ow, queue, Keep::History))).await?;
        let each = at.elapsed() / u32::try_from(size).unwrap_or(1);
        micros.extend(std::iter::repeat_n(u32::try_from(each.as_micros()).unwrap_or(u32::MAX), size));
    }
    Ok(Sample { micros, elapsed: began.elapsed() })
}

async fn fill(ow: &Onceward, queue: &str, jobs: u64, keep: Keep) -> Result<(), Error> {
    for _ in 0..jobs.div_ceil(1000) {
        ow.enqueue_many((0..1000).map(|_| job(ow, queue, keep))).await?;
    }
    Ok(())
}

/// So many jobs took so long in all: there is no latency of a single one.
fn together(jobs: u64, elapsed: Duration) -> Sample {
    let jobs = usize::try_from(jobs).unwrap_or(usize::MAX);
    let each = elapsed.as_micros() / (jobs.max(1) as u128);
    Sample { micros: vec![u32::try_from(each).unwrap_or(u32::MAX); jobs], elapsed }
}

/// From the start of the worker until every job is durably done.
async fn timed_drain(ow: &Onceward, queue: &str) -> Result<Sample, Error> {
    let began = Instant::now();
    worker(ow, queue).run_until_empty(Duration::ZERO).await?;
    Ok(together(BACKLOG, began.elapsed()))
}

/// Fills the queue that a million wait in: once, for every round.
async fn fill_million(ow: &Onceward) -> Result<(), Error> {
    let waiting = ow.admin().queues().await?.into_iter().find(|view| view.queue.queue.as_str() == MANY);
    match waiting {
        Some(_) => Ok(()),
        None => fill(ow, MANY, MILLION, Keep::History).await,
    }
}

/// Takes a backlog's worth out of a queue that a million wait in.
async fn behind_million(ow: &Onceward) -> Result<Sample, Error> {
    let (done, counted) = (Arc::new(AtomicU64::new(0)), Arc::new(tokio::sync::Notify::new()));
    let (count, tell) = (Arc::clone(&done), Arc::clone(&counted));
    let began = Instant::now();
    let handle = ow.worker().queues([MANY]).concurrency(500).raw(KIND, move |_: JobContext| {
        if count.fetch_add(1, Ordering::Relaxed) + 1 == BACKLOG {
            tell.notify_one();
        }
        core::future::ready(())
    });
    let handle = handle.start().await?;
    counted.notified().await;
    // What is under way is recorded before the clock stops; what was not started is handed back.
    handle.shutdown().await;
    Ok(together(done.load(Ordering::Relaxed), began.elapsed()))
}

/// Lets jobs come and go behind a snapshot that is held, and fills what is to be drained behind it.
async fn churn(ow: &Onceward, url: &str, queue: &str) -> Result<Beside, Error> {
    let mut beside = Beside::connect(url).await?;
    beside.hold().await?;
    for round in 0..CHURN / BACKLOG {
        let queue = format!("{queue}-{round}");
        fill(ow, &queue, BACKLOG, Keep::History).await?;
        worker(ow, &queue).run_until_empty(Duration::ZERO).await?;
    }
    fill(ow, queue, BACKLOG, Keep::History).await?;
    Ok(beside)
}

/// What a worker asks the store while nothing happens, with its renewals.
async fn idle(url: &str, queue: &str, time: Duration) -> Result<Sample, Error> {
    let ow = Onceward::options().application_name("onceward-bench").connect(url).await?;
    let running = worker(&ow, queue).start().await?;
    tokio::time::sleep(time * IDLE_AFTER).await;
    let (began, before) = (Instant::now(), ow.store().counters().statements);
    tokio::time::sleep(time * IDLE_FOR).await;
    let asked = ow.store().counters().statements - before;
    let sample =
        Sample { micros: vec![0; usize::try_from(asked).unwrap_or(usize::MAX)], elapsed: began.elapsed() };
    running.shutdown().await;
    ow.shutdown().await;
    Ok(sample)
}

async fn end_to_end(ow: &Onceward, queue: &str, time: Duration) -> Result<Sample, Error> {
    let began = Instant::now();
    let running = worker(ow, queue).start().await?;
    let enqueued = enqueue(ow, queue, 64, time).await?;
    running.shutdown().await;
    // What the worker had not got to.
    worker(ow, queue).run_until_empty(Duration::ZERO).await?;
    Ok(together(enqueued.micros.len() as u64, began.elapsed()))
}

/// How long it takes until a worker that shares nothing but the store starts a job, one at a time, each after a pause.
async fn pickup(ow: &Onceward, url: &str, queue: &str, mut beside: Option<Beside>) -> Result<Sample, Error> {
    let other = Onceward::options().application_name("onceward-bench").connect(url).await?;
    let (started, mut starts) = mpsc::unbounded_channel();
    let worker = other.worker().queues([queue]).raw(KIND, move |_: JobContext| {
        let _ = started.send(Instant::now());
        core::future::ready(())
    });
    let worker: WorkerHandle = worker.start().await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (began, mut sample) = (Instant::now(), Sample::default());
    for number in 0..PICKUPS {
        // Not in step with anything of ours.
        tokio::time::sleep(Duration::from_micros(5_000 + (number as u64 * 7_919) % 20_000)).await;
        let at = match &mut beside {
            None => {
                let at = Instant::now();
                job(ow, queue, Keep::History).await?;
                at
            }
            Some(beside) => committed(ow, queue, beside).await?,
        };
        let start = tokio::time::timeout(Duration::from_secs(30), starts.recv()).await.ok().flatten();
        let start = start.ok_or_else(|| Error::new(Code::StoreFailed, "a job was not picked up"))?;
        let took = start.saturating_duration_since(at);
        sample.micros.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }
    sample.elapsed = began.elapsed();
    worker.shutdown().await;
    other.shutdown().await;
    Ok(sample)
}

/// Enqueues in a transaction of the caller's own, and says when its commit was sent.
async fn committed(ow: &Onceward, queue: &str, beside: &mut Beside) -> Result<Instant, Error> {
    let mut tx = beside.begin().await?;
    job(ow, queue, Keep::History).enqueue_in(&mut tx).await?;
    let at = Instant::now();
    tx.commit().await?;
    Ok(at)
}
