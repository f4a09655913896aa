//! `onceward lease list`: the leases of a namespace, page by page.

use std::process::ExitCode;

use onceward::store::Snapshot;
use onceward::{Code, Error, Key, Result, limits};
use onceward_core::lease::{Record, Standing};

use crate::args::Globals;
use crate::output::Table;
use crate::{exit, report, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only leases of this standing: held, released or expired
    #[arg(long, value_name = "STANDING", value_parser = standing)]
    state: Option<Standing>,
    /// Only keys that start with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// How many leases at most, 1 to 500
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Only keys that come after this one: the next page
    #[arg(long, value_name = "KEY")]
    after: Option<String>,
    /// With --after: also its own places after this one
    #[arg(long, value_name = "N", requires = "after")]
    after_slot: Option<u32>,
}

fn standing(text: &str) -> Result<Standing> {
    Standing::from_word(text)
        .ok_or_else(|| Error::new(Code::UsageInvalid, "the standing of a lease is held, released or expired"))
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let after = args.after.as_ref().map(Key::new).transpose()?;
    let after = after.map(|key| (key, args.after_slot.unwrap_or(limits::CAPACITY_MAX)));
    let client = store::connect(globals).await?;
    let page = client.admin().leases(args.state, args.prefix.clone(), after, args.limit).await?;
    store::close(globals, &client).await;
    if globals.output.is_json() {
        super::show::json(&page)?;
    } else {
        print(&page, args.limit)?;
    }
    Ok(ExitCode::from(exit::DONE))
}

fn print(page: &Snapshot<Record>, limit: usize) -> Result<()> {
    let mut table = Table::new(&["KEY", "SLOT", "STANDING", "SINCE", "UNTIL", "TOKEN", "WHO", "METADATA"]);
    for row in &page.rows {
        let about = row.metadata.as_deref().unwrap_or_default();
        table.row([
            &row.key as &dyn core::fmt::Display,
            &row.slot,
            &row.standing(page.now),
            &row.granted_at,
            &row.free_at(),
            &row.token,
            &row.owner,
            &about,
        ]);
    }
    if let Some(last) = page.rows.last().filter(|_| page.rows.len() == limit) {
        report::note(&format!(
            "there may be more, with --after {:?} --after-slot {}",
            last.key.as_str(),
            last.slot
        ));
    }
    table.print()
}
