//! `onceward queues`: what waits where, and stopping it.

use core::time::Duration;
use std::process::ExitCode;

use clap::Subcommand;
use onceward::jobs::{KEY_CONCURRENCY, Limits, Rate, Tuning, check_key_concurrency};
use onceward::{Admin, Code, Error, Queue, QueueView, Result};
use serde_json::json;

use super::jobs::filter;
use crate::args::{Globals, duration};
use crate::output::{self, Table};
use crate::{exit, report, store};

/// Look at queues, limit, pause and resume them
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The queues of the namespace: what waits, what runs, and what no worker knows
    List,
    /// Limit how many jobs of a queue, and of each ordering key in it, run at the same time, and how many start in a
    /// time, over all workers; say whether waiting counts as priority, and how long jobs are kept
    Set(Set),
    /// Give no more jobs of a queue to workers; what runs goes on
    Pause(Pause),
    /// Give jobs of a queue to workers again
    Resume(Which),
    /// Pause a queue and wait until nothing of it runs
    Drain(Drain),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The queue
    #[arg(value_name = "QUEUE", value_parser = filter::queue)]
    queue: Queue,
}

#[derive(Debug, clap::Args)]
struct Set {
    #[command(flatten)]
    which: Which,
    /// How many of its jobs run at the same time, or none
    #[arg(long, value_name = "N", value_parser = number)]
    concurrency: Option<Limit<u32>>,
    /// How many start in a time, such as 100/s or 20/1m, or none
    #[arg(long, value_name = "N/TIME", value_parser = rate)]
    rate: Option<Limit<Rate>>,
    /// How many may start at once after a while of less, or none: what the rate gives in a second
    #[arg(long, value_name = "N", value_parser = number)]
    burst: Option<Limit<u32>>,
    /// How many jobs of one ordering key run at the same time, or none: one
    #[arg(long, value_name = "N", value_parser = per_key)]
    per_key: Option<Limit<u32>>,
    /// How much waiting counts as one priority, such as 10m, or none: priorities are strict
    #[arg(long, value_name = "DURATION", value_parser = span)]
    ageing: Option<Limit<Duration>>,
    /// How long jobs are kept that succeeded or were cancelled and say nothing else, or none: 7 days
    #[arg(long, value_name = "DURATION", value_parser = span)]
    retain: Option<Limit<Duration>>,
    /// How long dead jobs are kept, or none: as purge and the upkeep of workers say
    #[arg(long, value_name = "DURATION", value_parser = span)]
    retain_dead: Option<Limit<Duration>>,
}

/// What a limit is set to.
#[derive(Clone, Copy, Debug)]
struct Limit<T>(Option<T>);

fn number(text: &str) -> Result<Limit<u32>> {
    let refused = || {
        let why = format!("\"{}\" is neither a number nor none", text.escape_debug());
        Error::new(Code::LimitInvalid, why)
    };
    limit(text, |text| text.parse().map_err(|_| refused()))
}

fn per_key(text: &str) -> Result<Limit<u32>> {
    let limit = number(text)?;
    limit.0.map_or(Ok(()), check_key_concurrency)?;
    Ok(limit)
}

fn rate(text: &str) -> Result<Limit<Rate>> {
    limit(text, str::parse)
}

fn span(text: &str) -> Result<Limit<Duration>> {
    limit(text, duration)
}

fn limit<T>(text: &str, read: impl Fn(&str) -> Result<T>) -> Result<Limit<T>> {
    if text == "none" { Ok(Limit(None)) } else { read(text).map(|value| Limit(Some(value))) }
}

impl Set {
    /// What it is tuned by from now on: what is not said stays as it is.
    fn tuning_onto(&self, before: Tuning) -> Tuning {
        Tuning {
            ageing: self.ageing.map_or(before.ageing, |limit| limit.0),
            retain: self.retain.map_or(before.retain, |limit| limit.0),
            retain_dead: self.retain_dead.map_or(before.retain_dead, |limit| limit.0),
        }
    }

