//! `export`: a plan in the vendor's cfg, as a script for its tool, as QDQ.

use serde_json::{Value, json};

use crate::ranges::cfg;
use crate::sandbox::{BUILD, Sandbox};

const EXPORT: &str = "export model.onnx --plan out.plan.toml";

fn built() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.succeed(&format!("{BUILD} -o out.onnx"));
    sandbox
}

#[test]
fn ranges_and_precisions_go_into_the_vendors_cfg() {
    let sandbox = built();
    let tensors = |ranges: [(f32, f32); 4]| {
        let names = ["input_int8", "Conv__115:0", "Conv__127:0-rs", "made_2conv0"];
        let mut tensors = Vec::new();
        for (name, (min, max)) in names.into_iter().zip(ranges) {
            tensors.push((name, min, max));
        }
        tensors
    };
    // The convolution is cut at 0 by what follows, and all its numbers before were from -20 on.
    let before = [(-20.0, 9.0), (0.0, 9.0), (-20.0, 9.0), (-1.0, 1.0)];
    let step1 = cfg("{}", &tensors(before))
        + "    input:\n        dtype: float32\n        min: [-9.0]\n        max: [9.0]\n";
    sandbox.write("step1.quantization.cfg", &step1);
    let json = sandbox.succeed(&format!("{EXPORT} --to rknn --cfg step1.quantization.cfg --json"));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["files"], json!(["step1.quantization.qloupe.cfg"]));
    assert_eq!((&json["n_ranges"], &json["layers"]), (&json!(3), &json!({})));
    assert_eq!(json["unmatched_entries"], json!(["made_2conv0"]));
    let missing = json["values_without_entry"].as_array().unwrap();
    assert!(
        missing.contains(&json!("Identity:0")) && missing.len() == 19,
        "{missing:?}"
    );
    // Numbers of ours, byte for byte the rest; the range of what the convolution is fused with is its own.
    let number = |value: f32| f64::from(value).to_string();
    let mut expected = step1.clone();
    let pairs = [
        (-0.810_198_3_f32, 2.022_662_9_f32),
        (0.0, 5.631_492_6),
        (-5.629_036, 5.713_433_3),
    ];
    for ((min, max), (old_min, old_max)) in pairs.into_iter().zip(before) {
        let old = format!("min:\n        -   {old_min:?}\n        max:\n        -   {old_max:?}\n");
        let min = if min == 0.0 { "0.0".to_owned() } else { number(min) };
        let new = format!(
            "min:\n        -   {min}\n        max:\n        -   {}\n",
            number(max)
        );
        expected = expected.replacen(&old, &new, 1);
    }
    assert_eq!(sandbox.text("step1.quantization.qloupe.cfg"), expected);

    // A value that is raised by hand: every name of its unit.
    let plan = sandbox.text("out.plan.toml");
    let raised = plan.replace(
        "\"functional_1/re_lu_1/Relu6:0\" = { precision = \"int8\"",
        "\"functional_1/re_lu_1/Relu6:0\" = { precision = \"fp16\"",
    );
    sandbox.write("out.plan.toml", &raised);
    sandbox.write(
        "layers.cfg",
        step1.replace(
            "layers: {}",
            "layers:  # by hand\n    Conv__127:0-rs: float16\n    else: int16",
        ),
    );
    let text = sandbox.succeed(&format!("{EXPORT} --to rknn --cfg layers.cfg -o ours.cfg"));
    let expected = "wrote ours.cfg\n3 ranges written; weights stay the converter's\n1 layers are raised: Conv__115:0 float16\n\
                    1 layers are int8 again, as in the plan: Conv__127:0-rs\n\
                    2 names of the cfg are of no value of the model and stay as they are: made_2conv0, else\n";
    assert!(text.starts_with(expected), "{text}");
    let head = "custom_quantize_layers:  # by hand\n    else: int16\n    Conv__115:0: float16\nquantize_parameters:\n";
    assert!(
        sandbox.text("ours.cfg").starts_with(head),
        "{}",
        sandbox.text("ours.cfg")
    );
}

