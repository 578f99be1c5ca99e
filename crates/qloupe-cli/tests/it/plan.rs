//! The plan file: written by `build`, edited by hand, accepted or refused.

use qloupe::report::{Layer, Report};
use qloupe_onnx::read_model;

use crate::sandbox::{ANALYZE, BUILD, Sandbox};

/// The commands that read a plan.
const REFUSED: &[&str] = &[
    "analyze model.onnx --plan edited.toml --recipe recipe.toml --input test --report out.json",
    "build model.onnx --plan edited.toml -o edited.onnx",
    "infer model.onnx --plan edited.toml --recipe recipe.toml --input test --out out.npz",
];
const HELP: &str = "help: `qloupe build` writes a plan that fits the model";

const ANALYZE_PLAN: &str = "analyze model.onnx --plan edited.toml --recipe recipe.toml --input test --json";

/// A sandbox with `out.onnx` and `out.plan.toml`.
fn built() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{BUILD} -o out.onnx"));
    sandbox
}

/// The plan with a text replaced in the line of a value.
fn edited(plan: &str, value: &str, from: &str, to: &str) -> String {
    let begin = format!("\"{value}\" = ");
    let edit = |line: &str| {
        if line.starts_with(&begin) {
            line.replacen(from, to, 1)
        } else {
            line.to_owned()
        }
    };
    let text: Vec<String> = plan.lines().map(edit).collect();
    let text = text.join("\n") + "\n";
    assert_ne!(text, plan, "the plan has no {from} in the line of {value}");
    text
}

fn report(sandbox: &Sandbox) -> Report {
    serde_json::from_str(&sandbox.succeed(ANALYZE_PLAN)).unwrap()
}

fn layer<'a>(report: &'a Report, name: &str) -> &'a Layer {
    report.layers.iter().find(|layer| layer.name == name).unwrap()
}

fn local_rmse(layer: &Layer) -> f64 {
    layer.views.local["rmse"].value
}

#[test]
fn a_raised_value_is_float_and_its_local_error_shrinks() {
    let sandbox = built();
    let plan = sandbox.text("out.plan.toml");
    sandbox.write("edited.toml", &plan);
    let before = report(&sandbox);
    let raised = edited(&plan, "Conv__127:0", "\"int8\"", "\"fp16\"");
    let raised = edited(&raised, "functional_1/Add:0", "\"int8\"", "\"float\"");
    sandbox.write("edited.toml", raised);
    let after = report(&sandbox);
    for (name, dtype) in [("Conv__127:0", "float16"), ("functional_1/Add:0", "float32")] {
        let (int8, float) = (layer(&before, name), layer(&after, name));
        assert_eq!(
            (int8.dtype.as_str(), float.dtype.as_str()),
            ("int8", dtype),
            "{name}"
        );
        assert!(float.scale.is_empty(), "{name} has a scale");
        // The inputs stay int8 values: their part of the local error remains.
        let (coarse, fine) = (local_rmse(int8), local_rmse(float));
        assert!(
            fine < coarse,
            "{name}: local rmse {fine} with {dtype}, {coarse} with int8"
        );
    }
    let counts = (after.plan.n_quantized, after.plan.n_fp16, after.plan.n_float);
    assert_eq!(counts, (before.plan.n_quantized - 2, 1, 1));

    sandbox.succeed("build model.onnx --plan edited.toml --recipe recipe.toml -o mixed.onnx");
    let model = read_model(&sandbox.path("mixed.onnx")).unwrap();
    let count = |op: &str| model.graph.nodes.iter().filter(|node| node.is_onnx(op)).count();
    assert!(count("Cast") >= 2, "{} Cast", count("Cast"));
    assert!(count("QuantizeLinear") > 0, "the other values stay integers");
    sandbox.succeed("infer mixed.onnx --recipe recipe.toml --input test");
}

#[test]
fn a_built_plan_is_what_analyze_calibrates() {
    let sandbox = built();
    sandbox.write("edited.toml", sandbox.text("out.plan.toml"));
    let calibrated = sandbox.succeed(&format!("{ANALYZE} --json"));
    let calibrated: Report = serde_json::from_str(&calibrated).unwrap();
    assert_eq!(report(&sandbox).layers, calibrated.layers);
}

