//! Inputs of every kind through every command that reads samples: fixed batches, integers, NHWC, states, several.

use std::path::Path;

use qloupe::array::{ArrayFile, Compression, write_npz};
use qloupe::report::Report;
use qloupe_ir::{AttributeValue, Dim, Extra, Graph, Model, Node, OpsetImport, TensorType, ValueInfo};
use qloupe_onnx::write_model;
use qloupe_tensor::{DType, Tensor};

use crate::sandbox::Sandbox;

fn value(name: &str, dtype: DType, shape: &[i64]) -> ValueInfo {
    let dim = |&size: &i64| {
        if size > 0 {
            Dim::Known(size)
        } else {
            Dim::Symbol("N".to_owned())
        }
    };
    let ty = TensorType {
        dtype: Some(dtype),
        shape: Some(shape.iter().map(dim).collect()),
        extra: Extra::default(),
    };
    ValueInfo::tensor(name, ty)
}

fn write(path: &Path, inputs: Vec<ValueInfo>, nodes: Vec<Node>, constants: Vec<(&str, Tensor)>) {
    let mut graph = Graph {
        name: "graph".to_owned(),
        inputs,
        outputs: vec![value("y", DType::Float32, &[0, 3])],
        nodes,
        ..Graph::default()
    };
    for (name, tensor) in constants {
        graph.set_initializer(name, tensor);
    }
    let model = Model {
        ir_version: 8,
        graph,
        opset_imports: vec![OpsetImport {
            domain: String::new(),
            version: 13,
        }],
        ..Model::default()
    };
    write_model(&model, path).unwrap();
}

fn array(sandbox: &Sandbox, file: &str, name: &str) -> Tensor {
    let file = ArrayFile::open(&sandbox.path(file)).unwrap();
    file.read(file.position(name).unwrap()).unwrap()
}

/// Every command on one model: build, infer, analyze and evaluate.
fn run_all(sandbox: &Sandbox, samples: &str, labels: &str) -> serde_json::Value {
    let int8 = format!("--target onnxruntime --dataset {samples} --recipe recipe.toml --algorithm min_max");
    sandbox.succeed(&format!("build model.onnx {int8} -o out.onnx"));
    let plan = "--plan out.plan.toml --recipe recipe.toml";
    sandbox.succeed(&format!(
        "infer model.onnx {plan} --input {samples} --out out.npz"
    ));
    sandbox.succeed(&format!(
        "analyze model.onnx {plan} --input {samples} --report out.json"
    ));
    let json = sandbox.succeed(&format!("evaluate model.onnx {int8} --labels {labels} --json"));
    serde_json::from_str(&json).unwrap()
}

/// What was measured of each layer.
fn views(sandbox: &Sandbox, file: &str) -> Vec<(String, String)> {
    let report: Report = serde_json::from_str(&sandbox.text(file)).unwrap();
    let view = |layer: &qloupe::report::Layer| (layer.name.clone(), format!("{:?}", layer.views));
    report.layers.iter().map(view).collect()
}

/// 20 samples in batches of 3: the last batch repeats one, and nothing must show it.
#[test]
fn a_fixed_batch_gives_what_single_samples_give() {
    let sandbox = Sandbox::new();
    let run = |name: &str, shape: &str| {
        let int8 = format!(
            "{shape} --target rk3588 --dataset calib --recipe recipe.toml --algorithm min_max --optimization-level 0"
        );
        sandbox.succeed(&format!("build model.onnx {int8} -o {name}.onnx"));
        let plan = format!("{shape} --plan {name}.plan.toml --recipe recipe.toml");
        sandbox.succeed(&format!("infer model.onnx {plan} --input test --out {name}.npz"));
        sandbox.succeed(&format!(
            "analyze model.onnx {plan} --input test --views entire,local --report {name}.json"
        ));
        let evaluate = format!("evaluate model.onnx {plan} --labels test/labels.csv --json");
        let json: serde_json::Value = serde_json::from_str(&sandbox.succeed(&evaluate)).unwrap();
        json["scores"]
            .as_array()
            .unwrap()
            .iter()
            .map(|score| [&score["metrics"], &score["agreement"]].map(ToString::to_string))
            .collect::<Vec<_>>()
    };
    let single = run("single", "");
    assert_eq!(run("batch", "--shape input=3,1,28,28"), single);
    assert_eq!(sandbox.text("batch.plan.toml"), sandbox.text("single.plan.toml"));
    assert_eq!(
        array(&sandbox, "batch.npz", "Identity:0"),
        array(&sandbox, "single.npz", "Identity:0")
    );
    assert_eq!(views(&sandbox, "batch.json"), views(&sandbox, "single.json"));
    let report: Report = serde_json::from_str(&sandbox.text("batch.json")).unwrap();
    assert_eq!((report.samples.n, report.samples.n_calibration), (20, 20));
}

