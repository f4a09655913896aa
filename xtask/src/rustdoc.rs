//! `rustdoc` as `cargo test --doc` calls it, and then once more for the documentation itself.
//!
//! `cargo doc` would check every dependency anew for what the doctests have at hand already. So the test suite names
//! this program as cargo's `rustdoc`: each call runs the doctests of one library and then, from the same arguments,
//! writes its pages, where every warning is an error.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// Set where cargo calls us instead of `rustdoc`.
const INSTEAD: &str = "ONCEWARD_XTASK_IS_RUSTDOC";

/// Options that only doctests have, and whether a value follows.
const OF_TESTS: &[(&str, bool)] =
    &[("--test", false), ("--test-args", true), ("--test-run-directory", true), ("--test-runtool", true)];

/// Makes a cargo command call us instead of `rustdoc`.
pub(crate) fn instead(command: &mut Command) -> Result<()> {
    command.env("RUSTDOC", env::current_exe()?).env(INSTEAD, "1");
    Ok(())
}

/// Whether we were called instead of `rustdoc`.
pub(crate) fn is_meant() -> bool {
    env::var_os(INSTEAD).is_some()
}

/// The doctests of one library, and its pages.
pub(crate) fn tests_and_pages() -> Result<()> {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    process::run(rustdoc().args(&arguments))?;
    process::run(rustdoc().args(pages(&arguments)).args(["-D", "warnings", "--out-dir"]).arg(folder()?))
}

fn rustdoc() -> Command {
    let mut command = Command::new("rustdoc");
    command.env_remove("RUSTDOC").env_remove(INSTEAD);
    command
}

/// The folder `doc` beside the one that this program was built into.
fn folder() -> Result<PathBuf> {
    let program = env::current_exe()?;
    let target = program.parent().and_then(Path::parent).context("this program lies in no target folder")?;
    Ok(target.join("doc"))
}

/// The arguments without what is about running doctests.
fn pages(arguments: &[OsString]) -> Vec<OsString> {
    let mut rest = arguments.iter();
    let mut kept = Vec::new();
    while let Some(argument) = rest.next() {
        match OF_TESTS.iter().find(|(option, _)| *argument == **option) {
            Some((_, true)) => drop(rest.next()),
            Some((_, false)) => {}
            None => kept.push(argument.clone()),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_want_everything_but_what_runs_tests() {
        let words = ["--crate-name", "a", "--test", "src/lib.rs", "--test-run-directory", "/a", "--cfg", "x"];
        let arguments = words.map(OsString::from);
        assert_eq!(pages(&arguments), ["--crate-name", "a", "src/lib.rs", "--cfg", "x"].map(OsString::from));
    }
}
