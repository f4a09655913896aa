//! A folder of one's own with a store in it, and the binary run there.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take that is only waited for.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Place {
    folder: TempDir,
    store: String,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Place {
    /// A place with a SQLite store.
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let store = format!("sqlite://{}", folder.path().join("store.db").display());
        Self { folder, store }
    }

    /// A place with this store.
    pub(crate) fn on(store: &str) -> Self {
        Self { folder: TempDir::new().unwrap(), store: store.to_owned() }
    }

    /// A place whose store is gone after each command.
    pub(crate) fn in_memory() -> Self {
        Self::on("memory:")
    }

    pub(crate) fn store(&self) -> &str {
        &self.store
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The binary with these arguments; nothing of the tester's environment leaks in.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.command_of(env!("CARGO_BIN_EXE_onceward"));
        command.args(args);
        command
    }

    /// Another program, in the same surroundings.
    pub(crate) fn command_of(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.folder.path()).env("COLUMNS", "100").env("USER", "ann");
        command.env("ONCEWARD_STORE", &self.store);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Seen {
        self.command(args).output().unwrap().into()
    }

    /// Runs `script` once under `key`.
    pub(crate) fn once(&self, key: &str, options: &[&str], script: &str) -> Seen {
        let args = [&["once", "--key", key], options, &["--", "sh", "-c", script]].concat();
        self.run(&args)
    }

    /// Starts it in the background, all of its output kept for the end.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let child = self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Running { child: Some(child) }
    }

    pub(crate) fn start_once(&self, key: &str, options: &[&str], script: &str) -> Running {
        self.start(&[&["once", "--key", key], options, &["--", "sh", "-c", script]].concat())
    }

    pub(crate) fn start_lease(&self, key: &str, options: &[&str], script: &str) -> Running {
        self.start(&[&["lease", "--key", key], options, &["--", "sh", "-c", script]].concat())
    }

    /// What a command says as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let seen = self.run(&[args, &["--output", "json"]].concat());
        assert_eq!(seen.code, 0, "{args:?}: {}", seen.stderr);
        serde_json::from_slice(&seen.stdout).unwrap()
    }

    /// Waits until a file has something in it, and returns it.
    pub(crate) fn wait_for_file(&self, name: &str) -> String {
        wait_until(&format!("{name} is written"), || self.read(name).ends_with('\n'));
        self.read(name).trim().to_owned()
    }
}

impl From<Output> for Seen {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let code = output.status.code().or_else(|| output.status.signal().map(|signal| -signal));
        Self {
            code: code.unwrap(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Seen {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Asserts the exit code, and that a line of stderr begins with a code of ours.
    #[track_caller]
    pub(crate) fn refused(&self, exit: i32, code: &str) -> &Self {
        assert_eq!(self.code, exit, "{self:?}");
        let mut lines = self.stderr.lines();
        assert!(lines.any(|line| line.starts_with(&format!("{code}: "))), "{code} expected: {}", self.stderr);
        assert!(self.stderr.contains(&format!("onceward explain {code}")) || code == "OW0601", "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn printed(&self, exit: i32, stdout: &str) -> &Self {
        assert_eq!((self.code, self.text().as_str()), (exit, stdout), "{}", self.stderr);
        self
    }
}

/// A process in the background. Dropped, it is killed.
pub(crate) struct Running {
    child: Option<Child>,
}

impl Running {
    pub(crate) fn of(child: Child) -> Self {
        Self { child: Some(child) }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn end(mut self) -> Seen {
        self.child.take().unwrap().wait_with_output().unwrap().into()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process lives, zombies aside.
pub(crate) fn is_alive(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
    test_kill_process(pid).is_ok() && !status.contains("State:\tZ")
}
