//! Quantized operators of com.microsoft against what ONNX Runtime 1.32 computes, fed and as constants.

use qloupe_exec::Program;
use qloupe_ir::{AttributeValue, Graph, Initializer, Node, ValueInfo};
use qloupe_tensor::Tensor;

/// One node, its inputs in order (`None`: absent), and its first output.
struct Case {
    node: Node,
    inputs: Vec<Option<Tensor>>,
    expected: Option<Tensor>,
    /// The largest difference, for operators that compute in float; 0 for the same bits.
    tolerance: f64,
}

fn node(op_type: &str) -> Node {
    let mut node = Node::new(op_type, "n", &[], &["y"]);
    node.domain = "com.microsoft".to_owned();
    node
}

fn u8s(shape: &[usize], values: &[u8]) -> Option<Tensor> {
    Tensor::new(shape, values.to_vec()).ok()
}

fn i8s(shape: &[usize], values: &[i8]) -> Option<Tensor> {
    Tensor::new(shape, values.to_vec()).ok()
}

fn f32s(shape: &[usize], values: &[f32]) -> Option<Tensor> {
    Tensor::new(shape, values.to_vec()).ok()
}

fn scale(value: f32) -> Option<Tensor> {
    f32s(&[], &[value])
}

fn case(node: Node, inputs: Vec<Option<Tensor>>, expected: Option<Tensor>) -> Case {
    Case {
        node,
        inputs,
        expected,
        tolerance: 0.0,
    }
}

fn cases() -> Vec<Case> {
    let int = AttributeValue::Int;
    let zero = |v| u8s(&[], &[v]);
    let signed_zero = |v| i8s(&[], &[v]);
    let mut cases = vec![
        case(
            node("QLinearAdd"),
            vec![
                u8s(&[4], &[0, 3, 200, 255]),
                scale(0.05),
                zero(3),
                u8s(&[4], &[9, 2, 100, 255]),
                scale(0.03),
                zero(100),
                scale(0.07),
                zero(17),
            ],
            u8s(&[4], &[0, 0, 158, 255]),
        ),
        case(
            node("QLinearMul"),
            vec![
                i8s(&[4], &[-128, 3, 100, 127]),
                scale(0.05),
                signed_zero(3),
                i8s(&[4], &[9, 2, 100, -128]),
                scale(0.03),
                signed_zero(100),
                scale(0.07),
                signed_zero(-17),
            ],
            i8s(&[4], &[127, -17, -17, -128]),
        ),
        case(
            node("QLinearSigmoid"),
            vec![
                u8s(&[5], &[0, 100, 128, 140, 255]),
                scale(0.04),
                zero(128),
                scale(1.0 / 256.0),
                zero(0),
            ],
            u8s(&[5], &[2, 63, 128, 158, 254]),
        ),
        case(
            node("QLinearLeakyRelu").with_attribute("alpha", AttributeValue::Float(0.2)),
            vec![
                i8s(&[5], &[-128, -3, 0, 50, 127]),
                scale(0.04),
                signed_zero(3),
                scale(0.05),
                signed_zero(-5),
            ],
            i8s(&[5], &[-26, -6, -5, 33, 94]),
        ),
        case(
            node("QLinearSoftmax")
                .with_attribute("axis", int(-1))
                .with_attribute("opset", int(13)),
            vec![
                u8s(&[1, 4], &[10, 40, 50, 52]),
                scale(0.08),
                zero(30),
                scale(1.0 / 256.0),
                zero(0),
            ],
            u8s(&[1, 4], &[4, 43, 96, 113]),
        ),
        case(
            node("QLinearConcat").with_attribute("axis", int(0)),
            vec![
                scale(0.1),
                zero(10),
                u8s(&[3], &[0, 128, 255]),
                scale(0.2),
                zero(128),
                u8s(&[2], &[1, 2]),
                scale(0.1),
                zero(10),
            ],
            u8s(&[5], &[0, 10, 255, 1, 2]),
        ),
        case(
            node("QLinearWhere"),
            vec![
                Some(Tensor::vector(vec![true, false, true])),
                u8s(&[3], &[0, 128, 255]),
                scale(0.2),
                zero(128),
                u8s(&[3], &[7, 8, 9]),
                scale(0.1),
                zero(1),
                scale(0.1),
                zero(10),
            ],
            u8s(&[3], &[0, 17, 255]),
        ),
        case(
            node("QLinearAveragePool").with_attribute("kernel_shape", AttributeValue::Ints(vec![2, 2])),
            vec![
                u8s(&[1, 1, 2, 3], &[1, 2, 4, 9, 16, 25]),
                scale(0.5),
                zero(4),
                scale(0.3),
                zero(7),
            ],
            u8s(&[1, 1, 1, 2], &[12, 20]),
        ),
        case(
            node("QLinearGlobalAveragePool"),
            vec![
                i8s(&[1, 2, 3], &[1, -2, 4, -9, 16, 25]),
                scale(0.5),
                signed_zero(4),
                scale(0.3),
                signed_zero(7),
            ],
            i8s(&[1, 2, 1], &[2, 18]),
        ),
        case(
            node("QGemm"),
            vec![
                u8s(&[2, 2], &[1, 2, 3, 250]),
                scale(0.02),
                zero(100),
                i8s(&[2, 2], &[5, -6, 7, -8]),
                f32s(&[2], &[0.1, 0.2]),
                i8s(&[2], &[0, 0]),
                Some(Tensor::vector(vec![100_i32, -200])),
                scale(0.5),
                zero(128),
            ],
            u8s(&[2, 2], &[124, 137, 131, 121]),
        ),
    ];
    cases.extend(float_cases());
    cases
}

