//! Schedules from the shell, and the worker that enqueues what is due.

use crate::place::{Place, wait_until};

#[test]
fn a_schedule_is_declared_looked_at_paused_and_removed() {
    let place = Place::new();
    let add = [
        "schedules",
        "add",
        "nightly",
        "report",
        "--when",
        "0 2 * * *",
        "--zone",
        "Europe/Berlin",
        "--json",
        "{}",
    ];
    let added = place.json(&add);
    assert_eq!(
        (added["when"].as_str(), added["version"].as_i64()),
        (Some("0 2 * * * Europe/Berlin"), Some(1))
    );
    assert!(added["next_at"].is_string());
    place.run(&["schedules", "add", "bad", "report", "--when", "0 0 30 2 *"]).refused(2, "OW1012");
    place
        .run(&["schedules", "add", "bad", "report", "--when", "at 2020-01-01T00:00:00Z"])
        .refused(2, "OW1012");
    place
        .run(&["schedules", "add", "bad", "report", "--when", "0 2 * * * Europe/Atlantis"])
        .refused(2, "OW1013");
    place
        .run(&["schedules", "add", "bad", "report", "--when", "every 5m", "--zone", "Europe/Berlin"])
        .refused(2, "OW0601");
    place.run(&["schedules", "show", "bad"]).refused(2, "OW1014");
    let shown = place.json(&["schedules", "show", "nightly"]);
    assert_eq!(shown["ahead"].as_array().unwrap().len(), 5);
    assert!(place.run(&["schedules", "list"]).text().contains("Europe/Berlin"));
    assert_eq!(place.run(&["schedules", "pause", "nightly", "--reason", "holidays"]).code, 0);
    assert_eq!(place.json(&["schedules", "list"])[0]["paused"]["reason"], "holidays");
    let job = place.json(&["schedules", "trigger", "nightly"])["job"].as_str().unwrap().to_owned();
    assert_eq!(place.json(&["jobs", "list"])[0]["id"], job.as_str());
    assert_eq!(place.run(&["schedules", "resume", "nightly"]).code, 0);
    let range = [
        "schedules",
        "backfill",
        "nightly",
        "--from",
        "2026-03-28T00:00:00Z",
        "--until",
        "2026-03-31T00:00:00Z",
    ];
    let tried = place.json(&[&range[..], &["--dry-run"]].concat());
    assert_eq!(tried["ticks"].as_array().unwrap().len(), 3, "once on each day: {tried}");
    assert_eq!(tried["ticks"][1], "2026-03-29T01:00:00.000000Z");
    assert_eq!(place.json(&range)["enqueued"].as_array().unwrap().len(), 3);
    assert_eq!(place.json(&range)["enqueued"].as_array().unwrap().len(), 0, "each tick once");
    assert_eq!(place.run(&["schedules", "rm", "nightly"]).code, 0);
    place.run(&["schedules", "rm", "nightly"]).refused(2, "OW1014");
}

#[test]
fn a_durable_function_is_scheduled() {
    let place = Place::new();
    let add = |more: &[&str]| {
        let base = ["schedules", "add", "nightly", "settle", "--when", "0 2 * * *", "--durable"];
        place.run(&[&base[..], more].concat())
    };
    let order = ["--json", "{\"order\": 17}"];
    for refused in [
        &["--text", "x"][..],
        &["--payload-file", "-"],
        &["--json", "{}", "--at-most-once"],
        &["--json", "{}", "--timeout", "5m"],
    ] {
        add(refused).refused(2, "OW0601");
    }
    add(&["--json", "[17]"]).refused(2, "OW0707");
    place.run(&["schedules", "show", "nightly"]).refused(2, "OW1014");
    assert_eq!(add(&[]).code, 0, "a function without arguments");
    assert_eq!(add(&[&order[..], &["--queue", "runs", "--tag", "eu"]].concat()).code, 0);
    let run = place.json(&["schedules", "trigger", "nightly"])["job"].as_str().unwrap().to_owned();
    let runs = place.json(&["runs", "list"]);
    assert_eq!((runs[0]["id"].as_str(), runs.as_array().unwrap().len()), (Some(run.as_str()), 1), "{runs}");
    let job = place.json(&["jobs", "show", &run]);
    assert_eq!((job["durable"].as_bool(), job["queue"].as_str()), (Some(true), Some("runs")), "{job}");
}

