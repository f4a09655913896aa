//! `onceward lease`: a command that runs while its lease is held, and what operators do with leases.

mod end;
mod list;
mod run;
mod show;

use std::process::ExitCode;

use clap::Subcommand;
use onceward::history::Subject;
use onceward::{Code, Error, Result};

use super::history;
use crate::args::Globals;
use crate::process::PROMISE;

/// Run a command while holding a lease, so that nobody else runs it at the same time
///
/// Like flock, across machines. If the lease is lost (the store was away, this process was paused), the command is
/// stopped. That is not the same as never overlapping: what protects a resource is the fencing token, which the
/// command finds in ONCEWARD_FENCING_TOKEN.
#[derive(Debug, clap::Args)]
#[command(subcommand_negates_reqs = true, disable_help_subcommand = true, after_help = PROMISE)]
#[command(override_usage = "onceward lease --key KEY [OPTIONS] -- COMMAND [ARGUMENT]...\n       \
                            onceward lease <list|show|history|break> ...")]
pub(crate) struct Args {
    #[command(flatten)]
    run: Option<run::Args>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The leases of the namespace
    List(list::Args),
    /// Every holder of one key
    Show(show::Args),
    /// What happened to a key, newest first
    History(history::Args),
    /// Take a lease away from its holder, who learns of it at its next renewal
    Break(end::Args),
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    match (&args.action, &args.run) {
        (None, Some(run)) => Box::pin(run::run(run, globals)).await,
        (Some(Action::List(list)), None) => list::run(list, globals).await,
        (Some(Action::Show(show)), None) => show::run(show, globals).await,
        (Some(Action::History(history)), None) => history::run(history, Subject::Lease, globals).await,
        (Some(Action::Break(end)), None) => end::run(end, globals).await,
        (None, None) => Err(Error::new(Code::UsageInvalid, "say what to run: --key KEY -- COMMAND")),
        (Some(_), Some(_)) => Err(Error::new(
            Code::UsageInvalid,
            "the options for running a command don't go with a subcommand",
        )),
    }
}
