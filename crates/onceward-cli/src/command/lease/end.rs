//! `onceward lease break KEY`: takes a lease away from its holder, with a reason.

use std::process::ExitCode;

use onceward::Result;
use serde_json::json;

use crate::args::Globals;
use crate::command::interventions;
use crate::output::{self, Table};
use crate::{exit, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The key
    key: String,
    #[command(flatten)]
    by: interventions::Args,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect(globals).await?;
    let admin = args.by.admin(&client)?;
    let broken = admin.break_lease(&args.key, args.by.token, &args.by.reason).await;
    store::close(globals, &client).await;
    let broken = broken?;
    if globals.output.is_json() {
        let rows =
            broken.iter().map(|row| json!({ "slot": row.slot, "token": row.token, "owner": row.owner }));
        output::json(&json!({ "key": args.key, "broken": rows.collect::<Vec<_>>() }))?;
        return Ok(ExitCode::from(exit::DONE));
    }
    let mut table = Table::new(&["KEY", "SLOT", "TOKEN", "TAKEN FROM"]);
    for row in &broken {
        table.row([&row.key as &dyn core::fmt::Display, &row.slot, &row.token, &row.owner]);
    }
    table.print()?;
    Ok(ExitCode::from(exit::DONE))
}
