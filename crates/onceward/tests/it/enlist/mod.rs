//! The contract of joining a caller's transaction, the same for every driver.

#[cfg(any(feature = "diesel-postgres", feature = "diesel-sqlite"))]
pub(crate) mod diesel_transaction;
mod jobs;

use std::time::Duration;

use onceward::history::Subject;
use onceward::store::enlist::Enlist;
use onceward::{Code, NotDone, Onceward, Outcome};

pub(crate) use jobs::{
    a_savepoint_takes_back_what_came_after_it, an_end_commits_with_the_transaction,
    an_end_in_a_transaction_is_not_taken_for_a_late_one, e1_a_swallowed_error_is_not_hidden,
    e1_an_end_that_was_not_committed_is_none, j1_a_job_is_there_if_its_transaction_is,
    j5_a_stale_attempt_ends_nothing, j6_an_uncertain_end_in_a_transaction_stays,
    j9_a_key_is_one_job_and_a_mismatch_ends_no_transaction, plain_sql_joins_as_well,
};

/// A connection of the user's, over one driver. Its table `effect (id bigint)` is the user's own.
pub(crate) trait Driver {
    type Tx<'a>: Enlist
    where
        Self: 'a;
    async fn begin(&mut self) -> Self::Tx<'_>;
    async fn insert(tx: &mut Self::Tx<'_>, id: i64);
    /// Any statement, as the user would send it; what went wrong is in words.
    async fn execute(tx: &mut Self::Tx<'_>, sql: &str) -> Result<(), String>;
    async fn commit(tx: Self::Tx<'_>) -> Result<(), String>;
    async fn rollback(tx: Self::Tx<'_>);
    async fn count(&mut self) -> i64;
}

/// O11: what the function wrote and what was recorded commit together, or not at all.
pub(crate) async fn effects_and_outcome_commit_together<D: Driver>(ow: &Onceward, mut mine: D) {
    let mut tx = mine.begin().await;
    let rolled_back = ow.once("payout").run_in(&mut tx, async |tx| insert::<D>(tx, 1).await).await.unwrap();
    assert_eq!(rolled_back, Outcome::Done { value: 1, replayed: false });
    D::rollback(tx).await;
    assert_eq!(mine.count().await, 0);
    assert!(ow.once("payout").peek::<i64>().await.unwrap().is_none(), "a rollback leaves no trace");

    let mut tx = mine.begin().await;
    assert!(ow.once("payout").run_in(&mut tx, async |tx| insert::<D>(tx, 2).await).await.unwrap().is_done());
    D::commit(tx).await.unwrap();
    assert_eq!(mine.count().await, 1);
    let replayed = Outcome::Done { value: 2, replayed: true };
    assert_eq!(ow.once("payout").run(async |_| Ok(0_i64)).await.unwrap(), replayed);

    let mut tx = mine.begin().await;
    assert_eq!(
        ow.once("payout").run_in(&mut tx, async |tx| insert::<D>(tx, 3).await).await.unwrap(),
        replayed
    );
    D::commit(tx).await.unwrap();
    assert_eq!(mine.count().await, 1, "the function was not run again");
    let events = ow.admin().history(Subject::Once, "payout", 10).await.unwrap();
    let events: Vec<&str> = events.iter().map(|entry| entry.event.as_str()).collect();
    assert_eq!(events, ["done", "claimed"]);
}

async fn insert<D: Driver>(tx: &mut D::Tx<'_>, id: i64) -> Result<i64, NotDone> {
    D::insert(tx, id).await;
    Ok(id)
}

/// An error of the function records nothing, and the caller is told to roll back.
pub(crate) async fn an_error_records_nothing<D: Driver>(ow: &Onceward, mut mine: D) {
    let mut tx = mine.begin().await;
    let failed = ow
        .once("k")
        .run_in(&mut tx, async |tx| {
            D::insert(tx, 1).await;
            Err::<i64, _>(NotDone::failed("no funds"))
        })
        .await
        .unwrap_err();
    assert_eq!(failed.code(), Code::OnceFailed);
    assert!(failed.to_string().contains("no funds"), "{failed}");
    D::rollback(tx).await;
    assert_eq!((mine.count().await, ow.once("k").peek::<i64>().await.unwrap()), (0, None));
}

/// O4, in a transaction.
pub(crate) async fn another_request_is_refused<D: Driver>(ow: &Onceward, mut mine: D) {
    assert!(ow.once("k").fingerprint(&1).run(async |_| Ok(1_i64)).await.unwrap().is_done());
    let mut tx = mine.begin().await;
    let refused = ow.once("k").fingerprint(&2).run_in(&mut tx, async |tx| insert::<D>(tx, 1).await).await;
    assert_eq!(refused.unwrap_err().code(), Code::FingerprintMismatch);
    D::rollback(tx).await;
}

/// L3, L4: the holder's transaction commits, a stale one is refused.
pub(crate) async fn a_stale_holder_is_refused<D: Driver>(ow: &Onceward, mut mine: D) {
    let lease = ow.lease("k").acquire().await.unwrap().unwrap();
    let mut tx = mine.begin().await;
    lease.guard(&mut tx).await.unwrap();
    D::insert(&mut tx, 1).await;
    D::commit(tx).await.unwrap();

    // Taken away behind the holder's back: it does not know yet, the database does.
    ow.admin().break_lease("k", None, "test").await.unwrap();
    let mut tx = mine.begin().await;
    let refused = lease.guard(&mut tx).await.unwrap_err();
    assert_eq!(refused.code(), Code::TokenStale);
    D::rollback(tx).await;

    let next = ow.lease("k").acquire().await.unwrap().unwrap();
    let mut tx = mine.begin().await;
    assert_eq!(lease.guard(&mut tx).await.unwrap_err().code(), Code::TokenStale);
    next.guard(&mut tx).await.unwrap();
    D::insert(&mut tx, 2).await;
    D::commit(tx).await.unwrap();
    assert_eq!(mine.count().await, 2);
}

/// The caller's transaction goes on after us: nothing of ours ends it.
pub(crate) async fn the_transaction_stays_the_callers<D: Driver>(ow: &Onceward, mut mine: D) {
    let lease = ow.lease("l").acquire().await.unwrap().unwrap();
    let mut tx = mine.begin().await;
    D::insert(&mut tx, 1).await;
    lease.guard(&mut tx).await.unwrap();
    assert!(ow.once("a").run_in(&mut tx, async |tx| insert::<D>(tx, 2).await).await.unwrap().is_done());
    assert!(ow.once("b").run_in(&mut tx, async |tx| insert::<D>(tx, 3).await).await.unwrap().is_done());
    D::insert(&mut tx, 4).await;
    D::rollback(tx).await;
    assert_eq!(mine.count().await, 0, "a later rollback takes everything back (W4)");
    for key in ["a", "b"] {
        assert!(ow.once(key).peek::<i64>().await.unwrap().is_none());
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Expands to one test per case, each on a store and a connection of its own.
#[macro_export]
macro_rules! enlist_suite {
    ($name:ident, $setup:expr) => {
        mod $name {
            $crate::enlist_suite!(@cases $setup;
                effects_and_outcome_commit_together
                an_error_records_nothing
                another_request_is_refused
                a_stale_holder_is_refused
                the_transaction_stays_the_callers
                j1_a_job_is_there_if_its_transaction_is
                j9_a_key_is_one_job_and_a_mismatch_ends_no_transaction
                a_savepoint_takes_back_what_came_after_it
                e1_a_swallowed_error_is_not_hidden
                an_end_commits_with_the_transaction
                an_end_in_a_transaction_is_not_taken_for_a_late_one
                e1_an_end_that_was_not_committed_is_none
                j5_a_stale_attempt_ends_nothing
                j6_an_uncertain_end_in_a_transaction_stays
                plain_sql_joins_as_well
            );
        }
    };
    (@cases $setup:expr; $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let (ow, mine, _keep) = $setup.await;
                $crate::enlist::$case(&ow, mine).await;
            }
        )*
    };
}
