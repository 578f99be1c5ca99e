//! Integer weights beside float16 values: `--target rk3576-w4a16`.

use qloupe::array::ArrayFile;
use qloupe::report::Report;
use qloupe_onnx::read_model;
use qloupe_tensor::{DType, Tensor};

use crate::sandbox::{INFER, Sandbox};

const BUILD: &str = "build model.onnx --target rk3576-w4a16 --recipe recipe.toml";

fn outputs(sandbox: &Sandbox, file: &str) -> Tensor {
    ArrayFile::open(&sandbox.path(file)).unwrap().read(0).unwrap()
}

#[test]
fn weights_are_built_without_samples_and_run_as_they_are_simulated() {
    let sandbox = Sandbox::new();
    let text = sandbox.succeed(&format!("{BUILD} --algorithm min_max"));
    let counts = "36 values in float16, 13 of them of int4 weights, 0 in float32, target rk3576-w4a16";
    assert!(text.lines().any(|line| line == counts), "{text}");
    let model = read_model(&sandbox.path("model.w4a16.onnx")).unwrap();
    let stored = model.graph.initializers.iter();
    assert_eq!(stored.filter(|i| i.value.dtype() == DType::Int4).count(), 13);
    assert_eq!(model.opset(), 21, "the first opset with int4");
    sandbox.succeed(&format!(
        "{INFER} --plan model.w4a16.plan.toml --out simulated.npz"
    ));
    sandbox.succeed("infer model.w4a16.onnx --recipe recipe.toml --input test --out written.npz");
    let (simulated, written) = (
        outputs(&sandbox, "simulated.npz"),
        outputs(&sandbox, "written.npz"),
    );
    let pairs = simulated.require::<f32>().unwrap().iter();
    let pairs = pairs.zip(written.require::<f32>().unwrap());
    // Scores up to 20 or so, of values in float16.
    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
    assert!(worst < 0.05, "{worst} between the model and its simulation");
}

#[test]
fn a_plan_is_analyzed_and_a_unit_that_is_raised_in_it_is_float16() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{BUILD} --algorithm min_max --quiet"));
    let analyze = "analyze model.onnx --plan model.w4a16.plan.toml --recipe recipe.toml --input test --json";
    let report: Report = serde_json::from_str(&sandbox.succeed(analyze)).unwrap();
    let before = report.outputs[0].views.entire["sqnr_db"].value;
    assert!(before < 20.0, "{before} dB");
    let causes: Vec<&str> = report
        .layers
        .iter()
        .flat_map(|layer| layer.causes.iter().map(|cause| cause.source.as_str()))
        .collect();
    assert!(causes.iter().any(|cause| cause.contains("weight")), "{causes:?}");
    let path = sandbox.path("model.w4a16.plan.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replace("precision = \"w4a16\"", "precision = \"fp16\""),
    )
    .unwrap();
    let report: Report = serde_json::from_str(&sandbox.succeed(analyze)).unwrap();
    let after = report.outputs[0].views.entire["sqnr_db"].value;
    assert!(after > 45.0, "{after} dB with every unit in float16");
}

#[test]
fn accuracy_is_told_under_the_word_of_the_target() {
    let sandbox = Sandbox::new();
    let text = sandbox.succeed(
        "evaluate model.onnx --target rk3576-w4a16 --dataset calib --recipe recipe.toml --labels test/labels.csv --only float,w4a16",
    );
    let described = "w4a16: target rk3576-w4a16, integer mode, calibrated on ";
    assert!(text.lines().any(|line| line.starts_with(described)), "{text}");
    assert!(text.lines().any(|line| line.starts_with("w4a16 ")), "{text}");
}

#[test]
fn what_does_not_fit_the_target_is_said() {
    let sandbox = Sandbox::new();
    let cases = [
        (
            format!("{BUILD} --algorithm percentile"),
            "algorithm percentile finds ranges of values, target rk3576-w4a16 quantizes weights only, expected auto, min_max or mse",
        ),
        (
            "build model.onnx --target rk3588 --dataset calib --method block".to_owned(),
            "method block with target rk3588 is not supported, expected channel or layer",
        ),
        (
            format!("{BUILD} --precision fp16"),
            "--precision fp16 with target rk3576-w4a16 is not supported, expected --precision fp16 without a target",
        ),
    ];
    for (command, expected) in cases {
        sandbox.refuse(&command, expected);
    }
}
