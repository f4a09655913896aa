//! The workloads of durable functions: steps one after the other, in many runs at once, children, and how soon one
//! begins.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use onceward::durable::{AnyError, RunHandle, durable, join_all, signal, step};
use onceward::store::reference::Sample;
use onceward::worker::{State, WorkerHandle};
use onceward::{Code, Error, JobId, Onceward};

use super::measure::{Measured, own_peak_mb};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DurableWorkload {
    /// One run, one step after the other.
    StepSeq,
    /// A hundred runs of ten steps each.
    Steps100x10,
    /// A hundred runs of ten children each, one after the other.
    Children100x10,
    /// A thousand children of one run at the same time: the time from the start to the result.
    Fan1000,
    /// From the start of a run in an idle process to its first step.
    StartLatency,
    /// A hundred thousand runs that wait for a signal, in one worker: how soon one goes on that is sent it, and the
    /// memory of the process. Measured in the first round only.
    Parked100k,
}

pub(super) const ALL: &[DurableWorkload] = &[
    DurableWorkload::StepSeq,
    DurableWorkload::Steps100x10,
    DurableWorkload::Children100x10,
    DurableWorkload::Fan1000,
    DurableWorkload::StartLatency,
    DurableWorkload::Parked100k,
];

/// When things happened, in the order in which they did.
#[derive(Clone, Default)]
struct Moments(Arc<Mutex<Vec<Instant>>>);

impl Moments {
    fn note(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
    }

