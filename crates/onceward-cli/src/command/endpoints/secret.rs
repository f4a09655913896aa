//! What an endpoint is signed with: drawn here and shown once, or read from a file and never shown.

use core::fmt::Display;
use core::time::Duration;
use std::path::PathBuf;

use onceward::endpoints::Endpoint;
use onceward::webhook::Secret;
use onceward::{Admin, Code, Error, Result};
use serde_json::json;

use super::{Which, show};
use crate::args::{Globals, duration};
use crate::delivery::{needed_seal_keys, secrets};
use crate::output::{self, Table};
use crate::report;

/// Which secret.
#[derive(Debug, clap::Args)]
pub(super) struct SecretArgs {
    /// Take the secret in this file; without, a new one is drawn, and printed this once
    #[arg(long, value_name = "FILE", conflicts_with = "pair")]
    secret_file: Option<PathBuf>,
    /// Draw a pair of keys: the receiver checks with the public one, whpk_…, and nobody sees the private one
    #[arg(long)]
    pair: bool,
}

impl SecretArgs {
    /// The secret, and what of it is to be printed.
    pub(super) fn draw(&self) -> Result<(Secret, Option<String>)> {
        if let Some(file) = &self.secret_file {
            let several = || {
                let why = "the file holds several secrets: an endpoint gets one at a time";
                Error::new(Code::SigningSecretInvalid, why)
            };
            let [secret] = secrets(file)?.try_into().map_err(|_| several())?;
            return Ok((secret, None));
        }
        let secret = if self.pair { Secret::generate_pair()? } else { Secret::generate()? };
        let shown = secret.public().unwrap_or_else(|| secret.reveal());
        Ok((secret, Some(shown)))
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    secret: SecretArgs,
    /// How long the old secret signs beside the new one; 0s ends it now
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "24h")]
    overlap: Duration,
}

pub(super) async fn rotate(args: &Rotate, admin: &Admin, globals: &Globals) -> Result<()> {
    let keys = needed_seal_keys()?;
    let (secret, shown) = args.secret.draw()?;
    let row = admin.rotate_endpoint(&args.which.name, &secret, args.overlap, &keys).await?;
    print(&row, shown.as_deref(), globals)
}

/// Prints an endpoint with what its receiver has to know, or only that.
pub(super) fn print(row: &Endpoint, secret: Option<&str>, globals: &Globals) -> Result<()> {
    if globals.output.is_json() {
        let mut shown = json!(row);
        if let Some(secret) = secret {
            shown["secret"] = json!(secret);
        }
        return output::json(&shown);
    }
    let Some(secret) = secret else { return show(row, globals) };
    report::note(&format!("what the receiver of {} checks with; it is shown this once", row.name));
    output::text(&format!("{secret}\n"))
}

#[derive(Debug, clap::Args)]
pub(super) struct Reseal {
    /// Only say what would be encrypted anew
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn reseal(args: &Reseal, admin: &Admin, globals: &Globals) -> Result<()> {
    let all = admin.reseal_endpoints(&needed_seal_keys()?, args.dry_run).await?;
    if globals.output.is_json() {
        let changed = all.changed.iter().map(|(name, secrets)| json!({ "name": name, "secrets": secrets }));
        let failed = all.failed.iter().map(
            |(name, error)| json!({ "name": name, "code": error.code().as_str(), "error": error.message() }),
        );
        output::json(&json!({
            "dry_run": args.dry_run,
            "changed": changed.collect::<Vec<_>>(),
            "unchanged": all.unchanged,
            "failed": failed.collect::<Vec<_>>(),
        }))?;
    } else {
        let mut table = Table::new(&["ENDPOINT", "SECRETS"]);
        for (name, secrets) in &all.changed {
            table.row([name as &dyn Display, secrets]);
        }
        table.print()?;
        let (would, count) = (if args.dry_run { "would be" } else { "were" }, all.changed.len());
        report::note(&format!("{count} {would} encrypted anew; {} had no need to", all.unchanged));
        for (name, error) in &all.failed {
            report::note(&format!("{name}: {error}"));
        }
    }
    match all.failed.first() {
        None => Ok(()),
        Some((name, error)) => {
            let why = format!("{} can't be encrypted anew, {name} among them", all.failed.len());
            Err(Error::new(error.code(), why))
        }
    }
}
