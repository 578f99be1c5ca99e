//! The scales of weights.

use std::collections::BTreeMap;

use qloupe_exec::Program;
use qloupe_tensor::{
    BiasOutcome, Granularity, QuantParams, Range, RangeOutcome, Tensor, params_from_range, quantize_bias,
};

use super::{Method, QuantPlan, WeightPlan};
use crate::Error;
use crate::prepare::Prepared;
use crate::targets::Support;
use crate::units::{UnitGroup, unit_support};

/// The weights of units that multiply integers, in execution order, each with the whole range of its elements.
///
/// # Errors
/// A weight that is not finite.
pub(crate) fn plan_weights(prepared: &Prepared, method: Method) -> Result<Vec<WeightPlan>, Error> {
    let Prepared {
        program,
        units,
        target,
        ..
    } = prepared;
    let mut list: Vec<WeightPlan> = Vec::new();
    for unit in units {
        if !matches!(
            unit_support(unit, program, target),
            Support::Int8(_) | Support::Int8Weights
        ) {
            continue;
        }
        for name in &unit.weights {
            let stored = program.constant(name);
            let Some(stored) = stored.filter(|w| w.as_slice::<f32>().is_some()) else {
                continue;
            };
            if list.iter().all(|known| known.name != *name) {
                let axis = channel_axis(program, unit, name, stored.rank());
                let axis = axis.filter(|_| method == Method::Channel);
                let granularity =
                    axis.map_or(Granularity::PerTensor, |axis| Granularity::PerChannel { axis });
                let scheme = target.weight_scheme(granularity);
                let (params, outcomes) = params_from_range(&weight_ranges(stored, axis)?, &scheme)?;
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

/// The whole-range scale of a weight, one for all.
///
/// # Errors
/// A weight that is not finite.
pub(crate) fn whole_range_params(prepared: &Prepared, weight: &Tensor) -> Result<QuantParams, Error> {
    let scheme = prepared.target.weight_scheme(Granularity::PerTensor);
    Ok(params_from_range(&weight_ranges(weight, None)?, &scheme)?.0)
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
    let Some(axis) = channel_axis(&prepared.program, unit, name, weight.rank()) else {
        return Ok(None);
    };
    let scheme = prepared.target.weight_scheme(Granularity::PerChannel { axis });
    let ranges = weight_ranges(weight, Some(axis))?;
    Ok(Some(params_from_range(&ranges, &scheme)?.0))
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

/// The axis of the output channels in a weight of a unit.
fn channel_axis(program: &Program, unit: &UnitGroup, name: &str, rank: usize) -> Option<usize> {
    let node = &program.graph().nodes[unit.main_idx];
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

fn weight_ranges(stored: &Tensor, axis: Option<usize>) -> Result<Vec<Range>, Error> {
    let values = stored.require::<f32>()?;
    let shape = stored.shape();
    let n = axis.map_or(1, |axis| shape[axis]);
    let inner: usize = axis.map_or(values.len(), |axis| shape[axis + 1..].iter().product());
    let mut ranges = vec![Range { min: 0.0, max: 0.0 }; n];
    for (run, chunk) in values.chunks(inner.max(1)).enumerate() {
        let range = &mut ranges[run % n];
        for &v in chunk {
            range.min = range.min.min(v);
            range.max = range.max.max(v);
        }
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
