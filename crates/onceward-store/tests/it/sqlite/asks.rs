//! Everyday asks, and the fields of a test that don't matter.

use core::time::Duration;

use onceward_core::once::{self, Body, Ending};
use onceward_core::{Code, Key, Namespace, Owner, Result, SessionId, lease};
use onceward_store::{Acquired, Claimed, KeyRef, ReleaseLease, SettleOnce, Store};

pub(crate) const TTL: Duration = Duration::from_secs(10);
pub(crate) const RETAIN: Duration = Duration::from_secs(3_600);

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

pub(crate) fn name(text: &str) -> KeyRef {
    KeyRef { namespace: Namespace::default(), key: key(text) }
}

pub(crate) fn session() -> SessionId {
    SessionId::from_uuid(uuid::Uuid::new_v4())
}

pub(crate) fn lease(text: &str) -> lease::Ask {
    lease::Ask {
        namespace: Namespace::default(),
        key: key(text),
        capacity: 1,
        owner: Owner::new("host:1").unwrap(),
        session: session(),
        ttl: TTL,
        hard_ttl: None,
        lock_delay: Duration::ZERO,
        metadata: None,
        watched: None,
    }
}

pub(crate) fn once(text: &str) -> once::Ask {
    once::Ask {
        namespace: Namespace::default(),
        key: key(text),
        owner: Owner::new("host:1").unwrap(),
        session: session(),
        ttl: TTL,
        hard_ttl: None,
        retain: RETAIN,
        fingerprint: None,
        restartable: false,
    }
}

pub(crate) async fn acquire(store: &dyn Store, ask: lease::Ask) -> Result<Acquired> {
    Ok(store.lease_acquire(&[ask]).await?.pop().unwrap())
}

pub(crate) async fn grant(store: &dyn Store, text: &str) -> Box<lease::Record> {
    match acquire(store, lease(text)).await.unwrap() {
        Acquired::Granted(row) => row,
        held @ Acquired::Held { .. } => panic!("{held:?}"),
    }
}

pub(crate) async fn release(store: &dyn Store, row: &lease::Record) -> bool {
    let (namespace, key) = (row.namespace.clone(), row.key.clone());
    let ask = ReleaseLease { namespace, key, token: row.token, reason: None, place: row.place };
    store.lease_release(&[ask]).await.unwrap().pop().unwrap()
}

pub(crate) async fn claim(store: &dyn Store, text: &str) -> Result<Claimed> {
    Ok(store.once_claim(&[once(text)]).await?.pop().unwrap())
}

pub(crate) async fn begin(store: &dyn Store, text: &str) -> Box<once::Record> {
    match claim(store, text).await.unwrap() {
        Claimed::Granted(row) => row,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn existing(store: &dyn Store, text: &str) -> Box<once::Record> {
    match claim(store, text).await.unwrap() {
        Claimed::Existing { row, .. } => row,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn done(row: &once::Record) -> SettleOnce {
    let ending = Ending::Done(Body::new(b"x".to_vec(), "text/plain"));
    let (namespace, key) = (row.namespace.clone(), row.key.clone());
    SettleOnce { namespace, key, token: row.token, ending, place: row.place }
}

pub(crate) async fn finish(store: &dyn Store, text: &str) -> Box<once::Record> {
    let row = begin(store, text).await;
    store.once_settle(&[done(&row)]).await.unwrap();
    row
}

pub(crate) fn code<T: core::fmt::Debug>(result: Result<T>) -> Code {
    result.unwrap_err().code()
}
