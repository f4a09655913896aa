//! Asking for a lease.

use core::time::Duration;

use onceward_core::lease::{self, in_range};
use onceward_core::{Code, Error, Key, Result, limits};

use super::{Holder, Lease, wait};
use crate::client::{Onceward, new_session};

/// A lease being asked for. Every setting has a default that is right for most; [`acquire`](Self::acquire) and
/// [`run`](Self::run) send it.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// use std::time::Duration;
///
/// let asked = ow.lease("report:daily").ttl(Duration::from_secs(30)).hard_ttl(Duration::from_secs(600));
/// let lease = asked.metadata("web1").acquire().await?.expect("nobody else holds it");
/// assert!(lease.is_valid() && lease.ttl() == Duration::from_secs(30));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is asked for before `acquire` or `run`"]
pub struct LeaseBuilder {
    pub(super) client: Onceward,
    pub(super) key: Result<Key>,
    /// `None`: the default, or the hard limit where that is shorter.
    pub(super) ttl: Option<Duration>,
    pub(super) hard_ttl: Option<Duration>,
    pub(super) lock_delay: Duration,
    pub(super) capacity: u32,
    pub(super) metadata: Option<String>,
    pub(super) wait: Option<Duration>,
    pub(super) fair: bool,
    pub(super) auto_renew: bool,
    pub(super) auto_release: bool,
}

/// What came of asking.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// use onceward::lease::Acquisition;
///
/// match ow.lease("k").acquire_or_holder().await? {
///     Acquisition::Granted(lease) => println!("ours, under token {}", lease.token()),
///     Acquisition::Held(Some(holder)) => println!("{} has it", holder.owner),
///     Acquisition::Held(None) => println!("free, and somebody waits for it"),
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub enum Acquisition {
    /// We hold it.
    Granted(Lease),
    /// Somebody else does, or did a moment ago; `None` where it is free but promised to a fair waiter.
    Held(Option<Holder>),
}

impl LeaseBuilder {
    pub(crate) fn new(client: Onceward, key: Result<Key>) -> Self {
        Self {
            client,
            key,
            ttl: None,
            hard_ttl: None,
            lock_delay: Duration::ZERO,
            capacity: 1,
            metadata: None,
            wait: None,
            fair: false,
            auto_renew: true,
            auto_release: true,
        }
    }

    /// How long the lease lasts without renewal: how soon others notice that this process has died. 1 s to 24 h,
    /// 10 s by default. It is renewed three times as often.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// use std::time::Duration;
    ///
    /// let lease = ow.lease("k").ttl(Duration::from_secs(5)).acquire().await?.unwrap();
    /// assert_eq!(lease.ttl(), Duration::from_secs(5));
    /// assert_eq!(ow.lease("l").ttl(Duration::ZERO).acquire().await.unwrap_err().code(), onceward::Code::TtlInvalid);
    /// # Ok(()) }
    /// ```
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How long the lease lasts at most, renewed or not, so that a hung holder does not keep it for ever. None by
    /// default.
    pub fn hard_ttl(mut self, hard_ttl: Duration) -> Self {
        self.hard_ttl = Some(hard_ttl);
        self
    }

    /// How long the key stays closed if this holder is lost (not if it releases): time for what it had started to end.
    pub fn lock_delay(mut self, delay: Duration) -> Self {
        self.lock_delay = delay;
        self
    }

    /// How many may hold the key at once; 1 by default. Everybody who asks for a key should name the same number.
    /// Tokens of holders at the same time must not be compared on one resource: the later one would shut the other out.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// let seats = || ow.lease("licence").capacity(2);
    /// let (one, two) = (seats().acquire().await?.unwrap(), seats().acquire().await?.unwrap());
    /// assert_eq!((one.slot(), two.slot()), (0, 1));
    /// assert!(seats().acquire().await?.is_none(), "both places are taken");
    /// # Ok(()) }
    /// ```
    pub fn capacity(mut self, holders: u32) -> Self {
        self.capacity = holders;
        self
    }

    /// A text for people who look at the lease.
    pub fn metadata(mut self, text: impl Into<String>) -> Self {
        self.metadata = Some(text.into());
        self
    }

    /// Waits for the lease, at most this long. Released leases are handed over at once, lost ones when they run out.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// use std::time::Duration;
    ///
    /// let lease = ow.lease("k").acquire().await?.unwrap();
    /// let waiting = tokio::spawn(ow.lease("k").wait(Duration::from_secs(10)).acquire());
    /// lease.release().await?;
    /// assert!(waiting.await.unwrap()?.is_some());
    /// # Ok(()) }
    /// ```
    pub fn wait(mut self, at_most: Duration) -> Self {
        self.wait = Some(at_most);
        self
    }

    /// Keeps the order of those who wait: within a process the order of their calls, between processes the order in
    /// which each took its place in line. Without it waiting is quicker, and
    /// whoever asks first after a release gets the lease.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// use std::time::Duration;
    ///
    /// let lease = ow.lease("k").fair(true).wait(Duration::from_secs(10)).acquire().await?;
    /// assert!(lease.is_some(), "nobody stands in line");
    /// # Ok(()) }
    /// ```
    pub fn fair(mut self, fair: bool) -> Self {
        self.fair = fair;
        self
    }

