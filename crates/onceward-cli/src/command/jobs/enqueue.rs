//! `onceward jobs enqueue KIND`: a job from the shell. Of the kind `http` it is a request, see `http.rs`.

use core::time::Duration;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use onceward::endpoints::EventBuilder;
use onceward::jobs::{DedupeScope, Enqueue, OnConflict, Retry};
use onceward::{Code, Error, Result, Timestamp, limits};

use super::http;
use crate::args::{Globals, duration};
use crate::{exit, output, report, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What the job is: the handler of this name runs it; http is a request that any worker delivers
    kind: String,
    #[command(flatten)]
    payload: PayloadArgs,
    /// The queue it waits in [default: default]
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// The higher one goes first, -1000 to 1000
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i16>,
    /// How long from now it is due
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "run_at")]
    delay: Option<Duration>,
    /// When it is due, such as 2026-11-20T09:30:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    run_at: Option<Timestamp>,
    /// How many attempts it has [default: 20]
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// How long one attempt may take [default: 15m; of the kind http 30s, and 10m at the most]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// After this time it is not started any more
    #[arg(long, value_name = "TIME", value_parser = time)]
    start_before: Option<Timestamp>,
    /// How long to wait between attempts [default: exponential 2s max 15m jitter 0.2]
    #[arg(long, value_name = "POLICY", value_parser = retry)]
    retry: Option<Retry>,
    /// A second job under this key is not made: the first one is returned
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// How long the idempotency key refers to its job [default: 30 days]
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "idempotency_key")]
    key_ttl: Option<Duration>,
    /// At most one job under this key is alive
    #[arg(long, value_name = "KEY")]
    dedupe_key: Option<String>,
    /// For how long: until-started, until-done, or a duration [default: until-done]
    #[arg(long, value_name = "SCOPE", value_parser = scope, requires = "dedupe_key")]
    dedupe_scope: Option<DedupeScope>,
    /// What to do where there is one already [default: existing]
    #[arg(long, value_name = "ACTION", value_enum, requires = "dedupe_key")]
    on_conflict: Option<Conflict>,
    /// Jobs under this key run one after the other
    #[arg(long, value_name = "KEY")]
    ordering_key: Option<String>,
    /// What a worker must offer one of; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Whatever else there is to say, as JSON
    #[arg(long, value_name = "JSON", value_parser = json)]
    metadata: Option<serde_json::Value>,
    /// The trace it belongs to: a W3C traceparent
    #[arg(long, value_name = "TRACEPARENT")]
    trace: Option<String>,
    /// Never run it twice: an attempt that nobody knows the end of makes it uncertain
    #[arg(long)]
    at_most_once: bool,
    /// How long it is kept once it has succeeded; 0s deletes it at once [default: 7 days]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    retain: Option<Duration>,
    #[command(flatten)]
    http: http::Args,
}

/// What the job is about.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(in crate::command) struct PayloadArgs {
    /// The payload, as JSON; of the kind http, the body of the request
    #[arg(long, value_name = "JSON")]
    pub(super) json: Option<String>,
    /// The payload, as text
    #[arg(long, value_name = "TEXT")]
    pub(super) text: Option<String>,
    /// The payload, as the bytes of a file; - is stdin
    #[arg(long, value_name = "FILE")]
    pub(super) payload_file: Option<PathBuf>,
}

/// What to do where a job under the dedupe key is alive.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Conflict {
    /// Return it
    Existing,
    /// Give it this payload, if it still waits
    Replace,
    /// Make it due when this one would have been, if it still waits
    PushOut,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    args.http.check(&args.kind)?;
    let payload = if args.kind == http::KIND { None } else { Some(args.payload.read()?) };
    let client = store::connect(globals).await?;
    let job = match payload {
        Some((bytes, content_type)) => Ok(client.enqueue_raw(&args.kind, bytes, content_type)),
        None => args.http.enqueue(&client, &args.payload),
    };
    let enqueued = match job {
        Ok(job) => say(args, job).await,
        Err(error) => Err(error),
    };
    store::close(globals, &client).await;
    let enqueued = enqueued?;
    if globals.output.is_json() {
        output::text(&format!("{}\n", output::json_line(&enqueued)?))?;
    } else {
        if !enqueued.created {
            let state = enqueued.existing_state.map_or("forgotten by now", |state| state.as_str());
            report::note(&format!("the job was there before, under this key; it is {state}"));
        }
        output::text(&format!("{}\n", enqueued.id))?;
    }
    Ok(ExitCode::from(exit::DONE))
}

