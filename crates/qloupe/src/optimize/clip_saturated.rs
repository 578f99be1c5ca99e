//! `clip_saturated`: takes away the parts of a range where what reads the value does not change any more.
//!
//! Behind a Sigmoid, -20 and -7 are the same number: a range that reaches to -20 only makes its steps wide. An end of a range is
//! moved in as far as no reader's result moves by more than a quarter of its own step.

use std::collections::{BTreeMap, BTreeSet};

use qloupe_tensor::{Range, Tensor, params_from_range};

use super::race::set_range;
use super::{Pass, Stage, Work};
use crate::Error;
use crate::one_unit::{Changes, OneUnit};
use crate::plan::{Precision, QuantPlan, fit_biases};
use crate::prepare::Network;
use crate::quantize::Quantized;
use crate::targets::Fusion;
use crate::units::{UnitGroup, unit_outputs};

/// Functions that come to an end on one side, or on both.
const SATURATING: &[&str] = &[
    "Clip",
    "Elu",
    "Erf",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Mish",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Tanh",
];
/// How far the result of a reader may move, in its steps: with half a step of rounding it stays within one.
const SATURATED_STEPS: f32 = 0.25;
/// Places of a range at which readers are looked at.
const N_POINTS: usize = 4096;
/// An end is moved where that makes the range smaller by this part.
const LEAST_PART: f32 = 0.01;

/// The pass.
#[derive(Debug)]
pub(super) struct ClipSaturated;

impl Pass for ClipSaturated {
    fn id(&self) -> &'static str {
        "clip_saturated"
    }

    fn title(&self) -> &'static str {
        "end ranges where the functions that read the value do not change any more"
    }

    fn level(&self) -> u8 {
        1
    }

    fn stage(&self) -> Stage {
        Stage::Ranges
    }

    fn run(&self, work: &Work<'_>, quantized: &Quantized) -> Result<Option<Quantized>, Error> {
        let Some(scheme) = work.options().target.activation else {
            return Ok(None);
        };
        let mut plan = quantized.plan.clone();
        let mut n_moved = 0;
        for (name, readers) in read_by_saturating(quantized) {
            let ranges = readers
                .iter()
                .map(|&unit| changing(work.network(), quantized, unit, &name));
            let ranges = ranges.collect::<Result<Option<Vec<Range>>, Error>>()?;
            let joined = ranges.into_iter().flatten().reduce(join);
            let value = plan.values.iter_mut().find(|value| value.name == name);
            let (Some(range), Some(value)) = (joined, value) else {
                continue;
            };
            let (params, _) = params_from_range(&[range], &scheme)?;
            let Precision::Quantized(own) = &value.precision else {
                continue;
            };
            if params.scale()[0] > (1.0 - LEAST_PART) * own.scale()[0] {
                continue;
            }
            set_range(value, range, &params);
            let chosen = "cut where its readers do not change any more";
            value.chosen = match value.chosen.as_str() {
                "" => chosen.to_owned(),
                before => format!("{before}, {chosen}"),
            };
            n_moved += 1;
        }
        if n_moved == 0 {
            return Ok(None);
        }
        let prepared = quantized.prepared.copied(work.network())?;
        fit_biases(&prepared, &mut plan)?;
        work.progress(self.id(), n_moved, n_moved);
        Ok(Some(Quantized {
            prepared,
            plan,
            notes: quantized.notes.clone(),
        }))
    }
}

fn join(a: Range, b: Range) -> Range {
    Range {
        min: a.min.min(b.min),
        max: a.max.max(b.max),
    }
}

/// Quantized values that nothing but saturating units reads, directly or through values that share the scale, with these units.
fn read_by_saturating(quantized: &Quantized) -> BTreeMap<String, Vec<&UnitGroup>> {
    let Quantized { prepared, plan, .. } = quantized;
    let mut owner: BTreeMap<usize, &UnitGroup> = BTreeMap::new();
    for unit in &prepared.units {
        owner.extend(unit.node_idxs.iter().map(|&idx| (idx, unit)));
    }
    let outputs: BTreeSet<&str> = prepared.model.graph.output_names().collect();
    let mut found = BTreeMap::new();
    for value in &plan.values {
        if !matches!(value.precision, Precision::Quantized(_)) {
            continue;
        }
        let mut readers: Vec<&UnitGroup> = Vec::new();
        let group = sharing(plan, &value.name);
        let consumers = group.iter().flat_map(|name| prepared.topology.consumers(name));
        let units = consumers.filter_map(|idx| owner.get(idx).copied());
        let units: Vec<&UnitGroup> = units.collect();
        let is_hidden = |unit: &UnitGroup| {
            let outputs = unit_outputs(&prepared.program, &prepared.topology, unit);
            !outputs.is_empty() && outputs.iter().all(|name| group.contains(*name))
        };
        for unit in units.iter().filter(|unit| !is_hidden(unit)) {
            if !readers.contains(unit) {
                readers.push(unit);
            }
        }
        let fits = group.iter().all(|name| !outputs.contains(name.as_str()))
            && !readers.is_empty()
            && readers.iter().all(|unit| saturates(quantized, unit));
        if fits {
            found.insert(value.name.clone(), readers);
        }
    }
    found
}

