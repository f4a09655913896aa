//! The command line of Onceward, as a library: a binary of your own that calls [`main_with`] first thing in its `main`
//! has every subcommand, on the stores it was built with.
//!
//! Read in this order: `args.rs` (what can be typed) → `command/` (one file per command) → `process/` (the wrapped
//! command), `delivery.rs` (where requests may go, and with which keys) → `report.rs` (words on stderr) and `output.rs`
//! (data on stdout) → [`exit`] (the exit codes).

mod args;
mod command;
mod delivery;
pub mod exit;
mod output;
mod process;
mod report;
mod store;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;

/// Runs a command line, the name of the program included, and returns what the process is to exit with.
///
/// Call it from `main` and exit right after it: a wrapped command lives no longer than the thread that called this.
/// The program also starts itself with arguments of its own making, which come through here again.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     onceward_cli::main_with(std::env::args_os())
/// }
/// ```
pub fn main_with(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    // No threads and no runtime before this: it becomes another program.
    if args.get(1).is_some_and(|first| first == process::shim::NAME) {
        return process::shim::main(&args[1..]);
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return report::usage(&error),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return report::plain(&format!("no runtime could be started: {error}")),
    };
    // The root future stays on this thread, so that children started from it live as long as we do.
    let done = runtime.block_on(command::run(&cli));
    // Nobody waits for a thread that reads or writes for good.
    runtime.shutdown_background();
    done.unwrap_or_else(|error| report::error(&error))
}

/// How many threads at most: a command line has little to do at once.
const THREADS_MAX: usize = 8;

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, THREADS_MAX));
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
}
