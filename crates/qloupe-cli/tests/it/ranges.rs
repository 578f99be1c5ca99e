//! `--ranges`: what another tool calibrated, in the place of our own ranges.

use crate::sandbox::{ANALYZE, BUILD, Sandbox};

/// The line of a value in the plan that `build` wrote.
fn line_of(sandbox: &Sandbox, value: &str) -> String {
    let begin = format!("\"{value}\" = ");
    let plan = sandbox.text("out.plan.toml");
    plan.lines()
        .find(|line| line.starts_with(&begin))
        .unwrap()
        .to_owned()
}

/// A cfg of the vendor's form with these int8 tensors.
pub(crate) fn cfg(layers: &str, tensors: &[(&str, f32, f32)]) -> String {
    let entry = |(name, min, max): &(&str, f32, f32)| {
        format!(
            "    {name}:\n        qtype: asym\n        qmethod: layer\n        dtype: int8\n        min:\n        -   {min:?}\n        \
             max:\n        -   {max:?}\n        scale:\n        -   0.1\n        zero_point:\n        -   -128\n        ori_min:\n        \
             -   -20.0\n        ori_max:\n        -   {max:?}\n"
        )
    };
    let entries: String = tensors.iter().map(entry).collect();
    format!("custom_quantize_layers: {layers}\nquantize_parameters:\n{entries}")
}

#[test]
fn ranges_of_three_formats_replace_calibrated_ones() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{BUILD} -o out.onnx"));
    let kept = line_of(&sandbox, "Conv__155:0");
    // The convolution before a Clip speaks for the Clip, as the converter fuses them.
    let tensors = [
        ("Conv__127:0-rs", -2.0, 3.1),
        ("Conv__115:0", 0.0, 5.1),
        ("Conv__127:0_2conv0", -1.0, 1.0),
    ];
    sandbox.write("theirs.cfg", cfg("{}", &tensors));
    sandbox.write(
        "theirs.json",
        "{\"Conv__127:0\": [-2.0, 3.1], \"functional_1/re_lu_1/Relu6:0\": [0, 5.1], \"nothing\": [0, 1]}",
    );
    // 3.1 / 127.
    sandbox.write(
        "theirs.cache",
        "TRT-8601-EntropyCalibration2\nConv__127:0: 3cc7f9f4\nnothing: 3cc7f9f4\n",
    );
    struct Case {
        file: &'static str,
        format: &'static str,
        conv: &'static str,
        unmatched: &'static str,
        n: usize,
    }
    let cases = [
        Case {
            file: "theirs.cfg",
            format: "rknn",
            conv: "scale = 0.02, zero_point = -28",
            unmatched: "Conv__127:0_2conv0",
            n: 2,
        },
        Case {
            file: "theirs.json",
            format: "onnxruntime",
            conv: "scale = 0.02, zero_point = -28",
            unmatched: "nothing",
            n: 2,
        },
        Case {
            file: "theirs.cache",
            format: "tensorrt",
            conv: "zero_point = 0, min = -3.1",
            unmatched: "nothing",
            n: 1,
        },
    ];
    for Case {
        file,
        format,
        conv,
        unmatched,
        n,
    } in cases
    {
        let outcome = sandbox.run(&format!("{BUILD} --ranges {file} -o out.onnx"));
        assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
        let notes = [
            format!("note: {file} ({format}): ranges of {n} values\n"),
            format!("note: {file}: {} values keep the calibrated range: ", 22 - n),
            format!("note: {file}: 1 names are of no value of the model: {unmatched}\n"),
        ];
        for note in notes {
            assert!(outcome.stderr.contains(&note), "{note}\n{}", outcome.stderr);
        }
        let line = line_of(&sandbox, "Conv__127:0");
        assert!(line.contains(conv), "{file}: {line}");
        if n == 2 {
            let line = line_of(&sandbox, "functional_1/re_lu_1/Relu6:0");
            assert!(
                line.contains("scale = 0.02, zero_point = -128, min = 0.0, max = 5.1"),
                "{file}: {line}"
            );
        }
        assert_eq!(line_of(&sandbox, "Conv__155:0"), kept);
        let plan = sandbox.text("out.plan.toml");
        assert!(
            plan.contains(&format!("algorithm = \"min_max with ranges of {format}\"")),
            "{plan}"
        );
    }
    sandbox.succeed(&format!("{ANALYZE} --ranges theirs.cfg"));
}

#[test]
fn ranges_that_make_no_sense_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{BUILD} -o out.onnx"));
    sandbox.write("odd.cfg", cfg("{}", &[("input", 2.0, 1.0)]));
    sandbox.write("odd.txt", "hello");
    let build = |rest: &str| format!("{BUILD} -o again.onnx {rest}");
    sandbox.refuse(
        &build("--ranges none"),
        "none: cannot be read: No such file or directory (os error 2)",
    );
    sandbox.refuse(
        &build("--ranges odd.cfg"),
        "odd.cfg: line 3: range of \"input\" is wrong, expected min of at most 1.0, got 2.0",
    );
    sandbox.refuse(
        &build("--ranges odd.txt"),
        "odd.txt: unknown format of ranges, expected one of calibration cache of ONNX Runtime, in JSON; .quantization.cfg of \
         rknn-toolkit2; calibration cache of TensorRT, got \"hello\"",
    );
    sandbox.refuse(
        "build model.onnx --plan out.plan.toml --ranges odd.cfg -o again.onnx",
        "--plan says how the model is quantized, expected nothing beside it, got --ranges",
    );
}
