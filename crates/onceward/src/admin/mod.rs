//! Looking and intervening: the one place through which the command line and every later console change anything.
//! Interventions want a reason and are written into the history of the key, or into the row of the job.
//!
//! Leases and once stand here; `jobs` are single jobs, `bulk` many of them, `queues` queues and workers.

mod bulk;
#[cfg(feature = "http-jobs")]
mod endpoints;
mod fork;
mod jobs;
mod many;
mod queues;
mod recorded;
mod runs;
mod services;
mod triggers;

pub use self::bulk::{BulkAction, BulkJobs, JobFilter};
pub use self::fork::{ForkedRun, RetriedRun, RunFork};
pub use self::jobs::{JobResolution, Replay, Replayed};
pub use self::many::{RunAction, RunFilter};
pub use self::queues::QueueView;
pub use self::services::ListedRunner;

use onceward_core::history::{self, Entry, Event, Subject};
use onceward_core::lease::{self, Standing};
use onceward_core::once::{self, Resolution, Resolve, State, check_reason};
use onceward_core::{Code, Error, Key, Owner, Result, Timestamp, Token, limits};
use onceward_store::{
    BreakLease, Broken, Finding, HistoryOf, KeyRef, ListLeases, ListOnce, Prune, Pruned, ResolveOnce,
    Snapshot,
};
use serde::Serialize;

use crate::client::Onceward;
use crate::once::Verdict;

/// Looking at keys and settling what can't settle itself.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
/// use onceward::history::Subject;
/// use onceward::once::{Resolution, State};
/// use onceward::{NotDone, Onceward};
///
/// let ow = Onceward::connect("memory:").await?;
/// ow.once("order-7").run(async |_| Err::<(), _>(NotDone::unknown("no answer"))).await?;
///
/// let admin = ow.admin().acting_as("ann")?;
/// let doubtful = admin.once_keys(Some(State::Uncertain), None, None, 50).await?;
/// assert_eq!(doubtful.rows.len(), 1);
/// let seen = Some(doubtful.rows[0].token);
/// admin.resolve("order-7", seen, Resolution::Release, "it is not in the ledger", false).await?;
/// let newest = &admin.history(Subject::Once, "order-7", 10).await?[0];
/// assert_eq!((newest.actor.as_str(), newest.reason.as_deref()), ("ann", Some("it is not in the ledger")));
/// # Ok::<(), onceward::Error>(()) })?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Admin {
    client: Onceward,
    actor: Owner,
}

/// What a bulk action did, or would do.
///
/// ```
/// # #[tokio::main(flavor = "multi_thread")]
/// # async fn main() -> Result<(), onceward::Error> {
/// # let ow = onceward::Onceward::connect("memory:").await?;
/// let bulk = ow.admin().resolve_all(None, &onceward::once::Resolution::Release, "an example", true).await?;
/// assert_eq!(bulk, onceward::Bulk::default(), "nothing is uncertain");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bulk {
    /// Keys that were (or would be) changed.
    pub changed: Vec<Key>,
    /// Keys that had changed by themselves in the meantime, and were left alone.
    pub moved: Vec<Key>,
    /// Keys the probe could not find anything out about.
    pub unknown: Vec<Key>,
}

impl Admin {
    pub(crate) fn new(client: Onceward) -> Self {
        let actor = client.owner.clone();
        Self { client, actor }
    }

    /// Who acts, for the history; the client's owner if nothing else is said.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// ow.lease("k").auto_release(false).acquire().await?;
    /// ow.admin().acting_as("ann")?.break_lease("k", None, "it hangs").await?;
    /// let newest = ow.admin().history(onceward::history::Subject::Lease, "k", 1).await?.remove(0);
    /// assert_eq!((newest.actor.as_str(), newest.reason.as_deref()), ("ann", Some("it hangs")));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`OwnerInvalid`](Code::OwnerInvalid).
    pub fn acting_as(mut self, actor: impl AsRef<str>) -> Result<Self> {
        self.actor = Owner::new(actor)?;
        Ok(self)
    }

    fn key(&self, key: &Key) -> KeyRef {
        KeyRef { namespace: self.client.namespace.clone(), key: key.clone() }
    }

