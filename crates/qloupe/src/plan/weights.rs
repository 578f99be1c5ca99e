//! The scales of weights.

use std::collections::BTreeMap;

use qloupe_ir::Node;
use qloupe_tensor::{
    BiasOutcome, Granularity, QuantParams, Range, RangeOutcome, Tensor, params_from_range, quantize_bias,
};

use super::{Method, QuantPlan, WeightPlan};
use crate::Error;
use crate::prepare::Prepared;
use crate::targets::Support;
use crate::units::{UnitGroup, unit_support};

/// The weights that the target has as integers, in execution order, each with the whole range of its elements.
///
/// # Errors
/// A weight that is not finite; a method that the target does not have.
pub(crate) fn plan_weights(prepared: &Prepared, method: Method) -> Result<Vec<WeightPlan>, Error> {
    let Prepared {
        program,
        units,
        target,
        ..
    } = prepared;
    let method = Method::for_target(Some(method), target)?;
    let mut list: Vec<WeightPlan> = Vec::new();
    for unit in units {
        if !matches!(
            unit_support(unit, program, target),
            Support::Int8(_) | Support::Int8Weights | Support::WeightOnly
        ) {
            continue;
        }
        for name in &unit.weights {
            let stored = program.constant(name);
            let Some(stored) = stored.filter(|w| w.as_slice::<f32>().is_some()) else {
                continue;
            };
            if list.iter().all(|known| known.name != *name) {
                let (params, outcomes) = whole_range(prepared, unit, name, stored, method)?;
                list.push(WeightPlan {
                    name: name.to_owned(),
                    params,
                    outcome: describe(&outcomes),
                });
            }
        }
    }
    Ok(list)
}

/// The whole-range scales of a weight of a unit; one for all where the method finds no axis in it.
fn whole_range(
    prepared: &Prepared,
    unit: &UnitGroup,
    name: &str,
    weight: &Tensor,
    method: Method,
) -> Result<(QuantParams, Vec<RangeOutcome>), Error> {
    let node = &prepared.program.graph().nodes[unit.main_idx];
    let granularity = granularity_of(node, name, weight.shape(), method, prepared.target.weight_block);
    let n_shared = n_shared_scales(node, weight.shape(), granularity);
    let ranges = weight_ranges(weight, granularity, n_shared)?;
    let scheme = prepared.target.weight_scheme(granularity);
    let (params, outcomes) = params_from_range(&ranges, &scheme)?;
    Ok((prepared.target.stored_weight_params(params), outcomes))
}

/// The whole-range scales of a weight of a unit; one for all where the method finds no axis in it.
///
/// # Errors
/// A weight that is not finite.
pub(crate) fn whole_range_params(
    prepared: &Prepared,
    unit: &UnitGroup,
    name: &str,
    weight: &Tensor,
    method: Method,
) -> Result<QuantParams, Error> {
    Ok(whole_range(prepared, unit, name, weight, method)?.0)
}

/// The whole-range scales of a weight of a unit, one for each output channel; `None` where it has no such axis.
///
/// # Errors
/// A weight that is not finite.
pub(crate) fn per_channel_params(
    prepared: &Prepared,
    unit: &UnitGroup,
    name: &str,
    weight: &Tensor,
) -> Result<Option<QuantParams>, Error> {
    let params = whole_range_params(prepared, unit, name, weight, Method::Channel)?;
    let has_axis = matches!(params.granularity(), Granularity::PerChannel { .. });
    Ok(has_axis.then_some(params))
}

/// Raises the scales of weights whose int32 bias would overflow under the ranges of the plan.
///
/// # Errors
/// A scale that cannot be raised.
pub(crate) fn fit_biases(prepared: &Prepared, plan: &mut QuantPlan) -> Result<(), Error> {
    let Prepared { program, units, .. } = prepared;
    let forms = plan.forms();
    let mut positions: BTreeMap<String, usize> = BTreeMap::new();
    for (position, weight) in plan.weights.iter().enumerate() {
        positions.insert(weight.name.clone(), position);
    }
    for unit in units {
        let node = &program.graph().nodes[unit.main_idx];
        let input = node
            .input(0)
            .and_then(|x| forms.get(x)?.read_params()?.as_per_tensor());
        let bias = unit
            .bias
            .as_ref()
            .and_then(|b| program.constant(b)?.as_slice::<f32>());
        let (Some((input_scale, _)), Some(bias)) = (input, bias) else {
            continue;
        };
        for position in unit.weights.iter().filter_map(|name| positions.get(name)) {
            raise_for_bias(&mut plan.weights[*position], bias, input_scale)?;
        }
    }
    Ok(())
}

