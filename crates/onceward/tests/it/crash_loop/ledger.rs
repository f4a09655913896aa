//! What really happened: a line for each run of a handler, and for each count of endings that came too late.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use onceward::jobs::JobId;
use onceward::worker::JobContext;

use super::runs::Did;

/// Files outside of any database. A line is one write to its end: it is there as a whole, or not at all.
pub(crate) struct Ledger {
    runs: PathBuf,
    stale: PathBuf,
    effects: PathBuf,
    charges: PathBuf,
}

/// One run of a handler.
pub(crate) struct Run {
    pub(crate) attempt: u32,
    pub(crate) token: i64,
}

impl Ledger {
    pub(crate) fn at(folder: &Path) -> Self {
        let file = |name: &str| folder.join(name);
        Self { runs: file("runs"), stale: file("stale"), effects: file("effects"), charges: file("charges") }
    }

    /// Notes that a handler has started: its effect.
    pub(crate) fn ran(&self, context: &JobContext) {
        append(&self.runs, &format!("{} {} {}\n", context.id(), context.attempt(), context.token().get()));
    }

    /// Notes that a step of a run has had its effect.
    pub(crate) fn did(&self, did: &Did) {
        let Did { run, position, token } = did;
        append(&self.effects, &format!("{run} {position} {token}\n"));
    }

    /// Charges for an order.
    pub(crate) fn charged(&self, order: u32, cents: u32) {
        append(&self.charges, &format!("{order} {cents}\n"));
    }

    /// Everything that was charged, by order.
    #[allow(dead_code, reason = "each proof uses another part")]
    pub(crate) fn charges(&self) -> HashMap<u32, Vec<u32>> {
        let mut charges: HashMap<u32, Vec<u32>> = HashMap::new();
        for line in read(&self.charges).lines() {
            let (order, cents) = line.split_once(' ').unwrap();
            charges.entry(order.parse().unwrap()).or_default().push(cents.parse().unwrap());
        }
        charges
    }

    /// The effects of all steps.
    #[allow(dead_code, reason = "each proof uses another part")]
    pub(crate) fn effects(&self) -> Vec<Did> {
        let text = read(&self.effects);
        let words = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            let (run, position, token) =
                (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            Did { run: run.parse().unwrap(), position, token: token.parse().unwrap() }
        };
        text.lines().map(words).collect()
    }

    /// Notes how many endings of this process were refused until now.
    pub(crate) fn refused(&self, count: u64) {
        append(&self.stale, &format!("{} {count}\n", std::process::id()));
    }

    /// All runs, by job, in the order in which they were started.
    pub(crate) fn runs(&self) -> HashMap<JobId, Vec<Run>> {
        let mut runs: HashMap<JobId, Vec<Run>> = HashMap::new();
        for line in read(&self.runs).lines() {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap();
            let (id, attempt, token) = (word(), word(), word());
            let run = Run { attempt: attempt.parse().unwrap(), token: token.parse().unwrap() };
            runs.entry(id.parse().unwrap()).or_default().push(run);
        }
        runs
    }

    /// How many endings were refused, in all processes.
    pub(crate) fn stale(&self) -> u64 {
        let mut of_process = HashMap::new();
        for line in read(&self.stale).lines() {
            let (process, count) = line.split_once(' ').unwrap();
            // Counts only grow.
            of_process.insert(process.to_owned(), count.parse::<u64>().unwrap());
        }
        of_process.values().sum()
    }
}

fn append(file: &Path, line: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(file).unwrap();
    file.write_all(line.as_bytes()).unwrap();
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}
