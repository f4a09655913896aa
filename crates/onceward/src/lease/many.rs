//! Several leases at once: all or none, in one order for everybody, so that two callers can't lock each other out.

use core::time::Duration;

use futures_util::future::join_all;
use onceward_core::{Code, Error, Key, Result, limits};
use tokio::time::Instant;

use super::builder::{Acquisition, LeaseBuilder};
use super::{Holder, Lease};
use crate::client::Onceward;
use crate::hold::Lost;

/// Leases on several keys being asked for.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// use std::time::Duration;
///
/// let both = ow.leases(["account:1", "account:2"]).ttl(Duration::from_secs(5)).wait(Duration::from_secs(1));
/// assert!(both.acquire().await?.is_some());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is asked for before `acquire`"]
pub struct LeasesBuilder {
    client: Onceward,
    keys: Result<Vec<Key>>,
    template: LeaseBuilder,
}

/// Leases on several keys, held together. Dropping it gives all of them back.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// let both = ow.leases(["account:2", "account:1"]).acquire().await?.expect("nobody else holds one of them");
/// let keys: Vec<&str> = both.iter().map(|lease| lease.key().as_str()).collect();
/// assert_eq!(keys, ["account:1", "account:2"]);
/// println!("write to account 1 with token {}", both.of("account:1").unwrap().token());
/// both.release().await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping the leases gives them back"]
pub struct LeaseSet {
    leases: Vec<Lease>,
}

impl LeasesBuilder {
    pub(crate) fn new(client: Onceward, keys: Result<Vec<Key>>) -> Self {
        let first = keys.as_ref().ok().and_then(|keys| keys.first().cloned());
        let first = first.ok_or_else(|| Error::new(Code::KeysInvalid, "no key is named"));
        let template = LeaseBuilder::new(client.clone(), first);
        Self { client, keys, template }
    }

    /// As [`LeaseBuilder::ttl`], for each of them.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.template = self.template.ttl(ttl);
        self
    }

    /// As [`LeaseBuilder::hard_ttl`], for each of them.
    pub fn hard_ttl(mut self, hard_ttl: Duration) -> Self {
        self.template = self.template.hard_ttl(hard_ttl);
        self
    }

    /// As [`LeaseBuilder::metadata`], for each of them.
    pub fn metadata(mut self, text: impl Into<String>) -> Self {
        self.template = self.template.metadata(text);
        self
    }

    /// Waits for all of them, at most this long altogether.
    pub fn wait(mut self, at_most: Duration) -> Self {
        self.template = self.template.wait(at_most);
        self
    }

    /// As [`LeaseBuilder::fair`], for each of them.
    pub fn fair(mut self, fair: bool) -> Self {
        self.template = self.template.fair(fair);
        self
    }

    /// Asks for all of them: `None` (and nothing held) if one is not to be had.
    ///
    /// Without a wait they are asked for together, in one batch. With one, they are taken one after the other in the
    /// order of their bytes: whoever waits for a key holds only smaller ones, so no circle of waiters can form.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// let both = ow.leases(["a", "b"]).acquire().await?.unwrap();
    /// assert!(ow.leases(["b", "c"]).acquire().await?.is_none());
    /// assert!(ow.lease("c").acquire().await?.is_some(), "nothing was kept");
    /// both.release().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`KeysInvalid`](Code::KeysInvalid) for no key, too many, or one named twice; otherwise as
    /// [`LeaseBuilder::acquire`].
    pub async fn acquire(self) -> Result<Option<LeaseSet>> {
        let keys = self.sorted()?;
        match self.template.wait {
            None => self.together(keys).await,
            Some(at_most) => self.one_by_one(keys, Instant::now() + at_most).await,
        }
    }

    fn sorted(&self) -> Result<Vec<Key>> {
        let mut keys = self.keys.clone()?;
        keys.sort();
        let max = limits::KEYS_AT_ONCE_MAX;
        if keys.is_empty() || keys.len() > max {
            return Err(Error::new(Code::KeysInvalid, format!("name 1 to {max} keys, not {}", keys.len())));
        }
        if let Some(twice) =
            keys.windows(2).find(|pair| pair.first() == pair.last()).and_then(|pair| pair.first())
        {
            return Err(Error::new(Code::KeysInvalid, format!("the key {twice:?} is named twice")));
        }
        Ok(keys)
    }

    fn of(&self, key: Key) -> LeaseBuilder {
        LeaseBuilder { client: self.client.clone(), key: Ok(key), ..self.template.clone() }
    }

    async fn together(self, keys: Vec<Key>) -> Result<Option<LeaseSet>> {
        let asked = join_all(keys.into_iter().map(|key| self.of(key).acquire_or_holder())).await;
        let (mut leases, mut refused, mut failed) = (Vec::new(), None::<Option<Holder>>, None);
        for answer in asked {
            match answer {
                Ok(Acquisition::Granted(lease)) => leases.push(lease),
                Ok(Acquisition::Held(holder)) => refused = Some(holder),
                Err(error) => failed = Some(error),
            }
        }
        if failed.is_none() && refused.is_none() {
            return Ok(Some(LeaseSet { leases }));
        }
        LeaseSet { leases }.release().await?;
        failed.map_or(Ok(None), Err)
    }

    async fn one_by_one(self, keys: Vec<Key>, deadline: Instant) -> Result<Option<LeaseSet>> {
        let mut set = LeaseSet { leases: Vec::new() };
        for key in keys {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.of(key).wait(left).acquire().await? {
                Some(lease) => set.leases.push(lease),
                None => {
                    set.release().await?;
                    return Ok(None);
                }
            }
        }
        // Waiting for the last may have cost the first.
        if set.is_valid() {
            return Ok(Some(set));
        }
        set.release().await?;
        Ok(None)
    }
}

impl LeaseSet {
    /// The leases, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.leases.iter()
    }

    /// The lease of one of the keys.
    pub fn of(&self, key: &str) -> Option<&Lease> {
        self.leases.iter().find(|lease| lease.key().as_str() == key)
    }

    /// Whether all of them may still be trusted.
    pub fn is_valid(&self) -> bool {
        self.leases.iter().all(Lease::is_valid)
    }

    /// Waits until the first of them is lost.
    pub async fn lost(&self) -> Lost {
        let all: Vec<_> = self.leases.iter().map(|lease| Box::pin(lease.lost())).collect();
        futures_util::future::select_all(all).await.0
    }

    /// Gives all of them back.
    ///
    /// # Errors
    /// As [`Lease::release`], after all have been tried.
    pub async fn release(self) -> Result<()> {
        let released = join_all(self.leases.into_iter().map(Lease::release)).await;
        released.into_iter().try_for_each(|released| released.map(drop))
    }
}
