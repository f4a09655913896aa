//! `onceward demo`: worker processes race and crash over payments, and the ledger is audited.
//!
//! Read in this order: this file (the acts) → `worker.rs` (one worker process) → `race.rs` (starting, killing and
//! pausing them) → `ledger.rs` (the card company) → `audit.rs` (what became of it).

mod audit;
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
use self::race::Race;
use crate::args::Globals;
use crate::{output, store};

/// Let workers race and crash over payments, and audit what they did
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// Print one JSON object at the end, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
    /// How many payments there are
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=9_999))]
    pub(crate) payments: u32,
    /// How many worker processes race over them
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(2..=64))]
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
        "{} payments, {} worker processes, store {}",
        args.payments,
        args.workers,
        ow.store().url()
    ));

    let race = Race {
        url: &url,
        namespace: &namespace,
        folder: &folder,
        args,
        ow: &ow,
        ledger: &ledger,
        show: &show,
    };
    let ran = race.run().await?;
    let uncertain_before = ran.uncertain + reconcile(&ow, &ledger, args, &show).await?;
    finish(&ow, &ledger, args).await?;
    let audit = audit::audit(&ow, &ledger, args.payments).await?;
    ow.shutdown().await;
    let report = audit::Report {
        payments: args.payments,
        done: audit.done,
        uncertain_before,
        uncertain_after: audit.uncertain,
        double_charged: audit.double_charged,
        stale_refused: ran.refused,
        seconds: (began.elapsed().as_secs_f64() * 100.0).round() / 100.0,
    };
    if show.quiet {
        output::json(&report)?
    } else {
        tell(&report, &audit, &url, &namespace)?
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

/// Asks the card company about every payment nobody is sure of. Returns how many there were.
async fn reconcile(ow: &Onceward, ledger: &Ledger, args: &Args, show: &Show) -> Result<usize> {
    let admin = ow.admin();
    let reason = "asked the card company";
    let bulk = admin.reconcile(None, reason, async |row| ask(ledger, row.key.as_str())).await?;
    let n = bulk.changed.len();
    for key in &bulk.changed {
        let found = if ledger.charge_of(key.as_str()).is_ok_and(|charge| charge.is_some()) {
            "was charged: recorded as done"
        } else {
            "was not charged: free to run again"
        };
        show.line(&format!("  uncertain {key}: {found}"));
    }
    show.line(&format!(
        "{n} of {} payments were uncertain and are settled by the card company's word",
        args.payments
    ));
    Ok(n)
}

fn ask(ledger: &Ledger, payment: &str) -> Verdict<String> {
    match ledger.charge_of(payment) {
        Ok(Some(charge)) => Verdict::Happened(charge),
        Ok(None) => Verdict::DidNotHappen,
        Err(_) => Verdict::StillUnknown,
    }
}

/// Runs what was found not to have happened.
async fn finish(ow: &Onceward, ledger: &Ledger, args: &Args) -> Result<()> {
    let keys: Vec<String> = (0..args.payments).map(worker::payment).collect();
    let pay = async |attempt: onceward::Attempt| {
        Ok(ledger.charge(attempt.key().as_str(), &attempt.token().to_string())?)
    };
    let set = |one: onceward::once::OnceBuilder| one.ttl(worker::TTL);
    let outcomes = ow.once_many(&keys).each(set).run(pay).await?;
    outcomes.into_iter().try_for_each(|(_, outcome)| outcome.map(drop))
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

fn tell(report: &audit::Report, audit: &Audit, url: &str, namespace: &str) -> Result<()> {
    let verdict = if report.holds() { "The audit holds." } else { "THE AUDIT DOES NOT HOLD." };
    let url = onceward::store::url::StoreUrl::parse(url)?.redacted();
    output::text(&format!(
        "\nthe card company's ledger, against the store:\n\
         \x20 paid once            {:>6}\n\
         \x20 paid twice           {:>6}\n\
         \x20 paid, not recorded   {:>6}\n\
         \x20 recorded, not paid   {:>6}\n\
         \x20 uncertain on the way {:>6}   all settled: {}\n\
         \x20 stale outcomes refused {:>4}   of a worker that was paused past its time\n\
         {verdict} {:.1} s\n\n\
         Look around:\n\
         \x20 onceward once list --store {url} --namespace {namespace}\n\
         \x20 onceward once history {} --store {url} --namespace {namespace}\n",
        audit.paid_once,
        report.double_charged,
        audit.unrecorded,
        audit.unpaid,
        report.uncertain_before,
        if report.uncertain_after == 0 { "yes" } else { "NO" },
        report.stale_refused,
        report.seconds,
        audit.example,
    ))
}
