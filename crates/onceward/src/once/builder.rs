//! Asking for something to be done once.

use core::time::Duration;

use onceward_core::lease::in_range;
use onceward_core::once::{self, Body, Fingerprint};
use onceward_core::{Code, Error, Key, Result, limits};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{Attempt, NotDone, Outcome, run};
use crate::client::{Onceward, new_session};

/// Something to be done once, being asked for. [`run`](Self::run) sends it.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// use std::time::Duration;
///
/// let builder = ow.once("order-17").ttl(Duration::from_secs(30)).retain_for(Duration::from_secs(86_400));
/// let outcome = builder.run(async |attempt| Ok(format!("sent under token {}", attempt.token()))).await?;
/// assert!(outcome.is_done());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is done before `run`"]
pub struct OnceBuilder {
    pub(super) client: Onceward,
    pub(super) key: Result<Key>,
    /// `None`: the default, or the hard limit where that is shorter.
    pub(super) ttl: Option<Duration>,
    /// `None`: the default; `Some(None)`: without limit.
    pub(super) hard_ttl: Option<Option<Duration>>,
    pub(super) retain: Duration,
    pub(super) fingerprint: Result<Option<Fingerprint>>,
    pub(super) wait: Option<Duration>,
    pub(super) restartable: bool,
    pub(super) stop_within: Duration,
}

/// What a probe found out about a key nobody was sure of.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// use onceward::{NotDone, Outcome, Verdict};
///
/// let lost: Outcome<u32> = ow.once("k").run(async |_| Err(NotDone::unknown("no answer"))).await?;
/// assert!(lost.is_uncertain());
/// let free: Option<Outcome<u32>> = ow.once("k").probe(async |_| Verdict::DidNotHappen).await?;
/// assert!(free.is_none(), "it may run again");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict<T> {
    /// It did happen; this is its result. Recorded, and replayed from now on.
    Happened(T),
    /// It did not happen. The key is free again.
    DidNotHappen,
    /// It did not happen and never shall. Recorded, and replayed from now on.
    Failed(String),
    /// The probe could not find out: the key stays uncertain.
    StillUnknown,
}

impl OnceBuilder {
    pub(crate) fn new(client: Onceward, key: Result<Key>) -> Self {
        Self {
            client,
            key,
            ttl: None,
            hard_ttl: None,
            retain: limits::RETAIN_DEFAULT,
            fingerprint: Ok(None),
            wait: None,
            restartable: false,
            stop_within: Duration::ZERO,
        }
    }

    /// How soon others notice that this process has died: 1 s to 24 h, 10 s by default. Renewed three times as often.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How long the function may run at most; by default 5 minutes, or the ttl where that is longer. At the limit its
    /// future is dropped, and the key is uncertain.
    pub fn hard_ttl(mut self, hard_ttl: Duration) -> Self {
        self.hard_ttl = Some(Some(hard_ttl));
        self
    }

    /// Lets the function run as long as it likes, renewed all the time.
    pub fn no_hard_ttl(mut self) -> Self {
        self.hard_ttl = Some(None);
        self
    }

    /// How long the function has to come to its own end when its claim is lost or reaches its hard limit; nothing by
    /// default, up to 1 h. It learns of that by [`Attempt::lost`], so long before a hard limit (but not before three
    /// quarters of it have passed), and its end is recorded as ever. One that is not through by then is dropped.
    /// Nothing is recorded while it stops, and so nobody may begin beside it before the claim itself has run out.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// use std::time::Duration;
    ///
    /// let builder = ow.once("report-2026-11").hard_ttl(Duration::from_secs(60)).stop_within(Duration::from_secs(5));
    /// let outcome = builder.run(async |attempt| {
    ///     for page in 1..=12 {
    ///         tokio::select! {
    ///             _ = attempt.lost() => return Ok(page - 1), // tidied up in time
    ///             () = tokio::time::sleep(Duration::from_millis(1)) => {}
    ///         }
    ///     }
    ///     Ok(12)
    /// }).await?;
    /// assert_eq!(outcome.done(), Some(12));
    /// # Ok(()) }
    /// ```
    pub fn stop_within(mut self, time: Duration) -> Self {
        self.stop_within = time;
        self
    }

