//! `onceward once --key K -- CMD`: claim, run, record; or replay what was recorded.

use core::cell::Cell;
use core::time::Duration;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use clap::ValueEnum;
use onceward::once::OnceBuilder;
use onceward::{Attempt, NotDone, Onceward, Result, Token, limits};
use onceward_core::once::Body;

use super::recorded::{self, Recorded};
use super::status::StatusFile;
use super::tell;
use crate::args::{Globals, duration};
use crate::process::capture::{Capture, Printed};
use crate::process::{self, Child, Signals};
use crate::{exit, report, store};

#[derive(Debug, clap::Args)]
#[group(id = "run")]
pub(super) struct Args {
    /// What is to be done once; 1 to 255 bytes
    #[arg(long, value_name = "KEY", required = true)]
    pub(super) key: String,
    /// How soon others notice that this process has died [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    ttl: Option<Duration>,
    /// How long the command may run at most. It gets TERM the time of --kill-after before the limit (but not before
    /// three quarters of it), KILL at the limit, and the key is uncertain then [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    hard_ttl: Option<Duration>,
    /// How long the outcome is kept and replayed; after that the key may run again [default: 30 days]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    retain: Option<Duration>,
    /// If it is running elsewhere, wait for the outcome, at most this long [without a duration: as long as it runs]
    #[arg(long, value_name = "DURATION", value_parser = duration, num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "not given, given alone, given with a duration")]
    wait: Option<Option<Duration>>,
    /// Doing it twice is harmless: run an uncertain key again
    #[arg(long)]
    restartable: bool,
    /// What the request is: the same key with another fingerprint is refused
    #[arg(long, value_name = "TEXT")]
    fingerprint: Option<String>,
    /// What an exit code other than 0 says about the command [default: uncertain]
    #[arg(long, value_name = "MEANING", value_enum)]
    on_failure: Option<OnFailure>,
    /// Write what came of it to this file, as one JSON object: outcome, exit_code, token, replayed, code
    #[arg(long, value_name = "FILE")]
    status_file: Option<PathBuf>,
    /// How long the command has between TERM and KILL when the claim is lost, as far as the claim lasts [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    kill_after: Option<Duration>,
    /// Who runs it, as shown to others [default: HOST:PID]
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// The command, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What an exit code other than 0 says about the command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum OnFailure {
    /// Nothing: the key is uncertain
    #[default]
    Uncertain,
    /// That it failed for good: the failure is recorded and replayed
    Record,
    /// That it did nothing: the next call runs it again
    Retry,
}

/// How the command ended, as far as this process saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    Failed,
    /// It said itself that it did nothing.
    NotStarted,
    /// There was no such command, or it could not be executed.
    Refused,
    Unknown,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let status = StatusFile::open(args.status_file.as_deref())?;
    let told = match Box::pin(once(args, globals, status.is_wanted())).await {
        Ok(told) => told,
        Err(error) => tell::Told::refused(&error),
    };
    status.write(&told)?;
    Ok(ExitCode::from(told.exit_code))
}

async fn once(args: &Args, globals: &Globals, status_wanted: bool) -> Result<tell::Told> {
    let client = store::connect_as(globals, args.owner.as_deref()).await?;
    let (signals, started) = (Signals::catch()?, Cell::new(false));
    let mut work = Work { args, client: &client, signals: &signals, token: None, ended: None, running: None };
    let running = builder(args, &client).run_bytes(async |attempt| {
        started.set(true);
        work.run(&attempt).await
    });
    let outcome = tokio::select! {
        biased;
        outcome = running => outcome,
        signal = signals.before(&started) => {
            store::close(globals, &client).await;
            return Ok(tell::Told::interrupted(process::exit_code_of(signal)));
        }
    };
    // Still there if it did not end in time, and the future that waited for it is gone.
    work.stop().await;
    let ran = tell::Ran { token: work.token, ended: work.ended };
    let told = match outcome {
        Ok(outcome) => tell::outcome(&client, &args.key, outcome, &ran, status_wanted).await,
        Err(error) => Err(error),
    };
    store::close(globals, &client).await;
    told
}

fn kill_after(args: &Args) -> Duration {
    args.kill_after.unwrap_or(process::KILL_AFTER)
}

/// How long a command that was killed may take to be gone.
const REAPED_WITHIN: Duration = Duration::from_millis(500);