#[test]
fn a_trigger_is_declared_looked_at_paused_and_removed() {
    let place = Place::new();
    let add = ["triggers", "add", "mourn", "letter", "--on", "dead kind=import", "--on", "event order.*"];
    let added = place.json(&add);
    assert_eq!((added["tells"].as_bool(), added["rule"].as_str()), (Some(true), Some("any")));
    assert_eq!(added["conditions"][1]["event"], "order.*");
    let all =
        ["triggers", "add", "ship", "ship", "--on", "succeeded kind=pay", "--on", "succeeded kind=pick"];
    let all = place.json(&[&all[..], &["--all", "metadata:order", "--durable", "--json", "{}"]].concat());
    assert_eq!(
        (all["tells"].as_bool(), all["rule"]["all"]["by"]["metadata"].as_str()),
        (Some(false), Some("order"))
    );
    place.run(&["triggers", "add", "bad", "x", "--on", "gone"]).refused(2, "OW1022");
    place.run(&["triggers", "show", "bad"]).refused(2, "OW1023");
    let listed = place.run(&["triggers", "list"]).text();
    assert!(
        listed.contains("dead kind=import; event order.*") && listed.contains("all by metadata:order"),
        "{listed}"
    );
    assert!(place.run(&["triggers", "show", "mourn"]).text().contains("what has happened"));
    assert_eq!(place.run(&["triggers", "pause", "mourn", "--reason", "holidays"]).code, 0);
    assert_eq!(place.json(&["triggers", "show", "mourn"])["paused"]["reason"], "holidays");
    assert_eq!(place.run(&["triggers", "resume", "mourn"]).code, 0);
    let job = place.json(&["jobs", "enqueue", "import", "--json", "{}", "--delay", "1h"]);
    assert_eq!(place.run(&["triggers", "add", "sad", "letter", "--on", "cancelled kind=import"]).code, 0);
    assert_eq!(place.run(&["jobs", "cancel", job["id"].as_str().unwrap()]).code, 0);
    let worker = place.start(&["worker", "--session-ttl", "2s"]);
    wait_until("it has followed", || place.json(&["triggers", "show", "sad"])["fired"] == 1);
    worker.signal(rustix::process::Signal::TERM);
    assert_eq!(worker.end().code, 0);
    assert_eq!(place.run(&["triggers", "rm", "mourn"]).code, 0);
    place.run(&["triggers", "rm", "mourn"]).refused(2, "OW1023");
}

/// A worker that leaves services to others is no runner, and enqueues nothing that is due.
#[test]
fn a_worker_without_services_runs_none() {
    let place = Place::new();
    assert_eq!(
        place.run(&["schedules", "add", "often", "report", "--when", "every 1s", "--text", "due"]).code,
        0
    );
    let worker = place.start(&["worker", "--no-services", "--session-ttl", "2s"]);
    wait_until("a worker", || place.json(&["workers", "list"]).as_array().unwrap().len() == 1);
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    assert_eq!(place.json(&["runners", "list"]), serde_json::json!([]));
    assert_eq!(place.json(&["jobs", "list"]), serde_json::json!([]), "nobody was asked to look at the clock");
    worker.signal(rustix::process::Signal::TERM);
    assert_eq!(worker.end().code, 0);
}

/// J12
#[test]
fn j12_workers_enqueue_what_is_due_and_run_it() {
    let place = Place::new();
    std::fs::write(
        place.path("commands.toml"),
        "[kinds]\nreport = [\"sh\", \"-c\", \"cat >> ledger; echo >> ledger\"]\n",
    )
    .unwrap();
    let args = ["worker", "--commands", "commands.toml", "--session-ttl", "2s"];
    let workers = [place.start(&args), place.start(&args)];
    assert_eq!(
        place.run(&["schedules", "add", "often", "report", "--when", "every 1s", "--text", "due"]).code,
        0
    );
    wait_until("three ticks are run", || place.read("ledger").lines().count() >= 3);
    place.run(&["schedules", "pause", "often"]);
    let runners = place.json(&["runners", "list"]);
    assert_eq!(runners.as_array().unwrap().len(), 2);
    assert_eq!(place.json(&["workers", "list"]).as_array().unwrap().len(), 2, "one session does for both");
    assert_eq!(runners[0]["services"], serde_json::json!(["onceward.scheduler", "onceward.upkeep"]));
    for worker in workers {
        worker.signal(rustix::process::Signal::TERM);
        assert_eq!(worker.end().code, 0);
    }
    let jobs = place.json(&["jobs", "list", "--limit", "500"]);
    let ids: std::collections::BTreeSet<&str> =
        jobs.as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap()).collect();
    assert_eq!(place.read("ledger").lines().count(), ids.len(), "each once");
}
