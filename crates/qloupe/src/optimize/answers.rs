//! The values that the user reads: network outputs, and what becomes one without passing a product on the way.

use std::collections::BTreeSet;

use crate::prepare::Prepared;

/// Network outputs and the values before them, back to the last products. Their largest elements are the answer - the score of
/// a detection, the logit of the class - and rare: `auto` cuts none of them off.
pub(super) fn answers(prepared: &Prepared) -> BTreeSet<String> {
    let nodes = &prepared.program.graph().nodes;
    let outputs = prepared.model.graph.outputs.iter();
    let mut answers: BTreeSet<String> = outputs.map(|output| output.name.clone()).collect();
    for unit in prepared.units.iter().rev() {
        let own = || unit.node_idxs.iter().map(|&idx| &nodes[idx]);
        let is_answer = own().any(|node| node.outputs.iter().any(|output| answers.contains(output)));
        if is_answer && unit.weights.is_empty() && !nodes[unit.main_idx].is_onnx("MatMul") {
            answers.extend(own().flat_map(|node| node.inputs.iter().cloned()));
        }
    }
    answers
}
