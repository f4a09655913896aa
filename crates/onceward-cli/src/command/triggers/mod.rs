//! `onceward triggers`: what follows from what has become of jobs.
//!
//! Read in this order: this file → `add.rs`.

mod add;

use core::fmt::Display;
use core::time::Duration;
use std::process::ExitCode;

use clap::Subcommand;
use onceward::duration::format;
use onceward::trigger::{Condition, Rule, Trigger};
use onceward::{Admin, Code, Onceward, Result, TriggerName};
use serde_json::json;

use crate::args::Globals;
use crate::output::{self, Table};
use crate::{exit, report, store};

/// Enqueue jobs because of what has become of others: declare triggers, look at them, pause and remove them
///
/// What ends is written down with its end; the workers of the namespace act on it, one of them at a time, about half a
/// second later, and once for each outcome. A job without a payload gets what has happened.
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Declare a trigger, or change the one of that name
    Add(Box<add::Args>),
    /// The triggers of the namespace, by name
    List(List),
    /// One trigger: what it listens to, what has followed, what waits, what was stopped
    Show(Which),
    /// Hear nothing
    Pause(Pause),
    /// Hear again; what ended meanwhile is not made up for
    Resume(Which),
    /// Remove a trigger; its jobs stay
    Rm(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The trigger
    #[arg(value_name = "NAME", value_parser = trigger)]
    name: TriggerName,
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only those after this name
    #[arg(long, value_name = "NAME", value_parser = trigger)]
    after: Option<TriggerName>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
}

#[derive(Debug, clap::Args)]
struct Pause {
    #[command(flatten)]
    which: Which,
    /// Why, for those who wonder
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

fn trigger(text: &str) -> Result<TriggerName> {
    TriggerName::new(text)
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect(globals).await?;
    let done = act(&args.action, &client, globals).await;
    store::close(globals, &client).await;
    done?;
    Ok(ExitCode::from(exit::DONE))
}

async fn act(action: &Action, client: &Onceward, globals: &Globals) -> Result<()> {
    let admin = client.admin();
    match action {
        Action::Add(args) => show(&add::run(args, client).await?, globals),
        Action::List(args) => list(args, &admin, globals).await,
        Action::Show(Which { name }) => show(&admin.trigger(name).await?, globals),
        Action::Pause(Pause { which: Which { name }, reason }) => {
            let paused = admin.pause_trigger(name, reason.as_deref()).await?;
            report::note(&format!("{name} {}", if paused { "is paused" } else { "was paused before" }));
            Ok(())
        }
        Action::Resume(Which { name }) => {
            let resumed = admin.resume_trigger(name).await?;
            report::note(&format!("{name} {}", if resumed { "goes on" } else { "was not paused" }));
            Ok(())
        }
        Action::Rm(Which { name }) => {
            admin.remove_trigger(name).await?;
            report::note(&format!("{name} is gone"));
            Ok(())
        }
    }
}

async fn list(args: &List, admin: &Admin, globals: &Globals) -> Result<()> {
    let found = admin.triggers(args.after.as_ref(), usize::from(args.limit)).await?;
    for (name, _) in &found.unreadable {
        report::note(&format!("{name} can't be read: nothing is enqueued by it (onceward explain OW0009)"));
    }
    if globals.output.is_json() {
        let unreadable = found.unreadable.iter();
        let unreadable = unreadable.map(|(name, version)| output::unreadable(name.as_str(), *version));
        return output::json(&found.rows.iter().map(|row| json!(row)).chain(unreadable).collect::<Vec<_>>());
    }
    let mut table =
        Table::new(&["TRIGGER", "ON", "NEEDS", "KIND", "FIRED", "LAST", "STOPPED", "PAUSED", "WHY"]);
    for row in &found.rows {
        let pause = row.pause.as_ref();
        table.row([
            &row.name as &dyn Display,
            &conditions(row).join("; "),
            &needs(&row.definition.rule),
            &row.definition.target.kind,
            &row.fired,
            &row.last.map_or_else(String::new, |last| last.at.to_string()),
            &row.stopped.map_or_else(String::new, |stopped| stopped.count.to_string()),
            &pause.map_or_else(String::new, |pause| pause.at.to_string()),
            &pause.and_then(|pause| pause.reason.as_deref()).unwrap_or_default(),
        ]);
    }
    table.print()
}

fn conditions(row: &Trigger) -> Vec<String> {
    row.definition.conditions.iter().map(Condition::to_string).collect()
}

fn needs(rule: &Rule) -> String {
    match rule {
        Rule::Any => "any".to_owned(),
        Rule::All { by, within_us } => {
            format!("all by {by} within {}", format(Duration::from_micros(*within_us)))
        }
    }
}

fn show(row: &Trigger, globals: &Globals) -> Result<()> {
    if globals.output.is_json() {
        return output::json(&json!(row));
    }
    let definition = &row.definition;
    let mut table = Table::new(&["TRIGGER", row.name.as_str()]);
    for condition in conditions(row) {
        table.field("on", Some(&condition));
    }
    table.field("needs", Some(&needs(&definition.rule)));
    table.field("kind", Some(&definition.target.kind));
    table.field("queue", Some(&definition.target.queue));
    let payload = if definition.tells { "what has happened" } else { "its own" };
    table.field("payload", Some(&payload));
    table.field("created", Some(&row.created_at));
    table.field("paused", row.pause.as_ref().map(|pause| &pause.at as &dyn Display));
    let why = row.pause.as_ref().and_then(|pause| pause.reason.as_ref());
    table.field("why", why.map(|why| why as &dyn Display));
    table.field("fired", Some(&row.fired));
    let last = row.last.map(|last| format!("{} as job {}", last.at, last.job));
    table.field("last", last.as_ref().map(|last| last as &dyn Display));
    table.field(
        "waiting",
        Some(&row.waiting()).filter(|_| row.waiting() > 0).map(|count| count as &dyn Display),
    );
    table.field(
        "forgotten",
        Some(&row.forgotten).filter(|count| **count > 0).map(|count| count as &dyn Display),
    );
    let code = Code::TriggerLoop.as_str();
    let stopped = row
        .stopped
        .map(|stopped| format!("{} times, the last by job {} ({code})", stopped.count, stopped.job));
    table.field("stopped", stopped.as_ref().map(|stopped| stopped as &dyn Display));
    table.print()
}
