//! What was proved wrong with the systems before us, each as a test that ours passes. The numbers are those of the
//! field notes; what is not here stands with the stores: W1, W6 and W7 in the tests of the PostgreSQL store, W3 and W20
//! in the conformance suite as well, W4 and W24 in the contract of the caller's transaction, W2 and W22 in `faults.rs`.

use std::sync::Arc;
use std::time::Duration;

use onceward::history::Subject;
use onceward::store::clock::ManualClock;
use onceward::store::faulty::{Fault, Faulty, Verb};
use onceward::store::memory::MemoryStore;
use onceward::store::{ClaimRef, Claimed, Renew, SettleOnce, Store};
use onceward::{Code, NotDone, Onceward, Outcome, Verdict};
use onceward_core::once::{Body, Ending, Resolution, Settle, State};
use onceward_core::{Key, Namespace, Owner, SessionId};

fn client() -> (Onceward, Arc<Faulty>) {
    let store = Faulty::new(Arc::new(MemoryStore::default()));
    let options = Onceward::options().short_ttls_for_tests().deadline(Duration::from_secs(2));
    (options.build(Arc::clone(&store) as Arc<dyn Store>).unwrap(), store)
}

fn once_ask(key: &str) -> onceward_core::once::Ask {
    onceward_core::once::Ask {
        namespace: Namespace::default(),
        key: Key::new(key).unwrap(),
        owner: Owner::new("me").unwrap(),
        session: SessionId::from_uuid(uuid::Uuid::new_v4()),
        ttl: Duration::from_secs(1),
        hard_ttl: None,
        retain: Duration::from_secs(3600),
        fingerprint: None,
        restartable: false,
    }
}

async fn uncertain(ow: &Onceward, key: &str) {
    let outcome = ow.once(key).run(async |_| Err::<u32, _>(NotDone::unknown("cable cut"))).await.unwrap();
    assert!(outcome.is_uncertain());
}

/// W8: waiting, a hard cap, listing, namespaces, taking away, seeing the holder: all there.
#[tokio::test(flavor = "multi_thread")]
async fn w8_leases_wait_end_and_can_be_looked_at() {
    let (ow, _) = client();
    let lease =
        ow.lease("k").hard_ttl(Duration::from_secs(60)).metadata("m").acquire().await.unwrap().unwrap();
    assert!(ow.lease("k").wait(Duration::from_millis(20)).acquire().await.unwrap().is_none());
    assert!(ow.in_namespace("other").unwrap().lease("k").acquire().await.unwrap().is_some());
    let seen = ow.admin().leases(None, None, None, 10).await.unwrap();
    assert_eq!(seen.rows.len(), 1, "of this namespace");
    assert_eq!((seen.rows[0].token, seen.rows[0].metadata.as_deref()), (lease.token(), Some("m")));
    assert_eq!(ow.admin().break_lease("k", Some(lease.token()), "stuck").await.unwrap().len(), 1);
}

/// W9: a release that fails does not mask what the body said.
#[tokio::test(flavor = "multi_thread")]
async fn w9_the_bodys_word_wins_over_a_failed_release() {
    let (ow, store) = client();
    store.times(1000, Verb::LeaseRelease, Fault::Away);
    let said = ow.lease("k").run(async |_| Err::<(), _>("the body's own error")).await.unwrap();
    assert_eq!(said, Err("the body's own error"));
}

/// W10, L10: one owner name, two processes: two claims, and neither is the other's.
#[tokio::test(flavor = "multi_thread")]
async fn w10_the_same_owner_name_shares_nothing() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let process = || Onceward::options().owner("host:7").build(Arc::clone(&store)).unwrap();
    let (one, two) = (process(), process());
    let lease = one.lease("k").acquire().await.unwrap().unwrap();
    assert!(two.lease("k").acquire().await.unwrap().is_none());
    lease.release().await.unwrap();
    assert!(two.lease("k").acquire().await.unwrap().is_some());
}