    /// Whether the lease is renewed for you; on by default. Without it, call [`Lease::renew`].
    pub fn auto_renew(mut self, on: bool) -> Self {
        self.auto_renew = on;
        self
    }

    /// Whether dropping the lease gives it back (best effort, in the background); on by default. Without it, the key
    /// stays closed until the ttl has passed: a simple way of doing something at most once per interval.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// // At most once an hour, whoever asks.
    /// let hour = std::time::Duration::from_secs(3600);
    /// let once_an_hour = || ow.lease("newsletter").ttl(hour).auto_renew(false).auto_release(false);
    /// drop(once_an_hour().acquire().await?.expect("nobody has sent it in the last hour"));
    /// assert!(once_an_hour().acquire().await?.is_none());
    /// # Ok(()) }
    /// ```
    pub fn auto_release(mut self, on: bool) -> Self {
        self.auto_release = on;
        self
    }

    /// Asks for the lease; `None` if somebody else holds it (and still does after the wait, if there is one).
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// let Some(lease) = ow.lease("order_123").acquire().await? else { return Ok(()) };
    /// assert!(ow.lease("order_123").acquire().await?.is_none(), "one at a time, and not re-entrant");
    /// // … work; put `lease.token()` into every write …
    /// let first = lease.token();
    /// assert!(lease.release().await?);
    /// assert!(ow.lease("order_123").acquire().await?.unwrap().token() > first);
    /// # Ok(()) }
    /// ```
    ///
    /// Cancel safety: dropping the future gives back what may have been granted.
    ///
    /// # Errors
    /// The codes of bad input, before anything is sent; those of an unreachable store, after the deadline.
    pub async fn acquire(self) -> Result<Option<Lease>> {
        match self.acquire_or_holder().await? {
            Acquisition::Granted(lease) => Ok(Some(lease)),
            Acquisition::Held(_) => Ok(None),
        }
    }

    /// As [`acquire`](Self::acquire), and tells who holds it otherwise.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// use onceward::lease::Acquisition;
    ///
    /// let _lease = ow.lease("k").metadata("backup of shop").acquire().await?;
    /// match ow.lease("k").acquire_or_holder().await? {
    ///     Acquisition::Held(Some(holder)) => {
    ///         assert_eq!(holder.metadata.as_deref(), Some("backup of shop"));
    ///         println!("{} has it until {}", holder.owner, holder.until);
    ///     }
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_or_holder(self) -> Result<Acquisition> {
        let ask = self.ask()?;
        self.client.check_open()?;
        match self.wait {
            None => wait::attempt(&self, ask).await,
            Some(at_most) => wait::until(&self, ask, at_most).await,
        }
    }

    /// Runs `body` while holding the lease: acquires (waiting if [`wait`](Self::wait) was set), cancels `body` when
    /// the lease is lost, releases at the end. What the body returns is returned, whatever becomes of the release.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// let rows = ow.lease("nightly").run(async |lease| {
    ///     println!("holding it under token {}", lease.token());
    ///     42
    /// }).await?;
    /// assert_eq!(rows, 42);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`LeaseHeld`](Code::LeaseHeld) if somebody else has it, [`LeaseLost`](Code::LeaseLost) if `body` was cancelled
    /// because the lease was lost; otherwise as [`acquire`](Self::acquire).
    pub async fn run<T>(self, body: impl AsyncFnOnce(&Lease) -> T) -> Result<T> {
        let lease = match self.acquire_or_holder().await? {
            Acquisition::Granted(lease) => lease,
            Acquisition::Held(holder) => return Err(held(holder.as_ref())),
        };
        let done = tokio::select! {
            biased;
            value = body(&lease) => Ok(value),
            why = lease.lost() => Err(lost(&lease, why)),
        };
        if done.is_ok()
            && let Err(error) = lease.release().await
        {
            tracing::debug!(%error, "a lease could not be released and runs out by itself");
        }
        done
    }

    pub(super) fn ask(&self) -> Result<lease::Ask> {
        let ask = lease::Ask {
            namespace: self.client.namespace.clone(),
            key: self.key.clone()?,
            capacity: self.capacity,
            owner: self.client.owner.clone(),
            session: new_session(),
            ttl: self
                .ttl
                .unwrap_or_else(|| limits::TTL_DEFAULT.min(self.hard_ttl.unwrap_or(limits::TTL_DEFAULT))),
            hard_ttl: self.hard_ttl,
            lock_delay: self.lock_delay,
            metadata: self.metadata.clone(),
            watched: None,
        };
        ask.check(self.client.ttl_min())?;
        if let Some(wait) = self.wait {
            in_range(wait, Duration::ZERO, limits::HARD_TTL_MAX, Code::WaitInvalid, "the waiting time")?;
        }
        Ok(ask)
    }
}

fn lost(lease: &Lease, why: crate::Lost) -> Error {
    Error::new(
        Code::LeaseLost,
        format!("the lease on {:?} was lost during the work: {why}", lease.key().as_str()),
    )
}

/// "Somebody else has it" as an error.
pub(super) fn held(holder: Option<&Holder>) -> Error {
    let who = holder.map_or_else(
        || "it is promised to somebody who has waited longer".to_owned(),
        |holder| format!("{} holds it since {} until {}", holder.owner, holder.since, holder.until),
    );
    Error::new(Code::LeaseHeld, who)
}
