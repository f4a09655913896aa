//! An order that waits for somebody's approval, for as long as that takes, and for a month at most.
//!
//!     cargo run --example approval
//!
//! While it waits it holds no slot, and after a moment no memory. Its process may be gone meanwhile.

use std::path::PathBuf;
use std::time::Duration;

use onceward::Onceward;
use onceward::durable::{AnyError, Failure, durable, signal, step};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    by: String,
    approved: bool,
}

const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[durable]
async fn order(article: String, cents: u64) -> Result<String, AnyError> {
    step("ask", || async {
        println!("may we spend {cents} on {article}?");
        Ok::<(), AnyError>(())
    })
    .await?;
    let answer = match signal::<Answer>("approval").timeout(MONTH).await {
        Err(Failure::TimedOut) => return Ok("nobody has answered".to_owned()),
        answer => answer?,
    };
    let verdict = if answer.approved { "approved" } else { "declined" };
    Ok(format!("{article}: {verdict} by {}", answer.by))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file =
        std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("approval.db"), PathBuf::from);
    let store = format!("sqlite://{}", file.display());
    let ow = Onceward::connect(&store).await?;
    let run = ow.start(order("a new kettle".to_owned(), 4_900)).id("order-17").await?;
    // One worker takes it to the point where it waits, and goes away.
    let first = ow.worker().durable(order).park_after(Duration::from_millis(50)).start().await?;
    tokio::time::sleep(Duration::from_millis(600)).await;
    println!("it is {:?}", run.standing().await?);
    first.shutdown().await;
    // Somebody answers; `onceward runs signal ID approval --json '{…}'` does the same.
    if let Err(error) = run.signal("approval", &Answer { by: "Ada".to_owned(), approved: true }).await {
        println!("it does not wait any more: {error}");
    }
    let second = ow.worker().durable(order).start().await?;
    println!("{}", run.result().await?);
    second.shutdown().await;
    ow.shutdown().await;
    Ok(())
}