    fn take(&self) -> Vec<Instant> {
        core::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[durable(name = "bench.sequence")]
async fn sequence(moments: State<Moments>, steps: u32) -> Result<u32, AnyError> {
    for _ in 0..steps {
        step("step", || core::future::ready(Ok::<(), AnyError>(()))).await?;
        moments.note();
    }
    Ok(steps)
}

#[durable(name = "bench.leaf")]
async fn leaf(number: u32) -> Result<u32, AnyError> {
    Ok(number)
}

#[durable(name = "bench.parent")]
async fn parent(children: u32) -> Result<u32, AnyError> {
    for number in 0..children {
        leaf(number).await?;
    }
    Ok(children)
}

#[durable(name = "bench.fan")]
async fn fan(children: u32) -> Result<u32, AnyError> {
    let all = join_all((0..children).map(leaf)).await;
    Ok(u32::try_from(all.into_iter().filter(Result::is_ok).count()).unwrap_or(0))
}

#[durable(name = "bench.first")]
async fn first(moments: State<Moments>) -> Result<(), AnyError> {
    moments.note();
    Ok(())
}

#[durable(name = "bench.parked")]
async fn parked(moments: State<Moments>, number: u32) -> Result<u32, AnyError> {
    signal::<u32>("wake").await?;
    moments.note();
    Ok(number)
}

impl DurableWorkload {
    pub(super) fn name(self) -> String {
        let name = match self {
            Self::StepSeq => "step_seq",
            Self::Steps100x10 => "steps_100x10",
            Self::Children100x10 => "children_100x10",
            Self::Fan1000 => "fan_1000",
            Self::StartLatency => "start_latency",
            Self::Parked100k => "parked_100k",
        };
        name.to_owned()
    }

    pub(super) async fn run(self, ow: &Onceward, time: Duration) -> Result<Measured, Error> {
        let moments = Moments::default();
        let worker = worker(ow, &moments).await?;
        let sample = match self {
            Self::StepSeq => one_by_one(ow, &moments, time).await,
            Self::Steps100x10 => hundreds(time, || ow.start(sequence(10))).await,
            Self::Children100x10 => hundreds(time, || ow.start(parent(10))).await,
            Self::Fan1000 => fans(ow, time).await,
            Self::StartLatency => starts(ow, &moments).await,
            Self::Parked100k => wakes(ow, &moments).await,
        };
        let worker_peak_mb = (self == Self::Parked100k).then(own_peak_mb).flatten();
        worker.shutdown().await;
        Ok(Measured { sample: sample?, worker_peak_mb })
    }
}

/// How many runs are parked.
const PARKED: u32 = 100_000;
/// How many of them are woken, one after the other.
const WOKEN: usize = 300;
/// How long they may take to rest.
const REST: Duration = Duration::from_secs(120);

/// Has very many runs wait, and wakes some.
async fn wakes(ow: &Onceward, moments: &Moments) -> Result<Sample, Error> {
    static KNOWN: Mutex<Option<(Vec<u32>, Duration)>> = Mutex::new(None);
    if let Some((micros, elapsed)) = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).clone() {
        return Ok(Sample { micros, elapsed });
    }
    let started = stream::iter((0..PARKED).map(|number| ow.start(parked(number)).into_future()));
    let runs: Vec<JobId> = started.buffered(512).map_ok(|run| run.id()).try_collect().await?;
    rest(ow, runs.len()).await?;
    let mut sample = Sample::default();
    let began = Instant::now();
    // From everywhere among them.
    for run in runs.iter().step_by(runs.len() / WOKEN) {
        let at = Instant::now();
        ow.signal_run(*run, "wake", &1).await?;
        let woken = loop {
            match moments.take().first() {
                Some(woken) => break *woken,
                None => tokio::time::sleep(Duration::from_micros(100)).await,
            }
        };
        sample.micros.push(micros(woken.saturating_duration_since(at)));
    }
    sample.elapsed = began.elapsed();
    *KNOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some((sample.micros.clone(), sample.elapsed));
    Ok(sample)
}

/// Waits until all of them wait: none is in its queue, and none in the hands of a worker.
async fn rest(ow: &Onceward, runs: usize) -> Result<(), Error> {
    let began = Instant::now();
    loop {
        let queues = ow.admin().queues().await?;
        let left: u64 = queues.iter().map(|queue| queue.queue.ready + queue.queue.running).sum();
        if left == 0 {
            return Ok(());
        }
        if began.elapsed() > REST {
            let why = format!("{left} or more of {runs} runs are not parked after {} s", REST.as_secs());
            return Err(Error::new(Code::StoreBusy, why));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn worker(ow: &Onceward, moments: &Moments) -> Result<WorkerHandle, Error> {
    let base = ow.worker().concurrency(500).state(moments.clone());
    base.durable(sequence)
        .durable(leaf)
        .durable(parent)
        .durable(fan)
        .durable(first)
        .durable(parked)
        .start()
        .await
}

async fn ended<D: onceward::durable::Durable>(run: RunHandle<D>) -> Result<(), Error> {
    let failed =
        |failure: onceward::durable::Failure<D::Error>| Error::new(Code::StoreFailed, failure.to_string());
    run.result().await.map(drop).map_err(failed)
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

/// The time from step to step.
async fn one_by_one(ow: &Onceward, moments: &Moments, time: Duration) -> Result<Sample, Error> {
    let (began, mut sample) = (Instant::now(), Sample::default());
    while began.elapsed() < time {
        ended(ow.start(sequence(200)).await?).await?;
        let steps = moments.take();
        sample.micros.extend(steps.windows(2).map(|pair| match pair {
            [before, after] => micros(after.saturating_duration_since(*before)),
            _ => 0,
        }));
    }
    sample.elapsed = began.elapsed();
    Ok(sample)
}

/// A hundred runs at a time, each of which does ten things.
async fn hundreds<D: onceward::durable::Durable>(
    time: Duration,
    start: impl Fn() -> onceward::durable::StartRun<D>,
) -> Result<Sample, Error> {
    let (began, mut things) = (Instant::now(), 0);
    while began.elapsed() < time {
        let runs = (0..100).map(|_| async {
            let run = start().await?;
            ended(run).await
        });
        try_join_all(runs).await?;
        things += 1_000;
    }
    let elapsed = began.elapsed();
    let each = micros(elapsed / u32::try_from(things).unwrap_or(1));
    Ok(Sample { micros: vec![each; things], elapsed })
}

async fn fans(ow: &Onceward, time: Duration) -> Result<Sample, Error> {
    let (began, mut sample) = (Instant::now(), Sample::default());
    while began.elapsed() < time {
        let at = Instant::now();
        ended(ow.start(fan(1_000)).await?).await?;
        sample.note(at);
    }
    sample.elapsed = began.elapsed();
    Ok(sample)
}

async fn starts(ow: &Onceward, moments: &Moments) -> Result<Sample, Error> {
    let (began, mut sample) = (Instant::now(), Sample::default());
    for number in 0..200_u64 {
        // Not in step with anything of ours.
        tokio::time::sleep(Duration::from_micros(2_000 + (number * 7_919) % 8_000)).await;
        let at = Instant::now();
        ended(ow.start(first()).await?).await?;
        let begun = moments.take().into_iter().next().unwrap_or(at);
        sample.micros.push(micros(begun.saturating_duration_since(at)));
    }
    sample.elapsed = began.elapsed();
    Ok(sample)
}
