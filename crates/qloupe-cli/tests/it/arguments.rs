//! Arguments that make no sense are refused before the model is even read.

use crate::sandbox::{ANALYZE, BUILD, INFER, Sandbox, run};

struct Case {
    arguments: String,
    text: &'static str,
}

fn case(arguments: impl Into<String>, text: &'static str) -> Case {
    Case {
        arguments: arguments.into(),
        text,
    }
}

/// Each command is run twice: on the model, and on a model that does not exist. Both give the error of the argument.
fn refuse_before_the_model_is_read(cases: &[Case]) {
    let sandbox = Sandbox::new();
    for Case { arguments, text } in cases {
        sandbox.refuse(arguments, text);
        sandbox.refuse(&arguments.replace("model.onnx", "none.onnx"), text);
    }
}

#[test]
fn unknown_names_list_the_choices_and_the_nearest() {
    refuse_before_the_model_is_read(&[
        case(
            ANALYZE.replace("rk3588", "rk3588s"),
            "unknown target \"rk3588s\", did you mean \"rk3588\"? expected one of fp16, onnxruntime, onnxruntime-w8a16, rk3562, rk3562-w8a16, rk3566, rk3568, rk3576, rk3576-w4a16, rk3588, rv1103, rv1106, rv1126b, rv1126b-w4a16",
        ),
        case(
            BUILD.replace("rk3588", "nvidia-jetson"),
            "unknown target \"nvidia-jetson\", expected one of fp16, onnxruntime, onnxruntime-w8a16, rk3562, rk3562-w8a16, rk3566, rk3568, rk3576, rk3576-w4a16, rk3588, rv1103, rv1106, rv1126b, rv1126b-w4a16",
        ),
        case(
            format!("{ANALYZE} --method chanel"),
            "unknown method \"chanel\", did you mean \"channel\"? expected one of block, channel, layer",
        ),
        case(
            ANALYZE.replace("min_max", "min_mx"),
            "unknown algorithm \"min_mx\", did you mean \"min_max\"? expected one of auto, entropy, min_max, moving_average, mse, octav, percentile",
        ),
        case(
            format!("{ANALYZE} --views entire,locl"),
            "unknown view \"locl\", did you mean \"local\"? expected one of alone, entire, local, rescued, tensor",
        ),
        case(
            format!("{ANALYZE} --precision fp61"),
            "unknown precision \"fp61\", did you mean \"fp16\"? expected one of fp16",
        ),
        case(
            format!("{ANALYZE} --mode integr"),
            "unknown mode \"integr\", did you mean \"integer\"? expected one of integer, fake-quant",
        ),
        case(
            format!("{INFER} --mode flaot"),
            "unknown mode \"flaot\", did you mean \"float\"? expected one of float, fake-quant, fp16, integer",
        ),
        case(
            format!("{ANALYZE} --report out.jsn"),
            "out.jsn: unknown report format \"jsn\", did you mean \"json\"? expected one of csv, html, json, xml, md, txt",
        ),
        case(
            format!("{ANALYZE} --report out"),
            "out: the extension that tells the report format is missing, expected one of csv, html, json, xml, md, txt",
        ),
        case(
            format!("{ANALYZE} --txt-style 3"),
            "unknown txt style \"3\", did you mean \"2\"? expected one of 2, 1.3",
        ),
    ]);
}

#[test]
fn gates_and_thresholds_are_checked() {
    refuse_before_the_model_is_read(&[
        case(
            format!("{ANALYZE} --fail-under nonsense"),
            "gate \"nonsense\": limit is missing, expected [VIEW.]METRIC=X, for example sqnr_db=20",
        ),
        case(
            format!("{ANALYZE} --fail-under cosine=high"),
            "gate \"cosine=high\": wrong limit, expected a number, got \"high\"",
        ),
        case(
            format!("{ANALYZE} --fail-under cosin=0.9"),
            "gate \"cosin=0.9\": unknown metric \"cosin\", expected one of clipped_fraction, cosine, euclidean, euclidean_rel, max_abs, mean_error, rmse, sqnr_db, sqnr_db_worst, zero_fraction, did you mean \"cosine\"?",
        ),
        case(
            format!("{ANALYZE} --fail-under tensor.cosine=0.9"),
            "gate \"tensor.cosine=0.9\": view tensor is not computed, expected one of --views entire, local, alone, rescued",
        ),
        case(
            format!("{ANALYZE} --views local --fail-under cosine=0.9"),
            "gate \"cosine=0.9\": view entire is not computed, expected one of --views local",
        ),
        case(
            format!("{ANALYZE} --thresholds high"),
            "--thresholds high: expected YELLOW,RED, for example 0.99,0.98",
        ),
        case(
            format!("{ANALYZE} --thresholds 0.9,0.95"),
            "--thresholds 0.9,0.95: the first must not be below the second",
        ),
    ]);
}

