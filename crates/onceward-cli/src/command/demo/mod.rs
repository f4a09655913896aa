//! `onceward demo`: worker processes race and crash over payments, and the ledger is audited.

use std::process::ExitCode;

use onceward::{Code, Error, Result};

use crate::args::Globals;

/// Let workers race and crash over payments, and audit what they did
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object at the end, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
    /// How many payments there are
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub(crate) payments: u32,
    /// How many worker processes race over them
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub(crate) workers: u32,
}

/// Runs the demo, on a temporary SQLite store unless one was named.
pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let _ = (args.json, args.payments, args.workers, globals);
    Err(Error::new(Code::UsageInvalid, "the demo is not part of this build"))
}
