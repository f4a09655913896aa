//! `onceward prune`: forgets what may be forgotten, round by round.

use core::time::Duration;
use std::collections::BTreeMap;
use std::process::ExitCode;

use onceward::Result;
use onceward::store::{Prune, PruneJobs, PruneTerms, Pruned, PrunedJobs};

use crate::args::{Globals, duration};
use crate::output::{self, Table};
use crate::{exit, store};

/// How many rows of each kind one round removes: short transactions, so that nobody waits for them.
const ROUND_ROWS: usize = 1000;

/// Forget what may be forgotten: retired results, old leases, old history, jobs that are over, old terms of services
///
/// Never anything uncertain or running, and never a lease that is held. Jobs that have succeeded or were cancelled are
/// kept for as long as they say; on PostgreSQL this also makes the partitions they lie in.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "purge")]
pub(crate) struct Args {
    /// Leases given back or expired at least this long ago go
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "7 days")]
    leases_older_than: Duration,
    /// Events of the history at least this old go
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "90 days")]
    history_older_than: Duration,
    /// Dead jobs that ended at least this long ago go
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "90 days")]
    dead_older_than: Duration,
    /// Terms of services, and cycles that were missed, at least this old go; the last one of each service stays
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "7 days")]
    terms_older_than: Duration,
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let client = store::connect(globals).await?;
    let ask = Prune {
        leases_older_than: args.leases_older_than,
        history_older_than: args.history_older_than,
        limit: ROUND_ROWS,
    };
    let jobs = PruneJobs { dead_older_than: args.dead_older_than, limit: ROUND_ROWS };
    let terms = PruneTerms { older_than: args.terms_older_than, limit: ROUND_ROWS };
    let admin = client.admin();
    let mut sum = Sum { runs: admin.prune_runs().await?, ..Sum::default() };
    loop {
        let (keys, jobs) = (admin.prune(&ask).await?, admin.prune_jobs(&jobs).await?);
        let round = Sum { keys, jobs, runs: 0, terms: admin.prune_terms(&terms).await? };
        sum.add(&round);
        if round == Sum::default() {
            break;
        }
    }
    store::close(globals, &client).await;
    print(globals, &sum)?;
    Ok(ExitCode::from(exit::DONE))
}

/// What went in all rounds together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    keys: Pruned,
    jobs: PrunedJobs,
    /// Journals of runs that went before.
    runs: u64,
    terms: u64,
}

impl Sum {
    fn add(&mut self, round: &Self) {
        self.keys.once += round.keys.once;
        self.keys.leases += round.keys.leases;
        self.keys.history += round.keys.history;
        self.jobs.done += round.jobs.done;
        self.jobs.dead += round.jobs.dead;
        self.jobs.keys += round.jobs.keys;
        self.terms += round.terms;
    }

    fn rows(&self) -> [(&'static str, u64); 8] {
        let Self { keys, jobs, runs, terms } = self;
        [
            ("once", keys.once),
            ("leases", keys.leases),
            ("history", keys.history),
            ("jobs", jobs.done),
            ("dead_jobs", jobs.dead),
            ("job_keys", jobs.keys),
            ("journals", *runs),
            ("terms", *terms),
        ]
    }
}

fn print(globals: &Globals, sum: &Sum) -> Result<()> {
    if globals.output.is_json() {
        return output::json(&sum.rows().into_iter().collect::<BTreeMap<_, _>>());
    }
    let mut table = Table::new(&["FORGOTTEN", "ROWS"]);
    for (what, rows) in sum.rows() {
        table.row([&what as &dyn core::fmt::Display, &rows]);
    }
    table.print()
}
