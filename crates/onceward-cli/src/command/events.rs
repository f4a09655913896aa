//! `onceward events send`: an event from the shell.

use core::time::Duration;
use std::process::ExitCode;

use clap::Subcommand;
use onceward::Result;
use onceward::endpoints::EventBuilder;

use super::jobs::PayloadArgs;
use crate::args::{Globals, duration};
use crate::{exit, output, store};

/// Tell endpoints of what has happened
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Enqueue an event: a worker makes a delivery of it for each endpoint that wants it; prints its id
    Send(Send),
}

#[derive(Debug, clap::Args)]
struct Send {
    /// What has happened: order.paid
    #[arg(value_name = "TYPE")]
    event: String,
    #[command(flatten)]
    payload: PayloadArgs,
    /// What the body is [default: what it was given as]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// A second event under this key is not made: the first one is returned
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// The queue it waits in [default: default]
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// How long from now it is told
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    delay: Option<Duration>,
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let Action::Send(args) = &args.action;
    let client = store::connect(globals).await?;
    let sent = match args.apply(client.event(&args.event)) {
        Ok(event) => event.send().await,
        Err(error) => Err(error),
    };
    store::close(globals, &client).await;
    let sent = sent?;
    if globals.output.is_json() {
        output::json(&sent)?;
    } else {
        output::text(&format!("{}\n", sent.id))?;
    }
    Ok(ExitCode::from(exit::DONE))
}

impl Send {
    fn apply(&self, event: EventBuilder) -> Result<EventBuilder> {
        let mut event = self.payload.body_of(event)?;
        if let Some(content_type) = &self.content_type {
            event = event.content_type(content_type);
        }
        if let Some(key) = &self.idempotency_key {
            event = event.key(key);
        }
        if let Some(queue) = &self.queue {
            event = event.queue(queue);
        }
        if let Some(delay) = self.delay {
            event = event.delay(delay);
        }
        Ok(event)
    }
}
