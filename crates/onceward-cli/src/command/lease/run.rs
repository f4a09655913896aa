//! `onceward lease --key K -- CMD`: acquire, run, release; and stop the command if the lease is lost.

use core::time::Duration;
use std::ffi::OsString;
use std::process::{ExitCode, ExitStatus};

use onceward::lease::{Acquisition, Holder, LeaseBuilder};
use onceward::{Code, Error, Lease, Lost, Onceward, Result};

use crate::args::{Globals, duration};
use crate::process::{self, Child, Signals};
use crate::{exit, report, store};

#[derive(Debug, clap::Args)]
#[group(id = "run")]
pub(super) struct Args {
    /// What the lease is about; 1 to 255 bytes
    #[arg(long, value_name = "KEY", required = true)]
    key: String,
    /// How soon others notice that this process has died [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    ttl: Option<Duration>,
    /// How long it is held at most, renewed or not [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    hard_ttl: Option<Duration>,
    /// Wait for it, at most this long [without a duration: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration, num_args = 0..=1, default_missing_value = "30s")]
    wait: Option<Duration>,
    /// Keep the order of those who wait: nobody overtakes
    #[arg(long, requires = "wait")]
    fair: bool,
    /// How many may hold the key at once; everybody should name the same number [default: 1]
    #[arg(long, value_name = "N")]
    capacity: Option<u32>,
    /// A text for people who look at the lease
    #[arg(long, value_name = "TEXT")]
    metadata: Option<String>,
    /// How long the key stays closed if this holder is lost [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    lock_delay: Option<Duration>,
    /// How long the command has between TERM and KILL when the lease is lost [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    kill_after: Option<Duration>,
    /// Who holds it, as shown to others [default: HOST:PID]
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
    /// The command, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect_as(globals, args.owner.as_deref()).await?;
    let signals = Signals::catch()?;
    let acquired = tokio::select! {
        biased;
        acquired = builder(args, &client).acquire_or_holder() => acquired,
        // Dropping the other future gives up its place among the waiting.
        signal = signals.next() => {
            store::close(globals, &client).await;
            return Ok(ExitCode::from(process::exit_code_of(signal)));
        }
    };
    let done = match acquired {
        Ok(Acquisition::Granted(lease)) => hold(args, lease, &signals).await,
        Ok(Acquisition::Held(holder)) => Ok(held(holder.as_ref())),
        Err(error) => Err(error),
    };
    store::close(globals, &client).await;
    done
}

fn builder(args: &Args, client: &Onceward) -> LeaseBuilder {
    let mut builder = client.lease(&args.key).fair(args.fair);
    if let Some(ttl) = args.ttl {
        builder = builder.ttl(ttl);
    }
    if let Some(hard_ttl) = args.hard_ttl {
        builder = builder.hard_ttl(hard_ttl);
    }
    if let Some(wait) = args.wait {
        builder = builder.wait(wait);
    }
    if let Some(capacity) = args.capacity {
        builder = builder.capacity(capacity);
    }
    if let Some(metadata) = &args.metadata {
        builder = builder.metadata(metadata);
    }
    if let Some(delay) = args.lock_delay {
        builder = builder.lock_delay(delay);
    }
    builder
}

fn held(holder: Option<&Holder>) -> ExitCode {
    let who = match holder {
        Some(Holder { owner, since, until, token, metadata, .. }) => {
            let about = metadata.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
            format!("{owner}{about} holds it since {since}, until {until} at least, under token {token}")
        }
        None => "it is promised to somebody who has waited longer".to_owned(),
    };
    report::error_with(
        &Error::new(Code::LeaseHeld, who),
        Some("call again later, or wait for it with --wait"),
    )
}

async fn hold(args: &Args, lease: Lease, signals: &Signals) -> Result<ExitCode> {
    let env = [
        ("ONCEWARD_KEY", lease.key().to_string()),
        ("ONCEWARD_NAMESPACE", lease.namespace().to_string()),
        ("ONCEWARD_FENCING_TOKEN", lease.token().to_string()),
    ];
    let mut child = match Child::spawn(&args.command, &env) {
        Ok(child) => child,
        Err(error) => {
            give_back(lease).await;
            report::error(&error);
            return Ok(ExitCode::from(exit::NOT_EXECUTABLE));
        }
    };
    let status = tokio::select! {
        biased;
        why = lease.lost() => return Ok(lost(args, &lease, &mut child, why).await),
        status = child.wait(signals) => status.map_err(unwatched)?,
    };
    if let Some(why) = lease.lost_because() {
        return Ok(lost(args, &lease, &mut child, why).await);
    }
    give_back(lease).await;
    Ok(ended(status))
}

fn ended(status: ExitStatus) -> ExitCode {
    ExitCode::from(process::exit_code(status))
}

fn unwatched(error: std::io::Error) -> Error {
    Error::new(Code::OnceFailed, "nobody knows how the command ended").with_source(error)
}

/// Stops the command: somebody else may hold the lease by now.
async fn lost(args: &Args, lease: &Lease, child: &mut Child, why: Lost) -> ExitCode {
    let what =
        format!("the lease on {:?} with token {} was lost: {why}", lease.key().as_str(), lease.token());
    let code = report::error_with(&Error::new(Code::LeaseLost, what), Some("the command is being stopped"));
    child.stop(args.kill_after.unwrap_or(process::KILL_AFTER)).await;
    code
}

async fn give_back(lease: Lease) {
    if let Err(error) = lease.release().await {
        report::note(&format!("the lease could not be given back and runs out by itself: {error}"));
    }
}
