//! Takes a constant of each channel away from values, and adds what it did to the biases after them.
//!
//! `x'[c] = x[c] - t[c]`: the bias of what produces `x` is less by `t`, and that of what multiplies `x` by `W` more by `W t`. A
//! Relu or Clip between does the same to `x'` as to `x` only where it does nothing to either, so this holds for the inputs that
//! `t` was chosen for. A convolution that reads `x` has no padding: the zeros around `x'` would be `-t`.
//!
//! Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1.3.

use std::collections::{BTreeMap, BTreeSet};

use qloupe_exec::Program;
use qloupe_ir::{Node, Topology};
use qloupe_tensor::Tensor;

use super::scale_values::{CHANNELWISE, Constants, Place, Rewrite, keeps_channels};

/// Values that are less by the same constants, channel by channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Shift {
    /// The pass that chose the constants.
    pub pass: String,
    /// The values: `original = rewritten + shift[c]`.
    pub values: Vec<String>,
    /// One for each channel of axis 1.
    pub shift: Vec<f32>,
}

/// The axis of the channels.
pub(crate) const AXIS: usize = 1;

/// What a node does with values that are shifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// It writes them: its bias is less.
    Produces,
    /// It reads and writes them.
    Passes,
    /// It multiplies them: its bias is more.
    Consumes,
}

/// The role of a node that reads or writes values; `None` for one that cannot take the shift.
fn role(node: &Node, constants: &Constants<'_>, values: &BTreeSet<&str>) -> Option<Role> {
    let is_shifted = |name: &&str| values.contains(name);
    let used = node.used_values();
    let n_read = used.iter().filter(|name| is_shifted(name)).count();
    let is_first = node.input(0).is_some_and(|name| values.contains(name));
    let writes = node.output(0).is_some_and(|name| values.contains(name));
    let is_onnx = node.domain.is_empty() && node.outputs.len() == 1;
    match (is_onnx, writes, n_read) {
        (true, true, 0) => multiplies(node, constants).then_some(Role::Produces),
        (true, true, 1) => (is_first && passes(node, constants)).then_some(Role::Passes),
        (true, false, 1) => {
            (is_first && multiplies(node, constants) && !has_padding(node)).then_some(Role::Consumes)
        }
        _ => None,
    }
}

fn passes(node: &Node, constants: &Constants<'_>) -> bool {
    let counts_padding = node.int("count_include_pad").unwrap_or(0) != 0;
    let is_bounded = !node.is_onnx("Clip") || constants.limit(node).is_some();
    CHANNELWISE.contains(&node.op_type.as_str()) && is_bounded && !counts_padding
}

/// True for a convolution or product with a constant weight, whose bias is added as it is.
fn multiplies(node: &Node, constants: &Constants<'_>) -> bool {
    let is_one = |name: &str| {
        node.float(name)
            .is_none_or(|value| value.to_bits() == 1.0_f32.to_bits())
    };
    let is_plain = match node.op_type.as_str() {
        "Conv" => true,
        "Gemm" => is_one("alpha") && is_one("beta") && node.int("transA").unwrap_or(0) == 0,
        _ => false,
    };
    let n = n_written(node, constants);
    let has_bias = |name: &str| {
        constants
            .floats(name)
            .is_some_and(|bias| bias.len() == n && bias.shape().contains(&n))
    };
    is_plain && n > 0 && node.input(2).is_none_or(has_bias)
}

fn has_padding(node: &Node) -> bool {
    let is_explicit = matches!(node.string("auto_pad"), None | Some("NOTSET" | "VALID"));
    let pads = node.ints("pads").unwrap_or_default();
    node.is_onnx("Conv") && (!is_explicit || pads.iter().any(|&pad| pad != 0))
}

/// Where the channels that a product writes and reads are in its weight.
fn places(node: &Node) -> [Place; 2] {
    if node.is_onnx("Conv") {
        let groups = usize::try_from(node.int("group").unwrap_or(1)).unwrap_or(1);
        return [Place::Axis(0), Place::Grouped(groups.max(1))];
    }
    let is_turned = node.int("transB").unwrap_or(0) != 0;
    [
        Place::Axis(usize::from(!is_turned)),
        Place::Axis(usize::from(is_turned)),
    ]
}

/// How many channels a product writes; 0 without a constant weight.
fn n_written(node: &Node, constants: &Constants<'_>) -> usize {
    let weight = node.input(1).and_then(|name| constants.floats(name));
    let fits = |weight: &&Tensor| weight.rank() >= 2 && !weight.is_empty();
    weight
        .filter(fits)
        .map_or(0, |weight| places(node)[0].n_channels(weight.shape()))
}

/// A product and what follows it up to the products that read it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chain {
    /// The first is what the product writes.
    pub(crate) values: Vec<String>,
    /// The least upper bound of Clips.
    pub(crate) limit: Option<f32>,
}

