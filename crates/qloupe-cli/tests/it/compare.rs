//! `compare`: two reports side by side.

use serde_json::Value;

use crate::sandbox::{ANALYZE, Sandbox};

/// A sandbox with `a.json`, per channel, and `b.json`, per layer.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{ANALYZE} --quiet --report a.json"));
    sandbox.succeed(&format!("{ANALYZE} --quiet --method layer --report b.json"));
    sandbox
}

#[test]
fn two_reports_of_one_model_show_what_moved() {
    let sandbox = sandbox();
    let json: Value = serde_json::from_str(&sandbox.succeed("compare a.json b.json --json")).unwrap();
    let reports =
        ["a.json", "b.json"].map(|name| -> Value { serde_json::from_str(&sandbox.text(name)).unwrap() });
    let sqnr = |report: &Value| report["outputs"][0]["views"]["entire"]["sqnr_db"]["value"].clone();
    let moved = &json["outputs"][0]["sqnr_db"]["entire"];
    assert_eq!(
        (&moved["a"], &moved["b"]),
        (&sqnr(&reports[0]), &sqnr(&reports[1]))
    );
    let change = moved["b"].as_f64().unwrap() - moved["a"].as_f64().unwrap();
    assert_eq!(moved["change"].as_f64(), Some(change));
    assert_eq!(json["differences"][0]["what"], "method");
    assert_eq!(
        (&json["only_a"], &json["only_b"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
    let text = sandbox.succeed("compare a.json b.json");
    for part in [
        "A  a.json: model.onnx on rk3588",
        "not the same",
        "\n  method      channel  layer\n",
        "network outputs, sqnr in dB",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

#[test]
fn a_regression_has_its_own_exit_status() {
    let sandbox = sandbox();
    // Scales per layer are worse, so one of the two directions loses.
    let statuses = ["a.json b.json", "b.json a.json", "a.json a.json"].map(|pair| {
        sandbox
            .run(&format!("compare {pair} --fail-on-regression 0 --quiet"))
            .status
    });
    assert_eq!(statuses, [Some(1), Some(0), Some(0)]);
    let outcome = sandbox.run("compare a.json b.json --fail-on-regression 200");
    assert_eq!(outcome.status, Some(0));
    assert!(
        outcome
            .stderr
            .starts_with("regression gate passed: the worst change of entire sqnr_db is -"),
        "{outcome:?}"
    );
}

#[test]
fn what_is_no_report_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("old.json", r#"{"schema": "qloupe-report/0"}"#);
    sandbox.write("table.json", "layer,op");
    const HELP: &str = "\nhelp: `qloupe analyze .. --report FILE.json` writes one";
    sandbox.refuse(
        "compare none.json old.json",
        "none.json: cannot be read: No such file or directory (os error 2)",
    );
    sandbox.refuse(
        "compare old.json old.json",
        &format!("old.json: wrong schema, expected \"qloupe-report/1\", got \"qloupe-report/0\"{HELP}"),
    );
    sandbox.refuse(
        "compare table.json old.json",
        &format!(
            "table.json: not a report: expected value at line 1 column 1, expected the JSON of a report{HELP}"
        ),
    );
    sandbox.refuse(
        "compare old.json old.json --fail-on-regression -1",
        "--fail-on-regression -1: expected a number of dB that is not below 0, for example 0.5",
    );
}
