//! Migrating a PostgreSQL schema, and what the self-check refuses.

use core::time::Duration;

use crate::support::{Fresh, Proxy, Server, ask, fresh_name, shared};
use onceward_core::{Code, Error};
use onceward_store::migrate::Migrator;
use onceward_store::postgres::{PostgresMigrator, PostgresStore};
use onceward_store::url::PostgresAt;
use onceward_store::{Finding, OpenOptions, Severity, Store};
use tokio::time::sleep;

/// The newest migration.
const LAST: u32 = 13;

async fn refused(fresh: &Fresh) -> Error {
    match fresh.try_store().await {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

fn options() -> OpenOptions {
    OpenOptions { deadline: Duration::from_secs(5), ..OpenOptions::default() }
}

/// The same place through another DSN.
fn through(fresh: &Fresh, dsn: String) -> PostgresAt {
    PostgresAt { redacted: "postgres://tests".to_owned(), dsn, ..fresh.at() }
}

/// The DSN with start-up options.
fn with_options(options: &str) -> String {
    format!("{}?options={}", shared().postgres, options.replace(' ', "%20").replace('=', "%3D"))
}

fn finding<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
    findings
        .iter()
        .find(|finding| finding.check == check)
        .unwrap_or_else(|| panic!("no {check} in {findings:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_goes_up_and_down_and_up_again() {
    let fresh = Fresh::unmigrated(&shared().postgres).await;
    let migrator = fresh.migrator().await;
    assert_eq!(migrator.status().await.unwrap().pending.len(), LAST as usize);
    let error = refused(&fresh).await;
    assert_eq!(error.code(), Code::SchemaBehind);
    assert!(error.message().contains("onceward migrate up --store"), "{error}");
    assert!(error.message().contains(&format!("schema={}", fresh.schema)), "{error}");
    assert_eq!(migrator.up(Some(1)).await.unwrap(), [1]);
    let error = refused(&fresh).await;
    assert!(error.code() == Code::SchemaBehind && error.message().contains("0002_once"), "{error}");
    assert_eq!(migrator.up(None).await.unwrap(), (2..=LAST).collect::<Vec<_>>());
    assert_eq!(migrator.up(None).await.unwrap(), [0; 0]);
    let store = fresh.store().await;
    assert!(store.check().await.unwrap().iter().all(|finding| finding.severity == Severity::Ok));
    let status = migrator.status().await.unwrap();
    assert_eq!(
        status.applied.iter().map(|row| row.version).collect::<Vec<_>>(),
        (1..=LAST).collect::<Vec<_>>()
    );
    assert!(status.pending.is_empty() && status.applied[0].applied_at.as_micros() > 0);
    assert_eq!(migrator.down(1).await.unwrap(), (2..=LAST).rev().collect::<Vec<_>>());
    assert_eq!(migrator.down(0).await.unwrap(), [1]);
    assert_eq!(migrator.down(0).await.unwrap(), [0; 0]);
    assert_eq!(migrator.up(None).await.unwrap(), (1..=LAST).collect::<Vec<_>>());
    fresh.store().await;
}

/// A migration is a transaction, so it may go through a transaction pooler as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_migrated_through_a_pooler() {
    let fresh = Fresh { pooled: true, ..Fresh::unmigrated(&shared().postgres).await };
    let migrator = PostgresMigrator::open(&fresh.at(), fresh.options.clone()).await.unwrap();
    assert_eq!(migrator.up(None).await.unwrap(), (1..=LAST).collect::<Vec<_>>());
    assert_eq!(migrator.down(1).await.unwrap(), (2..=LAST).rev().collect::<Vec<_>>());
    assert_eq!(migrator.up(None).await.unwrap(), (2..=LAST).collect::<Vec<_>>());
    fresh.store().await;
}

/// N42: two servers start at once.
#[tokio::test(flavor = "multi_thread")]
async fn n42_many_runners_at_once_apply_each_migration_once() {
    let fresh = Fresh::unmigrated(&shared().postgres).await;
    let run = |migrator: PostgresMigrator| tokio::spawn(async move { migrator.up(None).await });
    let mut runners = Vec::new();
    for _ in 0..4 {
        runners.push(run(fresh.migrator().await));
    }
    let mut applied = Vec::new();
    for runner in runners {
        applied.extend(runner.await.unwrap().unwrap());
    }
    applied.sort_unstable();
    assert_eq!(applied, (1..=LAST).collect::<Vec<_>>());
    fresh.store().await;
}

/// N42: a runner that dies half way leaves the schema as it was, and the next one goes on.
#[tokio::test(flavor = "multi_thread")]
async fn n42_a_migration_killed_half_way_is_done_anew() {
    let fresh = Fresh::unmigrated(&shared().postgres).await;
    fresh.migrator().await.up(Some(1)).await.unwrap();
    let mut other = fresh.client().await;
    let tx = other.transaction().await.unwrap();
    // The second migration writes history; it gets as far as this lock lets it.
    tx.batch_execute(&format!("LOCK TABLE {}.migration IN SHARE MODE", fresh.schema)).await.unwrap();
    let migrator = fresh.migrator().await;
    let running = tokio::spawn(async move { migrator.up(None).await });
    let victim = "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid
                  WHERE NOT l.granted AND l.relation = to_regclass($1::text)";
    let name = format!("{}.migration", fresh.schema);
    let killer = fresh.client().await;
    while killer.query(victim, &[&name]).await.unwrap().is_empty() {
        sleep(Duration::from_millis(20)).await;
    }
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::CommitUnknown, "{error:?}");
    tx.rollback().await.unwrap();
    let migrator = fresh.migrator().await;
    assert_eq!(migrator.status().await.unwrap().pending.len(), LAST as usize - 1);
    assert_eq!(migrator.up(None).await.unwrap(), (2..=LAST).collect::<Vec<_>>());
    fresh.store().await;
}

/// N25: a COMMIT that the server answers by a rollback is no success.
#[tokio::test(flavor = "multi_thread")]
async fn n25_a_migration_whose_commit_was_a_rollback_is_not_applied() {
    let fresh = Fresh::unmigrated(&shared().postgres).await;
    let proxy = Proxy::before(fresh.port()).await;
    let migrator = PostgresMigrator::open(&through(&fresh, proxy.url()), options()).await.unwrap();
    assert_eq!(migrator.up(Some(2)).await.unwrap(), [1, 2]);
    proxy.ask_instead("COMMIT", "ROLLBACK");
    let error = migrator.up(None).await.unwrap_err();
    assert_eq!(error.code(), Code::StoreFailed);
    assert!(error.message().contains("rolled migration 0003_job back"), "{error}");
    proxy.ask_instead("COMMIT", "ROLLBACK");
    let error = migrator.down(1).await.unwrap_err();
    assert!(error.message().contains("rolled migration 0002_once back"), "{error}");
    assert_eq!(migrator.status().await.unwrap().applied.len(), 2);
    assert_eq!(migrator.up(None).await.unwrap(), (3..=LAST).collect::<Vec<_>>());
    fresh.store().await;
}

/// A step that fails takes its whole migration back, and none before it.
#[tokio::test(flavor = "multi_thread")]
async fn n42_a_migration_in_whose_place_something_stands_changes_nothing() {
    let fresh = Fresh::unmigrated(&shared().postgres).await;
    fresh.run("CREATE TABLE {schema}.once_doubted (mine int)").await;
    let migrator = fresh.migrator().await;
    let error = migrator.up(None).await.unwrap_err();
    assert_eq!((error.code(), error.verb()), (Code::SchemaObjectForeign, Some("migrate")), "{error}");
    let status = migrator.status().await.unwrap();
    assert_eq!((status.applied.len(), status.pending.len()), (1, LAST as usize - 1));
    fresh.run("DROP TABLE {schema}.once_doubted").await;
    assert_eq!(migrator.up(None).await.unwrap(), (2..=LAST).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn n42_a_schema_one_version_ahead_is_lived_with_and_a_changed_one_is_not() {
    let fresh = Fresh::new().await;
    let ahead = |version| {
        format!("INSERT INTO {{schema}}.migration (version, name, checksum) VALUES ({version}, 'later', 'x')")
    };
    fresh.run(&ahead(LAST + 1)).await;
    fresh.store().await;
    let error = fresh.migrator().await.down(0).await.unwrap_err();
    assert_eq!(error.code(), Code::SchemaAhead, "it does not know how to undo what it does not know");
    fresh.run(&ahead(LAST + 2)).await;
    assert_eq!(refused(&fresh).await.code(), Code::SchemaAhead);
    fresh.run(&format!("DELETE FROM {{schema}}.migration WHERE version > {LAST}")).await;
    fresh.run("UPDATE {schema}.migration SET checksum = 'x' WHERE version = 1").await;
    assert_eq!(refused(&fresh).await.code(), Code::MigrationChanged);
}

/// S22: a schema may be called what SQL keeps for itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_may_have_a_reserved_word_for_its_name() {
    let server = Server::start();
    let dsn = server.url();
    for schema in ["select", "user", "_"] {
        let at = PostgresAt {
            dsn: dsn.clone(),
            redacted: dsn.clone(),
            schema: schema.to_owned(),
            pooler: false,
            sslmode: None,
            sslrootcert: None,
        };
        PostgresMigrator::open(&at, options()).await.unwrap().up(None).await.unwrap();
        let store = PostgresStore::open(&at, options()).await.unwrap();
        store.lease_acquire(&[ask("k", Duration::from_secs(10))]).await.unwrap();
        let fence = format!("SELECT \"{schema}\".fence('default', 'k', 1)");
        let error = crate::support::connect(&dsn).await.batch_execute(&fence).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "OW203");
    }
}

/// N46: what others have put on our tables is found at the start, not in the middle of the night.
#[tokio::test(flavor = "multi_thread")]
async fn n46_foreign_objects_are_found() {
    let fresh = Fresh::new().await;
    let cases = [
        (
            "CREATE FUNCTION {schema}.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
             CREATE TRIGGER mine BEFORE UPDATE ON {schema}.lease FOR EACH ROW EXECUTE FUNCTION {schema}.f()",
            "DROP TRIGGER mine ON {schema}.lease",
            "trigger",
        ),
        (
            "CREATE TABLE {schema}.mine (n text COLLATE \"C\", k text COLLATE \"C\",
                                         FOREIGN KEY (n, k) REFERENCES {schema}.once (namespace, key))",
            "DROP TABLE {schema}.mine",
            "foreign key",
        ),
        (
            "ALTER TABLE {schema}.history RENAME TO history_table;
             CREATE VIEW {schema}.history AS SELECT * FROM {schema}.history_table",
            "DROP VIEW {schema}.history; ALTER TABLE {schema}.history_table RENAME TO history",
            "no table",
        ),
        (
            "ALTER TABLE {schema}.lease_waiter RENAME TO waiter",
            "ALTER TABLE {schema}.waiter RENAME TO lease_waiter",
            "missing",
        ),
    ];
    for (make, unmake, word) in cases {
        fresh.run(make).await;
        let error = refused(&fresh).await;
        assert_eq!(error.code(), Code::SchemaObjectForeign, "{word}: {error}");
        assert!(error.message().contains(word), "{word}: {error}");
        fresh.run(unmake).await;
        fresh.store().await;
    }
}

