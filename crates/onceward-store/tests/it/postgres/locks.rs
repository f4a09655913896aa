//! Locks and clocks on PostgreSQL: what others may hold without making us wait, write or lie.

use core::time::Duration;
use std::time::Instant;

use crate::support::{Fresh, Server, ask, claim_of, key, once_ask, once_claim_of};
use onceward_core::once::{Body, Ending, Settle};
use onceward_core::{Code, Namespace, lease, once};
use onceward_store::enlist::{ClaimedIn, claim_in};
use onceward_store::postgres::PostgresStore;
use onceward_store::url::PostgresAt;
use onceward_store::{
    Acquired, ClaimRef, Claimed, KeyRef, ReleaseLease, Renew, SettleOnce, Store, WaitLease, Wake,
};
use tokio::time::{sleep, timeout};
use tokio_postgres::IsolationLevel;

const TTL: Duration = Duration::from_millis(600);
/// A lock is waited for 40 ms; the machine may be busy.
const SOON: Duration = Duration::from_millis(400);

async fn grant(store: &dyn Store, ask: &lease::Ask) -> lease::Record {
    match acquire(store, ask).await {
        Acquired::Granted(row) => *row,
        Acquired::Held { by, .. } => panic!("held by {by:?}"),
    }
}

async fn acquire(store: &dyn Store, ask: &lease::Ask) -> Acquired {
    store.lease_acquire(std::slice::from_ref(ask)).await.unwrap().remove(0)
}

async fn renew(store: &dyn Store, claim: &ClaimRef) -> Renew {
    store.lease_renew(std::slice::from_ref(claim)).await.unwrap().remove(0)
}

async fn begin(store: &dyn Store, ask: &once::Ask) -> once::Record {
    match store.once_claim(std::slice::from_ref(ask)).await.unwrap().remove(0) {
        Claimed::Granted(row) => *row,
        other => panic!("{other:?}"),
    }
}

fn done(row: &once::Record) -> SettleOnce {
    let ending = Ending::Done(Body::new(b"ok".to_vec(), "text/plain"));
    let (namespace, key) = (row.namespace.clone(), row.key.clone());
    SettleOnce { namespace, key, token: row.token, ending, place: row.place }
}

async fn settle(store: &dyn Store, settle: &SettleOnce) -> onceward_core::Result<Settle> {
    store.once_settle(std::slice::from_ref(settle)).await.map(|mut answers| answers.remove(0))
}

/// O14, N16: a server whose clock is a month ahead for a while makes nothing forgotten, and nothing run again.
#[tokio::test(flavor = "multi_thread")]
async fn o14_a_server_clock_that_jumps_ahead_forgets_nothing() {
    const MONTH: i64 = 30 * 86_400_000_000;
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    let pay = once_ask("pay", Duration::from_secs(30));
    let row = begin(&*store, &pay).await;
    settle(&*store, &done(&row)).await.unwrap();
    let day = Duration::from_secs(86_400);
    let prune = onceward_store::Prune { leases_older_than: day, history_older_than: day, limit: 100 };
    let again = once::Ask { session: crate::support::session(), ..pay };
    fresh.shift(MONTH).await;
    assert_eq!(store.prune(&prune).await.unwrap().once, 0);
    let seen = store.once_claim(std::slice::from_ref(&again)).await.unwrap().remove(0);
    assert!(matches!(&seen, Claimed::Existing { row, .. } if row.state == once::State::Done), "{seen:?}");
    let mut client = fresh.client().await;
    let mut tx = client.transaction().await.unwrap();
    let seen = claim_in(store.enlist().unwrap(), &**store.clock(), &mut tx, &again).await.unwrap();
    assert!(matches!(&seen, ClaimedIn::Existing { row, .. } if row.state == once::State::Done), "{seen:?}");
    tx.rollback().await.unwrap();
    fresh.shift(-MONTH).await;
    assert_eq!(store.prune(&prune).await.unwrap().once, 0, "its retention has not ended");
    fresh.advance(day * 30).await;
    assert_eq!(store.prune(&prune).await.unwrap().once, 1, "time has passed");
    begin(&*store, &again).await;
}

