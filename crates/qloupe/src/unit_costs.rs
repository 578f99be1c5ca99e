//! What units cost: the part of all multiply-accumulates that each does.

use std::collections::BTreeMap;

use crate::inspect::macs::node_macs;
use crate::prepare::Prepared;
use crate::shapes;
use crate::units::unit_outputs;

/// The part of each unit in the multiply-accumulates of all, by place: 0 to 1. Where shapes are open the elements of
/// weights stand for them.
pub(crate) fn unit_costs(prepared: &Prepared) -> Vec<f64> {
    let graph = prepared.program.graph();
    let facts = shapes::infer(&prepared.model, &BTreeMap::new());
    let facts = facts.map(|inference| inference.facts).unwrap_or_default();
    let macs = |idx: &usize| node_macs(&graph.nodes[*idx], &facts).known();
    let mut costs: Vec<f64> = prepared
        .units
        .iter()
        .map(|unit| unit.node_idxs.iter().map(macs).sum::<u64>() as f64)
        .collect();
    if costs.iter().sum::<f64>() <= 0.0 {
        let n_weights = |name: &String| {
            prepared
                .program
                .constant(name)
                .map_or(0, qloupe_tensor::Tensor::len)
        };
        costs = prepared
            .units
            .iter()
            .map(|unit| unit.weights.iter().map(n_weights).sum::<usize>() as f64)
            .collect();
    }
    let all: f64 = costs.iter().sum();
    costs
        .into_iter()
        .map(|cost| if all > 0.0 { cost / all } else { 0.0 })
        .collect()
}

/// The place of the unit that writes a value.
pub(crate) fn unit_of(prepared: &Prepared, value: &str) -> Option<usize> {
    let writes = |unit: &crate::units::UnitGroup| {
        unit_outputs(&prepared.program, &prepared.topology, unit).contains(&value)
    };
    prepared.units.iter().position(writes)
}
