//! `onceward bench`: what this store does per second, side by side with its own commits.

use core::time::Duration;
use std::process::ExitCode;

use onceward::{Code, Error, Result};

use crate::args::{Globals, duration};

/// Measure this store side by side with its own commits
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to measure
    #[arg(value_enum)]
    pub(crate) target: Target,
    /// Print one JSON object at the end, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
    /// How long each workload runs
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "3s")]
    pub(crate) seconds: Duration,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Target {
    /// Acquiring and releasing leases
    Lease,
    /// First calls and replays of once
    Once,
}

/// Runs the measurement.
pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let _ = (args.target, args.json, args.seconds, globals);
    Err(Error::new(Code::UsageInvalid, "the bench is not part of this build"))
}
