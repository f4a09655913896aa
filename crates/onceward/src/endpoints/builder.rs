//! An endpoint being declared.

use core::future::IntoFuture;
use core::time::Duration;

use futures_util::future::BoxFuture;
use onceward_core::endpoint::{Endpoint, GiveUp, Pattern, Setting};
use onceward_core::history::Event;
use onceward_core::http::{Policy, Target, check_header};
use onceward_core::job::Retry;
use onceward_core::job::limit::Rate;
use onceward_core::{Code, EndpointName, Error, Queue, Result, Timestamp, limits};

use super::{change, header_place, sealed_key, secret_place, unknown};
use crate::client::Onceward;
use crate::http_jobs::{SealKeys, target};
use crate::webhook::Secret;

/// Whether it has to be new, or has to be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Add,
    Set,
    Either,
}

/// What is done to the setting, in the order it was said.
type Change = Box<dyn Fn(&mut Setting) -> Result<()> + Send + Sync>;

/// An endpoint being declared; `.await` adds it, or changes the one of that name. [`add`](Self::add) and
/// [`set`](Self::set) do only one of the two. What is not said stays as it is.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// let shop = ow.endpoint("shop-7").url("https://hooks.example.com/in").events(["order.*", "ping"]).await?;
/// assert_eq!(shop.version, 1);
/// let slower = ow.endpoint("shop-7").concurrency(Some(2)).set().await?;
/// assert_eq!((slower.version, slower.setting.events.len()), (2, 2));
/// # Ok(()) }
/// ```
///
/// # Errors
/// Awaiting it: the codes of bad input, before anything is written ([`EndpointNameInvalid`](Code::EndpointNameInvalid),
/// [`EndpointInvalid`](Code::EndpointInvalid), [`EventTypeInvalid`](Code::EventTypeInvalid), those of a URL and of
/// headers); [`SealKeyInvalid`](Code::SealKeyInvalid) where a secret is said and no keys are, or where the URL leads to
/// another host and secret headers have to be sealed for that; [`EndpointMoved`](Code::EndpointMoved); those of an
/// unreachable store.
#[must_use = "nothing is declared before `.await`"]
pub struct EndpointBuilder {
    client: Onceward,
    name: Result<EndpointName>,
    url: Option<String>,
    changes: Vec<Change>,
    secret_headers: Vec<(String, String)>,
    secret: Option<Secret>,
    keys: Option<SealKeys>,
    policy: Policy,
}

/// Without what is secret.
impl core::fmt::Debug for EndpointBuilder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut shown = f.debug_struct("EndpointBuilder");
        shown.field("name", &self.name).field("url", &self.url).finish_non_exhaustive()
    }
}

impl EndpointBuilder {
    pub(crate) fn new(client: Onceward, name: Result<EndpointName>) -> Self {
        Self {
            client,
            name,
            url: None,
            changes: Vec::new(),
            secret_headers: Vec::new(),
            secret: None,
            keys: None,
            policy: Policy::default(),
        }
    }

    fn with(mut self, change: impl Fn(&mut Setting) -> Result<()> + Send + Sync + 'static) -> Self {
        self.changes.push(Box::new(change));
        self
    }

    /// Where its requests go.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// Which events it gets: `order.paid`, `order.*`, `*`. Said again, these take the place of those before.
    pub fn events<P: AsRef<str>>(self, patterns: impl IntoIterator<Item = P>) -> Self {
        let events: Result<Vec<Pattern>> =
            patterns.into_iter().map(|pattern| pattern.as_ref().parse()).collect();
        self.with(move |setting| {
            setting.events = events.clone()?;
            Ok(())
        })
    }

    /// A header of each of its requests. Those that carry secrets are refused here: see
    /// [`secret_header`](Self::secret_header).
    pub fn header(self, name: impl AsRef<str>, value: impl Into<String>) -> Self {
        let (name, value) = (name.as_ref().to_ascii_lowercase(), value.into());
        self.with(move |setting| {
            setting.sealed.remove(&name);
            setting.headers.insert(name.clone(), value.clone());
            Ok(())
        })
    }

