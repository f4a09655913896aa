//! What a worker knows of endpoints, read again every two seconds while they are in use, and what it has seen of them:
//! failures are written down from time to time, a success after them at once.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onceward_core::endpoint::{Endpoint, SigningKey};
use onceward_core::history::Event;
use onceward_core::http::Target;
use onceward_core::{Code, EndpointName, Result, Timestamp};
use onceward_store::ListedEndpoints;
use tokio::time::Instant;

use super::seal::SealKeys;
use super::url;
use crate::client::Onceward;
use crate::endpoints::{Told, change, header_place, list, secret_place, unreadable};
use crate::webhook::Secret;

/// For how long is known what was read.
const FRESH: Duration = Duration::from_secs(2);
/// After how long without use an endpoint is forgotten.
const USED: Duration = Duration::from_secs(60);
/// How often failures are written down.
const NOTE: Duration = Duration::from_secs(60);
/// For how long all endpoints are known; longer than that nobody could rely on one that was just added.
const ALL_FRESH: Duration = Duration::from_secs(1);

/// An endpoint as it was read, with what it takes to send something to it.
pub(super) struct Receiver {
    pub(super) row: Endpoint,
    pub(super) target: Result<Target>,
    /// Its secret headers.
    pub(super) headers: Result<Vec<(String, String)>>,
    /// Its secrets, and until when each of them signs. One that can't be opened is in nobody's way once it has ended.
    secrets: Vec<(Result<Secret>, Option<Timestamp>)>,
}

impl Receiver {
    fn new(row: Endpoint, keys: Option<&SealKeys>) -> Self {
        let target = url::target(&row.setting.url);
        let headers = target.as_ref().map_err(Clone::clone).and_then(|target| {
            let open = |(name, sealed): (&String, &String)| {
                let place = header_place(&row.namespace, &row.name, name, &target.origin());
                Ok((name.clone(), SealKeys::needed(keys)?.open(sealed, &place)?))
            };
            row.setting.sealed.iter().map(open).collect()
        });
        let place = secret_place(&row.namespace, &row.name);
        let open = |key: &SigningKey| -> Result<Secret> {
            SealKeys::needed(keys)?.open(&key.sealed, &place)?.parse()
        };
        let secrets = row.keys.iter().map(|key| (open(key), key.until)).collect();
        Self { row, target, headers, secrets }
    }

    /// The secrets that sign now.
    pub(super) fn signing(&self, now: Timestamp) -> Result<Vec<&Secret>> {
        let signs = |until: &Option<Timestamp>| until.is_none_or(|until| until > now);
        let signing = self.secrets.iter().filter(|(_, until)| signs(until));
        signing.map(|(secret, _)| secret.as_ref().map_err(Clone::clone)).collect()
    }
}

/// How an exchange with an endpoint has ended, for its record.
pub(super) enum Report {
    /// As it should.
    Well,
    /// In another way.
    Failed(String),
    /// It wants nothing any more.
    Gone,
}

/// All endpoints a delivery knows.
#[derive(Default)]
pub(super) struct Known {
    keys: Option<SealKeys>,
    entries: Mutex<HashMap<EndpointName, Entry>>,
    /// One reads, the others wait for it.
    reading: tokio::sync::Mutex<()>,
    all: tokio::sync::Mutex<Option<All>>,
}

/// All endpoints of the namespace as they were read, for those who tell of events.
struct All {
    at: Instant,
    read: Arc<ListedEndpoints>,
}

struct Entry {
    read_at: Instant,
    used_at: Instant,
    found: Arc<Receiver>,
    trouble: Trouble,
}

/// Failures that are not written down yet.
#[derive(Clone, Copy, Default)]
struct Trouble {
    count: u32,
    since: Option<Instant>,
    noted: Option<Instant>,
    /// Whether it is just being written down.
    noting: bool,
}