    /// Every place of a lease; empty if the key was never held.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// let held = ow.lease("k").acquire().await?.unwrap();
    /// let seen = ow.admin().lease("k").await?;
    /// assert_eq!(seen.rows[0].token, held.token());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`KeyInvalid`](Code::KeyInvalid), and those of an unreachable store.
    pub async fn lease(&self, key: &str) -> Result<Snapshot<lease::Record>> {
        self.client.store().lease_lookup(&self.key(&Key::new(key)?)).await
    }

    /// A page of leases of this namespace.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// use onceward::lease::Standing;
    ///
    /// let _held = ow.lease("import:prices").acquire().await?;
    /// let held = ow.admin().leases(Some(Standing::Held), Some("import:".to_owned()), None, 50).await?;
    /// assert_eq!(held.rows.len(), 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`PageInvalid`](Code::PageInvalid), and those of an unreachable store.
    pub async fn leases(
        &self,
        standing: Option<Standing>,
        prefix: Option<String>,
        after: Option<(Key, u32)>,
        limit: usize,
    ) -> Result<Snapshot<lease::Record>> {
        let namespace = self.client.namespace.clone();
        let after = after.map(|(key, slot)| (namespace.clone(), key, slot));
        let limit = check_page(limit)?;
        let ask = ListLeases { namespace: Some(namespace), prefix, standing, after, limit };
        self.client.store().lease_list(&ask).await
    }

    /// Takes a lease away from its holder. Guards refuse the holder at once; the holder itself learns of it at its next
    /// renewal, and a receiver that checks tokens when it has seen the next holder's.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// let hung = ow.lease("k").acquire().await?.unwrap();
    /// ow.admin().break_lease("k", Some(hung.token()), "its host is gone").await?;
    /// assert!(ow.lease("k").acquire().await?.unwrap().token() > hung.token());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ReasonMissing`](Code::ReasonMissing), [`LeaseHeld`](Code::LeaseHeld) if it is held under another token than
    /// `token`, [`KeyAbsent`](Code::KeyAbsent) if nobody holds it.
    pub async fn break_lease(
        &self,
        key: &str,
        token: Option<Token>,
        reason: &str,
    ) -> Result<Vec<lease::Record>> {
        check_reason(reason)?;
        let KeyRef { namespace, key } = self.key(&Key::new(key)?);
        let ask = BreakLease { namespace, key, token, actor: self.actor.clone(), reason: reason.to_owned() };
        match self.client.store().lease_break(&ask).await? {
            Broken::Applied(rows) => Ok(rows),
            Broken::NotHeld => Err(Error::new(Code::KeyAbsent, "nobody holds the lease")),
            Broken::Moved(token) => {
                Err(Error::new(Code::LeaseHeld, format!("it is held under token {token} now")))
            }
        }
    }

    /// One once key, with its body.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// ow.once("order-17").run(async |_| Ok(7)).await?.into_result()?;
    /// let (row, now) = ow.admin().once("order-17").await?.unwrap();
    /// assert_eq!(row.state_at(now), onceward::once::State::Done);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`KeyInvalid`](Code::KeyInvalid), and those of an unreachable store.
    pub async fn once(&self, key: &str) -> Result<Option<(once::Record, Timestamp)>> {
        let seen = self.client.store().once_lookup(&[self.key(&Key::new(key)?)]).await?;
        let now = seen.now;
        Ok(seen.rows.into_iter().next().flatten().map(|row| (row, now)))
    }

    /// Many once keys, in the order asked for, in one read.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// ow.once("a").run(async |_| Ok(1)).await?.into_result()?;
    /// let seen = ow.admin().once_many(["a", "b"]).await?;
    /// assert!(seen.rows[0].is_some() && seen.rows[1].is_none());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`KeyInvalid`](Code::KeyInvalid), [`KeysInvalid`](Code::KeysInvalid) beyond a page, and those of an
    /// unreachable store.
    pub async fn once_many<K: AsRef<str>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Snapshot<Option<once::Record>>> {
        let keys: Vec<KeyRef> =
            keys.into_iter().map(|key| Key::new(key).map(|key| self.key(&key))).collect::<Result<_>>()?;
        if keys.len() > limits::PAGE_ROWS_MAX {
            return Err(Error::new(
                Code::KeysInvalid,
                format!("at most {} keys at a time", limits::PAGE_ROWS_MAX),
            ));
        }
        self.client.store().once_lookup(&keys).await
    }

