//! What can stay float32: units and network inputs, each as a whole.

use super::search::Kept;
use crate::plan::{Precision, QuantPlan};
use crate::prepare::Prepared;
use crate::units::unit_outputs;

/// A unit or a network input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// What it gives: these values are float32 together.
    pub(super) values: Vec<String>,
    /// The values that it reads.
    pub(super) reads: Vec<String>,
    /// The constants that are rounded to float16 with it. Bounds of Clip are none: beyond float16 they bound nothing.
    pub(super) constants: Vec<String>,
}

/// The network inputs and the units with float values, in execution order. Units with subgraphs are none: what is inside
/// follows the rest of the network.
pub(super) fn candidates(prepared: &Prepared, plan: &QuantPlan) -> Vec<Candidate> {
    let Prepared {
        program, topology, ..
    } = prepared;
    let graph = program.graph();
    let is_planned = |name: &str| plan.value(name).is_some();
    let inputs = graph
        .runtime_inputs()
        .into_iter()
        .filter(|input| is_planned(&input.name));
    let inputs = inputs.map(|input| Candidate {
        values: vec![input.name.clone()],
        reads: Vec::new(),
        constants: Vec::new(),
    });
    let of_units = prepared.units.iter().filter_map(|unit| {
        let nodes = || unit.node_idxs.iter().map(|&idx| &graph.nodes[idx]);
        let outputs = unit_outputs(program, topology, unit);
        let values: Vec<String> = outputs
            .into_iter()
            .filter(|name| is_planned(name))
            .map(str::to_owned)
            .collect();
        if values.is_empty() || nodes().any(|node| node.subgraphs().next().is_some()) {
            return None;
        }
        let mut reads = Vec::new();
        let mut constants = Vec::new();
        for node in nodes() {
            for (idx, name) in node
                .inputs
                .iter()
                .enumerate()
                .filter(|(_, name)| !name.is_empty())
            {
                let is_bound = node.is_onnx("Clip") && idx > 0;
                if program.constant(name).is_some() {
                    constants.extend((!is_bound).then(|| name.clone()));
                } else if is_planned(name) {
                    reads.push(name.clone());
                }
            }
        }
        Some(Candidate {
            values,
            reads,
            constants,
        })
    });
    inputs.chain(of_units).collect()
}

/// For each candidate those that give what it reads.
pub(super) fn neighbours(candidates: &[Candidate]) -> Vec<Vec<usize>> {
    let gives = |name: &String| candidates.iter().position(|other| other.values.contains(name));
    let of = |candidate: &Candidate| candidate.reads.iter().filter_map(gives).collect();
    candidates.iter().map(of).collect()
}

/// The plan with some candidates in float32.
pub(super) fn plan_with(base: &QuantPlan, candidates: &[Candidate], kept: &Kept) -> QuantPlan {
    let mut plan = base.clone();
    let names: std::collections::BTreeSet<&String> =
        kept.iter().flat_map(|&idx| &candidates[idx].values).collect();
    for value in plan.values.iter_mut().filter(|value| names.contains(&value.name)) {
        let reason = String::new();
        value.precision = Precision::Float { reason };
    }
    plan
}
