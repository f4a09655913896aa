//! A process that is killed: what was answered is there, what was not is whole or absent.

use core::time::Duration;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use onceward_core::once::State;
use onceward_store::clock::SystemClock;
use onceward_store::sqlite::SqliteStore;
use onceward_store::url::SqliteAt;
use onceward_store::{ListOnce, OpenOptions, Store};

use super::asks::*;
use super::file::File;
use crate::power::Disk;

/// Tells the child which file to write to; without it the child's test does nothing.
const CHILD: &str = "ONCEWARD_TEST_CRASH_FILE";
const KILLS: usize = 5;

/// The child: settles keys with many hands, and says of each that it was answered.
#[tokio::test(flavor = "multi_thread")]
async fn child_of_the_crash_test() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let at = SqliteAt { path: Some(path.into()) };
    let store = Arc::new(SqliteStore::open(&at, OpenOptions::default()).await.unwrap());
    let hands: Vec<_> = (0..16)
        .map(|hand| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for round in 0.. {
                    let key = format!("{}-{hand}-{round}", std::process::id());
                    finish(store.as_ref(), &key).await;
                    println!("answered {key}");
                }
            })
        })
        .collect();
    for hand in hands {
        hand.await.unwrap();
    }
}

/// Runs the child until it has answered a number of calls, and kills it in the middle of others.
fn answers_of_a_killed_child(path: &Path, at_least: usize, kill: impl Fn()) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sqlite::crash::child_of_the_crash_test", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut answered = Vec::new();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines.map_while(Result::ok) {
        answered.extend(line.split_once("answered ").map(|(_, key)| key.to_owned()));
        if answered.len() == at_least {
            kill();
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    answered
}

async fn assert_done(store: &SqliteStore, answered: &[String]) {
    for key in answered {
        let rows = store.once_lookup(&[name(key)]).await.unwrap().rows;
        assert_eq!(rows[0].as_ref().map(|row| row.state), Some(State::Done), "{key} was answered");
    }
}

/// N41, N48, G7: the power goes off while many hands write. What was answered is on the disk. It is cut under a process
/// of its own, which may not survive that either.
#[tokio::test(flavor = "multi_thread")]
async fn exclusive_proof_n41_what_was_answered_survives_a_power_cut() {
    let Some(disk) = Disk::of("64M") else { return };
    let at = SqliteAt { path: Some(disk.path("store.db")) };
    let cuts = if std::env::var("ONCEWARD_PROVE").is_ok_and(|value| value == "long") { 20 } else { 2 };
    let mut answered = Vec::new();
    for cut in 0..cuts {
        answered.extend(answers_of_a_killed_child(&disk.path("store.db"), 50 + 30 * cut, || disk.cut()));
        disk.power_on();
        let store = SqliteStore::open(&at, OpenOptions::default()).await.unwrap();
        assert_done(&store, &answered).await;
        store.close().await;
        drop(store);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn n48_what_was_answered_survives_a_kill() {
    let file = File::new();
    let mut answered = Vec::new();
    for kill in 0..KILLS {
        answered.extend(answers_of_a_killed_child(&file.path(), 50 + 100 * kill, || ()));
        file.assert_sound();
    }
    let store = file.open(&SystemClock).await;
    assert_done(store.as_ref(), &answered).await;
    // What was begun and not settled is found as such: nothing is in between.
    let all = store.once_list(&ListOnce { limit: 100_000, ..ListOnce::default() }).await.unwrap().rows;
    assert!(all.len() >= answered.len());
    assert!(all.iter().all(|row| matches!(row.state, State::Done | State::Running)));
}

/// A copy of the file and its log, taken while it is written to, holds what was answered before.
#[tokio::test(flavor = "multi_thread")]
async fn n48_a_copy_of_a_quiet_file_is_whole() {
    let file = File::new();
    let store = file.open(&SystemClock).await;
    for at in 0..50 {
        finish(store.as_ref(), &at.to_string()).await;
    }
    let copy = File::new();
    for ending in ["", "-wal"] {
        let name = format!("store.db{ending}");
        std::fs::copy(file.beside(&name), copy.beside(&name)).unwrap();
    }
    copy.assert_sound();
    let copied = copy.open(&SystemClock).await;
    let rows = copied.once_list(&ListOnce { limit: 100, ..ListOnce::default() }).await.unwrap().rows;
    assert_eq!(rows.len(), 50);
    let _ = tokio::time::timeout(Duration::from_secs(1), store.close()).await;
}
