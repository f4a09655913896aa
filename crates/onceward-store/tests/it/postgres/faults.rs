//! PostgreSQL fails under us: killed, restarted, cut off, read-only, silent. Clients come back by themselves, and
//! nothing is said that is not known.

use core::time::Duration;
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use crate::support::{Fresh, Proxy, Server, ask, claim_of, key, once_ask};
use onceward_core::once::{Body, Ending, Settle, State};
use onceward_core::{Code, Error, Namespace, Token, lease};
use onceward_store::postgres::PostgresStore;
use onceward_store::url::{PostgresAt, StoreUrl};
use onceward_store::{Acquired, Claimed, KeyRef, OpenOptions, ReleaseLease, Renew, SettleOnce, Store, Wake};
use tokio::time::{sleep, timeout};

const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn key_ref(name: &str) -> KeyRef {
    KeyRef { namespace: Namespace::default(), key: key(name) }
}

async fn acquire(store: &dyn Store, ask: &lease::Ask) -> Result<Acquired, Error> {
    store.lease_acquire(std::slice::from_ref(ask)).await.map(|mut answers| answers.remove(0))
}

/// A store behind a proxy, that gives up soon.
async fn behind(proxy: &Proxy, fresh: &Fresh, deadline: Duration) -> PostgresStore {
    let at = PostgresAt { dsn: proxy.url(), ..fresh.at() };
    PostgresStore::open(&at, OpenOptions { deadline, ..fresh.options.clone() }).await.unwrap()
}

/// What one worker did that was acknowledged.
#[derive(Default)]
struct Ledger {
    /// The tokens it was granted, key by key, in order.
    tokens: BTreeMap<String, Vec<Token>>,
    /// The keys whose outcome was acknowledged.
    done: Vec<String>,
}

/// How many outcomes were acknowledged so far, by all workers.
static DONE: AtomicUsize = AtomicUsize::new(0);

/// Works until told to stop; whatever fails is asked again with the same session, as the client does.
async fn work(store: Arc<dyn Store>, worker: usize, stop: Arc<AtomicBool>) -> Ledger {
    let mut ledger = Ledger::default();
    for round in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let lease = ask(&format!("lease {}", round % 3), Duration::from_secs(2));
        match acquire(&*store, &lease).await {
            Ok(Acquired::Granted(row)) => {
                ledger.tokens.entry(row.key.to_string()).or_default().push(row.token);
                let (namespace, key, token) = (row.namespace, row.key, row.token);
                // Not released is only closed for its ttl.
                let _ = store
                    .lease_release(&[ReleaseLease {
                        namespace,
                        key,
                        token,
                        reason: None,
                        place: onceward_core::Place::default(),
                    }])
                    .await;
            }
            Ok(Acquired::Held { .. }) => {}
            Err(error) => expected(&error),
        }
        let name = format!("once {worker} {round}");
        if settled(&*store, &name).await {
            ledger.done.push(name);
            DONE.fetch_add(1, Ordering::SeqCst);
        }
    }
    ledger
}

/// Waits until more is acknowledged than is now. A server that is back soon enough is no failure for anybody, so
/// failures say nothing about whether it was under load.
async fn served() {
    let before = DONE.load(Ordering::SeqCst);
    let look = async {
        while DONE.load(Ordering::SeqCst) == before {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), look).await.unwrap();
}

pub(super) async fn settled(store: &dyn Store, name: &str) -> bool {
    let asked = once_ask(name, MINUTE);
    for _ in 0..20 {
        let token = match store.once_claim(std::slice::from_ref(&asked)).await {
            Ok(claimed) => match &claimed[0] {
                Claimed::Granted(row) => row.token,
                other => panic!("{name} is ours alone: {other:?}"),
            },
            Err(error) => {
                expected(&error);
                continue;
            }
        };
        let ending = Ending::Done(Body::new(name.as_bytes().to_vec(), "text/plain"));
        let settle = SettleOnce {
            namespace: Namespace::default(),
            key: key(name),
            token,
            ending,
            place: onceward_core::Place::default(),
        };
        for _ in 0..20 {
            match store.once_settle(std::slice::from_ref(&settle)).await {
                Ok(answers) => {
                    assert!(
                        matches!(answers[0], Settle::Applied { .. } | Settle::Already),
                        "{name}: {answers:?}"
                    );
                    return true;
                }
                Err(error) => expected(&error),
            }
        }
    }
    false
}

