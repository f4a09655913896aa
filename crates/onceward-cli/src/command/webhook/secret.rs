//! `onceward webhook secret`: a new secret.

use std::process::ExitCode;

use onceward::Result;
use onceward::webhook::Secret;

use crate::{exit, output, report};

/// Print a new signing secret, for sender and receiver
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A pair of keys instead: the sender keeps the private one, whsk_…, and receivers get the public one, whpk_…
    #[arg(long)]
    pair: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let secret = if args.pair { Secret::generate_pair()? } else { Secret::generate()? };
    if let Some(public) = secret.public() {
        report::note(&format!("for receivers: {public}"));
    }
    output::text(&format!("{}\n", secret.reveal()))?;
    Ok(ExitCode::from(exit::DONE))
}