    /// A page of once keys of this namespace, without their bodies.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// use onceward::once::State;
    ///
    /// ow.once("order-17").run(async |_| Ok(7)).await?.into_result()?;
    /// let done = ow.admin().once_keys(Some(State::Done), Some("order-".to_owned()), None, 50).await?;
    /// assert_eq!(done.rows[0].key.as_str(), "order-17");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`PageInvalid`](Code::PageInvalid), and those of an unreachable store.
    pub async fn once_keys(
        &self,
        state: Option<State>,
        prefix: Option<String>,
        after: Option<Key>,
        limit: usize,
    ) -> Result<Snapshot<once::Record>> {
        let namespace = self.client.namespace.clone();
        let after = after.map(|key| (namespace.clone(), key));
        let ask = ListOnce { namespace: Some(namespace), prefix, state, after, limit: check_page(limit)? };
        self.client.store().once_list(&ask).await
    }

    /// Settles an uncertain key. With `token`, only if it is still the one that was looked at.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// use onceward::once::Resolution;
    ///
    /// let lost: onceward::Outcome<u32> = ow.once("k").run(async |_| Err(onceward::NotDone::unknown("?"))).await?;
    /// assert!(lost.is_uncertain());
    /// ow.admin().resolve("k", None, Resolution::Release, "it is not in the ledger", false).await?;
    /// assert_eq!(ow.once("k").run(async |_| Ok(7)).await?.done(), Some(7));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ReasonMissing`](Code::ReasonMissing), [`KeyAbsent`](Code::KeyAbsent), [`NotUncertain`](Code::NotUncertain),
    /// [`TokenStale`](Code::TokenStale).
    pub async fn resolve(
        &self,
        key: &str,
        token: Option<Token>,
        resolution: Resolution,
        reason: &str,
        dry_run: bool,
    ) -> Result<Token> {
        check_reason(reason)?;
        let KeyRef { namespace, key } = self.key(&Key::new(key)?);
        let (actor, reason) = (self.actor.clone(), reason.to_owned());
        let ask = ResolveOnce { namespace, key, token, resolution, actor, reason, dry_run };
        let resolved = self.client.store().once_resolve(&ask).await?;
        let name = (ask.namespace, ask.key);
        self.client.inner.cache.forget(&name);
        self.client.inner.switchboard.ring(&name.0, &name.1);
        match resolved {
            Resolve::Applied { token } => Ok(token),
            Resolve::Absent => {
                Err(Error::new(Code::KeyAbsent, format!("there is no once key {:?}", name.1.as_str())))
            }
            Resolve::NotUncertain(state) => {
                Err(Error::new(Code::NotUncertain, format!("the key is {state}")))
            }
            Resolve::Moved(token) => {
                Err(Error::new(Code::TokenStale, format!("the key is uncertain under token {token} by now")))
            }
        }
    }

    /// Settles every uncertain key that starts with `prefix` the same way.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// use onceward::once::Resolution;
    ///
    /// let lost: onceward::Outcome<u32> = ow.once("mail-1").run(async |_| Err(onceward::NotDone::unknown("?"))).await?;
    /// assert!(lost.is_uncertain());
    /// let failed = Resolution::Failed { reason: "too late by now".to_owned() };
    /// let would = ow.admin().resolve_all(Some("mail-"), &failed, "the campaign is over", true).await?;
    /// let did = ow.admin().resolve_all(Some("mail-"), &failed, "the campaign is over", false).await?;
    /// assert_eq!((would.changed.len(), did.changed.len()), (1, 1));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ReasonMissing`](Code::ReasonMissing), and those of an unreachable store; what was settled before stays so.
    pub async fn resolve_all(
        &self,
        prefix: Option<&str>,
        resolution: &Resolution,
        reason: &str,
        dry_run: bool,
    ) -> Result<Bulk> {
        check_reason(reason)?;
        let (mut bulk, mut after) = (Bulk::default(), None);
        loop {
            let rows = self.uncertain_after(prefix, &mut after).await?;
            if rows.is_empty() {
                return Ok(bulk);
            }
            for row in &rows {
                self.settle_uncertain(row, resolution.clone(), reason, dry_run, &mut bulk).await?;
            }
        }
    }

