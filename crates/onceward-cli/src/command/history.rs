//! `onceward once history KEY` and `onceward lease history KEY`: what happened, newest first.

use std::process::ExitCode;

use onceward::Result;
use onceward::history::{Entry, Subject};

use crate::args::Globals;
use crate::output::{self, Table};
use crate::{exit, report, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The key
    key: String,
    /// How many events at most, 1 to 500
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

pub(super) async fn run(args: &Args, subject: Subject, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect(globals).await?;
    let entries = client.admin().history(subject, &args.key, args.limit).await?;
    store::close(globals, &client).await;
    print(&entries, globals)?;
    Ok(ExitCode::from(exit::DONE))
}

pub(super) fn print(entries: &[Entry], globals: &Globals) -> Result<()> {
    if globals.output.is_json() {
        return output::json(&entries);
    }
    if entries.is_empty() {
        report::note("nothing is known of this key");
        return Ok(());
    }
    let mut table = Table::new(&["AT", "EVENT", "TOKEN", "WHO", "WHY"]);
    for entry in entries {
        let why = entry.reason.as_deref().unwrap_or_default();
        table.row([&entry.at as &dyn core::fmt::Display, &entry.event, &entry.token, &entry.actor, &why]);
    }
    table.print()
}
