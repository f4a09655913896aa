//! `onceward queues`: what waits where, and stopping it.

use core::time::Duration;
use std::process::ExitCode;

use clap::Subcommand;
use onceward::{Queue, QueueView, Result};

use super::jobs::filter;
use crate::args::{Globals, duration};
use crate::output::{self, Table};
use crate::{exit, report, store};

/// Look at queues, pause and resume them
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
        Action::Pause(args) => admin.pause_queue(&args.which.queue, args.reason.as_deref()).await,
        Action::Resume(args) => admin.resume_queue(&args.queue).await,
        Action::Drain(Drain { pause, within }) => {
            admin.drain_queue(&pause.which.queue, pause.reason.as_deref(), *within).await
        }
    };
    store::close(globals, &client).await;
    done?;
    match &args.action {
        Action::List => {}
        Action::Pause(Pause { which, .. }) => report::note(&format!("{} is paused", which.queue)),
        Action::Resume(which) => report::note(&format!("{} is open again", which.queue)),
        Action::Drain(args) => {
            report::note(&format!("{} is paused and nothing runs", args.pause.which.queue))
        }
    }
    Ok(ExitCode::from(exit::DONE))
}

fn print(queues: &[QueueView], globals: &Globals) -> Result<()> {
    if globals.output.is_json() {
        return output::json(&queues);
    }
    let mut table =
        Table::new(&["QUEUE", "READY", "LATER", "RUNNING", "OLDEST", "PAUSED", "WHY", "UNKNOWN KINDS"]);
    for view in queues {
        let queue = &view.queue;
        let unknown: Vec<&str> = view.unknown.iter().map(|kind| kind.as_str()).collect();
        let optional = |at: &Option<onceward::Timestamp>| at.map_or_else(String::new, |at| at.to_string());
        table.row([
            &queue.queue as &dyn core::fmt::Display,
            &queue.ready,
            &queue.later,
            &queue.running,
            &optional(&queue.oldest),
            &optional(&queue.paused_at),
            &queue.pause_reason.as_deref().unwrap_or_default(),
            &unknown.join(" "),
        ]);
    }
    table.print()
}
