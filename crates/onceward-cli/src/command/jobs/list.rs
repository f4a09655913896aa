//! `onceward jobs list`: the jobs of a namespace, page by page.

use std::process::ExitCode;

use onceward::store::Snapshot;
use onceward::{JobId, Result};
use onceward_core::job::Record;
use serde_json::Value;

use super::filter;
use crate::args::Globals;
use crate::output::{self, Table};
use crate::{exit, report, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    filter: filter::Args,
    /// How many jobs at most, 1 to 500
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Only jobs after this one: the next page
    #[arg(long, value_name = "ID", value_parser = filter::id)]
    after: Option<JobId>,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect(globals).await?;
    let page = client.admin().jobs(&args.filter.filter(), args.after, args.limit).await?;
    store::close(globals, &client).await;
    print(&page, args.limit, globals)?;
    Ok(ExitCode::from(exit::DONE))
}

pub(crate) fn print(page: &Snapshot<Record>, limit: usize, globals: &Globals) -> Result<()> {
    if globals.output.is_json() {
        return output::json(&page.rows.iter().map(super::show::value).collect::<Result<Vec<Value>>>()?);
    }
    let mut table = Table::new(&["ID", "KIND", "QUEUE", "STATE", "ATTEMPT", "DUE OR ENDED", "WHO", "WHY"]);
    for row in &page.rows {
        let paused = row.paused.is_some() && row.running.is_none();
        let state = if paused { "paused" } else { row.state_now().as_str() };
        let who = row.running.as_ref().map(|running| &running.owner).or(row.worker.as_ref());
        let who = who.map_or("", |owner| owner.as_str());
        table.row([
            &row.id as &dyn core::fmt::Display,
            &row.kind,
            &row.queue,
            &state,
            &format!("{}/{}", row.attempt, row.policy.max_attempts),
            &row.finished_at.unwrap_or(row.run_at),
            &who,
            &row.error.as_deref().unwrap_or_default(),
        ]);
    }
    if let Some(last) = page.rows.last().filter(|_| page.rows.len() == limit) {
        report::note(&format!("there may be more, with --after {}", last.id));
    }
    table.print()
}
