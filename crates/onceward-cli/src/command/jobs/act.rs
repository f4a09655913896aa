//! `onceward jobs cancel|retry|replay`: one job by its id, or many by what they have in common.

use std::process::ExitCode;

use onceward::{Admin, BulkAction, BulkJobs, Code, Error, JobId, Replay, Result};
use onceward_core::job::State;
use serde_json::json;

use super::filter;
use crate::args::Globals;
use crate::output::{self, Table};
use crate::{exit, report, store};

#[derive(Clone, Debug, clap::Args)]
#[group(id = "act")]
pub(crate) struct Args {
    /// The ids of the jobs; without any, those that the filters name
    #[arg(value_name = "ID", value_parser = filter::id)]
    ids: Vec<JobId>,
    #[command(flatten)]
    filter: filter::Args,
    /// Without ids and filters: really all of them
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// With filters: at most so many
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    most: usize,
    /// Say which jobs it would be, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Why; it is written into the job
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    pub(super) act: Args,
    /// Also jobs that have succeeded: their work is done twice then
    #[arg(long)]
    force: bool,
    /// A name for this replay: asking twice by one name makes one job
    #[arg(long, value_name = "NAME")]
    request: Option<String>,
}

impl Args {
    /// The same, of dead jobs alone.
    pub(crate) fn dead(&self) -> Self {
        let mut args = self.clone();
        args.filter.state = Some(State::Dead);
        args
    }
}

/// What to do.
pub(crate) enum Act {
    Cancel,
    Retry,
    Replay(Replay),
}

impl Act {
    pub(super) fn replay(args: &ReplayArgs) -> Self {
        Self::Replay(Replay { force: args.force, request: args.request.clone() })
    }
}

pub(crate) async fn run(args: &Args, act: Act, globals: &Globals) -> Result<ExitCode> {
    if args.ids.is_empty() && args.filter.is_empty() && !args.all {
        let why = "name jobs by their ids or by a filter such as --state dead, or say --all";
        return Err(Error::new(Code::UsageInvalid, why));
    }
    let client = store::connect(globals).await?;
    let admin = client.admin();
    let done = if args.ids.is_empty() {
        many(args, &act, &admin, globals).await
    } else {
        each(args, &act, &admin, globals).await
    };
    store::close(globals, &client).await;
    done?;
    Ok(ExitCode::from(exit::DONE))
}

async fn many(args: &Args, act: &Act, admin: &Admin, globals: &Globals) -> Result<()> {
    let action = match act {
        Act::Cancel => BulkAction::Cancel,
        Act::Retry => BulkAction::Retry,
        Act::Replay(how) => BulkAction::Replay(how.clone()),
    };
    let reason = args.reason.as_deref();
    let bulk = admin.each_job(&args.filter.filter(), &action, reason, args.most, args.dry_run).await?;
    print(&bulk, args.dry_run, globals)
}

fn print(bulk: &BulkJobs, dry_run: bool, globals: &Globals) -> Result<()> {
    if globals.output.is_json() {
        return output::json(&json!({
            "dry_run": dry_run, "changed": bulk.changed, "left": bulk.left,
        }));
    }
    let would = if dry_run { "would be changed" } else { "changed" };
    report::note(&format!("{} {would}, {} left alone", bulk.changed.len(), bulk.left.len()));
    output::text(&bulk.changed.iter().map(|id| format!("{id}\n")).collect::<String>())
}

/// One after the other. The first that can't be done ends it, with its own exit code; those before it are done.
async fn each(args: &Args, act: &Act, admin: &Admin, globals: &Globals) -> Result<()> {
    if args.dry_run {
        return Err(Error::new(Code::UsageInvalid, "--dry-run goes with filters, not with ids"));
    }
    let reason = args.reason.as_deref();
    let mut table = Table::new(&["JOB", "NOW"]);
    let mut values = Vec::new();
    for id in &args.ids {
        let now = match act {
            Act::Cancel if admin.cancel_job(*id, None, reason).await? => "cancelled".to_owned(),
            Act::Cancel => "its worker will be told".to_owned(),
            Act::Retry => admin.retry_job(*id, None, reason).await.map(|()| "ready".to_owned())?,
            Act::Replay(how) => {
                let replayed = admin.replay_job(*id, how).await?;
                values.push(json!(replayed));
                table.row([&replayed.id as &dyn core::fmt::Display, &format!("a replay of {id}")]);
                continue;
            }
        };
        values.push(json!({ "id": id, "now": now }));
        table.row([id as &dyn core::fmt::Display, &now]);
    }
    match (globals.output.is_json(), values.as_slice()) {
        (true, [only]) => output::json(only),
        (true, all) => output::json(&all),
        (false, _) => table.print(),
    }
}
