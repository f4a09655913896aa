//! The wrapped command: started through our own shim, so that it does not outlive us; signalled, and stopped.
//!
//! In the foreground of a terminal the command shares our process group, so that it may read the terminal and gets
//! Ctrl-C like everybody there. Anywhere else (cron, systemd, a script in the background) it gets a group of its own,
//! and what we send goes to the whole group: also to what a shell has started for it.

pub(crate) mod capture;
pub(crate) mod shim;
mod signals;

use core::time::Duration;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use onceward::{Code, Error, Result};
use rustix::process::{Pid, Signal, getpgrp, kill_process, kill_process_group, test_kill_process_group};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

pub(crate) use self::capture::REST_TIME_MAX;
pub(crate) use self::signals::Signals;
use crate::exit;

/// What a wrapped command may rely on, for `--help`.
pub(crate) const PROMISE: &str = "\
The command gets ONCEWARD_KEY, ONCEWARD_NAMESPACE and ONCEWARD_FENCING_TOKEN, and the signals that this program gets. \
It does not outlive this program, however that dies; what the command has started itself is covered only while this \
program lives, and only outside of the foreground of a terminal, where the command has a process group of its own.";

/// How long a command has between TERM and KILL, unless something else was said.
pub(crate) const KILL_AFTER: Duration = Duration::from_secs(5);
/// How often to look whether a process group is gone.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A wrapped command that has been started.
pub(crate) struct Child {
    child: tokio::process::Child,
    pid: Pid,
    own_group: bool,
}

impl Child {
    /// Starts `command`, with `env` added to our own environment, and stdin, stdout and stderr as ours.
    ///
    /// The kernel watches the thread that does this, not the process: it has to be the main one.
    pub(crate) fn spawn(command: &[OsString], env: &[(&str, String)]) -> Result<Self> {
        let own_group = !is_in_foreground();
        Self::start(&mut shim(command, env, own_group), own_group)
    }

    /// As [`spawn`](Self::spawn), with its stdout for us to read. The shim writes `nonce` there if it can't become
    /// the command.
    pub(crate) fn spawn_captured(
        command: &[OsString],
        env: &[(&str, String)],
        nonce: &str,
    ) -> Result<(Self, ChildStdout)> {
        let own_group = !is_in_foreground();
        let mut shim = shim(command, env, own_group);
        let mut started = Self::start(shim.env(shim::NONCE, nonce).stdout(Stdio::piped()), own_group)?;
        let stdout = started.child.stdout.take();
        Ok((started, stdout.ok_or_else(|| not_started(&io::Error::other("its stdout is missing")))?))
    }

    /// As [`spawn_captured`](Self::spawn_captured), in a group of its own, with its stdin for us to write.
    pub(crate) fn spawn_fed(
        command: &[OsString],
        env: &[(&str, String)],
        nonce: &str,
    ) -> Result<(Self, ChildStdin, ChildStdout)> {
        let mut shim = shim(command, env, true);
        shim.env(shim::NONCE, nonce).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut started = Self::start(&mut shim, true)?;
        let pipes = started.child.stdin.take().zip(started.child.stdout.take());
        let (stdin, stdout) = pipes.ok_or_else(|| not_started(&io::Error::other("its pipes are missing")))?;
        Ok((started, stdin, stdout))
    }

    fn start(shim: &mut Command, own_group: bool) -> Result<Self> {
        let child = shim.spawn().map_err(|error| not_started(&error))?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let pid = pid.ok_or_else(|| not_started(&io::Error::other("it has no process id")))?;
        Ok(Self { child, pid, own_group })
    }

    /// Waits for its end, passing on the signals that we get meanwhile.
    pub(crate) async fn wait(&mut self, signals: &Signals) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                biased;
                status = self.child.wait() => return status,
                signal = signals.next() => self.forward(signal),
            }
        }
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    fn forward(&self, signal: Signal) {
        // A terminal sends these to its whole foreground group; the command has got them already.
        let from_terminal = matches!(signal, Signal::INT | Signal::QUIT | Signal::HUP);
        if self.own_group || !from_terminal {
            self.send(signal);
        }
    }

    fn send(&self, signal: Signal) {
        // Nobody left to be signalled is what a signal of ours would have been for.
        let _ = match self.own_group {
            true => kill_process_group(self.pid, signal),
            false => kill_process(self.pid, signal),
        };
    }

    /// Ends it: TERM, and KILL for what is left after `kill_after`.
    pub(crate) async fn stop(&mut self, kill_after: Duration) {
        if self.child.id().is_none() {
            return;
        }
        let deadline = Instant::now() + kill_after;
        self.send(Signal::TERM);
        let ended = timeout(kill_after, self.child.wait()).await.is_ok();
        while ended && self.own_group && Instant::now() < deadline {
            if test_kill_process_group(self.pid).is_err() {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
        if self.own_group || !ended {
            self.send(Signal::KILL);
        }
        // It is dead or dying; its status tells nobody anything any more.
        let _ = self.child.wait().await;
    }
}

/// A wrapped command that is killed, with all of its group, where this is dropped before it has ended.
pub(crate) struct Bound(Child);

impl Bound {
    /// Starts `command` in a group of its own, with `env` added to our own environment, and the streams as ours,
    /// without stdin.
    pub(crate) fn spawn(command: &[OsString], env: &[(&str, String)]) -> Result<Self> {
        let mut shim = shim(command, env, true);
        Child::start(shim.stdin(Stdio::null()).kill_on_drop(true), true).map(Self)
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.0.ended().await
    }

    /// Ends it: TERM, and KILL for what is left after `kill_after`.
    pub(crate) async fn stop(&mut self, kill_after: Duration) {
        self.0.stop(kill_after).await;
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if self.0.child.id().is_some() {
            self.0.send(Signal::KILL);
        }
    }
}

fn shim(command: &[OsString], env: &[(&str, String)], own_group: bool) -> Command {
    // Not by path: ours may have been replaced by an upgrade since we were started.
    let mut shim = Command::new(if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { our_path() });
    shim.arg0("onceward").arg(shim::NAME).arg("--parent").arg(std::process::id().to_string()).arg("--");
    shim.args(command).env_remove(shim::NONCE).envs(env.iter().map(|(name, value)| (name, value)));
    if own_group {
        shim.process_group(0);
    }
    shim
}

fn our_path() -> std::path::PathBuf {
    std::env::current_exe().unwrap_or_else(|_| "onceward".into())
}

/// Whether we are in the foreground of a terminal.
fn is_in_foreground() -> bool {
    File::open("/dev/tty")
        .ok()
        .and_then(|terminal| rustix::termios::tcgetpgrp(terminal).ok())
        .is_some_and(|foreground| foreground == getpgrp())
}

fn not_started(error: &io::Error) -> Error {
    Error::new(Code::CommandNotStarted, format!("the command could not be started: {error}"))
}

/// What we exit with when a signal ended us, or would have.
pub(crate) fn exit_code_of(signal: Signal) -> u8 {
    u8::try_from(signal.as_raw()).map_or(exit::FAILED, |signal| exit::SIGNAL.saturating_add(signal))
}

/// What we exit with after a command that ended like this.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| i32::from(exit::SIGNAL) + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::FAILED)
}
