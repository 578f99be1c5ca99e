//! `evaluate`: its table, its gates, and every refusal.

use qloupe::array::{ArrayFile, write_npy};
use qloupe_tensor::Tensor;

use crate::sandbox::Sandbox;

/// `evaluate` of the model of every sandbox, int8 included.
const EVALUATE: &str = "evaluate model.onnx --target onnxruntime --dataset calib --recipe recipe.toml --algorithm min_max --optimization-level 1 --labels test/labels.csv";
/// The fastest form.
const FLOAT: &str = "evaluate model.onnx --recipe recipe.toml --only float";

/// The classes are those of an argmax over the outputs that `infer` writes, as counted here.
#[test]
fn counts_are_those_of_the_outputs() {
    let sandbox = Sandbox::new();
    let table = sandbox.succeed(EVALUATE);
    let head: Vec<&str> = table.lines().take(2).collect();
    assert_eq!(
        head,
        [
            "model.onnx: top1 on output \"Identity:0\", 10 classes, 20 samples from test/labels.csv",
            "int8: target onnxruntime, integer mode, calibrated on 20 samples, min_max, channel",
        ]
    );
    let json: serde_json::Value =
        serde_json::from_str(&sandbox.succeed(&format!("{EVALUATE} --json"))).unwrap();
    let scores = json["scores"].as_array().unwrap();
    let precisions: Vec<&str> = scores
        .iter()
        .map(|score| score["precision"].as_str().unwrap())
        .collect();
    assert_eq!(precisions, ["float", "fp16", "int8"]);
    let build = EVALUATE
        .replace("evaluate", "build")
        .replace("--labels test/labels.csv", "-o out.onnx");
    sandbox.succeed(&build);
    let labels: Vec<usize> = sandbox
        .text("test/labels.csv")
        .lines()
        .skip(1)
        .map(|line| line.split_once(',').unwrap().1.parse().unwrap())
        .collect();
    let mut float = Vec::new();
    for (precision, options) in [
        ("float", ""),
        ("fp16", "--mode fp16"),
        ("int8", "--plan out.plan.toml"),
    ] {
        let infer =
            format!("infer model.onnx --recipe recipe.toml --input test/dataset.txt {options} --out y.npz");
        sandbox.succeed(&infer);
        let file = ArrayFile::open(&sandbox.path("y.npz")).unwrap();
        let y = file.read(0).unwrap();
        let answers: Vec<usize> = y
            .as_slice::<f32>()
            .unwrap()
            .chunks(10)
            .map(|row| (0..10).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap())
            .collect();
        if precision == "float" {
            float.clone_from(&answers);
        }
        let n_equal = |others: &[usize]| answers.iter().zip(others).filter(|(a, b)| a == b).count();
        let score = scores
            .iter()
            .find(|score| score["precision"] == precision)
            .unwrap();
        assert_eq!(
            score["metrics"]["top1"]["n_hits"],
            n_equal(&labels),
            "{precision}"
        );
        if precision != "float" {
            assert_eq!(score["agreement"]["n_hits"], n_equal(&float), "{precision}");
        }
    }
}

#[test]
fn a_plan_gives_what_its_options_gave() {
    let sandbox = Sandbox::new();
    let scores = |arguments: &str| {
        let json: serde_json::Value = serde_json::from_str(&sandbox.succeed(arguments)).unwrap();
        let counts = |score: &serde_json::Value| format!("{} {}", score["metrics"], score["agreement"]);
        json["scores"]
            .as_array()
            .unwrap()
            .iter()
            .map(counts)
            .collect::<Vec<_>>()
    };
    let options = scores(&format!("{EVALUATE} --json --only float,int8"));
    sandbox.succeed("build model.onnx --target onnxruntime --dataset calib --recipe recipe.toml --algorithm min_max --optimization-level 1 -o out.onnx");
    let plan =
        "evaluate model.onnx --plan out.plan.toml --recipe recipe.toml --labels test/labels.csv --json";
    assert_eq!(scores(&format!("{plan} --only int8,float")), options);
    assert_eq!(
        scores(&format!("{plan} --only float,int8 --input test --threads 1")),
        options
    );
}

#[test]
fn text_lines_are_read_where_the_model_has_characters() {
    let sandbox = Sandbox::of("ppocr_v2_cls.onnx", "ocr_lines");
    let lines = "no task fits the outputs and the 8 labels from labels.csv:2:
  ctc of \"save_infer_model/scale_0.tmp_1\": the output has shape [1, 2], expected [1, steps, characters]
  threshold of \"save_infer_model/scale_0.tmp_1\": labels.csv:2: expected labels 0 and 1, got \"39099\"";
    let outcome = sandbox.run("evaluate model.onnx --recipe recipe.toml --labels labels.csv");
    assert_eq!(outcome.status, Some(2));
    assert_eq!(
        outcome.stderr,
        "error: labels.csv:2: wrong class, expected 0 to 1, got 39099\n"
    );
    let text = sandbox.text("labels.csv").replace("39099", "a line");
    sandbox.write("labels.csv", text);
    let expected = format!(
        "{}\n  top1 of \"save_infer_model/scale_0.tmp_1\": labels.csv:2: \"a line\" is no number of a class, and the \
         classes have no names (--classes FILE)",
        lines.replace("39099", "a line")
    );
    sandbox.refuse(
        "evaluate model.onnx --recipe recipe.toml --labels labels.csv",
        &expected,
    );
}

