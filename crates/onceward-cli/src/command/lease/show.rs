//! `onceward lease show KEY`: every place of one lease, and who has it.

use core::fmt::Display;
use std::process::ExitCode;

use onceward::store::Snapshot;
use onceward::{Code, Error, Result, Timestamp, duration};
use onceward_core::lease::Record;
use serde_json::{Value, json};

use crate::args::Globals;
use crate::output::{self, Table};
use crate::{exit, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The key
    key: String,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect(globals).await?;
    let seen = client.admin().lease(&args.key).await?;
    store::close(globals, &client).await;
    if seen.rows.is_empty() {
        return Err(Error::new(Code::KeyAbsent, format!("there is no lease {:?}", args.key)));
    }
    if globals.output.is_json() {
        json(&seen)?;
    } else {
        seen.rows.iter().try_for_each(|row| print(row, seen.now))?;
    }
    Ok(ExitCode::from(exit::DONE))
}

/// Rows as JSON, with the standing they have now.
pub(super) fn json(seen: &Snapshot<Record>) -> Result<()> {
    output::json(&seen.rows.iter().map(|row| value(row, seen.now)).collect::<Result<Vec<_>>>()?)
}

fn value(row: &Record, now: Timestamp) -> Result<Value> {
    let mut value = serde_json::to_value(row)
        .map_err(|error| Error::new(Code::ResultUnwritable, "the row is no JSON").with_source(error))?;
    value["standing"] = json!(row.standing(now));
    value["free_at"] = json!(row.free_at());
    Ok(value)
}

fn print(row: &Record, now: Timestamp) -> Result<()> {
    let mut table = Table::new(&["FIELD", "VALUE"]);
    table.field("key", Some(&row.key));
    table.field("namespace", Some(&row.namespace));
    table.field("slot", Some(&row.slot));
    table.field("standing", Some(&row.standing(now)));
    table.field("token", Some(&row.token));
    table.field("owner", Some(&row.owner));
    table.field("metadata", row.metadata.as_ref().map(|text| text as &dyn Display));
    table.field("granted at", Some(&row.granted_at));
    table.field("expires at", Some(&row.expires_at));
    table.field("free at", Some(&row.free_at()));
    table.field("hard limit at", row.hard_expires_at.as_ref().map(|at| at as &dyn Display));
    table.field("released at", row.released_at.as_ref().map(|at| at as &dyn Display));
    table.field("ttl", Some(&duration::format(row.ttl)));
    table.field("lock delay", Some(&duration::format(row.lock_delay)));
    table.field("renewals", Some(&row.heartbeats));
    table.print()
}
