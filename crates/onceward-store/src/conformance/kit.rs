//! What the cases share: everyday asks, and a [`Hand`] whose verbs take one row and insist on an answer.

use core::time::Duration;
use std::sync::Arc;

use onceward_core::history::{Entry, Event, Row, Subject, unfold};
use onceward_core::lease::{self, Ticket};
use onceward_core::once::{self, Body, Ending, Fingerprint, Resolution, Resolve, Settle};
use onceward_core::{Code, Key, Namespace, Owner, Result, SessionId, Timestamp, Token, limits};

use super::Harness;
use crate::{
    Acquired, BreakLease, Broken, ClaimRef, Claimed, HistoryOf, KeyRef, LeaveLease, ListLeases, ListOnce,
    Prune, Pruned, ReleaseLease, Renew, ResolveOnce, SettleOnce, Snapshot, Store, WaitLease,
};

/// The time to live of every claim that names none.
pub(super) const TTL: Duration = Duration::from_secs(10);
/// How long results are kept where a case names nothing else.
pub(super) const RETAIN: Duration = Duration::from_secs(3600);
/// A little more than nothing: enough to put two events apart.
pub(super) const TICK: Duration = Duration::from_millis(2);
/// How much later than it might have a running clock is read.
const SLACK: Duration = Duration::from_secs(2);

/// Whether `seen` is `wanted`, give or take what a clock that runs on its own adds.
pub(super) fn near(seen: Timestamp, wanted: Timestamp) -> bool {
    seen.since(wanted) <= SLACK && wanted.since(seen) <= SLACK
}

pub(super) fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(super) fn session() -> SessionId {
    SessionId::from_uuid(uuid::Uuid::new_v4())
}

pub(super) fn key(text: impl AsRef<str>) -> Key {
    Key::new(text).unwrap()
}

pub(super) fn namespace(text: &str) -> Namespace {
    Namespace::new(text).unwrap()
}

pub(super) fn owner(text: &str) -> Owner {
    Owner::new(text).unwrap()
}

pub(super) fn name(text: impl AsRef<str>) -> KeyRef {
    KeyRef { namespace: Namespace::default(), key: key(text) }
}

/// Asks for a plain lease, as a caller who has not asked before.
pub(super) fn lease(text: impl AsRef<str>) -> lease::Ask {
    lease::Ask {
        namespace: Namespace::default(),
        key: key(text),
        capacity: 1,
        owner: owner("host:1"),
        session: session(),
        ttl: TTL,
        hard_ttl: None,
        lock_delay: Duration::ZERO,
        metadata: None,
        watched: None,
    }
}

/// Asks for one of `capacity` places.
pub(super) fn place(text: impl AsRef<str>, capacity: u32) -> lease::Ask {
    lease::Ask { capacity, ..lease(text) }
}

/// Asks for a once key, as a caller who has not asked before.
pub(super) fn once(text: impl AsRef<str>) -> once::Ask {
    once::Ask {
        namespace: Namespace::default(),
        key: key(text),
        owner: owner("host:1"),
        session: session(),
        ttl: TTL,
        hard_ttl: None,
        retain: RETAIN,
        fingerprint: None,
        restartable: false,
    }
}

/// The same wish with what the request was.
pub(super) fn printed(text: impl AsRef<str>, print: u8) -> once::Ask {
    once::Ask { fingerprint: Some(Fingerprint([print; 32])), ..once(text) }
}

pub(super) fn body(text: impl AsRef<[u8]>) -> Body {
    Body::new(text.as_ref().to_vec(), "text/plain")
}

pub(super) fn done(text: impl AsRef<[u8]>) -> Ending {
    Ending::Done(body(text))
}

pub(super) fn failed(reason: &str) -> Ending {
    Ending::Failed { body: Some(body("no")), reason: reason.to_owned() }
}

pub(super) fn not_started() -> Ending {
    Ending::NotStarted { reason: "no connection was made".to_owned() }
}

pub(super) fn unknown() -> Ending {
    Ending::Unknown { reason: "the connection broke".to_owned() }
}

pub(super) fn claim_of(row: &lease::Record) -> ClaimRef {
    ClaimRef {
        namespace: row.namespace.clone(),
        key: row.key.clone(),
        slot: row.slot,
        token: row.token,
        session: row.session,
    }
}