/// The mean of each channel is the score of its colour.
#[test]
fn integer_pictures_in_nhwc_run_everywhere() {
    for dtype in [DType::Int32, DType::UInt8] {
        let sandbox = Sandbox::new();
        let to_float =
            Node::new("Cast", "to_float", &["x"], &["float"]).with_attribute("to", AttributeValue::Int(1));
        let to_nchw = Node::new("Transpose", "to_nchw", &["float"], &["nchw"])
            .with_attribute("perm", AttributeValue::Ints(vec![0, 3, 1, 2]));
        let mean = Node::new("GlobalAveragePool", "mean", &["nchw"], &["mean"]);
        let flat = Node::new("Flatten", "flat", &["mean"], &["y"]);
        let nodes = vec![to_float, to_nchw, mean, flat];
        write(
            &sandbox.path("model.onnx"),
            vec![value("x", dtype, &[1, 4, 4, 3])],
            nodes,
            vec![],
        );
        sandbox.write(
            "recipe.toml",
            "[input.x]\nlayout = \"nhwc\"\nchannel_order = \"bgr\"",
        );
        std::fs::create_dir(sandbox.path("colours")).unwrap();
        let names = ["blue", "green", "red"];
        for (class, name) in names.iter().enumerate() {
            let pixel = |channel: usize| if channel == 2 - class { 200 } else { 10 };
            let pixels = (0..2 * 2 * 3).map(|idx| pixel(idx % 3)).collect();
            let picture = image::RgbImage::from_raw(2, 2, pixels).unwrap();
            picture
                .save(sandbox.path(&format!("colours/{name}.png")))
                .unwrap();
        }
        sandbox.write("names.txt", names.join("\n"));
        sandbox.write(
            "colours/labels.csv",
            "blue.png,blue\ngreen.png,green\nred.png,red\n",
        );
        let evaluation = run_all(&sandbox, "colours", "colours/labels.csv --classes names.txt");
        for score in evaluation["scores"].as_array().unwrap() {
            assert_eq!(score["metrics"]["top1"]["n_hits"], 3, "{dtype}: {score}");
        }
        assert_eq!(array(&sandbox, "out.npz", "y").shape(), [3, 3]);
    }
}

/// `y = x * rate + state[0]`: the file holds `x` only, the recipe feeds the rest.
#[test]
fn states_are_fed_by_the_recipe() {
    let sandbox = Sandbox::new();
    let nodes = vec![
        Node::new("Cast", "to_float", &["rate"], &["factor"]).with_attribute("to", AttributeValue::Int(1)),
        Node::new("Mul", "scaled", &["x", "factor"], &["scaled"]),
        Node::new("Gather", "first", &["state", "zero"], &["first"]),
        Node::new("Add", "sum", &["scaled", "first"], &["y"]),
    ];
    let inputs = vec![
        value("x", DType::Float32, &[0, 3]),
        value("state", DType::Float32, &[2, 0, 3]),
        value("rate", DType::Int64, &[]),
    ];
    let zero = vec![("zero", Tensor::scalar(0_i64))];
    write(&sandbox.path("model.onnx"), inputs, nodes, zero);
    sandbox.write(
        "recipe.toml",
        "[input.state]\nvalue = 0.5\n[input.rate]\nvalue = 2\n",
    );
    let x = Tensor::new(&[2, 3], vec![1.0_f32, 0.0, 0.0, 0.0, 0.0, 1.0]).unwrap();
    let arrays = [
        ("x".to_owned(), x),
        ("label".to_owned(), Tensor::vector(vec![0_i64, 1])),
    ];
    write_npz(&sandbox.path("x.npz"), &arrays, Compression::Stored).unwrap();
    let evaluation = run_all(&sandbox, "x.npz", "x.npz");
    assert_eq!(evaluation["scores"][0]["metrics"]["top1"]["n_hits"], 1);
    sandbox.succeed("infer model.onnx --recipe recipe.toml --input x.npz --out float.npz");
    let y = array(&sandbox, "float.npz", "y");
    assert_eq!(y.as_slice::<f32>().unwrap(), [2.5, 0.5, 0.5, 0.5, 0.5, 2.5]);
}

/// Two pictures a sample, one of them gray.
#[test]
fn several_inputs_come_from_the_lines_of_a_list() {
    let sandbox = Sandbox::new();
    let nodes = vec![
        Node::new("GlobalAveragePool", "mean_a", &["a"], &["mean_a"]),
        Node::new("GlobalAveragePool", "mean_b", &["b"], &["mean_b"]),
        Node::new("Concat", "both", &["mean_a", "mean_b"], &["both"])
            .with_attribute("axis", AttributeValue::Int(1)),
        Node::new("Flatten", "flat", &["both"], &["y"]),
    ];
    let inputs = vec![
        value("a", DType::Float32, &[0, 1, 28, 28]),
        value("b", DType::Float32, &[0, 3, 14, 14]),
    ];
    write(&sandbox.path("model.onnx"), inputs, nodes, vec![]);
    sandbox.write("recipe.toml", "[input.a]\nstd = 255\n[input.b]\nstd = 255\n");
    let lines: Vec<String> = sandbox
        .text("calib/dataset.txt")
        .lines()
        .map(|line| format!("{line} \"{line}\""))
        .collect();
    sandbox.write("calib/pairs.txt", lines.join("\n"));
    let labels = Tensor::vector(vec![0_i64; lines.len()]);
    qloupe::array::write_npy(&sandbox.path("labels.npy"), &labels).unwrap();
    let evaluation = run_all(&sandbox, "calib/pairs.txt", "labels.npy --input calib/pairs.txt");
    assert_eq!(evaluation["n_samples"], 20);
}
