//! Durable functions with effects outside of any database.

use std::time::Duration;

use onceward::durable::{AnyError, Failure, durable, join_all, run_id, signal, sleep, step, token};
use onceward::jobs::JobId;
use onceward::worker::State;
use onceward::{Onceward, Outcome};

use super::Ledger;

/// A step has had its effect: of which run, at which position, in which attempt.
pub(crate) struct Did {
    pub(crate) run: JobId,
    pub(crate) position: String,
    pub(crate) token: i64,
}

/// Notes an effect, at a position that is known from the code.
fn did(ledger: &Ledger, position: &str) -> Result<(), AnyError> {
    ledger.did(&Did { run: run_id()?, position: position.to_owned(), token: token()?.get() });
    Ok(())
}

#[durable(name = "proof.checkout")]
pub(crate) async fn checkout(ledger: State<Ledger>, order: u32) -> Result<u32, AnyError> {
    did(&ledger, "begun")?;
    effect(&ledger, "reserve", "0", order).await?;
    let paid = pay(order).await?;
    sleep(Duration::from_millis(u64::from(order % 5) * 60)).await?;
    let parcels = join_all((0..3).map(|parcel| pack(order, parcel))).await;
    let parcels: u32 = parcels.into_iter().sum::<Result<u32, _>>()?;
    let courier: u32 = signal("courier").await?;
    if courier != order {
        return Err(AnyError::new("the courier of another order"));
    }
    let (id, attempt) = (run_id()?, token()?.get());
    let shipped = step("ship", || {
        ledger.did(&Did { run: id, position: "8".to_owned(), token: attempt });
        async { Ok::<u32, AnyError>(0) }
    });
    match shipped.at_most_once().await {
        Ok(_) | Err(Failure::Uncertain(_)) => {}
        Err(failure) => return Err(failure.into()),
    }
    effect(&ledger, "mail", "9", order).await?;
    Ok(paid + parcels)
}

async fn effect(ledger: &Ledger, name: &'static str, position: &str, order: u32) -> Result<(), AnyError> {
    let (id, attempt) = (run_id()?, token()?.get());
    let done = step(name, || async {
        ledger.did(&Did { run: id, position: position.to_owned(), token: attempt });
        tokio::time::sleep(Duration::from_millis(u64::from(order % 7))).await;
        Ok::<(), AnyError>(())
    });
    Ok(done.await?)
}

/// Charges once. While nobody knows whether it was charged it fails, and is tried again until somebody has asked the
/// ledger.
#[durable(name = "proof.pay", max_attempts = 1_000, retry = "fixed 100ms")]
pub(crate) async fn pay(ow: State<Onceward>, ledger: State<Ledger>, order: u32) -> Result<u32, AnyError> {
    let once = ow.once(payment(order)).ttl(Duration::from_secs(1));
    let outcome = once.run(async |attempt| {
        // One that was paused for long before it has begun does not begin.
        attempt.check()?;
        ledger.charged(order, order * 100);
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(order * 100)
    });
    match outcome.await? {
        Outcome::Done { value, .. } => Ok(value),
        other => Err(AnyError::new(format!("not paid yet: {other:?}"))),
    }
}

/// The key that an order is paid under.
pub(crate) fn payment(order: u32) -> String {
    format!("payment {order}")
}

#[durable(name = "proof.pack")]
pub(crate) async fn pack(order: u32, parcel: u32) -> Result<u32, AnyError> {
    step("wrap", || async { Ok::<(), AnyError>(()) }).await?;
    Ok(order + parcel)
}
