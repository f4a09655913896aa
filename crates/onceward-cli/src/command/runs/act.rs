//! `onceward runs pause|resume`: runs that are to stand still for a while, and those that go on.

use core::fmt::Display;

use onceward::{JobId, Result};
use serde_json::json;

use crate::args::Globals;
use crate::command::jobs::filter;
use crate::output::{self, Table};
use crate::store;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The ids of the runs
    #[arg(value_name = "ID", value_parser = filter::id, required = true)]
    ids: Vec<JobId>,
    /// Why; it is shown with the run as long as it is paused
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// What to do.
#[derive(Clone, Copy)]
pub(super) enum Act {
    Pause,
    Resume,
}

/// One after the other. The first that can't be done ends it; those before it are done.
pub(super) async fn run(args: &Args, act: Act, globals: &Globals) -> Result<()> {
    let client = store::connect(globals).await?;
    let done = each(args, act, &client.admin()).await;
    store::close(globals, &client).await;
    let done = done?;
    if globals.output.is_json() {
        return output::json(
            &done.iter().map(|(id, now)| json!({ "id": id, "now": now })).collect::<Vec<_>>(),
        );
    }
    let mut table = Table::new(&["RUN", "NOW"]);
    for (id, now) in &done {
        table.row([id as &dyn Display, now]);
    }
    table.print()
}

async fn each(args: &Args, act: Act, admin: &onceward::Admin) -> Result<Vec<(JobId, &'static str)>> {
    let (mut done, reason) = (Vec::new(), args.reason.as_deref());
    for id in &args.ids {
        let now = match act {
            Act::Pause if admin.pause_run(*id, reason).await? => "paused",
            Act::Pause => "paused once its worker has given it back",
            Act::Resume => admin.resume_run(*id, reason).await.map(|()| "resumed")?,
        };
        done.push((*id, now));
    }
    Ok(done)
}
