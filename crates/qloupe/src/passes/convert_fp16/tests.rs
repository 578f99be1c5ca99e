//! Small graphs before and after the conversion.

use qloupe_ir::{Dim, Extra, OpsetImport, TensorType, ValueInfo};

use super::*;

fn info(name: &str, dtype: DType) -> ValueInfo {
    let shape = Some(vec![Dim::Known(1), Dim::Known(2)]);
    ValueInfo::tensor(
        name,
        TensorType {
            dtype: Some(dtype),
            shape,
            extra: Extra::default(),
        },
    )
}

fn model(nodes: Vec<Node>) -> Model {
    let graph = Graph {
        inputs: vec![info("x", DType::Float32)],
        outputs: vec![info("y", DType::Float32)],
        nodes,
        ..Graph::default()
    };
    Model {
        opset_imports: vec![OpsetImport {
            domain: String::new(),
            version: 13,
        }],
        graph,
        ..Model::default()
    }
}

/// `y = Add(a, w)`, one line for each node.
fn lines(graph: &Graph) -> Vec<String> {
    let line = |n: &Node| {
        format!(
            "{} = {}({})",
            n.outputs.join(", "),
            n.op_type,
            n.inputs.join(", ")
        )
    };
    graph.nodes.iter().map(line).collect()
}

fn dtype_of(graph: &Graph, name: &str) -> DType {
    graph.initializer(name).expect("an initializer").dtype()
}

#[test]
fn the_boundary_stays_float32() {
    let mut float = model(vec![
        Node::new("Add", "add", &["x", "w"], &["a"]),
        Node::new("Relu", "relu", &["a"], &["y"]),
    ]);
    float
        .graph
        .set_initializer("w", Tensor::vector(vec![2049.0_f32, 1e-9]));
    float.graph.value_info = vec![info("a", DType::Float32)];
    let half = convert_fp16(&float).unwrap().graph;
    assert_eq!(
        lines(&half),
        [
            "x_fp16 = Cast(x)",
            "a = Add(x_fp16, w)",
            "y_fp16 = Relu(a)",
            "y = Cast(y_fp16)"
        ]
    );
    let weights = half.initializer("w").unwrap().tensor().unwrap();
    assert_eq!(
        weights.as_slice::<f16>().unwrap(),
        [f16::from_f32(2048.0), f16::ZERO],
        "ties to even, underflow"
    );
    assert_eq!(
        half.value_info[0].tensor_type().unwrap().dtype,
        Some(DType::Float16)
    );
    assert_eq!(half.inputs[0].tensor_type().unwrap().dtype, Some(DType::Float32));
}

#[test]
fn what_the_specification_fixes_stays_float32() {
    let mut float = model(vec![
        Node::new("Resize", "resize", &["x", "", "scales"], &["a"]),
        Node::new("Mul", "mul", &["a", "scales"], &["b"]),
        Node::new("QuantizeLinear", "quantize", &["b", "scale", "zero"], &["q"]),
        Node::new("DequantizeLinear", "dequantize", &["q", "scale", "zero"], &["y"]),
    ]);
    float
        .graph
        .set_initializer("scales", Tensor::vector(vec![1.0_f32, 2.0]));
    float.graph.set_initializer("scale", Tensor::scalar(1e6_f32));
    float.graph.set_initializer("zero", Tensor::scalar(0_u8));
    float.graph.value_info = vec![info("b", DType::Float32)];
    let half = convert_fp16(&float).unwrap().graph;
    assert_eq!(
        lines(&half),
        [
            "x_fp16 = Cast(x)",
            "a = Resize(x_fp16, , scales_fp32)",
            "b = Mul(a, scales)",
            "b_fp32 = Cast(b)",
            "q = QuantizeLinear(b_fp32, scale, zero)",
            "y = DequantizeLinear(q, scale, zero)",
        ]
    );
    assert_eq!(dtype_of(&half, "scales"), DType::Float16);
    assert_eq!(dtype_of(&half, "scales_fp32"), DType::Float32);
    assert_eq!(dtype_of(&half, "scale"), DType::Float32);
}

