//! `onceward jobs`, `worker`, `queues`, `dead`, `workers`: from enqueueing in the shell to the result.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::place::{Place, Running, is_alive, wait_until};

/// A file of allowed commands: `pay` succeeds, `fail` fails, `doubt` does not know, `later` wants to be tried again.
const COMMANDS: &str = r#"
[kinds]
pay = ["sh", "-c", "cat >> ledger; echo >> ledger; echo paid in attempt $ONCEWARD_ATTEMPT"]
fail = ["sh", "-c", "echo no >&2; exit 3"]
doubt = ["sh", "-c", "exit 76"]
later = ["sh", "-c", "test -e ready || { touch ready; exit 75; }"]
slow = ["sh", "-c", "echo $$ > pid; exec sleep 60"]
tell = ["sh", "-c", "echo $ONCEWARD_JOB_ID $ONCEWARD_FENCING_TOKEN $ONCEWARD_ATTEMPT $ONCEWARD_IDEMPOTENCY_KEY"]
lingers = ["sh", "-c", "sleep 30 & echo ok"]
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
    exit_codes_say_how_attempts_ended(&Place::new());
}

pub(crate) fn exit_codes_say_how_attempts_ended(place: &Place) {
    fs::write(place.path("commands.toml"), COMMANDS).unwrap();
    let dead = enqueue(place, &["fail", "--max-attempts", "2", "--retry", "fixed 100ms"]);
    let doubt = enqueue(place, &["doubt", "--at-most-once"]);
    let later = enqueue(place, &["later", "--at-most-once", "--retry", "fixed 100ms"]);
    let words = ["worker", "--queues", "default", "--concurrency", "50", "--until-empty"];
    let seen = place.run(&[&words[..], &["--commands", "commands.toml"]].concat());
    assert_eq!(seen.code, 0, "{}", seen.stderr);
    assert_eq!(state(place, &dead), "dead");
    assert_eq!(state(place, &doubt), "uncertain");
    assert_eq!(state(place, &later), "succeeded", "75 says that nothing had happened");
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

/// What a command gets to know of its attempt.
#[test]
fn a_command_is_told_its_job_its_attempt_and_its_token() {
    let place = place();
    let id = enqueue(&place, &["tell"]);
    work(&place);
    let shown = place.json(&["jobs", "show", &id]);
    let attempts = place.json(&["jobs", "attempts", &id]);
    let token = attempts[0]["token"].as_str().unwrap();
    assert!(token.parse::<i64>().unwrap() > 0, "{attempts}");
    assert_eq!(shown["result"]["text"], format!("{id} {token} 1 {id}\n"));
}

/// A command that has ended has ended, whatever it has left behind with its stdout open.
#[test]
fn a_command_that_leaves_something_running_has_ended() {
    let place = place();
    let began = std::time::Instant::now();
    let id = enqueue(&place, &["lingers"]);
    // What is left behind has the worker's stderr as well: nobody here may wait for that.
    let mut worker = place.command(&["worker", "--until-empty", "--commands", "commands.toml"]);
    let null = std::process::Stdio::null;
    assert!(worker.stdout(null()).stderr(null()).status().unwrap().success());
    assert!(began.elapsed() < std::time::Duration::from_secs(15), "{:?}", began.elapsed());
    let shown = place.json(&["jobs", "show", &id]);
    assert_eq!((&shown["state"], &shown["result"]["text"]), (&json!("succeeded"), &json!("ok\n")));
}

/// What is done to dead jobs is done to nothing else, and to all of them only where that is said.
#[test]
fn dead_discards_and_replays_only_dead_jobs() {
    let place = place();
    let dead = enqueue(&place, &["fail", "--max-attempts", "1"]);
    let paid = enqueue(&place, &["pay", "--text", "x"]);
    work(&place);
    let waits = enqueue(&place, &["pay", "--text", "y"]);
    for id in [&waits, &paid] {
        place.run(&["dead", "discard", id]).refused(2, "OW0703");
        place.run(&["dead", "replay", id]).refused(2, "OW0703");
    }
    for action in ["discard", "replay"] {
        place.run(&["dead", action]).refused(2, "OW0601");
        assert_eq!(place.run(&["dead", action, "--state", "ready"]).code, 2);
    }
    assert_eq!((state(&place, &waits), state(&place, &dead)), ("ready".into(), "dead".into()));
    assert_eq!(place.json(&["jobs", "list"]).as_array().unwrap().len(), 3, "nothing was made");

    let request = |ids: &[&str]| place.json(&[&["dead", "replay", "--request", "r-1"], ids].concat());
    let first = request(&[&dead]);
    assert_eq!((&first["id"], &first["replay_of"]), (&request(&[&dead])["id"], &json!(dead)));
    let bulk = request(&["--kind", "fail"]);
    assert_eq!(bulk["replayed"], json!([first]), "the same one");
    let forced = place.json(&["dead", "replay", &paid, "--force"]);
    assert_eq!(forced["replay_of"], json!(paid));
    assert_eq!(place.json(&["dead", "discard", "--all"])["changed"], json!([dead]));
    assert_eq!(state(&place, &dead), "cancelled");
}

/// W60: who finds a job that is dead is told so.
#[test]
fn w60_a_job_that_is_found_tells_its_state() {
    let place = place();
    let words = ["jobs", "enqueue", "fail", "--max-attempts", "1", "--idempotency-key", "k"];
    let first = place.json(&words);
    assert_eq!(first.as_object().unwrap().keys().collect::<Vec<_>>(), ["created", "id"]);
    work(&place);
    let again = place.json(&words);
    assert_eq!((&again["created"], &again["existing_state"]), (&json!(false), &json!("dead")));
    let seen = place.run(&words);
    assert!(seen.stderr.contains("under this key; it is dead"), "{}", seen.stderr);
}

#[test]
fn a_job_keeps_the_trace_it_was_given() {
    let place = place();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let id = enqueue(&place, &["pay", "--text", "x", "--trace", trace]);
    assert_eq!(place.json(&["jobs", "show", &id])["trace"], trace);
    let long = "x".repeat(513);
    place.run(&["jobs", "enqueue", "pay", "--trace", &long]).refused(2, "OW0108");
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
    a_pause_holds(&Place::new());
}

pub(crate) fn a_pause_holds(place: &Place) {
    fs::write(place.path("commands.toml"), COMMANDS).unwrap();
    assert_eq!(place.run(&["queues", "pause", "default", "--reason", "the bank is away"]).code, 0);
    let id = enqueue(place, &["pay", "--text", "x"]);
    let queues = place.json(&["queues", "list"]);
    assert_eq!((&queues[0]["ready"], &queues[0]["pause_reason"]), (&json!(1), &json!("the bank is away")));
    assert_eq!(state(place, &id), "ready");
    assert_eq!(place.run(&["queues", "resume", "default"]).code, 0);
    work(place);
    assert_eq!(state(place, &id), "succeeded");
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

/// Decisions 20: when a delayed or retried job is due is for the store's clock to say, whatever those of the workers
/// show.
pub(crate) fn workers_with_wrong_clocks_keep_to_the_stores(place: &Place) {
    use onceward::Timestamp;
    let Some(faketime) = std::env::var("ONCEWARD_TEST_FAKETIME").ok().filter(|file| !file.is_empty()) else {
        eprintln!("libfaketime is not installed: nothing was tested");
        return;
    };
    let commands = "[kinds]\npay = [\"true\"]\ntwice = [\"sh\", \"-c\", \"test $ONCEWARD_ATTEMPT -gt 1\"]\n";
    fs::write(place.path("commands.toml"), commands).unwrap();
    let delayed: Vec<_> = (0..8).map(|_| enqueue(place, &["pay", "--delay", "3s"])).collect();
    let retried: Vec<_> = (0..8).map(|_| enqueue(place, &["twice", "--retry", "fixed 2s"])).collect();
    let worker = |skew: &str| {
        let args = ["worker", "--commands", "commands.toml", "--concurrency", "4", "--no-services"];
        let mut command = place.command(&args);
        command.env("LD_PRELOAD", &faketime).env("FAKETIME", skew).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        Running::of(command.spawn().unwrap())
    };
    let workers = ["+1d", "-1d"].map(worker);
    let at = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    wait_until("all are done", || delayed.iter().chain(&retried).all(|id| state(place, id) == "succeeded"));
    for id in &delayed {
        let (shown, attempts) = (place.json(&["jobs", "show", id]), place.json(&["jobs", "attempts", id]));
        assert!(at(&attempts[0]["started_at"]) >= at(&shown["run_at"]), "{shown} {attempts}");
        assert_eq!(attempts.as_array().unwrap().len(), 1);
    }
    for id in &retried {
        let attempts = place.json(&["jobs", "attempts", id]);
        let pause = at(&attempts[1]["started_at"]).since(at(&attempts[0]["finished_at"]));
        assert!(pause >= std::time::Duration::from_secs(2), "{attempts}");
        assert_eq!(attempts.as_array().unwrap().len(), 2);
    }
    for worker in workers {
        worker.signal(Signal::TERM);
        assert_eq!(worker.end().code, 0);
    }
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
    let died = std::time::Instant::now();
    let second = place.start(&[&["worker"], &options[..]].concat());
    let command = place.wait_for_file("pid");
    // The session's ttl, and the time between two looks, which is a third of it.
    assert!(died.elapsed() < std::time::Duration::from_secs(8), "{:?}", died.elapsed());
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
fn purge_counts_first_and_takes_only_what_was_meant() {
    let place = place();
    let fail = |queue| enqueue(&place, &["fail", "--max-attempts", "1", "--queue", queue]);
    let (mine, theirs) = (fail("default"), fail("other"));
    for queue in ["default", "other"] {
        let words = ["worker", "--until-empty", "--horizon", "2s", "--commands", "commands.toml"];
        assert_eq!(place.run(&[&words[..], &["--queues", queue]].concat()).code, 0);
    }
    let purge = |args: &[&str]| place.json(&[&["purge", "--dead-older-than", "0s"], args].concat());
    let counted = purge(&["--dry-run"]);
    assert_eq!((&counted["dead_jobs"], &counted["dry_run"]), (&json!(2), &json!(true)));
    assert_eq!(purge(&["--dry-run", "--queue", "other"])["dead_jobs"], 1);
    assert_eq!(purge(&["--state", "cancelled"])["dead_jobs"], 0);
    assert_eq!(purge(&["--queue", "other", "--kind", "pay"])["dead_jobs"], 0);
    let gone = purge(&["--queue", "other", "--state", "dead", "--kind", "fail"]);
    assert_eq!(gone, json!({"dry_run": false, "jobs": 0, "dead_jobs": 1, "job_keys": 0}));
    place.run(&["jobs", "show", &theirs]).refused(2, "OW0701");
    assert_eq!(state(&place, &mine), "dead");
    place.run(&["purge", "--state", "uncertain"]).refused(2, "OW0601");
}

#[test]
fn j15_queues_are_told_what_waiting_counts_and_how_long_jobs_are_kept() {
    let place = place();
    let set = |args: &[&str]| place.run(&[&["queues", "set", "default"], args].concat());
    let seen = set(&["--ageing", "10m", "--retain", "1h", "--retain-dead", "30 days"]);
    assert_eq!(seen.code, 0);
    let words =
        "not limited; waiting counts as one priority per 10m; jobs are kept for 1h; dead ones for 30d";
    assert!(seen.stderr.contains(words), "{}", seen.stderr);
    let line = &place.json(&["queues", "list"])[0];
    assert_eq!(
        (&line["ageing_ms"], &line["retain_ms"], &line["retain_dead_ms"]),
        (&json!(600_000), &json!(3_600_000), &json!(2_592_000_000_u64))
    );
    assert!(line["tuned_at"].is_string() && line["tuned_by"].is_string(), "{line}");
    assert!(place.run(&["queues", "list"]).text().contains("1h, dead 30d"));
    assert_eq!(set(&["--ageing", "none", "--retain", "none"]).code, 0);
    let line = &place.json(&["queues", "list"])[0];
    assert_eq!((&line["ageing_ms"], &line["retain_dead_ms"]), (&json!(null), &json!(2_592_000_000_u64)));
    set(&["--ageing", "10ms", "--concurrency", "3"]).refused(2, "OW0127");
    set(&["--ageing", "soon"]).refused(2, "OW0105");
    set(&["--retain", "99999d"]).refused(2, "OW0109");
    assert_eq!(place.json(&["queues", "list"])[0]["concurrency"], json!(null), "nothing was written");
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

/// What changes something says what it did to programs as well; and what would be done to jobs named by their ids is
/// told without doing it.
#[test]
fn changes_are_told_to_programs_and_tried_first() {
    let place = place();
    let set = place.json(&["queues", "set", "default", "--concurrency", "2", "--retain", "1h"]);
    assert_eq!((&set["queue"], &set["limits"]["concurrency"]), (&json!("default"), &json!(2)));
    assert_eq!((&set["tuning"]["retain_ms"], &set["key_concurrency"]), (&json!(3_600_000), &json!(1)));
    assert_eq!(place.json(&["queues", "set", "default", "--concurrency", "none"])["queue"], "default");
    for (action, paused) in [("pause", true), ("resume", false), ("drain", true), ("resume", false)] {
        assert_eq!(
            place.json(&["queues", action, "default"]),
            json!({ "queue": "default", "paused": paused }),
            "{action}"
        );
    }

    let doubt = enqueue(&place, &["doubt", "--at-most-once"]);
    let dead = enqueue(&place, &["fail", "--max-attempts", "1", "--tag", "eu"]);
    let plain = enqueue(&place, &["fail", "--max-attempts", "1"]);
    let seen = place.run(&["worker", "--until-empty", "--commands", "commands.toml", "--tag", "eu"]);
    assert_eq!(seen.code, 0, "{}", seen.stderr);
    let of_eu = place.json(&["dead", "list", "--tag", "eu"]);
    assert_eq!((of_eu.as_array().unwrap().len(), &of_eu[0]["id"]), (1, &json!(dead)));
    let resolved = place.json(&["jobs", "resolve", &doubt, "--run-again", "--reason", "it was not there"]);
    assert_eq!(resolved, json!({ "id": doubt, "state": "ready" }));

    let would = |args: &[&str]| place.json(&[args, &["--dry-run"]].concat());
    let cancel = would(&["jobs", "cancel", &doubt]);
    assert_eq!(cancel, json!({ "id": doubt, "dry_run": true, "now": "would be cancelled" }));
    assert_eq!(would(&["jobs", "retry", &dead, &plain]).as_array().unwrap().len(), 2);
    assert_eq!(would(&["dead", "replay", &dead])["now"], "would be replayed");
    assert_eq!(would(&["dead", "discard", &dead])["now"], "would be cancelled");
    place.run(&["jobs", "replay", &doubt, "--dry-run"]).refused(2, "OW0703");
    assert_eq!((state(&place, &doubt), state(&place, &dead)), ("ready".into(), "dead".into()));
    assert_eq!(place.json(&["jobs", "list"]).as_array().unwrap().len(), 3, "nothing was made");

    let worker = place.start(&["worker", "--commands", "commands.toml", "--queues", "other"]);
    wait_until("a worker", || !place.json(&["workers", "list"]).as_array().unwrap().is_empty());
    let session = place.json(&["workers", "list"])[0]["id"].as_str().unwrap().to_owned();
    for (action, draining) in [("drain", true), ("undrain", false)] {
        assert_eq!(
            place.json(&["workers", action, &session]),
            json!({ "session": session, "draining": draining })
        );
    }
    worker.signal(Signal::TERM);
    assert_eq!(worker.end().code, 0);
}

/// A command that was told to end has the time that `--kill-after` says, also where its worker leaves.
#[test]
fn a_worker_that_leaves_gives_its_commands_their_time() {
    let place = Place::new();
    let on_term = "sleep 2.5; echo $ONCEWARD_ATTEMPT > tidied; exit 1";
    let tidies = format!("trap \"{on_term}\" TERM; echo $$ > pid; while :; do sleep 0.1; done");
    let commands = format!("[kinds]\ntidies = [\"sh\", \"-c\", '''{tidies}''']\n");
    fs::write(place.path("commands.toml"), commands).unwrap();
    let id = enqueue(&place, &["tidies"]);
    let words = ["worker", "--commands", "commands.toml", "--grace", "10ms", "--kill-after", "30s"];
    let worker = place.start(&words);
    place.wait_for_file("pid");
    worker.signal(Signal::TERM);
    assert_eq!(worker.end().code, 0);
    assert_eq!(place.read("tidied").trim(), "1");
    let shown = place.json(&["jobs", "show", &id]);
    assert_eq!((&shown["state"], &shown["lost"]), (&json!("retrying"), &json!(0)), "{shown}");
}
