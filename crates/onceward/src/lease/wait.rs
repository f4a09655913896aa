//! Asking once, and asking again: woken by the release, bounded by the deadline, never in a busy loop.

use core::time::Duration;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use onceward_core::lease::{Ask, Record, Watched};
use onceward_core::{Key, Namespace, Result, Timestamp, lease};
use onceward_store::{Acquired, KeyRef, LeaveLease, WaitLease};
use tokio::time::{Instant, timeout, timeout_at};

use super::builder::{Acquisition, LeaseBuilder};
use super::{Holder, Lease};
use crate::client::Onceward;
use crate::renewer::Farewell;

/// One attempt.
pub(super) async fn attempt(builder: &LeaseBuilder, mut ask: Ask) -> Result<Acquisition> {
    let client = &builder.client;
    let watch = &client.inner.poison;
    ask.watched = watch.verdict(&ask, client.clock().boottime());
    let (counted, name) = (ask.capacity > 1, (ask.namespace.clone(), ask.key.clone()));
    let sent = client.clock().boottime();
    match client.inner.lanes.acquire(ask).await? {
        Acquired::Granted(row) => Ok(Acquisition::Granted(Lease::granted(builder, &row, sent))),
        Acquired::Held { by, now } => {
            if let Some(row) = &by {
                watch.note(row, now, client.clock().boottime());
            }
            if counted && let Some(name) = watch.wants_a_look(name, client.clock().boottime()) {
                look(client, name).await;
            }
            Ok(Acquisition::Held(by.map(|row| Holder::of(&row, now, &client.owner))))
        }
    }
}

/// Attempts until granted or `at_most` has passed.
pub(super) async fn until(builder: &LeaseBuilder, ask: Ask, at_most: Duration) -> Result<Acquisition> {
    let deadline = Instant::now() + at_most;
    let client = &builder.client;
    let line = client.inner.switchboard.line(&ask.namespace, &ask.key);
    // Those of this process who wait for the same key stand in line here; one of them deals with the store. Where order
    // is asked for, the first attempt waits its turn as well; otherwise it needs none: nobody may be waiting.
    let mut head = None;
    if builder.fair {
        let Ok(turn) = timeout_at(deadline, line.head.lock()).await else {
            return Ok(Acquisition::Held(holder(builder, &ask).await));
        };
        head = Some(turn);
    }
    let mut last = match attempt(builder, ask.clone()).await? {
        Acquisition::Granted(lease) => return Ok(Acquisition::Granted(lease)),
        Acquisition::Held(holder) => holder,
    };
    let _head = match head {
        Some(turn) => turn,
        None => match timeout_at(deadline, line.head.lock()).await {
            Ok(turn) => turn,
            Err(_) => return Ok(Acquisition::Held(last)),
        },
    };
    let mut place = Place::new(builder, &ask);
    loop {
        let bell = line.bell.notified();
        tokio::pin!(bell);
        bell.as_mut().enable();
        match place.keep().await {
            // Without a place it is slower, and the attempt tells whether the store is away.
            Err(error) if error.is_retryable() && !builder.fair => {}
            kept => kept?,
        }
        match attempt(builder, ask.clone()).await? {
            Acquisition::Granted(lease) => {
                place.leave().await;
                return Ok(Acquisition::Granted(lease));
            }
            Acquisition::Held(holder) => last = holder,
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            place.leave().await;
            return Ok(Acquisition::Held(last));
        }
        // Woken or not is all the same: the next attempt tells.
        let _ = timeout(nap(builder, last.as_ref()).min(left), bell).await;
    }
}

/// Who holds the key, for somebody whose turn did not come in time; as well as can be told.
async fn holder(builder: &LeaseBuilder, ask: &Ask) -> Option<Holder> {
    let client = &builder.client;
    let key = KeyRef { namespace: ask.namespace.clone(), key: ask.key.clone() };
    let seen = client.store().lease_lookup(&key).await.ok()?;
    let held = seen.rows.iter().filter(|row| !row.is_free(seen.now));
    held.min_by_key(|row| row.free_at()).map(|row| Holder::of(row, seen.now, &client.owner))
}

/// How long to sleep unless woken: until the holder's time is up, but never longer than the store's polling interval.
fn nap(builder: &LeaseBuilder, holder: Option<&Holder>) -> Duration {
    let poll = builder.client.store().capabilities().poll_interval;
    // Without a holder the key is free, and promised to somebody who should take it in a moment.
    // A holder whose time is up, and who is still in the way, is guarding a transaction: it takes as long as it takes.
    let pause = Duration::from_millis(10);
    let rest = holder.map_or(pause, |holder| if holder.free_in.is_zero() { pause } else { holder.free_in });
    poll.min(rest + Duration::from_millis(1))
}

/// A place among those who wait, known to the store: it makes releases wake us, and keeps the order if asked to.
struct Place<'a> {
    builder: &'a LeaseBuilder,
    namespace: Namespace,
    key: Key,
    session: onceward_core::SessionId,
    kept: Option<Instant>,
}