impl Known {
    pub(super) fn new(keys: Option<SealKeys>) -> Self {
        Self { keys, ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EndpointName, Entry>> {
        // Nothing panics while it holds the lock.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self, name: &EndpointName) -> Option<Arc<Receiver>> {
        let mut entries = self.lock();
        let entry = entries.get_mut(name)?;
        entry.used_at = Instant::now();
        (entry.read_at.elapsed() < FRESH).then(|| Arc::clone(&entry.found))
    }

    /// An endpoint, if there is one of the name. One that can't be read is an error, and in nobody else's way.
    pub(super) async fn find(&self, client: &Onceward, name: &EndpointName) -> Result<Option<Arc<Receiver>>> {
        if let Some(found) = self.fresh(name) {
            return Ok(Some(found));
        }
        let _reading = self.reading.lock().await;
        if let Some(found) = self.fresh(name) {
            return Ok(Some(found));
        }
        let names = self.to_read(name);
        let at = Instant::now();
        let found = list(client, Some(&names)).await?;
        let mut entries = self.lock();
        names.iter().filter(|name| !found.rows.iter().any(|row| row.name == **name)).for_each(|name| {
            entries.remove(name);
        });
        for row in found.rows {
            self.keep(&mut entries, row, at);
        }
        if found.unreadable.iter().any(|(damaged, _)| damaged == name) {
            return Err(unreadable(name));
        }
        Ok(entries.get(name).map(|entry| Arc::clone(&entry.found)))
    }

    /// What is read together with an endpoint: those that would have to be read soon, the ones first that were read
    /// before the others, and no more than one page holds.
    fn to_read(&self, name: &EndpointName) -> Vec<EndpointName> {
        let mut entries = self.lock();
        entries.retain(|_, entry| entry.used_at.elapsed() < USED);
        let is_old = |entry: &Entry| entry.read_at.elapsed() >= FRESH / 2;
        let old = entries.iter().filter(|(known, entry)| *known != name && is_old(entry));
        let mut old: Vec<(Instant, &EndpointName)> =
            old.map(|(known, entry)| (entry.read_at, known)).collect();
        old.sort_unstable_by_key(|(read_at, _)| *read_at);
        let old = old.into_iter().map(|(_, known)| known.clone());
        core::iter::once(name.clone()).chain(old).take(onceward_core::limits::PAGE_ROWS_MAX).collect()
    }

    fn keep(&self, entries: &mut HashMap<EndpointName, Entry>, row: Endpoint, read_at: Instant) {
        let before = entries.get(&row.name);
        let used_at = before.map_or(read_at, |entry| entry.used_at);
        // What was seen at another URL says nothing about this one.
        let same = before.filter(|entry| entry.found.row.setting.url == row.setting.url);
        let trouble = same.map_or_else(Trouble::default, |entry| entry.trouble);
        let found = match before.filter(|entry| entry.found.row == row) {
            Some(entry) => Arc::clone(&entry.found),
            None => Arc::new(Receiver::new(row.clone(), self.keys.as_ref())),
        };
        entries.insert(row.name, Entry { read_at, used_at, found, trouble });
    }

    /// All endpoints, read after this time of the store's clock.
    pub(super) async fn all(&self, client: &Onceward, after: Timestamp) -> Result<Arc<ListedEndpoints>> {
        let mut all = self.all.lock().await;
        if let Some(all) = all.as_ref().filter(|all| all.read.now > after && all.at.elapsed() < ALL_FRESH) {
            return Ok(Arc::clone(&all.read));
        }
        let at = Instant::now();
        let read = Arc::new(list(client, None).await?);
        for (name, _) in &read.unreadable {
            let code = Code::RowUnreadable.as_str();
            tracing::error!(endpoint = %name, code, "an endpoint can't be read: it is not told of events");
        }
        *all = Some(All { at, read: Arc::clone(&read) });
        Ok(read)
    }

    /// Takes down how an exchange has ended. Where that can't be written, it is not lost: it counts the next time.
    pub(super) async fn report(&self, client: &Onceward, receiver: &Receiver, report: Report) {
        let (name, url) = (&receiver.row.name, receiver.row.setting.url.as_str());
        let seen = Seen { client, name, url };
        let written = match report {
            Report::Well => self.well(&seen).await,
            Report::Failed(error) => self.failed(&seen, &error).await,
            Report::Gone => gone(&seen).await,
        };
        match written {
            Ok(Some(row)) => {
                if row.disabled.is_some() {
                    tracing::warn!(endpoint = %name, "an endpoint was disabled: see its history");
                }
                self.keep(&mut self.lock(), row, Instant::now());
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, endpoint = %name, "how an endpoint is doing could not be written down");
            }
        }
    }

    async fn well(&self, seen: &Seen<'_>) -> Result<Option<Endpoint>> {
        let was_ill = {
            let mut entries = self.lock();
            let Some(entry) = seen.of(&mut entries) else { return Ok(None) };
            entry.trouble = Trouble::default();
            entry.found.row.health.is_some()
        };
        if !was_ill {
            return Ok(None);
        }
        seen.change(|row, _| row.succeeded().map(|row| (row, (None, None)))).await
    }

    async fn failed(&self, seen: &Seen<'_>, error: &str) -> Result<Option<Endpoint>> {
        let by = &seen.client.owner;
        let Some((count, since)) = self.to_note(seen, error) else { return Ok(None) };
        let written = seen.change(|row, now| {
            let failures = (count, now.before(since.elapsed()));
            if row.disabled.is_some() {
                return None;
            }
            let next = row.failed(failures, error, by, now);
            let disabled = next.disabled.as_ref();
            let told = disabled.map(|disabled| (Event::Disabled, disabled.reason.clone()));
            let (event, reason) = told.map_or((None, None), |(event, reason)| (Some(event), reason));
            Some((next, (event, reason)))
        });
        let written = written.await;
        if let Some(entry) = seen.of(&mut self.lock()) {
            entry.trouble.noting = false;
            if written.is_ok() {
                let left = entry.trouble.count.saturating_sub(count);
                let now = Instant::now();
                let since = (left > 0).then_some(now);
                entry.trouble = Trouble { count: left, since, noted: Some(now), noting: false };
            }
        }
        written
    }

    /// One failure more; what there is to write down, if it is time: the first one, one a minute, and the one after
    /// which the endpoint is given up.
    fn to_note(&self, seen: &Seen<'_>, error: &str) -> Option<(u32, Instant)> {
        let mut entries = self.lock();
        let entry = seen.of(&mut entries)?;
        let trouble = &mut entry.trouble;
        trouble.count = trouble.count.saturating_add(1);
        let since = *trouble.since.get_or_insert_with(Instant::now);
        let row = &entry.found.row;
        let now = seen.client.clock().wall();
        let is_due = row.health.is_none()
            || trouble.noted.is_none_or(|noted| noted.elapsed() >= NOTE)
            || row
                .failed((trouble.count, now.before(since.elapsed())), error, &seen.client.owner, now)
                .disabled
                .is_some();
        // What fails while that is under way is counted, and written down with the next.
        let notes = is_due && !trouble.noting;
        trouble.noting |= notes;
        notes.then_some((trouble.count, since))
    }
}

/// Whom something was seen of: an endpoint, at the URL that it had. By now it may have another one, of which that says
/// nothing.
struct Seen<'a> {
    client: &'a Onceward,
    name: &'a EndpointName,
    url: &'a str,
}

impl Seen<'_> {
    /// What is known of it, if it still is where it was seen.
    fn of<'e>(&self, entries: &'e mut HashMap<EndpointName, Entry>) -> Option<&'e mut Entry> {
        entries.get_mut(self.name).filter(|entry| entry.found.row.setting.url == self.url)
    }

    /// Changes its row, if it still is where it was seen.
    async fn change(
        &self,
        to: impl Fn(&Endpoint, Timestamp) -> Option<(Endpoint, Told)> + Send + Sync,
    ) -> Result<Option<Endpoint>> {
        change(self.client, self.name, &self.client.owner, |row, now| {
            Ok(row.filter(|row| row.setting.url == self.url).and_then(|row| to(row, now)))
        })
        .await
    }
}

async fn gone(seen: &Seen<'_>) -> Result<Option<Endpoint>> {
    const WHY: &str = "it answered 410: it wants nothing any more";
    let by = &seen.client.owner;
    let told = || (Some(Event::Disabled), Some(WHY.to_owned()));
    seen.change(|row, now| row.disabled(by, Some(WHY), now).map(|row| (row, told()))).await
}