/// Says of the job what was said to us.
fn say(args: &Args, job: Enqueue) -> Enqueue {
    let job = with(job, args.queue.as_ref(), Enqueue::queue);
    let job = with(job, args.priority, Enqueue::priority);
    let job = with(job, args.delay, Enqueue::delay);
    let job = with(job, args.run_at, Enqueue::run_at);
    let job = with(job, args.max_attempts, Enqueue::max_attempts);
    let job = with(job, args.timeout, Enqueue::timeout);
    let job = with(job, args.start_before, Enqueue::deadline);
    let job = with(job, args.retry, Enqueue::retry);
    let job = with(job, args.idempotency_key.as_ref(), Enqueue::key);
    let job = with(job, args.key_ttl, Enqueue::key_ttl);
    let scope = args.dedupe_scope.unwrap_or(DedupeScope::UntilDone);
    let job = with(job, args.dedupe_key.as_ref(), |job, key| job.dedupe(key, scope));
    let job = with(job, args.on_conflict.map(OnConflict::from), Enqueue::on_conflict);
    let job = with(job, args.ordering_key.as_ref(), Enqueue::ordering_key);
    let job = args.tags.iter().fold(job, |job, tag| job.tag(tag));
    let job = with(job, args.metadata.as_ref(), |job, metadata| job.metadata(metadata));
    let job = with(job, args.trace.as_ref(), |job, trace| job.trace(trace));
    let job = with(job, args.retain, Enqueue::retain);
    if args.at_most_once { job.at_most_once() } else { job }
}

/// Says something of the job, if it was said to us.
fn with<T>(job: Enqueue, value: Option<T>, say: impl FnOnce(Enqueue, T) -> Enqueue) -> Enqueue {
    match value {
        Some(value) => say(job, value),
        None => job,
    }
}

impl PayloadArgs {
    /// Whether none was given.
    pub(in crate::command) fn is_none(&self) -> bool {
        self.json.is_none() && self.text.is_none() && self.payload_file.is_none()
    }

    pub(in crate::command) fn read(&self) -> Result<(Vec<u8>, &'static str)> {
        if let Some(text) = &self.json {
            json(text)?;
            return Ok((text.clone().into_bytes(), "application/json"));
        }
        if let Some(text) = &self.text {
            return Ok((text.clone().into_bytes(), "text/plain; charset=utf-8"));
        }
        match &self.payload_file {
            Some(path) => Ok((bytes_of(path)?, "application/octet-stream")),
            None => Ok((Vec::new(), "application/octet-stream")),
        }
    }
}

impl PayloadArgs {
    /// The event with what it is about.
    pub(in crate::command) fn body_of(&self, event: EventBuilder) -> Result<EventBuilder> {
        Ok(match (&self.json, &self.text, &self.payload_file) {
            (Some(json), ..) => event.json_text(json),
            (_, Some(text), _) => event.text(text),
            (.., Some(file)) => event.bytes(bytes_of(file)?),
            (None, None, None) => event,
        })
    }
}

/// Reads what a payload may hold and a byte more, so that what is too large is seen to be.
pub(in crate::command) fn bytes_of(path: &PathBuf) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = limits::PAYLOAD_BYTES_MAX as u64 + 1;
    let read = match path.to_str() {
        Some("-") => std::io::stdin().take(most).read_to_end(&mut bytes),
        _ => std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)),
    };
    read.map_err(|error| {
        let why = format!("the payload can't be read from {}", path.display());
        Error::new(Code::UsageInvalid, why).with_source(error)
    })?;
    Ok(bytes)
}

fn json(text: &str) -> Result<serde_json::Value> {
    serde_json::from_str(text)
        .map_err(|error| Error::new(Code::PayloadUnwritable, format!("this is not JSON: {error}")))
}

fn time(text: &str) -> Result<Timestamp> {
    text.parse()
}

fn retry(text: &str) -> Result<Retry> {
    text.parse()
}

fn scope(text: &str) -> Result<DedupeScope> {
    match text {
        "until-started" => Ok(DedupeScope::UntilStarted),
        "until-done" => Ok(DedupeScope::UntilDone),
        window => duration(window).map(DedupeScope::Window),
    }
}

impl From<Conflict> for OnConflict {
    fn from(conflict: Conflict) -> Self {
        match conflict {
            Conflict::Existing => Self::Existing,
            Conflict::Replace => Self::Replace,
            Conflict::PushOut => Self::PushOut,
        }
    }
}
