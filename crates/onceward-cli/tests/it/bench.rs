//! `onceward bench`: what it prints, and what it leaves behind.

use serde_json::Value;

use crate::place::{Place, Running};

/// What the page about performance promises of each workload.
fn check(report: &Value, names: &[&str]) {
    for field in ["per_s", "p50_ms", "single_per_s", "single_p50_ms"] {
        assert!(report["reference"][field].as_f64().is_some_and(|it| it > 0.0), "{field}: {report}");
    }
    let workloads = report["workloads"].as_array().unwrap();
    let found: Vec<_> = workloads.iter().map(|workload| workload["name"].as_str().unwrap()).collect();
    assert_eq!(found, names);
    for workload in workloads {
        for field in ["n", "per_s", "ratio", "p50_ms", "p99_ms", "client_cpu_s"] {
            assert!(workload[field].as_f64().is_some_and(|it| it > 0.0), "{field}: {workload}");
        }
        for field in ["store_cpu_s", "statements", "wal_bytes", "wal_page_image_bytes"] {
            assert!(workload.get(field).is_some(), "{field}: {workload}");
        }
    }
}

fn start(place: &Place, target: &str, only: &[&str]) -> Running {
    let fixed = ["bench", target, "--json", "--seconds", "100ms", "--rounds", "1"];
    let only = only.iter().flat_map(|name| ["--only", name]);
    place.start(&fixed.into_iter().chain(only).collect::<Vec<_>>())
}

fn report(running: Running) -> Value {
    let seen = running.end();
    assert_eq!(seen.code, 0, "{}", seen.stderr);
    serde_json::from_slice(&seen.stdout).unwrap()
}

#[test]
fn every_workload_of_leases_and_once_is_measured_on_sqlite_and_no_file_stays() {
    let place = Place::new();
    let once = ["once_first_1", "once_first_64", "once_first_512", "once_replay_64", "once_replay_cached"];
    check(&report(start(&place, "once", &[])), &once);
    check(&report(start(&place, "lease", &[])), &["lease_cycle_1", "lease_cycle_64"]);
    let files: Vec<_> =
        std::fs::read_dir(place.path(".")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(files.iter().all(|name| !name.to_string_lossy().contains("bench")), "{files:?}");
}

/// The worker is a process of its own there, whose memory is told.
#[test]
fn many_receivers_are_measured_with_the_memory_of_the_worker() {
    let place = Place::new();
    let all = ["deliver", "receivers_1800", "receivers_1800_beside_200_hanging"];
    let report = report(start(&place, "http", &[]));
    check(&report, &all);
    for workload in &report["workloads"].as_array().unwrap()[1..] {
        let peak = workload["worker_peak_mb"].as_f64().unwrap();
        assert!(peak > 1.0 && peak < 300.0, "{peak} MB, of a build that is not optimized");
    }
}

/// The names are part of what the page about performance promises; one cheap one is measured.
#[test]
fn the_workloads_of_jobs_have_their_names_and_one_is_measured() {
    let place = Place::new();
    let seen = place.run(&["bench", "jobs", "--only", "nothing"]);
    seen.refused(2, "OW0601");
    for name in [
        "enqueue_1",
        "enqueue_8",
        "enqueue_64",
        "enqueue_b1000",
        "drain_history",
        "drain_delete",
        "end_to_end",
        "pickup_idle",
        "drain_1m_waiting",
        "drain_held_snapshot",
        "pickup_idle_tx",
        "idle",
    ] {
        assert!(seen.stderr.contains(name), "{name}: {}", seen.stderr);
    }
    check(&report(start(&place, "jobs", &["enqueue_8"])), &["enqueue_8"]);
}

#[test]
fn a_workload_nobody_knows_is_refused_before_anything_is_made() {
    let place = Place::new();
    let seen = place.run(&["bench", "once", "--only", "once_first_65"]);
    seen.refused(2, "OW0601");
    assert!(seen.stderr.contains("once_first_64"), "it says which there are: {}", seen.stderr);
}

#[cfg(feature = "postgres")]
#[test]
fn a_bench_on_postgres_takes_its_schema_away() {
    let crate::postgres::Schema { place, .. } = &crate::postgres::Schema::new();
    let running = start(place, "once", &["once_first_64"]);
    let schema = format!("onceward_bench_{}", running.pid().as_raw_nonzero());
    check(&report(running), &["once_first_64"]);
    assert_eq!(crate::postgres::count(place, &format!("pg_namespace WHERE nspname = '{schema}'")), 0);
}
