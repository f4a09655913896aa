//! `onceward jobs show ID`: one job, what it is about, and what came of it.

use core::fmt::Display;
use std::process::ExitCode;

use onceward::{Code, Error, JobId, Result, duration};
use onceward_core::job::Record;
use serde_json::{Value, json};

use super::filter;
use crate::args::Globals;
use crate::output::{self, Table, bytes_value};
use crate::{exit, store};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The id of the job
    #[arg(value_name = "ID", value_parser = filter::id)]
    pub(crate) id: JobId,
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect(globals).await?;
    let row = client.admin().job(args.id).await?;
    store::close(globals, &client).await;
    if globals.output.is_json() {
        output::json(&whole(&row)?)?;
    } else {
        print(&row)?;
    }
    Ok(ExitCode::from(exit::DONE))
}

/// A row as JSON, with everything that is in it.
pub(crate) fn whole(row: &Record) -> Result<Value> {
    let mut value = value(row)?;
    let payload = &row.payload;
    let size = payload.bytes.len() as u64;
    value["payload"] = bytes_value(&payload.content_type, size, Some(&payload.bytes));
    for (name, body) in [("result", &row.result), ("progress", &row.progress)] {
        if let Some(body) = body {
            value[name] = bytes_value(&body.content_type, body.size, body.bytes.as_deref());
        }
    }
    value["attempts"] = json!(row.attempts());
    Ok(value)
}

/// A row as JSON, with the state it has now. The bytes of payload and result are not in it.
pub(super) fn value(row: &Record) -> Result<Value> {
    let mut value = serde_json::to_value(row)
        .map_err(|error| Error::new(Code::RowUnreadable, "the row is no JSON").with_source(error))?;
    value["state"] = json!(row.state_now());
    Ok(value)
}

pub(crate) fn print(row: &Record) -> Result<()> {
    let mut table = Table::new(&["FIELD", "VALUE"]);
    let mut field = |name: &str, value: Option<&dyn Display>| table.field(name, value);
    field("id", Some(&row.id));
    field("namespace", Some(&row.namespace));
    field("kind", Some(&row.kind));
    field("queue", Some(&row.queue));
    field("state", Some(&row.state_now()));
    if let Some(pause) = &row.paused {
        let why = pause.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        field("paused", Some(&format!("by {} since {}{why}", pause.by, pause.at)));
    }
    field("why", row.error.as_ref().map(|why| why as &dyn Display));
    field("priority", Some(&row.priority));
    field("attempts", Some(&format!("{} of {}", row.attempt, row.policy.max_attempts)));
    field("lost", (row.lost > 0).then_some(&row.lost as &dyn Display));
    field("enqueued at", Some(&row.enqueued_at));
    field("due at", Some(&row.run_at));
    optional(&mut field, "deadline", row.policy.deadline.as_ref());
    optional(&mut field, "last begun at", row.attempted_at.as_ref());
    optional(&mut field, "ended at", row.finished_at.as_ref());
    optional(&mut field, "worker", row.worker.as_ref());
    if let Some(running) = &row.running {
        field("runs at", Some(&format!("{} since {}", running.owner, running.since)));
        field("token", Some(&running.token));
    }
    field("retry", Some(&row.policy.retry));
    field("time-out", Some(&duration::format(row.policy.timeout)));
    field("at most once", row.policy.at_most_once.then_some(&"yes" as &dyn Display));
    optional(&mut field, "ordering key", row.ordering_key.as_ref());
    optional(&mut field, "dedupe key", row.dedupe_key.as_ref());
    let tags: Vec<&str> = row.tags.iter().map(|tag| tag.as_str()).collect();
    field("tags", (!tags.is_empty()).then_some(&tags.join(", ") as &dyn Display));
    optional(&mut field, "metadata", row.metadata.as_ref());
    optional(&mut field, "replay of", row.replay_of.as_ref());
    let (size, of) = (row.payload.bytes.len(), &row.payload.content_type);
    field("payload", Some(&format!("{size} bytes of {of}")));
    field("", Some(&String::from_utf8_lossy(&row.payload.bytes)));
    for (name, body) in [("result", &row.result), ("progress", &row.progress)] {
        let Some(body) = body else { continue };
        field(name, Some(&format!("{} bytes of {}", body.size, body.content_type)));
        let text = body.bytes.as_deref().map(String::from_utf8_lossy);
        field("", text.as_ref().map(|text| text as &dyn Display));
    }
    table.print()
}

fn optional<T: Display>(field: &mut impl FnMut(&str, Option<&dyn Display>), name: &str, value: Option<&T>) {
    field(name, value.map(|value| value as &dyn Display));
}
