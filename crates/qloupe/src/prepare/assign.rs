//! What a plan makes of a prepared graph: what each unit computes with, and whether the plan fits.

use std::collections::{BTreeMap, BTreeSet};

use qloupe_exec::{Assignment, Bias, Cast, Form, Mode, QuantizedProgram, UnitCompute, UnitSpec};
use qloupe_tensor::{DType, Requantize};

use super::{Network, Prepared};
use crate::Error;
use crate::plan::{Precision, QuantPlan, ValuePlan, WeightPlan, weight_only_word};
use crate::shapes;
use crate::targets::Support;
use crate::units::{UnitGroup, float_inputs, is_product, is_state, unit_outputs, unit_support};

/// What a plan says of weights.
struct Known<'p> {
    weights: BTreeMap<&'p str, &'p WeightPlan>,
    /// Values of units that compute in float16 with integer weights.
    of_integer_weights: BTreeSet<&'p str>,
}

impl Prepared {
    /// What each unit computes with under a plan.
    pub fn assignment(&self, plan: &QuantPlan) -> Assignment {
        let forms = plan.forms();
        let weights = plan.weights.iter().map(|w| (w.name.as_str(), w)).collect();
        let is_weight_only = |value: &&ValuePlan| matches!(value.precision, Precision::WeightOnly(_));
        let of_integer_weights = plan.values.iter().filter(is_weight_only);
        let known = Known {
            weights,
            of_integer_weights: of_integer_weights.map(|value| value.name.as_str()).collect(),
        };
        let units = self
            .units
            .iter()
            .map(|unit| self.unit_spec(unit, &known, &forms))
            .collect();
        Assignment { forms, units }
    }

    fn unit_spec(&self, unit: &UnitGroup, known: &Known<'_>, forms: &BTreeMap<String, Form>) -> UnitSpec {
        let support = unit_support(unit, &self.program, self.target);
        let outputs = unit_outputs(&self.program, &self.topology, unit);
        let output_forms: Vec<&Form> = outputs
            .iter()
            .filter(|name| !is_state(unit, &self.program, name))
            .filter_map(|name| forms.get(*name))
            .collect();
        let half = output_forms.iter().any(|f| matches!(f, Form::Fp16 { .. }));
        // A recurrent unit of which only the states are used is quantized by its weights.
        let has_output = !output_forms.is_empty() || support == Support::Int8Weights;
        let quantized = has_output && output_forms.iter().all(|f| f.params().is_some());
        let float_inputs = float_inputs(unit, &self.program);
        let readable = unit
            .node_idxs
            .iter()
            .flat_map(|&idx| &self.program.graph().nodes[idx].inputs)
            .filter(|name| !float_inputs.contains(name))
            .filter_map(|name| forms.get(name))
            .all(|form| form.read_params().is_some());
        let requantize = match support {
            Support::Int8(policy) => policy,
            _ => Requantize::FloatScaleZeroPointAfter,
        };
        let dynamic = self.reads_dynamic(unit, forms);
        let compute = if (support.is_integer() && quantized && readable && !half) || dynamic {
            UnitCompute::Quantized
        } else if half || (quantized && support == Support::Fp16) {
            UnitCompute::Fp16
        } else {
            UnitCompute::Float
        };
        let weight = |name: &String| {
            let weight = known.weights.get(name.as_str())?;
            Some((weight.name.clone(), weight.params.clone()))
        };
        let has_integer_weights = match compute {
            UnitCompute::Quantized => true,
            UnitCompute::Fp16 => outputs.iter().any(|name| known.of_integer_weights.contains(name)),
            UnitCompute::Float => false,
        };
        let weights: Vec<_> = if has_integer_weights {
            unit.weights.iter().filter_map(weight).collect()
        } else {
            Vec::new()
        };
        let bias = unit
            .bias
            .as_ref()
            .filter(|_| compute == UnitCompute::Quantized && !weights.is_empty());
        let bias = bias.map(
            |name| match self.stored.as_ref().and_then(|stored| stored.biases.get(name)) {
                Some(integers) => Bias::Stored(name.clone(), integers.clone()),
                None => Bias::Derived(name.clone()),
            },
        );
        UnitSpec {
            node_idxs: unit.node_idxs.clone(),
            compute,
            requantize,
            float_inputs,
            weights,
            bias,
        }
    }

