//! The tests: `test`, `test -- <filter>`, `prove`, and `servers` for whoever runs them by hand.
//!
//! Every cargo command uses the same packages and features, so that what one has built serves the next. The whole
//! suite compiles everything once: clippy's driver is the compiler of our own crates, and the documentation is made
//! from what the doctests run against.

use std::num::NonZero;
use std::process::Command;
use std::thread::{self, available_parallelism};

use anyhow::{Result, bail};

use crate::install;
use crate::process;
use crate::rustdoc;
use crate::servers::Servers;
use crate::steps::Steps;
use crate::tidy;

const WHOLE: &[&str] = &["--workspace", "--all-features", "--locked"];

/// Everything that a change has to pass.
pub(crate) fn test() -> Result<()> {
    let mut steps = Steps::of("test");
    let outcome = whole_suite(&mut steps);
    steps.finish(outcome)
}

/// The tests that match, on the servers, and nothing else.
pub(crate) fn test_only(filters: &[&str]) -> Result<()> {
    let mut steps = Steps::of("test");
    let outcome = installed_on_servers(&mut steps, |steps, servers| {
        steps.step("test", || run_on(servers, &mut tests("default", &[], filters)))
    });
    steps.finish(outcome)
}

/// The long versions of the proofs that match. In `test` the same functions run for some seconds each.
pub(crate) fn prove(filters: &[&str]) -> Result<()> {
    let mut steps = Steps::of("prove");
    let outcome = installed_on_servers(&mut steps, |steps, servers| {
        let mut proofs = tests("prove", &[], filters);
        steps.step("prove", || run_on(servers, proofs.env("ONCEWARD_PROVE", "long")))
    });
    steps.finish(outcome)
}

/// The servers alone, until Ctrl-C.
pub(crate) fn servers() -> Result<()> {
    install::everything()?;
    let servers = Servers::start()?;
    for (name, value) in servers.environment() {
        println!("export {name}={value}");
    }
    eprintln!("running; Ctrl-C stops them");
    servers.serve()
}

fn whole_suite(steps: &mut Steps) -> Result<()> {
    install::components()?;
    // Packages come over the network while the processors are busy with what needs none of them.
    let installing = thread::spawn(install::packages);
    let checked = checks(steps);
    let installed = steps.step("install", || match installing.join() {
        Ok(installed) => installed,
        Err(_) => bail!("it panicked"),
    });
    checked.and(installed)?;
    on_servers(steps, |steps, servers| {
        steps.step("test", || run_on(servers, linted(&mut tests("ci", &[], &[]))))?;
        steps.step("doc", || run_on(servers, linted(&mut documentation()?)))
    })
}

/// What needs nothing but the sources.
fn checks(steps: &mut Steps) -> Result<()> {
    steps.step("fmt", || process::run(&mut process::cargo(&["fmt", "--all", "--check"])))?;
    steps.step("tidy", tidy::tidy)?;
    steps.step("clippy", || process::run(linted(&mut tests("ci", &["--no-run"], &[]))))
}

fn run_on(servers: &Servers, command: &mut Command) -> Result<()> {
    process::run(command.envs(servers.environment().iter().cloned()))
}

fn installed_on_servers(
    steps: &mut Steps,
    work: impl FnOnce(&mut Steps, &Servers) -> Result<()>,
) -> Result<()> {
    steps.step("install", install::everything)?;
    on_servers(steps, work)
}

/// Does `work` while the servers run.
fn on_servers(steps: &mut Steps, work: impl FnOnce(&mut Steps, &Servers) -> Result<()>) -> Result<()> {
    let servers = steps.step("servers", Servers::start)?;
    work(steps, &servers)?;
    steps.step("stop", || {
        drop(servers);
        Ok(())
    })
}

/// Clippy as the compiler of our own crates, called as `cargo clippy -- -D warnings` does it, but for artefacts that
/// run: nothing is compiled a second time.
fn linted(command: &mut Command) -> &mut Command {
    let arguments = "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__";
    command.env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver").env("CLIPPY_ARGS", arguments)
}

/// `cargo nextest`, or `cargo test` where that is all there is.
fn tests(profile: &str, options: &[&str], filters: &[&str]) -> Command {
    let nextest = process::succeeds(&mut process::cargo(&["nextest", "--version"]));
    if !nextest {
        eprintln!("    cargo-nextest is not installed: no time limits, and tests share a process");
        let mut command = process::cargo(&["test", "--lib", "--bins", "--tests", "--examples"]);
        if profile == "prove" {
            command.args(["--profile", "prove"]);
        }
        command.args(WHOLE).args(options).arg("--").args(filters);
        return command;
    }
    let mut command = process::cargo(&["nextest", "run", "--profile", profile]);
    command.args(WHOLE).args(options).args(filters);
    match profile {
        "ci" => {
            // Many tests mostly wait. How many of these threads one takes is in .config/nextest.toml.
            let threads = 3 * available_parallelism().map_or(1, NonZero::get);
            command.args(["--test-threads", &threads.to_string()]);
        }
        "prove" => {
            command.args(["--cargo-profile", "prove"]);
        }
        _ => {}
    }
    command
}

/// The doctests, and beside them the documentation: see [`rustdoc`].
fn documentation() -> Result<Command> {
    let mut command = process::cargo(&["test", "--doc"]);
    command.args(WHOLE);
    rustdoc::instead(&mut command)?;
    Ok(command)
}
