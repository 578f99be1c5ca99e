//! `--precision fp16 --dataset D`: what stays float32, and why.

use qloupe::array::write_npy;
use qloupe_ir::{Dim, Extra, Model, Node, OpsetImport, TensorType, ValueInfo};
use qloupe_onnx::{read_model, write_model};
use qloupe_tensor::{DType, Tensor};

use crate::sandbox::Sandbox;

/// A sandbox with `large.onnx`: its products leave float16 and come back.
fn sandbox() -> Sandbox {
    let info = |name: &str| {
        let ty = TensorType {
            dtype: Some(DType::Float32),
            shape: Some(vec![Dim::Known(1), Dim::Known(4)]),
            extra: Extra::default(),
        };
        ValueInfo::tensor(name, ty)
    };
    let mut model = Model {
        ir_version: 8,
        ..Model::default()
    };
    model.opset_imports.push(OpsetImport {
        domain: String::new(),
        version: 13,
    });
    model.graph.name = "graph".to_owned();
    model.graph.inputs.push(info("x"));
    model.graph.outputs.push(info("y"));
    model.graph.nodes = vec![
        Node::new("Abs", "abs", &["x"], &["size"]),
        Node::new("MatMul", "up", &["size", "w"], &["large"]),
        Node::new("Mul", "down", &["large", "small"], &["scaled"]),
        Node::new("Relu", "last", &["scaled"], &["y"]),
    ];
    model
        .graph
        .set_initializer("w", Tensor::new(&[4, 4], vec![30_000.0_f32; 16]).unwrap());
    model.graph.set_initializer("small", Tensor::scalar(1e-4_f32));
    let sandbox = Sandbox::new();
    write_model(&model, &sandbox.path("large.onnx")).unwrap();
    let samples = Tensor::new(&[2, 4], vec![1.1_f32, -0.5, 0.25, 2.0, 0.0, 1.5, -3.0, 0.1]).unwrap();
    write_npy(&sandbox.path("x.npy"), &samples).unwrap();
    sandbox
}

#[test]
fn what_overflows_is_written_in_float32() {
    let sandbox = sandbox();
    let text = sandbox.succeed("build large.onnx --precision fp16 --dataset x.npy -o out.onnx");
    let lines = [
        "3 values in float16, 2 in float32\n",
        "\"large\" in float32: overflows in float16: max 1.4e5; without it output \"y\" is lost\n",
        "\"scaled\" in float32: reads \"large\", which overflows in float16: max 1.4e5; without it output \"y\" is lost\n",
        "2 of 5 units and inputs in float32, each of which is needed: output \"y\" has ",
        " on 2 samples, expected at least 40 dB; all in float16: output \"y\" is lost\n",
        "the written model on 2 samples: output \"y\" has ",
        ", as expected at least 40 dB\n",
    ];
    for line in lines {
        assert!(text.contains(line), "{line:?} is missing in\n{text}");
    }
    let written = read_model(&sandbox.path("out.onnx")).unwrap().graph;
    assert_eq!(written.initializer("w").unwrap().dtype(), DType::Float32);
    assert_eq!(written.initializer("small").unwrap().dtype(), DType::Float32);
    let inputs = |op: &str| {
        written
            .nodes
            .iter()
            .find(|node| node.is_onnx(op))
            .unwrap()
            .inputs
            .clone()
    };
    assert_eq!(inputs("Abs"), ["x_fp16"]);
    assert_eq!(inputs("MatMul"), ["size_fp32", "w"]);
    assert_eq!(inputs("Relu"), ["scaled"]);
    let plan = sandbox.text("out.plan.toml");
    assert!(
        plan.contains("\"large\" = { precision = \"float\", reason = \"overflows in float16: max 1.4e5"),
        "{plan}"
    );
}

#[test]
fn the_plan_gives_the_same_model_and_can_be_edited() {
    let sandbox = sandbox();
    sandbox.succeed("build large.onnx --precision fp16 --dataset x.npy -o out.onnx");
    sandbox.succeed("build large.onnx --plan out.plan.toml -o again.onnx");
    assert!(
        sandbox.read("out.onnx") == sandbox.read("again.onnx"),
        "the same bytes"
    );
    sandbox.succeed("infer large.onnx --plan out.plan.toml --input x.npy --out y.npz");
    let report = sandbox.succeed("analyze large.onnx --precision fp16 --dataset x.npy --input x.npy");
    assert!(
        !report.contains("not_finite") && report.contains("3 float16, 2 float32"),
        "{report}"
    );
}

#[test]
fn without_samples_everything_is_float16() {
    let sandbox = sandbox();
    let text = sandbox.succeed("build large.onnx --precision fp16 -o out.onnx");
    assert!(!text.contains("float32\n  "), "{text}");
    let written = read_model(&sandbox.path("out.onnx")).unwrap().graph;
    assert_eq!(written.initializer("w").unwrap().dtype(), DType::Float16);
    assert!(!sandbox.path("out.plan.toml").exists());
}

#[test]
fn the_json_names_what_is_kept() {
    let sandbox = sandbox();
    let text = sandbox.succeed("build large.onnx --precision fp16 --dataset x.npy -o out.onnx --json");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["n_fp16"], &json["n_float"]), (&3.into(), &2.into()));
    assert_eq!(json["passes"], true);
    assert_eq!(json["kept_in_float32"][0]["name"], "large");
}
