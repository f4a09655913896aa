//! Nothing half-done is left behind: no markers, no macros that stand for missing code.

use super::{File, Finding, Tree};

const WORDS: &[&str] = &["TODO", "FIXME", "XXX", "HACK"];
const MACROS: &[&str] = &["todo!", "unimplemented!", "dbg!"];

/// This file has to name what it looks for.
const EXEMPT: &str = "xtask/src/tidy/markers.rs";

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files.iter().filter(|file| file.path != EXEMPT).flat_map(check_file).collect()
}

fn check_file(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in file.lines() {
        for word in WORDS.iter().chain(MACROS).filter(|word| has_word(line, word)) {
            findings.push(Finding::new(&file.path, number, format!("`{word}` marks something unfinished")));
        }
    }
    findings
}

/// Whether `word` occurs in `line` and is not part of a longer word.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let part = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_marker_is_found_in_every_kind_of_file() {
        for path in ["a.rs", "a.sql", "a.md"] {
            for marker in WORDS.iter().chain(MACROS) {
                let findings = check(&Tree::of(&[(path, &format!("\n-- {marker}(later)\n"))]));
                assert_eq!(
                    findings,
                    [Finding::new(path, 2, format!("`{marker}` marks something unfinished"))]
                );
            }
        }
    }

    #[test]
    fn longer_words_pass() {
        assert!(!has_word("mktemp XXXXXX TODOS not_todo!", "TODO"));
        assert!(!has_word("mktemp XXXXXX", "XXX"));
        assert!(!has_word("not_todo!()", "todo!"));
    }
}
