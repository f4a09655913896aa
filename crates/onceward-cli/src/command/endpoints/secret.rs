//! What an endpoint is signed with: drawn here and shown once, or read from a file and never shown.

use core::time::Duration;
use std::path::PathBuf;

use onceward::endpoints::Endpoint;
use onceward::webhook::Secret;
use onceward::{Admin, Code, Error, Result};
use serde_json::json;

use super::{Which, show};
use crate::args::{Globals, duration};
use crate::delivery::{needed_seal_keys, secrets};
use crate::output;
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
            let mut all = secrets(core::slice::from_ref(file))?;
            if all.len() > 1 {
                let why = "the file holds several secrets: an endpoint gets one at a time";
                return Err(Error::new(Code::SigningSecretInvalid, why));
            }
            let missing = || Error::new(Code::SigningSecretInvalid, "the file holds no secret");
            return Ok((all.pop().ok_or_else(missing)?, None));
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
