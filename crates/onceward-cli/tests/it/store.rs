//! Stores that are away, or not as they should be; and where the default one is.

use std::time::Duration;

use crate::place::Place;

#[cfg(feature = "postgres")]
#[test]
fn an_unreachable_store_gives_up_within_ten_seconds_and_keeps_the_password() {
    use std::time::Instant;

    // One refuses, one accepts and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().port().to_string();
    let place = Place::in_memory();
    let began = Instant::now();
    let mut started = Vec::new();
    for port in ["1", &silent] {
        let url = format!("postgres://ann:s3cret@127.0.0.1:{port}/shop?sslmode=disable");
        for args in [
            &["once", "--key", "k", "--", "true"][..],
            &["lease", "--key", "k", "--", "true"],
            &["once", "list"],
            &["migrate", "status"],
            &["doctor"],
        ] {
            started.push(place.start(&[&["--store", &url], args].concat()));
        }
    }
    for seen in started.into_iter().map(crate::place::Running::end) {
        seen.refused(69, "OW0001");
        assert!(!seen.stderr.contains("s3cret") && seen.stdout.is_empty(), "{seen:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
}

#[test]
fn the_sql_is_printed_without_a_store() {
    let place = Place::in_memory();
    let url = "postgres://ann:s3cret@127.0.0.1:1/shop?schema=my_onceward";
    let sql = place.run(&["migrate", "print", "--store", url]).text();
    assert!(sql.contains("my_onceward") && sql.contains("0002_once"), "{sql}");
    assert!(!sql.contains("s3cret") && !sql.contains("{schema}"));
    let sql = place.run(&["migrate", "print", "--database", "sqlite"]).text();
    assert!(sql.contains("onceward_migration"), "{sql}");
}

#[test]
fn the_default_store_lies_in_the_state_folder_and_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::in_memory();
    let state = place.path("state");
    for (variable, value, file) in [
        ("XDG_STATE_HOME", state.as_path(), "state/onceward/onceward.db"),
        ("XDG_STATE_HOME", std::path::Path::new("relative"), ".local/state/onceward/onceward.db"),
    ] {
        let args = ["once", "--key", "k", "--", "echo", "hi"];
        let mut command = place.command(&args);
        let output = command.env_remove("ONCEWARD_STORE").env(variable, value).output().unwrap();
        assert_eq!(output.stdout, b"hi\n", "{output:?}");
        assert!(place.path(file).is_file(), "{file}");
        let folder = place.path(file).parent().unwrap().to_owned();
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
    assert!(!place.path("relative").exists(), "never in the current folder");
}

#[test]
fn without_a_home_there_is_no_default_store() {
    let place = Place::in_memory();
    let mut command = place.command(&["once", "list"]);
    let output = command.env_remove("ONCEWARD_STORE").env_remove("HOME").output().unwrap();
    crate::place::Seen::from(output).refused(2, "OW0004");
}

#[test]
fn a_sqlite_store_is_migrated_looked_at_and_taken_back() {
    let place = Place::new();
    let pending = place.json(&["migrate", "status"]);
    assert_eq!(pending["pending"][0]["name"], "0001_lease", "looking changes nothing: {pending}");
    assert_eq!(place.json(&["migrate", "up", "--to", "1"])["applied"], serde_json::json!([1]));
    place.run(&["migrate", "up"]).printed(
        0,
        "applied 2\napplied 3\napplied 4\napplied 5\napplied 6\napplied 7\napplied 8\napplied 9\n\
         applied 10\napplied 11\napplied 12\napplied 13\n",
    );
    place.run(&["migrate", "up"]).printed(0, "");
    let status = place.json(&["migrate", "status"]);
    assert_eq!((status["applied"][1]["version"].as_u64(), status["ahead"].as_u64()), (Some(2), Some(0)));
    let table = place.run(&["migrate", "status"]).text();
    assert!(table.lines().nth(2).unwrap().starts_with("2        0002_once  "), "{table}");
    assert_eq!(
        place.json(&["migrate", "down", "--to", "1"])["undone"],
        serde_json::json!([13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2])
    );
}

#[test]
fn doctor_looks_and_says_what_is_wrong() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let seen = place.run(&["doctor"]);
    assert_eq!(seen.code, 0, "{seen:?}");
    assert!(seen.text().starts_with("         CHECK") || seen.text().contains("CHECK"), "{}", seen.text());
    let report = place.json(&["doctor"]);
    assert!(report["findings"].as_array().is_some_and(|findings| !findings.is_empty()), "{report}");
    let file = place.path("store.db");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    let seen = place.run(&["doctor"]);
    assert!(seen.text().contains("OW0413"), "{seen:?}");
}

#[test]
fn prune_forgets_what_may_be_forgotten() {
    let place = Place::new();
    place.once("short", &["--retain", "1s"], "true").printed(0, "");
    place.once("long", &[], "true").printed(0, "");
    place.once("doubt", &[], "exit 3");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(place.json(&["prune"])["once"], 1);
    let keys = place.json(&["once", "list"]);
    let keys: Vec<_> = keys.as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["doubt", "long"]);
}