    /// How long the outcome is kept and replayed; 30 days by default. **After that the key may run again.**
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// let hour = std::time::Duration::from_secs(3600);
    /// let sent = ow.once("mail-17").retain_for(hour).run(async |_| Ok("sent".to_owned())).await?;
    /// assert_eq!(sent.done().as_deref(), Some("sent"));
    /// # Ok(()) }
    /// ```
    pub fn retain_for(mut self, retain: Duration) -> Self {
        self.retain = retain;
        self
    }

    /// What the request is: the same key with another fingerprint is refused, whatever its state. The value is written
    /// as JSON (struct fields in their order; sort the keys of maps) and hashed with SHA-256.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// let pay = async |cents: u32| ow.once("order-17").fingerprint(&cents).run(async |_| Ok(cents)).await;
    /// assert_eq!(pay(500).await?.done(), Some(500));
    /// assert_eq!(pay(900).await.unwrap_err().code(), onceward::Code::FingerprintMismatch);
    /// # Ok(()) }
    /// ```
    pub fn fingerprint(mut self, request: &impl Serialize) -> Self {
        self.fingerprint = serde_json::to_vec(request)
            .map(|bytes| Some(Fingerprint(Sha256::digest(bytes).into())))
            .map_err(|error| {
                Error::new(Code::ResultUnwritable, "the request has no fingerprint").with_source(error)
            });
        self
    }

    /// As [`fingerprint`](Self::fingerprint), of bytes the caller has made canonical itself.
    pub fn fingerprint_bytes(mut self, request: impl AsRef<[u8]>) -> Self {
        self.fingerprint = Ok(Some(Fingerprint(Sha256::digest(request).into())));
        self
    }

    /// If another caller is running it: waits for the outcome, at most this long. A waiter never runs the function
    /// itself (O10).
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// use std::time::Duration;
    ///
    /// let (begun, has_begun) = tokio::sync::oneshot::channel();
    /// let runner = ow.clone();
    /// let first = tokio::spawn(async move {
    ///     let run = runner.once("k").run(async |_| {
    ///         let _ = begun.send(());
    ///         tokio::time::sleep(Duration::from_millis(20)).await;
    ///         Ok(7)
    ///     });
    ///     run.await
    /// });
    /// has_begun.await.unwrap();
    /// let second = ow.once("k").wait(Duration::from_secs(10)).run(async |_| Ok(8)).await?;
    /// assert_eq!(second.done(), Some(7), "the first one's");
    /// # first.await.unwrap()?;
    /// # Ok(()) }
    /// ```
    pub fn wait(mut self, at_most: Duration) -> Self {
        self.wait = Some(at_most);
        self
    }

    /// Says that doing it twice is harmless: an uncertain key is then run again, under a new token. If that run does
    /// not start either, the key stays uncertain: nobody has found out about the first.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// use onceward::{NotDone, Outcome};
    ///
    /// let first: Outcome<u32> = ow.once("rebuild-index").run(async |_| Err(NotDone::unknown("cut off"))).await?;
    /// assert!(first.is_uncertain());
    /// let again = ow.once("rebuild-index").restartable(true).run(async |attempt| Ok(attempt.number())).await?;
    /// assert_eq!(again.done(), Some(2));
    /// # Ok(()) }
    /// ```
    pub fn restartable(mut self, harmless: bool) -> Self {
        self.restartable = harmless;
        self
    }

    /// Runs `function`, unless the key was run before: then the recorded outcome comes back.
    ///
    /// The claim is durable before the function starts (O9). How it may end: with a value, which is recorded as JSON;
    /// with `.fail()`, recorded too; with `.not_started()`, which frees the key; and with anything else (an error
    /// through `?`, a panic, a dropped future, the hard limit), after which nobody knows, and says so.
    ///
    /// ```
    /// # #[derive(serde::Serialize)] struct Request { cents: u32 }
    /// # async fn charge_card(_: &Request) -> std::io::Result<String> { Ok("ch_1".into()) }
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// # let request = Request { cents: 4200 };
    /// use std::time::Duration;
    /// use onceward::Outcome;
    ///
    /// let outcome = ow
    ///     .once("payment-order-789")
    ///     .hard_ttl(Duration::from_secs(30))
    ///     .fingerprint(&request)
    ///     .run(async |_attempt| Ok(charge_card(&request).await?))
    ///     .await?;
    /// match outcome {
    ///     Outcome::Done { value, replayed } => println!("charged: {value} (replayed: {replayed})"),
    ///     Outcome::Uncertain { reason, .. } => println!("ask the card company: {reason}"),
    ///     other => println!("{other:?}"),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// Cancel safety: dropping the future before the function started leaves the key as it was; after that, the key is
    /// uncertain.
    ///
    /// # Errors
    /// The codes of bad input; [`FingerprintMismatch`](Code::FingerprintMismatch);
    /// [`KeyLocked`](Code::KeyLocked) where an open transaction holds the key;
    /// [`ResultUnreadable`](Code::ResultUnreadable) where the recorded result is no `T`; those of an unreachable store
    /// (the function was not started then).
    pub async fn run<T, F>(self, function: F) -> Result<Outcome<T>>
    where
        T: Serialize + DeserializeOwned,
        F: AsyncFnOnce(Attempt) -> Result<T, NotDone>,
    {
        run::typed(self, function).await
    }