/// O14, N16: nor does it to a process that has never seen that clock before, as `onceward prune` is one each time.
#[tokio::test(flavor = "multi_thread")]
async fn o14_a_fresh_process_does_not_forget_by_a_clock_that_is_ahead() {
    const MONTH: i64 = 30 * 86_400_000_000;
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    settle(&*store, &done(&begin(&*store, &once_ask("pay", Duration::from_secs(30))).await)).await.unwrap();
    let day = Duration::from_secs(86_400);
    let prune = onceward_store::Prune { leases_older_than: day, history_older_than: day, limit: 100 };
    fresh.shift(MONTH).await;
    assert_eq!(fresh.store().await.prune(&prune).await.unwrap(), onceward_store::Pruned::default());
    let jobs = onceward_store::PruneJobs::all(day, 10);
    assert_eq!(fresh.store().await.job_prune(&jobs).await.unwrap(), onceward_store::PrunedJobs::default());
    // Somebody who knows better says so.
    let options = onceward_store::OpenOptions { trust_server_clock: true, ..fresh.options.clone() };
    let trusting = PostgresStore::open(&fresh.at(), options).await.unwrap();
    assert_eq!(trusting.prune(&prune).await.unwrap().once, 1);
}

fn is_granted(acquired: &Acquired) -> bool {
    matches!(acquired, Acquired::Granted(_))
}

/// N24 (E17): a renewal that meets somebody's pure row lock neither waits for it nor revives what expired meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn n24_a_lock_in_front_of_a_renewal_revives_nothing() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    for lock in ["FOR UPDATE", "FOR SHARE", "FOR NO KEY UPDATE"] {
        let held = grant(&*store, &ask(lock, TTL)).await;
        let row = begin(&*store, &once_ask(lock, TTL)).await;
        let mut other = fresh.client().await;
        let tx = other.transaction().await.unwrap();
        for table in ["lease", "once"] {
            let text = format!("SELECT 1 FROM {}.{table} WHERE key = '{lock}' {lock}", fresh.schema);
            tx.batch_execute(&text).await.unwrap();
        }
        let began = Instant::now();
        assert_eq!(renew(&*store, &claim_of(&held)).await, Renew::Busy, "{lock}");
        assert_eq!(store.once_renew(&[once_claim_of(&row)]).await.unwrap(), [Renew::Busy], "{lock}");
        assert!(began.elapsed() < SOON, "{lock}: {:?}", began.elapsed());
        sleep(TTL).await;
        // Locked and expired: it is lost, whatever the lock.
        assert_eq!(renew(&*store, &claim_of(&held)).await, Renew::Lost, "{lock}");
        tx.rollback().await.unwrap();
        assert_eq!(renew(&*store, &claim_of(&held)).await, Renew::Lost, "{lock}");
        assert_eq!(store.once_renew(&[once_claim_of(&row)]).await.unwrap(), [Renew::Lost], "{lock}");
    }
}

/// N24 (E17): whoever waits behind a lock longer than a ttl gets a whole ttl or nothing.
#[tokio::test(flavor = "multi_thread")]
async fn n24_a_lock_in_front_of_an_acquire_never_gives_an_expired_grant() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    grant(&*store, &ask("k", TTL)).await;
    let mut other = fresh.client().await;
    let tx = other.transaction().await.unwrap();
    tx.batch_execute(&format!("SELECT 1 FROM {}.lease FOR UPDATE", fresh.schema)).await.unwrap();
    // Held: a plain read, whatever is locked. Expired and locked: passed over.
    for _ in 0..2 {
        let began = Instant::now();
        assert!(!is_granted(&acquire(&*store, &ask("k", TTL)).await));
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        sleep(TTL).await;
    }
    tx.rollback().await.unwrap();
    let row = grant(&*store, &ask("k", TTL)).await;
    assert_eq!(row.expires_at.since(row.granted_at), TTL);
}

