//! PostgreSQL: where its programs are, a fresh cluster, the server.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::account::Account;
use super::daemon::{Daemon, Start};
use super::wire;
use crate::process;

/// The defaults of PostgreSQL keep every promise we test, so only sizes and addresses differ from them.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
max_connections = 200
shared_buffers = 256MB
";

/// INT is a fast shutdown, which ends sessions; QUIT skips the checkpoint as well.
const STOP: &[(&str, Duration)] = &[("INT", Duration::from_secs(10)), ("QUIT", Duration::from_secs(5))];

/// The folder with `initdb` and `postgres`: that of the `postgres` in `PATH`, else the newest of Debian's.
pub(crate) fn folder() -> Option<PathBuf> {
    let in_path = process::find("postgres").and_then(|file| file.canonicalize().ok());
    let in_path = in_path.and_then(|file| file.parent().map(Path::to_owned));
    in_path.into_iter().chain(debian_folders()).find(|folder| folder.join("initdb").is_file())
}

/// Creates an empty cluster in `scratch/data` that trusts whoever reaches it.
pub(crate) fn create_cluster(programs: &Path, account: &Account, scratch: &Path) -> Result<()> {
    let mut initdb = account.command(&programs.join("initdb"), None);
    initdb.args(["--pgdata=data", "--username=postgres", "--auth=trust", "--encoding=UTF8"]);
    // Nothing in the cluster is worth a flush yet; the server itself runs with fsync on.
    initdb.args(["--locale=C.UTF-8", "--no-sync"]).current_dir(scratch);
    process::output(&mut initdb).context("failed to create a PostgreSQL cluster")?;
    let file = scratch.join("data/postgresql.conf");
    let mut settings =
        OpenOptions::new().append(true).open(&file).context("failed to open postgresql.conf")?;
    let socket = format!("unix_socket_directories = '{}'\n", scratch.display());
    settings.write_all((SETTINGS.to_owned() + &socket).as_bytes()).context("failed to write postgresql.conf")
}

/// Starts the server of the cluster in `scratch/data`.
pub(crate) fn start(programs: &Path, account: &Account, scratch: &Path) -> Result<Daemon> {
    Daemon::start(account, scratch, "postgres", |port| {
        Ok(Start {
            program: programs.join("postgres"),
            arguments: vec!["-D".to_owned(), "data".to_owned(), "-p".to_owned(), port.to_string()],
            stop: STOP,
            on_our_death: "QUIT",
            answers: wire::postgres_answers,
        })
    })
}

fn debian_folders() -> Vec<PathBuf> {
    let entries = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.iter().map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"))).collect()
}