/// W11: every state of a key maps to an outcome of its own, and none but done to a value.
#[tokio::test(flavor = "multi_thread")]
async fn w11_no_state_passes_for_a_result() {
    let (ow, _) = client();
    uncertain(&ow, "uncertain").await;
    assert!(ow.once("done").run(async |_| Ok(1)).await.unwrap().is_done());
    let failed = ow.once("failed").run(async |_| Err::<i32, _>(NotDone::failed("no"))).await.unwrap();
    assert!(matches!(failed, Outcome::Failed { .. }));
    let (tell, wait) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn({
        let ow = ow.clone();
        async move { ow.once("running").run(async |_| Ok(wait.await.map_or(0, |()| 1))).await }
    });
    while ow.once("running").peek::<i32>().await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for (key, value) in [("uncertain", None), ("failed", None), ("running", None), ("done", Some(1))] {
        let seen = ow.once(key).run(async |_| Ok(9)).await.unwrap();
        // Exhaustive on purpose: a new outcome has to be thought of here.
        let of = match &seen {
            Outcome::Done { value, replayed: true } => Some(*value),
            Outcome::Failed { replayed: true, .. } | Outcome::Running { .. } | Outcome::Uncertain { .. } => {
                None
            }
            Outcome::Done { .. }
            | Outcome::DoneWithoutBody { .. }
            | Outcome::NotStarted { .. }
            | Outcome::Failed { .. } => panic!("{key}: {seen:?}"),
        };
        assert_eq!(of, value, "{key}");
        assert_eq!(seen.into_result().ok(), value, "{key}");
    }
    tell.send(()).unwrap();
    assert_eq!(running.await.unwrap().unwrap().done(), Some(1));
}

/// W12, O7: a worker that comes back after its key was settled and run anew is refused; the second run's result stays.
#[tokio::test(flavor = "multi_thread")]
async fn w12_a_zombie_does_not_overwrite_the_second_run() {
    let clock = ManualClock::default();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
    let ow = Onceward::options().build(Arc::clone(&store)).unwrap();
    let claimed = store.once_claim(&[once_ask("k")]).await.unwrap().remove(0);
    let Claimed::Granted(zombie) = claimed else { panic!("granted") };
    clock.advance(Duration::from_secs(5));
    ow.admin().resolve("k", None, Resolution::Release, "not in the ledger", false).await.unwrap();
    assert_eq!(ow.once("k").run(async |_| Ok("second".to_owned())).await.unwrap().done().unwrap(), "second");
    let ending = Ending::Done(Body::new(b"\"first\"".to_vec(), "application/json"));
    let (namespace, key, token, place) = (zombie.namespace, zombie.key, zombie.token, zombie.place);
    let late = SettleOnce { namespace, key, token, ending, place };
    assert_eq!(store.once_settle(&[late]).await.unwrap(), [Settle::Stale]);
    let seen = ow.once("k").run(async |_| Ok(String::new())).await.unwrap();
    assert_eq!(seen.done().unwrap(), "second");
}

/// W13: an operator settles by key alone, in the namespace of the client; of two operators one wins.
#[tokio::test(flavor = "multi_thread")]
async fn w13_settling_needs_the_key_and_knows_its_namespace() {
    let (ow, _) = client();
    let other = ow.in_namespace("other").unwrap();
    uncertain(&ow, "k").await;
    uncertain(&other, "k").await;
    ow.admin().resolve("k", None, Resolution::Release, "looked", false).await.unwrap();
    assert!(other.once("k").peek::<u32>().await.unwrap().unwrap().is_uncertain());
    let seen = other.admin().once("k").await.unwrap().unwrap().0.token;
    let settle = async || other.admin().resolve("k", Some(seen), Resolution::Release, "looked", false).await;
    let (one, two) = (settle().await, settle().await);
    assert!(one.is_ok() && two.is_err_and(|error| error.code() == Code::NotUncertain));
    let unknown = ow.admin().resolve("nothing", None, Resolution::Release, "looked", false).await;
    assert_eq!(unknown.unwrap_err().code(), Code::KeyAbsent);
}

