//! The wrapped command as a process: signals, streams, what it leaves behind.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::place::{Place, Seen};

#[test]
fn signals_reach_the_command_which_decides() {
    let place = Place::new();
    let signals =
        [("TERM", Signal::TERM), ("INT", Signal::INT), ("HUP", Signal::HUP), ("USR1", Signal::USR1)];
    for (name, signal) in signals {
        for command in ["once", "lease"] {
            let key = format!("{command}-{name}");
            let script = format!(
                "trap 'echo {name} >> got-{key}; echo graceful; exit 0' {name}; echo on > began-{key}; \
                 while :; do sleep 0.02; done"
            );
            let running = place.start(&[command, "--key", &key, "--", "sh", "-c", &script]);
            place.wait_for_file(&format!("began-{key}"));
            running.signal(signal);
            running.end().printed(0, "graceful\n");
            assert_eq!(place.read(&format!("got-{key}")), format!("{name}\n"), "once, and only once");
        }
    }
}

#[test]
fn a_command_that_dies_of_a_signal_we_passed_on_is_reported_as_such() {
    let place = Place::new();
    let running = place.start_once("k", &[], "echo on > began; exec sleep 30");
    place.wait_for_file("began");
    running.signal(Signal::TERM);
    assert_eq!(running.end().code, 128 + 15);
    place.once("k", &[], "true").refused(76, "OW0303");
}

#[test]
fn signals_we_were_told_to_ignore_stay_ignored() {
    let place = Place::new();
    let bin = env!("CARGO_BIN_EXE_onceward");
    let script = "echo on > began; while ! test -e go; do sleep 0.02; done; echo survived";
    let outer = format!("trap '' HUP; exec {bin} once --key k -- sh -c '{script}'");
    let mut command = place.command(&[]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &outer]).current_dir(place.path("")).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell.envs(command.env("X", "y").get_envs().filter_map(|(name, value)| Some((name, value?))));
    let child = shell.spawn().unwrap();
    place.wait_for_file("began");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::HUP).unwrap();
    std::fs::write(place.path("go"), "").unwrap();
    Seen::from(child.wait_with_output().unwrap()).printed(0, "survived\n");
}

#[test]
fn stdin_is_the_commands() {
    let place = Place::new();
    let mut command = place.command(&["once", "--key", "k", "--", "cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"in\0out").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"in\0out");
}

#[test]
fn output_is_passed_on_while_the_command_runs() {
    let place = Place::new();
    let script = "echo first; while ! test -e go; do sleep 0.02; done; echo second";
    let mut command = place.command(&["once", "--key", "k", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    assert_eq!(&first, b"first\n");
    std::fs::write(place.path("go"), "").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"second\n");
    place.once("k", &[], script).printed(0, "first\nsecond\n");
}

#[test]
fn something_left_in_the_background_holds_up_nobody() {
    let place = Place::new();
    let began = Instant::now();
    place.once("k", &[], "sleep 30 2> /dev/null & echo paid").printed(0, "paid\n");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    place.once("k", &[], "true").printed(0, "paid\n");
}

#[test]
fn a_reader_that_does_not_read_keeps_no_outcome_from_being_recorded() {
    let place = Place::new();
    let script = "head -c 60000 /dev/zero";
    let (reader, writer) = std::io::pipe().unwrap();
    // A full pipe, so that nothing of ours fits.
    let mut full = writer.try_clone().unwrap();
    full.write_all(&[1; 65536]).unwrap();
    let mut command = place.command(&["once", "--key", "k", "--", "sh", "-c", script]);
    let mut child = command.stdout(writer).spawn().unwrap();
    drop((full, command));
    crate::place::wait_until("it is recorded", || {
        place.json(&["once", "list", "--state", "done"])[0].is_object()
    });
    assert!(child.try_wait().unwrap().is_none(), "it still has to hand it over");
    let mut all = Vec::new();
    std::io::Read::read_to_end(&mut { reader }, &mut all).unwrap();
    assert_eq!(all.len(), 65536 + 60000);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_signal_ends_the_wait_for_a_reader_that_does_not_read() {
    let place = Place::new();
    let (_reader, writer) = std::io::pipe().unwrap();
    let mut full = writer.try_clone().unwrap();
    full.write_all(&[1; 65536]).unwrap();
    let mut command = place.command(&["once", "--key", "k", "--", "echo", "paid"]);
    let mut child = command.stdout(writer).spawn().unwrap();
    crate::place::wait_until("it is recorded", || {
        place.json(&["once", "list", "--state", "done"])[0].is_object()
    });
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "the command had ended well before");
}

/// Runs it in the foreground of a terminal, types something once `began` exists, and returns what the terminal shows.
fn in_a_terminal(place: &Place, args: &str, typed: &[u8]) -> String {
    let line = format!("{} {args}", env!("CARGO_BIN_EXE_onceward"));
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).current_dir(place.path(""));
    let ours = place.command(&[]);
    script.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    place.wait_for_file("began");
    let mut keyboard = child.stdin.take().unwrap();
    keyboard.write_all(typed).unwrap();
    let shown = child.wait_with_output().unwrap().stdout;
    drop(keyboard);
    String::from_utf8_lossy(&shown).into_owned()
}

#[test]
fn in_a_terminal_ctrl_c_reaches_the_command_once() {
    let script =
        "trap \"echo INT >> got\" INT; echo on > began; while ! test -e got; do sleep 0.02; done; echo end";
    for command in ["once", "lease"] {
        let place = Place::new();
        let shown = in_a_terminal(&place, &format!("{command} --key k -- sh -c '{script}'"), b"\x03");
        assert!(shown.contains("end"), "{shown:?}");
        assert_eq!(place.read("got"), "INT\n");
    }
}

#[test]
fn in_a_terminal_the_command_may_read_it() {
    for command in ["once", "lease"] {
        let place = Place::new();
        let script = "echo on > began; read line; echo got $line";
        let shown = in_a_terminal(&place, &format!("{command} --key k -- sh -c '{script}'"), b"hello\n");
        assert!(shown.contains("got hello"), "{shown:?}");
    }
}
