//! Durable functions with effects outside of any database.

use std::time::Duration;

use onceward::durable::{AnyError, Failure, durable, join_all, run_id, sleep, step, token};
use onceward::jobs::JobId;
use onceward::worker::State;

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
    let (id, attempt) = (run_id()?, token()?.get());
    let shipped = step("ship", || {
        ledger.did(&Did { run: id, position: "7".to_owned(), token: attempt });
        async { Ok::<u32, AnyError>(0) }
    });
    match shipped.at_most_once().await {
        Ok(_) | Err(Failure::Uncertain(_)) => {}
        Err(failure) => return Err(failure.into()),
    }
    effect(&ledger, "mail", "8", order).await?;
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

#[durable(name = "proof.pay")]
pub(crate) async fn pay(order: u32) -> Result<u32, AnyError> {
    tokio::time::sleep(Duration::from_millis(5)).await;
    Ok(order * 100)
}

#[durable(name = "proof.pack")]
pub(crate) async fn pack(order: u32, parcel: u32) -> Result<u32, AnyError> {
    step("wrap", || async { Ok::<(), AnyError>(()) }).await?;
    Ok(order + parcel)
}
