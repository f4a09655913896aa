//! `onceward man`: the manual page of the program or of one command, made of the same table as `--help`.

use std::process::ExitCode;

use clap::CommandFactory;
use onceward::{Code, Error, Result};

use crate::args::Cli;
use crate::{exit, output};

/// Write the manual page
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A command, for its own page: `once`, `once resolve`
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut root = Cli::command();
    root.build();
    let mut page = &root;
    for name in &args.command {
        page = page.find_subcommand(name).ok_or_else(|| {
            Error::new(Code::UsageInvalid, format!("there is no command {:?}", args.command.join(" ")))
        })?;
    }
    let mut bytes = Vec::new();
    // Writing into memory does not fail; a half page would be seen at once.
    let _ = clap_mangen::Man::new(page.clone()).render(&mut bytes);
    output::text(&String::from_utf8_lossy(&bytes))?;
    Ok(ExitCode::from(exit::DONE))
}