/// W16, W18: what was asked for is what is kept and renewed.
#[tokio::test(flavor = "multi_thread")]
async fn w18_the_ttl_that_was_asked_for_is_the_one_renewed() {
    let (ow, _) = client();
    let _lease = ow.lease("l").ttl(Duration::from_secs(30)).acquire().await.unwrap().unwrap();
    let row = ow.admin().lease("l").await.unwrap().rows.remove(0);
    assert_eq!(
        (row.ttl, row.expires_at.since(row.granted_at)),
        (Duration::from_secs(30), Duration::from_secs(30))
    );
    let seen = ow.once("o").ttl(Duration::from_secs(7)).run(async |_| {
        let (row, _) = ow.admin().once("o").await?.expect("it is running");
        Ok(row.ttl.as_secs())
    });
    assert_eq!(seen.await.unwrap().done(), Some(7));
}

/// W19: two clients on two databases never cross.
#[tokio::test(flavor = "multi_thread")]
async fn w19_two_databases_have_two_renewers() {
    let ((one, first), (two, second)) = (client(), client());
    let ttl = Duration::from_millis(300);
    let a = one.lease("k").ttl(ttl).acquire().await.unwrap().unwrap();
    let b = two.lease("k").ttl(ttl).acquire().await.unwrap().unwrap();
    second.times(1000, Verb::LeaseRenew, Fault::Away);
    tokio::time::sleep(ttl * 2).await;
    assert!(a.is_valid() && !b.is_valid(), "each renews in its own database");
    assert!(first.calls(Verb::LeaseRenew) > 0);
}

/// W20: in one batch of renewals a zombie extends nothing of its successor.
#[tokio::test(flavor = "multi_thread")]
async fn w20_a_zombie_in_a_batch_renews_nobody() {
    let (ow, store) = client();
    let claim = |lease: &onceward::Lease| ClaimRef {
        namespace: lease.namespace().clone(),
        key: lease.key().clone(),
        slot: lease.slot(),
        token: lease.token(),
        session: lease.session(),
    };
    let quiet = async |key: &str| ow.lease(key).auto_renew(false).acquire().await.unwrap().unwrap();
    let zombie = quiet("k").await;
    let zombie_claim = claim(&zombie);
    zombie.release().await.unwrap();
    let (successor, other) = (quiet("k").await, quiet("other").await);
    let before = ow.admin().lease("k").await.unwrap().rows.remove(0).expires_at;
    let renewed = store.lease_renew(&[zombie_claim, claim(&other)]).await.unwrap();
    assert!(matches!(renewed[..], [Renew::Lost, Renew::Until(_)]), "{renewed:?}");
    assert_eq!(ow.admin().lease("k").await.unwrap().rows.remove(0).expires_at, before);
    drop(successor);
}

/// W21: claims that come and go around the renewer's sleep are all renewed.
#[tokio::test(flavor = "multi_thread")]
async fn w21_no_claim_slips_past_an_idle_renewer() {
    let (ow, _) = client();
    let ttl = Duration::from_millis(400);
    let holders: Vec<_> = (0..60)
        .map(|n| {
            let ow = ow.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(n * 13 % 500)).await;
                let lease = ow.lease(format!("k{n}")).ttl(ttl).acquire().await.unwrap().unwrap();
                tokio::time::sleep(ttl * 2).await;
                (n, lease.lost_because())
            })
        })
        .collect();
    for holder in holders {
        let (n, lost) = holder.await.unwrap();
        assert_eq!(lost, None, "claim {n}");
    }
}

/// W23: the function has its token, and is stopped when its claim is lost.
#[tokio::test(flavor = "multi_thread")]
async fn w23_the_function_knows_its_token_and_is_cancelled_on_loss() {
    let (ow, store) = client();
    let token = ow.once("t").run(async |attempt| Ok(attempt.token().get())).await.unwrap().done();
    let row = ow.admin().once("t").await.unwrap().unwrap().0;
    assert_eq!(token, Some(row.token.get()));
    store.times(1000, Verb::OnceRenew, Fault::Away);
    let outcome = ow.once("k").ttl(Duration::from_millis(300)).run(async |_| {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok(1)
    });
    let Outcome::Uncertain { reason, .. } = outcome.await.unwrap() else { panic!("cancelled") };
    assert!(reason.contains("cancelled"), "{reason}");
}

