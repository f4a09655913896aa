//! The rounds: reference and workloads in turn, medians over the rounds, ratios within each.

use std::time::Duration;

use onceward::store::reference::{Reference, Sample, Usage};
use onceward::{Error, Onceward};
use serde::Serialize;

use super::workloads::Workload;

/// What is printed.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) reference: ReferenceRow,
    pub(super) workloads: Vec<WorkloadRow>,
}

/// The yardstick.
#[derive(Debug, Default, Serialize)]
pub(super) struct ReferenceRow {
    pub(super) name: String,
    pub(super) per_s: f64,
    pub(super) p50_ms: f64,
    pub(super) single_per_s: f64,
    pub(super) single_p50_ms: f64,
}

/// One workload.
#[derive(Debug, Serialize)]
pub(super) struct WorkloadRow {
    pub(super) name: String,
    /// Operations in all rounds together.
    pub(super) n: usize,
    pub(super) per_s: f64,
    /// To the reference of the same round, where it has one.
    pub(super) ratio: Option<f64>,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Seconds of this process's CPU in all rounds together.
    pub(super) client_cpu_s: f64,
    /// Seconds of the server's CPU, where it can be seen.
    pub(super) store_cpu_s: Option<f64>,
    /// Statements (SQLite: transactions) in all rounds together.
    pub(super) statements: u64,
    pub(super) wal_bytes: Option<u64>,
    /// How many of those were images of whole pages, which PostgreSQL writes once per page after each checkpoint; only
    /// where its extension `pg_walinspect` is there.
    pub(super) wal_page_image_bytes: Option<u64>,
    /// The most memory of the process of the worker, in millions of bytes, where that is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) worker_peak_mb: Option<f64>,
}

/// One workload in one round.
struct Round {
    n: usize,
    per_s: f64,
    ratio: f64,
    p50_ms: f64,
    p99_ms: f64,
    client_cpu_s: f64,
    store_cpu_s: Option<f64>,
    statements: u64,
    wal_bytes: Option<u64>,
    wal_page_image_bytes: Option<u64>,
    worker_peak_mb: Option<f64>,
}

/// What a workload came to.
pub(super) struct Measured {
    pub(super) sample: Sample,
    /// The most memory that a worker in a process of its own has had, in millions of bytes.
    pub(super) worker_peak_mb: Option<f64>,
}

impl From<Sample> for Measured {
    fn from(sample: Sample) -> Self {
        Self { sample, worker_peak_mb: None }
    }
}

/// Who measures, and where.
pub(super) struct Clients<'a> {
    /// A client without a cache.
    pub(super) stored: &'a Onceward,
    /// One with a cache.
    pub(super) cached: &'a Onceward,
    /// The store of both.
    pub(super) url: &'a str,
}

/// Measures `workloads` in `rounds` rounds of `time` each, against the reference of the same round.
pub(super) async fn measure(
    reference: &Reference,
    clients: &Clients<'_>,
    workloads: &[Workload],
    rounds: usize,
    time: Duration,
    progress: impl Fn(&str),
) -> Result<Report, Error> {
    let mut yardsticks = Vec::new();
    let mut measured: Vec<Vec<Round>> = workloads.iter().map(|_| Vec::new()).collect();
    for round in 1..=rounds {
        progress(&format!("round {round} of {rounds}: reference"));
        let (mut all, mut single) =
            (reference.commits(time).await?, reference.single_commits(time / 2).await?);
        let yardstick = ReferenceRow {
            name: String::new(),
            per_s: all.per_second(),
            p50_ms: all.percentile_ms(0.5),
            single_per_s: single.per_second(),
            single_p50_ms: single.percentile_ms(0.5),
        };
        for (workload, rows) in workloads.iter().zip(&mut measured) {
            progress(&format!("round {round} of {rounds}: {}", workload.name()));
            rows.push(one(*workload, reference, clients, time, yardstick.per_s).await?);
        }
        yardsticks.push(yardstick);
    }
    Ok(Report {
        reference: ReferenceRow {
            name: reference.name().to_owned(),
            per_s: median(&yardsticks, |row| row.per_s),
            p50_ms: median(&yardsticks, |row| row.p50_ms),
            single_per_s: median(&yardsticks, |row| row.single_per_s),
            single_p50_ms: median(&yardsticks, |row| row.single_p50_ms),
        },
        workloads: workloads.iter().zip(&measured).map(|(workload, rows)| row(*workload, rows)).collect(),
    })
}

