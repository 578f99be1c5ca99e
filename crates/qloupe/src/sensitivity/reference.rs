//! The constants of the user's model for those that passes, or another tool, changed in the graph under test.

use std::collections::BTreeMap;

use qloupe_tensor::Tensor;

use crate::Error;
use crate::plan::QuantPlan;
use crate::prepare::{Network, Prepared};

/// Changed constants as they were before, by name. A bias that a pass added was zero.
pub(super) fn reference_constants(
    network: &Network,
    prepared: &Prepared,
    plan: &QuantPlan,
) -> Result<BTreeMap<String, Tensor>, Error> {
    if prepared.stored.is_some() {
        return Ok(of_twin(network, prepared));
    }
    let optimized = &plan.optimized;
    if optimized.constants.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut before = Prepared::new(network, prepared.target, plan.optimization_level)?;
    if !optimized.rescales.is_empty() {
        before = before.with_rescales(network, &optimized.rescales)?;
    }
    if !optimized.scalings.is_empty() {
        before = before.with_scalings(network, &optimized.scalings)?;
    }
    let original = |(name, changed): (&String, &Tensor)| {
        let known = before.program.constant(name).cloned();
        let zeros = || Tensor::new(changed.shape(), vec![0.0_f32; changed.len()]);
        Ok((name.clone(), known.map_or_else(zeros, Ok)?))
    };
    optimized.constants.iter().map(original).collect()
}

/// The constants at the same inputs of the nodes that write the same values.
fn of_twin(network: &Network, prepared: &Prepared) -> BTreeMap<String, Tensor> {
    let nodes = &network.model.graph.nodes;
    let by_output: BTreeMap<&str, usize> = nodes
        .iter()
        .enumerate()
        .filter_map(|(idx, node)| Some((node.output(0)?, idx)))
        .collect();
    let mut constants = BTreeMap::new();
    for node in &prepared.program.graph().nodes {
        let original = node.output(0).and_then(|output| by_output.get(output));
        let Some(original) = original.map(|&idx| &nodes[idx]) else {
            continue;
        };
        if original.op_type != node.op_type || original.inputs.len() != node.inputs.len() {
            continue;
        }
        for (name, theirs) in node.inputs.iter().zip(&original.inputs) {
            let pair = prepared
                .program
                .constant(name)
                .zip(network.program.constant(theirs));
            let Some((own, theirs)) = pair else { continue };
            if own.shape() == theirs.shape() && own.dtype() == theirs.dtype() {
                constants.insert(name.clone(), theirs.clone());
            }
        }
    }
    constants
}
