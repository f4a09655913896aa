//! One worker process of the demo.

use std::path::PathBuf;
use std::sync::Arc;

use onceward::http_jobs::HttpDelivery;
use onceward::{Onceward, Result};
use tokio::io::AsyncReadExt;

use super::checkout::{Shop, TTL, charge, checkout, pack, policy};
use super::ledger::Ledger;

/// What a worker is told by its parent.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WorkerArgs {
    /// Where the charges go
    #[arg(long)]
    ledger: PathBuf,
    /// Who wants to hear of parcels
    #[arg(long)]
    hook: String,
    /// How long to take
    #[arg(long)]
    seed: u64,
    /// Linger after each charge, so that the parent can pause this process between the charge and its record
    #[arg(long)]
    slow: bool,
}

/// Works until the parent is through, or gone.
pub(crate) async fn run(args: &WorkerArgs, ow: &Onceward) -> Result<()> {
    let shop = Shop {
        ow: ow.clone(),
        card_company: Ledger::at(&args.ledger),
        hook: args.hook.clone(),
        seed: args.seed,
        slow: args.slow,
    };
    ow.worker()
        .durable(checkout)
        .durable(charge)
        .durable(pack)
        .http(HttpDelivery::new().policy(policy()))
        .state(Arc::new(shop))
        .concurrency(if args.slow { 2 } else { 16 })
        .session_ttl(TTL)
        .run_until(async {
            let mut nothing = [0; 1];
            // Nothing ever comes: it is closed when the parent ends, however it does.
            let _ = tokio::io::stdin().read(&mut nothing).await;
        })
        .await
}