pub(super) fn claim_of_once(row: &once::Record) -> ClaimRef {
    ClaimRef {
        namespace: row.namespace.clone(),
        key: row.key.clone(),
        slot: 0,
        token: row.token,
        session: row.session,
    }
}

pub(super) fn release_of(row: &lease::Record) -> ReleaseLease {
    let (namespace, key) = (row.namespace.clone(), row.key.clone());
    ReleaseLease { namespace, key, token: row.token, reason: None, place: row.place }
}

pub(super) fn settle_of(row: &once::Record, ending: Ending) -> SettleOnce {
    let (namespace, key) = (row.namespace.clone(), row.key.clone());
    SettleOnce { namespace, key, token: row.token, ending, place: row.place }
}

/// A settling of an uncertain key by the operator `ops`.
pub(super) fn resolve_of(row: &once::Record, resolution: Resolution) -> ResolveOnce {
    ResolveOnce {
        namespace: row.namespace.clone(),
        key: row.key.clone(),
        token: Some(row.token),
        resolution,
        actor: owner("ops"),
        reason: "looked at the bank".to_owned(),
        dry_run: false,
    }
}

/// A store as one process uses it, one row a call. Cheap to clone into tasks.
#[derive(Clone)]
pub(super) struct Hand {
    pub(super) store: Arc<dyn Store>,
    patient: bool,
}

impl Hand {
    pub(super) async fn of(harness: &dyn Harness) -> Self {
        Self { store: harness.store().await, patient: false }
    }

    /// The hand of another process on the same data.
    pub(super) async fn second(harness: &dyn Harness) -> Self {
        Self { store: harness.second().await, patient: false }
    }

    /// A hand that asks again when told that a row is locked or the store busy, as the lanes do: for races.
    pub(super) fn patient(self) -> Self {
        Self { patient: true, ..self }
    }

    pub(super) async fn ask<T, F: Future<Output = Result<T>>>(&self, verb: impl Fn() -> F) -> T {
        for _ in 0..200 {
            match verb().await {
                Ok(answer) => return answer,
                Err(error) if self.patient && matches!(error.code(), Code::KeyLocked | Code::StoreBusy) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("an error where an answer was due: {error:?}"),
            }
        }
        panic!("locked or busy two hundred times")
    }

    /// Takes leases, one answer per ask.
    pub(super) async fn acquire_all(&self, batch: &[lease::Ask]) -> Vec<Acquired> {
        let answers = self.ask(|| self.store.lease_acquire(batch)).await;
        assert_eq!(answers.len(), batch.len(), "one answer per row");
        answers
    }

    pub(super) async fn acquire(&self, ask: &lease::Ask) -> Acquired {
        only(self.acquire_all(core::slice::from_ref(ask)).await)
    }

    /// The row of a grant that must come.
    pub(super) async fn grant(&self, ask: &lease::Ask) -> lease::Record {
        match self.acquire(ask).await {
            Acquired::Granted(row) => *row,
            held @ Acquired::Held { .. } => panic!("not granted: {held:?}"),
        }
    }

    /// The row in the way of a grant that must not come, and when it was seen.
    pub(super) async fn refused(&self, ask: &lease::Ask) -> (Option<lease::Record>, Timestamp) {
        match self.acquire(ask).await {
            Acquired::Held { by, now } => (by.map(|row| *row), now),
            Acquired::Granted(row) => panic!("granted although it must not be: {row:?}"),
        }
    }

    pub(super) async fn renew_all(&self, batch: &[ClaimRef]) -> Vec<Renew> {
        let answers = self.ask(|| self.store.lease_renew(batch)).await;
        assert_eq!(answers.len(), batch.len(), "one answer per row");
        answers
    }

    pub(super) async fn renew(&self, row: &lease::Record) -> Renew {
        only(self.renew_all(&[claim_of(row)]).await)
    }

    /// The new expiry of a renewal that must succeed.
    pub(super) async fn renewed(&self, row: &lease::Record) -> Timestamp {
        match self.renew(row).await {
            Renew::Until(until) => until,
            answer => panic!("not renewed: {answer:?}"),
        }
    }