    /// As [`run`](Self::run), recording bytes as they are instead of a value as JSON.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// use onceward::once::Body;
    ///
    /// let image = ow.once("thumbnail-17").run_bytes(async |_| Ok(Body::new(vec![0xff, 0xd8], "image/jpeg"))).await?;
    /// assert_eq!(image.done().unwrap().content_type, "image/jpeg");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_bytes<F>(self, function: F) -> Result<Outcome<Body>>
    where
        F: AsyncFnOnce(Attempt) -> Result<Body, NotDone>,
    {
        run::bytes(self, function).await
    }

    /// The recorded outcome, without running anything; `None` if the key has none and nobody is running it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// assert_eq!(ow.once("k").peek::<u32>().await?, None);
    /// ow.once("k").run(async |_| Ok(7_u32)).await?.into_result()?;
    /// assert_eq!(ow.once("k").peek::<u32>().await?.unwrap().done(), Some(7));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn peek<T: DeserializeOwned>(self) -> Result<Option<Outcome<T>>> {
        run::peek(self).await
    }

    /// If the key is uncertain, asks the outside world what happened, and settles it by the answer. Returns the
    /// outcome as it is afterwards; `None` if the key is free.
    ///
    /// ```
    /// # async fn charge_of(_: &str) -> std::io::Result<Option<String>> { Ok(Some("ch_1".into())) }
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// # let lost: onceward::Outcome<String> =
    /// #     ow.once("payment-order-789").run(async |_| Err(onceward::NotDone::unknown("the line went dead"))).await?;
    /// # assert!(lost.is_uncertain());
    /// use onceward::Verdict;
    ///
    /// let outcome = ow.once("payment-order-789").probe(async |_row| {
    ///     match charge_of("order-789").await {
    ///         Ok(Some(charge)) => Verdict::Happened(charge),
    ///         Ok(None) => Verdict::DidNotHappen,
    ///         Err(_) => Verdict::StillUnknown,
    ///     }
    /// }).await?;
    /// assert_eq!(outcome.and_then(|outcome| outcome.done()).as_deref(), Some("ch_1"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn probe<T, F>(self, probe: F) -> Result<Option<Outcome<T>>>
    where
        T: Serialize + DeserializeOwned,
        F: AsyncFnOnce(&once::Record) -> Verdict<T>,
    {
        run::probe(self, probe).await
    }

    pub(super) fn ask(&self) -> Result<once::Ask> {
        let hard_ttl = self
            .hard_ttl
            .unwrap_or_else(|| Some(limits::ONCE_HARD_TTL_DEFAULT.max(self.ttl.unwrap_or_default())));
        let ttl =
            self.ttl.unwrap_or_else(|| limits::TTL_DEFAULT.min(hard_ttl.unwrap_or(limits::TTL_DEFAULT)));
        let ask = once::Ask {
            namespace: self.client.namespace.clone(),
            key: self.key.clone()?,
            owner: self.client.owner.clone(),
            session: new_session(),
            ttl,
            hard_ttl,
            retain: self.retain,
            fingerprint: self.fingerprint.clone()?,
            restartable: self.restartable,
        };
        ask.check(self.client.ttl_min())?;
        let most = limits::STOP_WITHIN_MAX;
        in_range(self.stop_within, Duration::ZERO, most, Code::HardTtlInvalid, "the time to stop in")?;
        if let Some(wait) = self.wait {
            in_range(wait, Duration::ZERO, limits::HARD_TTL_MAX, Code::WaitInvalid, "the waiting time")?;
        }
        Ok(ask)
    }
}
