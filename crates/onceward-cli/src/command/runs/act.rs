//! `onceward runs pause|resume|cancel|retry|signal`: some runs by their ids, or many by what they have in common.

use core::fmt::Display;
use std::process::ExitCode;

use onceward::{Admin, BulkJobs, Code, Error, JobId, Onceward, Result, RunAction};
use serde_json::{Value, json};

use super::of_runs;
use crate::args::Globals;
use crate::command::jobs::filter::id;
use crate::output::{self, Table};
use crate::{exit, report, store};

/// How many of the runs that a dry run has found are shown.
const SHOWN: usize = 20;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The ids of the runs; without any, those that the filters name
    #[arg(value_name = "ID", value_parser = id)]
    ids: Vec<JobId>,
    #[command(flatten)]
    many: Many,
    /// Why; it is kept with the run
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
struct Many {
    #[command(flatten)]
    filter: of_runs::Args,
    /// Without ids and filters: really all of them
    #[arg(long)]
    all: bool,
    /// With filters: at most so many
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    most: usize,
    /// With filters: say how many it would be, and which are the first, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct SignalArgs {
    /// The id of the run, and what the signal is called; with filters only that
    #[arg(value_name = "ID NAME", num_args = 1..=2, required = true)]
    words: Vec<String>,
    /// What it says
    #[arg(long, value_name = "JSON", default_value = "null")]
    json: String,
    #[command(flatten)]
    many: Many,
}

pub(super) async fn run(args: &Args, action: RunAction, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect(globals).await?;
    let done = if args.ids.is_empty() {
        many(&args.many, &action, args.reason.as_deref(), &client.admin(), globals).await
    } else {
        each(args, &action, &client, globals).await
    };
    store::close(globals, &client).await;
    done.map(|()| ExitCode::from(exit::DONE))
}

pub(super) async fn signal(args: &SignalArgs, globals: &Globals) -> Result<ExitCode> {
    let value: Value = serde_json::from_str(&args.json)
        .map_err(|error| Error::new(Code::UsageInvalid, format!("--json is no JSON: {error}")))?;
    let client = store::connect(globals).await?;
    let done = match args.words.as_slice() {
        [id, name] if args.many.is_empty() => match id.parse() {
            Ok(id) => client.signal_run(id, name, &value).await,
            Err(error) => Err(error),
        },
        [name] => {
            let action = RunAction::Signal { name: name.clone(), value };
            many(&args.many, &action, None, &client.admin(), globals).await
        }
        _ => Err(Error::new(Code::UsageInvalid, "name one run by its id, or many by filters")),
    };
    store::close(globals, &client).await;
    done.map(|()| ExitCode::from(exit::DONE))
}

impl Many {
    fn is_empty(&self) -> bool {
        self.filter.is_empty() && !self.all
    }
}

async fn many(
    args: &Many,
    action: &RunAction,
    reason: Option<&str>,
    admin: &Admin,
    globals: &Globals,
) -> Result<()> {
    if args.is_empty() {
        let why = "name runs by their ids or by a filter such as --function checkout, or say --all";
        return Err(Error::new(Code::UsageInvalid, why));
    }
    let bulk = admin.each_run(&args.filter.filter(), action, reason, args.most, args.dry_run).await?;
    print(&bulk, args.dry_run, globals)
}

fn print(bulk: &BulkJobs, dry_run: bool, globals: &Globals) -> Result<()> {
    let (changed, left) = (bulk.changed.len(), bulk.left.len());
    if globals.output.is_json() {
        return output::json(&json!({ "dry_run": dry_run, "changed": bulk.changed, "left": bulk.left }));
    }
    let shown = if dry_run { bulk.changed.len().min(SHOWN) } else { bulk.changed.len() };
    let would = if dry_run { "would be changed" } else { "changed" };
    report::note(&format!("{changed} {would}, {left} left alone"));
    output::text(&bulk.changed.iter().take(shown).map(|id| format!("{id}\n")).collect::<String>())?;
    if shown < changed {
        report::note(&format!("and {} more", changed - shown));
    }
    Ok(())
}

/// One after the other. The first that can't be done ends it, with its own exit code; those before it are done.
async fn each(args: &Args, action: &RunAction, client: &Onceward, globals: &Globals) -> Result<()> {
    if args.many.dry_run || !args.many.is_empty() {
        return Err(Error::new(Code::UsageInvalid, "--dry-run, --all and filters go without ids"));
    }
    let (admin, reason) = (client.admin(), args.reason.as_deref());
    let (mut table, mut values) = (Table::new(&["RUN", "NOW"]), Vec::new());
    for id in &args.ids {
        let now = match action {
            RunAction::Pause if admin.pause_run(*id, reason).await? => "paused".to_owned(),
            RunAction::Pause => "paused once its worker has given it back".to_owned(),
            RunAction::Resume => admin.resume_run(*id, reason).await.map(|()| "resumed".to_owned())?,
            RunAction::Retry => {
                let retried = admin.retry_run(*id, reason).await?;
                let goes_on = format!("goes on as {}", retried.id);
                if retried.is_fork() { goes_on } else { "ready".to_owned() }
            }
            RunAction::Cancel => {
                let reason = reason.unwrap_or("cancelled by an operator");
                client.cancel_run(*id, reason).await.map(|()| "told to end".to_owned())?
            }
            RunAction::Signal { name, value } => {
                client.signal_run(*id, name, value).await.map(|()| "told".to_owned())?
            }
        };
        table.row([id as &dyn Display, &now]);
        values.push(json!({ "id": id, "now": now }));
    }
    if globals.output.is_json() { output::json(&values) } else { table.print() }
}
