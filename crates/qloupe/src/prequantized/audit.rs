//! What is wrong with the way in which a model was quantized, before anything runs. A new check is a file and two lines.

mod activations;
mod axis;
mod bias;
mod gaps;
mod kept;
mod outputs;
mod pairs;
mod scales;
mod types;

use std::collections::BTreeMap;

use qloupe_ir::{Graph, Node, Topology};
use qloupe_tensor::QuantParams;

use super::read::{Quantization, ReadWeight, Reading};
use crate::report::{Finding, Severity};
use crate::targets::Target;

/// One check: what it finds in a quantized model.
type Check = fn(&Subject<'_>) -> Vec<Finding>;

/// Every check, by file.
const ALL: &[Check] = &[
    activations::find,
    axis::find,
    bias::find,
    gaps::find,
    kept::find,
    outputs::find,
    pairs::find,
    scales::find,
    types::find,
];

/// Names of a finding about many that are listed before "and more".
const MAX_NAMES: usize = 3;

/// The findings of a reading for a target, the most severe first.
pub(super) fn audit(reading: &Reading, target: &Target) -> Vec<Finding> {
    let Ok(topology) = Topology::new(&reading.twin.graph) else {
        return Vec::new();
    };
    let subject = Subject {
        reading,
        graph: &reading.twin.graph,
        topology: &topology,
        weights: reading.weights.iter().map(|w| (w.name.as_str(), w)).collect(),
        target,
    };
    let mut found = merged(ALL.iter().flat_map(|check| check(&subject)).collect());
    found.sort_by_key(|finding| finding.severity);
    found
}

/// Many findings of one check as one, with the evidence of the first.
fn merged(found: Vec<Finding>) -> Vec<Finding> {
    let mut layers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for finding in &found {
        let places = layers.entry(finding.id.clone()).or_default();
        places.extend(finding.layer.clone());
    }
    let mut merged: Vec<Finding> = Vec::new();
    for mut finding in found {
        let places = layers.get(&finding.id).map_or(&[][..], Vec::as_slice);
        if places.len() <= MAX_NAMES {
            merged.push(finding);
        } else if merged.iter().all(|other| other.id != finding.id) {
            let others: Vec<&str> = places[1..].iter().map(String::as_str).collect();
            finding.evidence = format!("{}; the same of {}", finding.evidence, some_of(&others));
            merged.push(finding);
        }
    }
    merged
}

/// A quantized model as the checks see it.
struct Subject<'a> {
    reading: &'a Reading,
    /// The float twin.
    graph: &'a Graph,
    topology: &'a Topology,
    weights: BTreeMap<&'a str, &'a ReadWeight>,
    target: &'a Target,
}

impl<'a> Subject<'a> {
    /// The parameters of a computed value, where they are fixed.
    fn value(&self, name: &str) -> Option<&'a QuantParams> {
        self.reading.values.get(name).and_then(Quantization::params)
    }

    /// True for a value that is quantized, fixed or as it runs.
    fn is_quantized(&self, name: &str) -> bool {
        self.reading.values.contains_key(name)
    }

    /// The parameters of a constant.
    fn weight(&self, name: &str) -> Option<&'a QuantParams> {
        self.weights.get(name)?.params.as_ref().ok()
    }

    fn is_constant(&self, name: &str) -> bool {
        self.graph.initializer(name).is_some()
            || self
                .topology
                .producer(name)
                .is_some_and(|idx| self.is_constant_node(&self.graph.nodes[idx]))
    }

    fn is_constant_node(&self, node: &Node) -> bool {
        node.inputs
            .iter()
            .all(|name| name.is_empty() || self.graph.initializer(name).is_some())
    }

    fn producer(&self, name: &str) -> Option<&'a Node> {
        self.topology.producer(name).map(|idx| &self.graph.nodes[idx])
    }

    /// The nodes that read a value.
    fn consumers(&self, name: &str) -> impl Iterator<Item = &'a Node> {
        self.topology
            .consumers(name)
            .iter()
            .map(|&idx| &self.graph.nodes[idx])
    }

    fn is_output(&self, name: &str) -> bool {
        self.graph.is_output(name)
    }
}

/// A finding about one value.
fn finding(id: &str, severity: Severity, layer: &str, cause: String, evidence: String, fix: &str) -> Finding {
    Finding {
        id: id.to_owned(),
        severity,
        layer: Some(layer.to_owned()),
        cause,
        evidence,
        fix: fix.to_owned(),
        effect_db: None,
        action: None,
        tried: None,
    }
}

/// `"a", "b", "c" and 4 more`.
fn some_of(names: &[&str]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(MAX_NAMES)
        .map(|name| format!("\"{name}\""))
        .collect();
    let more = names.len().saturating_sub(MAX_NAMES);
    let tail = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{}{tail}", shown.join(", "))
}

