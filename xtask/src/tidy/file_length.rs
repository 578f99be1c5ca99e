//! No Rust file is longer than 800 lines, but for those that `xtask/long_files.txt` names with a reason.

use std::collections::BTreeMap;

use super::tree::Tree;

const MAX_LINES: usize = 800;
const ALLOWED: &str = "xtask/long_files.txt";

pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    let mut allowed = BTreeMap::new();
    let lines = tree.text(ALLOWED).unwrap_or_default().lines().enumerate();
    for (i, line) in lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')) {
        match line.split_once(' ') {
            Some((path, reason)) if !reason.trim().is_empty() => {
                allowed.insert(path, i + 1);
            }
            _ => findings.push(format!(
                "{ALLOWED}:{}: no reason, expected `<path> <reason>`, got {line:?}",
                i + 1
            )),
        }
    }
    for (path, text) in tree.rust_files() {
        let n_lines = text.lines().count();
        match (n_lines > MAX_LINES, allowed.remove(path)) {
            (true, None) => findings.push(format!(
                "{path}: too long, expected at most {MAX_LINES} lines or a line in {ALLOWED}, got {n_lines}"
            )),
            (false, Some(line)) => {
                findings.push(format!(
                    "{ALLOWED}:{line}: {path} has only {n_lines} lines, remove this line"
                ));
            }
            _ => {}
        }
    }
    findings.extend(
        allowed
            .iter()
            .map(|(path, line)| format!("{ALLOWED}:{line}: {path} does not exist")),
    );
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_need_a_line_and_a_line_needs_a_long_file() {
        let long = "x\n".repeat(MAX_LINES + 1);
        let fits = "x\n".repeat(MAX_LINES);
        let allowed = "# comment\nb.rs a table\nfits.rs a table\ngone.rs a table\nd.rs\n";
        let tree = Tree::of(&[
            ("a.rs", &long),
            ("b.rs", &long),
            ("fits.rs", &fits),
            (ALLOWED, allowed),
        ]);
        assert_eq!(
            check(&tree),
            [
                "xtask/long_files.txt:5: no reason, expected `<path> <reason>`, got \"d.rs\"",
                "a.rs: too long, expected at most 800 lines or a line in xtask/long_files.txt, got 801",
                "xtask/long_files.txt:3: fits.rs has only 800 lines, remove this line",
                "xtask/long_files.txt:4: gone.rs does not exist",
            ]
        );
    }
}
