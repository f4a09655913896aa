//! `onceward jobs attempts ID`: what became of each attempt of a job.

use std::process::ExitCode;

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
    let mut table = Table::new(&["ATTEMPT", "STARTED", "ENDED", "OUTCOME", "WORKER", "WHY"]);
    for attempt in &attempts {
        table.row([
            &attempt.number as &dyn core::fmt::Display,
            &attempt.started_at,
            &attempt.finished_at,
            &attempt.outcome,
            &attempt.worker,
            &attempt.error.as_deref().unwrap_or_default(),
        ]);
    }
    if let Some(running) = &row.running {
        report::note(&format!("{} is at it since {}", running.owner, running.since));
    }
    table.print()?;
    Ok(ExitCode::from(exit::DONE))
}
