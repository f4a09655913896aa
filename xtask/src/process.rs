//! Other programs: found, run, interrupted, stopped by their process id.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

const POLL: Duration = Duration::from_millis(20);

/// How a running command is asked to end: gently, then firmly. A terminal has already told it of a Ctrl-C.
const AFTER_INTERRUPT: &[(&str, Duration)] =
    &[("CONT", Duration::from_secs(1)), ("TERM", Duration::from_secs(10))];

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// The root of the workspace.
///
/// Cargo says at run time where our package is. What it said at compile time is second best: two checkouts that
/// share a target folder also share this program.
pub(crate) fn root() -> PathBuf {
    let here = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let here = PathBuf::from(here);
    here.parent().map_or(here.clone(), Path::to_owned)
}

/// Turns Ctrl-C, termination and hang-up into a flag, so that every guard gets to clean up.
pub(crate) fn watch_signals() -> Result<()> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag)).context("failed to watch for signals")?;
    }
    Ok(())
}

/// Whether somebody asked us to stop.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// A cargo command in the root of the workspace, with the environment a shell would give it.
///
/// `cargo run` describes our own package in variables. Build scripts watch some of them: passed on, they
/// would rebuild what a `cargo` typed by hand has just built.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(root());
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let ours = ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| text.starts_with(start));
        if ours || matches!(text.as_ref(), "CARGO" | "CARGO_BIN_NAME" | "CARGO_CRATE_NAME" | "OUT_DIR") {
            command.env_remove(&name);
        }
    }
    command
}

/// Whether a command runs and succeeds, its output unseen.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}

/// What a command prints, without the last line break.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("failed to start `{shown}`"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` ended with {}: {}", output.status, words.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Runs a command with its output shown. It is stopped when we are interrupted.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let mut child = command.spawn().with_context(|| format!("failed to start `{shown}`"))?;
    while !interrupted() {
        match child.try_wait().with_context(|| format!("failed to wait for `{shown}`"))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("`{shown}` ended with {status}"),
            None => sleep(POLL),
        }
    }
    stop(&mut child, AFTER_INTERRUPT);
    bail!("interrupted")
}

/// Ends a child: each signal in turn with the time it is given, at last by force. Returns when it is gone.
pub(crate) fn stop(child: &mut Child, signals: &[(&str, Duration)]) {
    for (signal, patience) in signals {
        if gone(child) {
            return;
        }
        succeeds(Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]));
        let asked = Instant::now();
        while asked.elapsed() < *patience {
            if gone(child) {
                return;
            }
            sleep(POLL);
        }
    }
    // Both fail only for a child that has already ended, which is what is wanted.
    let _ = child.kill();
    let _ = child.wait();
}

/// A program by its name, in `PATH` and in the places a user's `PATH` often leaves out.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/bin", "/usr/local/sbin", "/usr/sbin", "/usr/bin"].map(PathBuf::from);
    env::split_paths(&path).chain(usual).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn gone(child: &mut Child) -> bool {
    !matches!(child.try_wait(), Ok(None))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_an_error_that_names_it() {
        let error = run(&mut Command::new("false")).unwrap_err();
        assert!(error.to_string().starts_with("`false` ended with"), "{error}");
    }

    #[test]
    fn a_child_deaf_to_the_signal_is_ended_by_force() {
        let mut command = Command::new("sh");
        let mut child = command.args(["-c", "trap '' TERM; while :; do sleep 0.1; done"]).spawn().unwrap();
        stop(&mut child, &[("TERM", Duration::from_millis(200))]);
        assert!(gone(&mut child));
    }

    #[test]
    fn the_environment_of_our_own_package_is_not_passed_on() {
        let command = cargo(&["--version"]);
        let removed = command.get_envs().filter(|(_, value)| value.is_none()).count();
        let ours = env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_")).count();
        assert!(removed >= ours && ours > 0, "{removed} of {ours}");
    }
}