/// N24 (E17): a lock in front of an outcome fails its batch soon; the outcome sent again is recorded as what it is.
#[tokio::test(flavor = "multi_thread")]
async fn n24_a_lock_in_front_of_a_settle_is_told_and_lateness_is_not_lost() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    let row = begin(&*store, &once_ask("k", TTL)).await;
    let mut other = fresh.client().await;
    let tx = other.transaction().await.unwrap();
    tx.batch_execute(&format!("SELECT 1 FROM {}.once FOR UPDATE", fresh.schema)).await.unwrap();
    let began = Instant::now();
    let error = settle(&*store, &done(&row)).await.unwrap_err();
    assert_eq!((error.code(), error.verb()), (Code::KeyLocked, Some("once.settle")));
    assert!(!error.is_uncertain() && began.elapsed() < SOON, "{error:?} after {:?}", began.elapsed());
    sleep(TTL).await;
    assert_eq!(settle(&*store, &done(&row)).await.unwrap_err().code(), Code::KeyLocked);
    tx.rollback().await.unwrap();
    assert_eq!(settle(&*store, &done(&row)).await.unwrap(), Settle::Applied { late: true });
}

/// O11: a key that an open transaction claims fails the batch within its lock timeout, and leaves no trace of it.
#[tokio::test(flavor = "multi_thread")]
async fn o11_a_claim_in_the_making_is_told_soon() {
    for fresh in [Fresh::new().await, Fresh::pooled().await] {
        let store = fresh.store().await;
        let mut other = fresh.client().await;
        let tx = other.transaction().await.unwrap();
        let text = format!(
            "INSERT INTO {}.once (namespace, key, state, token, owner, session, attempts, claimed_at, expires_at,
                                  ttl_ms, retain_ms, late)
             VALUES ('default', 'b', 'running', 1, 'x', gen_random_uuid(), 1, clock_timestamp(), clock_timestamp(),
                     1, 1, false)",
            fresh.schema
        );
        tx.batch_execute(&text).await.unwrap();
        let batch = ["c", "b", "a"].map(|name| once_ask(name, TTL));
        let began = Instant::now();
        let error = store.once_claim(&batch).await.unwrap_err();
        assert_eq!(error.code(), Code::KeyLocked, "{error:?}");
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        let keys =
            batch.each_ref().map(|ask| KeyRef { namespace: ask.namespace.clone(), key: ask.key.clone() });
        assert!(store.once_lookup(&keys).await.unwrap().rows.iter().all(Option::is_none));
        tx.rollback().await.unwrap();
        assert!(store.once_claim(&batch).await.unwrap().iter().all(|it| matches!(it, Claimed::Granted(_))));
    }
}

/// Decision 14: refusals, replays and lost renewals write nothing at all.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_write_no_wal() {
    let server = Server::start_with(&["autovacuum=off"]);
    let fresh = Fresh::on(&server.url()).await;
    let store = fresh.store().await;
    let held = grant(&*store, &ask("k", Duration::from_secs(60))).await;
    let row = begin(&*store, &once_ask("o", Duration::from_secs(60))).await;
    settle(&*store, &done(&row)).await.unwrap();
    let stale = ClaimRef { session: crate::support::session(), ..claim_of(&held) };
    let refusals = async || {
        for _ in 0..50 {
            assert!(!is_granted(&acquire(&*store, &ask("k", TTL)).await));
            let replay = store.once_claim(&[once_ask("o", TTL)]).await.unwrap().remove(0);
            assert!(matches!(replay, Claimed::Existing { .. }));
            assert_eq!(renew(&*store, &stale).await, Renew::Lost);
            assert_eq!(settle(&*store, &done(&row)).await.unwrap(), Settle::Already);
            let counted = lease::Ask { capacity: 1, ..ask("k", TTL) };
            assert!(!is_granted(&acquire(&*store, &counted).await));
        }
    };
    refusals().await;
    let client = fresh.client().await;
    let written = async || -> i64 {
        let row = client.query_one("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint", &[]);
        row.await.unwrap().get(0)
    };
    let before = written().await;
    refusals().await;
    // Now and then the server notes which transactions run.
    let bytes = written().await - before;
    assert!(bytes < 300, "250 refusals wrote {bytes} bytes");
    let xmax =
        client.query_one(&format!("SELECT xmax::text FROM {}.lease", fresh.schema), &[]).await.unwrap();
    assert_eq!(xmax.get::<_, &str>(0), "0", "nobody has locked the live row");
}

