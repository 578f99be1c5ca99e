//! Whole workflows: what a user types, what comes out.

use std::collections::BTreeMap;
use std::process::Stdio;

use qloupe::array::ArrayFile;
use qloupe::report::Report;
use qloupe_onnx::read_model;
use qloupe_tensor::{DType, Tensor};

use crate::sandbox::{ANALYZE, BUILD, INFER, Sandbox};

/// The arrays of a file, by name.
fn arrays(sandbox: &Sandbox, name: &str) -> BTreeMap<String, Tensor> {
    let file = ArrayFile::open(&sandbox.path(name)).unwrap();
    let read = |idx: usize| (file.arrays()[idx].name.clone(), file.read(idx).unwrap());
    (0..file.arrays().len()).map(read).collect()
}

#[test]
fn the_first_command_of_the_readme_prints_the_table() {
    let readme = include_str!("../../../../README.md");
    let (_, rest) = readme
        .split_once("cargo run --release -p qloupe-cli -- ")
        .unwrap();
    let (arguments, _) = rest.split_once("```").unwrap();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(&arguments.replace('\\', ""));
    let outcome = crate::sandbox::run(command.current_dir(root));
    assert_eq!((outcome.status, outcome.stderr.as_str()), (Some(0), ""));
    let expected = [
        "testdata/models/fmnist_mbv2.onnx on rk3588: integer, algorithm auto, method channel\n",
        "20 samples from testdata/fmnist/test; calibrated on 20; values: 22 quantized\n",
        "\nlayer  ",
        "\ninput  ",
        "\nConv__115:0 ",
        "fused into \"functional_1/re_lu_1/Relu6:0\"",
        "~ cosine below 0.99: slightly inconsistent; ! below 0.98: this layer is wrong\n",
        "entire: everything quantized; local: this unit quantized, fed golden inputs; alone: only this unit quantized",
        "\nworst by entire, sqnr in dB",
        "\nworst by local, sqnr in dB",
        "\nmost noise at the network outputs",
        "\nnetwork outputs ",
        "\n  Identity:0 [1, 10] ",
        "\ncost ",
        "\n  file ",
        "\n  weights ",
        "\n  peak activations ",
        "\n  latency on ",
        "\nnote: checked against the vendor's PC simulator, not silicon\n",
    ];
    let mut rest = outcome.stdout.as_str();
    for part in expected {
        let Some(at) = rest.find(part) else {
            panic!("{part:?} is missing or out of order in\n{}", outcome.stdout)
        };
        rest = &rest[at..];
    }
    // Passes round weights on purpose.
    assert!(!outcome.stdout.contains("weight_wrong"), "{}", outcome.stdout);
}

#[test]
fn the_json_report_says_what_the_table_says() {
    let sandbox = Sandbox::new();
    let report: Report = serde_json::from_str(&sandbox.succeed(&format!("{ANALYZE} --json"))).unwrap();
    assert_eq!(report.schema, "qloupe-report/1");
    assert_eq!(
        (report.target.as_str(), report.mode.as_str()),
        ("rk3588", "integer")
    );
    assert_eq!((report.samples.n, report.samples.n_calibration), (20, 20));
    assert_eq!(report.outputs.len(), 1);
    let cosine = report.outputs[0].views.entire["cosine"].value;
    assert!((0.999..1.0).contains(&cosine), "cosine of the output is {cosine}");
    for layer in &report.layers {
        let has_numbers = !layer.views.entire.is_empty() && !layer.views.local.is_empty();
        assert_eq!(
            layer.reason.is_none(),
            has_numbers,
            "{}: numbers, or a reason why there are none",
            layer.name
        );
    }
}

#[test]
fn every_report_format_is_written() {
    let sandbox = Sandbox::new();
    let reports: Vec<String> = qloupe::report::extensions()
        .iter()
        .map(|e| format!("--report out.{e}"))
        .collect();
    sandbox.succeed(&format!("{ANALYZE} {}", reports.join(" ")));
    let json: Report = serde_json::from_str(&sandbox.text("out.json")).unwrap();
    for extension in qloupe::report::extensions() {
        let text = sandbox.text(&format!("out.{extension}"));
        for name in json.layers.iter().filter(|l| l.reason.is_none()).map(|l| &l.name) {
            assert!(text.contains(name), "out.{extension} lacks {name}");
        }
        assert!(!text.contains('\u{1b}'), "out.{extension} has terminal colours");
    }
}

#[test]
fn a_gate_that_fails_has_its_own_exit_status() {
    let sandbox = Sandbox::new();
    struct Case {
        gates: &'static str,
        status: i32,
    }
    let cases = [
        Case {
            gates: "--fail-under cosine=0.9999999",
            status: 1,
        },
        Case {
            gates: "--fail-under cosine=0.9",
            status: 0,
        },
        Case {
            gates: "--fail-under cosine=0.9 --fail-under local.sqnr_db=300",
            status: 1,
        },
        Case {
            gates: "--fail-under max_abs=1000 --fail-under local.cosine=0.9",
            status: 0,
        },
    ];
    for Case { gates, status } in cases {
        let outcome = sandbox.run(&format!("{ANALYZE} --quiet {gates} --report out.csv"));
        assert_eq!(outcome.status, Some(status), "{gates}\n{}", outcome.stderr);
        assert!(outcome.stderr.contains("gate"), "{}", outcome.stderr);
        assert!(
            sandbox.path("out.csv").exists(),
            "a report is written whatever the gate says"
        );
    }
}

