//! `onceward workers`: who takes jobs, and taking one out of service.

use std::process::ExitCode;

use clap::Subcommand;
use onceward::store::Snapshot;
use onceward::{Admin, Code, Error, Result};
use onceward_core::SessionId;
use onceward_core::session::Record;
use serde_json::{Value, json};

use crate::args::Globals;
use crate::output::{self, Table};
use crate::{exit, report, store};

/// Look at workers, take one out of service
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The workers of the store: what they take, and what they run
    List,
    /// Let a worker take no more jobs; what it runs goes on
    Drain(Which),
    /// Let a drained worker take jobs again
    Undrain(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The session of the worker, as `workers list` shows it
    #[arg(value_name = "SESSION", value_parser = session)]
    session: SessionId,
}

fn session(text: &str) -> Result<SessionId> {
    let id = uuid::Uuid::parse_str(text)
        .map_err(|_| Error::new(Code::UsageInvalid, "a session is a UUID, as `workers list` shows it"))?;
    Ok(SessionId::from_uuid(id))
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect(globals).await?;
    let admin = client.admin();
    let done = match &args.action {
        Action::List => match admin.workers().await {
            Ok(workers) => print(&workers, globals),
            Err(error) => Err(error),
        },
        Action::Drain(Which { session }) => drain(&admin, *session, true, globals).await,
        Action::Undrain(Which { session }) => drain(&admin, *session, false, globals).await,
    };
    store::close(globals, &client).await;
    done?;
    Ok(ExitCode::from(exit::DONE))
}

async fn drain(admin: &Admin, session: SessionId, draining: bool, globals: &Globals) -> Result<()> {
    if !admin.drain_worker(session, draining).await? {
        return Err(Error::new(Code::JobAbsent, "there is no worker with that session"));
    }
    report::note("the worker hears of it at its next renewal");
    if globals.output.is_json() {
        output::json(&json!({ "session": session, "draining": draining }))?;
    }
    Ok(())
}

fn print(workers: &Snapshot<Record>, globals: &Globals) -> Result<()> {
    if globals.output.is_json() {
        let value = |row: &Record| {
            let mut value = json!(row);
            value["alive"] = json!(!row.is_lost(workers.now));
            value
        };
        return output::json(&workers.rows.iter().map(value).collect::<Vec<Value>>());
    }
    let mut table =
        Table::new(&["SESSION", "WHO", "SINCE", "SEEN", "STATE", "RUNS", "OF", "QUEUES", "KINDS", "TAGS"]);
    for row in &workers.rows {
        let state = match (row.is_lost(workers.now), row.draining) {
            (true, _) => "gone",
            (false, true) => "draining",
            (false, false) => "alive",
        };
        table.row([
            &row.id as &dyn core::fmt::Display,
            &row.owner,
            &row.started_at,
            &row.seen_at,
            &state,
            &row.running,
            &row.about.concurrency,
            &row.about.queues.join(" "),
            &row.about.kinds.join(" "),
            &row.about.tags.join(" "),
        ]);
    }
    table.print()
}