/// What a store may say of a server that has died.
fn expected(error: &Error) {
    let expected = [Code::StoreUnavailable, Code::CommitUnknown, Code::StoreBusy];
    assert!(expected.contains(&error.code()), "{error:?}");
    assert_eq!(error.is_uncertain(), error.code() == Code::CommitUnknown, "{error:?}");
}

/// N21, N36: killed or restarted at random under load. What was acknowledged is there; tokens only grow; nobody opens
/// the store anew.
#[tokio::test(flavor = "multi_thread")]
async fn n21_a_killed_server_costs_nothing_that_was_acknowledged() {
    let mut server = Server::start();
    let fresh = Fresh::on(&server.url()).await;
    let store = fresh.store().await;
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..4).map(|n| tokio::spawn(work(store.clone(), n, stop.clone()))).collect();
    for round in 0..4 {
        sleep(Duration::from_millis(300)).await;
        served().await;
        tokio::task::block_in_place(|| if round % 2 == 0 { server.kill() } else { server.stop() });
        sleep(Duration::from_millis(100)).await;
        tokio::task::block_in_place(|| server.start_again());
    }
    served().await;
    stop.store(true, Ordering::SeqCst);
    let (mut tokens, mut done) = (BTreeMap::<String, Vec<Token>>::new(), Vec::new());
    for worker in workers {
        let ledger = worker.await.unwrap();
        for (key, granted) in ledger.tokens {
            assert!(granted.is_sorted_by(|a, b| a < b), "L1: {granted:?}");
            tokens.entry(key).or_default().extend(granted);
        }
        done.extend(ledger.done);
    }
    assert!(done.len() > 20, "{} outcomes", done.len());
    for (key, mut granted) in tokens {
        let count = granted.len();
        granted.sort_unstable();
        granted.dedup();
        assert_eq!(granted.len(), count, "L1: {key} was granted twice under one token");
    }
    for name in done {
        let row = store.once_lookup(&[key_ref(&name)]).await.unwrap().rows.remove(0);
        let row = row.unwrap_or_else(|| panic!("{name} was acknowledged and is gone"));
        assert_eq!((row.state, row.attempts), (State::Done, 1), "{name}");
        assert_eq!(row.body.unwrap().bytes.unwrap(), name.as_bytes());
    }
}

/// N22, L7: the answer of a write is lost. Nobody says that it worked or that it did not; the same ask finds its grant.
#[tokio::test(flavor = "multi_thread")]
async fn n22_a_lost_answer_is_unknown_and_found_again() {
    let server = Server::start();
    let fresh = Fresh::on(&server.url()).await;
    let proxy = Proxy::before(server.port()).await;
    let store = behind(&proxy, &fresh, Duration::from_secs(5)).await;
    let warm = ask("warm", MINUTE);
    acquire(&store, &warm).await.unwrap();

    let asked = ask("k", MINUTE);
    proxy.hold_answers(true);
    let (lost, ()) = tokio::join!(acquire(&store, &asked), async {
        sleep(Duration::from_millis(200)).await;
        proxy.cut();
    });
    proxy.hold_answers(false);
    let error = lost.unwrap_err();
    assert_eq!((error.code(), error.verb()), (Code::CommitUnknown, Some("lease.acquire")));
    assert!(error.is_uncertain() && error.is_retryable());
    // It had taken effect: somebody else is refused, and the same ask adopts.
    assert!(matches!(acquire(&store, &ask("k", MINUTE)).await.unwrap(), Acquired::Held { .. }));
    let Acquired::Granted(row) = acquire(&store, &asked).await.unwrap() else { panic!("not adopted") };
    assert_eq!(row.session, asked.session);

    // A question that never reached the server is as unknown.
    let asked = ask("other", MINUTE);
    proxy.hold_questions(true);
    let (lost, ()) = tokio::join!(acquire(&store, &asked), async {
        sleep(Duration::from_millis(200)).await;
        proxy.cut();
    });
    proxy.hold_questions(false);
    assert!(lost.unwrap_err().is_uncertain());
    assert!(matches!(acquire(&store, &asked).await.unwrap(), Acquired::Granted(_)));
}

