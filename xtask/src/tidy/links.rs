//! Relative links between the Markdown files lead somewhere, and the source files that the architecture names are
//! there.

use super::{File, Finding, Tree};

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings: Vec<Finding> = tree.below("", "md").flat_map(|file| check_file(tree, file)).collect();
    findings.extend(tree.file("ARCHITECTURE.md").into_iter().flat_map(|file| check_names(tree, file)));
    findings
}

/// A source file is named by its path, or by the end of it.
fn check_names(tree: &Tree, file: &File) -> Vec<Finding> {
    let is_there = |name: &str| tree.paths.iter().any(|path| path.ends_with(&format!("/{name}")));
    let named = |(number, line): (usize, &str)| {
        let names = line.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs"));
        let missing = names.filter(|name| !is_there(name));
        missing.map(|name| Finding::new(&file.path, number, format!("there is no `{name}`"))).collect()
    };
    file.lines().flat_map::<Vec<Finding>, _>(named).collect()
}

fn check_file(tree: &Tree, file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_code = false;
    for (number, line) in file.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for target in targets(line).into_iter().filter(|target| is_relative(target)) {
            let path = target.split('#').next().unwrap_or_default();
            if resolve(&file.path, path).is_none_or(|it| !it.is_empty() && !tree.paths.contains(&it)) {
                findings.push(Finding::new(
                    &file.path,
                    number,
                    format!("the link to `{target}` leads nowhere"),
                ));
            }
        }
    }
    findings
}

/// What a line links to: `[text](target "title")` and `[name]: target`. Code between backticks is no link.
fn targets(line: &str) -> Vec<String> {
    let prose: String = line.split('`').step_by(2).collect();
    let inline = prose.split("](").skip(1).map(|rest| rest.split(')').next().unwrap_or_default());
    let definition =
        prose.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target);
    let bare =
        |text: &str| text.split_whitespace().next().unwrap_or_default().trim_matches(['<', '>']).to_owned();
    inline.chain(definition).map(bare).filter(|target| !target.is_empty()).collect()
}

fn is_relative(target: &str) -> bool {
    let scheme =
        target.split_once(':').is_some_and(|(start, _)| start.bytes().all(|it| it.is_ascii_alphanumeric()));
    !scheme && !target.starts_with('#')
}

/// The path a link leads to, from the root; nothing when it leads out of the workspace.
fn resolve(from: &str, link: &str) -> Option<String> {
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut names: Vec<&str> = Vec::new();
    let start = if link.starts_with('/') { "" } else { folder };
    for name in start.split('/').chain(link.split('/')) {
        match name {
            "" | "." => {}
            ".." => {
                names.pop()?;
            }
            _ => names.push(name),
        }
    }
    Some(names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let tree = Tree::of(&[("docs/guide/a.md", text), ("docs/b.md", ""), ("LICENSE-MIT", "")]);
        check(&tree).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        for text in
            ["see [b](b.md)", "see [b](../b.md) and [c](../c.md#part)", "[b]: ../c.md", "[up](../../../b.md)"]
        {
            assert_eq!(findings(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn links_that_lead_somewhere_or_outside_pass() {
        let outside = "[a](https://example.com/a) [b](mailto:a@example.com) [c](#part)";
        let inside = "[b](../b.md#part) [d](.. \"title\") [l](/LICENSE-MIT)\n[b]: <../b.md>\n";
        let code = "`[x](y.md)`\n```\n[x](y.md)\n```\n";
        assert_eq!(findings(&format!("{outside}\n{inside}{code}")), [""; 0]);
    }

    #[test]
    fn a_source_file_that_the_architecture_names_is_there() {
        let text = "first `core/src/a.rs`, then `b.rs`\nthen `core/src/gone.rs`, and `sql/x.sql`";
        let tree = Tree::of(&[
            ("ARCHITECTURE.md", text),
            ("crates/core/src/a.rs", ""),
            ("crates/core/src/deep/b.rs", ""),
        ]);
        let found: Vec<String> = check(&tree).into_iter().map(|finding| finding.to_string()).collect();
        assert_eq!(found, ["ARCHITECTURE.md:2: there is no `core/src/gone.rs`"]);
    }
}
