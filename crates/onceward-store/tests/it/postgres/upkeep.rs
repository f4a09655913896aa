//! Upkeep reads large tables a few pages at a time, and looks only at what it has not looked at.

use core::time::Duration;

use crate::support::{Fresh, ask, once_ask};
use onceward_core::once::{Body, Ending};
use onceward_store::{Claimed, ListOnce, Prune, SettleOnce, Store};

const DAY: Duration = Duration::from_secs(86_400);
const PRUNE: Prune = Prune { leases_older_than: DAY, history_older_than: DAY, limit: 100 };

/// Rows that stay: more than one statement reads, and wide, so that there are many pages of them.
const STAYING: &str = "
    INSERT INTO {schema}.lease
    SELECT 'default', 'stay ' || n, 0, n, 'o', gen_random_uuid(), t.at, t.at + interval '1 year', NULL, 1000, 0, 0,
           NULL, repeat('x', 1000)
    FROM generate_series(1, 4000) n, (SELECT {schema}.test_clock() AS at) t;
    INSERT INTO {schema}.once (namespace, key, state, token, owner, session, attempts, claimed_at, expires_at, ttl_ms,
                               retain_ms, finished_at, retain_until, late, reason)
    SELECT 'default', 'stay ' || n, 'failed', n, 'o', gen_random_uuid(), 1, t.at, t.at, 1000, 1000, t.at,
           t.at + interval '1 year', false, repeat('x', 1000)
    FROM generate_series(1, 4000) n, (SELECT {schema}.test_clock() AS at) t";

async fn begin(store: &dyn Store, name: &str) -> Box<onceward_core::once::Record> {
    match store.once_claim(&[once_ask(name, Duration::from_secs(30))]).await.unwrap().remove(0) {
        Claimed::Granted(row) => row,
        other => panic!("{other:?}"),
    }
}

async fn pages(fresh: &Fresh, table: &str) -> i64 {
    let text = format!("SELECT pg_relation_size('{}.{table}') / 8192", fresh.schema);
    fresh.client().await.query_one(&text, &[]).await.unwrap().get(0)
}

/// What lies behind more pages than one statement reads is found, and no more than was asked for goes at a time.
#[tokio::test(flavor = "multi_thread")]
async fn a_prune_reaches_the_end_of_a_table_of_many_pages() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    fresh.run(STAYING).await;
    for table in ["lease", "once"] {
        let pages = pages(&fresh, table).await;
        assert!(pages > 1_024, "{table}: {pages} pages are one statement's");
    }
    for n in 0..5 {
        let row = begin(&*store, &format!("goes {n}")).await;
        let (token, place) = (row.token, row.place);
        let ending = Ending::Done(Body::new(b"ok".to_vec(), "text/plain"));
        let done = SettleOnce { namespace: row.namespace, key: row.key, token, ending, place };
        store.once_settle(&[done]).await.unwrap();
        store.lease_acquire(&[ask(&format!("goes {n}"), Duration::from_secs(1))]).await.unwrap();
    }
    fresh.advance(DAY * 60).await;
    let some = Prune { limit: 3, ..PRUNE };
    for gone in [3, 2, 0] {
        let pruned = store.prune(&some).await.unwrap();
        assert_eq!((pruned.once, pruned.leases, pruned.more), (gone, gone, false), "{pruned:?}");
    }
    let count =
        format!("SELECT (SELECT count(*) FROM {0}.lease), (SELECT count(*) FROM {0}.once)", fresh.schema);
    let row = fresh.client().await.query_one(&count, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (4_000, 4_000));
}

/// An open claim from before the time up to which everything was looked at, as a wrong clock leaves it, is found again.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_a_wrong_clock_has_hidden_is_found_by_the_next_prune() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    begin(&*store, "hidden").await;
    fresh
        .run("UPDATE {schema}.upkeep SET once_swept_until = {schema}.test_clock() + interval '1 minute'")
        .await;
    fresh.advance(Duration::from_secs(2 * 3_600)).await;
    let uncertain =
        ListOnce { state: Some(onceward_core::once::State::Uncertain), limit: 10, ..ListOnce::default() };
    assert!(store.once_list(&uncertain).await.unwrap().rows.is_empty(), "hidden it is");
    store.prune(&PRUNE).await.unwrap();
    assert_eq!(store.once_list(&uncertain).await.unwrap().rows.len(), 1);
}
