//! What is measured: the names, how many callers, and what each caller does over and over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use onceward::store::reference::Sample;
use onceward::{Error, Onceward};

use super::durable::{self, DurableWorkload};
use super::http::{self, HttpWorkload};
use super::jobs::{self, JobWorkload, Prepared};
use super::measure::Measured;

/// One workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workload {
    /// First calls of `once`, by so many callers on keys of their own.
    OnceFirst(usize),
    /// Replays of finished keys from the store.
    OnceReplay(usize),
    /// Replays of finished keys from the process's cache, by one caller.
    OnceReplayCached,
    /// Acquire and release, by so many callers on keys of their own.
    LeaseCycle(usize),
    /// What jobs do.
    Jobs(JobWorkload),
    /// What durable functions do.
    Durable(DurableWorkload),
    /// What HTTP jobs do.
    Http(HttpWorkload),
}

pub(super) const ONCE: &[Workload] = &[
    Workload::OnceFirst(1),
    Workload::OnceFirst(64),
    Workload::OnceFirst(512),
    Workload::OnceReplay(64),
    Workload::OnceReplayCached,
];
pub(super) const LEASE: &[Workload] = &[Workload::LeaseCycle(1), Workload::LeaseCycle(64)];

/// Every workload of jobs.
pub(super) fn jobs() -> Vec<Workload> {
    jobs::ALL.iter().copied().map(Workload::Jobs).collect()
}

/// Every workload of durable functions.
pub(super) fn durable() -> Vec<Workload> {
    durable::ALL.iter().copied().map(Workload::Durable).collect()
}

/// Every workload of HTTP jobs.
pub(super) fn http() -> Vec<Workload> {
    http::ALL.iter().copied().map(Workload::Http).collect()
}

/// Keys that the replays go round.
const REPLAYED: u64 = 1024;

impl Workload {
    pub(super) fn name(self) -> String {
        match self {
            Self::OnceFirst(callers) => format!("once_first_{callers}"),
            Self::OnceReplay(callers) => format!("once_replay_{callers}"),
            Self::OnceReplayCached => "once_replay_cached".to_owned(),
            Self::LeaseCycle(callers) => format!("lease_cycle_{callers}"),
            Self::Jobs(jobs) => jobs.name(),
            Self::Durable(durable) => durable.name(),
            Self::Http(http) => http.name().to_owned(),
        }
    }

    fn callers(self) -> usize {
        match self {
            Self::OnceFirst(callers) | Self::OnceReplay(callers) | Self::LeaseCycle(callers) => callers,
            Self::OnceReplayCached | Self::Jobs(_) | Self::Durable(_) | Self::Http(_) => 1,
        }
    }

    /// Whether what it counts can be held against commits.
    pub(super) fn is_compared(self) -> bool {
        self != Self::Jobs(JobWorkload::Idle)
    }

    /// Makes ready what is not measured.
    pub(super) async fn prepare(self, ow: &Onceward, url: &str) -> Result<Prepared, Error> {
        match self {
            Self::Jobs(jobs) => jobs.prepare(ow, url).await,
            _ => Ok(Prepared::default()),
        }
    }

    /// Runs for `time`, and returns how long each operation took.
    pub(super) async fn run(
        self,
        ow: &Onceward,
        url: &str,
        time: Duration,
        prepared: Prepared,
    ) -> Result<Measured, Error> {
        match self {
            Self::Jobs(jobs) => jobs.run(ow, url, time, prepared).await.map(Measured::from),
            Self::Durable(durable) => durable.run(ow, time).await,
            Self::Http(http) => http.run(ow, url, time).await,
            _ => self.call(ow, time).await.map(Measured::from),
        }
    }

    /// Calls of many at the same time.
    async fn call(self, ow: &Onceward, time: Duration) -> Result<Sample, Error> {
        if matches!(self, Self::OnceReplay(_) | Self::OnceReplayCached) {
            fill(ow).await?;
        }
        let next = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        let callers: Vec<_> = (0..self.callers())
            .map(|caller| {
                tokio::spawn(self.caller(ow.clone(), caller as u64, Arc::clone(&next), began, time))
            })
            .collect();
        let mut sample = Sample::default();
        for caller in callers {
            let done =
                caller.await.map_err(|_| Error::new(onceward::Code::StoreFailed, "a caller was cut off"))?;
            sample.micros.extend(done?.micros);
        }
        sample.elapsed = began.elapsed();
        Ok(sample)
    }

    async fn caller(
        self,
        ow: Onceward,
        caller: u64,
        next: Arc<AtomicU64>,
        began: Instant,
        time: Duration,
    ) -> Result<Sample, Error> {
        let mut sample = Sample::default();
        let run = uuid::Uuid::new_v4().simple().to_string();
        while began.elapsed() < time {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let key = match self {
                Self::OnceFirst(_) => format!("{run}-{number}"),
                Self::OnceReplay(_) | Self::OnceReplayCached => replayed(number % REPLAYED),
                Self::LeaseCycle(_) | Self::Jobs(_) | Self::Durable(_) | Self::Http(_) => {
                    format!("lease-{caller}")
                }
            };
            let at = Instant::now();
            match self {
                Self::LeaseCycle(_) => cycle(&ow, &key).await?,
                _ => once(&ow, &key).await?,
            }
            sample.note(at);
        }
        Ok(sample)
    }
}

fn replayed(number: u64) -> String {
    format!("replayed-{number}")
}

async fn once(ow: &Onceward, key: &str) -> Result<(), Error> {
    let outcome = ow.once(key).run(async |_| Ok(7_u32)).await?;
    match outcome.done() {
        Some(7) => Ok(()),
        _ => Err(Error::new(onceward::Code::RowUnreadable, "a call had another outcome than its own result")),
    }
}

async fn cycle(ow: &Onceward, key: &str) -> Result<(), Error> {
    let lease = ow.lease(key).acquire().await?;
    let lease =
        lease.ok_or_else(|| Error::new(onceward::Code::LeaseHeld, "a lease of one caller was held"))?;
    lease.release().await.map(drop)
}

/// Finishes the keys that are to be replayed.
async fn fill(ow: &Onceward) -> Result<(), Error> {
    let outcomes =
        ow.once_many((0..REPLAYED).map(replayed)).concurrency(256).run(async |_| Ok(7_u32)).await?;
    outcomes.into_iter().try_for_each(|(_, outcome)| outcome.map(drop))
}
