//! What can be typed: the root of the command line, and what every command has in common.

use core::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::filter::Targets;

use crate::command::{
    bench, completions, dead, demo, doctor, endpoints, events, explain, jobs, lease, man, migrate, once,
    prune, queues, runners, runs, schedules, service, services, triggers, webhook, worker, workers,
};
use crate::exit;

/// Work that runs once and only moves forward: leases with fencing tokens, once(key, command), and jobs.
#[derive(Debug, Parser)]
#[command(name = "onceward", version, after_help = exit::TABLE, max_term_width = 110)]
#[command(disable_help_subcommand = true, subcommand_required = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes, before or after its name.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Globals {
    /// The store: sqlite://PATH, postgres://USER@HOST/DB, or memory:
    ///
    /// The default is sqlite:// with the file onceward/onceward.db in $XDG_STATE_HOME, else in ~/.local/state.
    #[arg(long, global = true, env = "ONCEWARD_STORE", hide_env_values = true, value_name = "URL")]
    pub(crate) store: Option<String>,
    /// A Redis that wakes other processes: redis://[[USER]:PASSWORD@]HOST[:PORT], rediss://…, unix:///PATH
    ///
    /// For processes that the store's own notifications do not reach. Only hints go over it: without it, or while it is
    /// away, everybody finds jobs by looking.
    #[cfg(feature = "redis")]
    #[arg(long, global = true, env = "ONCEWARD_REDIS", hide_env_values = true, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// The namespace that the keys are in
    #[arg(
        long,
        global = true,
        env = "ONCEWARD_NAMESPACE",
        hide_env_values = true,
        value_name = "NAME",
        default_value = "default"
    )]
    pub(crate) namespace: String,
    /// How to write what is asked for to stdout
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    /// How long to try before saying that the store is away
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub(crate) deadline: Duration,
    /// What to tell on stderr meanwhile: off, error, warn, info, debug or trace, or levels of modules
    ///
    /// Such as info,onceward::service=debug. Names, codes and times stand there; payloads and secrets never do.
    #[arg(long, global = true, env = "ONCEWARD_LOG", value_name = "LEVEL", value_parser = crate::log::filter)]
    #[arg(default_value = "warn")]
    pub(crate) log: Targets,
}

/// How data is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A plain table for people
    Table,
    /// JSON for programs
    Json,
}

/// The commands; what they are for stands with their arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Once(once::Args),
    Lease(lease::Args),
    Jobs(jobs::Args),
    Dead(dead::Args),
    Runs(runs::Args),
    Queues(queues::Args),
    Worker(worker::Args),
    Workers(workers::Args),
    Webhook(webhook::Args),
    Endpoints(endpoints::Args),
    Events(events::Args),
    Service(service::Args),
    Services(services::Args),
    Schedules(schedules::Args),
    Triggers(triggers::Args),
    Runners(runners::Args),
    Migrate(migrate::Args),
    Doctor(doctor::Args),
    Prune(prune::Args),
    Explain(explain::Args),
    Demo(demo::Args),
    Bench(bench::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Reads a duration, refusing it with its own code.
pub(crate) fn duration(text: &str) -> onceward::Result<Duration> {
    onceward::duration::parse(text)
}
