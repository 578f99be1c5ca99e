//! What a product computes on its sums before anything is rounded: an activation, or the Add of another value.

use std::collections::BTreeSet;

use qloupe_ir::Node;

use super::{Grouping, Patterns, is_product};
use crate::targets::Fusion;

/// The nodes behind a product that are part of its unit.
pub(super) struct Tail {
    pub(super) node_idxs: Vec<usize>,
    /// The operator that they spell out, if they do.
    pub(super) pattern: Option<Fusion>,
    /// False for an Add, which an activation may follow.
    pub(super) is_activation: bool,
}

impl Grouping<'_> {
    /// What the target computes before it rounds the product `node`, whose unit ends with node `last` so far. Nodes that are
    /// `taken` are parts of units, or of one of the `patterns`.
    pub(super) fn product_tail(
        &self,
        last: usize,
        node: &Node,
        patterns: &Patterns,
        taken: &BTreeSet<usize>,
    ) -> Option<Tail> {
        if !is_product(node) || node.is_onnx("ConvTranspose") || self.is_depthwise(node) {
            return None;
        }
        if let Some((fusion, idxs)) = self.pattern_behind(last, patterns) {
            let fits = spelled(fusion).is_some_and(|op_type| self.target.activates_product(op_type));
            return fits.then(|| Tail {
                node_idxs: idxs.clone(),
                pattern: Some(fusion),
                is_activation: true,
            });
        }
        let next = self.only_consumer(last).filter(|idx| !taken.contains(idx))?;
        let behind = self.node(next);
        let is_activation = self.target.activates_product(&behind.op_type)
            && behind.domain.is_empty()
            && self.is_activation_of(last, next);
        let adds = self.target.fuses(Fusion::ConvAdd) && node.is_onnx("Conv") && behind.is_onnx("Add");
        let is_computed = |name: &String| self.program.constant(name).is_none();
        let is_sum = adds && behind.inputs.iter().all(is_computed);
        (is_activation || is_sum).then(|| Tail {
            node_idxs: vec![next],
            pattern: None,
            is_activation,
        })
    }

    /// A pattern that is all that reads the output of a node.
    fn pattern_behind<'p>(&self, idx: usize, patterns: &'p Patterns) -> Option<(Fusion, &'p Vec<usize>)> {
        let output = self.node(idx).output(0).filter(|output| self.may_hide(output))?;
        let consumers = self.topology.consumers(output);
        let is_all = |idxs: &Vec<usize>| !consumers.is_empty() && consumers.iter().all(|c| idxs.contains(c));
        let found = patterns.values().find(|(_, idxs)| is_all(idxs))?;
        Some((found.0, &found.1))
    }

    /// True for a node whose only computed input is the output of another.
    fn is_activation_of(&self, idx: usize, activation: usize) -> bool {
        let produced = self.node(idx).output(0);
        let node = self.node(activation);
        let mut others = node.inputs.iter().skip(1);
        node.input(0) == produced && others.all(|name| self.program.constant(name).is_some())
    }

    /// True for a convolution that makes one channel of each, in more than one group.
    fn is_depthwise(&self, node: &Node) -> bool {
        let group = usize::try_from(node.int("group").unwrap_or(1)).unwrap_or(1);
        let weight = node.input(1).and_then(|name| self.program.constant(name));
        let one_each = weight.is_some_and(|weight| weight.shape().starts_with(&[group, 1]));
        node.is_onnx("Conv") && one_each && group > 1
    }
}

/// The operator of a pattern, if it is an activation.
fn spelled(fusion: Fusion) -> Option<&'static str> {
    match fusion {
        Fusion::Silu => Some("Swish"),
        Fusion::HardSwish => Some("HardSwish"),
        Fusion::Gelu => Some("Gelu"),
        Fusion::Clip | Fusion::ConvAdd | Fusion::LayerNormalization | Fusion::Relu => None,
    }
}