    /// Asks `probe` about every uncertain key that starts with `prefix`, and settles each by the answer.
    ///
    /// ```
    /// # async fn charge_of(_: &str) -> std::io::Result<Option<String>> { Ok(None) }
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// use onceward::Verdict;
    ///
    /// let ask = async |row: &onceward::once::Record| match charge_of(row.key.as_str()).await {
    ///     Ok(Some(charge)) => Verdict::Happened(charge),
    ///     Ok(None) | Err(_) => Verdict::StillUnknown,
    /// };
    /// let admin = ow.admin().acting_as("nightly check")?;
    /// let would = admin.reconcile_dry_run(Some("payment-"), ask).await?;
    /// println!("{} of them are known by now", would.changed.len());
    /// let settled = admin.reconcile(Some("payment-"), "the card company was asked", ask).await?;
    /// println!("{} are settled, {} unknown still", settled.changed.len(), settled.unknown.len());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`resolve_all`](Self::resolve_all), and [`ResultUnwritable`](Code::ResultUnwritable).
    pub async fn reconcile<T: Serialize>(
        &self,
        prefix: Option<&str>,
        reason: &str,
        probe: impl AsyncFn(&once::Record) -> Verdict<T>,
    ) -> Result<Bulk> {
        self.ask_about_each(prefix, reason, false, probe).await
    }

    /// Says what [`reconcile`](Self::reconcile) would do: `probe` is asked, and nothing is changed.
    ///
    /// # Errors
    /// As [`reconcile`](Self::reconcile).
    pub async fn reconcile_dry_run<T: Serialize>(
        &self,
        prefix: Option<&str>,
        probe: impl AsyncFn(&once::Record) -> Verdict<T>,
    ) -> Result<Bulk> {
        self.ask_about_each(prefix, "nothing is changed", true, probe).await
    }

    async fn ask_about_each<T: Serialize>(
        &self,
        prefix: Option<&str>,
        reason: &str,
        dry_run: bool,
        probe: impl AsyncFn(&once::Record) -> Verdict<T>,
    ) -> Result<Bulk> {
        check_reason(reason)?;
        let (mut bulk, mut after) = (Bulk::default(), None);
        loop {
            let rows = self.uncertain_after(prefix, &mut after).await?;
            if rows.is_empty() {
                return Ok(bulk);
            }
            for row in &rows {
                match crate::once::resolution(probe(row).await)? {
                    Some(resolution) => {
                        self.settle_uncertain(row, resolution, reason, dry_run, &mut bulk).await?;
                    }
                    None => bulk.unknown.push(row.key.clone()),
                }
            }
        }
    }

    /// The next page of keys in doubt behind `after`, which moves on.
    async fn uncertain_after(
        &self,
        prefix: Option<&str>,
        after: &mut Option<Key>,
    ) -> Result<Vec<once::Record>> {
        let (state, prefix) = (Some(State::Uncertain), prefix.map(str::to_owned));
        let rows = self.once_keys(state, prefix, after.take(), limits::PAGE_ROWS_MAX).await?.rows;
        *after = rows.last().map(|row| row.key.clone());
        Ok(rows)
    }