    pub(super) async fn release_all(&self, batch: &[ReleaseLease]) -> Vec<bool> {
        let answers = self.ask(|| self.store.lease_release(batch)).await;
        assert_eq!(answers.len(), batch.len(), "one answer per row");
        answers
    }

    pub(super) async fn release(&self, row: &lease::Record) -> bool {
        only(self.release_all(&[release_of(row)]).await)
    }

    pub(super) async fn wait(&self, ask: &lease::Ask, fair: bool, ttl: Duration) -> Ticket {
        let (namespace, key) = (ask.namespace.clone(), ask.key.clone());
        let wait = WaitLease { namespace, key, session: ask.session, fair, ttl };
        self.ask(|| self.store.lease_wait(&wait)).await
    }

    pub(super) async fn leave(&self, ask: &lease::Ask) {
        let leave =
            LeaveLease { namespace: ask.namespace.clone(), key: ask.key.clone(), session: ask.session };
        self.ask(|| self.store.lease_leave(&leave)).await;
    }

    /// Breaks what is held under `token`, or whatever is held, as the operator `ops`.
    pub(super) async fn break_lease(&self, name: &KeyRef, token: Option<Token>) -> Broken {
        let ask = BreakLease {
            namespace: name.namespace.clone(),
            key: name.key.clone(),
            token,
            actor: owner("ops"),
            reason: "its host burns".to_owned(),
        };
        self.ask(|| self.store.lease_break(&ask)).await
    }

    /// Every place of a key.
    pub(super) async fn leases(&self, name: &KeyRef) -> Snapshot<lease::Record> {
        self.ask(|| self.store.lease_lookup(name)).await
    }

    /// The row of a plain lease that must be there.
    pub(super) async fn lease_row(&self, text: &str) -> lease::Record {
        only(self.leases(&name(text)).await.rows)
    }

    pub(super) async fn list_leases(&self, ask: &ListLeases) -> Snapshot<lease::Record> {
        self.ask(|| self.store.lease_list(ask)).await
    }

    /// Claims once keys, one answer per ask.
    pub(super) async fn claim_all(&self, batch: &[once::Ask]) -> Vec<Claimed> {
        let answers = self.ask(|| self.store.once_claim(batch)).await;
        assert_eq!(answers.len(), batch.len(), "one answer per row");
        answers
    }

    pub(super) async fn claim(&self, ask: &once::Ask) -> Claimed {
        only(self.claim_all(core::slice::from_ref(ask)).await)
    }

    /// The row of a claim that must be granted.
    pub(super) async fn begin(&self, ask: &once::Ask) -> once::Record {
        match self.claim(ask).await {
            Claimed::Granted(row) => *row,
            answer => panic!("not granted: {answer:?}"),
        }
    }

    /// The row a claim must find, and when it saw it.
    pub(super) async fn existing(&self, ask: &once::Ask) -> (once::Record, Timestamp) {
        match self.claim(ask).await {
            Claimed::Existing { row, now } => (*row, now),
            answer => panic!("not an existing row: {answer:?}"),
        }
    }

    /// A claim that must be told that the request was another one.
    pub(super) async fn mismatch(&self, ask: &once::Ask) {
        let answer = self.claim(ask).await;
        assert!(matches!(answer, Claimed::Mismatch), "not a mismatch: {answer:?}");
    }

    pub(super) async fn once_renew_all(&self, batch: &[ClaimRef]) -> Vec<Renew> {
        let answers = self.ask(|| self.store.once_renew(batch)).await;
        assert_eq!(answers.len(), batch.len(), "one answer per row");
        answers
    }

    pub(super) async fn once_renew(&self, row: &once::Record) -> Renew {
        only(self.once_renew_all(&[claim_of_once(row)]).await)
    }

    pub(super) async fn settle_all(&self, batch: &[SettleOnce]) -> Vec<Settle> {
        let answers = self.ask(|| self.store.once_settle(batch)).await;
        assert_eq!(answers.len(), batch.len(), "one answer per row");
        answers
    }

    pub(super) async fn settle(&self, row: &once::Record, ending: Ending) -> Settle {
        only(self.settle_all(&[settle_of(row, ending)]).await)
    }

    pub(super) async fn resolve(&self, ask: &ResolveOnce) -> Resolve {
        self.ask(|| self.store.once_resolve(ask)).await
    }

