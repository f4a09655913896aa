//! The rules hold for this workspace.

use super::*;

#[test]
fn the_workspace_keeps_the_house_rules() {
    let findings = workspace(&process::root()).unwrap();
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(lines.is_empty(), "`cargo xtask tidy` finds\n{}", lines.join("\n"));
}

#[test]
fn a_finding_reads_as_file_line_and_rule() {
    assert_eq!(Finding::new("a/b.rs", 3, "no").to_string(), "a/b.rs:3: no");
}
