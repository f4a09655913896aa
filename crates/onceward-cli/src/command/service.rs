//! `onceward service --name N --every D -- CMD`: cron for a cluster, without a scheduler host.

use core::time::Duration;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;
use onceward::service::{OnMissed, ServiceBuilder, Stopped, Term};
use onceward::{Onceward, Result};

use crate::args::{Globals, duration};
use crate::process::{Bound, Signals};
use crate::{exit, report, store};

/// Run a command once per cycle, on one of the hosts that this is started on
///
/// Started on every host, it runs the command somewhere: each cycle once, in turn, under a lease. The command gets
/// ONCEWARD_SERVICE, ONCEWARD_CYCLE, ONCEWARD_DUE_AT, ONCEWARD_NAMESPACE and ONCEWARD_FENCING_TOKEN, and is stopped
/// when the lease is lost. A cycle that could not be begun is recorded with its reason; `services history` shows it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the service is called: the same on every host
    #[arg(long, value_name = "NAME")]
    name: String,
    /// How long a cycle is, 1s to 366 days
    #[arg(long, value_name = "DURATION", value_parser = duration, required_unless_present = "always_on")]
    every: Option<Duration>,
    /// How much of each host's time in the cycle is left free at its end [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    spread_margin: Option<Duration>,
    /// What becomes of cycles that nobody could begin
    #[arg(long, value_name = "POLICY", value_enum, default_value = "skip")]
    on_missed: Missed,
    /// How far back missed cycles are run
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1 day")]
    catch_up: Duration,
    /// Stay on the host of the last cycle, as long as it is there
    #[arg(long)]
    sticky: bool,
    /// Run the command on every host once per cycle, one after the other
    #[arg(long, conflicts_with = "always_on")]
    per_runner: bool,
    /// Run the command on one host all the time
    #[arg(long, conflicts_with = "every")]
    always_on: bool,
    /// How soon others notice that this host has died [default: the interval, between 1s and 15s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    ttl: Option<Duration>,
    /// How long nobody begins after a host was lost [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    lock_delay: Option<Duration>,
    /// How long a dead host keeps its place in the order
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "15s")]
    session_ttl: Duration,
    /// How long the command has between TERM and KILL when this program is told to end
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    kill_after: Duration,
    /// What others see as the runner [default: HOST:PID]
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// The command, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What becomes of missed cycles.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Missed {
    /// They are recorded
    Skip,
    /// The last one is run
    One,
    /// All are run, the oldest first
    All,
}

/// How long a command has after TERM when its lease is lost: soon somebody else may begin.
const KILL_WHEN_LOST: Duration = Duration::from_millis(100);

pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect_as(globals, args.owner.as_deref()).await?;
    let signals = Signals::catch()?;
    let done = serve(args, &client, &signals).await;
    store::close(globals, &client).await;
    done?;
    Ok(ExitCode::from(exit::DONE))
}

async fn serve(args: &Args, client: &Onceward, signals: &Signals) -> Result<()> {
    let (command, kill_after) = (Arc::new(args.command.clone()), args.kill_after);
    let work = move |term: Term| {
        let command = Arc::clone(&command);
        async move { one_term(&command, &term, kill_after).await }
    };
    let service = builder(args, client).does(work)?;
    let runner = client.runner().service(service).session_ttl(args.session_ttl);
    let runner = runner.version(env!("CARGO_PKG_VERSION")).start().await?;
    signals.next().await;
    tokio::select! {
        () = runner.shutdown() => {}
        _ = signals.next() => {}
    }
    Ok(())
}

fn builder(args: &Args, client: &Onceward) -> ServiceBuilder {
    let mut service = client.service(&args.name).catch_up(args.catch_up).grace(args.kill_after * 2);
    service = service.on_missed(match args.on_missed {
        Missed::Skip => OnMissed::Skip,
        Missed::One => OnMissed::One,
        Missed::All => OnMissed::All,
    });
    if let Some(every) = args.every {
        service = service.interval(every);
    }
    if let Some(margin) = args.spread_margin {
        service = service.margin(margin);
    }
    if let Some(ttl) = args.ttl {
        service = service.ttl(ttl);
    }
    if let Some(delay) = args.lock_delay {
        service = service.lock_delay(delay);
    }
    if args.sticky {
        service = service.sticky();
    }
    match (args.per_runner, args.always_on) {
        (true, _) => service.per_runner(),
        (_, true) => service.always_on(),
        _ => service,
    }
}

/// Runs the command for one term. What is left of it when this future is dropped is killed.
async fn one_term(
    command: &[OsString],
    term: &Term,
    kill_after: Duration,
) -> core::result::Result<(), String> {
    let env = [
        ("ONCEWARD_SERVICE", term.service().to_string()),
        ("ONCEWARD_CYCLE", term.cycle().to_string()),
        ("ONCEWARD_DUE_AT", term.due_at().to_string()),
        ("ONCEWARD_NAMESPACE", term.namespace().to_string()),
        ("ONCEWARD_FENCING_TOKEN", term.token().to_string()),
    ];
    let mut child = Bound::spawn(command, &env).map_err(|error| error.to_string())?;
    let why = tokio::select! {
        biased;
        why = term.cancelled() => why,
        status = child.ended() => {
            let status = status.map_err(|error| format!("the command can't be waited for: {error}"))?;
            return if status.success() { Ok(()) } else { Err(format!("the command ended with {status}")) };
        }
    };
    report::note(&format!("the command of cycle {} is being stopped: {why}", term.cycle()));
    let patience = match why {
        Stopped::Leaving => kill_after,
        _ => kill_after.min(KILL_WHEN_LOST),
    };
    child.stop(patience).await;
    Err(format!("the command was stopped: {why}"))
}
