//! Things that fail: some for a while, some for good, and some that end as dead letters and are brought back to life.
//!
//!     cargo run --example failing_flow
//!
//! What fails for a while is tried again by itself. What fails for good is not. What has used up its attempts is a dead
//! letter, which somebody looks at, repairs the cause of, and has run again. Kill it at any moment and start it again.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use onceward::durable::{AnyError, Failure, durable, step};
use onceward::worker::State;
use onceward::{JobFilter, Onceward};
use onceward_core::job::State as JobState;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum PayError {
    /// Another attempt may help.
    Unreachable,
    /// No attempt will.
    Declined,
}

impl fmt::Display for PayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for PayError {}

fn may_help(error: &PayError) -> bool {
    *error == PayError::Unreachable
}

/// The bank: a folder in which a file says whether it is open.
struct Bank(PathBuf);

impl Bank {
    fn is_open(&self) -> bool {
        self.0.join("open").exists()
    }
}

/// Whatever the amount says goes wrong. It has written nothing down when it fails, so it is called again.
#[durable(max_attempts = 3, retry = "fixed 150ms", retry_if = may_help)]
async fn pay(bank: State<Bank>, cents: u64) -> Result<String, PayError> {
    tokio::time::sleep(Duration::from_millis(100)).await;
    match cents {
        0..100 if !bank.is_open() => Err(PayError::Unreachable),
        1_000.. => Err(PayError::Declined),
        _ => Ok(format!("paid {cents}")),
    }
}

/// A step is tried again where it stands, and what was done before it stays done.
#[durable]
async fn notify(user: String) -> Result<u32, AnyError> {
    let mut tries = 0;
    let sent = step("mail", || {
        tries += 1;
        let tries = tries;
        async move { if tries < 3 { Err(AnyError::new("the mail server is busy")) } else { Ok(tries) } }
    })
    .max_attempts(5)
    .retry("fixed 50ms".parse().map_err(AnyError::new)?)
    .await?;
    println!("{user} was told, at the attempt number {sent}");
    Ok(sent)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file =
        std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("failing_flow.db"), PathBuf::from);
    let folder = file.with_extension("bank");
    std::fs::create_dir_all(&folder)?;
    let ow = Onceward::connect(&format!("sqlite://{}", file.display())).await?;
    let worker = ow
        .worker()
        .durable(pay)
        .durable(notify)
        .state(Bank(folder.clone()))
        .session_ttl(Duration::from_secs(2))
        .start()
        .await?;

    ow.start(notify("Ada".to_owned())).id("notify-ada").await?.result().await?;
    let declined = ow.start(pay(5_000)).id("pay-5000").await?.result().await;
    println!("5000 cents: {}", said(&declined));
    assert_eq!(declined, Err(Failure::App(PayError::Declined)), "the error is the same value here");

    let small = ow.start(pay(42)).id("pay-42").await?;
    let first = small.result().await;
    println!("42 cents: {}", said(&first));
    if first.is_err() {
        // Somebody looks at the dead letters, opens the bank, and has them run again.
        let dead = JobFilter { state: Some(JobState::Dead), ..JobFilter::default() };
        for letter in ow.admin().runs(&dead, None, 100).await?.rows {
            let why = letter.error.unwrap_or_default();
            println!(
                "dead letter {} of {}: {why}, after {} attempts",
                letter.id, letter.kind, letter.attempt
            );
        }
        std::fs::write(folder.join("open"), "")?;
        ow.admin().retry_job(small.id(), None, Some("the bank is open again")).await?;
    }
    println!("42 cents: {}", said(&small.result().await));
    worker.shutdown().await;
    ow.shutdown().await;
    Ok(())
}

fn said<E: fmt::Display>(result: &Result<String, Failure<E>>) -> String {
    match result {
        Ok(text) => text.clone(),
        Err(failure) => format!("failed, {failure}"),
    }
}