#[test]
fn build_writes_a_model_and_a_plan_that_the_other_commands_accept() {
    let sandbox = Sandbox::new();
    let text = sandbox.succeed(&format!("{BUILD} -o out.onnx"));
    assert!(text.starts_with("wrote out.onnx ("), "{text}");
    let ends = [
        "      out.plan.toml",
        "22 values in int8, 0 in float16, 0 in float32, target rk3588",
        "feed \"input\": NCHW gray, x = (level - 72.93) / 90.015; on the board int8 with q = round(x / 0.01110926) - 55",
    ];
    assert!(ends.iter().all(|line| text.lines().any(|l| l == *line)), "{text}");
    let model = read_model(&sandbox.path("out.onnx")).unwrap();
    for op in ["QuantizeLinear", "DequantizeLinear"] {
        assert!(model.graph.nodes.iter().any(|node| node.is_onnx(op)), "no {op}");
    }
    sandbox.succeed("analyze model.onnx --plan out.plan.toml --recipe recipe.toml --input test");
    sandbox.succeed(&format!(
        "{INFER} --plan out.plan.toml --mode fake-quant --out fake.npz"
    ));
    sandbox.succeed(&format!(
        "{INFER} --plan out.plan.toml --mode integer --out integer.npz"
    ));
    sandbox.succeed("infer out.onnx --recipe recipe.toml --input test --out qdq.npz");
    assert_eq!(
        arrays(&sandbox, "qdq.npz"),
        arrays(&sandbox, "fake.npz"),
        "the QDQ model says what fake-quant says"
    );
}

#[test]
fn activations_of_16_bits_leave_the_error_of_weights() {
    let sandbox = Sandbox::new();
    let build = BUILD.replace("rk3588", "onnxruntime-w8a16");
    let text = sandbox.succeed(&format!("{build} -o out.onnx"));
    let counts = "24 values in uint16, 0 in float16, 0 in float32, target onnxruntime-w8a16";
    assert!(text.lines().any(|line| line == counts), "{text}");
    let model = read_model(&sandbox.path("out.onnx")).unwrap();
    assert_eq!(
        model.opset(),
        21,
        "the first opset that quantizes to and from 16 bits"
    );
    let analyze = "analyze model.onnx --plan out.plan.toml --recipe recipe.toml --input test --json";
    let report: Report = serde_json::from_str(&sandbox.succeed(analyze)).unwrap();
    let sqnr = report.outputs[0].views.entire["sqnr_db"].value;
    assert!(sqnr > 40.0, "{sqnr} dB; 8-bit activations leave about 35");
    sandbox.succeed(&format!(
        "{INFER} --plan out.plan.toml --mode fake-quant --out fake.npz"
    ));
    sandbox.succeed("infer out.onnx --recipe recipe.toml --input test --out qdq.npz");
    assert_eq!(arrays(&sandbox, "qdq.npz"), arrays(&sandbox, "fake.npz"));
}

#[test]
fn build_names_its_outputs_after_the_model() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{BUILD} --quiet"));
    sandbox.succeed("build model.onnx --precision fp16 --quiet");
    for name in ["model.int8.onnx", "model.int8.plan.toml", "model.fp16.onnx"] {
        assert!(sandbox.path(name).exists(), "{name} is missing");
    }
}

#[test]
fn build_json_lists_what_was_written() {
    let sandbox = Sandbox::new();
    let written: serde_json::Value =
        serde_json::from_str(&sandbox.succeed(&format!("{BUILD} -o out.onnx --json"))).unwrap();
    assert_eq!(
        (&written["model"], &written["plan"]),
        (&"out.onnx".into(), &"out.plan.toml".into())
    );
    assert_eq!(
        (&written["n_quantized"], &written["inputs"][0]["name"]),
        (&22.into(), &"input".into())
    );
}

