//! The steps of a long command: what runs now, how long each took, one line at the end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process;

/// The steps of one command so far.
pub(crate) struct Steps {
    command: &'static str,
    started: Instant,
    done: Vec<(&'static str, Duration)>,
}

impl Steps {
    /// No step yet.
    pub(crate) fn of(command: &'static str) -> Self {
        Self { command, started: Instant::now(), done: Vec::new() }
    }

    /// Runs one step and says how long it took.
    ///
    /// # Errors
    /// The error of the step, or that we were interrupted.
    pub(crate) fn step<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if process::interrupted() {
            bail!("interrupted before {name}");
        }
        eprintln!("==> {name}");
        let started = Instant::now();
        let outcome = work();
        let took = started.elapsed();
        self.done.push((name, took));
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        eprintln!("    {name} {word} after {}", seconds(took));
        outcome.map_err(|error| error.context(format!("{name} failed")))
    }

    /// Prints the summary and passes the outcome on.
    pub(crate) fn finish(self, outcome: Result<()>) -> Result<()> {
        eprintln!("{}", self.summary(outcome.is_ok()));
        outcome
    }

    fn summary(&self, passed: bool) -> String {
        let word = if passed { "passed" } else { "FAILED" };
        let each: Vec<String> =
            self.done.iter().map(|(name, took)| format!("{name} {}", seconds(*took))).collect();
        format!("xtask {} {word} in {}: {}", self.command, seconds(self.started.elapsed()), each.join(", "))
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_every_step_up_to_the_one_that_failed() {
        let mut steps = Steps::of("test");
        steps.step("fmt", || Ok(())).unwrap();
        let outcome: Result<()> = steps.step("clippy", || bail!("a lint"));
        assert_eq!(format!("{:#}", outcome.unwrap_err()), "clippy failed: a lint");
        assert_eq!(steps.summary(false), "xtask test FAILED in 0.0 s: fmt 0.0 s, clippy 0.0 s");
    }
}
