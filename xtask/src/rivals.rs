//! `cargo xtask rivals`: others beside ours, on one PostgreSQL, one after the other, in one run: queues, or durable
//! functions.
//!
//! Those that npm has, and those that are crates. Each runs as its documentation says for speed, in a database of its
//! own, in rounds with ours between them; what is told is the better round of each.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::servers::Servers;
use crate::{install, process};

const ROUNDS: usize = 2;
/// How long each workload runs in a round.
const SECONDS: &str = "2";

/// What is compared.
struct Field {
    /// The others: their names, and how they are built and run.
    rivals: &'static [&'static str],
    build: fn() -> Result<()>,
    command: fn(&str, &str) -> Command,
    /// Ours: the bench, and what of it is comparable.
    bench: &'static str,
    ours: &'static [&'static str],
}

const QUEUES: Field = Field {
    rivals: &["graphile_worker", "pg_boss", "pgmq"],
    build: || {
        if process::find("npm").is_none() {
            bail!("npm is missing; as root: apt-get install --no-install-recommends nodejs npm");
        }
        fs::create_dir_all(folder())?;
        for file in fs::read_dir(process::root().join("xtask/rivals"))? {
            let file = file?;
            if file.file_type()?.is_file() {
                fs::copy(file.path(), folder().join(file.file_name()))?;
            }
        }
        pgmq_sql()?;
        let install = ["install", "--no-audit", "--no-fund", "--silent"];
        process::run(Command::new("npm").args(install).current_dir(folder()))
    },
    command: |rival, url| {
        let mut node = Command::new("node");
        node.arg(format!("{rival}.mjs")).arg(url).current_dir(folder());
        node
    },
    bench: "jobs",
    ours: &["enqueue_8", "enqueue_b1000", "drain_history", "drain_delete", "pickup_idle"],
};

const DURABLE: Field = Field {
    rivals: &["dbos", "durare"],
    build: || {
        let manifest = process::root().join("xtask/rivals/durable/Cargo.toml");
        let mut cargo = process::cargo(&["build", "--release", "--locked", "--manifest-path"]);
        process::run(cargo.arg(manifest).arg("--target-dir").arg(folder()))
    },
    command: |rival, url| {
        let mut program = Command::new(folder().join("release/rivals-durable"));
        program.args([rival, url, SECONDS]);
        program
    },
    bench: "durable",
    ours: &["steps_100x10", "step_seq"],
};

/// What was measured: (workload, queue) to operations per second and milliseconds.
type Figures = BTreeMap<(String, String), (Option<f64>, Option<f64>)>;

/// Queues of jobs.
pub(crate) fn queues() -> Result<()> {
    compare(&QUEUES)
}

/// Durable functions.
pub(crate) fn durable() -> Result<()> {
    compare(&DURABLE)
}

fn compare(field: &Field) -> Result<()> {
    install::everything()?;
    (field.build)()?;
    process::run(&mut process::cargo(&["build", "--release", "-p", "onceward-cli"]))?;
    let servers = Servers::start()?;
    let (mut figures, mut reference) = (Figures::new(), 0.0_f64);
    for round in 0..ROUNDS {
        for rival in field.rivals {
            let url = database(&servers, &format!("{rival}_{round}"))?;
            note(&mut figures, &process::output(&mut (field.command)(rival, &url))?)?;
        }
        reference = reference.max(note(&mut figures, &ours(&servers, field, round)?)?);
    }
    tell(&figures, reference);
    Ok(())
}

/// pgmq is SQL, which its crate carries with it: that is fetched, and the SQL put beside the programs of the others.
fn pgmq_sql() -> Result<()> {
    let manifest = process::root().join("xtask/rivals/pgmq/Cargo.toml");
    let mut cargo = process::cargo(&["metadata", "--format-version", "1", "--locked", "--manifest-path"]);
    let told: Value = serde_json::from_str(&process::output(cargo.arg(manifest))?)?;
    let mut packages = told["packages"].as_array().into_iter().flatten();
    let pgmq = packages.find(|package| package["name"] == "pgmq").context("the crate of pgmq is missing")?;
    let crate_manifest = pgmq["manifest_path"].as_str().context("a package without a place")?;
    let sql = Path::new(crate_manifest).with_file_name("src/install/embedded/sql/pgmq.sql");
    fs::copy(&sql, folder().join("pgmq.sql")).with_context(|| format!("no {}", sql.display()))?;
    Ok(())
}

/// Where the others are built.
fn folder() -> PathBuf {
    process::root().join("target/rivals")
}

fn ours(servers: &Servers, field: &Field, round: usize) -> Result<String> {
    let url = database(servers, &format!("onceward_{round}"))?;
    let program = process::root().join("target/release/onceward");
    let mut bench = Command::new(program);
    let seconds = format!("{SECONDS}s");
    bench.args(["bench", field.bench, "--json", "--rounds", "1", "--seconds", &seconds, "--store", &url]);
    for workload in field.ours {
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
    println!("{:<15} {:<16} {:>10} {:>7} {:>8}", "workload", "of", "per second", "ratio", "p50 ms");
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
