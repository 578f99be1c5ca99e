//! A plan from elsewhere, held against a small model for every target.

use std::sync::OnceLock;

use qloupe::Mode;
use qloupe::plan::{PlanArrays, format_plan, parse_plan, read_head};
use qloupe::prepare::{Network, Prepared};
use qloupe::targets;
use qloupe_ir::{
    AttributeValue, Dim, Extra, Graph, Initializer, Model, Node, OpsetImport, TensorType, ValueInfo,
};
use qloupe_tensor::{DType, Tensor};

/// The name of the file in messages.
const FILE: &str = "fuzz.plan.toml";

/// Reads a plan and does with it what `--plan` does before there is data.
///
/// # Panics
/// On a bug only: a plan that fits must be written, and come back the same.
pub(crate) fn exercise(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(head) = read_head(FILE, text) else {
        return;
    };
    let Ok(target) = targets::find(&head.target) else {
        panic!("the head of a plan names a target that does not exist");
    };
    let network = network();
    let Ok(prepared) = Prepared::new(network, target, head.optimization_level) else {
        panic!("the model does not fit {}", target.id);
    };
    let (values, weights) = (prepared.value_names(), prepared.weight_names());
    let Ok(plan) = parse_plan(FILE, text, &values, &weights, &PlanArrays::default()) else {
        return;
    };
    let written = format_plan(&plan, None);
    let again = parse_plan(FILE, &written, &values, &weights, &PlanArrays::default());
    assert_eq!(
        again.map(|again| format_plan(&again, None)).ok(),
        Some(written),
        "a second round trip changes the plan"
    );
    if prepared.check_plan(FILE, &plan).is_ok() {
        for mode in [Mode::FakeQuant, Mode::Integer] {
            let _ = prepared.quantized(network, &plan, mode);
        }
    }
}

/// Conv, Relu, MaxPool, Flatten, Gemm; built once.
fn network() -> &'static Network {
    static NETWORK: OnceLock<Network> = OnceLock::new();
    NETWORK.get_or_init(|| match Network::new("fuzz.onnx".to_owned(), model()) {
        Ok(network) => network,
        Err(error) => panic!("{error}"),
    })
}

fn model() -> Model {
    let image = TensorType {
        dtype: Some(DType::Float32),
        shape: Some([1, 2, 4, 4].map(Dim::Known).to_vec()),
        extra: Extra::default(),
    };
    let untyped = TensorType {
        dtype: Some(DType::Float32),
        shape: None,
        extra: Extra::default(),
    };
    let weight = |name: &str, shape: &[usize]| {
        let values = (0_u8..).map(|i| f32::from(i % 7) - 3.0);
        let values = values.take(shape.iter().product()).collect();
        Initializer {
            name: name.to_owned(),
            value: Tensor::new(shape, values).map_or_else(|e| panic!("{e}"), Into::into),
        }
    };
    Model {
        ir_version: 8,
        opset_imports: vec![OpsetImport {
            domain: String::new(),
            version: 13,
        }],
        graph: Graph {
            inputs: vec![ValueInfo::tensor("x:0", image)],
            outputs: vec![ValueInfo::tensor("y", untyped)],
            initializers: vec![
                weight("w1", &[3, 2, 3, 3]),
                weight("b1", &[3]),
                weight("w2", &[12, 5]),
            ],
            nodes: vec![
                Node::new("Conv", "conv", &["x:0", "w1", "b1"], &["c"])
                    .with_attribute("pads", AttributeValue::Ints(vec![1; 4])),
                Node::new("Relu", "relu", &["c"], &["r"]),
                Node::new("MaxPool", "pool", &["r"], &["p"])
                    .with_attribute("kernel_shape", AttributeValue::Ints(vec![2; 2]))
                    .with_attribute("strides", AttributeValue::Ints(vec![2; 2])),
                Node::new("Flatten", "flatten", &["p"], &["f"]),
                Node::new("Gemm", "gemm", &["f", "w2"], &["y"]),
            ],
            ..Graph::default()
        },
        ..Model::default()
    }
}
