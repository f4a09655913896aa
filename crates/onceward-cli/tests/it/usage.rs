//! What can be typed, what is refused, and with which exit code.

use std::collections::BTreeSet;
use std::process::Stdio;

use onceward::Code;
use onceward_cli::exit;

use crate::place::Place;

/// Compares with the file, or writes it if `UPDATE_GOLDEN` is set.
#[track_caller]
fn assert_golden(name: &str, text: &str) {
    let path = format!("{}/tests/it/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{name} has changed; if that is meant, run with UPDATE_GOLDEN=1:\n{text}");
}

#[test]
fn help_is_what_was_agreed() {
    let place = Place::in_memory();
    for words in [
        "",
        "once",
        "once resolve",
        "once list",
        "lease",
        "lease break",
        "migrate",
        "migrate up",
        "service",
        "services",
        "schedules",
        "schedules add",
        "triggers",
        "triggers add",
        "endpoints",
        "endpoints add",
        "runners",
    ] {
        let mut args: Vec<&str> = words.split_whitespace().collect();
        args.push("--help");
        let seen = place.run(&args);
        assert_eq!((seen.code, seen.stderr.as_str()), (0, ""));
        assert!(seen.text().lines().all(|line| line.chars().count() <= 110));
        assert_golden(&format!("help {words}").trim().replace(' ', "_"), &seen.text());
    }
}

#[test]
fn help_lists_every_exit_code() {
    let help = Place::in_memory().run(&["--help"]).text();
    for code in [
        exit::DONE,
        exit::FAILED,
        exit::USAGE,
        exit::STORE_UNAVAILABLE,
        exit::HELD,
        exit::UNCERTAIN,
        exit::NOT_PERMITTED,
        exit::NOT_EXECUTABLE,
        exit::NOT_FOUND,
    ] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(&format!("{code}  "))), "{code}");
    }
}

#[test]
fn every_refused_input_exits_2_with_its_code() {
    let place = Place::in_memory();
    let (long, longer) = ("x".repeat(256), "x".repeat(20_000));
    let cases: &[(&[&str], &str)] = &[
        (&["once", "--key", "", "--", "true"], "OW0101"),
        (&["once", "--key", &long, "--", "true"], "OW0101"),
        (&["once", "--key", "a\nb", "--", "true"], "OW0101"),
        (&["once", "--key", "k", "--namespace", "", "--", "true"], "OW0102"),
        (&["once", "--key", "k", "--ttl", "500ms", "--", "true"], "OW0103"),
        (&["once", "--key", "k", "--ttl", "2 days", "--", "true"], "OW0103"),
        (&["once", "--key", "k", "--ttl", "5s", "--hard-ttl", "4s", "--", "true"], "OW0104"),
        (&["once", "--key", "k", "--ttl", "90", "--", "true"], "OW0105"),
        (&["once", "--key", "k", "--deadline", "soon", "--", "true"], "OW0105"),
        (&["once", "--key", "k", "--retain", "1ms", "--", "true"], "OW0109"),
        (&["once", "--key", "k", "--wait=4000 days", "--", "true"], "OW0116"),
        (&["once", "--key", "k", "--owner", "a\tb", "--", "true"], "OW0107"),
        (&["once", "--key", "k", "--on-failure", "ignore", "--", "true"], "OW0601"),
        (&["once", "--key", "k", "--status-file", "/no/where", "--", "true"], "OW0605"),
        (&["once", "--key", "k"], "OW0601"),
        (&["once", "--", "true"], "OW0601"),
        (&["once"], "OW0601"),
        (&["once", "--key", "k", "./backup.sh", "--fast"], "OW0601"),
        (&["once", "--key", "k", "list"], "OW0601"),
        (&["once", "list", "--limit", "0"], "OW0114"),
        (&["once", "list", "--limit", "501"], "OW0114"),
        (&["once", "list", "--state", "odd"], "OW0601"),
        (&["once", "list", "--uncertain", "--state", "done"], "OW0601"),
        (&["once", "show", ""], "OW0101"),
        (&["once", "show", "absent"], "OW0309"),
        (&["once", "history", "k", "--limit", "0"], "OW0114"),
        (&["once", "resolve", "k", "--reason", "x"], "OW0601"),
        (&["once", "resolve", "k", "--done", "--release", "--reason", "x"], "OW0601"),
        (&["once", "resolve", "k", "--done"], "OW0601"),
        (&["once", "resolve", "k", "--done", "--reason", " "], "OW0115"),
        (&["once", "resolve", "k", "--done", "--result", "{", "--reason", "x"], "OW0307"),
        (&["once", "resolve", "k", "--release", "--result", "1", "--reason", "x"], "OW0601"),
        (&["once", "resolve", "k", "--done", "--stdout", "/no/where", "--reason", "x"], "OW0601"),
        (&["once", "resolve", "k", "--release", "--token", "1e3", "--reason", "x"], "OW0110"),
        (&["once", "resolve", "k", "--release", "--as", "", "--reason", "x"], "OW0107"),
        (&["once", "resolve", "k", "--release", "--reason", "x"], "OW0309"),
        (&["once", "resolve", "--release", "--reason", "x"], "OW0601"),
        (&["once", "resolve", "k", "--all", "--release", "--reason", "x"], "OW0601"),
        (&["once", "resolve", "k", "--prefix", "a", "--release", "--reason", "x"], "OW0601"),
        (&["lease", "--key", "k", "--capacity", "0", "--", "true"], "OW0111"),
        (&["lease", "--key", "k", "--lock-delay", "2h", "--", "true"], "OW0112"),
        (&["lease", "--key", "k", "--metadata", &longer, "--", "true"], "OW0108"),
        (&["lease", "--key", "k", "--fair", "--", "true"], "OW0601"),
        (&["lease", "list", "--state", "odd"], "OW0601"),
        (&["lease", "show", "absent"], "OW0309"),
        (&["lease", "break", "absent", "--reason", "x"], "OW0309"),
        (&["lease", "break", "absent", "--reason", ""], "OW0115"),
        (&["doctor", "--store", "shop.db"], "OW0004"),
        (&["doctor", "--store", "sqlite://shop.db?mode=ro"], "OW0004"),
        (&["doctor", "--store", "postgres://h/d?schema=public"], "OW0106"),
        (&["doctor", "--output", "yaml"], "OW0601"),
        (&["migrate"], "OW0601"),
        (&["migrate", "down"], "OW0601"),
        (&["migrate", "print"], "OW0601"),
        (&["prune", "--history-older-than", "forever"], "OW0105"),
        (&["explain", "OW9999"], "OW0603"),
        (&["completions", "tcsh"], "OW0601"),
        (&["man", "nothing"], "OW0601"),
        (&["nothing"], "OW0601"),
        (&[], "OW0601"),
    ];
    for (args, code) in cases {
        let seen = place.run(args);
        seen.refused(2, code);
        assert_eq!(seen.text(), "", "{args:?}");
    }
}

