//! The commands, one file each.

pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod explain;
mod history;
mod interventions;
pub(crate) mod lease;
pub(crate) mod man;
pub(crate) mod migrate;
pub(crate) mod once;
pub(crate) mod prune;

use std::process::ExitCode;

use onceward::Result;

use crate::args::{Cli, Command};

/// Runs the command that was typed.
pub(crate) async fn run(cli: &Cli) -> Result<ExitCode> {
    let globals = &cli.globals;
    match &cli.command {
        Command::Once(args) => once::run(args, globals).await,
        Command::Lease(args) => lease::run(args, globals).await,
        Command::Migrate(args) => migrate::run(args, globals).await,
        Command::Doctor(args) => doctor::run(args, globals).await,
        Command::Prune(args) => prune::run(args, globals).await,
        Command::Explain(args) => explain::run(args, globals),
        Command::Demo(args) => demo::run(args, globals).await,
        Command::Bench(args) => bench::run(args, globals).await,
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}