#[test]
fn bounds_that_the_converter_tightened_stay() {
    let sandbox = built();
    sandbox.write("step1.cfg", cfg("{}", &[("Conv__127:0", -2.5, 9.0)]));
    let text = sandbox.succeed(&format!("{EXPORT} --to rknn --cfg step1.cfg -o ours.cfg"));
    assert!(
        text.contains("\n1 bounds that the converter moved are kept\n"),
        "{text}"
    );
    let ours = sandbox.text("ours.cfg");
    assert!(
        ours.contains("min:\n        -   -2.5\n        max:\n        -   5.713"),
        "{ours}"
    );
}

#[test]
fn a_script_has_its_samples_and_its_plan() {
    let sandbox = built();
    let text = sandbox.succeed(&format!(
        "{EXPORT} --to rknn-script --dataset calib --recipe recipe.toml -o convert"
    ));
    let script = std::path::Path::new("convert").join("convert.py");
    assert!(
        text.ends_with(&format!("20 samples; run it with python {}\n", script.display())),
        "{text}"
    );
    assert_eq!(sandbox.text("convert/plan.toml"), sandbox.text("out.plan.toml"));
    let list = sandbox.text("convert/dataset.txt");
    assert_eq!(list.lines().count(), 20);
    assert!(list.starts_with("samples/0000.npy\nsamples/0001.npy\n"), "{list}");
    let sample = sandbox.read("convert/samples/0000.npy");
    let head = String::from_utf8_lossy(&sample[..128]).into_owned();
    assert!(
        head.contains("'|u1'") && head.contains("'shape': (1,1,28,28,)"),
        "{head}"
    );
    let script = sandbox.text("convert/convert.py");
    let lines = [
        "            target_platform=\"rk3588\",",
        "            quantized_method=\"channel\",",
        "            mean_values=[[72.93]],",
        "            std_values=[[90.015]],",
        "FIRST_SAMPLE = [\"samples/0000.npy\"]",
    ];
    for line in lines {
        assert!(script.lines().any(|found| found == line), "{line}\n{script}");
    }
    assert!(
        script.contains("inputs=[\"input\"], input_size_list=[[1, 1, 28, 28]]"),
        "{script}"
    );
    assert!(!script.contains('@'), "a field is left\n{script}");
}

#[test]
fn qdq_is_what_build_writes() {
    let sandbox = built();
    let text = sandbox.succeed(&format!("{EXPORT} --to qdq -o again.onnx"));
    assert_eq!(text, "wrote again.onnx\n");
    assert_eq!(sandbox.read("again.onnx"), sandbox.read("out.onnx"));
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let sandbox = built();
    sandbox.write("step1.cfg", cfg("{}", &[("input", -1.0, 1.0)]));
    sandbox.succeed("build model.onnx --target onnxruntime --dataset calib --recipe recipe.toml --algorithm min_max -o ort.onnx");
    struct Case {
        arguments: &'static str,
        text: &'static str,
    }
    #[rustfmt::skip]
    let cases = [
        Case { arguments: "--to rknm", text: "unknown format \"rknm\", did you mean \"rknn\"? expected one of float, qdq, rknn, rknn-script" },
        Case { arguments: "--to rknn", text: "--to rknn needs --cfg, expected --cfg FILE, got none" },
        Case { arguments: "--to qdq --cfg step1.cfg", text: "--to qdq takes no --cfg, expected none, got one" },
        Case { arguments: "--to rknn-script", text: "--to rknn-script needs --dataset, expected --dataset FILE, got none" },
        Case { arguments: "--to rknn --cfg none.cfg", text: "none.cfg: cannot be read: No such file or directory (os error 2)" },
        Case { arguments: "--to rknn --cfg recipe.toml", text: "recipe.toml: line 2: wrong syntax, expected `name: value` or `- value`, got \"[input.input]\"" },
        Case { arguments: "--to rknn --cfg step1.cfg -o step1.cfg", text: "\"step1.cfg\" cannot be written: it is one of the files that are read, expected another file" },
    ];
    for Case { arguments, text } in cases {
        sandbox.refuse(&format!("{EXPORT} {arguments}"), text);
    }
    sandbox.refuse(
        "export model.onnx --plan ort.plan.toml --to rknn --cfg step1.cfg",
        "ort.plan.toml: the plan is for another kind of target, expected rk3588 or one of its relatives, got onnxruntime",
    );
}
