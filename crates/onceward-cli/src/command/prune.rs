//! `onceward prune`: forgets what may be forgotten, round by round.

use core::time::Duration;
use std::process::ExitCode;

use onceward::Result;
use onceward::store::{Prune, Pruned};

use crate::args::{Globals, duration};
use crate::output::{self, Table};
use crate::{exit, store};

/// How many rows of each kind one round removes: short transactions, so that nobody waits for them.
const ROUND_ROWS: usize = 1000;

/// Forget what may be forgotten: retired results, old leases, old history
///
/// Never anything uncertain or running, and never a lease that is held.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leases given back or expired at least this long ago go
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "7 days")]
    leases_older_than: Duration,
    /// Events of the history at least this old go
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "90 days")]
    history_older_than: Duration,
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect(globals).await?;
    let ask = Prune {
        leases_older_than: args.leases_older_than,
        history_older_than: args.history_older_than,
        limit: ROUND_ROWS,
    };
    let mut sum = Pruned::default();
    loop {
        let round = client.admin().prune(&ask).await?;
        sum = Pruned {
            once: sum.once + round.once,
            leases: sum.leases + round.leases,
            history: sum.history + round.history,
        };
        if round == Pruned::default() {
            break;
        }
    }
    store::close(globals, &client).await;
    print(globals, sum)?;
    Ok(ExitCode::from(exit::DONE))
}

fn print(globals: &Globals, sum: Pruned) -> Result<()> {
    if globals.output.is_json() {
        return output::json(&sum);
    }
    let mut table = Table::new(&["FORGOTTEN", "ROWS"]);
    for (what, rows) in [("once", sum.once), ("leases", sum.leases), ("history", sum.history)] {
        table.row([&what as &dyn core::fmt::Display, &rows]);
    }
    table.print()
}
