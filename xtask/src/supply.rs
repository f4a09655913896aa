//! What we depend on: licences, banned crates, known vulnerabilities.

use anyhow::{Result, bail};

use crate::process;

/// Checks the dependencies against `deny.toml`.
pub(crate) fn deny() -> Result<()> {
    installed("deny")?;
    process::run(&mut process::cargo(&["deny", "--workspace", "--all-features", "check"]))
}

/// Checks `Cargo.lock` against the RustSec advisories.
pub(crate) fn audit() -> Result<()> {
    installed("audit")?;
    process::run(&mut process::cargo(&["audit", "--deny", "warnings"]))
}

fn installed(subcommand: &str) -> Result<()> {
    if process::succeeds(&mut process::cargo(&[subcommand, "--version"])) {
        return Ok(());
    }
    bail!("cargo-{subcommand} is not installed; `cargo install cargo-{subcommand} --locked` brings it")
}
