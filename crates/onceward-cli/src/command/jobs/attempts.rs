//! `onceward jobs attempts ID`: what became of each attempt of a job.

use core::fmt::Display;
use std::process::ExitCode;

use onceward::jobs::Attempt;
use onceward::{JobId, Result};

use super::filter;
use crate::args::Globals;
use crate::output::{self, Table};
use crate::{exit, report, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The id of the job
    #[arg(value_name = "ID", value_parser = filter::id)]
    id: JobId,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect(globals).await?;
    let row = client.admin().job(args.id).await?;
    store::close(globals, &client).await;
    let attempts = row.attempts();
    if globals.output.is_json() {
        output::json(&attempts)?;
        return Ok(ExitCode::from(exit::DONE));
    }
    let table = if attempts.iter().any(|attempt| attempt.http.is_some()) {
        requests(&attempts)
    } else {
        plain(&attempts)
    };
    if let Some(running) = &row.running {
        report::note(&format!("{} is at it since {}", running.owner, running.since));
    }
    table.print()?;
    Ok(ExitCode::from(exit::DONE))
}

fn plain(attempts: &[Attempt]) -> Table {
    let mut table = Table::new(&["ATTEMPT", "STARTED", "ENDED", "OUTCOME", "WORKER", "WHY"]);
    for attempt in attempts {
        table.row([
            &attempt.number as &dyn Display,
            &attempt.started_at,
            &attempt.finished_at,
            &attempt.outcome,
            &attempt.worker,
            &attempt.error.as_deref().unwrap_or_default(),
        ]);
    }
    table
}

/// Of requests, what was answered matters more than who sent them.
fn requests(attempts: &[Attempt]) -> Table {
    let mut table =
        Table::new(&["ATTEMPT", "ENDED", "OUTCOME", "STATUS", "ADDRESS", "TOOK", "WHY", "ANSWER"]);
    for attempt in attempts {
        let seen = attempt.http.as_deref().cloned().unwrap_or_default();
        let took = seen.timings.total_us.map(|micros| format!("{} ms", micros / 1000));
        table.row([
            &attempt.number as &dyn Display,
            &attempt.finished_at,
            &attempt.outcome,
            &seen.status.map_or_else(String::new, |status| status.to_string()),
            &seen.address.unwrap_or_default(),
            &took.unwrap_or_default(),
            &attempt.error.as_deref().unwrap_or_default(),
            &seen.excerpt.unwrap_or_default(),
        ]);
    }
    table
}
