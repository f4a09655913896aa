//! `onceward lease`: who holds it, who waits, what the holder's command is told.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::place::{Place, is_alive, wait_until};

#[test]
fn the_command_runs_while_the_lease_is_held_and_its_exit_code_is_passed_on() {
    let place = Place::new();
    let script = "echo $ONCEWARD_KEY $ONCEWARD_NAMESPACE $ONCEWARD_FENCING_TOKEN; exit 9";
    let seen = place.run(&["lease", "--key", "k", "--", "sh", "-c", script]);
    let token = place.json(&["lease", "show", "k"])[0]["token"].as_str().unwrap().to_owned();
    seen.printed(9, &format!("k default {token}\n"));
    assert_eq!(place.json(&["lease", "list", "--state", "released"])[0]["key"], "k");
    assert_eq!(place.json(&["lease", "history", "k"])[0]["event"], "released");
}

#[test]
fn whoever_does_not_get_it_is_told_who_has_it() {
    let place = Place::new();
    let options = ["--owner", "web1", "--metadata", "nightly import"];
    let _holder = place.start_lease("k", &options, "echo on > began; exec sleep 30");
    place.wait_for_file("began");
    let seen = place.run(&["lease", "--key", "k", "--", "true"]);
    let told = "OW0201: web1 (nightly import) holds it since 20";
    assert!(seen.refused(75, "OW0201").stderr.starts_with(told), "{}", seen.stderr);
    let listed = place.json(&["lease", "list", "--state", "held"]);
    assert_eq!((&listed[0]["owner"], &listed[0]["metadata"]), (&"web1".into(), &"nightly import".into()));
    assert!(place.run(&["lease", "show", "k"]).text().contains("nightly import"));
}

#[test]
fn a_command_that_can_not_be_started_gives_the_lease_back() {
    let place = Place::new();
    std::fs::write(place.path("plain"), "no program").unwrap();
    place.run(&["lease", "--key", "k", "--", "./no-such-program"]).refused(127, "OW0602");
    place.run(&["lease", "--key", "k", "--", "./plain"]).refused(126, "OW0602");
    place.run(&["lease", "--key", "k", "--", "echo", "hi"]).printed(0, "hi\n");
}

#[test]
fn a_waiter_gets_it_when_it_is_given_back() {
    let place = Place::new();
    let script = "echo on > began; while ! test -e go; do sleep 0.02; done";
    let holder = place.start_lease("k", &[], script);
    place.wait_for_file("began");
    let waiter = place.start_lease("k", &["--wait", "--fair"], "echo mine");
    std::thread::sleep(Duration::from_millis(300));
    std::fs::write(place.path("go"), "").unwrap();
    let freed = Instant::now();
    waiter.end().printed(0, "mine\n");
    assert!(freed.elapsed() < Duration::from_secs(3), "{:?}", freed.elapsed());
    assert_eq!(holder.end().code, 0);
}

