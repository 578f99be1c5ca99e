//! Scales the channels of values that nothing but linear operators ties to the rest of the network.
//!
//! `x'[c] = x[c] / s[c]` with `s > 0`: what produces `x` is divided by `s`, operators that commute with a positive factor
//! (Relu, pools) pass it on, and what consumes it is multiplied by `s`. The float network stays the same up to rounding. The
//! channels of a Concat have the scales of its members; members that cannot be scaled have 1.
//!
//! Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1, there for
//! a pair of layers; here for everything that shares the channels: residual branches, several consumers.

mod channels;
mod finder;
mod joins;
mod region;
mod roles;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use qloupe_exec::Program;
use qloupe_ir::{Graph, Node};
use qloupe_tensor::Tensor;

pub(crate) use finder::{Finder, keeps_channels};
pub(crate) use joins::Joins;
use joins::{Join, Part};
#[cfg(test)]
pub(crate) use region::Joined;
pub(crate) use region::{Region, RegionWeight};
pub(crate) use roles::{CHANNELWISE, Constants, Place, Role};
use roles::{Tie, alike_inputs, ties};

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
    joins: Joins,
}

/// The scalings of values.
struct Scales<'s> {
    by_value: BTreeMap<&'s str, &'s Scaling>,
}

impl<'s> Scales<'s> {
    fn new(all: &'s [Scaling]) -> Self {
        let values = all
            .iter()
            .flat_map(|scaling| scaling.values.iter().map(move |name| (name.as_str(), scaling)));
        Self {
            by_value: values.collect(),
        }
    }

    fn of(&self, name: &str) -> Option<&'s Scaling> {
        self.by_value.get(name).copied()
    }

    /// True where the whole is scaled as its parts are, or nothing is. What is in no scaling is not scaled.
    fn fit(&self, join: &Join) -> bool {
        let whole = self.of(&join.whole);
        let fits = |part: &Part| {
            let own = self.of(&part.value);
            let has_axis = [whole, own]
                .into_iter()
                .flatten()
                .all(|scaling| scaling.axis == join.axis);
            let scale_of = |scaling: Option<&Scaling>, idx: usize| {
                scaling.map_or(Some(1.0), |s| s.scale.get(idx).copied())
            };
            let mut channels = 0..part.n_channels;
            has_axis
                && own.is_none_or(|own| own.scale.len() == part.n_channels)
                && channels.all(|idx| {
                    let pair = scale_of(whole, part.offset + idx).zip(scale_of(own, idx));
                    pair.is_some_and(|(a, b)| a.to_bits() == b.to_bits())
                })
        };
        let n_channels: usize = join.parts.iter().map(|part| part.n_channels).sum();
        join.parts.iter().all(fits) && whole.is_none_or(|whole| whole.scale.len() == n_channels)
    }
}

impl<'p> Rewrite<'p> {
    /// The joins are those of the graph.
    pub(crate) fn new(graph: &Graph, program: &'p Program, joins: Joins) -> Self {
        Self {
            joins,
            graph: graph.clone(),
            constants: Constants::new(program),
            inserted: BTreeMap::new(),
        }
    }

    /// Scales values. `all` are the scalings of the graph, which fit one another where a node joins their values.
    ///
    /// # Errors
    /// What does not fit: a value that does not exist, a node that cannot take the scales.
    pub(crate) fn scale(&mut self, scaling: &Scaling, all: &[Scaling]) -> Result<(), String> {
        self.require_inner(&scaling.values)?;
        let scales = Scales::new(all);
        let own = |name: &str| scaling.values.iter().any(|value| value == name);
        let mut limits = Vec::new();
        for idx in 0..self.graph.nodes.len() {
            let node = &self.graph.nodes[idx];
            let writes = node.outputs.iter().any(|name| own(name));
            let reads = node.used_values().into_iter().any(own);
            if !writes && !reads {
                continue;
            }
            let Some(found) = self.fitting_ties(node, &scales) else {
                let op_type = &node.op_type;
                return Err(format!("node \"{}\" ({op_type}) cannot take it", node.label()));
            };
            if writes && found.is_empty() && node.is_onnx("Clip") {
                limits.push(idx);
            }
            // What a node reads may be scaled by one, what it writes by another.
            let is_own = |tie: &Tie| if tie.role == Role::Consumes { reads } else { writes };
            for tie in found.into_iter().filter(is_own) {
                self.absorb(idx, &tie, &scaling.scale)?;
            }
        }
        for idx in limits.into_iter().rev() {
            self.limit(idx, scaling)?;
        }
        Ok(())
    }

    /// Values that are rewritten are those that nodes produce and the network keeps to itself.
    pub(super) fn require_inner(&self, values: &[String]) -> Result<(), String> {
        let is_inner = |name: &String| {
            let mut outputs = self.graph.nodes.iter().flat_map(|node| &node.outputs);
            outputs.any(|output| output == name) && !self.graph.is_output(name)
        };
        match values.iter().find(|name| !is_inner(name)) {
            Some(name) => Err(format!(
                "expected a value that a node produces within the model, got \"{name}\""
            )),
            None => Ok(()),
        }
    }

    /// The constants of a node that take scales in; `None` for a node that cannot take them, or whose values are not scaled as
    /// they would have to be.
    fn fitting_ties(&self, node: &Node, scales: &Scales<'_>) -> Option<Vec<Tie>> {
        if let Some(join) = self.joins.of(node) {
            return scales.fit(join).then(Vec::new);
        }
        let n_of = |name: &str| Some(scales.of(name)?.scale.len());
        let found = ties(node, &self.constants, &n_of)?;
        let inputs = alike_inputs(node, &self.constants, &found, &n_of);
        let of_output = scales.of(node.output(0)?);
        let is_alike = |name: &&str| {
            let pair = scales.of(name).zip(of_output);
            pair.is_some_and(|(a, b)| a.axis == b.axis && a.scale == b.scale)
        };
        inputs.iter().all(is_alike).then_some(found)
    }

    /// Scales a constant of a node, under a name of its own where others use it, too.
    fn absorb(&mut self, node_idx: usize, tie: &Tie, scale: &[f32]) -> Result<(), String> {
        let name = &self.graph.nodes[node_idx].inputs[tie.input_idx];
        let scaled = self.constants.scaled(name, tie, scale)?;
        let name = self.own_input(node_idx, tie.input_idx);
        self.constants.changed.insert(name, scaled);
        Ok(())
    }

    /// The name of a constant that only this input of a node is: another one where others use it, too, or where the node had none.
    pub(super) fn own_input(&mut self, node_idx: usize, input_idx: usize) -> String {
        let node = &self.graph.nodes[node_idx];
        if let Some(name) = node
            .input(input_idx)
            .filter(|name| n_uses(&self.graph, name) == 1)
        {
            return name.to_owned();
        }
        let name = format!("{}_input{input_idx}", node.outputs[0]);
        let inputs = &mut self.graph.nodes[node_idx].inputs;
        inputs.resize(inputs.len().max(input_idx + 1), String::new());
        inputs[input_idx].clone_from(&name);
        name
    }

    /// Replaces the upper bound of a Clip by one for each channel: `Min(Clip(x, 0, max(l)), l)` with `l[c] = high / s[c]`. The
    /// Clip stays, so that what comes before the Min has the range of what comes after.
    fn limit(&mut self, node_idx: usize, scaling: &Scaling) -> Result<(), String> {
        let node = &mut self.graph.nodes[node_idx];
        let high = self.constants.limit(node).ok_or("the Clip does not begin at 0")?;
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
