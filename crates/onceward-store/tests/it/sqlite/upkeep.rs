//! Upkeep holds the write lock, so it looks at a bounded number of rows a time, and goes on there.

use core::time::Duration;

use onceward_store::clock::ManualClock;
use onceward_store::{Prune, Store};
use rusqlite::Connection;

use super::asks::*;
use super::file::{File, options};

const DAY: Duration = Duration::from_secs(86_400);
const PRUNE: Prune = Prune { leases_older_than: DAY, history_older_than: DAY, limit: 100 };

/// More rows that stay than one prune looks at, before all others.
const STAYING: &str = "
    CREATE TEMP TABLE n AS
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000) SELECT i FROM n;
    INSERT INTO onceward_lease (namespace, key, slot, token, owner, session, granted_at, expires_at, expires_boot,
        hard_expires_boot, boot_id, ttl_us, lock_delay_us, heartbeats, released_at, metadata)
    SELECT 'default', 'a ' || i, 0, i, 'o', zeroblob(16), 0, 1 << 60, 1 << 60, NULL, 'manual', 1, 0, 0, NULL, NULL
    FROM n;
    INSERT INTO onceward_once (namespace, key, state, token, owner, session, attempts, claimed_at, expires_at,
        expires_boot, boot_id, ttl_us, retain_us, finished_at, retain_until, late, untold)
    SELECT 'default', 'a ' || i, 'done', i, 'o', zeroblob(16), 1, 0, 0, 0, 'manual', 1, 1, 1 << 60, 1 << 60, 0, 1
    FROM n;";

#[tokio::test(flavor = "multi_thread")]
async fn a_prune_looks_at_a_part_of_a_large_table_and_goes_on_there() {
    let (file, clock) = (File::new(), ManualClock::default());
    let store = file.open_with(options(&clock)).await;
    Connection::open(file.path()).unwrap().execute_batch(STAYING).unwrap();
    let row = grant(store.as_ref(), "z").await;
    assert!(release(store.as_ref(), &row).await);
    finish(store.as_ref(), "z").await;
    clock.advance(DAY * 2);
    let first = store.prune(&PRUNE).await.unwrap();
    // The history of the lease is found by its time.
    assert_eq!((first.leases, first.history, first.more), (0, 1, true), "{first:?}");
    let second = store.prune(&PRUNE).await.unwrap();
    assert_eq!((second.leases, second.history, second.more), (1, 1, false), "{second:?}");
    // And from the beginning again.
    let third = store.prune(&PRUNE).await.unwrap();
    assert_eq!((third.leases, third.history, third.more), (0, 0, true), "{third:?}");
}

/// N47: a reader that does not end keeps the log from being folded into the file. Writing goes on meanwhile; when it
/// has ended, the log is folded in by those who write.
#[tokio::test(flavor = "multi_thread")]
async fn n47_a_log_that_a_reader_has_kept_is_folded_in_afterwards() {
    const CHECKPOINT_PAGES: i64 = 1_000;
    let file = File::new();
    let store = file.open_with(options(&ManualClock::default())).await;
    let reader = Connection::open(file.path()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM onceward_once").unwrap();
    for round in 0..8 {
        let row = begin(store.as_ref(), &format!("large {round}")).await;
        let body = onceward_core::once::Body::new(vec![7; 1_000_000], "text/plain");
        let ending = onceward_core::once::Ending::Done(body);
        store.once_settle(&[onceward_store::SettleOnce { ending, ..done(&row) }]).await.unwrap();
    }
    let log = || std::fs::metadata(file.beside("store.db-wal")).unwrap().len();
    assert!(log() > 7_000_000, "{} bytes", log());
    reader.execute_batch("COMMIT").unwrap();
    for round in 0..5 {
        finish(store.as_ref(), &format!("small {round}")).await;
    }
    let frames: i64 = reader.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1)).unwrap();
    assert!(frames < CHECKPOINT_PAGES, "{frames} pages are in the log still");
    file.assert_sound();
}