/// N46: a role without rights is told which.
#[tokio::test(flavor = "multi_thread")]
async fn n46_missing_rights_are_named() {
    let fresh = Fresh::new().await;
    let role = fresh_name();
    let at = through(&fresh, shared().postgres.replace("postgres@", &format!("{role}@")));
    let open = async || PostgresStore::open(&at, fresh.options.clone()).await.map(drop);
    fresh.run(&format!("CREATE ROLE {role} LOGIN")).await;
    let error = open().await.unwrap_err();
    assert!(error.code() == Code::RightsMissing && error.message().contains("USAGE"), "{error}");
    fresh.run(&format!("GRANT USAGE ON SCHEMA {{schema}} TO {role}")).await;
    let error = open().await.unwrap_err();
    assert!(error.code() == Code::RightsMissing && error.message().contains("migration"), "{error}");
    fresh.run(&format!("GRANT SELECT ON ALL TABLES IN SCHEMA {{schema}} TO {role}")).await;
    let error = open().await.unwrap_err();
    assert_eq!(error.code(), Code::RightsMissing);
    assert!(error.message().contains(&format!("DELETE, INSERT, UPDATE on {}.once", fresh.schema)), "{error}");
    fresh.run(&format!("GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {{schema}} TO {role}")).await;
    let error = open().await.unwrap_err();
    assert!(error.message().ends_with(&format!("EXECUTE on {}.let_through", fresh.schema)), "{error}");
    fresh.run(&format!("GRANT EXECUTE ON FUNCTION {{schema}}.let_through(text, text) TO {role}")).await;
    open().await.unwrap();
    // Rows hidden from us would be granted twice.
    fresh.run("ALTER TABLE {schema}.lease ENABLE ROW LEVEL SECURITY").await;
    let error = open().await.unwrap_err();
    assert!(error.message().contains("row security"), "{error}");
    // And such a role may not make the tables.
    let migrator =
        PostgresMigrator::open(&PostgresAt { schema: fresh_name(), ..at.clone() }, options()).await.unwrap();
    assert_eq!(migrator.up(None).await.unwrap_err().code(), Code::RightsMissing);
}

