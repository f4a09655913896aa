//! `onceward runs start`: a run by the name of its function.

use core::time::Duration;

use onceward::{Code, Error, Result};
use serde_json::{Value, json};

use crate::args::{Globals, duration};
use crate::{output, report, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The function, as #[durable] has it: its name, and @VERSION if it has one
    #[arg(value_name = "NAME")]
    function: String,
    /// Its arguments by their names: {"order": 789}
    #[arg(long, value_name = "JSON", default_value = "{}")]
    json: String,
    /// A second start under this id finds the first one's run
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// The queue it waits in, which stands on the function if it is another one [default: default]
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// The higher one goes first, -1000 to 1000
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i16>,
    /// What a worker must offer one of; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Runs under this key go one after the other
    #[arg(long, value_name = "KEY")]
    ordering_key: Option<String>,
    /// The trace it belongs to: a W3C traceparent
    #[arg(long, value_name = "TRACEPARENT")]
    trace: Option<String>,
    /// How long from now it begins
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    delay: Option<Duration>,
    /// How long it may take in all
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expiry: Option<Duration>,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<()> {
    let given: Value = serde_json::from_str(&args.json)
        .map_err(|error| Error::new(Code::UsageInvalid, format!("--json is no JSON: {error}")))?;
    let client = store::connect(globals).await?;
    let mut start = client.start_named(&args.function, &given);
    if let Some(id) = &args.id {
        start = start.id(id);
    }
    if let Some(queue) = &args.queue {
        start = start.queue(queue);
    }
    if let Some(priority) = args.priority {
        start = start.priority(priority);
    }
    if let Some(key) = &args.ordering_key {
        start = start.ordering_key(key);
    }
    if let Some(trace) = &args.trace {
        start = start.trace(trace);
    }
    if let Some(delay) = args.delay {
        start = start.delay(delay);
    }
    if let Some(expiry) = args.expiry {
        start = start.expiry(expiry);
    }
    let started = args.tags.iter().fold(start, |start, tag| start.tag(tag)).await;
    store::close(globals, &client).await;
    let started = started?;
    if globals.output.is_json() {
        return output::json(&json!({ "id": started.id, "created": started.created }));
    }
    if !started.created {
        report::note("it was started before");
    }
    output::text(&format!("{}\n", started.id))
}
