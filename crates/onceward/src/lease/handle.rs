//! Holding a lease.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use onceward_core::lease::{Record, Renew};
use onceward_core::{Code, Error, Key, Namespace, Owner, Place, Result, SessionId, Timestamp, Token};
use onceward_store::enlist::{self, Enlist};
use onceward_store::{ClaimRef, ReleaseLease};

use super::builder::LeaseBuilder;
use super::fence;
use crate::client::{Onceward, no_transactions};
use crate::hold::{Hold, Lost};
use crate::renewer::{Farewell, Subject, Watch};

/// A lease we hold. It is renewed in the background; dropping it gives it back.
///
/// Holding a lease does not stop the world: a paused process may act after its lease has ended. What does stop it is
/// the [`token`](Self::token) in its writes, or [`guard`](Self::guard) in its transaction.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// if let Some(lease) = ow.lease("import:prices").acquire().await? {
///     for _page in 0..3 {
///         lease.check()?; // before each step that can't be taken back
///     }
///     println!("{} held {} under token {}", lease.owner(), lease.key(), lease.token());
///     lease.release().await?;
/// }
/// # Ok(()) }
/// ```
#[must_use = "dropping a lease gives it back"]
pub struct Lease {
    client: Onceward,
    claim: ClaimRef,
    place: Place,
    owner: Owner,
    granted_at: Timestamp,
    ttl: Duration,
    auto_release: bool,
    lock_delay: Duration,
    hold: Arc<Hold>,
    watch: Option<Watch>,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("namespace", &self.claim.namespace)
            .field("key", &self.claim.key)
            .field("token", &self.claim.token)
            .field("valid", &self.is_valid())
            .finish()
    }
}

impl Lease {
    pub(super) fn granted(builder: &LeaseBuilder, row: &Record, sent: Timestamp) -> Self {
        let client = builder.client.clone();
        let clock = Arc::clone(client.clock());
        let hold = Hold::new(row.token, row.expires_at, clock, sent, row.ttl, builder.hard_ttl);
        let (hold, claim) = (Arc::new(hold), claim_of(row));
        let renewer = &client.inner.renewer;
        let subject = Subject::Lease(claim.clone());
        let watch = renewer.watch(subject, row.ttl, builder.auto_renew, Arc::clone(&hold));
        Self {
            claim,
            place: row.place,
            owner: row.owner.clone(),
            granted_at: row.granted_at,
            ttl: row.ttl,
            auto_release: builder.auto_release,
            lock_delay: row.lock_delay,
            hold,
            watch: Some(watch),
            client,
        }
    }

    /// The fencing token: larger than that of every earlier holder of the key, for ever.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// let first = ow.lease("k").acquire().await?.unwrap();
    /// let before = first.token();
    /// first.release().await?;
    /// assert!(ow.lease("k").acquire().await?.unwrap().token() > before);
    /// # Ok(()) }
    /// ```
    pub fn token(&self) -> Token {
        self.claim.token
    }

    /// The key.
    pub fn key(&self) -> &Key {
        &self.claim.key
    }

    /// The namespace of the key.
    pub fn namespace(&self) -> &Namespace {
        &self.claim.namespace
    }

    /// What others see as the holder.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Which of the places of a counted lease this is; 0 for a plain one.
    pub fn slot(&self) -> u32 {
        self.claim.slot
    }

    /// The claim attempt this lease was granted to.
    pub fn session(&self) -> SessionId {
        self.claim.session
    }

    /// When it was granted, by the store's clock.
    pub fn granted_at(&self) -> Timestamp {
        self.granted_at
    }

    /// When it runs out unless renewed, by the store's clock, as of the last renewal.
    pub fn expires_at(&self) -> Timestamp {
        self.hold.expires_at()
    }

