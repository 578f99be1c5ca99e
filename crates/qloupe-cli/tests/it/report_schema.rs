//! `docs/report.schema.json`: real reports of every kind hold to it, and it names every field there is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::sandbox::{ANALYZE, Sandbox};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(&text("docs/report.schema.json")).unwrap()
}

/// The schema, with an error for every field that it does not name.
fn strict() -> Validator {
    let mut schema = schema();
    for definition in schema["$defs"].as_object_mut().unwrap().values_mut() {
        if definition.get("properties").is_some() {
            definition["additionalProperties"] = json!(false);
        }
    }
    jsonschema::draft202012::new(&schema).unwrap()
}

fn assert_valid(validator: &Validator, report: &Value, what: &str) {
    let errors: Vec<String> = validator
        .iter_errors(report)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{what}:\n{}", errors.join("\n"));
}

/// The fields of each structure of the schema file, and the structure each belongs to.
fn rust_fields() -> Vec<(String, String)> {
    let source = text("crates/qloupe/src/report.rs");
    let mut fields = Vec::new();
    let mut structure = None;
    for line in source.lines() {
        if let Some(name) = line.strip_prefix("pub struct ") {
            structure = name.strip_suffix(" {").map(str::to_owned);
        } else if line == "}" {
            structure = None;
        } else if let (Some(name), Some(field)) = (&structure, line.strip_prefix("    pub "))
            && let Some((field, _)) = field.split_once(':')
        {
            fields.push((name.clone(), field.to_owned()));
        }
    }
    fields
}

#[test]
fn real_reports_hold_to_the_schema() {
    assert!(
        jsonschema::draft202012::meta::is_valid(&schema()),
        "the schema itself"
    );
    let validator = strict();
    let sandbox = Sandbox::new();
    let quantized = repository().join("testdata/quantized/ort_qdq_u8s8_channel.onnx");
    sandbox.write("q.onnx", std::fs::read(quantized).unwrap());
    let cases = [
        format!("{ANALYZE} --views entire,local,tensor --fail-under cosine=0.9 --json"),
        format!("{ANALYZE} --labels test/labels.csv --until-stable --json"),
        "analyze model.onnx --precision fp16 --recipe recipe.toml --input test --json".to_owned(),
        "analyze model.onnx --quantized q.onnx --recipe recipe.toml --input test --json".to_owned(),
        "analyze --quantized q.onnx --recipe recipe.toml --input test --json".to_owned(),
    ];
    for arguments in cases {
        let report: Value = serde_json::from_str(&sandbox.succeed(&arguments)).unwrap();
        assert_valid(&validator, &report, &arguments);
    }
}

#[test]
fn a_report_that_is_wrong_is_refused() {
    let sandbox = Sandbox::new();
    let report: Value = serde_json::from_str(&sandbox.succeed(&format!("{ANALYZE} --json"))).unwrap();
    let validator = strict();
    assert_valid(&validator, &report, "as it is");
    let wrong: [(&str, Value); 5] = [
        ("/schema", json!("qloupe-report/0")),
        ("/layers/0/name", json!(3)),
        ("/layers/0/views/entire/cosine/value", json!("none")),
        ("/layers/0/views/entire/cosine/n", json!(-1)),
        ("/mode", json!("int8")),
    ];
    for (place, value) in wrong {
        let mut report = report.clone();
        *report.pointer_mut(place).unwrap() = value;
        assert!(!validator.is_valid(&report), "{place}");
    }
    let mut report = report.clone();
    report["layers"][0]["colour"] = json!("red");
    assert!(!validator.is_valid(&report), "a field that nobody knows");
}

#[test]
fn every_field_is_in_the_schema_and_in_the_prose() {
    let (schema, prose) = (schema(), text("docs/report.schema.md"));
    let fields = rust_fields();
    assert!(fields.len() > 80, "{}", fields.len());
    let structures: BTreeSet<&str> = fields.iter().map(|(structure, _)| structure.as_str()).collect();
    for structure in structures {
        let own: BTreeSet<&str> = fields
            .iter()
            .filter(|(of, _)| of == structure)
            .map(|(_, f)| f.as_str())
            .collect();
        let named = schema["$defs"][structure]["properties"].as_object();
        let named = named.unwrap_or_else(|| panic!("$defs has no {structure}"));
        let named: BTreeSet<&str> = named.keys().map(String::as_str).collect();
        assert_eq!(named, own, "{structure}");
    }
    for (structure, field) in &fields {
        assert!(
            prose.contains(&format!("`{field}`")),
            "{structure}.{field} is not in the prose"
        );
    }
}
