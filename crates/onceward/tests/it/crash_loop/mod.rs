//! What the crash loop consists of: the work and its ledger outside of any database, and worker processes that are
//! killed, paused and continued.

mod fleet;
mod ledger;
mod runs;

use std::path::Path;
use std::time::Duration;

use onceward::worker::{JobContext, State, WorkerBuilder};
use onceward::{Job, Onceward};
use serde::{Deserialize, Serialize};

pub(crate) use fleet::Fleet;
pub(crate) use ledger::{Ledger, Run};
pub(crate) use runs::{Did, checkout, pack, pay, payment};

/// Whether a proof runs at its full length.
pub(crate) fn long() -> bool {
    std::env::var("ONCEWARD_PROVE").is_ok_and(|value| value == "long")
}

pub(crate) const ATTEMPTS: u32 = 8;

/// May be run again: some fail at first, a few always.
#[derive(Serialize, Deserialize, Job)]
#[job(kind = "proof.again", retry = "fixed 20ms", max_attempts = 8)]
pub(crate) struct Again(pub(crate) u32);

/// Must not be run again by itself.
#[derive(Serialize, Deserialize, Job)]
#[job(kind = "proof.once", at_most_once)]
pub(crate) struct AtMostOnce(pub(crate) u32);

async fn again(job: Again, ledger: State<Ledger>, context: JobContext) -> Result<u32, &'static str> {
    ledger.ran(&context);
    take_some_time(job.0).await;
    match (job.0 % 50, context.attempt()) {
        (0, _) => Err("it always fails"),
        (1..7, 1) => Err("it fails at first"),
        _ => Ok(context.attempt()),
    }
}

async fn once(job: AtMostOnce, ledger: State<Ledger>, context: JobContext) {
    ledger.ran(&context);
    take_some_time(job.0).await;
}

async fn take_some_time(number: u32) {
    tokio::time::sleep(Duration::from_millis(u64::from(5 + number % 60))).await;
}

pub(crate) async fn client(url: &str) -> Onceward {
    // Nobody gives up while another process is stopped in the middle of a commit on SQLite.
    Onceward::options().deadline(Duration::from_secs(60)).connect(url).await.unwrap()
}

pub(crate) fn worker(ow: &Onceward, folder: &Path, ttl: Duration) -> WorkerBuilder {
    let base = ow
        .worker()
        .job(again)
        .job(once)
        .state(Ledger::at(folder))
        .state(ow.clone())
        .concurrency(8)
        .session_ttl(ttl);
    base.durable(checkout).durable(pay).durable(pack).park_after(Duration::from_millis(120))
}