    /// True for a product that quantizes what it reads by the range at hand.
    fn reads_dynamic(&self, unit: &UnitGroup, forms: &BTreeMap<String, Form>) -> bool {
        let main = &self.program.graph().nodes[unit.main_idx];
        let mut read = main.inputs.iter().take(2);
        is_product(main) && read.any(|name| forms.get(name).and_then(Form::cast) == Some(&Cast::Dynamic))
    }

    /// Checks a plan that was read from `file`: it tells the precision of each float value, and each unit that
    /// computes in integers finds scales that fit its weight.
    ///
    /// # Errors
    /// [`Error::Plan`] with the value or the weight.
    pub fn check_plan(&self, file: &str, plan: &QuantPlan) -> Result<(), Error> {
        if let Some(name) = self.value_without_precision(plan) {
            let what = format!("value \"{name}\" is missing, expected a line with its precision");
            return Err(Error::Plan {
                file: file.to_owned(),
                what,
            });
        }
        let wrong = |name: &str, what: String| Error::Plan {
            file: file.to_owned(),
            what: format!("weight \"{name}\"{what}"),
        };
        for (unit, spec) in self.units.iter().zip(self.assignment(plan).units) {
            let outputs = unit_outputs(&self.program, &self.topology, unit);
            let word = outputs.iter().find_map(|name| match plan.value(name)?.precision {
                Precision::WeightOnly(dtype) => weight_only_word(dtype),
                _ => None,
            });
            let needs_scales = spec.compute == UnitCompute::Quantized || word.is_some();
            for name in unit.weights.iter().filter(|_| needs_scales) {
                let Some((_, params)) = spec.weights.iter().find(|(weight, _)| weight == name) else {
                    let output = outputs.join(", ");
                    let word = word.unwrap_or("quantized");
                    return Err(wrong(
                        name,
                        format!(" is missing, expected its scales as \"{output}\" is {word}"),
                    ));
                };
                let Some(stored) = self.program.constant(name) else {
                    continue;
                };
                params
                    .check_shape(stored.shape())
                    .map_err(|e| wrong(name, format!(": {e}")))?;
                let values = stored.as_slice::<f32>().unwrap_or_default();
                let count = values.iter().filter(|v| !v.is_finite()).count();
                if count > 0 {
                    let len = values.len();
                    let what = format!(
                        ": {count} of {len} elements are infinite, expected numbers that integers can hold"
                    );
                    return Err(wrong(name, what));
                }
            }
        }
        Ok(())
    }

    /// A float value that the outputs depend on and the plan does not name.
    fn value_without_precision(&self, plan: &QuantPlan) -> Option<String> {
        let graph = &self.model.graph;
        let goals: Vec<&str> = graph.output_names().collect();
        let needed = self.topology.needed_for(graph, &goals, &BTreeSet::new()).values;
        let inferred = shapes::infer(&self.model, &BTreeMap::new())
            .expect("invariant: no shape is given that could be wrong");
        let is_float =
            |name: &str| inferred.facts.get(name).and_then(|fact| fact.dtype) == Some(DType::Float32);
        let planned: BTreeSet<&str> = plan.values.iter().map(|v| v.name.as_str()).collect();
        let mut names = self.value_names().into_iter();
        names
            .find(|name| needed.contains(name.as_str()) && is_float(name) && !planned.contains(name.as_str()))
    }

    /// The program that runs under a plan.
    ///
    /// # Errors
    /// Parameters that do not fit the graph.
    pub fn quantized(
        &self,
        network: &Network,
        plan: &QuantPlan,
        mode: Mode,
    ) -> Result<QuantizedProgram, Error> {
        QuantizedProgram::with_cache(&self.program, &self.assignment(plan), mode, &self.compiled)
            .map_err(|e| network.located(e))
    }
}
