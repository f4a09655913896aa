//! `onceward webhook verify`: whether a webhook is what it claims to be.

use core::time::Duration;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use onceward::webhook::{Verifier, VerifyingKey};
use onceward::{Code, Error, Result, Timestamp};

use crate::args::duration;
use crate::command::jobs::bytes_of;
use crate::delivery::lines;
use crate::{exit, output};

/// Check the signature of a webhook
///
/// Exits with 0 if it fits, and with 1 if it does not, or was made too long ago. Give the body as it came in: what was
/// read as JSON and written again is not what was signed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file with the secret, whsec_…, or the public key, whpk_…; with several lines, one of them has to fit
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
    /// The header webhook-id
    #[arg(long, value_name = "ID")]
    id: String,
    /// The header webhook-timestamp
    #[arg(long, value_name = "SECONDS")]
    timestamp: String,
    /// The header webhook-signature
    #[arg(long, value_name = "SIGNATURES")]
    signature: String,
    /// The body; - is stdin
    #[arg(long, value_name = "FILE", default_value = "-")]
    body_file: PathBuf,
    /// How far its time may lie from now
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5m")]
    tolerance: Duration,
    /// What time it is, for trying out [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<Timestamp>,
}

fn time(text: &str) -> Result<Timestamp> {
    text.parse()
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let keys: Vec<VerifyingKey> =
        lines(&args.secret_file)?.iter().map(|line| line.parse()).collect::<Result<_>>()?;
    if keys.is_empty() {
        let why = format!("{} holds no secret", args.secret_file.display());
        return Err(Error::new(Code::SigningSecretInvalid, why));
    }
    let body = bytes_of(&args.body_file)?;
    let now = args.at.unwrap_or_else(|| SystemTime::now().into());
    let verifier = Verifier::new(&keys).tolerance(args.tolerance);
    verifier.verify(&args.id, &args.timestamp, &args.signature, &body, now)?;
    output::text("the signature fits\n")?;
    Ok(ExitCode::from(exit::DONE))
}