/// Renewals change no index: with room on the page they are heap-only.
#[tokio::test(flavor = "multi_thread")]
async fn renewals_are_heap_only() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    let asks: Vec<_> = (0..400).map(|n| ask(&format!("k{n}"), Duration::from_secs(60))).collect();
    let onces: Vec<_> = (0..400).map(|n| once_ask(&format!("k{n}"), Duration::from_secs(60))).collect();
    let granted = store.lease_acquire(&asks).await.unwrap().into_iter().map(|acquired| match acquired {
        Acquired::Granted(row) => claim_of(&row),
        Acquired::Held { .. } => panic!("held"),
    });
    let granted: Vec<_> = granted.collect();
    let claimed = store.once_claim(&onces).await.unwrap().into_iter().map(|claimed| match claimed {
        Claimed::Granted(row) => once_claim_of(&row),
        other => panic!("{other:?}"),
    });
    let claimed: Vec<_> = claimed.collect();
    // The first rounds spread the rows over the pages.
    for _ in 0..60 {
        for answers in [store.lease_renew(&granted).await.unwrap(), store.once_renew(&claimed).await.unwrap()]
        {
            assert!(answers.iter().all(|answer| matches!(answer, Renew::Until(_))));
        }
    }
    store.close().await;
    let client = fresh.client().await;
    for table in ["lease", "once"] {
        let text =
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = $1 AND relname = $2";
        let mut seen = (0_i64, 0_i64);
        // Statistics arrive when their connection ends, and not at once.
        for _ in 0..100 {
            let row = client.query_one(text, &[&fresh.schema, &table]).await.unwrap();
            seen = (row.get(0), row.get(1));
            if seen.0 >= 24_000 {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        assert!(
            seen.0 >= 24_000 && seen.1 * 100 >= seen.0 * 95,
            "{table}: {} of {} were heap-only",
            seen.1,
            seen.0
        );
    }
}

/// L1: tokens are spent on grants, not on asking.
#[tokio::test(flavor = "multi_thread")]
async fn l1_refused_asks_spend_no_token() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    let held = grant(&*store, &ask("k", Duration::from_secs(60))).await;
    for _ in 0..10 {
        assert!(!is_granted(&acquire(&*store, &ask("k", TTL)).await));
    }
    let seen = store.lease_lookup(&KeyRef { namespace: Namespace::default(), key: key("k") }).await.unwrap();
    assert_eq!(seen.rows, [held]);
}

