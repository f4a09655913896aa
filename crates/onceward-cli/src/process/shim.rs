//! The step between us and a wrapped command: `onceward __exec --parent PID -- CMD…` asks the kernel to kill it when
//! its parent dies, makes sure that the parent has not died already, and becomes the command.
//!
//! It can't cover what the command starts in turn, nor programs that change their user (the kernel forgets the wish).

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Parser;
use onceward::{Code, Error};

use crate::{exit, report};

/// The first argument that makes the program a shim. It is not among the subcommands: nobody types it.
pub(crate) const NAME: &str = "__exec";

/// Carries a word that only the shim and its parent know. Written to stdout, it says that the command was not started.
pub(crate) const NONCE: &str = "ONCEWARD__SHIM";

/// Start a command so that it does not outlive its parent
#[derive(Debug, Parser)]
struct Args {
    /// Our parent, which may have died before we could ask for a signal at its death
    #[arg(long)]
    parent: i32,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes the command of these arguments; returns only if that is not possible.
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    match Args::try_parse_from(args) {
        Ok(args) => become_command(&args),
        Err(error) => report::usage(&error),
    }
}

fn become_command(args: &Args) -> ExitCode {
    let nonce = std::env::var_os(NONCE);
    let Some((program, arguments)) = args.command.split_first() else { return ExitCode::from(exit::USAGE) };
    if let Err(error) = die_with(args.parent) {
        return report::plain(&format!("the command would outlive its parent: {error}"));
    }
    let error = Command::new(program).args(arguments).env_remove(NONCE).exec();
    if let Some(nonce) = nonce {
        let mark = format!("{}\n{error}\n", nonce.to_string_lossy());
        // If the parent does not hear it, it takes the command for one that ran and failed: the safe side.
        let _ = std::io::stdout().write_all(mark.as_bytes());
    }
    let found = error.kind() != ErrorKind::NotFound;
    let what = format!("{:?} could not be started: {error}", program.display().to_string());
    report::error(&Error::new(Code::CommandNotStarted, what));
    ExitCode::from(if found { exit::NOT_EXECUTABLE } else { exit::NOT_FOUND })
}

#[cfg(target_os = "linux")]
fn die_with(parent: i32) -> std::io::Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(parent) {
        return Err(std::io::Error::other("it is gone"));
    }
    Ok(())
}

/// Only Linux kills a process when its parent dies.
#[cfg(not(target_os = "linux"))]
fn die_with(_parent: i32) -> std::io::Result<()> {
    Ok(())
}
