//! `float_answers`: leaves what comes after the last products in float, where the target computes in float anyway.
//!
//! The scores of a detector pass a Sigmoid and a Concat after the last convolution: under one scale with boxes of some hundred
//! pixels, and in steps of 1/255 even alone. These units hardly cost anything; what they read stays in integers.

use std::collections::BTreeSet;

use super::answers::answer_units;
use super::{Pass, Stage, Work};
use crate::Error;
use crate::plan::Precision;
use crate::prepare::Prepared;
use crate::quantize::Quantized;
use crate::runner::Runner;
use crate::targets::{Support, Target};
use crate::units::unit_outputs;

/// The elements that these units write are at most this part of those of all values.
const MOST_ELEMENTS: f64 = 0.05;
/// What the plan says of the values.
const REASON: &str = "float_answers: no product follows";

/// The pass.
#[derive(Debug)]
pub(super) struct FloatAnswers;

impl Pass for FloatAnswers {
    fn id(&self) -> &'static str {
        "float_answers"
    }

    fn title(&self) -> &'static str {
        "leave what follows the last products in float, where the target computes in float"
    }

    fn level(&self) -> u8 {
        1
    }

    fn stage(&self) -> Stage {
        Stage::Weights
    }

    fn run(&self, work: &Work<'_>, quantized: &Quantized) -> Result<Option<Quantized>, Error> {
        if !applies(work.options().target) {
            return Ok(None);
        }
        let Quantized { prepared, plan, .. } = quantized;
        let units = last_units(prepared);
        let is_rounded = |idx: &usize| {
            let outputs = unit_outputs(&prepared.program, &prepared.topology, &prepared.units[*idx]);
            let mut values = outputs.into_iter().filter_map(|name| plan.value(name));
            values.any(|value| matches!(value.precision, Precision::Quantized(_)))
        };
        let rounds = units.iter().any(is_rounded);
        if !rounds || part_of_elements(work, prepared, &units)? > MOST_ELEMENTS {
            return Ok(None);
        }
        let raised = plan.with_raised(prepared, units.iter().copied(), REASON);
        work.progress(self.id(), units.len(), units.len());
        Ok(Some(Quantized {
            prepared: prepared.copied(work.network())?,
            plan: raised,
            notes: quantized.notes.clone(),
        }))
    }
}

/// True for targets that compute in float32 what they have no integer kernel for.
pub(super) fn applies(target: &Target) -> bool {
    target.fallback == Support::Float
}

/// The units after the last products whose results nothing but the outside and one another reads.
fn last_units(prepared: &Prepared) -> BTreeSet<usize> {
    let outputs_of = |idx: usize| unit_outputs(&prepared.program, &prepared.topology, &prepared.units[idx]);
    let mut node_idxs: BTreeSet<usize> = BTreeSet::new();
    let mut last = BTreeSet::new();
    for idx in answer_units(prepared) {
        let mut readers = outputs_of(idx)
            .into_iter()
            .flat_map(|name| prepared.topology.consumers(name));
        if readers.all(|reader| node_idxs.contains(reader)) {
            node_idxs.extend(&prepared.units[idx].node_idxs);
            last.insert(idx);
        }
    }
    last
}

/// The part of the elements of all values of the first sample that some units write.
fn part_of_elements(work: &Work<'_>, prepared: &Prepared, units: &BTreeSet<usize>) -> Result<f64, Error> {
    let Some(inputs) = work.tuning().first() else {
        return Ok(f64::INFINITY);
    };
    let written: BTreeSet<&str> = units
        .iter()
        .flat_map(|&idx| unit_outputs(&prepared.program, &prepared.topology, &prepared.units[idx]))
        .collect();
    let (mut all, mut own) = (0, 0);
    Runner::Float.run(
        work.network(),
        inputs,
        Some(&mut |name, tensor| {
            all += tensor.len();
            own += if written.contains(name) { tensor.len() } else { 0 };
            Ok(())
        }),
    )?;
    Ok(own as f64 / all.max(1) as f64)
}
