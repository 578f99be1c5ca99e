//! No file names a path of one machine.

use super::tree::Tree;

/// Folders at the root of a developer's machine, without the slash so that this file does not find itself.
const FOLDERS: &[&str] = &["home", "root", "tmp", "work"];

pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts() {
        for (i, line) in text.lines().enumerate() {
            for folder in FOLDERS.iter().filter(|folder| names(line, folder)) {
                findings.push(format!(
                    "{path}:{}: path of one machine, expected none, got /{folder}",
                    i + 1
                ));
            }
        }
    }
    findings
}

/// True when the line has `/folder` as the start of a path: `a/folder` and `/folders` are none.
fn names(line: &str, folder: &str) -> bool {
    let needle = format!("/{folder}");
    line.match_indices(&needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + needle.len()..].chars().next();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/})]*$~".contains(c))
            && !after.is_some_and(|c| c.is_alphanumeric() || "_-".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_machine_are_found() {
        struct Case {
            before: &'static str,
            after: &'static str,
            is_found: bool,
        }
        let cases = [
            Case {
                before: "cd ",
                after: "/x",
                is_found: true,
            },
            Case {
                before: "",
                after: "",
                is_found: true,
            },
            Case {
                before: "\"",
                after: "\"",
                is_found: true,
            },
            Case {
                before: "=",
                after: "/me",
                is_found: true,
            },
            Case {
                before: "a",
                after: "/x",
                is_found: false,
            },
            Case {
                before: "..",
                after: "/x",
                is_found: false,
            },
            Case {
                before: "",
                after: "s",
                is_found: false,
            },
            Case {
                before: "$DIR",
                after: "/x",
                is_found: false,
            },
            Case {
                before: "https://host",
                after: "/x",
                is_found: false,
            },
        ];
        for case in cases {
            for folder in FOLDERS {
                let line = format!("{}/{folder}{}", case.before, case.after);
                let found = check(&Tree::of(&[("a.md", &line)]));
                assert_eq!(!found.is_empty(), case.is_found, "{line}");
            }
        }
    }
}
