//! `cargo xtask tidy`: the house rules that a program can check. A new rule is a file in `tidy/` and two lines here.

mod absolute_paths;
mod crate_edges;
mod file_length;
mod links;
mod lists;
mod module_docs;
mod rust_code;
mod serde_files;
mod todo_references;
mod tree;
mod unsafe_files;

use anyhow::bail;

use tree::Tree;

/// A rule: what it finds wrong, each as `<path>[:<line>]: <what is wrong>`.
type Rule = fn(&Tree) -> Vec<String>;

/// Every rule, by name.
const ALL: &[(&str, Rule)] = &[
    ("absolute_paths", absolute_paths::check),
    ("crate_edges", crate_edges::check),
    ("file_length", file_length::check),
    ("links", links::check),
    ("lists", lists::check),
    ("module_docs", module_docs::check),
    ("serde_files", serde_files::check),
    ("todo_references", todo_references::check),
    ("unsafe_files", unsafe_files::check),
];

/// Checks every rule on the files that git knows or would add.
///
/// # Errors
/// The number of findings; they are printed.
pub(crate) fn run() -> anyhow::Result<()> {
    let tree = Tree::of_repository()?;
    let mut n_findings = 0_usize;
    for (name, rule) in ALL {
        for finding in rule(&tree) {
            println!("{finding} [{name}]");
            n_findings += 1;
        }
    }
    if n_findings > 0 {
        bail!("tidy found {n_findings} problems");
    }
    println!("tidy: {} rules hold in {} files", ALL.len(), tree.n_files());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_sorted_and_each_file_is_a_rule() {
        assert!(ALL.is_sorted_by_key(|rule| rule.0), "ALL is not sorted");
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tidy");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".rs").map(str::to_owned))
            .filter(|name| name != "tree" && name != "rust_code")
            .collect();
        files.sort();
        assert_eq!(files, ALL.iter().map(|rule| rule.0).collect::<Vec<_>>());
    }
}
