//! Scales the channels of values that nothing but linear operators ties to the rest of the network.
//!
//! `x'[c] = x[c] / s[c]` with `s > 0`: what produces `x` is divided by `s`, operators that commute with a positive factor
//! (Relu, pools) pass it on, and what consumes it is multiplied by `s`. The float network stays the same up to rounding.
//!
//! Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1, there for
//! a pair of layers; here for everything that shares the channels: residual branches, several consumers.

mod region;
mod roles;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use qloupe_exec::Program;
use qloupe_ir::{Graph, Node};
use qloupe_tensor::Tensor;

pub(crate) use region::{Finder, Region};
pub(crate) use roles::{Constants, Place, Role, Tie};
use roles::{limit, ties};

/// Values that are divided, channel by channel, by the same scales.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaling {
    /// The pass that chose the scales.
    pub pass: String,
    /// The values: `original = rewritten * scale[c]`.
    pub values: Vec<String>,
    /// The axis of the channels, not negative.
    pub axis: usize,
    /// One for each channel, positive.
    pub scale: Vec<f32>,
}

/// A graph that is being rewritten, with the constants that are no longer those of its program.
pub(crate) struct Rewrite<'p> {
    pub(crate) graph: Graph,
    pub(crate) constants: Constants<'p>,
    /// Values that a rewrite inserts, each with the value that it equals.
    pub(crate) inserted: BTreeMap<String, String>,
}

impl<'p> Rewrite<'p> {
    pub(crate) fn new(graph: &Graph, program: &'p Program) -> Self {
        Self {
            graph: graph.clone(),
            constants: Constants::new(program),
            inserted: BTreeMap::new(),
        }
    }

    /// Scales values.
    ///
    /// # Errors
    /// What does not fit: a value that does not exist, a node that cannot take the scales.
    pub(crate) fn scale(&mut self, scaling: &Scaling) -> Result<(), String> {
        let values: BTreeSet<&str> = scaling.values.iter().map(String::as_str).collect();
        let produced = |name: &str| {
            let mut outputs = self.graph.nodes.iter().flat_map(|node| &node.outputs);
            outputs.any(|output| output == name) && self.graph.outputs.iter().all(|o| o.name != name)
        };
        if let Some(name) = values.iter().find(|name| !produced(name)) {
            return Err(format!(
                "expected a value that a node produces within the model, got \"{name}\""
            ));
        }
        let mut limits = Vec::new();
        for idx in 0..self.graph.nodes.len() {
            let node = &self.graph.nodes[idx];
            let Some(found) = ties(node, &self.constants, &values, scaling.scale.len()) else {
                let op_type = &node.op_type;
                return Err(format!("node \"{}\" ({op_type}) cannot take it", node.label()));
            };
            if found.is_empty()
                && node.is_onnx("Clip")
                && node.outputs.iter().any(|o| values.contains(o.as_str()))
            {
                limits.push(idx);
            }
            for tie in found {
                self.absorb(idx, &tie, &scaling.scale)?;
            }
        }
        for idx in limits.into_iter().rev() {
            self.limit(idx, scaling)?;
        }
        Ok(())
    }

    /// Scales a constant of a node, under a name of its own where others use it, too.
    fn absorb(&mut self, node_idx: usize, tie: &Tie, scale: &[f32]) -> Result<(), String> {
        let node = &self.graph.nodes[node_idx];
        let mut name = node.inputs[tie.input_idx].clone();
        let scaled = self.constants.scaled(&name, tie, scale)?;
        if n_uses(&self.graph, &name) > 1 {
            name = format!("{}_input{}", node.outputs[0], tie.input_idx);
            self.graph.nodes[node_idx].inputs[tie.input_idx].clone_from(&name);
        }
        self.constants.changed.insert(name, scaled);
        Ok(())
    }

    /// Replaces the upper bound of a Clip by one for each channel: `Min(Clip(x, 0, max(l)), l)` with `l[c] = high / s[c]`. The
    /// Clip stays, so that what comes before the Min has the range of what comes after.
    fn limit(&mut self, node_idx: usize, scaling: &Scaling) -> Result<(), String> {
        let node = &mut self.graph.nodes[node_idx];
        let high = limit(node, &self.constants).ok_or("the Clip does not begin at 0")?;
        let limits: Vec<f32> = scaling.scale.iter().map(|s| high / s).collect();
        let highest = limits.iter().copied().fold(0.0, f32::max);
        let value = node.outputs[0].clone();
        let clipped = format!("{value}_clipped");
        let (high_name, limits_name) = (format!("{clipped}_high"), format!("{value}_limits"));
        node.inputs[2].clone_from(&high_name);
        node.outputs[0].clone_from(&clipped);
        let shape = [1, limits.len(), 1, 1];
        let limits = Tensor::new(&shape, limits).map_err(|e| e.to_string())?;
        let scalar = Tensor::new(&[], vec![highest]).map_err(|e| e.to_string())?;
        self.graph.set_initializer(&high_name, scalar);
        self.graph.set_initializer(&limits_name, limits);
        let min = Node::new("Min", &limits_name, &[&clipped, &limits_name], &[&value]);
        self.graph.nodes.insert(node_idx + 1, min);
        self.inserted.insert(clipped, value);
        Ok(())
    }

    /// The graph with its changed constants.
    pub(crate) fn finish(mut self) -> Graph {
        let changed = self.constants.changed;
        // A constant may be computed by a node.
        self.graph
            .nodes
            .retain(|node| !node.outputs.iter().any(|output| changed.contains_key(output)));
        for (name, tensor) in changed {
            self.graph.set_initializer(&name, tensor);
        }
        self.graph
    }
}

/// How often nodes use a constant, those of subgraphs too.
fn n_uses(graph: &Graph, name: &str) -> usize {
    let of_node = |node: &Node| {
        let own = node.inputs.iter().filter(|input| *input == name).count();
        own + node
            .subgraphs()
            .map(|(_, inner)| n_uses(inner, name))
            .sum::<usize>()
    };
    graph.nodes.iter().map(of_node).sum()
}
