//! `onceward lease`.

use std::process::ExitCode;

use onceward::{Code, Error, Result};

use crate::args::Globals;

/// lease
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_args: &Args, _globals: &Globals) -> Result<ExitCode> {
    Err(Error::new(Code::UsageInvalid, "not part of this build"))
}
