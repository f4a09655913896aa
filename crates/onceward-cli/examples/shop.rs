//! A program of one's own with the command line of Onceward: `shop worker` runs its functions, and before it is
//! deployed `shop runs check` tells which runs would not go on with it.
//!
//!     cargo run -p onceward-cli --example shop -- runs start checkout --json '{"order": 789}'
//!     cargo run -p onceward-cli --example shop -- worker

use std::process::ExitCode;
use std::time::Duration;

use onceward::durable::{AnyError, durable, map, signal, step};
use onceward_cli::Program;

#[durable]
async fn pack(order: u64, parcel: u32) -> Result<String, AnyError> {
    Ok(format!("{order}/{parcel}"))
}

#[durable]
async fn checkout(order: u64) -> Result<Vec<String>, AnyError> {
    step("reserve", || async { Ok::<_, AnyError>(()) }).await?;
    let parcels = map(0..8, 4, |parcel| pack(order, parcel)).await;
    let parcels = parcels.into_iter().collect::<Result<Vec<_>, _>>()?;
    let courier: String = signal("courier").await?;
    step("ship", || async { Ok::<_, AnyError>(courier.clone()) }).await?;
    Ok(parcels)
}

fn main() -> ExitCode {
    Program::new()
        .functions(|worker| worker.durable(checkout).durable(pack).park_after(Duration::from_millis(100)))
        .main_with(std::env::args_os())
}
