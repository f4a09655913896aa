//! What a running function knows of itself.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use onceward_core::{Key, Result, Timestamp, Token};
use tokio::time::{Instant, sleep, timeout};

use crate::hold::{Hold, Lost};
use crate::lease::fence;

/// The running attempt, handed to the function: its token, and whether it may still go on.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// let outcome = ow.once("order-17").run(async |attempt| {
///     attempt.check()?; // before the step that can't be taken back
///     Ok((attempt.key().as_str().to_owned(), attempt.number()))
/// });
/// assert_eq!(outcome.await?.done(), Some(("order-17".to_owned(), 1)));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Attempt {
    pub(super) key: Key,
    pub(super) number: i64,
    pub(super) hold: Arc<Hold>,
    pub(super) ttl: Duration,
    pub(super) stop: Stop,
}

/// How the function is stopped where its claim ends.
#[derive(Clone, Copy, Default)]
pub(super) struct Stop {
    /// How long it has from when it is told.
    within: Duration,
    /// When (boot time) it is told of its hard limit, and when that is.
    hard: Option<(Timestamp, Timestamp)>,
}

impl Stop {
    /// For a claim that was asked for at `sent` (boot time).
    pub(super) fn new(within: Duration, sent: Timestamp, hard_ttl: Option<Duration>) -> Self {
        let hard = hard_ttl.filter(|_| !within.is_zero()).map(|hard_ttl| {
            let end = sent.after(hard_ttl);
            (end.before(within.min(hard_ttl / 4)), end)
        });
        Self { within, hard }
    }
}

/// How long a function that was told to stop has at least, however its claim ended.
const STOP_AT_LEAST: Duration = Duration::from_secs(1);

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").field("key", &self.key).field("token", &self.token()).finish()
    }
}

impl Attempt {
    /// The key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The fencing token: put it into what the function writes, so that a paused attempt that was settled by somebody
    /// else can do no harm.
    pub fn token(&self) -> Token {
        self.hold.token
    }

    /// How often the function was started under this key, this attempt included.
    pub fn number(&self) -> i64 {
        self.number
    }

    /// When the claim runs out unless renewed, by the store's clock, as of the last renewal.
    pub fn expires_at(&self) -> Timestamp {
        self.hold.expires_at()
    }

    /// Whether the claim may still be trusted.
    pub fn is_valid(&self) -> bool {
        self.hold.is_valid()
    }

    /// Waits until the function has to stop: the claim is lost, or with
    /// [`stop_within`](super::OnceBuilder::stop_within) about to reach its hard limit. The function's future is dropped
    /// then, or has that long to come to its end; blocking code it has started elsewhere may want to know.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// use std::time::Duration;
    ///
    /// let outcome = ow.once("k").run(async |attempt| {
    ///     tokio::select! {
    ///         why = attempt.lost() => Err(onceward::NotDone::unknown(why)),
    ///         () = tokio::time::sleep(Duration::from_millis(1)) => Ok("in time".to_owned()),
    ///     }
    /// });
    /// assert_eq!(outcome.await?.done().as_deref(), Some("in time"));
    /// # Ok(()) }
    /// ```
    pub async fn lost(&self) -> Lost {
        let Some((told_at, _)) = self.stop.hard else { return self.hold.lost().await };
        loop {
            let left = told_at.since(self.hold.boottime());
            if left.is_zero() {
                return self.hold.lost_because().unwrap_or(Lost::HardLimit);
            }
            if let Ok(why) = timeout(left, self.hold.lost()).await {
                return why;
            }
        }
    }

    /// How long a function that has to stop may still take, so that it is through before anybody else may begin: what
    /// is left of the claim, and no more than [`stop_within`](super::OnceBuilder::stop_within).
    pub fn time_to_stop(&self) -> Duration {
        let left = match (self.hold.lost_because(), self.stop.hard) {
            (None, Some((_, end))) => end.since(self.hold.boottime()),
            // Whoever took it away did not wait.
            (None | Some(Lost::TakenAway | Lost::Released), _) => self.stop.within,
            (Some(Lost::NotRenewed | Lost::HardLimit), _) => self.hold.left(self.ttl),
        };
        self.stop.within.min(left)
    }

    /// Waits until the function has been told to stop, and has had its time for it.
    pub(super) async fn given_up(&self) -> Lost {
        let why = self.lost().await;
        let told = Instant::now();
        loop {
            let passed = told.elapsed();
            let left = self.time_to_stop().min(self.stop.within.saturating_sub(passed));
            let left = left.max(self.stop.within.min(STOP_AT_LEAST).saturating_sub(passed));
            if left.is_zero() {
                return why;
            }
            if self.hold.is_valid() {
                // What is left is looked at again where the claim ends before its hard limit.
                let _ = timeout(left, self.hold.lost()).await;
            } else {
                sleep(left).await;
            }
        }
    }

    /// Fails if the claim can't be trusted any more: a check before the step that can't be taken back.
    ///
    /// # Errors
    /// [`LeaseLost`](onceward_core::Code::LeaseLost).
    pub fn check(&self) -> Result<()> {
        self.hold.check()
    }

    /// The header that carries the token to a receiver that checks it.
    pub fn fence_header(&self) -> (&'static str, String) {
        (fence::HEADER, self.token().to_string())
    }
}