#[test]
fn a_bounded_wait_ends() {
    let place = Place::new();
    let _holder = place.start_lease("k", &[], "echo on > began; exec sleep 30");
    place.wait_for_file("began");
    let began = Instant::now();
    place.run(&["lease", "--key", "k", "--wait=300ms", "--", "true"]).refused(75, "OW0201");
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_counted_lease_has_that_many_holders() {
    let place = Place::new();
    let start = |name: &str| {
        let script = format!("echo on > began-{name}; while ! test -e go; do sleep 0.02; done");
        let running = place.start_lease("k", &["--capacity", "2"], &script);
        place.wait_for_file(&format!("began-{name}"));
        running
    };
    let holders = [start("one"), start("two")];
    place.run(&["lease", "--key", "k", "--capacity", "2", "--", "true"]).refused(75, "OW0201");
    assert_eq!(place.json(&["lease", "show", "k"]).as_array().unwrap().len(), 2);
    let page = place.json(&["lease", "list", "--after", "k", "--after-slot", "0"]);
    assert_eq!(page[0]["slot"], 1);
    std::fs::write(place.path("go"), "").unwrap();
    assert!(holders.into_iter().all(|holder| holder.end().code == 0));
}

#[test]
fn a_broken_lease_stops_its_command() {
    let place = Place::new();
    let script = "echo $$ > pid; exec sleep 60";
    let holder = place.start_lease("k", &["--ttl", "1s", "--owner", "web1"], script);
    let command = place.wait_for_file("pid");
    let args = ["lease", "break", "k", "--reason", "the import hangs", "--as", "ann"];
    let refused = place.run(&[&args[..], &["--token", "17"]].concat());
    refused.refused(75, "OW0201");
    let broken = place.json(&args);
    assert_eq!(broken["broken"][0]["owner"], "web1");
    assert!(holder.end().refused(75, "OW0202").stderr.contains("taken over, broken"));
    wait_until("the command is gone", || !is_alive(&command));
    let history = place.json(&["lease", "history", "k"]);
    assert_eq!(
        (&history[0]["event"], &history[0]["actor"], &history[0]["reason"]),
        (&"broken".into(), &"ann".into(), &"the import hangs".into())
    );
}

#[test]
fn a_command_that_does_not_listen_to_term_is_killed() {
    let place = Place::new();
    let script = "trap '' TERM; echo $$ > pid; while :; do sleep 0.1; done";
    let options = ["--ttl", "1s", "--hard-ttl", "1500ms", "--kill-after", "500ms"];
    let holder = place.start_lease("k", &options, script);
    let command = place.wait_for_file("pid");
    assert!(holder.end().refused(75, "OW0202").stderr.contains("hard limit"));
    assert!(!is_alive(&command));
}

#[test]
fn a_lease_is_renewed_for_as_long_as_the_command_runs() {
    let place = Place::new();
    let holder = place.start_lease("k", &["--ttl", "1s"], "echo on > began; exec sleep 3");
    place.wait_for_file("began");
    std::thread::sleep(Duration::from_millis(2500));
    place.run(&["lease", "--key", "k", "--", "true"]).refused(75, "OW0201");
    assert_eq!(holder.end().code, 0);
    assert!(place.json(&["lease", "show", "k"])[0]["heartbeats"].as_i64().unwrap() >= 5);
}

#[test]
fn a_lock_delay_keeps_the_key_closed_after_a_crash() {
    let place = Place::new();
    let holder =
        place.start_lease("k", &["--ttl", "1s", "--lock-delay", "2s"], "echo on > began; exec sleep 30");
    place.wait_for_file("began");
    holder.signal(Signal::KILL);
    holder.end();
    std::thread::sleep(Duration::from_millis(1500));
    place.run(&["lease", "--key", "k", "--", "true"]).refused(75, "OW0201");
    wait_until("the delay is over", || place.run(&["lease", "--key", "k", "--", "true"]).code == 0);
}

#[test]
fn a_waiter_that_is_interrupted_leaves_the_line() {
    let place = Place::new();
    let script = "echo on > began; while ! test -e go; do sleep 0.02; done";
    let holder = place.start_lease("k", &["--ttl", "5s"], script);
    place.wait_for_file("began");
    let first = place.start_lease("k", &["--wait", "--fair"], "echo first > ran");
    std::thread::sleep(Duration::from_millis(500));
    first.signal(Signal::TERM);
    first.end().printed(128 + 15, "");
    let second = place.start_lease("k", &["--wait", "--fair"], "echo second");
    std::fs::write(place.path("go"), "").unwrap();
    let freed = Instant::now();
    second.end().printed(0, "second\n");
    assert!(freed.elapsed() < Duration::from_secs(5), "its place would last 10 s: {:?}", freed.elapsed());
    assert_eq!((holder.end().code, place.read("ran").as_str()), (0, ""));
}
