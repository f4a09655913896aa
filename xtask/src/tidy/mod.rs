//! The house rules that no compiler checks. Each module is one family of rules, over a [`Tree`] in memory.
//!
//! A rule that has nothing to look at yet, because its folder does not exist, reports nothing.

mod edges;
mod errors;
mod index;
mod invariants;
mod links;
mod markers;
mod names;
mod rust;
mod sql;
mod tree;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};

use crate::process;
pub(crate) use tree::{File, Tree};

/// A broken rule, and where.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    file: String,
    line: usize,
    what: String,
}

impl Finding {
    fn new(file: impl Into<String>, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.into(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

type Check = fn(&Tree) -> Vec<Finding>;

const CHECKS: &[Check] = &[
    rust::check,
    sql::check,
    markers::check,
    names::check,
    errors::check,
    index::check,
    invariants::check,
    links::check,
];

/// Checks the whole workspace.
///
/// # Errors
/// When a rule is broken; every finding has been printed by then.
pub(crate) fn tidy() -> Result<()> {
    let findings = workspace(&process::root())?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        1 => bail!("1 finding"),
        many => bail!("{many} findings"),
    }
}

fn workspace(root: &Path) -> Result<Vec<Finding>> {
    let tree = Tree::read(root)?;
    let mut findings: Vec<Finding> = CHECKS.iter().flat_map(|check| check(&tree)).collect();
    findings.extend(edges::check()?);
    findings.sort();
    findings.dedup();
    Ok(findings)
}
