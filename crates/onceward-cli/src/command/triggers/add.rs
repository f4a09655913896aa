//! `onceward triggers add NAME --on … KIND`: a trigger from the shell.

use core::time::Duration;

use onceward::jobs::{Enqueue, IntoEnqueue, Retry};
use onceward::trigger::{By, Condition, Trigger, TriggerBuilder};
use onceward::{Onceward, Result};
use serde_json::Value;

use crate::args::duration;
use crate::command::jobs::PayloadArgs;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What the trigger is called
    name: String,
    /// What the job is that follows: the handler of this name runs it
    kind: String,
    /// What is listened to: "OUTCOME [kind=KIND] [queue=QUEUE] [tag=TAG]", of which OUTCOME is succeeded, failed (an
    /// attempt), dead, cancelled or uncertain; or "event PATTERN"; may be given several times
    #[arg(long = "on", value_name = "CONDITION", required = true, value_parser = condition)]
    on: Vec<Condition>,
    /// Wait until all conditions are met by outcomes that belong together: by the same value in a field of their
    /// metadata (metadata:FIELD), by the same tag that begins like this (tag:PREFIX), or by anything; without it any of
    /// them will do
    #[arg(long, value_name = "BY", value_parser = by)]
    all: Option<By>,
    /// How long an outcome waits for others that it belongs to [default: 1 day]
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "all")]
    within: Option<Duration>,
    /// It is a durable function, and its payload the arguments by their names
    #[arg(long)]
    durable: bool,
    #[command(flatten)]
    payload: PayloadArgs,
    /// The queue its jobs wait in [default: default]
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// The higher one goes first, -1000 to 1000
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i16>,
    /// How many attempts a job has [default: 20]
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// How long to wait between attempts [default: exponential 2s max 15m jitter 0.2]
    #[arg(long, value_name = "POLICY", value_parser = retry)]
    retry: Option<Retry>,
    /// What a worker must offer one of; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
}

fn condition(text: &str) -> Result<Condition> {
    text.parse()
}

fn by(text: &str) -> Result<By> {
    text.parse()
}

fn retry(text: &str) -> Result<Retry> {
    text.parse()
}

pub(super) async fn run(args: &Args, client: &Onceward) -> Result<Trigger> {
    let tells = args.payload.is_none();
    let (bytes, content_type) =
        if tells { (b"{}".to_vec(), "application/json") } else { args.payload.read()? };
    let job = if args.durable {
        let values: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        client.start_named(&args.kind, &values).into_enqueue(client)
    } else {
        client.enqueue_raw(&args.kind, bytes, content_type)
    };
    let mut trigger: TriggerBuilder =
        args.on.iter().cloned().fold(client.trigger(&args.name), TriggerBuilder::condition);
    if let Some(by) = &args.all {
        trigger = trigger.all(by.clone());
    }
    if let Some(within) = args.within {
        trigger = trigger.within(within);
    }
    let job = said(args, job);
    if tells { trigger.telling(job).await } else { trigger.enqueue(job).await }
}

fn said(args: &Args, mut job: Enqueue) -> Enqueue {
    if let Some(queue) = &args.queue {
        job = job.queue(queue);
    }
    if let Some(priority) = args.priority {
        job = job.priority(priority);
    }
    if let Some(attempts) = args.max_attempts {
        job = job.max_attempts(attempts);
    }
    if let Some(retry) = args.retry {
        job = job.retry(retry);
    }
    args.tags.iter().fold(job, |job, tag| job.tag(tag))
}
