//! Upkeep of the store as a service: what may be forgotten goes, partitions are made and dropped.

use core::time::Duration;

use onceward_core::{Result, limits};
use onceward_store::{Prune, PruneJobs, PruneTerms};

use super::builder::Service;
use super::term::Term;
use crate::client::Onceward;

/// What it is called.
pub(crate) const NAME: &str = "onceward.upkeep";
/// How often.
const EVERY: Duration = Duration::from_secs(10 * 60);
/// How many rows of each kind one round removes: short transactions, so that nobody waits for them.
const ROUND_ROWS: usize = 1_000;
const LEASES_OLDER_THAN: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const HISTORY_OLDER_THAN: Duration = Duration::from_secs(90 * 24 * 60 * 60);

pub(crate) fn service(client: &Onceward) -> Result<Service> {
    let of = client.clone();
    client.service(NAME).interval(EVERY).does(move |term| {
        let client = of.clone();
        async move { keep_up(&client, &term).await }
    })
}

/// Rounds until nothing is left to forget, or the term is over.
async fn keep_up(client: &Onceward, term: &Term) -> Result<()> {
    let store = client.store();
    let all = Prune {
        leases_older_than: LEASES_OLDER_THAN,
        history_older_than: HISTORY_OLDER_THAN,
        limit: ROUND_ROWS,
    };
    let jobs = PruneJobs::all(limits::DEAD_RETAIN_DEFAULT, ROUND_ROWS);
    let terms = PruneTerms { of: None, older_than: limits::TERMS_RETAIN_DEFAULT, limit: ROUND_ROWS };
    loop {
        term.check()?;
        // Sessions that have run out, where no worker is left to clear them away.
        store.job_rescue(ROUND_ROWS).await?;
        let (keys, jobs) = (store.prune(&all).await?, store.job_prune(&jobs).await?);
        let terms = store.service_prune(&terms).await?;
        term.progress();
        let most = [jobs.done, jobs.dead, jobs.keys, terms];
        if keys.is_last_of(&all) && most.iter().all(|gone| *gone < ROUND_ROWS as u64) {
            return Ok(());
        }
    }
}
