//! Reading a report, with an error that says what else the file is.

use std::path::Path;

use serde_json::Value;

use crate::Error;
use crate::report::{Report, SCHEMA};

/// Reads a `report.json`.
///
/// # Errors
/// [`Error::File`] where the file cannot be read, [`Error::Report`] where it is no report, or one of another version.
pub fn read_report(path: &Path) -> Result<Report, Error> {
    let bytes = std::fs::read(path).map_err(|error| Error::File {
        path: path.to_owned(),
        what: format!("cannot be read: {error}"),
    })?;
    parse_report(&bytes, &path.display().to_string())
}

/// Reads the text of a `report.json`; `file` is what messages call it.
///
/// # Errors
/// [`Error::Report`] where it is no report, or one of another version.
pub fn parse_report(bytes: &[u8], file: &str) -> Result<Report, Error> {
    parse(bytes).map_err(|what| Error::Report {
        file: file.to_owned(),
        what,
    })
}

fn parse(bytes: &[u8]) -> Result<Report, String> {
    let no_json = |error| format!("not a report: {error}, expected the JSON of a report");
    let value: Value = serde_json::from_slice(bytes).map_err(no_json)?;
    match value.get("schema") {
        Some(Value::String(schema)) if schema == SCHEMA => {}
        Some(Value::String(schema)) => {
            return Err(format!("wrong schema, expected \"{SCHEMA}\", got \"{schema}\""));
        }
        _ => return Err(format!("field \"schema\" is missing, expected \"{SCHEMA}\"")),
    }
    serde_json::from_value(value).map_err(|error| format!("malformed report: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_file_has_its_text() {
        struct Case {
            text: &'static str,
            expected: &'static str,
        }
        let cases = [
            Case {
                text: "layer,op\n",
                expected: "not a report: expected value at line 1 column 1, expected the JSON of a report",
            },
            Case {
                text: "[1]",
                expected: "field \"schema\" is missing, expected \"qloupe-report/1\"",
            },
            Case {
                text: r#"{"schema": 1}"#,
                expected: "field \"schema\" is missing, expected \"qloupe-report/1\"",
            },
            Case {
                text: r#"{"schema": "qloupe-evaluation/1"}"#,
                expected: "wrong schema, expected \"qloupe-report/1\", got \"qloupe-evaluation/1\"",
            },
            Case {
                text: r#"{"schema": "qloupe-report/1"}"#,
                expected: "malformed report: missing field `tool`",
            },
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.json");
        for Case { text, expected } in cases {
            std::fs::write(&path, text).unwrap();
            let error = read_report(&path).unwrap_err().to_string();
            assert_eq!(error, format!("{}: {expected}", path.display()));
        }
        let error = read_report(Path::new("none.json")).unwrap_err().to_string();
        assert_eq!(
            error,
            "none.json: cannot be read: No such file or directory (os error 2)"
        );
    }
}