    /// The limits from now on: what is not said stays as it is.
    fn onto(&self, before: Limits) -> Limits {
        let rate = self.rate.map_or(before.rate, |limit| limit.0);
        // Without a rate there is nothing that a burst could be of.
        let kept = before.burst.filter(|_| rate.is_some());
        Limits {
            concurrency: self.concurrency.map_or(before.concurrency, |limit| limit.0),
            rate,
            burst: self.burst.map_or(kept, |limit| limit.0),
        }
    }
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
struct Drain {
    #[command(flatten)]
    pause: Pause,
    /// How long to wait
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5m")]
    within: Duration,
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect(globals).await?;
    let admin = client.admin();
    let done = match &args.action {
        Action::List => match admin.queues().await {
            Ok(queues) => print(&queues, globals),
            Err(error) => Err(error),
        },
        Action::Set(args) => set(&admin, args, globals).await,
        Action::Pause(args) => admin.pause_queue(&args.which.queue, args.reason.as_deref()).await,
        Action::Resume(args) => admin.resume_queue(&args.queue).await,
        Action::Drain(Drain { pause, within }) => {
            admin.drain_queue(&pause.which.queue, pause.reason.as_deref(), *within).await
        }
    };
    store::close(globals, &client).await;
    done?;
    match &args.action {
        Action::List | Action::Set(_) => {}
        Action::Pause(Pause { which, .. }) => changed(which, true, "is paused", globals)?,
        Action::Resume(which) => changed(which, false, "is open again", globals)?,
        Action::Drain(args) => changed(&args.pause.which, true, "is paused and nothing runs", globals)?,
    }
    Ok(ExitCode::from(exit::DONE))
}

fn changed(Which { queue }: &Which, paused: bool, words: &str, globals: &Globals) -> Result<()> {
    report::note(&format!("{queue} {words}"));
    if globals.output.is_json() {
        output::json(&json!({ "queue": queue, "paused": paused }))?;
    }
    Ok(())
}

async fn set(admin: &Admin, args: &Set, globals: &Globals) -> Result<()> {
    let queue = &args.which.queue;
    let before = admin.queue_tuning(queue).await?;
    let tuning = args.tuning_onto(before);
    // Nothing is written before all was looked at.
    tuning.check()?;
    let limits_before = admin.queue_limits(queue).await?;
    let limits = args.onto(limits_before);
    limits.check()?;
    if limits != limits_before {
        admin.limit_queue(queue, limits).await?;
    }
    if tuning != before {
        admin.tune_queue(queue, tuning).await?;
    }
    let mut most = admin.key_concurrency(queue).await?;
    if let Some(Limit(wanted)) = args.per_key
        && wanted.unwrap_or(KEY_CONCURRENCY) != most
    {
        most = wanted.unwrap_or(KEY_CONCURRENCY);
        admin.limit_keys(queue, most).await?;
    }
    let keys = match most {
        KEY_CONCURRENCY => String::new(),
        most => format!("; of one ordering key {most} run at the same time"),
    };
    let tuned = words(&tuning);
    report::note(&match limits.any() {
        true => format!("{queue} is limited: {limits}{keys}{tuned}"),
        false => format!("{queue} is not limited{keys}{tuned}"),
    });
    match globals.output.is_json() {
        true => output::json(&json!({
            "queue": queue, "limits": limits, "key_concurrency": most, "tuning": tuning,
        })),
        false => Ok(()),
    }
}

fn words(tuning: &Tuning) -> String {
    let Tuning { ageing, retain, retain_dead } = tuning;
    let word = |what: &str, span: &Option<Duration>| {
        span.map_or_else(String::new, |span| format!("; {what} {}", onceward::duration::format(span)))
    };
    [
        word("waiting counts as one priority per", ageing),
        word("jobs are kept for", retain),
        word("dead ones for", retain_dead),
    ]
    .concat()
}

fn print(queues: &[QueueView], globals: &Globals) -> Result<()> {
    if globals.output.is_json() {
        return output::json(&queues);
    }
    let mut table = Table::new(&[
        "QUEUE",
        "READY",
        "LATER",
        "RUNNING",
        "OLDEST",
        "LIMITS",
        "HELD",
        "PER KEY",
        "AGEING",
        "KEPT",
        "PAUSED",
        "WHY",
        "UNKNOWN KINDS",
    ]);
    for view in queues {
        let queue = &view.queue;
        let unknown: Vec<&str> = view.unknown.iter().map(|kind| kind.as_str()).collect();
        let optional = |at: &Option<onceward::Timestamp>| at.map_or_else(String::new, |at| at.to_string());
        let span = |span: Option<Duration>| span.map_or_else(String::new, onceward::duration::format);
        let kept: Vec<String> = [("", queue.tuning.retain), ("dead ", queue.tuning.retain_dead)]
            .into_iter()
            .filter_map(|(what, kept)| Some(format!("{what}{}", onceward::duration::format(kept?))))
            .collect();
        table.row([
            &queue.queue as &dyn core::fmt::Display,
            &queue.ready,
            &queue.later,
            &queue.running,
            &optional(&queue.oldest),
            &queue.limits,
            &queue.limits.concurrency.map_or_else(String::new, |_| queue.held.to_string()),
            &queue.keys_at.map_or_else(String::new, |_| queue.key_concurrency.to_string()),
            &span(queue.tuning.ageing),
            &kept.join(", "),
            &optional(&queue.paused_at),
            &queue.pause_reason.as_deref().unwrap_or_default(),
            &unknown.join(" "),
        ]);
    }
    table.print()
}
