//! A durable function, its children, and a process that may be killed at any moment.
//!
//!     cargo run --example simple_flow
//!
//! Kill it while it runs (Ctrl-C will do) and start it again: it goes on where it was, and sends no mail twice.

use std::path::PathBuf;
use std::time::Duration;

use onceward::Onceward;
use onceward::durable::{AnyError, durable, join_all, sleep, step};

/// A child: any worker that knows it may run it, and it is tried again if it fails.
#[durable(max_attempts = 5, retry = "fixed 200ms")]
async fn charge(order: u64, cents: u64) -> Result<String, AnyError> {
    Ok(format!("ch_{order}_{cents}"))
}

#[durable]
async fn pick(order: u64, article: String) -> Result<String, AnyError> {
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok(format!("{article} for order {order}"))
}

#[durable]
async fn checkout(order: u64, articles: Vec<String>) -> Result<Vec<String>, AnyError> {
    let charge = charge(order, 1_999).await?;
    println!("charged: {charge}");
    let parcels = join_all(articles.into_iter().map(|article| pick(order, article))).await;
    let parcels = parcels.into_iter().collect::<Result<Vec<_>, _>>()?;
    println!("picked: {}", parcels.join(", "));
    // It would hold no memory for a day either.
    sleep(Duration::from_millis(500)).await?;
    step("mail", || async {
        println!("the mail goes out, once");
        Ok::<(), AnyError>(())
    })
    .await?;
    Ok(parcels)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file =
        std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("simple_flow.db"), PathBuf::from);
    let ow = Onceward::connect(&format!("sqlite://{}", file.display())).await?;
    let worker = ow
        .worker()
        .durable(checkout)
        .durable(charge)
        .durable(pick)
        .session_ttl(Duration::from_secs(2))
        .start()
        .await?;
    let articles = ["tea", "a pot", "two cups"].map(str::to_owned).to_vec();
    let run = ow.start(checkout(789, articles)).id("order-789").await?;
    println!("run {} ({})", run.id(), if run.is_created() { "started" } else { "it was started before" });
    println!("done: {:?}", run.result().await?);
    worker.shutdown().await;
    ow.shutdown().await;
    Ok(())
}
