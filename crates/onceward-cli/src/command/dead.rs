//! `onceward dead`: the jobs that are out of attempts, and what to do with them.

use std::process::ExitCode;

use clap::Subcommand;
use onceward::{JobId, Result};
use onceward_core::job::State;

use super::jobs::{self, DeadArgs, ReplayDeadArgs, ShowArgs, filter};
use crate::args::Globals;
use crate::{exit, store};

/// Dead jobs: look at them, do them once more, put them away
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The dead jobs of the namespace, the newest first
    List(List),
    /// One job, with its payload and the error of its last attempt
    Show(ShowArgs),
    /// Do dead jobs once more, as new jobs
    Replay(ReplayDeadArgs),
    /// Put dead jobs away, as cancelled
    Discard(DeadArgs),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    filter: filter::Common,
    /// How many jobs at most, 1 to 500
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Only jobs after this one: the next page
    #[arg(long, value_name = "ID", value_parser = filter::id)]
    after: Option<JobId>,
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    match &args.action {
        Action::List(args) => list(args, globals).await,
        Action::Show(args) => jobs::show(args, globals).await,
        Action::Replay(args) => jobs::replay_dead(args, globals).await,
        Action::Discard(args) => jobs::discard_dead(args, globals).await,
    }
}

async fn list(args: &List, globals: &Globals) -> Result<ExitCode> {
    let filter = args.filter.filter(Some(State::Dead));
    let client = store::connect(globals).await?;
    let page = client.admin().jobs(&filter, args.after, args.limit).await?;
    store::close(globals, &client).await;
    jobs::print_list(&page, args.limit, globals)?;
    Ok(ExitCode::from(exit::DONE))
}
