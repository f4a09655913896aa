//! Workers behind a pooler, woken over Redis by other processes.

#[allow(dead_code)] // shared with the tests of the client
#[path = "../../../onceward/tests/it/redis_kit/mod.rs"]
mod redis_kit;

use std::time::{Duration, Instant};

use crate::place::{Place, wait_until};
use crate::postgres::server::{Bouncer, Server};

/// A worker that has been idle for so long does not look again before another three seconds have passed.
const IDLE: Duration = Duration::from_secs(7);

/// A schema of its own, seen through the pooler; gone at the end.
struct Pooled {
    direct: Place,
    place: Place,
    _servers: Option<(Server, Bouncer)>,
}

impl Pooled {
    fn new() -> Self {
        let given = |name| std::env::var(name).ok().filter(|url| !url.is_empty());
        let given = given("ONCEWARD_TEST_POSTGRES").zip(given("ONCEWARD_TEST_PGBOUNCER"));
        let servers = given.is_none().then(|| {
            let server = Server::start();
            let bouncer = Bouncer::start(&server);
            (server, bouncer)
        });
        let own = servers.as_ref().map(|(server, bouncer)| (server.url(), bouncer.url()));
        let (direct, pooled) = given.or(own).unwrap();
        let schema = format!("cli_{}", uuid::Uuid::new_v4().simple());
        let direct = Place::on(&format!("{direct}?schema={schema}"));
        assert_eq!(direct.run(&["migrate", "up"]).code, 0);
        let place = Place::on(&format!("{pooled}?schema={schema}&pooler=transaction"));
        Self { direct, place, _servers: servers }
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.direct.run(&["migrate", "down", "--to", "0"]);
    }
}

#[test]
fn an_enqueue_wakes_the_idle_worker_of_another_process() {
    let Pooled { place, .. } = &Pooled::new();
    let redis = format!("{}?channel=cli-{}", redis_kit::shared(), uuid::Uuid::new_v4());
    let commands =
        format!("[kinds]\nnote = [\"sh\", \"-c\", \"cat >> {}\"]\n", place.path("ledger").display());
    std::fs::write(place.path("allowed.toml"), commands).unwrap();
    let worker = place.start(&["worker", "--commands", "allowed.toml", "--redis", &redis]);
    let is_there = || !place.json(&["workers", "list"]).as_array().unwrap().is_empty();
    wait_until("the worker is there", is_there);
    std::thread::sleep(IDLE);
    let began = Instant::now();
    assert_eq!(place.run(&["jobs", "enqueue", "note", "--json", "\"x\"", "--redis", &redis]).code, 0);
    wait_until("the job has run", || place.read("ledger") == "\"x\"");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    worker.signal(rustix::process::Signal::TERM);
    assert_eq!(worker.end().code, 0);
}

#[test]
fn a_redis_that_can_not_be_meant_is_refused_without_its_password() {
    let place = Place::new();
    for bad in ["redis://:hunter2@cache/x", "hunter2"] {
        let mut command = place.command(&["jobs", "list"]);
        let seen: crate::place::Seen = command.env("ONCEWARD_REDIS", bad).output().unwrap().into();
        seen.refused(2, "OW0004");
        assert!(!seen.stderr.contains("hunter2"), "{seen:?}");
    }
    // One that is not there is no reason not to work.
    let away = ["jobs", "enqueue", "note", "--json", "1", "--redis", "redis://127.0.0.1:1"];
    assert_eq!(place.run(&away).code, 0);
}
