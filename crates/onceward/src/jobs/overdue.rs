//! Jobs whose deadline has passed and that nobody takes, as no worker knows their kind, or none is left: whoever has
//! the scheduler ends them (W47). Where workers take them, these end them sooner.

use core::time::Duration;

use onceward_core::job::{Move, Moved};
use onceward_core::{Result, limits};
use onceward_store::{JobRef, MoveJob};
use tokio::time::sleep;

use crate::client::Onceward;
use crate::durable::timed_out;
use crate::service::Term;

/// How often one looks; a statement that finds nothing.
const EVERY: Duration = Duration::from_secs(60);
/// The same where time limits are short.
const EVERY_IN_TESTS: Duration = Duration::from_millis(500);
/// How many are looked for at a time.
const LIMIT: usize = 500;

/// Ends them until the term is over.
pub(crate) async fn lead(client: &Onceward, term: &Term) {
    let every = if client.ttl_min() < limits::TTL_MIN { EVERY_IN_TESTS } else { EVERY };
    while term.check().is_ok() {
        let pause = match round(client, term).await {
            Ok(ended) if ended == LIMIT => Duration::ZERO,
            Ok(_) => every,
            Err(error) => {
                tracing::warn!(%error, "overdue jobs could not be ended and will be looked for again");
                every
            }
        };
        tokio::select! {
            _ = term.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

/// Ends some; how many.
async fn round(client: &Onceward, term: &Term) -> Result<usize> {
    let store = client.store();
    let overdue = store.job_overdue(&client.namespace, LIMIT).await?;
    if overdue.is_empty() {
        return Ok(0);
    }
    let rows = store.job_lookup(&overdue).await?.rows;
    let (mut ended, mut told) = (0, false);
    for row in rows.into_iter().flatten() {
        term.check()?;
        let ask = MoveJob {
            job: JobRef { namespace: row.namespace.clone(), id: row.id },
            // What has moved on meanwhile may have another deadline.
            token: Some(row.token),
            to: Move::Expire(row.policy.durable.then(timed_out)),
            actor: client.owner.clone(),
            reason: None,
            dry_run: false,
        };
        if let Moved::Applied { .. } = store.job_move(&ask).await? {
            ended += 1;
            told |= row.parent.is_some();
        }
    }
    if told {
        // Runs that wait for them.
        let woken = store.run_wake().await?.queues;
        client.tell_workers(&woken).await;
    }
    if ended > 0 {
        tracing::warn!(jobs = ended, "jobs have ended whose deadline had passed and that no worker took");
    }
    Ok(ended)
}
