//! Rescales the members of a Concat whose magnitudes lie far apart, so that one scale serves them all.
//!
//! A detector joins boxes of some hundred pixels and scores up to 1; under the scale of the boxes every score is 0. Large
//! members are multiplied by a power of two before the Concat, which changes no bit of their mantissas, and its result is
//! multiplied back in float, where a value per channel costs nothing.

use std::collections::BTreeMap;

use qloupe_exec::{MOVING_OPERATORS, Program};
use qloupe_ir::{Graph, Node, Topology};
use qloupe_tensor::{Range, Tensor, TensorError};

use crate::value_map::ValueMap;

/// The name of the pass in plans and reports.
pub const PASS: &str = "rescale_concat";

/// Members whose largest magnitudes are nearer to each other share a scale well enough.
const LEAST_RATIO: f32 = 8.0;

/// One Concat with what its members are multiplied by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescale {
    /// The output of the Concat.
    pub value: String,
    /// The axis, not negative.
    pub axis: usize,
    /// The rank of the output.
    pub rank: usize,
    /// Elements of each member along the axis.
    pub sizes: Vec<usize>,
    /// Each member is multiplied by 2 to the power of this.
    pub exponents: Vec<i32>,
}

impl Rescale {
    /// The name of what the Concat computes instead.
    pub fn joined(&self) -> String {
        format!("{}_rescaled", self.value)
    }

    /// The name of a member that is multiplied.
    fn member(&self, idx: usize) -> String {
        format!("{}_member{idx}", self.joined())
    }

    /// What each channel of the result is multiplied by to come back.
    fn factors(&self) -> Vec<f32> {
        let members = self.sizes.iter().zip(&self.exponents);
        let factors = members.flat_map(|(&size, &e)| std::iter::repeat_n(2.0_f32.powi(-e), size));
        factors.collect()
    }
}

/// What happens to the values that a rescaled Concat inserts, by their names.
pub fn maps(graph: &Graph, rescale: &Rescale) -> BTreeMap<String, ValueMap> {
    let is_it = |node: &&Node| node.is_onnx("Concat") && node.output(0) == Some(rescale.value.as_str());
    let Some(concat) = graph.nodes.iter().find(is_it) else {
        return BTreeMap::new();
    };
    let joined = ValueMap::scaled(PASS, &rescale.value, rescale.axis, rescale.factors());
    let members = rescale.exponents.iter().zip(&concat.inputs).enumerate();
    let members = members.filter(|(_, (exponent, _))| **exponent != 0);
    let member = |(idx, (&exponent, input)): (usize, (&i32, &String))| {
        let map = ValueMap::scaled(PASS, input, rescale.axis, vec![2.0_f32.powi(-exponent)]);
        (rescale.member(idx), map)
    };
    let mut maps: BTreeMap<String, ValueMap> = members.map(member).collect();
    maps.insert(rescale.joined(), joined);
    maps
}

/// The Concats that would gain: those that nothing but the outside reads, directly or through operators that move numbers.
/// `shapes` are those of one sample.
pub fn find_rescales(
    program: &Program,
    topology: &Topology,
    ranges: &BTreeMap<String, Range>,
    shapes: &BTreeMap<String, Vec<usize>>,
) -> Vec<Rescale> {
    let graph = program.graph();
    let concats = graph.nodes.iter().filter(|node| node.is_onnx("Concat"));
    let rescale = |node: &Node| {
        let value = node.output(0)?;
        let rank = shapes.get(value)?.len();
        let axis = node.int("axis").unwrap_or(0);
        let axis = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok()?;
        let magnitude = |name: &String| ranges.get(name).map(|range| range.max.max(-range.min));
        let magnitudes: Vec<f32> = node.inputs.iter().map(magnitude).collect::<Option<_>>()?;
        let sizes: Option<Vec<usize>> = node
            .inputs
            .iter()
            .map(|name| shapes.get(name)?.get(axis).copied())
            .collect();
        let least = magnitudes
            .iter()
            .copied()
            .filter(|m| *m > 0.0)
            .fold(f32::INFINITY, f32::min);
        let exponent = |magnitude: &f32| {
            if *magnitude > 0.0 {
                exponent_of(least / magnitude)
            } else {
                0
            }
        };
        let largest = magnitudes.iter().copied().fold(0.0, f32::max);
        let gains = least.is_finite() && largest / least >= LEAST_RATIO && leaves(graph, topology, value, 0);
        gains.then_some(Rescale {
            value: value.to_owned(),
            axis,
            rank,
            sizes: sizes?,
            exponents: magnitudes.iter().map(exponent).collect(),
        })
    };
    concats.filter_map(rescale).collect()
}

/// The exponent of the nearest power of two that is not above a ratio of at most 1.
fn exponent_of(ratio: f32) -> i32 {
    ratio.log2().ceil() as i32
}

