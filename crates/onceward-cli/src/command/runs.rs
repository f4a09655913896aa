//! `onceward runs`: durable functions under way, what they have done, and what to tell them.

mod act;
mod check;
mod files;
mod of_runs;
mod show;
mod start;
mod tree;
mod watch;

use core::fmt::Display;
use std::process::ExitCode;

use clap::Subcommand;
use onceward::{Code, Error, JobId, Result, RunAction, RunFork};
use onceward_core::run::{Entry, Outcome, Phase, Start};
use serde_json::{Value, json};

use super::jobs::{self, ShowArgs, filter};
use crate::Functions;
use crate::args::Globals;
use crate::output::{self, Table};
use crate::{exit, report, store};

/// Runs of durable functions: look at them, tell them something
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start a durable function by its name
    Start(start::Args),
    /// The runs of the namespace, the newest first
    List(List),
    /// One run, with its arguments, its result, and what it waits for
    Show(ShowArgs),
    /// What a run has done: its journal
    History(History),
    /// A run with what it has asked for and the runs it has started, as a tree
    Tree(tree::Args),
    /// The same while it changes, until the run has ended; its end is the exit code
    Watch(watch::Args),
    /// Tell runs something they wait for, or will wait for
    Signal(act::SignalArgs),
    /// Ask runs to end; they may undo what they have done
    Cancel(act::Args),
    /// Have runs stand still: they begin nothing until they are resumed
    Pause(act::Args),
    /// Let runs go on that are paused
    Resume(act::Args),
    /// Have runs go on that have failed: only what has failed is done once more, mostly by another run
    Retry(act::Args),
    /// Start another run that begins with what this one had done before a place
    Fork(Fork),
    /// Which runs under way would not go on with this program: in your own binary, before it is deployed
    Check(check::Args),
    /// Write a run with its journal, and those it has started, to stdout as lines of JSON
    Export(files::Export),
    /// Take in what `export` has written; what had not ended goes on
    Import(files::Import),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    filter: of_runs::Args,
    /// How many at most, 1 to 500
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Only runs after this one: the next page
    #[arg(long, value_name = "ID", value_parser = filter::id)]
    after: Option<JobId>,
}

#[derive(Debug, clap::Args)]
struct History {
    /// The id of the run
    #[arg(value_name = "ID", value_parser = filter::id)]
    id: JobId,
    /// From this entry on
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    from: u32,
    /// How many entries at most
    #[arg(long, value_name = "N", default_value_t = 500)]
    limit: usize,
}

#[derive(Debug, clap::Args)]
struct Fork {
    /// The id of the run
    #[arg(value_name = "ID", value_parser = filter::id)]
    id: JobId,
    /// Where it is to begin: a position of its journal, or the name of a step, a child or a signal
    #[arg(long, value_name = "PLACE")]
    from: String,
    /// Other arguments by their names: {"order": 789}
    #[arg(long, value_name = "JSON")]
    new_args: Option<String>,
    /// A name for this fork: asking twice by one name makes one run
    #[arg(long, value_name = "NAME")]
    request: Option<String>,
}

pub(crate) async fn run(args: &Args, globals: &Globals, functions: Functions<'_>) -> Result<ExitCode> {
    match &args.action {
        Action::List(args) => list(args, globals).await?,
        Action::Show(args) => return show::run(args, globals).await,
        Action::History(args) => history(args, globals).await?,
        Action::Start(args) => start::run(args, globals).await?,
        Action::Tree(args) => tree::run(args, globals).await?,
        Action::Watch(args) => return watch::run(args, globals).await,
        Action::Check(args) => return check::run(args, globals, functions).await,
        Action::Export(args) => files::export(args, globals).await?,
        Action::Import(args) => files::import(args, globals).await?,
        Action::Signal(args) => return act::signal(args, globals).await,
        Action::Cancel(args) => return act::run(args, RunAction::Cancel, globals).await,
        Action::Pause(args) => return act::run(args, RunAction::Pause, globals).await,
        Action::Resume(args) => return act::run(args, RunAction::Resume, globals).await,
        Action::Retry(args) => return act::run(args, RunAction::Retry, globals).await,
        Action::Fork(args) => fork(args, globals).await?,
    }
    Ok(ExitCode::from(exit::DONE))
}

async fn list(args: &List, globals: &Globals) -> Result<()> {
    let client = store::connect(globals).await?;
    let page = client.admin().runs(&args.filter.filter(), args.after, args.limit).await?;
    store::close(globals, &client).await;
    jobs::print_list(&page, args.limit, globals)
}

async fn history(args: &History, globals: &Globals) -> Result<()> {
    let client = store::connect(globals).await?;
    let journal = client.admin().journal(args.id, args.from, args.limit).await?;
    let next = journal.last().map_or(args.from, |entry| entry.seq.saturating_add(1));
    let more = match journal.len() {
        // One that has done nothing is told apart from one that is not there.
        0 => client.admin().job(args.id).await.map(|_| false)?,
        read => read >= args.limit && !client.admin().journal(args.id, next, 1).await?.is_empty(),
    };
    store::close(globals, &client).await;
    if more {
        report::note(&format!("there is more: --from {next}"));
    }
    if globals.output.is_json() {
        return output::json(&journal.iter().map(value).collect::<Vec<_>>());
    }
    let mut table = Table::new(&["SEQ", "AT", "PLACE", "WHAT", "NAME", "HAPPENED", "VALUE"]);
    for entry in &journal {
        let (happened, said) = (entry.phase.word(), said(entry).to_string());
        let said = if said == "null" { String::new() } else { said };
        let cells: [&dyn Display; 7] =
            [&entry.seq, &entry.at, &entry.position, &entry.op, &entry.name, &happened, &said];
        table.row(cells);
    }
    table.print()
}

fn value(entry: &Entry) -> Value {
    json!({
        "seq": entry.seq, "at": entry.at, "position": entry.position, "op": entry.op, "name": entry.name,
        "phase": entry.phase.word(), "value": said(entry), "token": entry.token,
    })
}

/// What an entry says beside its name.
fn said(entry: &Entry) -> Value {
    match &entry.phase {
        Phase::Started(Start::Child { id, .. }) => json!(id),
        Phase::Started(Start::Due(at)) => json!(at),
        Phase::Ended(Outcome::Value(bytes) | Outcome::Failed(bytes) | Outcome::Again(bytes)) => {
            serde_json::from_slice(bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(bytes)))
        }
        Phase::Started(Start::Intent) | Phase::Ended(Outcome::Due) => Value::Null,
    }
}

async fn fork(args: &Fork, globals: &Globals) -> Result<()> {
    let new_args = args.new_args.as_deref().map(serde_json::from_str).transpose();
    let new_args = new_args
        .map_err(|error| Error::new(Code::UsageInvalid, format!("--new-args is no JSON: {error}")))?;
    let how = RunFork { args: new_args, request: args.request.clone() };
    let client = store::connect(globals).await?;
    let forked = client.admin().fork_run(args.id, &args.from, &how).await;
    store::close(globals, &client).await;
    let forked = forked?;
    if globals.output.is_json() {
        return output::json(&forked);
    }
    report::note(&format!("it begins with {} entries of {}", forked.kept, forked.fork_of));
    output::text(&format!("{}\n", forked.id))
}