/// The chains of a graph. `shapes` are those of one sample.
pub(crate) fn find_chains(
    program: &Program,
    topology: &Topology,
    shapes: &BTreeMap<String, Vec<usize>>,
) -> Vec<Chain> {
    let nodes = &program.graph().nodes;
    let products = nodes
        .iter()
        .filter(|node| multiplies(node, &Constants::new(program)));
    let chain = |node: &Node| chain(program, topology, shapes, node.output(0)?);
    products.filter_map(chain).collect()
}

fn chain(
    program: &Program,
    topology: &Topology,
    shapes: &BTreeMap<String, Vec<usize>>,
    first: &str,
) -> Option<Chain> {
    let graph = program.graph();
    let constants = Constants::new(program);
    let n = *shapes.get(first)?.get(AXIS)?;
    let mut values = vec![first.to_owned()];
    let mut limits: Vec<f32> = Vec::new();
    let mut next = 0;
    while let Some(name) = values.get(next).cloned() {
        next += 1;
        let is_output = graph.is_output(&name);
        let consumers = topology.consumers(&name);
        if is_output || consumers.is_empty() || shapes.get(&name)?.get(AXIS) != Some(&n) {
            return None;
        }
        for &idx in consumers {
            let node = &graph.nodes[idx];
            if passes(node, &constants) {
                let output = node.output(0)?;
                let (read, written) = (shapes.get(&name)?, shapes.get(output)?);
                if !keeps_channels(node, read, written, AXIS) {
                    return None;
                }
                limits.extend(constants.limit(node));
                values.push(output.to_owned());
            }
        }
    }
    let shifted: BTreeSet<&str> = values.iter().map(String::as_str).collect();
    let touched = values.iter().flat_map(|name| {
        topology
            .consumers(name)
            .iter()
            .copied()
            .chain(topology.producer(name))
    });
    let mut touched = touched.map(|idx| role(&graph.nodes[idx], &constants, &shifted));
    touched.all(|role| role.is_some()).then(|| Chain {
        limit: limits.into_iter().reduce(f32::min),
        values,
    })
}

impl Rewrite<'_> {
    /// Takes constants away from values.
    ///
    /// # Errors
    /// What does not fit: a value that does not exist, a node that cannot take them.
    pub(crate) fn shift(&mut self, shift: &Shift) -> Result<(), String> {
        let values: BTreeSet<&str> = shift.values.iter().map(String::as_str).collect();
        self.require_inner(&shift.values)?;
        for idx in 0..self.graph.nodes.len() {
            let node = &self.graph.nodes[idx];
            let mut touched = node
                .used_values()
                .into_iter()
                .chain(node.outputs.iter().map(String::as_str));
            if !touched.any(|name| values.contains(name)) {
                continue;
            }
            let role = role(node, &self.constants, &values);
            let more = match role {
                Some(Role::Passes) => continue,
                Some(Role::Produces) => Some(shift.shift.iter().map(|&t| -f64::from(t)).collect()),
                Some(Role::Consumes) => self.product(node, &shift.shift),
                None => None,
            };
            let more = more.filter(|more: &Vec<f64>| more.len() == n_written(node, &self.constants));
            let Some(more) = more else {
                return Err(format!(
                    "node \"{}\" ({}) cannot take it",
                    node.label(),
                    node.op_type
                ));
            };
            self.add_to_bias(idx, &more)?;
        }
        Ok(())
    }

    /// What a product makes of a constant of each channel that it reads.
    fn product(&self, node: &Node, shift: &[f32]) -> Option<Vec<f64>> {
        let weight = self.constants.floats(node.input(1)?)?;
        let (shape, [written, read]) = (weight.shape(), places(node));
        if read.n_channels(shape) != shift.len() {
            return None;
        }
        let mut sums = vec![0.0; written.n_channels(shape)];
        for (idx, &value) in weight.as_slice::<f32>()?.iter().enumerate() {
            sums[written.channel(idx, shape)] +=
                f64::from(value) * f64::from(shift[read.channel(idx, shape)]);
        }
        Some(sums)
    }

    /// Adds to the bias of a product, under a name of its own where others use it, too, or where there was none.
    fn add_to_bias(&mut self, node_idx: usize, more: &[f64]) -> Result<(), String> {
        const BIAS_IDX: usize = 2;
        let node = &self.graph.nodes[node_idx];
        let known = node.input(BIAS_IDX).and_then(|name| self.constants.floats(name));
        let shape = known.map_or_else(|| vec![more.len()], |bias| bias.shape().to_vec());
        let before = known
            .and_then(|bias| bias.as_slice::<f32>())
            .map_or_else(|| vec![0.0; more.len()], <[f32]>::to_vec);
        let sums = before
            .iter()
            .zip(more)
            .map(|(&bias, more)| (f64::from(bias) + more) as f32);
        let bias = Tensor::new(&shape, sums.collect()).map_err(|e| e.to_string())?;
        let name = self.own_input(node_idx, BIAS_IDX);
        self.constants.changed.insert(name, bias);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
