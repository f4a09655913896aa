//! `onceward demo`: worker processes race and crash over checkouts, and the ledger is audited.
//!
//! Read in this order: this file (the acts) → `checkout.rs` (what it is about) → `worker.rs` (one worker process) →
//! `race.rs` (starting, killing and pausing them) → `ledger.rs` (the card company), `hooks.rs` (who hears of parcels) →
//! `audit.rs` (what became of it).

mod audit;
mod checkout;
mod hooks;
mod ledger;
mod race;
mod worker;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use onceward::{Code, Error, Onceward, Result, Verdict};

use self::audit::Audit;
use self::ledger::Ledger;
use self::race::{Race, Ran};
use crate::args::Globals;
use crate::{output, store};

/// Let workers race and crash over checkouts, and audit what they did
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// Print one JSON object at the end, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
    /// How many checkouts there are, each with its payment
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=9_999))]
    pub(crate) payments: u32,
    /// How many worker processes race over them
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=64))]
    pub(crate) workers: u32,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

/// The program starts itself as the demo's workers.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Role {
    /// One worker process
    #[command(hide = true)]
    Worker(worker::WorkerArgs),
}

/// Runs the demo, on a temporary SQLite store unless one was named.
pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    if let Some(Role::Worker(work)) = &args.role {
        let ow = store::connect(globals).await?;
        let worked = worker::run(work, &ow).await;
        store::close(globals, &ow).await;
        return worked.map(|()| ExitCode::SUCCESS);
    }
    let began = Instant::now();
    let folder = folder()?;
    let url =
        globals.store.clone().unwrap_or_else(|| format!("sqlite://{}", folder.join("shop.db").display()));
    let namespace = format!("demo-{}", std::process::id());
    let show = Show { quiet: args.json || globals.output.is_json(), live: std::io::stderr().is_terminal() };
    let ow = Onceward::options()
        .namespace(&namespace)
        .deadline(globals.deadline)
        .cache_bytes(0)
        .connect(&url)
        .await?;
    let ledger = Ledger::at(&folder.join("card-company.ledger"));
    show.line(&format!(
        "{} checkouts (reserve, charge, pack, wait for the courier, ship, webhook), {} worker processes\n  in {}",
        args.payments,
        args.workers,
        ow.store().url()
    ));

    let (hook, heard) = hooks::listen().await?;
    let race = Race {
        url: &url,
        namespace: &namespace,
        folder: &folder,
        args,
        ow: &ow,
        ledger: &ledger,
        hook: &hook,
        heard: &heard,
        show: &show,
    };
    let ran = race.run().await?;
    let audit = audit::audit(&ow, &ledger, args.payments).await?;
    ow.shutdown().await;
    let report = audit::Report {
        payments: args.payments,
        done: audit.done,
        uncertain_before: ran.uncertain.len(),
        uncertain_after: audit.uncertain,
        double_charged: audit.double_charged,
        stale_refused: ran.refused,
        seconds: (began.elapsed().as_secs_f64() * 100.0).round() / 100.0,
        checkouts: ran.finished,
        webhooks: heard.counts().0,
        killed: ran.killed,
    };
    if show.quiet {
        output::json(&report)?
    } else {
        show.status("");
        tell(&report, &audit, &ran, &url, &namespace)?
    }
    let holds = report.holds();
    holds.then_some(ExitCode::SUCCESS).ok_or_else(|| Error::new(Code::AuditFailed, report.why_not()))
}

/// A folder that stays, so that the store can be looked at afterwards.
fn folder() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("onceward-demo-{}", uuid::Uuid::new_v4().simple()));
    let made = std::fs::create_dir(&folder);
    made.map_err(|error| {
        Error::new(Code::StoreUnavailable, "no temporary folder can be made").with_source(error)
    })?;
    Ok(folder)
}

/// What the card company says about a payment.
fn ask(ledger: &Ledger, payment: &str) -> Verdict<String> {
    match ledger.charge_of(payment) {
        Ok(Some(charge)) => Verdict::Happened(charge),
        Ok(None) => Verdict::DidNotHappen,
        Err(_) => Verdict::StillUnknown,
    }
}

/// Words on stderr, unless only JSON is wanted.
struct Show {
    quiet: bool,
    live: bool,
}

impl Show {
    /// A line that stays.
    fn line(&self, text: &str) {
        if !self.quiet {
            let clear = if self.live { "\r\x1b[K" } else { "" };
            eprintln!("{clear}{text}");
        }
    }

    /// A line that the next one replaces.
    fn status(&self, text: &str) {
        if !self.quiet && self.live {
            eprint!("\r\x1b[K{text}");
        }
    }
}

fn tell(report: &audit::Report, audit: &Audit, ran: &Ran, url: &str, namespace: &str) -> Result<()> {
    let verdict = if report.holds() { "The audit holds." } else { "THE AUDIT DOES NOT HOLD." };
    let url = onceward::store::url::StoreUrl::parse(url)?.redacted();
    let run = ran.example.map(|run| run.to_string()).unwrap_or_default();
    output::text(&format!(
        "\nthe card company's ledger, against the store:\n\
         \x20 checkouts completed  {:>6}   of {}, with {} workers killed in the middle\n\
         \x20 paid once            {:>6}\n\
         \x20 paid twice           {:>6}\n\
         \x20 paid, not recorded   {:>6}\n\
         \x20 recorded, not paid   {:>6}\n\
         \x20 uncertain on the way {:>6}   all settled: {}\n\
         \x20 stale outcomes refused {:>4}   of a worker that was paused past its time\n\
         \x20 webhooks received    {:>6}\n\
         {verdict} {:.1} s\n\n\
         Look around, with --store {url} --namespace {namespace}:\n\
         \x20 onceward runs tree {run}\n\
         \x20 onceward once history {}\n",
        report.checkouts,
        report.payments,
        report.killed,
        audit.paid_once,
        report.double_charged,
        audit.unrecorded,
        audit.unpaid,
        report.uncertain_before,
        if report.uncertain_after == 0 { "yes" } else { "NO" },
        report.stale_refused,
        report.webhooks,
        report.seconds,
        audit.example,
    ))
}
