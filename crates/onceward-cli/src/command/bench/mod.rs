//! `onceward bench`: what this store does per second, side by side with its own commits.
//!
//! Read in this order: this file (a store of its own to measure on) → `workloads.rs`, `jobs.rs`, `durable.rs` and
//! `http.rs` (what is measured) → `measure.rs` (rounds, medians, ratios).

mod durable;
mod http;
mod jobs;
mod measure;
mod workloads;

use core::time::Duration;
use std::io::IsTerminal;
use std::process::ExitCode;

use onceward::store::migrate;
use onceward::store::reference::Reference;
use onceward::store::url::StoreUrl;
use onceward::store::{OpenOptions, StoreKind};
use onceward::{Code, Error, Onceward, Result};

use self::measure::{Clients, Report, measure};
use self::workloads::Workload;
use crate::args::{Globals, duration};
use crate::{output, store};

/// Measure this store side by side with its own commits
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to measure
    #[arg(value_enum)]
    pub(crate) target: Target,
    /// Print one JSON object at the end, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
    /// How long each workload runs in each round
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "2s")]
    pub(crate) seconds: Duration,
    /// How many rounds of reference and workloads; medians are reported
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=99))]
    pub(crate) rounds: u8,
    /// Measure only this workload, by its name in the report; may be given several times
    #[arg(long, value_name = "WORKLOAD")]
    pub(crate) only: Vec<String>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Target {
    /// Acquiring and releasing leases
    Lease,
    /// First calls and replays of once
    Once,
    /// Enqueueing, draining and picking up jobs
    Jobs,
    /// Steps, children and starts of durable functions
    Durable,
    /// Delivering HTTP jobs
    Http,
}

/// Runs the measurement, on a schema (or a file) of its own beside the store that was named: nothing of yours is
/// touched, and it is removed in the end.
pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let workloads = chosen(args)?;
    let url = beside(&store::url(globals)?)?;
    let migrator =
        migrate::migrator(&url, OpenOptions { unmigrated: true, ..OpenOptions::default() }).await?;
    let reference = Reference::open(&url).await?;
    let measured = async {
        migrator.up(None).await?;
        measured(args, globals, &workloads, &url, &reference).await
    };
    let measured = measured.await;
    if migrator.kind() == StoreKind::Postgres {
        migrator.down(0).await?;
    }
    drop(migrator);
    reference.remove().await?;
    remove_file(&url);
    let report = measured?;
    if args.json || globals.output.is_json() {
        output::json(&report)?
    } else {
        table(&report)?
    }
    Ok(ExitCode::SUCCESS)
}

/// The workloads that were asked for.
fn chosen(args: &Args) -> Result<Vec<Workload>> {
    let all = match args.target {
        Target::Once => workloads::ONCE.to_vec(),
        Target::Lease => workloads::LEASE.to_vec(),
        Target::Jobs => workloads::jobs(),
        Target::Durable => workloads::durable(),
        Target::Http => workloads::http(),
    };
    if let Some(unknown) = args.only.iter().find(|name| all.iter().all(|workload| workload.name() != **name))
    {
        let names: Vec<String> = all.iter().map(|workload| workload.name()).collect();
        let why = format!("there is no workload \"{unknown}\" here; there are {}", names.join(", "));
        return Err(Error::new(Code::UsageInvalid, why));
    }
    let wanted = |workload: &Workload| args.only.is_empty() || args.only.contains(&workload.name());
    Ok(all.into_iter().filter(wanted).collect())
}

async fn measured(
    args: &Args,
    globals: &Globals,
    workloads: &[Workload],
    url: &str,
    reference: &Reference,
) -> Result<Report> {
    let options = Onceward::options().deadline(globals.deadline).application_name("onceward-bench");
    // Replays from the store and replays from the process are two workloads, so there is a client without a cache.
    let stored = options.clone().cache_bytes(0).connect(url).await?;
    let cached = options.connect(url).await?;
    let progress = |what: &str| {
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K{what}");
        }
    };
    let rounds = usize::from(args.rounds);
    let clients = Clients { stored: &stored, cached: &cached, url };
    let report = measure(reference, &clients, workloads, rounds, args.seconds, progress).await;
    progress("");
    stored.shutdown().await;
    cached.shutdown().await;
    report
}

/// The URL of a schema or file of the bench's own.
fn beside(url: &str) -> Result<String> {
    let tag = std::process::id();
    Ok(match StoreUrl::parse(url)? {
        StoreUrl::Sqlite(at) => match at.path {
            Some(path) => format!("sqlite://{}.bench-{tag}", path.display()),
            None => url.to_owned(),
        },
        StoreUrl::Postgres(_) => {
            let (base, query) = url.split_once('?').unwrap_or((url, ""));
            let others = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("schema="));
            let own = format!("schema=onceward_bench_{tag}");
            let query: Vec<&str> = others.chain([own.as_str()]).collect();
            format!("{base}?{}", query.join("&"))
        }
        _ => url.to_owned(),
    })
}

fn remove_file(url: &str) {
    let Ok(StoreUrl::Sqlite(at)) = StoreUrl::parse(url) else { return };
    let Some(path) = at.path else { return };
    for end in ["", "-wal", "-shm"] {
        let mut name = path.clone().into_os_string();
        name.push(end);
        // The last connection removes the other two itself.
        let _ = std::fs::remove_file(name);
    }
}

fn table(report: &Report) -> Result<()> {
    let reference = &report.reference;
    output::text(&format!(
        "reference: {}: {:.0}/s, p50 {:.3} ms; one connection {:.0}/s, p50 {:.3} ms\n\n",
        reference.name, reference.per_s, reference.p50_ms, reference.single_per_s, reference.single_p50_ms
    ))?;
    let mut table = output::Table::new(&[
        "workload",
        "per s",
        "ratio",
        "p50 ms",
        "p99 ms",
        "client CPU µs",
        "statements",
    ]);
    for row in &report.workloads {
        let n = row.n.max(1) as f64;
        let ratio = row.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        table.row([
            &row.name as &dyn core::fmt::Display,
            &format!("{:.0}", row.per_s),
            &ratio,
            &format!("{:.3}", row.p50_ms),
            &format!("{:.3}", row.p99_ms),
            &format!("{:.1}", row.client_cpu_s * 1e6 / n),
            &format!("{:.3}", row.statements as f64 / n),
        ]);
    }
    table.print()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bench_stays_beside_what_is_yours() {
        let tag = std::process::id();
        assert_eq!(beside("sqlite:///a/b.db").unwrap(), format!("sqlite:///a/b.db.bench-{tag}"));
        let url = beside("postgres://u@h/d?schema=mine&pooler=transaction").unwrap();
        assert_eq!(url, format!("postgres://u@h/d?pooler=transaction&schema=onceward_bench_{tag}"));
        assert_eq!(
            beside("postgres://u@h/d").unwrap(),
            format!("postgres://u@h/d?schema=onceward_bench_{tag}")
        );
    }
}
