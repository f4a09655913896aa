//! `onceward jobs`, `worker`, `queues`, `dead`, `workers`: from enqueueing in the shell to the result.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::place::{Place, is_alive, wait_until};

/// A file of allowed commands: `pay` succeeds, `fail` fails, `doubt` does not know, `later` wants to be tried again.
const COMMANDS: &str = r#"
[kinds]
pay = ["sh", "-c", "cat >> ledger; echo >> ledger; echo paid in attempt $ONCEWARD_ATTEMPT"]
fail = ["sh", "-c", "echo no >&2; exit 3"]
doubt = ["sh", "-c", "exit 76"]
later = ["sh", "-c", "test -e ready || { touch ready; exit 75; }"]
slow = ["sh", "-c", "echo $$ > pid; exec sleep 60"]
"#;

fn place() -> Place {
    let place = Place::new();
    fs::write(place.path("commands.toml"), COMMANDS).unwrap();
    place
}

fn enqueue(place: &Place, args: &[&str]) -> String {
    let seen = place.run(&[&["jobs", "enqueue"], args].concat());
    assert_eq!(seen.code, 0, "{args:?}: {}", seen.stderr);
    seen.text().trim().to_owned()
}

fn work(place: &Place) {
    let seen = place.run(&["worker", "--until-empty", "--horizon", "2s", "--commands", "commands.toml"]);
    assert_eq!(seen.code, 0, "{}", seen.stderr);
}

fn state(place: &Place, id: &str) -> String {
    place.json(&["jobs", "show", id])["state"].as_str().unwrap().to_owned()
}

