//! `onceward prune`: forgets what may be forgotten, round by round.

use core::time::Duration;
use std::collections::BTreeMap;
use std::process::ExitCode;

use onceward::store::{Prune, PruneJobs, PruneOnly, PruneTerms, Pruned, PrunedJobs};
use onceward::{Code, Error, Kind, Onceward, Queue, Result};
use onceward_core::job::State;
use serde_json::json;

use super::jobs::filter;
use crate::args::{Globals, duration};
use crate::output::{self, Table};
use crate::{exit, store};

/// How many rows of each kind one round removes: short transactions, so that nobody waits for them.
const ROUND_ROWS: usize = 1000;
/// Up to where jobs are counted that would be forgotten.
const COUNT_MAX: usize = 1_000_000;

/// Forget what may be forgotten: retired results, old leases, old history, jobs that are over, old terms of services
///
/// Never anything uncertain or running, and never a lease that is held. Jobs that have succeeded or were cancelled
/// are kept for as long as they say; on PostgreSQL this also makes the partitions they lie in. Without a worker that
/// does the upkeep, nothing is forgotten before this is run.
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
    /// Only jobs of this queue, and nothing else
    #[arg(long, value_name = "QUEUE", value_parser = filter::queue)]
    queue: Option<Queue>,
    /// Only jobs of this kind, and nothing else
    #[arg(long, value_name = "KIND", value_parser = filter::kind)]
    kind: Option<Kind>,
    /// Only jobs in this state, succeeded, cancelled or dead, and nothing else
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<State>,
    /// Go by the database's clock even where it does not agree with this host's
    #[arg(long)]
    trust_clock: bool,
    /// Count the jobs that would go, and change nothing
    #[arg(long)]
    dry_run: bool,
}

fn state(text: &str) -> Result<State> {
    let state = filter::state(text)?;
    if matches!(state, State::Succeeded | State::Cancelled | State::Dead) {
        return Ok(state);
    }
    let why = format!("jobs that are {state} are not forgotten: say succeeded, cancelled or dead");
    Err(Error::new(Code::UsageInvalid, why))
}

impl Args {
    /// The jobs; those of other namespaces as well where nothing is said of them, as ever.
    fn jobs(&self, client: &Onceward) -> PruneJobs {
        let Self { queue, kind, state, .. } = self;
        let mut only = PruneOnly { namespace: None, queue: queue.clone(), kind: kind.clone(), state: *state };
        if !only.is_all() {
            only.namespace = Some(client.namespace().clone());
        }
        let limit = if self.dry_run { COUNT_MAX } else { ROUND_ROWS };
        PruneJobs { dead_older_than: self.dead_older_than, only, dry_run: self.dry_run, limit }
    }
}

pub(crate) async fn run(args: &Args, globals: &Globals) -> Result<ExitCode> {
    let options = Onceward::options().trust_server_clock(args.trust_clock);
    let client = store::connect_with(globals, options).await?;
    let ask = Prune {
        leases_older_than: args.leases_older_than,
        history_older_than: args.history_older_than,
        limit: ROUND_ROWS,
    };
    let jobs = args.jobs(&client);
    if jobs.dry_run || !jobs.only.is_all() {
        let done = only_jobs(&client, &jobs).await;
        store::close(globals, &client).await;
        return print_jobs(globals, &done?, jobs.dry_run).map(|()| ExitCode::from(exit::DONE));
    }
    let terms = PruneTerms { of: None, older_than: args.terms_older_than, limit: ROUND_ROWS };
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

/// Forgets some jobs, or counts them.
async fn only_jobs(client: &Onceward, ask: &PruneJobs) -> Result<PrunedJobs> {
    let (admin, mut sum) = (client.admin(), PrunedJobs::default());
    loop {
        let round = admin.prune_jobs(ask).await?;
        sum.done += round.done;
        sum.dead += round.dead;
        sum.keys += round.keys;
        if ask.dry_run || round == PrunedJobs::default() {
            return Ok(sum);
        }
    }
}

fn print_jobs(globals: &Globals, jobs: &PrunedJobs, dry_run: bool) -> Result<()> {
    let rows = [("jobs", jobs.done), ("dead_jobs", jobs.dead), ("job_keys", jobs.keys)];
    if globals.output.is_json() {
        let PrunedJobs { done, dead, keys } = jobs;
        let counts = json!({ "dry_run": dry_run, "jobs": done, "dead_jobs": dead, "job_keys": keys });
        return output::json(&counts);
    }
    let mut table = Table::new(&[if dry_run { "WOULD GO" } else { "FORGOTTEN" }, "ROWS"]);
    for (what, rows) in rows {
        table.row([&what as &dyn core::fmt::Display, &rows]);
    }
    table.print()
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
