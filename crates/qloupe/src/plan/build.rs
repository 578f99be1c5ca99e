//! From statistics and a target to a plan.

use std::collections::{BTreeMap, BTreeSet};

use qloupe_exec::{Cast, Program};
use qloupe_ir::Topology;
use qloupe_tensor::{
    BiasOutcome, Granularity, QuantParams, QuantScheme, Range, RangeOutcome, Tensor, params_from_range,
    quantize_bias,
};

use super::{Method, Precision, QuantPlan, ValuePlan, WeightPlan};
use crate::Error;
use crate::calibrate::Statistics;
use crate::targets::{Support, Target};
use crate::units::{UnitGroup, float_inputs, is_state, unit_outputs, unit_support};

/// What the user chose.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// The target.
    pub target: &'static Target,
    /// The calibration algorithm's id.
    pub algorithm: String,
    /// Weights per channel or per layer.
    pub method: Method,
    /// 0 changes no weight and no value.
    pub optimization_level: u8,
}

/// Builds the plan of a prepared graph.
///
/// # Errors
/// A range that is not finite.
pub fn build_plan(
    program: &Program,
    topology: &Topology,
    units: &[UnitGroup],
    statistics: &Statistics,
    options: &PlanOptions,
) -> Result<QuantPlan, Error> {
    let mut builder = Builder::new(program, units, statistics, options);
    let mut values: Vec<ValuePlan> = Vec::new();
    for input in program.graph().runtime_inputs() {
        values.extend(builder.value(&input.name, None)?);
    }
    for unit in units {
        for name in unit_outputs(program, topology, unit) {
            if let Some(value) = builder.value(name, Some(unit))? {
                builder.note(&value);
                values.push(value);
            }
        }
    }
    let mut plan = QuantPlan {
        target: options.target.id.to_owned(),
        algorithm: options.algorithm.clone(),
        method: options.method,
        optimization_level: options.optimization_level,
        n_samples: statistics.n_samples,
        values,
        weights: Vec::new(),
    };
    plan.weights = builder.weights(&plan)?;
    Ok(plan)
}

struct Builder<'a> {
    program: &'a Program,
    units: &'a [UnitGroup],
    statistics: &'a Statistics,
    options: &'a PlanOptions,
    /// Values that a unit reads as integers.
    read_as_integer: BTreeSet<&'a str>,
    /// Outputs of units that stay float.
    floats: BTreeSet<String>,
}

impl<'a> Builder<'a> {
    fn new(
        program: &'a Program,
        units: &'a [UnitGroup],
        statistics: &'a Statistics,
        options: &'a PlanOptions,
    ) -> Self {
        let integer_units = units
            .iter()
            .filter(|u| unit_support(u, program, options.target).is_integer());
        let mut read_as_integer = BTreeSet::new();
        // A unit that only moves numbers reads integers for a unit after it that does.
        for unit in integer_units.rev() {
            let mut outputs = unit
                .node_idxs
                .iter()
                .flat_map(|&idx| &program.graph().nodes[idx].outputs);
            if moves(unit, program, options.target) && !outputs.any(|o| read_as_integer.contains(o.as_str()))
            {
                continue;
            }
            let float = float_inputs(unit, program);
            let inputs = unit
                .node_idxs
                .iter()
                .flat_map(|&idx| &program.graph().nodes[idx].inputs);
            let read = inputs.filter(|name| !float.contains(name));
            read_as_integer.extend(read.map(String::as_str));
        }
        Self {
            program,
            units,
            statistics,
            options,
            read_as_integer,
            floats: BTreeSet::new(),
        }
    }

    /// Remembers whether a value stays float.
    fn note(&mut self, value: &ValuePlan) {
        let is_float = match &value.precision {
            Precision::Float { .. } | Precision::Fp16 { .. } => true,
            Precision::SharedWith(source) => self.floats.contains(source),
            Precision::Quantized(_) => false,
        };
        if is_float {
            self.floats.insert(value.name.clone());
        }
    }

    /// True for a Concat of floats: integers would be no gain.
    fn joins_floats(&self, unit: &UnitGroup) -> bool {
        let node = &self.program.graph().nodes[unit.main_idx];
        node.is_onnx("Concat") && node.inputs.iter().all(|name| self.floats.contains(name))
    }

    fn support(&self, unit: &UnitGroup) -> Support {
        unit_support(unit, self.program, self.options.target)
    }