/// N37, N38: silence in one direction or both ends at the deadline, and heals by itself.
#[tokio::test(flavor = "multi_thread")]
async fn n37_a_silent_connection_is_given_up_at_the_deadline() {
    let server = Server::start();
    let fresh = Fresh::on(&server.url()).await;
    let proxy = Proxy::before(server.port()).await;
    let deadline = Duration::from_secs(1);
    let store = behind(&proxy, &fresh, deadline).await;
    let Acquired::Granted(row) = acquire(&store, &ask("k", MINUTE)).await.unwrap() else { panic!("held") };
    let claim = claim_of(&row);
    store.lease_renew(std::slice::from_ref(&claim)).await.unwrap();
    for (name, silence) in
        [("answers", Proxy::hold_answers as fn(&Proxy, bool)), ("questions", Proxy::hold_questions)]
    {
        silence(&proxy, true);
        let (began, other) = (Instant::now(), ask(name, MINUTE));
        let (write, read, renewal) = tokio::join!(
            acquire(&store, &other),
            store.once_lookup(&[]),
            store.lease_renew(std::slice::from_ref(&claim)),
        );
        assert!(began.elapsed() < deadline * 3, "{name}: {:?}", began.elapsed());
        assert_eq!(write.unwrap_err().code(), Code::CommitUnknown, "{name}");
        assert_eq!(read.unwrap_err().code(), Code::StoreUnavailable, "{name}");
        assert!(renewal.unwrap_err().is_uncertain(), "{name}");
        silence(&proxy, false);
        let renewed = store.lease_renew(std::slice::from_ref(&claim)).await.unwrap();
        assert!(matches!(renewed[..], [Renew::Until(_)]), "{name}");
        // Whether it has arrived or not, the same ask gets it.
        assert!(matches!(acquire(&store, &other).await.unwrap(), Acquired::Granted(_)), "{name}");
    }
}

/// N36: connections are ended behind our back. An idle one is made again without anybody noticing.
#[tokio::test(flavor = "multi_thread")]
async fn n36_ended_connections_are_made_again() {
    let server = Server::start();
    let fresh = Fresh::on(&server.url()).await;
    let store = fresh.store().await;
    let mut wakes = store.subscribe();
    assert!(matches!(timeout(MINUTE, wakes.recv()).await.unwrap().unwrap(), Wake::Anything));
    let Acquired::Granted(row) = acquire(&*store, &ask("k", MINUTE)).await.unwrap() else { panic!("held") };
    let client = fresh.client().await;
    let end_all = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE application_name = 'onceward tests' AND pid <> pg_backend_pid()";
    for _ in 0..3 {
        let ended: i64 = client.query_one(end_all, &[]).await.unwrap().get(0);
        assert!(ended >= 2, "{ended} connections");
        sleep(Duration::from_millis(100)).await;
        assert!(matches!(store.lease_renew(&[claim_of(&row)]).await.unwrap()[..], [Renew::Until(_)]));
        assert!(matches!(acquire(&*store, &ask("k", MINUTE)).await.unwrap(), Acquired::Held { .. }));
        store.once_lookup(&[key_ref("x")]).await.unwrap();
        // Listening begins anew, and says so: something may have been missed.
        assert!(matches!(timeout(MINUTE, wakes.recv()).await.unwrap().unwrap(), Wake::Anything));
    }
}

/// N29: the server becomes read-only under us, as an old primary does. Refused, told, and healed by itself.
#[tokio::test(flavor = "multi_thread")]
async fn n29_a_server_that_becomes_read_only_is_told_and_left() {
    let server = Server::start();
    let fresh = Fresh::on(&server.url()).await;
    let options = OpenOptions { deadline: Duration::from_secs(1), ..fresh.options.clone() };
    let store = PostgresStore::open(&fresh.at(), options).await.unwrap();
    acquire(&store, &ask("a", MINUTE)).await.unwrap();
    let client = fresh.client().await;
    let set = async |to: &str| {
        client
            .batch_execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {to}"))
            .await
            .unwrap();
        client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        let shown = async || -> String {
            fresh.client().await.query_one("SHOW default_transaction_read_only", &[]).await.unwrap().get(0)
        };
        while shown().await != to {
            sleep(Duration::from_millis(20)).await;
        }
    };
    set("on").await;
    for name in ["b", "c"] {
        let error = acquire(&store, &ask(name, MINUTE)).await.unwrap_err();
        assert_eq!(error.code(), Code::StoreReadOnly, "{error:?}");
        assert!(!error.is_uncertain());
    }
    set("off").await;
    // A link that was refused pauses before it knocks again, for longer than one call tries.
    for _ in 0..20 {
        match acquire(&store, &ask("b", MINUTE)).await {
            Ok(acquired) => return assert!(matches!(acquired, Acquired::Granted(_)), "{acquired:?}"),
            Err(error) => assert_eq!(error.code(), Code::StoreReadOnly, "{error:?}"),
        }
    }
    panic!("the server takes writes again, and the store does not notice");
}

