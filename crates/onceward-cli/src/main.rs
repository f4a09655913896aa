//! The `onceward` command. Everything is in the library, so that another binary can offer the same subcommands.

use std::process::ExitCode;

fn main() -> ExitCode {
    onceward_cli::main_with(std::env::args_os())
}