/// A value and all that share its scale.
fn sharing(plan: &QuantPlan, name: &str) -> BTreeSet<String> {
    let mut group = BTreeSet::from([name.to_owned()]);
    // Values stand in execution order: a source before what shares with it.
    for value in &plan.values {
        if matches!(&value.precision, Precision::SharedWith(source) if group.contains(source)) {
            group.insert(value.name.clone());
        }
    }
    group
}

/// True for a unit that maps each element of one value by such a function.
fn saturates(quantized: &Quantized, unit: &UnitGroup) -> bool {
    let program = &quantized.prepared.program;
    let mut nodes = unit.node_idxs.iter().map(|&idx| &program.graph().nodes[idx]);
    let names = unit
        .node_idxs
        .iter()
        .flat_map(|&idx| &program.graph().nodes[idx].inputs);
    let mut constants = names.filter_map(|name| program.constant(name));
    let is_function = match unit.pattern {
        Some(pattern) => matches!(pattern, Fusion::Gelu | Fusion::HardSwish | Fusion::Silu),
        None => nodes.all(|node| node.domain.is_empty() && SATURATING.contains(&node.op_type.as_str())),
    };
    unit.weights.is_empty() && is_function && constants.all(|constant| constant.len() == 1)
}

/// The part of the range of a value in which a unit changes; `None` where that is not known.
fn changing(
    network: &Network,
    quantized: &Quantized,
    unit: &UnitGroup,
    name: &str,
) -> Result<Option<Range>, Error> {
    let Quantized { prepared, plan, .. } = quantized;
    let forms = plan.forms();
    let params = |name: &str| forms.get(name)?.read_params();
    let outputs = unit_outputs(&prepared.program, &prepared.topology, unit);
    let steps: Option<Vec<f32>> = outputs
        .iter()
        .map(|output| Some(params(output)?.as_per_tensor()?.0))
        .collect();
    let step = steps.and_then(|steps| steps.into_iter().reduce(f32::min));
    let (Some(step), Some(own)) = (step, params(name)) else {
        return Ok(None);
    };
    let (min, max) = own.real_range(0);
    let float = OneUnit {
        network,
        prepared,
        unit,
    };
    let float = float.float(&Changes::default())?;
    let [input] = float.units()[0].inputs() else {
        return Ok(None);
    };
    let points: Vec<f32> = (0..=N_POINTS)
        .map(|i| (min + (max - min) * i as f64 / N_POINTS as f64) as f32)
        .collect();
    let given = vec![(input.clone(), Tensor::vector(points.clone()))];
    let results = float.run(&given).map_err(|e| network.located(e))?;
    let mut range = Range {
        min: points[0],
        max: points[N_POINTS],
    };
    let mut first = N_POINTS;
    let mut last = 0;
    for (_, result) in &results {
        let result = result.require::<f32>()?;
        let most = SATURATED_STEPS * step;
        first = first.min(flat(result.iter().copied(), most));
        last = last.max(N_POINTS - flat(result.iter().rev().copied(), most));
    }
    if first < last {
        range = Range {
            min: points[first],
            max: points[last],
        };
    }
    Ok(Some(range))
}

/// The last place up to which values stay within `most` of one another.
fn flat(values: impl Iterator<Item = f32>, most: f32) -> usize {
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    let stays = values.take_while(|&value| {
        (low, high) = (low.min(value), high.max(value));
        high - low <= most
    });
    stays.count().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_flat_up_to_where_it_has_moved_by_more_than_that() {
        let rising = [0.0, 0.01, 0.02, 0.5, 0.9, 1.0, 1.0];
        assert_eq!(flat(rising.into_iter(), 0.05), 2);
        assert_eq!(flat(rising.into_iter().rev(), 0.05), 1);
        assert_eq!(flat(rising.into_iter(), 2.0), 6);
        let dips = [0.0, -0.3, 0.0, 0.0];
        assert_eq!(
            flat(dips.into_iter(), 0.1),
            0,
            "it comes back, but was elsewhere between"
        );
    }
}
