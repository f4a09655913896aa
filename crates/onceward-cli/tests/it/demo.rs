//! The demo, as a stranger runs it: it exits with 0 only if it has shown what it is there to show.

use serde_json::Value;

use crate::place::{Place, Seen};
#[cfg(feature = "postgres")]
use crate::postgres::Schema;

fn the_audit_holds(place: &Place, options: &[&str]) {
    let mut demo = place.command(&[&["demo", "--json", "--payments", "120"], options].concat());
    // Without a store it brings its own.
    demo.env_remove("ONCEWARD_STORE").env("TMPDIR", place.path(""));
    let seen: Seen = demo.output().unwrap().into();
    assert_eq!(seen.code, 0, "{seen:?}");
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
