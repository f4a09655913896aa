//! `onceward services`: which are there, who runs them when, what became of their cycles.

use core::fmt::Display;
use core::time::Duration;
use std::process::ExitCode;

use clap::Subcommand;
use onceward::duration::format;
use onceward::service::{Mode, TermRecord};
use onceward::store::{ListedServices, ServiceRecord, ServiceView};
use onceward::{Admin, Result, ServiceName, Timestamp};
use onceward_core::service::plan;
use serde_json::{Value, json};

use crate::args::Globals;
use crate::output::{self, Table};
use crate::{exit, report, store};

/// Look at services and their cycles, pause and resume them, run one now
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The services of the namespace
    List,
    /// One service: what it is set to, its last terms, and the slots of its runners in this cycle
    Show(Which),
    /// The newest cycles: who ran them, how they ended, which were missed and why
    History(History),
    /// Begin no more terms; one that runs goes on
    Pause(Pause),
    /// Begin terms again; what was missed is not made up for
    Resume(Which),
    /// Run it once as soon as a runner is free, beside its cycles
    RunNow(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The service
    #[arg(value_name = "NAME", value_parser = service)]
    name: ServiceName,
}

#[derive(Debug, clap::Args)]
struct History {
    #[command(flatten)]
    which: Which,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
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

fn service(text: &str) -> Result<ServiceName> {
    ServiceName::new(text)
}

/// How many terms a look at one service shows.
const SHOWN: usize = 5;

pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect(globals).await?;
    let done = act(&args.action, &client.admin(), globals).await;
    store::close(globals, &client).await;
    done?;
    Ok(ExitCode::from(exit::DONE))
}

async fn act(action: &Action, admin: &Admin, globals: &Globals) -> Result<()> {
    match action {
        Action::List => list(&admin.services().await?, globals),
        Action::Show(Which { name }) => show(&admin.service(name, 100).await?, globals),
        Action::History(History { which, limit }) => {
            history(&admin.service_history(&which.name, usize::from(*limit)).await?, globals)
        }
        Action::Pause(Pause { which: Which { name }, reason }) => {
            let paused = admin.pause_service(name, reason.as_deref()).await?;
            report::note(&format!("{name} {}", if paused { "is paused" } else { "was paused before" }));
            Ok(())
        }
        Action::Resume(Which { name }) => {
            let resumed = admin.resume_service(name).await?;
            report::note(&format!("{name} {}", if resumed { "goes on" } else { "was not paused" }));
            Ok(())
        }
        Action::RunNow(Which { name }) => {
            admin.run_service_now(name).await?;
            report::note(&format!("{name} will be run as soon as a runner is free"));
            Ok(())
        }
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Cycle => "once per cycle",
        Mode::PerRunner => "per runner",
        Mode::Leader => "always on",
    }
}

/// What a service is set to, for programs.
fn value(record: &ServiceRecord) -> Value {
    let setting = &record.setting;
    let spec = &setting.spec;
    json!({
        "namespace": record.namespace,
        "name": record.name,
        "version": record.version,
        "mode": spec.mode,
        "every_ms": spec.every.as_millis() as u64,
        "spread_margin_ms": spec.spread_margin.as_millis() as u64,
        "on_missed": spec.on_missed,
        "catch_up_ms": spec.catch_up.as_millis() as u64,
        "sticky": spec.sticky,
        "since": setting.since,
        "paused": setting.pause(),
        "asked": setting.asked,
    })
}

fn list(services: &ListedServices, globals: &Globals) -> Result<()> {
    for (name, _) in &services.unreadable {
        report::note(&format!("{name} can't be read: nobody runs it (onceward explain OW0009)"));
    }
    if globals.output.is_json() {
        let unreadable = services.unreadable.iter();
        let unreadable = unreadable.map(|(name, version)| output::unreadable(name.as_str(), *version));
        return output::json(&services.rows.iter().map(value).chain(unreadable).collect::<Vec<_>>());
    }
    let mut table = Table::new(&["SERVICE", "MODE", "EVERY", "MARGIN", "ON MISSED", "PAUSED", "WHY"]);
    for record in &services.rows {
        let setting = &record.setting;
        let pause = setting.pause();
        let every =
            if setting.spec.mode == Mode::Leader { String::new() } else { format(setting.spec.every) };
        table.row([
            &record.name as &dyn Display,
            &mode(setting.spec.mode),
            &every,
            &format(setting.spec.spread_margin),
            &setting.spec.on_missed.as_str(),
            &pause.map_or_else(String::new, |pause| pause.at.to_string()),
            &pause.and_then(|pause| pause.reason.as_deref()).unwrap_or_default(),
        ]);
    }
    for (name, _) in &services.unreadable {
        table.row([name as &dyn Display, &output::unreadable_cell(), &"", &"", &"", &"", &""]);
    }
    table.print()
}

/// A runner's part of the cycle.
struct Turn {
    owner: String,
    session: String,
    from: Timestamp,
    until: Timestamp,
    /// How much of its part is left free at its end.
    margin: Duration,
    line: String,
}

/// How many characters a cycle is wide.
const WIDTH: usize = 40;

