//! Hints between processes: that something has happened which others may want to look at. Nothing depends on them:
//! whoever misses one finds out by looking again.

#[cfg(any(feature = "postgres", feature = "redis"))]
mod outbox;

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::store::Wake;

#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) use outbox::{Outbox, Told, wakes};

/// Carries hints to other processes, beside the way that the database offers.
#[async_trait]
pub trait Carrier: Send + Sync + 'static {
    /// Tells the others. Returns at once, whatever state the carrier is in: what it can't take with it is dropped.
    fn tell(&self, wake: &Wake);
    /// From now on `to` gets what the others tell, and [`Wake::Anything`] whenever something may have been missed.
    /// Only the first receiver counts.
    fn listen(&self, to: &broadcast::Sender<Wake>);
    /// Where on the network it listens, by name or address and port.
    fn listens_at(&self) -> Vec<(String, u16)> {
        Vec::new()
    }
    /// Gives what is still to be told a moment to leave, and ends.
    async fn close(&self);
}