#[test]
fn attributes_choose_float16() {
    let float_to = |op: &str, outputs: &[&str], name: &str| {
        Node::new(op, op, &["x"], outputs).with_attribute(name, AttributeValue::Int(ONNX_FLOAT))
    };
    let float = model(vec![
        float_to("Cast", &["c"], "to"),
        float_to("EyeLike", &["e"], "dtype"),
        Node::new("RandomUniform", "r", &[], &["r"]),
        Node::new("Sum", "sum", &["c", "e", "r"], &["s"]),
        Node {
            inputs: vec!["s".to_owned()],
            ..float_to("Cast", &["y"], "to")
        },
    ]);
    let half = convert_fp16(&float).unwrap().graph;
    let to_half = |op: &str, name: &str| {
        half.nodes
            .iter()
            .any(|n| n.name == op && n.int(name) == Some(ONNX_FLOAT16))
    };
    assert!(
        to_half("Cast", "to") && to_half("EyeLike", "dtype") && to_half("r", "dtype"),
        "{half:?}"
    );
    let last = half.nodes.last().unwrap();
    assert_eq!(
        (last.output(0), last.int("to")),
        (Some("y"), Some(ONNX_FLOAT)),
        "a cast that leaves stays"
    );
}

#[test]
fn bounds_become_infinite_and_weights_that_overflow_are_listed() {
    let mut float = model(vec![
        Node::new("Clip", "clip", &["x", "low", "high"], &["a"]),
        Node::new("Add", "add", &["a", "low"], &["y"]),
    ]);
    float.graph.set_initializer("low", Tensor::scalar(0.0_f32));
    float.graph.set_initializer("high", Tensor::scalar(f32::MAX));
    let half = convert_fp16(&float).unwrap().graph;
    let high = half.initializer("high").unwrap().tensor().unwrap();
    assert_eq!(high.as_slice::<f16>(), Some(&[f16::INFINITY][..]));
    float
        .graph
        .set_initializer("low", Tensor::vector(vec![1e5_f32, 1.0, f32::NEG_INFINITY]));
    let error = convert_fp16(&float).unwrap_err();
    assert_eq!(
        error.to_string(),
        "1 tensor does not fit into float16, expected at most 65504: \"low\" (1 of 3, up to 1e5)"
    );
}

#[test]
fn subgraphs_follow() {
    let branch = |name: &str, op: &str| Graph {
        name: name.to_owned(),
        outputs: vec![info("b", DType::Float32)],
        nodes: vec![Node::new(op, op, &["x"], &["b"])],
        ..Graph::default()
    };
    let mut float = model(vec![
        Node::new("If", "if", &["yes"], &["y"])
            .with_attribute(
                "then_branch",
                AttributeValue::Graph(Box::new(branch("then", "Relu"))),
            )
            .with_attribute(
                "else_branch",
                AttributeValue::Graph(Box::new(branch("else", "Neg"))),
            ),
    ]);
    float.graph.set_initializer("yes", Tensor::scalar(true));
    let half = convert_fp16(&float).unwrap().graph;
    assert_eq!(
        lines(&half),
        ["x_fp16 = Cast(x)", "y_fp16 = If(yes)", "y = Cast(y_fp16)"]
    );
    for (_, subgraph) in half.nodes[1].subgraphs() {
        assert_eq!(subgraph.nodes[0].inputs, ["x_fp16"], "{}", subgraph.name);
        assert_eq!(
            subgraph.outputs[0].tensor_type().unwrap().dtype,
            Some(DType::Float16),
            "{}",
            subgraph.name
        );
    }
}

#[test]
fn what_has_no_float16_form_is_refused() {
    let foreign = |outputs: &[&str]| Node {
        domain: "com.example".to_owned(),
        ..Node::new("Magic", "magic", &["x"], outputs)
    };
    let with_function = Model {
        functions: vec![qloupe_ir::Function {
            name: "f".to_owned(),
            ..Default::default()
        }],
        ..model(vec![Node::new("Relu", "relu", &["x"], &["y"])])
    };
    let mut old = model(vec![]);
    old.set_opset(6);
    let cases = [
        (
            old,
            "the model uses opset 6, expected at least 7: export it again",
        ),
        (
            with_function,
            "the model cannot become float16: function \"f\": functions of a model are not converted, inline them",
        ),
        (
            model(vec![foreign(&["a"]), Node::new("Relu", "relu", &["a"], &["y"])]),
            "the model cannot become float16: node \"magic\" (Magic): the dtype of output \"a\" is not known: run shape inference first",
        ),
    ];
    for (float, expected) in cases {
        assert_eq!(convert_fp16(&float).unwrap_err().to_string(), expected);
    }
    let kept = convert_fp16(&model(vec![foreign(&["y"])])).unwrap();
    assert_eq!(
        lines(&kept.graph),
        ["y = Magic(x)"],
        "float32 around an operator that nobody knows"
    );
}
