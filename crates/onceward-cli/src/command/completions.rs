//! `onceward completions`: what a shell needs to complete our commands.

use std::process::ExitCode;

use clap::CommandFactory;
use onceward::Result;

use crate::args::Cli;
use crate::{exit, output};

/// Write the completions of a shell
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut bytes = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "onceward", &mut bytes);
    output::text(&String::from_utf8_lossy(&bytes))?;
    Ok(ExitCode::from(exit::DONE))
}
