//! A note that something is left to do names its issue: `(#12)` behind the word.

use super::tree::Tree;

/// In two parts, so that this file does not find itself.
const WORD: &str = concat!("TO", "DO");
const CODE_ENDINGS: &[&str] = &[".rs", ".py", ".sh", ".toml", ".yml", ".ci/run"];

pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree
        .texts()
        .filter(|(path, _)| CODE_ENDINGS.iter().any(|end| path.ends_with(end)))
    {
        for (i, line) in text.lines().enumerate() {
            if line.split(WORD).skip(1).any(|rest| !starts_with_issue(rest)) {
                findings.push(format!(
                    "{path}:{}: {WORD} without an issue, expected `{WORD}(#12)`",
                    i + 1
                ));
            }
        }
    }
    findings
}

fn starts_with_issue(rest: &str) -> bool {
    rest.strip_prefix("(#")
        .and_then(|rest| rest.split_once(')'))
        .is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_without_an_issue_is_found() {
        let text = format!("// {WORD}: later\n// {WORD}(#12): later\n// {WORD}(#): later\n// {WORD}(me)\n");
        let tree = Tree::of(&[("a.rs", &text), ("docs/STYLE.md", &text)]);
        let found = check(&tree);
        let lines: Vec<&str> = found.iter().map(|f| f.split(": ").next().unwrap()).collect();
        assert_eq!(lines, ["a.rs:1", "a.rs:3", "a.rs:4"]);
    }
}
