//! Many processes, one key.

use crate::place::{Place, Running};

const SCRIPT: &str = "echo x >> ledger; sleep 0.3; echo paid";

fn sixteen(place: &Place, options: &[&str]) -> Vec<crate::place::Seen> {
    let started: Vec<Running> = (0..16).map(|_| place.start_once("k", options, SCRIPT)).collect();
    started.into_iter().map(Running::end).collect()
}

/// O1, O2
#[test]
fn o1_of_sixteen_processes_one_runs_and_the_others_are_told() {
    let place = Place::new();
    let seen = sixteen(&place, &[]);
    assert_eq!(place.read("ledger"), "x\n");
    assert!(seen.iter().any(|seen| seen.code == 0));
    for seen in &seen {
        match seen.code {
            0 => seen.printed(0, "paid\n"),
            _ => seen.refused(75, "OW0302").printed(75, ""),
        };
    }
    place.once("k", &[], SCRIPT).printed(0, "paid\n");
}

/// O10
#[test]
fn o10_with_wait_all_sixteen_get_the_result() {
    let place = Place::new();
    for seen in sixteen(&place, &["--wait"]) {
        seen.printed(0, "paid\n");
    }
    assert_eq!(place.read("ledger"), "x\n");
}

#[test]
fn a_bounded_wait_ends_and_says_who_is_running_it() {
    let place = Place::new();
    let _running = place.start_once("k", &["--owner", "web1"], "echo on > began; exec sleep 30");
    place.wait_for_file("began");
    let seen = place.once("k", &["--wait=300ms"], "true");
    assert!(seen.refused(75, "OW0302").stderr.starts_with("OW0302: web1 is running it since 20"), "{seen:?}");
}

#[test]
fn a_waiter_is_told_of_an_end_without_a_result() {
    let place = Place::new();
    for (key, script, exit, code) in [("doubt", "exit 3", 76, "OW0303"), ("free", "exit 75", 75, "OW0310")] {
        let began = format!("{key}-began");
        let script = format!("echo on > {began}; sleep 0.5; {script}");
        let running = place.start_once(key, &[], &script);
        place.wait_for_file(&began);
        place.once(key, &["--wait"], "echo x >> ledger").refused(exit, code);
        running.end();
    }
    assert_eq!(place.read("ledger"), "", "a waiter never runs it itself");
}

#[test]
fn a_waiter_that_is_interrupted_has_run_nothing() {
    let place = Place::new();
    let _running = place.start_once("k", &[], "echo on > began; exec sleep 30");
    place.wait_for_file("began");
    let waiter = place.start_once("k", &["--wait", "--status-file", "status"], "echo x >> ledger");
    // The file is made before anything else is done.
    crate::place::wait_until("it waits", || place.path("status").exists());
    std::thread::sleep(std::time::Duration::from_millis(500));
    waiter.signal(rustix::process::Signal::INT);
    waiter.end().printed(128 + 2, "");
    assert!(place.read("status").contains("\"not_started\",\"exit_code\":130"), "{}", place.read("status"));
    assert_eq!(place.read("ledger"), "");
}

/// L2
#[test]
fn leases_on_one_key_do_not_overlap() {
    let place = Place::new();
    let script = "mkdir held && sleep 0.05 && rmdir held && echo x >> ledger";
    let started: Vec<Running> = (0..12).map(|_| place.start_lease("k", &["--wait=30s"], script)).collect();
    for seen in started.into_iter().map(Running::end) {
        assert_eq!(seen.code, 0, "{seen:?}");
    }
    assert_eq!(place.read("ledger").lines().count(), 12);
}