    /// Leaves out a header that it has, secret or not.
    pub fn without_header(self, name: impl AsRef<str>) -> Self {
        let name = name.as_ref().to_ascii_lowercase();
        self.with(move |setting| {
            setting.headers.remove(&name);
            setting.sealed.remove(&name);
            Ok(())
        })
    }

    /// A header whose value is kept encrypted.
    pub fn secret_header(mut self, name: impl AsRef<str>, value: impl Into<String>) -> Self {
        self.secret_headers.push((name.as_ref().to_ascii_lowercase(), value.into()));
        self
    }

    /// What its requests are signed with. Another one than before takes its place for good after a day in which both
    /// sign; [`rotate_endpoint`](crate::Admin::rotate_endpoint) lets choose how long.
    pub fn secret(mut self, secret: &Secret) -> Self {
        self.secret = Some(secret.clone());
        self
    }

    /// What its secrets are encrypted with. The worker that delivers needs the same keys.
    pub fn seal_keys(mut self, keys: &SealKeys) -> Self {
        self.keys = Some(keys.clone());
        self
    }

    /// Where it may lie, as far as its URL shows. The policy of the delivery decides; this one refuses sooner.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Where its deliveries wait; `default` if nothing is said. Limits over all workers are those of a queue.
    pub fn queue(self, queue: impl AsRef<str>) -> Self {
        let queue = Queue::new(queue);
        self.with(move |setting| {
            setting.queue = queue.clone()?;
            Ok(())
        })
    }