    /// The new token of a resolution that must be applied.
    pub(super) async fn resolved(&self, ask: &ResolveOnce) -> Token {
        match self.resolve(ask).await {
            Resolve::Applied { token } => token,
            answer => panic!("not resolved: {answer:?}"),
        }
    }

    pub(super) async fn lookup(&self, keys: &[KeyRef]) -> Snapshot<Option<once::Record>> {
        let found = self.ask(|| self.store.once_lookup(keys)).await;
        assert_eq!(found.rows.len(), keys.len(), "one answer per key");
        found
    }

    /// The row of a once key, if there is one.
    pub(super) async fn find(&self, text: &str) -> Option<once::Record> {
        only(self.lookup(&[name(text)]).await.rows)
    }

    /// The row of a once key that must be there.
    pub(super) async fn row(&self, text: &str) -> once::Record {
        self.find(text).await.unwrap()
    }

    pub(super) async fn list_once(&self, ask: &ListOnce) -> Snapshot<once::Record> {
        self.ask(|| self.store.once_list(ask)).await
    }

    /// A once key that became uncertain because its owner said so.
    pub(super) async fn doubt(&self, text: &str) -> once::Record {
        let row = self.begin(&once(text)).await;
        assert_eq!(self.settle(&row, unknown()).await, Settle::Applied { late: false });
        row
    }

    /// The newest rows of a key's history, newest first.
    pub(super) async fn history(&self, subject: Subject, name: &KeyRef, limit: usize) -> Vec<Row> {
        let (namespace, key) = (name.namespace.clone(), name.key.clone());
        let ask = HistoryOf { subject, namespace, key, limit };
        self.ask(|| self.store.history(&ask)).await
    }

    /// What happened to a key of the default namespace, oldest first.
    pub(super) async fn told(&self, subject: Subject, text: &str) -> Vec<Entry> {
        let rows = self.history(subject, &name(text), limits::PAGE_ROWS_MAX).await;
        let mut entries = unfold(rows);
        entries.reverse();
        entries
    }

    /// The same in words.
    pub(super) async fn events(&self, subject: Subject, text: &str) -> Vec<Event> {
        self.told(subject, text).await.into_iter().map(|entry| entry.event).collect()
    }

    /// Forgets what is older than `age`.
    pub(super) async fn prune(&self, age: Duration) -> Pruned {
        self.prune_at_most(age, 1000).await
    }

    pub(super) async fn prune_at_most(&self, age: Duration, limit: usize) -> Pruned {
        let ask = Prune { leases_older_than: age, history_older_than: age, limit };
        self.ask(|| self.store.prune(&ask)).await
    }
}

/// The single element of a list that must have one.
pub(super) fn only<T>(mut list: Vec<T>) -> T {
    assert_eq!(list.len(), 1, "one row was due");
    list.remove(0)
}

/// Runs `count` tasks at once, on all threads, and gathers what they say.
pub(super) async fn together<T: Send + 'static, F>(count: usize, task: impl Fn(usize) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let gate = Arc::new(tokio::sync::Barrier::new(count));
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..count {
        let (gate, task) = (gate.clone(), task(at));
        tasks.spawn(async move {
            gate.wait().await;
            task.await
        });
    }
    tasks.join_all().await
}

/// Keys that mislead a pattern, a collation or the end of a range, in byte order.
pub(super) const PREFIXED: [&str; 14] = [
    "%a",
    "AB",
    "Ab",
    "\\x",
    "_b",
    "aB",
    "a%b",
    "a\\b",
    "a_b",
    "ab",
    "axb",
    "\u{d7ff}a",
    "\u{e000}a",
    "\u{10ffff}a",
];

/// Prefixes of [`PREFIXED`] and the keys each must find.
pub(super) const PREFIXES: &[(&str, &[&str])] = &[
    ("%", &["%a"]),
    ("_", &["_b"]),
    ("\\", &["\\x"]),
    ("a%", &["a%b"]),
    ("a_", &["a_b"]),
    ("a\\", &["a\\b"]),
    ("A", &["AB", "Ab"]),
    ("aB", &["aB"]),
    ("ab", &["ab"]),
    ("\u{d7ff}", &["\u{d7ff}a"]),
    ("\u{10ffff}", &["\u{10ffff}a"]),
    ("axbc", &[]),
    ("'; --", &[]),
];
