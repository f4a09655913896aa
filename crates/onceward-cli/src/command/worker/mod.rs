//! `onceward worker`: takes jobs, delivers those that are HTTP requests, and runs a command for each of the others.
//!
//! Read in this order: this file → `allowed.rs` (which commands) → `command.rs` (one attempt).

mod allowed;
mod command;

use core::time::Duration;
use std::path::PathBuf;
use std::process::ExitCode;

use onceward::http_jobs::HttpDelivery;
use onceward::worker::{WorkerBuilder, WorkerHandle};
use onceward::{Code, Error, Onceward, Result};

use self::allowed::Allowed;
use crate::Functions;
use crate::args::{Globals, duration};
use crate::delivery::{Allow, named_secrets, seal_keys};
use crate::process::Signals;
use crate::{exit, report, store};

/// Take jobs: deliver HTTP requests, and run a command for each of the others, as a file allows
///
/// Jobs of the kind http are delivered to public hosts over TLS, or to what the flags allow. With
/// ONCEWARD_PROFILE=production, the hosts have to be named.
///
/// The file of commands names the kinds, and for each of them a program with its arguments. A job never says what is
/// run, only which of them. The program gets the payload on stdin, and ONCEWARD_JOB_ID, ONCEWARD_ATTEMPT and
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
    /// How many jobs run at the same time [default: 10 with commands, 100 without]
    #[arg(long, value_name = "N")]
    concurrency: Option<usize>,
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
    /// Don't deliver HTTP jobs
    #[arg(long, conflicts_with_all = [
        "allow_http", "allow_private", "allow_hosts", "allow_ports", "signing_secrets", "ca_files",
    ])]
    no_http: bool,
    /// Sign HTTP requests with the secret in this file, as [NAME=]FILE; with several, with each of them. One with a
    /// NAME signs those that were enqueued with --sign-with NAME, the others sign the rest
    #[arg(long = "signing-secret-file", value_name = "FILE")]
    signing_secrets: Vec<String>,
    /// Trust the authorities in this PEM file beside those of the system; may be given several times
    #[arg(long = "ca-file", value_name = "FILE")]
    ca_files: Vec<PathBuf>,
    #[command(flatten)]
    allow: Allow,
}

pub(crate) async fn run(args: &Args, globals: &Globals, functions: Functions<'_>) -> Result<ExitCode> {
    if args.commands.is_none() && args.no_http && functions.is_none() {
        let why = "this worker has no handler: name a file of allowed commands with --commands";
        return Err(Error::new(Code::WorkerIdle, why));
    }
    let allowed = args.commands.as_deref().map(Allowed::read).transpose()?;
    let delivery = if args.no_http { None } else { Some(delivery(args)?) };
    let client = store::connect(globals).await?;
    let signals = Signals::catch()?;
    let worker = builder(args, &client, allowed);
    let worker = match functions {
        Some(functions) => functions(worker),
        None => worker,
    };
    let worker = match delivery {
        Some(delivery) => worker.http(delivery),
        None => worker,
    };
    let ended = if args.until_empty {
        until_empty(worker, args.horizon, &signals).await
    } else {
        until_told(if args.no_services { worker } else { worker.scheduler().upkeep() }, &signals).await
    };
    store::close(globals, &client).await;
    ended?;
    Ok(ExitCode::from(exit::DONE))
}

/// How HTTP jobs are delivered.
fn delivery(args: &Args) -> Result<HttpDelivery> {
    let mut delivery = HttpDelivery::new().policy(args.allow.strict_policy()?);
    for text in &args.signing_secrets {
        let (name, secrets) = named_secrets(text)?;
        delivery = secrets.into_iter().fold(delivery, |delivery, secret| delivery.sign_as(name, secret));
    }
    for file in &args.ca_files {
        delivery = delivery.root_certificates_pem(file)?;
    }
    Ok(match seal_keys()? {
        Some(keys) => delivery.seal_keys(keys),
        None => delivery,
    })
}

fn builder(args: &Args, client: &Onceward, allowed: Option<Allowed>) -> WorkerBuilder {
    let usual = if allowed.is_some() { 10 } else { 100 };
    let worker = client
        .worker()
        .queues(&args.queues)
        .tags(&args.tags)
        .concurrency(args.concurrency.unwrap_or(usual))
        .grace(args.grace)
        // A command that was told to stop has that long, and is waited for.
        .leave(args.kill_after.saturating_add(Duration::from_secs(1)))
        .session_ttl(args.session_ttl);
    let kill_after = args.kill_after;
    allowed.map(|allowed| allowed.0).into_iter().flatten().fold(worker, |worker, (kind, line)| {
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
