//! The index of other people's tests names tests of ours that exist.

use std::collections::BTreeSet;

use super::{File, Finding, Tree};

const INDEX: &str = "docs/internals/durable-tests.md";

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let tests: BTreeSet<&str> = tree.below("", "rs").flat_map(functions).collect();
    let index = tree.files.iter().filter(|file| file.path == INDEX);
    index.flat_map(|file| file.lines()).filter_map(|(number, line)| missing(number, line, &tests)).collect()
}

/// What the second column of a line names and is not there. A test has a name of several words.
fn missing(number: usize, line: &str, tests: &BTreeSet<&str>) -> Option<Finding> {
    let ours = line.strip_prefix('|').map_or(line, |row| row.rsplit('|').nth(1).unwrap_or_default());
    let is_name = |text: &&str| text.matches('_').count() >= 2 && !text.contains(['.', ' ', '(']);
    let absent = ours.split('`').skip(1).step_by(2).filter(is_name).find(|name| !tests.contains(name))?;
    Some(Finding::new(INDEX, number, format!("there is no test `{absent}`")))
}

/// The names of everything that is declared as a function, and of the cases of the conformance suite.
fn functions(file: &File) -> impl Iterator<Item = &str> {
    file.text.lines().filter_map(|line| {
        let (_, rest) = line.split_once("fn ")?;
        rest.split(['(', '<']).next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_nowhere_are_found() {
        let tests = BTreeSet::from(["a_run_goes_on", "it_ends_so"]);
        let what = |line: &str| missing(3, line, &tests).map(|finding| finding.what);
        assert_eq!(what("| `their_own_test` | `a_run_goes_on`, `it_ends_so` |"), None);
        assert_eq!(what("| `theirs` | the compiler, `x.rs`, `.expiry(…)`, `Result` |"), None);
        assert_eq!(what("| `theirs` | `it_never_ends` |").unwrap(), "there is no test `it_never_ends`");
        assert_eq!(what("Those are `no_test_of_ours`.").unwrap(), "there is no test `no_test_of_ours`");
    }
}
