//! An order that waits for somebody's approval, for as long as that takes, and for a month at most.
//!
//!     cargo run --example approval --features testing
//!
//! While it waits it holds no slot, and after a moment no memory. Its process may be gone meanwhile: one worker takes
//! the order to the point where it waits, another one goes on with it. Nobody waits a month to see what happens when
//! nobody answers: the test bed skips the time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use onceward::Onceward;
use onceward::durable::{AnyError, Failure, Standing, durable, signal, step};
use onceward::testing::TestBed;
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
        Err(Failure::TimedOut) => return Ok(format!("{article}: nobody has answered for a month")),
        answer => answer?,
    };
    let verdict = if answer.approved { "approved" } else { "declined" };
    Ok(format!("{article}: {verdict} by {}", answer.by))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file =
        std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("approval.db"), PathBuf::from);
    somebody_answers(&file).await?;
    nobody_answers().await
}

async fn somebody_answers(file: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    let ow = Onceward::connect(&format!("sqlite://{}", file.display())).await?;
    let run = ow.start(order("a new kettle".to_owned(), 4_900)).id("order-17").await?;
    // One worker takes it to the point where it waits, and goes away.
    let ttl = Duration::from_secs(2);
    let first =
        ow.worker().durable(order).park_after(Duration::from_millis(50)).session_ttl(ttl).start().await?;
    while !matches!(run.standing().await?, Standing::Parked | Standing::Succeeded) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("it is {:?}", run.standing().await?);
    first.shutdown().await;
    // Somebody answers; `onceward runs signal ID approval --json '{…}'` does the same.
    if let Err(error) = run.signal("approval", &Answer { by: "Ada".to_owned(), approved: true }).await {
        println!("it does not wait any more: {error}");
    }
    let second = ow.worker().durable(order).session_ttl(ttl).start().await?;
    println!("{}", run.result().await?);
    second.shutdown().await;
    ow.shutdown().await;
    Ok(())
}

/// A month, in a moment.
async fn nobody_answers() -> Result<(), Box<dyn std::error::Error>> {
    let (bed, began) = (TestBed::new(), Instant::now());
    let (worker, noon) = (bed.worker().durable(order).start().await?, bed.now());
    let run = bed.client().start(order("a golden kettle".to_owned(), 490_000)).await?;
    println!("{}", bed.result(&run).await?);
    let days = bed.now().since(noon).as_secs() / 86_400;
    println!("{days} days went by in {} ms", began.elapsed().as_millis());
    worker.shutdown().await;
    Ok(())
}