    /// The entry of a value; `None` for values that are not float.
    fn value(&self, name: &str, unit: Option<&UnitGroup>) -> Result<Option<ValuePlan>, Error> {
        let Some(&range) = self.statistics.ranges.get(name) else {
            return Ok(None);
        };
        let unit_name = unit.map_or_else(|| "Input".to_owned(), |u| u.label(self.program));
        let entry = |precision, cast: Option<QuantParams>| {
            Ok(Some(ValuePlan {
                name: name.to_owned(),
                unit: unit_name.clone(),
                precision,
                cast: cast.map(Cast::Fixed),
                range: Some(range),
            }))
        };
        let cast = match &self.options.target.activation {
            Some(scheme) => Some(params_from_range(&[range], scheme)?.0),
            None => None,
        };
        let produced = unit.map(|u| self.support(u));
        let is_state = unit.is_some_and(|u| is_state(u, self.program, name));
        let joins_floats = unit.is_some_and(|u| self.joins_floats(u));
        let produced_as_integer = produced.is_some_and(Support::is_integer) && !is_state && !joins_floats;
        let integer = produced_as_integer || (self.read_as_integer.contains(name) && !is_state);
        let Some(params) = cast.clone().filter(|_| integer) else {
            return match (produced, unit) {
                (Some(Support::Fp16), Some(u)) => entry(
                    Precision::Fp16 {
                        reason: self.fallback_reason(u),
                    },
                    cast,
                ),
                (None, _) if self.options.target.activation.is_none() => entry(
                    Precision::Fp16 {
                        reason: "network input".to_owned(),
                    },
                    cast,
                ),
                (_, Some(_)) if is_state => entry(self.real("state of a recurrent network"), cast),
                (_, Some(_)) if joins_floats => entry(self.real("all its inputs are float"), cast),
                (_, Some(u)) => entry(
                    Precision::Float {
                        reason: self.fallback_reason(u),
                    },
                    cast,
                ),
                (_, None) => entry(
                    Precision::Float {
                        reason: "no integer unit reads it".to_owned(),
                    },
                    cast,
                ),
            };
        };
        if let Some(source) = unit
            .filter(|_| produced_as_integer)
            .and_then(|u| self.shares_with(u))
        {
            return entry(Precision::SharedWith(source), None);
        }
        entry(Precision::Quantized(params), None)
    }

    /// The precision of real numbers on the target.
    fn real(&self, reason: &str) -> Precision {
        let reason = reason.to_owned();
        match self.options.target.fallback {
            Support::Fp16 => Precision::Fp16 { reason },
            _ => Precision::Float { reason },
        }
    }

    fn fallback_reason(&self, unit: &UnitGroup) -> String {
        if self.options.target.activation.is_none() {
            return format!("target {}", self.options.target.id);
        }
        let op = &self.program.graph().nodes[unit.main_idx].op_type;
        format!("{op} has no integer kernel on {}", self.options.target.id)
    }

    /// The value whose scale the output of a moving operator has.
    fn shares_with(&self, unit: &UnitGroup) -> Option<String> {
        let source = self.program.graph().nodes[unit.main_idx].input(0)?;
        let computed = self.program.constant(source).is_none() && self.statistics.ranges.contains_key(source);
        (moves(unit, self.program, self.options.target) && computed).then(|| source.to_owned())
    }

    fn weights(&self, plan: &QuantPlan) -> Result<Vec<WeightPlan>, Error> {
        let forms = plan.forms();
        let mut positions: BTreeMap<&str, usize> = BTreeMap::new();
        let mut list: Vec<WeightPlan> = Vec::new();
        for unit in self.units {
            if !matches!(self.support(unit), Support::Int8(_) | Support::Int8Weights) {
                continue;
            }
            for name in &unit.weights {
                let stored = self.program.constant(name);
                let Some(stored) = stored.filter(|w| w.as_slice::<f32>().is_some()) else {
                    continue;
                };
                let position = match positions.get(name.as_str()) {
                    Some(&position) => position,
                    None => {
                        list.push(self.weight(unit, name, stored)?);
                        positions.insert(name, list.len() - 1);
                        list.len() - 1
                    }
                };
                let node = &self.program.graph().nodes[unit.main_idx];
                let input = node
                    .input(0)
                    .and_then(|x| forms.get(x)?.read_params()?.as_per_tensor());
                let bias = unit
                    .bias
                    .as_ref()
                    .and_then(|b| self.program.constant(b)?.as_slice::<f32>());
                if let (Some((input_scale, _)), Some(bias)) = (input, bias) {
                    raise_for_bias(&mut list[position], bias, input_scale)?;
                }
            }
        }
        Ok(list)
    }

    fn weight(&self, unit: &UnitGroup, name: &str, stored: &Tensor) -> Result<WeightPlan, Error> {
        let axis = channel_axis(self.program, unit, name, stored.rank())
            .filter(|_| self.options.method == Method::Channel);
        let granularity = axis.map_or(Granularity::PerTensor, |axis| Granularity::PerChannel { axis });
        let scheme = QuantScheme::symmetric(self.options.target.weight_dtype, granularity);
        let ranges = weight_ranges(stored, axis)?;
        let (params, outcomes) = params_from_range(&ranges, &scheme)?;
        Ok(WeightPlan {
            name: name.to_owned(),
            params,
            outcome: describe(&outcomes),
        })
    }
}

/// True for a unit whose output has the scale of its input.
fn moves(unit: &UnitGroup, program: &Program, target: &Target) -> bool {
    let node = &program.graph().nodes[unit.main_idx];
    unit.node_idxs.len() == 1
        && node.domain.is_empty()
        && target.shared_scale.contains(&node.op_type.as_str())
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
