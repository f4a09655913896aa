//! The command line of Onceward, as a library: a binary of your own that calls [`main_with`] first thing in its `main`
//! has every subcommand, on the stores it was built with.
//!
//! Read in this order: `args.rs` (what can be typed) → `command/` (one file per command) → `process/` (the wrapped
//! command), `delivery.rs` (where requests may go, and with which keys) → `report.rs` (words on stderr) and `output.rs`
//! (data on stdout) → `log.rs` (what is told while it works) → [`exit`] (the exit codes).

mod args;
mod command;
mod delivery;
pub mod exit;
mod log;
mod output;
mod process;
mod report;
mod store;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use onceward::worker::WorkerBuilder;

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
    Program::new().main_with(args)
}

/// The durable functions and handlers of a program.
type Work = dyn Fn(WorkerBuilder) -> WorkerBuilder + Send + Sync;
/// What commands get of it.
type Functions<'a> = Option<&'a Work>;

/// A program of your own with this command line, and with the durable functions that it runs: `worker` runs them, and
/// `runs check` tells before a deploy which runs would not go on.
///
/// ```no_run
/// use onceward::durable::{AnyError, durable};
///
/// #[durable]
/// async fn checkout(order: u64) -> Result<u64, AnyError> {
///     Ok(order)
/// }
///
/// fn main() -> std::process::ExitCode {
///     onceward_cli::Program::new()
///         .functions(|worker| worker.durable(checkout))
///         .main_with(std::env::args_os())
/// }
/// ```
#[derive(Default)]
pub struct Program {
    functions: Option<Box<Work>>,
}

impl core::fmt::Debug for Program {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Program").field("functions", &self.functions.is_some()).finish()
    }
}

impl Program {
    /// One without functions of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// What its workers run: put durable functions, handlers and the states they want there.
    #[must_use]
    pub fn functions(
        mut self,
        work: impl Fn(WorkerBuilder) -> WorkerBuilder + Send + Sync + 'static,
    ) -> Self {
        self.functions = Some(Box::new(work));
        self
    }

    /// Runs a command line: see [`main_with`].
    pub fn main_with(self, args: impl IntoIterator<Item = OsString>) -> ExitCode {
        main(args, self.functions.as_deref())
    }
}

fn main(args: impl IntoIterator<Item = OsString>, functions: Functions<'_>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    // No threads and no runtime before this: it becomes another program.
    if args.get(1).is_some_and(|first| first == process::shim::NAME) {
        return process::shim::main(&args[1..]);
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return report::usage(&error),
    };
    log::begin(&cli.globals.log);
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return report::plain(&format!("no runtime could be started: {error}")),
    };
    // The root future stays on this thread, so that children started from it live as long as we do.
    let done = runtime.block_on(command::run(&cli, functions));
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
