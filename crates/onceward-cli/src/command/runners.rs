//! `onceward runners`: the processes that run services.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use clap::Subcommand;
use onceward::service::{Runner, TermRecord};
use onceward::store::Snapshot;
use onceward::{Admin, Code, ListedRunner, Result, ServiceName, SessionId};
use serde_json::{Value, json};

use crate::args::Globals;
use crate::output::{self, Table};
use crate::{exit, report, store};

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
    let runners = look(&client.admin()).await;
    store::close(globals, &client).await;
    let (runners, last) = runners?;
    print(&runners, &last, globals)?;
    Ok(ExitCode::from(exit::DONE))
}

/// The last term that each runner began, by its service.
type Last = BTreeMap<String, BTreeMap<SessionId, TermRecord>>;

async fn look(admin: &Admin) -> Result<(Snapshot<ListedRunner>, Last)> {
    let runners = admin.runners().await?;
    let services: BTreeSet<&String> = runners.rows.iter().flat_map(|row| &row.services).collect();
    let mut last = Last::new();
    for name in services {
        match admin.last_terms(&ServiceName::new(name)?).await {
            Ok(terms) => drop(last.insert(name.clone(), terms)),
            // It has just been declared by a session, or its row is damaged: its runners are there all the same.
            Err(error) if matches!(error.code(), Code::ServiceUnknown | Code::RowUnreadable) => {
                report::note(&format!("{name}: {error} (onceward explain {})", error.code().as_str()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((runners, last))
}

/// What a runner began last of a service.
fn term_of<'a>(last: &'a Last, service: &str, runner: &Runner) -> Option<&'a TermRecord> {
    last.get(service)?.get(&runner.session)
}

fn state(runner: &Runner, now: onceward::Timestamp) -> &'static str {
    match (runner.expires_at <= now, runner.draining) {
        (true, _) => "lost",
        (_, true) => "draining",
        _ => "alive",
    }
}

fn print(runners: &Snapshot<ListedRunner>, last: &Last, globals: &Globals) -> Result<()> {
    if globals.output.is_json() {
        let rows = runners.rows.iter().map(|row| {
            let mut value = json!(row);
            value["state"] = json!(state(&row.runner, runners.now));
            let terms = row.services.iter().filter_map(|service| term_of(last, service, &row.runner));
            value["last"] = json!(terms.collect::<Vec<_>>());
            value
        });
        return output::json(&rows.collect::<Vec<Value>>());
    }
    let mut table = Table::new(&[
        "SESSION",
        "OWNER",
        "VERSION",
        "STARTED",
        "SEEN",
        "STATE",
        "SERVICE",
        "LAST BEGAN",
        "LAST ENDED",
        "OUTCOME",
        "KINDS",
        "TAGS",
    ]);
    for row in &runners.rows {
        let ListedRunner { runner, services, version, kinds, tags } = row;
        for service in services {
            let term = term_of(last, service, runner);
            let began = term.map(|term| term.started_at.to_string());
            let ended = term.and_then(|term| term.ended_at).map(|at| at.to_string());
            table.row([
                &runner.session as &dyn core::fmt::Display,
                &runner.owner,
                version,
                &runner.started_at,
                &runner.seen_at,
                &state(runner, runners.now),
                service,
                &began.unwrap_or_default(),
                &ended.unwrap_or_default(),
                &term.map_or("", |term| term.outcome.as_str()),
                &kinds.join(" "),
                &tags.join(" "),
            ]);
        }
    }
    table.print()
}