/// Which elements of a weight share a scale.
fn granularity_of(
    node: &Node,
    name: &str,
    shape: &[usize],
    method: Method,
    block: Option<usize>,
) -> Granularity {
    let channel = channel_axis(node, name, shape.len());
    let per_channel = channel.map_or(Granularity::PerTensor, |axis| Granularity::PerChannel { axis });
    let blocks = || {
        let axis = input_axis(node, name, shape.len())?;
        let block_size = block.filter(|&size| channel.is_none() || shape[axis] > size)?;
        Some(Granularity::PerBlock { axis, block_size })
    };
    match method {
        Method::Layer => Granularity::PerTensor,
        Method::Channel => per_channel,
        // One block is what a channel is.
        Method::Block => blocks().unwrap_or(per_channel),
    }
}

/// The axis of the output channels in a weight of a node.
fn channel_axis(node: &Node, name: &str, rank: usize) -> Option<usize> {
    match node.op_type.as_str() {
        // The rows of all gates.
        "GRU" | "LSTM" | "RNN" => Some(1),
        "Conv" => Some(0),
        "ConvTranspose" => (node.int("group").unwrap_or(1) == 1).then_some(1),
        "Gemm" => Some(if node.int("transB").unwrap_or(0) == 0 {
            1
        } else {
            0
        }),
        "MatMul" if node.input(0) == Some(name) => (rank == 2).then_some(0),
        "MatMul" => (rank == 2).then_some(1),
        _ => None,
    }
}

/// The axis along which a node sums up what it multiplies with a weight: that of the input channels.
fn input_axis(node: &Node, name: &str, rank: usize) -> Option<usize> {
    match node.op_type.as_str() {
        "Conv" => Some(1),
        "ConvTranspose" => Some(0),
        "Gemm" => channel_axis(node, name, rank).map(|axis| 1 - axis),
        "MatMul" if node.input(0) == Some(name) => rank.checked_sub(1),
        "MatMul" => rank.checked_sub(2),
        _ => None,
    }
}

/// How many consecutive scales of a weight are one: a block has the same for all places of the kernel of a convolution.
pub(crate) fn n_shared_scales(node: &Node, shape: &[usize], granularity: Granularity) -> usize {
    match (granularity, node.op_type.as_str()) {
        (Granularity::PerBlock { .. }, "Conv" | "ConvTranspose") => shape.iter().skip(2).product(),
        _ => 1,
    }
}

/// The range of the elements of each scale. The scales of blocks are those of one place of the kernel after another.
fn weight_ranges(stored: &Tensor, granularity: Granularity, n_shared: usize) -> Result<Vec<Range>, Error> {
    let (values, shape) = (stored.require::<f32>()?, stored.shape());
    let n = granularity
        .n_scales(shape)
        .expect("invariant: the granularity is of this shape");
    let mut ranges = vec![Range { min: 0.0, max: 0.0 }; n];
    let extend = |range: &mut Range, other: Range| {
        range.min = range.min.min(other.min);
        range.max = range.max.max(other.max);
    };
    let run_length = granularity.run_length(shape);
    for (run, chunk) in values.chunks(run_length).enumerate() {
        let range = &mut ranges[granularity.idx_of(run * run_length, shape)];
        for &v in chunk {
            extend(range, Range { min: v, max: v });
        }
    }
    for shared in ranges.chunks_mut(n_shared.max(1)) {
        let mut whole = shared[0];
        shared.iter().for_each(|range| extend(&mut whole, *range));
        shared.fill(whole);
    }
    Ok(ranges)
}

fn describe(outcomes: &[RangeOutcome]) -> String {
    let mut parts = Vec::new();
    for outcome in [RangeOutcome::AllZero, RangeOutcome::TinyScale] {
        let n = outcomes.iter().filter(|o| **o == outcome).count();
        if n > 0 {
            parts.push(format!("{n} of {} scales {}", outcomes.len(), outcome.name()));
        }
    }
    parts.join(", ")
}

/// Raises weight scales whose int32 bias would overflow.
fn raise_for_bias(weight: &mut WeightPlan, bias: &[f32], input_scale: f32) -> Result<(), Error> {
    let (_, outcomes) = quantize_bias(bias, input_scale, weight.params.scale());
    if outcomes.is_empty() {
        return Ok(());
    }
    let mut scale = weight.params.scale().to_vec();
    let mut channels = Vec::new();
    for outcome in outcomes {
        if let BiasOutcome::BiasOverflow {
            channel,
            weight_scale,
        } = outcome
        {
            let idx = if scale.len() == 1 { 0 } else { channel };
            scale[idx] = scale[idx].max(weight_scale);
            channels.push(channel.to_string());
        }
    }
    let note = format!(
        "bias_overflow raised the scale of channel {}",
        channels.join(", ")
    );
    weight.outcome = if weight.outcome.is_empty() {
        note
    } else {
        format!("{}, {note}", weight.outcome)
    };
    let zero_point = weight.params.zero_point().to_vec();
    weight.params = QuantParams::new(
        weight.params.dtype(),
        weight.params.granularity(),
        scale,
        zero_point,
    )?;
    Ok(())
}