async fn one(
    workload: Workload,
    reference: &Reference,
    clients: &Clients<'_>,
    time: Duration,
    yardstick: f64,
) -> Result<Round, Error> {
    let ow = if workload == Workload::OnceReplayCached { clients.cached } else { clients.stored };
    // What a drain is about is no part of it.
    let prepared = workload.prepare(ow, clients.url).await?;
    let (before, sent, cpu) = (reference.usage().await, ow.store().counters(), own_cpu_s());
    let Measured { mut sample, worker_peak_mb } = workload.run(ow, clients.url, time, prepared).await?;
    let (after, cpu_after) = (reference.usage().await, own_cpu_s());
    let images = reference.page_images(&before, &after).await;
    let (per_s, used) = (sample.per_second(), used(before, after));
    Ok(Round {
        n: sample.micros.len(),
        per_s,
        ratio: if yardstick > 0.0 && workload.is_compared() { per_s / yardstick } else { f64::NAN },
        p50_ms: sample.percentile_ms(0.5),
        p99_ms: sample.percentile_ms(0.99),
        client_cpu_s: cpu_after - cpu,
        store_cpu_s: used.cpu_s,
        statements: ow.store().counters().statements - sent.statements,
        wal_bytes: used.wal_bytes,
        wal_page_image_bytes: images,
        worker_peak_mb,
    })
}

fn used(before: Usage, after: Usage) -> Usage {
    Usage {
        cpu_s: before.cpu_s.zip(after.cpu_s).map(|(before, after)| (after - before).max(0.0)),
        wal_bytes: before.wal_bytes.zip(after.wal_bytes).map(|(before, after)| after.saturating_sub(before)),
    }
}

fn row(workload: Workload, rounds: &[Round]) -> WorkloadRow {
    let ratio = median(rounds, |round| round.ratio);
    WorkloadRow {
        name: workload.name(),
        n: rounds.iter().map(|round| round.n).sum(),
        per_s: median(rounds, |round| round.per_s),
        ratio: ratio.is_finite().then_some(ratio),
        p50_ms: median(rounds, |round| round.p50_ms),
        p99_ms: median(rounds, |round| round.p99_ms),
        client_cpu_s: rounds.iter().map(|round| round.client_cpu_s).sum(),
        store_cpu_s: rounds.iter().map(|round| round.store_cpu_s).sum(),
        statements: rounds.iter().map(|round| round.statements).sum(),
        wal_bytes: rounds.iter().map(|round| round.wal_bytes).sum(),
        wal_page_image_bytes: rounds.iter().map(|round| round.wal_page_image_bytes).sum(),
        worker_peak_mb: rounds.iter().filter_map(|round| round.worker_peak_mb).max_by(f64::total_cmp),
    }
}

fn median<T>(rows: &[T], of: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = rows.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The most memory that a process has had at once, in millions of bytes, where the system tells.
pub(super) fn peak_mb(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

/// The same of this one.
pub(super) fn own_peak_mb() -> Option<f64> {
    peak_mb(std::process::id())
}

/// Seconds of CPU this process has used.
fn own_cpu_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert!((median(&[3.0, 1.0, 2.0], |v| *v) - 2.0).abs() < f64::EPSILON);
        assert!(median(&[] as &[f64], |v| *v).abs() < f64::EPSILON);
    }
}
