//! `onceward worker`: takes jobs and runs a command for each.
//!
//! Read in this order: this file → `allowed.rs` (which commands) → `command.rs` (one attempt).

mod allowed;
mod command;

use core::time::Duration;
use std::path::PathBuf;
use std::process::ExitCode;

use onceward::worker::{WorkerBuilder, WorkerHandle};
use onceward::{Code, Error, Onceward, Result};

use self::allowed::Allowed;
use crate::args::{Globals, duration};
use crate::process::Signals;
use crate::{exit, report, store};

/// Take jobs and run a command for each, as a file allows
///
/// The file names the kinds, and for each of them a program with its arguments. A job never says what is run, only
/// which of them. The program gets the payload on stdin, and ONCEWARD_JOB_ID, ONCEWARD_ATTEMPT and
/// ONCEWARD_FENCING_TOKEN in its environment; what it prints to stdout is the result of the job. Exit code 0 is done,
/// 75 says that it did nothing and wants to be tried again, 76 that nobody knows whether it did; anything else is a
/// failed attempt.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The queues to take jobs from, separated by commas
    #[arg(long, value_name = "QUEUES", value_delimiter = ',', default_value = "default")]
    queues: Vec<String>,
    /// The file of allowed commands: TOML, a table `kinds` of lines like report = ["./report", "--quiet"]
    #[arg(long, value_name = "FILE")]
    commands: Option<PathBuf>,
    /// How many commands run at the same time
    #[arg(long, value_name = "N", default_value_t = 10)]
    concurrency: usize,
    /// What this worker offers to jobs with tags; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Leave it to others to enqueue what schedules are due for, and to forget what is over
    #[arg(long)]
    no_services: bool,
    /// End when the queues hold nothing more that this worker could run
    #[arg(long)]
    until_empty: bool,
    /// With --until-empty: also wait for jobs that are due within this time
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h", requires = "until_empty")]
    horizon: Duration,
    /// How long commands may go on after this worker was asked to end
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    grace: Duration,
    /// How long a dead worker's jobs wait before others take them
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "15s")]
    session_ttl: Duration,
    /// How long a command has between TERM and KILL
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    kill_after: Duration,
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let Some(file) = &args.commands else {
        let why = "this worker has no handler: name a file of allowed commands with --commands";
        return Err(Error::new(Code::WorkerIdle, why));
    };
    let allowed = Allowed::read(file)?;
    let client = store::connect(globals).await?;
    let signals = Signals::catch()?;
    let worker = builder(args, &client, allowed);
    let ended = if args.until_empty {
        until_empty(worker, args.horizon, &signals).await
    } else {
        until_told(if args.no_services { worker } else { worker.scheduler().upkeep() }, &signals).await
    };
    store::close(globals, &client).await;
    ended?;
    Ok(ExitCode::from(exit::DONE))
}

fn builder(args: &Args, client: &Onceward, allowed: Allowed) -> WorkerBuilder {
    let worker = client
        .worker()
        .queues(&args.queues)
        .tags(&args.tags)
        .concurrency(args.concurrency)
        .grace(args.grace)
        .session_ttl(args.session_ttl);
    let kill_after = args.kill_after;
    allowed.0.into_iter().fold(worker, |worker, (kind, line)| {
        worker.raw(kind, move |job| command::run(line.clone(), job, kill_after))
    })
}

/// Works until a signal comes; the second one ends the patience.
async fn until_told(worker: WorkerBuilder, signals: &Signals) -> Result<()> {
    let worker = worker.start().await?;
    signals.next().await;
    leave(worker, signals).await;
    Ok(())
}

/// As [`until_told`], or until nothing is left to do.
async fn until_empty(worker: WorkerBuilder, horizon: Duration, signals: &Signals) -> Result<()> {
    let worker = worker.start().await?;
    let empty = tokio::select! {
        empty = worker.empty(horizon) => empty,
        _ = signals.next() => {
            leave(worker, signals).await;
            return Ok(());
        }
    };
    worker.shutdown().await;
    empty
}

async fn leave(worker: WorkerHandle, signals: &Signals) {
    report::note("ending: what runs may come to its end; once more to leave at once");
    tokio::select! {
        () = worker.shutdown() => {}
        _ = signals.next() => {}
    }
}
