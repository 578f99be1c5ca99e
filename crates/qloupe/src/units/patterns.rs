//! Operators that exporters spell out, and that targets execute as one.

use qloupe_ir::Node;

use super::Grouping;
use crate::targets::Fusion;

impl Grouping<'_> {
    /// The pattern that a node is a part of and its nodes, in order; each is found at one of its nodes.
    pub(super) fn pattern(&self, idx: usize, node: &Node) -> Option<(Fusion, Vec<usize>)> {
        let (fusion, mut idxs) = match node.op_type.as_str() {
            "Sigmoid" => (Fusion::Silu, self.silu(idx, node)?),
            "Add" | "HardSigmoid" => (Fusion::HardSwish, self.hard_swish(idx, node)?),
            "Sqrt" => (Fusion::LayerNormalization, self.layer_normalization(idx, node)?),
            "Erf" => (Fusion::Gelu, self.gelu(idx, node)?),
            _ => return None,
        };
        idxs.sort_unstable();
        self.target.fuses(fusion).then_some((fusion, idxs))
    }

    pub(super) fn node(&self, idx: usize) -> &Node {
        &self.program.graph().nodes[idx]
    }

    /// The node of an operator that produces a value for one consumer only.
    fn hidden_producer(&self, name: &str, op_type: &str) -> Option<usize> {
        let idx = self
            .topology
            .producer(name)
            .filter(|&idx| self.node(idx).is_onnx(op_type))?;
        self.only_consumer(idx).map(|_| idx)
    }

    /// The computed input of a node with two inputs whose other input is a constant of one element.
    fn scaled_input<'n>(&self, node: &'n Node) -> Option<&'n str> {
        let [a, b] = node.inputs.as_slice() else {
            return None;
        };
        let is_scalar = |name: &str| self.program.constant(name).is_some_and(|t| t.len() == 1);
        let is_computed = |name: &str| self.program.constant(name).is_none();
        match (is_computed(a), is_computed(b)) {
            (true, false) if is_scalar(b) => Some(a),
            (false, true) if is_scalar(a) && !node.is_onnx("Div") => Some(b),
            _ => None,
        }
    }

    /// The only consumer of a node, if it is of an operator and its other input is a constant.
    fn then_constant(&self, idx: usize, op_type: &str) -> Option<usize> {
        let next = self
            .only_consumer(idx)
            .filter(|&n| self.node(n).is_onnx(op_type))?;
        let constant = self
            .node(next)
            .inputs
            .iter()
            .any(|name| self.program.constant(name).is_some());
        constant.then_some(next)
    }

    /// `(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon)`, times a constant, plus a constant (or not).
    fn layer_normalization(&self, sqrt: usize, node: &Node) -> Option<Vec<usize>> {
        let add = self.hidden_producer(node.input(0)?, "Add")?;
        let variance = self.hidden_producer(self.scaled_input(self.node(add))?, "ReduceMean")?;
        let squared = self.node(variance).input(0)?;
        let square = self
            .hidden_producer(squared, "Pow")
            .filter(|&pow| self.is_squared(pow))
            .or_else(|| {
                let mul = self.hidden_producer(squared, "Mul")?;
                (self.node(mul).input(0) == self.node(mul).input(1)).then_some(mul)
            })?;
        let deviation = self.node(square).input(0)?;
        let sub = self
            .topology
            .producer(deviation)
            .filter(|&idx| self.node(idx).is_onnx("Sub"))?;
        let mean = self.hidden_producer(self.node(sub).input(1)?, "ReduceMean")?;
        let div = self
            .only_consumer(sqrt)
            .filter(|&n| self.node(n).is_onnx("Div"))?;
        let inside = [square.min(div), square.max(div)];
        let fits = self.node(mean).input(0) == self.node(sub).input(0)
            && self.node(div).input(0) == Some(deviation)
            && self.topology.consumers(deviation) == inside
            && self.may_hide(deviation);
        if !fits {
            return None;
        }
        let mut idxs = vec![mean, sub, square, variance, add, sqrt, div];
        if let Some(scale) = self.then_constant(div, "Mul") {
            idxs.push(scale);
            idxs.extend(self.then_constant(scale, "Add"));
        }
        Some(idxs)
    }

    fn is_squared(&self, pow: usize) -> bool {
        let exponent = self
            .node(pow)
            .input(1)
            .and_then(|name| self.program.constant(name));
        exponent
            .and_then(|t| t.to_f64_vec().ok())
            .is_some_and(|v| v == [2.0])
    }

    /// `x * (1 + erf(x / sqrt(2))) / 2`: the half stands before, between or behind.
    fn gelu(&self, erf: usize, node: &Node) -> Option<Vec<usize>> {
        let before = node.input(0)?;
        let before = self
            .hidden_producer(before, "Div")
            .or_else(|| self.hidden_producer(before, "Mul"))?;
        let x = self.scaled_input(self.node(before))?;
        let add = self.then_constant(erf, "Add")?;
        let mut idxs = vec![before, erf, add];
        let mut last = add;
        // At most a Mul by the half, one by x or by half of x, and one more by the half.
        while let Some(mul) = self
            .only_consumer(last)
            .filter(|&n| idxs.len() < 6 && self.node(n).is_onnx("Mul"))
        {
            let produced = self.node(last).output(0);
            let other = self
                .node(mul)
                .inputs
                .iter()
                .map(String::as_str)
                .find(|name| Some(*name) != produced)?;
            if other != x && self.scaled_input(self.node(mul)).is_none() {
                let half = self.hidden_producer(other, "Mul");
                match half.filter(|&n| self.scaled_input(self.node(n)) == Some(x)) {
                    Some(half) => idxs.push(half),
                    None => break,
                }
            }
            idxs.push(mul);
            last = mul;
        }
        let multiplies_x = idxs[3..]
            .iter()
            .any(|&idx| self.node(idx).inputs.iter().any(|name| name == x));
        multiplies_x.then_some(idxs)
    }

    /// Sigmoid and the Mul that multiplies it with its own input.
    fn silu(&self, idx: usize, node: &Node) -> Option<Vec<usize>> {
        let next = self.only_consumer(idx)?;
        let mul = &self.program.graph().nodes[next];
        let other = mul
            .inputs
            .iter()
            .find(|name| Some(name.as_str()) != node.output(0))?;
        (mul.is_onnx("Mul") && mul.inputs.len() == 2 && Some(other.as_str()) == node.input(0))
            .then(|| vec![idx, next])
    }

    /// `x + 3`, Clip to 0..6 (or HardSigmoid), times x, divided by 6 (or not): all of one input.
    fn hard_swish(&self, idx: usize, node: &Node) -> Option<Vec<usize>> {
        let nodes = &self.program.graph().nodes;
        let mut idxs = vec![idx];
        let x = if node.is_onnx("HardSigmoid") {
            node.input(0)?
        } else if node.is_onnx("Add") {
            let x = node
                .inputs
                .iter()
                .find(|name| self.program.constant(name).is_none())?;
            let three = node.inputs.iter().find_map(|name| self.program.constant(name))?;
            let clip = self.only_consumer(idx).filter(|&n| nodes[n].is_onnx("Clip"))?;
            if three.len() != 1 {
                return None;
            }
            idxs.push(clip);
            x.as_str()
        } else {
            return None;
        };
        let mul = self
            .only_consumer(*idxs.last()?)
            .filter(|&n| nodes[n].is_onnx("Mul"))?;
        if !nodes[mul].inputs.iter().any(|name| name == x) {
            return None;
        }
        idxs.push(mul);
        let scaled = |n: &usize| {
            let node = &nodes[*n];
            (node.is_onnx("Div") || node.is_onnx("Mul"))
                && node
                    .inputs
                    .iter()
                    .any(|name| self.program.constant(name).is_some_and(|t| t.len() == 1))
        };
        if node.is_onnx("Add") {
            idxs.extend(self.only_consumer(mul).filter(scaled));
        }
        Some(idxs)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use qloupe_exec::Program;
    use qloupe_ir::{Graph, Initializer, Topology, ValueInfo};
    use qloupe_tensor::Tensor;

    use super::*;
    use crate::targets;
    use crate::units::group_units;

    fn groups(nodes: Vec<Node>, target: &str) -> Vec<(Option<Fusion>, Vec<usize>)> {
        let constant = |(name, tensor): (&str, Tensor)| Initializer {
            name: name.to_owned(),
            value: tensor.into(),
        };
        let constants = [
            ("half", Tensor::scalar(0.5_f32)),
            ("one", Tensor::scalar(1_f32)),
            ("two", Tensor::scalar(2_f32)),
            ("gamma", Tensor::vector(vec![1_f32, 2.0])),
        ];
        let graph = Graph {
            inputs: vec![ValueInfo::untyped("x")],
            outputs: vec![ValueInfo::untyped("y")],
            initializers: constants.into_iter().map(constant).collect(),
            nodes,
            ..Graph::default()
        };
        let program = Program::from_graph(graph.clone(), &|_| 13).unwrap();
        let topology = Topology::new(&graph).unwrap();
        let units = group_units(
            &program,
            &topology,
            targets::find(target).unwrap(),
            &BTreeSet::new(),
        );
        units
            .into_iter()
            .map(|unit| (unit.pattern, unit.node_idxs))
            .collect()
    }

    fn layer_normalization() -> Vec<Node> {
        vec![
            Node::new("Relu", "", &["x"], &["a"]),
            Node::new("ReduceMean", "", &["a"], &["m"]),
            Node::new("Sub", "", &["a", "m"], &["d"]),
            Node::new("Pow", "", &["d", "two"], &["p"]),
            Node::new("ReduceMean", "", &["p"], &["v"]),
            Node::new("Add", "", &["v", "one"], &["e"]),
            Node::new("Sqrt", "", &["e"], &["s"]),
            Node::new("Div", "", &["d", "s"], &["n"]),
            Node::new("Mul", "", &["n", "gamma"], &["g"]),
            Node::new("Add", "", &["g", "gamma"], &["y"]),
        ]
    }

    #[test]
    fn a_layer_normalization_is_one_unit() {
        let whole = (Some(Fusion::LayerNormalization), (1..10).collect());
        assert_eq!(
            groups(layer_normalization(), "onnxruntime"),
            [(None, vec![0]), whole]
        );
        assert_eq!(
            groups(layer_normalization(), "fp16").len(),
            10,
            "it fuses nothing"
        );
        let mut read_twice = layer_normalization();
        read_twice[9].inputs[1] = "d".to_owned();
        assert_eq!(
            groups(read_twice, "onnxruntime").len(),
            10,
            "the deviation is needed elsewhere"
        );
    }

    #[test]
    fn gelu_is_one_unit_wherever_its_half_stands() {
        let head = |input: &str| {
            vec![
                Node::new("Div", "", &[input, "two"], &["h"]),
                Node::new("Erf", "", &["h"], &["e"]),
                Node::new("Add", "", &["e", "one"], &["a"]),
            ]
        };
        let tails = [
            vec![
                Node::new("Mul", "", &["x", "a"], &["p"]),
                Node::new("Mul", "", &["p", "half"], &["y"]),
            ],
            vec![
                Node::new("Mul", "", &["half", "a"], &["p"]),
                Node::new("Mul", "", &["p", "x"], &["y"]),
            ],
            vec![
                Node::new("Mul", "", &["x", "half"], &["p"]),
                Node::new("Mul", "", &["a", "p"], &["y"]),
            ],
        ];
        for tail in tails {
            let nodes = [head("x"), tail].concat();
            for target in ["onnxruntime", "rk3588"] {
                assert_eq!(
                    groups(nodes.clone(), target),
                    [(Some(Fusion::Gelu), (0..5).collect())]
                );
            }
        }
        let unrelated = [head("x"), vec![Node::new("Mul", "", &["a", "gamma"], &["y"])]].concat();
        assert_eq!(groups(unrelated, "onnxruntime").len(), 4);
    }
}