/// W27, W31: a first call is two statements; a replay one, which writes nothing, or none from the process's cache.
#[tokio::test(flavor = "multi_thread")]
async fn w31_a_first_call_costs_two_statements_and_a_replay_at_most_one() {
    let (ow, store) = client();
    let calls =
        || store.calls(Verb::OnceClaim) + store.calls(Verb::OnceSettle) + store.calls(Verb::OnceLookup);
    assert!(ow.once("k").run(async |_| Ok(1)).await.unwrap().is_done());
    assert_eq!(calls(), 2);
    assert!(ow.once("k").run(async |_| Ok(2)).await.unwrap().is_replayed());
    assert_eq!(calls(), 2, "from the process");
    let fresh = Onceward::options().build(Arc::clone(&store) as Arc<dyn Store>).unwrap();
    assert!(fresh.once("k").run(async |_| Ok(2)).await.unwrap().is_replayed());
    assert_eq!(calls(), 3, "from the store");
    let before = ow.admin().history(Subject::Once, "k", 100).await.unwrap().len();
    for _ in 0..22 {
        let fresh = Onceward::options().cache_bytes(0).build(Arc::clone(&store) as Arc<dyn Store>).unwrap();
        assert!(fresh.once("k").run(async |_| Ok(2)).await.unwrap().is_replayed());
    }
    assert_eq!(ow.admin().history(Subject::Once, "k", 100).await.unwrap().len(), before);
}

/// W28: a structured result is taken as it is.
#[tokio::test(flavor = "multi_thread")]
async fn w28_a_key_is_settled_with_a_structured_result() {
    #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
    struct Charge {
        id: String,
        cents: u32,
    }
    let (ow, _) = client();
    let charge = || Charge { id: "ch_1".into(), cents: 4200 };
    let cut = ow.once("k").run(async |_| Err::<Charge, _>(NotDone::unknown("cable cut"))).await.unwrap();
    assert!(cut.is_uncertain());
    let seen = ow.once("k").probe(async |_| Verdict::Happened(charge())).await.unwrap().unwrap();
    assert_eq!(seen.done(), Some(charge()));
}

/// W30: what is uncertain can be listed in pages, and the newest history is what is shown.
#[tokio::test(flavor = "multi_thread")]
async fn w30_uncertain_keys_are_listed_and_history_begins_with_the_newest() {
    let (ow, _) = client();
    for n in 0..7 {
        uncertain(&ow, &format!("k{n}")).await;
    }
    assert!(ow.once("fine").run(async |_| Ok(1)).await.unwrap().is_done());
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = ow.admin().once_keys(Some(State::Uncertain), None, after.take(), 3).await.unwrap();
        let Some(last) = page.rows.last() else { break };
        after = Some(last.key.clone());
        seen.extend(page.rows.iter().map(|row| row.key.to_string()));
    }
    assert_eq!(seen, (0..7).map(|n| format!("k{n}")).collect::<Vec<_>>());
    for _ in 0..60 {
        let lease = ow.lease("l").acquire().await.unwrap().unwrap();
        lease.release().await.unwrap();
    }
    let newest = ow.lease("l").acquire().await.unwrap().unwrap();
    let history = ow.admin().history(Subject::Lease, "l", 50).await.unwrap();
    assert_eq!((history.len(), history[0].token), (50, newest.token()));
}

/// W25, W26: every schema there ever was is brought up to date with its rows, and works.
#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread")]
async fn w26_every_older_schema_of_sqlite_comes_to_head_with_its_rows() {
    for version in 1_u32.. {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("old.db");
        let url = format!("sqlite://{}", file.display());
        let write =
            async |text: String| rusqlite::Connection::open(&file).unwrap().execute_batch(&text).unwrap();
        let micros = |text: &str| text.replace("{now}", "(1000000 * unixepoch())");
        if !comes_to_head(&url, version, async |of| write(micros(of.sqlite)).await).await {
            break;
        }
    }
}

