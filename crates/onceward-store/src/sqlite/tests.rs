//! The statements: they exist, they parse, and none that is about a key reads a whole table.

use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use onceward_core::{Timestamp, once};
use rusqlite::Connection;

use super::clocks::Clocks;
use super::statements::{SQL, enlist};
use super::{connect, migrate, place, transaction, trust};
use crate::clock::ManualClock;

/// What may walk through a table: upkeep, a bounded number of rows a time, and the self-check.
const MAY_SCAN: &[(&str, &str)] = &[
    ("permit_forget", "SCAN onceward_job_permit"),
    ("service_runners", "SCAN onceward_session"),
    ("prune_waiting", "SCAN onceward_lease_waiter"),
    ("prune_history", "SCAN onceward_history"),
    ("newest_token", "SCAN onceward_lease"),
    ("newest_token", "SCAN onceward_session"),
    ("newest_token", "SCAN onceward_job_claim"),
    // Sessions and claims are few, and hardly ever has anybody called a job off.
    ("session_list", "SCAN onceward_session"),
    ("session_noted", "SCAN onceward_job_cancel"),
    // What a store's triggers listen to is a few rows.
    ("trigger_anybody", "SCAN onceward_trigger_watch"),
    ("trigger_listening", "SCAN onceward_trigger_watch"),
    ("trigger_unlistened", "SCAN onceward_trigger_watch"),
    // What they have heard is read from the oldest on, and goes when it was acted on.
    ("trigger_seen", "SCAN onceward_trigger_heard"),
    ("trigger_unheard", "SCAN onceward_trigger_heard"),
    // The first row of an index that has nothing but what is paused.
    ("session_any_paused", "SCAN onceward_job USING INDEX onceward_job_paused"),
    ("rescue_any", "SCAN onceward_session"),
    ("rescue_any", "SCAN claim"),
    ("rescue_claims", "SCAN claim"),
    ("rescue_gone", "SCAN onceward_session"),
    ("lookup_claims", "SCAN claim"),
    ("permit_forget", "SCAN onceward_job_permit"),
    ("service_runners", "SCAN onceward_session"),
    // The first row of a table, or whether there is one.
    ("settle_hanging", "SCAN onceward_job_cancel"),
    ("settle_hanging", "SCAN onceward_job_first"),
    ("settle_hanging", "SCAN onceward_job_key USING COVERING INDEX onceward_job_key_dedupe"),
    ("settle_hanging", "SCAN onceward_job_key USING INDEX onceward_job_key_dedupe"),
    ("promote_next", "SCAN onceward_job_later"),
    // Of queues there are few.
    ("dead_kept", "SCAN onceward_job_queue"),
    // What nobody knows of yet, which is little.
    ("run_wake", "SCAN onceward_run_inbox USING COVERING INDEX onceward_run_inbox_new"),
];

fn migrated() -> Connection {
    let connection = connect::memory().unwrap();
    migrate::up(&connection, None, Instant::now() + Duration::from_secs(1), Timestamp::default()).unwrap();
    connection
}

/// Every statement, those for a caller's transaction included.
fn all() -> Vec<(String, String)> {
    let mut all: Vec<_> =
        SQL.all().into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    let enlist = enlist();
    for (verb, steps) in
        [("guard", enlist.guard), ("claim_in", enlist.claim_in), ("settle_in", enlist.settle_in)]
    {
        all.extend(steps.iter().enumerate().map(|(at, text)| (format!("{verb} {at}"), text.to_string())));
    }
    all.extend(enlist.jobs.iter().map(|(step, text)| (format!("jobs {step}"), text.to_string())));
    all
}

fn plan(connection: &Connection, text: &str) -> Vec<String> {
    let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
    explain.raw_query().mapped(|row| row.get(3)).collect::<rusqlite::Result<_>>().unwrap()
}

