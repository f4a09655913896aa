//! The hot verbs as the lanes see them: which rows, which statement, and how to undo an answer nobody took.

use futures_util::future::BoxFuture;
use onceward_core::once::{Ending, Settle};
use onceward_core::{Key, Namespace, Result, lease, once};

use crate::{Acquired, Claimed, ReleaseLease, SettleOnce, Store};

/// One hot verb.
pub(super) trait Verb: Send + Sync + 'static {
    /// One row of the batch.
    type Item: Send + Sync + 'static;
    /// The answer to it.
    type Answer: Send + Sync + 'static;
    /// Whether a row that somebody's transaction holds is asked for again until the deadline, instead of saying so.
    const INSISTS: bool;

    fn name(item: &Self::Item) -> (&Namespace, &Key);
    /// Roughly how many bytes the row adds to a statement.
    fn weight(_item: &Self::Item) -> usize {
        512
    }
    fn run<'a>(store: &'a dyn Store, items: &'a [Self::Item]) -> BoxFuture<'a, Result<Vec<Self::Answer>>>;
    /// Undoes an answer whose caller is gone. Called only where [`undoable`](Self::undoable).
    fn undo<'a>(_store: &'a dyn Store, _answer: &'a Self::Answer) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }
    /// Whether the answer granted something.
    fn undoable(_answer: &Self::Answer) -> bool {
        false
    }
    /// Whether a row that may have been written without an answer has to be looked after.
    const GRANTS: bool = false;
}

const ABANDONED: &str = "the caller was gone before it learned of the grant; nothing was run";

pub(super) enum AcquireLease {}

impl Verb for AcquireLease {
    type Item = lease::Ask;
    type Answer = Acquired;
    const INSISTS: bool = false;
    const GRANTS: bool = true;

    fn name(item: &lease::Ask) -> (&Namespace, &Key) {
        (&item.namespace, &item.key)
    }

    fn weight(item: &lease::Ask) -> usize {
        512 + item.metadata.as_ref().map_or(0, String::len)
    }

    fn run<'a>(store: &'a dyn Store, items: &'a [lease::Ask]) -> BoxFuture<'a, Result<Vec<Acquired>>> {
        store.lease_acquire(items)
    }

    fn undoable(answer: &Acquired) -> bool {
        matches!(answer, Acquired::Granted(_))
    }

    fn undo<'a>(store: &'a dyn Store, answer: &'a Acquired) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if let Acquired::Granted(row) = answer {
                let reason = Some(ABANDONED.to_owned());
                let (namespace, key) = (row.namespace.clone(), row.key.clone());
                let ask = ReleaseLease { namespace, key, token: row.token, reason, place: row.place };
                store.lease_release(&[ask]).await?;
            }
            Ok(())
        })
    }
}

pub(super) enum ReleaseLeases {}

impl Verb for ReleaseLeases {
    type Item = ReleaseLease;
    type Answer = bool;
    const INSISTS: bool = true;

    fn name(item: &ReleaseLease) -> (&Namespace, &Key) {
        (&item.namespace, &item.key)
    }

    fn run<'a>(store: &'a dyn Store, items: &'a [ReleaseLease]) -> BoxFuture<'a, Result<Vec<bool>>> {
        store.lease_release(items)
    }
}

pub(super) enum ClaimOnce {}

impl Verb for ClaimOnce {
    type Item = once::Ask;
    type Answer = Claimed;
    const INSISTS: bool = false;
    const GRANTS: bool = true;

    fn name(item: &once::Ask) -> (&Namespace, &Key) {
        (&item.namespace, &item.key)
    }

    fn run<'a>(store: &'a dyn Store, items: &'a [once::Ask]) -> BoxFuture<'a, Result<Vec<Claimed>>> {
        store.once_claim(items)
    }

    fn undoable(answer: &Claimed) -> bool {
        matches!(answer, Claimed::Granted(_))
    }

    fn undo<'a>(store: &'a dyn Store, answer: &'a Claimed) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if let Claimed::Granted(row) = answer {
                let ending = Ending::NotStarted { reason: ABANDONED.to_owned() };
                let (namespace, key) = (row.namespace.clone(), row.key.clone());
                let ask = SettleOnce { namespace, key, token: row.token, ending, place: row.place };
                store.once_settle(&[ask]).await?;
            }
            Ok(())
        })
    }
}

pub(super) enum SettleOnces {}

impl Verb for SettleOnces {
    type Item = SettleOnce;
    type Answer = Settle;
    const INSISTS: bool = true;

    fn name(item: &SettleOnce) -> (&Namespace, &Key) {
        (&item.namespace, &item.key)
    }

    fn weight(item: &SettleOnce) -> usize {
        let body = item.ending.body().and_then(|body| body.bytes.as_ref()).map_or(0, Vec::len);
        512 + body + item.ending.reason().map_or(0, str::len)
    }

    fn run<'a>(store: &'a dyn Store, items: &'a [SettleOnce]) -> BoxFuture<'a, Result<Vec<Settle>>> {
        store.once_settle(items)
    }
}