    /// The time to live each renewal gives.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Whether the lease may still be trusted: renewed in time by our own clock, with a margin, and not lost (L5).
    /// It costs no round trip. A `true` is over when you read it; writes want the token or the guard.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// let lease = ow.lease("k").acquire().await?.unwrap();
    /// assert!(lease.is_valid() && lease.lost_because().is_none());
    /// # Ok(()) }
    /// ```
    pub fn is_valid(&self) -> bool {
        self.hold.is_valid()
    }

    /// Why the lease is lost, if it is.
    pub fn lost_because(&self) -> Option<Lost> {
        self.hold.lost_because()
    }

    /// Waits until the lease is lost: before it runs out in the store (L9), or as soon as the store says so.
    ///
    /// ```
    /// # async fn import_prices() {}
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// let Some(lease) = ow.lease("import:prices").acquire().await? else { return Ok(()) };
    /// tokio::select! {
    ///     () = import_prices() => drop(lease.release().await?),
    ///     why = lease.lost() => eprintln!("stopped: {why}"), // somebody else may begin any moment
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// Cancel safety: nothing is consumed.
    pub async fn lost(&self) -> Lost {
        self.hold.lost().await
    }

    /// Renews now, and returns when it then runs out. Not needed unless
    /// [`auto_renew(false)`](LeaseBuilder::auto_renew) was said.
    ///
    /// ```
    /// # async fn import_page(_: u32) {}
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// let lease = ow.lease("import:prices").auto_renew(false).acquire().await?;
    /// if let Some(lease) = lease {
    ///     for page in 0..100 {
    ///         import_page(page).await;
    ///         lease.renew().await?; // as long as it makes progress, and no longer
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`LeaseLost`](Code::LeaseLost) if it is not ours any more: an expired lease is not revived, even if nobody took
    /// it. [`StoreBusy`](Code::StoreBusy) and the like if the store did not answer: try again while
    /// [`is_valid`](Self::is_valid).
    pub async fn renew(&self) -> Result<Timestamp> {
        self.hold.check()?;
        let Some(watch) = &self.watch else { return Err(self.gone()) };
        match watch.renew_now().await? {
            Renew::Until(until) => Ok(until),
            Renew::Lost => Err(self.gone()),
            Renew::Busy => {
                Err(Error::new(Code::StoreBusy, "the lease's row is locked by somebody's transaction"))
            }
        }
    }

    fn gone(&self) -> Error {
        self.hold.lose(Lost::TakenAway);
        self.hold.check().err().unwrap_or_else(|| Error::new(Code::LeaseLost, "the lease is lost"))
    }

    /// Gives the lease back. `false` if it was no longer ours: nothing was changed then (L8).
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// let lease = ow.lease("k").acquire().await?.unwrap();
    /// ow.admin().break_lease("k", None, "an example").await?;
    /// assert!(!lease.release().await?, "it was not ours any more");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for an unreachable store; the lease then runs out by itself.
    pub async fn release(mut self) -> Result<bool> {
        self.watch = None;
        self.hold.lose(Lost::Released);
        // Should this future be dropped, or the store not answer, then dropping the lease goes on trying.
        self.auto_release = true;
        let released = self.client.inner.lanes.release(self.release_ask()).await;
        self.auto_release = released.is_err();
        released
    }

    /// Gives the lease back while somebody else may still look at it.
    pub(crate) async fn give_back(&self) -> Result<bool> {
        self.hold.lose(Lost::Released);
        self.client.inner.lanes.release(self.release_ask()).await
    }

    /// Renews it no more, while somebody else may still look at it, and does not give it back either: it runs out by
    /// itself, and stays closed for its lock delay.
    pub(crate) fn let_run_out(&self) {
        self.hold.lose(Lost::NotRenewed);
        if let Some(watch) = &self.watch {
            watch.stop();
        }
    }

    fn release_ask(&self) -> ReleaseLease {
        let ClaimRef { namespace, key, token, .. } = self.claim.clone();
        ReleaseLease { namespace, key, token, reason: None, place: self.place }
    }

    /// The header that carries the token to a receiver that checks it: `X-Fence-Token`. See [`fence::Checker`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// let lease = ow.lease("account").acquire().await?.unwrap();
    /// let (name, value) = lease.fence_header();
    /// assert_eq!((name, value), ("X-Fence-Token", lease.token().to_string()));
    /// # Ok(()) }
    /// ```
    pub fn fence_header(&self) -> (&'static str, String) {
        (fence::HEADER, self.token().to_string())
    }

    /// Makes a transaction of yours, in the same database, depend on this lease: after somebody else has taken the
    /// key it can't commit, and while it is open nobody can take the key (L4). The transaction stays yours: nothing is
    /// committed, rolled back or closed here. Renewals pass; keep the transaction short all the same, and set
    /// `idle_in_transaction_session_timeout`, because a hung one keeps the key closed.
    ///
    /// Works with `tokio_postgres::Transaction`, `sqlx::Transaction` and `rusqlite::Transaction` (begun as IMMEDIATE).
    ///
    /// ```
    /// # #[cfg(not(feature = "sqlite"))] fn main() {}
    /// # #[cfg(feature = "sqlite")]
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let file = folder.path().join("shop.db");
    /// # let ow = onceward::Onceward::connect(&format!("sqlite://{}", file.display())).await?;
    /// use rusqlite::TransactionBehavior::Immediate;
    ///
    /// # let mut connection = rusqlite::Connection::open(&file)?;
    /// # connection.execute_batch("CREATE TABLE price (article TEXT, cents INTEGER)")?;
    /// let lease = ow.lease("prices").acquire().await?.expect("nobody else holds it");
    /// let mut tx = connection.transaction_with_behavior(Immediate)?;
    /// lease.guard(&mut tx).await?;
    /// tx.execute("UPDATE price SET cents = 4200 WHERE article = 'tea'", [])?;
    /// tx.commit()?; // nobody has taken the lease before this
    ///
    /// ow.admin().break_lease("prices", None, "an example").await?;
    /// let mut tx = connection.transaction_with_behavior(Immediate)?;
    /// assert!(lease.guard(&mut tx).await.is_err(), "it is somebody else's by now: roll back");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`LeaseLost`](Code::LeaseLost) or [`TokenStale`](Code::TokenStale): roll back. Otherwise the driver's.
    pub async fn guard(&self, tx: &mut impl Enlist) -> Result<()> {
        self.hold.check()?;
        let store = self.client.store();
        let sql = store.enlist().ok_or_else(no_transactions)?;
        enlist::guard(sql, &**store.clock(), tx, &self.claim).await
    }

    /// Fails if the lease can't be trusted any more: a cheap check between two steps of work.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// let lease = ow.lease("k").acquire().await?.unwrap();
    /// lease.check()?;
    /// ow.admin().break_lease("k", None, "an example").await?;
    /// assert!(lease.renew().await.is_err(), "it learns of that by renewing");
    /// assert_eq!(lease.check().unwrap_err().code(), onceward::Code::LeaseLost);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`LeaseLost`](Code::LeaseLost).
    pub fn check(&self) -> Result<()> {
        self.hold.check()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.watch = None;
        let lost = matches!(self.hold.lost_because(), Some(Lost::NotRenewed | Lost::HardLimit));
        // A lease that was lost stays closed for its lock delay: giving it back late would open it early.
        if self.auto_release && !(lost && self.lock_delay > Duration::ZERO) {
            self.hold.lose(Lost::Released);
            self.client.inner.renewer.send(Farewell::Release(self.release_ask()));
        }
    }
}

fn claim_of(row: &Record) -> ClaimRef {
    ClaimRef {
        namespace: row.namespace.clone(),
        key: row.key.clone(),
        slot: row.slot,
        token: row.token,
        session: row.session,
    }
}