fn builder(args: &Args, client: &Onceward) -> OnceBuilder {
    let mut builder = client.once(&args.key).no_hard_ttl().restartable(args.restartable);
    builder =
        builder.stop_within(kill_after(args).saturating_add(REAPED_WITHIN).min(limits::STOP_WITHIN_MAX));
    if let Some(ttl) = args.ttl {
        builder = builder.ttl(ttl);
    }
    if let Some(hard_ttl) = args.hard_ttl {
        builder = builder.hard_ttl(hard_ttl);
    }
    if let Some(retain) = args.retain {
        builder = builder.retain_for(retain);
    }
    if let Some(wait) = args.wait {
        // Whoever runs it either ends or runs out of time: this is as long as it takes.
        builder = builder.wait(wait.unwrap_or(limits::HARD_TTL_MAX));
    }
    if let Some(fingerprint) = &args.fingerprint {
        builder = builder.fingerprint_bytes(fingerprint);
    }
    builder
}

/// The command being run under its claim, kept outside of the future that the claim may cancel.
struct Work<'a> {
    args: &'a Args,
    client: &'a Onceward,
    signals: &'a Signals,
    token: Option<Token>,
    ended: Option<(Ended, u8)>,
    running: Option<(Child, Capture)>,
}

impl Work<'_> {
    async fn run(&mut self, attempt: &Attempt) -> Result<Body, NotDone> {
        self.token = Some(attempt.token());
        let started = match start(self.args, attempt, self.client) {
            Ok(started) => started,
            Err(error) => {
                report::error(&error);
                self.ended = Some((Ended::Refused, exit::NOT_EXECUTABLE));
                return Err(NotDone::not_started(error));
            }
        };
        let (child, capture) = self.running.insert(started);
        let status = tokio::select! {
            biased;
            status = child.wait(self.signals) => status?,
            why = attempt.lost() => {
                // Stopped first, and recorded then: whoever may run it again does not do so beside this one.
                let left = attempt.time_to_stop();
                child.stop(kill_after(self.args).min(left.saturating_sub(REAPED_WITHIN.min(left / 4)))).await;
                return Err(NotDone::unknown(format!("the command was stopped: {why}")));
            }
        };
        let printed = capture.printed().await;
        let (ended, result) = self.ending(status, printed);
        self.ended = Some((ended, process::exit_code(status)));
        result
    }

    /// What the end of the command proves (decided by its exit code and `--on-failure`).
    fn ending(&self, status: ExitStatus, printed: Printed) -> (Ended, Result<Body, NotDone>) {
        if let Some(refusal) = &printed.refusal {
            let reason = format!("the command could not be started: {refusal}");
            return (Ended::Refused, Err(NotDone::not_started(reason)));
        }
        let what = format!("the command ended with {status}");
        match (status.code(), self.args.on_failure.unwrap_or_default()) {
            (Some(0), _) => (Ended::Done, Ok(recorded::body(printed))),
            (Some(code), _) if code == i32::from(exit::HELD) => {
                (Ended::NotStarted, Err(NotDone::not_started(what)))
            }
            (Some(_), OnFailure::Retry) => (Ended::NotStarted, Err(NotDone::not_started(what))),
            (Some(_), OnFailure::Record) => {
                let failure = Recorded::new(process::exit_code(status), printed);
                (Ended::Failed, Err(failure.into_not_done(&what)))
            }
            _ => (Ended::Unknown, Err(NotDone::unknown(what))),
        }
    }

    /// Stops what still runs, and lets our stdout get what was printed.
    async fn stop(&mut self) {
        let Some((mut child, capture)) = self.running.take() else { return };
        child.stop(kill_after(self.args)).await;
        tokio::select! {
            biased;
            () = capture.passed_on() => {}
            // There is no command any more to pass it on to: it says that nobody waits for the rest.
            _ = self.signals.next() => {}
        }
    }
}

fn start(args: &Args, attempt: &Attempt, client: &Onceward) -> Result<(Child, Capture)> {
    let nonce = uuid::Uuid::new_v4().to_string();
    let env = [
        ("ONCEWARD_KEY", attempt.key().to_string()),
        ("ONCEWARD_NAMESPACE", client.namespace().to_string()),
        ("ONCEWARD_FENCING_TOKEN", attempt.token().to_string()),
    ];
    let (child, stdout) = Child::spawn_captured(&args.command, &env, &nonce)?;
    Ok((child, Capture::start(stdout, nonce)))
}
