//! `onceward once list`: the keys of a namespace, page by page.

use std::process::ExitCode;

use onceward::store::Snapshot;
use onceward::{Code, Error, Key, Result};
use onceward_core::once::{Record, State};
use serde_json::Value;

use crate::args::Globals;
use crate::output::{self, Table};
use crate::{exit, report, store};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only keys of which nobody knows whether they were done
    #[arg(long, conflicts_with = "state")]
    uncertain: bool,
    /// Only keys in this state: running, done, failed, uncertain or released
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<State>,
    /// Only keys that start with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// How many keys at most, 1 to 500
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Only keys that come after this one: the next page
    #[arg(long, value_name = "KEY")]
    after: Option<String>,
}

fn state(text: &str) -> Result<State> {
    State::from_word(text).ok_or_else(|| {
        Error::new(Code::UsageInvalid, "a state is running, done, failed, uncertain or released")
    })
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let after = args.after.as_ref().map(Key::new).transpose()?;
    let state = if args.uncertain { Some(State::Uncertain) } else { args.state };
    let client = store::connect(globals).await?;
    let page = client.admin().once_keys(state, args.prefix.clone(), after, args.limit).await?;
    store::close(globals, &client).await;
    print(&page, args.limit, globals)?;
    Ok(ExitCode::from(exit::DONE))
}

fn print(page: &Snapshot<Record>, limit: usize, globals: &Globals) -> Result<()> {
    if globals.output.is_json() {
        let rows = page.rows.iter().map(|row| super::show::value(row, page.now));
        return output::json(&rows.collect::<Result<Vec<Value>>>()?);
    }
    let mut table = Table::new(&["KEY", "STATE", "SINCE", "TOKEN", "WHO", "WHY"]);
    for row in &page.rows {
        let state = row.state_at(page.now);
        let since = row.uncertain_since(page.now).or(row.finished_at).unwrap_or(row.claimed_at);
        let why = super::show::why(row, page.now).unwrap_or_default();
        table.row([&row.key as &dyn core::fmt::Display, &state, &since, &row.token, &row.owner, &why]);
    }
    if let Some(last) = page.rows.last().filter(|_| page.rows.len() == limit) {
        report::note(&format!("there may be more, with --after {:?}", last.key.as_str()));
    }
    table.print()
}
