//! The list of expectations: a line of text for each case.

use std::collections::BTreeMap;

use anyhow::bail;

/// What a case is expected to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expectation {
    Pass,
    Fail,
}

const HEADER: &str = "\
# ONNX operator node tests (PyPI onnx 1.23.2) with dense tensors, run by `cargo xtask conformance`.
# An unexpected pass fails too; `cargo xtask conformance --update` writes this file.
";

/// The expectation of every case.
pub(super) fn parse_list(text: &str) -> anyhow::Result<BTreeMap<String, Expectation>> {
    let mut list = BTreeMap::new();
    for (idx, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let expectation = match line.split_once(' ') {
            Some((name, "pass")) => (name, Expectation::Pass),
            Some((name, rest))
                if rest
                    .strip_prefix("expected-fail: ")
                    .is_some_and(|r| !r.is_empty()) =>
            {
                (name, Expectation::Fail)
            }
            _ => bail!(
                "line {}: not an expectation, expected `NAME pass` or `NAME expected-fail: REASON`, got `{line}`",
                idx + 1
            ),
        };
        list.insert(expectation.0.to_owned(), expectation.1);
    }
    Ok(list)
}

/// The list for some results: each case with the reason of its failure.
pub(super) fn write_list(results: &[(String, Option<String>)]) -> String {
    let mut text = HEADER.to_owned();
    for (name, failure) in results {
        match failure {
            None => text.push_str(&format!("{name} pass\n")),
            Some(reason) => text.push_str(&format!("{name} expected-fail: {reason}\n")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_list_reads_back() {
        let results = [
            ("test_abs".to_owned(), None),
            (
                "test_scan".to_owned(),
                Some("1 unsupported operator: Scan".to_owned()),
            ),
        ];
        let list = parse_list(&write_list(&results)).unwrap();
        assert_eq!(list["test_abs"], Expectation::Pass);
        assert_eq!(list["test_scan"], Expectation::Fail);
    }

    #[test]
    fn a_failure_needs_a_reason() {
        let error = parse_list("# list\ntest_abs expected-fail").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 2: not an expectation, expected `NAME pass` or `NAME expected-fail: REASON`, got `test_abs expected-fail`"
        );
    }
}