/// N27: a commit that waits for a standby is cancelled. PostgreSQL answers as if all were well, with a warning; it has
/// happened here and may be lost with this server.
#[tokio::test(flavor = "multi_thread")]
async fn n27_a_commit_that_no_standby_has_confirmed_is_unknown() {
    let server = Server::start();
    let fresh = Fresh::on(&server.url()).await;
    let store = fresh.store().await;
    acquire(&*store, &ask("warm", MINUTE)).await.unwrap();
    let client = fresh.client().await;
    client.batch_execute("SET synchronous_commit = local").await.unwrap();
    client.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    sleep(Duration::from_millis(200)).await;
    let asked = ask("k", MINUTE);
    let cancel = async {
        let text = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        while client.query(text, &[]).await.unwrap().is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let (answer, ()) = tokio::join!(acquire(&*store, &asked), cancel);
    let error = answer.unwrap_err();
    assert_eq!((error.code(), error.is_uncertain()), (Code::CommitUnknown, true), "{error:?}");
    client.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    sleep(Duration::from_millis(200)).await;
    let Acquired::Granted(row) = acquire(&*store, &asked).await.unwrap() else { panic!("not adopted") };
    assert_eq!(row.session, asked.session);
}

/// Leases with several holders, on different keys, are asked for without waiting for each other's answers.
#[tokio::test(flavor = "multi_thread")]
async fn counted_leases_of_a_batch_are_asked_for_together() {
    let fresh = Fresh::new().await;
    let proxy = Proxy::before(fresh.port()).await;
    let store = Arc::new(behind(&proxy, &fresh, MINUTE).await);
    let batch = |name: &str| -> Vec<lease::Ask> {
        (0..8).map(|n| lease::Ask { capacity: 3, ..ask(&format!("{name} {n}"), MINUTE) }).collect()
    };
    // Connections are made and statements prepared.
    store.lease_acquire(&batch("warm")).await.unwrap();
    proxy.hold_answers(true);
    let asked = tokio::spawn({
        let (store, batch) = (Arc::clone(&store), batch("k"));
        async move { store.lease_acquire(&batch).await }
    });
    let count = format!("SELECT count(*) FROM {}.lease WHERE starts_with(key, 'k')", fresh.schema);
    let client = fresh.client().await;
    let granted = timeout(Duration::from_secs(20), async {
        while client.query_one(&count, &[]).await.unwrap().get::<_, i64>(0) < 8 {
            sleep(Duration::from_millis(5)).await;
        }
    });
    granted.await.expect("all have arrived before the first was answered");
    proxy.hold_answers(false);
    let answers = asked.await.unwrap().unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Acquired::Granted(_))), "{answers:?}");
}

