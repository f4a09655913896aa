//! The same on PostgreSQL: the schema comes by command, and the server may die under a running command.

#[allow(dead_code, unreachable_pub, clippy::expect_used)] // shared with the tests of the stores
#[path = "../../../onceward-store/tests/it/support/server.rs"]
pub(crate) mod server;

#[allow(dead_code, unreachable_pub)] // shared with the tests of the stores
#[path = "../../../onceward-store/tests/it/support/proxy.rs"]
pub(crate) mod proxy;

use crate::place::{Place, is_alive, wait_until};
use server::Server;

/// A schema of its own, on the server of the tests or on one of its own; gone at the end.
pub(crate) struct Schema {
    pub(crate) place: Place,
    url: String,
    name: String,
    _server: Option<Server>,
}

impl Schema {
    pub(crate) fn new() -> Self {
        let given = std::env::var("ONCEWARD_TEST_POSTGRES").ok().filter(|url| !url.is_empty());
        let server = if given.is_none() { Some(Server::start()) } else { None };
        let url = given.or(server.as_ref().map(Server::url)).unwrap();
        let schema = format!("cli_{}", uuid::Uuid::new_v4().simple());
        let place = Place::on(&format!("{url}?schema={schema}"));
        Self { place, url, name: schema, _server: server }
    }

    /// Runs statements with `{schema}` in them, past the program.
    fn sql(&self, text: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) =
                tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.unwrap();
            let connection = tokio::spawn(connection);
            client.batch_execute(&text.replace("{schema}", &self.name)).await.unwrap();
            connection.abort();
        });
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        self.place.run(&["migrate", "down", "--to", "0"]);
    }
}

/// How many rows there are of what is said behind FROM.
pub(crate) fn count(place: &Place, of: &str) -> i64 {
    let url = place.store().split('?').next().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.query_one(&format!("SELECT count(*) FROM {of}"), &[]).await.unwrap().get(0)
    })
}

#[test]
fn a_schema_comes_by_command_and_nobody_works_without_it() {
    let Schema { place, .. } = &Schema::new();
    place.once("k", &[], "echo x >> ledger").refused(69, "OW0006");
    let doctor = place.run(&["doctor"]);
    assert!(doctor.code == 1 && doctor.text().contains("onceward explain OW0006"), "{doctor:?}");
    assert_eq!(place.json(&["migrate", "status"])["pending"].as_array().unwrap().len(), 13);
    place.run(&["migrate", "up"]).printed(
        0,
        "applied 1\napplied 2\napplied 3\napplied 4\napplied 5\napplied 6\napplied 7\napplied 8\napplied 9\n\
         applied 10\napplied 11\napplied 12\napplied 13\n",
    );
    place.once("k", &[], "echo x >> ledger; echo paid").printed(0, "paid\n");
    place.once("k", &[], "echo x >> ledger").printed(0, "paid\n");
    assert_eq!(place.read("ledger"), "x\n");
    assert_eq!(place.run(&["doctor"]).code, 0);
}

/// O1, O2
#[test]
fn o1_of_sixteen_processes_on_postgres_one_runs() {
    let Schema { place, .. } = &Schema::new();
    assert_eq!(place.run(&["migrate", "up"]).code, 0);
    let script = "echo x >> ledger; sleep 0.2; printf 'pa\\000id'";
    let started: Vec<_> = (0..16).map(|_| place.start_once("k", &["--wait"], script)).collect();
    for seen in started.into_iter().map(crate::place::Running::end) {
        assert_eq!((seen.code, seen.stdout.as_slice()), (0, &b"pa\0id"[..]), "{}", seen.stderr);
    }
    assert_eq!(place.read("ledger"), "x\n");
}

#[test]
fn a_job_goes_from_the_shell_to_its_result_and_is_replayed() {
    let Schema { place, .. } = &Schema::new();
    assert_eq!(place.run(&["migrate", "up"]).code, 0);
    crate::jobs::the_whole_way(place);
}

#[test]
fn the_exit_code_of_a_command_says_how_the_attempt_ended() {
    let Schema { place, .. } = &Schema::new();
    assert_eq!(place.run(&["migrate", "up"]).code, 0);
    crate::jobs::exit_codes_say_how_attempts_ended(place);
}

#[test]
fn workers_with_wrong_clocks_keep_to_the_stores() {
    let Schema { place, .. } = &Schema::new();
    assert_eq!(place.run(&["migrate", "up"]).code, 0);
    crate::jobs::workers_with_wrong_clocks_keep_to_the_stores(place);
}

#[test]
fn a_paused_queue_gives_no_jobs_and_says_so() {
    let Schema { place, .. } = &Schema::new();
    assert_eq!(place.run(&["migrate", "up"]).code, 0);
    crate::jobs::a_pause_holds(place);
}

