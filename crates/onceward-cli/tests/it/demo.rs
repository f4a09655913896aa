//! The demo, as a stranger runs it: it exits with 0 only if it has shown what it is there to show.

use std::process::Stdio;

use serde_json::Value;

use crate::place::{Place, Seen, wait_until};
#[cfg(feature = "postgres")]
use crate::postgres::Schema;

fn the_audit_holds(place: &Place, options: &[&str]) {
    let mut demo = place.command(&[&["demo", "--json", "--payments", "120"], options].concat());
    // Without a store it brings its own.
    demo.env_remove("ONCEWARD_STORE").env("TMPDIR", place.path(""));
    let demo = demo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let worker = a_worker_of(place);
    let seen: Seen = demo.wait_with_output().unwrap().into();
    assert_eq!(seen.code, 0, "{seen:?}");
    // What everybody on this host can read of a worker does not tell the store, which may have a password.
    assert!(!worker.contains("--store") && !worker.contains(place.store()), "{worker}");
    // One object, and nothing else.
    let report: Value = serde_json::from_slice(&seen.stdout).unwrap();
    println!("{report}");
    let count = |field: &str| report[field].as_u64().unwrap();
    for field in ["payments", "done", "checkouts", "webhooks"] {
        assert_eq!(count(field), 120, "{field}: {report}");
    }
    for field in ["double_charged", "uncertain_after"] {
        assert_eq!(count(field), 0, "{field}: {report}");
    }
    for field in ["uncertain_before", "stale_refused", "killed"] {
        assert!(count(field) > 0, "{field}: {report}");
    }
    assert!(report["seconds"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(report.as_object().unwrap().len(), 10, "every field is looked at: {report}");
}

/// The arguments of a worker of the demo that runs at this place.
fn a_worker_of(place: &Place) -> String {
    let folder = place.path("").display().to_string();
    let mut found = None;
    wait_until("a worker is started", || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let arguments = processes.flat_map(|process| std::fs::read(process.path().join("cmdline")));
        let mut said = arguments.map(|arguments| String::from_utf8_lossy(&arguments).replace('\0', " "));
        found = said.find(|said| said.contains(" demo worker ") && said.contains(&folder));
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn the_demo_holds_its_audit_on_sqlite() {
    the_audit_holds(&Place::new(), &[]);
}

#[cfg(feature = "postgres")]
#[test]
fn the_demo_holds_its_audit_on_postgres() {
    let Schema { place, .. } = &Schema::new();
    assert_eq!(place.run(&["migrate", "up"]).code, 0);
    the_audit_holds(place, &["--store", place.store()]);
}
