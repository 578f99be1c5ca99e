//! From ranges and a target to a plan.

use std::collections::{BTreeMap, BTreeSet};

use qloupe_exec::{Cast, Program};
use qloupe_tensor::{QuantParams, Range, params_from_range};

use super::weights::{fit_biases, plan_weights};
use super::{Method, Optimized, Precision, QuantPlan, ValuePlan};
use crate::Error;
use crate::prepare::Prepared;
use crate::targets::{Support, Target};
use crate::units::{UnitGroup, float_inputs, is_state, unit_outputs, unit_support};

/// What the user chose.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// The target.
    pub target: &'static Target,
    /// The calibration algorithm's id.
    pub algorithm: String,
    /// Which elements of a weight share a scale.
    pub method: Method,
    /// 0 changes no weight and no value.
    pub optimization_level: u8,
    /// How many samples the ranges are of.
    pub n_samples: usize,
}

/// Builds the plan of a prepared graph from the ranges of its float values.
///
/// # Errors
/// A range that is not finite.
pub fn build_plan(
    prepared: &Prepared,
    ranges: &BTreeMap<String, Range>,
    options: &PlanOptions,
) -> Result<QuantPlan, Error> {
    let Prepared {
        program,
        topology,
        units,
        ..
    } = prepared;
    let mut builder = Builder::new(prepared, ranges, options);
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
        n_samples: options.n_samples,
        values,
        weights: Vec::new(),
        optimized: Optimized::default(),
    };
    plan.weights = plan_weights(prepared, plan.method)?;
    fit_biases(prepared, &mut plan)?;
    Ok(plan)
}

struct Builder<'a> {
    program: &'a Program,
    /// Values that are float whatever the target could do.
    in_float: &'a BTreeSet<String>,
    ranges: &'a BTreeMap<String, Range>,
    options: &'a PlanOptions,
    /// Values that a unit reads as integers.
    read_as_integer: BTreeSet<&'a str>,
    /// Outputs of units that stay float.
    floats: BTreeSet<String>,
}

impl<'a> Builder<'a> {
    fn new(prepared: &'a Prepared, ranges: &'a BTreeMap<String, Range>, options: &'a PlanOptions) -> Self {
        let program = &prepared.program;
        let integer_units = prepared
            .units
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
            in_float: &prepared.in_float,
            ranges,
            options,
            read_as_integer,
            floats: BTreeSet::new(),
        }
    }

    /// Remembers whether a value stays float.
    fn note(&mut self, value: &ValuePlan) {
        let is_float = match &value.precision {
            Precision::Float { .. } | Precision::Fp16 { .. } | Precision::WeightOnly(_) => true,
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
        let Some(&range) = self.ranges.get(name) else {
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
                chosen: String::new(),
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
        if self.in_float.contains(name) {
            return entry(self.real("multiplied back after a rescaled Concat"), cast);
        }
        let Some(params) = cast.clone().filter(|_| integer) else {
            return match (produced, unit) {
                (Some(Support::Fp16), Some(u)) => entry(
                    Precision::Fp16 {
                        reason: self.fallback_reason(u),
                    },
                    cast,
                ),
                (Some(Support::WeightOnly), _) => {
                    entry(Precision::WeightOnly(self.options.target.weight_dtype), cast)
                }
                (None, _) if self.options.target.keeps_values_float() => entry(
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
        if self.options.target.is_fp16() {
            return format!("target {}", self.options.target.id);
        }
        let op = &self.program.graph().nodes[unit.main_idx].op_type;
        let integers = match self.options.target.keeps_values_float() {
            true => "integer weights",
            false => "integer kernel",
        };
        format!("{op} has no {integers} on {}", self.options.target.id)
    }

    /// The value whose scale the output of a moving operator has.
    fn shares_with(&self, unit: &UnitGroup) -> Option<String> {
        let source = self.program.graph().nodes[unit.main_idx].input(0)?;
        let computed = self.program.constant(source).is_none() && self.ranges.contains_key(source);
        (moves(unit, self.program, self.options.target) && computed).then(|| source.to_owned())
    }
}

/// True for a unit whose output has the scale of its input.
fn moves(unit: &UnitGroup, program: &Program, target: &Target) -> bool {
    let node = &program.graph().nodes[unit.main_idx];
    unit.node_idxs.len() == 1
        && node.domain.is_empty()
        && target.shared_scale.contains(&node.op_type.as_str())
}