#[test]
fn a_webhook_goes_from_the_shell_to_its_receiver() {
    let Schema { place, .. } = &Schema::new();
    assert_eq!(place.run(&["migrate", "up"]).code, 0);
    crate::http::the_whole_way(place);
}

#[test]
fn an_event_goes_from_the_shell_to_whoever_wants_it() {
    let Schema { place, .. } = &Schema::new();
    assert_eq!(place.run(&["migrate", "up"]).code, 0);
    crate::http::the_way_of_an_event(place);
}

#[test]
fn proof_every_webhook_arrives_though_workers_are_killed() {
    let Schema { place, .. } = &Schema::new();
    assert_eq!(place.run(&["migrate", "up"]).code, 0);
    crate::http::workers_are_killed_and_every_webhook_arrives(place);
}

/// One that is damaged is named with its code, and hides none of the others.
#[test]
fn what_can_not_be_read_is_listed_as_such() {
    let schema = Schema::new();
    let place = &schema.place;
    assert_eq!(place.run(&["migrate", "up"]).code, 0);
    let host = place.start(&["service", "--name", "good", "--every", "1h", "--", "true"]);
    wait_until("it is declared", || place.json(&["services", "list"]).as_array().unwrap().len() == 1);
    host.signal(rustix::process::Signal::TERM);
    host.end();
    for name in ["good", "bad"] {
        let schedule = ["schedules", "add", name, "report", "--when", "0 2 * * *", "--json", "{}"];
        assert_eq!(place.run(&schedule).code, 0);
        assert_eq!(place.run(&["triggers", "add", name, "letter", "--on", "dead"]).code, 0);
        let endpoint = ["endpoints", "add", name, "--unsigned", "--url", "https://hooks.example.com/"];
        assert_eq!(place.run(&endpoint).code, 0);
    }
    schema.sql(
        "INSERT INTO {schema}.service (namespace, name, version, setting) VALUES ('default', 'bad', 7, '{\"every')
         ; UPDATE {schema}.schedule SET definition = '[' WHERE name = 'bad'
         ; UPDATE {schema}.trigger SET definition = '{}' WHERE name = 'bad'
         ; UPDATE {schema}.endpoint SET definition = '{}' WHERE name = 'bad'",
    );
    for (kind, version) in [("services", 7), ("schedules", 1), ("triggers", 1), ("endpoints", 1)] {
        let listed = place.json(&[kind, "list"]);
        assert_eq!(
            (listed.as_array().unwrap().len(), listed[0]["name"].as_str()),
            (2, Some("good")),
            "{kind}"
        );
        let bad =
            serde_json::json!({"name": "bad", "version": version, "unreadable": true, "code": "OW0009"});
        assert_eq!(listed[1], bad, "{kind}");
        let seen = place.run(&[kind, "list"]);
        assert!(seen.code == 0 && seen.text().contains("good"), "{kind}: {seen:?}");
        assert!(
            seen.stderr.contains("bad can't be read") && seen.stderr.contains("OW0009"),
            "{kind}: {seen:?}"
        );
    }
    assert!(place.run(&["services", "list"]).text().contains("unreadable (OW0009)"));
    place.run(&["services", "show", "bad"]).refused(1, "OW0009");
}

/// G5, N3
#[test]
fn exclusive_a_server_that_dies_under_a_command_leaves_doubt_and_no_second_run() {
    let mut server = Server::start();
    let place = Place::on(&server.url());
    assert_eq!(place.run(&["migrate", "up"]).code, 0);
    let script = "echo x >> ledger; echo on > began; while ! test -e go; do sleep 0.02; done; echo paid";
    let running = place.start_once("k", &["--deadline", "2s", "--ttl", "10s"], script);
    place.wait_for_file("began");
    server.kill();
    std::fs::write(place.path("go"), "").unwrap();
    let seen = running.end();
    seen.refused(76, "OW0303").printed(76, "paid\n");
    assert!(seen.stderr.contains("could not be recorded"), "{}", seen.stderr);
    server.start_again();
    wait_until("the ttl is over", || place.once("k", &[], script).code == 76);
    assert_eq!(place.read("ledger"), "x\n");
}

/// L9
#[test]
fn exclusive_a_lease_whose_server_died_is_lost_before_it_runs_out_and_its_command_killed() {
    let mut server = Server::start();
    let place = Place::on(&server.url());
    assert_eq!(place.run(&["migrate", "up"]).code, 0);
    let options = ["--ttl", "2s", "--deadline", "1s"];
    let running = place.start_lease("k", &options, "echo $$ > pid; exec sleep 60");
    let command = place.wait_for_file("pid");
    server.kill();
    running.end().refused(75, "OW0202");
    assert!(!is_alive(&command));
}
