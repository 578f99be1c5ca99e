//! The model of a plan: float16, with what the plan keeps in float32.

use std::collections::BTreeSet;

use qloupe_exec::UnitCompute;
use qloupe_ir::{Model, Node};

use super::Names;
use super::integer_weights::{set_apart, store_integers};
use crate::Error;
use crate::passes::convert_fp16::convert_fp16_except;
use crate::plan::{Precision, QuantPlan};
use crate::prepare::Prepared;

/// Writes a plan of float16 and float32 as a model: weights, values and declared types, with a `Cast` where they meet. Weights that
/// the plan has as integers are stored so.
/// `file` is for messages.
///
/// # Errors
/// A part without a float16 form, a constant beyond float16.
pub fn convert_by_plan(file: &str, prepared: &Prepared, plan: &QuantPlan) -> Result<Model, Error> {
    let in_float = names_in_float(prepared, plan);
    let (apart, weights) = set_apart(prepared, plan);
    let converted = convert_fp16_except(&apart, &in_float);
    let mut model = converted.map_err(|e| Error::Options(format!("{file}: {e}")))?;
    store_integers(&mut model, prepared, &weights)?;
    Ok(model)
}

/// The network inputs and the outputs of nodes that are float32, with the nodes that compute constants for them.
fn names_in_float(prepared: &Prepared, plan: &QuantPlan) -> Names {
    let graph = prepared.program.graph();
    let is_float = |name: &str| {
        let value = plan.value(name);
        value.is_some_and(|value| matches!(value.precision, Precision::Float { .. }))
    };
    let inputs = graph.runtime_inputs().into_iter().map(|input| input.name.clone());
    let mut names: Names = inputs.filter(|name| is_float(name)).collect();
    for spec in prepared.assignment(plan).units {
        let nodes = || spec.node_idxs.iter().map(|&idx| &graph.nodes[idx]);
        let mut seen = nodes().flat_map(|node| node.outputs.iter().chain(&node.inputs));
        // A unit that gives integers reads what there is.
        if spec.compute == UnitCompute::Float && seen.any(|name| is_float(name)) {
            names.extend(nodes().flat_map(named_outputs).cloned());
        }
    }
    let mut read: BTreeSet<&String> = BTreeSet::new();
    for node in graph.nodes.iter().rev() {
        let is_constant = |name: &String| prepared.program.constant(name).is_some();
        let computes_constant =
            named_outputs(node).all(is_constant) && named_outputs(node).any(|o| read.contains(o));
        if computes_constant {
            names.extend(named_outputs(node).cloned());
        }
        if named_outputs(node).any(|name| names.contains(name)) {
            read.extend(&node.inputs);
        }
    }
    names
}

fn named_outputs(node: &Node) -> impl Iterator<Item = &String> {
    node.outputs.iter().filter(|name| !name.is_empty())
}
