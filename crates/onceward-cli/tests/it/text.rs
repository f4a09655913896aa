//! Text of others, shown on a terminal: it says what it is and commands nothing (S17).

use crate::place::Place;

const PAYLOADS: &[&str] = &[
    "\u{1b}[2J\u{1b}]0;x\u{7}",
    "\u{1b}]8;;http://evil\u{1b}\\click\u{1b}]8;;\u{1b}\\",
    "\u{1b}]52;c;ZXZpbA==\u{7}",
    "\u{9b}31mred\u{9d}0;title\u{9c}",
    "a\u{202e}gnp.exe",
    "a\u{2066}b\u{2069}c\u{200b}d\u{feff}",
    "x\r\nSet-Cookie: a=b",
    "line\n{\"level\":\"info\",\"msg\":\"fake\"}",
    "tab\tnul-free\u{7f}\u{8}\u{8}",
    "\u{e0041}\u{e007f}",
];

/// No byte of it is obeyed by a terminal; line ends are only ours.
#[track_caller]
fn assert_harmless(bytes: &[u8]) {
    let text = core::str::from_utf8(bytes).unwrap();
    for c in text.chars().filter(|c| *c != '\n') {
        assert!(!c.is_control(), "{text:?}");
        let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
        assert!(!hidden, "{text:?}");
    }
}

#[test]
fn s17_an_error_repeats_nothing_that_a_terminal_obeys() {
    let place = Place::in_memory();
    for payload in PAYLOADS {
        for args in [
            &["once", "--key", payload, "--", "true"][..],
            &["once", "show", payload],
            &["once", payload],
            &[payload],
            &["once", "--key", "k", "--ttl", payload, "--", "true"],
            &["doctor", "--store", payload],
            &["explain", payload],
            &["man", payload],
            &["lease", "--key", "k", "--", payload],
        ] {
            let seen = place.run(args);
            assert!(matches!(seen.code, 0 | 2 | 127), "{args:?} {seen:?}");
            assert_harmless(seen.stderr.as_bytes());
            assert_eq!(seen.text(), "");
        }
    }
}

#[test]
fn s17_tables_and_json_show_odd_text_without_obeying_it() {
    let place = Place::new();
    for payload in PAYLOADS {
        let key = "lease";
        let seen = place.run(&["lease", "--key", key, "--metadata", payload, "--", "true"]);
        assert_eq!(seen.code, 0, "{seen:?}");
        for args in [&["lease", "list"][..], &["lease", "show", key]] {
            assert_harmless(&place.run(args).stdout);
            let json = place.run(&[args, &["--output", "json"]].concat());
            assert_harmless(&json.stdout);
            let rows: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
            assert_eq!(rows[0]["metadata"], *payload, "JSON says it exactly");
        }
    }
}

#[test]
fn s17_reasons_and_results_are_shown_without_being_obeyed() {
    let place = Place::new();
    for (number, payload) in PAYLOADS.iter().enumerate() {
        let key = &format!("k{number}");
        place.once(key, &[], "exit 3");
        let settled = place.run(&["once", "resolve", key, "--failed", payload, "--reason", payload]);
        assert_eq!(settled.code, 0, "{settled:?}");
        for args in [&["once", "list"][..], &["once", "show", key], &["once", "history", key]] {
            assert_harmless(&place.run(args).stdout);
            assert_harmless(&place.run(&[args, &["--output", "json"]].concat()).stdout);
        }
        let failed = place.once(key, &[], "true");
        assert_harmless(failed.refused(1, "OW0310").stderr.as_bytes());
    }
}