#[test]
fn a_float16_model_is_built_and_run() {
    let sandbox = Sandbox::new();
    sandbox.succeed("build model.onnx --precision fp16 -o half.onnx");
    let half = read_model(&sandbox.path("half.onnx")).unwrap();
    let weights = half
        .graph
        .initializers
        .iter()
        .filter(|i| i.value.dtype() == DType::Float16)
        .count();
    assert!(weights > 0, "no weight is float16");
    sandbox.succeed(&format!("{INFER} --out float.npz"));
    sandbox.succeed(&format!("{INFER} --mode fp16 --out simulated.npz"));
    sandbox.succeed(&format!("{INFER} --out stored.npz").replace("model.onnx", "half.onnx"));
    let float = arrays(&sandbox, "float.npz");
    for name in ["simulated.npz", "stored.npz"] {
        let other = arrays(&sandbox, name);
        assert_ne!(other, float, "{name} is rounded");
        for (output, reference) in &float {
            let (a, b) = (
                reference.to_f64_vec().unwrap(),
                other[output].to_f64_vec().unwrap(),
            );
            let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            let largest = a.iter().map(|a| a.abs()).fold(0.0, f64::max);
            assert!(
                worst < largest * FP16_TOLERANCE,
                "{name}, {output}: {worst} of {largest}"
            );
        }
    }
    let analyze = "analyze model.onnx --precision fp16 --recipe recipe.toml --input test --json";
    let report: Report = serde_json::from_str(&sandbox.succeed(analyze)).unwrap();
    assert_eq!(report.mode, "fp16");
    assert!(
        report.layers.iter().any(|l| l.dtype == "float16"),
        "no row is float16"
    );
}

/// float16 has 11 bits; some 50 layers add their roundings up.
const FP16_TOLERANCE: f64 = 1e-2;

#[test]
fn a_dump_maps_every_value_to_its_files() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{ANALYZE} --dump analysis"));
    sandbox.succeed(&format!("{INFER} --dump run"));
    let report: Report = serde_json::from_str(&sandbox.succeed(&format!("{ANALYZE} --json"))).unwrap();
    for (dump, kinds) in [("analysis", ["golden", "test"].as_slice()), ("run", &["values"])] {
        let index: serde_json::Value =
            serde_json::from_str(&sandbox.text(&format!("{dump}/index.json"))).unwrap();
        let samples = index.as_object().unwrap();
        assert_eq!(samples.len(), 20, "{dump}");
        for (sample, values) in samples {
            for (value, entry) in values.as_object().unwrap() {
                for kind in kinds {
                    let file = format!("{dump}/{sample}/{kind}/{}", entry["file"].as_str().unwrap());
                    let stored = ArrayFile::open(&sandbox.path(&file)).unwrap();
                    assert_eq!(
                        serde_json::json!(stored.arrays()[0].shape),
                        entry["shape"],
                        "{value} in {file}"
                    );
                }
            }
            for layer in report.layers.iter().filter(|l| l.reason.is_none()) {
                assert!(
                    values.get(&layer.name).is_some(),
                    "{dump}/{sample} lacks {}",
                    layer.name
                );
            }
        }
    }
}

#[test]
fn several_inputs_are_several_samples() {
    let sandbox = Sandbox::new();
    let files = "test/t10k_0005.png test/t10k_0014.png";
    sandbox.succeed(&format!(
        "infer model.onnx --recipe recipe.toml --input {files} --out two.npz"
    ));
    let two = arrays(&sandbox, "two.npz");
    assert_eq!(two["Identity:0"].shape(), [2, 10]);
    let text = sandbox.succeed(&format!("infer model.onnx --recipe recipe.toml --input {files}"));
    assert_eq!(text.lines().count(), 2, "{text}");
    let report: Report = serde_json::from_str(
        &sandbox.succeed(&ANALYZE.replace("--input test", &format!("--json --input {files}"))),
    )
    .unwrap();
    assert_eq!(report.samples.n, 2);
}

#[test]
fn a_cropped_model_ends_where_it_is_told_to() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!(
        "{INFER} --crop-outputs functional_1/Add:0 --out cut.npz"
    ));
    let names: Vec<String> = arrays(&sandbox, "cut.npz").into_keys().collect();
    assert_eq!(names, ["functional_1/Add:0"]);
}

#[test]
fn a_cropped_model_begins_where_it_is_told_to() {
    let sandbox = Sandbox::new();
    sandbox.succeed(
        "infer model.onnx --recipe recipe.toml --input test --crop-outputs functional_1/Add:0 --out cut.npz",
    );
    sandbox.succeed("infer model.onnx --crop-inputs functional_1/Add:0 --input cut.npz --out end.npz");
    sandbox.succeed(&format!("{INFER} --out whole.npz"));
    assert_eq!(
        arrays(&sandbox, "end.npz"),
        arrays(&sandbox, "whole.npz"),
        "two halves are the whole"
    );
}

#[test]
fn the_target_fp16_is_the_precision_fp16() {
    let sandbox = Sandbox::new();
    sandbox.succeed("build model.onnx --target fp16 -o target.onnx");
    sandbox.succeed("build model.onnx --precision fp16 -o precision.onnx");
    assert!(
        sandbox.read("target.onnx") == sandbox.read("precision.onnx"),
        "both are one model"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let sandbox = Sandbox::new();
    for arguments in [
        ANALYZE.to_owned(),
        format!("{ANALYZE} --json"),
        INFER.to_owned(),
        format!("{BUILD} -o out.onnx"),
    ] {
        let mut command = sandbox.command(&arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), stderr.as_str()),
            (Some(0), ""),
            "{arguments}"
        );
    }
}