/// G7, N29: a database that would lose or refuse commits is refused.
#[tokio::test(flavor = "multi_thread")]
async fn n29_a_database_that_loses_or_refuses_commits_is_refused() {
    let fresh = Fresh::new().await;
    let cases = [
        ("-c synchronous_commit=off", Code::CommitNotDurable),
        ("-c default_transaction_read_only=on", Code::StoreReadOnly),
    ];
    for (setting, code) in cases {
        let at = through(&fresh, with_options(setting));
        let options = OpenOptions { deadline: Duration::from_secs(2), ..fresh.options.clone() };
        let error = PostgresStore::open(&at, options).await.map(drop).unwrap_err();
        assert_eq!(error.code(), code, "{setting}: {error}");
    }
    let server = Server::start_with(&["fsync=off"]);
    let error = refused(&Fresh::on(&server.url()).await).await;
    assert_eq!(error.code(), Code::FsyncOff, "{error}");
}

/// G7: the role's setting may change while a store is open. The next connection is refused, until it is right again.
#[tokio::test(flavor = "multi_thread")]
async fn g7_every_new_connection_is_asked_whether_its_commits_are_durable() {
    let (fresh, role) = (Fresh::new().await, fresh_name());
    fresh.run(&format!("CREATE ROLE {role} LOGIN SUPERUSER")).await;
    let at = through(&fresh, shared().postgres.replace("postgres@", &format!("{role}@")));
    let options = OpenOptions { deadline: Duration::from_secs(5), ..fresh.options.clone() };
    let store = PostgresStore::open(&at, options).await.unwrap();
    store.lease_acquire(&[ask("a", Duration::from_secs(10))]).await.unwrap();
    let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'");
    fresh.run(&format!("ALTER ROLE {role} SET synchronous_commit = off")).await;
    fresh.run(&end).await;
    let mut asked = 0..20;
    let error = loop {
        // What was sent on a connection that ends is in doubt first.
        let answer = store.lease_acquire(&[ask("b", Duration::from_secs(10))]).await;
        match answer.unwrap_err() {
            error if error.code() == Code::CommitNotDurable => break error,
            error => assert!(asked.next().is_some(), "{error:?}"),
        }
    };
    assert!(!error.is_uncertain(), "{error:?}");
    fresh.run(&format!("ALTER ROLE {role} RESET synchronous_commit")).await;
    while store.lease_acquire(&[ask("b", Duration::from_secs(10))]).await.is_err() {
        assert!(asked.next().is_some(), "it is not come back to");
    }
    store.close().await;
    fresh.run(&format!("DROP ROLE {role}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn n43_a_database_of_another_encoding_is_refused() {
    let name = fresh_name();
    let client = crate::support::connect(&shared().postgres).await;
    let text = format!("CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0");
    client.batch_execute(&text).await.unwrap();
    let server = shared()
        .postgres
        .replace("/postgres", &format!("/{name}"))
        .replace(&format!("//{name}"), "//postgres");
    let error = refused(&Fresh::on(&server).await).await;
    assert_eq!(error.code(), Code::EncodingWrong, "{error}");
}

/// N18: a clock behind the newest grant is said aloud, and opens nevertheless.
#[tokio::test(flavor = "multi_thread")]
async fn n18_a_clock_behind_the_newest_grant_is_found() {
    let fresh = Fresh::new().await;
    let store = fresh.store().await;
    fresh.advance(Duration::from_secs(3600)).await;
    store.lease_acquire(&[ask("k", Duration::from_secs(10))]).await.unwrap();
    assert_eq!(finding(&store.check().await.unwrap(), "clock").severity, Severity::Ok);
    fresh.shift(-3_600_000_000).await;
    let findings = fresh.store().await.check().await.unwrap();
    let clock = finding(&findings, "clock");
    assert_eq!((clock.severity, clock.code), (Severity::Warning, Some(Code::ClockBehind)), "{clock:?}");
}

/// W70: a password may hold whatever it likes, written as in any URL.
#[tokio::test(flavor = "multi_thread")]
async fn w70_a_password_may_hold_percent_and_at_signs() {
    let fresh = Fresh::unmigrated(&shared().postgres).await;
    let dsn = shared().postgres.replace("postgres@", "postgres:50%25%40%3A%2Fs3cret@");
    let at = through(&fresh, dsn);
    let migrator = PostgresMigrator::open(&at, fresh.options.clone()).await.unwrap();
    assert_eq!(migrator.up(None).await.unwrap(), (1..=LAST).collect::<Vec<_>>());
    PostgresStore::open(&at, fresh.options.clone()).await.unwrap();
}

/// S38: nothing that is printed holds a password.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_opened_says_why_and_not_with_which_password() {
    let fresh = Fresh::new().await;
    let with_password = shared().postgres.replace("postgres@", "nobody_of_this_name:s3cret@");
    for dsn in [
        with_password,
        shared()
            .postgres
            .replace("/postgres", "/no_such_database")
            .replace("//no_such_database", "//postgres"),
    ] {
        let error = PostgresStore::open(&through(&fresh, dsn), options()).await.map(drop).unwrap_err();
        assert_eq!((error.code(), error.verb()), (Code::StoreUnavailable, Some("store.open")), "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        assert!(error.message().contains("does not exist"), "{error}");
    }
}
