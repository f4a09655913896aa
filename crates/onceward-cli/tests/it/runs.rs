//! `onceward runs`: from the shell to the end of a run, and into another store.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::place::{Place, Seen};

/// A program of one's own with this command line: the example `shop`, which is built together with the tests.
fn shop(place: &Place, args: &[&str]) -> Seen {
    let tests = std::env::current_exe().unwrap();
    let profile = tests.ancestors().find(|folder| folder.join("examples").is_dir()).unwrap();
    let program: PathBuf = profile.join("examples").join("shop");
    let like = place.command(args);
    let mut command = Command::new(program);
    command.args(args).current_dir(like.get_current_dir().unwrap()).stdin(Stdio::null());
    command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.output().unwrap().into()
}

fn work(place: &Place) {
    let seen =
        shop(place, &["worker", "--no-http", "--until-empty", "--horizon", "1s", "--session-ttl", "2s"]);
    assert_eq!(seen.code, 0, "{}", seen.stderr);
}

const ORDER: &str = r#"{"order":789}"#;

/// The way of a run from the shell to its end, in the words of the documentation.
#[test]
fn a_run_is_started_watched_checked_and_brought_to_its_end() {
    let place = Place::new();
    let start = ["runs", "start", "checkout", "--id", "order-789"];
    let first = place.json(&[&start[..], &["--json", ORDER]].concat());
    let again = place.json(&[&start[..], &["--json", ORDER]].concat());
    assert_eq!(
        (&again["id"], &again["created"], &first["created"]),
        (&first["id"], &json!(false), &json!(true))
    );
    place.run(&[&start[..], &["--json", r#"{"order":1}"#]].concat()).refused(2, "OW0702");
    place.run(&["runs", "start", "checkout", "--json", "[789]"]).refused(2, "OW0707");
    place.run(&["runs", "start", "checkout", "--json", "{"]).refused(2, "OW0601");
    let id = first["id"].as_str().unwrap();

    work(&place);
    let tree = place.run(&["runs", "tree", id]);
    let expected =
        format!("· checkout parked {id}\n├─ ✓ step reserve\n├─ ✓ pack ████████████████████ 8 of 8\n");
    assert_eq!(tree.text(), expected + "└─ · signal courier\n");
    let tree = place.json(&["runs", "tree", id]);
    let asked = tree["asked"].as_array().unwrap();
    let packs = asked.iter().filter(|asked| asked["name"] == "pack");
    assert_eq!(packs.filter(|pack| pack["run"]["state"] == "succeeded").count(), 8);

    the_code_is_held_against_it(&place, id);
    it_moves_to_another_store(&place, id);
    it_says_which_generation_it_is(&place);

    it_stands_still_for_a_while(&place, id);
    place.run(&["runs", "signal", id, "courier", "--json", "\"Ada\""]);
    let watch = place.start(&["runs", "watch", id, "--every", "50ms"]);
    work(&place);
    let watched = watch.end();
    assert_eq!(watched.code, 0, "{}", watched.stderr);
    assert!(watched.text().contains(&format!("{id} checkout: step ship done\n")), "{}", watched.text());
    assert!(watched.text().ends_with(&format!("{id} checkout succeeded\n")), "{}", watched.text());
    it_is_done_once_more(&place, id);
}

fn the_code_is_held_against_it(place: &Place, id: &str) {
    place.run(&["runs", "check"]).refused(2, "OW0854");
    let checked = shop(place, &["runs", "check", "--output", "json"]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    let runs: Vec<Value> = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!((runs.len(), &runs[0]["id"], &runs[0]["verdict"]), (1, &json!(id), &json!("replays")));
    assert!(checked.stderr.contains("1 runs would go on, 0 would not, 0 are of functions unknown here"));

    // Yesterday's code had another step there.
    let recorded = place.run(&["runs", "export", id, "--alone"]).text();
    fs::write(place.path("run.jsonl"), recorded.replace("\"reserve\"", "\"look\"")).unwrap();
    let differs = shop(place, &["runs", "check", "--recorded", "run.jsonl"]);
    assert_eq!(differs.code, 1, "{}", differs.stderr);
    assert!(differs.stderr.contains("OW0855"), "{}", differs.stderr);
    let shown = "the journal has step `look`, and the code asks for step `reserve`\n  \
                 -      0  step `look` value\n  +   code  step `reserve`\n";
    assert!(differs.text().contains(shown), "{}", differs.text());
}

fn it_stands_still_for_a_while(place: &Place, id: &str) {
    let paused = place.json(&["runs", "pause", id, "--reason", "the bank is away"]);
    assert_eq!(paused, json!([{ "id": id, "now": "paused" }]));
    assert!(place.run(&["runs", "tree", id]).text().starts_with("‖ checkout paused"));
    let shown = place.json(&["runs", "show", id]);
    assert_eq!(
        (&shown["paused"]["reason"], &shown["standing"]),
        (&json!("the bank is away"), &json!("paused"))
    );
    let waits = &shown["waits_for"][0];
    assert_eq!(
        (&waits["op"], &waits["name"], &waits["until"]),
        (&json!("signal"), &json!("courier"), &Value::Null)
    );
    let shown = place.run(&["runs", "show", id]).text();
    assert!(shown.contains("paused") && shown.contains(": the bank is away"), "{shown}");
    place.run(&["runs", "pause", "01980000-0000-7000-8000-000000000000"]).refused(2, "OW0907");
    place.run(&["runs", "pause"]).refused(2, "OW0601");
    assert_eq!(place.json(&["runs", "resume", id]), json!([{ "id": id, "now": "resumed" }]));

    // The same of all of a kind.
    let parked = ["--function", "checkout", "--newer-than", "1h"];
    let would = place.json(&[&["runs", "pause", "--dry-run"][..], &parked].concat());
    assert_eq!(would, json!({ "dry_run": true, "changed": [id], "left": [] }));
    let done = place.json(&[&["runs", "pause", "--reason", "all of them"][..], &parked].concat());
    assert_eq!(done, json!({ "dry_run": false, "changed": [id], "left": [] }));
    let listed = |state: &str| place.json(&["runs", "list", "--state", state]).as_array().unwrap().len();
    assert_eq!((listed("paused"), listed("parked"), listed("succeeded")), (1, 0, 8));
    assert!(place.run(&["runs", "list", "--state", "paused"]).text().contains("paused"));
    let resumed = place.run(&["runs", "resume", "--state", "paused"]);
    assert!(resumed.stderr.contains("1 changed, 0 left alone"), "{}", resumed.stderr);
    let none = place.json(&["runs", "cancel", "--function", "checkout", "--older-than", "1h"]);
    assert_eq!(none, json!({ "dry_run": false, "changed": [], "left": [] }));
    place.run(&["runs", "cancel"]).refused(2, "OW0601");
    place.run(&["runs", "signal", "courier"]).refused(2, "OW0601");
    place.run(&["runs", "list", "--state", "asleep"]).refused(2, "OW0601");
    let would = place.json(&["runs", "signal", "courier", "--function", "checkout", "--dry-run"]);
    assert_eq!(would["changed"], json!([id]));
}

/// What has ended is begun once more in the middle.
fn it_is_done_once_more(place: &Place, id: &str) {
    place.run(&["runs", "retry", id]).refused(2, "OW0908");
    place.run(&["runs", "fork", id, "--from", "nowhere"]).refused(2, "OW0856");
    let fork = place.json(&["runs", "fork", id, "--from", "ship", "--request", "ticket 7"]);
    let again = place.json(&["runs", "fork", id, "--from", "ship", "--request", "ticket 7"]);
    assert_eq!((&fork, &fork["fork_of"]), (&again, &json!(id)));
    let new = fork["id"].as_str().unwrap();
    let kept = place.json(&["runs", "history", new]).as_array().unwrap().len();
    assert_eq!(json!(kept), fork["kept"]);
    work(place);
    assert!(place.run(&["runs", "tree", new]).text().starts_with("✓ checkout succeeded"));
    assert_eq!(place.json(&["runs", "show", new])["replay_of"], json!(id));
}

/// One that has gone on as new twice, and has a signal from before.
fn it_says_which_generation_it_is(place: &Place) {
    let id = "01980000-0000-7000-8000-000000000001";
    let at = r#""at":"2026-11-01T00:00:00Z","token":5"#;
    let recorded = [
        format!(
            r#"{{"onceward":"run","format":1,"id":"{id}","kind":"mailbox","queue":"default","state":"scheduled",
                "content_type":"application/json","args":{{"value":{{"seen":2}}}},
                "enqueued_at":"2026-11-01T00:00:00Z"}}"#
        )
        .replace('\n', " "),
        format!(r#"{{"seq":0,"position":"","op":"continue","phase":"value","data":{{"value":2}},{at}}}"#),
        format!(r#"{{"seq":1,"position":"","op":"signal","name":"mail","phase":"value","data":{{"value":1}},{at}}}"#),
        format!(r#"{{"seq":2,"position":"0","op":"step","name":"file","phase":"value","data":{{"value":7}},{at}}}"#),
    ];
    fs::write(place.path("mailbox.jsonl"), recorded.join("\n")).unwrap();
    place.run(&["runs", "import", "mailbox.jsonl"]);
    let shown = place.json(&["runs", "show", id]);
    assert_eq!((&shown["generation"], &shown["waits_for"]), (&json!(2), &json!([])));
    assert!(place.run(&["runs", "show", id]).text().contains("generation 2: so often"));
    let tree = place.run(&["runs", "tree", id]).text();
    assert_eq!(tree, format!("· mailbox ready, generation 2 {id}\n└─ ✓ step file\n"));
    assert_eq!(place.json(&["runs", "tree", id])["generation"], json!(2));
    place.run(&["runs", "cancel", id]);
}

fn it_moves_to_another_store(place: &Place, id: &str) {
    let exported = place.run(&["runs", "export", id]).text();
    assert_eq!(exported.matches(r#""onceward":"run""#).count(), 9, "{exported}");
    fs::write(place.path("runs.jsonl"), &exported).unwrap();
    let other = ["--store", "sqlite://other.db"];
    let taken = place.json(&[&["runs", "import", "runs.jsonl"][..], &other].concat());
    assert!(taken.as_array().unwrap().iter().all(|run| run["created"] == true), "{taken}");
    let again = place.run(&[&["runs", "import", "runs.jsonl"][..], &other].concat());
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);
    let history = |place: &Place, more: &[&str]| {
        let history = place.json(&[&["runs", "history", id][..], more].concat());
        let entries = history.as_array().unwrap().iter();
        entries.map(|entry| (entry["position"].clone(), entry["value"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(history(place, &other), history(place, &[]));
    fs::write(place.path("bad.jsonl"), exported.replace("\"format\":2", "\"format\":9")).unwrap();
    place.run(&[&["runs", "import", "bad.jsonl"][..], &other].concat()).refused(2, "OW0852");
    place.run(&["runs", "export", "01980000-0000-7000-8000-000000000000"]).refused(2, "OW0907");
    place.run(&["runs", "tree", "01980000-0000-7000-8000-000000000000"]).refused(2, "OW0907");
}
