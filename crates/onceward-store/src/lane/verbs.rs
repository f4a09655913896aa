//! The hot verbs as the lanes see them: which rows, which statement, and how to undo an answer nobody took.

use core::hash::Hash;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use futures_util::future::BoxFuture;
use onceward_core::once::{Ending, Settle};
use onceward_core::run::Entry;
use onceward_core::{Result, job, lease, once};

use crate::{
    Acquired, BeginJob, Capabilities, Claimed, Enqueued, JobProgress, KeyRef, LoadRun, ReleaseLease,
    SettleOnce, Store,
};

/// What a row is about, each as a hash: rows that have one in common are never out at the same time.
pub(super) type Marks = [Option<u64>; 3];

/// One hot verb.
pub(super) trait Verb: Send + Sync + 'static {
    /// One row of the batch.
    type Item: Send + Sync + 'static;
    /// The answer to it.
    type Answer: Send + Sync + 'static;
    /// Whether a row that somebody's transaction holds is asked for again until the deadline, instead of saying so.
    const INSISTS: bool;

    /// How many batches may be in flight, and how many calls must wait for another one beside the first.
    fn in_flight(can: &Capabilities) -> (usize, usize) {
        (can.batches_max(), 1)
    }

    fn marks(item: &Self::Item, hasher: &RandomState) -> Marks;
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
    /// A row as it is sent again to find out what became of it, when nobody wants it any more: it must not take from
    /// others what the first send did not get.
    fn only_what_was(item: Self::Item) -> Self::Item {
        item
    }
    /// Looks again at an answer that may have been made by an earlier send of the same row, whose own answer was lost.
    fn reconsider<'a>(
        _store: &'a dyn Store,
        _item: &'a Self::Item,
        _answer: &'a mut Self::Answer,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

fn only(about: impl Hash, hasher: &RandomState) -> Marks {
    [Some(hasher.hash_one(about)), None, None]
}

const ABANDONED: &str = "the caller was gone before it learned of the grant; nothing was run";

pub(super) enum AcquireLease {}

impl Verb for AcquireLease {
    type Item = lease::Ask;
    type Answer = Acquired;
    const INSISTS: bool = false;
    const GRANTS: bool = true;

    fn marks(item: &lease::Ask, hasher: &RandomState) -> Marks {
        only((&item.namespace, &item.key), hasher)
    }

    fn weight(item: &lease::Ask) -> usize {
        512 + item.metadata.as_ref().map_or(0, String::len)
    }

    fn run<'a>(store: &'a dyn Store, items: &'a [lease::Ask]) -> BoxFuture<'a, Result<Vec<Acquired>>> {
        store.lease_acquire(items)
    }

    fn only_what_was(item: lease::Ask) -> lease::Ask {
        lease::Ask { watched: None, ..item }
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

    fn marks(item: &ReleaseLease, hasher: &RandomState) -> Marks {
        only((&item.namespace, &item.key), hasher)
    }

    fn run<'a>(store: &'a dyn Store, items: &'a [ReleaseLease]) -> BoxFuture<'a, Result<Vec<bool>>> {
        store.lease_release(items)
    }

    /// What the lost answer has said: the lease was ours, and is given back (G5).
    fn reconsider<'a>(
        store: &'a dyn Store,
        item: &'a ReleaseLease,
        released: &'a mut bool,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if *released {
                return;
            }
            let name = KeyRef { namespace: item.namespace.clone(), key: item.key.clone() };
            // An answer is owed in time: what can't be looked up stays as it was answered.
            if let Ok(seen) = store.lease_lookup(&name).await {
                let given_back = |row: &lease::Record| row.token == item.token && row.released_at.is_some();
                *released = seen.rows.iter().any(given_back);
            }
        })
    }
}

pub(super) enum ClaimOnce {}

impl Verb for ClaimOnce {
    type Item = once::Ask;
    type Answer = Claimed;
    const INSISTS: bool = false;
    const GRANTS: bool = true;

    fn marks(item: &once::Ask, hasher: &RandomState) -> Marks {
        only((&item.namespace, &item.key), hasher)
    }

