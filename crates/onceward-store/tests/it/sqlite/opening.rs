//! Opening a file: its rights, what else may be in it, its migrations, and a file that is replaced meanwhile.

use core::time::Duration;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use onceward_core::{Code, Error};
use onceward_store::clock::SystemClock;
use onceward_store::migrate::{self, Migrator};
use onceward_store::sqlite::{SqliteMigrator, SqliteStore};
use onceward_store::url::SqliteAt;
use onceward_store::{OpenOptions, Severity, Store, open};
use rusqlite::Connection;
use tokio::time::sleep;

use super::asks::*;
use super::file::File;

/// The newest migration.
const LAST: u32 = 13;

async fn refused(file: &File) -> Error {
    match SqliteStore::open(&file.at(), OpenOptions::default()).await {
        Ok(_) => panic!("opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_new_file_is_its_owners_alone() {
    let file = File::new();
    let store = open(&format!("sqlite://{}", file.path().display()), OpenOptions::default()).await.unwrap();
    grant(store.as_ref(), "k").await;
    for name in ["store.db", "store.db-wal", "store.db-shm"] {
        assert_eq!(fs::metadata(file.beside(name)).unwrap().mode() & 0o7777, 0o600, "{name}");
    }
    assert!(store.check().await.unwrap().iter().all(|finding| finding.severity == Severity::Ok));
}

#[tokio::test]
async fn a_file_everybody_may_write_to_is_refused() {
    let file = File::new();
    drop(file.open(&SystemClock).await);
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(refused(&file).await.code(), Code::FileUnsafe);
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let findings = file.open(&SystemClock).await.check().await.unwrap();
    let warned = findings.iter().find(|finding| finding.check == "mode").unwrap();
    assert_eq!((warned.severity, warned.code), (Severity::Warning, Some(Code::FileUnsafe)));
}

#[tokio::test]
async fn what_is_no_database_is_told_apart() {
    let file = File::new();
    let missing = SqliteAt { path: Some(file.beside("missing/store.db")) };
    let error = SqliteStore::open(&missing, OpenOptions::default()).await.err().unwrap();
    assert_eq!(error.code(), Code::StoreUnavailable);
    assert!(error.message().contains("missing"), "{error}");
    assert!(!file.beside("missing").exists(), "nothing was made");

    fs::create_dir(file.path()).unwrap();
    assert_eq!(refused(&file).await.code(), Code::StoreUnavailable);
    fs::remove_dir(file.path()).unwrap();

    fs::write(file.path(), "this is a text, and a long one: ".repeat(200)).unwrap();
    let error = refused(&file).await;
    assert_eq!(error.code(), Code::StoreFailed);
    assert!(error.message().contains("not a SQLite database"), "{error}");
}

#[tokio::test]
async fn n50_a_symbolic_link_leads_to_the_same_store() {
    let file = File::new();
    let store = file.open(&SystemClock).await;
    grant(store.as_ref(), "k").await;
    symlink(file.path(), file.beside("link.db")).unwrap();
    let by_link = SqliteAt { path: Some(file.beside("link.db")) };
    let other = SqliteStore::open(&by_link, OpenOptions::default()).await.unwrap();
    assert_eq!(other.lease_lookup(&name("k")).await.unwrap().rows.len(), 1);
    grant(&other, "k2").await;
    assert!(!file.beside("link.db-wal").exists(), "one log for both names");
}

#[tokio::test]
async fn n50_a_hard_link_is_warned_of() {
    let file = File::new();
    let store = file.open(&SystemClock).await;
    fs::hard_link(file.path(), file.beside("other.db")).unwrap();
    let findings = store.check().await.unwrap();
    assert!(
        findings.iter().any(|it| it.check == "links" && it.severity == Severity::Warning),
        "{findings:?}"
    );
}

/// N48: an older copy put in place of the file is noticed within a second, and caches end.
#[tokio::test(flavor = "multi_thread")]
async fn n48_a_replaced_file_is_refused() {
    let file = File::new();
    let store = file.open(&SystemClock).await;
    let epoch = store.epoch();
    finish(store.as_ref(), "pay").await;
    fs::copy(file.path(), file.beside("copy.db")).unwrap();
    fs::rename(file.beside("copy.db"), file.path()).unwrap();
    sleep(Duration::from_millis(1_100)).await;
    assert_eq!(code(claim(store.as_ref(), "new").await), Code::FileReplaced);
    assert_eq!(code(claim(store.as_ref(), "pay").await), Code::FileReplaced, "not even a replay");
    assert_eq!(code(store.once_lookup(&[name("pay")]).await), Code::FileReplaced);
    assert_ne!(store.epoch(), epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn n48_a_removed_log_is_refused() {
    let file = File::new();
    let store = file.open(&SystemClock).await;
    let epoch = store.epoch();
    grant(store.as_ref(), "k").await;
    assert_eq!(store.epoch(), epoch);
    fs::remove_file(file.beside("store.db-wal")).unwrap();
    sleep(Duration::from_millis(1_100)).await;
    assert_ne!(store.epoch(), epoch, "without anybody reading or writing");
    assert_eq!(code(acquire(store.as_ref(), lease("k2")).await), Code::FileReplaced);
}

/// N53: the file may be the user's own, with tables, triggers and long reads of theirs.
#[tokio::test(flavor = "multi_thread")]
async fn n53_the_users_own_tables_and_reads_do_no_harm() {
    let file = File::new();
    let user = Connection::open(file.path()).unwrap();
    user.execute_batch("CREATE TABLE shop (id INTEGER PRIMARY KEY); INSERT INTO shop VALUES (1)").unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
    let store = file.open(&SystemClock).await;
    user.execute_batch(
        "CREATE TRIGGER harm BEFORE INSERT ON onceward_once BEGIN SELECT raise(ABORT, 'no'); END;
         BEGIN; SELECT * FROM shop;",
    )
    .unwrap();
    for at in 0..100 {
        finish(store.as_ref(), &at.to_string()).await;
    }
    let findings = store.check().await.unwrap();
    assert!(findings.iter().any(|it| it.check == "triggers" && it.severity == Severity::Warning));
    user.execute_batch("COMMIT; INSERT INTO shop VALUES (2)").unwrap();
    drop(user);
    store.close().await;
    file.assert_sound();
}

#[tokio::test]
async fn migrations_go_up_and_down_and_up_again() {
    let file = File::new();
    let migrator = SqliteMigrator::open(&file.at(), OpenOptions::default()).await.unwrap();
    assert_eq!(migrator.status().await.unwrap().pending.len(), migrate::SQLITE.len());
    assert_eq!(migrator.up(Some(1)).await.unwrap(), [1]);
    assert_eq!(migrator.status().await.unwrap().applied[0].name, "0001_lease");
    assert_eq!(migrator.up(None).await.unwrap(), (2..=LAST).collect::<Vec<_>>());
    assert_eq!(migrator.up(None).await.unwrap(), [0_u32; 0], "nothing is left");
    let store = file.open(&SystemClock).await;
    grant(store.as_ref(), "k").await;
    store.close().await;
    assert_eq!(migrator.down(0).await.unwrap(), (1..=LAST).rev().collect::<Vec<_>>());
    assert_eq!(migrator.status().await.unwrap().applied, []);
    let store = file.open(&SystemClock).await;
    assert_eq!(store.lease_lookup(&name("k")).await.unwrap().rows, [], "opening migrates by itself");
}

/// N42: however many open a new file at once, each migration runs once.
#[tokio::test(flavor = "multi_thread")]
async fn n42_many_open_a_new_file_at_once() {
    let file = File::new();
    let open = |_| {
        let at = file.at();
        tokio::spawn(async move { SqliteStore::open(&at, OpenOptions::default()).await.map(|_| ()) })
    };
    let opened: Vec<_> = (0..8).map(open).collect();
    for store in opened {
        store.await.unwrap().unwrap();
    }
    file.assert_sound();
}

#[tokio::test]
async fn n42_other_schemas_are_refused() {
    let file = File::new();
    let user = Connection::open(file.path()).unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
    user.execute_batch("CREATE TABLE onceward_lease (mine TEXT)").unwrap();
    assert_eq!(refused(&file).await.code(), Code::SchemaObjectForeign);
    user.execute_batch("DROP TABLE onceward_lease").unwrap();

    drop(file.open(&SystemClock).await);
    let newer = |version: usize| {
        let row = "INSERT INTO onceward_migration VALUES (?1, 'newer', 'x', 0)";
        user.execute(row, [i64::try_from(version).unwrap()]).unwrap();
    };
    let known = migrate::SQLITE.len();
    newer(known + 1);
    grant(file.open(&SystemClock).await.as_ref(), "one version ahead is fine").await;
    newer(known + 2);
    assert_eq!(refused(&file).await.code(), Code::SchemaAhead);
    user.execute("DELETE FROM onceward_migration WHERE version > ?1", [known as i64]).unwrap();
    user.execute("UPDATE onceward_migration SET checksum = 'x'", []).unwrap();
    assert_eq!(refused(&file).await.code(), Code::MigrationChanged);
}

#[tokio::test]
async fn an_unmigrated_store_says_so() {
    let file = File::new();
    let store = file.open_with(OpenOptions { unmigrated: true, ..OpenOptions::default() }).await;
    assert_eq!(code(acquire(store.as_ref(), lease("k")).await), Code::SchemaBehind);
    assert_eq!(code(store.once_lookup(&[name("k")]).await), Code::SchemaBehind);
    let findings = store.check().await.unwrap();
    assert!(findings.iter().any(|it| it.code == Some(Code::SchemaBehind)), "{findings:?}");
}
