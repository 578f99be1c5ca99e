//! `unsafe` appears only where it is argued for: the kernels, and one file each for mapped memory.

use super::rust_code::{code_of, lines_with_word};
use super::tree::Tree;

/// Files, or folders with a `/` at the end.
const ALLOWED: &[&str] = &["crates/qloupe-kernels/", "crates/qloupe-onnx/src/mapped_file.rs"];

pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let is_allowed = |path: &str| {
        ALLOWED
            .iter()
            .any(|a| path == *a || (a.ends_with('/') && path.starts_with(a)))
    };
    tree.rust_files()
        .filter(|(path, _)| !is_allowed(path))
        .flat_map(|(path, text)| {
            lines_with_word(&code_of(text), "unsafe")
                .into_iter()
                .map(move |line| {
                    format!(
                        "{path}:{line}: unsafe code, expected it only in {}",
                        ALLOWED.join(", ")
                    )
                })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_is_found_outside_the_allowed_files_only() {
        let tree = Tree::of(&[
            ("crates/qloupe-kernels/src/x86.rs", "unsafe {}"),
            ("crates/qloupe-onnx/src/mapped_file.rs", "unsafe {}"),
            ("crates/qloupe-onnx/src/mapped_file.rs.rs", "unsafe {}"),
            (
                "crates/qloupe-exec/src/run.rs",
                "//! x\n\nfn f() { unsafe { g() } }\n// unsafe\n",
            ),
        ]);
        let found = check(&tree);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("crates/qloupe-exec/src/run.rs:3: unsafe code"),
            "{found:?}"
        );
    }
}
