//! One worker process of the demo: tries every payment, and says on stdout what it is doing.

use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use onceward::{NotDone, Onceward, Outcome, Result};

use super::ledger::Ledger;

/// What a worker is told by its parent.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WorkerArgs {
    /// Where the charges go
    #[arg(long)]
    ledger: PathBuf,
    /// How many payments there are
    #[arg(long)]
    payments: u32,
    /// Where to begin, and how long to take
    #[arg(long)]
    seed: u64,
    /// Linger after each charge, so that the parent can pause this process between the charge and its record
    #[arg(long)]
    slow: bool,
}

/// The ttl of the demo's claims: how soon a killed worker's payment is called uncertain.
pub(super) const TTL: Duration = Duration::from_secs(1);

pub(super) fn payment(number: u32) -> String {
    format!("payment-{number:04}")
}

/// Tries all payments, from a place of its own on, until none is left that might still be done.
pub(crate) async fn run(args: &WorkerArgs, ow: &Onceward) -> Result<()> {
    let ledger = Ledger::at(&args.ledger);
    let mut open: HashSet<u32> = (0..args.payments).collect();
    let first = u32::try_from(args.seed % u64::from(args.payments.max(1))).unwrap_or_default();
    while !open.is_empty() {
        let mut met_others = false;
        for step in 0..args.payments {
            let number = (first + step) % args.payments;
            if !open.contains(&number) {
                continue;
            }
            match pay(args, ow, &ledger, number).await {
                Ok(Outcome::Running { .. } | Outcome::NotStarted { .. }) => met_others = true,
                Ok(_) => {
                    open.remove(&number);
                }
                // A store that is away or busy comes back.
                Err(error) if error.is_retryable() => met_others = true,
                Err(error) => return Err(error),
            }
        }
        if met_others {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    say("over", "");
    Ok(())
}

async fn pay(args: &WorkerArgs, ow: &Onceward, ledger: &Ledger, number: u32) -> Result<Outcome<String>> {
    let key = payment(number);
    // A little work before and after the charge: that is where the parent's SIGKILL will meet us.
    let pause = 4 + onceward_core::backoff::mix(args.seed ^ u64::from(number)) % 12;
    let pause = Duration::from_millis(pause);
    let outcome = ow
        .once(&key)
        .ttl(TTL)
        .fingerprint(&(&key, 4200))
        .run(async |attempt| {
            tokio::time::sleep(pause).await;
            let charge = ledger.charge(&key, &attempt.token().to_string())?;
            say("charged", &key);
            tokio::time::sleep(if args.slow { Duration::from_millis(150) } else { pause }).await;
            Ok::<_, NotDone>(charge)
        })
        .await?;
    match &outcome {
        Outcome::Done { replayed: false, .. } => say("done", &key),
        Outcome::Uncertain { reason, .. } if reason == onceward::once::SUPERSEDED => say("refused", &key),
        _ => {}
    }
    Ok(outcome)
}

fn say(what: &str, key: &str) {
    let mut out = std::io::stdout().lock();
    // The parent may be gone; then nobody listens, and that is fine.
    let _ = writeln!(out, "{what} {key}").and_then(|()| out.flush());
}
