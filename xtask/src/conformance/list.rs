//! The list of expectations: a line of text for each case.

use std::collections::BTreeMap;

use anyhow::bail;

/// What a case is expected to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expectation {
    Pass,
    /// Fails, and why.
    Fail(String),
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
        let (name, expectation) = line.split_once(' ').unwrap_or((line, ""));
        let expectation = match (expectation, expectation.strip_prefix("expected-fail: ")) {
            ("pass", _) => Expectation::Pass,
            (_, Some(reason)) if !reason.is_empty() => Expectation::Fail(reason.to_owned()),
            _ => bail!(
                "line {}: not an expectation, expected `NAME pass` or `NAME expected-fail: REASON`, got `{line}`",
                idx + 1
            ),
        };
        list.insert(name.to_owned(), expectation);
    }
    Ok(list)
}

/// The list for some results. A case that was expected to fail keeps its reason, unless that was a missing operator.
pub(super) fn write_list(
    results: &[(String, Option<String>)],
    expected: &BTreeMap<String, Expectation>,
) -> String {
    let mut text = HEADER.to_owned();
    for (name, failure) in results {
        match (failure, expected.get(name)) {
            (None, _) => text.push_str(&format!("{name} pass\n")),
            (Some(_), Some(Expectation::Fail(reason))) if !reason.contains("unsupported operator") => {
                text.push_str(&format!("{name} expected-fail: {reason}\n"));
            }
            (Some(failure), _) => text.push_str(&format!("{name} expected-fail: {failure}\n")),
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
        let list = parse_list(&write_list(&results, &BTreeMap::new())).unwrap();
        assert_eq!(list["test_abs"], Expectation::Pass);
        let reason = "1 unsupported operator: Scan".to_owned();
        assert_eq!(list["test_scan"], Expectation::Fail(reason));
    }

    #[test]
    fn reasons_are_kept() {
        let expected = BTreeMap::from([("a".to_owned(), Expectation::Fail("by design".to_owned()))]);
        let text = write_list(&[("a".to_owned(), Some("wrong".to_owned()))], &expected);
        assert!(text.ends_with("\na expected-fail: by design\n"), "{text}");
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
