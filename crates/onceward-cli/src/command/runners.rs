//! `onceward runners`: the processes that run services.

use std::process::ExitCode;

use clap::Subcommand;
use onceward::Result;
use onceward::service::Runner;
use onceward::store::Snapshot;
use serde_json::{Value, json};

use crate::args::Globals;
use crate::output::{self, Table};
use crate::{exit, store};

/// Look at the processes that run services
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The runners of the namespace, the oldest first: what they run, and whether they are still there
    List,
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect(globals).await?;
    let Action::List = args.action;
    let runners = client.admin().runners().await;
    store::close(globals, &client).await;
    print(&runners?, globals)?;
    Ok(ExitCode::from(exit::DONE))
}

fn state(runner: &Runner, now: onceward::Timestamp) -> &'static str {
    match (runner.expires_at <= now, runner.draining) {
        (true, _) => "lost",
        (_, true) => "draining",
        _ => "alive",
    }
}

fn print(runners: &Snapshot<(Runner, Vec<String>)>, globals: &Globals) -> Result<()> {
    if globals.output.is_json() {
        let rows = runners.rows.iter().map(|(runner, services)| {
            let mut row = serde_json::to_value(runner).unwrap_or_default();
            row["services"] = json!(services);
            row["state"] = json!(state(runner, runners.now));
            row
        });
        return output::json(&rows.collect::<Vec<Value>>());
    }
    let mut table = Table::new(&["SESSION", "OWNER", "STARTED", "SEEN", "STATE", "SERVICES"]);
    for (runner, services) in &runners.rows {
        table.row([
            &runner.session as &dyn core::fmt::Display,
            &runner.owner,
            &runner.started_at,
            &runner.seen_at,
            &state(runner, runners.now),
            &services.join(" "),
        ]);
    }
    table.print()
}
