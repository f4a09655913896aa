//! `onceward schedules`: what is enqueued by the clock.
//!
//! Read in this order: this file → `add.rs`.

mod add;

use core::fmt::Display;
use std::process::ExitCode;

use clap::Subcommand;
use onceward::duration::format;
use onceward::schedule::{Backfill, Schedule};
use onceward::store::ListedSchedules;
use onceward::{Admin, Code, Error, Onceward, Result, ScheduleName, Timestamp};
use serde_json::json;

use crate::args::Globals;
use crate::output::{self, Table};
use crate::{exit, report, store};

/// Enqueue jobs by the clock: declare schedules, look at them, pause, trigger and fill in
///
/// What is due is enqueued by the workers of the namespace, by one of them at a time; each tick once, however often
/// that one changes.
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Declare a schedule, or change the one of that name
    Add(Box<add::Args>),
    /// The schedules of the namespace, by name
    List(List),
    /// One schedule and its next ticks
    Show(Which),
    /// Enqueue nothing of it
    Pause(Pause),
    /// Enqueue again; ticks that came meanwhile are not made up for
    Resume(Which),
    /// Enqueue its job now, beside its ticks
    Trigger(Which),
    /// Enqueue the ticks of a range in the past of which there is no job
    Backfill(Fill),
    /// Remove a schedule; its jobs stay
    Rm(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The schedule
    #[arg(value_name = "NAME", value_parser = schedule)]
    name: ScheduleName,
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only those after this name
    #[arg(long, value_name = "NAME", value_parser = schedule)]
    after: Option<ScheduleName>,
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

#[derive(Debug, clap::Args)]
struct Fill {
    #[command(flatten)]
    which: Which,
    /// The first tick may come at this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Timestamp,
    /// All ticks come before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Timestamp,
    /// Only say which ticks those are
    #[arg(long)]
    dry_run: bool,
}

fn schedule(text: &str) -> Result<ScheduleName> {
    ScheduleName::new(text)
}

fn time(text: &str) -> Result<Timestamp> {
    text.parse()
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
        Action::Add(args) => show(&add::run(args, client).await?, &[], globals),
        Action::List(List { after, limit }) => {
            let found = admin.schedules(after.as_ref(), usize::from(*limit)).await?;
            for (name, _) in &found.unreadable {
                let why =
                    format!("{name} can't be read: nothing is enqueued of it (onceward explain OW0009)");
                report::note(&why);
            }
            list(&found, globals)
        }
        Action::Show(Which { name }) => {
            let row = admin.schedule(name).await?;
            show(&row, &next(&row), globals)
        }
        Action::Backfill(args) => fill(args, &admin, globals).await,
        Action::Trigger(Which { name }) => {
            let job = admin.trigger_schedule(name).await?;
            match globals.output.is_json() {
                true => output::json(&json!({ "job": job })),
                false => output::text(&format!("{job}\n")),
            }
        }
        Action::Pause(_) | Action::Resume(_) | Action::Rm(_) => change(action, &admin).await,
    }
}

async fn change(action: &Action, admin: &Admin) -> Result<()> {
    let note = match action {
        Action::Pause(Pause { which: Which { name }, reason }) => {
            match admin.pause_schedule(name, reason.as_deref()).await? {
                true => format!("{name} is paused"),
                false => format!("{name} was paused before"),
            }
        }
        Action::Resume(Which { name }) => match admin.resume_schedule(name).await? {
            true => format!("{name} goes on"),
            false => format!("{name} was not paused"),
        },
        Action::Rm(Which { name }) => {
            admin.remove_schedule(name).await?;
            format!("{name} is gone")
        }
        _ => return Err(Error::new(Code::UsageInvalid, "this changes nothing")),
    };
    report::note(&note);
    Ok(())
}

async fn fill(args: &Fill, admin: &Admin, globals: &Globals) -> Result<()> {
    let Fill { which, from, until, dry_run } = args;
    let filled: Backfill = admin.backfill_schedule(&which.name, *from, *until, *dry_run).await?;
    if globals.output.is_json() {
        return output::json(&filled);
    }
    let (ticks, jobs) = (filled.ticks.len(), filled.enqueued.len());
    let what = if *dry_run { "would be enqueued" } else { "were enqueued" };
    report::note(&format!("{ticks} ticks lie in that range; the jobs of {jobs} {what}"));
    output::text(&filled.enqueued.iter().map(|job| format!("{job}\n")).collect::<String>())
}

/// How many ticks to come are shown.
const AHEAD: usize = 5;

fn next(row: &Schedule) -> Vec<Timestamp> {
    let ticks = core::iter::successors(row.next_at, |tick| row.definition.when.next_after(*tick));
    ticks.take(AHEAD).collect()
}

fn optional(at: Option<Timestamp>) -> String {
    at.map_or_else(String::new, |at| at.to_string())
}

fn list(found: &ListedSchedules, globals: &Globals) -> Result<()> {
    let rows = &found.rows;
    if globals.output.is_json() {
        let unreadable = found.unreadable.iter();
        let unreadable = unreadable.map(|(name, version)| output::unreadable(name.as_str(), *version));
        return output::json(&rows.iter().map(|row| json!(row)).chain(unreadable).collect::<Vec<_>>());
    }
    let mut table =
        Table::new(&["SCHEDULE", "WHEN", "KIND", "NEXT", "LAST", "ON MISSED", "OVERLAP", "PAUSED", "WHY"]);
    for row in rows {
        let definition = &row.definition;
        table.row([
            &row.name as &dyn Display,
            &definition.when,
            &definition.target.kind,
            &optional(row.next_at),
            &optional(row.last.map(|last| last.tick)),
            &definition.on_missed.as_str(),
            &definition.overlap.as_str(),
            &optional(row.pause.as_ref().map(|pause| pause.at)),
            &row.pause.as_ref().and_then(|pause| pause.reason.as_deref()).unwrap_or_default(),
        ]);
    }
    table.print()
}

fn show(row: &Schedule, ahead: &[Timestamp], globals: &Globals) -> Result<()> {
    if globals.output.is_json() {
        let mut shown = json!(row);
        shown["ahead"] = json!(ahead);
        return output::json(&shown);
    }
    let definition = &row.definition;
    let mut table = Table::new(&["SCHEDULE", row.name.as_str()]);
    table.field("when", Some(&definition.when));
    table.field("kind", Some(&definition.target.kind));
    table.field("queue", Some(&definition.target.queue));
    table.field(
        "on missed",
        Some(&format!("{} within {}", definition.on_missed.as_str(), format(definition.window))),
    );
    table.field("overlap", Some(&definition.overlap.as_str()));
    table.field("jitter", Some(&format(definition.jitter)));
    table.field("created", Some(&row.created_at));
    table.field("paused", row.pause.as_ref().map(|pause| &pause.at as &dyn Display));
    let last = row.last.map(|last| format!("{} as job {}", last.tick, last.job));
    table.field("last", last.as_ref().map(|last| last as &dyn Display));
    let by_hand: Vec<String> =
        row.by_hand.iter().map(|last| format!("{} as job {}", last.tick, last.job)).collect();
    for asked in &by_hand {
        table.field("by hand", Some(asked));
    }
    table.field("next", row.next_at.as_ref().map(|at| at as &dyn Display));
    for tick in ahead.iter().skip(1) {
        table.field("then", Some(tick));
    }
    table.print()
}