/// W25, W26: as on SQLite.
#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn w26_every_older_schema_of_postgres_comes_to_head_with_its_rows() {
    use crate::pg::support;
    let server = &support::shared().postgres;
    let mine = support::connect(server).await;
    for version in 1_u32.. {
        let schema = support::fresh_name();
        let url = format!("{server}?schema={schema}");
        let write = async |of: OldRows| {
            mine.batch_execute(&of.postgres.replace("{schema}", &schema)).await.unwrap();
        };
        let older = comes_to_head(&url, version, write).await;
        mine.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await.unwrap();
        if !older {
            break;
        }
    }
}

/// Rows of once keys as the first schema that had them wrote them: one is done, one was running when its process died.
#[derive(Clone, Copy)]
struct OldRows {
    sqlite: &'static str,
    postgres: &'static str,
}

const OLD_ROWS: OldRows = OldRows {
    sqlite: "
        INSERT INTO onceward_once (namespace, key, state, token, owner, session, attempts, claimed_at, expires_at,
            expires_boot, boot_id, ttl_us, retain_us, late, finished_at, retain_until, body_type, body_size, body,
            untold)
        VALUES ('default', 'done', 'done', 7, 'old', zeroblob(16), 1, {now}, {now}, 0, 'x', 1000000, 86400000000, 0,
                {now}, {now} + 86400000000, 'application/json', 1, x'37', 1),
               ('default', 'open', 'running', 8, 'old', zeroblob(16), 1, {now}, {now}, 0, 'x', 1000000, 86400000000, 0,
                NULL, NULL, NULL, NULL, NULL, 0)",
    postgres: "
        INSERT INTO {schema}.once (namespace, key, state, token, owner, session, attempts, claimed_at, expires_at,
            ttl_ms, retain_ms, late, finished_at, retain_until, content_type, body_size, body)
        VALUES ('default', 'done', 'done', 7, 'old', gen_random_uuid(), 1, clock_timestamp(), clock_timestamp(), 1000,
                86400000, false, clock_timestamp(), clock_timestamp() + interval '1 day', 'application/json', 1,
                '\\x37'),
               ('default', 'open', 'running', 8, 'old', gen_random_uuid(), 1, clock_timestamp(), clock_timestamp(),
                1000, 86400000, false, NULL, NULL, NULL, NULL, NULL)",
};

/// Makes a schema of that version, writes into it, and brings it up to date. `false` where that is the newest one.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
async fn comes_to_head(url: &str, version: u32, write: impl AsyncFn(OldRows)) -> bool {
    use onceward::store::{OpenOptions, migrate};
    let options = OpenOptions { unmigrated: true, ..OpenOptions::default() };
    let migrator = migrate::migrator(url, options.clone()).await.unwrap();
    assert_eq!(migrator.up(Some(version)).await.unwrap(), (1..=version).collect::<Vec<_>>());
    let before = onceward::store::open(url, options).await.unwrap();
    let old = Onceward::options().build(before).unwrap();
    let kept = old.lease("kept").ttl(Duration::from_secs(60)).auto_release(false);
    let token = kept.acquire().await.unwrap().unwrap().token();
    old.shutdown().await;
    let has_once = version >= 2;
    if has_once {
        write(OLD_ROWS).await;
    }
    let applied = migrator.up(None).await.unwrap();
    let ow = Onceward::connect(url).await.unwrap();
    assert_eq!(ow.admin().lease("kept").await.unwrap().rows[0].token, token, "version {version}");
    if has_once {
        let done = ow.once("done").run(async |_| Ok(9)).await.unwrap();
        assert_eq!(done, Outcome::Done { value: 7, replayed: true }, "version {version}");
        assert!(ow.once("open").run(async |_| Ok(9)).await.unwrap().is_uncertain(), "version {version}");
    }
    assert!(ow.once("new").run(async |_| Ok(1)).await.unwrap().is_done(), "version {version}");
    assert!(migrator.status().await.unwrap().pending.is_empty());
    ow.shutdown().await;
    !applied.is_empty()
}
