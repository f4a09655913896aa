//! Nasty cases that want a PostgreSQL: transactions that stand still or are too strict, claims that arrive late, rows
//! that somebody removed, dumps from yesterday.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use onceward::store::Severity;
use onceward::{Code, Onceward, Outcome};
use tokio::time::{sleep, timeout};
use tokio_postgres::IsolationLevel;

use crate::pg::Schema;
use crate::pg::support::{self, Proxy, programs};

async fn client(schema: &Schema) -> Onceward {
    Onceward::options().short_ttls_for_tests().cache_bytes(0).connect(schema.url()).await.unwrap()
}

/// A proxy before the server, and the URL of the schema through it.
async fn behind_a_proxy(schema: &Schema) -> (Proxy, String) {
    let port = support::shared().postgres.rsplit_once(':').unwrap().1;
    let proxy = Proxy::before(port.split('/').next().unwrap().parse().unwrap()).await;
    let through = format!("{}?schema={}", proxy.url(), schema.name());
    (proxy, through)
}

/// N5, L4: a transaction stands still between its guard and its commit for longer than the lease lasts. Nobody gets the
/// key while it is open; its own time-out ends it, and then it has not committed.
#[tokio::test(flavor = "multi_thread")]
async fn n5_a_guarded_transaction_that_stands_still_never_commits_beside_the_next_holder() {
    let schema = Schema::migrated().await;
    let (one, two) = (client(&schema).await, client(&schema).await);
    let mut paused = schema.client().await;
    paused.batch_execute("SET idle_in_transaction_session_timeout = '6s'").await.unwrap();
    let ttl = Duration::from_millis(1500);
    let lease =
        one.lease("k").ttl(ttl).auto_renew(false).auto_release(false).acquire().await.unwrap().unwrap();
    let mut tx = paused.transaction().await.unwrap();
    lease.guard(&mut tx).await.unwrap();
    sleep(ttl * 2).await;
    assert!(!lease.is_valid());
    assert!(two.lease("k").acquire().await.unwrap().is_none(), "closed as long as it might commit");
    let next = two.lease("k").wait(Duration::from_secs(30)).acquire().await.unwrap().expect("it was ended");
    assert!(next.token() > lease.token());
    assert!(tx.commit().await.is_err(), "its session was ended, and nothing of it is kept");
    assert_eq!(
        lease.guard(&mut schema.client().await.transaction().await.unwrap()).await.unwrap_err().code(),
        Code::LeaseLost
    );
}