/// The way of a job from the shell to its result and back again, as the documentation has it.
pub(crate) fn the_whole_way(place: &Place) {
    fs::write(place.path("commands.toml"), COMMANDS).unwrap();
    let key = ["--idempotency-key", "order-17"];
    let first = place.json(&[&["jobs", "enqueue", "pay", "--json", r#"{"n":1}"#], &key[..]].concat());
    assert_eq!(first["created"], json!(true));
    let again = place.json(&[&["jobs", "enqueue", "pay", "--json", r#"{"n":1}"#], &key[..]].concat());
    assert_eq!((&again["id"], &again["created"]), (&first["id"], &json!(false)));
    let other = place.run(&[&["jobs", "enqueue", "pay", "--json", r#"{"n":2}"#], &key[..]].concat());
    other.refused(2, "OW0702");

    work(place);
    assert_eq!(place.read("ledger"), "{\"n\":1}\n");
    let id = first["id"].as_str().unwrap();
    let shown = place.json(&["jobs", "show", id]);
    assert_eq!(shown["state"], "succeeded");
    assert_eq!(shown["payload"]["text"], r#"{"n":1}"#);
    assert_eq!(shown["result"]["text"], "paid in attempt 1\n");
    let attempts = place.json(&["jobs", "attempts", id]);
    assert_eq!((&attempts[0]["number"], &attempts[0]["outcome"]), (&json!(1), &json!("succeeded")));

    // What has succeeded is done once more only by force.
    place.run(&["jobs", "replay", id]).refused(2, "OW0703");
    let replayed = place.json(&["jobs", "replay", id, "--force", "--request", "r1"]);
    let same = place.json(&["jobs", "replay", id, "--force", "--request", "r1"]);
    assert_eq!((&replayed["id"], &replayed["replay_of"]), (&same["id"], &json!(id)));
    work(place);
    assert_eq!(place.read("ledger"), "{\"n\":1}\n{\"n\":1}\n", "once more, and not twice more");
}

#[test]
fn a_job_goes_from_the_shell_to_its_result_and_is_replayed() {
    the_whole_way(&Place::new());
}

#[test]
fn the_exit_code_of_a_command_says_how_the_attempt_ended() {
    let place = place();
    let dead = enqueue(&place, &["fail", "--max-attempts", "2", "--retry", "fixed 100ms"]);
    let doubt = enqueue(&place, &["doubt", "--at-most-once"]);
    let later = enqueue(&place, &["later", "--at-most-once", "--retry", "fixed 100ms"]);
    work(&place);
    assert_eq!(state(&place, &dead), "dead");
    assert_eq!(state(&place, &doubt), "uncertain");
    assert_eq!(state(&place, &later), "succeeded", "75 says that nothing had happened");
    let list = place.json(&["jobs", "list", "--state", "dead"]);
    assert_eq!(list[0]["id"], json!(dead));
    assert_eq!(list[0]["attempt"], 2);
    assert!(list[0]["error"].as_str().unwrap().contains("exit status: 3"), "{list}");
    let outcomes: Vec<Value> = place
        .json(&["jobs", "attempts", &dead])
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["outcome"].clone())
        .collect();
    assert_eq!(outcomes, [json!("failed"), json!("dead")]);

    let how = ["jobs", "resolve", &doubt, "--done", "--result", "it was there", "--reason", "saw it"];
    assert_eq!(place.run(&how).code, 0);
    assert_eq!(place.json(&["jobs", "show", &doubt])["result"]["text"], "it was there");
    place.run(&how).refused(2, "OW0703");
}

#[test]
fn dead_jobs_are_replayed_and_put_away_in_bulk_looked_at_first() {
    let place = place();
    let ids: Vec<String> = (0..3).map(|_| enqueue(&place, &["fail", "--max-attempts", "1"])).collect();
    work(&place);
    let dry = place.json(&["dead", "replay", "--kind", "fail", "--dry-run"]);
    assert_eq!((dry["changed"].as_array().unwrap().len(), &dry["dry_run"]), (3, &json!(true)));
    assert_eq!(place.json(&["jobs", "list"]).as_array().unwrap().len(), 3, "nothing was done");
    let done = place.json(&["dead", "replay", "--kind", "fail"]);
    assert_eq!(done["changed"].as_array().unwrap().len(), 3);
    assert_eq!(place.json(&["jobs", "list", "--state", "ready"]).as_array().unwrap().len(), 3);
    let away = place.json(&["dead", "discard", "--kind", "fail", "--reason", "known"]);
    assert_eq!(away["changed"].as_array().unwrap().len(), 3);
    assert!(ids.iter().all(|id| state(&place, id) == "cancelled"));
    place.run(&["jobs", "cancel"]).refused(2, "OW0601");
    let all = place.json(&["jobs", "cancel", "--all", "--state", "ready"]);
    assert_eq!(all["changed"].as_array().unwrap().len(), 3);
}

#[test]
fn a_paused_queue_gives_no_jobs_and_says_so() {
    let place = place();
    assert_eq!(place.run(&["queues", "pause", "default", "--reason", "the bank is away"]).code, 0);
    let id = enqueue(&place, &["pay", "--text", "x"]);
    let queues = place.json(&["queues", "list"]);
    assert_eq!((&queues[0]["ready"], &queues[0]["pause_reason"]), (&json!(1), &json!("the bank is away")));
    assert_eq!(state(&place, &id), "ready");
    assert_eq!(place.run(&["queues", "resume", "default"]).code, 0);
    work(&place);
    assert_eq!(state(&place, &id), "succeeded");
    assert_eq!(place.run(&["queues", "drain", "default", "--within", "5s"]).code, 0);
    assert!(place.json(&["queues", "list"])[0]["paused_at"].is_string(), "a drain leaves it paused");
}

/// W61: a kind that nobody knows waits, and is shown.
#[test]
fn an_unknown_kind_waits_and_is_shown() {
    let place = place();
    let id = enqueue(&place, &["unheard.of", "--text", "x"]);
    work(&place);
    assert_eq!(state(&place, &id), "ready");
    assert_eq!(place.json(&["queues", "list"])[0]["unknown"], json!(["unheard.of"]));
}

#[test]
fn payloads_are_bytes() {
    let place = place();
    fs::write(place.path("payload"), b"\0\xff\xfe\"").unwrap();
    let id = enqueue(&place, &["pay", "--payload-file", "payload"]);
    let shown = place.json(&["jobs", "show", &id]);
    assert_eq!((&shown["payload"]["base64"], &shown["payload"]["size"]), (&json!("AP/+Ig=="), &json!(4)));
    let empty = enqueue(&place, &["pay"]);
    assert_eq!(place.json(&["jobs", "show", &empty])["payload"]["size"], 0);
    fs::write(place.path("large"), vec![b'x'; 1024 * 1024 + 1]).unwrap();
    place.run(&["jobs", "enqueue", "pay", "--payload-file", "large"]).refused(2, "OW0119");
}

#[test]
fn bad_input_is_refused_before_anything_is_written() {
    let place = place();
    for (args, code) in [
        (&["jobs", "enqueue", ""][..], "OW0117"),
        (&["jobs", "enqueue", "pay", "--queue", "a\nb"], "OW0118"),
        (&["jobs", "enqueue", "pay", "--priority", "1001"], "OW0120"),
        (&["jobs", "enqueue", "pay", "--max-attempts", "0"], "OW0121"),
        (&["jobs", "enqueue", "pay", "--delay", "4000d"], "OW0122"),
        (&["jobs", "enqueue", "pay", "--run-at", "tomorrow"], "OW0122"),
        (&["jobs", "enqueue", "pay", "--retry", "often"], "OW0123"),
        (&["jobs", "enqueue", "pay", "--timeout", "30d"], "OW0124"),
        (&["jobs", "enqueue", "pay", "--tag", ""], "OW0125"),
        (&["jobs", "enqueue", "pay", "--json", "{"], "OW0707"),
        (&["jobs", "enqueue", "pay", "--retain", "99999d"], "OW0109"),
        (&["jobs", "show", "17"], "OW0126"),
        (&["jobs", "list", "--state", "asleep"], "OW0601"),
        (&["worker", "--queues", "default", "--no-http"], "OW0709"),
        (&["worker", "--commands", "missing.toml"], "OW0606"),
    ] {
        place.run(args).refused(2, code);
    }
    let absent = "0193a6b2-7c41-7b7e-9b37-0d5d3f0f8a11";
    place.run(&["jobs", "show", absent]).refused(2, "OW0701");
    place.run(&["jobs", "cancel", absent]).refused(2, "OW0701");
    assert_eq!(place.json(&["jobs", "list"]), json!([]));
}

/// J4, N1: a worker that is killed leaves its job to another, and its command dies with it.
#[test]
fn a_killed_workers_job_is_taken_by_another_and_its_command_ends() {
    let place = place();
    let id = enqueue(&place, &["slow", "--max-attempts", "2"]);
    let options = ["--commands", "commands.toml", "--session-ttl", "1s"];
    let worker = place.start(&[&["worker"], &options[..]].concat());
    let command = place.wait_for_file("pid");
    let seen = place.json(&["workers", "list"]);
    assert_eq!((&seen[0]["alive"], &seen[0]["running"]), (&json!(true), &json!(1)));
    worker.signal(Signal::KILL);
    worker.end();
    wait_until("the command dies with its worker", || !is_alive(&command));
    fs::remove_file(place.path("pid")).unwrap();
    let second = place.start(&[&["worker"], &options[..]].concat());
    let command = place.wait_for_file("pid");
    assert_eq!(state(&place, &id), "running");
    assert_eq!(place.run(&["jobs", "cancel", &id]).code, 0);
    wait_until("the command is stopped", || !is_alive(&command));
    wait_until("the job is cancelled", || state(&place, &id) == "cancelled");
    second.signal(Signal::TERM);
    assert_eq!(second.end().code, 0);
    let attempts = place.json(&["jobs", "attempts", &id]);
    assert_eq!(attempts[0]["outcome"], "lost", "{attempts}");
}

/// A worker that is asked to end gives what it has not started back, uncharged.
#[test]
fn a_worker_that_ends_hands_back_what_it_has_not_started() {
    let place = place();
    let running = enqueue(&place, &["slow"]);
    let worker =
        place.start(&["worker", "--commands", "commands.toml", "--concurrency", "1", "--grace", "1s"]);
    place.wait_for_file("pid");
    let waiting = enqueue(&place, &["pay", "--text", "x"]);
    worker.signal(Signal::TERM);
    assert_eq!(worker.end().code, 0);
    let shown = place.json(&["jobs", "show", &waiting]);
    assert_eq!((&shown["state"], &shown["attempt"]), (&json!("ready"), &json!(0)));
    assert_ne!(state(&place, &running), "running");
}

#[test]
fn purge_forgets_what_is_over_and_nothing_else() {
    let place = place();
    let gone = enqueue(&place, &["pay", "--text", "x", "--retain", "0s"]);
    let dead = enqueue(&place, &["fail", "--max-attempts", "1"]);
    work(&place);
    place.run(&["jobs", "show", &gone]).refused(2, "OW0701");
    assert_eq!(state(&place, &dead), "dead");
    let purged = place.json(&["purge", "--dead-older-than", "0s"]);
    assert_eq!(purged["dead_jobs"], 1, "{purged}");
    place.run(&["jobs", "show", &dead]).refused(2, "OW0701");
}

#[test]
fn queues_are_limited_over_all_workers() {
    let place = place();
    let set = |args: &[&str]| place.run(&[&["queues", "set", "default"], args].concat());
    let seen = set(&["--concurrency", "2", "--rate", "1000/s"]);
    assert_eq!(seen.code, 0);
    assert!(seen.stderr.contains("default is limited: 2 at once, 1000/1s, burst 1000"), "{}", seen.stderr);
    let line = &place.json(&["queues", "list"])[0];
    assert_eq!(
        (&line["concurrency"], &line["rate"], &line["burst"]),
        (&json!(2), &json!("1000/1s"), &json!(null))
    );
    assert!(line["limits_at"].is_string() && line["limits_by"].is_string(), "{line}");
    assert_eq!(set(&["--rate", "none"]).code, 0);
    assert_eq!(place.json(&["queues", "list"])[0]["rate"], json!(null));
    assert!(place.run(&["queues", "list"]).text().contains("2 at once"));
    set(&["--concurrency", "0"]).refused(2, "OW0127");
    set(&["--burst", "3"]).refused(2, "OW0127");
    set(&["--rate", "often"]).refused(2, "OW0127");
    assert_eq!(set(&["--concurrency", "none"]).code, 0);
    assert_eq!(place.json(&["queues", "list"])[0]["concurrency"], json!(null));
}

#[test]
fn j10_queues_are_told_how_many_jobs_of_a_key_run() {
    let place = place();
    let set = |args: &[&str]| place.run(&[&["queues", "set", "default"], args].concat());
    assert_eq!(set(&["--concurrency", "2"]).code, 0);
    assert_eq!(place.json(&["queues", "list"])[0]["key_concurrency"], json!(1));
    let seen = set(&["--per-key", "3"]);
    assert!(seen.stderr.contains("2 at once; of one ordering key 3 run"), "{}", seen.stderr);
    let line = &place.json(&["queues", "list"])[0];
    assert_eq!((&line["key_concurrency"], &line["concurrency"]), (&json!(3), &json!(2)));
    assert!(line["keys_at"].is_string() && line["keys_by"].is_string(), "{line}");
    assert!(place.run(&["queues", "list"]).text().contains("PER KEY"));
    for bad in ["0", "1001", "many"] {
        set(&["--concurrency", "none", "--per-key", bad]).refused(2, "OW0127");
    }
    assert_eq!(place.json(&["queues", "list"])[0]["concurrency"], json!(2), "nothing was written");
    assert_eq!(set(&["--per-key", "none"]).code, 0);
    assert_eq!(place.json(&["queues", "list"])[0]["key_concurrency"], json!(1));
}
