//! `onceward schedules add NAME --when … KIND`: a schedule from the shell.

use core::time::Duration;

use clap::ValueEnum;
use onceward::jobs::{Enqueue, IntoEnqueue, Retry};
use onceward::schedule::{OnMissed, Overlap, Schedule};
use onceward::{Code, Error, Onceward, Result};
use serde_json::{Value, json};

use crate::args::duration;
use crate::command::jobs::PayloadArgs;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What the schedule is called
    name: String,
    /// What the job is: the handler of this name runs it; or, with --durable, the function: its name, and @VERSION if
    /// it has one
    kind: String,
    /// When: "MINUTE HOUR DAY MONTH WEEKDAY", with seconds before them if need be; "every 5m"; "at
    /// 2027-01-01T00:00:00Z"
    #[arg(long, value_name = "WHEN")]
    when: String,
    /// The time zone the pattern is meant in, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// What becomes of ticks whose time passes while nobody is there
    #[arg(long, value_name = "POLICY", value_enum, default_value = "one")]
    on_missed: Missed,
    /// How far back a tick may lie that is still enqueued [default: 1 day; 1m with --on-missed skip]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    within: Option<Duration>,
    /// What happens at a tick while the job of the last one has not ended
    #[arg(long, value_name = "POLICY", value_enum, default_value = "allow")]
    overlap: Overlaps,
    /// Put each job off by up to this long [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    jitter: Option<Duration>,
    /// It is a durable function, and its payload the arguments by their names; each tick is a run
    #[arg(long, conflicts_with_all = ["text", "payload_file", "timeout", "at_most_once"])]
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
    /// How long one attempt may take [default: 15m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// How long to wait between attempts [default: exponential 2s max 15m jitter 0.2]
    #[arg(long, value_name = "POLICY", value_parser = retry)]
    retry: Option<Retry>,
    /// What a worker must offer one of; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Never run a job twice: an attempt that nobody knows the end of makes it uncertain
    #[arg(long)]
    at_most_once: bool,
    /// How long a job is kept once it has succeeded; 0s deletes it at once [default: 7 days]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    retain: Option<Duration>,
}

/// What becomes of missed ticks.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Missed {
    /// They are passed over
    Skip,
    /// The last one is enqueued
    One,
    /// All are enqueued, the oldest first
    All,
}

/// What happens at a tick while the last job has not ended.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Overlaps {
    /// Another one is enqueued
    Allow,
    /// The tick is passed over
    Skip,
    /// The job waits for the earlier ones
    Queue,
    /// The earlier one is cancelled
    CancelPrevious,
}

fn retry(text: &str) -> Result<Retry> {
    text.parse()
}

pub(super) async fn run(args: &Args, client: &Onceward) -> Result<Schedule> {
    let (bytes, content_type) = args.payload.read()?;
    let job = job(
        args,
        match args.durable {
            true if args.payload.is_none() => client.start_named(&args.kind, &json!({})).into_enqueue(client),
            true => {
                let values: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                client.start_named(&args.kind, &values).into_enqueue(client)
            }
            false => client.enqueue_raw(&args.kind, bytes, content_type),
        },
    );
    let when = match &args.zone {
        Some(_) if ["every ", "at "].iter().any(|word| args.when.trim_start().starts_with(word)) => {
            let why = "--zone is for a pattern: an interval and a moment are the same in every time zone";
            return Err(Error::new(Code::UsageInvalid, why));
        }
        Some(zone) => format!("{} {zone}", args.when),
        None => args.when.clone(),
    };
    let mut schedule = client.schedule(&args.name, when, job);
    schedule = schedule.on_missed(match args.on_missed {
        Missed::Skip => OnMissed::Skip,
        Missed::One => OnMissed::One,
        Missed::All => OnMissed::All,
    });
    schedule = schedule.overlap(match args.overlap {
        Overlaps::Allow => Overlap::Allow,
        Overlaps::Skip => Overlap::Skip,
        Overlaps::Queue => Overlap::Queue,
        Overlaps::CancelPrevious => Overlap::CancelPrevious,
    });
    if let Some(window) = args.within {
        schedule = schedule.within(window);
    }
    if let Some(jitter) = args.jitter {
        schedule = schedule.jitter(jitter);
    }
    schedule.await
}

fn job(args: &Args, mut job: Enqueue) -> Enqueue {
    if let Some(queue) = &args.queue {
        job = job.queue(queue);
    }
    if let Some(priority) = args.priority {
        job = job.priority(priority);
    }
    if let Some(attempts) = args.max_attempts {
        job = job.max_attempts(attempts);
    }
    if let Some(timeout) = args.timeout {
        job = job.timeout(timeout);
    }
    if let Some(retry) = args.retry {
        job = job.retry(retry);
    }
    if let Some(retain) = args.retain {
        job = job.retain(retain);
    }
    job = args.tags.iter().fold(job, |job, tag| job.tag(tag));
    if args.at_most_once { job.at_most_once() } else { job }
}
