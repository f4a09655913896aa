//! Processes that are killed, paused, and come back.

use std::time::Duration;

use rustix::process::Signal;

use crate::place::{Place, is_alive, wait_until};

/// On SQLite, and on PostgreSQL.
pub(crate) fn each(test: impl Fn(&Place)) {
    test(&Place::new());
    #[cfg(feature = "postgres")]
    {
        let schema = crate::postgres::Schema::new();
        assert_eq!(schema.place.run(&["migrate", "up"]).code, 0);
        test(&schema.place);
    }
}

fn events(place: &Place, subject: &str, key: &str) -> Vec<(String, String)> {
    let rows = place.json(&[subject, "history", key]);
    let text = |row: &serde_json::Value, field: &str| row[field].as_str().unwrap().to_owned();
    rows.as_array().unwrap().iter().map(|row| (text(row, "event"), text(row, "actor"))).collect()
}

/// N1, O5, O6
#[test]
fn a_killed_runner_leaves_the_key_uncertain_until_somebody_settles_it() {
    each(|place| {
        let script = "echo $$ > pid; exec sleep 60";
        let running = place.start_once("k", &["--ttl", "2s", "--owner", "web1"], script);
        let command = place.wait_for_file("pid");
        running.signal(Signal::KILL);
        running.end();
        wait_until("the command dies with its parent", || !is_alive(&command));
        place.once("k", &[], "true").refused(75, "OW0302");
        wait_until("the ttl is over", || place.once("k", &[], "echo x >> ledger").code == 76);
        assert_eq!(place.read("ledger"), "");
        let uncertain = place.json(&["once", "list", "--uncertain"]);
        assert_eq!((&uncertain[0]["key"], &uncertain[0]["owner"]), (&"k".into(), &"web1".into()));
        let token = uncertain[0]["token"].as_str().unwrap();
        let how = ["once", "resolve", "k", "--release", "--token", token, "--reason", "not in the ledger"];
        assert_eq!(place.run(&[&how[..], &["--as", "ann"]].concat()).code, 0);
        place.once("k", &["--owner", "web2"], "echo hi").printed(0, "hi\n");
        let events = events(place, "once", "k");
        let events: Vec<_> = events.iter().map(|(event, actor)| (event.as_str(), actor.as_str())).collect();
        assert_eq!(&events[..3], [("done", "web2"), ("claimed", "web2"), ("resolved_released", "ann")]);
        assert!(
            events.contains(&("claimed", "web1")) && events.iter().any(|(event, _)| *event == "expired"),
            "{events:?}"
        );
    });
}

/// L1, L3
#[test]
fn a_lease_holder_that_was_paused_is_overtaken_and_its_command_killed() {
    each(|place| {
        let script = "echo $$ > pid; echo $ONCEWARD_FENCING_TOKEN > first; exec sleep 60";
        let first = place.start_lease("k", &["--ttl", "1s"], script);
        let command = place.wait_for_file("pid");
        first.signal(Signal::STOP);
        std::thread::sleep(Duration::from_secs(3));
        let second = place.run(&[
            "lease",
            "--key",
            "k",
            "--ttl",
            "1s",
            "--",
            "sh",
            "-c",
            "echo $ONCEWARD_FENCING_TOKEN",
        ]);
        assert_eq!(second.code, 0, "{second:?}");
        let tokens: Vec<u64> = [&place.wait_for_file("first"), second.text().trim()]
            .map(|token| token.parse().unwrap())
            .to_vec();
        assert!(tokens[1] > tokens[0], "{tokens:?}");
        first.signal(Signal::CONT);
        let first = first.end();
        first.refused(75, "OW0202");
        assert!(!is_alive(&command), "its command is gone when it says so");
        let standing = place.json(&["lease", "show", "k"]);
        assert_eq!(
            standing[0]["token"].as_str().unwrap(),
            tokens[1].to_string(),
            "nothing of the second was undone"
        );
    });
}

