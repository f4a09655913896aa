//! `onceward jobs`: enqueueing, looking, and intervening.
//!
//! Read in this order: `enqueue` (and `http`) → `list`, `show`, `attempts` → `act` (cancel, retry, replay, one or many)
//! → `resolve`.

mod act;
mod attempts;
mod enqueue;
pub(super) mod filter;
mod http;
mod list;
mod resolve;
mod show;

use std::process::ExitCode;

use clap::Subcommand;
use onceward::Result;

pub(super) use self::act::{DeadArgs, ReplayDeadArgs, discard_dead, replay_dead};
pub(super) use self::enqueue::{PayloadArgs, bytes_of};
pub(super) use self::list::print as print_list;
pub(super) use self::show::{Args as ShowArgs, print as print_job, run as show, whole as job_value};
use crate::args::Globals;

/// Enqueue jobs, look at them, and intervene
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Enqueue a job and print its id
    Enqueue(Box<enqueue::Args>),
    /// The jobs of the namespace, the newest first
    List(list::Args),
    /// One job, with its payload and its result
    Show(show::Args),
    /// The attempts of a job that have ended
    Attempts(attempts::Args),
    /// Call jobs off: what waits never runs, what runs is told
    Cancel(act::Args),
    /// Make jobs ready now that wait, are dead, or are uncertain and did not happen
    Retry(act::Args),
    /// Do dead or cancelled jobs once more, as new jobs
    Replay(act::ReplayArgs),
    /// Say how an uncertain job was
    Resolve(resolve::Args),
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    match &args.action {
        Action::Enqueue(args) => enqueue::run(args, globals).await,
        Action::List(args) => list::run(args, globals).await,
        Action::Show(args) => show::run(args, globals).await,
        Action::Attempts(args) => attempts::run(args, globals).await,
        Action::Cancel(args) => act::run(args, act::Act::Cancel, globals).await,
        Action::Retry(args) => act::run(args, act::Act::Retry, globals).await,
        Action::Replay(args) => act::run(&args.act, act::Act::replay(args), globals).await,
        Action::Resolve(args) => resolve::run(args, globals).await,
    }
}