    /// Settles one key by the token that was seen: what moved meanwhile is left alone.
    async fn settle_uncertain(
        &self,
        row: &once::Record,
        resolution: Resolution,
        reason: &str,
        dry_run: bool,
        bulk: &mut Bulk,
    ) -> Result<()> {
        match self.resolve(row.key.as_str(), Some(row.token), resolution, reason, dry_run).await {
            Ok(_) => bulk.changed.push(row.key.clone()),
            Err(error) if matches!(error.code(), Code::TokenStale | Code::NotUncertain | Code::KeyAbsent) => {
                bulk.moved.push(row.key.clone());
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// What happened to a key, newest first, the open claim included.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// use onceward::history::{Event, Subject};
    ///
    /// ow.once("k").run(async |_| Ok(7)).await?.into_result()?;
    /// let events: Vec<Event> =
    ///     ow.admin().history(Subject::Once, "k", 10).await?.into_iter().map(|entry| entry.event).collect();
    /// assert_eq!(events, [Event::Done, Event::Claimed]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`KeyInvalid`](Code::KeyInvalid), [`PageInvalid`](Code::PageInvalid), and those of an unreachable store.
    pub async fn history(&self, subject: Subject, key: &str, limit: usize) -> Result<Vec<Entry>> {
        let KeyRef { namespace, key } = self.key(&Key::new(key)?);
        let ask = HistoryOf { subject, namespace, key, limit: check_page(limit)? };
        let rows = self.client.store().history(&ask).await?;
        let mut entries = history::unfold(rows);
        for claim in self.open_claims(subject, &ask).await? {
            if !entries.iter().any(|entry| entry.event == Event::Claimed && entry.token == claim.token) {
                entries.push(claim);
            }
        }
        entries.sort_by_key(|entry| core::cmp::Reverse((entry.at, entry.token)));
        entries.truncate(limit);
        Ok(entries)
    }

    /// Claims that have begun and not ended: they are told by the live rows.
    async fn open_claims(&self, subject: Subject, ask: &HistoryOf) -> Result<Vec<Entry>> {
        let claimed = |token, actor: &Owner, at| Entry {
            subject,
            namespace: ask.namespace.clone(),
            key: ask.key.clone(),
            event: Event::Claimed,
            token,
            actor: actor.as_str().to_owned(),
            at,
            reason: None,
        };
        let key = KeyRef { namespace: ask.namespace.clone(), key: ask.key.clone() };
        Ok(match subject {
            Subject::Lease => {
                let seen = self.client.store().lease_lookup(&key).await?;
                let open = seen.rows.iter().filter(|row| row.released_at.is_none());
                open.map(|row| claimed(row.token, &row.owner, row.granted_at)).collect()
            }
            Subject::Once => {
                let seen = self.client.store().once_lookup(&[key]).await?;
                let open = seen.rows.iter().flatten().filter(|row| row.state == State::Running);
                open.map(|row| claimed(row.token, &row.owner, row.claimed_at)).collect()
            }
            _ => Vec::new(),
        })
    }

    /// Forgets what may be forgotten: one round, at most `limit` rows of each kind. Claims that have run out and that
    /// nobody has looked at since become uncertain by it, with their history.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// use std::time::Duration;
    /// use onceward::store::Prune;
    ///
    /// let day = Duration::from_secs(86_400);
    /// let all = Prune { leases_older_than: day, history_older_than: 90 * day, limit: 1_000 };
    /// loop {
    ///     let pruned = ow.admin().prune(&all).await?;
    ///     println!("{} outcomes and {} leases are forgotten", pruned.once, pruned.leases);
    ///     if pruned.is_last_of(&all) {
    ///         break;
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn prune(&self, ask: &Prune) -> Result<Pruned> {
        self.client.store().prune(ask).await
    }

    /// Looks at the database and its settings, as at start.
    ///
    /// ```
    /// # #[tokio::main(flavor = "multi_thread")]
    /// # async fn main() -> Result<(), onceward::Error> {
    /// # let ow = onceward::Onceward::connect("memory:").await?;
    /// for finding in ow.admin().check().await? {
    ///     println!("{}: {}", finding.check, finding.found);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of an unreachable store.
    pub async fn check(&self) -> Result<Vec<Finding>> {
        self.client.store().check().await
    }
}

fn check_page(limit: usize) -> Result<usize> {
    let max = limits::PAGE_ROWS_MAX;
    if (1..=max).contains(&limit) {
        return Ok(limit);
    }
    Err(Error::new(Code::PageInvalid, format!("a page has 1 to {max} rows, not {limit}")))
}