/// N33: under the stricter levels of the caller a conflict comes to him, to be tried again; then all is well.
#[tokio::test(flavor = "multi_thread")]
async fn n33_under_stricter_levels_a_conflict_is_the_callers_to_try_again() {
    let schema = Schema::migrated().await;
    let ow = client(&schema).await;
    let mut mine = schema.client().await;
    for (key, level) in [("r", IsolationLevel::RepeatableRead), ("s", IsolationLevel::Serializable)] {
        let mut tx = mine.build_transaction().isolation_level(level).start().await.unwrap();
        // The snapshot is from before the key was done.
        tx.query_one("SELECT count(*) FROM pg_class", &[]).await.unwrap();
        assert_eq!(ow.once(key).run(async |_| Ok(1)).await.unwrap().done(), Some(1));
        let refused = ow.once(key).run_in(&mut tx, async |_| Ok(2)).await.unwrap_err();
        assert!(refused.is_retryable() && refused.code() == Code::StoreBusy, "{level:?}: {refused:?}");
        tx.rollback().await.unwrap();

        let mut tx = mine.build_transaction().isolation_level(level).start().await.unwrap();
        let again = ow.once(key).run_in(&mut tx, async |_| Ok(2)).await.unwrap();
        assert_eq!(again, Outcome::Done { value: 1, replayed: true }, "{level:?}");
        let fresh = ow.once(format!("fresh {key}")).run_in(&mut tx, async |_| Ok(3)).await.unwrap();
        assert!(fresh.is_done());
        tx.commit().await.unwrap();
        let seen = ow.once(format!("fresh {key}")).run(async |_| Ok(4)).await.unwrap();
        assert_eq!(seen, Outcome::Done { value: 3, replayed: true }, "{level:?}");

        let lease = ow.lease(key).acquire().await.unwrap().unwrap();
        let mut tx = mine.build_transaction().isolation_level(level).start().await.unwrap();
        lease.guard(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
    }
}

/// N23: a claim hangs on its way; its caller is told that its effect is not known, somebody else takes the key, and
/// then it arrives. One of the two has had effect; nothing runs twice.
#[tokio::test(flavor = "multi_thread")]
async fn n23_a_claim_that_arrives_late_takes_nothing_from_whoever_came_meanwhile() {
    let schema = Schema::migrated().await;
    let (proxy, through) = behind_a_proxy(&schema).await;
    let options = Onceward::options().short_ttls_for_tests().cache_bytes(0);
    let late = options.deadline(Duration::from_millis(700)).connect(&through).await.unwrap();
    let direct = client(&schema).await;
    let runs = AtomicU32::new(0);
    let run = async |_| Ok(runs.fetch_add(1, Ordering::SeqCst));
    let short = |ow: &Onceward, key| ow.once(key).ttl(Duration::from_secs(1));
    // Its connections are there.
    assert!(short(&late, "warm").run(run).await.unwrap().is_done());
    drop(late.lease("warm").acquire().await.unwrap());

    proxy.hold_questions(true);
    let (claimed, doubted) = tokio::join!(short(&late, "k").run(run), short(&late, "doubt").run(run));
    assert!(claimed.unwrap_err().is_uncertain() && doubted.unwrap_err().is_uncertain());
    late.lease("l").acquire().await.unwrap_err();
    assert_eq!(short(&direct, "k").run(run).await.unwrap(), Outcome::Done { value: 1, replayed: false });
    let lease = direct.lease("l").acquire().await.unwrap().expect("nobody has it");
    proxy.hold_questions(false);
    sleep(Duration::from_millis(1500)).await;

    let seen = direct.once("k").peek::<u32>().await.unwrap().unwrap();
    assert_eq!(seen, Outcome::Done { value: 1, replayed: true });
    lease.renew().await.unwrap();
    // What nobody took meanwhile may be in doubt now although it never ran; it ends like any doubt.
    let doubt = direct.once("doubt").peek::<u32>().await.unwrap();
    let free =
        doubt.as_ref().is_none_or(|seen| matches!(seen, Outcome::Running { .. } | Outcome::Uncertain { .. }));
    assert!(free && runs.load(Ordering::SeqCst) == 2, "it never ran: {doubt:?}");
    let settled = async {
        while !short(&direct, "doubt").restartable(true).run(run).await.is_ok_and(|seen| seen.is_done()) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), settled).await.expect("a doubt can be settled");
    assert_eq!(runs.load(Ordering::SeqCst), 3);
}

/// N22, L7, decision 15, law 5: the connection is cut after the commit and before its answer. The client finds out by
/// itself what it was granted: the caller gets it, once.
#[tokio::test(flavor = "multi_thread")]
async fn n22_a_grant_whose_answer_was_cut_off_is_found_by_the_client() {
    let schema = Schema::migrated().await;
    let (proxy, through) = behind_a_proxy(&schema).await;
    let options = Onceward::options().cache_bytes(0).deadline(Duration::from_secs(20));
    let ow = options.connect(&through).await.unwrap();
    assert!(ow.once("warm").run(async |_| Ok(1)).await.unwrap().is_done());
    drop(ow.lease("warm").acquire().await.unwrap());
    for round in 0..3 {
        let runs = AtomicU32::new(0);
        let (key, cut) = (format!("round {round}"), async || {
            sleep(Duration::from_millis(300)).await;
            proxy.cut();
            proxy.hold_answers(false);
        });
        proxy.hold_answers_once_asked(&key);
        let (lease, ()) = tokio::join!(ow.lease(&key).acquire(), cut());
        let lease = lease.unwrap().expect("it is ours");
        // A renewal may have been on a connection that was cut: it says so, and is asked for again.
        while let Err(refused) = lease.renew().await {
            assert!(lease.is_valid() && refused.is_retryable(), "{refused:?}");
            sleep(Duration::from_millis(20)).await;
        }
        let run = ow.once(&key).run(async |attempt| {
            runs.fetch_add(1, Ordering::SeqCst);
            Ok(attempt.number())
        });
        proxy.hold_answers_once_asked(&key);
        let (outcome, ()) = tokio::join!(run, cut());
        assert_eq!(outcome.unwrap().done(), Some(1), "claimed once");
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }
}