#[cfg(test)]
mod tests {
    use qloupe_exec::Program;
    use qloupe_ir::{AttributeValue, Graph, Initializer, Topology, ValueInfo};
    use qloupe_tensor::Tensor;

    use super::*;
    use crate::targets;
    use crate::units::{group_units, unit_support};

    /// The units of a target, each as its operators.
    fn units(nodes: &[Node], target: &str) -> Vec<String> {
        let weight = |shape: &[usize]| Tensor::new(shape, vec![0.5_f32; shape.iter().product()]).unwrap();
        let constants = [
            ("w", weight(&[4, 4, 1, 1])),
            ("each", weight(&[4, 1, 1, 1])),
            ("twice", weight(&[8, 1, 1, 1])),
            ("matrix", weight(&[4, 4])),
            ("slope", weight(&[4, 1, 1])),
            ("three", Tensor::scalar(3_f32)),
            ("low", Tensor::scalar(0_f32)),
            ("high", Tensor::scalar(6_f32)),
        ];
        let graph = Graph {
            inputs: vec![ValueInfo::untyped("x"), ValueInfo::untyped("r")],
            outputs: vec![ValueInfo::untyped("y"), ValueInfo::untyped("z")],
            initializers: constants
                .map(|(name, tensor)| Initializer {
                    name: name.to_owned(),
                    value: tensor.into(),
                })
                .into(),
            nodes: nodes.to_vec(),
            ..Graph::default()
        };
        let program = Program::from_graph(graph.clone(), &|_| 16).unwrap();
        let topology = Topology::new(&graph).unwrap();
        let target = targets::find(target).unwrap();
        let units = group_units(&program, &topology, target, &BTreeSet::new());
        for unit in units.iter().filter(|unit| !unit.weights.is_empty()) {
            assert_eq!(unit.node_idxs[0], unit.main_idx, "the product comes first");
            assert!(matches!(
                unit_support(unit, &program, target),
                targets::Support::Int8(_)
            ));
        }
        units.iter().map(|unit| unit.label(&program)).collect()
    }

    fn conv(weight: &str, group: i64) -> Node {
        Node::new("Conv", "", &["x", weight], &["c"]).with_attribute("group", AttributeValue::Int(group))
    }

    fn op(op_type: &str, inputs: &[&str], output: &str) -> Node {
        Node::new(op_type, "", inputs, &[output])
    }

    /// What reads `c` and ends in `y`; a second network output is a copy of `r`.
    fn after(product: Node, nodes: Vec<Node>) -> Vec<Node> {
        let copy = op("Identity", &["r"], "z");
        [vec![product], nodes, vec![copy]].concat()
    }

    #[test]
    fn what_the_vendors_simulator_does_not_round_is_one_unit() {
        let swish = || vec![op("Sigmoid", &["c"], "s"), op("Mul", &["s", "c"], "y")];
        let hard_swish = vec![
            op("Add", &["c", "three"], "t"),
            op("Clip", &["t", "low", "high"], "l"),
            op("Mul", &["c", "l"], "m"),
            op("Div", &["m", "high"], "y"),
        ];
        let add = |output: &str| op("Add", &["r", "c"], output);
        let cases: Vec<(&str, Vec<Node>, &[&str])> = vec![
            ("Swish", after(conv("w", 1), swish()), &["Conv+Sigmoid+Mul"]),
            (
                "HardSwish",
                after(conv("w", 1), hard_swish),
                &["Conv+Add+Clip+Mul+Div"],
            ),
            (
                "Sigmoid",
                after(conv("w", 1), vec![op("Sigmoid", &["c"], "y")]),
                &["Conv+Sigmoid"],
            ),
            (
                "PRelu",
                after(conv("w", 1), vec![op("PRelu", &["c", "slope"], "y")]),
                &["Conv+PRelu"],
            ),
            (
                "one value added",
                after(conv("w", 1), vec![add("y")]),
                &["Conv+Add"],
            ),
            (
                "Relu after the Add",
                after(conv("w", 1), vec![add("a"), op("Relu", &["a"], "y")]),
                &["Conv+Add+Relu"],
            ),
            (
                "two channels of each, then Swish",
                after(conv("twice", 4), swish()),
                &["Conv+Sigmoid+Mul"],
            ),
            (
                "a product of matrices",
                after(op("MatMul", &["x", "matrix"], "c"), swish()),
                &["MatMul+Sigmoid+Mul"],
            ),
        ];
        for (what, nodes, expected) in cases {
            assert_eq!(units(&nodes, "rk3588")[..expected.len()], *expected, "{what}");
            assert!(
                units(&nodes, "onnxruntime").len() > expected.len() + 1,
                "{what}: it rounds between"
            );
        }
    }

