//! The chores of this repository: `cargo xtask <command>`.
//!
//! Each command is one module. Nothing here is published or linked into what users run.

mod install;
mod process;
mod rivals;
mod rustdoc;
mod servers;
mod steps;
mod suite;
mod supply;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
usage: cargo xtask <command>

  test                 install what is missing, then fmt, tidy, clippy, tests on real servers, doctests and docs
  test -- <filter>...  only the tests that match, on the same servers (arguments of `cargo nextest run`)
  prove                the long proofs: every test named proof_*, in release mode, without time limits
  prove -- <filter>... only the proofs that match
  tidy                 the house rules that no compiler checks
  rivals               other queues from npm beside ours, on one PostgreSQL, in one run (wants node and npm)
  rivals durable       the same of durable functions, with two crates
  servers              start the servers of the tests, print their addresses, stop them on Ctrl-C
  deny                 licences, banned crates, advisories (wants cargo-deny)
  audit                advisories alone (wants cargo-audit)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = if rustdoc::is_meant() { rustdoc::tests_and_pages() } else { dispatch(&arguments) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    process::watch_signals()?;
    match words.as_slice() {
        ["test"] => suite::test(),
        ["test", "--", filters @ ..] if !filters.is_empty() => suite::test_only(filters),
        ["prove"] => suite::prove(&["proof_"]),
        ["prove", "--", filters @ ..] if !filters.is_empty() => suite::prove(filters),
        ["tidy"] => tidy::tidy(),
        ["servers"] => suite::servers(),
        ["rivals"] => rivals::queues(),
        ["rivals", "durable"] => rivals::durable(),
        ["deny"] => supply::deny(),
        ["audit"] => supply::audit(),
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => bail!("that is not a command\n\n{HELP}"),
    }
}