#[test]
fn gates_decide_the_exit_status() {
    struct Case {
        gate: &'static str,
        status: i32,
    }
    let sandbox = Sandbox::new();
    let cases = [
        Case {
            gate: "--fail-under int8.top1=0.5",
            status: 0,
        },
        Case {
            gate: "--fail-under int8.top1=1.1",
            status: 1,
        },
        Case {
            gate: "--fail-under agreement=0.5 --fail-under float.top5=1.1",
            status: 1,
        },
    ];
    for Case { gate, status } in cases {
        let outcome = sandbox.run(&format!("{EVALUATE} --only float,int8 {gate}"));
        assert_eq!(outcome.status, Some(status), "{gate}\n{}", outcome.stderr);
        assert_eq!(
            outcome.stderr.contains("accuracy gate failed: "),
            status == 1,
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn each_refusal_has_its_text() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "unknown.csv",
        "path,label\ntest/t10k_0005.png,1\ntest/none.png,2\n",
    );
    sandbox.write("range.csv", "test/t10k_0005.png,10\n");
    sandbox.write("named.csv", "test/t10k_0005.png,shoe\n");
    sandbox.write("names.txt", "shirt\nshoes\n");
    sandbox.write("fields.csv", "test/t10k_0005.png\n");
    write_npy(
        &sandbox.path("frames.npy"),
        &Tensor::new(&[20, 2], vec![0_i64; 40]).unwrap(),
    )
    .unwrap();
    struct Case {
        options: &'static str,
        text: &'static str,
    }
    #[rustfmt::skip]
    let cases = [
        Case { options: "--labels none.csv", text: "\"none.csv\" does not exist" },
        Case { options: "--labels recipe.toml", text: "\"recipe.toml\" is of unknown kind, expected .csv, .npy, .npz or .safetensors" },
        Case { options: "--labels fields.csv", text: "fields.csv:1: expected 2 fields (path,label), got 1" },
        Case { options: "--labels unknown.csv", text: "unknown.csv:3: \"test/none.png\" does not exist" },
        Case { options: "--labels range.csv", text: "range.csv:1: wrong class, expected 0 to 9, got 10" },
        Case { options: "--labels range.csv --input test", text: "\"test/t10k_0014.png\" has no label in \"range.csv\"" },
        Case { options: "--labels named.csv --classes names.txt", text: "named.csv:1: no class is named \"shoe\", did you mean \"shoes\"?" },
        Case { options: "--labels named.csv --classes none.txt", text: "none.txt: cannot be read: No such file or directory (os error 2)" },
        Case { options: "--labels frames.npy", text: "\"frames.npy\" holds labels only, expected the samples with --input FILE" },
        Case { options: "--labels frames.npy --input calib/t10k_0000.png", text: "\"frames.npy\" holds 20 labels, expected 1 as there are samples" },
        Case { options: "--labels test/labels.csv --task top3", text: "unknown task \"top3\", did you mean \"top1\"? expected one of ctc, threshold, top1" },
        Case { options: "--labels test/labels.csv --output Identity", text: "--output: model.onnx has no output \"Identity\", did you mean \"Identity:0\"?" },
        Case { options: "--labels test/labels.csv --mode int", text: "unknown mode \"int\", did you mean \"integer\"? expected one of integer, fake-quant" },
        Case { options: "--labels test/labels.csv --fail-under top2=1", text: "gate \"top2=1\": unknown metric \"top2\", expected one of top1, top5, did you mean \"top1\"?" },
        Case { options: "--labels test/labels.csv --fail-under int8.top1=1", text: "gate \"int8.top1=1\": unknown precision \"int8\", expected one of float" },
        Case {
            options: "--labels test/labels.csv --task ctc",
            text: "no task fits the outputs and the 20 labels from test/labels.csv:2:\n  ctc of \"Identity:0\": the output has shape [1, 10], expected [1, steps, characters]",
        },
    ];
    for Case { options, text } in cases {
        sandbox.refuse(&format!("{FLOAT} {options}"), text);
    }
    sandbox.refuse(
        "evaluate model.onnx --labels test/labels.csv --only int8",
        "--only int8 says nothing of how, expected --plan P.toml or --target T --dataset D beside it",
    );
    sandbox.refuse(
        "evaluate model.onnx --labels test/labels.csv --only int4",
        "unknown precision \"int4\", did you mean \"int8\"? expected one of float, fp16, int8",
    );
    sandbox.refuse(
        "evaluate model.onnx --labels test/labels.csv --target onnxruntime --recipe recipe.toml",
        "calibration samples are missing for target onnxruntime, expected --dataset D or --plan P.toml",
    );
}