#[test]
fn global_flags_work_before_and_after_subcommands() {
    let place = Place::in_memory();
    for args in [
        ["--output", "json", "once", "list"],
        ["once", "--output", "json", "list"],
        ["once", "list", "--output", "json"],
    ] {
        place.run(&args).printed(0, "[]\n");
    }
    place.run(&["--store", "memory:", "once", "--key", "k", "--", "echo", "hi"]).printed(0, "hi\n");
    place.run(&["once", "--key", "k", "--store", "memory:", "--", "echo", "hi"]).printed(0, "hi\n");
}

#[test]
fn a_wait_may_have_a_duration_or_none() {
    let place = Place::in_memory();
    for wait in [&["--wait"][..], &["--wait=1s"], &["--wait", "1s"]] {
        for command in ["once", "lease"] {
            let args = [&[command, "--key", "k"], wait, &["--", "echo", "hi"]].concat();
            place.run(&args).printed(0, "hi\n");
        }
    }
}

#[test]
fn explain_knows_every_code_in_any_spelling() {
    let place = Place::in_memory();
    for text in ["OW0101", "ow0101", "ow101", "101"] {
        place.run(&["explain", text]).printed(0, Code::KeyInvalid.page());
    }
    let list = place.json(&["explain"]);
    let listed: BTreeSet<_> =
        list.as_array().unwrap().iter().map(|row| row["code"].as_str().unwrap()).collect();
    assert_eq!(listed, Code::ALL.iter().map(|code| code.as_str()).collect());
    assert_eq!(place.json(&["explain", "303"])["fault"], "operator");
}

#[test]
fn completions_and_pages_are_made_of_the_same_table() {
    let place = Place::in_memory();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.run(&["completions", shell]).text();
        assert!(script.contains("resolve") && script.contains("on-failure"), "{shell}");
    }
    let page = place.run(&["man"]).text();
    assert!(page.contains(".TH onceward") && page.contains("ONCEWARD_STORE"), "{page}");
    let page = place.run(&["man", "once", "resolve"]).text();
    assert!(page.contains("\\-\\-release"), "{page}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let place = Place::in_memory();
    for args in [&["explain"][..], &["--help"], &["once", "list", "--output", "json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = place.command(args).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{args:?}");
    }
}

#[test]
fn every_error_has_one_of_the_documented_exit_codes() {
    for code in Code::ALL {
        let exit = exit::of(&onceward::Error::new(*code, "x"));
        assert!([1, 2, 69, 75, 76, 77].contains(&exit), "{code}: {exit}");
    }
    for (code, exit) in [
        (Code::KeyInvalid, exit::USAGE),
        (Code::FingerprintMismatch, exit::USAGE),
        (Code::StoreUnavailable, exit::STORE_UNAVAILABLE),
        (Code::SchemaBehind, exit::STORE_UNAVAILABLE),
        (Code::LeaseHeld, exit::HELD),
        (Code::OnceRunning, exit::HELD),
        (Code::OnceUncertain, exit::UNCERTAIN),
        (Code::RightsMissing, exit::NOT_PERMITTED),
        (Code::OnceFailed, exit::FAILED),
    ] {
        assert_eq!(exit::of(&onceward::Error::new(code, "x")), exit, "{code}");
    }
}
