//! For tests: the scheduler's step, without the scheduler.

use onceward_core::Result;

use crate::client::Onceward;

/// Enqueues what is due of the schedules of this namespace, once, as a scheduler that leads would do it; whether
/// anything was due.
///
/// # Errors
/// Those of an unreachable store.
pub async fn fire_due(client: &Onceward) -> Result<bool> {
    crate::schedule::fire_due(client).await
}
