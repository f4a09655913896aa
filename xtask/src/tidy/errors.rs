//! Every error code has a page, every page a code, and every page answers the same four questions.

use std::collections::BTreeMap;

use super::{Finding, Tree};

const CODES: &str = "crates/onceward-core/src/error/codes.rs";
const PAGES: &str = "crates/onceward-core/src/error/pages/";
const HEADINGS: &[&str] = &["## What happened", "## Whose fault", "## What to do", "## Example"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let codes = codes(tree);
    let mut findings = Vec::new();
    for (code, line) in &codes {
        if tree.file(&format!("{PAGES}{code}.md")).is_none() {
            findings.push(Finding::new(CODES, *line, format!("{code} has no page at {PAGES}{code}.md")));
        }
    }
    for page in tree.below(PAGES, "md") {
        if !codes.contains_key(page.stem()) {
            findings.push(Finding::new(&page.path, 1, format!("{} is not a code of {CODES}", page.stem())));
        }
        for heading in HEADINGS.iter().filter(|heading| !page.text.lines().any(|line| line == **heading)) {
            findings.push(Finding::new(&page.path, 1, format!("the heading `{heading}` is missing")));
        }
    }
    findings
}

/// The codes in the table, with the line each first stands in.
fn codes(tree: &Tree) -> BTreeMap<String, usize> {
    let mut codes = BTreeMap::new();
    for (number, line) in tree.file(CODES).into_iter().flat_map(|file| file.lines()) {
        if line.trim_start().starts_with("//") {
            continue;
        }
        for (start, _) in line.match_indices("OW") {
            let code = line[start..].chars().take_while(char::is_ascii_alphanumeric).collect::<String>();
            if code.len() == 6 && code[2..].bytes().all(|digit| digit.is_ascii_digit()) {
                codes.entry(code).or_insert(number);
            }
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# OW0101\n\n## What happened\n\n## Whose fault\n\n## What to do\n\n## Example\n";

    fn findings(codes: &str, pages: &[(&str, &str)]) -> Vec<String> {
        let pages: Vec<_> = pages.iter().map(|(name, text)| (format!("{PAGES}{name}"), *text)).collect();
        let pages = pages.iter().map(|(path, text)| (path.as_str(), *text));
        let files: Vec<_> = [(CODES, codes)].into_iter().chain(pages).collect();
        check(&Tree::of(&files)).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_code_with_a_full_page_passes() {
        assert_eq!(findings("KeyInvalid = \"OW0101\";", &[("OW0101.md", PAGE)]), [""; 0]);
    }

    #[test]
    fn a_code_without_a_page_and_a_page_without_a_code_are_found() {
        let found = findings("// OW0101 is gone\nTtlInvalid = \"OW0102\";", &[("OW0101.md", PAGE)]);
        assert!(found[0].starts_with("OW0102 has no page"), "{found:?}");
        assert!(found[1].starts_with("OW0101 is not a code"), "{found:?}");
    }

    #[test]
    fn a_missing_heading_is_found() {
        let page = PAGE.replace("## Whose fault", "## Who");
        assert_eq!(
            findings("\"OW0101\"", &[("OW0101.md", &page)]),
            ["the heading `## Whose fault` is missing"]
        );
    }
}
