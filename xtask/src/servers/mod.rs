//! The servers of the tests: a PostgreSQL of our own, pgbouncer in transaction mode in front of it, and a Redis.
//!
//! Nothing that runs on the machine already is used or touched. Everything started here is stopped by its
//! process id when [`Servers`] is dropped, and dies with us if we are killed.

mod account;
mod daemon;
mod postgres;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

pub(crate) use account::is_root;
pub(crate) use postgres::folder as postgres_folder;

use crate::install::faketime_library;
use crate::process;
use account::Account;
use daemon::{Daemon, Start};

/// They hold no state, so there is nothing to wait for.
const STOP_AT_ONCE: &[(&str, Duration)] = &[("TERM", Duration::from_secs(2))];

/// A folder that lies in memory.
const MEMORY: &str = "/dev/shm";
/// How much memory has to be available, and how much room there has to be, for the servers to lie there.
const MEMORY_MIN: u64 = 12 << 30;
const ROOM_MIN: u64 = 6 << 30;

/// PostgreSQL, pgbouncer and Redis, running.
pub(crate) struct Servers {
    // Dropped in this order: first who needs the other, then the files.
    redis: Daemon,
    pgbouncer: Daemon,
    postgres: Daemon,
    environment: Vec<(&'static str, String)>,
    _scratch: Scratch,
}

impl Servers {
    /// Starts them on free loopback ports and waits until they answer.
    pub(crate) fn start() -> Result<Self> {
        let account = Account::choose()?;
        let scratch = Scratch::new(&account)?;
        let programs = postgres_folder().context("PostgreSQL is not installed")?;
        postgres::create_cluster(&programs, &account, &scratch.0)?;
        let postgres = postgres::start(&programs, &account, &scratch.0)?;
        let pgbouncer = start_pgbouncer(&account, &scratch.0, postgres.port())?;
        let redis = start_redis(&account, &scratch.0)?;
        let mut environment = vec![
            ("ONCEWARD_TEST_POSTGRES", url(postgres.port())),
            ("ONCEWARD_TEST_PGBOUNCER", url(pgbouncer.port())),
            ("ONCEWARD_TEST_REDIS", format!("redis://127.0.0.1:{}", redis.port())),
            ("ONCEWARD_TEST_PG_BIN", programs.display().to_string()),
            ("ONCEWARD_TEST_PG_USER", account.name().to_owned()),
        ];
        let faketime = faketime_library().map(|file| ("ONCEWARD_TEST_FAKETIME", file.display().to_string()));
        environment.extend(faketime);
        Ok(Self { redis, pgbouncer, postgres, environment, _scratch: scratch })
    }

    /// What the tests have to know, as environment variables.
    pub(crate) fn environment(&self) -> &[(&'static str, String)] {
        &self.environment
    }

    /// Waits until we are interrupted.
    ///
    /// # Errors
    /// When one of the servers ends by itself.
    pub(crate) fn serve(mut self) -> Result<()> {
        while !process::interrupted() {
            self.postgres.check()?;
            self.pgbouncer.check()?;
            self.redis.check()?;
            sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

fn url(port: u16) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/postgres")
}

fn start_pgbouncer(account: &Account, scratch: &Path, upstream: u16) -> Result<Daemon> {
    let program = process::find("pgbouncer").context("pgbouncer is not installed")?;
    let file = scratch.join("pgbouncer.ini");
    Daemon::start(account, scratch, "pgbouncer", |port| {
        fs::write(&file, pgbouncer_settings(port, upstream)).context("failed to write pgbouncer.ini")?;
        Ok(Start {
            program: program.clone(),
            arguments: vec![file.display().to_string()],
            stop: STOP_AT_ONCE,
            on_our_death: "KILL",
            answers: wire::postgres_answers,
        })
    })
}

/// In memory alone: it carries hints, and keeps nothing.
fn start_redis(account: &Account, scratch: &Path) -> Result<Daemon> {
    let program = process::find("redis-server").context("redis-server is not installed")?;
    Daemon::start(account, scratch, "redis", |port| {
        let port = port.to_string();
        let options = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        Ok(Start {
            program: program.clone(),
            arguments: options.map(str::to_owned).to_vec(),
            stop: STOP_AT_ONCE,
            on_our_death: "KILL",
            answers: wire::redis_answers,
        })
    })
}

/// A small pool with short lives: a test that leans on session state fails here, and soon.
fn pgbouncer_settings(port: u16, upstream: u16) -> String {
    format!(
        "[databases]\n\
         * = host=127.0.0.1 port={upstream} user=postgres\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = any\n\
         pool_mode = transaction\n\
         default_pool_size = 4\n\
         max_client_conn = 500\n\
         server_idle_timeout = 5\n\
         server_lifetime = 30\n\
         log_connections = 0\n\
         log_disconnections = 0\n"
    )
}

/// A folder of our own for one run, removed with all its content.
struct Scratch(PathBuf);

impl Scratch {
    fn new(account: &Account) -> Result<Self> {
        // A run that was killed may have left its folder, and process ids come round again.
        let name = |number| format!("onceward-servers-{}-{number}", std::process::id());
        let parent = parent();
        let mut folders = (0..100).map(|number| parent.join(name(number)));
        let folder =
            folders.find(|folder| !folder.exists()).context("the folder of temporary files is littered")?;
        fs::create_dir(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
        let scratch = Self(folder);
        account.give(&scratch.0)?;
        Ok(scratch)
    }
}

/// Where the folder goes: into memory if there is plenty, because hundreds of schemas are made that nobody keeps, and
/// flushing them takes a third of the time of their tests.
fn parent() -> PathBuf {
    let memory = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text));
    let roomy = memory.is_some_and(|bytes| bytes >= MEMORY_MIN)
        && room(MEMORY).is_some_and(|bytes| bytes >= ROOM_MIN);
    if roomy { PathBuf::from(MEMORY) } else { std::env::temp_dir() }
}

/// What `/proc/meminfo` calls available, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// How many bytes are free in a folder.
fn room(folder: &str) -> Option<u64> {
    let mut df = std::process::Command::new("df");
    let text = process::output(df.args(["--output=avail", "--block-size=1", folder])).ok()?;
    text.lines().nth(1)?.trim().parse().ok()
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("xtask: failed to remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_that_is_available_is_read() {
        let meminfo = "MemTotal:       24672276 kB\nMemFree:  1 kB\nMemAvailable:   22000000 kB\n";
        assert_eq!(available(meminfo), Some(22_000_000 * 1024));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert!(room("/").is_some_and(|bytes| bytes > 0) && room("/no/such/folder").is_none());
    }

    #[test]
    fn pgbouncer_pools_by_transaction_in_front_of_our_postgres() {
        let settings = pgbouncer_settings(6000, 5000);
        for line in
            ["* = host=127.0.0.1 port=5000 user=postgres", "listen_port = 6000", "pool_mode = transaction"]
        {
            assert!(settings.lines().any(|it| it == line), "{line} is not in\n{settings}");
        }
    }

    #[test]
    fn a_scratch_folder_goes_when_it_is_dropped() {
        let scratch = Scratch::new(&Account::myself("me")).unwrap();
        let folder = scratch.0.clone();
        fs::write(folder.join("file"), "text").unwrap();
        drop(scratch);
        assert!(!folder.exists());
    }
}
