//! Finds values that can be scaled together.

use std::collections::{BTreeMap, BTreeSet};

use qloupe_exec::Program;
use qloupe_ir::{Node, Topology};

use super::Role;
use super::channels::Channels;
use super::joins::{Join, Joins};
use super::region::{Joined, Region, RegionWeight};
use super::roles::{
    Constants, Place, Tie, alike_inputs, multiplies_channels, multiplies_values, passed_inputs, ties,
};

/// What regions are looked for in.
pub(crate) struct Finder<'a> {
    pub(crate) program: &'a Program,
    pub(crate) topology: &'a Topology,
    /// The shapes of one sample.
    pub(crate) shapes: &'a BTreeMap<String, Vec<usize>>,
    pub(crate) joins: &'a Joins,
    /// Whether a Clip can get an upper bound for each channel.
    pub(crate) limits: bool,
}

/// What is known of a region while it grows.
struct Growth<'g> {
    axis: usize,
    channels: Channels<'g>,
    /// Values that stay as they are.
    pinned: BTreeSet<&'g str>,
    /// Nodes that read or write the values.
    touched: BTreeSet<usize>,
    joins: BTreeMap<&'g str, &'g Join>,
}

impl Finder<'_> {
    /// All regions, in execution order; none scales a value of `taken`, and no two scale the same.
    pub(crate) fn regions(&self, mut taken: BTreeSet<String>) -> Vec<Region> {
        let mut regions = Vec::new();
        for node in &self.program.graph().nodes {
            let Some(output) = node.output(0).filter(|name| !taken.contains(*name)) else {
                continue;
            };
            let Some(region) = self
                .axis(node, output)
                .and_then(|axis| self.grow(output, axis, &taken))
            else {
                continue;
            };
            let is_free = |channels: &Vec<usize>| channels.iter().any(|&channel| !region.is_pinned[channel]);
            let scaled = region.values.iter().filter(|(_, channels)| is_free(channels));
            taken.extend(scaled.map(|(name, _)| name.clone()));
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

    fn grow(&self, start: &str, axis: usize, taken: &BTreeSet<String>) -> Option<Region> {
        let n = *self.shapes.get(start)?.get(axis)?;
        let graph = self.program.graph();
        let start = graph
            .nodes
            .iter()
            .flat_map(|node| &node.outputs)
            .find(|name| *name == start)?;
        let mut growth = Growth {
            axis,
            channels: Channels::default(),
            pinned: BTreeSet::new(),
            touched: BTreeSet::new(),
            joins: BTreeMap::new(),
        };
        self.explore(&mut growth, (start, n), taken);
        self.finish(growth)
    }

    /// Follows values through everything that scales its inputs and outputs alike.
    fn explore<'g>(&'g self, growth: &mut Growth<'g>, start: (&'g str, usize), taken: &BTreeSet<String>) {
        let graph = self.program.graph();
        let constants = Constants::new(self.program);
        let mut waiting = vec![start];
        let mut links: Vec<(&'g str, usize, &'g str)> = Vec::new();
        while let Some((name, n)) = waiting.pop() {
            if !growth.channels.add(name, n) {
                continue;
            }
            let is_output = graph.is_output(name);
            let has_shape = self.n_channels(name, growth.axis) == Some(n);
            let producer = self.topology.producer(name);
            let Some(producer) = producer.filter(|_| has_shape && !is_output && !taken.contains(name)) else {
                growth.pinned.insert(name);
                continue;
            };
            for &idx in self.topology.consumers(name).iter().chain([&producer]) {
                growth.touched.insert(idx);
                let node = &graph.nodes[idx];
                if let Some(join) = self.joins.of(node).filter(|join| join.axis == growth.axis) {
                    waiting.push((&join.whole, n_of_whole(join)));
                    for part in &join.parts {
                        waiting.push((&part.value, part.n_channels));
                        links.push((&join.whole, part.offset, &part.value));
                    }
                    growth.joins.insert(&join.whole, join);
                    continue;
                }
                let mut alike: Vec<&str> = Vec::new();
                if multiplies_values(node, &constants) {
                    match self.other_end(node, name, &constants, n) {
                        Some(other) => alike.push(other),
                        None => _ = growth.pinned.insert(name),
                    }
                } else if self.passes(node, &constants, growth.axis, n) {
                    alike.extend(passed_inputs(node, &constants));
                    alike.extend(node.outputs.iter().map(String::as_str));
                }
                for other in alike {
                    if self.n_channels(other, growth.axis) == Some(n) {
                        waiting.push((other, n));
                        links.push((name, 0, other));
                    } else {
                        growth.pinned.insert(name);
                    }
                }
            }
        }
        for (whole, offset, part) in links {
            growth.channels.unite(whole, offset, part);
        }
    }

    fn n_channels(&self, name: &str, axis: usize) -> Option<usize> {
        self.shapes.get(name)?.get(axis).copied()
    }

    /// What takes in the scales of the values that were found; values at nodes that cannot are pinned. `None` where nothing
    /// is left to scale.
    fn finish<'g>(&'g self, mut growth: Growth<'g>) -> Option<Region> {
        let graph = self.program.graph();
        let constants = Constants::new(self.program);
        let (axis, channels) = (growth.axis, &growth.channels);
        let mut weights: Vec<(String, Tie, &str)> = Vec::new();
        let mut reads = Vec::new();
        for &idx in &growth.touched {
            let node = &graph.nodes[idx];
            if self.joins.of(node).is_some_and(|join| join.axis == axis) {
                continue;
            }
            let n_of = |name: &str| channels.n_of(name);
            let fits = |ties: &Vec<Tie>| {
                let is_bounded = self.limits || !node.is_onnx("Clip");
                let mut alike = alike_inputs(node, &constants, ties, &n_of).into_iter();
                is_bounded
                    && ties
                        .iter()
                        .all(|tie| self.is_aligned(node, &constants, tie, axis))
                    && alike.all(|name| channels.classes(name) == channels.classes(&node.outputs[0]))
            };
            let Some(found) = ties(node, &constants, &n_of).filter(fits) else {
                let written = node.outputs.iter().map(String::as_str);
                let touched = node.used_values().into_iter().chain(written);
                growth.pinned.extend(touched.filter(|name| n_of(name).is_some()));
                continue;
            };
            for tie in found {
                let value = if tie.role == Role::Consumes {
                    node.input(0)?
                } else {
                    node.output(0)?
                };
                if tie.role == Role::Consumes {
                    reads.push(value.to_owned());
                }
                if tie.is_weight {
                    weights.push((node.inputs[tie.input_idx].clone(), tie, value));
                }
            }
        }
        // Classes in the order in which values are computed.
        let mut numbers: BTreeMap<usize, usize> = BTreeMap::new();
        let mut number = |name: &str| -> Vec<usize> {
            let classes = channels.classes(name).into_iter();
            let number = classes.map(|class| {
                let next = numbers.len();
                *numbers.entry(class).or_insert(next)
            });
            number.collect()
        };
        let in_order = self.program.values().filter(|name| channels.n_of(name).is_some());
        let values: Vec<(String, Vec<usize>)> =
            in_order.map(|name| (name.to_owned(), number(name))).collect();
        // Constants are parts, too.
        let pinned: BTreeSet<usize> = growth.pinned.iter().flat_map(|name| number(name)).collect();
        let mut is_free = |name: &str| number(name).iter().any(|channel| !pinned.contains(channel));
        reads.retain(|name: &String| is_free(name));
        weights.retain(|(.., value)| is_free(value));
        let weights = weights.into_iter().map(|(name, tie, value)| RegionWeight {
            name,
            tie,
            channels: number(value),
        });
        let weights: Vec<RegionWeight> = weights.collect();
        let joins = growth.joins.values();
        let joins: Vec<Joined> = joins
            .map(|join| Joined {
                whole: join.whole.clone(),
                members: join.parts.iter().map(|part| number(&part.value)).collect(),
            })
            .collect();
        let n_channels = numbers.len();
        let is_pinned: Vec<bool> = (0..n_channels).map(|channel| pinned.contains(&channel)).collect();
        let is_free = is_pinned.contains(&false) && n_channels > 1 && !reads.is_empty();
        is_free.then_some(Region {
            values,
            axis,
            n_channels,
            is_pinned,
            weights,
            reads,
            joins,
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
        let passes = ties(node, constants, &|name| both.contains(name).then_some(n))
            .is_some_and(|ties| !ties.iter().any(has_weight));
        let shape = |name: &str| self.shapes.get(name).map(Vec::as_slice).unwrap_or_default();
        let result = shape(output);
        let keeps = |input: &&str| keeps_channels(node, shape(input), result, axis);
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
                axis + 1 == if tie.role == Role::Consumes { read } else { written }
            }
            _ => axis == 1,
        }
    }
}

fn n_of_whole(join: &Join) -> usize {
    join.parts.iter().map(|part| part.n_channels).sum()
}

/// True for a node that leaves the channels of an input where they are, by the shapes of the input and the result.
pub(crate) fn keeps_channels(node: &Node, input: &[usize], result: &[usize], axis: usize) -> bool {
    match node.op_type.as_str() {
        "Add" => input == result,
        // [N, C, 1, 1] and [N, C].
        "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => {
            let rest = |shape: &[usize]| shape.iter().skip(2).all(|&dim| dim == 1);
            axis == 1 && input.get(..2) == result.get(..2) && rest(input) && rest(result)
        }
        "AveragePool" | "GlobalAveragePool" | "GlobalMaxPool" | "MaxPool" => axis == 1,
        "Clip" => axis == 1 && result.len() == 4,
        "Pad" | "Resize" => axis == 1 && input.get(..2) == result.get(..2),
        _ => true,
    }
}
