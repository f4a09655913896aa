//! `onceward runs show ID`: one run, what it is about, and what it waits for.

use core::fmt::Display;
use std::process::ExitCode;

use onceward::Result;
use serde_json::{Value, json};

use super::tree::{self, Asked, Waits};
use crate::args::Globals;
use crate::command::jobs::{self, ShowArgs};
use crate::output::{self, Table};
use crate::{exit, report, store};

pub(super) async fn run(args: &ShowArgs, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect(globals).await?;
    let row = client.admin().job(args.id).await?;
    let generation = if row.policy.durable { tree::generation_of(&client, args.id).await? } else { 0 };
    let (waits, cut) =
        if row.state.is_final() { (Vec::new(), None) } else { tree::waits(&client, args.id).await? };
    store::close(globals, &client).await;
    if globals.output.is_json() {
        let mut value = jobs::job_value(&row)?;
        if row.policy.durable {
            value["standing"] = json!(tree::standing(&row));
            value["generation"] = json!(generation);
            value["waits_for"] = waits.iter().map(waits_for).collect();
            if let Some(entries) = cut {
                value["waits_for_of_entries"] = json!(entries);
            }
        }
        output::json(&value)?;
    } else {
        jobs::print_job(&row)?;
        if generation > 0 {
            output::text(&format!("\ngeneration {generation}: so often it has gone on as new\n"))?;
        }
        print(&waits)?;
        if let Some(entries) = cut {
            report::note(&format!("what it waits for is that of the first {entries} entries of its journal"));
        }
    }
    Ok(ExitCode::from(exit::DONE))
}

fn waits_for((asked, child): &Waits) -> Value {
    let Asked { position, op, name, until, .. } = asked;
    json!({ "position": position, "op": op, "name": name, "until": until, "run": child })
}

/// What its journal says that it has begun and that has not ended.
fn print(waits: &[Waits]) -> Result<()> {
    if waits.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["WAITS AT", "FOR", "NAME", "UNTIL", "RUN"]);
    for (asked, child) in waits {
        let until = asked.until.as_deref().unwrap_or_default();
        let child = child.map(|id| id.to_string()).unwrap_or_default();
        let cells: [&dyn Display; 5] = [&asked.position, &asked.op, &asked.name, &until, &child];
        table.row(cells);
    }
    output::text("\n")?;
    table.print()
}