    fn run<'a>(store: &'a dyn Store, items: &'a [once::Ask]) -> BoxFuture<'a, Result<Vec<Claimed>>> {
        store.once_claim(items)
    }

    fn only_what_was(item: once::Ask) -> once::Ask {
        once::Ask { restartable: false, ..item }
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

    fn marks(item: &SettleOnce, hasher: &RandomState) -> Marks {
        only((&item.namespace, &item.key), hasher)
    }

    fn weight(item: &SettleOnce) -> usize {
        let body = item.ending.body().and_then(|body| body.bytes.as_ref()).map_or(0, Vec::len);
        512 + body + item.ending.reason().map_or(0, str::len)
    }

    fn run<'a>(store: &'a dyn Store, items: &'a [SettleOnce]) -> BoxFuture<'a, Result<Vec<Settle>>> {
        store.once_settle(items)
    }
}

pub(super) enum EnqueueJobs {}

/// A job that was enqueued without an answer needs no looking after: it is there under its id, or it is not.
impl Verb for EnqueueJobs {
    type Item = job::New;
    type Answer = Enqueued;
    const INSISTS: bool = true;

    fn in_flight(can: &Capabilities) -> (usize, usize) {
        can.enqueue_beside.map_or((can.batches_max(), 1), |beside| (2, beside))
    }

    fn marks(item: &job::New, hasher: &RandomState) -> Marks {
        enqueue_marks(item, hasher)
    }

    fn weight(item: &job::New) -> usize {
        enqueue_weight(item)
    }

    fn run<'a>(store: &'a dyn Store, items: &'a [job::New]) -> BoxFuture<'a, Result<Vec<Enqueued>>> {
        store.job_enqueue(items)
    }
}

/// A job is about its id, and about the keys that it may share with others.
pub(super) fn enqueue_marks(item: &job::New, hasher: &RandomState) -> Marks {
    let namespace = &item.namespace;
    [
        Some(hasher.hash_one((namespace, item.id))),
        item.key.as_ref().map(|key| hasher.hash_one((namespace, "key", &key.key))),
        item.dedupe.as_ref().map(|dedupe| hasher.hash_one((namespace, "dedupe", &dedupe.key))),
    ]
}

pub(super) fn enqueue_weight(item: &job::New) -> usize {
    512 + item.payload.bytes.len() + item.metadata.as_ref().map_or(0, String::len)
}

pub(super) enum BeginJobs {}

impl Verb for BeginJobs {
    type Item = BeginJob;
    type Answer = bool;
    const INSISTS: bool = true;

    fn marks(item: &BeginJob, hasher: &RandomState) -> Marks {
        only(&item.job, hasher)
    }

    fn run<'a>(store: &'a dyn Store, items: &'a [BeginJob]) -> BoxFuture<'a, Result<Vec<bool>>> {
        store.job_begin(items)
    }
}

pub(super) enum ProgressJobs {}

impl Verb for ProgressJobs {
    type Item = JobProgress;
    type Answer = bool;
    const INSISTS: bool = true;

    fn marks(item: &JobProgress, hasher: &RandomState) -> Marks {
        only(&item.job, hasher)
    }

    fn run<'a>(store: &'a dyn Store, items: &'a [JobProgress]) -> BoxFuture<'a, Result<Vec<bool>>> {
        store.job_progress(items)
    }
}

pub(super) enum LoadRuns {}

/// Runs that are taken up together are read together.
impl Verb for LoadRuns {
    type Item = LoadRun;
    type Answer = Vec<Entry>;
    const INSISTS: bool = false;

    /// Others do not wait for a long journal.
    fn in_flight(_can: &Capabilities) -> (usize, usize) {
        (4, 1)
    }

    /// Reading is in nobody's way.
    fn marks(_item: &LoadRun, _hasher: &RandomState) -> Marks {
        [None; 3]
    }

    /// What the answer adds: most entries are much smaller.
    fn weight(item: &LoadRun) -> usize {
        item.limit.saturating_add(1).saturating_mul(512)
    }

    fn run<'a>(store: &'a dyn Store, items: &'a [LoadRun]) -> BoxFuture<'a, Result<Vec<Vec<Entry>>>> {
        store.run_load(items)
    }
}
