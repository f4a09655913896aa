//! What can be typed: the root of the command line, and what every command has in common.

use core::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::command::{bench, completions, demo, doctor, explain, lease, man, migrate, once, prune};
use crate::exit;

/// Work that runs once and only moves forward: leases with fencing tokens, and once(key, command).
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
    /// The namespace that the keys are in
    #[arg(long, global = true, env = "ONCEWARD_NAMESPACE", value_name = "NAME", default_value = "default")]
    pub(crate) namespace: String,
    /// How to write what is asked for to stdout
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    /// How long to try before saying that the store is away
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub(crate) deadline: Duration,
}

/// How data is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A plain table for people
    Table,
    /// JSON for programs
    Json,
}

#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum Command {
    /// Run a command at most once under a key, and replay its outcome to everybody else
    Once(once::Args),
    /// Run a command while holding a lease, so that nobody else runs it at the same time
    Lease(lease::Args),
    /// Bring the schema of a store up to date, or look at it
    Migrate(migrate::Args),
    /// Look at the database and its settings
    Doctor(doctor::Args),
    /// Forget what may be forgotten: retired results, old leases, old history
    Prune(prune::Args),
    /// Say what an error code means and what to do
    Explain(explain::Args),
    /// Let workers race and crash over payments, and audit what they did
    Demo(demo::Args),
    /// Measure this store side by side with its own commits
    Bench(bench::Args),
    /// Write the completions of a shell
    Completions(completions::Args),
    /// Write the manual page
    Man(man::Args),
}

/// Reads a duration, refusing it with its own code.
pub(crate) fn duration(text: &str) -> onceward::Result<Duration> {
    onceward::duration::parse(text)
}
