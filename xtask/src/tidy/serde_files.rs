//! serde's traits appear only in the schema files: the formats that users see, one file each.
//!
//! Calling `serde_json` or `toml` on a type of a schema file is free; making a type a format is not.

use super::rust_code::{code_of, lines_with_word};
use super::tree::Tree;

/// The schema files, by path.
const SCHEMA_FILES: &[&str] = &[
    "crates/qloupe/src/hybrid/file.rs",
    "crates/qloupe/src/plan/file.rs",
    "crates/qloupe/src/recipe.rs",
    "crates/qloupe/src/report.rs",
];

pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust_files().filter(|(path, _)| !SCHEMA_FILES.contains(path)) {
        for line in lines_with_word(&code_of(text), "serde") {
            findings.push(format!(
                "{path}:{line}: serde outside the schema files, expected it only in {}",
                SCHEMA_FILES.join(", ")
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_is_found_outside_the_schema_files_only() {
        let tree = Tree::of(&[
            (SCHEMA_FILES[0], "#[derive(serde::Serialize)]"),
            (
                "crates/qloupe-tensor/src/tensor.rs",
                "// serde\n#[derive(serde::Serialize)]\n",
            ),
            ("crates/qloupe-ir/src/node.rs", "let serde_like = \"serde\";"),
        ]);
        let found = check(&tree);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("crates/qloupe-tensor/src/tensor.rs:2: serde outside"),
            "{found:?}"
        );
    }

    #[test]
    fn schema_files_are_sorted() {
        assert!(SCHEMA_FILES.is_sorted(), "{SCHEMA_FILES:?}");
    }
}
