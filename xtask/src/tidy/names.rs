//! Files and modules are called after what they do.

use super::{Finding, Tree};

/// Words that say nothing about what is inside.
const BANNED: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager", "managers"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.below("", "rs") {
        for word in file.path.trim_end_matches(".rs").split('/').filter_map(banned) {
            let what = format!("`{word}` in a path says nothing; name the file after what it does");
            findings.push(Finding::new(&file.path, 1, what));
        }
        for (number, line) in file.lines() {
            if let Some(word) = module(line).and_then(banned) {
                let what = format!("`{word}` in a module's name says nothing; name it after what it does");
                findings.push(Finding::new(&file.path, number, what));
            }
        }
    }
    findings
}

/// The name in `mod name;` or `pub(crate) mod name {`.
fn module(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
    (words.next() == Some("mod")).then(|| words.next())?.map(|name| name.trim_end_matches([';', '{']))
}

fn banned(name: &str) -> Option<&'static str> {
    let mut parts = name.split(['_', '-']);
    parts.find_map(|part| BANNED.iter().find(|word| **word == part)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_nothing_are_found_in_paths_and_modules() {
        for path in ["crates/a/src/util.rs", "crates/a/tests/common/mod.rs", "crates/a/src/queue_manager.rs"]
        {
            assert_eq!(check(&Tree::of(&[(path, "")])).len(), 1, "{path}");
        }
        let text = "mod queue;\npub(crate) mod helpers {\n}\n// the mod util is not one\n";
        let findings = check(&Tree::of(&[("crates/a/src/lib.rs", text)]));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, 2);
    }

    #[test]
    fn words_that_only_contain_them_pass() {
        assert_eq!(check(&Tree::of(&[("crates/a/src/utility_bill.rs", "mod commonwealth;\n")])), []);
    }
}