/// The integers of a range of real numbers, for evidence.
fn range_text(params: &QuantParams) -> String {
    let (min, max) = params.real_range(0);
    format!("{} from {min:.4} to {max:.4}", params.dtype())
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Model, OpsetImport, TensorType, ValueInfo};
    use qloupe_tensor::{DType, Tensor};

    use super::*;
    use crate::prequantized::Prequantized;
    use crate::targets;

    fn pair(model: &mut Model, value: &str, scale: &str, zero_point: &str) {
        let (q, dq) = (format!("{value}_q"), format!("{value}_dq"));
        let nodes = &mut model.graph.nodes;
        nodes.push(Node::new(
            "QuantizeLinear",
            &q,
            &[value, scale, zero_point],
            &[&q],
        ));
        nodes.push(Node::new(
            "DequantizeLinear",
            &dq,
            &[&q, scale, zero_point],
            &[&dq],
        ));
    }

    /// x [1, 2, 3, 3] -> Conv -> y -> Relu -> z, each value with a pair, weights per channel, an int32 bias.
    fn model() -> Model {
        let value = |name: &str| {
            let ty = TensorType {
                dtype: Some(DType::Float32),
                shape: None,
                extra: Default::default(),
            };
            ValueInfo::tensor(name, ty)
        };
        let mut model = Model {
            opset_imports: vec![OpsetImport {
                domain: String::new(),
                version: 13,
            }],
            ..Model::default()
        };
        let graph = &mut model.graph;
        graph.inputs = vec![value("x")];
        graph.outputs = vec![value("z")];
        graph.set_initializer("s", Tensor::scalar(0.1_f32));
        graph.set_initializer("zero", Tensor::scalar(128_u8));
        graph.set_initializer("w_q", Tensor::new(&[2, 2, 1, 1], vec![1_i8, 2, 3, 4]).unwrap());
        graph.set_initializer("w_s", Tensor::vector(vec![0.5_f32, 0.25]));
        graph.set_initializer("w_z", Tensor::vector(vec![0_i8, 0]));
        graph.set_initializer("b_q", Tensor::vector(vec![7_i32, -7]));
        graph.set_initializer("b_s", Tensor::vector(vec![0.05_f32, 0.025]));
        pair(&mut model, "x", "s", "zero");
        let axis = || AttributeValue::Int(0);
        let weight = Node::new("DequantizeLinear", "w_dq", &["w_q", "w_s", "w_z"], &["w_dq"]);
        let bias = Node::new("DequantizeLinear", "b_dq", &["b_q", "b_s"], &["b_dq"]);
        model.graph.nodes.push(weight.with_attribute("axis", axis()));
        model.graph.nodes.push(bias.with_attribute("axis", axis()));
        model
            .graph
            .nodes
            .push(Node::new("Conv", "conv", &["x_dq", "w_dq", "b_dq"], &["y"]));
        pair(&mut model, "y", "s", "zero");
        model
            .graph
            .nodes
            .push(Node::new("Relu", "relu", &["y_dq"], &["z"]));
        model
    }

    fn node<'m>(model: &'m mut Model, name: &str) -> &'m mut Node {
        model.graph.nodes.iter_mut().find(|n| n.name == name).unwrap()
    }

    /// Drops a pair: its reader takes the float value.
    fn drop_pair(model: &mut Model, value: &str) {
        let (q, dq) = (format!("{value}_q"), format!("{value}_dq"));
        model.graph.nodes.retain(|n| n.name != q && n.name != dq);
        for name in model
            .graph
            .nodes
            .iter_mut()
            .flat_map(|n| &mut n.inputs)
            .filter(|name| **name == dq)
        {
            *name = value.to_owned();
        }
    }

    #[test]
    fn each_mistake_is_named() {
        struct Case {
            mistake: fn(&mut Model),
            expected: &'static [&'static str],
        }
        let cases = [
            Case {
                mistake: |_| {},
                expected: &[],
            },
            Case {
                mistake: |m| node(m, "w_dq").attributes[0].value = AttributeValue::Int(1),
                expected: &["wrong_axis"],
            },
            Case {
                mistake: |m| {
                    m.graph
                        .set_initializer("b_s", Tensor::vector(vec![0.05_f32, 0.03]))
                },
                expected: &["bias_scale"],
            },
            Case {
                mistake: |m| {
                    m.graph.set_initializer("b", Tensor::vector(vec![0.1_f32, 0.2]));
                    node(m, "conv").inputs[2] = "b".to_owned();
                },
                expected: &["float_bias"],
            },
            Case {
                mistake: |m| drop_pair(m, "x"),
                expected: &["float_gap"],
            },
            Case {
                mistake: |m| {
                    m.graph
                        .set_initializer("w", Tensor::new(&[2, 2, 1, 1], vec![0.5_f32; 4]).unwrap());
                    node(m, "conv").inputs[1] = "w".to_owned();
                },
                expected: &["float_gap"],
            },
            Case {
                mistake: |m| {
                    m.graph.set_initializer("low", Tensor::scalar(0_u8));
                    node(m, "y_q").inputs[2] = "low".to_owned();
                    node(m, "y_dq").inputs[2] = "low".to_owned();
                },
                expected: &["activation_recovered", "relu_after_range"],
            },
            Case {
                mistake: |m| {
                    m.graph.set_initializer("s2", Tensor::scalar(0.2_f32));
                    pair(m, "y_dq", "s2", "zero");
                    let relu = m.graph.nodes.remove(m.graph.nodes.len() - 3);
                    m.graph.nodes.push(relu);
                    node(m, "relu").inputs[0] = "y_dq_dq".to_owned();
                },
                expected: &["requantized"],
            },
            Case {
                mistake: |m| {
                    m.graph.set_initializer("s2", Tensor::scalar(0.2_f32));
                    let q = Node::new("QuantizeLinear", "q2", &["y", "s2", "zero"], &["q2"]);
                    let dq = Node::new("DequantizeLinear", "dq2", &["q2", "s2", "zero"], &["dq2"]);
                    let add = Node::new("Add", "add", &["z", "dq2"], &["sum"]);
                    m.graph.nodes.extend([q, dq, add]);
                    m.graph.outputs[0].name = "sum".to_owned();
                },
                expected: &["two_scales"],
            },
            Case {
                mistake: |m| {
                    let q = Node::new("QuantizeLinear", "q2", &["y", "s", "zero"], &["q2"]);
                    let dq = Node::new("DequantizeLinear", "dq2", &["q2", "s", "zero"], &["dq2"]);
                    let add = Node::new("Add", "add", &["z", "dq2"], &["sum"]);
                    m.graph.nodes.extend([q, dq, add]);
                    m.graph.outputs[0].name = "sum".to_owned();
                },
                expected: &["duplicate_pair"],
            },
            Case {
                mistake: |m| {
                    pair(m, "z", "s", "zero");
                    m.graph.outputs[0].name = "z_dq".to_owned();
                },
                expected: &["quantized_before_relu", "output_quantized"],
            },
            Case {
                mistake: |m| m.graph.set_initializer("s", Tensor::scalar(0_f32)),
                expected: &["invalid_scale", "not_expressed", "not_expressed"],
            },
            Case {
                mistake: |m| {
                    m.graph
                        .set_initializer("w_s", Tensor::vector(vec![-0.5_f32, 0.25]))
                },
                expected: &["negative_scale"],
            },
            Case {
                mistake: |m| {
                    m.graph
                        .set_initializer("w_s", Tensor::vector(vec![1e-30_f32, 0.25]))
                },
                expected: &["bias_scale", "absurd_scale"],
            },
            Case {
                mistake: |m| {
                    m.graph
                        .set_initializer("w_q", Tensor::new(&[2, 2, 1, 1], vec![1_u8, 2, 3, 4]).unwrap());
                    m.graph.set_initializer("w_z", Tensor::vector(vec![2_u8, 0]));
                },
                expected: &["weight_type", "weight_zero_point"],
            },
            Case {
                mistake: |m| {
                    m.graph.set_initializer("signed", Tensor::scalar(0_i8));
                    node(m, "x_q").inputs[2] = "signed".to_owned();
                    node(m, "x_dq").inputs[2] = "signed".to_owned();
                },
                expected: &["mixed_types"],
            },
            Case {
                mistake: |m| {
                    m.graph
                        .set_initializer("s", Tensor::scalar(half::f16::from_f32(0.1)));
                },
                expected: &["not_expressed", "not_expressed", "scale_type"],
            },
            Case {
                mistake: |m| {
                    m.graph
                        .set_initializer("many", Tensor::vector(vec![0.1_f32, 0.2]));
                    m.graph
                        .set_initializer("zeros", Tensor::vector(vec![128_u8, 128]));
                    for name in ["x_q", "x_dq"] {
                        node(m, name).inputs[1] = "many".to_owned();
                        node(m, name).inputs[2] = "zeros".to_owned();
                    }
                },
                expected: &["per_channel_activation"],
            },
        ];
        let mut wrong = Vec::new();
        for (idx, case) in cases.into_iter().enumerate() {
            let mut model = model();
            (case.mistake)(&mut model);
            let read = Prequantized::read("m.onnx".to_owned(), model).unwrap();
            let found: Vec<String> = read
                .audit(&targets::ONNXRUNTIME)
                .into_iter()
                .map(|f| f.id)
                .collect();
            if found != case.expected {
                wrong.push(format!("case {idx}: {found:?}, expected {:?}", case.expected));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn many_findings_of_one_kind_become_one() {
        let of = |layer: &str| finding("a", Severity::Info, layer, String::new(), "first".to_owned(), "");
        let few = merged(vec![of("x"), of("y")]);
        assert_eq!(few.len(), 2);
        let many = merged(["v", "w", "x", "y", "z"].map(of).to_vec());
        assert_eq!(many.len(), 1);
        assert_eq!(
            many[0].evidence,
            "first; the same of \"w\", \"x\", \"y\" and 1 more"
        );
    }
}
