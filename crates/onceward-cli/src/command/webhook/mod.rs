//! `onceward webhook`: for receivers, and for trying out.

mod listen;
mod secret;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;
use onceward::Result;

/// Check webhooks, receive them for trying out, make secrets
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Verify(verify::Args),
    Listen(listen::Args),
    Secret(secret::Args),
}

pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    match &args.action {
        Action::Verify(args) => verify::run(args),
        Action::Listen(args) => listen::run(args).await,
        Action::Secret(args) => secret::run(args),
    }
}
