//! The list of formats, and numbers that JSON does not have.

use std::path::Path;

use super::*;

#[test]
fn the_list_is_sorted_and_every_file_is_in_it() {
    const PARTS: [&str; 12] = [
        "confidence",
        "escape",
        "figure",
        "gate",
        "grid",
        "options",
        "ranking",
        "sample",
        "tests",
        "story",
        "view",
        "words",
    ];
    let ids: Vec<_> = FORMATS.iter().map(|f| f.id()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| !PARTS.contains(&name.as_str()))
        .collect();
    files.sort();
    assert_eq!(files, ids);
    for format in FORMATS {
        if let Some(extension) = format.extension() {
            assert_eq!(format_of_extension(extension).unwrap().id(), format.id());
        }
    }
}

#[test]
fn numbers_that_json_does_not_have_are_strings_and_come_back() {
    let json = |x: f64| serde_json::to_string(&ValueRange { min: x, max: 0.1 }).unwrap();
    assert_eq!(json(f64::NEG_INFINITY), r#"{"min":"-inf","max":0.1}"#);
    assert_eq!(json(f64::NAN), r#"{"min":"NaN","max":0.1}"#);
    let back: ValueRange = serde_json::from_str(r#"{"min":"-inf","max":1}"#).unwrap();
    assert!(
        back.min == f64::NEG_INFINITY && (back.max - 1.0).abs() < f64::EPSILON,
        "{back:?}"
    );
    let error = serde_json::from_str::<ValueRange>(r#"{"min":"x","max":1}"#)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(r#"wrong number, expected a number, "NaN", "inf" or "-inf", got "x""#),
        "{error}"
    );
}