    /// How long an attempt may take; 30 s by default, ten minutes at the most.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(move |setting| {
            setting.timeout = timeout;
            Ok(())
        })
    }

    /// How many attempts a delivery of an event has; 20 by default.
    pub fn max_attempts(self, attempts: u32) -> Self {
        self.with(move |setting| {
            setting.max_attempts = attempts;
            Ok(())
        })
    }

    /// How long to wait between them.
    pub fn retry(self, policy: Retry) -> Self {
        self.with(move |setting| {
            setting.retry = policy;
            Ok(())
        })
    }

    /// How many requests to it one worker has under way at the same time; without, as many as it bears.
    pub fn concurrency(self, most: Option<u32>) -> Self {
        self.with(move |setting| {
            setting.concurrency = most;
            Ok(())
        })
    }

    /// How many requests one worker sends to it in a time; without, as many as there are.
    pub fn rate(self, rate: Option<Rate>) -> Self {
        self.with(move |setting| {
            setting.rate = rate;
            Ok(())
        })
    }

    /// After how much continuous failure it is disabled: 20 failures over five days by default; `None`: never.
    pub fn give_up(self, rule: Option<GiveUp>) -> Self {
        self.with(move |setting| {
            setting.give_up = rule;
            Ok(())
        })
    }

    /// Adds it.
    ///
    /// # Errors
    /// As awaiting it, and [`EndpointExists`](Code::EndpointExists).
    pub async fn add(self) -> Result<Endpoint> {
        self.declare(How::Add).await
    }

    /// Changes the one that is there.
    ///
    /// # Errors
    /// As awaiting it, and [`EndpointUnknown`](Code::EndpointUnknown).
    pub async fn set(self) -> Result<Endpoint> {
        self.declare(How::Set).await
    }

    async fn declare(self, how: How) -> Result<Endpoint> {
        let (client, name) = (&self.client, self.name.clone()?);
        if (self.secret.is_some() || !self.secret_headers.is_empty()) && self.keys.is_none() {
            return Err(keys_missing("secrets of endpoints are kept encrypted: say with which keys"));
        }
        let apply = |row: Option<&Endpoint>, now| {
            match (row, how) {
                (Some(_), How::Add) => {
                    let why = format!("there is an endpoint {:?} already: it can be set", name.as_str());
                    return Err(Error::new(Code::EndpointExists, why));
                }
                (None, How::Set) => return Err(unknown(client, &name)),
                _ => {}
            }
            let next = self.apply(&name, row, now)?;
            if row == Some(&next) {
                return Ok(None);
            }
            let event = if row.is_some() { Event::Changed } else { Event::Added };
            Ok(Some((next, (Some(event), None))))
        };
        match change(client, &name, &client.owner, apply).await? {
            Some(row) => Ok(row),
            None => super::lookup(client, &name).await.map(|(row, _)| row),
        }
    }

    /// The endpoint as it is to be.
    fn apply(&self, name: &EndpointName, before: Option<&Endpoint>, now: Timestamp) -> Result<Endpoint> {
        let url = match (&self.url, before) {
            (Some(url), _) => url,
            (None, Some(before)) => &before.setting.url,
            (None, None) => return Err(Error::new(Code::EndpointInvalid, "an endpoint has a URL")),
        };
        let target = target(url)?;
        if self.url.is_some() {
            self.policy.check_target(&target)?;
        }
        let mut setting = before.map_or_else(|| Setting::new(""), |before| before.setting.clone());
        setting.url = target.to_string();
        self.changes.iter().try_for_each(|change| change(&mut setting))?;
        self.seal_headers(name, before, &mut setting, &target)?;
        setting.check()?;
        let made = || Endpoint::new(self.client.namespace.clone(), name.clone(), setting.clone(), now);
        let row = before.map_or_else(made, |row| row.set(setting.clone()));
        self.sign(row, now)
    }

    /// Seals the secret headers that were said, and those that are there for another host than before.
    fn seal_headers(
        &self,
        name: &EndpointName,
        before: Option<&Endpoint>,
        setting: &mut Setting,
        target: &Target,
    ) -> Result<()> {
        let place = |header: &str, origin: &str| header_place(&self.client.namespace, name, header, origin);
        let here = target.origin();
        let there = before.map(|before| crate::http_jobs::target(&before.setting.url)).transpose()?;
        let there = there.map(|target| target.origin());
        if let Some(there) = there.as_ref().filter(|there| **there != here) {
            for (header, sealed) in &mut setting.sealed {
                let why = "it has secret headers, which have to be encrypted anew for another host";
                let keys = self.keys.as_ref().ok_or_else(|| keys_missing(why))?;
                *sealed = keys.seal(&keys.open(sealed, &place(header, there))?, &place(header, &here))?;
            }
        }
        let Some(keys) = &self.keys else { return Ok(()) };
        for (header, value) in &self.secret_headers {
            check_header(header, value)?;
            setting.headers.remove(header);
            let same =
                |sealed: &String| keys.open(sealed, &place(header, &here)).is_ok_and(|kept| kept == *value);
            if !setting.sealed.get(header).is_some_and(same) {
                setting.sealed.insert(header.clone(), keys.seal(value, &place(header, &here))?);
            }
        }
        Ok(())
    }

    fn sign(&self, row: Endpoint, now: Timestamp) -> Result<Endpoint> {
        let (Some(secret), Some(keys)) = (&self.secret, &self.keys) else { return Ok(row) };
        let place = secret_place(&row.namespace, &row.name);
        let newest = row.keys.first().filter(|key| key.until.is_none());
        let same = newest
            .is_some_and(|key| keys.open(&key.sealed, &place).is_ok_and(|kept| kept == secret.reveal()));
        if same {
            return Ok(row);
        }
        let key = sealed_key(secret, keys, (&row.namespace, &row.name), now)?;
        row.rotated(key, limits::KEY_OVERLAP_DEFAULT, now)
    }
}

fn keys_missing(why: &str) -> Error {
    Error::new(Code::SealKeyInvalid, why)
}

impl IntoFuture for EndpointBuilder {
    type Output = Result<Endpoint>;
    type IntoFuture = BoxFuture<'static, Result<Endpoint>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.declare(How::Either))
    }
}
