//! The files that the rules look at, in memory, so that a test can make its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// Paths from the root of the repository, with `/`, and the text of those files that are text.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    paths: BTreeSet<String>,
    texts: BTreeMap<String, String>,
}

impl Tree {
    /// The files of this repository: committed ones and new ones that are not ignored.
    pub(crate) fn of_repository() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("invariant: xtask lies in the root of the repository")?;
        // A clone may belong to another user than the one who checks it; listing files is harmless.
        let output = Command::new("git")
            .current_dir(root)
            .args([
                "-c",
                "safe.directory=*",
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .output()
            .context("git ls-files")?;
        if !output.status.success() {
            bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let mut tree = Self::default();
        for path in String::from_utf8(output.stdout)?
            .split('\0')
            .filter(|path| !path.is_empty())
        {
            // A file that is deleted but still in the index is not there.
            let Ok(bytes) = std::fs::read(root.join(path)) else {
                continue;
            };
            tree.paths.insert(path.to_owned());
            if let Ok(text) = String::from_utf8(bytes) {
                tree.texts.insert(path.to_owned(), text);
            }
        }
        Ok(tree)
    }

    /// A tree of text files, for tests.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let own = |text: &str| text.to_owned();
        Self {
            paths: files.iter().map(|file| own(file.0)).collect(),
            texts: files.iter().map(|file| (own(file.0), own(file.1))).collect(),
        }
    }

    pub(crate) fn n_files(&self) -> usize {
        self.paths.len()
    }

    /// True for a file or a folder with a file in it.
    pub(crate) fn exists(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        path.is_empty()
            || self.paths.contains(path)
            || self
                .paths
                .range(folder.clone()..)
                .next()
                .is_some_and(|next| next.starts_with(&folder))
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// Every text file.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Every Rust file.
    pub(crate) fn rust_files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(|(path, _)| path.ends_with(".rs"))
    }

    /// The files directly in a folder, without its path and `.rs`.
    pub(crate) fn modules_in(&self, folder: &str) -> Vec<&str> {
        self.rust_files()
            .filter_map(|(path, _)| path.strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(".rs"))
            .filter(|name| !name.contains('/'))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_exist_when_they_hold_a_file() {
        let tree = Tree::of(&[
            ("docs/a.md", ""),
            ("src/ops/relu.rs", ""),
            ("src/ops/deep/x.rs", ""),
        ]);
        assert!(
            tree.exists("docs") && tree.exists("docs/") && tree.exists("docs/a.md"),
            "{tree:?}"
        );
        assert!(!tree.exists("doc") && !tree.exists("docs/b.md"), "{tree:?}");
        assert_eq!(tree.modules_in("src/ops"), ["relu"]);
    }
}