#[test]
fn a_plan_that_is_rebuilt_stays_the_same() {
    let sandbox = built();
    let plan = sandbox.text("out.plan.toml");
    sandbox.succeed("build model.onnx --plan out.plan.toml -o again.onnx");
    assert_eq!(sandbox.text("again.plan.toml"), plan);
    assert_eq!(sandbox.read("again.onnx"), sandbox.read("out.onnx"));
}

#[test]
fn an_edited_plan_is_not_written_over() {
    let sandbox = built();
    let plan = sandbox.text("out.plan.toml") + "# a word of the user's\n";
    sandbox.write("out.plan.toml", &plan);
    for spelling in ["out.plan.toml", "./out.plan.toml", "calib/../out.plan.toml"] {
        sandbox.succeed(&format!("build model.onnx --plan {spelling} -o out.onnx"));
        assert_eq!(sandbox.text("out.plan.toml"), plan, "{spelling}");
    }
}

#[test]
fn edits_that_make_no_sense_are_refused() {
    struct Case {
        from: &'static str,
        to: &'static str,
        text: &'static str,
    }
    let sandbox = built();
    let plan = sandbox.text("out.plan.toml");
    let cases = [
        Case {
            from: "\"Conv__127:0\" = {",
            to: "\"Conv__12:0\" = {",
            text: "value \"Conv__12:0\" does not exist in the model, did you mean \"Conv__127:0\"?",
        },
        Case {
            from: "\"functional_1/Add:0\" = { precision = \"int8\"",
            to: "\"functional_1/Add:0\" = { precision = \"fp61\"",
            text: "value \"functional_1/Add:0\": unknown precision \"fp61\", did you mean \"fp16\"? expected one of int8, uint8, int16, uint16, w4a16, w8a16, fp16, float",
        },
        Case {
            from: "\"functional_1/Add:0\" = { precision = \"int8\"",
            to: "\"functional_1/Add:0\" = { precision = \"posit\"",
            text: "value \"functional_1/Add:0\": unknown precision \"posit\", expected one of int8, uint8, int16, uint16, w4a16, w8a16, fp16, float",
        },
        Case {
            from: "target = \"rk3588\"",
            to: "target = \"rk3588s\"",
            text: "unknown target \"rk3588s\", did you mean \"rk3588\"? expected one of fp16, onnxruntime, onnxruntime-w8a16, rk3562, rk3562-w8a16, rk3566, rk3568, rk3576, rk3576-w4a16, rk3588, rv1103, rv1106, rv1126b, rv1126b-w4a16",
        },
        Case {
            from: "method = \"channel\"",
            to: "method = \"chanel\"",
            text: "unknown method \"chanel\", did you mean \"channel\"? expected one of block, channel, layer",
        },
        Case {
            from: "optimization_level = 1",
            to: "optimization_level = 4",
            text: "wrong optimization_level, expected 0 to 3, got 4",
        },
        Case {
            from: "n_samples = 20",
            to: "n_samples = ",
            text: "line 6: string values must be quoted, expected literal string",
        },
        Case {
            from: "shared_with = \"input\"",
            to: "shared_with = \"functional_1/batch_normalization_1/batchnorm/mul_1__8:0\"",
            text: "value \"functional_1/batch_normalization_1/batchnorm/mul_1__8:0\": shared_with leads to no precision, expected a value that has one",
        },
        Case {
            from: "schema = \"qloupe-plan/1\"\n",
            to: "",
            text: "line 1: missing field `schema`",
        },
    ];
    for Case { from, to, text } in cases {
        assert!(plan.contains(from), "the plan has no {from}");
        sandbox.write("edited.toml", plan.replacen(from, to, 1));
        for command in REFUSED {
            sandbox.refuse(command, &format!("edited.toml: {text}\n{HELP}"));
        }
    }
}