/// N26, L1, E6: a standby that lags takes over from a primary that is gone for good, with everything it had confirmed
/// since. Its tokens are larger than those that were lost; what was done meanwhile is not there (a boundary that
/// `promises.md` names), and no cache tells of it.
#[tokio::test(flavor = "multi_thread")]
async fn n26_a_standby_that_lacks_what_was_confirmed_gives_out_larger_tokens() {
    let mut primary = Server::start();
    let fresh = Fresh::on(&primary.url()).await;
    let old = fresh.store().await;
    let short = Duration::from_millis(200);
    let grant = async |store: &dyn Store| loop {
        if let Acquired::Granted(row) = acquire(store, &ask("k", short)).await.unwrap() {
            break row.token;
        }
        sleep(Duration::from_millis(20)).await;
    };
    let first = grant(&*old).await;
    let standby = tokio::task::block_in_place(|| Server::standby_of(&primary));
    let there = crate::support::connect(&standby.url()).await;
    let asked = async |text: &str| there.query(text, &[]).await.unwrap().len();
    // It hears of nothing any more.
    there.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").await.unwrap();
    asked("SELECT pg_reload_conf()").await;
    while asked("SELECT FROM pg_stat_wal_receiver").await > 0 {
        sleep(Duration::from_millis(20)).await;
    }
    let lost = [grant(&*old).await, grant(&*old).await, grant(&*old).await];
    assert!(settled(&*old, "done and lost").await);
    tokio::task::block_in_place(|| primary.kill());
    asked("SELECT pg_promote()").await;
    let new =
        PostgresStore::open(&PostgresAt { dsn: standby.url(), ..fresh.at() }, fresh.options.clone()).await;
    let new = new.unwrap();
    let held = new.lease_lookup(&key_ref("k")).await.unwrap().rows.remove(0).token;
    assert_eq!(held, first, "it lacks the last three");
    assert!(new.once_lookup(&[key_ref("done and lost")]).await.unwrap().rows[0].is_none());
    assert_ne!(new.epoch(), old.epoch(), "and caches end");
    let next = grant(&new).await;
    assert!(lost.iter().all(|token| *token < next), "{next} after {lost:?}");
}

/// N15, N28, N29: a standby is refused until it is promoted; then its tokens are larger, caches end, and the old
/// primary is refused although it still takes writes.
#[tokio::test(flavor = "multi_thread")]
async fn n28_a_promoted_standby_is_followed_and_the_old_primary_left() {
    let primary = Server::start();
    let fresh = Fresh::on(&primary.url()).await;
    let old = fresh.store().await;
    let short = Duration::from_millis(500);
    let Acquired::Granted(before) = acquire(&*old, &ask("k", short)).await.unwrap() else { panic!("held") };
    let standby = tokio::task::block_in_place(|| Server::standby_of(&primary));
    let there = PostgresAt { dsn: standby.url(), ..fresh.at() };
    let options = OpenOptions { deadline: Duration::from_secs(2), ..fresh.options.clone() };
    let error = PostgresStore::open(&there, options.clone()).await.map(drop).unwrap_err();
    assert_eq!(error.code(), Code::StoreReadOnly, "{error}");

    crate::support::connect(&standby.url()).await.batch_execute("SELECT pg_promote()").await.unwrap();
    let new = PostgresStore::open(&there, options.clone()).await.unwrap();
    assert_ne!(new.epoch(), old.epoch(), "a promotion may have lost commits");
    sleep(short).await;
    let Acquired::Granted(after) = acquire(&new, &ask("k", short)).await.unwrap() else { panic!("held") };
    assert!(after.token > before.token);

    let error = PostgresStore::open(&fresh.at(), options).await.map(drop).unwrap_err();
    assert_eq!(error.code(), Code::TimelineBehind, "{error}");
    let findings = old.check().await.unwrap();
    assert!(findings.iter().any(|finding| finding.code == Some(Code::TimelineBehind)), "{findings:?}");
}

/// N32: nobody answers at all.
#[tokio::test(flavor = "multi_thread")]
async fn n32_an_absent_server_is_told_at_the_deadline() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://bob:s3cret@127.0.0.1:{port}/x");
    let StoreUrl::Postgres(at) = StoreUrl::parse(&url).unwrap() else { panic!("{url}") };
    let options = OpenOptions { deadline: Duration::from_millis(500), ..OpenOptions::default() };
    let began = Instant::now();
    let error = PostgresStore::open(&at, options).await.map(drop).unwrap_err();
    assert_eq!((error.code(), error.is_uncertain()), (Code::StoreUnavailable, false));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(error.message().contains("127.0.0.1") && !format!("{error:?}").contains("s3cret"), "{error:?}");
}

/// N32: the server has no connection left for us (53300). That is told in time, with a code, and over when there is
/// one.
#[tokio::test(flavor = "multi_thread")]
async fn n32_a_server_without_a_free_connection_is_told_and_come_back_to() {
    let server =
        Server::start_with(&["max_connections=12", "superuser_reserved_connections=0", "max_wal_senders=0"]);
    let fresh = Fresh::on(&server.url()).await;
    let mut others = Vec::new();
    while let Ok((client, connection)) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await {
        tokio::spawn(connection);
        others.push(client);
    }
    let options = OpenOptions { deadline: Duration::from_secs(1), ..fresh.options.clone() };
    let began = Instant::now();
    let error = PostgresStore::open(&fresh.at(), options).await.map(drop).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(matches!(error.code(), Code::StoreBusy | Code::StoreUnavailable), "{error:?}");
    assert!(error.is_retryable() && !error.is_uncertain(), "{error:?}");
    drop(others);
    let store = fresh.store().await;
    assert!(matches!(acquire(&*store, &ask("k", MINUTE)).await.unwrap(), Acquired::Granted(_)));
}

