//! Leases: ownership of a key for a while, with a fencing token that only ever grows.
//!
//! Read in this order: [`LeaseBuilder`] (asking) → `wait.rs` (asking again) → [`Lease`] (holding) → `many.rs` (several
//! keys at once) → [`fence`] (what receivers check).

mod builder;
pub mod fence;
mod handle;
mod many;
mod wait;

pub use self::builder::{Acquisition, LeaseBuilder};
pub use self::handle::Lease;
pub use self::many::{LeaseSet, LeasesBuilder};
pub(crate) use self::wait::PoisonWatch;

use core::time::Duration;

pub use onceward_core::lease::{Record, Standing};
use onceward_core::{Owner, Timestamp, Token};

/// Who has the lease, as shown to whoever did not get it.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// use onceward::lease::Acquisition;
///
/// let _lease = ow.lease("k").acquire().await?;
/// let Acquisition::Held(Some(holder)) = ow.lease("k").acquire_or_holder().await? else { panic!("it is held") };
/// assert!(holder.is_me && holder.until > holder.since);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Holder {
    /// Who holds it.
    pub owner: Owner,
    /// Under which token.
    pub token: Token,
    /// Since when, by the store's clock.
    pub since: Timestamp,
    /// Until when, unless renewed; including the lock delay if the holder was lost.
    pub until: Timestamp,
    /// How long that was from when the store was asked.
    pub free_in: Duration,
    /// What the holder left for people to read.
    pub metadata: Option<String>,
    /// Whether it is this very client. Leases are not re-entrant: it is refused like anybody else.
    pub is_me: bool,
}

impl Holder {
    pub(crate) fn of(row: &Record, now: Timestamp, me: &Owner) -> Self {
        Self {
            owner: row.owner.clone(),
            token: row.token,
            since: row.granted_at,
            until: row.free_at(),
            free_in: row.free_at().since(now),
            metadata: row.metadata.clone(),
            is_me: row.owner == *me,
        }
    }
}