#[test]
fn a_value_that_is_left_out_is_missed() {
    let sandbox = built();
    let plan = sandbox.text("out.plan.toml");
    for value in ["input", "Conv__127:0", "Identity:0"] {
        let begin = format!("\"{value}\" = ");
        let lines: Vec<&str> = plan.lines().filter(|line| !line.starts_with(&begin)).collect();
        assert_eq!(lines.len() + 1, plan.lines().count(), "{value} has one line");
        // What shares the scale of the input is the first to miss it.
        let what = if value == "input" {
            "\"functional_1/batch_normalization_1/batchnorm/mul_1__8:0\": shared_with leads to no precision, expected a value that has one".to_owned()
        } else {
            format!("\"{value}\" is missing, expected a line with its precision")
        };
        sandbox.write("edited.toml", lines.join("\n"));
        for command in REFUSED {
            sandbox.refuse(command, &format!("edited.toml: value {what}\n{HELP}"));
        }
    }
}

/// A plan whose names fit but whose scales do not.
#[test]
fn scales_that_do_not_fit_a_weight_are_refused() {
    struct Case {
        line: String,
        text: &'static str,
    }
    let sandbox = built();
    let plan = sandbox.text("out.plan.toml");
    let weight = plan
        .lines()
        .find(|line| line.contains("conv2d_1/convolution/merged_input:0\" = "))
        .unwrap();
    let without_first = |line: &str, list: &str| {
        let (head, numbers) = line.split_once(list).unwrap();
        let (_, rest) = numbers.split_once(", ").unwrap();
        format!("{head}{list}{rest}")
    };
    let fewer_scales = without_first(weight, "scale = [");
    let cases = [
        Case {
            line: fewer_scales.clone(),
            text: ": 15 scales and 16 zero points do not fit per_channel(axis 0)",
        },
        Case {
            line: without_first(&fewer_scales, "zero_point = ["),
            text: ": per_channel(axis 0) with 15 scales does not fit shape [16, 1, 3, 3]",
        },
        Case {
            line: weight.replace("axis = 0", "axis = 9"),
            text: ": per_channel(axis 9) with 16 scales does not fit shape [16, 1, 3, 3]",
        },
        Case {
            line: weight.replace("\"int8\"", "\"float32\""),
            text: ": float32 cannot hold quantized values, expected an integer type of at most 32 bits",
        },
        Case {
            line: weight.replace("\"int8\"", "\"int88\""),
            text: ": unknown dtype \"int88\"",
        },
        Case {
            line: String::new(),
            text: " is missing, expected its scales as \"functional_1/re_lu_1/Relu6:0\" is quantized",
        },
    ];
    for Case { line, text } in cases {
        sandbox.write("edited.toml", plan.replacen(weight, &line, 1));
        let text =
            format!("edited.toml: weight \"functional_1/conv2d_1/convolution/merged_input:0\"{text}\n{HELP}");
        for command in REFUSED {
            sandbox.refuse(command, &text);
        }
    }
}

#[test]
fn a_plan_of_another_model_is_refused() {
    let sandbox = built();
    let other = Sandbox::of("fmnist_resnet.onnx", "fmnist");
    other.write("p.toml", sandbox.text("out.plan.toml"));
    let text = format!(
        "p.toml: value \"Conv__127:0\" does not exist in the model, did you mean \"Conv__62:0\"?\n{HELP}"
    );
    other.refuse("build model.onnx --plan p.toml -o out.onnx", &text);
}

/// `build` and the reader of plans agree on what a plan must hold, for every model, target and level.
#[test]
fn every_built_plan_is_accepted() {
    let models = [
        ("fmnist_mbv2.onnx", "fmnist"),
        ("fmnist_resnet.onnx", "fmnist"),
        ("ppocr_v2_cls.onnx", "ocr_lines"),
    ];
    for (model, data) in models {
        let sandbox = Sandbox::of(model, data);
        let samples = if data == "fmnist" { "calib" } else { "." };
        for target in ["onnxruntime", "rk3588"] {
            for level in [0, 3] {
                let options = format!(
                    "--target {target} --optimization-level {level} --algorithm min_max --dataset {samples} --recipe recipe.toml"
                );
                sandbox.succeed(&format!("build model.onnx {options} -o out.onnx"));
                sandbox.succeed("build model.onnx --plan out.plan.toml -o again.onnx");
                assert!(
                    sandbox.read("out.onnx") == sandbox.read("again.onnx"),
                    "{model} {options}"
                );
            }
        }
    }
}
