//! `onceward jobs cancel|retry|replay`: one job by its id, or many by what they have in common.

use std::process::ExitCode;

use onceward::{Admin, BulkAction, BulkJobs, Code, Error, JobFilter, JobId, Replay, Result, Token};
use onceward_core::job::State;
use serde_json::json;

use super::filter;
use crate::args::Globals;
use crate::output::{self, Table};
use crate::{exit, report, store};

#[derive(Debug, clap::Args)]
#[group(id = "act")]
pub(crate) struct Args {
    /// The ids of the jobs; without any, those that the filters name
    #[arg(value_name = "ID", value_parser = filter::id)]
    ids: Vec<JobId>,
    #[command(flatten)]
    filter: filter::Args,
    #[command(flatten)]
    how: How,
}

/// As [`Args`], for jobs that are dead.
#[derive(Debug, clap::Args)]
#[group(id = "act_dead")]
pub(crate) struct DeadArgs {
    /// The ids of the jobs; without any, those that the filters name
    #[arg(value_name = "ID", value_parser = filter::id)]
    ids: Vec<JobId>,
    #[command(flatten)]
    filter: filter::Common,
    #[command(flatten)]
    how: How,
}

#[derive(Clone, Debug, clap::Args)]
#[group(id = "act_how")]
struct How {
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

#[derive(Debug, clap::Args)]
pub(crate) struct ReplayDeadArgs {
    #[command(flatten)]
    act: DeadArgs,
    /// Also jobs named by their ids that are not dead but cancelled, or have succeeded: their work is done twice then
    #[arg(long, requires = "ids")]
    force: bool,
    /// A name for this replay: asking twice by one name makes one job of each
    #[arg(long, value_name = "NAME")]
    request: Option<String>,
}

/// Which jobs, and how.
struct Wish {
    ids: Vec<JobId>,
    filter: JobFilter,
    /// Whether every job would fit.
    unfiltered: bool,
    /// Whether a job that is named by its id has to be dead.
    dead: bool,
    how: How,
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

    fn in_bulk(&self) -> BulkAction {
        match self {
            Self::Cancel => BulkAction::Cancel,
            Self::Retry => BulkAction::Retry,
            Self::Replay(how) => BulkAction::Replay(how.clone()),
        }
    }
}

pub(crate) async fn run(args: &Args, act: Act, globals: &Globals) -> Result<ExitCode> {
    let (ids, how) = (args.ids.clone(), args.how.clone());
    let (filter, unfiltered) = (args.filter.filter(), args.filter.is_empty());
    do_it(&Wish { ids, filter, unfiltered, dead: false, how }, &act, globals).await
}

/// Puts dead jobs away.
pub(crate) async fn discard_dead(args: &DeadArgs, globals: &Globals) -> Result<ExitCode> {
    do_it(&args.wish(true), &Act::Cancel, globals).await
}

/// Does dead jobs once more.
pub(crate) async fn replay_dead(args: &ReplayDeadArgs, globals: &Globals) -> Result<ExitCode> {
    let replay = Replay { force: args.force, request: args.request.clone() };
    do_it(&args.act.wish(!args.force), &Act::Replay(replay), globals).await
}

impl DeadArgs {
    fn wish(&self, dead: bool) -> Wish {
        let (ids, how) = (self.ids.clone(), self.how.clone());
        let (filter, unfiltered) = (self.filter.filter(Some(State::Dead)), self.filter.is_empty());
        Wish { ids, filter, unfiltered, dead, how }
    }
}

async fn do_it(wish: &Wish, act: &Act, globals: &Globals) -> Result<ExitCode> {
    if wish.ids.is_empty() && wish.unfiltered && !wish.how.all {
        let why = "name jobs by their ids or by a filter such as --kind, or say --all";
        return Err(Error::new(Code::UsageInvalid, why));
    }
    let client = store::connect(globals).await?;
    let admin = client.admin();
    let done = if wish.ids.is_empty() {
        many(wish, act, &admin, globals).await
    } else {
        each(wish, act, &admin, globals).await
    };
    store::close(globals, &client).await;
    done?;
    Ok(ExitCode::from(exit::DONE))
}

async fn many(wish: &Wish, act: &Act, admin: &Admin, globals: &Globals) -> Result<()> {
    let action = act.in_bulk();
    let How { most, dry_run, reason, .. } = &wish.how;
    let bulk = admin.each_job(&wish.filter, &action, reason.as_deref(), *most, *dry_run).await?;
    print(&bulk, *dry_run, globals)
}

fn print(bulk: &BulkJobs, dry_run: bool, globals: &Globals) -> Result<()> {
    if globals.output.is_json() {
        return output::json(&json!({
            "dry_run": dry_run, "changed": bulk.changed, "left": bulk.left, "replayed": bulk.replayed,
        }));
    }
    let would = if dry_run { "would be changed" } else { "changed" };
    report::note(&format!("{} {would}, {} left alone", bulk.changed.len(), bulk.left.len()));
    output::text(&bulk.changed.iter().map(|id| format!("{id}\n")).collect::<String>())
}

/// One after the other. The first that can't be done ends it, with its own exit code; those before it are done.
async fn each(wish: &Wish, act: &Act, admin: &Admin, globals: &Globals) -> Result<()> {
    let reason = wish.how.reason.as_deref();
    let mut table = Table::new(&["JOB", "NOW"]);
    let mut values = Vec::new();
    for id in &wish.ids {
        let seen = if wish.dead { Some(dead(*id, admin).await?) } else { None };
        if wish.how.dry_run {
            admin.try_job(*id, &act.in_bulk(), reason).await?;
            let would = match act {
                Act::Cancel => "would be cancelled",
                Act::Retry => "would be ready",
                Act::Replay(_) => "would be replayed",
            };
            values.push(json!({ "id": id, "dry_run": true, "now": would }));
            table.row([id as &dyn core::fmt::Display, &would]);
            continue;
        }
        let now = match act {
            Act::Cancel if admin.cancel_job(*id, seen, reason).await? => "cancelled".to_owned(),
            Act::Cancel => "its worker will be told".to_owned(),
            Act::Retry => admin.retry_job(*id, seen, reason).await.map(|()| "ready".to_owned())?,
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

/// The token of a job that is dead.
async fn dead(id: JobId, admin: &Admin) -> Result<Token> {
    let row = admin.job(id).await?;
    match row.state_now() {
        State::Dead => Ok(row.token),
        state => Err(Error::new(Code::JobStateWrong, format!("job {id} is not dead: it is {state}"))),
    }
}