/// How many operators that move numbers may follow.
const MAX_MOVES: usize = 8;

/// True for a value that only the outside reads.
fn leaves(graph: &Graph, topology: &Topology, value: &str, depth: usize) -> bool {
    let consumers = topology.consumers(value);
    let moves = |&idx: &usize| {
        let node = &graph.nodes[idx];
        MOVING_OPERATORS.contains(&node.op_type.as_str())
            && node.domain.is_empty()
            && node
                .outputs
                .iter()
                .all(|output| leaves(graph, topology, output, depth + 1))
    };
    let is_output = graph.is_output(value);
    depth <= MAX_MOVES && (is_output || !consumers.is_empty()) && consumers.iter().all(moves)
}

/// Rewrites the graph.
///
/// # Errors
/// Sizes that make no tensor.
pub fn rescale_concat(graph: &mut Graph, rescale: &Rescale) -> Result<(), TensorError> {
    let is_it = |node: &Node| node.is_onnx("Concat") && node.output(0) == Some(rescale.value.as_str());
    let Some(idx) = graph.nodes.iter().position(is_it) else {
        return Ok(());
    };
    let mut before = Vec::new();
    for (member, exponent) in rescale
        .exponents
        .iter()
        .enumerate()
        .filter(|(_, exponent)| **exponent != 0)
    {
        let Some(input) = graph.nodes[idx].inputs.get(member).cloned() else {
            continue;
        };
        let scaled = rescale.member(member);
        let factor = format!("{scaled}_factor");
        graph.set_initializer(&factor, Tensor::new(&[], vec![2.0_f32.powi(*exponent)])?);
        before.push(Node::new("Mul", &scaled, &[&input, &factor], &[&scaled]));
        graph.nodes[idx].inputs[member] = scaled;
    }
    let joined = rescale.joined();
    graph.nodes[idx].outputs[0].clone_from(&joined);
    let per_channel = rescale.factors();
    let mut shape = vec![1; rescale.rank];
    shape[rescale.axis] = per_channel.len();
    let factor = format!("{joined}_factor");
    graph.set_initializer(&factor, Tensor::new(&shape, per_channel)?);
    let back = Node::new(
        "Mul",
        &format!("{joined}_back"),
        &[&joined, &factor],
        &[&rescale.value],
    );
    graph.nodes.insert(idx + 1, back);
    graph.nodes.splice(idx..idx, before);
    Ok(())
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, ValueInfo};

    use super::*;

    fn detector() -> Graph {
        let axis = AttributeValue::Int(-2);
        Graph {
            nodes: vec![
                Node::new("Relu", "a", &["x"], &["boxes"]),
                Node::new("Sigmoid", "b", &["x"], &["scores"]),
                Node::new("Concat", "c", &["boxes", "scores"], &["y"]).with_attribute("axis", axis),
            ],
            inputs: vec![ValueInfo::untyped("x")],
            outputs: vec![ValueInfo::untyped("y")],
            ..Graph::default()
        }
    }

    #[test]
    fn boxes_are_brought_to_the_magnitude_of_scores_and_no_bit_changes() {
        let graph = detector();
        let program = Program::from_graph(graph.clone(), &|_| 13).unwrap();
        let topology = Topology::new(&graph).unwrap();
        let range = |max| Range { min: 0.0, max };
        let ranges = BTreeMap::from([
            ("boxes".to_owned(), range(320.0)),
            ("scores".to_owned(), range(0.9)),
        ]);
        let names = ["boxes", "scores", "y"];
        let shapes = names
            .map(|name| (name.to_owned(), vec![1, if name == "y" { 4 } else { 2 }, 3]))
            .into();
        let found = find_rescales(&program, &topology, &ranges, &shapes);
        let expected = Rescale {
            value: "y".to_owned(),
            axis: 1,
            rank: 3,
            sizes: vec![2, 2],
            exponents: vec![-8, 0],
        };
        assert_eq!(found, [expected]);
        let mut rewritten = graph;
        rescale_concat(&mut rewritten, &found[0]).unwrap();
        let other = Program::from_graph(rewritten, &|_| 13).unwrap();
        let x = Tensor::new(&[1, 2, 3], vec![-300.5_f32, 1.25, 300.1, 7.7, 1e-20, -0.1]).unwrap();
        let run = |program: &Program| program.run(vec![("x".to_owned(), x.clone())]).unwrap();
        assert_eq!(run(&program), run(&other));
    }

    #[test]
    fn a_concat_that_the_network_reads_stays() {
        let mut graph = detector();
        graph.nodes.push(Node::new("Exp", "e", &["y"], &["z"]));
        graph.outputs = vec![ValueInfo::untyped("z")];
        let topology = Topology::new(&graph).unwrap();
        assert!(!leaves(&graph, &topology, "y", 0));
    }
}
