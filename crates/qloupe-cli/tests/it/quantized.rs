//! Models that other tools quantized.

use std::path::Path;

use qloupe::report::Report;

use crate::sandbox::Sandbox;

/// A sandbox with a model of `testdata/quantized` as `q.onnx` beside its float original.
fn sandbox(model: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/quantized");
    sandbox.write("q.onnx", std::fs::read(folder.join(model)).unwrap());
    sandbox
}

const COMPARE: &str = "--quantized q.onnx --recipe recipe.toml --input test";

#[test]
fn it_is_compared_with_its_float_original() {
    let sandbox = sandbox("ort_qdq_u8s8_channel.onnx");
    let arguments = format!("analyze model.onnx {COMPARE} --views entire,local,tensor --json");
    let report: Report = serde_json::from_str(&sandbox.succeed(&arguments)).unwrap();
    assert_eq!(
        (
            report.model.file.as_str(),
            report.target.as_str(),
            report.mode.as_str()
        ),
        ("model.onnx", "onnxruntime", "integer")
    );
    assert_eq!(report.plan.algorithm, "stored");
    let cosine = report.outputs[0].views.entire["cosine"].value;
    assert!((0.999..1.0).contains(&cosine), "cosine of the output is {cosine}");
    let skipped = |name: &str| {
        let found = report.skipped.iter().find(|s| s.name == name);
        found.map(|s| s.reason.clone()).unwrap_or_default()
    };
    // The quantizer removed the Relu, and the name of what was before it.
    assert_eq!(
        skipped("Conv__117:0"),
        "the quantized model has no value of this name"
    );
    let relu = report
        .layers
        .iter()
        .find(|l| l.name == "functional_1/re_lu_1_2/Relu6:0")
        .unwrap();
    assert_eq!(
        (relu.dtype.as_str(), relu.zero_point.as_slice()),
        ("uint8", &[0][..])
    );
    assert!(relu.views.local["sqnr_db"].value > 30.0 && relu.views.tensor["sqnr_db"].value > 30.0);
    assert!(report.findings.iter().any(|f| f.id == "activation_recovered"));
    let exact =
        "as the model's own operators compute the first sample: 152818 of 152818 integers in 23 values";
    assert!(
        report.notes.iter().any(|note| note == exact),
        "{:?}",
        report.notes
    );
}

#[test]
fn without_its_original_it_is_compared_with_its_own_weights() {
    let sandbox = sandbox("inc_qoperator.onnx");
    let formats = "--report r.json --report r.csv --report r.md --report r.txt";
    let table = sandbox.succeed(&format!("analyze {COMPARE} {formats}"));
    assert!(
        table.starts_with("q.onnx on onnxruntime: integer, algorithm stored"),
        "{table}"
    );
    let report: Report = serde_json::from_str(&sandbox.text("r.json")).unwrap();
    assert_eq!(report.model.file, "q.onnx");
    let cosine = report.outputs[0].views.entire["cosine"].value;
    assert!((0.999..1.0).contains(&cosine), "cosine of the output is {cosine}");
    for name in ["r.csv", "r.md", "r.txt"] {
        assert!(
            sandbox.text(name).contains("Conv__48:0"),
            "{name} has no row of a value"
        );
    }
    let same = sandbox.succeed(&format!("analyze q.onnx {COMPARE} --json"));
    let same: Report = serde_json::from_str(&same).unwrap();
    assert_eq!(same.layers, report.layers, "the model itself as MODEL is none");
}

#[test]
fn inspect_tells_how_it_is_quantized() {
    let text = sandbox("ort_dynamic_conv.onnx").succeed("inspect q.onnx");
    let expected = [
        "quantized already: dynamic\n",
        "  products  10 uint8, dynamic\n",
        "  values    8 uint8, dynamic\n",
        "  weights   10 uint8 per tensor\n",
        "  info: 10 weights have a zero point other than 0 [weight_zero_point]\n",
    ];
    for part in expected {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    let json = sandbox("nncf_mixed.onnx").succeed("inspect q.onnx --json --target rk3588");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["quantization"]["schemes"], serde_json::json!(["QDQ"]));
    assert_eq!(json["quantization"]["weights"]["int8 per channel"], 18);
    assert_eq!(json["placement"]["target"], "rk3588");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let sandbox = sandbox("ort_qdq_u8s8_channel.onnx");
    sandbox.refuse(
        &format!("analyze model.onnx {COMPARE} --dataset calib --method layer"),
        "--quantized is a model that is quantized already, expected nothing beside it that says how, got --dataset, --method",
    );
    sandbox.refuse(
        &format!("analyze {COMPARE} --target fp16"),
        "--quantized with target fp16 is not supported, expected a target with integers",
    );
    sandbox.refuse(
        "analyze --quantized model.onnx --recipe recipe.toml --input test",
        "--quantized model.onnx: the model is not quantized, expected one with QuantizeLinear or operators on integers",
    );
}