/// The slots of the cycle of now, in the order of time.
fn turns(view: &ServiceView) -> Vec<Turn> {
    let Some(record) = view.record.as_ref().filter(|row| row.setting.spec.mode != Mode::Leader) else {
        return Vec::new();
    };
    let every = record.setting.spec.every;
    let start = record.setting.start_of(record.setting.cycle_of(view.now));
    let seen = plan::View {
        now: view.now,
        setting: &record.setting,
        runners: &view.runners,
        terms: &view.terms,
        held: view.held,
    };
    let mut turns: Vec<Turn> = view
        .runners
        .iter()
        .filter_map(|runner| {
            let slot = plan::turn_of(&seen, runner.session)?;
            let whole = plan::whole_turn_of(&seen, runner.session).unwrap_or(slot);
            Some(Turn {
                owner: runner.owner.to_string(),
                session: runner.session.to_string(),
                from: start.after(slot.start),
                until: start.after(slot.end),
                margin: whole.end.saturating_sub(slot.end),
                line: line(slot.start, slot.end, view.now.since(start), every),
            })
        })
        .collect();
    turns.sort_by_key(|turn| turn.from);
    turns
}

/// The cycle as a line: `=` where the runner begins, `|` now.
fn line(from: Duration, until: Duration, now: Duration, every: Duration) -> String {
    let at = |time: Duration| (time.as_micros() * WIDTH as u128 / every.as_micros().max(1)) as usize;
    let (from, until) = (at(from), at(until));
    let sign = |column: usize| match column {
        column if column == at(now) => '|',
        column if (from..until.max(from + 1)).contains(&column) => '=',
        _ => '.',
    };
    (0..WIDTH).map(sign).collect()
}

fn show(view: &ServiceView, globals: &Globals) -> Result<()> {
    let Some(record) = &view.record else { return Ok(()) };
    let turns = turns(view);
    if globals.output.is_json() {
        let mut shown = value(record);
        shown["now"] = json!(view.now);
        shown["slots"] = turns
            .iter()
            .map(|turn| {
                json!({
                    "owner": turn.owner, "session": turn.session, "from": turn.from, "until": turn.until,
                    "margin_ms": turn.margin.as_millis() as u64,
                })
            })
            .collect();
        shown["runners"] = json!(view.runners);
        shown["terms"] = json!(view.terms.iter().take(SHOWN).collect::<Vec<_>>());
        return output::json(&shown);
    }
    let (setting, spec) = (&record.setting, &record.setting.spec);
    let mut table = Table::new(&["SERVICE", record.name.as_str()]);
    table.field("mode", Some(&mode(spec.mode)));
    if spec.mode != Mode::Leader {
        table.field("every", Some(&format(spec.every)));
        table.field("margin", Some(&format(spec.spread_margin)));
        table.field("cycle", Some(&setting.cycle_of(view.now)));
        table.field("on missed", Some(&spec.on_missed.as_str()));
    }
    let pause = setting.pause();
    table.field("paused", pause.map(|pause| &pause.at as &dyn Display));
    table.field("why", pause.and_then(|pause| pause.reason.as_ref()).map(|why| why as &dyn Display));
    table.field("runners", Some(&view.runners.len()));
    let waiting = Some(setting.asked.len()).filter(|count| *count > 0);
    table.field("asked for", waiting.as_ref().map(|count| count as &dyn Display));
    table.print()?;
    if !turns.is_empty() {
        let mut slots = Table::new(&["RUNNER", "FROM", "UNTIL", "LONG", "MARGIN", "THIS CYCLE"]);
        for turn in &turns {
            let (long, margin) = (format(turn.until.since(turn.from)), format(turn.margin));
            slots.row([&turn.owner as &dyn Display, &turn.from, &turn.until, &long, &margin, &turn.line]);
        }
        output::text("\n")?;
        slots.print()?;
    }
    output::text("\n")?;
    terms(view.terms.iter().take(SHOWN)).print()
}

fn history(all: &[TermRecord], globals: &Globals) -> Result<()> {
    if globals.output.is_json() {
        return output::json(&all);
    }
    terms(all.iter()).print()
}

fn terms<'a>(all: impl Iterator<Item = &'a TermRecord>) -> Table {
    let mut table = Table::new(&["CYCLE", "DUE", "OUTCOME", "RUNNER", "TOKEN", "STARTED", "TOOK", "WHY"]);
    for term in all {
        let cycle = match term.cycles {
            1 => term.cycle.to_string(),
            many => format!("{} to {}", term.cycle, term.cycle + many - 1),
        };
        let took = term.ended_at.filter(|_| term.was_begun()).map(|end| format(end.since(term.started_at)));
        table.row([
            &cycle as &dyn Display,
            &term.due_at,
            &term.outcome.as_str(),
            &term.owner.as_ref().map_or("", |owner| owner.as_str()),
            &if term.was_begun() { term.token.to_string() } else { String::new() },
            &if term.was_begun() { term.started_at.to_string() } else { String::new() },
            &took.unwrap_or_default(),
            &term.reason.as_deref().unwrap_or_default(),
        ]);
    }
    table
}
