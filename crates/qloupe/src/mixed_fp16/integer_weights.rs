//! Weights of a float16 model as integers behind DequantizeLinear, for units that the plan has so.

use std::collections::BTreeMap;

use qloupe_ir::{Initializer, Model, Node};
use qloupe_tensor::{QuantParams, Rounding, quantize_linear};

use crate::Error;
use crate::plan::QuantPlan;
use crate::prepare::Prepared;
use crate::qdq::{ScaleType, dequantized, drop_unused};

/// The first version of the file format that has int4.
const MIN_IR_VERSION: i64 = 10;

/// Weights that a plan has as integers, with their parameters.
pub(super) type IntegerWeights = BTreeMap<String, QuantParams>;

/// The model in which units with integer weights read these under names of their own, as others may read the same constants;
/// and these weights.
pub(super) fn set_apart(prepared: &Prepared, plan: &QuantPlan) -> (Model, IntegerWeights) {
    let mut model = prepared.model.clone();
    let mut weights = IntegerWeights::new();
    for spec in prepared.assignment(plan).units {
        for (name, params) in spec.weights {
            let Some(stored) = prepared.program.constant(&name) else {
                continue;
            };
            let apart = name_apart(&name);
            for &idx in &spec.node_idxs {
                let read = model.graph.nodes[idx].inputs.iter_mut();
                read.filter(|input| **input == name)
                    .for_each(|input| input.clone_from(&apart));
            }
            if weights.insert(name, params).is_none() {
                model.graph.initializers.push(Initializer {
                    name: apart,
                    value: stored.clone().into(),
                });
            }
        }
    }
    if !weights.is_empty() {
        drop_unused(&mut model.graph);
    }
    (model, weights)
}

/// Puts integers and their DequantizeLinear in the place of the weights that [`set_apart`] made, in a model that is float16 since.
///
/// # Errors
/// Parameters that do not fit a weight.
pub(super) fn store_integers(
    model: &mut Model,
    prepared: &Prepared,
    weights: &IntegerWeights,
) -> Result<(), Error> {
    let mut nodes: Vec<Node> = Vec::new();
    for (name, params) in weights {
        let Some(stored) = prepared.program.constant(name) else {
            continue;
        };
        let apart = name_apart(name);
        model.graph.initializers.retain(|stored| stored.name != apart);
        let integers = quantize_linear(stored, params, Rounding::TiesEven)?;
        let (node, initializers) = dequantized(name, integers, params, &apart, ScaleType::Float16)?;
        nodes.push(node);
        let added = initializers.into_iter().map(|(name, tensor)| Initializer {
            name,
            value: tensor.into(),
        });
        model.graph.initializers.extend(added);
    }
    if !nodes.is_empty() {
        model.graph.nodes.splice(0..0, nodes);
        model.ir_version = model.ir_version.max(MIN_IR_VERSION);
    }
    Ok(())
}

/// The name under which units read a weight that is stored as integers.
fn name_apart(name: &str) -> String {
    format!("{name}_dequantized")
}
