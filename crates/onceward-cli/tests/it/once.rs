//! `onceward once`: what is recorded, what is replayed, and what an end proves.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::place::Place;

#[test]
fn a_second_call_replays_the_bytes_without_running() {
    let place = Place::new();
    let script = r"echo x >> ledger; printf 'a\000b\377\n\n'; echo words >&2";
    for call in 0..3 {
        let seen = place.once("k", &[], script);
        assert_eq!((seen.code, seen.stdout.as_slice()), (0, &b"a\0b\xff\n\n"[..]), "{}", seen.stderr);
        assert_eq!(seen.stderr, if call == 0 { "words\n" } else { "" }, "stderr passes through, unrecorded");
    }
    assert_eq!(place.read("ledger"), "x\n");
}

#[test]
fn an_empty_result_is_a_result() {
    let place = Place::new();
    place.once("k", &[], "true").printed(0, "");
    place.once("k", &[], "echo again").printed(0, "");
}

#[test]
fn a_recorded_failure_is_replayed_with_its_code_and_bytes() {
    let place = Place::new();
    let script = r"echo x >> ledger; printf 'declined\000\376'; exit 3";
    for _ in 0..2 {
        let seen = place.once("k", &["--on-failure", "record"], script);
        assert_eq!((seen.code, seen.stdout.as_slice()), (3, &b"declined\0\xfe"[..]), "{}", seen.stderr);
        assert_eq!(seen.stderr, "");
    }
    assert_eq!(place.read("ledger"), "x\n");
    let shown = place.json(&["once", "show", "k"]);
    assert_eq!(
        (&shown["state"], &shown["reason"]),
        (&json!("failed"), &json!("the command ended with exit status: 3"))
    );
}

#[test]
fn a_failure_that_is_to_be_retried_leaves_the_key_free() {
    let place = Place::new();
    let script = "echo x >> ledger; test $(wc -l < ledger) -gt 1";
    assert_eq!(place.once("k", &["--on-failure", "retry"], script).code, 1);
    assert_eq!(place.once("k", &["--on-failure", "retry"], script).code, 0);
    assert_eq!(place.once("k", &["--on-failure", "retry"], script).code, 0);
    assert_eq!(place.read("ledger"), "x\nx\n");
}

#[test]
fn a_command_that_exits_with_75_was_not_started() {
    let place = Place::new();
    let seen = place.once("k", &["--on-failure", "record"], "exit 75");
    assert_eq!((seen.code, seen.stderr.as_str()), (75, ""), "without a line of ours");
    place.once("k", &[], "echo hi").printed(0, "hi\n");
}

#[test]
fn any_other_failure_proves_nothing() {
    let place = Place::new();
    let first = place.once("k", &[], "echo half; exit 3");
    first.printed(3, "half\n");
    assert!(first.stderr.starts_with("onceward: the key \"k\" is uncertain now"), "{}", first.stderr);
    let second = place.once("k", &[], "echo again");
    second.refused(76, "OW0303").printed(76, "");
    assert!(second.stderr.contains("the command ended with exit status: 3"), "{}", second.stderr);
    assert!(second.stderr.contains("onceward once resolve k --token "), "{}", second.stderr);
}

#[test]
fn death_by_a_signal_proves_nothing() {
    let place = Place::new();
    for policy in ["uncertain", "record", "retry"] {
        assert_eq!(place.once(policy, &["--on-failure", policy], "kill -9 $$").code, 137);
        let next = place.once(policy, &[], "true");
        assert!(next.refused(76, "OW0303").stderr.contains("signal: 9"), "{}", next.stderr);
    }
}