/// W1, N20, N43: no time zone, date style or daylight saving gets in between.
#[tokio::test(flavor = "multi_thread")]
async fn n43_settings_of_the_database_change_nothing() {
    let fresh = Fresh::new().await;
    // A day before the clocks change in Europe/Berlin.
    let eve = "UPDATE {schema}.test_clock_offset
               SET micros = extract(epoch FROM timestamptz '2026-03-28 12:00:00+00' - clock_timestamp()) * 1000000";
    fresh.run(eve).await;
    let day = Duration::from_secs(24 * 3600);
    for settings in [
        "-c TimeZone=Europe/Berlin -c DateStyle=German -c IntervalStyle=sql_standard",
        "-c TimeZone=Australia/Lord_Howe -c DateStyle=SQL,DMY -c extra_float_digits=-10",
        "-c TimeZone=Asia/Kathmandu -c bytea_output=escape -c standard_conforming_strings=off",
    ] {
        let dsn = format!("{}?options={}", fresh.server, settings.replace(' ', "%20").replace('=', "%3D"));
        let at = PostgresAt { dsn, ..fresh.at() };
        let store = PostgresStore::open(&at, fresh.options.clone()).await.unwrap();
        let asked = lease::Ask { hard_ttl: Some(day * 3), ..ask(&format!("k {settings}"), day) };
        let row = grant(&store, &asked).await;
        assert_eq!(row.expires_at.since(row.granted_at), day, "{settings}");
        assert_eq!(row.hard_expires_at.unwrap().since(row.granted_at), day * 3, "{settings}");
        assert!(row.granted_at.to_string().starts_with("2026-03-28T12:"), "{settings}: {}", row.granted_at);
        let seen = store
            .lease_lookup(&KeyRef { namespace: row.namespace.clone(), key: row.key.clone() })
            .await
            .unwrap();
        assert_eq!(seen.rows, [row]);
        let asked = once::Ask { retain: day * 30, ..once_ask(&format!("k {settings}"), day) };
        let row = begin(&store, &asked).await;
        settle(&store, &done(&row)).await.unwrap();
        let keys = [KeyRef { namespace: row.namespace, key: row.key }];
        let row = store.once_lookup(&keys).await.unwrap().rows.remove(0).unwrap();
        assert_eq!(row.retain_until.unwrap().since(row.finished_at.unwrap()), day * 30, "{settings}");
        assert_eq!(row.body.unwrap().bytes.unwrap(), b"ok");
    }
}

/// L4 (E18): a guarded transaction lets its holder's renewals pass and makes everybody else wait for its end.
#[tokio::test(flavor = "multi_thread")]
async fn l4_a_guard_lets_renewals_pass_and_stops_takeovers() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    let held = grant(&*store, &ask("k", TTL)).await;
    let guard = store.enlist().unwrap().guard[0].clone();
    let mut other = fresh.client().await;
    let tx = other.transaction().await.unwrap();
    let token = held.token.get();
    let rows = tx.query(&*guard, &[&"default", &"k", &token]).await.unwrap();
    assert_eq!(rows.len(), 1);
    let began = Instant::now();
    assert!(matches!(renew(&*store, &claim_of(&held)).await, Renew::Until(_)));
    assert!(began.elapsed() < SOON, "the renewal waited {:?}", began.elapsed());
    sleep(TTL + TTL / 10).await;
    assert!(!is_granted(&acquire(&*store, &ask("k", TTL)).await), "expired, but guarded");
    tx.commit().await.unwrap();
    let next = grant(&*store, &ask("k", TTL)).await;
    assert!(next.token > held.token);
    // The old token guards nothing any more, nor does one whose time is up.
    assert!(other.query(&*guard, &[&"default", &"k", &token]).await.unwrap().is_empty());
    sleep(TTL + TTL / 10).await;
    assert!(other.query(&*guard, &[&"default", &"k", &next.token.get()]).await.unwrap().is_empty());
}