fn assert_plans(connection: &Connection, when: &str) {
    let mut wrong = Vec::new();
    for (name, text) in all() {
        for line in plan(connection, &text) {
            let allowed = MAY_SCAN.iter().any(|(of, what)| *of == name && line.starts_with(what));
            let scans = line.starts_with("SCAN onceward_") || line.starts_with("SCAN claim");
            let scans = scans && !line.contains("onceward_m");
            if (scans && !allowed) || line.contains("TEMP B-TREE") {
                wrong.push(format!("{name}: {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{when}: {wrong:#?}");
    let uses = |name: &str, text: &str, index: &str| {
        let plan = plan(connection, text);
        assert!(plan.iter().any(|line| line.contains(index)), "{name}, {when}: {plan:?}");
    };
    uses("once_list_open", SQL.once_list_open, "onceward_once_open");
    uses("once_list_all_open", SQL.once_list_all_open, "onceward_once_open");
    uses("prune_once", SQL.prune_once, "onceward_once_retained");
    uses("prune_live", SQL.prune_live, "INTEGER PRIMARY KEY (rowid>?)");
    uses("prune_leases", SQL.prune_leases, "PRIMARY KEY ((namespace,key,slot)>(?,?,?))");
    uses("history_list", SQL.history_list, "onceward_history_key");
    let lane = "(namespace=? AND queue=? AND kind=? AND route=? AND alone=?";
    uses("claim_front", SQL.claim_front, lane);
    uses("claim_take", SQL.claim_take, lane);
    uses("claim_read", SQL.claim_read, "INTEGER PRIMARY KEY (rowid=?)");
    uses("settle_keep", SQL.settle_keep, "INTEGER PRIMARY KEY (rowid=?)");
    uses("settle_free", SQL.settle_free, "onceward_job_key_dedupe (namespace=? AND id=?");
    uses("lanes_next", SQL.lanes_next, "(namespace=? AND queue=? AND (kind,route)>(?,?))");
    uses("queue_due", SQL.queue_due, "onceward_job_later_queue (namespace=? AND queue=?)");
    uses("job_overdue", SQL.job_overdue, "onceward_job_overdue (namespace=? AND <expr><?)");
    uses("list_live", SQL.list_live, "onceward_job_id (namespace=? AND id<?)");
    uses("list_wanted", SQL.list_wanted, "onceward_job_wanted (namespace=? AND state=? AND id<?)");
    uses("prune_done", SQL.prune_done, "(rowid<?)");
    uses("prune_dead", SQL.prune_dead, "onceward_job_dead");
    uses("prune_keys", SQL.prune_keys, "onceward_job_key_expires");
    let oldest = "SEARCH onceward_term USING PRIMARY KEY (namespace=? AND service=? AND cycle<?)";
    uses("service_prune_one", SQL.service_prune_one, oldest);
}

const FILL: [&str; 9] = [
    "INSERT INTO onceward_lease
     SELECT 'ns' || (i % 3), 'key' || i, 0, i, 'o', x'00', 0, 0, 0, NULL, 'b', 1, 1, 0, NULL, NULL FROM n",
    "INSERT INTO onceward_lease_waiter
     SELECT 'ns' || (i % 3), 'key' || (i / 10), CAST(i AS BLOB), i, 1, 0, 'b' FROM n",
    "INSERT INTO onceward_once
     SELECT 'ns' || (i % 3), 'key' || i, 'done', i, 'o', x'00', 1, NULL, 0, 0, 0, NULL, 'b', 1, 1, NULL,
        iif(i % 100, i, NULL), iif(i % 100, i, NULL), 0, NULL, NULL, NULL, NULL, i % 2 FROM n",
    "INSERT INTO onceward_history
     SELECT i, 'once', 'ns' || (i % 3), 'key' || (i / 5), 'done', i, 'o', 0, NULL, NULL, NULL FROM n",
    "INSERT INTO onceward_job
     SELECT i, 'ns' || (i % 3), CAST(i AS BLOB), 'kind' || (i % 5), 'default', 0, iif(i % 100, 'ready', 'dead'), i,
        1, 0, 0, 0, x'00', 't', NULL, NULL, NULL, i, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL FROM n",
    "INSERT INTO onceward_job_done
     SELECT i, 'ns' || (i % 3), CAST(i AS BLOB), 'kind' || (i % 5), 'default', 0, iif(i % 100, 'ready', 'dead'), i,
        1, 0, 0, 0, x'00', 't', NULL, NULL, NULL, i, NULL, NULL, NULL, NULL, NULL, NULL FROM n",
    "INSERT INTO onceward_job_ready SELECT namespace, queue, kind, '', 0, 0, 0, id, place FROM onceward_job",
    "INSERT INTO onceward_job_later SELECT place, id, namespace, queue, place FROM onceward_job",
    "INSERT INTO onceward_job_key
     SELECT 'ns' || (i % 3), iif(i % 2, 'dedupe', 'idempotency'), 'key' || i, CAST(i AS BLOB), NULL,
        iif(i % 3, i, NULL), 0 FROM n",
];

fn fill(connection: &Connection, rows: i64) {
    let numbers =
        format!("WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < {rows})");
    for insert in FILL {
        connection.execute(&format!("{numbers} {insert}"), []).unwrap();
    }
}

#[test]
fn every_statement_is_there_and_parses() {
    let connection = migrated();
    for (name, text) in all() {
        assert!(!text.trim().is_empty(), "{name} is empty");
        assert!(connection.prepare(&text).is_ok(), "{name}: {:?}", connection.prepare(&text).err());
    }
}

#[test]
fn keyed_statements_use_their_index_on_empty_and_on_large_tables() {
    let connection = migrated();
    assert_plans(&connection, "empty");
    connection.execute_batch("ANALYZE").unwrap();
    assert_plans(&connection, "empty, analyzed");
    fill(&connection, 20_000);
    assert_plans(&connection, "large, analyzed when empty");
    connection.execute_batch("ANALYZE").unwrap();
    assert_plans(&connection, "large, analyzed");
    connection.execute_batch("DROP TABLE sqlite_stat1; DROP TABLE IF EXISTS sqlite_stat4").unwrap();
    assert_plans(&connection, "large");
}

/// What a failed commit may have left in the log is overwritten: a page is written although nothing is to be said.
#[test]
fn a_doubt_is_settled_by_a_page_in_the_log() {
    let path = std::env::temp_dir().join(format!("onceward-{}.db", uuid::Uuid::new_v4()));
    let connection = connect::writer(&place::Place::prepare(&path).unwrap(), Duration::ZERO).unwrap();
    let clocks = Clocks::new(Arc::new(ManualClock::default()));
    migrate::up(&connection, None, Instant::now(), clocks.now().wall).unwrap();
    trust::opened(&connection, &clocks.now()).unwrap();
    let log = path.with_extension("db-wal");
    let before = std::fs::metadata(&log).unwrap().len();
    assert!(transaction::settle_doubt(&connection).unwrap());
    assert!(std::fs::metadata(&log).unwrap().len() > before);
    drop(connection);
    std::fs::remove_file(path).unwrap();
}

/// The text stands in a statement, because it runs on connections that know nothing of us.
#[test]
fn an_expired_claim_has_the_same_reason_wherever_it_is_noticed() {
    assert!(enlist().claim_in.iter().any(|text| text.contains(once::EXPIRED)));
}