#[test]
fn a_command_that_can_not_be_started_leaves_the_key_free() {
    let place = Place::new();
    std::fs::write(place.path("plain"), "no program").unwrap();
    place.run(&["once", "--key", "k", "--", "./no-such-program"]).refused(127, "OW0602").printed(127, "");
    place.run(&["once", "--key", "k", "--", "./plain"]).refused(126, "OW0602").printed(126, "");
    place.once("k", &[], "echo hi").printed(0, "hi\n");
    let events = place.json(&["once", "history", "k"]);
    let events: Vec<_> =
        events.as_array().unwrap().iter().map(|row| row["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["done", "claimed", "not_started", "claimed", "not_started", "claimed"]);
}

#[test]
fn a_command_that_runs_and_exits_with_127_is_not_taken_for_one_that_was_not_found() {
    let place = Place::new();
    assert_eq!(place.once("k", &[], "exit 127").code, 127);
    place.once("k", &[], "true").refused(76, "OW0303");
}

/// O13
#[test]
fn a_result_that_is_too_large_is_done_without_its_body() {
    let place = Place::new();
    let script = "head -c 1048577 /dev/zero";
    assert_eq!(place.once("large", &[], script).stdout.len(), 1_048_577, "the first caller gets it all");
    let replay = place.once("large", &[], script);
    replay.printed(0, "");
    assert!(replay.stderr.contains("its result had 1048577 bytes"), "{}", replay.stderr);
    let script = "head -c 1048576 /dev/zero";
    for _ in 0..2 {
        assert_eq!(place.once("fits", &[], script).stdout, vec![0; 1_048_576]);
    }
    let script = "head -c 3000000 /dev/zero; exit 4";
    assert_eq!(place.once("failed", &["--on-failure", "record"], script).stdout.len(), 3_000_000);
    let replay = place.once("failed", &[], script);
    replay.printed(4, "");
    assert!(replay.stderr.contains("3000000 bytes"), "{}", replay.stderr);
}

/// O4
#[test]
fn another_fingerprint_is_refused_and_told_nothing() {
    let place = Place::new();
    place.once("k", &["--fingerprint", "amount=90"], "echo secret").printed(0, "secret\n");
    place.once("k", &["--fingerprint", "amount=90"], "echo other").printed(0, "secret\n");
    place.once("k", &[], "echo other").printed(0, "secret\n");
    let seen = place.once("k", &["--fingerprint", "amount=95"], "echo other");
    assert!(!seen.refused(2, "OW0301").printed(2, "").stderr.contains("secret"));
}

#[test]
fn a_restartable_command_runs_again_under_a_larger_token() {
    let place = Place::new();
    let script = "echo $ONCEWARD_FENCING_TOKEN >> tokens; test $(wc -l < tokens) -gt 1";
    assert_eq!(place.once("k", &["--restartable"], script).code, 1);
    assert_eq!(place.once("k", &["--restartable"], script).code, 0);
    let tokens = place.read("tokens");
    let tokens: Vec<u64> = tokens.lines().map(|token| token.parse().unwrap()).collect();
    assert!(tokens[1] > tokens[0], "{tokens:?}");
}

/// O8
#[test]
fn a_retired_result_may_run_again() {
    let place = Place::new();
    place.once("k", &["--retain", "1s"], "echo one").printed(0, "one\n");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    place.once("k", &[], "echo two").printed(0, "two\n");
}

#[test]
fn the_command_is_told_its_key_and_token_and_nothing_of_ours() {
    let place = Place::new();
    let args = ["once", "--key", "k", "--namespace", "billing", "--", "env"];
    let env = place.run(&args).text();
    let told: Vec<&str> = env.lines().filter(|line| line.starts_with("ONCEWARD_")).collect();
    let token = place.json(&["once", "show", "k", "--namespace", "billing"])["token"].clone();
    for line in ["ONCEWARD_KEY=k", "ONCEWARD_NAMESPACE=billing"] {
        assert!(told.contains(&line), "{told:?}");
    }
    assert!(told.contains(&format!("ONCEWARD_FENCING_TOKEN={}", token.as_str().unwrap()).as_str()));
    assert!(!told.iter().any(|line| line.contains("SHIM")), "{told:?}");
    place.run(&["once", "show", "k"]).refused(2, "OW0309");
}

#[test]
fn the_status_file_says_what_an_exit_code_can_not() {
    let place = Place::new();
    let told = |key: &str, options: &[&str], script: &str| {
        let seen = place.once(key, &[&["--status-file", "status"], options].concat(), script);
        let mut told: Value = serde_json::from_str(&place.read("status")).unwrap();
        assert_eq!(told["exit_code"], seen.code);
        let token = told["token"].take();
        assert!(token.is_null() || token.as_str().is_some_and(|token| token.parse::<u64>().is_ok()));
        (told, token)
    };
    let status = |outcome: &str, exit_code: i32, replayed: bool, code: Option<&str>| {
        let mut status = json!({ "outcome": outcome, "exit_code": exit_code, "token": null });
        (status["replayed"], status["code"]) = (replayed.into(), code.into());
        status
    };
    let (first, token) = told("done", &[], "true");
    assert_eq!(first, status("done", 0, false, None));
    assert_eq!(told("done", &[], "true"), (status("done", 0, true, None), token));
    assert_eq!(told("bad", &["--on-failure", "record"], "exit 69").0, status("failed", 69, false, None));
    assert_eq!(told("bad", &[], "true").0, status("failed", 69, true, None));
    assert_eq!(told("later", &[], "exit 75").0, status("not_started", 75, false, None));
    assert_eq!(told("doubt", &[], "exit 76").0, status("uncertain", 76, false, None));
    assert_eq!(told("doubt", &[], "true").0, status("uncertain", 76, false, Some("OW0303")));
    assert_eq!(told("", &[], "true").0, status("error", 2, false, Some("OW0101")));
    let _running = place.start_once("busy", &[], "echo on > began; exec sleep 30");
    place.wait_for_file("began");
    assert_eq!(told("busy", &[], "true").0, status("running", 75, false, Some("OW0302")));
}

#[test]
fn a_status_file_that_can_not_be_written_starts_nothing() {
    let place = Place::new();
    place.once("k", &["--status-file", "no/where"], "echo x >> ledger").refused(2, "OW0605");
    assert_eq!(place.read("ledger"), "");
    place.run(&["once", "show", "k"]).refused(2, "OW0309");
}

#[test]
fn a_closed_stdout_does_not_keep_the_work_from_being_done() {
    let place = Place::new();
    let script = "head -c 300000 /dev/zero; echo x >> ledger";
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = place.command(&["once", "--key", "k", "--", "sh", "-c", script]);
    let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    assert_eq!(place.read("ledger"), "x\n");
    assert_eq!(place.once("k", &[], script).stdout.len(), 300_000, "all of it was recorded");
}

#[test]
fn a_list_has_pages_prefixes_and_states() {
    let place = Place::new();
    for key in ["a1", "a2", "b1"] {
        place.once(key, &[], "true");
    }
    place.once("b2", &[], "exit 1");
    let keys = |args: &[&str]| -> Vec<String> {
        let rows = place.json(&[&["once", "list"], args].concat());
        rows.as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(keys(&[]), ["a1", "a2", "b1", "b2"]);
    assert_eq!(keys(&["--prefix", "b"]), ["b1", "b2"]);
    assert_eq!(keys(&["--state", "done", "--after", "a1"]), ["a2", "b1"]);
    assert_eq!(keys(&["--limit", "2"]), ["a1", "a2"]);
    assert_eq!(keys(&["--uncertain"]), ["b2"]);
    let table = place.run(&["once", "list", "--limit", "2"]);
    assert!(table.stderr.contains("--after \"a2\""), "{}", table.stderr);
    assert!(table.text().lines().nth(1).unwrap().starts_with("a1   done   "), "{}", table.text());
}

#[test]
fn json_has_stable_names() {
    let place = Place::new();
    place.once("k", &[], "echo hi").printed(0, "hi\n");
    place.run(&["lease", "--key", "k", "--", "true"]).printed(0, "");
    let names = |value: &Value| -> String {
        let names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        names.join(" ")
    };
    let row = "attempts body claimed_at expires_at finished_at hard_expires_at key late namespace owner reason \
               retain_ms retain_until state token ttl_ms uncertain_at uncertain_since";
    assert_eq!(names(&place.json(&["once", "list"])[0]), row);
    let shown = place.json(&["once", "show", "k"]);
    assert_eq!(names(&shown), row);
    assert_eq!(names(&shown["body"]), "content_type size text");
    let event = "actor at event key namespace reason subject token";
    assert_eq!(names(&place.json(&["once", "history", "k"])[0]), event);
    assert_eq!(names(&place.json(&["lease", "history", "k"])[0]), event);
    let row = "expires_at free_at granted_at hard_expires_at heartbeats key lock_delay_ms metadata namespace owner \
               released_at slot standing token ttl_ms";
    assert_eq!(names(&place.json(&["lease", "list"])[0]), row);
    assert_eq!(names(&place.json(&["migrate", "status"])), "ahead applied pending");
    assert_eq!(names(&place.json(&["prune"])), "dead_jobs history job_keys jobs journals leases once terms");
    let findings = place.json(&["doctor"]);
    assert_eq!(names(&findings), "findings store");
    assert_eq!(names(&findings["findings"][0]), "check code found severity");
}
