//! One server process: started on a free port, watched until it answers, stopped when dropped.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::account::Account;
use crate::process;

/// Another program may take a free port between our look and the server's bind.
const TRIES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(30);

/// How to start a server, and how to end it.
pub(crate) struct Start {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) stop: &'static [(&'static str, Duration)],
    pub(crate) on_our_death: &'static str,
    /// Whether it is ready, at a port of this machine.
    pub(crate) answers: fn(u16) -> bool,
}

/// A server that answers.
pub(crate) struct Daemon {
    name: &'static str,
    child: Child,
    port: u16,
    log: PathBuf,
    stop: &'static [(&'static str, Duration)],
    answers: fn(u16) -> bool,
}

impl Daemon {
    /// Starts a server on a free port, `how` being told which, and waits until it answers.
    pub(crate) fn start(
        account: &Account,
        scratch: &Path,
        name: &'static str,
        how: impl Fn(u16) -> Result<Start>,
    ) -> Result<Self> {
        let mut tries = 0;
        loop {
            tries += 1;
            let port = free_port()?;
            let outcome =
                Self::launch(account, scratch, name, port, &how(port)?).and_then(Self::wait_until_it_answers);
            if outcome.is_ok() || tries == TRIES || process::interrupted() {
                return outcome;
            }
        }
    }

    /// The port it listens on, at 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// # Errors
    /// When the server has ended by itself; with the last lines of its log.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait().with_context(|| format!("failed to look after {}", self.name))? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}{}", self.name, self.last_words()),
        }
    }

    fn launch(
        account: &Account,
        scratch: &Path,
        name: &'static str,
        port: u16,
        start: &Start,
    ) -> Result<Self> {
        let log = scratch.join(format!("{name}.log"));
        let written = File::create(&log).with_context(|| format!("failed to create {}", log.display()))?;
        let mut command = account.command(&start.program, Some(start.on_our_death));
        command.args(&start.arguments).current_dir(scratch).stdin(Stdio::null());
        command.stdout(written.try_clone().context("failed to share the log")?).stderr(written);
        // A group of its own, so that Ctrl-C in a terminal reaches us and we decide the order.
        let child = command.process_group(0).spawn().with_context(|| format!("failed to start {name}"))?;
        Ok(Self { name, child, port, log, stop: start.stop, answers: start.answers })
    }

    fn wait_until_it_answers(mut self) -> Result<Self> {
        let started = Instant::now();
        while !(self.answers)(self.port) {
            self.check()?;
            if process::interrupted() {
                bail!("interrupted while {} was starting", self.name);
            }
            if started.elapsed() > PATIENCE {
                bail!("{} does not answer on port {}{}", self.name, self.port, self.last_words());
            }
            sleep(Duration::from_millis(50));
        }
        Ok(self)
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(15)..];
        if last.is_empty() { String::new() } else { format!("; its log ends with\n{}", last.join("\n")) }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        process::stop(&mut self.child, self.stop);
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to find a free port")?;
    Ok(listener.local_addr().context("failed to find a free port")?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ends_at_once_is_reported_with_its_log() {
        let folder = std::env::temp_dir().join(format!("onceward-daemon-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let how = |_| {
            let arguments = ["-c", "echo no room; exit 3"].map(str::to_owned).to_vec();
            Ok(Start {
                program: PathBuf::from("/bin/sh"),
                arguments,
                stop: &[],
                on_our_death: "KILL",
                answers: |_| false,
            })
        };
        let error = Daemon::start(&Account::myself("me"), &folder, "broken", how).err().unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(error.to_string(), "broken ended with exit status: 3; its log ends with\nno room");
    }
}
