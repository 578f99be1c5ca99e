//! Finds values that can be scaled together.

use std::collections::{BTreeMap, BTreeSet};

use qloupe_exec::Program;
use qloupe_ir::{Node, Topology};

use super::roles::{Constants, Place, Tie, multiplies_channels, multiplies_values, passed_inputs, ties};

/// Values that share their scales, with the constants that take them in.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    /// In execution order.
    pub(crate) values: Vec<String>,
    pub(crate) axis: usize,
    pub(crate) n_channels: usize,
    /// The constants that are multiplied with values, each with its name.
    pub(crate) weights: Vec<(String, Tie)>,
    /// A value that the weights after it multiply.
    pub(crate) read: String,
}

/// What regions are looked for in.
pub(crate) struct Finder<'a> {
    pub(crate) program: &'a Program,
    pub(crate) topology: &'a Topology,
    /// The shapes of one sample.
    pub(crate) shapes: &'a BTreeMap<String, Vec<usize>>,
    /// Whether a Clip can get an upper bound for each channel.
    pub(crate) limits: bool,
}

impl Finder<'_> {
    /// All regions, in execution order; none has a value of `taken`, and no two share one.
    pub(crate) fn regions(&self, mut taken: BTreeSet<String>) -> Vec<Region> {
        let mut regions = Vec::new();
        for node in &self.program.graph().nodes {
            let Some(output) = node.output(0).filter(|name| !taken.contains(*name)) else {
                continue;
            };
            let Some(region) = self.axis(node, output).and_then(|axis| self.grow(output, axis)) else {
                continue;
            };
            if region.values.iter().any(|name| taken.contains(name)) {
                continue;
            }
            taken.extend(region.values.iter().cloned());
            regions.push(region);
        }
        regions
    }

    /// The axis of the channels of what a node may produce.
    fn axis(&self, node: &Node, output: &str) -> Option<usize> {
        let shape = self.shapes.get(output)?;
        match node.op_type.as_str() {
            "Conv" | "ConvTranspose" | "Gemm" => Some(1),
            "LayerNormalization" | "MatMul" => shape.len().checked_sub(1),
            // The only axis of the constant that is longer than 1.
            "Mul" => {
                let constant = node.inputs.iter().find_map(|name| self.program.constant(name))?;
                let longest = constant.shape().iter().position(|&dim| dim > 1)?;
                (shape.len() + longest).checked_sub(constant.rank())
            }
            _ => None,
        }
    }

    fn grow(&self, start: &str, axis: usize) -> Option<Region> {
        let graph = self.program.graph();
        let constants = Constants::new(self.program);
        let n = *self.shapes.get(start)?.get(axis)?;
        let mut values: BTreeSet<&str> = BTreeSet::new();
        let mut touched: BTreeSet<usize> = BTreeSet::new();
        let mut waiting = vec![start];
        while let Some(name) = waiting.pop() {
            let name = self.topology.values().find(|known| *known == name)?;
            if !values.insert(name) {
                continue;
            }
            let shape = self.shapes.get(name)?;
            let is_output = graph.outputs.iter().any(|output| output.name == name);
            if is_output || shape.get(axis) != Some(&n) || n < 2 {
                return None;
            }
            let producer = self.topology.producer(name)?;
            let consumers = self.topology.consumers(name);
            for &idx in consumers.iter().chain([&producer]) {
                touched.insert(idx);
                let node = &graph.nodes[idx];
                if multiplies_values(node, &constants) {
                    waiting.push(self.other_end(node, name, &constants, n)?);
                    continue;
                }
                if !self.passes(node, &constants, axis, n) {
                    continue;
                }
                waiting.extend(passed_inputs(node, &constants));
                waiting.extend(node.outputs.iter().map(String::as_str));
            }
        }
        let mut weights = Vec::new();
        let mut read = None;
        for idx in touched {
            let node = &graph.nodes[idx];
            if node.is_onnx("Clip") && !self.limits {
                return None;
            }
            for tie in ties(node, &constants, &values, n)? {
                if !self.is_aligned(node, &constants, &tie, axis) {
                    return None;
                }
                if tie.role == super::Role::Consumes {
                    read = node.input(0).map(str::to_owned);
                }
                if tie.is_weight {
                    weights.push((node.inputs[tie.input_idx].clone(), tie));
                }
            }
        }
        let in_order = self.program.values().filter(|name| values.contains(name));
        Some(Region {
            values: in_order.map(str::to_owned).collect(),
            axis,
            n_channels: n,
            weights,
            read: read?,
        })
    }

    /// The value at the other end of a product of two values: its result, or the factor that a constant gave its channels, as
    /// in normalizations that are spelled out.
    fn other_end<'n>(
        &self,
        node: &'n Node,
        name: &str,
        constants: &Constants<'_>,
        n: usize,
    ) -> Option<&'n str> {
        let output = node.output(0)?;
        if name != output {
            let same_rank = self.shapes.get(name)?.len() == self.shapes.get(output)?.len();
            return same_rank.then_some(output);
        }
        let is_factor = |input: &&str| {
            let producer = self.topology.producer(input);
            let producer = producer.map(|idx| &self.program.graph().nodes[idx]);
            producer.is_some_and(|node| multiplies_channels(node, constants, n))
        };
        let mut factors = node.inputs.iter().map(String::as_str).filter(is_factor);
        factors.next().filter(|_| factors.next().is_none())
    }

    /// True for a node whose inputs and outputs are scaled alike.
    fn passes(&self, node: &Node, constants: &Constants<'_>, axis: usize, n: usize) -> bool {
        let Some(output) = node.output(0) else {
            return false;
        };
        let mut both: BTreeSet<&str> = passed_inputs(node, constants).into_iter().collect();
        let inputs = both.clone();
        both.insert(output);
        let has_weight = |tie: &Tie| tie.is_weight;
        let passes = ties(node, constants, &both, n).is_some_and(|ties| !ties.iter().any(has_weight));
        let shape = |name: &str| self.shapes.get(name).map(Vec::as_slice).unwrap_or_default();
        let result = shape(output);
        let keeps = |input: &&str| {
            let input = shape(input);
            match node.op_type.as_str() {
                "Add" => input == result,
                // [N, C, 1, 1] and [N, C].
                "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => {
                    let rest = |shape: &[usize]| shape.iter().skip(2).all(|&dim| dim == 1);
                    axis == 1 && input.get(..2) == result.get(..2) && rest(input) && rest(result)
                }
                "AveragePool" | "GlobalAveragePool" | "GlobalMaxPool" | "MaxPool" => axis == 1,
                "Clip" => axis == 1 && result.len() == 4,
                _ => true,
            }
        };
        passes && inputs.iter().all(keeps)
    }

    /// True where a constant with one long axis has it where the channels are.
    fn is_aligned(&self, node: &Node, constants: &Constants<'_>, tie: &Tie, axis: usize) -> bool {
        let written = node
            .output(0)
            .and_then(|name| self.shapes.get(name))
            .map_or(0, Vec::len);
        let read = node
            .input(0)
            .and_then(|name| self.shapes.get(name))
            .map_or(0, Vec::len);
        let is_added = node.is_onnx("Add") || node.is_onnx("Mul");
        match tie.place {
            Place::Flat if is_added => {
                let Some(constant) = constants.get(&node.inputs[tie.input_idx]) else {
                    return false;
                };
                let longest = constant.shape().iter().position(|&dim| dim > 1);
                constant.rank() <= written
                    && longest.is_some_and(|longest| longest + written - constant.rank() == axis)
            }
            Place::Flat if node.is_onnx("LayerNormalization") => axis + 1 == written,
            _ if node.is_onnx("MatMul") => {
                axis + 1
                    == if tie.role == super::Role::Consumes {
                        read
                    } else {
                        written
                    }
            }
            _ => axis == 1,
        }
    }
}