/// L4: a transaction that still sees the holder before, because its snapshot is older than the release and the grant
/// that followed, guards nothing: its guard is refused, or PostgreSQL refuses the transaction.
#[tokio::test(flavor = "multi_thread")]
async fn l4_an_old_snapshot_guards_nothing() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    let guard = store.enlist().unwrap().guard[0].clone();
    let mut other = fresh.client().await;
    for isolation in
        [IsolationLevel::ReadCommitted, IsolationLevel::RepeatableRead, IsolationLevel::Serializable]
    {
        let held = grant(&*store, &ask("k", TTL * 20)).await;
        let tx = other.build_transaction().isolation_level(isolation).start().await.unwrap();
        tx.query("SELECT 1 FROM pg_class LIMIT 1", &[]).await.unwrap();
        assert!(store.lease_release(&[released(&held)]).await.unwrap()[0]);
        let next = grant(&*store, &ask("k", TTL * 20)).await;
        let guarded = tx.query(&*guard, &[&"default", &"k", &held.token.get()]).await;
        assert!(guarded.is_err() || guarded.unwrap().is_empty(), "{isolation:?}: two guards of one key");
        drop(tx);
        assert!(store.lease_release(&[released(&next)]).await.unwrap()[0]);
    }
}

fn released(row: &lease::Record) -> ReleaseLease {
    let (namespace, key) = (row.namespace.clone(), row.key.clone());
    ReleaseLease { namespace, key, token: row.token, reason: None, place: row.place }
}

/// L1, L8: places that are given out at the same time have different tokens, also while the clock is behind them (N15).
#[tokio::test(flavor = "multi_thread")]
async fn l1_places_given_out_at_once_have_different_tokens() {
    let fresh = Fresh::new().await;
    let stores = [fresh.store().await, fresh.store().await];
    let counted = || lease::Ask { capacity: 16, ..ask("pool", Duration::from_secs(60)) };
    grant(&*stores[0], &counted()).await;
    fresh.shift(-3_600_000_000).await;
    let mut asks = tokio::task::JoinSet::new();
    for at in 0..15 {
        let (store, ask) = (stores[at % 2].clone(), counted());
        asks.spawn(async move { grant(&*store, &ask).await.token });
    }
    let tokens: std::collections::BTreeSet<_> = asks.join_all().await.into_iter().collect();
    assert_eq!(tokens.len(), 15);
}

/// Decision 14: whoever asks for a key whose row an open transaction is writing is answered at once.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_does_not_wait_for_whoever_writes_the_row() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    grant(&*store, &ask("k", Duration::from_secs(60))).await;
    let row = begin(&*store, &once_ask("k", Duration::from_secs(60))).await;
    settle(&*store, &done(&row)).await.unwrap();
    let mut other = fresh.client().await;
    let tx = other.transaction().await.unwrap();
    let schema = &fresh.schema;
    let text = format!("UPDATE {schema}.lease SET metadata = 'x'; UPDATE {schema}.once SET reason = 'x'");
    tx.batch_execute(&text).await.unwrap();
    let seen = store.once_claim(&[once_ask("k", Duration::from_secs(60))]).await.unwrap().remove(0);
    assert!(matches!(seen, Claimed::Existing { .. }), "{seen:?}");
    assert!(!is_granted(&acquire(&*store, &ask("k", TTL)).await));
    tx.rollback().await.unwrap();
}

/// L4: the same from any language.
#[tokio::test(flavor = "multi_thread")]
async fn l4_fence_refuses_all_but_the_current_token() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    let held = grant(&*store, &ask("k", TTL)).await;
    let client = fresh.client().await;
    let fence = |token: String| {
        let text = format!("SELECT {}.fence('default', 'k', {token})", fresh.schema);
        let client = &client;
        async move { client.batch_execute(&text).await.map_err(|error| error.code().unwrap().code().to_owned()) }
    };
    let token = held.token.get();
    assert_eq!(fence(token.to_string()).await, Ok(()));
    for wrong in [(token - 1).to_string(), (token + 1).to_string(), "NULL".to_owned()] {
        assert_eq!(fence(wrong).await, Err("OW203".to_owned()));
    }
    sleep(TTL + TTL / 10).await;
    assert_eq!(fence(token.to_string()).await, Err("OW203".to_owned()), "its time is up");
    // The refused statement may still be on its way out, with its lock.
    let next = loop {
        if let Acquired::Granted(row) = acquire(&*store, &ask("k", TTL)).await {
            break row;
        }
    };
    assert_eq!(fence(next.token.get().to_string()).await, Ok(()));
    assert_eq!(fence(token.to_string()).await, Err("OW203".to_owned()));
    let (namespace, key, token) = (next.namespace.clone(), next.key.clone(), next.token);
    store
        .lease_release(&[ReleaseLease {
            namespace,
            key,
            token,
            reason: None,
            place: onceward_core::Place::default(),
        }])
        .await
        .unwrap();
    assert_eq!(fence(token.get().to_string()).await, Err("OW203".to_owned()), "given back");
    // S44: it is nobody's unless it is given to them.
    let role = crate::support::fresh_name();
    client
        .batch_execute(&format!(
            "CREATE ROLE {role}; GRANT USAGE ON SCHEMA {} TO {role}; SET ROLE {role}",
            fresh.schema
        ))
        .await
        .unwrap();
    assert_eq!(fence("1".to_owned()).await, Err("42501".to_owned()));
}

