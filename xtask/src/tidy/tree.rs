//! The files of the workspace, read once.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Hidden folders that belong to the workspace.
const HIDDEN_AND_OURS: &[&str] = &[".cargo", ".ci", ".config", ".github"];
const NOT_OURS: &[&str] = &["target", "node_modules"];
const READ: &[&str] = &["rs", "sql", "md"];

/// Every path of the workspace, and the text of the files that rules look into.
#[derive(Default)]
pub(crate) struct Tree {
    /// Files with their text, in the order of their paths.
    pub(crate) files: Vec<File>,
    /// Files and folders, relative to the root, with `/` between names.
    pub(crate) paths: BTreeSet<String>,
}

/// A text file.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Tree {
    /// Reads the tree below a folder.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.read_folder(root, "")?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    /// A tree made of the given files.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            let folders = path.match_indices('/').map(|(end, _)| path[..end].to_owned());
            tree.paths.extend(folders);
            tree.paths.insert((*path).to_owned());
            tree.files.push(File { path: (*path).to_owned(), text: (*text).to_owned() });
        }
        tree
    }

    /// The files whose path starts with `start` and ends in `.extension`.
    pub(crate) fn below<'a>(&'a self, start: &'a str, extension: &'a str) -> impl Iterator<Item = &'a File> {
        self.files.iter().filter(move |file| file.path.starts_with(start) && file.extension() == extension)
    }

    /// The file at a path.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    fn read_folder(&mut self, root: &Path, folder: &str) -> Result<()> {
        let here = root.join(folder);
        for entry in fs::read_dir(&here).with_context(|| format!("failed to list {}", here.display()))? {
            let entry = entry.with_context(|| format!("failed to list {}", here.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let kind = entry.file_type().with_context(|| format!("failed to look at {path}"))?;
            let hidden = name.starts_with('.') && !HIDDEN_AND_OURS.contains(&name.as_str());
            if kind.is_dir() && !hidden && !NOT_OURS.contains(&name.as_str()) {
                self.read_folder(root, &path)?;
                self.paths.insert(path);
            } else if kind.is_file() {
                self.read_file(root, path)?;
            }
        }
        Ok(())
    }

    fn read_file(&mut self, root: &Path, path: String) -> Result<()> {
        self.paths.insert(path.clone());
        if path.rsplit_once('.').is_some_and(|(_, extension)| READ.contains(&extension)) {
            let text =
                fs::read_to_string(root.join(&path)).with_context(|| format!("failed to read {path}"))?;
            self.files.push(File { path, text });
        }
        Ok(())
    }
}

impl File {
    /// What follows the last dot of the name.
    pub(crate) fn extension(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    /// The name without folders and extension.
    pub(crate) fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.split('.').next().unwrap_or(name)
    }

    /// The lines with their numbers, from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Whether the file holds tests, or code that only tests use.
    pub(crate) fn is_test(&self) -> bool {
        const FOLDERS: &[&str] = &["tests", "benches", "examples", "conformance", "testing"];
        const STEMS: &[&str] = &["tests", "conformance", "testing"];
        let in_folder = self.path.split('/').rev().skip(1).any(|folder| FOLDERS.contains(&folder));
        in_folder || STEMS.contains(&self.stem())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_and_built_files_are_not_read() {
        let root = std::env::temp_dir().join(format!("onceward-tree-{}", std::process::id()));
        for folder in ["src", "target", ".git", ".ci"] {
            fs::create_dir_all(root.join(folder)).unwrap();
            fs::write(root.join(folder).join("a.md"), "text").unwrap();
        }
        let tree = Tree::read(&root).unwrap();
        fs::remove_dir_all(&root).unwrap();
        let files: Vec<&str> = tree.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(files, [".ci/a.md", "src/a.md"]);
        assert!(tree.paths.contains("src"));
    }

    #[test]
    fn test_files_are_known_by_folder_or_name() {
        for (path, test) in
            [("crates/a/src/b/tests.rs", true), ("tests/chaos/src/lib.rs", true), ("src/test.rs", false)]
        {
            let file = File { path: path.to_owned(), text: String::new() };
            assert_eq!(file.is_test(), test, "{path}");
        }
    }
}
