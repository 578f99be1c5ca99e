//! Every Rust file starts with a `//!` line that says what it owns.

use super::tree::Tree;

pub(crate) fn check(tree: &Tree) -> Vec<String> {
    tree.rust_files()
        .filter(|(_, text)| !text.lines().next().is_some_and(|line| line.starts_with("//! ")))
        .map(|(path, _)| format!("{path}:1: no module doc, expected a first line that starts with `//! `"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_header_is_found() {
        let tree = Tree::of(&[
            ("a.rs", "//! Owns a.\n"),
            ("b.rs", "use x;\n//! Late.\n"),
            ("c.rs", ""),
            ("d.rs", "//!\n"),
            ("e.md", "x"),
        ]);
        let found = check(&tree);
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(
            found[0],
            "b.rs:1: no module doc, expected a first line that starts with `//! `"
        );
    }
}