/// The caller's own settings are as they were.
#[tokio::test(flavor = "multi_thread")]
async fn o11_the_callers_lock_timeout_is_put_back() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    let sql = store.enlist().unwrap();
    let mut client = fresh.client().await;
    client.batch_execute("SET lock_timeout = '7s'").await.unwrap();
    let tx = client.transaction().await.unwrap();
    let none: Option<&[u8]> = None;
    let session = crate::support::session().to_string();
    for _ in 0..2 {
        let claimed = tx
            .query(
                &*sql.claim_in[0],
                &[
                    &"default",
                    &"k",
                    &"me",
                    &session,
                    &1000_i64,
                    &None::<i64>,
                    &1000_i64,
                    &none,
                    &false,
                    &"expired",
                    &None::<i64>,
                ],
            )
            .await
            .unwrap();
        let token: i64 = claimed[0].get("token");
        let settled = tx
            .query(&*sql.settle_in[0], &[&"default", &"k", &token, &none, &None::<&str>, &None::<i64>])
            .await
            .unwrap();
        assert!(settled[0].get::<_, i64>("token") == token);
        let now: String = tx.query_one("SHOW lock_timeout", &[]).await.unwrap().get(0);
        assert_eq!(now, "7s");
    }
    tx.rollback().await.unwrap();
    let keys = [KeyRef { namespace: Namespace::default(), key: key("k") }];
    assert_eq!(store.once_lookup(&keys).await.unwrap().rows, [None], "it vanished with its transaction");
}

/// L6: a release reaches those who wait in another process, by NOTIFY.
#[tokio::test(flavor = "multi_thread")]
async fn l6_a_release_wakes_another_process() {
    let fresh = Fresh::new().await;
    let (here, there) = (fresh.store().await, fresh.store().await);
    let mut wakes = there.subscribe();
    // The first hint says that listening has begun.
    let first = timeout(Duration::from_secs(10), wakes.recv()).await.unwrap().unwrap();
    assert!(matches!(first, Wake::Anything), "{first:?}");
    for round in 0..3 {
        let held = grant(&*here, &ask("k", Duration::from_secs(60))).await;
        let session = crate::support::session();
        let (namespace, key) = (held.namespace.clone(), held.key.clone());
        let wait = WaitLease { namespace, key, session, fair: false, ttl: Duration::from_secs(60) };
        there.lease_wait(&wait).await.unwrap();
        let (namespace, key, token) = (held.namespace.clone(), held.key.clone(), held.token);
        here.lease_release(&[ReleaseLease {
            namespace,
            key,
            token,
            reason: None,
            place: onceward_core::Place::default(),
        }])
        .await
        .unwrap();
        let wake = timeout(Duration::from_secs(10), wakes.recv()).await.unwrap().unwrap();
        assert!(matches!(&wake, Wake::Lease(_, key) if key.as_str() == "k"), "{round}: {wake:?}");
    }
    assert!(there.capabilities().poll_interval <= Duration::from_secs(1));
}