/// W9: what a body says in a transaction that PostgreSQL has given up is heard, and not the echo of that.
#[tokio::test(flavor = "multi_thread")]
async fn w9_an_aborted_transaction_masks_nothing() {
    let schema = Schema::migrated().await;
    let ow = client(&schema).await;
    let mut mine = schema.client().await;
    let said = ow
        .lease("k")
        .run(async |lease| {
            let mut tx = mine.transaction().await.unwrap();
            lease.guard(&mut tx).await.unwrap();
            assert!(tx.batch_execute("SELECT 1 / 0").await.is_err());
            // The transaction is aborted, and still open: that is the caller's affair.
            assert!(lease.guard(&mut tx).await.is_err());
            Err::<(), _>("the body's own error")
        })
        .await
        .unwrap();
    assert_eq!(said, Err("the body's own error"));
    let mut tx = mine.transaction().await.unwrap();
    let failed = ow.once("o").run_in(&mut tx, async |tx| Ok(tx.execute("SELECT 1 / 0", &[]).await?)).await;
    let failed = failed.unwrap_err();
    assert!(failed.code() == Code::OnceFailed && failed.message().contains("division by zero"), "{failed:?}");
    tx.rollback().await.unwrap();
    assert!(
        ow.lease("k").wait(Duration::from_secs(10)).acquire().await.unwrap().is_some(),
        "it was released"
    );
}

/// Somebody removes the row of a key that runs. The runner is not told that its outcome was recorded, and whoever waits
/// is not kept waiting.
#[tokio::test(flavor = "multi_thread")]
async fn a_once_row_that_is_removed_meanwhile_is_told_to_everybody() {
    let schema = Schema::migrated().await;
    let (ow, other) = (client(&schema).await, client(&schema).await);
    let mine = schema.client().await;
    let (begun, has_begun) = tokio::sync::oneshot::channel::<()>();
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move {
        let run = ow.once("k").run(async |_| {
            begun.send(()).unwrap();
            wait.await.unwrap();
            Ok("charged".to_owned())
        });
        run.await.unwrap()
    });
    has_begun.await.unwrap();
    let waiting = tokio::spawn(async move {
        other.once("k").wait(Duration::from_secs(30)).run(async |_| Ok(String::new())).await.unwrap()
    });
    sleep(Duration::from_millis(200)).await;
    let removed = mine.execute(&format!("DELETE FROM {}.once", schema.name()), &[]).await.unwrap();
    assert_eq!(removed, 1);
    let told = timeout(Duration::from_secs(10), waiting).await.expect("nothing is left to wait for").unwrap();
    assert!(matches!(told, Outcome::NotStarted { .. }), "{told:?}");
    go.send(()).unwrap();
    let outcome = running.await.unwrap();
    let Outcome::Uncertain { value, reason, .. } = &outcome else { panic!("{outcome:?}") };
    assert_eq!(value.as_deref(), Some("charged"), "it is the caller's to keep: {reason}");
}

