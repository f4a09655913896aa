//! `onceward once`: a command that runs at most once under a key, and what operators do with such keys.

mod list;
mod recorded;
mod resolve;
mod run;
mod show;
mod status;
mod tell;

use std::process::ExitCode;

use clap::Subcommand;
use onceward::history::Subject;
use onceward::{Code, Error, Result};

use super::history;
use crate::args::Globals;
use crate::process::PROMISE;

/// Run a command at most once under a key, and replay its outcome to everybody else
///
/// What the command prints to stdout and its exit code 0 are the recorded result. A later call with the same key
/// writes the same bytes and exits alike, without running anything. If nobody can know whether the command had its
/// effect, the key is uncertain: it is never run again by itself, and somebody settles it with `once resolve`.
#[derive(Debug, clap::Args)]
#[command(subcommand_negates_reqs = true, disable_help_subcommand = true, after_help = PROMISE)]
#[command(override_usage = "onceward once --key KEY [OPTIONS] -- COMMAND [ARGUMENT]...\n       \
                            onceward once <list|show|history|resolve> ...")]
pub(crate) struct Args {
    #[command(flatten)]
    run: Option<run::Args>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The keys of the namespace
    List(list::Args),
    /// One key, with its recorded result
    Show(show::Args),
    /// What happened to a key, newest first
    History(history::Args),
    /// Settle an uncertain key, or all of them
    Resolve(resolve::Args),
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    match (&args.action, &args.run) {
        (None, Some(run)) => run::run(run, globals).await,
        (Some(Action::List(list)), None) => list::run(list, globals).await,
        (Some(Action::Show(show)), None) => show::run(show, globals).await,
        (Some(Action::History(history)), None) => history::run(history, Subject::Once, globals).await,
        (Some(Action::Resolve(resolve)), None) => resolve::run(resolve, globals).await,
        (None, None) => Err(Error::new(Code::UsageInvalid, "say what to run: --key KEY -- COMMAND")),
        (Some(_), Some(_)) => Err(Error::new(
            Code::UsageInvalid,
            "the options for running a command don't go with a subcommand",
        )),
    }
}