#[test]
fn numbers_and_modes_that_cannot_be_are_refused() {
    refuse_before_the_model_is_read(&[
        case(
            format!("{ANALYZE} --threads 0"),
            "--threads: expected at least 1, got 0",
        ),
        case(
            format!("{INFER} --mode integer"),
            "mode integer needs a plan, expected --mode integer or fake-quant with --plan P.toml",
        ),
        case(
            format!("{INFER} --mode float --plan p.toml"),
            "mode float takes no plan, expected --mode integer or fake-quant with --plan P.toml",
        ),
        case(
            format!("{ANALYZE} --precision int8"),
            "--precision int8 is what a target is for, expected --target T --dataset D",
        ),
        case(
            format!("{ANALYZE} --precision fp16"),
            "--precision fp16 with target rk3588 is not supported, expected --precision fp16 without a target",
        ),
        case(
            format!("{ANALYZE} --threads many"),
            "invalid value 'many' for '--threads <N>': invalid digit found in string\n\nFor more information, try '--help'.",
        ),
        case(
            ANALYZE.replace("level 1", "level 4"),
            "invalid value '4' for '--optimization-level <LEVEL>': 4 is not in 0..=3\n\nFor more information, try '--help'.",
        ),
    ]);
}

#[test]
fn a_plan_stands_alone() {
    refuse_before_the_model_is_read(&[
        case(
            format!("{ANALYZE} --plan p.toml"),
            "--plan says how the model is quantized, expected nothing beside it, got --target, --dataset, --algorithm, --optimization-level",
        ),
        case(
            "build model.onnx --plan p.toml --dataset calib",
            "--plan says how the model is quantized, expected nothing beside it, got --dataset",
        ),
        case(
            "build model.onnx --plan p.toml --precision fp16",
            "--plan says how the model is quantized, expected nothing beside it, got --precision",
        ),
        case(
            "build model.onnx --plan p.toml --algorithm min_max --method layer --optimization-level 0",
            "--plan says how the model is quantized, expected nothing beside it, got --algorithm, --method, --optimization-level",
        ),
    ]);
}

#[test]
fn an_unknown_instruction_set_is_refused() {
    let sandbox = Sandbox::new();
    let outcome = run(sandbox.command(INFER).env("QLOUPE_ISA", "foo"));
    assert_eq!(outcome.status, Some(2));
    assert_eq!(
        outcome.stderr,
        "error: QLOUPE_ISA: unknown instruction set, expected one of scalar, avx2, avx512, vnni, amx, got \"foo\"\n"
    );
}

#[test]
fn shapes_and_crops_must_fit_the_model() {
    let sandbox = Sandbox::new();
    let cases = [
        case(
            format!("{ANALYZE} --shape input=1,3,28,28"),
            "--shape: [1, 3, 28, 28] does not fit input \"input\", expected float32[unk__210, 1, 28, 28]",
        ),
        case(
            format!("{ANALYZE} --shape inptu=1,1,28,28"),
            "--shape: model.onnx has no input \"inptu\", did you mean \"input\"?",
        ),
        case(
            format!("{ANALYZE} --shape input=a"),
            "--shape input=a: expected NAME=DIMS, for example x=1,3,48,320",
        ),
        case(
            format!("{ANALYZE} --shape input=1,0,28,28"),
            "--shape input=1,0,28,28: expected NAME=DIMS, for example x=1,3,48,320",
        ),
        case(
            format!("{ANALYZE} --crop-outputs functional_1/Ad:0"),
            "model.onnx: value \"functional_1/Ad:0\" does not exist in the graph, did you mean \"functional_1/Add:0\"?\nhelp: `qloupe inspect MODEL` lists the values of the graph",
        ),
        case(
            format!("{ANALYZE} --crop-inputs Conv__126:0"),
            "model.onnx: value \"Conv__126:0\" does not exist in the graph, did you mean \"Conv__127:0\"?\nhelp: `qloupe inspect MODEL` lists the values of the graph",
        ),
    ];
    for Case { arguments, text } in &cases {
        sandbox.refuse(arguments, text);
    }
}

#[test]
fn what_is_missing_is_named() {
    let sandbox = Sandbox::new();
    let cases = [
        case(
            "analyze model.onnx --input test",
            "a target is missing, expected --target T --dataset D, --plan P.toml or --precision fp16",
        ),
        case(
            "analyze model.onnx --target rk3588 --input test",
            "calibration samples are missing for target rk3588, expected --dataset D or --plan P.toml",
        ),
        case(
            "analyze model.onnx --target rk3588 --dataset calib",
            "the following required arguments were not provided:\n  --input <FILE>...\n\nUsage: qloupe analyze --input <FILE>... --target <TARGET> --dataset <DATASET> <MODEL>\n\nFor more information, try '--help'.",
        ),
        case(
            "analyz model.onnx",
            "unrecognized subcommand 'analyz'\n\n  tip: a similar subcommand exists: 'analyze'\n\nUsage: qloupe <COMMAND>\n\nFor more information, try '--help'.",
        ),
    ];
    for Case { arguments, text } in &cases {
        sandbox.refuse(arguments, text);
    }
}