/// O7
#[test]
fn a_paused_runner_can_not_settle_over_a_decision() {
    each(|place| {
        let script = "echo $$ > pid; trap '' TERM; while ! test -e go; do sleep 0.05; done; echo late";
        let status = place.path("status");
        let options = ["--ttl", "1s", "--kill-after", "1s", "--status-file", status.to_str().unwrap()];
        let running = place.start_once("k", &options, script);
        let command = place.wait_for_file("pid");
        running.signal(Signal::STOP);
        wait_until("the ttl is over", || place.once("k", &[], "true").code == 76);
        let how = ["once", "resolve", "k", "--done", "--stdout", "-", "--reason", "it is in the ledger"];
        assert_eq!(place.run(&how).code, 0);
        std::fs::write(place.path("go"), "").unwrap();
        wait_until("the command ends by itself", || !is_alive(&command));
        running.signal(Signal::CONT);
        let seen = running.end();
        // The key is not uncertain, and there is nothing left to resolve.
        seen.refused(76, "OW0304");
        assert!(seen.stderr.contains("onceward once history k"), "{seen:?}");
        assert!(!seen.stderr.contains("once resolve"), "{seen:?}");
        let told: serde_json::Value = serde_json::from_str(&place.read("status")).unwrap();
        assert_eq!(
            (&told["outcome"], &told["exit_code"], &told["code"]),
            (&"superseded".into(), &76.into(), &"OW0304".into())
        );
        place.once("k", &[], "true").printed(0, "");
        assert_eq!(events(place, "once", "k")[0].0, "resolved_done");
    });
}

#[test]
fn a_parent_that_dies_takes_the_command_of_a_lease_with_it() {
    let place = Place::new();
    let running = place.start_lease("k", &[], "echo $$ > pid; exec sleep 60");
    let command = place.wait_for_file("pid");
    running.signal(Signal::KILL);
    running.end();
    wait_until("the command dies with its parent", || !is_alive(&command));
}

#[test]
fn an_execution_at_its_hard_limit_is_stopped_with_all_it_has_started() {
    let place = Place::new();
    let script = "trap 'echo term > termed' TERM; sh -c 'echo $$ > inner; sleep 61'; sleep 62";
    let options = ["--ttl", "1s", "--hard-ttl", "2s", "--kill-after", "1s"];
    let running = place.start_once("k", &options, script);
    let inner = place.wait_for_file("inner");
    let seen = running.end();
    assert!(seen.refused(76, "OW0303").stderr.contains("hard limit"), "{seen:?}");
    assert_eq!(place.wait_for_file("termed"), "term", "TERM comes first");
    wait_until("its own child is gone too", || !is_alive(&inner));
    place.once("k", &[], "true").refused(76, "OW0303");
}

/// O1: a command that tidies up after TERM is not overtaken by one that may run the key again.
#[test]
fn o1_a_second_command_begins_after_the_first_was_stopped_at_its_hard_limit() {
    let place = Place::new();
    let script = "trap 'sleep 0.7; echo gone >> log; exit 0' TERM; echo on >> log; echo on > began; \
                  while :; do sleep 0.05; done";
    let options = ["--ttl", "1s", "--hard-ttl", "6s", "--kill-after", "3s"];
    let first = place.start_once("k", &options, script);
    place.wait_for_file("began");
    let again = || place.once("k", &["--restartable"], "echo second >> log");
    wait_until("the key is run again", || again().code == 0);
    assert_eq!(place.read("log"), "on\ngone\nsecond\n");
    // Its exit code 0 proves nothing: it was told to stop.
    assert_eq!(first.end().code, 76);
}

/// O1: one that does not heed TERM is dead by its hard limit.
#[test]
fn o1_a_command_that_ignores_term_is_killed_before_the_key_runs_again() {
    let place = Place::new();
    let script = "echo $$ > pid; trap '' TERM; echo on > began; while :; do sleep 0.05; done";
    let options = ["--ttl", "1s", "--hard-ttl", "4s", "--kill-after", "30s"];
    let first = place.start_once("k", &options, script);
    place.wait_for_file("began");
    let look = "if kill -0 $(cat pid) 2> kill; then echo beside; else echo after; fi > second";
    wait_until("the key is run again", || place.once("k", &["--restartable"], look).code == 0);
    assert_eq!(place.read("second"), "after\n");
    assert_eq!(first.end().code, 76);
}

fn kib(pid: rustix::process::Pid, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

/// A process that holds a lease and has nothing else to do is small. The pages of a program that was built for
/// debugging are not its own doing: of such a one only what it has asked for counts.
#[test]
fn proof_an_idle_process_takes_less_than_30_mb() {
    each(|place| {
        let running = place.start_lease("k", &["--ttl", "1s"], "echo on > began; exec sleep 60");
        place.wait_for_file("began");
        let renewed = || {
            let row = &place.json(&["lease", "show", "k"])[0];
            row["heartbeats"].as_u64().unwrap() >= 2
        };
        wait_until("it has been renewed", renewed);
        let (own, most) = (kib(running.pid(), "RssAnon"), kib(running.pid(), "VmHWM"));
        println!("{own} KiB of its own, {most} KiB at the most, on {}", place.store());
        let counted = if cfg!(debug_assertions) { own } else { most };
        assert!(counted < 30_000, "{own} KiB of its own, {most} KiB at the most");
        running.signal(Signal::TERM);
        running.end();
    });
}
