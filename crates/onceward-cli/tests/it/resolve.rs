//! Settling what nobody knows.

use serde_json::json;

use crate::place::Place;

fn doubtful(keys: &[&str]) -> Place {
    let place = Place::new();
    for key in keys {
        assert_eq!(place.once(key, &[], "exit 3").code, 3);
    }
    place
}

#[test]
fn a_key_that_was_done_is_replayed_from_then_on() {
    let place = doubtful(&["k", "file"]);
    let args = ["once", "resolve", "k", "--done", "--reason", "it is in the ledger"];
    let table = place.run(&args);
    assert!(table.text().lines().nth(1).unwrap().starts_with("k    done   "), "{table:?}");
    place.once("k", &[], "echo again").printed(0, "");
    std::fs::write(place.path("printed"), b"paid\0\n").unwrap();
    let args = ["once", "resolve", "file", "--done", "--stdout", "printed", "--reason", "found its output"];
    assert_eq!(place.run(&args).code, 0);
    assert_eq!(place.once("file", &[], "echo again").stdout, b"paid\0\n");
}

#[test]
fn a_result_for_programs_is_json() {
    let place = doubtful(&["k"]);
    let args = ["once", "resolve", "k", "--done", "--result", "{ \"charge\": 1 }", "--reason", "x"];
    assert_eq!(place.run(&args).code, 0);
    let shown = place.json(&["once", "show", "k"]);
    assert_eq!(shown["body"]["content_type"], "application/json");
    assert_eq!(shown["body"]["text"], "{\"charge\":1}");
    place.once("k", &[], "true").printed(0, "{\"charge\":1}");
}

#[test]
fn a_key_that_failed_stays_failed() {
    let place = doubtful(&["k"]);
    let args = ["once", "resolve", "k", "--failed", "the card was declined", "--reason", "asked the bank"];
    assert_eq!(place.run(&args).code, 0);
    let seen = place.once("k", &[], "echo again");
    assert!(seen.refused(1, "OW0310").stderr.contains("the card was declined"), "{seen:?}");
}

#[test]
fn a_decision_holds_only_for_what_was_looked_at() {
    let place = doubtful(&["k"]);
    let token = place.json(&["once", "show", "k"])["token"].as_str().unwrap().to_owned();
    let resolve =
        |token: &str| place.run(&["once", "resolve", "k", "--release", "--token", token, "--reason", "x"]);
    resolve("17").refused(1, "OW0203");
    assert_eq!(resolve(&token).code, 0);
    place.once("k", &[], "exit 3");
    resolve(&token).refused(1, "OW0203");
}

#[test]
fn only_an_uncertain_key_can_be_resolved() {
    let place = Place::new();
    place.once("k", &[], "true").printed(0, "");
    place.run(&["once", "resolve", "k", "--release", "--reason", "x"]).refused(2, "OW0305");
    place.once("k", &[], "echo again").printed(0, "");
}

#[test]
fn a_dry_run_changes_nothing() {
    let place = doubtful(&["k"]);
    let args = ["once", "resolve", "k", "--release", "--reason", "x", "--dry-run"];
    let would = place.json(&args);
    assert_eq!((&would["state"], &would["dry_run"]), (&json!("released"), &json!(true)));
    place.once("k", &[], "true").refused(76, "OW0303");
}

#[test]
fn all_of_a_prefix_are_settled_at_once_after_a_dry_run() {
    let place = doubtful(&["a1", "a2", "b1"]);
    place.once("a3", &[], "true").printed(0, "");
    let args =
        ["once", "resolve", "--all", "--prefix", "a", "--release", "--reason", "the host had no network"];
    let would = place.json(&[&args[..], &["--dry-run"]].concat());
    assert_eq!(would["changed"], json!(["a1", "a2"]));
    assert_eq!(place.json(&["once", "list", "--uncertain"]).as_array().unwrap().len(), 3);
    assert_eq!(place.json(&args)["changed"], json!(["a1", "a2"]));
    assert_eq!(place.json(&["once", "list", "--uncertain"])[0]["key"], "b1");
    place.once("a1", &[], "echo hi").printed(0, "hi\n");
}

#[test]
fn the_history_says_who_when_and_why() {
    let place = doubtful(&["k"]);
    place.run(&["once", "resolve", "k", "--release", "--reason", "not in the ledger"]);
    let history = place.json(&["once", "history", "k"]);
    assert_eq!(history[0]["event"], "resolved_released");
    assert!(history[0]["actor"].as_str().unwrap().starts_with("ann@"), "{history}");
    assert_eq!(history[0]["reason"], "not in the ledger");
    assert!(history[0]["at"].as_str().unwrap().starts_with("20"));
    let events: Vec<_> =
        history.as_array().unwrap().iter().map(|row| row["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["resolved_released", "uncertain", "claimed"]);
    let table = place.run(&["once", "history", "k"]).text();
    assert!(table.contains("resolved_released") && table.contains("not in the ledger"), "{table}");
}