/// How long a place outlives a waiter that died.
const PLACE_TTL: Duration = Duration::from_secs(10);

impl<'a> Place<'a> {
    fn new(builder: &'a LeaseBuilder, ask: &Ask) -> Self {
        let (namespace, key, session) = (ask.namespace.clone(), ask.key.clone(), ask.session);
        Self { builder, namespace, key, session, kept: None }
    }

    /// Takes the place, or keeps it for longer.
    async fn keep(&mut self) -> Result<()> {
        if self.kept.is_some_and(|at| at.elapsed() < PLACE_TTL / 3) {
            return Ok(());
        }
        let wait = WaitLease {
            namespace: self.namespace.clone(),
            key: self.key.clone(),
            session: self.session,
            fair: self.builder.fair,
            ttl: PLACE_TTL,
        };
        self.builder.client.store().lease_wait(&wait).await?;
        self.kept = Some(Instant::now());
        Ok(())
    }

    fn leaving(&mut self) -> Option<LeaveLease> {
        self.kept.take()?;
        Some(LeaveLease { namespace: self.namespace.clone(), key: self.key.clone(), session: self.session })
    }

    async fn leave(&mut self) {
        if let Some(leave) = self.leaving()
            && let Err(error) = self.builder.client.store().lease_leave(&leave).await
        {
            tracing::debug!(%error, "a waiting place could not be given up and runs out by itself");
        }
    }
}

impl Drop for Place<'_> {
    /// The waiter was cancelled: its place must not hold up those behind it.
    fn drop(&mut self) {
        // Not on this runtime, which may be about to end: a shutdown waits for what the renewer has to send.
        if let Some(leave) = self.leaving() {
            self.builder.client.inner.renewer.send(Farewell::Leave(leave));
        }
    }
}

/// Looks at every place of a counted lease: a refusal tells of the one that becomes free first, and a poisoned one is
/// the last.
async fn look(client: &Onceward, (namespace, key): Name) {
    match client.store().lease_lookup(&KeyRef { namespace, key }).await {
        Ok(seen) => {
            let boottime = client.clock().boottime();
            seen.rows.iter().for_each(|row| client.inner.poison.note(row, seen.now, boottime));
        }
        Err(error) => tracing::debug!(%error, "the places of a counted lease could not be looked at"),
    }
}

/// Remembers rows whose expiry only a step of the database's clock explains (N17). Such a row may be taken once it has
/// not been renewed for a whole ttl of our own clock: a live holder would have.
#[derive(Debug, Default)]
pub(crate) struct PoisonWatch {
    seen: Mutex<Seen>,
}

type Name = (Namespace, Key);

#[derive(Debug, Default)]
struct Seen {
    /// By place: those of a counted lease have nothing to do with each other.
    poisoned: HashMap<Name, BTreeMap<u32, Sighting>>,
    /// When (boot time) the places of a counted lease were looked at.
    looked: HashMap<Name, Timestamp>,
}

/// What was seen, for how long it must stay like that, and since when (boot time) it has.
type Sighting = (Watched, Duration, Timestamp);

const POISON_WATCHED_MAX: usize = 1024;
/// How often all places of a full counted lease are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl PoisonWatch {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, row: &Record, now: Timestamp, boottime: Timestamp) {
        let poisoned = &mut self.lock().poisoned;
        let name = (row.namespace.clone(), row.key.clone());
        if !row.is_poisoned(now) {
            let empty = poisoned.get_mut(&name).is_some_and(|places| {
                places.remove(&row.slot);
                places.is_empty()
            });
            if empty {
                poisoned.remove(&name);
            }
            return;
        }
        if poisoned.len() >= POISON_WATCHED_MAX && !poisoned.contains_key(&name) {
            return;
        }
        let watched = Watched { token: row.token, heartbeats: row.heartbeats };
        let places = poisoned.entry(name).or_default();
        if places.get(&row.slot).is_none_or(|(before, _, _)| *before != watched) {
            places.insert(row.slot, (watched, row.ttl.max(lease::POISON_SLACK), boottime));
        }
    }

    /// A place that was poisoned for long enough.
    fn verdict(&self, ask: &Ask, boottime: Timestamp) -> Option<Watched> {
        let seen = self.lock();
        if seen.poisoned.is_empty() {
            return None;
        }
        let places = seen.poisoned.get(&(ask.namespace.clone(), ask.key.clone()))?;
        let over = |(_, ttl, since): &&Sighting| boottime.since(*since) >= *ttl;
        places.values().find(over).map(|(watched, _, _)| *watched)
    }

    /// The name, if it is time to look at all places of that lease again.
    fn wants_a_look(&self, name: Name, boottime: Timestamp) -> Option<Name> {
        let looked = &mut self.lock().looked;
        let is_young = |at: &Timestamp| boottime.since(*at) < LOOK_EVERY;
        if looked.get(&name).is_some_and(is_young) {
            return None;
        }
        if looked.len() >= POISON_WATCHED_MAX {
            looked.retain(|_, at| is_young(at));
        }
        looked.insert(name.clone(), boottime);
        Some(name)
    }
}
