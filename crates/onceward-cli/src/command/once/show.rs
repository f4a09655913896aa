//! `onceward once show KEY`: one key, and what was recorded of it.

use core::fmt::Display;
use std::process::ExitCode;

use onceward::{Code, Error, Result, Timestamp, duration};
use onceward_core::once::{EXPIRED, Record, State};
use serde_json::{Value, json};

use crate::args::Globals;
use crate::output::{self, Table, bytes_value};
use crate::{exit, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The key
    key: String,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect(globals).await?;
    let found = client.admin().once(&args.key).await?;
    store::close(globals, &client).await;
    let Some((row, now)) = found else {
        return Err(Error::new(Code::KeyAbsent, format!("there is no once key {:?}", args.key)));
    };
    if globals.output.is_json() {
        let mut value = value(&row, now)?;
        if let Some(body) = &row.body {
            value["body"] = bytes_value(&body.content_type, body.size, body.bytes.as_deref());
        }
        output::json(&value)?;
    } else {
        print(&row, now)?;
    }
    Ok(ExitCode::from(exit::DONE))
}

/// A row as JSON, with the state it has now. The bytes of the result are not in it.
pub(super) fn value(row: &Record, now: Timestamp) -> Result<Value> {
    let mut value = serde_json::to_value(row)
        .map_err(|error| Error::new(Code::ResultUnwritable, "the row is no JSON").with_source(error))?;
    value["state"] = json!(row.state_at(now));
    value["uncertain_since"] = json!(row.uncertain_since(now));
    value["reason"] = json!(why(row, now));
    Ok(value)
}

/// Why it failed or is uncertain.
pub(super) fn why(row: &Record, now: Timestamp) -> Option<&str> {
    let expired = row.state == State::Running && row.state_at(now) == State::Uncertain;
    row.reason.as_deref().or(expired.then_some(EXPIRED))
}

fn print(row: &Record, now: Timestamp) -> Result<()> {
    let mut table = Table::new(&["FIELD", "VALUE"]);
    let mut field = |name: &str, value: Option<&dyn Display>| table.field(name, value);
    let why = why(row, now);
    field("key", Some(&row.key));
    field("namespace", Some(&row.namespace));
    field("state", Some(&row.state_at(now)));
    field("reason", why.as_ref().map(|why| why as &dyn Display));
    field("token", Some(&row.token));
    field("owner", Some(&row.owner));
    field("attempts", Some(&row.attempts));
    field("claimed at", Some(&row.claimed_at));
    field("expires at", Some(&row.expires_at));
    optional(&mut field, "hard limit at", row.hard_expires_at.as_ref());
    optional(&mut field, "uncertain since", row.uncertain_since(now).as_ref());
    optional(&mut field, "finished at", row.finished_at.as_ref());
    optional(&mut field, "kept until", row.retain_until.as_ref());
    field("ttl", Some(&duration::format(row.ttl)));
    field("late", row.late.then_some(&"yes" as &dyn Display));
    if let Some(body) = &row.body {
        let what = format!("{} bytes of {}", body.size, body.content_type);
        field("result", Some(&what));
        let text = body.bytes.as_deref().map(String::from_utf8_lossy);
        field("", text.as_ref().map(|text| text as &dyn Display));
    }
    table.print()
}

fn optional<T: Display>(field: &mut impl FnMut(&str, Option<&dyn Display>), name: &str, value: Option<&T>) {
    field(name, value.map(|value| value as &dyn Display));
}
