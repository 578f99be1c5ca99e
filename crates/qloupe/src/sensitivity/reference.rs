//! The constants of the user's model for those that passes, or another tool, changed in the graph under test.

use std::collections::BTreeMap;

use qloupe_exec::Program;
use qloupe_ir::Node;
use qloupe_tensor::Tensor;

use crate::Error;
use crate::plan::QuantPlan;
use crate::prepare::{Network, Prepared};

/// The least optimization level that folds batch normalizations.
const FOLDING_LEVEL: u8 = 1;

/// Changed constants as they were before, by name. A bias that a pass added was zero.
pub(super) fn reference_constants(
    network: &Network,
    prepared: &Prepared,
    plan: &QuantPlan,
) -> Result<BTreeMap<String, Tensor>, Error> {
    if prepared.stored.is_some() {
        return of_twin(network, prepared);
    }
    let optimized = &plan.optimized;
    if optimized.constants.is_empty() {
        return Ok(BTreeMap::new());
    }
    let before = Prepared::new(network, prepared.target, plan.optimization_level)?;
    let rewrites = (
        &optimized.rescales[..],
        &optimized.scalings[..],
        &optimized.shifts[..],
    );
    let before = before.with_rewrites(network, rewrites)?;
    let original = |(name, changed): (&String, &Tensor)| {
        let known = before.program.constant(name).cloned();
        let zeros = || Tensor::new(changed.shape(), vec![0.0_f32; changed.len()]);
        Ok((name.clone(), known.map_or_else(zeros, Ok)?))
    };
    optimized.constants.iter().map(original).collect()
}

/// The constants at the same inputs of the nodes that write the same values: of the user's model, or of it with folded
/// batch normalizations, as most tools quantize it.
fn of_twin(network: &Network, prepared: &Prepared) -> Result<BTreeMap<String, Tensor>, Error> {
    let folded = Prepared::new(network, prepared.target, FOLDING_LEVEL)?;
    let graphs = [
        Original::new(&network.model.graph.nodes, &network.program),
        Original::new(&folded.program.graph().nodes, &folded.program),
    ];
    let mut constants = BTreeMap::new();
    for node in &prepared.program.graph().nodes {
        let Some((original, program)) = graphs.iter().find_map(|graph| graph.twin_of(node)) else {
            continue;
        };
        for (name, theirs) in node.inputs.iter().zip(&original.inputs) {
            let pair = prepared.program.constant(name).zip(program.constant(theirs));
            let Some((own, theirs)) = pair else { continue };
            if own.shape() == theirs.shape() && own.dtype() == theirs.dtype() {
                constants.insert(name.clone(), theirs.clone());
            }
        }
    }
    Ok(constants)
}

/// A float graph by what its nodes write.
struct Original<'a> {
    by_output: BTreeMap<&'a str, &'a Node>,
    program: &'a Program,
}

impl<'a> Original<'a> {
    fn new(nodes: &'a [Node], program: &'a Program) -> Self {
        let by_output = nodes.iter().filter_map(|node| Some((node.output(0)?, node)));
        Self {
            by_output: by_output.collect(),
            program,
        }
    }

    /// The node that does the same.
    fn twin_of(&self, node: &Node) -> Option<(&'a Node, &'a Program)> {
        let original = *self.by_output.get(node.output(0)?)?;
        let is_same = original.op_type == node.op_type && original.inputs.len() == node.inputs.len();
        is_same.then_some((original, self.program))
    }
}
