//! Which crate may depend on which. The manifests keep the layers apart, and this keeps the manifests.

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;
use crate::process;

/// The published crates, lowest first, and those of ours that each may build on.
const LAYERS: &[(&str, &[&str])] = &[
    ("onceward-core", &[]),
    ("onceward-macros", &["onceward-core"]),
    ("onceward-store", &["onceward-core"]),
    ("onceward", &["onceward-core", "onceward-macros", "onceward-store"]),
    ("onceward-server", &["onceward-core", "onceward-store", "onceward"]),
    ("onceward-cli", &["onceward-core", "onceward-store", "onceward", "onceward-server"]),
];

/// Crates of others, and the only ones of ours that may not have them.
const BANNED: &[(&str, &[&str], &str)] = &[
    ("tokio", &["onceward-core"], "rules do no I/O"),
    ("tokio-postgres", &["onceward-core"], "rules do no I/O"),
    ("rusqlite", &["onceward-core"], "rules do no I/O"),
    ("axum", &["onceward-core", "onceward-store"], "HTTP is served further up"),
    (
        "clap",
        &["onceward-core", "onceward-macros", "onceward-store", "onceward", "onceward-server"],
        "only the command line reads arguments",
    ),
];

/// Checks the manifests of the workspace.
pub(crate) fn check() -> Result<Vec<Finding>> {
    let mut command = process::cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata = process::output(&mut command).context("failed to read the manifests")?;
    let metadata: Value =
        serde_json::from_str(&metadata).context("failed to parse the answer of cargo metadata")?;
    let root = metadata["workspace_root"].as_str().unwrap_or_default();
    let mut findings = findings(&metadata, root);
    findings.extend(default_run(&metadata));
    Ok(findings)
}

/// `cargo run` in a clone has to know that the program is meant, and not the chores.
fn default_run(metadata: &Value) -> Option<Finding> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let named: Vec<&str> = packages.filter_map(|package| package["default_run"].as_str()).collect();
    let what = format!("`cargo run` has to run onceward, not one of {named:?}: default-run of onceward-cli");
    (named != ["onceward"]).then(|| Finding::new("Cargo.toml", 1, what))
}

fn findings(metadata: &Value, root: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        let manifest = manifest.strip_prefix(root).unwrap_or(manifest).trim_start_matches('/');
        if !manifest.starts_with("crates/") {
            continue;
        }
        let dependencies: Vec<&str> = dependencies(package).collect();
        findings.extend(broken(name, &dependencies).into_iter().map(|what| Finding::new(manifest, 1, what)));
    }
    findings
}

/// What a package is built from, also when optional. Its tests may use anything.
fn dependencies(package: &Value) -> impl Iterator<Item = &str> {
    let all = package["dependencies"].as_array().into_iter().flatten();
    all.filter(|it| it["kind"] != "dev").filter_map(|it| it["name"].as_str())
}

fn broken(name: &str, dependencies: &[&str]) -> Vec<String> {
    let Some((_, below)) = LAYERS.iter().find(|(layer, _)| *layer == name) else {
        return vec![format!("{name} is not in the table of layers (xtask/src/tidy/edges.rs)")];
    };
    let ours = dependencies.iter().filter(|it| LAYERS.iter().any(|(layer, _)| layer == *it));
    let upward = ours.filter(|it| !below.contains(it)).map(|it| format!("{name} may not build on {it}"));
    let banned =
        BANNED.iter().filter(|(it, without, _)| dependencies.contains(it) && without.contains(&name));
    upward.chain(banned.map(|(it, _, why)| format!("{name} may not depend on {it}: {why}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, dependency: &str, kind: &str) -> Vec<String> {
        let metadata = format!(
            r#"{{"packages": [{{"name": "{name}", "manifest_path": "/w/crates/{name}/Cargo.toml",
                "dependencies": [{{"name": "{dependency}", "kind": {kind}}}]}}]}}"#
        );
        findings(&serde_json::from_str(&metadata).unwrap(), "/w").iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_banned_dependency_is_found_unless_only_tests_have_it() {
        let finding =
            "crates/onceward-core/Cargo.toml:1: onceward-core may not depend on tokio: rules do no I/O";
        assert_eq!(found("onceward-core", "tokio", "null"), [finding]);
        assert_eq!(found("onceward-core", "tokio", "\"build\""), [finding]);
        assert_eq!(found("onceward-core", "tokio", "\"dev\""), [""; 0]);
        assert_eq!(found("onceward", "clap", "null").len(), 1);
        assert_eq!(found("onceward-cli", "clap", "null"), [""; 0]);
    }

    #[test]
    fn a_dependency_on_a_layer_above_or_beside_is_found() {
        assert_eq!(found("onceward-store", "onceward", "null").len(), 1);
        assert_eq!(found("onceward-store", "onceward-macros", "null").len(), 1);
        assert_eq!(found("onceward", "onceward-store", "null"), [""; 0]);
    }

    #[test]
    fn a_workspace_with_no_program_or_several_to_run_is_found() {
        let found = |packages: &str| default_run(&serde_json::from_str(packages).unwrap()).is_some();
        assert!(!found(r#"{"packages": [{"default_run": null}, {"default_run": "onceward"}]}"#));
        assert!(found(r#"{"packages": [{"default_run": null}]}"#));
        assert!(found(r#"{"packages": [{"default_run": "xtask"}]}"#));
        assert!(found(r#"{"packages": [{"default_run": "onceward"}, {"default_run": "xtask"}]}"#));
    }

    #[test]
    fn a_crate_without_a_layer_is_found() {
        assert_eq!(found("onceward-extra", "serde", "null").len(), 1);
    }
}
