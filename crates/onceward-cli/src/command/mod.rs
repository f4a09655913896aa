//! The commands, one file each.

pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod dead;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod endpoints;
pub(crate) mod events;
pub(crate) mod explain;
mod history;
mod interventions;
pub(crate) mod jobs;
pub(crate) mod lease;
pub(crate) mod man;
pub(crate) mod migrate;
pub(crate) mod once;
pub(crate) mod prune;
pub(crate) mod queues;
pub(crate) mod runners;
pub(crate) mod runs;
pub(crate) mod schedules;
pub(crate) mod service;
pub(crate) mod services;
pub(crate) mod triggers;
pub(crate) mod webhook;
pub(crate) mod worker;
pub(crate) mod workers;

use std::process::ExitCode;

use onceward::Result;

use crate::Functions;
use crate::args::{Cli, Command};

/// Runs the command that was typed.
pub(crate) async fn run(cli: &Cli, functions: Functions<'_>) -> Result<ExitCode> {
    let globals = &cli.globals;
    match &cli.command {
        Command::Once(args) => once::run(args, globals).await,
        Command::Lease(args) => lease::run(args, globals).await,
        Command::Jobs(args) => Box::pin(jobs::run(args, globals)).await,
        Command::Dead(args) => Box::pin(dead::run(args, globals)).await,
        Command::Runs(args) => Box::pin(runs::run(args, globals, functions)).await,
        Command::Queues(args) => queues::run(args, globals).await,
        Command::Worker(args) => Box::pin(worker::run(args, globals, functions)).await,
        Command::Workers(args) => workers::run(args, globals).await,
        Command::Webhook(args) => webhook::run(args).await,
        Command::Endpoints(args) => Box::pin(endpoints::run(args, globals)).await,
        Command::Events(args) => Box::pin(events::run(args, globals)).await,
        Command::Service(args) => Box::pin(service::run(args, globals)).await,
        Command::Services(args) => Box::pin(services::run(args, globals)).await,
        Command::Schedules(args) => Box::pin(schedules::run(args, globals)).await,
        Command::Triggers(args) => Box::pin(triggers::run(args, globals)).await,
        Command::Runners(args) => runners::run(args, globals).await,
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
