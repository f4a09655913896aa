//! A data pipeline: sources are fetched at the same time, each fetch is kept for the whole day, flaky ones are tried
//! again, and all of it has to be ready in time.
//!
//!     cargo run --example complex_workflow -- [STORE]
//!
//! Start it twice: the second report fetches nothing. Kill it in the middle: what was fetched is not fetched again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use onceward::durable::{AnyError, Failure, durable, sleep, step, try_join, try_join_all};
use onceward::worker::State;
use onceward::{NotDone, Onceward, Outcome};
use serde::{Deserialize, Serialize};

const DAY: Duration = Duration::from_secs(86_400);
/// How long a report may take in all.
const EXPIRY: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Rows {
    source: String,
    amounts: Vec<u64>,
}

/// Fetches a source, once a day whoever asks: the result is kept under a key of its own, beside all runs.
#[durable(max_attempts = 50, retry = "fixed 100ms")]
async fn fetch(ow: State<Onceward>, source: String, day: u32) -> Result<Rows, AnyError> {
    let outcome = ow
        .once(format!("fetch:{source}:{day}"))
        .retain_for(DAY)
        // How soon others notice that whoever fetches has died.
        .ttl(Duration::from_secs(1))
        // To fetch twice does no harm: one that was interrupted may simply be begun again.
        .restartable(true)
        .run(async |attempt| {
            tokio::time::sleep(Duration::from_millis(150)).await;
            if source == "flaky" && attempt.number() == 1 {
                return Err(NotDone::not_started("the connection was reset"));
            }
            println!("fetched {source}");
            let amounts = (1..=5).map(|n| n * (source.len() as u64)).collect();
            Ok(Rows { source: source.clone(), amounts })
        })
        .await
        .map_err(AnyError::new)?;
    match outcome {
        Outcome::Done { value, .. } => Ok(value),
        other => Err(AnyError::new(format!("{source} is not there yet: {other:?}"))),
    }
}

#[durable]
async fn clean(rows: Rows) -> Result<Rows, AnyError> {
    let amounts = rows.amounts.into_iter().filter(|amount| amount % 2 == 0).collect();
    Ok(Rows { amounts, ..rows })
}

/// One source after its fetch.
#[durable]
async fn ingest(source: String, day: u32) -> Result<Rows, AnyError> {
    let rows = fetch(source, day).await?;
    Ok(clean(rows).await?)
}

#[durable]
async fn report(day: u32) -> Result<BTreeMap<String, u64>, AnyError> {
    let sources = ["orders", "refunds", "flaky"].map(str::to_owned);
    let (ingested, rate) = try_join!(
        try_join_all(sources.into_iter().map(|source| ingest(source, day))),
        step("exchange rate", || async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok::<u64, AnyError>(2)
        })
    )?;
    // The last numbers of the day come late.
    sleep(Duration::from_millis(300)).await?;
    let sums =
        ingested.into_iter().map(|rows| (rows.source, rows.amounts.iter().sum::<u64>() * rate)).collect();
    let printed: &BTreeMap<String, u64> = &sums;
    step("publish", || async {
        println!("published {printed:?}");
        Ok::<_, AnyError>(())
    })
    .await?;
    Ok(sums)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args()
        .nth(1)
        .map_or_else(|| std::env::temp_dir().join("complex_workflow.db"), PathBuf::from);
    let ow = Onceward::connect(&format!("sqlite://{}", file.display())).await?;
    let worker = ow
        .worker()
        .durable(report)
        .durable(ingest)
        .durable(fetch)
        .durable(clean)
        .state(ow.clone())
        .session_ttl(Duration::from_secs(2))
        .start()
        .await?;
    for edition in ["morning", "evening"] {
        let began = Instant::now();
        let run = ow.start(report(20_260)).id(format!("report-{edition}")).expiry(EXPIRY).await?;
        match run.result().await {
            Ok(sums) => println!("the {edition} report: {sums:?}, {:.1} s", began.elapsed().as_secs_f64()),
            Err(Failure::TimedOut) => {
                println!("the {edition} report came too late, and is not made any more")
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    worker.shutdown().await;
    ow.shutdown().await;
    Ok(())
}