/// A store outlives the runtime that made its connections; renewals come from a thread of their own.
#[test]
fn connections_end_with_their_runtime_and_are_made_again() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (store, claim) = runtime().block_on(async {
        let store = Fresh::new().await.store().await;
        let Acquired::Granted(row) = acquire(&*store, &ask("k", MINUTE)).await.unwrap() else {
            panic!("held")
        };
        let claim = claim_of(&row);
        assert!(matches!(
            store.lease_renew(std::slice::from_ref(&claim)).await.unwrap()[..],
            [Renew::Until(_)]
        ));
        (store, claim)
    });
    // The runtime of the connections is gone, the store is not.
    for _ in 0..2 {
        let (store, claim) = (store.clone(), claim.clone());
        let renewals = std::thread::spawn(move || {
            runtime().block_on(async {
                for _ in 0..5 {
                    let answers = store.lease_renew(std::slice::from_ref(&claim)).await.unwrap();
                    assert!(matches!(answers[..], [Renew::Until(_)]), "{answers:?}");
                }
            });
        });
        renewals.join().unwrap();
    }
    runtime().block_on(async {
        assert!(matches!(acquire(&*store, &ask("k", MINUTE)).await.unwrap(), Acquired::Held { .. }));
        store.close().await;
        let error = acquire(&*store, &ask("k", MINUTE)).await.unwrap_err();
        assert_eq!(error.code(), Code::StoreClosed);
    });
}

/// A certificate authority and a server's certificate for `localhost`, made by openssl.
fn certificates(folder: &std::path::Path) {
    let openssl = |arguments: &str| {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace()).current_dir(folder);
        let output = command.output().expect("openssl is installed");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=Onceward-tests");
    openssl("req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost");
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile names",
    );
}

/// S46: verified or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn s46_tls_is_verified_or_refused() {
    let (mut server, plain) = (Server::start(), Server::start());
    certificates(server.folder());
    server.own("server.key");
    server.stop();
    server.set(&["ssl=on", "ssl_cert_file=../server.pem", "ssl_key_file=../server.key"]);
    server.start_again();
    let fresh = Fresh::on(&server.url()).await;
    let root = server.folder().join("ca.pem").display().to_string();
    let open = async |server: &str, parameters: &str| {
        let url = format!("{server}?schema={}{parameters}", fresh.schema);
        let StoreUrl::Postgres(at) = StoreUrl::parse(&url).unwrap() else { panic!("{url}") };
        let options = OpenOptions { deadline: Duration::from_secs(5), ..fresh.options.clone() };
        PostgresStore::open(&at, options).await.map(drop)
    };
    let by_name = server.url().replace("127.0.0.1", "localhost");
    let rooted = format!("&sslrootcert={root}");
    for mode in ["verify-full", "require", "prefer"] {
        open(&by_name, &format!("{rooted}&sslmode={mode}")).await.unwrap();
        // The certificate is for another name.
        let error = open(&server.url(), &format!("{rooted}&sslmode={mode}")).await.unwrap_err();
        assert_eq!(error.code(), Code::TlsFailed, "{mode}: {error}");
        assert!(error.message().contains("sslrootcert"), "{error}");
    }
    // An authority that nobody trusts.
    let error = open(&by_name, "&sslmode=require").await.unwrap_err();
    assert_eq!(error.code(), Code::TlsFailed, "{error}");
    open(&by_name, "&sslmode=disable").await.unwrap();
    // A server that offers no TLS.
    let error = open(&plain.url(), &format!("{rooted}&sslmode=require")).await.unwrap_err();
    assert!(error.code() == Code::TlsFailed && error.message().contains("sslmode=disable"), "{error}");
    let error = open(&plain.url(), &format!("{rooted}&sslmode=prefer")).await.unwrap_err();
    assert_eq!(error.code(), Code::SchemaBehind, "it connected: {error}");
}