fn in_the_shell(program: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(programs().join(program)).args(args).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// N44, L1: a dump from before is restored. Tokens are larger than those given out since; what ran when it was made
/// is in doubt; what was recorded since is gone, which is what the documentation says of it.
#[tokio::test(flavor = "multi_thread")]
async fn n44_a_restored_dump_has_larger_tokens_and_doubts_what_ran() {
    let schema = Schema::migrated().await;
    let url = support::shared().postgres.clone();
    let ow = client(&schema).await;
    assert!(ow.once("before").run(async |_| Ok(1)).await.unwrap().is_done());
    let (begun, has_begun) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn({
        let ow = ow.clone();
        async move {
            let run = ow.once("running").ttl(Duration::from_secs(3)).run(async |_| {
                begun.send(()).unwrap();
                std::future::pending::<Result<i32, onceward::NotDone>>().await
            });
            run.await
        }
    });
    has_begun.await.unwrap();
    let held = ow.lease("k").ttl(Duration::from_secs(3)).acquire().await.unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("dump.sql").display().to_string();
    in_the_shell("pg_dump", &["--dbname", &url, "--schema", schema.name(), "--file", &dump]);

    held.release().await.unwrap();
    let since = ow.lease("k").acquire().await.unwrap().unwrap();
    let largest = since.token();
    since.release().await.unwrap();
    assert!(ow.once("since").run(async |_| Ok(2)).await.unwrap().is_done());
    running.abort();
    ow.shutdown().await;

    let mine = schema.client().await;
    mine.batch_execute(&format!("DROP SCHEMA {} CASCADE", schema.name())).await.unwrap();
    in_the_shell("psql", &["--dbname", &url, "--quiet", "--set", "ON_ERROR_STOP=1", "--file", &dump]);
    let ow = client(&schema).await;
    let findings = ow.admin().check().await.unwrap();
    assert!(findings.iter().all(|finding| finding.severity != Severity::Error), "{findings:?}");
    let next =
        ow.lease("k").wait(Duration::from_secs(30)).acquire().await.unwrap().expect("its ttl has passed");
    assert!(next.token() > largest, "{} and {largest}", next.token());
    let replayed = ow.once("before").run(async |_| Ok(9)).await.unwrap();
    assert_eq!(replayed, Outcome::Done { value: 1, replayed: true });
    assert!(ow.once("running").peek::<i32>().await.unwrap().unwrap().is_uncertain());
    assert_eq!(ow.once("since").peek::<i32>().await.unwrap(), None, "outcomes since the dump are gone");
}

/// N36, L5: the connection that renews is ended, again and again, under a lease of two seconds. It is made again in
/// time: the lease never stops being valid.
#[tokio::test(flavor = "multi_thread")]
async fn n36_a_lease_outlives_the_connection_that_renews_it() {
    let schema = Schema::migrated().await;
    let name = format!("held {}", schema.name());
    let options = Onceward::options().application_name(&name);
    let ow = options.connect(schema.url()).await.unwrap();
    let lease = ow.lease("k").ttl(Duration::from_secs(2)).acquire().await.unwrap().unwrap();
    let admin = schema.client().await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
    let began = std::time::Instant::now();
    let (mut renewed, mut ended) = (0, 0);
    while began.elapsed() < Duration::from_secs(3) {
        let before = lease.expires_at();
        ended += admin.query(end, &[&name]).await.unwrap().len();
        // Until it has been renewed on another one.
        while lease.expires_at() <= before {
            assert!(lease.is_valid(), "{:?}", lease.lost_because());
            sleep(Duration::from_millis(10)).await;
        }
        renewed += 1;
    }
    assert!(lease.is_valid() && renewed >= 2 && ended >= renewed, "{ended} ended, {renewed} renewed");
    assert!(lease.release().await.unwrap());
}

/// N30: pgbouncer in transaction mode with two connections to the server, and fifty clients, who are all served.
/// Whoever does not say that a pooler stands in between is refused when he connects, and not in the middle of his
/// work.
#[tokio::test(flavor = "multi_thread")]
async fn n30_fifty_clients_share_two_connections_of_a_pooler() {
    let schema = Schema::migrated().await;
    let pooled = format!("{}?schema={}", support::shared().pgbouncer, schema.name());
    let mut clients = Vec::new();
    for number in 0..50 {
        let url = format!("{pooled}&pooler=transaction");
        clients.push(tokio::spawn(async move {
            let ow = Onceward::options().deadline(Duration::from_secs(60)).connect(&url).await.unwrap();
            for round in 0..2 {
                let lease = ow.lease(format!("k{number}")).acquire().await.unwrap().unwrap();
                let done = ow.once(format!("o{number} {round}")).run(async |_| Ok(number)).await.unwrap();
                assert_eq!(done, Outcome::Done { value: number, replayed: false });
                assert!(lease.release().await.unwrap());
            }
            ow.shutdown().await;
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    let unsaid = Onceward::options().deadline(Duration::from_secs(2)).connect(&pooled).await;
    let error = unsaid.map(drop).unwrap_err();
    assert!(!error.is_uncertain() && error.message().contains("pooler=transaction"), "{error:?}");
}