/// Operators that end in real numbers.
fn float_cases() -> Vec<Case> {
    vec![
        case(
            node("DynamicQuantizeMatMul"),
            vec![
                f32s(&[1, 3], &[-1.0, 0.5, 2.0]),
                u8s(&[3, 2], &[1, 200, 30, 4, 5, 60]),
                f32s(&[2], &[0.1, 0.2]),
                u8s(&[2], &[100, 3]),
                f32s(&[2], &[0.25, -1.0]),
            ],
            f32s(&[1, 2], &[-12.308_825, -17.501_177]),
        ),
        case(
            node("MatMulIntegerToFloat"),
            vec![
                i8s(&[1, 3], &[-100, 5, 60]),
                i8s(&[3, 2], &[1, -20, 30, 4, 5, 60]),
                scale(0.03),
                scale(0.2),
                i8s(&[], &[7]),
                i8s(&[], &[0]),
            ],
            f32s(&[1, 2], &[0.588, 31.872]),
        ),
        Case {
            tolerance: 1e-6,
            ..case(
                node("DynamicQuantizeLSTM").with_attribute("hidden_size", AttributeValue::Int(1)),
                vec![
                    f32s(&[2, 1, 2], &[1.0, -1.0, 0.5, 2.0]),
                    u8s(&[1, 2, 4], &[100, 101, 102, 103, 104, 105, 106, 107]),
                    u8s(&[1, 1, 4], &[90, 150, 30, 200]),
                    None,
                    None,
                    None,
                    None,
                    None,
                    f32s(&[1], &[0.01]),
                    u8s(&[1], &[104]),
                    f32s(&[1], &[0.02]),
                    u8s(&[1], &[128]),
                ],
                f32s(&[2, 1, 1, 1], &[-0.009_597_703, 0.005_224_556_7]),
            )
        },
    ]
}

#[test]
fn outputs_are_those_of_onnx_runtime() {
    for Case {
        node,
        inputs,
        expected,
        tolerance,
    } in cases()
    {
        let expected = expected.unwrap();
        let name = |i: usize| format!("i{i}");
        let mut graph = Graph {
            outputs: vec![ValueInfo::untyped("y")],
            ..Graph::default()
        };
        let mut node = node;
        let op_type = node.op_type.clone();
        node.inputs = (0..inputs.len())
            .map(|i| {
                if inputs[i].is_some() {
                    name(i)
                } else {
                    String::new()
                }
            })
            .collect();
        graph.nodes.push(node);
        let given: Vec<(String, Tensor)> = inputs
            .into_iter()
            .enumerate()
            .filter_map(|(i, tensor)| Some((name(i), tensor?)))
            .collect();
        // Fed everything, the node makes its kernel at every call; with constants behind the activations, once.
        for n_fed in [
            given.len(),
            if op_type == "QLinearConcat" {
                given.len()
            } else {
                1
            },
        ] {
            let mut graph = graph.clone();
            let (fed, constants) = given.split_at(n_fed);
            graph.inputs = fed.iter().map(|(name, _)| ValueInfo::untyped(name)).collect();
            graph.initializers = constants
                .iter()
                .map(|(name, tensor)| Initializer {
                    name: name.clone(),
                    value: tensor.clone().into(),
                })
                .collect();
            let program = Program::from_graph(graph, &|_| 1).unwrap();
            let y = program.run(fed.to_vec()).unwrap().remove(0).1;
            assert_eq!(
                (y.dtype(), y.shape()),
                (expected.dtype(), expected.shape()),
                "{op_type}"
            );
            let (y, expected) = (y.to_f64_vec().unwrap(), expected.to_f64_vec().unwrap());
            let worst = y
                .iter()
                .zip(&expected)
                .map(|(y, e)| (y - e).abs())
                .fold(0.0, f64::max);
            assert!(worst <= tolerance, "{op_type}: {y:?}, expected {expected:?}");
        }
    }
}
