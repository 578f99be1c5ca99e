//! The values that the user reads: network outputs, and what becomes one without passing a product on the way.

use std::collections::BTreeSet;

use crate::prepare::Prepared;
use crate::units::is_product;

/// Network outputs and the values before them, back to the last products. Their largest elements are the answer - the score of
/// a detection, the logit of the class - and rare: `auto` cuts none of them off.
pub(super) fn answers(prepared: &Prepared) -> BTreeSet<String> {
    walk(prepared).0
}

/// The units between the last products and the network outputs, by place, the last first.
pub(super) fn answer_units(prepared: &Prepared) -> Vec<usize> {
    walk(prepared).1
}

fn walk(prepared: &Prepared) -> (BTreeSet<String>, Vec<usize>) {
    let nodes = &prepared.program.graph().nodes;
    let outputs = prepared.model.graph.outputs.iter();
    let mut answers: BTreeSet<String> = outputs.map(|output| output.name.clone()).collect();
    let mut units = Vec::new();
    for (idx, unit) in prepared.units.iter().enumerate().rev() {
        let own = || unit.node_idxs.iter().map(|&idx| &nodes[idx]);
        let is_answer = own().any(|node| node.outputs.iter().any(|output| answers.contains(output)));
        if is_answer && unit.weights.is_empty() && !is_product(&nodes[unit.main_idx]) {
            answers.extend(own().flat_map(|node| node.inputs.iter().cloned()));
            units.push(idx);
        }
    }
    (answers, units)
}