    #[test]
    fn what_it_rounds_stays_apart() {
        let swish = |input: &str| vec![op("Sigmoid", &[input], "s"), op("Mul", &["s", input], "y")];
        let add = |output: &str| op("Add", &["r", "c"], output);
        let cases: Vec<(&str, Vec<Node>, &[&str])> = vec![
            (
                "depthwise",
                after(conv("each", 4), swish("c")),
                &["Conv", "Sigmoid+Mul"],
            ),
            (
                "depthwise, Add",
                after(conv("each", 4), vec![add("y")]),
                &["Conv", "Add"],
            ),
            (
                "ConvTranspose",
                after(op("ConvTranspose", &["x", "w"], "c"), swish("c")),
                &["ConvTranspose", "Sigmoid+Mul"],
            ),
            (
                "another reader",
                after(conv("w", 1), [swish("c"), vec![op("Tanh", &["c"], "t")]].concat()),
                &["Conv", "Sigmoid+Mul", "Tanh"],
            ),
            (
                "Swish after the Add",
                after(conv("w", 1), [vec![add("a")], swish("a")].concat()),
                &["Conv+Add", "Sigmoid+Mul"],
            ),
            (
                "Add after Relu",
                after(
                    conv("w", 1),
                    vec![op("Relu", &["c"], "a"), op("Add", &["a", "r"], "y")],
                ),
                &["Conv+Relu", "Add"],
            ),
            (
                "Relu after LeakyRelu",
                after(
                    conv("w", 1),
                    vec![op("LeakyRelu", &["c"], "a"), op("Relu", &["a"], "y")],
                ),
                &["Conv+LeakyRelu", "Relu"],
            ),
            (
                "a product of matrices, Add",
                after(op("MatMul", &["x", "matrix"], "c"), vec![add("y")]),
                &["MatMul", "Add"],
            ),
            (
                "Sub",
                after(conv("w", 1), vec![op("Sub", &["c", "r"], "y")]),
                &["Conv", "Sub"],
            ),
            (
                "HardSigmoid",
                after(conv("w", 1), vec![op("HardSigmoid", &["c"], "y")]),
                &["Conv", "HardSigmoid"],
            ),
        ];
        for (what, nodes, expected) in cases {
            assert_eq!(units(&nodes, "rk3588")[..expected.len()], *expected, "{what}");
        }
        let is_output = vec![
            Node::new("Conv", "", &["x", "w"], &["z"]),
            op("Sigmoid", &["z"], "y"),
        ];
        assert_eq!(
            units(&is_output, "rk3588"),
            ["Conv", "Sigmoid"],
            "a network output"
        );
    }

    #[test]
    fn of_two_convolutions_the_first_takes_the_add() {
        let nodes = after(
            Node::new("Conv", "", &["x", "w"], &["first"]),
            vec![
                Node::new("Conv", "", &["r", "w"], &["second"]),
                op("Add", &["second", "first"], "y"),
            ],
        );
        // It runs where its Add stood, after the other.
        assert_eq!(units(&nodes, "rk3588")[..2], ["Conv", "Conv+Add"]);
    }
}
