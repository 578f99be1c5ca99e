//! `dead_channels`: frees the scale of a weight from channels that never change.
//!
//! A channel whose output after the activation is one constant on every sample can have any weights: batch norms leave large
//! ones there, which set the scale of the whole tensor. They become 0, and the bias the constant.

use std::collections::BTreeMap;

use qloupe_ir::Node;
use qloupe_tensor::Tensor;

use super::channel_ranges::channel_ranges;
use super::{Pass, Stage, Work};
use crate::Error;
use crate::one_unit::Changes;
use crate::plan::{fit_biases, plan_weights};
use crate::prepare::Prepared;
use crate::quantize::Quantized;
use crate::units::{UnitGroup, is_product, unit_outputs};

/// The pass.
#[derive(Debug)]
pub(super) struct DeadChannels;

impl Pass for DeadChannels {
    fn id(&self) -> &'static str {
        "dead_channels"
    }

    fn title(&self) -> &'static str {
        "zero the weights of channels that are constant on every sample"
    }

    fn level(&self) -> u8 {
        2
    }

    fn stage(&self) -> Stage {
        Stage::Weights
    }

    fn run(&self, work: &Work<'_>, quantized: &Quantized) -> Result<Option<Quantized>, Error> {
        let prepared = &quantized.prepared;
        let sites: BTreeMap<&str, &UnitGroup> = prepared
            .units
            .iter()
            .filter_map(|unit| Some((site(prepared, unit)?, unit)))
            .collect();
        let axes = sites.keys().map(|name| ((*name).to_owned(), 1)).collect();
        let ranges = channel_ranges(work, &prepared.program, &axes)?;
        let mut changes = Changes::default();
        let mut n_dead = 0;
        for (output, unit) in sites {
            let Some(ranges) = ranges.get(output) else {
                continue;
            };
            let dead = |(channel, &[min, max]): (usize, &[f32; 2])| (min >= max).then_some((channel, min));
            let dead: Vec<(usize, f32)> = ranges.iter().enumerate().filter_map(dead).collect();
            if !dead.is_empty() && zero(prepared, unit, ranges.len(), &dead, &mut changes)? {
                n_dead += dead.len();
            }
        }
        let Some(mut changed) = quantized.with_changes(work.network(), changes)? else {
            return Ok(None);
        };
        let Quantized { prepared, plan, .. } = &mut changed;
        plan.weights = plan_weights(prepared, plan.method)?;
        fit_biases(prepared, plan)?;
        work.progress(self.id(), n_dead, n_dead);
        Ok(Some(changed))
    }
}

/// The output of a unit that multiplies by a weight of its own and then does nothing but clip.
fn site<'p>(prepared: &'p Prepared, unit: &UnitGroup) -> Option<&'p str> {
    let nodes = &prepared.program.graph().nodes;
    let main = &nodes[unit.main_idx];
    let mut behind = unit
        .node_idxs
        .iter()
        .filter(|idx| **idx != unit.main_idx)
        .peekable();
    let [weight] = &unit.weights[..] else { return None };
    let is_own = prepared.topology.consumers(weight).len() == 1;
    let has_axis = channel_axis(main).is_some() && (main.input(2).is_none() || unit.bias.is_some());
    let clips = behind.peek().is_some()
        && behind.all(|&idx| nodes[idx].is_onnx("Relu") || nodes[idx].is_onnx("Clip"));
    match unit_outputs(&prepared.program, &prepared.topology, unit)[..] {
        [output] if is_product(main) && is_own && has_axis && clips => Some(output),
        _ => None,
    }
}

/// The axis of the output channels in the weight of a node whose result has them at axis 1.
fn channel_axis(node: &Node) -> Option<usize> {
    match node.op_type.as_str() {
        "Conv" => Some(0),
        "Gemm" => Some(usize::from(node.int("transB").unwrap_or(0) == 0)),
        _ => None,
    }
}

/// Zeroes the weights of channels and sets their biases; false where the shapes do not fit.
fn zero(
    prepared: &Prepared,
    unit: &UnitGroup,
    n_channels: usize,
    dead: &[(usize, f32)],
    changes: &mut Changes,
) -> Result<bool, Error> {
    let program = &prepared.program;
    let main = &program.graph().nodes[unit.main_idx];
    let name = &unit.weights[0];
    let (Some(weight), Some(axis)) = (program.constant(name), channel_axis(main)) else {
        return Ok(false);
    };
    let bias = unit.bias.as_deref().and_then(|bias| program.constant(bias));
    let mut biases = match bias {
        Some(bias) => bias.require::<f32>()?.to_vec(),
        None => vec![0.0; n_channels],
    };
    if weight.shape()[axis] != n_channels || biases.len() != n_channels {
        return Ok(false);
    }
    let mut values = weight.require::<f32>()?.to_vec();
    let inner: usize = weight.shape()[axis + 1..].iter().product();
    for (run, chunk) in values.chunks_mut(inner.max(1)).enumerate() {
        if dead.iter().any(|(channel, _)| *channel == run % n_channels) {
            chunk.fill(0.0);
        }
    }
    for &(channel, constant) in dead {
        biases[channel] = constant;
    }
    let output = main.outputs[0].clone();
    let bias_name = unit.bias.clone().unwrap_or_else(|| {
        let name = format!("{output}_bias");
        changes.new_biases.insert(output, name.clone());
        name
    });
    let shape = bias.map_or_else(|| vec![n_channels], |bias| bias.shape().to_vec());
    changes
        .constants
        .insert(name.clone(), Tensor::new(weight.shape(), values)?);
    changes.constants.insert(bias_name, Tensor::new(&shape, biases)?);
    Ok(true)
}
