//! What a holder knows of its claim without asking the store: until when it may be trusted.

use core::fmt;
use core::sync::atomic::{AtomicI64, Ordering};
use core::time::Duration;
use std::sync::Arc;

use onceward_core::{Code, Error, Timestamp, Token, lease};
use onceward_store::Clock;
use tokio::sync::watch;

/// Why a claim is no longer ours.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// let lease = ow.lease("k").acquire().await?.unwrap();
/// ow.admin().break_lease("k", None, "an example").await?;
/// assert!(lease.renew().await.is_err());
/// assert_eq!(lease.lost_because(), Some(onceward::Lost::TakenAway));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// It could not be renewed in time: the store was away, or this process was paused.
    NotRenewed,
    /// The store says that the claim is not ours any more: expired and taken over, broken, or resolved.
    TakenAway,
    /// It has lasted as long as its hard limit allows.
    HardLimit,
    /// It was given back.
    Released,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRenewed => "it could not be renewed in time",
            Self::TakenAway => "it was taken over, broken, or resolved by somebody else",
            Self::HardLimit => "it has reached its hard limit",
            Self::Released => "it was released",
        })
    }
}

/// How often somebody who waits for the loss of a claim looks at the clock, at least.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The shared knowledge of one claim: its handle reads it, the renewer writes it.
pub(crate) struct Hold {
    pub(crate) token: Token,
    clock: Arc<dyn Clock>,
    /// Microseconds of boot time until which the claim may be trusted (L5, L9).
    trusted_until: AtomicI64,
    /// Microseconds of the store's clock at which the claim runs out.
    expires_at: AtomicI64,
    hard_limit: Option<Timestamp>,
    lost: watch::Sender<Option<Lost>>,
}

impl Hold {
    /// A claim granted in answer to a request sent at `sent` (boot time).
    pub(crate) fn new(
        token: Token,
        expires_at: Timestamp,
        clock: Arc<dyn Clock>,
        sent: Timestamp,
        ttl: Duration,
        hard_ttl: Option<Duration>,
    ) -> Self {
        let hold = Self {
            token,
            clock,
            trusted_until: AtomicI64::new(0),
            expires_at: AtomicI64::new(0),
            hard_limit: hard_ttl.map(|hard| sent.after(hard)),
            lost: watch::Sender::new(None),
        };
        hold.renewed(sent, ttl, expires_at);
        hold
    }

    /// The claim was renewed by a request sent at `sent`. Counting from before the request is what makes the
    /// holder's view end before the store's (L5).
    pub(crate) fn renewed(&self, sent: Timestamp, ttl: Duration, expires_at: Timestamp) {
        let until = lease::clipped(sent, ttl, self.hard_limit).before(lease::trust_margin(ttl));
        self.trusted_until.fetch_max(until.as_micros(), Ordering::SeqCst);
        self.expires_at.store(expires_at.as_micros(), Ordering::SeqCst);
    }

    pub(crate) fn trusted_until(&self) -> Timestamp {
        Timestamp::from_micros(self.trusted_until.load(Ordering::SeqCst))
    }

    pub(crate) fn expires_at(&self) -> Timestamp {
        Timestamp::from_micros(self.expires_at.load(Ordering::SeqCst))
    }

    /// Whether no renewal can prolong it any more.
    pub(crate) fn is_at_hard_limit(&self, ttl: Duration) -> bool {
        self.hard_limit.is_some_and(|hard| self.trusted_until() >= hard.before(lease::trust_margin(ttl)))
    }

    pub(crate) fn lost_because(&self) -> Option<Lost> {
        if let Some(lost) = *self.lost.borrow() {
            return Some(lost);
        }
        let now = self.clock.boottime();
        (now >= self.trusted_until()).then(|| self.expiry_reason(now))
    }

    pub(crate) fn boottime(&self) -> Timestamp {
        self.clock.boottime()
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.lost_because().is_none()
    }

    fn expiry_reason(&self, now: Timestamp) -> Lost {
        let near = self.hard_limit.is_some_and(|hard| now.after(Duration::from_secs(1)) >= hard);
        let clipped =
            self.hard_limit.is_some_and(|hard| self.trusted_until().after(Duration::from_secs(1)) >= hard);
        if near && clipped { Lost::HardLimit } else { Lost::NotRenewed }
    }

    /// The time is up by our own clock.
    pub(crate) fn expire(&self) {
        self.lose(self.expiry_reason(self.clock.boottime()));
    }

    /// Says that the claim is lost; the first reason stays.
    pub(crate) fn lose(&self, why: Lost) {
        self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            lost.get_or_insert(why);
            first
        });
    }

    /// Waits until the claim is lost; cancel-safe. The renewer or a release may say so, and where nobody says
    /// anything, because the renewer could not be started or stands still, our own clock does (L9, N6).
    pub(crate) async fn lost(&self) -> Lost {
        let mut lost = self.lost.subscribe();
        loop {
            if let Some(why) = *lost.borrow_and_update() {
                return why;
            }
            let left = self.trusted_until().since(self.clock.boottime());
            if left.is_zero() {
                self.expire();
                continue;
            }
            // Over, renewed meanwhile, or said to be lost: the next look tells. A timer stands still while the machine
            // is suspended, and our clock does not (G10): so it is looked at now and then.
            let _ = tokio::time::timeout(left.min(LOOK_EVERY), lost.changed()).await;
        }
    }

    /// How long it lasts at least if it is not renewed again, by our own clock: somebody else may have it after that.
    pub(crate) fn left(&self, ttl: Duration) -> Duration {
        self.trusted_until().after(lease::trust_margin(ttl)).since(self.clock.boottime())
    }

    /// The claim as an error, if it is lost.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.lost_because() {
            None => Ok(()),
            Some(why) => Err(Error::new(
                Code::LeaseLost,
                format!("the claim with token {} is lost: {why}", self.token),
            )),
        }
    }
}
