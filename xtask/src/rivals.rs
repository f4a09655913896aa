//! `cargo xtask rivals`: other queues beside ours, on one PostgreSQL, one after the other, in one run.
//!
//! Only those that npm has. Each runs as its documentation says for speed, in a database of its own, in rounds with
//! ours between them; what is told is the better round of each.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::servers::Servers;
use crate::{install, process};

/// The programs, and what is told of each beside the numbers.
const RIVALS: [&str; 2] = ["graphile_worker", "pg_boss"];
const ROUNDS: usize = 2;
/// What of ours is comparable.
const OURS: [&str; 5] = ["enqueue_8", "enqueue_b1000", "drain_history", "drain_delete", "pickup_idle"];

/// What was measured: (workload, queue) to jobs per second and milliseconds.
type Figures = BTreeMap<(String, String), (Option<f64>, Option<f64>)>;

pub(crate) fn rivals() -> Result<()> {
    install::everything()?;
    if process::find("npm").is_none() {
        bail!("npm is missing; as root: apt-get install --no-install-recommends nodejs npm");
    }
    let folder = process::root().join("target/rivals");
    fs::create_dir_all(&folder)?;
    for file in fs::read_dir(process::root().join("xtask/rivals"))? {
        let file = file?;
        fs::copy(file.path(), folder.join(file.file_name()))?;
    }
    process::run(
        Command::new("npm").args(["install", "--no-audit", "--no-fund", "--silent"]).current_dir(&folder),
    )?;
    process::run(&mut process::cargo(&["build", "--release", "-p", "onceward-cli"]))?;
    let servers = Servers::start()?;
    let (mut figures, mut reference) = (Figures::new(), 0.0_f64);
    for round in 0..ROUNDS {
        for rival in RIVALS {
            let url = database(&servers, &format!("{rival}_{round}"))?;
            let mut node = Command::new("node");
            let told = process::output(node.arg(format!("{rival}.mjs")).arg(url).current_dir(&folder))?;
            note(&mut figures, &told)?;
        }
        reference = reference.max(note(&mut figures, &ours(&servers, round)?)?);
    }
    tell(&figures, reference);
    Ok(())
}

fn ours(servers: &Servers, round: usize) -> Result<String> {
    let url = database(servers, &format!("onceward_{round}"))?;
    let program = process::root().join("target/release/onceward");
    let mut bench = Command::new(program);
    bench.args(["bench", "jobs", "--json", "--rounds", "1", "--seconds", "2s", "--store", &url]);
    for workload in OURS {
        bench.args(["--only", workload]);
    }
    process::output(&mut bench)
}

/// A new database on the server, as a URL.
fn database(servers: &Servers, name: &str) -> Result<String> {
    let of = |wanted: &str| {
        let found = servers.environment().iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| value.clone()).with_context(|| format!("no {wanted}"))
    };
    let (url, programs) = (of("ONCEWARD_TEST_POSTGRES")?, of("ONCEWARD_TEST_PG_BIN")?);
    let create = format!("CREATE DATABASE {name}");
    process::output(Command::new(Path::new(&programs).join("psql")).args(["-q", &url, "-c", &create]))?;
    let (server, _) = url.rsplit_once('/').context("the URL of the server names no database")?;
    Ok(format!("{server}/{name}"))
}

/// Takes note of what one run has told; the reference of ours.
fn note(figures: &mut Figures, told: &str) -> Result<f64> {
    let told: Value = serde_json::from_str(told).context("what was told is no JSON")?;
    let queue = told["queue"].as_str().unwrap_or("onceward");
    for workload in told["workloads"].as_array().into_iter().flatten() {
        let name = workload["name"].as_str().unwrap_or_default();
        let best = figures.entry((name.to_owned(), queue.to_owned())).or_default();
        let per_second = workload["per_s"].as_f64();
        if per_second > best.0 || best.1.is_none() {
            *best = (per_second, workload["p50_ms"].as_f64());
        }
    }
    Ok(told["reference"]["per_s"].as_f64().unwrap_or_default())
}

fn tell(figures: &Figures, reference: f64) {
    println!("reference: {reference:.0} single-row insert commits per second by 8 connections");
    println!("{:<15} {:<16} {:>10} {:>7} {:>8}", "workload", "queue", "per second", "ratio", "p50 ms");
    let number =
        |value: Option<f64>, digits: usize| value.map_or(String::new(), |it| format!("{it:.digits$}"));
    for ((workload, queue), (per_second, p50)) in figures {
        let rate = per_second.filter(|_| workload != "pickup_idle");
        let ratio = rate.map(|rate| rate / reference);
        println!(
            "{workload:<15} {queue:<16} {:>10} {:>7} {:>8}",
            number(rate, 0),
            number(ratio, 2),
            number(*p50, 2)
        );
    }
}
